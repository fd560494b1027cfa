//===- CacheShareTest.cpp - forks, truncation and what they cost ----------===//
//
// What the sequences hold then is CacheModelTest's to find.
//
//===----------------------------------------------------------------------===//
#include "test/unit/Runtime/CacheFixture.h"
#include "test/unit/Runtime/FakeGpu.h"
#include "test/unit/Runtime/GpuFixture.h"

#include <gmock/gmock.h>

using namespace kvc::test;
using testing::HasSubstr;

namespace {

struct Shares : Caches {
  kvc_seq fork(kvc_seq parent) {
    kvc_seq child = {};
    EXPECT_EQ(kvc_cache_fork(cache, parent, &child).code, KVC_OK)
        << kvc_error_text();
    return child;
  }
  kvc_status truncate(kvc_seq seq, uint32_t tokens) {
    return kvc_cache_truncate(cache, seq, tokens);
  }
  kvc_seq_stats statsOf(kvc_seq seq) {
    kvc_seq_stats s = {};
    s.size = sizeof(s);
    EXPECT_EQ(kvc_cache_get_seq_stats(cache, seq, &s).code, KVC_OK);
    return s;
  }
  /// A sequence of so many tokens.
  kvc_seq filled(uint32_t tokens) {
    kvc_seq seq = open();
    EXPECT_EQ(commit(reserve({{seq, tokens}})).code, KVC_OK);
    return seq;
  }

  static constexpr uint32_t kForks = 64, kLongest = 4160;
  /// Of a cache for forks of one long sequence.
  kvc_cache_options manyForks(uint32_t tokens) {
    kvc_cache_options o = options();
    o.max_sequences = o.max_batch = kForks + 1;
    o.max_step_tokens = o.max_tokens_per_seq = kLongest;
    // What all would hold if they shared nothing is never there.
    uint64_t pages = tokens / 4 + 1 + kForks;
    o.arena_bytes = (kForks + 1) * size_t(kLongest) * 96 +
                    size_t(pages + 2) * kPageBytes +
                    (pages / 2 + 2) * kWindowPageBytes;
    return o;
  }
};

} // namespace

TEST_F(Shares, ForksCostNoPageUntilTheyWriteAndOneEachThen) {
  // 4,096 tokens fill their pages: the next one takes a page, shared or not.
  for (uint32_t tokens : {4096u, 4097u, 4099u}) {
    SCOPED_TRACE(tokens);
    create(manyForks(tokens));
    std::vector<kvc_seq> all = {filled(tokens)};
    uint64_t live = stats().pages_live, bytes = stats().bytes;
    for (uint32_t i = 0; i < kForks; ++i)
      all.push_back(fork(all[i % all.size()]));
    EXPECT_EQ(stats().pages_live, live);
    EXPECT_EQ(stats().pages_shared, live);
    EXPECT_EQ(stats().bytes, bytes + kForks * size_t(kLongest) * 96)
        << "of contiguous slots";
    EXPECT_EQ(statsOf(all[7]).pages, live);
    EXPECT_EQ(statsOf(all[7]).pages_shared, live);
    std::vector<kvc_slot_request> requests;
    for (kvc_seq seq : all)
      requests.push_back({seq, 1});
    kvc_step step = reserve(requests);
    uint32_t parts = (tokens % 4 != 0) + (tokens % 8 != 0);
    EXPECT_EQ(stats().pages_copied, uint64_t(parts) * kForks)
        << "the last to write has the page to itself";
    EXPECT_EQ(stats().pages_live,
              live + uint64_t(parts) * kForks + (2 - parts) * (kForks + 1));
    EXPECT_EQ(kvc_cache_check(cache, 2).code, KVC_OK) << kvc_error_text();
    EXPECT_EQ(kvc_cache_abandon(cache, step).code, KVC_OK);
    for (kvc_seq seq : all)
      EXPECT_EQ(kvc_cache_release(cache, seq).code, KVC_OK);
    EXPECT_EQ(stats().pages_live, 0u);
    EXPECT_EQ(stats().pages_shared, 0u);
    kvc_cache_destroy(cache);
    cache = nullptr;
  }
}

