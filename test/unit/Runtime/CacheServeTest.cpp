//===- CacheServeTest.cpp - what a cache serves, and what it forgets ------===//
#include "test/unit/Runtime/CacheFixture.h"

#include <cmath>
#include <cstring>
#include <gmock/gmock.h>
#include <numeric>
#include <random>
#include <thread>

using namespace kvc::test;
using testing::HasSubstr;

TEST_F(Caches, OnlyWhatWasWrittenIsServed) {
  create(options(4, 3));
  Rows secret = Rows::random(9, kHeads, kDimV, 1);
  Rows q = Rows::random(9, kQueryHeads, kDimK, 2);
  Rows out(9, kQueryHeads, kDimV);
  auto append = [&](kvc_step step, uint32_t layer) {
    return kvc_cache_append(cache, step, layer, secret.values.data(),
                            secret.values.data())
        .code;
  };
  auto attend = [&](kvc_step step, uint32_t layer) {
    return kvc_cache_attend(cache, step, layer, q.values.data(),
                            out.values.data(), nullptr)
        .code;
  };
  kvc_seq a = open();
  kvc_step step = reserve({{a, 9}});
  ASSERT_EQ(append(step, 0), uint32_t(KVC_OK));
  ASSERT_EQ(append(step, 1), uint32_t(KVC_OK));
  ASSERT_EQ(kvc_cache_commit(cache, step, nullptr).code, KVC_OK);
  ASSERT_EQ(kvc_cache_release(cache, a).code, KVC_OK);

  kvc_seq b = open();
  step = reserve({{b, 9}});
  uint64_t before = inside(cache).digest();
  EXPECT_EQ(attend(step, 0), uint32_t(KVC_NOT_APPENDED));
  EXPECT_STREQ(kvc_error_text(), "the step's rows of layer 0 are not appended");
  EXPECT_EQ(out.values, std::vector<float>(out.values.size()))
      << "the released sequence's V";
  EXPECT_EQ(kvc_cache_commit(cache, step, nullptr).code, KVC_NOT_APPENDED);
  EXPECT_EQ(inside(cache).digest(), before);
  ASSERT_EQ(append(step, 0), uint32_t(KVC_OK));
  EXPECT_EQ(attend(step, 0), uint32_t(KVC_OK));
  EXPECT_EQ(attend(step, 1), uint32_t(KVC_NOT_APPENDED));
  ASSERT_EQ(append(step, 0), uint32_t(KVC_OK)) << "again";
  uint32_t one = 1;
  EXPECT_EQ(kvc_cache_commit(cache, step, &one).code, KVC_NOT_APPENDED);
  EXPECT_STREQ(kvc_error_text(), "1 of the step's 2 layers are appended, and "
                                 "layer 1 is not");
  EXPECT_EQ(kvc_cache_check(cache, 2).code, KVC_OK) << kvc_error_text();
  uint32_t none = 0;
  EXPECT_EQ(kvc_cache_commit(cache, step, &none).code, KVC_OK)
      << "keeps nothing";

  // What an earlier step with this number wrote is forgotten.
  step = reserve({{b, 1}});
  EXPECT_EQ(attend(step, 0), uint32_t(KVC_NOT_APPENDED));
  ASSERT_EQ(kvc_cache_mark_appended(cache, step, 1).code, KVC_OK);
  EXPECT_EQ(attend(step, 1), uint32_t(KVC_OK)) << "the caller vouches";
  EXPECT_EQ(attend(step, 0), uint32_t(KVC_NOT_APPENDED));
  ASSERT_EQ(append(step, 0), uint32_t(KVC_OK));
  EXPECT_EQ(kvc_cache_check(cache, 2).code, KVC_OK) << kvc_error_text();
  EXPECT_EQ(kvc_cache_commit(cache, step, nullptr).code, KVC_OK);
  EXPECT_EQ(kvc_cache_mark_appended(cache, step, 1).code, KVC_STALE);
}

// Bytes of a sequence are gone from pages and slots before another has them.
TEST_F(Caches, ScrubbingLeavesNoBytes) {
  for (uint32_t flags : {0, int(KVC_SCRUB)}) {
    kvc_cache_options o = options();
    std::vector<uint8_t> memory(o.arena_bytes + 64);
    uint8_t *arena = memory.data() + (64 - uintptr_t(memory.data()) % 64) % 64;
    o.arena = arena;
    o.flags = flags;
    create(o);
    Rows rows(40, kHeads, kDimV);
    std::fill(rows.values.begin(), rows.values.end(), 7.f);
    kvc_seq a = open(), b = open();
    kvc_step step = reserve({{a, 40}, {b, 3}});
    for (uint32_t layer : {0, 1})
      ASSERT_EQ(kvc_cache_append(cache, step, layer, rows.values.data(),
                                 rows.values.data())
                    .code,
                KVC_OK);
    uint32_t accepted[] = {9, 0};
    ASSERT_EQ(kvc_cache_commit(cache, step, accepted).code, KVC_OK);
    EXPECT_EQ(Peer::freeIsZero(inside(cache)), flags != 0) << "rejected";
    ASSERT_EQ(kvc_cache_release(cache, a).code, KVC_OK);
    ASSERT_EQ(kvc_cache_release(cache, b).code, KVC_OK);
    EXPECT_EQ(Peer::freeIsZero(inside(cache)), flags != 0) << "released";
    step = reserve({{open(), 40}});
    for (uint32_t layer : {0, 1})
      ASSERT_EQ(kvc_cache_append(cache, step, layer, rows.values.data(),
                                 rows.values.data())
                    .code,
                KVC_OK);
    kvc_cache_destroy(cache);
    cache = nullptr;
    bool zero = std::all_of(arena, arena + o.arena_bytes,
                            [](uint8_t byte) { return byte == 0; });
    EXPECT_EQ(zero, flags != 0) << "destroyed";
  }
}

