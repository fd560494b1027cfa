//===- KvcOps.cpp - verifiers of the verbs --------------------------------===//
#include "dialect/KvcDialect.h"
#include "dialect/Score.h"

using namespace mlir;
using namespace kvc;

/// As many as a store may have: text asks for any number in a few bytes.
static constexpr int64_t kMaxLayers = 4096;

/// layers ::= begin `to` end (`step` step)? | `[` layer (`,` layer)* `]`
static ParseResult parseLayers(OpAsmParser &parser, DenseI64ArrayAttr &layers) {
  SmallVector<int64_t> list;
  SMLoc loc = parser.getCurrentLocation();
  int64_t begin, end, step = 1;
  OptionalParseResult first = parser.parseOptionalInteger(begin);
  if (!first.has_value()) {
    if (parser.parseCommaSeparatedList(AsmParser::Delimiter::Square, [&] {
          return parser.parseInteger(list.emplace_back());
        }))
      return failure();
  } else {
    if (failed(*first) || parser.parseKeyword("to") || parser.parseInteger(end))
      return failure();
    if (succeeded(parser.parseOptionalKeyword("step")) &&
        parser.parseInteger(step))
      return failure();
    if (begin < 0 || end > kMaxLayers || step < 1)
      return parser.emitError(loc)
             << "expected layers within 0 to " << kMaxLayers
             << " and a step of at least 1, found " << begin << " to " << end
             << " step " << step;
    for (; begin < end; begin += std::min(step, kMaxLayers))
      list.push_back(begin);
  }
  layers = parser.getBuilder().getDenseI64ArrayAttr(list);
  return success();
}

static bool areLayers(ArrayRef<int64_t> layers) {
  return llvm::all_of(layers,
                      [](int64_t i) { return i >= 0 && i < kMaxLayers; });
}

/// How far neighbours are apart, if all are as far; 0 if not.
static int64_t stepOf(ArrayRef<int64_t> layers) {
  // Two may be as far apart as they like, and are a list nonetheless.
  int64_t step = layers.size() > 2 ? layers[1] - layers[0] : 1;
  for (size_t i = 1; i < layers.size(); ++i)
    if (layers[i] - layers[i - 1] != step)
      return 0;
  return layers.empty() ? 0 : step;
}

static void printLayers(OpAsmPrinter &printer, Operation *,
                        DenseI64ArrayAttr layers) {
  int64_t step = areLayers(layers) ? stepOf(layers) : 0;
  if (step < 1) {
    printer << '[';
    llvm::interleaveComma(ArrayRef<int64_t>(layers), printer);
    printer << ']';
    return;
  }
  printer << layers[0] << " to " << layers.asArrayRef().back() + 1;
  if (step > 1)
    printer << " step " << step;
}

/// k (`,` v)? `,` slot `,` cache
static ParseResult parseAppendTypes(OpAsmParser &parser, Type &k, Type &v,
                                    Type &slot, Type &cache) {
  SmallVector<Type> types;
  SMLoc loc = parser.getCurrentLocation();
  do {
    Type type;
    CacheType last; // perhaps without its name
    OptionalParseResult parsed = parser.parseOptionalType(type);
    if (parsed.has_value() ? failed(*parsed)
                           : failed(parser.parseCustomTypeWithFallback(last)))
      return failure();
    types.push_back(last ? Type(last) : type);
  } while (succeeded(parser.parseOptionalComma()));
  if (types.size() < 3 || types.size() > 4)
    return parser.emitError(loc) << "expected the types of k, v (if there is "
                                    "one), slot and cache, found "
                                 << types.size();
  k = types[0];
  if (types.size() == 4)
    v = types[1];
  slot = types[types.size() - 2];
  cache = types.back();
  return success();
}

static void printAppendTypes(OpAsmPrinter &printer, Operation *, Type k, Type v,
                             Type slot, CacheType cache) {
  printer << k << ", ";
  if (v)
    printer << v << ", ";
  printer << slot << ", ";
  printer.printStrippedAttrOrType(cache);
}

#define GET_OP_CLASSES
#include "dialect/KvcOps.cpp.inc"

ReadAttrInterface StoreOp::read() {
  return cast<ReadAttrInterface>(getReadAttr());
}

LogicalResult StoreOp::verify() {
  ArrayRef<int64_t> layers = getLayers();
  if (layers.empty() || getHeadEnd() <= getHeadBegin())
    return emitOpError("covers no layer or no head");
  if (!areLayers(layers))
    return emitOpError("expected layers from 0 to ") << kMaxLayers - 1;
  if (!llvm::is_sorted(layers, std::less_equal<>()))
    return emitOpError("expected layers in ascending order, each once");
  if (getHeadEnd() > getKvHeads())
    return emitOpError("ends at kv head ")
           << getHeadEnd() << ", the model has " << getKvHeads();
  if (getQHeads() % getKvHeads())
    return emitOpError("needs a whole number of q heads per kv head, found ")
           << getQHeads() << " over " << getKvHeads();
  if (!isa<ReadAttrInterface>(getReadAttr()))
    return emitOpError("expected a read, found ") << getReadAttr();
  auto type = cast<CacheType>(getCache());
  if (type.getHeads() != int64_t(getHeadEnd() - getHeadBegin()))
    return emitOpError("covers ") << getHeadEnd() - getHeadBegin()
                                  << " heads, its type has " << type.getHeads();
  return success();
}

