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
