//===- GpuWorkspaceTest.cpp - room for what a GPU's plan makes ------------===//
//
// The sizes are made of bounds; here, what batches within them really need, by
// the words of GpuAbi.h.
//
//===----------------------------------------------------------------------===//
#include "runtime/devices/Gpu.h"

#include <algorithm>
#include <gtest/gtest.h>
#include <random>

using namespace kvc;
using namespace kvc::rt;

namespace {

/// A store and what its kernels say in the manifest.
struct TestStore {
  TestStore(uint32_t kvHeads, uint32_t group, uint32_t dimV) {
    store.group = group;
    store.shape.kvHeads = kvHeads;
    store.shape.queryHeads = kvHeads * group;
    store.shape.dimV = dimV;
  }
  TestStore &window(uint32_t sink, uint32_t recent) {
    store.shape.window = true;
    store.shape.sink = sink;
    store.shape.recent = recent;
    return *this;
  }
  TestStore &attend(uint32_t minQueries, uint32_t rows, uint32_t split) {
    auto info = std::make_shared<artifact::KernelInfo>();
    info->rows = rows;
    GpuFunction function;
    function.info = info.get();
    infos.push_back(info);
    store.attend.push_back({function, {}});
    store.shape.variants.push_back({minQueries, rows / store.group, split});
    return *this;
  }

  GpuStore store;
  std::vector<std::shared_ptr<artifact::KernelInfo>> infos;
};

struct Sequence {
  uint32_t queries, length;
};

/// Without a word of how many tokens there are in all.
AttendBounds boundsOf(uint32_t batch, uint32_t rows, uint32_t maxQueries,
                      uint32_t maxKvLen) {
  return {batch, rows, maxQueries, maxKvLen, uint64_t(batch) * maxKvLen};
}

/// What a plan makes of a batch.
struct Needed {
  uint64_t workTiles[artifact::kMaxAttends] = {};
  int64_t splitRows = 0;
};

Needed neededBy(const GpuStore &store, const std::vector<Sequence> &batch) {
  Needed needed;
  for (const Sequence &s : batch) {
    if (s.queries == 0)
      continue;
    uint32_t v = store.shape.variantFor(s.queries);
    uint32_t split = store.shape.variants[v].split;
    // Which splits some query token sees, token by token.
    int64_t numSplits = 0;
    for (int64_t begin = 0; split && begin < s.length; begin += split) {
      bool seen = false;
      for (int64_t t = begin; t < begin + split && t < s.length; ++t)
        seen |= !store.shape.window || t < store.shape.sink ||
                t > int64_t(s.length) - s.queries - store.shape.recent;
      numSplits += seen;
    }
    numSplits = std::max<int64_t>(1, numSplits);
    uint64_t rows = uint64_t(s.queries) * store.group;
    uint64_t perWorkTile = store.attend[v].function.info->rows;
    needed.workTiles[v] += uint64_t(numSplits) * store.shape.kvHeads *
                           ((rows + perWorkTile - 1) / perWorkTile);
    if (numSplits > 1)
      needed.splitRows += numSplits * s.queries * store.shape.queryHeads;
  }
  return needed;
}

/// What tests look at of a plan: the regions and their ends.
std::vector<std::pair<size_t, size_t>>
regionsOf(const GpuStore &store, const GpuWorkspace &plan, uint32_t batch) {
  std::vector<std::pair<size_t, size_t>> regions;
  auto add = [&](size_t offset, size_t bytes) {
    EXPECT_EQ(offset % 64, 0u);
    if (bytes)
      regions.emplace_back(offset, offset + bytes);
  };
  add(plan.splitRow, size_t(batch) * 8);
  for (size_t v = 0; v < store.attend.size(); ++v) {
    const GpuWorkspace::Variant &at = plan.variants[v];
    add(at.count, 4);
    add(at.splitCounters, size_t(at.capacity) * 4);
    add(at.workTiles, size_t(at.capacity) * sizeof(KvcGpuWorkTile));
  }
  add(plan.lse, size_t(plan.splitRows) * 4);
  add(plan.o, size_t(plan.splitRows) * store.shape.dimV * 4);
  std::sort(regions.begin(), regions.end());
  return regions;
}

void expectApart(const GpuStore &store, const GpuWorkspace &plan,
                 uint32_t batch) {
  size_t end = 0;
  for (auto [from, to] : regionsOf(store, plan, batch)) {
    ASSERT_GE(from, end);
    end = to;
  }
  ASSERT_LE(end, plan.bytes);
  ASSERT_LT(plan.bytes, end + 64);
}

std::vector<TestStore> stores() {
  std::vector<TestStore> list;
  list.push_back(TestStore(8, 4, 128).attend(1, 16, 64).attend(5, 64, 0));
  list.push_back(TestStore(2, 1, 64).attend(1, 16, 16));
  list.push_back(TestStore(1, 7, 80).attend(1, 7, 32).attend(2, 21, 128));
  list.push_back(
      TestStore(4, 2, 64).window(4, 50).attend(1, 4, 16).attend(9, 32, 32));
  list.push_back(TestStore(3, 3, 64).window(70, 1).attend(1, 16, 8));
  list.push_back(TestStore(1, 128, 512)
                     .attend(1, 64, 64)
                     .attend(2, 128, 64)
                     .attend(17, 128, 256)
                     .attend(100, 128, 0));
  return list;
}

} // namespace

