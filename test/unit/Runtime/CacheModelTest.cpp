//===- CacheModelTest.cpp - random operations against a plain model -------===//
//
// The model predicts the status of every call, owns every page by name, and
// says what a view must hold. The pool is small: many reserves find no pages.
//
//===----------------------------------------------------------------------===//
#include "runtime/Cache.h"
#include "test/unit/Runtime/FakeGpu.h"
#include "test/unit/Runtime/GpuFixture.h"

#include <gtest/gtest.h>
#include <map>
#include <random>

using namespace kvc::test;

namespace {

constexpr uint32_t kSequences = 12, kBatch = 5, kStepTokens = 40, kTokens = 48,
                   kStepsOpen = 4;
constexpr uint32_t kPage[2] = {4, 8}; ///< of `paged` and `window`
constexpr uint32_t kPages[2] = {60, 30};

uint32_t pagesFor(uint32_t store, uint32_t tokens) {
  return (tokens + kPage[store] - 1) / kPage[store];
}

struct ModelSequence {
  kvc_seq handle = {};
  uint32_t length = 0, reserved = 0;
  bool inStep = false;
  std::vector<int32_t> pages[2];
};

struct ModelStep {
  kvc_step handle = {};
  std::vector<size_t> sequences; ///< keys
};

class Model {
public:
  Model(uint32_t seed, Loaded &loaded) : random(seed) {
    kvc_cache_options o = {};
    o.size = sizeof(o);
    o.max_sequences = kSequences;
    o.max_batch = kBatch;
    o.max_step_tokens = kStepTokens;
    o.max_tokens_per_seq = kTokens;
    o.arena_bytes = kSequences * kTokens * 96 + (kPages[0] + 2) * 768 +
                    (kPages[1] + 2) * 768;
    EXPECT_EQ(kvc_cache_create(loaded.program, &o, &cache).code, KVC_OK)
        << kvc_error_text();
  }
  ~Model() { kvc_cache_destroy(cache); }

  void run(int operations) {
    for (int i = 0; i < operations && !testing::Test::HasFatalFailure(); ++i) {
      uint64_t before = digest();
      kvc_status status = operation();
      if (testing::Test::HasFatalFailure())
        break;
      failures += status.code != KVC_OK;
      if (status.code != KVC_OK)
        ASSERT_EQ(digest(), before) << "a failure changed something";
      ASSERT_EQ(kvc_cache_check(cache, 0).code, KVC_OK) << kvc_error_text();
      if (i % 256 == 0)
        audit();
    }
    audit();
  }

  uint64_t reserves = 0, refused = 0, failures = 0;

private:
  uint64_t digest() {
    return reinterpret_cast<kvc::rt::Cache *>(cache)->digest();
  }
  uint32_t pick(uint32_t n) { return uint32_t(random() % n); }
  /// A key of an open sequence; there must be one.
  size_t pickSequence() {
    auto it = open.begin();
    std::advance(it, pick(uint32_t(open.size())));
    return it->first;
  }
  kvc_seq staleHandle() {
    return released.empty() || pick(8) == 0
               ? kvc_seq{pick(20), pick(40) * 2}
               : released[pick(uint32_t(released.size()))];
  }

  kvc_status operation() {
    switch (pick(16)) {
    case 0:
    case 1:
      return openOne();
    case 2:
      return releaseOne();
    case 3:
    case 4:
    case 5:
    case 6:
    case 7:
    case 8:
      return reserveSome();
    case 9:
    case 10:
    case 11:
    case 12:
    case 13:
      return commitOne();
    case 14:
      return abandonOne();
    default:
      return lengthOfOne();
    }
  }

  kvc_status openOne() {
    kvc_seq handle = {};
    kvc_status status = kvc_cache_open(cache, &handle);
    uint32_t wanted = open.size() == kSequences ? KVC_OUT_OF_SEQUENCES : KVC_OK;
    EXPECT_EQ(status.code, wanted);
    if (status.code == KVC_OK)
      open[nextKey++].handle = handle;
    return status;
  }

  kvc_status releaseOne() {
    if (open.empty() || pick(8) == 0) {
      kvc_status status = kvc_cache_release(cache, staleHandle());
      EXPECT_EQ(status.code, uint32_t(KVC_STALE));
      return status;
    }
    size_t key = pickSequence();
    ModelSequence &s = open[key];
    kvc_status status = kvc_cache_release(cache, s.handle);
    EXPECT_EQ(status.code, uint32_t(s.inStep ? KVC_BUSY : KVC_OK));
    if (status.code == KVC_OK) {
      shrink(s, 0);
      released.push_back(s.handle);
      if (released.size() > 50)
        released.erase(released.begin());
      open.erase(key);
    }
    return status;
  }

