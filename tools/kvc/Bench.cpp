//===- Bench.cpp - kvc bench ----------------------------------------------===//

#include "lib/base/Artifact/Bundle.h"
#include "lib/base/Spec/Canonical.h"
#include "lib/base/Spec/Reader.h"
#include "lib/driver/Jit/OrcLoader.h"
#include "tools/kvc/BenchReport.h"
#include "tools/kvc/Cli.h"

#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/raw_ostream.h"

#include <algorithm>
#include <thread>

using namespace kvc;
using namespace kvc::bench;
using namespace llvm;

//===----------------------------------------------------------------------===//
// Flags
//===----------------------------------------------------------------------===//

namespace {
enum class What : uint8_t { Decode, Prefill, Append, Compile, Runtime };
} // namespace

static cl::SubCommand command("bench",
                              "Measure kernels against what this machine can");

static cl::opt<std::string> inputFlag(cl::Positional,
                                      cl::desc("[SPEC|ARTIFACT]"),
                                      cl::sub(command),
                                      cl::cat(cli::verbOptions()));
static cli::Choices<What> opFlag(
    "op", cl::CommaSeparated, cl::desc("What to measure (default: decode)"),
    cl::values(clEnumValN(What::Decode, "decode", "one new token per sequence"),
               clEnumValN(What::Prefill, "prefill", "many new tokens"),
               clEnumValN(What::Append, "append", "encoding of new tokens"),
               clEnumValN(What::Compile, "compile", "spec to loaded program"),
               clEnumValN(What::Runtime, "runtime", "reserve and commit")),
    cl::sub(command), cl::cat(cli::verbOptions()));
static cl::list<unsigned> contextFlag(
    "context", cl::CommaSeparated, cl::value_desc("N,..."),
    cl::desc("Cached tokens per sequence (default: 8192, for decode "
             "32768 and 131072 as well)"),
    cl::sub(command), cl::cat(cli::verbOptions()));
static cl::list<unsigned> threadsFlag("threads", cl::CommaSeparated,
                                      cl::value_desc("N,..."),
                                      cl::desc("Threads (default: 1 and all)"),
                                      cl::sub(command),
                                      cl::cat(cli::verbOptions()));
static cl::list<unsigned>
    pageFlag("page-size", cl::CommaSeparated, cl::value_desc("N,..."),
             cl::desc("Tokens per page, instead of the spec's; 0: contiguous"),
             cl::sub(command), cl::cat(cli::verbOptions()));
static cl::opt<unsigned>
    batchFlag("batch", cl::init(0), cl::value_desc("N"),
              cl::desc("Sequences per call (default: 1, for runtime 64)"),
              cl::sub(command), cl::cat(cli::verbOptions()));
static cl::opt<unsigned>
    queriesFlag("queries", cl::init(0), cl::value_desc("N"),
                cl::desc("New tokens per sequence of prefill and append "
                         "(default: 512)"),
                cl::sub(command), cl::cat(cli::verbOptions()));
static cl::opt<unsigned>
    repsFlag("reps", cl::init(7), cl::value_desc("N"),
             cl::desc("Repetitions, interleaved; medians count (default: 7)"),
             cl::sub(command), cl::cat(cli::verbOptions()));
static cl::opt<bool> jitdumpFlag("jitdump",
                                 cl::desc("Show perf the kernels of a SPEC"),
                                 cl::sub(command), cl::cat(cli::verbOptions()));
static cl::opt<bool> jsonFlag("json", cl::desc("Print one JSON object"),
                              cl::sub(command), cl::cat(cli::verbOptions()));
static cli::CompileFlags compileFlags(command);

//===----------------------------------------------------------------------===//
// Subjects
//===----------------------------------------------------------------------===//

/// A whole file.
static SourceLoc about(std::string file) {
  SourceLoc loc;
  loc.file = std::move(file);
  return loc;
}

