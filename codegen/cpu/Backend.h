//===- Backend.h - tile kernels to x86-64 objects ---------------*- C++ -*-===//
#ifndef KVC_CODEGEN_CPU_BACKEND_H
#define KVC_CODEGEN_CPU_BACKEND_H

#include "dialect/tile/TileDialect.h"
#include "lib/base/Artifact/Params.h"

#include "llvm/ADT/StringMap.h"

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace llvm {
class LLVMContext;
class Module;
} // namespace llvm

namespace kvc::cpu {

/// One level of x86-64 (CpuTargets.def), or this machine ("native").
struct CpuTarget {
  std::string name;                  ///< "x86-64-v3"
  std::string tune;                  ///< LLVM's -mtune
  std::vector<std::string> features; ///< all that LLVM may use
  /// Features of machines that have a better level than this one.
  std::vector<std::string> without;
  int64_t lanes = 8;
  int64_t registers = 16;
  /// Code types with products of vectors and of matrix registers: "bf16", "i8".
  std::vector<std::string> dot, matrix;
  /// Whether code is worth LLVM's time: not where most of what it does is calls
  /// of an emulator.
  bool optimised = true;
};

/// All levels, least capable first.
const std::vector<CpuTarget> &cpuTargets();
/// By name; "native" is the last level whose features this machine has and
/// whose `without` it lacks. nullopt: no such level, or none fits.
std::optional<CpuTarget> findCpuTarget(llvm::StringRef name);
/// Features of `target` that this machine lacks.
std::vector<std::string> missingFeatures(const CpuTarget &target);

/// Attaches what this backend knows of schedules to `#kvc.core_schedule`.
void registerScheduler(mlir::DialectRegistry &registry);

/// The module attribute that planning reads.
TargetAttr targetAttr(mlir::MLIRContext *context, const CpuTarget &target);

/// What a kernel is called with, filled in by the lowering.
struct KernelNeeds {
  uint64_t scratch = 0; ///< bytes
  artifact::ParamBlock params;
};
using KernelNeedsMap = llvm::StringMap<KernelNeeds>; ///< by kernel name

/// Replaces every tile.kernel of the module by a function on pointers
/// (lib/base/Artifact/KernelAbi.h). Symbols become C names: "full.merge" is
/// "kvc_full_merge".
mlir::LogicalResult lowerTileToCpu(mlir::ModuleOp module,
                                   const CpuTarget &target,
                                   KernelNeedsMap &needs);
std::string symbolName(llvm::StringRef kernel);

/// To the LLVM dialect, in place.
mlir::LogicalResult lowerCpuToLlvm(mlir::ModuleOp module);

/// To optimised LLVM IR for the target; null after an error on the module.
std::unique_ptr<llvm::Module> emitLlvm(mlir::ModuleOp module,
                                       const CpuTarget &target,
                                       llvm::LLVMContext &context);

/// To a relocatable ELF object without undefined symbols; empty after an error
/// (text in `error`).
std::vector<uint8_t> emitObject(llvm::Module &module, const CpuTarget &target,
                                std::string &error);

} // namespace kvc::cpu

#endif // KVC_CODEGEN_CPU_BACKEND_H
