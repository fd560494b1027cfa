//===- TargetCompiler.h - a spec through the levels -------------*- C++ -*-===//
#ifndef KVC_LIB_COMPILER_TARGETCOMPILER_H
#define KVC_LIB_COMPILER_TARGETCOMPILER_H

#include "lib/Compiler/Compiler.h"
#include "lib/Compiler/Describe.h"
#include "lib/Compiler/Locations.h"
#include "lib/Compiler/Objects.h"
#include "lib/Compiler/Target.h"

#include "mlir/IR/MLIRContext.h"
#include "mlir/IR/OwningOpRef.h"

#include <chrono>

namespace kvc {

/// Adds up the milliseconds of each phase.
class PhaseClock {
public:
  /// Ends the phase under way, and begins one.
  void begin(Phase phase);
  void end();
  /// Adds `wall` milliseconds in which jobs ran side by side, shared out
  /// between their phases.
  void addJobs(double wall, llvm::ArrayRef<ObjectJob> jobs);
  std::vector<std::pair<std::string, double>> milliseconds() const;

private:
  using Clock = std::chrono::steady_clock;
  std::optional<Phase> current;
  Clock::time_point start;
  std::map<Phase, double> spent;
};

/// What one target adds to an artifact.
struct TargetOutput {
  /// Names in the artifact, and bytes.
  std::vector<std::pair<std::string, std::vector<uint8_t>>> objects;
  std::vector<artifact::KernelInfo> kernels;
  std::string text; ///< of the phase that it stopped after
};

/// Takes one spec through the levels, once for each target.
class TargetCompiler {
public:
  TargetCompiler(const spec::Spec &spec, const CompileOptions &options,
                 Diagnostics &diagnostics, PhaseClock &clock);

  /// spec -> kvc. False after an error.
  bool import();
  /// kvc -> object, or as far as the options say. nullopt after an error.
  std::optional<TargetOutput> run(const Target &target);

  std::vector<artifact::StoreInfo> stores() const {
    return describeStores(*kvcModule);
  }
  std::string kvcText() const;
  const SpecPlaces &specPlaces() const { return places; }

private:
  /// kvc -> tile.
  bool plan(mlir::ModuleOp module, const Target &target);
  /// tile -> as far as the options say. False after an error.
  bool runCpu(mlir::ModuleOp module, const cpu::CpuTarget &target,
              TargetOutput &output);
  bool runGpu(mlir::ModuleOp module, const Target &target,
              TargetOutput &output);
  bool emitCuda(mlir::ModuleOp module, const Target &target,
                const nvptx::LaunchInfos &launches, TargetOutput &output);
  bool emitSim(mlir::ModuleOp module, const Target &target,
               TargetOutput &output);
  /// C names that two kernels share would make one of them the other.
  bool emit(mlir::ModuleOp module, const cpu::CpuTarget &target,
            TargetOutput &output);
  /// Writes the dump file of a phase and keeps its text if it is the last.
  /// True if the work ends here.
  bool reached(Phase phase, const std::string &target, TargetOutput &output,
               llvm::function_ref<std::string()> text);
  /// Reports a failure of a step that should have explained itself.
  bool unexplained(Phase phase);

  const spec::Spec &spec;
  const CompileOptions &options;
  Diagnostics &diagnostics;
  PhaseClock &clock;
  SpecPlaces places;
  mlir::MLIRContext context;
  DiagnosticBridge bridge;
  mlir::OwningOpRef<mlir::ModuleOp> kvcModule;
};

/// A module as text.
std::string textOf(mlir::ModuleOp module);

/// Writes "NN-phase[.target].ext" under `directory`, which is created. False,
/// with E-OUTPUT reported, if it cannot.
bool dumpPhase(const std::string &directory, Phase phase,
               const std::string &target, llvm::StringRef bytes,
               Diagnostics &diagnostics);

/// The code of an object in Intel's syntax, function after function. On failure
/// returns nullopt and sets `error`.
std::optional<std::string> disassemble(llvm::ArrayRef<uint8_t> object,
                                       std::string &error);

} // namespace kvc

#endif // KVC_LIB_COMPILER_TARGETCOMPILER_H