/// What is measured without a spec: the shape that the field publishes.
static std::vector<spec::Spec> builtInSpecs(Diagnostics &diagnostics) {
  constexpr const char *kText =
      R"({{"kvc": "0.1", "name": "{0}", "model": {{"layers": 1, "q_heads": 32,)"
      R"( "kv_heads": 8, "head_dim": 128, "dtype": "{1}"}, "streams": {{)"
      R"("k": {{"codec": "{0}"}, "v": {{"codec": "{0}"}}, )"
      R"("layout": {{"kind": "paged", "page": 256}})";
  std::vector<spec::Spec> specs;
  for (const char *codec : {"bf16", "f16", "int8"}) {
    StringRef dtype = StringRef(codec) == "f16" ? "f16" : "bf16";
    auto spec = spec::read(formatv(kText, codec, dtype).str(), "built-in spec",
                           diagnostics);
    if (spec)
      specs.push_back(std::move(*spec));
  }
  return specs;
}

/// The specs with each wanted page size in turn.
static std::vector<spec::Spec> withPages(std::vector<spec::Spec> specs,
                                         ArrayRef<unsigned> pages,
                                         Diagnostics &diagnostics) {
  if (pages.empty())
    return specs;
  std::vector<spec::Spec> result;
  for (const spec::Spec &spec : specs)
    for (unsigned page : pages) {
      spec::Spec variant = spec;
      for (spec::Store &store : variant.stores) {
        store.layout.paged = page != 0;
        if (page)
          store.layout.page = page;
      }
      // It is held to the rules as if it had been written.
      std::string name = spec.file + " with pages of " + std::to_string(page);
      if (auto read =
              spec::read(spec::canonicalText(variant), name, diagnostics))
        result.push_back(std::move(*read));
    }
  return result;
}

static std::optional<Subject> openArtifact(const std::string &name,
                                           std::vector<uint8_t> bytes,
                                           Diagnostics &diagnostics) {
  std::string error;
  auto bundle = artifact::Bundle::open(bytes, error);
  if (!bundle) {
    diagnostics.error("E-ARTIFACT", about(name), error);
    return std::nullopt;
  }
  Subject subject;
  subject.manifest = bundle->manifest();
  auto entry = bundle->find("spec.json");
  if (!entry) {
    diagnostics.error("E-ARTIFACT", about(name),
                      "the artifact holds no spec.json");
    return std::nullopt;
  }
  auto spec =
      spec::read({reinterpret_cast<const char *>(entry->data()), entry->size()},
                 name, diagnostics);
  if (!spec)
    return std::nullopt;
  auto nameOf = [](const auto &store) { return store.name; };
  if (!llvm::equal(llvm::map_range(spec->stores, nameOf),
                   llvm::map_range(subject.manifest.stores, nameOf))) {
    diagnostics.error("E-ARTIFACT", about(name),
                      "its spec.json has other stores than its manifest");
    return std::nullopt;
  }
  subject.counter = std::make_shared<TokenCounter>(*spec, subject.manifest);
  subject.name = subject.manifest.specName;
  subject.artifact = std::move(bytes);
  return subject;
}

namespace {

/// Either specs or one artifact, as the command line has it.
struct Input {
  std::vector<spec::Spec> specs;
  std::vector<Subject> subjects;
};

} // namespace

static std::optional<Input> readInput(const CompileOptions &options,
                                      Diagnostics &diagnostics) {
  Input input;
  std::vector<unsigned> pages(pageFlag.begin(), pageFlag.end());
  if (inputFlag.empty()) {
    if (pages.empty())
      pages = {0, 256, 64, 16};
    input.specs = withPages(builtInSpecs(diagnostics), pages, diagnostics);
    return input;
  }
  auto text = cli::readInput(inputFlag, artifact::kMaxBundleBytes, diagnostics);
  if (!text)
    return std::nullopt;
  if (!StringRef(*text).starts_with("PK")) {
    if (auto spec = spec::read(*text, cli::nameOf(inputFlag), diagnostics))
      input.specs = withPages({std::move(*spec)}, pages, diagnostics);
    return input;
  }
  if (!pages.empty())
    diagnostics.error("E-USAGE", about(cli::nameOf(inputFlag)),
                      "`--page-size` changes a spec, found an artifact");
  if (jitdumpFlag)
    diagnostics.error("E-USAGE", about(cli::nameOf(inputFlag)),
                      "`--jitdump` is for a spec, found an artifact");
  cli::checkArtifactFlags(options, inputFlag, diagnostics);
  auto subject = openArtifact(cli::nameOf(inputFlag),
                              {text->begin(), text->end()}, diagnostics);
  if (subject &&
      cli::checkHasCpu(subject->manifest, "bench", inputFlag, diagnostics))
    input.subjects.push_back(std::move(*subject));
  return input;
}

