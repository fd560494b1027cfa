//===- CpuFeatures.h - what this CPU and its system offer -------*- C++ -*-===//
#ifndef KVC_RUNTIME_DEVICES_CPUFEATURES_H
#define KVC_RUNTIME_DEVICES_CPUFEATURES_H

#include <string_view>

namespace kvc::rt {

/// Whether kernels may use a feature, by LLVM's name ("avx512bw"): the CPU has
/// it and the system saves its registers. For AMX, asks Linux for the right to
/// use it. Features that are not known here count as missing.
bool cpuHasFeature(std::string_view name);
/// Whether cpuHasFeature() knows how to ask for a feature.
bool cpuKnowsFeature(std::string_view name);

} // namespace kvc::rt

#endif // KVC_RUNTIME_DEVICES_CPUFEATURES_H
