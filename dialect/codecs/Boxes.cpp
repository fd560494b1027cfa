//===- Boxes.cpp - scales and zeros of boxes ------------------------------===//
#include "dialect/codecs/Boxes.h"

#include "mlir/Dialect/Arith/IR/Arith.h"

#include <cfloat>
#include <cmath>

using namespace mlir;
using namespace kvc;

static constexpr float kLargestF16 = 65504;

//===----------------------------------------------------------------------===//
// On the host
//===----------------------------------------------------------------------===//

float kvc::storeParameter(Type type, float x, uint8_t *to) {
  if (type.isF16())
    x = std::clamp(x, -kLargestF16, kLargestF16);
  auto stored = FloatCodecAttr::get(type.getContext(), type);
  stored.quantizeRows(x, 1, to);
  stored.dequantizeRow(static_cast<const uint8_t *>(to), x);
  return x;
}

float kvc::loadParameter(Type type, const uint8_t *from, int64_t index) {
  float x;
  FloatCodecAttr::get(type.getContext(), type)
      .dequantizeRow(from + index * (type.isF16() ? 2 : 4), x);
  return x;
}

float kvc::storeScale(Type type, float range, float largestCode, uint8_t *to) {
  float scale = storeParameter(type, range / largestCode, to);
  return scale < FLT_MIN ? storeParameter(type, 0, to) : scale;
}

float kvc::countedAs(float x) {
  return std::isnan(x) ? 0 : std::clamp(x, -FLT_MAX, FLT_MAX);
}

//===----------------------------------------------------------------------===//
// Built
//===----------------------------------------------------------------------===//

Value F32Builder::constant(float value) {
  Attribute attr = b.getF32FloatAttr(value);
  if (auto vector = dyn_cast<VectorType>(type))
    attr = DenseElementsAttr::get(vector, attr);
  return arith::ConstantOp::create(b, loc, cast<TypedAttr>(attr));
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

Value kvc::emitAbs(OpBuilder &b, Location loc, Value x) {
  auto words =
      VectorType::get(cast<VectorType>(x.getType()).getShape(), b.getI32Type());
  Value bits = arith::BitcastOp::create(b, loc, words, x);
  Value mask = arith::ConstantOp::create(
      b, loc, DenseElementsAttr::get(words, b.getI32IntegerAttr(0x7fffffff)));
  return arith::BitcastOp::create(b, loc, x.getType(),
                                  arith::AndIOp::create(b, loc, bits, mask));
}

EmittedParameter kvc::emitParameter(F32Builder f, Type type, Value x) {
  if (type.isF32())
    return {x, x};
  x = f.larger(f.smaller(x, kLargestF16), -kLargestF16);
  Value half = arith::TruncFOp::create(f.b, f.loc, type, x);
  return {half, arith::ExtFOp::create(f.b, f.loc, f.type, half)};
}

EmittedScale kvc::emitScale(F32Builder f, Type type, Value range,
                            float largestCode) {
  Value scale =
      arith::DivFOp::create(f.b, f.loc, range, f.constant(largestCode));
  auto [stored, wide] = emitParameter(f, type, scale);
  Value tiny = f.less(wide, f.constant(FLT_MIN));
  Value inverse = arith::DivFOp::create(f.b, f.loc, f.constant(1), wide);
  Value none =
      arith::ConstantOp::create(f.b, f.loc, f.b.getFloatAttr(type, 0.0));
  return {arith::SelectOp::create(f.b, f.loc, tiny, none, stored),
          f.select(tiny, f.constant(0), inverse)};
}
