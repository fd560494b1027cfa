//===- Schedule.h - how an attend kernel runs, by kind of machine -*- C++
//-*-===//
//
// What the interfaces of schedules are made of (KvcInterfaces.td). KvcDialect.h
// includes this.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_DIALECT_SCHEDULE_H
#define KVC_DIALECT_SCHEDULE_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/Hashing.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringRef.h"

#include <string>
#include <utility>

namespace kvc {

/// A schedule of a core with caches and vector registers.
struct CoreSchedule {
#define KVC_CORE_FIELD(TYPE, NAME, DEFAULT, ...) TYPE NAME = DEFAULT;
#include "dialect/Schedules.def"
  bool operator==(const CoreSchedule &) const = default;
};

/// A schedule of warps that share memory.
struct WarpSchedule {
#define KVC_WARP_FIELD(TYPE, NAME, DEFAULT, ...) TYPE NAME = DEFAULT;
#include "dialect/Schedules.def"
  bool operator==(const WarpSchedule &) const = default;
};

llvm::hash_code hash_value(const CoreSchedule &schedule);
llvm::hash_code hash_value(const WarpSchedule &schedule);

/// What holds of every schedule, beside the bounds of its fields.
inline constexpr llvm::StringLiteral kSplitRule = "`tokens` divides `split`";

/// One row of Schedules.def.
struct ScheduleFieldInfo {
  llvm::StringLiteral name, doc;
  bool isFlag; ///< otherwise a whole number
  int64_t initial, least, most;
};
llvm::ArrayRef<ScheduleFieldInfo> coreScheduleFields();
llvm::ArrayRef<ScheduleFieldInfo> warpScheduleFields();

/// A field of one schedule, a flag as 0 or 1.
struct ScheduleField : ScheduleFieldInfo {
  int64_t value;
};

/// What a field is to be.
using FieldValue = std::pair<llvm::StringRef, int64_t>;
/// What a field may be.
struct FieldValues {
  llvm::StringRef name;
  llvm::SmallVector<int64_t> values;
};

/// Whether a schedule is legal, and if it is not, which rule it breaks.
struct Legality {
  std::string why;
  explicit operator bool() const { return why.empty(); }
};

/// Up to this many query tokens a sequence is decoding (with drafts); above, it
/// is prefilling.
inline constexpr int64_t kDecodeQueries = 16;
enum class AttendKind : uint8_t { Decode, Prefill };

struct Workload;

} // namespace kvc

#endif // KVC_DIALECT_SCHEDULE_H