/// Compiles the specs into subjects, to be loaded as a JIT does.
static bool compileSubjects(Input &input, const CompileOptions &options,
                            Diagnostics &diagnostics) {
  std::string error;
  const kvc_code_loader *loader =
      jitdumpFlag ? orcDumpingCodeLoader(error) : orcCodeLoader();
  if (!loader) {
    diagnostics.error("E-OUTPUT", {}, "`--jitdump`: " + error);
    return false;
  }
  for (const spec::Spec &spec : input.specs) {
    auto output = compile(spec, options, diagnostics);
    if (!output)
      return false;
    auto subject =
        openArtifact(spec.name, std::move(output->artifact), diagnostics);
    if (!subject)
      return false;
    subject->loader = loader;
    input.subjects.push_back(std::move(*subject));
  }
  return true;
}

//===----------------------------------------------------------------------===//
// Run
//===----------------------------------------------------------------------===//

static bool wants(What what) {
  return opFlag.empty() ? what == What::Decode : is_contained(opFlag, what);
}

static unsigned allThreads() {
  return std::max(1u, std::thread::hardware_concurrency());
}

/// Zero is no count, and beyond these the arithmetic or the machine ends.
static bool checkFlags(Diagnostics &diagnostics) {
  auto check = [&](const llvm::cl::Option &flag, SourceLoc loc, unsigned value,
                   unsigned low, unsigned high) {
    if (value < low || value > high)
      diagnostics.error("E-USAGE", std::move(loc),
                        formatv("`--{0}` is {1} to {2}, found {3}", flag.ArgStr,
                                low, high, value)
                            .str());
  };
  auto checkAll = [&](const llvm::cl::list<unsigned> &flag, unsigned low,
                      unsigned high) {
    for (unsigned i = 0; i < flag.size(); ++i)
      check(flag, cli::commandLine().at(flag.getPosition(i)), flag[i], low,
            high);
  };
  auto checkOne = [&](const llvm::cl::opt<unsigned> &flag, unsigned low,
                      unsigned high) {
    if (flag.getNumOccurrences())
      check(flag, cli::at(flag), flag, low, high);
  };
  checkAll(contextFlag, 1, 1u << 24);
  checkAll(threadsFlag, 1, 1024);
  for (unsigned i = 0; i < threadsFlag.size(); ++i)
    if (threadsFlag[i] > allThreads())
      diagnostics.report(Severity::Warning, "W-THREADS",
                         cli::commandLine().at(threadsFlag.getPosition(i)),
                         formatv("{0} threads take turns on {1} CPUs: their "
                                 "times say little",
                                 threadsFlag[i], allThreads())
                             .str());
  checkAll(pageFlag, 0, 256);
  checkOne(batchFlag, 1, 4096);
  checkOne(queriesFlag, 1, 1u << 16);
  checkOne(repsFlag, 1, 1000);
  return !diagnostics.hasErrors();
}

static Plan makePlan() {
  Plan plan;
  for (auto [what, op] : {std::pair(What::Decode, Op::Decode),
                          std::pair(What::Prefill, Op::Prefill),
                          std::pair(What::Append, Op::Append)})
    if (wants(what))
      plan.ops.push_back(op);
  plan.contexts.assign(contextFlag.begin(), contextFlag.end());
  plan.threads.assign(threadsFlag.begin(), threadsFlag.end());
  if (plan.threads.empty())
    plan.threads = {1, allThreads()};
  llvm::sort(plan.threads);
  plan.threads.erase(llvm::unique(plan.threads), plan.threads.end());
  plan.batch = batchFlag ? batchFlag : 1;
  plan.queries = queriesFlag;
  plan.reps = repsFlag;
  return plan;
}

/// Times the compiler on each spec, before anything else has warmed it.
static bool timeCompiler(const Input &input, const CompileOptions &options,
                         std::vector<HostRow> &host, Diagnostics &diagnostics) {
  if (input.specs.empty()) {
    diagnostics.error("E-USAGE", about(cli::nameOf(inputFlag)),
                      "`--op=compile` takes a spec, found an artifact");
    return false;
  }
  for (const spec::Spec &spec : input.specs) {
    const spec::Layout &layout = spec.stores.front().layout;
    HostRow row;
    row.spec = spec.name;
    row.page = layout.paged ? layout.page : 0;
    row.firstOfProcess = host.empty();
    row.compile = timeCompile(spec, options, repsFlag, diagnostics);
    if (!row.compile)
      return false;
    host.push_back(std::move(row));
  }
  return true;
}

