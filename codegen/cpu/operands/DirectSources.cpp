//===- DirectSources.cpp - operands of few query rows ---------------------===//
#include "codegen/cpu/operands/DirectSources.h"

using namespace mlir;
using namespace kvc;
using namespace kvc::cpu;

void DirectKeys::loadQuery(double scale) {
  this->scale = scale;
  // Rows and channels that only fill up count as zeros.
  kit.loop(kit.i64(0), kit.mul(blocks.blocks, queryBytes()), 32,
           [&](Value byte) {
             kit.store(kit.constant(0, kit.vec(8)),
                       kit.at(k.scratchAt(query), byte));
           });
  kit.loop(kit.i64(0), a.rows, 1, [&](Value row) { loadQueryRow(row); });
}

SmallVector<Value> DirectValues::beginSums(ArrayRef<DirectStrip::Slot> slots) {
  return llvm::map_to_vector(slots, [&](const DirectStrip::Slot &slot) {
    return kit.load(kit.vec(slot.lanes), slot.at);
  });
}

void DirectValues::endSums(Value, ArrayRef<DirectStrip::Slot> slots,
                           ArrayRef<Value> sums) {
  for (auto [slot, sum] : llvm::zip_equal(slots, sums))
    kit.store(sum, slot.at);
}
