//===- Plant.h - faults in what a kernel is given and leaves ----*- C++ -*-===//
//
// Tests only: see Fault.h.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_LIB_VERIFY_PLANT_H
#define KVC_LIB_VERIFY_PLANT_H

#include "lib/Verify/Stage.h"

namespace kvc::verify {

/// The memory of one kvc_attend, for a fault to tamper with.
struct AttendMemory {
  Stage &stage;
  std::vector<int32_t> kvLen, table;
  llvm::SmallVector<KvcPlane, 4> planes;
  Buffer &q, &out, &lse;
  int64_t qStride, outStride, lseStride; ///< bytes
};
void plantBeforeAttend(Fault fault, AttendMemory &memory);
void plantAfterAttend(Fault fault, AttendMemory &memory);

void plantBeforeAppend(Fault fault, std::vector<int64_t> &slots);
void plantAfterAppend(Fault fault, Stage &stage);

} // namespace kvc::verify

#endif // KVC_LIB_VERIFY_PLANT_H
