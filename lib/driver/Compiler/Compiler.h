//===- Compiler.h - spec in, artifact out -----------------------*- C++ -*-===//
//
// The facade over the whole pipeline, used by the CLI, the tests and the JIT
// alike. Thread-safe: calls share nothing.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_LIB_DRIVER_COMPILER_COMPILER_H
#define KVC_LIB_DRIVER_COMPILER_COMPILER_H

#include "lib/base/Artifact/Manifest.h"
#include "lib/base/Spec/Spec.h"

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace kvc {

/// The levels of the pipeline, in order. `name` is what --stop-after takes and
/// what a dump file is called ("01-kvc.mlir").
enum class Phase : uint8_t { Kvc, Tile, Cpu, Llvm, Object, Artifact };
const char *name(Phase phase);
std::optional<Phase> phaseFromName(const std::string &text);

/// One `--schedule=KERNEL.KEY=VALUE`: KERNEL is a glob on the kernel's name
/// ("*.decode"), KEY a field of its schedule (dialect/Schedules.def). compile()
/// reports a pattern that matches no kernel, and a key or value that its
/// schedule cannot take.
struct ScheduleOverride {
  std::string kernel, key;
  int64_t value = 0;
  SourceLoc loc = {}; ///< where it was given, for messages
};
/// nullopt if `text` is not of that form; VALUE is a whole number, of a flag
/// also `true` or `false`.
std::optional<ScheduleOverride> parseOverride(const std::string &text);

struct CompileOptions {
  /// "native", "x86-64-v3", "sm_90", "sim:sm_90"; several give several blobs.
  std::vector<std::string> targets = {"native"};
  SourceLoc targetsLoc; ///< where they were asked for
  std::vector<ScheduleOverride> schedule;
  Phase stopAfter = Phase::Artifact;
  std::string dumpTo;    ///< directory for every phase's text; empty: none
  bool useCache = false; ///< the disk cache under $KVC_CACHE_DIR
  bool emitRemarks = true;
  bool disassemble = false; ///< at Phase::Object, `text` is the object's code
};

/// When the code of kernels that share an object was there, in milliseconds
/// from the start of compile(). Objects are made side by side.
struct ObjectTime {
  std::string kernels; ///< "main.append, main.merge"
  std::string target;
  double ptx = 0;    ///< 0: the target has none
  double object = 0; ///< a cubin or an object; 0: not made
};

struct CompileOutput {
  /// Whole artifact if it ran to Phase::Artifact; one object file's bytes if
  /// it stopped at Phase::Object (single target); empty otherwise.
  std::vector<uint8_t> artifact;
  std::string text; ///< MLIR or LLVM IR of the phase it stopped after
  bool fromCache = false;
  /// Milliseconds per phase, in order ("kvc", "tile", ...).
  std::vector<std::pair<std::string, double>> milliseconds;
  std::vector<ObjectTime> objectTimes; ///< none from the cache
};

/// Compiles; on failure returns nullopt with the reasons in `diagnostics`
/// (E-INTERNAL: the fault is kvc's). Remarks (what was folded, slower paths and
/// why) go there as well, the same whether from the cache or not.
std::optional<CompileOutput> compile(const spec::Spec &spec,
                                     const CompileOptions &options,
                                     Diagnostics &diagnostics);

/// A CPU target this build can emit.
struct CpuTargetInfo {
  std::string name;                  ///< "x86-64-v3"
  std::vector<std::string> features; ///< what it needs
  bool runsHere = false;
  std::string whyNot; ///< the missing features if it does not
};
std::vector<CpuTargetInfo> cpuTargets();
/// Those whose AMX can be emulated ("sim:x86-64-v4-amx"), and what they need
/// besides.
std::vector<CpuTargetInfo> emulatedCpuTargets();
/// The GPU architectures that this build can emit ("sm_90") and emulate
/// ("sim:sm_90").
std::vector<std::string> gpuTargetNames();
/// What runs a target's kernels, as in the manifest: "cpu", "cuda" or "sim"; ""
/// if there is no such target.
std::string deviceOf(const std::string &target);
/// The target whose kernels serve what a user asked for: a GPU without an entry
/// of its own runs another's.
struct ServingTarget {
  std::string name;
  std::string note; ///< which and why; "" if it is the one asked for
};
/// nullopt if there is no such target. "native" stays what it is.
std::optional<ServingTarget> servingTarget(const std::string &name);
/// What "native" stands for on this machine; "" if nothing runs here.
std::string nativeTarget();

} // namespace kvc

#endif // KVC_LIB_DRIVER_COMPILER_COMPILER_H
