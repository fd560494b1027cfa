//===- Int.cpp - #kvc.int: symmetric integers, a scale per row ------------===//
#include "dialect/KvcDialect.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

#include <cfloat>
#include <cmath>

using namespace mlir;
using namespace kvc;

static constexpr float kQMax = 127;
/// Adding it to a float of magnitude below 2^22 rounds that float to the
/// nearest even integer and leaves the integer in the low mantissa bits.
static constexpr float kRoundMagic = 12582912; // 1.5 * 2^23
static constexpr float kLargestF16 = 65504;

LogicalResult IntCodecAttr::verify(function_ref<InFlightDiagnostic()> emitError,
                                   unsigned bits, Type scale) {
  if (bits != 8)
    return emitError() << "expected 8 bits, found " << bits;
  if (!scale.isF32() && !scale.isF16())
    return emitError() << "expected a scale of f32 or f16, found " << scale;
  return success();
}

Type IntCodecAttr::getCodeType() const {
  return IntegerType::get(getContext(), getBits());
}
Type IntCodecAttr::getScaleType() const { return getScale(); }

void IntCodecAttr::quantizeRow(ArrayRef<float> row, uint8_t *codes,
                               uint8_t *scaleBytes) const {
  float absmax = 0;
  for (float x : row)
    if (!std::isnan(x))
      absmax = std::max(absmax, std::min(std::fabs(x), FLT_MAX));
  float scale = absmax / kQMax;
  auto stored = FloatCodecAttr::get(getContext(), getScale());
  if (getScale().isF16())
    scale = std::min(scale, kLargestF16);
  stored.quantizeRow(scale, scaleBytes, nullptr);
  stored.dequantizeRow(scaleBytes, nullptr, scale);
  if (scale < FLT_MIN) {
    scale = 0;
    stored.quantizeRow(scale, scaleBytes, nullptr);
  }
  float factor = scale == 0 ? 0 : 1 / scale;
  for (float x : row) {
    float y = std::isnan(x) ? 0 : std::clamp(x, -FLT_MAX, FLT_MAX) * factor;
    y = std::nearbyint(std::clamp(y, -kQMax, kQMax));
    *codes++ = uint8_t(int8_t(y));
  }
}

void IntCodecAttr::dequantizeRow(const uint8_t *codes,
                                 const uint8_t *scaleBytes,
                                 MutableArrayRef<float> row) const {
  float scale;
  FloatCodecAttr::get(getContext(), getScale())
      .dequantizeRow(scaleBytes, nullptr, scale);
  for (float &x : row)
    x = float(int8_t(*codes++)) * scale;
}

int64_t IntCodecAttr::getPreferredChannels(int64_t lanes) const {
  return 2 * lanes;
}

SmallVector<int64_t> IntCodecAttr::getChannelOrder(int64_t channels,
                                                   int64_t) const {
  return llvm::to_vector(llvm::seq<int64_t>(0, channels));
}

SmallVector<Value> IntCodecAttr::emitDequantize(OpBuilder &b, Location loc,
                                                LoadFn load, int64_t channels,
                                                int64_t lanes) const {
  SmallVector<Value> out;
  for (int64_t first = 0; first < channels; first += lanes) {
    Value codes = load(first, VectorType::get(lanes, getCodeType()));
    Value wide = arith::ExtSIOp::create(
        b, loc, VectorType::get(lanes, b.getI32Type()), codes);
    out.push_back(arith::SIToFPOp::create(
        b, loc, VectorType::get(lanes, b.getF32Type()), wide));
  }
  return out;
}

namespace {
/// Short names for the scalar and vector f32 arithmetic of the quantizer.
struct F32Builder {
  OpBuilder &b;
  Location loc;
  Type type; ///< f32 or a vector of it

  Value constant(float value) {
    Attribute attr = b.getF32FloatAttr(value);
    if (auto vector = dyn_cast<VectorType>(type))
      attr = DenseElementsAttr::get(vector, attr);
    return arith::ConstantOp::create(b, loc, cast<TypedAttr>(attr));
  }
  Value less(Value x, Value y) {
    return arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OLT, x, y);
  }
  Value select(Value condition, Value yes, Value no) {
    return arith::SelectOp::create(b, loc, condition, yes, no);
  }
  Value smaller(Value x, float bound) {
    Value limit = constant(bound);
    return select(less(x, limit), x, limit);
  }
  Value larger(Value x, float bound) {
    Value limit = constant(bound);
    return select(less(limit, x), x, limit);
  }
};
} // namespace

QuantizeScale IntCodecAttr::emitScale(OpBuilder &b, Location loc,
                                      Value absmax) const {
  F32Builder f{b, loc, b.getF32Type()};
  Value scale = arith::DivFOp::create(b, loc, f.smaller(absmax, FLT_MAX),
                                      f.constant(kQMax));
  bool half = getScale().isF16();
  Value wide = scale;
  if (half) {
    scale = arith::TruncFOp::create(b, loc, getScale(),
                                    f.smaller(scale, kLargestF16));
    wide = arith::ExtFOp::create(b, loc, b.getF32Type(), scale);
  }
  Value zero = f.constant(0);
  Value tiny = f.less(wide, f.constant(FLT_MIN));
  Value inverse = arith::DivFOp::create(b, loc, f.constant(1), wide);
  Value factor = f.select(tiny, zero, inverse);
  if (!half)
    return {f.select(tiny, zero, scale), factor};
  Value zeroHalf =
      arith::ConstantOp::create(b, loc, b.getFloatAttr(getScale(), 0.0));
  return {arith::SelectOp::create(b, loc, tiny, zeroHalf, scale), factor};
}

Value IntCodecAttr::emitQuantize(OpBuilder &b, Location loc, Value x,
                                 Value factor) const {
  auto type = cast<VectorType>(x.getType());
  F32Builder f{b, loc, type};
  Value isNumber =
      arith::CmpFOp::create(b, loc, arith::CmpFPredicate::ORD, x, x);
  x = f.select(isNumber, x, f.constant(0));
  x = f.larger(f.smaller(x, FLT_MAX), -FLT_MAX);
  x = arith::MulFOp::create(b, loc, x,
                            vector::BroadcastOp::create(b, loc, type, factor));
  x = f.larger(f.smaller(x, kQMax), -kQMax);
  x = arith::AddFOp::create(b, loc, x, f.constant(kRoundMagic));
  Value bits = arith::BitcastOp::create(
      b, loc, VectorType::get(type.getShape(), b.getI32Type()), x);
  return arith::TruncIOp::create(
      b, loc, VectorType::get(type.getShape(), getCodeType()), bits);
}
