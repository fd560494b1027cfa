//===- PlanTest.cpp - the plan kernel, emulated ---------------------------===//
//
// Against a list made one work tile at a time from the runtime's own splits,
// whatever the batch, the room and the lengths are.
//
//===----------------------------------------------------------------------===//
#include "runtime/AttendPlan.h"
#include "test/unit/Nvptx/KernelFixture.h"

#include "llvm/Support/FormatVariadic.h"

using namespace kvc;
using namespace kvc::nvptx;
using artifact::Word;

namespace {

std::string textOf(const KvcGpuWorkTile &i) {
  return llvm::formatv("sequence {0} head {1} [{2}, {3}) split {4}/{5} rows "
                       "[{6}, {7})",
                       i.sequence, i.head, i.begin, i.end, i.split_idx,
                       i.num_splits, i.row_begin, i.row_end);
}

/// What a plan is made from, and what it should be.
struct PlanCase {
  rt::AttendShape shape;
  std::vector<int64_t> rows; ///< per work tile, by variant
  std::vector<int32_t> cu = {0}, kvLen;
  int32_t maxKvLen = 0;
  int64_t splitRoom = 0;
  std::vector<int32_t> capacity;

  std::vector<int64_t> splitRow;
  std::vector<std::vector<KvcGpuWorkTile>> workTiles;

  void expect();
  void expectSequence(int32_t b, int64_t &nextRow);

