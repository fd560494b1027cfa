//===- CacheCheck.cpp - kernels through a kvc_cache -----------------------===//
#include "lib/driver/Verify/CacheCheck.h"
#include "lib/driver/Reference/Plain.h"
#include "lib/driver/Verify/Oracle.h"

#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/MathExtras.h"

#include <cstring>
#include <set>

using namespace kvc;
using namespace kvc::verify;

/// Steps of a case; rows of one that a sequence with a prefix gets at most, as
/// float64 goes over all of it; and rows that a prefix is appended in.
static constexpr unsigned kSteps = 5;
static constexpr int64_t kLongRows = 4, kChunk = 512;

bool ArenaCache::ok(kvc_status status, const char *call, Report &report) {
  if (status.code == KVC_OK)
    return true;
  report.fail("setup",
              llvm::formatv("{0}: {1}: {2}", call, kvc_code_name(status.code),
                            kvc_error_text()));
  return false;
}

/// Bytes that all pages for `limits` take in one store.
static size_t storeBytes(const CompiledStore &store,
                         const ArenaCache::Limits &limits) {
  size_t page = store.paged() ? store.page() : 64, row = 0;
  for (const CompiledStore::Plane &plane : store.planes)
    row += plane.rowBytes * store.heads() + 64; // each plane is aligned
  size_t tokens = llvm::alignTo(limits.tokens, page) + 2 * page;
  size_t layers = store.spec->scope.layers.size();
  size_t sequences = limits.tight ? limits.sequences : limits.sequences + 2;
  return tokens * sequences * row * layers;
}

std::unique_ptr<ArenaCache> ArenaCache::create(const CompiledSpec &compiledSpec,
                                               unsigned device,
                                               const Limits &limits,
                                               Random &random, Report &report) {
  std::unique_ptr<ArenaCache> made(new ArenaCache);
  size_t bytes = 1 << 16;
  for (const CompiledStore &store : compiledSpec.stores)
    bytes += (limits.tight ? 1 : 2) * storeBytes(store, limits);
  bool own = random.percent(30);
  if (!own) {
    made->arena.resize(bytes);
    mlir::Type type = compiledSpec.stores[0].planes[0].type;
    fill(made->arena.data(), bytes, type,
         random.pick({Poison::NaN, Poison::Random}), random);
  }
  kvc_cache_options options = {};
  options.size = sizeof(options);
  options.arena = own ? nullptr : made->arena.data();
  options.arena_bytes = bytes;
  options.max_sequences = limits.sequences;
  options.max_batch = limits.sequences;
  options.max_step_tokens = limits.stepTokens;
  options.max_tokens_per_seq = limits.tokens;
  options.max_rollback = limits.rollback;
  options.flags = random.percent(50) ? KVC_SINGLE_OWNER : 0;
  if (!ok(kvc_cache_create(compiledSpec.programs[device], &options,
                           &made->cache),
          "kvc_cache_create", report))
    return nullptr;
  for (const CompiledStore &store : compiledSpec.stores) {
    auto pointers =
        made->constants.emplace_back(store, limits.sequences).pointers();
    if (!ok(kvc_cache_set_constants(made->cache, store.index, KVC_ALL_LAYERS,
                                    pointers.data(), uint32_t(pointers.size())),
            "kvc_cache_set_constants", report))
      return nullptr;
  }
  return made;
}

void ArenaCache::setConstantRows(llvm::ArrayRef<int64_t> rows, Lent &lent) {
  for (ConstantArrays &arrays : constants) {
    arrays.setRows(rows);
    arrays.lend(lent);
  }
}

SequenceOutput verify::outputOf(const CompiledStore &store,
                                const TestSequence &sequence, int64_t first,
                                llvm::ArrayRef<uint8_t> o,
                                llvm::ArrayRef<float> lse) {
  int64_t heads = store.problem.qHeads, own = store.queryHeads();
  int64_t head =
      store.cache().getDimV() * store.problem.dtype.getIntOrFloatBitWidth() / 8;
  SequenceOutput output;
  for (int64_t row = first; row < first + sequence.queries; ++row) {
    int64_t at = row * heads + store.firstQuery();
    llvm::append_range(output.o, o.slice(at * head, own * head));
    llvm::append_range(output.lse, lse.slice(at, own));
  }
  return output;
}

