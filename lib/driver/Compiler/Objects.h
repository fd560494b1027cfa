//===- Objects.h - the kernels of a target, side by side --------*- C++ -*-===//
//
// LLVM takes nine tenths of a compilation, or shares them with an assembler. So
// a target's kernels become several objects, one per attend kernel up to a
// fixed number, and each object is made on a thread. Which kernel is in which
// object depends on the module alone: the machine's threads do not change an
// artifact.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_LIB_DRIVER_COMPILER_OBJECTS_H
#define KVC_LIB_DRIVER_COMPILER_OBJECTS_H

#include "lib/base/Artifact/Manifest.h"
#include "lib/driver/Compiler/Clock.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"

namespace kvc {

/// One object to make, and what came of it.
struct ObjectJob {
  std::string name;  ///< "sim:sm_90.0"
  std::string entry; ///< "sim/sm_90.0": entries are this and an extension
  mlir::OwningOpRef<mlir::ModuleOp> module;    ///< its functions
  std::vector<artifact::KernelInfo *> kernels; ///< someone else's

  /// What somebody reads of the levels, in their order.
  std::vector<std::pair<Level, std::string>> texts;
  /// What an artifact holds of it: names and bytes.
  std::vector<std::pair<std::string, std::vector<uint8_t>>> entries;
  /// Codes and messages.
  std::vector<std::pair<std::string, std::string>> remarks;
  /// When PTX and object were there, on the compilation's clock; 0: they are
  /// not.
  double ptxAt = 0, objectAt = 0;
  PhaseClock clock;
  bool failed = false;
  std::string error; ///< why; "" if that is among the context's diagnostics
  std::string errorCode;

  void fail(std::string why = "", std::string code = "E-INTERNAL") {
    failed = true;
    error = std::move(why);
    errorCode = std::move(code);
  }
};

/// How a target's kernels are shared out.
struct Cut {
  unsigned most = 1; ///< jobs with attend kernels
  /// Whether kernels of other kinds have a job of their own, the last one, or
  /// are in the first.
  bool othersApart = false;
};

/// Cuts a module into jobs of llvm.funcs, at least one, and leaves it without.
/// `target` and `entry` begin what they are called; `kernels`, whose symbols
/// the functions have, must outlive them.
std::vector<ObjectJob> cutIntoJobs(mlir::ModuleOp module,
                                   const std::string &target,
                                   const std::string &entry, Cut cut,
                                   std::vector<artifact::KernelInfo> &kernels);

/// Calls `run` for each job, on as many threads as the machine has. Adds the
/// time to `clock`. Diagnostics come in the order of the jobs.
void runJobs(mlir::MLIRContext &context, std::vector<ObjectJob> &jobs,
             PhaseClock &clock, llvm::function_ref<void(ObjectJob &)> run);

/// The first symbol that an object expects from elsewhere; "" if none. The
/// runtime has no linker to give it one.
std::string firstUndefined(llvm::ArrayRef<uint8_t> object);

} // namespace kvc

#endif // KVC_LIB_DRIVER_COMPILER_OBJECTS_H
