//===- FaultInjection.h - faults in what a kernel is given ------*- C++ -*-===//
//
// Tests only: see Fault.h.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_LIB_DRIVER_VERIFY_FAULTINJECTION_H
#define KVC_LIB_DRIVER_VERIFY_FAULTINJECTION_H

#include "lib/driver/Verify/BatchImage.h"
#include "lib/driver/Verify/RowLayout.h"

namespace kvc::verify {

/// The memory of one kvc_attend, for a fault to tamper with.
struct AttendMemory {
  BatchImage &image;
  std::vector<int32_t> kvLen, table;
  llvm::SmallVector<reference::HostPlane, 4> planes;
  Buffer &q, &out, &lse;
  const RowLayout &qLayout, &outLayout, &lseLayout;
  /// The cache's bytes, where a fault changes them for the call.
  Buffer kept = {};
};
void injectBeforeAttend(Fault fault, AttendMemory &memory);
void injectAfterAttend(Fault fault, AttendMemory &memory);

void injectBeforeAppend(Fault fault, std::vector<int64_t> &slots);
void injectAfterAppend(Fault fault, BatchImage &image);

void injectBeforeGather(Fault fault, const BatchImage &image,
                        std::vector<int64_t> &slots);
/// Of K.
void injectAfterGather(Fault fault, Buffer &rows, const RowLayout &layout);

} // namespace kvc::verify

#endif // KVC_LIB_DRIVER_VERIFY_FAULTINJECTION_H
