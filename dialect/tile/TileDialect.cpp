//===- TileDialect.cpp - registration, syntax, kernels --------------------===//
#include "dialect/tile/TileDialect.h"

#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace kvc;
using namespace kvc::tile;

/// A stream's name stands there as a word.
static ParseResult parseStreamName(OpAsmParser &parser, StringAttr &name) {
  StringRef word;
  if (parser.parseKeyword(&word))
    return failure();
  name = parser.getBuilder().getStringAttr(word);
  return success();
}
static void printStreamName(OpAsmPrinter &printer, Operation *,
                            StringAttr name) {
  printer << name.getValue();
}

static ParseResult parseStreamNames(OpAsmParser &parser, ArrayAttr &names) {
  SmallVector<Attribute> all;
  auto parse = [&] {
    StringAttr name;
    if (parseStreamName(parser, name))
      return failure();
    all.push_back(name);
    return success();
  };
  if (parser.parseCommaSeparatedList(parse))
    return failure();
  names = parser.getBuilder().getArrayAttr(all);
  return success();
}
static void printStreamNames(OpAsmPrinter &printer, Operation *,
                             ArrayAttr names) {
  llvm::interleaveComma(names, printer, [&](Attribute name) {
    printer << cast<StringAttr>(name).getValue();
  });
}

/// What a loop carries; its results have the types of what it begins with.
static ParseResult
parseLoopStates(OpAsmParser &parser,
                SmallVectorImpl<OpAsmParser::UnresolvedOperand> &inits,
                SmallVectorImpl<Type> &types, SmallVectorImpl<Type> &results) {
  if (parser.parseOperandList(inits) || parser.parseColonTypeList(types))
    return failure();
  results.assign(types.begin(), types.end());
  return success();
}
static void printLoopStates(OpAsmPrinter &printer, Operation *,
                            OperandRange inits, TypeRange types, TypeRange) {
  printer << inits << " : " << types;
}

#include "dialect/tile/TileDialect.cpp.inc"
#include "dialect/tile/TileEnums.cpp.inc"
#define GET_TYPEDEF_CLASSES
#include "dialect/tile/TileTypes.cpp.inc"
#define GET_OP_CLASSES
#include "dialect/tile/TileOps.cpp.inc"

void TileDialect::initialize() {
  addTypes<
#define GET_TYPEDEF_LIST
#include "dialect/tile/TileTypes.cpp.inc"
      >();
  addOperations<
#define GET_OP_LIST
#include "dialect/tile/TileOps.cpp.inc"
      >();
}

LogicalResult TopKType::verify(function_ref<InFlightDiagnostic()> emitError,
                               int64_t k) {
  if (k < 1)
    return emitError() << "expected at least one box, found " << k;
  return success();
}

LogicalResult SoftmaxType::verify(function_ref<InFlightDiagnostic()> emitError,
                                  int64_t dim) {
  if (dim < 1 || dim > kMaxStreamDim)
    return emitError() << "a softmax state has 1 to " << kMaxStreamDim
                       << " channels, found " << dim;
  return success();
}

//===----------------------------------------------------------------------===//
// Kernels
//===----------------------------------------------------------------------===//

LogicalResult KernelOp::verify() {
  if (getKind().empty())
    return emitOpError("expected a kind, found \"\"");
  if (!isDtype(getDtype()))
    return emitOpError("dtype must be f32, f16 or bf16, found ") << getDtype();
  bool hasTiles = getKind() == "attend";
  walk([&](ForTokensOp) { hasTiles = true; });
  if (getSchedule().has_value() != hasTiles)
    return emitOpError(hasTiles
                           ? "kernels that attend or go over tokens have a "
                             "schedule, found none"
                           : "only kernels that attend or go over tokens "
                             "have a schedule");
  // Whoever runs it has room for one result.
  if (llvm::range_size(getBody().front().getOps<StorePartialOp>()) > 1)
    return emitOpError("expected at most one `tile.store_partial`");
  return success();
}

static RankedTensorType tensor(Value value) {
  return cast<RankedTensorType>(value.getType());
}

/// Whether `op` is in a kernel whose loads are of one token.
static bool isInGather(Operation *op) {
  return op->getParentOfType<KernelOp>().getKind() == "gather";
}

/// Checks what goes to or from a stream: of each plane its rows for `tokens`
/// tokens, or where that is none, one row. One token of a box has the box's.
static LogicalResult checkPlanes(Operation *op, StreamInfo stream,
                                 ValueRange planes,
                                 std::optional<int64_t> tokens) {
  auto name = op->getAttrOfType<StringAttr>("stream").getValue();
  SmallVector<CodecPlane, 3> wanted = stream.planes();
  if (planes.size() != wanted.size())
    return op->emitOpError("`")
           << name << "` has " << wanted.size()
           << " planes in the store's cache, found " << planes.size();
  bool ofOneToken = tokens && isInGather(op);
  for (auto [plane, value] : llvm::zip_equal(wanted, planes)) {
    if (tokens && !ofOneToken && *tokens % plane.tokens)
      return op->emitOpError("a row of the ")
             << plane.role << " of `" << name << "` is for " << plane.tokens
             << " tokens, which must divide those of the tile, " << *tokens;
    SmallVector<int64_t> shape;
    if (tokens)
      shape.push_back(ofOneToken ? 1 : *tokens / plane.tokens);
    shape.push_back(plane.elements);
    auto type = RankedTensorType::get(shape, plane.type);
    if (value.getType() != type)
      return op->emitOpError()
             << plane.role << " of `" << name << "` must be " << type
             << ", as in the store's cache; found " << value.getType();
  }
  return success();
}

