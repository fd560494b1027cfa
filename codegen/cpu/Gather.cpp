//===- Gather.cpp - rows decoded from the cache ---------------------------===//
#include "codegen/cpu/RowDecoder.h"
#include "codegen/cpu/Rows.h"

using namespace mlir;
using namespace kvc;
using namespace kvc::cpu;

LogicalResult kvc::cpu::emitGather(Kernel &k) {
  auto rows = tile::decodedRows(k.op);
  if (failed(rows))
    return failure();
  Kit &kit = k.kit;
  forSlots(k, [&](const SlotRow &slot) {
    for (tile::DecodedRow decoded : *rows) {
      const artifact::RowWords &words =
          decoded.store.getName() == kStreamK ? kWordsOfK : kWordsOfV;
      Value wanted = kit.isNotNull(k.argPtr(words.base));
      kit.when(wanted, [&] {
        RowDecoder decoder(k,
                           [&](unsigned plane) { return slot.address(plane); });
        Value to = slot.modelRow(words);
        kit.loop(0, decoded.dim(), 8, [&](Value channel) {
          kit.storeFromF32(decoder.decode(decoded.x(), {channel}), k.dtype,
                           kit.at(to, kit.mul(channel, k.dtypeBytes())));
        });
      });
    }
  });
  return success();
}
