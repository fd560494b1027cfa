//===- TargetCompiler.h - a spec through the levels -------------*- C++ -*-===//
#ifndef KVC_LIB_DRIVER_COMPILER_TARGETCOMPILER_H
#define KVC_LIB_DRIVER_COMPILER_TARGETCOMPILER_H

#include "lib/driver/Compiler/Clock.h"
#include "lib/driver/Compiler/Describe.h"
#include "lib/driver/Compiler/Locations.h"
#include "lib/driver/Compiler/Objects.h"
#include "lib/driver/Compiler/Sharing.h"
#include "lib/driver/Compiler/Target.h"

#include "mlir/IR/MLIRContext.h"
#include "mlir/IR/OwningOpRef.h"

namespace kvc {

/// What one target adds to an artifact.
struct TargetOutput {
  /// Names in the artifact, and bytes.
  std::vector<std::pair<std::string, std::vector<uint8_t>>> objects;
  std::vector<artifact::KernelInfo> kernels;
  std::vector<ObjectTime> times;
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
  /// What the manifest will say of a module at the tile level, as far as it is
  /// known there.
  artifact::Manifest describe(mlir::ModuleOp module,
                              const Target &target) const;
  /// kvc -> tile.
  bool plan(mlir::ModuleOp module, const Target &target);
  /// tile -> as far as the options say. False after an error.
  bool runCpu(mlir::ModuleOp module, const cpu::CpuTarget &target,
              KernelSharing &sharing, TargetOutput &output);
  bool runGpu(mlir::ModuleOp module, const Target &target,
              KernelSharing &sharing, TargetOutput &output);
  /// Says what comes of it if no assembler is here; false if nothing can.
  bool checkAssembler(const Target &target);
  /// From the LLVM dialect to an object for this machine's kind of CPU.
  void makeObject(ObjectJob &job, const cpu::CpuTarget &target) const;
  /// From GPU code to what runs on a GPU or in emulation.
  void makeGpu(ObjectJob &job, const Target &target,
               const nvptx::LaunchInfos &launches) const;
  void makeCuda(ObjectJob &job, const Target &target,
                const nvptx::LaunchInfos &launches) const;
  void assembleCuda(ObjectJob &job, const std::string &ptx,
                    const Target &target) const;
  void makeSim(ObjectJob &job, const Target &target) const;
  /// Runs jobs, reports what went wrong and keeps what is wanted. False after
  /// an error.
  bool finish(std::vector<ObjectJob> jobs, TargetOutput &output,
              llvm::function_ref<void(ObjectJob &)> run);
  /// How kernels become objects: whoever asks for one level gets it in one
  /// piece.
  Cut cut(bool othersApart) const;
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

#endif // KVC_LIB_DRIVER_COMPILER_TARGETCOMPILER_H
