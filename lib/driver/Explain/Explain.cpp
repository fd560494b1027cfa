//===- Explain.cpp - what a spec costs, and how it runs -------------------===//
#include "lib/driver/Explain/Explain.h"

#include "lib/base/Artifact/Bundle.h"
#include "lib/base/Spec/Size.h"
#include "lib/driver/Explain/TokenCounter.h"

#include "llvm/Support/JSON.h"
#include "llvm/Support/raw_ostream.h"

using namespace kvc;

double Explanation::memoryMs() const {
  return step.bandwidth > 0 ? stepBytes(total) / step.bandwidth / 1e6 : 0;
}

double Explanation::arithmeticMs() const {
  return step.tflops > 0 ? total.stepFlops / step.tflops / 1e9 : 0;
}

bool Explanation::isAtMost() const {
  return llvm::any_of(
      stores, [](const StoreCost &cost) { return !cost.atMost.empty(); });
}

const char *Explanation::bound() const {
  if (!(step.bandwidth > 0 && step.tflops > 0))
    return nullptr;
  return memoryMs() >= arithmeticMs() ? "memory" : "arithmetic";
}

/// An expression is evaluated at each token, in some 50 ns.
static constexpr double kMostPlaces = 0x1p26;

/// Why a step of a store may see less than its read shows.
static std::string whyAtMost(const TokenCounter &counter, size_t index,
                             const spec::Store &store, uint32_t context) {
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
  const auto [context, batch] = std::pair(all.step.context, all.step.batch);
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
  cost.atMost = whyAtMost(counter, index, store, context);
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

std::optional<Explanation> kvc::explain(const spec::Spec &spec,
                                        CompileOptions options,
                                        const DecodeStep &step,
                                        Diagnostics &diagnostics) {
  // They are part of the answer here.
  options.emitRemarks = false;
  auto result = compile(spec, options, diagnostics);
  if (!result)
    return std::nullopt;
  std::string error;
  auto bundle = artifact::Bundle::open(result->artifact, error);
  if (!bundle) {
    diagnostics.error("E-INTERNAL", {}, error);
    return std::nullopt;
  }
  Explanation all;
  all.spec = spec;
  all.manifest = bundle->manifest();
  all.step = step;
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

std::string kvc::toJson(const Explanation &all) {
  std::string text;
  llvm::raw_string_ostream stream(text);
  llvm::json::OStream os(stream, 2);
  os.object([&] {
    os.attribute("spec", all.spec.name);
    os.attribute("context", all.step.context);
    os.attribute("batch", all.step.batch);
    jsonStores(os, all);
    os.attribute("bytes_per_token", all.total.tokenBytes);
    os.attribute("bf16_bytes_per_token", all.total.bf16TokenBytes);
    os.attribute("at_most", all.isAtMost());
    os.attribute("step_bytes", all.stepBytes(all.total));
    if (all.forGpus)
      os.attribute("gpu_step_bytes", all.total.gpuStepBytes);
    os.attribute("step_flops", all.total.stepFlops);
    if (all.step.bandwidth > 0) {
      os.attribute("bandwidth_gb_s", all.step.bandwidth);
      os.attribute("memory_ms", all.memoryMs());
    }
    if (all.step.tflops > 0) {
      os.attribute("tflop_s", all.step.tflops);
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
