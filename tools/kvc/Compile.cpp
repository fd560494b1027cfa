//===- Compile.cpp - kvc compile: spec in, artifact or any level out ------===//
#include "lib/base/Spec/Reader.h"
#include "tools/kvc/Cli.h"

#include "llvm/Support/Process.h"
#include "llvm/Support/raw_ostream.h"

using namespace kvc;
using namespace kvc::cli;
namespace cl = llvm::cl;

static cl::SubCommand command("compile", "Compile a spec into an artifact");
static cl::opt<std::string> file(cl::Positional, cl::Required, cl::desc("SPEC"),
                                 cl::sub(command), cl::cat(verbOptions()));
static cl::opt<std::string>
    output("o",
           cl::desc("Output file; - is standard output, the default for text"),
           cl::value_desc("FILE"), cl::sub(command), cl::cat(verbOptions()));
namespace {
enum class Emit : uint8_t {
  Kvc,
  Tile,
  Cpu,
  Gpu,
  Llvm,
  Asm,
  Ptx,
  Object,
  Artifact
};
/// A GPU's levels go by other names: two of these are the same phase.
enum class Stop : uint8_t {
  Never,
  Kvc,
  Tile,
  Cpu,
  Gpu,
  Llvm,
  Object,
  Artifact
};
} // namespace
static Choice<Emit> emit(
    "emit", cl::desc("What to write:"), cl::init(Emit::Artifact),
    cl::values(clEnumValN(Emit::Kvc, "kvc", "what the cache is, as MLIR"),
               clEnumValN(Emit::Tile, "tile", "kernels over tiles of tokens"),
               clEnumValN(Emit::Cpu, "cpu", "vectors and loops of a CPU"),
               clEnumValN(Emit::Gpu, "gpu",
                          "threads and instructions of a GPU"),
               clEnumValN(Emit::Llvm, "llvm", "optimised LLVM IR"),
               clEnumValN(Emit::Asm, "asm",
                          "the object's machine code; of a GPU, ptx"),
               clEnumValN(Emit::Ptx, "ptx", "a GPU's assembly"),
               clEnumValN(Emit::Object, "object", "an ELF object or a cubin"),
               clEnumValN(Emit::Artifact, "artifact",
                          "a .kvca of all targets (default)")),
    cl::sub(command), cl::cat(verbOptions()));
static Choice<Stop>
    stopAfter("stop-after",
              cl::desc("Go no further than this, and write only --dump-to:"),
              cl::value_desc("phase"), cl::init(Stop::Never),
              cl::values(clEnumValN(Stop::Kvc, "kvc", ""),
                         clEnumValN(Stop::Tile, "tile", ""),
                         clEnumValN(Stop::Cpu, "cpu", ""),
                         clEnumValN(Stop::Gpu, "gpu", ""),
                         clEnumValN(Stop::Llvm, "llvm", ""),
                         clEnumValN(Stop::Object, "object", ""),
                         clEnumValN(Stop::Artifact, "artifact", "")),
              cl::sub(command), cl::cat(verbOptions()));
static cl::opt<std::string>
    dumpTo("dump-to", cl::desc("Write every phase to a file in this directory"),
           cl::value_desc("DIR"), cl::sub(command), cl::cat(verbOptions()));
static cl::opt<bool> showTime("time",
                              cl::desc("Print milliseconds per phase, and "
                                       "after how many each kernel was there"),
                              cl::sub(command), cl::cat(verbOptions()));
static CompileFlags compileFlags(command);

static Phase phaseOf(Emit level) {
  switch (level) {
  case Emit::Kvc:
    return Phase::Kvc;
  case Emit::Tile:
    return Phase::Tile;
  case Emit::Cpu:
  case Emit::Gpu:
    return Phase::Cpu;
  case Emit::Llvm:
    return Phase::Llvm;
  case Emit::Asm:
  case Emit::Ptx:
  case Emit::Object:
    return Phase::Object;
  case Emit::Artifact:
    return Phase::Artifact;
  }
  llvm_unreachable("no such level");
}

static Phase phaseOf(Stop stop) {
  switch (stop) {
  case Stop::Kvc:
    return Phase::Kvc;
  case Stop::Tile:
    return Phase::Tile;
  case Stop::Cpu:
  case Stop::Gpu:
    return Phase::Cpu;
  case Stop::Llvm:
    return Phase::Llvm;
  case Stop::Object:
    return Phase::Object;
  case Stop::Artifact:
  case Stop::Never:
    return Phase::Artifact;
  }
  llvm_unreachable("no such phase");
}

