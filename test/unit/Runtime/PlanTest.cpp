//===- PlanTest.cpp - work tiles cover a batch exactly --------------------===//
#include "runtime/AttendPlan.h"
#include "runtime/include/kvc/runtime.h"

#include <cstring>
#include <gtest/gtest.h>
#include <map>
#include <random>
#include <set>
#include <tuple>

using namespace kvc::rt;

namespace {

struct Batch {
  std::vector<int32_t> cuQ = {0}, kvLen, table;
  std::vector<uint64_t> workspace;
  kvc_attend_args args = {};

  void finish(size_t workspaceBytes) {
    workspace.resize(workspaceBytes / 8 + 16);
    table.resize(kvLen.size());
    args.batch = uint32_t(kvLen.size());
    args.cu_q = cuQ.data();
    args.kv_len = kvLen.data();
    args.table = table.data();
    args.table_stride = 1;
    uintptr_t at = (uintptr_t(workspace.data()) + 63) / 64 * 64;
    args.workspace = reinterpret_cast<void *>(at);
    args.workspace_bytes = workspaceBytes;
  }
};

using Random = std::mt19937;

int32_t pick(Random &random, int32_t low, int32_t high) {
  return std::uniform_int_distribution<int32_t>(low, high)(random);
}

AttendShape randomShape(Random &random) {
  AttendShape shape;
  uint32_t splits[] = {0, 1, 4, 7, 16};
  uint32_t min = 1;
  for (int i = pick(random, 1, 3); i > 0; --i) {
    uint32_t most = uint32_t(pick(random, 1, 6));
    shape.variants.push_back({min, most, splits[pick(random, 0, 4)]});
    min += uint32_t(pick(random, 1, 8));
  }
  shape.kvHeads = uint32_t(pick(random, 1, 3));
  shape.queryHeads = shape.kvHeads * uint32_t(pick(random, 1, 3));
  shape.dimV = 8;
  shape.window = pick(random, 0, 1);
  shape.sink = shape.window ? uint32_t(pick(random, 0, 20)) : 0;
  shape.recent = shape.window ? uint32_t(pick(random, 1, 20)) : 0;
  shape.causal = pick(random, 0, 2);
  return shape;
}

Batch randomBatch(Random &random) {
  Batch batch;
  for (int i = pick(random, 1, 6); i > 0; --i) {
    int32_t n = pick(random, 0, 3) ? pick(random, 0, 20) : 0;
    bool padding = pick(random, 0, 4) == 0;
    batch.cuQ.push_back(batch.cuQ.back() + n);
    batch.kvLen.push_back(padding ? 0 : n + pick(random, 0, 50));
  }
  return batch;
}

bool sees(const AttendShape &shape, int64_t position, int64_t token) {
  return (token <= position || !shape.causal) &&
         (!shape.window || token < shape.sink ||
          token > position - shape.recent);
}

/// What the kernels would have computed: (row, head, token) -> times.
struct Coverage {
  std::map<std::tuple<int64_t, int, int64_t>, int> seen;
  std::set<std::pair<int64_t, int>> merged;
  std::set<int64_t> splitRows;
};

/// An array that a kernel is given.
template <class T> const T *arrayOf(const Environment &words, Word word) {
  return reinterpret_cast<const T *>(words[Environment::indexOf(word, 0)]);
}

void runWorkTile(const AttendShape &shape, const Wave &wave,
                 const Environment &words, uint32_t index, Coverage &coverage) {
  KvcWorkTile workTile = {};
  uint32_t variant = AttendPlan::workTile(shape, wave, index, workTile);
  auto *cuQ = arrayOf<int32_t>(words, Word::CuQ);
  auto *kvLen = arrayOf<int32_t>(words, Word::KvLen);
  int b = workTile.sequence;
  ASSERT_LT(uint32_t(b) - wave.first, wave.count);
  ASSERT_LT(workTile.row_begin, workTile.row_end);
  ASSERT_LE(uint32_t(workTile.row_end - workTile.row_begin),
            shape.variants[variant].maxQueries);
  uint32_t split = shape.variants[variant].split;
  if (split) {
    ASSERT_EQ(workTile.begin % int32_t(split), 0);
  }
  int n = cuQ[b + 1] - cuQ[b];
  ASSERT_LE(workTile.row_end, n);
  ASSERT_LE(workTile.end, kvLen[b]);
  for (int i = workTile.row_begin; i < workTile.row_end; ++i) {
    for (uint32_t h = 0; h < shape.queryHeads / shape.kvHeads; ++h) {
      int64_t query = int64_t(workTile.split_idx) * workTile.split_queries + i;
      int64_t row = workTile.split_row + query * shape.queryHeads +
                    workTile.head * (shape.queryHeads / shape.kvHeads) + h;
      ASSERT_TRUE(coverage.splitRows.insert(row).second) << "split row shared";
    }
    int64_t position = kvLen[b] - n + i;
    for (int64_t t = workTile.begin; t < workTile.end; ++t)
      if (sees(shape, position, t))
        coverage.seen[{cuQ[b] + i, workTile.head, t}] += 1;
  }
}

void runMerge(const AttendShape &shape, const Wave &wave,
              const Environment &words, uint32_t index, Coverage &coverage) {
  KvcWorkTile workTile = {};
  AttendPlan::merge(shape, wave, index, workTile);
  ASSERT_EQ(
      workTile.split_idx,
      wave.sequences[uint32_t(workTile.sequence) - wave.first].splits.count());
  for (int i = workTile.row_begin; i < workTile.row_end; ++i)
    ASSERT_TRUE(
        coverage.merged
            .insert({arrayOf<int32_t>(words, Word::CuQ)[workTile.sequence] + i,
                     workTile.head})
            .second)
        << "merged twice";
}

/// Runs the whole plan; fails the test at the first thing that is wrong.
void checkCover(const AttendShape &shape, Batch &batch, size_t workspace,
                size_t scratch, int &waves) {
  batch.finish(workspace);
  AttendPlan plan(shape, batch.args, scratch);
  ASSERT_LE(plan.required(), workspace);
  Coverage coverage;
  Environment words(batch.args);
  for (Wave wave; plan.next(wave, words); ++waves) {
    coverage.splitRows.clear();
    for (uint32_t i = 0; i < wave.workTiles; ++i)
      ASSERT_NO_FATAL_FAILURE(runWorkTile(shape, wave, words, i, coverage));
    for (uint32_t i = 0; i < wave.merges; ++i)
      ASSERT_NO_FATAL_FAILURE(runMerge(shape, wave, words, i, coverage));
    auto *end = static_cast<uint8_t *>(batch.args.workspace) + workspace;
    size_t rows = coverage.splitRows.size();
    ASSERT_EQ(rows, coverage.splitRows.empty()
                        ? 0u
                        : size_t(*coverage.splitRows.rbegin()) + 1);
    auto *lse = arrayOf<float>(words, Word::PartialLse);
    auto *o = arrayOf<float>(words, Word::PartialO);
    ASSERT_LE(lse + rows, o);
    ASSERT_LE(reinterpret_cast<const uint8_t *>(o + rows * shape.dimV), end);
    ASSERT_GE(reinterpret_cast<const uint8_t *>(lse), plan.scratch() + scratch);
  }
  size_t expected = 0;
  for (uint32_t b = 0; b < batch.args.batch; ++b) {
    int n = batch.cuQ[b + 1] - batch.cuQ[b];
    for (int i = 0; i < n; ++i)
      for (uint32_t head = 0; head < shape.kvHeads; ++head) {
        int64_t row = batch.cuQ[b] + i, at = batch.kvLen[b] - n + i;
        ASSERT_TRUE(coverage.merged.count({row, int(head)}));
        for (int64_t t = 0; t < batch.kvLen[b]; ++t)
          if (sees(shape, at, t)) {
            ASSERT_EQ((coverage.seen[{row, int(head), t}]), 1)
                << "row " << row << " head " << head << " token " << t;
            expected += 1;
          }
      }
  }
  ASSERT_EQ(coverage.seen.size(), expected);
  ASSERT_EQ(coverage.merged.size(), size_t(batch.cuQ.back()) * shape.kvHeads);
}

} // namespace