/// Looks the store up; the op's cache type, if it has one, must be the store's.
static FailureOr<StoreOp> lookupStore(Operation *op, FlatSymbolRefAttr name,
                                      SymbolTableCollection &symbols,
                                      Type cache = {}) {
  auto store = symbols.lookupNearestSymbolFrom<StoreOp>(op, name);
  if (!store)
    return op->emitOpError("no store named ") << name;
  if (cache && store.getCache() != cache)
    return op->emitOpError("cache type differs from that of store ") << name;
  auto type = cast<CacheType>(store.getCache());
  for (StringRef stream : {kStreamK, kStreamV})
    if (!type.findStream(stream))
      return op->emitOpError("needs a cache with a stream `") << stream << "`";
  return store;
}

/// Checks that a value is a tensor of exactly this shape and element type; null
/// stands for any dtype that a model may have.
static LogicalResult checkTensor(Operation *op, StringRef what, Value value,
                                 ArrayRef<int64_t> shape, Type element = {}) {
  auto type = cast<RankedTensorType>(value.getType());
  Type found = type.getElementType();
  if (type.getShape() == shape && (element ? found == element : isDtype(found)))
    return success();
  auto diag = op->emitOpError() << what << " must be ";
  if (element)
    diag << RankedTensorType::get(shape, element);
  else
    diag << RankedTensorType::get(shape, Float32Type::get(op->getContext()))
         << " or the same in f16 or bf16";
  return diag << ", found " << type;
}

static Type elementType(Value value) {
  return cast<RankedTensorType>(value.getType()).getElementType();
}

/// Rows of K and V at the model's kv heads, as an op is given or gives them.
template <typename OpT>
static LogicalResult verifyRows(OpT op, SymbolTableCollection &symbols) {
  auto cache = cast<CacheType>(op.getCache().getType());
  auto store = lookupStore(op, op.getStoreAttr(), symbols, cache);
  if (failed(store))
    return failure();
  int64_t rows = ShapedType::kDynamic, heads = store->getKvHeads();
  if (failed(checkTensor(op, "k", op.getK(), {rows, heads, cache.getDimK()})))
    return failure();
  if (!op.getV())
    return success();
  return checkTensor(op, "v", op.getV(), {rows, heads, cache.getDimV()},
                     elementType(op.getK()));
}

LogicalResult AppendOp::verifySymbolUses(SymbolTableCollection &symbols) {
  if (failed(verifyRows(*this, symbols)))
    return failure();
  bool isOfK = cast<CacheType>(getCache().getType()).isVOfK();
  if (isOfK == !getV())
    return success();
  return emitOpError(isOfK ? "is given rows of v, which are of k in its cache"
                           : "needs rows of v");
}
LogicalResult GatherOp::verifySymbolUses(SymbolTableCollection &symbols) {
  return verifyRows(*this, symbols);
}

LogicalResult AttendOp::verify() {
  if (!getScale().isFinite())
    return emitOpError("scale must be finite");
  if (failed(verifyScoreRegion(*this, getLogits(), ScoreRegionKind::Logits)) ||
      failed(
          verifyScoreRegion(*this, getVisible(), ScoreRegionKind::Visible)) ||
      failed(verifyScoreRegion(*this, getSink(), ScoreRegionKind::Sink)))
    return failure();
  if (getSplits() && !getSink().empty())
    return emitOpError("makes splits: their `kvc.merge` has the sink");
  if (getSplits() && getSchedule() && getSchedule()->getSplit() &&
      getSchedule()->getSplit() != int64_t(*getSplits()))
    return emitOpError("splits hold ")
           << *getSplits() << " tokens, its schedule "
           << "splits at " << getSchedule()->getSplit();
  return success();
}

LogicalResult AttendOp::verifySymbolUses(SymbolTableCollection &symbols) {
  auto cache = cast<CacheType>(getCache().getType());
  auto store = lookupStore(*this, getStoreAttr(), symbols, cache);
  if (failed(store))
    return failure();
  int64_t rows = ShapedType::kDynamic, heads = store->getQHeads();
  if (failed(checkTensor(*this, "q", getQ(), {rows, heads, cache.getDimK()})))
    return failure();
  SmallVector<int64_t> o{rows, heads, cache.getDimV()}, lse{rows, heads};
  Type f32 = Float32Type::get(getContext()), result = elementType(getQ());
  if (getSplits()) {
    o.insert(o.begin(), rows);
    lse.insert(lse.begin(), rows);
    result = f32;
  }
  if (failed(checkTensor(*this, "o", getO(), o, result)))
    return failure();
  return checkTensor(*this, "lse", getLse(), lse, f32);
}

static LogicalResult checkInScoreRegion(Operation *op) {
  Operation *owner = op->getParentOp();
  if (owner && owner->hasTrait<HasScoreRegions>())
    return success();
  return op->emitOpError("stands in a region of a score, and nowhere else");
}

LogicalResult kvc::ConstantOp::verify() { return checkInScoreRegion(*this); }
LogicalResult ScoreYieldOp::verify() { return checkInScoreRegion(*this); }

LogicalResult MergeOp::verify() {
  return verifyScoreRegion(*this, getSink(), ScoreRegionKind::Sink);
}

LogicalResult MergeOp::verifySymbolUses(SymbolTableCollection &symbols) {
  auto store = lookupStore(*this, getStoreAttr(), symbols);
  if (failed(store))
    return failure();
  int64_t any = ShapedType::kDynamic, heads = store->getQHeads();
  int64_t dim = cast<CacheType>(store->getCache()).getDimV();
  Type f32 = Float32Type::get(getContext());
  if (failed(checkTensor(*this, "partial_o", getPartialO(),
                         {any, any, heads, dim}, f32)) ||
      failed(checkTensor(*this, "partial_lse", getPartialLse(),
                         {any, any, heads}, f32)) ||
      failed(checkTensor(*this, "o", getO(), {any, heads, dim})))
    return failure();
  return checkTensor(*this, "lse", getLse(), {any, heads}, f32);
}
