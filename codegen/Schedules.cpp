//===- Schedules.cpp - rules of schedules ---------------------------------===//
#include "codegen/Schedules.h"

#include "llvm/ADT/StringExtras.h"

using namespace mlir;
using namespace kvc;

std::string kvc::namedFields(StringRef rule, ScheduleAttrInterface schedule) {
  std::string text;
  llvm::raw_string_ostream os(text);
  llvm::ListSeparator comma;
  for (const ScheduleField &field : schedule.getFields())
    if (rule.contains(("`" + field.name + "`").str()))
      os << comma << field.name << " = " << field.value;
  return text;
}

FieldValues kvc::worthTrying(ScheduleAttrInterface schedule, StringRef name,
                             std::initializer_list<int64_t> values) {
  FieldValues result{name, {}};
  for (const ScheduleField &field : schedule.getFields()) {
    if (field.name != name)
      continue;
    for (int64_t value : values)
      if (value >= field.least && value <= field.most)
        result.values.push_back(value);
    if (!llvm::is_contained(result.values, field.value))
      result.values.push_back(field.value);
  }
  return result;
}