namespace {

/// The harness's copy of a sequence: K and V of every layer under test.
struct Shadow {
  kvc_seq handle = {};
  int64_t length = 0;
  struct Layer {
    std::vector<float> k, v;
  };
  std::vector<Layer> layers;
};

/// One step: which shadows take part, and how many rows each gets.
struct Step {
  kvc_step handle = {};
  std::vector<size_t> shadows;
  std::vector<uint32_t> tokens;
  int64_t rows() const {
    int64_t sum = 0;
    for (uint32_t count : tokens)
      sum += count;
    return sum;
  }
};

class CacheCheck {
public:
  CacheCheck(const CompiledSpec &compiledSpec, uint64_t seed, uint64_t index,
             Visits visits)
      : compiledSpec(compiledSpec), model(compiledSpec.spec.model),
        random(seed, index, 'C'), visits(visits), index(index) {}
  Report run();

private:
  void plan();
  int64_t drawPrefix();
  bool appendPrefix();
  bool appendChunk(int64_t count);
  bool runSteps();
  bool openOne(size_t at);
  bool forkOne(size_t from, size_t to);
  bool replaceOne();
  std::optional<Step> reserve();
  bool runLayers(const Step &step);
  bool runLayer(const Step &step, size_t layer);
  std::vector<float> rows(int64_t count);
  std::vector<uint8_t> packed(llvm::ArrayRef<float> values) const;
  void judge(const CompiledStore &store, const Step &step, size_t layer,
             llvm::ArrayRef<float> q, llvm::ArrayRef<uint8_t> o,
             llvm::ArrayRef<float> lse);
  bool finish(const Step &step);
  mlir::Type dtype() const { return compiledSpec.stores[0].problem.dtype; }

  const CompiledSpec &compiledSpec;
  const spec::Model &model;
  Random random;
  const Visits visits;
  const uint64_t index;
  Report report;
  std::unique_ptr<ArenaCache> cache;
  int64_t prefix = 0; ///< tokens that sequence 0 begins with
  unsigned device = 0;
  ArenaCache::Limits limits;
  std::vector<unsigned> layers;
  std::vector<Shadow> shadows;
};

} // namespace

/// The first and last layer of every store; as many tokens as are cheap.
void CacheCheck::plan() {
  std::set<unsigned> chosen;
  for (const CompiledStore &store : compiledSpec.stores) {
    chosen.insert(store.spec->scope.layers.front());
    chosen.insert(store.spec->scope.layers.back());
  }
  layers.assign(chosen.begin(), chosen.end());
  int64_t dims = model.headDimK + model.headDimV;
  int64_t room = compiledSpec.emulators[0] ? 15'000 : 60'000;
  int64_t most = room / (dims * model.kvHeads * int64_t(layers.size()));
  limits.tokens = std::clamp<int64_t>(most, 20, 150);
  limits.sequences = random.range(1, 3);
  limits.stepTokens = limits.sequences * limits.tokens;
  limits.rollback = random.percent(50) ? random.range(1, 20) : 0;
  prefix = drawPrefix();
  if (!prefix)
    return;
  limits.tokens = prefix + kSteps * kLongRows;
  limits.sequences = std::min(limits.sequences, 2u);
  limits.stepTokens = kChunk;
  limits.tight = true;
}

/// Tokens with which steps begin next to a split or a window, where the cache
/// of all layers is not too large for that; otherwise 0.
int64_t CacheCheck::drawPrefix() {
  std::vector<int64_t> splits, windows;
  for (const CompiledStore &store : compiledSpec.stores) {
    if (int64_t split = store.variantFor(1).split)
      splits.push_back(split);
    if (store.spec->read.window)
      windows.push_back(store.problem.sink + store.problem.recent);
  }
  bool wanted = visits == Visits::Sample ? random.percent(15) : index % 2 == 0;
  // All splits, then all windows, from case to case.
  std::vector<int64_t> all = splits;
  llvm::append_range(all, windows);
  if (!wanted || all.empty())
    return 0;
  int64_t at = visits == Visits::Sample ? all[random.below(all.size())]
                                        : all[index / 2 % all.size()];
  int64_t tokens = at + random.range(-1, 1);
  int64_t most = compiledSpec.emulators[0]  ? 2'000'000
                 : visits == Visits::Sample ? 4'000'000
                                            : 300'000'000;
  int64_t elements =
      (model.headDimK + model.headDimV) * model.kvHeads * int64_t(model.layers);
  return tokens > limits.tokens && tokens * elements <= most ? tokens : 0;
}

