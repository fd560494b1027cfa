//===- Schedules.h - how tiles are chosen, by kind of machine ---*- C++ -*-===//
#ifndef KVC_PASSES_SCHEDULES_H
#define KVC_PASSES_SCHEDULES_H

#include "dialect/KvcDialect.h"

namespace kvc {

/// Up to this many query tokens a sequence is decoding (with drafts); above, it
/// is prefilling.
inline constexpr int64_t kDecodeQueries = 16;

/// Chooses the schedule of each attend kernel of a store from the machine's
/// facts alone.
struct SchedulePlanner {
  using Choose = ScheduleAttr (*)(StoreOp store, mlir::Type dtype,
                                  TargetAttr target);
  Choose decode, prefill;
};

/// Cores with caches and vector registers.
extern const SchedulePlanner corePlanner;
/// Warps that share memory.
extern const SchedulePlanner warpPlanner;

inline const SchedulePlanner &plannerFor(TargetAttr target) {
  return target.getShared() ? warpPlanner : corePlanner;
}

} // namespace kvc

#endif // KVC_PASSES_SCHEDULES_H
