//===- TileOps.cpp - what ops of the tile level must add up to ------------===//
#include "dialect/Score.h"
#include "dialect/tile/TileDialect.h"

using namespace mlir;
using namespace kvc;
using namespace kvc::tile;

static RankedTensorType tensor(Value value) {
  return cast<RankedTensorType>(value.getType());
}

/// The body of a loop takes `counter` and what the loop carries.
template <typename LoopOp>
static LogicalResult verifyLoop(LoopOp loop, Type counter) {
  SmallVector<Type> arguments{counter};
  llvm::append_range(arguments, loop.getInits().getTypes());
  Block &body = loop.getBody().front();
  if (body.getArgumentTypes() != TypeRange(arguments))
    return loop.emitOpError("body must take ")
           << TypeRange(arguments) << ", takes " << body.getArgumentTypes();
  auto yield = dyn_cast<YieldOp>(body.back());
  if (!yield || TypeRange(yield.getState()) != loop.getInits().getTypes())
    return loop.emitOpError("body must end in a yield of ")
           << loop.getInits().getTypes();
  if (loop.getResultTypes() != loop.getInits().getTypes())
    return loop.emitOpError("expected results of ")
           << loop.getInits().getTypes() << ", found " << loop.getResultTypes();
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
  return verifyLoop(*this, TokensType::get(getContext()));
}

LogicalResult ForSplitsOp::verify() {
  return verifyLoop(*this, IndexType::get(getContext()));
}

LogicalResult ForRowsOp::verify() {
  return verifyLoop(*this, TokensType::get(getContext()));
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
  if (!isInteger && !isCodeFloat(code) && !isa<Float8E8M0FNUType>(code))
    return emitOpError("expected codes of f32, f16, bf16, f8E4M3FN, f8E5M2, "
                       "f4E2M1FN, f8E8M0FNU or integers of 1 to 8 bits, found ")
           << codes;
  if (getIsUnsigned() && !isInteger)
    return emitOpError("floats have a sign, found `unsigned` and ") << codes;
  if (codes.getShape() != x.getShape())
    return emitOpError("expected codes in the shape of the result, found ")
           << codes << " -> " << x;
  return success();
}

/// Scales of a byte are among them.
static bool isBoxFloat(Type type) {
  return isDtype(type) || isa<Float8E4M3FNType, Float8E8M0FNUType>(type);
}

