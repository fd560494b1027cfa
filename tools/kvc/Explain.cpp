//===- Explain.cpp - kvc explain: what a spec costs, and how it runs ------===//
#include "lib/driver/Explain/Explain.h"
#include "lib/base/Artifact/KernelKey.h"
#include "lib/base/Spec/Reader.h"
#include "lib/base/Spec/Size.h"
#include "lib/base/Support/Words.h"
#include "tools/kvc/Cli.h"

#include "llvm/Support/Format.h"
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

//===----------------------------------------------------------------------===//
// Text
//===----------------------------------------------------------------------===//

static std::string codecName(const spec::Stream &stream) {
  if (stream.ofK)
    return std::to_string(stream.dim) + " of K";
  std::string dim = std::to_string(stream.dim) + " x ";
  return dim +
         std::visit(llvm::makeVisitor(
                        [](const spec::FloatCodec &stored) -> std::string {
                          return spec::name(stored.type);
                        },
                        [](const spec::IntCodec &code) {
                          std::string text = "int" + std::to_string(code.bits) +
                                             " + " + spec::name(code.scaleType);
                          if (code.zeroType)
                            text += std::string(code.zeroBetweenCodes
                                                    ? " + float zero "
                                                    : " + zero ") +
                                    spec::name(*code.zeroType);
                          if (code.group)
                            text += " per " + std::to_string(code.group);
                          if (code.extreme)
                            text += " extreme";
                          if (code.exact)
                            text += " exact";
                          if (code.rounding != spec::IntCodec::Rounding::Even)
                            text += std::string(" ") + name(code.rounding);
                          return text;
                        },
                        [](const spec::MinifloatCodec &stored) {
                          std::string text = spec::name(stored.format);
                          if (stored.scaleType)
                            text += std::string(" + ") +
                                    spec::name(*stored.scaleType);
                          if (stored.group)
                            text += " per " + std::to_string(stored.group);
                          return text;
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
  auto spec = spec::readFile(file, diagnostics);
  if (!spec)
    return finish(diagnostics);
  DecodeStep step{context, batch, bandwidth, tflops};
  if (auto all = explain(*spec, *options, step, diagnostics))
    writeOutput("-", asJson ? toJson(*all) : asText(*all), diagnostics);
  return finish(diagnostics);
}

const Verb kvc::cli::explainVerb{&command, runExplain, R"(
A step reads what its new tokens see. CPUs skip what an expression `visible`
hides, GPUs copy it. `kvc help schedule` says what the fields of a schedule mean.

EXAMPLE:
  kvc explain specs/examples/smollm2.json --context=32768 --bandwidth=20
)"};
