//===- Rows.cpp - rows of a call and where each stands in the cache -------===//
#include "codegen/nvptx/Rows.h"

using namespace mlir;
using namespace kvc;
using namespace kvc::nvptx;

Value SlotRow::address(unsigned index) const {
  Kit &kit = k.kit;
  Kernel::Plane plane = k.plane(index);
  PlaneGeometry geometry = k.cache.planes()[index];
  Value at = kit.ptr(plane.base, kit.mul(outer, plane.pageStride));
  at = kit.ptr(at, kit.mul(kit.extI64(head), plane.headStride));
  Value box = geometry.tokens == 1 ? token
              : geometry.tokens    ? kit.div(token, geometry.tokens)
                                   : kit.i64(0);
  return kit.ptr(at, kit.mul(box, geometry.rowStride));
}

Value SlotRow::modelRow(StringRef name) const {
  return k.rowHead(artifact::wordsOfRows(name), k.kit.extI64(row),
                   k.kit.add(head, int64_t(k.store.getHeadBegin())));
}

void kvc::nvptx::atSlot(Kernel &k,
                        llvm::function_ref<void(const SlotRow &)> body) {
  Kit &kit = k.kit;
  Value warp = k.gridWarp(kRowThreads / kWarpLanes);
  Value row = kit.div(warp, k.kvHeads());
  Value head = kit.sub(warp, kit.mul(row, k.kvHeads()));
  Value rows = k.paramI32(Word::Rows);
  kit.when(kit.cmp(arith::CmpIPredicate::ult, row, rows), [&] {
    Value slots = k.paramPtr(Word::Slot);
    Value slot = kit.loadReadOnly(
        kit.b.getI64Type(), kit.ptr(slots, kit.mul(kit.extI64(row), 8)), 8);
    kit.when(kit.cmp(arith::CmpIPredicate::sge, slot, kit.i64(0)), [&] {
      int64_t page = k.cache.layout().getPageTokens();
      Value slotTokens = page ? kit.i64(page) : k.paramI64(Word::SlotTokens);
      Value outer = page ? kit.div(slot, page) : kit.div(slot, slotTokens);
      Value token = kit.sub(slot, kit.mul(outer, slotTokens));
      body({k, row, head, outer, token});
    });
  });
}
