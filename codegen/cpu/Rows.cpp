//===- Rows.cpp - rows of a call and where each stands in the cache -------===//
#include "codegen/cpu/Rows.h"

#include "lib/base/Artifact/KernelAbi.h"

#include <cstddef>

using namespace mlir;
using namespace kvc;
using namespace kvc::cpu;

Value SlotRow::address(unsigned index) const {
  Kit &kit = k.kit;
  PlaneGeometry plane = k.cache.planes()[index];
  Value at =
      kit.at(k.planeBase(index), kit.mul(outer, k.planePageStride(index)));
  at = kit.at(at, kit.mul(head, k.planeHeadStride(index)));
  Value box = plane.tokens == 1 ? token
              : plane.tokens    ? kit.div(token, plane.tokens)
                                : kit.i64(0);
  return kit.at(at, kit.mul(box, plane.rowStride));
}

Value SlotRow::modelRow(StringRef name) const {
  return k.rowHead(artifact::wordsOfRows(name), row,
                   k.kit.add(head, int64_t(k.store.getHeadBegin())));
}

void kvc::cpu::forSlots(Kernel &k,
                        llvm::function_ref<void(const SlotRow &)> body) {
  Kit &kit = k.kit;
  Value begin = k.workTileField(offsetof(KvcWorkTile, begin));
  Value end = k.workTileField(offsetof(KvcWorkTile, end));
  Value slots = k.argPtr(Word::Slot);
  int64_t page = k.cache.layout().getPageTokens();
  Value slotTokens = page ? kit.i64(page) : k.argI64(Word::SlotTokens);
  kit.loop(begin, end, 1, [&](Value row) {
    Value slot = kit.loadI64(kit.at(slots, kit.mul(row, 8)), 0);
    Value wanted = kit.cmp(arith::CmpIPredicate::sge, slot, kit.i64(0));
    kit.when(wanted, [&] {
      Value outer =
          page ? kit.div(slot, page)
               : arith::DivUIOp::create(kit.b, kit.loc, slot, slotTokens)
                     .getResult();
      Value token = kit.sub(slot, kit.mul(outer, slotTokens));
      kit.loop(0, k.cache.getHeads(), 1,
               [&](Value head) { body({k, row, head, outer, token}); });
    });
  });
}
