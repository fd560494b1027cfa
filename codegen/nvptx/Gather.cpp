//===- Gather.cpp - rows decoded from the cache ---------------------------===//
#include "codegen/nvptx/RowDecoder.h"
#include "codegen/nvptx/Rows.h"

#include "dialect/tile/Graph.h"

using namespace mlir;
using namespace kvc;
using namespace kvc::nvptx;

static_assert(kChunk == kUnit, "a lane stores what it decodes at a time");

/// A lane decodes and stores its chunks of the row.
static void emitRow(Kernel &k, const SlotRow &slot, tile::DecodedRow decoded,
                    Value to) {
  Kit &kit = k.kit;
  kit.loop(k.lane(), kit.i32(decoded.dim() / kChunk), kit.i32(kWarpLanes),
           [&](Value chunk) {
             RowDecoder decoder(
                 k, [&](unsigned plane) { return slot.address(plane); });
             Value first = kit.mul(chunk, kChunk);
             SmallVector<Value> x;
             for (int64_t i = 0; i < kChunk; ++i)
               x.push_back(decoder.element(decoded.x(), {first, i}));
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
    for (tile::DecodedRow decoded : *rows) {
      const artifact::RowWords &words =
          decoded.store.getName() == kStreamK ? kWordsOfK : kWordsOfV;
      Kit &kit = kernel.kit;
      Value wanted = kit.cmp(arith::CmpIPredicate::ne,
                             kernel.paramI64(words.base), kit.i64(0));
      kit.when(wanted,
               [&] { emitRow(kernel, slot, decoded, slot.modelRow(words)); });
    }
  });
  return success();
}
