//===- Verify.cpp - kvc verify: are the kernels right? --------------------===//
#include "lib/base/Artifact/Bundle.h"
#include "lib/base/Spec/Reader.h"
#include "lib/driver/Verify/Batch.h"
#include "lib/driver/Verify/CompiledSpec.h"
#include "lib/driver/Verify/RandomSpec.h"
#include "tools/kvc/Cli.h"
#include "tools/kvc/VerifyReport.h"

#include "llvm/Support/Process.h"
#include "llvm/Support/raw_ostream.h"

using namespace kvc;
using namespace kvc::cli;
namespace cl = llvm::cl;

/// Of standard input; a file of any size is read where it is asked for.
static constexpr uint64_t kMaxTensorBytes = uint64_t(1) << 30;

static cl::SubCommand command("verify", "Prove kernels right against float64");
static cl::opt<std::string> file(cl::Positional,
                                 cl::desc("[SPEC or ARTIFACT.kvca]"),
                                 cl::sub(command), cl::cat(verbOptions()));
static cl::opt<uint64_t> randomCases("random",
                                     cl::desc("Draw this many specs instead"),
                                     cl::value_desc("N"), cl::sub(command),
                                     cl::cat(verbOptions()));
static cl::opt<uint64_t> seed("seed", cl::desc("Of all that is drawn"),
                              cl::init(1), cl::value_desc("S"),
                              cl::sub(command), cl::cat(verbOptions()));
static cl::opt<uint64_t>
    onlyCase("case", cl::desc("Run this case alone, as a failure says"),
             cl::value_desc("K"), cl::sub(command), cl::cat(verbOptions()));
static cl::opt<unsigned> jobs("jobs", cl::desc("Cases at once (default: 2)"),
                              cl::init(2), cl::value_desc("N"),
                              cl::sub(command), cl::cat(verbOptions()));
static cl::opt<std::string>
    tensors("tensors",
            cl::desc("Captured tensors layers.<i>.q, .k and .v of a model"),
            cl::value_desc("FILE.safetensors"), cl::sub(command),
            cl::cat(verbOptions()));
static cl::opt<int64_t>
    tokens("tokens", cl::desc("Of the replay (default: 300, or all of FILE)"),
           cl::value_desc("N"), cl::sub(command), cl::cat(verbOptions()));
static cl::opt<uint64_t>
    batches("batches", cl::desc("Random batches for a spec (default: 4)"),
            cl::init(4), cl::value_desc("N"), cl::sub(command),
            cl::cat(verbOptions()));
static cl::opt<bool> asJson("json", cl::desc("Print one JSON object"),
                            cl::sub(command), cl::cat(verbOptions()));
static cl::opt<bool> plant("plant", cl::Hidden,
                           cl::desc("Check that every planted bug is caught"),
                           cl::sub(command), cl::cat(verbOptions()));
static CompileFlags compileFlags(command);

namespace {

/// A spec, with its artifact if that is what was given.
struct Input {
  spec::Spec spec;
  std::vector<uint8_t> artifact;
};

} // namespace

static std::optional<Input> readInputFile(Diagnostics &diagnostics) {
  auto bytes = readInput(file, artifact::kMaxBundleBytes, diagnostics);
  if (!bytes)
    return std::nullopt;
  std::string name = nameOf(file);
  Input input;
  std::string text = *bytes;
  if (llvm::StringRef(text).starts_with("PK")) {
    input.artifact.assign(bytes->begin(), bytes->end());
    std::string error;
    auto bundle = artifact::Bundle::open(input.artifact, error);
    if (bundle && !checkHasCpu(bundle->manifest(), "verify", file, diagnostics))
      return std::nullopt;
    auto entry = bundle ? bundle->find("spec.json") : std::nullopt;
    if (!entry) {
      diagnostics.error("E-ARTIFACT", {name, 0, 0, 1, ""},
                        bundle ? "the artifact holds no spec.json" : error);
      return std::nullopt;
    }
    text.assign(entry->begin(), entry->end());
  }
  auto spec = spec::read(text, name, diagnostics);
  if (!spec)
    return std::nullopt;
  input.spec = std::move(*spec);
  return input;
}

