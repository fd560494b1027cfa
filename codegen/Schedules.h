//===- Schedules.h - rules of schedules ------------------------*- C++ -*-===//
//
// What is legal is a list of rules, each with its text: what a schedule that
// breaks one is refused with, what the lowering repeats and what `kvc help
// schedule` prints are the same words.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_CODEGEN_SCHEDULES_H
#define KVC_CODEGEN_SCHEDULES_H

#include "dialect/KvcDialect.h"

namespace kvc {

/// What holds of every legal schedule of a kind of machine.
template <class Schedule> struct ScheduleRule {
  llvm::StringLiteral text; ///< with fields in backticks
  bool (*holds)(const Workload &workload, const Schedule &schedule);
  /// What is the case beside the fields that `text` names; null: nothing.
  std::string (*facts)(const Workload &workload,
                       const Schedule &schedule) = nullptr;
};

/// "rows = 3, tokens = 48": the fields of `schedule` that a rule names.
std::string namedFields(llvm::StringRef rule, ScheduleAttrInterface schedule);

/// Of the first rule that `schedule` breaks.
template <class Schedule, class Attr>
Legality checkRules(llvm::ArrayRef<ScheduleRule<Schedule>> rules,
                    const Workload &workload, Attr schedule) {
  const Schedule &fields = schedule.getValue();
  for (const ScheduleRule<Schedule> &rule : rules) {
    if (rule.holds(workload, fields))
      continue;
    std::string why = rule.text.str() + "; found ";
    why += namedFields(rule.text, schedule);
    if (rule.facts)
      why += ", " + rule.facts(workload, fields);
    return {why};
  }
  return {};
}

/// Those of `values` that `field` of `schedule` can have, and the one it has.
FieldValues worthTrying(ScheduleAttrInterface schedule, llvm::StringRef field,
                        std::initializer_list<int64_t> values);

/// Bytes of a row's codes.
inline int64_t codeBytes(const StreamInfo &stream) {
  return stream.codeBytes();
}

} // namespace kvc

#endif // KVC_CODEGEN_SCHEDULES_H
