//===- Convert.cpp - codes as vectors of f32 ------------------------------===//
#include "codegen/Convert.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace kvc;

SmallVector<int64_t> CodeConversion::channelOrder(int64_t channels) const {
  auto order = llvm::to_vector(llvm::seq<int64_t>(0, channels));
  if (splitsPairs(channels))
    for (int64_t i = 0; i < lanes; ++i)
      order[i] = 2 * i, order[lanes + i] = 2 * i + 1;
  return order;
}

SmallVector<Value> CodeConversion::emit(OpBuilder &b, Location loc, LoadFn load,
                                        int64_t channels) const {
  auto f32s = VectorType::get(lanes, b.getF32Type());
  if (splitsPairs(channels)) {
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
  int64_t size = code.getIntOrFloatBitWidth() / 8;
  SmallVector<Value> out;
  for (int64_t first = 0; first < channels; first += lanes) {
    Value codes = load(first * size, VectorType::get(lanes, code));
    if (code.isF32()) {
      out.push_back(codes);
    } else if (isa<FloatType>(code)) {
      out.push_back(arith::ExtFOp::create(b, loc, f32s, codes));
    } else {
      Value wide = arith::ExtSIOp::create(
          b, loc, VectorType::get(lanes, b.getI32Type()), codes);
      out.push_back(arith::SIToFPOp::create(b, loc, f32s, wide));
    }
  }
  return out;
}

/// The low `bits` bytes of an i64.
static Value packCodes(OpBuilder &b, Location loc, Value codes, int64_t bits) {
  Type i64 = b.getI64Type();
  auto constant = [&](uint64_t value) {
    return arith::ConstantOp::create(b, loc,
                                     b.getI64IntegerAttr(int64_t(value)));
  };
  Value x = vector::BitCastOp::create(b, loc, VectorType::get(1, i64), codes);
  x = vector::ExtractOp::create(b, loc, x, 0);
  // `count` codes stand at the low end of every field of 8 * `count` bits:
  // those of each odd field move down to those of the even one before it.
  auto fields = [](int64_t width, int64_t every) {
    uint64_t mask = 0;
    for (int64_t at = 0; at < 64; at += every)
      mask |= ((uint64_t(1) << width) - 1) << at;
    return mask;
  };
  for (int64_t count = 1; count < 8; count *= 2) {
    int64_t width = bits * count, field = 8 * count;
    Value even =
        arith::AndIOp::create(b, loc, x, constant(fields(width, 2 * field)));
    Value odd = arith::ShRUIOp::create(b, loc, x, constant(field - width));
    odd = arith::AndIOp::create(b, loc, odd,
                                constant(fields(width, 2 * field) << width));
    x = arith::OrIOp::create(b, loc, even, odd);
  }
  return x;
}

void kvc::storePacked(OpBuilder &b, Location loc, Value codes, int64_t bits,
                      llvm::function_ref<void(Value, int64_t)> store) {
  Value packed = packCodes(b, loc, codes, bits);
  int64_t bytes = pieceBytes(bits);
  for (int64_t byte = 0; byte < bits; byte += bytes) {
    Value shift =
        arith::ConstantOp::create(b, loc, b.getI64IntegerAttr(byte * 8));
    Value piece = arith::ShRUIOp::create(b, loc, packed, shift);
    Type type = b.getIntegerType(unsigned(bytes * 8));
    if (bytes < 8)
      piece = arith::TruncIOp::create(b, loc, type, piece);
    store(piece, byte);
  }
}
