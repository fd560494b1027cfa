//===- CacheReadTest.cpp - committed tokens read back ---------------------===//
//
// Which pages a sequence has left, in which store, is CacheModelTest's to find.
//
//===----------------------------------------------------------------------===//
#include "test/unit/Runtime/CacheFixture.h"
#include "test/unit/Runtime/GpuLaunches.h"

#include <atomic>
#include <gmock/gmock.h>
#include <thread>

using namespace kvc::test;
using testing::ElementsAre;

namespace {

/// K and V of a layer, [tokens][heads][dim].
struct Layer {
  std::vector<float> k, v;
};

struct Reads : Caches {
  /// Appends random rows of one sequence and commits them.
  void write(kvc_seq seq, uint32_t tokens, uint32_t seed) {
    kvc_step step = reserve({{seq, tokens}});
    std::vector<Layer> &layers = wrote[seq.slot];
    layers.resize(kLayers);
    Lent lent(loaded());
    for (uint32_t layer = 0; layer < kLayers; ++layer) {
      Rows k = Rows::random(tokens, kHeads, kDimK, seed * 100 + layer * 2);
      Rows v = Rows::random(tokens, kHeads, kDimV, seed * 100 + layer * 2 + 1);
      Layer &to = layers[layer];
      to.k.insert(to.k.end(), k.values.begin(), k.values.end());
      to.v.insert(to.v.end(), v.values.begin(), v.values.end());
      Lent rows(loaded());
      rows.reads(k.values);
      rows.reads(v.values);
      ASSERT_EQ(
          kvc_cache_append(cache, step, layer, k.values.data(), v.values.data())
              .code,
          KVC_OK)
          << kvc_error_text();
    }
    ASSERT_EQ(kvc_cache_commit(cache, step, nullptr).code, KVC_OK)
        << kvc_error_text();
  }
  kvc_status read(kvc_seq seq, uint32_t layer, uint32_t begin, uint32_t count) {
    k.assign(size_t(count) * kHeads * kDimK, NAN);
    v.assign(size_t(count) * kHeads * kDimV, NAN);
    Lent lent(loaded());
    lent.writes(k.data(), k.size() * 4);
    lent.writes(v.data(), v.size() * 4);
    return kvc_cache_read(cache, seq, layer, begin, count, k.data(), {},
                          v.data(), {}, nullptr);
  }
  /// That the tokens are what `like`, or `seq` itself, was given.
  void expectRead(kvc_seq seq, uint32_t begin, uint32_t count, uint32_t like) {
    for (uint32_t layer = 0; layer < kLayers; ++layer) {
      ASSERT_EQ(read(seq, layer, begin, count).code, KVC_OK)
          << kvc_error_text();
      const Layer &of = wrote[like][layer];
      auto part = [&](const std::vector<float> &all, uint32_t width) {
        auto first = all.begin() + long(begin) * width;
        return std::vector<float>(first, first + long(count) * width);
      };
      ASSERT_EQ(k, part(of.k, kHeads * kDimK)) << "layer " << layer;
      ASSERT_EQ(v, part(of.v, kHeads * kDimV)) << "layer " << layer;
    }
  }
  void expectRead(kvc_seq seq, uint32_t begin, uint32_t count) {
    expectRead(seq, begin, count, seq.slot);
  }
  void expectRefused(const kvc_status &status, const char *text) {
    EXPECT_EQ(status.code, KVC_INVALID_ARGUMENT) << text;
    EXPECT_STREQ(kvc_error_text(), text);
  }
  virtual Loaded &loaded() { return Caches::loaded; }

  std::map<uint32_t, std::vector<Layer>> wrote; ///< by slot
  std::vector<float> k, v;
};

} // namespace

TEST_F(Reads, GiveWhatWasAppended) {
  create(options());
  kvc_seq a = open(), b = open();
  write(a, 3, 1);
  write(b, 6, 2);
  write(a, 2, 3);
  expectRead(a, 0, 5);
  expectRead(a, 2, 2);
  expectRead(b, 0, 6);
  EXPECT_EQ(
      kvc_cache_read(cache, a, 0, 5, 0, nullptr, {}, nullptr, {}, nullptr).code,
      KVC_OK)
      << "nothing to do";
}