  /// As many split rows as no memory holds.
  static constexpr int64_t kUnreal = int64_t(1) << 48;
};

void PlanCase::expect() {
  workTiles.assign(shape.variants.size(), {});
  int64_t nextRow = 0;
  for (int32_t b = 0; b < int32_t(kvLen.size()); ++b)
    expectSequence(b, nextRow);
  for (size_t v = 0; v < workTiles.size(); ++v)
    if (workTiles[v].size() > size_t(capacity[v]))
      workTiles[v].resize(capacity[v]);
}

void PlanCase::expectSequence(int32_t b, int64_t &nextRow) {
  int32_t n = cu[b + 1] - cu[b];
  int32_t length = std::clamp(kvLen[b], 0, maxKvLen);
  splitRow.push_back(nextRow);
  if (n == 0)
    return;
  uint32_t v = shape.variantFor(uint32_t(n));
  int64_t split = shape.variants[v].split;
  rt::ActiveSplits splits;
  if (length)
    splits = rt::activeSplits(shape, uint32_t(split), length - n, length - 1);
  int32_t numSplits = std::max(1, splits.count());
  if (numSplits > 1) {
    auto rows = __int128(numSplits) * n * shape.queryHeads;
    nextRow = int64_t(std::min<__int128>(nextRow + rows, kUnreal));
    if (nextRow > splitRoom)
      return;
  }
  int64_t group = shape.queryHeads / shape.kvHeads;
  for (int32_t splitIdx = 0; splitIdx < numSplits; ++splitIdx)
    for (int32_t head = 0; head < int32_t(shape.kvHeads); ++head)
      for (int64_t row = 0; row < n * group; row += rows[v]) {
        KvcGpuWorkTile workTile = {};
        workTile.sequence = b, workTile.head = head;
        workTile.split_idx = splitIdx, workTile.num_splits = numSplits;
        int64_t at = splits.count() ? splits.split(splitIdx) : 0;
        workTile.begin = split ? int32_t(at * split) : 0;
        workTile.end =
            split ? int32_t(std::min<int64_t>(workTile.begin + split, length))
                  : length;
        workTile.row_begin = int32_t(row);
        workTile.row_end = int32_t(std::min(row + rows[v], n * group));
        workTiles[v].push_back(workTile);
        // What lies beyond is left out anyway.
        if (workTiles[v].size() > size_t(capacity[v]))
          return;
      }
}

void checkPlan(PlanCase &plan, Compiled &compiled) {
  plan.expect();
  constexpr int64_t guard = 3;
  size_t variants = plan.shape.variants.size(), batch = plan.kvLen.size();
  std::vector<int64_t> splitRow(batch + guard, -7);
  std::vector<AlignedBytes> storage(variants);
  std::vector<std::vector<uint32_t>> splitCounters(variants);
  std::vector<int32_t> counts(variants, -7);
  Memory memory;
  std::vector<KvcGpuWorkTile *> tiles;
  KernelWords words;
  words.set(Word::CuQ, plan.cu.data());
  words.set(Word::KvLen, plan.kvLen.data());
  words.set(Word::SplitRow, splitRow.data());
  words.set(Word::Batch, int64_t(batch));
  words.set(Word::MaxKvLen, plan.maxKvLen);
  words.set(Word::SplitRows, plan.splitRoom);
  for (size_t v = 0; v < variants; ++v) {
    size_t bytes = (plan.capacity[v] + guard) * sizeof(KvcGpuWorkTile);
    storage[v] = AlignedBytes(bytes, 0x5a);
    splitCounters[v].assign(plan.capacity[v] + guard, 0x5a5a5a5a);
    tiles.push_back(reinterpret_cast<KvcGpuWorkTile *>(storage[v].data()));
    std::string of = artifact::attendName(v);
    words.set(Word::WorkTiles, tiles[v], of);
    words.set(Word::WorkCount, &counts[v], of);
    words.set(Word::WorkCounters, splitCounters[v].data(), of);
    words.set(Word::WorkCapacity, plan.capacity[v], of);
    memory.writes(storage[v].bytes()), memory.writes(splitCounters[v]);
  }
  memory.writes(counts), memory.writes(splitRow);
  memory.reads(plan.cu), memory.reads(plan.kvLen);
  ASSERT_NO_FATAL_FAILURE(compiled.run("s.plan", words, 1, memory));

  for (size_t v = 0; v < variants; ++v) {
    SCOPED_TRACE(llvm::formatv("variant {0}", v).str());
    size_t count = plan.workTiles[v].size();
    ASSERT_EQ(counts[v], int32_t(count));
    for (size_t i = 0; i < count; ++i) {
      ASSERT_EQ(textOf(tiles[v][i]), textOf(plan.workTiles[v][i]))
          << "work tile " << i;
      ASSERT_EQ(splitCounters[v][i], 0u) << "work tile " << i;
    }
    for (size_t i = count; i < splitCounters[v].size(); ++i) {
      ASSERT_EQ(splitCounters[v][i], 0x5a5a5a5au) << "work tile " << i;
      ASSERT_EQ(tiles[v][i].row_end, 0x5a5a5a5a) << "work tile " << i;
    }
  }
  for (size_t b = 0; b < batch; ++b)
    if (plan.splitRow[b] <= std::min(plan.splitRoom, PlanCase::kUnreal - 1))
      ASSERT_EQ(splitRow[b], plan.splitRow[b]) << "sequence " << b;
    else // of no use to anyone
      ASSERT_GE(splitRow[b], std::min(plan.splitRoom + 1, PlanCase::kUnreal))
          << "sequence " << b;
  for (size_t b = batch; b < splitRow.size(); ++b)
    ASSERT_EQ(splitRow[b], -7);
}

PlanCase somePlan(Random &random, const PlanCase &store, size_t batch) {
  PlanCase plan = store;
  bool few = random.pick(0, 1);
  int32_t longest = batch > 20 ? 200 : 2000;
  for (size_t b = 0; b < batch; ++b) {
    int32_t n = few ? random.pick(0, 2) : random.pick(0, 40);
    plan.cu.push_back(plan.cu.back() + n);
    switch (random.pick(0, 9)) {
    case 0:
      plan.kvLen.push_back(0);
      break;
    case 1: // not legal
      plan.kvLen.push_back(random.pick(-5, n));
      break;
    default:
      plan.kvLen.push_back(n + random.pick(0, longest));
    }
  }
  plan.maxKvLen = random.pick(0, 3) ? 1 << 20 : random.pick(0, longest);
  plan.capacity.assign(plan.shape.variants.size(), 20000);
  plan.splitRoom = 1 << 30;
  if (random.pick(0, 3) == 0)
    for (int32_t &capacity : plan.capacity)
      capacity = random.pick(0, 100);
  if (random.pick(0, 3) == 0)
    plan.splitRoom = random.pick(0, 3000);
  return plan;
}

/// What planning depends on.
struct PlanFacts {
  unsigned kvHeads, group, queries;
  unsigned rows[2], split[2]; ///< decode, prefill
  std::optional<spec::Read::Window> window;
};

PlanFacts someFacts(Random &random, uint32_t splitUnit) {
  PlanFacts facts;
  facts.kvHeads = random.pick(1, 3), facts.group = random.pick(1, 5);
  facts.queries = random.pick(1, 20);
  for (int v : {0, 1}) {
    facts.rows[v] = 8 << random.pick(0, 1);
    facts.split[v] = splitUnit * (v ? random.pick(0, 3) : random.pick(1, 4));
  }
  auto most = [&](int32_t usual) {
    return unsigned(random.pick(0, 9) ? random.pick(1, usual) : INT32_MAX);
  };
  if (random.pick(0, 1))
    facts.window = {random.pick(0, 2) ? most(100) : 0, most(300)};
  return facts;
}

/// A store of these facts.
struct PlanStore {
  spec::Spec spec;
  std::vector<std::string> overrides;
  PlanCase plan; ///< what does not depend on the batch