/// Appends `count` rows to sequence 0 and commits them.
bool CacheCheck::appendChunk(int64_t count) {
  kvc_slot_request request{shadows[0].handle, uint32_t(count)};
  kvc_step step = {};
  if (!ArenaCache::ok(
          kvc_cache_reserve(cache->cache, &request, 1, nullptr, &step),
          "kvc_cache_reserve", report))
    return false;
  for (auto [layer, to] : llvm::zip(layers, shadows[0].layers)) {
    std::vector<float> kRows = rows(count * model.kvHeads * model.headDimK),
                       vRows = rows(count * model.kvHeads * model.headDimV);
    llvm::append_range(to.k, kRows);
    llvm::append_range(to.v, vRows);
    std::vector<uint8_t> k = packed(kRows), v = packed(vRows);
    Lent lent(compiledSpec.emulators[device]);
    lent.read(k.data(), k.size());
    lent.read(v.data(), v.size());
    if (!ArenaCache::ok(kvc_cache_append(cache->cache, step, layer, k.data(),
                                         storesV(compiledSpec.spec, layer)
                                             ? v.data()
                                             : nullptr),
                        "kvc_cache_append", report))
      return false;
  }
  shadows[0].length += count;
  return ArenaCache::ok(
             kvc_cache_mark_appended(cache->cache, step, KVC_ALL_LAYERS),
             "kvc_cache_mark_appended", report) &&
         ArenaCache::ok(kvc_cache_commit(cache->cache, step, nullptr),
                        "kvc_cache_commit", report);
}

bool CacheCheck::appendPrefix() {
  for (int64_t done = 0; done < prefix; done += kChunk)
    if (!appendChunk(std::min<int64_t>(kChunk, prefix - done)))
      return false;
  return true;
}

bool CacheCheck::openOne(size_t at) {
  shadows[at] = Shadow();
  shadows[at].layers.resize(layers.size());
  return ArenaCache::ok(kvc_cache_open(cache->cache, &shadows[at].handle),
                        "kvc_cache_open", report);
}

/// A sequence that begins with the tokens of another, less some of the last.
bool CacheCheck::forkOne(size_t from, size_t to) {
  Shadow &shadow = shadows[to];
  shadow = shadows[from];
  if (!ArenaCache::ok(
          kvc_cache_fork(cache->cache, shadows[from].handle, &shadow.handle),
          "kvc_cache_fork", report))
    return false;
  int64_t fewer =
      random.range(0, std::min<int64_t>(limits.rollback, shadow.length));
  kvc_status status = kvc_cache_truncate(cache->cache, shadow.handle,
                                         uint32_t(shadow.length - fewer));
  // The other one may be truncated already, as far as its windows allow.
  if (status.code == KVC_INVALID_ARGUMENT)
    return true;
  shadow.length -= fewer;
  for (Shadow::Layer &layer : shadow.layers) {
    layer.k.resize(shadow.length * model.kvHeads * model.headDimK);
    layer.v.resize(shadow.length * model.kvHeads * model.headDimV);
  }
  return ArenaCache::ok(status, "kvc_cache_truncate", report);
}

/// Ends a sequence; another takes its place, and in time its pages.
bool CacheCheck::replaceOne() {
  size_t at = random.below(shadows.size());
  if (prefix && at == 0)
    return true;
  if (!ArenaCache::ok(kvc_cache_release(cache->cache, shadows[at].handle),
                      "kvc_cache_release", report))
    return false;
  size_t from = random.below(shadows.size());
  return from == at ? openOne(at) : forkOne(from, at);
}

