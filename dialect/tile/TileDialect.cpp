//===- TileDialect.cpp - registration and verifiers -----------------------===//
#include "dialect/tile/TileDialect.h"
#include "dialect/Score.h"

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

#include "dialect/tile/TileDialect.cpp.inc"
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

LogicalResult SoftmaxType::verify(function_ref<InFlightDiagnostic()> emitError,
                                  int64_t dim) {
  if (dim < 1)
    return emitError() << "a softmax state has at least one channel, found "
                       << dim;
  return success();
}

//===----------------------------------------------------------------------===//
// Kernels
//===----------------------------------------------------------------------===//

LogicalResult KernelOp::verify() {
  if (!llvm::is_contained({"attend", "merge", "append"}, getKind()))
    return emitOpError("kind must be \"attend\", \"merge\" or \"append\", "
                       "found \"")
           << getKind() << "\"";
  if (!isDtype(getDtype()))
    return emitOpError("dtype must be f32, f16 or bf16, found ") << getDtype();
  return success();
}

static RankedTensorType tensor(Value value) {
  return cast<RankedTensorType>(value.getType());
}

/// Checks what goes to or from a stream: of each plane its rows for `tokens`
/// tokens, or where that is none, one row.
static LogicalResult checkPlanes(Operation *op, StreamInfo stream,
                                 ValueRange planes,
                                 std::optional<int64_t> tokens) {
  auto name = op->getAttrOfType<StringAttr>("stream").getValue();
  SmallVector<CodecPlane, 3> wanted = stream.planes();
  if (planes.size() != wanted.size())
    return op->emitOpError("`")
           << name << "` has " << wanted.size()
           << " planes in the store's cache, found " << planes.size();
  for (auto [plane, value] : llvm::zip_equal(wanted, planes)) {
    if (tokens && *tokens % plane.tokens)
      return op->emitOpError("a row of the ")
             << plane.role << " of `" << name << "` is for " << plane.tokens
             << " tokens, which must divide those of the tile, " << *tokens;
    SmallVector<int64_t> shape;
    if (tokens)
      shape.push_back(*tokens / plane.tokens);
    shape.push_back(plane.elements);
    auto type = RankedTensorType::get(shape, plane.type);
    if (value.getType() != type)
      return op->emitOpError()
             << plane.role << " of `" << name << "` must be " << type
             << ", as in the store's cache; found " << value.getType();
  }
  return success();
}

LogicalResult KernelOp::verifySymbolUses(SymbolTableCollection &symbols) {
  auto store = symbols.lookupNearestSymbolFrom<StoreOp>(*this, getStoreAttr());
  if (!store)
    return emitOpError("no store named ") << getStoreAttr();
  auto cache = cast<CacheType>(store.getCache());
  WalkResult result = walk([&](Operation *op) -> WalkResult {
    auto name = op->getAttrOfType<StringAttr>("stream");
    if (!name)
      return WalkResult::advance();
    if (!cache.findStream(name))
      return op->emitOpError("the store's cache has no stream `")
             << name.getValue() << "`";
    StreamInfo stream = cache.stream(name);
    if (auto load = dyn_cast<LoadOp>(op))
      return checkPlanes(op, stream, load.getPlanes(),
                         tensor(load.getCodes()).getDimSize(0));
    if (auto row = dyn_cast<LoadRowOp>(op))
      if (tensor(row.getX()).getShape() != ArrayRef(stream.dim))
        return op->emitOpError("x must be ")
               << stream.dim << " elements, as in the store's cache; found "
               << row.getX().getType();
    auto stored = dyn_cast<StoreRowOp>(op);
    if (!stored)
      return WalkResult::advance();
    if (auto quantize = stored.getPlanes().front().getDefiningOp<QuantizeOp>();
        quantize && quantize.getCodec() != stream.codec)
      return quantize.emitOpError("codec must be ")
             << stream.codec << ", as in the store's cache; found "
             << quantize.getCodec();
    return checkPlanes(op, stream, stored.getPlanes(), std::nullopt);
  });
  return failure(result.wasInterrupted());
}

/// The body of a loop takes `arguments` and yields `results`.
static LogicalResult verifyLoop(Operation *op, Block &body, TypeRange arguments,
                                TypeRange results) {
  if (body.getArgumentTypes() != arguments)
    return op->emitOpError("body must take ")
           << arguments << ", takes " << body.getArgumentTypes();
  auto yield = dyn_cast<YieldOp>(body.back());
  if (!yield || TypeRange(yield.getState()) != results)
    return op->emitOpError("body must end in a yield of ") << results;
  return success();
}