static std::optional<std::vector<verify::LayerTensors>>
readTensors(const spec::Spec &spec, Diagnostics &diagnostics) {
  if (tensors.empty())
    return verify::makeLayers(spec, tokens ? tokens : 300, seed);
  std::string error;
  std::optional<verify::Safetensors> opened;
  if (tensors == "-") {
    auto bytes = readInput(tensors, kMaxTensorBytes, diagnostics);
    if (!bytes)
      return std::nullopt;
    opened = verify::Safetensors::read({bytes->begin(), bytes->end()}, error);
  } else {
    opened = verify::Safetensors::open(tensors, error);
  }
  std::optional<std::vector<verify::LayerTensors>> layers;
  if (opened)
    layers = verify::takeLayers(*opened, spec, tokens, error);
  if (!layers)
    diagnostics.error("E-TENSORS", {nameOf(tensors), 0, 0, 1, ""}, error);
  return layers;
}

static verify::Options optionsFor(const CompileOptions &compile,
                                  uint64_t cases) {
  verify::Options options;
  options.compile = compile;
  options.seed = seed;
  options.jobs = jobs;
  options.cases = cases;
  if (onlyCase.getNumOccurrences())
    options.first = onlyCase, options.cases = 1;
  return options;
}

static int finishWith(const verify::Summary &summary,
                      const Reproduce &reproduce,
                      const Diagnostics &diagnostics) {
  if (asJson)
    printJson(llvm::outs(), summary, seed, reproduce);
  else
    printText(llvm::outs(), summary, seed, reproduce);
  return finish(diagnostics, summary.failed ? ExitFailed : ExitOk);
}

/// An unknown target is an error of its own, and no case's failure.
static bool checkTargets(CompileOptions compile, Diagnostics &diagnostics) {
  compile.stopAfter = Phase::Kvc;
  auto spec = verify::randomSpec(seed, 0, diagnostics);
  return spec && kvc::compile(*spec, compile, diagnostics);
}

static int runRandom(const CompileOptions &compile, Diagnostics &diagnostics) {
  if (!checkTargets(compile, diagnostics))
    return finish(diagnostics, ExitFailed);
  verify::Options options = optionsFor(compile, randomCases);
  bool isWatched = llvm::sys::Process::StandardErrIsDisplayed();
  auto progress = [&](uint64_t done) {
    if (isWatched && done % 20 == 0)
      llvm::errs() << "\r" << done << " of " << options.cases << " specs";
  };
  verify::Summary summary = verify::verifyRandom(options, progress);
  if (isWatched)
    llvm::errs() << "\r\033[K";
  return finishWith(summary,
                    {"kvc verify --random 1" + reproduceFlags(seed, compile)},
                    diagnostics);
}

static int runPlanted(const CompileOptions &compile, Diagnostics &diagnostics) {
  if (file.empty()) {
    if (!checkTargets(compile, diagnostics))
      return finish(diagnostics, ExitFailed);
    auto all = verify::verifyPlanted(optionsFor(compile, randomCases), nullptr);
    return printPlanted(llvm::outs(), all, /*ofSpec=*/false) ? ExitOk
                                                             : ExitFailed;
  }
  auto input = readInputFile(diagnostics);
  if (input && !input->artifact.empty())
    diagnostics.error("E-USAGE", at(plant),
                      "`--plant` compiles what it breaks, found an artifact");
  if (diagnostics.hasErrors())
    return finish(diagnostics, input ? ExitUsage : ExitFailed);
  if (!kvc::compile(input->spec, compile, diagnostics))
    return finish(diagnostics, ExitFailed);
  auto all = verify::verifyPlanted(optionsFor(compile, batches), &input->spec);
  return printPlanted(llvm::outs(), all, /*ofSpec=*/true) ? ExitOk : ExitFailed;
}

static std::string replayFlags() {
  std::string flags = tensors.empty() ? "" : " --tensors " + tensors;
  return tokens ? flags + " --tokens " + std::to_string(tokens) : flags;
}

