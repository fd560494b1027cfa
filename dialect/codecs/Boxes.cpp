//===- Boxes.cpp - scales and zeros of boxes ------------------------------===//
#include "dialect/codecs/Boxes.h"
#include "dialect/codecs/HostFloat.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "llvm/ADT/APFloat.h"

#include <cfloat>
#include <cmath>
#include <cstring>

using namespace mlir;
using namespace kvc;

static constexpr float kLargestF16 = 65504;

float kvc::largestOf(Type type) {
  return llvm::APFloat::getLargest(cast<FloatType>(type).getFloatSemantics())
      .convertToFloat();
}

//===----------------------------------------------------------------------===//
// On the host
//===----------------------------------------------------------------------===//

// Without the codecs of their types, which a context has to look up.

float kvc::storeParameter(Type type, float x, uint8_t *to) {
  if (type.isF32()) {
    std::memcpy(to, &x, sizeof(x));
  } else if (type.isF16()) {
    uint16_t half = toF16(std::clamp(x, -kLargestF16, kLargestF16));
    std::memcpy(to, &half, sizeof(half));
  } else {
    *to = toE4M3(x);
  }
  return loadParameter(type, to, 0);
}

float kvc::loadParameter(Type type, const uint8_t *from, int64_t index) {
  if (type.isF32()) {
    float x;
    std::memcpy(&x, from + index * sizeof(x), sizeof(x));
    return x;
  }
  if (type.isF16()) {
    uint16_t half;
    std::memcpy(&half, from + index * sizeof(half), sizeof(half));
    return fromF16(half);
  }
  return isa<Float8E8M0FNUType>(type) ? fromE8M0(from[index])
                                      : fromE4M3(from[index]);
}

float kvc::storeScale(Type type, float x, float code, uint8_t *to) {
  if (isa<Float8E8M0FNUType>(type)) {
    int exponent = int(std::bit_cast<uint32_t>(x) >> 23);
    *to = uint8_t(std::max(exponent - std::ilogb(code), 0));
    return *to ? fromE8M0(*to) : 0;
  }
  float scale = storeParameter(type, x / code, to);
  return std::fabs(scale) < FLT_MIN ? storeParameter(type, 0, to) : scale;
}

float kvc::factorOf(float scale) {
  return std::fabs(scale) < FLT_MIN ? 0 : 1 / scale;
}

float kvc::countedAs(float x) {
  return std::isnan(x) ? 0 : std::clamp(x, -FLT_MAX, FLT_MAX);
}

//===----------------------------------------------------------------------===//
// Built
//===----------------------------------------------------------------------===//

static Value splat(OpBuilder &b, Location loc, Type type, Attribute attr) {
  if (auto vector = dyn_cast<VectorType>(type))
    attr = DenseElementsAttr::get(vector, attr);
  return arith::ConstantOp::create(b, loc, cast<TypedAttr>(attr));
}

Value F32Builder::constant(float value) {
  return splat(b, loc, type, b.getF32FloatAttr(value));
}

Type F32Builder::words() {
  if (auto vector = dyn_cast<VectorType>(type))
    return VectorType::get(vector.getShape(), b.getI32Type());
  return b.getI32Type();
}

Value F32Builder::word(int32_t value) {
  return splat(b, loc, words(), b.getI32IntegerAttr(value));
}

Value F32Builder::bitsOf(Value x) {
  return arith::BitcastOp::create(b, loc, words(), x);
}

Value F32Builder::fromBits(Value words) {
  return arith::BitcastOp::create(b, loc, type, words);
}

Value F32Builder::less(Value x, Value y) {
  return arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OLT, x, y);
}

Value F32Builder::number(Value x) {
  Value isNumber =
      arith::CmpFOp::create(b, loc, arith::CmpFPredicate::ORD, x, x);
  return select(isNumber, x, constant(0));
}

Value F32Builder::select(Value condition, Value yes, Value no) {
  return arith::SelectOp::create(b, loc, condition, yes, no);
}

Value F32Builder::smaller(Value x, float bound) {
  Value limit = constant(bound);
  return select(less(x, limit), x, limit);
}

Value F32Builder::larger(Value x, float bound) {
  Value limit = constant(bound);
  return select(less(limit, x), x, limit);
}

Value kvc::emitAbs(F32Builder f, Value x) {
  Value bits =
      arith::AndIOp::create(f.b, f.loc, f.bitsOf(x), f.word(0x7fffffff));
  return f.fromBits(bits);
}

