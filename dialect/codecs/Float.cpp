//===- Float.cpp - #kvc.float: f32, f16, bf16 -----------------------------===//
#include "dialect/KvcDialect.h"
#include "dialect/codecs/HostFloat.h"

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

Type FloatCodecAttr::getCodeType() const { return getType(); }
Type FloatCodecAttr::getScaleType() const { return {}; }

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

void FloatCodecAttr::quantizeRow(ArrayRef<float> row, uint8_t *codes,
                                 uint8_t *) const {
  if (getType().isBF16())
    return quantize<uint16_t>(row, codes, toBF16);
  if (getType().isF16())
    return quantize<uint16_t>(row, codes, toF16);
  quantize<uint32_t>(row, codes, std::bit_cast<uint32_t, float>);
}

void FloatCodecAttr::dequantizeRow(const uint8_t *codes, const uint8_t *,
                                   MutableArrayRef<float> row) const {
  if (getType().isBF16())
    return dequantize<uint16_t>(codes, row, fromBF16);
  if (getType().isF16())
    return dequantize<uint16_t>(codes, row, fromF16);
  dequantize<uint32_t>(codes, row, std::bit_cast<float, uint32_t>);
}

int64_t FloatCodecAttr::getPreferredChannels(int64_t lanes) const {
  return 2 * lanes;
}

SmallVector<int64_t> FloatCodecAttr::getChannelOrder(int64_t channels,
                                                     int64_t lanes) const {
  SmallVector<int64_t> order(channels);
  for (int64_t i = 0; i < channels; ++i)
    order[i] = i;
  if (getType().isBF16() && channels == 2 * lanes)
    for (int64_t i = 0; i < lanes; ++i)
      order[i] = 2 * i, order[lanes + i] = 2 * i + 1;
  return order;
}

SmallVector<Value> FloatCodecAttr::emitDequantize(OpBuilder &b, Location loc,
                                                  LoadFn load, int64_t channels,
                                                  int64_t lanes) const {
  auto f32s = VectorType::get(lanes, b.getF32Type());
  if (getType().isBF16() && channels == 2 * lanes) {
    // Two bf16 in a 32-bit word: the upper is an f32 once the lower is masked
    // off, the lower is one after a shift. Cheaper than widening in order.
    auto words = VectorType::get(lanes, b.getI32Type());
    auto constant = [&](uint32_t bits) {
      return arith::ConstantOp::create(
          b, loc,
          DenseElementsAttr::get(words, b.getI32IntegerAttr(int32_t(bits))));
    };
    Value word = load(0, words);
    Value even = arith::ShLIOp::create(b, loc, word, constant(16));
    Value odd = arith::AndIOp::create(b, loc, word, constant(0xffff0000));
    return {vector::BitCastOp::create(b, loc, f32s, even),
            vector::BitCastOp::create(b, loc, f32s, odd)};
  }
  int64_t size = getType().getIntOrFloatBitWidth() / 8;
  SmallVector<Value> out;
  for (int64_t first = 0; first < channels; first += lanes) {
    Value codes = load(first * size, VectorType::get(lanes, getType()));
    out.push_back(getType().isF32()
                      ? codes
                      : arith::ExtFOp::create(b, loc, f32s, codes).getResult());
  }
  return out;
}

QuantizeScale FloatCodecAttr::emitScale(OpBuilder &, Location, Value) const {
  llvm_unreachable("a float codec has no scale");
}

Value FloatCodecAttr::emitQuantize(OpBuilder &b, Location loc, Value x,
                                   Value) const {
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