TEST_F(Caches, PagesThatNobodySeesAreFree) {
  create(options());
  kvc_seq a = open();
  // Of `window`: a sink of 3 and 6 recent tokens, in pages of 8; `paged` sees
  // all. Pages of `window` for so many committed tokens.
  uint32_t held[65] = {};
  for (uint32_t n = 1; n <= 64; ++n)
    held[n] = n <= 8   ? 1
              : n < 21 ? (n + 7) / 8
                       : 1 + (n % 8 == 0 || n % 8 > 4 ? 1 : 2);
  for (uint32_t n = 1; n <= 64; ++n) {
    kvc_step step = reserve({{a, 1}});
    ASSERT_LE(stats().pages_live, (n + 3) / 4 + 3);
    ASSERT_EQ(kvc_cache_check(cache, 2).code, KVC_OK) << kvc_error_text();
    ASSERT_EQ(commit(step).code, KVC_OK);
    ASSERT_EQ(stats().pages_live, (n + 3) / 4 + held[n]) << n;
    ASSERT_EQ(kvc_cache_check(cache, 2).code, KVC_OK) << kvc_error_text();
  }
  ASSERT_EQ(kvc_cache_release(cache, a).code, KVC_OK);
  EXPECT_EQ(stats().pages_live, 0u);

  // A draft that is rejected takes no page with it.
  a = open();
  ASSERT_EQ(commit(reserve({{a, 20}})).code, KVC_OK);
  uint64_t before = stats().pages_live;
  for (uint32_t draft : {1, 12, 40}) {
    ASSERT_EQ(kvc_cache_abandon(cache, reserve({{a, draft}})).code, KVC_OK);
    ASSERT_EQ(stats().pages_live, before);
    ASSERT_EQ(kvc_cache_check(cache, 2).code, KVC_OK) << kvc_error_text();
  }
  ASSERT_EQ(commit(reserve({{a, 20}})).code, KVC_OK);
  Peer::keepUnseen(inside(cache), kWindow, a.slot, 1);
  EXPECT_EQ(kvc_cache_check(cache, 2).code, KVC_POISONED);
  EXPECT_THAT(kvc_error_text(), HasSubstr("[9] seen by no query"));
}

//===----------------------------------------------------------------------===//
// Attention through the cache
//===----------------------------------------------------------------------===//

namespace {

struct Tracked {
  kvc_seq seq;
  History history[kLayers];
};

/// Random rows of one layer of a step: appends, attends, compares with the
/// reference. tokens[i] rows are of tracked[i], whose history grows by them.
void runLayer(kvc_cache *cache, kvc_step step, uint32_t layer,
              const std::vector<Tracked *> &tracked,
              const std::vector<uint32_t> &tokens, uint32_t seed) {
  uint32_t rows = std::accumulate(tokens.begin(), tokens.end(), 0u);
  Rows k = Rows::random(rows, kHeads, kDimK, seed);
  Rows v = Rows::random(rows, kHeads, kDimV, seed + 1000);
  Rows q = Rows::random(rows, kQueryHeads, kDimK, seed + 2000);
  Rows out(rows, kQueryHeads, kDimV), lse(rows, kQueryHeads, 1);
  std::fill(out.values.begin(), out.values.end(), NAN);
  kvc_status s =
      kvc_cache_append(cache, step, layer, k.values.data(), v.values.data());
  ASSERT_EQ(s.code, KVC_OK) << kvc_error_text();
  s = kvc_cache_attend(cache, step, layer, q.values.data(), out.values.data(),
                       lse.values.data());
  ASSERT_EQ(s.code, KVC_OK) << kvc_error_text();
  size_t row = 0;
  for (size_t i = 0; i < tracked.size(); ++i) {
    History &history = tracked[i]->history[layer];
    int64_t before = int64_t(history.k.size());
    for (uint32_t t = 0; t < tokens[i]; ++t) {
      history.k.push_back({k.row(row + t), k.row(row + t) + k.width});
      history.v.push_back({v.row(row + t), v.row(row + t) + v.width});
    }
    for (uint32_t t = 0; t < tokens[i]; ++t, ++row) {
      double o[kQueryHeads * kDimV], l[kQueryHeads];
      expectedAttention(history, int(layer), before + t, q.row(row), o, l);
      for (int h = 0; h < kQueryHeads; ++h)
        ASSERT_NEAR(lse.row(row)[h], l[h], 1e-5);
      for (int c = 0; c < kQueryHeads * kDimV; ++c)
        ASSERT_NEAR(out.row(row)[c], o[c], 1e-5) << "layer " << layer;
    }
  }
}

/// One step over `tracked` that keeps accepted[i] of tokens[i].
void runStep(kvc_cache *cache, const std::vector<Tracked *> &tracked,
             const std::vector<uint32_t> &tokens,
             const std::vector<uint32_t> &accepted, uint32_t seed) {
  std::vector<kvc_slot_request> requests;
  for (size_t i = 0; i < tracked.size(); ++i)
    requests.push_back({tracked[i]->seq, tokens[i]});
  kvc_step step = {};
  kvc_status s = kvc_cache_reserve(cache, requests.data(),
                                   uint32_t(requests.size()), nullptr, &step);
  ASSERT_EQ(s.code, KVC_OK) << kvc_error_text();
  for (uint32_t layer = 0; layer < kLayers; ++layer)
    ASSERT_NO_FATAL_FAILURE(
        runLayer(cache, step, layer, tracked, tokens, seed * 10 + layer));
  ASSERT_EQ(kvc_cache_commit(cache, step, accepted.data()).code, KVC_OK);
  for (size_t i = 0; i < tracked.size(); ++i)
    for (History &history : tracked[i]->history) {
      history.k.resize(history.k.size() - (tokens[i] - accepted[i]));
      history.v.resize(history.k.size());
    }
}

} // namespace