TEST(AttendPlan, CoversEveryVisibleTokenExactlyOnce) {
  Random random(1);
  int manyWaves = 0;
  for (int round = 0; round < 1500; ++round) {
    SCOPED_TRACE(round);
    AttendShape shape = randomShape(random);
    Batch batch = randomBatch(random);
    size_t scratch = size_t(pick(random, 0, 200));
    batch.finish(1);
    size_t least = AttendPlan(shape, batch.args, scratch).required();
    int waves = 0;
    size_t more = pick(random, 0, 2) ? size_t(pick(random, 0, 20000)) : 0;
    ASSERT_NO_FATAL_FAILURE(
        checkCover(shape, batch, least + more, scratch, waves));
    manyWaves += waves > 1;
  }
  EXPECT_GT(manyWaves, 150);
}

TEST(AttendPlan, WorkspaceBoundSufficesForAnyBatchWithinIt) {
  Random random(2);
  for (int round = 0; round < 1500; ++round) {
    AttendShape shape = randomShape(random);
    Batch batch = randomBatch(random);
    uint32_t longest = 0;
    for (int32_t length : batch.kvLen)
      longest = std::max(longest, uint32_t(length));
    size_t bytes = AttendPlan::workspaceBytes(
        shape, 100, uint32_t(batch.kvLen.size()) + uint32_t(round % 3),
        uint32_t(batch.cuQ.back()) + uint32_t(round % 2), longest);
    batch.finish(bytes);
    ASSERT_LE(AttendPlan(shape, batch.args, 100).required(), bytes) << round;
  }
}