TEST(GpuWorkspace, AnyBatchWithinTheBoundsFits) {
  std::mt19937 random(3);
  auto pick = [&](uint32_t from, uint32_t to) {
    return from + uint32_t(random() % (to - from + 1));
  };
  int split = 0;
  for (TestStore &s : stores())
    for (int round = 0; round < 400; ++round) {
      std::vector<Sequence> batch(pick(1, 9));
      AttendBounds bounds = {uint32_t(batch.size()), 0, 1, 0, 0};
      uint32_t most = pick(0, 3) ? pick(1, 5) : pick(1, 130);
      for (Sequence &sequence : batch) {
        sequence.queries = pick(0, most);
        sequence.length = pick(0, 7) ? sequence.queries + pick(0, 300) : 0;
        bounds.rows += sequence.queries;
        bounds.maxQueries = std::max(bounds.maxQueries, sequence.queries);
        bounds.maxKvLen = std::max(bounds.maxKvLen, sequence.length);
        bounds.maxTokens += sequence.length;
      }
      bounds.rows = std::max(bounds.rows, 1u);
      // A window's pages are freed, so that a pool holds fewer than there are.
      if (s.store.shape.window)
        bounds.maxTokens /= pick(1, 9);
      GpuWorkspace plan;
      ASSERT_TRUE(plan.plan(s.store, bounds));
      Needed needed = neededBy(s.store, batch);
      for (size_t v = 0; v < s.store.attend.size(); ++v)
        ASSERT_LE(needed.workTiles[v], plan.variants[v].capacity);
      ASSERT_LE(needed.splitRows, plan.splitRows);
      split += needed.splitRows > 0;
      ASSERT_NO_FATAL_FAILURE(expectApart(s.store, plan, bounds.batch));
    }
  EXPECT_GT(split, 500) << "a test without splits";
}

// Of equal sequences that fill every block, a bound is what is needed.
TEST(GpuWorkspace, BoundsAreTight) {
  TestStore s = TestStore(8, 4, 128).attend(1, 16, 64);
  std::vector<Sequence> batch(6, {4, 640});
  GpuWorkspace plan;
  ASSERT_TRUE(plan.plan(s.store, boundsOf(6, 24, 4, 640)));
  Needed needed = neededBy(s.store, batch);
  EXPECT_EQ(plan.splitRows, needed.splitRows);
  EXPECT_EQ(plan.variants[0].capacity, needed.workTiles[0]);
  EXPECT_EQ(needed.workTiles[0], 6u * 8 * 10);
}

