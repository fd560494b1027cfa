//===- Backend.h - tile kernels to PTX, cubins and emulated kernels -*- C++
//-*-===//
#ifndef KVC_CODEGEN_NVPTX_BACKEND_H
#define KVC_CODEGEN_NVPTX_BACKEND_H

#include "dialect/tile/TileDialect.h"
#include "lib/base/Artifact/Params.h"

#include "llvm/ADT/StringMap.h"

#include <optional>
#include <string>
#include <vector>

namespace kvc::nvptx {

/// One row of SmTable.def.
struct SmTarget {
  std::string name; ///< "sm_90"
  unsigned version; ///< 90
  unsigned ptx;     ///< PTX ISA, 80 = 8.0
  int64_t sharedPerSm, sharedPerCta;
  unsigned sms, threadsPerSm, ctasPerSm;
};
const std::vector<SmTarget> &smTargets();
std::optional<SmTarget> findSmTarget(llvm::StringRef name);
/// The row whose code a GPU of that name runs: that of the name, or another,
/// then `note` says which and why ("sm_87", "sm_90a"). nullopt: none.
std::optional<SmTarget> servingSmTarget(llvm::StringRef name,
                                        std::string &note);

/// Attaches what this backend knows of schedules to `#kvc.warp_schedule`.
void registerScheduler(mlir::DialectRegistry &registry);

/// The module attribute that planning reads.
TargetAttr targetAttr(mlir::MLIRContext *context, const SmTarget &target);

/// How a kernel is launched; filled in by the lowering.
struct LaunchInfo {
  int64_t threads = 0; ///< per CTA
  int64_t shared = 0;  ///< bytes of dynamic shared memory
  /// Registers per thread at most; 0: the assembler's choice, which is often
  /// fewer than there are.
  int64_t registers = 0;
  artifact::ParamBlock params = {}; ///< what it is given
};
using LaunchInfos = llvm::StringMap<LaunchInfo>; ///< by kernel name

/// Replaces every tile.kernel of the module by an llvm.func on a block of
/// parameters (lib/base/Artifact/Params.h), and adds a plan kernel
/// ("STORE.plan") for every store. Symbols become C names
/// ("kvc_full_attend_decode"). Bodies are in scf, arith, vector and llvm, with
/// the instructions of lib/base/Simt/Ops.def as inline assembly.
mlir::LogicalResult lowerTileToGpu(mlir::ModuleOp module,
                                   const SmTarget &target, LaunchInfos &launch);
std::string symbolName(llvm::StringRef kernel);

/// Refuses collectives that some lanes of a warp may not reach, which no
/// emulation of one input can rule out.
mlir::LogicalResult verifyUniform(mlir::ModuleOp module);

/// scf, arith and vector to the LLVM dialect, in place. What is left is what
/// PTX and emulation start from.
mlir::LogicalResult lowerGpuToLlvm(mlir::ModuleOp module);

/// To PTX; empty after an error on the module. Consumes the module. `llvmText`
/// gets the LLVM IR that the PTX is made from, after optimisation.
std::string emitPtx(mlir::ModuleOp module, const SmTarget &target,
                    const LaunchInfos &launch, std::string *llvmText = nullptr);

/// What the assembler says of one kernel.
struct AssemblerReport {
  unsigned registers = 0, spillStores = 0, spillLoads = 0, stack = 0;
};
struct Cubin {
  std::vector<uint8_t> bytes;
  llvm::StringMap<AssemblerReport> kernels; ///< by symbol
  std::string assembler; ///< "nvJitLink 13.0" or "ptxas V13.0.88"
};
/// Which assembler to ask; Any prefers ptxas: nvJitLink makes code to be
/// linked, which takes more registers.
enum class Assembler : uint8_t { Any, JitLink, Ptxas };
/// What Any would take, with its version: it changes code. "" if nothing is
/// here. The first call of a process may run a program.
std::string assemblerName();
/// PTX to a cubin. nullopt if there is no assembler, if it refuses the PTX, if
/// what it made is no cubin of it (whyNoCubin), or if it says that it could not
/// overlap what is meant to overlap. Then `error` has its words, or the path
/// and the reason where a file was at fault; no file is left either way.
std::optional<Cubin> assemble(llvm::StringRef ptx, const SmTarget &target,
                              std::string &error,
                              Assembler assembler = Assembler::Any);

/// Why bytes are not what `ptx` becomes for `target`: no ELF file, for another
/// machine or architecture, or without one of the kernels. "" if they are.
std::string whyNoCubin(llvm::ArrayRef<uint8_t> bytes, llvm::StringRef ptx,
                       const SmTarget &target);

/// Makes an emulated kernel of the module for the host
/// (lib/base/Simt/SimAbi.h), in place; consumes the PTX form. `sites` gets the
/// lines that sites index.
mlir::LogicalResult lowerGpuToSim(mlir::ModuleOp module,
                                  std::vector<std::string> &sites);

} // namespace kvc::nvptx

#endif // KVC_CODEGEN_NVPTX_BACKEND_H
