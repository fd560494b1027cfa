//===- Schedules.h - what schedules warps can run ---------------*- C++ -*-===//
#ifndef KVC_CODEGEN_NVPTX_SCHEDULES_H
#define KVC_CODEGEN_NVPTX_SCHEDULES_H

#include "codegen/Schedules.h"

namespace kvc::nvptx {

/// The fields of an attend kernel's schedule, or a reason why this backend
/// cannot run it.
struct CheckedSchedule {
  WarpSchedule fields;
  Legality legality;
};
CheckedSchedule checkSchedule(const Workload &workload,
                              ScheduleAttrInterface schedule);

/// The rules that all schedules keep, as text.
llvm::SmallVector<llvm::StringRef> scheduleRules();

/// What the end of a work tile reads of it, and in there the flag by which a
/// CTA knows that it is a row block's last; the two mbarriers of a stage.
inline constexpr int64_t kWorkTileBytes = 48, kLastCtaFlag = 32,
                         kStageBarrierBytes = 16;

/// What of a CTA's shared memory follows from the schedule. All in bytes.
struct SharedLayout {
  SharedLayout(const Workload &workload, const WarpSchedule &schedule);

  int64_t strideK, strideV; ///< between rows of tokens
  /// Of V in a stage, behind K; 0 where its rows are the beginnings of K's, and
  /// there once.
  int64_t offsetV;
  int64_t sumStride; ///< between rows of sums: their lanes in other banks
  int64_t statBytes; ///< of the m and l of all rows
  int64_t stageBytes;
  int64_t smemQuery; ///< in a pipeline: where q is that is in no register
  int64_t smemPipelineBytes; ///< of one: its stages and q, later results
  int64_t smemPipelines;     ///< how many there are
  int64_t total;             ///< with all that a mainloop and a loader want
};

/// Most registers of a thread: those that the schedule says, or as many as
/// leave room for the CTAs that an SM should hold.
int64_t registerLimit(const Workload &workload, const WarpSchedule &schedule);

/// Warps of a CTA: those that multiply, and the one that copies in bulk.
inline int64_t allWarps(const WarpSchedule &schedule) {
  return schedule.warps + (schedule.bulk ? 1 : 0);
}

} // namespace kvc::nvptx

#endif // KVC_CODEGEN_NVPTX_SCHEDULES_H
