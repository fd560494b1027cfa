//===- Objects.h - from the LLVM dialect to objects, side by side *- C++
//-*-===//
//
// LLVM takes nine tenths of a compilation. So a target's kernels become several
// objects, one per attend kernel up to a fixed number, and each object is made
// on a thread. Which kernel is in which object depends on the module alone: the
// machine's threads do not change an artifact.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_LIB_COMPILER_OBJECTS_H
#define KVC_LIB_COMPILER_OBJECTS_H

#include "codegen/cpu/Backend.h"
#include "lib/Artifact/Manifest.h"

#include "mlir/IR/OwningOpRef.h"

namespace kvc {

/// One object to make, and what came of it.
struct ObjectJob {
  std::string name;                         ///< "x86-64-v4.0"
  mlir::OwningOpRef<mlir::ModuleOp> module; ///< its kernels, LLVM dialect

  std::string llvmText; ///< if it was wanted
  std::vector<uint8_t> bytes;
  std::string error; ///< "" if all went well
  double llvmMs = 0, objectMs = 0;
};

/// What runJobs() does with each.
struct JobOptions {
  bool llvmText = false; ///< keep the optimised LLVM IR as text
  bool object = true;    ///< go on to the object
};

/// Cuts a module in the LLVM dialect into at most `most` jobs, and tells each
/// kernel its blob, "cpu/NAME.o". Only clones: `module` stays as it is.
std::vector<ObjectJob> cutIntoJobs(mlir::ModuleOp module,
                                   const cpu::CpuTarget &target, unsigned most,
                                   std::vector<artifact::KernelInfo> &kernels);

/// Runs all, on as many threads as the machine has; returns the milliseconds it
/// took. The modules' context must allow threads
/// (mlir::MLIRContext::enableMultithreading).
double runJobs(std::vector<ObjectJob> &jobs, const cpu::CpuTarget &target,
               JobOptions options);

} // namespace kvc

#endif // KVC_LIB_COMPILER_OBJECTS_H
