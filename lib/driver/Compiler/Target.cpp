//===- Target.cpp - what an artifact may hold kernels for -----------------===//
#include "lib/driver/Compiler/Target.h"

#include "llvm/ADT/StringExtras.h"

using namespace kvc;

/// Emulated kernels run on any machine that runs kvc: speed is the emulator's.
static constexpr const char *kSimLevel = "x86-64-v3";
static constexpr const char *kSimPrefix = "sim:";
/// Of the features that a CPU device can emulate (lib/base/Amx).
static constexpr const char *kAmxPrefix = "amx-";

const char *Target::deviceName() const {
  switch (device) {
  case Device::Cpu:
    return "cpu";
  case Device::Cuda:
    return "cuda";
  case Device::Sim:
    return "sim";
  }
  llvm_unreachable("no such device");
}

TargetAttr Target::facts(mlir::MLIRContext *context) const {
  return isGpu() ? nvptx::targetAttr(context, sm)
                 : cpu::targetAttr(context, cpu);
}

void Target::addTo(CacheKeyBuilder &key) const {
  key.add("target").add(name);
  if (device != Device::Cuda) {
    key.add(cpu.tune).add(cpu.lanes).add(cpu.registers);
    key.add(llvm::join(cpu.features, ",")).add(llvm::join(cpu.dot, ","));
  }
  if (isGpu())
    key.add(sm.version).add(sm.ptx).add(sm.sharedPerCta);
  if (device == Device::Cuda)
    key.add(nvptx::assemblerName());
}

bool kvc::usesAmx(const cpu::CpuTarget &target) {
  return llvm::any_of(target.features, [](llvm::StringRef feature) {
    return feature.starts_with(kAmxPrefix);
  });
}

/// The level that comes after `sim:`.
static std::optional<cpu::CpuTarget> simulatedLevel(llvm::StringRef name) {
  if (!name.consume_front(kSimPrefix) || name == "native")
    return std::nullopt;
  return cpu::findCpuTarget(name);
}

std::optional<Target> kvc::findTarget(llvm::StringRef name) {
  Target target;
  auto cpu = simulatedLevel(name);
  if (cpu && !usesAmx(*cpu))
    return std::nullopt;
  if (!cpu)
    cpu = cpu::findCpuTarget(name);
  if (cpu) {
    target.name = cpu->name;
    target.cpu = *cpu;
    return target;
  }
  bool sim = name.consume_front(kSimPrefix);
  auto sm = nvptx::servingSmTarget(name, target.note);
  if (!sm)
    return std::nullopt;
  target.name = (sim ? kSimPrefix : "") + sm->name;
  target.device = sim ? Target::Device::Sim : Target::Device::Cuda;
  target.sm = *sm;
  if (sim) {
    target.cpu = *cpu::findCpuTarget(kSimLevel);
    target.cpu.optimised = false;
  }
  return target;
}

std::string kvc::whyNoTarget(llvm::StringRef name) {
  if (name == "native")
    return "this machine runs none of the targets";
  if (auto level = simulatedLevel(name))
    return "there is nothing to emulate of `" + level->name +
           "`, which uses no AMX";
  llvm::StringRef sm = name;
  unsigned version = 0;
  sm.consume_front(kSimPrefix);
  if (sm.consume_front("sm_") && !sm.consumeInteger(10, version) &&
      version < nvptx::smTargets().front().version)
    return "`" + name.str() + "` is older than `" +
           nvptx::smTargets().front().name +
           "`, the first GPU architecture that kernels are made for";
  return "no target named `" + name.str() + "`";
}

std::vector<std::string> kvc::targetNames() {
  std::vector<std::string> names{"native"};
  for (const cpu::CpuTarget &target : cpu::cpuTargets())
    names.push_back(target.name);
  for (const cpu::CpuTarget &target : cpu::cpuTargets())
    if (usesAmx(target))
      names.push_back(kSimPrefix + target.name);
  for (const char *prefix : {"", kSimPrefix})
    for (const nvptx::SmTarget &target : nvptx::smTargets())
      names.push_back(prefix + target.name);
  return names;
}
