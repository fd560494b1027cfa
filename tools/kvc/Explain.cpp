//===- Explain.cpp - kvc explain: what a spec costs, and how it runs ------===//
#include "lib/base/Artifact/Bundle.h"
#include "lib/base/Artifact/KernelKey.h"
#include "lib/base/Spec/Reader.h"
#include "lib/base/Spec/Size.h"
#include "lib/base/Support/Words.h"
#include "lib/driver/Compiler/Remarks.h"
#include "tools/kvc/Cli.h"
#include "tools/kvc/TokenCounter.h"

#include "llvm/Support/Format.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/raw_ostream.h"

#include <cmath>

using namespace kvc;
using namespace kvc::cli;
namespace cl = llvm::cl;

static cl::SubCommand command("explain",
                              "Show what a spec costs, and how it will run");
static cl::opt<std::string> file(cl::Positional, cl::Required, cl::desc("SPEC"),
                                 cl::sub(command), cl::cat(verbOptions()));
static cl::opt<bool> asJson("json", cl::desc("Print JSON"), cl::sub(command),
                            cl::cat(verbOptions()));
static cl::opt<unsigned>
    context("context", cl::desc("Cached tokens per sequence (default: 8192)"),
            cl::init(8192), cl::sub(command), cl::cat(verbOptions()));
static cl::opt<unsigned> batch("batch",
                               cl::desc("Sequences of a step (default: 1)"),
                               cl::init(1), cl::sub(command),
                               cl::cat(verbOptions()));
static cl::opt<double>
    bandwidth("bandwidth",
              cl::desc("Memory bandwidth in GB/s, for a time: `kvc bench` "
                       "measures this machine's"),
              cl::value_desc("GB/S"), cl::init(0), cl::sub(command),
              cl::cat(verbOptions()));
static cl::opt<double>
    tflops("tflops",
           cl::desc("Arithmetic in TFLOP/s, to see which of the two bounds a "
                    "step: `kvc bench --op=prefill` measures this machine's"),
           cl::value_desc("TFLOP/S"), cl::init(0), cl::sub(command),
           cl::cat(verbOptions()));
static CompileFlags compileFlags(command);

namespace {

/// What one decode step of one store reads and computes, over all its layers.
struct StoreCost {
  uint64_t tokenBytes = 0;     ///< of one token, all layers
  uint64_t bf16TokenBytes = 0; ///< the same with every element as bf16
  uint64_t visible = 0; ///< cached tokens that one new token sees, at the kv
                        ///< head where it sees most
  /// Cache that a decode step reads, beyond any integer. CPUs skip what an
  /// expression hides, GPUs copy it.
  double stepBytes = 0, gpuStepBytes = 0;
  double stepFlops = 0; ///< multiplies and adds of QK and PV
  /// Why a step may see less than is counted; "": it sees as much.
  std::string atMost;
};

struct Explanation {
  spec::Spec spec;
  artifact::Manifest manifest;
  std::vector<Remark> remarks;
  std::vector<StoreCost> stores; ///< like spec.stores
  StoreCost total;
  bool forCpus = false, forGpus = false; ///< there are kernels for some

  /// Milliseconds at the given rates; 0 where none is given.
  double memoryMs() const {
    return bandwidth > 0 ? stepBytes(total) / bandwidth / 1e6 : 0;
  }
  double arithmeticMs() const {
    return tflops > 0 ? total.stepFlops / tflops / 1e9 : 0;
  }
  /// On CPUs, if there are kernels for some.
  double stepBytes(const StoreCost &cost) const {
    return forCpus ? cost.stepBytes : cost.gpuStepBytes;
  }
  bool isAtMost() const {
    return llvm::any_of(
        stores, [](const StoreCost &cost) { return !cost.atMost.empty(); });
  }
  /// What takes longer, if both are known.
  const char *bound() const {
    if (!(bandwidth > 0 && tflops > 0))
      return nullptr;
    return memoryMs() >= arithmeticMs() ? "memory" : "arithmetic";
  }
};

} // namespace

/// An expression is evaluated at each token, in some 50 ns.
static constexpr double kMostPlaces = 0x1p26;

/// Why a step of a store may see less than its read shows.
static std::string whyAtMost(const TokenCounter &counter, size_t index,
                             const spec::Store &store) {
  std::string constants = constantsOfVisible(store);
  if (!constants.empty())
    return "what `visible` hides depends on " + constants +
           ", which each call gives";
  if (counter.placesOf(index, context, 1) > kMostPlaces)
    return "what `visible` hides of so many tokens is not counted";
  return "";
}