// kvc_attend_workspace is asked for the largest batch, and smaller ones run.
TEST(GpuWorkspace, SmallerBoundsNeedNoMore) {
  std::mt19937 random(5);
  for (TestStore &s : stores())
    for (int round = 0; round < 500; ++round) {
      uint32_t batch = 1 + uint32_t(random() % 8);
      uint32_t rows = 1 + uint32_t(random() % 300);
      uint32_t length = uint32_t(random() % 2000);
      GpuWorkspace large, small;
      ASSERT_TRUE(large.plan(s.store, boundsOf(batch, rows, rows, length)));
      AttendBounds less = {1 + uint32_t(random() % batch),
                           1 + uint32_t(random() % rows), 0,
                           uint32_t(random() % (length + 1)), 0};
      less.maxQueries = 1 + uint32_t(random() % less.rows);
      less.maxTokens = random() % (uint64_t(less.batch) * less.maxKvLen + 1);
      ASSERT_TRUE(small.plan(s.store, less));
      ASSERT_LE(small.bytes, large.bytes);
    }
}

TEST(GpuWorkspace, KernelsThatNoSequenceUsesGetNothing) {
  TestStore s =
      TestStore(2, 2, 64).attend(1, 8, 16).attend(5, 8, 16).attend(9, 8, 16);
  GpuWorkspace plan;
  ASSERT_TRUE(plan.plan(s.store, boundsOf(3, 20, 5, 100)));
  EXPECT_GT(plan.variants[0].capacity, 0u);
  EXPECT_GT(plan.variants[1].capacity, 0u);
  EXPECT_EQ(plan.variants[2].capacity, 0u);
  // The plan kernel writes every count.
  EXPECT_NE(plan.variants[2].count, plan.variants[1].count);
  GpuWorkspace decode;
  ASSERT_TRUE(decode.plan(s.store, boundsOf(3, 20, 4, 100)));
  EXPECT_EQ(decode.variants[1].capacity, 0u);
  // As many rows as three sequences of four have, whatever `rows` is.
  EXPECT_EQ(decode.splitRows, 12 * 4 * 7);
  ASSERT_TRUE(decode.plan(s.store, boundsOf(3, 20, 4, 100)));
  EXPECT_EQ(decode.splitRows, 12 * 4 * 7) << "planned twice";
}

TEST(GpuWorkspace, OneSplitNeedsNoRoomForPartials) {
  TestStore s = TestStore(2, 2, 64).attend(1, 8, 16);
  GpuWorkspace plan;
  ASSERT_TRUE(plan.plan(s.store, boundsOf(3, 20, 4, 16)));
  EXPECT_EQ(plan.splitRows, 0);
  ASSERT_TRUE(plan.plan(s.store, boundsOf(3, 20, 4, 17)));
  EXPECT_EQ(plan.splitRows, 12 * 4 * 2);
  ASSERT_TRUE(plan.plan(s.store, boundsOf(3, 20, 4, 0)));
  EXPECT_EQ(plan.splitRows, 0);
}

TEST(GpuWorkspace, AWindowBoundsTheSplits) {
  TestStore all = TestStore(1, 1, 64).attend(1, 8, 16);
  TestStore few = TestStore(1, 1, 64).window(4, 64).attend(1, 8, 16);
  GpuWorkspace plan, windowed;
  ASSERT_TRUE(plan.plan(all.store, boundsOf(1, 1, 1, 1 << 20)));
  ASSERT_TRUE(windowed.plan(few.store, boundsOf(1, 1, 1, 1 << 20)));
  EXPECT_EQ(plan.splitRows, 1 << 16);
  EXPECT_LE(windowed.splitRows, 8);
}