TEST_F(Reads, ManyTokensAreSeveralLaunches) {
  kvc_cache_options o = options();
  constexpr uint32_t kTokens = 3 * kvc::rt::kReadRows + 77;
  o.max_sequences = o.max_batch = 2;
  o.max_step_tokens = o.max_tokens_per_seq = kTokens;
  o.max_rollback = kTokens; // which keeps what is behind the window
  uint64_t bytes = 0;
  ASSERT_EQ(
      kvc_cache_arena_bytes(Caches::loaded.program, &o, kTokens, &bytes).code,
      KVC_OK)
      << kvc_error_text();
  o.arena_bytes = bytes;
  create(o);
  kvc_seq a = open();
  write(a, kTokens, 1);
  expectRead(a, 0, kTokens);
  expectRead(a, 5, kvc::rt::kReadRows);
  expectRead(a, 70, kvc::rt::kReadRows + 1);
  // [heads][tokens][dim], without K.
  constexpr uint32_t kCount = kvc::rt::kReadRows + 9;
  v.assign(size_t(kCount) * kHeads * kDimV, NAN);
  kvc_stride stride = {kDimV * 4, int64_t(kCount) * kDimV * 4};
  ASSERT_EQ(kvc_cache_read(cache, a, 1, 3, kCount, nullptr, {}, v.data(),
                           stride, nullptr)
                .code,
            KVC_OK)
      << kvc_error_text();
  for (size_t head = 0; head < size_t(kHeads); ++head)
    for (size_t i = 0; i < kCount; ++i)
      for (size_t c = 0; c < size_t(kDimV); ++c)
        ASSERT_EQ(v[(head * kCount + i) * kDimV + c],
                  wrote[a.slot][1].v[((3 + i) * kHeads + head) * kDimV + c]);
  // Heads that would overlap in the second launch only.
  stride.head = int64_t(kvc::rt::kReadRows) * kDimV * 4;
  expectRefused(kvc_cache_read(cache, a, 1, 3, kCount, nullptr, {}, v.data(),
                               stride, nullptr),
                "`v_row_stride`: expected at least 65600 bytes, found 64");
}

TEST_F(Reads, SeeForksAndOpenSteps) {
  create(options());
  kvc_seq a = open(), b = {};
  write(a, 6, 1);
  ASSERT_EQ(kvc_cache_fork(cache, a, &b).code, KVC_OK);
  expectRead(b, 0, 6, a.slot);
  // Both write to pages that they shared.
  wrote[b.slot] = wrote[a.slot];
  write(b, 1, 2);
  write(a, 1, 3);
  expectRead(a, 0, 7);
  expectRead(b, 0, 7);
  kvc_step step = reserve({{a, 2}});
  std::vector<float> rows(2 * kHeads * kDimV, 42);
  for (uint32_t layer = 0; layer < kLayers; ++layer)
    ASSERT_EQ(
        kvc_cache_append(cache, step, layer, rows.data(), rows.data()).code,
        KVC_OK);
  expectRead(a, 0, 7);
  expectRefused(read(a, 0, 7, 1), "`begin` and `count`: expected some of the "
                                  "sequence's 7 committed tokens, found 7 to "
                                  "8");
  EXPECT_EQ(kvc_cache_abandon(cache, step).code, KVC_OK);
  ASSERT_EQ(kvc_cache_truncate(cache, a, 0).code, KVC_OK);
  expectRefused(read(a, 0, 0, 1), "`begin` and `count`: expected some of the "
                                  "sequence's 0 committed tokens, found 0 to "
                                  "1");
}

TEST_F(Reads, WhatCannotBeReadIsSaid) {
  create(options());
  kvc_seq a = open();
  write(a, 40, 1);
  EXPECT_EQ(read({3, 9}, 0, 0, 1).code, KVC_STALE);
  expectRefused(read(a, 2, 0, 1), "`layer`: expected below 2, found 2");
  expectRefused(read(a, 0, UINT32_MAX, 3),
                "`begin` and `count`: expected some of the sequence's 40 "
                "committed tokens, found 4294967295 to 4294967298");
  expectRefused(
      kvc_cache_read(cache, a, 0, 0, 1, nullptr, {}, nullptr, {}, nullptr),
      "`k` and `v`: expected at least one buffer, found null");
  EXPECT_EQ(
      kvc_cache_read(nullptr, a, 0, 0, 1, k.data(), {}, nullptr, {}, nullptr)
          .code,
      KVC_INVALID_ARGUMENT);
  // The query at 40 sees 35 on and three sinks: pages 0 and 4 on.
  const char *gone = "`begin` and `count`: expected tokens whose pages "
                     "`window` has not given back, the first 8 and those from "
                     "32 on, found 7 to 9";
  expectRefused(read(a, 1, 7, 2), gone);
  EXPECT_EQ(read(a, 1, 31, 1).code, KVC_INVALID_ARGUMENT);
  EXPECT_EQ(read(a, 1, 0, 40).code, KVC_INVALID_ARGUMENT);
  EXPECT_EQ(read(a, 1, 0, 8).code, KVC_OK) << kvc_error_text();
  EXPECT_EQ(read(a, 1, 32, 8).code, KVC_OK) << kvc_error_text();
  EXPECT_EQ(read(a, 1, 20, 0).code, KVC_OK) << kvc_error_text();
  EXPECT_EQ(read(a, 0, 0, 40).code, KVC_OK) << "a layer without a window";
  ASSERT_EQ(kvc_cache_release(cache, a).code, KVC_OK);
  EXPECT_EQ(read(a, 0, 0, 1).code, KVC_STALE);
}