static StoreCost costOf(const Explanation &all, const TokenCounter &counter,
                        size_t index) {
  const spec::Store &store = all.spec.stores[index];
  const artifact::StoreInfo &info = all.manifest.stores[index];
  StoreCost cost;
  uint64_t layers = store.scope.layers.size();
  uint64_t heads = store.scope.headEnd - store.scope.headBegin;
  cost.tokenBytes = layers * spec::tokenBytes(store);
  cost.bf16TokenBytes = layers * heads * (store.k.dim + store.v.dim) * 2;
  cost.visible = context;
  if (info.window)
    cost.visible =
        std::min<uint64_t>(context, uint64_t(info.sink) + info.recent);
  double tokens = double(batch) * double(cost.visible);
  cost.gpuStepBytes = tokens * double(cost.tokenBytes);
  double cached = tokens, scores = tokens * all.spec.model.group();
  cost.atMost = whyAtMost(counter, index, store);
  if (store.attend.visible && cost.atMost.empty()) {
    reference::SeenTokens seen = counter.of(index, context, 1);
    cost.visible = uint64_t(seen.longest);
    cached = batch * seen.cached / double(heads);
    scores = batch * seen.scores / double(heads);
  }
  cost.stepBytes = cached * double(cost.tokenBytes);
  cost.stepFlops =
      scores * double(layers * heads * 2 * (store.k.dim + store.v.dim));
  return cost;
}

static std::optional<Explanation> explain(Diagnostics &diagnostics,
                                          CompileOptions options) {
  auto spec = spec::readFile(file, diagnostics);
  if (!spec)
    return std::nullopt;
  // They are part of the answer here.
  options.emitRemarks = false;
  auto result = compile(*spec, options, diagnostics);
  if (!result)
    return std::nullopt;
  std::string error;
  auto bundle = artifact::Bundle::open(result->artifact, error);
  if (!bundle) {
    diagnostics.error("E-INTERNAL", {}, error);
    return std::nullopt;
  }
  Explanation all{std::move(*spec), bundle->manifest(), {}, {}, {}};
  for (const artifact::KernelInfo &kernel : all.manifest.kernels)
    (kernel.device == "cpu" ? all.forCpus : all.forGpus) = true;
  if (auto remarks = bundle->find(kRemarksName))
    all.remarks = readRemarks(
        {reinterpret_cast<const char *>(remarks->data()), remarks->size()});
  TokenCounter counter(all.spec, all.manifest);
  for (size_t index = 0; index < all.spec.stores.size(); ++index) {
    const StoreCost &cost =
        all.stores.emplace_back(costOf(all, counter, index));
    all.total.tokenBytes += cost.tokenBytes;
    all.total.bf16TokenBytes += cost.bf16TokenBytes;
    all.total.stepBytes += cost.stepBytes;
    all.total.gpuStepBytes += cost.gpuStepBytes;
    all.total.stepFlops += cost.stepFlops;
  }
  return all;
}

//===----------------------------------------------------------------------===//
// Text
//===----------------------------------------------------------------------===//

static std::string codecName(const spec::Stream &stream) {
  std::string dim = std::to_string(stream.dim) + " x ";
  return dim +
         std::visit(llvm::makeVisitor(
                        [](const spec::FloatCodec &stored) -> std::string {
                          return spec::name(stored.type);
                        },
                        [](const spec::IntCodec &code) {
                          return "int" + std::to_string(code.bits) + " + " +
                                 spec::name(code.scaleType);
                        }),
                    stream.codec);
}

static std::string layoutName(const spec::Layout &layout) {
  std::string order = layout.order == spec::PageOrder::HND ? " HND" : " NHD";
  return layout.paged ? "pages of " + std::to_string(layout.page) + order
                      : "contiguous" + order;
}

static std::string readName(const artifact::StoreInfo &store) {
  std::string ahead = store.causal ? "" : ", ahead too";
  if (!store.window)
    return "all" + ahead;
  return std::to_string(store.sink) + " + last " +
         std::to_string(store.recent) + ahead;
}

static std::string number(const char *format, double value) {
  std::string text;
  llvm::raw_string_ostream(text) << llvm::format(format, value);
  return text;
}

/// As "553.6 MB" for 5.536e8 and "B".
static std::string amount(double value, const char *unit) {
  const char *prefix = " kMGTPEZY";
  for (; value >= 999.95 && prefix[1]; ++prefix)
    value /= 1000;
  std::string text = number(*prefix == ' ' ? "%.0f " : "%.1f ", value);
  return text + (*prefix == ' ' ? "" : std::string(1, *prefix)) + unit;
}

static std::string ofBf16(const StoreCost &cost) {
  return number("%.1f %%", 100.0 * cost.tokenBytes / cost.bf16TokenBytes);
}

