//===- Schedules.cpp - the schedules of each kind of machine --------------===//
#include "dialect/KvcDialect.h"

#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/StringExtras.h"

using namespace mlir;
using namespace kvc;

//===----------------------------------------------------------------------===//
// Fields
//===----------------------------------------------------------------------===//

#define KVC_FIELD_INFO(TYPE, NAME, DEFAULT, LEAST, MOST, DOC)                  \
  {#NAME, DOC, std::is_same_v<TYPE, bool>, int64_t(DEFAULT), LEAST, MOST},

ArrayRef<ScheduleFieldInfo> kvc::coreScheduleFields() {
  static constexpr ScheduleFieldInfo fields[] = {
#define KVC_CORE_FIELD KVC_FIELD_INFO
#include "dialect/Schedules.def"
  };
  return fields;
}

ArrayRef<ScheduleFieldInfo> kvc::warpScheduleFields() {
  static constexpr ScheduleFieldInfo fields[] = {
#define KVC_WARP_FIELD KVC_FIELD_INFO
#include "dialect/Schedules.def"
  };
  return fields;
}

#undef KVC_FIELD_INFO

// Schedules as lists of numbers, in the order of their fields.
using Values = SmallVector<int64_t, 12>;

static Values valuesOf(const CoreSchedule &schedule) {
  return {
#define KVC_CORE_FIELD(TYPE, NAME, ...) int64_t(schedule.NAME),
#include "dialect/Schedules.def"
  };
}

static Values valuesOf(const WarpSchedule &schedule) {
  return {
#define KVC_WARP_FIELD(TYPE, NAME, ...) int64_t(schedule.NAME),
#include "dialect/Schedules.def"
  };
}

static void assign(CoreSchedule &schedule, ArrayRef<int64_t> values) {
#define KVC_CORE_FIELD(TYPE, NAME, ...)                                        \
  schedule.NAME = TYPE(values.consume_front());
#include "dialect/Schedules.def"
}

static void assign(WarpSchedule &schedule, ArrayRef<int64_t> values) {
#define KVC_WARP_FIELD(TYPE, NAME, ...)                                        \
  schedule.NAME = TYPE(values.consume_front());
#include "dialect/Schedules.def"
}

static ArrayRef<ScheduleFieldInfo> infosOf(const CoreSchedule &) {
  return coreScheduleFields();
}
static ArrayRef<ScheduleFieldInfo> infosOf(const WarpSchedule &) {
  return warpScheduleFields();
}

static StringRef machinesOf(const CoreSchedule &) { return "CPUs"; }
static StringRef machinesOf(const WarpSchedule &) { return "GPUs"; }

llvm::hash_code kvc::hash_value(const CoreSchedule &schedule) {
  return llvm::hash_combine_range(valuesOf(schedule));
}
llvm::hash_code kvc::hash_value(const WarpSchedule &schedule) {
  return llvm::hash_combine_range(valuesOf(schedule));
}

static void printValue(raw_ostream &os, const ScheduleFieldInfo &info,
                       int64_t value) {
  os << info.name << " = ";
  if (info.isFlag)
    os << (value ? "true" : "false");
  else
    os << value;
}

//===----------------------------------------------------------------------===//
// What attributes of both kinds do
//===----------------------------------------------------------------------===//

template <class Schedule>
static SmallVector<ScheduleField> fieldsOf(const Schedule &schedule) {
  SmallVector<ScheduleField> fields;
  for (auto [info, value] :
       llvm::zip_equal(infosOf(schedule), valuesOf(schedule)))
    fields.push_back({info, value});
  return fields;
}

/// Prints what differs from the default.
template <class Schedule>
static void printSchedule(AsmPrinter &printer, const Schedule &schedule) {
  raw_ostream &os = printer.getStream();
  os << "<";
  llvm::ListSeparator comma;
  for (const ScheduleField &field : fieldsOf(schedule))
    if (field.value != field.initial) {
      os << comma;
      printValue(os, field, field.value);
    }
  os << ">";
}

template <class Schedule> static Attribute parseSchedule(AsmParser &parser) {
  SMLoc begin = parser.getCurrentLocation();
  Schedule schedule;
  ArrayRef<ScheduleFieldInfo> infos = infosOf(schedule);
  Values values = valuesOf(schedule);
  SmallVector<bool> seen(infos.size());
  auto parseField = [&]() -> ParseResult {
    StringRef name;
    SMLoc loc = parser.getCurrentLocation();
    if (parser.parseKeyword(&name) || parser.parseEqual())
      return failure();
    const auto *info = llvm::find_if(
        infos, [&](const ScheduleFieldInfo &i) { return i.name == name; });
    if (info == infos.end())
      return parser.emitError(loc) << "no field `" << name << "`";
    size_t index = info - infos.begin();
    if (std::exchange(seen[index], true))
      return parser.emitError(loc) << "field `" << name << "` twice";
    if (!info->isFlag)
      return parser.parseInteger(values[index]);
    values[index] = succeeded(parser.parseOptionalKeyword("true"));
    return values[index] ? ParseResult(success())
                         : parser.parseKeyword("false");
  };
  if (parser.parseLess())
    return {};
  if (failed(parser.parseOptionalGreater()) &&
      (parser.parseCommaSeparatedList(parseField) || parser.parseGreater()))
    return {};
  assign(schedule, values);
  using Attr = std::conditional_t<std::is_same_v<Schedule, CoreSchedule>,
                                  CoreScheduleAttr, WarpScheduleAttr>;
  return Attr::getChecked([&] { return parser.emitError(begin); },
                          parser.getContext(), schedule);
}

/// Bounds, and what the tile level asks of any schedule: that no tile is of two
/// splits.
template <class Schedule>
static LogicalResult
verifySchedule(function_ref<InFlightDiagnostic()> emitError,
               const Schedule &schedule) {
  for (const ScheduleField &field : fieldsOf(schedule))
    if (field.value < field.least || field.value > field.most)
      return emitError() << "schedule field `" << field.name << "` must be in ["
                         << field.least << ", " << field.most << "], found "
                         << field.value;
  if (schedule.split % schedule.tokens)
    return emitError() << kSplitRule << "; found tokens = " << schedule.tokens
                       << ", split = " << schedule.split;
  return success();
}

template <class Attr>
static ScheduleAttrInterface
change(Attr attr, function_ref<InFlightDiagnostic()> emitError,
       ArrayRef<FieldValue> changes) {
  auto schedule = attr.getValue();
  ArrayRef<ScheduleFieldInfo> infos = infosOf(schedule);
  Values values = valuesOf(schedule);
  for (auto [name, value] : changes) {
    const auto *info = llvm::find_if(
        infos, [&](const ScheduleFieldInfo &i) { return i.name == name; });
    if (info == infos.end()) {
      SmallVector<StringRef> names;
      for (const ScheduleFieldInfo &i : infos)
        names.push_back(i.name);
      emitError() << "a schedule for " << machinesOf(schedule)
                  << " has no field `" << name << "`; it has "
                  << llvm::join(ArrayRef(names).drop_back(), ", ") << " and "
                  << names.back();
      return {};
    }
    if (info->isFlag && value != 0 && value != 1) {
      emitError() << "schedule field `" << name
                  << "` is a flag, so 0 or 1; found " << value;
      return {};
    }
    values[info - infos.begin()] = value;
  }
  assign(schedule, values);
  return Attr::getChecked(emitError, attr.getContext(), schedule);
}

std::string ScheduleAttrInterface::str() const {
  std::string text;
  llvm::raw_string_ostream os(text);
  llvm::ListSeparator comma;
  for (const ScheduleField &field : getFields()) {
    os << comma;
    printValue(os, field, field.value);
  }
  return text;
}

//===----------------------------------------------------------------------===//
// The attributes
//===----------------------------------------------------------------------===//

#define KVC_SCHEDULE(ATTR, SCHEDULE)                                           \
  Attribute ATTR::parse(AsmParser &parser, Type) {                             \
    return parseSchedule<SCHEDULE>(parser);                                    \
  }                                                                            \
  void ATTR::print(AsmPrinter &printer) const {                                \
    printSchedule(printer, getValue());                                        \
  }                                                                            \
  LogicalResult ATTR::verify(function_ref<InFlightDiagnostic()> emitError,     \
                             SCHEDULE schedule) {                              \
    return verifySchedule(emitError, schedule);                                \
  }                                                                            \
  SmallVector<ScheduleField> ATTR::getFields() const {                         \
    return fieldsOf(getValue());                                               \
  }                                                                            \
  ScheduleAttrInterface ATTR::with(                                            \
      function_ref<InFlightDiagnostic()> emitError,                            \
      ArrayRef<FieldValue> changes) const {                                    \
    return change(*this, emitError, changes);                                  \
  }
KVC_SCHEDULE(CoreScheduleAttr, CoreSchedule)
KVC_SCHEDULE(WarpScheduleAttr, WarpSchedule)
#undef KVC_SCHEDULE

int64_t CoreScheduleAttr::getRoundTokens() const { return getValue().tokens; }

/// Warps that do not share rows take tokens side by side.
int64_t WarpScheduleAttr::getRoundTokens() const {
  const WarpSchedule &schedule = getValue();
  return schedule.tokens * (schedule.warpsSplitQ ? 1 : schedule.warps);
}

Workload Workload::of(StoreOp store, Type dtype, TargetAttr target) {
  auto cache = cast<CacheType>(store.getCache());
  return {cache.stream(kStreamK),
          cache.stream(kStreamV),
          cache.layout().getPageTokens(),
          int64_t(store.getGroup()),
          dtype,
          target,
          cache.isVOfK()};
}