static LogicalResult verifyRead(Operation *op, Attribute read) {
  if (isa<ReadAttrInterface>(read))
    return success();
  return op->emitOpError("expected a read, found ") << read;
}

static FailureOr<CodecAttrInterface> verifyCodec(Operation *op,
                                                 Attribute codec) {
  if (auto found = dyn_cast<CodecAttrInterface>(codec))
    return found;
  return op->emitOpError("expected a codec, found ") << codec;
}

LogicalResult ForTokensOp::verify() {
  if (failed(verifyRead(*this, getReadAttr())))
    return failure();
  return verifyLoop(*this, getBody().front(),
                    {TokensType::get(getContext()), getInit().getType()},
                    {getResult().getType()});
}

LogicalResult ForSplitsOp::verify() {
  return verifyLoop(*this, getBody().front(),
                    {IndexType::get(getContext()), getInit().getType()},
                    {getResult().getType()});
}

LogicalResult ForRowsOp::verify() {
  return verifyLoop(*this, getBody().front(), {TokensType::get(getContext())},
                    {});
}

//===----------------------------------------------------------------------===//
// Attend
//===----------------------------------------------------------------------===//

LogicalResult LoadQueryOp::verify() {
  if (tensor(getQ()).getRank() != 2)
    return emitOpError("expected [r, d], found ") << getQ().getType();
  if (!getScale().isFinite())
    return emitOpError("scale must be finite");
  return success();
}

LogicalResult SoftmaxInitOp::verify() {
  return verifyScoreRegion(*this, getSink(), ScoreRegionKind::Sink);
}

/// As planes of codecs that keep scales and zeros are mostly named.
static void namePlanes(ValueRange planes, OpAsmSetValueNameFn setName) {
  static constexpr StringLiteral names[] = {kPlaneCodes, kPlaneScales,
                                            kPlaneZeros};
  for (auto [plane, name] : llvm::zip_first(planes, names))
    setName(plane, name);
}

void LoadOp::getAsmResultNames(OpAsmSetValueNameFn setName) {
  namePlanes(getPlanes(), setName);
}
void QuantizeOp::getAsmResultNames(OpAsmSetValueNameFn setName) {
  namePlanes(getPlanes(), setName);
}

/// The first of them are codes, of `rank` axes as all are.
static LogicalResult verifyPlanes(Operation *op, ValueRange planes,
                                  int64_t rank) {
  if (planes.empty())
    return op->emitOpError("expected codes, found nothing");
  for (Value plane : planes)
    if (tensor(plane).getRank() != rank || !tensor(plane).hasStaticShape())
      return op->emitOpError("expected planes of ")
             << rank << (rank == 1 ? " axis" : " axes")
             << ", all of known size; found " << plane.getType();
  return success();
}

LogicalResult LoadOp::verify() { return verifyPlanes(*this, getPlanes(), 2); }

std::optional<unsigned> LoadOp::planeOf(Value value) {
  auto result = dyn_cast<OpResult>(value);
  if (!result || result.getOwner() != getOperation())
    return std::nullopt;
  return result.getResultNumber();
}

void ConvertOp::build(OpBuilder &b, OperationState &state, Value codes,
                      bool isUnsigned) {
  auto shape = cast<RankedTensorType>(codes.getType()).getShape();
  build(b, state, RankedTensorType::get(shape, b.getF32Type()), codes,
        isUnsigned);
}

LogicalResult ConvertOp::verify() {
  RankedTensorType codes = tensor(getCodes()), x = tensor(getX());
  Type code = codes.getElementType();
  bool isInteger =
      code.isSignlessInteger() && code.getIntOrFloatBitWidth() <= 8;
  if (!isInteger && !isDtype(code))
    return emitOpError("expected codes of f32, f16, bf16 or integers of 1 to 8 "
                       "bits, found ")
           << codes;
  if (getIsUnsigned() && !isInteger)
    return emitOpError("floats have a sign, found `unsigned` and ") << codes;
  if (codes.getShape() != x.getShape())
    return emitOpError("expected codes in the shape of the result, found ")
           << codes << " -> " << x;
  return success();
}