EmittedMinifloat kvc::emitMinifloat(F32Builder f, Value x, FloatType type) {
  const llvm::fltSemantics &semantics = type.getFloatSemantics();
  int mantissa = int(llvm::APFloat::semanticsPrecision(semantics)) - 1;
  int least = llvm::APFloat::semanticsMinExponent(semantics);
  int shift = 23 - mantissa;
  auto right = [&](Value y, int32_t by) -> Value {
    return arith::ShRUIOp::create(f.b, f.loc, y, f.word(by));
  };
  auto sum = [&](Value y, int32_t added) -> Value {
    return arith::AddIOp::create(f.b, f.loc, y, f.word(added));
  };
  Value size = f.smaller(emitAbs(f, x), largestOf(type)), bits = f.bitsOf(size);
  Value odd = arith::AndIOp::create(f.b, f.loc, right(bits, shift), f.word(1));
  Value normal =
      sum(arith::AddIOp::create(f.b, f.loc, bits, odd), (1 << (shift - 1)) - 1);
  Value kept = arith::AndIOp::create(f.b, f.loc, normal, f.word(-1 << shift));
  int32_t rebias = (126 + least) * (1 << 23);
  normal = right(sum(normal, -rebias), shift);
  // An ulp of `unit` is the smallest of the type, so the sum rounds right.
  Value unit = f.constant(std::ldexp(1.0f, least - mantissa + 23));
  Value rounded = arith::AddFOp::create(f.b, f.loc, size, unit);
  Value subnormal =
      arith::SubIOp::create(f.b, f.loc, f.bitsOf(rounded), f.bitsOf(unit));
  Value isSmall = f.less(size, f.constant(std::ldexp(1.0f, least)));
  Value sign = right(f.bitsOf(x), 31);
  sign = arith::ShLIOp::create(f.b, f.loc, sign,
                               f.word(int32_t(type.getWidth()) - 1));
  Value code = f.select(isSmall, subnormal, normal);
  code = arith::OrIOp::create(f.b, f.loc, code, sign);
  Value isNaN =
      arith::CmpFOp::create(f.b, f.loc, arith::CmpFPredicate::UNO, x, x);
  bool hasNaN = type.getWidth() == 8;
  code = f.select(isNaN, f.word(hasNaN ? 0x7f : 0), code);
  Value wide =
      f.select(isSmall, arith::SubFOp::create(f.b, f.loc, rounded, unit),
               f.fromBits(kept));
  Value negative =
      arith::AndIOp::create(f.b, f.loc, f.bitsOf(x), f.word(INT32_MIN));
  wide = f.fromBits(arith::OrIOp::create(f.b, f.loc, f.bitsOf(wide), negative));
  return {code, wide};
}

EmittedParameter kvc::emitParameter(F32Builder f, Type type, Value x) {
  if (type.isF32())
    return {x, x};
  if (type.isF16()) {
    x = f.larger(f.smaller(x, kLargestF16), -kLargestF16);
    Value half = arith::TruncFOp::create(f.b, f.loc, type, x);
    return {half, arith::ExtFOp::create(f.b, f.loc, f.type, half)};
  }
  auto [code, wide] = emitMinifloat(f, x, cast<FloatType>(type));
  return {arith::TruncIOp::create(f.b, f.loc, f.b.getI8Type(), code), wide};
}

/// Of f8E8M0FNU, the exponent of a f32.
static EmittedScale emitPowerOfTwo(F32Builder f, Value x, float code) {
  Value exponent = arith::ShRUIOp::create(f.b, f.loc, f.bitsOf(x), f.word(23));
  exponent =
      arith::SubIOp::create(f.b, f.loc, exponent, f.word(std::ilogb(code)));
  exponent = arith::MaxSIOp::create(f.b, f.loc, exponent, f.word(0));
  Value inverse = arith::SubIOp::create(f.b, f.loc, f.word(2 * 127), exponent);
  inverse = arith::ShLIOp::create(f.b, f.loc, inverse, f.word(23));
  Value isTiny = arith::CmpIOp::create(f.b, f.loc, arith::CmpIPredicate::eq,
                                       exponent, f.word(0));
  return {arith::TruncIOp::create(f.b, f.loc, f.b.getI8Type(), exponent),
          f.select(isTiny, f.constant(0), f.fromBits(inverse))};
}

EmittedScale kvc::emitScale(F32Builder f, Type type, Value x, float code,
                            bool exact) {
  if (isa<Float8E8M0FNUType>(type))
    return emitPowerOfTwo(f, x, code);
  Value scale = arith::DivFOp::create(f.b, f.loc, x, f.constant(code));
  auto [stored, wide] = emitParameter(f, type, scale);
  auto isTiny = [&](Value x) {
    return f.less(code < 0 ? emitAbs(f, x) : x, f.constant(FLT_MIN));
  };
  Value none =
      arith::ConstantOp::create(f.b, f.loc, f.b.getZeroAttr(stored.getType()));
  stored = arith::SelectOp::create(f.b, f.loc, isTiny(wide), none, stored);
  Value by = exact ? scale : wide;
  Value inverse = arith::DivFOp::create(f.b, f.loc, f.constant(1), by);
  return {stored, f.select(isTiny(by), f.constant(0), inverse)};
}
