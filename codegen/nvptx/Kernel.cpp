//===- Kernel.cpp - what every GPU kernel starts from ---------------------===//
#include "codegen/nvptx/Kernel.h"

#include <cstddef>

using namespace mlir;
using namespace kvc;
using namespace kvc::nvptx;

//===----------------------------------------------------------------------===//
// Parameters
//===----------------------------------------------------------------------===//

Value Kernel::paramI32(int64_t offset) {
  return kit.loadReadOnly(kit.i32(), kit.ptr(params, offset), 4);
}
Value Kernel::paramI64(int64_t offset) {
  return kit.loadReadOnly(kit.b.getI64Type(), kit.ptr(params, offset), 8);
}
Value Kernel::paramPtr(int64_t offset) {
  return kit.loadReadOnly(kit.global(), kit.ptr(params, offset), 8);
}

Kernel::Plane Kernel::plane(int64_t planes, unsigned index) {
  int64_t at = planes + index * sizeof(KvcPlane);
  return {paramPtr(at + offsetof(KvcPlane, base)),
          paramI64(at + offsetof(KvcPlane, outer_stride)),
          paramI64(at + offsetof(KvcPlane, head_stride))};
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
  Value base = paramPtr(offsetof(KvcAttendArgs, split_row));
  // The plan wrote it in an earlier kernel.
  Value first = kit.loadReadOnly(
      kit.b.getI64Type(), kit.ptr(base, kit.mul(kit.extI64(sequence), 8)), 8);
  Value row = kit.add(kit.mul(kit.extI64(splitIdx), kit.extI64(queries)),
                      kit.extI64(query));
  return kit.add(kit.add(first, kit.mul(row, queryHeads())), kit.extI64(qHead));
}
