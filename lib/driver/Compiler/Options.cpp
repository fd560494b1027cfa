//===- Options.cpp - names of phases, and what options look like ----------===//
#include "dialect/Schedule.h"
#include "lib/driver/Compiler/Compiler.h"

#include "llvm/ADT/StringRef.h"

using namespace kvc;

static constexpr const char *kPhaseNames[] = {"kvc",  "tile",   "cpu",
                                              "llvm", "object", "artifact"};

const char *kvc::name(Phase phase) { return kPhaseNames[size_t(phase)]; }

std::optional<Phase> kvc::phaseFromName(const std::string &text) {
  for (size_t i = 0; i < std::size(kPhaseNames); ++i)
    if (text == kPhaseNames[i])
      return Phase(i);
  // What these phases give for a GPU.
  if (text == "gpu")
    return Phase::Cpu;
  if (text == "ptx")
    return Phase::Object;
  return std::nullopt;
}

/// What is no field at all is reported with those that there are.
static bool mayBeFlag(llvm::StringRef key) {
  bool isFlag = false, isNumber = false;
  for (auto fields : {coreScheduleFields(), warpScheduleFields()})
    for (const ScheduleFieldInfo &field : fields)
      if (field.name == key)
        (field.isFlag ? isFlag : isNumber) = true;
  return isFlag || !isNumber;
}

std::optional<ScheduleOverride> kvc::parseOverride(const std::string &text) {
  auto [path, value] = llvm::StringRef(text).split('=');
  auto [kernel, key] = path.rsplit('.');
  ScheduleOverride result{kernel.str(), key.str(), 0};
  if (kernel.empty() || key.empty())
    return std::nullopt;
  if ((value == "true" || value == "false") && mayBeFlag(key))
    result.value = value == "true";
  else if (value.getAsInteger(10, result.value))
    return std::nullopt;
  return result;
}
