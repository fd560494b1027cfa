//===- Executors.h - what runs drawn kernels --------------------*- C++ -*-===//
//
// A kernel as machine code of a CPU, and as the module that becomes PTX on the
// emulated GPU. Each takes the same module that the interpreter takes, and
// gives what that gives.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_TEST_UNIT_TILE_EXECUTORS_H
#define KVC_TEST_UNIT_TILE_EXECUTORS_H

#include "codegen/cpu/Backend.h"
#include "codegen/nvptx/Backend.h"
#include "lib/base/Artifact/ElfImage.h"
#include "test/support/KernelWords.h"
#include "test/unit/Tile/KernelInputs.h"

#include "mlir/IR/BuiltinOps.h"

namespace kvc::simt {
class Machine;
}

namespace kvc::fuzz {

/// A backend's kernel, compiled.
class Executor {
public:
  virtual ~Executor() = default;

  /// The error on an op for which the backend refused the kernel; "": none.
  std::string refusal;
  /// What must never happen: a refusal without a word, a kernel that was
  /// accepted and then failed, a finding of an emulator, a write out of place.
  std::string fault;
  bool accepted() const { return refusal.empty() && fault.empty(); }

  /// Of an attend kernel: its splits, as TileInterpreter::attend gives them, or
  /// what its last split makes of all.
  virtual reference::AttendResult attend(const AttendInputs &inputs) = 0;
  /// Of a merge kernel: [rows, q heads of the store].
  virtual reference::AttendResult merge(const MergeInputs &inputs) = 0;
  virtual void append(const AppendInputs &inputs, reference::HostCache &to) = 0;
  /// Of a gather kernel: all elements of K, then of V, at all kv heads of the
  /// model; 0 where it has nothing to store.
  virtual reference::AttendResult gather(const GatherInputs &inputs) = 0;

protected:
  explicit Executor(const Kernel &kernel) : kernel(kernel) {}
  void blame(const std::string &what) {
    if (fault.empty())
      fault = what;
  }
  /// Takes `lower`'s errors for a refusal.
  void lowerOrRefuse(mlir::ModuleOp module,
                     llvm::function_ref<mlir::LogicalResult()> lower);

  /// out and lse of all q heads of the model, some bytes apart.
  struct Output {
    AlignedBytes out, lse;
    int64_t outStride, lseStride;
    bool wantsLse;
  };
  Output makeOutput(int64_t rows) const;
  reference::AttendResult take(const Output &output, int64_t rows);

  /// Rows of K or V at all kv heads of the model, some bytes apart.
  struct GatherOutput {
    llvm::StringRef rows;
    AlignedBytes bytes;
    int64_t stride, headStride;
  };
  std::vector<GatherOutput> makeGatherOutputs(int64_t rows) const;
  /// Null where the call does not want the rows.
  void *addressOf(GatherOutput &output) const {
    return kernel.wants(output.rows) ? output.bytes.data() : nullptr;
  }
  test::KernelWords wordsOf(std::vector<GatherOutput> &outputs,
                            const GatherInputs &inputs) const;
  reference::AttendResult takeGathered(const std::vector<GatherOutput> &outputs,
                                       const GatherInputs &inputs);

  const Kernel &kernel;
};

/// Both consume `module`.
std::unique_ptr<Executor> makeCpuExecutor(const Kernel &kernel,
                                          mlir::ModuleOp module,
                                          const cpu::CpuTarget &target);
std::unique_ptr<Executor> makeGpuExecutor(const Kernel &kernel,
                                          mlir::ModuleOp module,
                                          const nvptx::SmTarget &target);
/// The levels that this machine runs; where it has no AMX, that is emulated
/// from this call on.
std::vector<cpu::CpuTarget> runnableLevels();

} // namespace kvc::fuzz

#endif // KVC_TEST_UNIT_TILE_EXECUTORS_H