  PlanStore(Random &random, const PlanFacts &facts) : spec(randomSpec(random)) {
    spec.model.kvHeads = facts.kvHeads;
    spec.model.qHeads = facts.kvHeads * facts.group;
    spec::Store &store = spec.stores[0];
    store.scope.headBegin = 0, store.scope.headEnd = facts.kvHeads;
    spec.model.headDimK = spec.model.headDimV = 64;
    store.k.dim = store.v.dim = 64;
    // With products of bf16, work tiles may have 8 or 16 rows.
    spec.model.dtype = spec::DType::BF16;
    store.k.codec = store.v.codec = spec::FloatCodec{spec::DType::BF16};
    store.read.window = facts.window;
    rt::AttendShape &shape = plan.shape;
    shape.kvHeads = spec.model.kvHeads, shape.queryHeads = spec.model.qHeads;
    shape.dimV = 64;
    if (facts.window) {
      shape.window = true;
      shape.sink = facts.window->sink, shape.recent = facts.window->recent;
    }
    shape.variants.resize(2);
    shape.variants[0].minQueries = 1;
    shape.variants[1].minQueries = 1 + facts.queries;
    set(0, "queries", facts.queries);
    for (int v : {0, 1}) {
      shape.variants[v].split = facts.split[v];
      plan.rows.push_back(facts.rows[v]);
      set(v, "warps", 1), set(v, "tokens", 16), set(v, "stages", 2);
      set(v, "split", facts.split[v]), set(v, "rows", facts.rows[v]);
      set(v, "warpsSplitQ", 0);
    }
  }
  void set(int v, const char *field, int64_t value) {
    const char *kernel = v ? "prefill" : "decode";
    overrides.push_back(
        llvm::formatv("s.attend.{0}.{1}={2}", kernel, field, value));
  }
};

TEST(GpuPlan, CutsBatchesAsTheRuntimeDoes) {
  for (uint64_t seed = 0; seed < 12; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    PlanStore store(random, someFacts(random, 16));
    Compiled compiled(store.spec, store.overrides, Attends::Planned);
    for (size_t batch : {0, 1, 1, 2, 7, 31, 255, 256, 257, 600}) {
      SCOPED_TRACE(llvm::formatv("batch {0}", batch).str());
      PlanCase plan = somePlan(random, store.plan, batch);
      ASSERT_NO_FATAL_FAILURE(checkPlan(plan, compiled));
    }
  }
}

TEST(GpuPlan, NothingOverflowsWhateverTheLengthsAre) {
  for (uint64_t seed = 0; seed < 16; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    PlanFacts facts = someFacts(random, random.pick(0, 1) ? 16 : 4096);
    if (random.pick(0, 1))
      facts.kvHeads = 8192;
    PlanStore store(random, facts);
    Compiled compiled(store.spec, store.overrides, Attends::Planned);
    for (int batch = 0; batch < 6; ++batch) {
      PlanCase plan = store.plan;
      for (int b = 0; b < 300; ++b) {
        // Rows of all sequences together are below 2^31.
        int32_t n = b % 100 == 7        ? random.pick(1 << 27, 1 << 28)
                    : random.pick(0, 1) ? random.pick(0, 20)
                                        : random.pick(0, 1 << 21);
        plan.cu.push_back(plan.cu.back() + n);
        plan.kvLen.push_back(random.pick(0, 2) ? INT32_MAX - random.pick(0, 999)
                                               : random.pick(INT32_MIN, 99));
      }
      plan.maxKvLen = KVC_MAX_TOKENS;
      plan.capacity = {50, 50};
      int64_t rooms[] = {0, int64_t(1) << 40, INT64_MAX - 1};
      plan.splitRoom = rooms[random.pick(0, 2)];
      ASSERT_NO_FATAL_FAILURE(checkPlan(plan, compiled));
    }
  }
}

// 2^64 work tiles of a sequence, and 2^67 split rows, are not 0.
TEST(GpuPlan, CountsBeyond64Bits) {
  Random random(0);
  PlanFacts facts = {8192, 1, 1, {8, 8}, {16, 16}, std::nullopt};
  PlanStore store(random, facts);
  Compiled compiled(store.spec, store.overrides, Attends::Planned);
  PlanCase plan = store.plan;
  plan.cu = {0, 1 << 28, (1 << 28) + 1}, plan.kvLen = {1 << 30, 1};
  plan.maxKvLen = KVC_MAX_TOKENS;
  plan.capacity = {50, 50};
  for (int64_t room : {int64_t(1) << 40, INT64_MAX - 1}) {
    plan.splitRoom = room, plan.splitRow.clear();
    ASSERT_NO_FATAL_FAILURE(checkPlan(plan, compiled));
  }
}

} // namespace
