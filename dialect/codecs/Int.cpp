//===- Int.cpp - #kvc.int: uniform integers, a scale per box --------------===//
#include "dialect/codecs/Boxes.h"
#include "dialect/tile/TileDialect.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

#include <cfloat>
#include <cmath>

using namespace mlir;
using namespace kvc;

/// Adding it to a float of magnitude below 2^22 rounds that float to the
/// nearest even integer and leaves the integer in the low mantissa bits.
static constexpr float kRoundMagic = 12582912; // 1.5 * 2^23

LogicalResult IntCodecAttr::verify(function_ref<InFlightDiagnostic()> emitError,
                                   unsigned bits, Type scale, Type zero,
                                   int64_t tokens, int64_t channels,
                                   bool extreme, bool, Rounding,
                                   ZeroKind kind) {
  unsigned least = zero ? 1 : 2; // a sign and a value
  if (bits < least || bits > 8)
    return emitError() << "expected " << least << " to 8 bits, found "
                       << int(bits);
  if (!isParameterType(scale))
    return emitError() << "expected a scale of f32 or f16, found " << scale;
  if (zero && !isParameterType(zero))
    return emitError() << "expected a zero of f32 or f16, found " << zero;
  if (tokens < 1 || tokens > kMaxPageTokens || channels < 0)
    return emitError() << "expected a box of 1 to " << kMaxPageTokens
                       << " tokens by at least one channel, found " << tokens
                       << " by " << channels;
  if (!zero && kind != ZeroKind::Min)
    return emitError() << "a kind is a zero's, found `"
                       << stringifyZeroKind(kind) << "` without one";
  if (zero && extreme)
    return emitError() << "with a zero the least code stands for the least "
                          "element, found a zero and `extreme`";
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

namespace {
/// The codes of a codec.
struct Codes {
  explicit Codes(IntCodecAttr codec) {
    float most = float(1 << (codec.getBits() - 1));
    if (codec.getZero())
      least = 0, largest = ofRange = 2 * most - 1, shift = 0;
    else if (codec.getExtreme())
      least = ofRange = -most, largest = most - 1, shift = most;
    else
      least = 1 - most, largest = ofRange = most - 1, shift = most;
  }
  float least, largest;
  float ofRange; ///< what the range of a box, or its extreme, becomes
  float shift;   ///< makes them positive

  /// Of what magnitude of a box's least element its range is at least, so that
  /// a zero between codes is at most 2048 of them away.
  float leastRange() const { return largest / 2048; }
};
} // namespace

static float roundTo(float y, Rounding rounding, float shift) {
  switch (rounding) {
  case Rounding::Even:
    return std::nearbyint(y);
  case Rounding::HalfUp:
    return std::floor(y + (shift + 0.5f)) - shift;
  case Rounding::HalfAway:
    return std::round(y);
  }
  llvm_unreachable("no such rounding");
}

void IntCodecAttr::quantizeRows(ArrayRef<float> rows, int64_t tokens,
                                ArrayRef<uint8_t *> planes) const {
  int64_t dim = rows.size() / tokens, bits = getBits();
  int64_t channels = getChannels() ? getChannels() : dim;
  auto bytesOf = [](Type type) { return type.isF16() ? 2 : 4; };
  Codes codes(*this);
  std::fill_n(planes[0], rows.size() * bits / 8, 0);
  int64_t box = 0; // of all, row after row
  for (int64_t first = 0; first < tokens; first += getTokens())
    for (int64_t channel = 0; channel < dim; channel += channels, ++box) {
      auto forBox = [&](llvm::function_ref<void(int64_t, float)> body) {
        for (int64_t t = first; t < first + getTokens(); ++t)
          for (int64_t c = channel; c < channel + channels; ++c)
            body(t * dim + c, countedAs(rows[t * dim + c]));
      };
      float low = FLT_MAX, high = -FLT_MAX;
      forBox([&](int64_t, float x) {
        low = std::min(low, x), high = std::max(high, x);
      });
      float range = std::max(-low, high), origin = 0;
      if (getExtreme())
        range = -low > high ? low : high;
      // Of two zeros the least is +0, in whichever order they stand.
      low += 0.0f;
      bool fromMin = getZero() && getKind() == ZeroKind::Min;
      auto storeZero = [&](float zero) {
        float stored = storeParameter(getZero(), zero,
                                      planes[2] + box * bytesOf(getZero()));
        return getExact() ? zero : stored;
      };
      if (fromMin)
        low = origin = storeZero(low);
      // With halves first, for the range of two finite numbers may be none.
      if (getZero())
        range = std::min(std::max(high / 2 - low / 2, 0.0f) * 2, FLT_MAX);
      if (getKind() == ZeroKind::Float)
        range = std::max(range, std::fabs(low) * codes.leastRange());
      float scale = storeScale(getScale(), range, codes.ofRange,
                               planes[1] + box * bytesOf(getScale()));
      float factor = factorOf(getExact() ? range / codes.ofRange : scale);
      float zero = getZero() && !fromMin ? storeZero(low * factor) : 0;
      forBox([&](int64_t index, float x) {
        float y = std::clamp((x - origin) * factor - zero, codes.least,
                             codes.largest);
        y = roundTo(y, getRounding(), codes.shift);
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
  bool isInt8 = getBits() == 8 && !getZero() && !getChannels();
  if (isInt8) { // nearly all that a reference ever reads
    float scale = loadParameter(getScale(), planes[1], 0);
    for (auto [c, x] : llvm::enumerate(row))
      x = float(int8_t(planes[0][c])) * scale;
    return;
  }
  size_t channels = getChannels() ? getChannels() : row.size();
  unsigned bits = getBits();
  bool hasZero = bool(getZero()), between = getKind() == ZeroKind::Float;
  for (size_t first = 0; first < row.size(); first += channels) {
    int64_t box = first / channels;
    float scale = loadParameter(getScale(), planes[1], box), zero = 0;
    if (hasZero)
      zero = loadParameter(getZero(), planes[2], box);
    for (size_t c = first; c < first + channels; ++c) {
      float code = float(unpackCode(planes[0], c, bits, !hasZero));
      // -0 + 0 would be +0
      row[c] = !hasZero  ? code * scale
               : between ? (code + zero) * scale
                         : code * scale + zero;
    }
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
  auto offset = [&] {
    x = tile::OffsetOp::create(b, loc, x.getType(), x, planes[2]);
  };
  if (getKind() == ZeroKind::Float)
    offset();
  x = tile::ScaleOp::create(b, loc, x, planes[1], hasSignedScales());
  if (getZero() && getKind() == ZeroKind::Min)
    offset();
  return x;
}

bool IntCodecAttr::hasSignedScales() const { return getExtreme(); }

bool IntCodecAttr::rangeHasLeast() const { return getZero() || getExtreme(); }

Value IntCodecAttr::emitInRange(OpBuilder &b, Location loc, Value x) const {
  F32Builder f{b, loc, x.getType()};
  return rangeHasLeast() ? f.number(x) : emitAbs(f, x);
}

QuantizeBox IntCodecAttr::emitBox(OpBuilder &b, Location loc,
                                  QuantizeRange range) const {
  F32Builder f{b, loc, b.getF32Type()};
  QuantizeBox box;
  auto finite = [&](Value x) {
    return f.larger(f.smaller(x, FLT_MAX), -FLT_MAX);
  };
  Value x = f.smaller(range.largest, FLT_MAX), zero;
  if (getExtreme()) {
    x = finite(range.largest);
    Value least = finite(range.least);
    Value isLeast = f.less(x, arith::NegFOp::create(b, loc, least));
    x = f.select(isLeast, least, x);
  }
  auto storeZero = [&](Value x) -> Value {
    auto [stored, wide] = emitParameter(f, getZero(), x);
    zero = stored;
    return getExact() ? x : wide;
  };
  Value least;
  if (getZero()) {
    least = arith::AddFOp::create(b, loc, finite(range.least), f.constant(0));
    if (getKind() == ZeroKind::Min)
      least = box.origin = storeZero(least);
    auto half = [&](Value x) {
      return arith::MulFOp::create(b, loc, x, f.constant(0.5));
    };
    Value width =
        arith::SubFOp::create(b, loc, half(finite(range.largest)), half(least));
    width = f.larger(width, 0);
    x = f.smaller(arith::MulFOp::create(b, loc, width, f.constant(2)), FLT_MAX);
  }
  Codes codes(*this);
  if (getKind() == ZeroKind::Float) {
    Value floor = arith::MulFOp::create(b, loc, emitAbs(f, least),
                                        f.constant(codes.leastRange()));
    x = f.select(f.less(x, floor), floor, x);
  }
  EmittedScale scale = emitScale(f, getScale(), x, codes.ofRange, getExact());
  box.factor = scale.factor;
  if (getKind() == ZeroKind::Float)
    box.origin = storeZero(arith::MulFOp::create(b, loc, least, box.factor));
  box.stored.push_back(scale.stored);
  if (zero)
    box.stored.push_back(zero);
  return box;
}

/// `y`, within the codes, as i32 whose low bits are the code.
static Value emitRounded(F32Builder f, Value y, Rounding rounding,
                         float shift) {
  if (rounding == Rounding::HalfUp) {
    y = arith::AddFOp::create(f.b, f.loc, y, f.constant(shift + 0.5f));
    Value code = arith::FPToSIOp::create(f.b, f.loc, f.words(), y);
    return arith::SubIOp::create(f.b, f.loc, code, f.word(int32_t(shift)));
  }
  Value magic = f.constant(kRoundMagic);
  Value sum = arith::AddFOp::create(f.b, f.loc, y, magic);
  Value code = f.bitsOf(sum);
  if (rounding == Rounding::Even)
    return code;
  // A half that went to the even number towards 0 goes on, away from it.
  Value rest = arith::SubFOp::create(
      f.b, f.loc, y, arith::SubFOp::create(f.b, f.loc, sum, magic));
  auto isHalf = [&](float half, Value isOutward) -> Value {
    Value is = arith::CmpFOp::create(f.b, f.loc, arith::CmpFPredicate::OEQ,
                                     rest, f.constant(half));
    is = arith::AndIOp::create(f.b, f.loc, is, isOutward);
    return f.select(is, f.word(half > 0 ? 1 : -1), f.word(0));
  };
  Value up = isHalf(0.5f, f.less(f.constant(0), y));
  Value down = isHalf(-0.5f, f.less(y, f.constant(0)));
  code = arith::AddIOp::create(f.b, f.loc, code, up);
  return arith::AddIOp::create(f.b, f.loc, code, down);
}

Value IntCodecAttr::emitQuantize(OpBuilder &b, Location loc, Value x,
                                 const QuantizeBox &box) const {
  auto type = cast<VectorType>(x.getType());
  F32Builder f{b, loc, type};
  x = f.larger(f.smaller(f.number(x), FLT_MAX), -FLT_MAX);
  Codes codes(*this);
  auto splat = [&](Value scalar) {
    return vector::BroadcastOp::create(b, loc, type, scalar);
  };
  bool isBetweenCodes = getKind() == ZeroKind::Float;
  if (box.origin && !isBetweenCodes)
    x = arith::SubFOp::create(b, loc, x, splat(box.origin));
  x = arith::MulFOp::create(b, loc, x, splat(box.factor));
  if (isBetweenCodes)
    x = arith::SubFOp::create(b, loc, x, splat(box.origin));
  x = f.larger(f.smaller(x, codes.largest), codes.least);
  return arith::TruncIOp::create(
      b, loc, VectorType::get(type.getShape(), b.getI8Type()),
      emitRounded(f, x, getRounding(), codes.shift));
}