static void printStores(llvm::raw_ostream &os, const Explanation &all) {
  Table table({"store", "layers", "kv heads", "K", "V", "layout", "reads",
               ">B/token/layer", ">B/token", ">of bf16"});
  for (const auto &[store, info, cost] :
       llvm::zip(all.spec.stores, all.manifest.stores, all.stores))
    table.row({store.name, rangesOf(store.scope.layers),
               rangeOf(store.scope.headBegin, store.scope.headEnd),
               codecName(store.k), codecName(store.v), layoutName(store.layout),
               readName(info), std::to_string(spec::tokenBytes(store)),
               std::to_string(cost.tokenBytes), ofBf16(cost)});
  table.row({"all", "", "", "", "", "", "", "",
             std::to_string(all.total.tokenBytes), ofBf16(all.total)});
  table.print(os);
  for (const auto &[store, info] :
       llvm::zip(all.spec.stores, all.manifest.stores)) {
    if (const auto &logits = store.attend.logits)
      os << "  " << store.name << ": logits " << logits->text() << "\n";
    if (const auto &visible = store.attend.visible)
      os << "  " << store.name << ": visible " << visible->text() << "\n";
    if (const auto &sink = store.attend.sink)
      os << "  " << store.name << ": sink " << sink->text() << "\n";
    for (const artifact::ConstantInfo &constant : info.constants)
      os << "  " << store.name << ": each call gives " << constant.name << ", "
         << constant.type << (constant.perSequence ? " [batch][" : " [")
         << constant.size << "]\n";
  }
}

/// How many new tokens of a sequence lead to a kernel: no bound at the top if
/// no other kernel follows.
static std::string queriesOf(const artifact::Manifest &manifest,
                             const artifact::KernelInfo &kernel) {
  uint32_t next = 0;
  for (const artifact::KernelInfo &other : manifest.kernels)
    if (other.store == kernel.store && other.target == kernel.target &&
        other.minQueries > kernel.minQueries &&
        (!next || other.minQueries < next))
      next = other.minQueries;
  std::string first = std::to_string(kernel.minQueries);
  return next ? first + " to " + std::to_string(next - 1) : first + " and more";
}

static void printKernels(llvm::raw_ostream &os, const Explanation &all) {
  Table table({"kernel", "target", "new tokens", "schedule"});
  for (const artifact::DistinctKernel &distinct :
       artifact::distinctKernels(all.manifest)) {
    const artifact::KernelInfo &kernel = *distinct.info;
    table.row({artifact::nameOf(distinct), kernel.target,
               kernel.kind == "attend" ? queriesOf(all.manifest, kernel) : "",
               kernel.kind == "attend" ? kernel.schedule : ""});
  }
  table.print(os);
}

static void printStep(llvm::raw_ostream &os, const Explanation &all) {
  const double bytes = all.stepBytes(all.total);
  const char *most = all.isAtMost() ? "at most " : "";
  os << "decode step of " << batch << " x 1 token at " << context
     << " cached tokens: reads " << most << amount(bytes, "B") << ", computes "
     << most << amount(all.total.stepFlops, "FLOP");
  if (bytes > 0)
    os << ", " << number("%.1f flop/B", all.total.stepFlops / bytes);
  os << "\n";
  for (const auto &[store, cost] : llvm::zip(all.spec.stores, all.stores)) {
    if (!cost.atMost.empty())
      os << "  " << store.name << ": at most, as " << cost.atMost << "\n";
    else if (store.attend.visible)
      os << "  " << store.name << ": the new token sees " << cost.visible
         << " of them\n";
  }
  if (all.forGpus && all.total.gpuStepBytes > all.total.stepBytes) {
    os << "  GPUs copy what `visible` hides, but do not multiply it";
    if (all.forCpus)
      os << ": they read " << most << amount(all.total.gpuStepBytes, "B");
    os << "\n";
  }
}

static std::string asText(const Explanation &all) {
  const spec::Model &model = all.spec.model;
  std::string text;
  llvm::raw_string_ostream os(text);
  os << all.spec.name << ": " << model.layers << " layers, " << model.qHeads
     << " q heads over " << model.kvHeads << " kv heads, "
     << spec::name(model.dtype) << "\n\n";
  printStores(os, all);
  os << "\n";
  printKernels(os, all);
  for (const Remark &remark : all.remarks)
    os << "\n  " << remark.message << " [" << remark.code << "]";
  os << (all.remarks.empty() ? "\n" : "\n\n");
  printStep(os, all);
  if (bandwidth > 0)
    os << "memory takes " << number("%.3f ms", all.memoryMs()) << " at "
       << number("%g GB/s", bandwidth) << "\n";
  if (tflops > 0)
    os << "arithmetic takes " << number("%.3f ms", all.arithmeticMs()) << " at "
       << number("%g TFLOP/s", tflops) << "\n";
  if (const char *bound = all.bound())
    os << "bound by " << bound << "\n";
  else if (bandwidth > 0 || tflops > 0)
    os << "which of the two bounds it is known from --bandwidth and --tflops "
          "together\n";
  return text;
}