/// The level of code that is asked for, if only some devices have it.
static llvm::StringRef levelName() {
  return emit == Emit::Cpu || stopAfter == Stop::Cpu   ? "cpu"
         : emit == Emit::Gpu || stopAfter == Stop::Gpu ? "gpu"
         : emit == Emit::Ptx                           ? "ptx"
                                                       : "";
}

static bool isText() { return emit != Emit::Object && emit != Emit::Artifact; }

/// What is wrong with a level of code that this target has not got; "" if
/// nothing, or if there is no such target, which is the compiler's to say.
static std::string wrongLevel(llvm::StringRef level,
                              const std::string &target) {
  std::string device = deviceOf(target);
  const char *instead = nullptr;
  if (level == "ptx" && (device == "cpu" || device == "sim"))
    instead = "asm or object";
  else if (level == "gpu" && device == "cpu")
    instead = "cpu";
  else if (level == "cpu" && (device == "cuda" || device == "sim"))
    instead = "gpu";
  if (!instead)
    return "";
  return "`" + target + "` has no level `" + level.str() + "`: use " + instead;
}

/// The rest of the options; false if the flags do not fit together.
static bool complete(CompileOptions &options, Diagnostics &diagnostics) {
  auto usage = [&](const cl::Option &flag, const std::string &message) {
    diagnostics.error("E-USAGE", at(flag), message);
    return false;
  };
  bool stops = stopAfter != Stop::Never;
  options.stopAfter = stops ? phaseOf(stopAfter) : phaseOf(emit);
  options.disassemble = emit == Emit::Asm || emit == Emit::Ptx;
  options.dumpTo = dumpTo;
  for (const std::string &target : options.targets)
    if (std::string wrong = wrongLevel(levelName(), target); !wrong.empty())
      return usage(stops ? (const cl::Option &)stopAfter : emit, wrong);
  if (stops && (emit.getNumOccurrences() || !output.empty()))
    return usage(stopAfter, "`--stop-after` writes only `--dump-to`: use "
                            "`--emit` to write a level to `-o`");
  if (stops && dumpTo.empty())
    return usage(stopAfter,
                 "`--stop-after` writes nothing without `--dump-to=DIR`; "
                 "`--emit` writes a level to `-o`");
  if (stops)
    return true;
  if (output.empty() && !isText())
    return usage(file, "expected -o FILE");
  if (output == "-" && !isText() &&
      llvm::sys::Process::StandardOutIsDisplayed())
    return usage(output, "standard output is a terminal, and this is not text");
  return true;
}

static void printTimes(const CompileOutput &result) {
  if (result.fromCache) {
    llvm::errs() << "from the kernel cache: no phase ran\n";
    return;
  }
  double total = 0;
  for (const auto &[phase, time] : result.milliseconds) {
    llvm::errs() << llvm::format("%9.2f ms  ", time) << phase << "\n";
    total += time;
  }
  llvm::errs() << llvm::format("%9.2f ms  ", total) << "all\n";
  // Kernels are made side by side: this is when, from the start.
  for (const ObjectTime &made : result.objectTimes)
    for (auto [what, time] :
         {std::pair("PTX", made.ptx), std::pair("object", made.object)})
      if (time != 0)
        llvm::errs() << llvm::format("%9.2f ms  ", time) << "until the " << what
                     << " of " << made.kernels << " for " << made.target
                     << "\n";
}

static int runCompile() {
  Diagnostics diagnostics;
  auto options = compileFlags.options(diagnostics);
  if (!options || !complete(*options, diagnostics))
    return finish(diagnostics, ExitUsage);
  auto spec = spec::readFile(file, diagnostics);
  if (!spec)
    return finish(diagnostics);
  auto result = compile(*spec, *options, diagnostics);
  if (!result)
    return finish(diagnostics, ExitFailed);
  if (showTime)
    printTimes(*result);
  llvm::StringRef path = output.empty() ? "-" : llvm::StringRef(output);
  if (stopAfter == Stop::Never && isText())
    writeOutput(path, result->text, diagnostics);
  else if (stopAfter == Stop::Never)
    writeOutput(path, result->artifact, diagnostics);
  return finish(diagnostics);
}

const Verb kvc::cli::compileVerb{&command, runCompile, R"(
The output is written whole or not at all. SPEC `-` is standard input.

EXAMPLE:
  kvc compile specs/examples/smollm2.json -o smollm2.kvca \
    --target=x86-64-v3,x86-64-v4 --schedule='*.decode.prefetch=4' --remarks
)"};