std::optional<Step> CacheCheck::reserve() {
  Step step;
  std::vector<kvc_slot_request> requests;
  for (size_t i = 0; i < shadows.size(); ++i) {
    int64_t room = limits.tokens - shadows[i].length;
    bool isLong = prefix && i == 0;
    if (room < 1 || (random.percent(30) && i + 1 < shadows.size() && !isLong))
      continue;
    int64_t count = random.percent(60)   ? random.range(1, 4)
                    : random.percent(70) ? random.range(1, 16)
                                         : random.range(17, 60);
    if (isLong)
      count = std::min(count, kLongRows);
    count = std::min(count, room);
    step.shadows.push_back(i);
    step.tokens.push_back(count);
    requests.push_back({shadows[i].handle, uint32_t(count)});
  }
  if (requests.empty())
    return std::nullopt;
  if (!ArenaCache::ok(kvc_cache_reserve(cache->cache, requests.data(),
                                        requests.size(), nullptr, &step.handle),
                      "kvc_cache_reserve", report))
    return std::nullopt;
  return step;
}

std::vector<float> CacheCheck::rows(int64_t count) {
  std::vector<float> values(count);
  for (float &x : values)
    x = reference::roundTo(dtype(), random.normal());
  return values;
}

std::vector<uint8_t> CacheCheck::packed(llvm::ArrayRef<float> values) const {
  std::vector<uint8_t> bits(values.size() *
                            (dtype().getIntOrFloatBitWidth() / 8));
  pack(dtype(), values, bits.data());
  return bits;
}

bool CacheCheck::runLayers(const Step &step) {
  for (size_t layer = 0; layer < layers.size(); ++layer)
    if (!runLayer(step, layer))
      return false;
  return true;
}

bool CacheCheck::runLayer(const Step &step, size_t layer) {
  int64_t count = step.rows();
  std::vector<float> q = rows(count * model.qHeads * model.headDimK),
                     k = rows(count * model.kvHeads * model.headDimK),
                     v = rows(count * model.kvHeads * model.headDimV);
  auto from = [](auto &all, int64_t row, int64_t width, int64_t count) {
    return llvm::ArrayRef<float>(all).slice(row * width, count * width);
  };
  int64_t row = 0;
  for (auto [at, tokens] : llvm::zip(step.shadows, step.tokens)) {
    Shadow::Layer &to = shadows[at].layers[layer];
    llvm::append_range(to.k,
                       from(k, row, model.kvHeads * model.headDimK, tokens));
    llvm::append_range(to.v,
                       from(v, row, model.kvHeads * model.headDimV, tokens));
    row += tokens;
  }
  if (compiledSpec.fault == Fault::LostRow)
    std::fill(k.end() - model.kvHeads * model.headDimK, k.end(), 0.f);
  std::vector<uint8_t> qBits = packed(q), kBits = packed(k), vBits = packed(v);
  std::vector<uint8_t> o(count * model.qHeads * model.headDimV *
                         (dtype().getIntOrFloatBitWidth() / 8));
  std::vector<float> lse(count * model.qHeads);
  Lent lent(compiledSpec.emulators[device]);
  for (auto *input : {&qBits, &kBits, &vBits})
    lent.read(input->data(), input->size());
  lent.write(o.data(), o.size());
  lent.write(lse.data(), lse.size() * 4);
  std::vector<int64_t> constantRows;
  for (auto [at, tokens] : llvm::zip(step.shadows, step.tokens))
    constantRows.push_back(constantRowOf(shadows[at].length + tokens, tokens));
  cache->setConstantRows(constantRows, lent);
  if (!ArenaCache::ok(kvc_cache_append(cache->cache, step.handle, layers[layer],
                                       kBits.data(),
                                       storesV(compiledSpec.spec, layers[layer])
                                           ? vBits.data()
                                           : nullptr),
                      "kvc_cache_append", report) ||
      !ArenaCache::ok(kvc_cache_attend(cache->cache, step.handle, layers[layer],
                                       qBits.data(), o.data(), lse.data()),
                      "kvc_cache_attend", report))
    return false;
  for (const CompiledStore &store : compiledSpec.stores)
    if (store.covers(layers[layer]))
      judge(store, step, layer, q, o, lse);
  return true;
}

