//===- Gather.cpp - rows decoded from the cache ---------------------------===//
#include "codegen/nvptx/RowDecoder.h"
#include "codegen/nvptx/Rows.h"

#include "dialect/tile/Graph.h"

using namespace mlir;
using namespace kvc;
using namespace kvc::nvptx;

/// A lane decodes and stores its units of the row.
static void emitRow(Kernel &k, const SlotRow &slot,
                    tile::StoreDecodedOp decoded) {
  Kit &kit = k.kit;
  Value to = slot.modelRow(decoded.getName());
  kit.loop(k.lane(), kit.i32(decoded.getDim() / kUnit), kit.i32(kWarpLanes),
           [&](Value unit) {
             RowDecoder decoder(
                 k, [&](unsigned plane) { return slot.address(plane); });
             Value first = kit.mul(unit, kUnit);
             SmallVector<Value> x;
             for (int64_t i = 0; i < kUnit; ++i)
               x.push_back(decoder.element(decoded.getX(), {first, i}));
             kit.storeFromF32(kit.concat(x), k.dtype,
                              kit.ptr(to, kit.mul(first, k.dtypeBytes())));
           });
}

LogicalResult kvc::nvptx::emitGather(Kernel &kernel, LaunchInfo &launch) {
  launch.threads = kRowThreads;
  auto rows = tile::decodedRows(kernel.op);
  if (failed(rows))
    return failure();
  atSlot(kernel, [&](const SlotRow &slot) {
    for (tile::StoreDecodedOp decoded : *rows) {
      Kit &kit = kernel.kit;
      Value to = kernel.paramI64(artifact::wordsOfRows(decoded.getName()).base);
      kit.when(kit.cmp(arith::CmpIPredicate::ne, to, kit.i64(0)),
               [&] { emitRow(kernel, slot, decoded); });
    }
  });
  return success();
}