static LogicalResult verifyBoxes(Operation *op, Value x, Value boxes) {
  RankedTensorType whole = tensor(x), parts = tensor(boxes);
  bool fits = whole.getRank() == parts.getRank() &&
              isDtype(parts.getElementType()) && parts.hasStaticShape();
  for (int64_t axis = 0; fits && axis < whole.getRank(); ++axis) {
    int64_t part = parts.getDimSize(axis);
    fits = part == 1 || (part > 0 && !whole.isDynamicDim(axis) &&
                         whole.getDimSize(axis) % part == 0);
  }
  if (fits)
    return success();
  return op->emitOpError("expected floats for boxes of equal size, found ")
         << parts << " for " << whole;
}

LogicalResult ScaleOp::verify() {
  return verifyBoxes(*this, getX(), getBoxes());
}
LogicalResult OffsetOp::verify() {
  return verifyBoxes(*this, getX(), getBoxes());
}

LogicalResult DotOp::verify() {
  RankedTensorType q = tensor(getQ()), k = tensor(getK());
  RankedTensorType s = tensor(getScores());
  if (q.getRank() != 2 || k.getRank() != 2 || s.getRank() != 2 ||
      q.getDimSize(1) != k.getDimSize(1) ||
      q.getDimSize(0) != s.getDimSize(0) || k.getDimSize(0) != s.getDimSize(1))
    return emitOpError("expected [r, d] by [t, d] -> [r, t], found ")
           << q << " by " << k << " -> " << s;
  return success();
}

LogicalResult ScaleTokensOp::verify() {
  RankedTensorType x = tensor(getX()), scales = tensor(getScales());
  if (x.getRank() != 2 || scales.getRank() != 2 ||
      scales.getDimSize(0) != x.getDimSize(1) || scales.getDimSize(1) != 1 ||
      !isDtype(scales.getElementType()))
    return emitOpError("expected [r, t] by float [t, 1], found ")
           << x << " by " << scales;
  return success();
}

LogicalResult LogitsOp::verify() {
  if (tensor(getX()).getRank() != 2)
    return emitOpError("expected [r, t], found ") << getX().getType();
  return verifyScoreRegion(*this, getLogits(), ScoreRegionKind::Logits);
}

LogicalResult MaskOp::verify() {
  if (tensor(getX()).getRank() != 2)
    return emitOpError("expected [r, t], found ") << getX().getType();
  if (failed(verifyScoreRegion(*this, getVisible(), ScoreRegionKind::Visible)))
    return failure();
  return verifyRead(*this, getReadAttr());
}

LogicalResult SoftmaxStepOp::verify() {
  if (tensor(getScores()).getRank() != 2)
    return emitOpError("expected [r, t], found ") << getScores().getType();
  return success();
}

LogicalResult AccumulateOp::verify() {
  RankedTensorType p = tensor(getP()), v = tensor(getV());
  if (p.getRank() != 2 || v.getRank() != 2 ||
      p.getDimSize(1) != v.getDimSize(0) ||
      v.getDimSize(1) != getState().getType().getDim())
    return emitOpError("expected p [r, t], v [t, d] and a state of d, found ")
           << p << ", " << v << " and " << getState().getType();
  return success();
}

//===----------------------------------------------------------------------===//
// Append
//===----------------------------------------------------------------------===//

LogicalResult LoadRowOp::verify() {
  if (tensor(getX()).getRank() != 1)
    return emitOpError("expected [d], found ") << getX().getType();
  return success();
}

LogicalResult QuantizeOp::verify() {
  auto codec = verifyCodec(*this, getCodecAttr());
  if (failed(codec) || failed(verifyPlanes(*this, getPlanes(), 1)))
    return failure();
  RankedTensorType x = tensor(getX());
  if (x.getRank() != 1 || x.isDynamicDim(0))
    return emitOpError("expected [d], found ") << x;
  SmallVector<Type> wanted;
  for (const CodecPlane &plane : codec->getPlanes(x.getDimSize(0))) {
    if (plane.tokens != 1)
      return emitOpError("quantizes one row, a box of ")
             << plane.role << " has " << plane.tokens;
    wanted.push_back(RankedTensorType::get(plane.elements, plane.type));
  }
  if (TypeRange(wanted) != getPlanes().getTypes())
    return emitOpError("expected planes of ")
           << wanted << ", found " << getPlanes().getTypes();
  return success();
}

LogicalResult StoreRowOp::verify() {
  return verifyPlanes(*this, getPlanes(), 1);
}
