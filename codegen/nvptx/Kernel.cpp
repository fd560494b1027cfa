//===- Kernel.cpp - what every GPU kernel starts from ---------------------===//
#include "codegen/nvptx/Kernel.h"

using namespace mlir;
using namespace kvc;
using namespace kvc::nvptx;

//===----------------------------------------------------------------------===//
// Parameters
//===----------------------------------------------------------------------===//

Value Kernel::paramI32(Word what, StringRef of) {
  return kit.loadReadOnly(kit.i32(), paramAt(what, of), 4);
}
Value Kernel::paramI64(Word what, StringRef of) {
  return kit.loadReadOnly(kit.b.getI64Type(), paramAt(what, of), 8);
}
Value Kernel::paramPtr(Word what, StringRef of) {
  return kit.loadReadOnly(kit.global(), paramAt(what, of), 8);
}
Value Kernel::paramAt(Word what, StringRef of) {
  return kit.ptr(params, block.offsetOf(what, of));
}

Value Kernel::rowHead(const artifact::RowWords &words, Value row, Value head) {
  Value at =
      kit.ptr(paramPtr(words.base), kit.mul(row, paramI64(words.rowStride)));
  // One multiplication of 32 bits to 64: Arguments.cpp holds strides to that.
  Value stride = kit.extI64(paramI32(words.headStride));
  return kit.ptr(at, kit.mul(kit.extI64(head), stride));
}

Kernel::Plane Kernel::plane(unsigned index) {
  std::string name = cache.planes()[index].name();
  return {paramPtr(Word::PlaneBase, name),
          paramI64(Word::PlanePageStride, name),
          paramI64(Word::PlaneHeadStride, name)};
}

//===----------------------------------------------------------------------===//
// Threads
//===----------------------------------------------------------------------===//

Value Kernel::warp() {
  Value own = kit.div(thread(), kWarpLanes);
  return kit.op1(Ptx::ShflIdx, {own, kit.i32(0)});
}

Value Kernel::gridWarp(int64_t warps) {
  Value cta = kit.op1(Ptx::CtaidX, {});
  return kit.add(kit.mul(cta, warps), warp());
}

//===----------------------------------------------------------------------===//
// Memory
//===----------------------------------------------------------------------===//

Value Kernel::partialRow(Value sequence, Value splitIdx, Value queries,
                         Value query, Value qHead) {
  Value base = paramPtr(Word::SplitRow);
  // The plan wrote it in an earlier kernel.
  Value first = kit.loadReadOnly(
      kit.b.getI64Type(), kit.ptr(base, kit.mul(kit.extI64(sequence), 8)), 8);
  Value row = kit.add(kit.mul(kit.extI64(splitIdx), kit.extI64(queries)),
                      kit.extI64(query));
  return kit.add(kit.add(first, kit.mul(row, queryHeads())), kit.extI64(qHead));
}