TEST_F(Reads, ArtifactsWithoutTheKernelSaySo) {
  kvc::artifact::Manifest manifest = fixtureManifest();
  std::erase_if(manifest.kernels,
                [](auto &kernel) { return kernel.name == "flat.gather"; });
  kvc_device *device = nullptr;
  ASSERT_EQ(kvc_device_create_cpu(nullptr, &device).code, KVC_OK);
  Loaded older(device, pack(manifest));
  kvc_cache_options o = options();
  ASSERT_EQ(kvc_cache_create(older.program, &o, &cache).code, KVC_OK);
  kvc_seq a = open();
  write(a, 3, 1);
  EXPECT_EQ(read(a, 0, 0, 3).code, KVC_OK) << kvc_error_text();
  EXPECT_EQ(read(a, 1, 0, 3).code, KVC_UNSUPPORTED);
  EXPECT_STREQ(kvc_error_text(),
               "`flat` has no gather kernel for `generic`: the artifact is of "
               "an earlier version; compile its spec again");
}

namespace {

/// An engine whose parallel for calls the cache while kernels of a read are to
/// run, which no lock may hinder.
struct Nosy {
  kvc_parallel parallel = {this, 1, run};
  std::function<void()> meanwhile;

  static void run(void *context, uint32_t tasks,
                  void (*task)(void *, uint32_t, uint32_t), void *arg) {
    auto &nosy = *static_cast<Nosy *>(context);
    if (nosy.meanwhile)
      std::thread(std::exchange(nosy.meanwhile, nullptr)).join();
    for (uint32_t i = 0; i < tasks; ++i)
      task(arg, i, 0);
  }
};

} // namespace

TEST_F(Reads, PagesStayWhileTheyAreRead) {
  Nosy nosy;
  Loaded engine(0, &nosy.parallel);
  kvc_cache_options o = options();
  o.max_rollback = kSlotTokens;
  ASSERT_EQ(kvc_cache_create(engine.program, &o, &cache).code, KVC_OK);
  kvc_seq a = open(), b = open(), fork = {};
  write(a, 33, 1);
  write(b, 5, 2);
  nosy.meanwhile = [&] {
    kvc_slot_request request = {a, 1};
    kvc_step step = {};
    uint64_t before = inside(cache).digest();
    EXPECT_EQ(kvc_cache_release(cache, a).code, KVC_BUSY);
    EXPECT_STREQ(kvc_error_text(), "sequence {0, 1} is being read");
    EXPECT_EQ(kvc_cache_truncate(cache, a, 1).code, KVC_BUSY);
    EXPECT_EQ(kvc_cache_reserve(cache, &request, 1, nullptr, &step).code,
              KVC_BUSY);
    EXPECT_EQ(inside(cache).digest(), before);
    // All else goes on.
    EXPECT_EQ(length(a), 33u);
    EXPECT_EQ(kvc_cache_fork(cache, a, &fork).code, KVC_OK);
    EXPECT_EQ(commit(reserve({{b, 3}})).code, KVC_OK);
    EXPECT_EQ(kvc_cache_release(cache, b).code, KVC_OK);
    EXPECT_EQ(kvc_cache_check(cache, 2).code, KVC_OK) << kvc_error_text();
  };
  expectRead(a, 0, 33);
  EXPECT_FALSE(nosy.meanwhile) << "there was a run";
  expectRead(fork, 0, 33, a.slot);
  kvc_step step = reserve({{a, 1}});
  nosy.meanwhile = [&] { EXPECT_EQ(commit(step).code, KVC_BUSY); };
  expectRead(a, 0, 33);
  nosy.meanwhile = [&] {
    EXPECT_EQ(kvc_cache_abandon(cache, step).code, KVC_OK);
  };
  expectRead(a, 0, 33);
  EXPECT_EQ(kvc_cache_truncate(cache, a, 1).code, KVC_OK) << kvc_error_text();
  EXPECT_EQ(kvc_cache_release(cache, a).code, KVC_OK);
  EXPECT_EQ(kvc_cache_check(cache, 2).code, KVC_OK) << kvc_error_text();
}