/// Captured tensors are all that --tensors runs; a spec alone goes through
/// generated ones and through random batches.
static int runSpec(const CompileOptions &compile, Diagnostics &diagnostics) {
  auto input = readInputFile(diagnostics);
  if (!input)
    return finish(diagnostics, ExitFailed);
  bool isArtifact = !input->artifact.empty();
  if (isArtifact && !checkArtifactFlags(compile, file, diagnostics))
    return finish(diagnostics, ExitUsage);
  // What does not compile is an error at its place, and no case's failure.
  auto layers = readTensors(input->spec, diagnostics);
  if (!layers ||
      (!isArtifact && !kvc::compile(input->spec, compile, diagnostics)))
    return finish(diagnostics, ExitFailed);
  // An emulated thread is a thousand times slower than a core.
  if (!isArtifact && verify::isEmulatedGpu(compile.targets.front()) &&
      compile.schedule.empty())
    diagnostics.report(
        Severity::Remark, "R-SPLIT", {},
        "verified with `--schedule=*.decode.split=" +
            std::to_string(verify::kEmulatedSplit) +
            "`, so that short sequences have several splits; give a schedule "
            "to verify another, which takes longer");
  verify::Options options = optionsFor(compile, batches);
  verify::Summary summary;
  Reproduce reproduce{"kvc verify " + file + replayFlags() +
                      reproduceFlags(seed, compile)};
  if (!onlyCase.getNumOccurrences())
    summary =
        verify::verifyTensors(input->spec, input->artifact, *layers, options);
  reproduce.replays = summary.failures.size();
  if (tensors.empty())
    merge(summary, verify::verifySpec(input->spec, input->artifact, options));
  return finishWith(summary, reproduce, diagnostics);
}

static void checkFlags(Diagnostics &diagnostics) {
  if (file.empty() == !randomCases.getNumOccurrences())
    diagnostics.error("E-USAGE", file.empty() ? commandLine().at(1) : at(file),
                      "expected either a spec or --random=N");
  auto check = [&](const llvm::cl::Option &flag, int64_t value, int64_t high) {
    if (flag.getNumOccurrences() && (value < 1 || value > high))
      diagnostics.error("E-USAGE", at(flag),
                        "`--" + flag.ArgStr.str() + "` is 1 to " +
                            std::to_string(high) + ", found " +
                            std::to_string(value));
  };
  if (!tensors.empty() && onlyCase.getNumOccurrences())
    diagnostics.error("E-USAGE", at(onlyCase),
                      "`--case` selects generated data, found `--tensors`");
  if (plant && !tensors.empty())
    diagnostics.error("E-USAGE", at(plant),
                      "`--plant` needs generated data, found `--tensors`");
  check(jobs, jobs, 256);
  check(batches, int64_t(std::min<uint64_t>(batches, INT64_MAX)), 1 << 20);
  check(tokens, tokens, 1 << 20);
  check(randomCases, int64_t(std::min<uint64_t>(randomCases, INT64_MAX)),
        int64_t(1) << 32);
}

static int runVerify() {
  Diagnostics diagnostics;
  auto compile = compileFlags.options(diagnostics);
  checkFlags(diagnostics);
  if (compile)
    checkDevices(*compile, "verify", {"cpu", "sim"}, diagnostics);
  if (diagnostics.hasErrors())
    return finish(diagnostics, ExitUsage);
  if (plant)
    return runPlanted(*compile, diagnostics);
  return randomCases.getNumOccurrences() ? runRandom(*compile, diagnostics)
                                         : runSpec(*compile, diagnostics);
}

const Verb kvc::cli::verifyVerb{&command, runVerify, R"(
Appends tokens one by one through a paged cache, attends at every position and
compares with a float64 interpreter; then runs random batches on buffers of its
own and checks the numerics contract: errors below those of a plain program
(N1, N2), encoded bytes (N3), exact addresses (N5), empty rows (N6), extreme
values (N7), poison in all bytes that nobody owns (N8, N9), equal bits from run
to run (N10) and in any batch (N11). `error` is the worst over its bound: more
than 1 fails. Four batches together stand next to every page, split and window
of the spec; those that would take too long are listed as `not reached`.

EXAMPLE:
  kvc verify specs/examples/smollm2.json
  kvc verify specs/examples/smollm2.json --tensors test/data/smollm2.safetensors
  kvc verify --random 2000 --seed 1 --json
  kvc verify --random 50 --target=sim:sm_90
)"};