TEST_F(Shares, CopiesAreCountedBeforeAnyIsMade) {
  // Five tokens: two pages of eight of `paged`, and one of four of `window`.
  create(options(8, 4));
  kvc_seq a = filled(5), b = fork(a), c = fork(a);
  kvc_slot_request requests[] = {{a, 1}, {b, 1}, {c, 1}};
  EXPECT_EQ(commit(reserve({requests[0], requests[1], requests[2]})).code,
            KVC_OK);
  EXPECT_EQ(stats().pages_free, 12u - 7);
  EXPECT_EQ(kvc_cache_release(cache, c).code, KVC_OK);
  EXPECT_EQ(kvc_cache_release(cache, b).code, KVC_OK);
  b = fork(a), c = fork(a);
  kvc_seq other = filled(9);
  kvc_step step;
  kvc_status s = kvc_cache_reserve(cache, requests, 1, nullptr, &step);
  EXPECT_EQ(s.code, KVC_OK) << "one copy, one page";
  EXPECT_EQ(kvc_cache_abandon(cache, step).code, KVC_OK);
  requests[1].seq = b, requests[2].seq = c;
  uint64_t before = inside(cache).digest();
  s = kvc_cache_reserve(cache, requests, 3, nullptr, &step);
  EXPECT_EQ(s.code, KVC_OUT_OF_PAGES);
  EXPECT_EQ(s.need, 1u) << "of `b` and `c` the last has the page";
  EXPECT_EQ(s.have, 0u);
  EXPECT_EQ(inside(cache).digest(), before);
  EXPECT_EQ(kvc_cache_release(cache, other).code, KVC_OK);
  EXPECT_EQ(kvc_cache_reserve(cache, requests, 3, nullptr, &step).code, KVC_OK)
      << kvc_error_text();
  EXPECT_EQ(kvc_cache_check(cache, 2).code, KVC_OK) << kvc_error_text();
}

TEST_F(Shares, WhatCannotBeForkedOrTruncatedIsSaid) {
  create(options());
  kvc_seq a = filled(30), child = {7, 7};
  EXPECT_EQ(kvc_cache_fork(cache, {3, 9}, &child).code, KVC_STALE);
  EXPECT_EQ(kvc_cache_fork(cache, a, nullptr).code, KVC_INVALID_ARGUMENT);
  EXPECT_EQ(kvc_cache_fork(nullptr, a, &child).code, KVC_INVALID_ARGUMENT);
  EXPECT_EQ(truncate({3, 9}, 0).code, KVC_STALE);
  EXPECT_EQ(truncate(a, 31).code, KVC_INVALID_ARGUMENT);
  EXPECT_STREQ(kvc_error_text(),
               "`tokens`: expected at most the sequence's 30, found 31");
  EXPECT_EQ(truncate(a, 28).code, KVC_INVALID_ARGUMENT);
  EXPECT_STREQ(kvc_error_text(),
               "`tokens`: expected 0, or at least 30, found 28: `window` gave "
               "back the pages of tokens that a query there sees; see "
               "`max_rollback`");
  kvc_step step = reserve({{a, 1}});
  EXPECT_EQ(kvc_cache_fork(cache, a, &child).code, KVC_BUSY);
  EXPECT_EQ(truncate(a, 0).code, KVC_BUSY);
  EXPECT_EQ(child.slot, 7u) << "no failure writes a handle";
  EXPECT_EQ(commit(step).code, KVC_OK);
  for (int i = 0; i < 3; ++i)
    fork(a);
  EXPECT_EQ(kvc_cache_fork(cache, a, &child).code, KVC_OUT_OF_SEQUENCES);
  EXPECT_EQ(truncate(a, 0).code, KVC_OK);
  EXPECT_EQ(length(a), 0u);
  EXPECT_EQ(kvc_cache_check(cache, 2).code, KVC_OK) << kvc_error_text();
}

TEST_F(Shares, AWindowKeepsWhatMayBeTruncated) {
  kvc_cache_options o = options();
  o.max_rollback = 20;
  create(o);
  kvc_seq a = filled(40);
  // The query at 20 sees 15 on and three sinks: pages 0, 1 and on.
  EXPECT_EQ(statsOf(a).pages, 10u + 5);
  EXPECT_EQ(truncate(a, 19).code, KVC_OK) << "no page between is gone";
  EXPECT_EQ(commit(reserve({{a, 31}})).code, KVC_OK);
  EXPECT_EQ(truncate(a, 30).code, KVC_OK);
  EXPECT_EQ(truncate(a, 29).code, KVC_OK) << "what is gone is whole pages";
  EXPECT_EQ(truncate(a, 28).code, KVC_INVALID_ARGUMENT);
  EXPECT_THAT(kvc_error_text(), HasSubstr("at least 30, found 28"));
  EXPECT_EQ(kvc_cache_check(cache, 2).code, KVC_OK) << kvc_error_text();
}