//===----------------------------------------------------------------------===//
// JSON
//===----------------------------------------------------------------------===//

static void jsonStores(llvm::json::OStream &os, const Explanation &all) {
  os.attributeArray("stores", [&] {
    for (const auto &[store, cost] : llvm::zip(all.spec.stores, all.stores))
      os.object([&] {
        os.attribute("name", store.name);
        os.attribute("bytes_per_token_layer", spec::tokenBytes(store));
        os.attribute("bytes_per_token", cost.tokenBytes);
        os.attribute("bf16_bytes_per_token", cost.bf16TokenBytes);
        os.attribute("visible_tokens", cost.visible);
        if (const auto &logits = store.attend.logits)
          os.attribute("logits", logits->text());
        if (const auto &visible = store.attend.visible)
          os.attribute("visible", visible->text());
        if (const auto &sink = store.attend.sink)
          os.attribute("sink", sink->text());
        os.attribute("at_most", !cost.atMost.empty());
        os.attribute("step_bytes", all.stepBytes(cost));
        os.attribute("step_flops", cost.stepFlops);
      });
  });
}

static std::string jsonText(const Explanation &all) {
  std::string text;
  llvm::raw_string_ostream stream(text);
  llvm::json::OStream os(stream, 2);
  os.object([&] {
    os.attribute("spec", all.spec.name);
    os.attribute("context", unsigned(context));
    os.attribute("batch", unsigned(batch));
    jsonStores(os, all);
    os.attribute("bytes_per_token", all.total.tokenBytes);
    os.attribute("bf16_bytes_per_token", all.total.bf16TokenBytes);
    os.attribute("at_most", all.isAtMost());
    os.attribute("step_bytes", all.stepBytes(all.total));
    if (all.forGpus)
      os.attribute("gpu_step_bytes", all.total.gpuStepBytes);
    os.attribute("step_flops", all.total.stepFlops);
    if (bandwidth > 0) {
      os.attribute("bandwidth_gb_s", double(bandwidth));
      os.attribute("memory_ms", all.memoryMs());
    }
    if (tflops > 0) {
      os.attribute("tflop_s", double(tflops));
      os.attribute("arithmetic_ms", all.arithmeticMs());
    }
    if (const char *bound = all.bound())
      os.attribute("bound", bound);
    os.attributeArray("kernels", [&] {
      for (const artifact::KernelInfo &kernel : all.manifest.kernels)
        os.object([&] {
          os.attribute("name", kernel.name);
          os.attribute("target", kernel.target);
          os.attribute("kind", kernel.kind);
          os.attribute("min_queries", kernel.minQueries);
          os.attribute("schedule", kernel.schedule);
        });
    });
    os.attributeArray("remarks", [&] {
      for (const Remark &remark : all.remarks)
        os.object([&] {
          os.attribute("code", remark.code);
          os.attribute("pointer", remark.pointer);
          os.attribute("message", remark.message);
        });
    });
  });
  stream << "\n";
  return text;
}

static int runExplain() {
  Diagnostics diagnostics;
  auto options = compileFlags.options(diagnostics);
  for (const cl::opt<unsigned> *count : {&context, &batch})
    if (*count < 1)
      diagnostics.error("E-USAGE", at(*count),
                        "`--" + count->ArgStr.str() + "` is at least 1");
  for (const cl::opt<double> *rate : {&bandwidth, &tflops})
    if (rate->getNumOccurrences() && !(std::isfinite(*rate) && *rate > 0))
      diagnostics.error("E-USAGE", at(*rate),
                        "`--" + rate->ArgStr.str() +
                            "` is a finite number above 0");
  if (!options || diagnostics.hasErrors())
    return finish(diagnostics, ExitUsage);
  if (auto all = explain(diagnostics, *options))
    writeOutput("-", asJson ? jsonText(*all) : asText(*all), diagnostics);
  return finish(diagnostics);
}

const Verb kvc::cli::explainVerb{&command, runExplain, R"(
A step reads what its new tokens see. CPUs skip what an expression `visible`
hides, GPUs copy it. `kvc help schedule` says what the fields of a schedule mean.

EXAMPLE:
  kvc explain specs/examples/smollm2.json --context=32768 --bandwidth=20
)"};
