//===- Schedules.h - what schedules a core can run --------------*- C++ -*-===//
#ifndef KVC_CODEGEN_CPU_SCHEDULES_H
#define KVC_CODEGEN_CPU_SCHEDULES_H

#include "codegen/Schedules.h"

namespace kvc::cpu {

/// The fields of an attend kernel's schedule, or a reason why this backend
/// cannot run it.
struct CheckedSchedule {
  CoreSchedule fields;
  Legality legality;
};
CheckedSchedule checkSchedule(const Workload &workload,
                              ScheduleAttrInterface schedule);

/// The rules that all schedules keep, as text.
llvm::SmallVector<llvm::StringRef> scheduleRules();

} // namespace kvc::cpu

#endif // KVC_CODEGEN_CPU_SCHEDULES_H
