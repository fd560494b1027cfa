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
    for (tile::StoreDecodedOp decoded : *rows) {
      StringRef name = decoded.getName();
      kit.when(kit.isNotNull(k.argPtr(artifact::wordsOfRows(name).base)), [&] {
        RowDecoder decoder(k, [&](unsigned plane) -> PlaneRow {
          return {slot.address(plane), k.cache.planes()[plane].type};
        });
        Value to = slot.modelRow(name);
        kit.loop(0, decoded.getDim(), 8, [&](Value channel) {
          kit.storeFromF32(
              decoder.decode(decoded.getX(),
                             RowDecoder::Columns::from(channel, 8)),
              k.dtype, kit.at(to, kit.mul(channel, k.dtypeBytes())));
        });
      });
    }
  });
  return success();
}