static bool timeRuntime(Input &input, std::vector<HostRow> &host,
                        Diagnostics &diagnostics) {
  for (Subject &subject : input.subjects) {
    HostRow row;
    row.spec = subject.name;
    row.page = subject.manifest.stores.front().page;
    row.sequences = batchFlag ? batchFlag : 64;
    row.step = timeSteps(subject, row.sequences, repsFlag);
    if (!row.step) {
      diagnostics.error("E-RUNTIME", {}, kvc_error_text());
      return false;
    }
    host.push_back(std::move(row));
  }
  return true;
}

static int runBench() {
  Diagnostics diagnostics;
  if (!checkFlags(diagnostics))
    return cli::finish(diagnostics, cli::ExitUsage);
  auto options = compileFlags.options(diagnostics);
  // Code for GPUs can be made anywhere.
  bool runs = opFlag.empty() || llvm::any_of(opFlag, [](What what) {
                return what != What::Compile;
              });
  if (!options ||
      (runs && !cli::checkDevices(*options, "bench", {"cpu"}, diagnostics)))
    return cli::finish(diagnostics, cli::ExitUsage);
  auto input = readInput(*options, diagnostics);
  if (!input || diagnostics.hasErrors())
    return cli::finish(diagnostics, cli::ExitFailed);

  Result result;
  std::vector<HostRow> host;
  if (wants(What::Compile) &&
      !timeCompiler(*input, *options, host, diagnostics))
    return cli::finish(diagnostics, cli::ExitFailed);
  Plan plan = makePlan();
  bool kernels = !plan.ops.empty();
  if ((kernels || wants(What::Runtime)) &&
      !compileSubjects(*input, *options, diagnostics))
    return cli::finish(diagnostics, cli::ExitFailed);
  if (wants(What::Runtime) && !timeRuntime(*input, host, diagnostics))
    return cli::finish(diagnostics, cli::ExitFailed);
  std::string error;
  if (kernels && !runRows(input->subjects, plan, result, error)) {
    diagnostics.error("E-BENCH", {}, error);
    return cli::finish(diagnostics, cli::ExitFailed);
  }
  if (jsonFlag)
    printJson(outs(), result, host);
  else
    printTable(outs(), result, host);
  return cli::finish(diagnostics);
}

const cli::Verb cli::benchVerb = {&command, runBench, R"(
Without a spec, measures 32/8 heads of 128 as bf16, f16 and int8, contiguous and
in pages of 256, 64 and 16. Rates count each cached byte that a query sees once,
scales included, and q and o; memory is cold. What an expression `visible` hides
does not count, though kernels skip it in whole tiles only: a tile that is seen
in part is read as a whole, and so is one of which its bounds do not tell that it
is hidden. Values that each call gives (`constants`) are 0.

`of max` is the part of what the best memory reader (prefill, and decode of so many
query heads that no core multiplies as fast as it reads: multiply unit) of this
machine gives, with as many threads. Machines are shared: what memory gives
moves by half within seconds. So a kernel is measured in many short windows, each
between two windows of the readers, and divided by what its neighbours read; the
figure is the median of these ratios, with the middle half of them in brackets.
Windows in which another process had a core of ours count only if fewer than five
are without.
Compare fractions, never rates of different runs. `~` marks a row whose middle
half spans more than 10 %; `^` one whose kernel outran the readers.

Kernels that are compiled here have names in debuggers, and with --jitdump in
perf: `perf record -k 1 kvc bench SPEC --jitdump`, then `perf inject --jit`.

EXAMPLES:
  kvc bench specs/examples/gqa_paged_bf16.json --context=8192
  kvc bench --op=decode,prefill --page-size=0,256 --json
  kvc bench --op=compile,runtime specs/examples/smollm2.json
  kvc bench --op=compile specs/examples/gqa_paged_bf16.json --target=sm_90
)"};
