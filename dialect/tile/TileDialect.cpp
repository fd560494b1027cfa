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

/// Checks a tensor that goes to or from a cache: rows of `elements` of `type`;
/// a null type means that the codec has no such plane.
static LogicalResult checkPlane(Operation *op, StringRef what, Value value,
                                Type type, int64_t elements) {
  if (!value && !type)
    return success();
  auto found =
      value ? cast<RankedTensorType>(value.getType()) : RankedTensorType();
  if (found && found.getElementType() == type &&
      (!elements || found.getShape().back() == elements))
    return success();
  auto diag = op->emitOpError() << what << " must be ";
  if (!type)
    diag << "absent";
  else if (elements)
    diag << elements << " " << type << " a row";
  else
    diag << type;
  diag << ", as in the store's cache; found ";
  if (found)
    return diag << found;
  return diag << "none";
}

LogicalResult KernelOp::verifySymbolUses(SymbolTableCollection &symbols) {
  auto store = symbols.lookupNearestSymbolFrom<StoreOp>(*this, getStoreAttr());
  if (!store)
    return emitOpError("no store named ") << getStoreAttr();
  auto cache = cast<CacheType>(store.getCache());
  auto check = [&](Operation *op, StringRef name, Value codes, Value scales) {
    StreamInfo stream = cache.stream(name);
    return failure(failed(checkPlane(op, "codes", codes,
                                     stream.codec.getCodeType(), stream.dim)) ||
                   failed(checkPlane(op, "scales", scales,
                                     stream.codec.getScaleType(), 0)));
  };
  auto checkCodec = [&](Operation *op, StringRef name, Attribute codec) {
    Attribute wanted = cache.stream(name).codec;
    if (codec == wanted)
      return success();
    return LogicalResult(op->emitOpError("codec must be ")
                         << wanted << ", as in the store's cache; found "
                         << codec);
  };
  WalkResult result = walk([&](Operation *op) -> WalkResult {
    if (auto name = op->getAttrOfType<StringAttr>("stream");
        name && !cache.findStream(name))
      return op->emitOpError("the store's cache has no stream `")
             << name.getValue() << "`";
    if (auto dequantize = dyn_cast<DequantizeOp>(op))
      if (auto load = dequantize.getCodes().getDefiningOp<LoadOp>())
        return checkCodec(op, load.getStream(), dequantize.getCodecAttr());
    if (auto store = dyn_cast<StoreRowOp>(op))
      if (auto quantize = store.getCodes().getDefiningOp<QuantizeOp>())
        if (failed(checkCodec(quantize, store.getStream(),
                              quantize.getCodecAttr())))
          return failure();
    if (auto load = dyn_cast<LoadOp>(op))
      return check(op, load.getStream(), load.getCodes(), load.getScales());
    if (auto store = dyn_cast<StoreRowOp>(op))
      return check(op, store.getStream(), store.getCodes(), store.getScale());
    if (auto load = dyn_cast<LoadRowOp>(op))
      return checkPlane(op, "x", load.getX(), Float32Type::get(getContext()),
                        cache.stream(load.getStream()).dim);
    return WalkResult::advance();
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

static RankedTensorType tensor(Value value) {
  return cast<RankedTensorType>(value.getType());
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

LogicalResult LoadOp::verify() {
  RankedTensorType codes = tensor(getCodes());
  if (codes.getRank() != 2)
    return emitOpError("expected codes [t, d], found ") << codes;
  if (getScales() &&
      tensor(getScales()).getShape() != codes.getShape().take_front())
    return emitOpError("expected scales [t] beside codes [t, d], found ")
           << getScales().getType() << " beside " << codes;
  return success();
}

LogicalResult DequantizeOp::verify() {
  auto codec = verifyCodec(*this, getCodecAttr());
  if (failed(codec))
    return failure();
  RankedTensorType codes = tensor(getCodes()), x = tensor(getX());
  if (codes.getRank() != 2 || codes.getElementType() != codec->getCodeType() ||
      codes.getShape() != x.getShape())
    return emitOpError("expected codes [t, d] of ")
           << codec->getCodeType() << " in the shape of the result, found "
           << codes << " -> " << x;
  if (!getScales())
    return success();
  Type scale = codec->getScaleType();
  if (!scale)
    return emitOpError("codec has no scale");
  if (tensor(getScales()).getElementType() != scale ||
      tensor(getScales()).getShape() != codes.getShape().take_front())
    return emitOpError("expected scales [t] of ")
           << scale << ", found " << getScales().getType();
  return success();
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
  if (x.getRank() != 2 || scales.getShape() != x.getShape().take_back() ||
      !isDtype(scales.getElementType()))
    return emitOpError("expected [r, t] by float [t], found ")
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
  if (failed(codec))
    return failure();
  RankedTensorType x = tensor(getX()), codes = tensor(getCodes());
  if (x.getRank() != 1 || codes.getShape() != x.getShape() ||
      codes.getElementType() != codec->getCodeType())
    return emitOpError("expected [d] -> codes [d] of ")
           << codec->getCodeType() << ", found " << x << " -> " << codes;
  Type scale = codec->getScaleType();
  if (bool(getScale()) != bool(scale))
    return emitOpError(scale ? "codec has a scale, result has none"
                             : "codec has no scale");
  if (scale && (tensor(getScale()).getRank() != 0 ||
                tensor(getScale()).getElementType() != scale))
    return emitOpError("expected one scale of ")
           << scale << ", found " << getScale().getType();
  return success();
}

LogicalResult StoreRowOp::verify() {
  if (tensor(getCodes()).getRank() != 1)
    return emitOpError("expected codes [d], found ") << getCodes().getType();
  if (getScale() && tensor(getScale()).getRank() != 0)
    return emitOpError("expected one scale, found ") << getScale().getType();
  return success();
}
