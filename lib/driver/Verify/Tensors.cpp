//===- Tensors.cpp - a model's tensors through a cache --------------------===//
#include "lib/driver/Verify/Tensors.h"
#include "dialect/codecs/HostFloat.h"
#include "lib/driver/Verify/CacheCheck.h"
#include "lib/driver/Verify/Oracle.h"

#include "llvm/ADT/StringRef.h"
#include "llvm/Support/FormatVariadic.h"

#include <cmath>
#include <set>

using namespace kvc;
using namespace kvc::verify;

/// Query tokens of one step of a prefill.
static constexpr int64_t kChunk = 500;
/// Of single tokens that are judged as the steps that they came in, one in so
/// many is.
static constexpr int64_t kSample = 37;
/// Numbers that are taken from a file, of all layers: 2 GiB as f32. The
/// reference takes hours before this.
static constexpr uint64_t kMostElements = uint64_t(1) << 29;

static float roundTo(spec::DType dtype, float x) {
  switch (dtype) {
  case spec::DType::F32:
    return x;
  case spec::DType::F16:
    return fromF16(toF16(x));
  case spec::DType::BF16:
    return fromBF16(toBF16(x));
  }
  llvm_unreachable("no such dtype");
}

/// [tokens, heads, dim] of a file; an error if it has another shape.
static bool take(const Safetensors &file, const std::string &name,
                 uint64_t heads, uint64_t dim, spec::DType dtype,
                 int64_t tokens, std::vector<float> &to, std::string &error) {
  auto found = file.tensors().find(name);
  if (found == file.tensors().end())
    return error = "no tensor `" + name + "`", false;
  const auto &shape = found->second.shape;
  if (shape.size() != 3 || shape[1] != heads || shape[2] != dim ||
      int64_t(shape[0]) < tokens)
    return error = llvm::formatv("`{0}`: expected [>= {1}, {2}, {3}], found "
                                 "[{4}]",
                                 name, tokens, heads, dim,
                                 llvm::make_range(shape.begin(), shape.end())),
           false;
  auto values = file.values(found->second, tokens * heads * dim, error);
  if (!values)
    return error = "`" + name + "`: " + error, false;
  to = std::move(*values);
  for (float &x : to)
    x = roundTo(dtype, x);
  return true;
}

/// The layers that a file has, by its names; each counted once.
static std::set<unsigned> layersOf(const Safetensors &file) {
  std::set<unsigned> layers;
  for (const auto &[name, tensor] : file.tensors()) {
    llvm::StringRef rest = name;
    unsigned layer;
    if (rest.consume_front("layers.") && !rest.consumeInteger(10, layer))
      layers.insert(layer);
  }
  return layers;
}

std::optional<std::vector<LayerTensors>>
verify::takeLayers(const Safetensors &file, const spec::Spec &spec,
                   int64_t limit, std::string &error) {
  const spec::Model &model = spec.model;
  std::vector<LayerTensors> layers;
  uint64_t elements = 0;
  for (unsigned layer : layersOf(file)) {
    std::string prefix = "layers." + std::to_string(layer) + ".";
    if (layer >= model.layers)
      return error = "`" + prefix + "*`: the model has " +
                     std::to_string(model.layers) + " layers",
             std::nullopt;
    LayerTensors &to = layers.emplace_back();
    to.layer = layer;
    auto q = file.tensors().find(prefix + "q");
    if (q != file.tensors().end() && !q->second.shape.empty())
      to.tokens = std::min<uint64_t>(q->second.shape[0], INT32_MAX);
    if (limit)
      to.tokens = std::min(to.tokens, limit);
    elements += to.tokens * (model.qHeads * model.headDimK +
                             model.kvHeads * (model.headDimK + model.headDimV));
    if (elements > kMostElements)
      return error = llvm::formatv("`{0}*`: with {1} tokens it makes more than "
                                   "{2} numbers: ask for fewer `--tokens`",
                                   prefix, to.tokens, kMostElements),
             std::nullopt;
    if (!take(file, prefix + "q", model.qHeads, model.headDimK, model.dtype,
              to.tokens, to.q, error) ||
        !take(file, prefix + "k", model.kvHeads, model.headDimK, model.dtype,
              to.tokens, to.k, error) ||
        (storesV(spec, layer) &&
         !take(file, prefix + "v", model.kvHeads, model.headDimV, model.dtype,
               to.tokens, to.v, error)))
      return std::nullopt;
    if (!to.tokens || to.tokens != layers.front().tokens)
      return error = "`" + prefix + "q`: layers differ in tokens, or have none",
             std::nullopt;
  }
  if (layers.empty())
    return error = "no tensor is named `layers.<i>.q`", std::nullopt;
  return layers;
}

