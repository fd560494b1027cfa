//===- Int.cpp - #kvc.int: uniform integers, a scale per box --------------===//
#include "dialect/tile/TileDialect.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

#include <cfloat>
#include <cmath>

using namespace mlir;
using namespace kvc;

/// Of codes of 8 bits.
static constexpr float kQMax = 127;
/// Adding it to a float of magnitude below 2^22 rounds that float to the
/// nearest even integer and leaves the integer in the low mantissa bits.
static constexpr float kRoundMagic = 12582912; // 1.5 * 2^23
static constexpr float kLargestF16 = 65504;

LogicalResult IntCodecAttr::verify(function_ref<InFlightDiagnostic()> emitError,
                                   unsigned bits, Type scale, Type zero,
                                   int64_t tokens, int64_t channels) {
  unsigned least = zero ? 1 : 2; // a sign and a value
  if (bits < least || bits > 8)
    return emitError() << "expected " << least << " to 8 bits, found "
                       << int(bits);
  if (!scale.isF32() && !scale.isF16())
    return emitError() << "expected a scale of f32 or f16, found " << scale;
  if (zero && !zero.isF32() && !zero.isF16())
    return emitError() << "expected a zero of f32 or f16, found " << zero;
  if (tokens < 1 || tokens > kMaxPageTokens || channels < 0)
    return emitError() << "expected a box of 1 to " << kMaxPageTokens
                       << " tokens by at least one channel, found " << tokens
                       << " by " << channels;
  return success();
}

SmallVector<CodecPlane, 3> IntCodecAttr::getPlanes(int64_t dim) const {
  int64_t channels = getChannels() ? getChannels() : dim;
  // A box that does not divide a row has no elements, which no stream may have.
  int64_t boxes = dim % channels ? 0 : dim / channels;
  SmallVector<CodecPlane, 3> planes = {
      {kPlaneCodes, IntegerType::get(getContext(), getBits()), dim},
      {kPlaneScales, getScale(), boxes, getTokens()}};
  if (getZero())
    planes.push_back({kPlaneZeros, getZero(), boxes, getTokens()});
  return planes;
}

/// Stores a finite number in 16 or 32 bits, and gives what it has become.
static float storeAs(Type type, float x, uint8_t *to) {
  if (type.isF16())
    x = std::clamp(x, -kLargestF16, kLargestF16);
  auto stored = FloatCodecAttr::get(type.getContext(), type);
  stored.quantizeRows(x, 1, to);
  stored.dequantizeRow(static_cast<const uint8_t *>(to), x);
  return x;
}

static float loadAs(Type type, const uint8_t *from, int64_t index) {
  float x;
  FloatCodecAttr::get(type.getContext(), type)
      .dequantizeRow(from + index * (type.isF16() ? 2 : 4), x);
  return x;
}

/// What an element counts as.
static float finite(float x) {
  return std::isnan(x) ? 0 : std::clamp(x, -FLT_MAX, FLT_MAX);
}

void IntCodecAttr::quantizeRows(ArrayRef<float> rows, int64_t tokens,
                                ArrayRef<uint8_t *> planes) const {
  int64_t dim = rows.size() / tokens, bits = getBits();
  int64_t channels = getChannels() ? getChannels() : dim;
  auto bytesOf = [](Type type) { return type.isF16() ? 2 : 4; };
  float qmax =
      getZero() ? float((1 << bits) - 1) : float((1 << (bits - 1)) - 1);
  std::fill_n(planes[0], rows.size() * bits / 8, 0);
  int64_t box = 0; // of all, row after row
  for (int64_t first = 0; first < tokens; first += getTokens())
    for (int64_t channel = 0; channel < dim; channel += channels, ++box) {
      float low = 0, high = 0;
      auto forBox = [&](llvm::function_ref<void(int64_t, float)> body) {
        for (int64_t t = first; t < first + getTokens(); ++t)
          for (int64_t c = channel; c < channel + channels; ++c)
            body(t * dim + c, finite(rows[t * dim + c]));
      };
      if (getZero()) {
        low = FLT_MAX, high = -FLT_MAX;
        forBox([&](int64_t, float x) {
          low = std::min(low, x), high = std::max(high, x);
        });
        low = storeAs(getZero(), low, planes[2] + box * bytesOf(getZero()));
      } else {
        forBox([&](int64_t, float x) { high = std::max(high, std::fabs(x)); });
      }
      // With halves first, for the range of two finite numbers may be none.
      float range = std::max(high / 2 - low / 2, 0.0f) * 2;
      range = getZero() ? std::min(range, FLT_MAX) : high;
      uint8_t *to = planes[1] + box * bytesOf(getScale());
      float scale = storeAs(getScale(), range / qmax, to);
      if (scale < FLT_MIN)
        scale = storeAs(getScale(), 0, to);
      float factor = scale == 0 ? 0 : 1 / scale;
      forBox([&](int64_t index, float x) {
        float y = std::nearbyint(
            std::clamp((x - low) * factor, getZero() ? 0 : -qmax, qmax));
        unsigned code = unsigned(int(y)) & ((1u << bits) - 1);
        int64_t bit = index * bits;
        planes[0][bit / 8] |= uint8_t(code << bit % 8);
        if (bit % 8 + bits > 8)
          planes[0][bit / 8 + 1] |= uint8_t(code >> (8 - bit % 8));
      });
    }
}

void IntCodecAttr::dequantizeRow(ArrayRef<const uint8_t *> planes,
                                 MutableArrayRef<float> row) const {
  if (canEmitQuantize()) { // nearly all that a reference ever reads
    float scale = loadAs(getScale(), planes[1], 0);
    for (auto [c, x] : llvm::enumerate(row))
      x = float(int8_t(planes[0][c])) * scale;
    return;
  }
  int64_t channels = getChannels() ? getChannels() : row.size();
  float scale = 0, zero = 0;
  for (auto [c, x] : llvm::enumerate(row)) {
    if (c % channels == 0) {
      scale = loadAs(getScale(), planes[1], c / channels);
      if (getZero())
        zero = loadAs(getZero(), planes[2], c / channels);
    }
    x = float(unpackCode(planes[0], c, getBits(), !getZero())) * scale + zero;
  }
}

int kvc::unpackCode(const uint8_t *codes, int64_t index, unsigned bits,
                    bool isSigned) {
  int64_t bit = index * bits;
  unsigned code = codes[bit / 8] >> bit % 8;
  if (bit % 8 + bits > 8)
    code |= unsigned(codes[bit / 8 + 1]) << (8 - bit % 8);
  code &= (1u << bits) - 1;
  bool negative = isSigned && code >> (bits - 1);
  return int(code) - (negative ? 1 << bits : 0);
}

Value IntCodecAttr::buildDequantize(OpBuilder &b, Location loc,
                                    ValueRange planes) const {
  Value x = tile::ConvertOp::create(b, loc, planes[0], bool(getZero()));
  x = tile::ScaleOp::create(b, loc, x.getType(), x, planes[1]);
  if (getZero())
    x = tile::OffsetOp::create(b, loc, x.getType(), x, planes[2]);
  return x;
}

bool IntCodecAttr::canEmitQuantize() const {
  return getBits() == 8 && !getZero() && getTokens() == 1 && !getChannels();
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
  auto codes = VectorType::get(type.getShape(),
                               IntegerType::get(getContext(), getBits()));
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
  return arith::TruncIOp::create(b, loc, codes, bits);
}
