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
#include "llvm/ADT/MapVector.h"

#include <chrono>

namespace kvc {

/// What a phase gives for one kind of target.
struct Level {
  Phase phase;
  const char *label;     ///< "gpu": in dumps and times
  const char *extension; ///< of a dump

  constexpr Level(Phase phase, const char *label, const char *extension)
      : phase(phase), label(label), extension(extension) {}
  /// As it is for CPUs.
  explicit Level(Phase phase);
};

/// Adds up the milliseconds of each level.
class PhaseClock {
public:
  /// Ends the level under way, and begins one.
  void begin(Phase phase) { begin(Level(phase)); }
  void begin(const Level &level);
  void end();
  /// Adds `wall` milliseconds in which jobs ran side by side, shared out
  /// between their phases.
  void addJobs(double wall, llvm::ArrayRef<ObjectJob> jobs);
  std::vector<std::pair<std::string, double>> milliseconds() const;

private:
  using Clock = std::chrono::steady_clock;
  std::optional<llvm::StringRef> current; ///< label of a level
  Clock::time_point start;
  llvm::MapVector<llvm::StringRef, double> spent;
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
  /// Makes the cubin, if an assembler is here, and what an artifact holds.
  bool assembleCuda(const std::string &ptx, const Target &target,
                    TargetOutput &output);
  /// What the manifest and the remarks say of an assembled kernel.
  void describeCode(const nvptx::Cubin &cubin, const std::string &blob,
                    artifact::KernelInfo &kernel);
  bool emitSim(mlir::ModuleOp module, const Target &target,
               TargetOutput &output);
  /// C names that two kernels share would make one of them the other.
  bool emit(mlir::ModuleOp module, const cpu::CpuTarget &target,
            TargetOutput &output);
  /// Writes the dump file of a level and keeps its text if it is the last.
  /// True if the work ends here.
  bool reached(const Level &level, const std::string &target,
               TargetOutput &output, llvm::function_ref<std::string()> text);
  /// Whether anyone reads the text of a phase.
  bool wantsText(Phase phase) const {
    return options.stopAfter == phase || !options.dumpTo.empty();
  }
  /// Reports a failure of a step that should have explained itself.
  bool unexplained(const Level &level);

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

/// Writes "NN-label[.target].ext" under `directory`, which is created; a colon
/// of the target's name becomes a dash. False, with E-OUTPUT reported, if it
/// cannot.
bool dumpLevel(const std::string &directory, const Level &level,
               const std::string &target, llvm::StringRef bytes,
               Diagnostics &diagnostics);

/// The code of an object in Intel's syntax, function after function. On failure
/// returns nullopt and sets `error`.
std::optional<std::string> disassemble(llvm::ArrayRef<uint8_t> object,
                                       std::string &error);

} // namespace kvc

#endif // KVC_LIB_COMPILER_TARGETCOMPILER_H