TEST(AttendPlan, WorkspaceStaysBoundedForLongPrefill) {
  AttendShape shape;
  shape.variants = {{1, 16, 2048}, {17, 64, 2048}};
  shape.kvHeads = 8;
  shape.queryHeads = 32;
  shape.dimV = 128;
  // All partial results at once would take 4 GiB.
  EXPECT_LT(AttendPlan::workspaceBytes(shape, 0, 1, 4096, 131072), size_t(80)
                                                                       << 20);
}

// The cut of a sequence must not depend on its neighbours: work tiles of one
// sequence alone are those that it has in a batch.
TEST(AttendPlan, DependsOnTheSequenceAlone) {
  Random random(3);
  auto itemsOf = [](const AttendShape &shape, Batch &batch, uint32_t b) {
    std::vector<std::vector<int32_t>> workTiles;
    batch.finish(1u << 22);
    AttendPlan plan(shape, batch.args, 0);
    Wave wave;
    Environment words(batch.args);
    EXPECT_TRUE(plan.next(wave, words));
    for (uint32_t i = 0; i < wave.workTiles; ++i) {
      KvcWorkTile workTile = {};
      int32_t variant = int32_t(AttendPlan::workTile(shape, wave, i, workTile));
      if (uint32_t(workTile.sequence) == b)
        workTiles.push_back({variant, workTile.head, workTile.begin,
                             workTile.end, workTile.split_idx,
                             workTile.row_begin, workTile.row_end});
    }
    return workTiles;
  };
  for (int round = 0; round < 300; ++round) {
    AttendShape shape = randomShape(random);
    Batch batch = randomBatch(random);
    uint32_t b = uint32_t(pick(random, 0, int32_t(batch.kvLen.size()) - 1));
    Batch alone;
    alone.cuQ.push_back(batch.cuQ[b + 1] - batch.cuQ[b]);
    alone.kvLen.push_back(batch.kvLen[b]);
    ASSERT_EQ(itemsOf(shape, batch, b), itemsOf(shape, alone, 0));
  }
}