// The arena that is asked for holds what windows keep, too.
TEST_F(Shares, PagesThatWaitAreInTheArena) {
  kvc_cache_options o = options();
  o.max_rollback = 24;
  o.max_batch = 1, o.max_step_tokens = 4;
  uint64_t bytes = 0;
  ASSERT_EQ(
      kvc_cache_arena_bytes(loaded.program, &o, 4 * kSlotTokens, &bytes).code,
      KVC_OK);
  o.arena_bytes = bytes;
  create(o);
  kvc_seq all[4] = {open(), open(), open(), open()};
  for (uint32_t tokens = 0; tokens < kSlotTokens; tokens += 4)
    for (kvc_seq seq : all)
      ASSERT_EQ(commit(reserve({{seq, 4}})).code, KVC_OK) << tokens;
  EXPECT_EQ(stats().refused, 0u);
}

TEST_F(Shares, BytesOfLayersAndSequences) {
  create(options());
  filled(9);
  kvc_seq b = filled(1);
  uint64_t bytes[2] = {};
  for (uint32_t layer : {0, 1})
    EXPECT_EQ(kvc_cache_layer_bytes(cache, layer, &bytes[layer]).code, KVC_OK);
  EXPECT_EQ(bytes[0], 4 * kPageBytes);
  EXPECT_EQ(bytes[1], 3 * kWindowPageBytes + 2 * kSlotBytes);
  EXPECT_EQ(bytes[0] + bytes[1], stats().bytes);
  EXPECT_EQ(statsOf(b).bytes, kPageBytes + kWindowPageBytes + kSlotBytes);
  EXPECT_EQ(kvc_cache_layer_bytes(cache, 2, bytes).code, KVC_INVALID_ARGUMENT);
  EXPECT_EQ(kvc_cache_layer_bytes(cache, 0, nullptr).code,
            KVC_INVALID_ARGUMENT);
  kvc_seq_stats s = {};
  EXPECT_EQ(kvc_cache_get_seq_stats(cache, b, &s).code, KVC_INVALID_ARGUMENT)
      << "its size is 0";
  s.size = sizeof(s);
  EXPECT_EQ(kvc_cache_get_seq_stats(cache, {3, 9}, &s).code, KVC_STALE);
}

TEST_F(Shares, TokensThatFitAreThoseWhoseBytesDo) {
  kvc_cache_options o = options();
  for (size_t bytes : {size_t(1) << 12, size_t(1) << 15, size_t(1) << 17,
                       size_t(45000), size_t(1) << 40}) {
    o.arena_bytes = bytes;
    uint64_t tokens = 0, least = 0;
    ASSERT_EQ(kvc_cache_tokens_that_fit(loaded.program, &o, &tokens).code,
              KVC_OK);
    if (tokens) {
      EXPECT_EQ(kvc_cache_arena_bytes(loaded.program, &o, tokens, &least).code,
                KVC_OK);
      EXPECT_LE(least, bytes);
    }
    if (tokens < 4 * kSlotTokens) {
      EXPECT_EQ(
          kvc_cache_arena_bytes(loaded.program, &o, tokens + 1, &least).code,
          KVC_OK);
      EXPECT_GT(least, bytes);
    }
  }
  uint64_t tokens = 0;
  EXPECT_EQ(tokens, 0u);
  o.max_batch = 0;
  EXPECT_EQ(kvc_cache_tokens_that_fit(loaded.program, &o, &tokens).code,
            KVC_INVALID_ARGUMENT);
  EXPECT_EQ(kvc_cache_tokens_that_fit(loaded.program, &o, nullptr).code,
            KVC_INVALID_ARGUMENT);
  EXPECT_EQ(kvc_cache_tokens_that_fit(nullptr, &o, &tokens).code,
            KVC_INVALID_ARGUMENT);
}
