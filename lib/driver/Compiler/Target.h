//===- Target.h - what an artifact may hold kernels for ---------*- C++ -*-===//
#ifndef KVC_LIB_DRIVER_COMPILER_TARGET_H
#define KVC_LIB_DRIVER_COMPILER_TARGET_H

#include "codegen/cpu/Backend.h"
#include "codegen/nvptx/Backend.h"
#include "lib/driver/Compiler/KernelCache.h"

namespace kvc {

/// A level of a CPU, a GPU architecture, or one emulated on the CPU.
struct Target {
  enum class Device : uint8_t { Cpu, Cuda, Sim } device = Device::Cpu;
  std::string name;   ///< "x86-64-v3", "sm_90", "sim:sm_90"
  std::string note;   ///< why it serves another name that was asked for; or ""
  cpu::CpuTarget cpu; ///< Cpu; Sim: what runs the emulated kernel
  nvptx::SmTarget sm; ///< Cuda, Sim

  bool isGpu() const { return device != Device::Cpu; }
  /// As in the manifest: "cpu", "cuda" or "sim".
  const char *deviceName() const;
  TargetAttr facts(mlir::MLIRContext *context) const;
  /// Adds all of it that changes code.
  void addTo(CacheKeyBuilder &key) const;
};

/// By name; "native" is the best level of this machine's CPU, and GPUs without
/// an entry of their own are served by another's ("sm_87"). The kernels of
/// "sim:x86-64-v4-amx" are those of that level: only what runs them differs.
std::optional<Target> findTarget(llvm::StringRef name);
/// Why findTarget found none.
std::string whyNoTarget(llvm::StringRef name);
/// All names, "native" first.
std::vector<std::string> targetNames();
/// Whether a level uses AMX, which devices for "sim:" and its name emulate.
bool usesAmx(const cpu::CpuTarget &target);

} // namespace kvc

#endif // KVC_LIB_DRIVER_COMPILER_TARGET_H
