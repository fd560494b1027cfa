//===- Batch.cpp - sequences drawn at random ------------------------------===//
#include "lib/driver/Verify/Batch.h"
#include "lib/driver/Verify/BoundCheck.h"

using namespace kvc;
using namespace kvc::verify;

namespace {

/// Draws sizes while a budget lasts.
class Sizes {
public:
  Sizes(const CompiledStore &store, Random &random)
      : store(store), visits(boundsOf(store).visits), random(random) {
    int64_t dims = store.cache().getDimK() + store.cache().getDimV();
    tokenCost = store.kvHeads() * dims;
    pairCost = store.problem.qHeads * dims;
    // An emulated thread is a thousand times slower than a core.
    if (store.emulated)
      elements /= 20, macs /= 60;
    if (random.percent(3))
      elements *= 8, macs *= 4;
  }

  std::pair<int64_t, int64_t> draw();

private:
  int64_t length();
  int64_t queries(int64_t length);

  const CompiledStore &store;
  std::vector<Visit> visits; ///< lengths that are worth more than others
  Random &random;
  int64_t tokenCost, pairCost;
  /// Left of the budget: cached elements, and multiplications.
  int64_t elements = 400'000, macs = 6'000'000;
};

int64_t Sizes::length() {
  int64_t page = store.paged() ? store.page() : 32;
  int64_t near = random.range(-1, 1);
  switch (random.below(8)) {
  case 0:
    return random.pick({0, 1, 1, 2});
  case 1:
    return page + near;
  case 2:
    return page * random.range(1, 4) + near;
  case 3:
    return random.pick({16, 32, 64, 128}) + near;
  case 4:
    return visits[random.below(visits.size())].tokens;
  case 5:
    return random.percent(20) ? 10'000 + near : random.range(200, 1000);
  default:
    return random.range(1, 200);
  }
}

int64_t Sizes::queries(int64_t length) {
  int64_t most =
      std::max<int64_t>(1, macs / std::max<int64_t>(1, pairCost * length));
  int64_t count = 1;
  if (random.percent(25))
    count = random.range(
        2, std::min<int64_t>(16, store.variants[0].maxQueries + 1));
  else if (random.percent(25))
    count = random.pick({random.range(17, 64), random.range(17, 300), length});
  else if (random.percent(4))
    count = 0;
  return std::min(count, most);
}

std::pair<int64_t, int64_t> Sizes::draw() {
  int64_t tokens = std::max<int64_t>(0, length());
  if (tokens * tokenCost > elements)
    tokens = random.range(0, elements / tokenCost);
  int64_t count = queries(tokens);
  // Padding rows have no tokens; of others a query's own must be cached.
  if (tokens)
    count = std::min(count, tokens);
  elements -= tokens * tokenCost;
  macs = std::max<int64_t>(0, macs - count * tokens * pairCost);
  return {tokens, count};
}

DataKind randomKind(const CompiledStore &store, Random &random) {
  if (random.percent(55))
    return DataKind::Normal;
  DataKind kind =
      random.pick({DataKind::Sharp, DataKind::Channels, DataKind::Uneven,
                   DataKind::Uneven, DataKind::Equal, DataKind::Dominant,
                   DataKind::Decreasing, DataKind::Huge, DataKind::Denormal,
                   DataKind::Zero, DataKind::InfiniteV, DataKind::InfiniteK});
  // An integer codec clamps infinities: to the largest float, which says
  // nothing about the kernel.
  bool infinite = kind == DataKind::InfiniteV || kind == DataKind::InfiniteK;
  return infinite && store.quantised() ? DataKind::Normal : kind;
}

} // namespace

std::vector<TestSequence> verify::randomBatch(const CompiledStore &store,
                                              Random &random) {
  std::vector<TestSequence> sequences;
  Sizes sizes(store, random);
  // The first is never trivial: see N14.
  auto [tokens, queries] = sizes.draw();
  tokens = std::max<int64_t>(tokens, 3);
  queries = std::clamp<int64_t>(queries, 1, tokens);
  sequences.push_back(
      makeSequence(store, DataKind::Normal, tokens, queries, random));
  // Scores of variance 1 say little of what bends large ones.
  bool bends = store.softcap.has_value() || store.hasLogits();
  for (int64_t more = random.range(1, 5); more; --more) {
    auto [tokens, queries] = sizes.draw();
    DataKind kind = randomKind(store, random);
    if (bends)
      kind = DataKind::Sharp;
    bends = false;
    sequences.push_back(makeSequence(store, kind, tokens, queries, random));
  }
  // Padding rows, which see nothing.
  sequences.push_back(
      makeSequence(store, DataKind::Normal, 0, random.range(1, 3), random));
  random.shuffle(sequences);
  return sequences;
}

std::vector<TestSequence> verify::exactBatch(const CompiledStore &store,
                                             Random &random) {
  std::vector<TestSequence> sequences;
  Sizes sizes(store, random);
  for (int64_t more = random.range(2, 3); more; --more) {
    auto [tokens, queries] = sizes.draw();
    sequences.push_back(
        makeSequence(store, DataKind::Addresses, tokens, queries, random));
  }
  // Within one split: partial results are divided by their own sums, and a mean
  // over several is not exact.
  int64_t split = store.variantFor(1).split;
  int64_t power = int64_t(1) << random.range(0, store.emulated ? 7 : 9);
  while (split && power > split)
    power /= 2;
  int64_t most =
      100'000 /
      (store.kvHeads() * (store.cache().getDimK() + store.cache().getDimV()));
  while (power > 1 && power > most)
    power /= 2;
  sequences.push_back(makeSequence(store, DataKind::Mean, power, 1, random));
  random.shuffle(sequences);
  return sequences;
}

std::vector<TestSequence> verify::randomNeighbours(const CompiledStore &store,
                                                   Random &random) {
  std::vector<TestSequence> sequences;
  for (unsigned i = 0; i < 3; ++i) {
    int64_t length = random.range(0, 40);
    int64_t queries = random.range(1, std::clamp<int64_t>(length, 1, 20));
    sequences.push_back(
        makeSequence(store, DataKind::Normal, length, queries, random));
  }
  // All ones is a NaN in every float type.
  for (auto &plane : sequences.back().planes)
    std::fill(plane.begin(), plane.end(), 0xff);
  for (float &x : sequences.back().q)
    x = std::numeric_limits<float>::quiet_NaN();
  return sequences;
}