static LogicalResult verifyBoxes(Operation *op, Value x, Value boxes) {
  RankedTensorType whole = tensor(x), parts = tensor(boxes);
  bool fits = whole.getRank() == parts.getRank() &&
              isBoxFloat(parts.getElementType()) && parts.hasStaticShape();
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

/// Rows of a call have names as parameters have.
static LogicalResult verifyRowsName(Operation *op, StringRef name) {
  if (!name.empty() &&
      llvm::all_of(name, [](char c) { return llvm::isAlnum(c) || c == '_'; }))
    return success();
  return op->emitOpError("expected the name of rows as a word, found `")
         << name << "`";
}

LogicalResult LoadRowOp::verify() {
  if (failed(verifyRowsName(*this, getName())))
    return failure();
  RankedTensorType x = tensor(getX());
  if (x.getRank() < 1 || x.getRank() > 2 ||
      ShapedType::isDynamic(x.getShape().back()))
    return emitOpError("expected [d], or [q head, d]; found ") << x;
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
    if (!plane.elements ||
        plane.elements * plane.type.getIntOrFloatBitWidth() % 8)
      return emitOpError("a row of ") << plane.role << " is whole bytes; found "
                                      << plane.elements << " of " << plane.type;
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

//===----------------------------------------------------------------------===//
// Gather
//===----------------------------------------------------------------------===//

LogicalResult StoreDecodedOp::verify() {
  if (failed(verifyRowsName(*this, getName())))
    return failure();
  RankedTensorType x = tensor(getX());
  if (x.getRank() != 2 || x.getDimSize(0) != 1 || x.isDynamicDim(1))
    return emitOpError("expected [1, d], found ") << x;
  return success();
}

//===----------------------------------------------------------------------===//
// Spaces, results of tokens, selection, recurrence
//===----------------------------------------------------------------------===//

LogicalResult SpanOp::verify() {
  if (getStreams().empty())
    return emitOpError("expected a stream, found none");
  return success();
}

LogicalResult SliceOp::verify() {
  RankedTensorType x = tensor(getX()), result = tensor(getResult());
  int64_t begin = getBegin(), end = getEnd();
  if (x.getRank() != 2 || result.getRank() != 2 || begin >= end ||
      end > x.getDimSize(1) || result.getDimSize(0) != x.getDimSize(0) ||
      result.getDimSize(1) != end - begin)
    return emitOpError("expected channels ")
           << begin << " to " << end << " of " << x << ", found " << result;
  return success();
}

/// Whether a tile has the axes of `whole`, each of its size or of size 1.
static bool repeatsTo(RankedTensorType part, RankedTensorType whole) {
  if (part.getRank() != whole.getRank())
    return false;
  for (auto [size, all] : llvm::zip(part.getShape(), whole.getShape()))
    if (size != all && size != 1)
      return false;
  return true;
}

LogicalResult MapOp::verify() {
  RankedTensorType result = tensor(getResult());
  if (result.getRank() != 2)
    return emitOpError("expected a result of two axes, found ") << result;
  for (Value operand : getOperands())
    if (!repeatsTo(tensor(operand), result))
      return emitOpError("expected operands that repeat to ")
             << result << ", found " << operand.getType();
  return verifyElementRegion(*this, getBody(), getNumOperands());
}

LogicalResult ContractOp::verify() {
  RankedTensorType q = tensor(getQ()), result = tensor(getResult());
  if (getOthers().empty())
    return emitOpError("expected another operand");
  for (Value other : getOthers()) {
    RankedTensorType x = tensor(other);
    if (q.getRank() != 2 || x.getRank() != 2 || result.getRank() != 2 ||
        q.getDimSize(1) != x.getDimSize(1) ||
        result.getDimSize(0) != q.getDimSize(0) ||
        result.getDimSize(1) != x.getDimSize(0))
      return emitOpError("expected [r, d] with [t, d] -> [r, t], found ")
             << q << " with " << x << " -> " << result;
  }
  return verifyElementRegion(*this, getBody(), getNumOperands());
}

LogicalResult ReduceOp::verify() {
  RankedTensorType x = tensor(getX()), result = tensor(getResult());
  bool overRows = getAxis() == Axis::rows;
  if (x.getRank() != 2 || result.getRank() != 2 || result.getDimSize(1) != 1 ||
      result.getDimSize(0) != x.getDimSize(overRows ? 1 : 0))
    return emitOpError("expected [a, b] -> ")
           << (overRows ? "[b, 1]" : "[a, 1]") << ", found " << x << " -> "
           << result;
  return success();
}

LogicalResult OuterOp::verify() {
  RankedTensorType x = tensor(getX()), y = tensor(getY());
  RankedTensorType result = tensor(getResult());
  if (x.getRank() != 1 || y.getRank() != 1 || result.getRank() != 2 ||
      result.getDimSize(0) != x.getDimSize(0) ||
      result.getDimSize(1) != y.getDimSize(0))
    return emitOpError("expected [a], [b] -> [a, b], found ")
           << x << ", " << y << " -> " << result;
  return success();
}

LogicalResult LoadLseOp::verify() {
  RankedTensorType lse = tensor(getLse());
  if (lse.getRank() != 2 || !lse.isDynamicDim(0) || lse.getDimSize(1) != 1)
    return emitOpError("expected [r, 1], found ") << lse;
  return success();
}

LogicalResult MoveTokensOp::verify() {
  if (getStreams().empty())
    return emitOpError("expected a stream, found none");
  return success();
}

LogicalResult StoreTokensOp::verify() {
  if (tensor(getX()).getRank() != 2)
    return emitOpError("expected [t, d], found ") << getX().getType();
  return success();
}

LogicalResult TopKStepOp::verify() {
  RankedTensorType scores = tensor(getScores());
  if (scores.getRank() != 2 || scores.isDynamicDim(0) ||
      scores.getDimSize(1) != 1)
    return emitOpError("expected scores [n, 1], found ") << scores;
  return success();
}

LogicalResult StoreRowOutputOp::verify() {
  if (tensor(getO()).getRank() != 2)
    return emitOpError("expected [q head, d], found ") << getO().getType();
  return success();
}

LogicalResult StorePartialOp::verify() {
  if (getLast().empty())
    return success();
  for (auto output : getLast().front().getOps<StoreOutputOp>())
    if (output.getState().getType() != getState().getType())
      return output.emitOpError("expected ")
             << getState().getType() << ", as is stored of each split; found "
             << output.getState().getType();
  return success();
}