TEST_F(Caches, AttendSeesWhatWasAppendedAndAccepted) {
  for (bool ownArena : {true, false}) {
    kvc_cache_options o = options(26, 13);
    void *arena = std::aligned_alloc(64, (o.arena_bytes + 63) / 64 * 64);
    std::memset(arena, 0xff, o.arena_bytes);
    o.arena = ownArena ? nullptr : arena;
    o.flags = ownArena ? 0 : KVC_SINGLE_OWNER;
    create(o);
    std::mt19937 random(1);
    std::vector<Tracked> tracked(4);
    for (Tracked &t : tracked)
      t.seq = open();
    for (uint32_t round = 0; round < 150; ++round) {
      std::vector<Tracked *> batch;
      std::vector<uint32_t> tokens, accepted;
      for (Tracked &t : tracked) {
        if (batch.size() == 3 || random() % 3 == 0)
          continue;
        uint32_t n = 1 + uint32_t(random() % (random() % 4 ? 3 : 9));
        if (t.history[0].k.size() + n > 20) {
          ASSERT_EQ(kvc_cache_release(cache, t.seq).code, KVC_OK);
          t = Tracked();
          t.seq = open();
        }
        batch.push_back(&t);
        tokens.push_back(n);
        accepted.push_back(random() % 3 ? n : uint32_t(random() % (n + 1)));
      }
      if (batch.empty())
        continue;
      ASSERT_NO_FATAL_FAILURE(runStep(cache, batch, tokens, accepted, round));
      ASSERT_EQ(kvc_cache_check(cache, 2).code, KVC_OK) << kvc_error_text();
    }
    kvc_cache_destroy(cache);
    cache = nullptr;
    std::free(arena);
  }
}

TEST_F(Caches, KeepTheirProgramAlive) {
  kvc_device *device = nullptr;
  kvc_program *program = nullptr;
  std::vector<uint8_t> bytes = pack(fixtureManifest());
  ASSERT_EQ(kvc_device_create_cpu(nullptr, &device).code, KVC_OK);
  ASSERT_EQ(kvc_program_load(device, bytes.data(), bytes.size(), &program).code,
            KVC_OK);
  kvc_cache_options o = options();
  ASSERT_EQ(kvc_cache_create(program, &o, &cache).code, KVC_OK);
  kvc_device_release(device);
  kvc_program_release(program);
  Tracked t;
  t.seq = open();
  runStep(cache, {&t}, {7}, {7}, 1);
}

// Steps of several threads on one cache; each checks its own results.
TEST_F(Caches, ThreadsShareACache) {
  kvc_cache_options o = options(60, 30);
  create(o);
  std::vector<std::thread> threads;
  for (uint32_t id = 0; id < 3; ++id)
    threads.emplace_back([this, id] {
      for (uint32_t round = 0; round < 15; ++round) {
        Tracked t;
        ASSERT_EQ(kvc_cache_open(cache, &t.seq).code, KVC_OK);
        for (uint32_t step = 0; step < 4; ++step)
          ASSERT_NO_FATAL_FAILURE(runStep(cache, {&t}, {1 + id + step},
                                          {1 + step}, id * 100 + step));
        ASSERT_EQ(kvc_cache_release(cache, t.seq).code, KVC_OK);
      }
    });
  for (int i = 0; i < 200; ++i)
    EXPECT_EQ(kvc_cache_check(cache, 2).code, KVC_OK) << kvc_error_text();
  for (std::thread &thread : threads)
    thread.join();
  EXPECT_EQ(stats().pages_live, 0u);
}