// While others step, fork and release.
TEST_F(Reads, ThreadsReadAtOnce) {
  create(options(60, 30));
  kvc_seq a = open();
  write(a, 21, 1);
  const std::vector<Layer> &is = wrote[a.slot];
  std::atomic<bool> done = false;
  auto reader = [&] {
    std::vector<float> v(21 * kHeads * kDimV);
    while (!done) {
      ASSERT_EQ(
          kvc_cache_read(cache, a, 0, 0, 21, nullptr, {}, v.data(), {}, nullptr)
              .code,
          KVC_OK)
          << kvc_error_text();
      ASSERT_EQ(v, is[0].v);
    }
  };
  std::thread first(reader), second(reader);
  for (int round = 0; round < 300; ++round) {
    kvc_seq child = {};
    ASSERT_EQ(kvc_cache_fork(cache, a, &child).code, KVC_OK);
    ASSERT_EQ(commit(reserve({{child, 3}})).code, KVC_OK);
    ASSERT_EQ(kvc_cache_release(cache, child).code, KVC_OK);
  }
  done = true;
  first.join();
  second.join();
  EXPECT_EQ(kvc_cache_check(cache, 2).code, KVC_OK) << kvc_error_text();
}

namespace {

struct SimReads : Reads {
  Loaded &loaded() override { return sim; }
  LoadedSim sim;
};

} // namespace

TEST_F(SimReads, GiveWhatWasAppended) {
  kvc_cache_options o = options();
  ASSERT_EQ(kvc_cache_create(sim.program, &o, &cache).code, KVC_OK);
  kvc_seq a = open(), b = {};
  write(a, 7, 1);
  ASSERT_EQ(kvc_cache_fork(cache, a, &b).code, KVC_OK);
  write(a, 1, 2);
  expectRead(a, 1, 7);
  expectRead(b, 0, 7, a.slot);
  // Memory that no kernel may touch: who knows what it left.
  std::vector<float> mine(8 * kHeads * kDimK);
  EXPECT_EQ(
      kvc_cache_read(cache, a, 0, 0, 8, mine.data(), {}, nullptr, {}, nullptr)
          .code,
      KVC_DEVICE_ERROR);
  EXPECT_EQ(read(a, 0, 0, 1).code, KVC_POISONED);
}

TEST_F(Launches, AReadIsInTheOrderOfItsStream) {
  kvc_cache_options options = {};
  options.size = sizeof(options);
  options.arena_bytes = 1 << 20;
  options.max_sequences = options.max_batch = 2;
  options.max_step_tokens = options.max_tokens_per_seq = 2000;
  kvc_cache *cache = nullptr;
  ASSERT_EQ(kvc_cache_create(loaded->program, &options, &cache).code, KVC_OK)
      << kvc_error_text();
  kvc_slot_request request = {{}, 1100};
  kvc_step step = {};
  auto *stream = fakeAddress<void>(0x5000), *other = fakeAddress<void>(0x6000);
  ASSERT_EQ(kvc_cache_open(cache, &request.seq).code, KVC_OK);
  ASSERT_EQ(kvc_cache_reserve(cache, &request, 1, stream, &step).code, KVC_OK)
      << kvc_error_text();
  ASSERT_EQ(kvc_cache_mark_appended(cache, step, KVC_ALL_LAYERS).code, KVC_OK);
  ASSERT_EQ(kvc_cache_commit(cache, step, nullptr).code, KVC_OK);
  notes.launches.clear(), notes.uploads.clear();
  auto *rows = fakeAddress<uint8_t>(0x7000);
  auto read = [&](const uint8_t *k) {
    return kvc_cache_read(cache, request.seq, 0, 10, 1080,
                          const_cast<uint8_t *>(k), {}, nullptr, {}, other);
  };
  ASSERT_EQ(read(rows).code, KVC_OK) << kvc_error_text();
  EXPECT_THAT(notes.waits,
              ElementsAre(std::pair<void *, void *>(other, stream)));
  EXPECT_THAT(notes.uploads, ElementsAre(other, other));
  ASSERT_THAT(names(), ElementsAre("paged.gather", "paged.gather"));
  auto first = notes.launches[0].as<RowBlock>();
  auto second = notes.launches[1].as<RowBlock>();
  EXPECT_EQ(first.rows + second.rows, 1080);
  EXPECT_EQ(first.k, rows);
  EXPECT_EQ(second.k, rows + first.rows * kHeads * kDimK * 4);
  EXPECT_EQ(second.v, nullptr);
  EXPECT_EQ(first.slot, second.slot);
  EXPECT_TRUE(notes.holds(first.slot, size_t(first.rows) * 8))
      << "of the GPU's memory";
  notes.launches.clear();
  expectRefused(read(rows + 8),
                "`k`: a GPU expects address, row stride and head stride to be "
                "multiples of 16, found 0x7008, 64 and 32");
  notes.failing = "paged.gather";
  EXPECT_EQ(read(rows).code, KVC_DEVICE_ERROR);
  EXPECT_EQ(read(rows).code, KVC_POISONED);
  kvc_cache_destroy(cache);
  EXPECT_TRUE(notes.memories.empty());
}
