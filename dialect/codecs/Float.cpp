//===- Float.cpp - #kvc.float: f32, f16, bf16 -----------------------------===//
#include "dialect/KvcDialect.h"
#include "dialect/codecs/HostFloat.h"
#include "dialect/tile/TileDialect.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "llvm/Support/Endian.h"

using namespace mlir;
using namespace kvc;

LogicalResult
FloatCodecAttr::verify(function_ref<InFlightDiagnostic()> emitError,
                       Type type) {
  if (!isDtype(type))
    return emitError() << "expected f32, f16 or bf16, found " << type;
  return success();
}

SmallVector<CodecPlane, 3> FloatCodecAttr::getPlanes(int64_t dim) const {
  return {{kPlaneCodes, getType(), dim}};
}

/// Stores `convert` of each element, in little endian.
template <typename Code, typename Convert>
static void quantize(ArrayRef<float> row, uint8_t *codes, Convert convert) {
  for (auto [i, x] : llvm::enumerate(row))
    llvm::support::endian::write<Code, llvm::endianness::little>(
        codes + i * sizeof(Code), convert(x));
}

template <typename Code, typename Convert>
static void dequantize(const uint8_t *codes, MutableArrayRef<float> row,
                       Convert convert) {
  for (auto [i, x] : llvm::enumerate(row))
    x = convert(llvm::support::endian::read<Code, llvm::endianness::little>(
        codes + i * sizeof(Code)));
}

void FloatCodecAttr::quantizeRows(ArrayRef<float> rows, int64_t,
                                  ArrayRef<uint8_t *> planes) const {
  if (getType().isBF16())
    return quantize<uint16_t>(rows, planes[0], toBF16);
  if (getType().isF16())
    return quantize<uint16_t>(rows, planes[0], toF16);
  quantize<uint32_t>(rows, planes[0], std::bit_cast<uint32_t, float>);
}

void FloatCodecAttr::dequantizeRow(ArrayRef<const uint8_t *> planes,
                                   MutableArrayRef<float> row) const {
  if (getType().isBF16())
    return dequantize<uint16_t>(planes[0], row, fromBF16);
  if (getType().isF16())
    return dequantize<uint16_t>(planes[0], row, fromF16);
  dequantize<uint32_t>(planes[0], row, std::bit_cast<float, uint32_t>);
}

Value FloatCodecAttr::buildDequantize(OpBuilder &b, Location loc,
                                      ValueRange planes) const {
  return tile::ConvertOp::create(b, loc, planes[0]);
}

bool FloatCodecAttr::rangeHasLeast() const { return false; }

Value FloatCodecAttr::emitInRange(OpBuilder &, Location, Value) const {
  llvm_unreachable("a float codec has no boxes");
}
QuantizeBox FloatCodecAttr::emitBox(OpBuilder &, Location,
                                    QuantizeRange) const {
  llvm_unreachable("a float codec has no boxes");
}

Value FloatCodecAttr::emitQuantize(OpBuilder &b, Location loc, Value x,
                                   const QuantizeBox &) const {
  return emitRound(b, loc, x, getType());
}

Value kvc::emitRound(OpBuilder &b, Location loc, Value x, Type type) {
  if (type.isF32())
    return x;
  auto shape = cast<VectorType>(x.getType()).getShape();
  auto narrow = VectorType::get(shape, type);
  if (!type.isBF16())
    return arith::TruncFOp::create(b, loc, narrow, x);
  auto words = VectorType::get(shape, b.getI32Type());
  auto constant = [&](int32_t value) -> Value {
    return arith::ConstantOp::create(
        b, loc, DenseElementsAttr::get(words, b.getI32IntegerAttr(value)));
  };
  Value bits = arith::BitcastOp::create(b, loc, words, x);
  Value upper = arith::ShRUIOp::create(b, loc, bits, constant(16));
  Value odd = arith::AndIOp::create(b, loc, upper, constant(1));
  Value bias = arith::AddIOp::create(b, loc, odd, constant(0x7fff));
  Value rounded = arith::ShRUIOp::create(
      b, loc, arith::AddIOp::create(b, loc, bits, bias), constant(16));
  Value quiet = arith::OrIOp::create(b, loc, upper, constant(0x40));
  Value isNaN = arith::CmpFOp::create(b, loc, arith::CmpFPredicate::UNO, x, x);
  Value half = arith::TruncIOp::create(
      b, loc, VectorType::get(shape, b.getI16Type()),
      arith::SelectOp::create(b, loc, isNaN, quiet, rounded));
  return arith::BitcastOp::create(b, loc, narrow, half);
}