  kvc_status lengthOfOne() {
    uint32_t tokens = 0;
    if (open.empty() || pick(4) == 0) {
      kvc_status status = kvc_cache_length(cache, staleHandle(), &tokens);
      EXPECT_EQ(status.code, uint32_t(KVC_STALE));
      return status;
    }
    ModelSequence &s = open[pickSequence()];
    kvc_status status = kvc_cache_length(cache, s.handle, &tokens);
    EXPECT_EQ(status.code, uint32_t(KVC_OK));
    EXPECT_EQ(tokens, s.length);
    return status;
  }

  /// What reserve must say.
  uint32_t predict(const std::vector<kvc_slot_request> &requests,
                   const std::vector<size_t> &keys) {
    uint32_t rows = 0, need[2] = {0, 0};
    std::vector<size_t> seen;
    for (size_t i = 0; i < requests.size(); ++i) {
      if (keys[i] == SIZE_MAX)
        return KVC_STALE;
      const ModelSequence &s = open[keys[i]];
      if (s.inStep || std::count(seen.begin(), seen.end(), keys[i]))
        return KVC_BUSY;
      seen.push_back(keys[i]);
      uint32_t n = requests[i].new_tokens;
      rows += n;
      if (n > kTokens - s.length)
        return KVC_SEQUENCE_FULL;
      if (n < 1 || rows > kStepTokens)
        return KVC_INVALID_ARGUMENT;
      for (uint32_t store : {0, 1})
        need[store] +=
            pagesFor(store, s.length + n) - pagesFor(store, s.length);
    }
    if (requests.empty() || requests.size() > kBatch)
      return KVC_INVALID_ARGUMENT;
    if (steps.size() == kStepsOpen)
      return KVC_OUT_OF_SEQUENCES;
    for (uint32_t store : {0, 1})
      if (need[store] > kPages[store] - owner[store].size())
        return KVC_OUT_OF_PAGES;
    return KVC_OK;
  }

  kvc_status reserveSome() {
    std::vector<kvc_slot_request> requests;
    std::vector<size_t> keys;
    uint32_t count = pick(12) ? 1 + pick(3) : pick(5);
    for (uint32_t i = 0; i < count; ++i) {
      uint32_t tokens = pick(10) ? 1 + pick(pick(3) ? 3 : 14) : pick(60);
      size_t key = SIZE_MAX;
      if (!open.empty() && pick(40)) {
        key = pickSequence();
        // Mostly one that can be reserved.
        for (int tries = 0; tries < 4 && open[key].inStep; ++tries)
          key = pickSequence();
      }
      keys.push_back(key);
      requests.push_back(
          {key == SIZE_MAX ? staleHandle() : open[key].handle, tokens});
    }
    uint32_t wanted = predict(requests, keys);
    kvc_step handle = {};
    kvc_status status = kvc_cache_reserve(cache, requests.data(),
                                          uint32_t(requests.size()), &handle);
    EXPECT_EQ(status.code, wanted) << kvc_error_text();
    reserves += wanted == KVC_OK || wanted == KVC_OUT_OF_PAGES;
    refused += wanted == KVC_OUT_OF_PAGES;
    if (status.code != KVC_OK)
      return status;
    for (size_t i = 0; i < keys.size(); ++i) {
      open[keys[i]].reserved = requests[i].new_tokens;
      open[keys[i]].inStep = true;
    }
    steps.push_back({handle, keys});
    for (uint32_t store : {0, 1})
      adopt(steps.back(), store);
    return status;
  }

  /// Reads a new step's tables: kept pages are as before, new ones are
  /// nobody's.
  void adopt(const ModelStep &step, uint32_t store) {
    kvc_batch_view view = {};
    view.size = sizeof(view);
    ASSERT_EQ(kvc_cache_view(cache, step.handle, store, store, &view).code,
              KVC_OK);
    ASSERT_EQ(view.batch, step.sequences.size());
    int32_t row = 0;
    for (size_t i = 0; i < step.sequences.size(); ++i) {
      ModelSequence &s = open[step.sequences[i]];
      const int32_t *table = view.table + int64_t(i) * view.table_stride;
      uint32_t tokens = s.length + s.reserved;
      ASSERT_EQ(view.cu_q[i], row);
      ASSERT_EQ(view.kv_len[i], int32_t(tokens));
      std::vector<int32_t> &pages = s.pages[store];
      ASSERT_EQ(pages.size(), pagesFor(store, s.length));
      for (uint32_t p = 0; p < view.table_stride; ++p) {
        if (p < pages.size()) {
          ASSERT_EQ(table[p], pages[p]) << "a live page moved";
        } else if (p < pagesFor(store, tokens)) {
          ASSERT_GE(table[p], 2);
          ASSERT_LT(table[p], view.outers);
          ASSERT_TRUE(owner[store].insert({table[p], step.sequences[i]}).second)
              << "page " << table[p] << " has an owner";
          pages.push_back(table[p]);
        } else {
          ASSERT_EQ(table[p], 0);
        }
      }
      for (uint32_t t = s.length; t < tokens; ++t, ++row)
        ASSERT_EQ(view.write_slot[row],
                  int64_t(pages[t / kPage[store]]) * kPage[store] +
                      t % kPage[store]);
    }
    ASSERT_EQ(view.rows, uint32_t(row));
  }