/// Checks a matrix that is the one row of a sequence.
static LogicalResult checkState(Operation *op, StreamAttr stream, Value x) {
  RankedTensorType type = tensor(x);
  if (stream.getTokens() != 0)
    return op->emitOpError("`")
           << stream.getName() << "` has rows of tokens, not of sequences";
  if (type.getRank() != 2 || !type.hasStaticShape() ||
      type.getNumElements() != stream.getDim())
    return op->emitOpError("`")
           << stream.getName() << "` has " << stream.getDim()
           << " elements in the store's cache, found " << type;
  return success();
}

/// Checks an op that names a stream against the stream of the store's cache.
static LogicalResult checkStream(Operation *op, StreamAttr stream,
                                 StreamInfo info) {
  if (auto load = dyn_cast<LoadOp>(op))
    return checkPlanes(op, info, load.getPlanes(),
                       tensor(load.getCodes()).getDimSize(0));
  if (auto load = dyn_cast<LoadStateOp>(op))
    return checkState(op, stream, load.getX());
  if (auto stored = dyn_cast<StoreStateOp>(op))
    return checkState(op, stream, stored.getX());
  if (auto stored = dyn_cast<StoreTokensOp>(op)) {
    RankedTensorType x = tensor(stored.getX());
    if (x.isDynamicDim(0) || x.getDimSize(1) != info.dim)
      return op->emitOpError("x must be [t, ")
             << info.dim << "], as in the store's cache; found " << x;
    for (const CodecPlane &plane : info.planes())
      if (plane.tokens != 1)
        return op->emitOpError("expected a codec that takes one row at a time, "
                               "found ")
               << info.codec;
    return success();
  }
  auto stored = cast<StoreRowOp>(op);
  if (auto quantize = stored.getPlanes().front().getDefiningOp<QuantizeOp>();
      quantize && quantize.getCodec() != info.codec)
    return quantize.emitOpError("codec must be ")
           << info.codec << ", as in the store's cache; found "
           << quantize.getCodec();
  return checkPlanes(op, info, stored.getPlanes(), std::nullopt);
}

LogicalResult KernelOp::verifySymbolUses(SymbolTableCollection &symbols) {
  auto store = symbols.lookupNearestSymbolFrom<StoreOp>(*this, getStoreAttr());
  if (!store)
    return emitOpError("no store named ") << getStoreAttr();
  auto cache = cast<CacheType>(store.getCache());
  auto find = [&](Operation *op, Attribute name) -> FailureOr<StreamAttr> {
    if (StreamAttr found = cache.findStream(cast<StringAttr>(name).getValue()))
      return found;
    return op->emitOpError("the store's cache has no stream `")
           << cast<StringAttr>(name).getValue() << "`";
  };
  WalkResult result = walk([&](Operation *op) -> WalkResult {
    if (auto names = op->getAttrOfType<ArrayAttr>("streams"))
      for (Attribute name : names)
        if (failed(find(op, name)))
          return failure();
    // Pages that a store's read hides are given back.
    if (auto loop = dyn_cast<ForTokensOp>(op))
      if (!store.read().isAll() && loop.getReadAttr() != store.getReadAttr())
        return op->emitOpError("expected the store's read, ")
               << store.getReadAttr() << ", found " << loop.getReadAttr();
    // What is given need not be cached; if it is, it has the same size.
    if (auto row = dyn_cast<LoadRowOp>(op))
      if (StreamAttr stream = cache.findStream(row.getName());
          stream && tensor(row.getX()).getShape() != ArrayRef(stream.getDim()))
        return op->emitOpError("x must be ")
               << stream.getDim() << " elements, as in the store's cache; "
               << "found " << row.getX().getType();
    if (auto decoded = dyn_cast<StoreDecodedOp>(op))
      if (StreamAttr stream = cache.findStream(decoded.getName());
          stream && tensor(decoded.getX()).getDimSize(1) != stream.getDim())
        return op->emitOpError("x must be [1, ")
               << stream.getDim() << "], as in the store's cache; found "
               << decoded.getX().getType();
    auto name = op->getAttrOfType<StringAttr>("stream");
    if (!name)
      return WalkResult::advance();
    FailureOr<StreamAttr> stream = find(op, name);
    return failed(stream) ? failure()
                          : checkStream(op, *stream, cache.stream(name));
  });
  return failure(result.wasInterrupted());
}