void CacheCheck::judge(const CompiledStore &store, const Step &step,
                       size_t layer, llvm::ArrayRef<float> q,
                       llvm::ArrayRef<uint8_t> o, llvm::ArrayRef<float> lse) {
  int64_t width = model.qHeads * model.headDimK, row = 0;
  std::vector<TestSequence> sequences(step.shadows.size());
  std::vector<const TestSequence *> views;
  Output output;
  for (auto [i, sequence] : llvm::enumerate(sequences)) {
    const Shadow &shadow = shadows[step.shadows[i]];
    sequence.queries = step.tokens[i];
    sequence.length = shadow.length + sequence.queries;
    sequence.k = shadow.layers[layer].k;
    sequence.v = shadow.layers[layer].v;
    sequence.q = q.slice(row * width, sequence.queries * width).vec();
    quantize(store, sequence);
    output.push_back(outputOf(store, sequence, row, o, lse));
    views.push_back(&sequence);
    row += sequence.queries;
  }
  for (const TestSequence *sequence : views) {
    report.longest = std::max(report.longest, sequence->length);
    report.splits = std::max(
        report.splits, store.splitsOf(sequence->length, sequence->queries));
  }
  Oracle(store, views, report).judge(output, report);
  Placement placement;
  placement.scatter = true;
  placement.salt = random.next();
  BatchImage image(store, views, placement);
  auto direct = attend(compiledSpec, image, report);
  for (size_t i = 0; direct && i < views.size(); ++i)
    sameBits(store, output[i], (*direct)[i], "N11",
             llvm::formatv("kvc_cache_attend of layer {0} against kvc_attend, "
                           "sequence {1} of {2} tokens",
                           layers[layer], i, views[i]->length),
             report);
}

/// Commits all rows, or some, or none. Layers that are not under test hold
/// whatever they held.
bool CacheCheck::finish(const Step &step) {
  if (!ArenaCache::ok(
          kvc_cache_mark_appended(cache->cache, step.handle, KVC_ALL_LAYERS),
          "kvc_cache_mark_appended", report))
    return false;
  bool abandon = random.percent(10), draft = random.percent(25);
  std::vector<uint32_t> accepted = step.tokens;
  for (uint32_t &count : accepted)
    count = abandon ? 0 : draft ? random.range(0, count) : count;
  std::vector<uint32_t> told = accepted;
  for (uint32_t &count : told)
    if (compiledSpec.fault == Fault::LostCommit && count)
      --count;
  bool all = !abandon && told == step.tokens && random.percent(50);
  kvc_status status = abandon ? kvc_cache_abandon(cache->cache, step.handle)
                              : kvc_cache_commit(cache->cache, step.handle,
                                                 all ? nullptr : told.data());
  if (!ArenaCache::ok(
          status, abandon ? "kvc_cache_abandon" : "kvc_cache_commit", report))
    return false;
  for (auto [at, count] : llvm::zip(step.shadows, accepted)) {
    Shadow &shadow = shadows[at];
    shadow.length += count;
    for (Shadow::Layer &layer : shadow.layers) {
      layer.k.resize(shadow.length * model.kvHeads * model.headDimK);
      layer.v.resize(shadow.length * model.kvHeads * model.headDimV);
    }
    uint32_t length = 0;
    if (!ArenaCache::ok(kvc_cache_length(cache->cache, shadow.handle, &length),
                        "kvc_cache_length", report))
      return false;
    if (length != shadow.length)
      report.fail("cache", llvm::formatv("a sequence of {0} committed tokens "
                                         "has a length of {1}",
                                         shadow.length, length));
  }
  return !report.full();
}

bool CacheCheck::runSteps() {
  for (unsigned number = 0; number < kSteps; ++number) {
    if (random.percent(20) && !replaceOne())
      return false;
    auto step = reserve();
    if (step && (!runLayers(*step) || !finish(*step)))
      return false;
  }
  return true;
}

Report CacheCheck::run() {
  plan();
  device = random.below(Devices::kCount);
  cache = ArenaCache::create(compiledSpec, device, limits, random, report);
  if (!cache)
    return report;
  shadows.resize(limits.sequences);
  for (size_t i = 0; i < shadows.size(); ++i)
    if (!openOne(i))
      return report;
  if (appendPrefix() && runSteps())
    ArenaCache::ok(kvc_cache_check(cache->cache, 2), "kvc_cache_check", report);
  return report;
}

Report verify::checkCache(const CompiledSpec &compiledSpec, uint64_t seed,
                          uint64_t index, Visits visits) {
  return CacheCheck(compiledSpec, seed, index, visits).run();
}