// 17.5 GB were asked for where a pool of 2^20 tokens is what there is.
TEST(GpuWorkspace, APoolBoundsTheWorkspace) {
  TestStore s = TestStore(8, 8, 128).attend(1, 16, 1024).attend(17, 128, 0);
  AttendBounds bounds = boundsOf(256, 8192, 8192, 128 << 10);
  GpuWorkspace product, pool, half, decode;
  ASSERT_TRUE(product.plan(s.store, bounds));
  EXPECT_GT(product.bytes, size_t(17) << 30 >> 1);
  bounds.maxTokens = 1 << 20;
  ASSERT_TRUE(pool.plan(s.store, bounds));
  // 16 rows of 64 heads in a split of every 1024 tokens, and one more of each
  // sequence.
  EXPECT_EQ(pool.splitRows, 16 * 64 * (1024 + 256));
  EXPECT_LT(pool.bytes, size_t(700) << 20);
  bounds.maxTokens /= 4;
  ASSERT_TRUE(half.plan(s.store, bounds));
  EXPECT_LT(half.bytes, pool.bytes / 2);
  // One new token of each.
  bounds.maxTokens = 1 << 20;
  bounds.rows = 256, bounds.maxQueries = 1;
  ASSERT_TRUE(decode.plan(s.store, bounds));
  EXPECT_LT(decode.bytes, size_t(50) << 20);
}

// A few long sequences among many short ones, at the bounds' corners.
TEST(GpuWorkspace, BatchesOfAPoolFit) {
  std::mt19937 random(17);
  auto pick = [&](uint32_t from, uint32_t to) {
    return from + uint32_t(random() % (to - from + 1));
  };
  int close = 0;
  for (TestStore &s : stores())
    for (int round = 0; round < 400; ++round) {
      uint32_t most = pick(1, 20), longest = pick(1, 900);
      AttendBounds bounds = {pick(1, 12), pick(most, 200), most, longest,
                             pick(1, 3000)};
      std::vector<Sequence> batch;
      uint64_t rows = bounds.rows, tokens = bounds.maxTokens;
      while (batch.size() < bounds.batch && rows) {
        Sequence sequence;
        sequence.queries = uint32_t(
            std::min<uint64_t>(rows, pick(0, 2) ? most : pick(0, most)));
        sequence.length = uint32_t(std::min<uint64_t>(
            tokens, pick(0, 2) ? longest : pick(0, longest)));
        rows -= sequence.queries;
        // Windows may be longer than the pool, whose pages they free.
        tokens -= s.store.shape.window ? 0 : sequence.length;
        batch.push_back(sequence);
      }
      GpuWorkspace plan;
      ASSERT_TRUE(plan.plan(s.store, bounds));
      Needed needed = neededBy(s.store, batch);
      for (size_t v = 0; v < s.store.attend.size(); ++v)
        ASSERT_LE(needed.workTiles[v], plan.variants[v].capacity);
      ASSERT_LE(needed.splitRows, plan.splitRows);
      close += needed.splitRows && needed.splitRows * 2 > plan.splitRows;
    }
  EXPECT_GT(close, 200) << "bounds that nothing comes near";
}

TEST(GpuWorkspace, MoreWorkThanCanBeCountedIsRefused) {
  TestStore s = TestStore(8, 4, 128).attend(1, 16, 64);
  GpuWorkspace plan;
  // 2^14 splits of 8 heads and a block of each sequence.
  EXPECT_TRUE(plan.plan(s.store, boundsOf(1 << 12, 1 << 14, 1, 1 << 20)));
  EXPECT_EQ(plan.variants[0].capacity, 1u << 29);
  EXPECT_TRUE(plan.plan(s.store, boundsOf(1 << 13, 1 << 13, 1, 1 << 20)));
  EXPECT_EQ(plan.variants[0].capacity, 1u << 30);
  EXPECT_FALSE(
      plan.plan(s.store, boundsOf((1 << 13) + 1, 1 << 14, 1, 1 << 20)));
  // Products beyond 64 bits.
  TestStore fine = TestStore(2048, 2, 128).attend(1, 1, 1);
  EXPECT_FALSE(plan.plan(
      fine.store, boundsOf(UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX)));
  EXPECT_FALSE(
      plan.plan(fine.store, boundsOf(1u << 31, 1u << 31, 1u << 31, 1u << 31)));
}