std::vector<LayerTensors> verify::makeLayers(const spec::Spec &spec,
                                             int64_t tokens, uint64_t seed) {
  std::set<unsigned> chosen;
  for (const spec::Store &store : spec.stores) {
    chosen.insert(store.scope.layers.front());
    chosen.insert(store.scope.layers.back());
  }
  const spec::Model &model = spec.model;
  std::vector<LayerTensors> layers;
  for (unsigned layer : chosen) {
    Random random(seed, layer, 'T');
    auto draw = [&](int64_t heads, int64_t dim) {
      std::vector<float> values(tokens * heads * dim);
      for (int64_t i = 0; i < int64_t(values.size()); ++i) {
        bool strong = i % dim % 23 == 5; // as models have a few
        values[i] = roundTo(model.dtype, random.normal() * (strong ? 4 : 1));
      }
      return values;
    };
    LayerTensors &to = layers.emplace_back();
    to.layer = layer;
    to.tokens = tokens;
    to.q = draw(model.qHeads, model.headDimK);
    to.k = draw(model.kvHeads, model.headDimK);
    to.v = draw(model.kvHeads, model.headDimV);
  }
  return layers;
}

namespace {

/// Bits of o and values of lse, [tokens][q heads] rows.
struct LayerOutput {
  std::vector<uint8_t> o;
  std::vector<float> lse;
};

constexpr unsigned kDevice = Devices::kCount - 1;

/// One pass over all tokens.
class Replay {
public:
  Replay(const CompiledSpec &compiledSpec,
         const std::vector<LayerTensors> &layers, int64_t step)
      : compiledSpec(compiledSpec), layers(layers), step(step),
        dtype(compiledSpec.stores[0].problem.dtype) {}
  std::optional<std::vector<LayerOutput>> run(Report &report);

private:
  bool runStep(ArenaCache &arena, kvc_seq seq, int64_t first, int64_t count,
               Report &report);
  std::vector<uint8_t> rows(const std::vector<float> &values, int64_t first,
                            int64_t count) const;

  const CompiledSpec &compiledSpec;
  const std::vector<LayerTensors> &layers;
  const int64_t step;
  mlir::Type dtype;
  std::vector<LayerOutput> outputs;
};

std::vector<uint8_t> Replay::rows(const std::vector<float> &values,
                                  int64_t first, int64_t count) const {
  int64_t width = values.size() / layers[0].tokens;
  std::vector<uint8_t> bits(count * width * dtype.getIntOrFloatBitWidth() / 8);
  pack(dtype, llvm::ArrayRef(values).slice(first * width, count * width),
       bits.data());
  return bits;
}

bool Replay::runStep(ArenaCache &arena, kvc_seq seq, int64_t first,
                     int64_t count, Report &report) {
  kvc_cache *cache = arena.cache;
  kvc_slot_request request = {seq, uint32_t(count)};
  kvc_step handle = {};
  if (!ArenaCache::ok(kvc_cache_reserve(cache, &request, 1, nullptr, &handle),
                      "kvc_cache_reserve", report))
    return false;
  for (auto [layer, output] : llvm::zip(layers, outputs)) {
    std::vector<uint8_t> q = rows(layer.q, first, count),
                         k = rows(layer.k, first, count),
                         v = rows(layer.v, first, count);
    int64_t oRow = output.o.size() / layer.tokens,
            lseRow = output.lse.size() / layer.tokens;
    Lent lent(compiledSpec.emulators[kDevice]);
    for (auto *input : {&q, &k, &v})
      lent.read(input->data(), input->size());
    lent.write(output.o.data(), output.o.size());
    lent.write(output.lse.data(), output.lse.size() * 4);
    arena.setConstantRows(constantRowOf(first + count, count), lent);
    if (!ArenaCache::ok(kvc_cache_append(cache, handle, layer.layer, k.data(),
                                         storesV(compiledSpec.spec, layer.layer)
                                             ? v.data()
                                             : nullptr),
                        "kvc_cache_append", report) ||
        !ArenaCache::ok(kvc_cache_attend(cache, handle, layer.layer, q.data(),
                                         &output.o[first * oRow],
                                         &output.lse[first * lseRow]),
                        "kvc_cache_attend", report))
      return false;
  }
  // A file of tensors may hold some layers only.
  return ArenaCache::ok(kvc_cache_mark_appended(cache, handle, KVC_ALL_LAYERS),
                        "kvc_cache_mark_appended", report) &&
         ArenaCache::ok(kvc_cache_commit(cache, handle, nullptr),
                        "kvc_cache_commit", report);
}

std::optional<std::vector<LayerOutput>> Replay::run(Report &report) {
  int64_t tokens = layers[0].tokens;
  ArenaCache::Limits limits;
  limits.tokens = tokens;
  limits.stepTokens = step;
  Random random(0, step, 'R');
  auto cache =
      ArenaCache::create(compiledSpec, kDevice, limits, random, report);
  kvc_seq seq = {};
  if (!cache || !ArenaCache::ok(kvc_cache_open(cache->cache, &seq),
                                "kvc_cache_open", report))
    return std::nullopt;
  const spec::Model &model = compiledSpec.spec.model;
  for (const LayerTensors &layer : layers) {
    LayerOutput &output = outputs.emplace_back();
    output.o.resize(layer.tokens * model.qHeads * model.headDimV *
                    (dtype.getIntOrFloatBitWidth() / 8));
    output.lse.resize(layer.tokens * model.qHeads);
  }
  for (int64_t first = 0; first < tokens; first += step)
    if (!runStep(*cache, seq, first, std::min(step, tokens - first), report))
      return std::nullopt;
  ArenaCache::ok(kvc_cache_check(cache->cache, 2), "kvc_cache_check", report);
  return std::move(outputs);
}

/// One layer's pass, judged in one store as the steps that it came in.
class StepJudge {
public:
  StepJudge(const CompiledStore &store, const LayerTensors &layer,
            Report &report)
      : store(store), layer(layer), report(report) {}