  void shrink(ModelSequence &s, uint32_t tokens) {
    for (uint32_t store : {0, 1})
      while (s.pages[store].size() > pagesFor(store, tokens)) {
        owner[store].erase(s.pages[store].back());
        s.pages[store].pop_back();
      }
  }

  void finish(size_t index, const std::vector<uint32_t> &accepted) {
    for (size_t i = 0; i < accepted.size(); ++i) {
      ModelSequence &s = open[steps[index].sequences[i]];
      s.length += accepted[i];
      s.reserved = 0;
      s.inStep = false;
      shrink(s, s.length);
    }
    ended.push_back(steps[index].handle);
    if (ended.size() > 20)
      ended.erase(ended.begin());
    steps.erase(steps.begin() + long(index));
  }

  kvc_status commitOne() {
    if (steps.empty() || pick(16) == 0)
      return endStale(true);
    size_t index = pick(uint32_t(steps.size()));
    std::vector<uint32_t> accepted;
    bool all = pick(2), wrong = false;
    for (size_t key : steps[index].sequences) {
      uint32_t n = open[key].reserved;
      accepted.push_back(all ? n : pick(n + 1));
      if (!all && pick(30) == 0) {
        accepted.back() = n + 1 + pick(3);
        wrong = true;
      }
    }
    kvc_status status = kvc_cache_commit(cache, steps[index].handle,
                                         all ? nullptr : accepted.data());
    EXPECT_EQ(status.code, uint32_t(wrong ? KVC_INVALID_ARGUMENT : KVC_OK));
    if (status.code == KVC_OK)
      finish(index, accepted);
    return status;
  }

  kvc_status abandonOne() {
    if (steps.empty() || pick(16) == 0)
      return endStale(false);
    size_t index = pick(uint32_t(steps.size()));
    kvc_status status = kvc_cache_abandon(cache, steps[index].handle);
    EXPECT_EQ(status.code, uint32_t(KVC_OK));
    finish(index, std::vector<uint32_t>(steps[index].sequences.size(), 0));
    return status;
  }

  kvc_status endStale(bool commit) {
    kvc_step handle = ended.empty() ? kvc_step{pick(8), pick(9) * 2}
                                    : ended[pick(uint32_t(ended.size()))];
    kvc_status status = commit ? kvc_cache_commit(cache, handle, nullptr)
                               : kvc_cache_abandon(cache, handle);
    EXPECT_EQ(status.code, uint32_t(KVC_STALE));
    return status;
  }

  void audit() {
    ASSERT_EQ(kvc_cache_check(cache, 2).code, KVC_OK) << kvc_error_text();
    kvc_cache_stats stats = {};
    stats.size = sizeof(stats);
    ASSERT_EQ(kvc_cache_get_stats(cache, &stats).code, KVC_OK);
    ASSERT_EQ(stats.pages_live, owner[0].size() + owner[1].size());
    ASSERT_EQ(stats.pages_free + stats.pages_live, stats.pages_total);
    ASSERT_EQ(stats.pages_total, kPages[0] + kPages[1]);
    ASSERT_EQ(stats.sequences, open.size());
    ASSERT_EQ(stats.steps, steps.size());
    ASSERT_EQ(stats.refused, refused);
  }

  std::mt19937 random;
  kvc_cache *cache = nullptr;
  size_t nextKey = 0;
  std::map<size_t, ModelSequence> open;
  std::vector<kvc_seq> released;
  std::vector<ModelStep> steps;
  std::vector<kvc_step> ended;
  std::map<int32_t, size_t> owner[2];
};

} // namespace

TEST(CacheModel, AMillionRandomOperations) {
  uint64_t reserves = 0, refused = 0, failures = 0;
  for (uint32_t seed = 1; seed <= 4; ++seed) {
    SCOPED_TRACE(seed);
    Loaded loaded(1);
    Model model(seed, loaded);
    model.run(260000);
    ASSERT_FALSE(HasFailure());
    reserves += model.reserves;
    refused += model.refused;
    failures += model.failures;
  }
  // The test means something only if the pool was often empty.
  EXPECT_GT(refused, reserves / 20);
  EXPECT_LT(refused, reserves / 2);
  EXPECT_GT(failures, 100000u);
  RecordProperty("reserves", std::to_string(reserves));
  RecordProperty("refused", std::to_string(refused));
}

// What a view shows is the GPU's copy, of which only changes were written.
TEST(CacheModel, AGpusCopiesAreUpToDate) {
  Notes notes;
  notes.fits["sm_80"] = 1;
  Loaded loaded(fakeDevice(notes), packGpu(gpuManifest("cuda", {"sm_80"})));
  {
    Model model(9, loaded);
    model.run(60000);
    EXPECT_GT(model.reserves, 10000u);
    EXPECT_LT(notes.uploaded, model.reserves * kBatch * 4 * 20);
  }
  EXPECT_TRUE(notes.memories.empty());
}