  /// All steps of `step` tokens, or of single tokens one in kSample.
  void judge(const LayerOutput &output, int64_t step);

private:
  const CompiledStore &store;
  const LayerTensors &layer;
  Report &report;
};

void StepJudge::judge(const LayerOutput &output, int64_t step) {
  auto upTo = [&](const std::vector<float> &values, int64_t first,
                  int64_t end) {
    int64_t width = values.size() / layer.tokens;
    return std::vector<float>(values.begin() + first * width,
                              values.begin() + end * width);
  };
  for (int64_t first = 0; first < layer.tokens; first += step) {
    if (step == 1 && first % kSample)
      continue;
    TestSequence sequence;
    sequence.length = std::min(first + step, layer.tokens);
    sequence.queries = sequence.length - first;
    sequence.q = upTo(layer.q, first, sequence.length);
    sequence.k = upTo(layer.k, 0, sequence.length);
    sequence.v = upTo(layer.v, 0, sequence.length);
    quantize(store, sequence);
    Oracle(store, &sequence, report)
        .judge({outputOf(store, sequence, first, output.o, output.lse)},
               report);
  }
}

} // namespace

std::vector<LayerReport>
verify::replay(const CompiledSpec &compiledSpec,
               const std::vector<LayerTensors> &layers) {
  std::vector<LayerReport> reports;
  Report setup;
  auto single = Replay(compiledSpec, layers, 1).run(setup);
  auto chunked = Replay(compiledSpec, layers, kChunk).run(setup);
  for (auto [i, layer] : llvm::enumerate(layers))
    for (const CompiledStore &store : compiledSpec.stores) {
      if (!store.covers(layer.layer))
        continue;
      LayerReport &to = reports.emplace_back();
      to.layer = layer.layer;
      to.store = store.spec->name;
      to.tokens = layer.tokens;
      to.report.add(setup);
      if (!single || !chunked)
        continue;
      TestSequence sequence;
      sequence.length = sequence.queries = layer.tokens;
      sequence.q = layer.q, sequence.k = layer.k, sequence.v = layer.v;
      quantize(store, sequence);
      const TestSequence *only = &sequence;
      Oracle oracle(store, only, to.report);
      for (auto [pass, step] :
           {std::pair(&*single, int64_t(1)), std::pair(&*chunked, kChunk)}) {
        const LayerOutput &output = (*pass)[i];
        if (store.dependsOnStep())
          StepJudge(store, layer, to.report).judge(output, step);
        else
          oracle.judge({outputOf(store, sequence, 0, output.o, output.lse)},
                       to.report);
      }
      if (std::string why = oracle.vacuous(); !why.empty())
        to.report.fail("N14",
                       llvm::formatv("layer {0}, store `{1}`: nothing was "
                                     "compared: {2}",
                                     layer.layer, to.store, why));
      to.report.longest = layer.tokens;
      to.report.splits = store.splitsOf(layer.tokens, 1);
      to.loss = oracle.quantisationLoss(to.report);
    }
  return reports;
}
