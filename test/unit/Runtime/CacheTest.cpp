//===- CacheTest.cpp - sequences, steps, pages ----------------------------===//
#include "test/unit/Runtime/CacheFixture.h"

#include <cstring>
#include <gmock/gmock.h>
#include <random>

using namespace kvc::test;
using testing::HasSubstr;

TEST_F(Caches, TheArenaIsSharedOutExactly) {
  create(options());
  EXPECT_EQ(stats().pages_total, 30u);
  EXPECT_EQ(stats().pages_free, 30u);
  EXPECT_EQ(stats().bytes, 0u);
}

TEST_F(Caches, NoMorePagesThanSequencesCanFill) {
  kvc_cache_options o = options();
  o.arena_bytes = size_t(1) << 30;
  create(o);
  EXPECT_EQ(stats().pages_total, 4u * (16 + 8));
}

TEST_F(Caches, TooSmallAnArenaIsRefused) {
  kvc_cache_options o = options(1, 1);
  // Each page of `window` holds as many tokens as two of `paged`.
  o.arena_bytes += kPageBytes - 1;
  EXPECT_EQ(kvc_cache_create(loaded.program, &o, &cache).code,
            KVC_INVALID_ARGUMENT);
  EXPECT_THAT(kvc_error_text(), HasSubstr("`arena_bytes`: expected at least"));
  EXPECT_EQ(cache, nullptr);
  o.arena_bytes += 1;
  create(o);
}

/// Shares `tokens` among sequences so that pages of `page` tokens hold as few
/// as they can: every sequence ends one token into its last page.
static std::vector<kvc_slot_request>
spreadThin(const std::vector<kvc_seq> &sequences, uint32_t tokens,
           uint32_t most, uint32_t page) {
  std::vector<kvc_slot_request> requests;
  for (kvc_seq seq : sequences)
    if (tokens)
      requests.push_back({seq, 1}), --tokens;
  // Whole pages first, and then what is left wherever there is room.
  for (uint32_t grain : {page, 1u})
    for (kvc_slot_request &request : requests)
      while (tokens >= grain && request.new_tokens + grain <= most)
        request.new_tokens += grain, tokens -= grain;
  return requests;
}

TEST_F(Caches, ArenaBytesAreEnoughAndNoMore) {
  std::mt19937 random(7);
  for (unsigned round = 0; round < 200; ++round) {
    kvc_cache_options o = options();
    o.max_sequences = o.max_batch = 1 + random() % 4;
    o.max_tokens_per_seq = 1 + random() % kSlotTokens;
    o.max_step_tokens = o.max_sequences * o.max_tokens_per_seq;
    uint32_t tokens = 1 + random() % o.max_step_tokens;
    uint64_t bytes = 0;
    ASSERT_EQ(kvc_cache_arena_bytes(loaded.program, &o, tokens, &bytes).code,
              KVC_OK)
        << kvc_error_text();
    for (uint32_t less : {0, 1}) {
      o.arena_bytes = bytes - less;
      kvc_status created = kvc_cache_create(loaded.program, &o, &cache);
      if (less && created.code == KVC_INVALID_ARGUMENT)
        continue; // Not even a page of each store fits.
      ASSERT_EQ(created.code, KVC_OK) << kvc_error_text();
      std::vector<kvc_seq> sequences(o.max_sequences);
      for (kvc_seq &seq : sequences)
        seq = open();
      unsigned refused = 0;
      for (uint32_t page : {4, 8}) {
        auto requests =
            spreadThin(sequences, tokens, o.max_tokens_per_seq, page);
        kvc_step step;
        kvc_status s = kvc_cache_reserve(
            cache, requests.data(), uint32_t(requests.size()), nullptr, &step);
        if (s.code == KVC_OK)
          s = kvc_cache_abandon(cache, step);
        else
          refused += s.code == KVC_OUT_OF_PAGES;
      }
      EXPECT_EQ(refused != 0, less != 0)
          << o.max_sequences << " sequences of " << o.max_tokens_per_seq << ", "
          << tokens << " tokens";
      kvc_cache_destroy(cache);
      cache = nullptr;
    }
  }
  kvc_cache_options o = options();
  uint64_t bytes = 77;
  for (uint64_t tokens : {uint64_t(0), uint64_t(4 * kSlotTokens + 1)})
    EXPECT_EQ(kvc_cache_arena_bytes(loaded.program, &o, tokens, &bytes).code,
              KVC_INVALID_ARGUMENT);
  EXPECT_EQ(bytes, 77u);
  // More pages than there are numbers for.
  o.max_sequences = 1u << 24;
  o.max_tokens_per_seq = 1u << 20;
  EXPECT_EQ(
      kvc_cache_arena_bytes(loaded.program, &o, uint64_t(1) << 40, &bytes).code,
      KVC_INVALID_ARGUMENT);
  EXPECT_EQ(bytes, 77u);
}

TEST_F(Caches, AFullSequenceHasACodeOfItsOwn) {
  create(options());
  kvc_seq seq = open();
  kvc_slot_request request = {seq, 60};
  ASSERT_EQ(commit(reserve({request})).code, KVC_OK);
  kvc_step step = {};
  request.new_tokens = 5;
  EXPECT_EQ(kvc_cache_reserve(cache, &request, 1, nullptr, &step).code,
            KVC_SEQUENCE_FULL);
  EXPECT_THAT(kvc_error_text(), HasSubstr("60 of at most 64"));
  EXPECT_STREQ(kvc_code_name(KVC_SEQUENCE_FULL), "sequence full");
  request.new_tokens = 4;
  EXPECT_EQ(kvc_cache_reserve(cache, &request, 1, nullptr, &step).code, KVC_OK);
}

TEST_F(Caches, WrongOptionsAreRefused) {
  struct {
    const char *text;
    void (*change)(kvc_cache_options &);
  } cases[] = {
      {"`max_sequences`", [](auto &o) { o.max_sequences = 0; }},
      {"`max_batch`", [](auto &o) { o.max_batch = 0; }},
      {"`max_step_tokens`", [](auto &o) { o.max_step_tokens = UINT32_MAX; }},
      {"`max_tokens_per_seq`", [](auto &o) { o.max_tokens_per_seq = 0; }},
      {"`flags`", [](auto &o) { o.flags = 4; }},
      {"`arena`", [](auto &o) { o.arena = reinterpret_cast<void *>(8); }},
      {"kvc_cache_options", [](auto &o) { o.size = 1; }}};
  for (auto &c : cases) {
    kvc_cache_options o = options();
    c.change(o);
    EXPECT_EQ(kvc_cache_create(loaded.program, &o, &cache).code,
              KVC_INVALID_ARGUMENT);
    EXPECT_THAT(kvc_error_text(), HasSubstr(c.text));
  }
}

TEST_F(Caches, AStepReservesCommitsAndGivesBack) {
  create(options());
  kvc_seq a = open(), b = open();
  kvc_step step = reserve({{a, 9}, {b, 1}});
  EXPECT_EQ(stats().pages_live, 3u + 1 + 2 + 1);
  EXPECT_EQ(length(a), 0u);
  kvc_batch_view v = view(step, kPaged, 0);
  EXPECT_EQ(v.batch, 2u);
  EXPECT_EQ(v.rows, 10u);
  EXPECT_EQ(v.cu_q[1], 9);
  EXPECT_EQ(v.cu_q[2], 10);
  EXPECT_EQ(v.kv_len[0], 9);
  EXPECT_EQ(v.kv_len[1], 1);
  EXPECT_EQ(v.table_stride, 16);
  for (int i = 0; i < 10; ++i) {
    int row = i / 9, token = i % 9;
    int64_t page = v.table[row * v.table_stride + token / 4];
    EXPECT_GE(page, 2);
    EXPECT_EQ(v.write_slot[i], page * 4 + token % 4);
  }
  EXPECT_EQ(v.table[3], 0) << "unused entries are the zero page";
  v = view(step, kFlat, 1);
  EXPECT_EQ(v.table[0], int32_t(a.slot));
  EXPECT_EQ(v.write_slot[8], int64_t(a.slot) * kSlotTokens + 8);
  EXPECT_EQ(v.planes[0].head_stride, kSlotTokens * 32);

  uint32_t accepted[] = {4, 1};
  ASSERT_EQ(commit(step, accepted).code, KVC_OK);
  EXPECT_EQ(length(a), 4u);
  EXPECT_EQ(length(b), 1u);
  EXPECT_EQ(stats().pages_live, 1u + 1 + 1 + 1);
  EXPECT_EQ(stats().bytes, 4 * 768 + 2 * kSlotBytes);
  ASSERT_EQ(kvc_cache_release(cache, a).code, KVC_OK);
  ASSERT_EQ(kvc_cache_release(cache, b).code, KVC_OK);
  EXPECT_EQ(stats().pages_free, 30u);
  EXPECT_EQ(kvc_cache_check(cache, 2).code, KVC_OK) << kvc_error_text();
}

TEST_F(Caches, EntriesOfAnEarlierStepAreCleared) {
  create(options());
  kvc_seq a = open(), b = open();
  kvc_step step = reserve({{a, 40}});
  ASSERT_EQ(kvc_cache_abandon(cache, step).code, KVC_OK);
  kvc_batch_view v = view(reserve({{b, 5}}), kPaged, 0);
  EXPECT_GE(v.table[1], 2);
  for (int i = 2; i < v.table_stride; ++i)
    ASSERT_EQ(v.table[i], 0);
}

TEST_F(Caches, OutOfPagesSaysHowManyAndChangesNothing) {
  create(options());
  kvc_seq a = open(), b = open();
  kvc_slot_request requests[] = {{a, 45}, {b, 40}};
  kvc_step step = {};
  kvc_status s = kvc_cache_reserve(cache, requests, 2, nullptr, &step);
  EXPECT_EQ(s.code, KVC_INVALID_ARGUMENT) << "85 tokens in a step of 60";
  requests[0].new_tokens = 44;
  EXPECT_EQ(commit(reserve({requests[0]})).code, KVC_OK);
  uint64_t before = inside(cache).digest();
  requests[0] = {a, 20};
  requests[1] = {b, 20};
  s = kvc_cache_reserve(cache, requests, 2, nullptr, &step);
  EXPECT_EQ(s.code, KVC_OUT_OF_PAGES);
  EXPECT_EQ(s.need, 10u);
  EXPECT_EQ(s.have, 9u);
  EXPECT_EQ(s.have_later, 9u);
  EXPECT_STREQ(kvc_error_text(),
               "`paged`: expected 10 free pages, found 9 of 20");
  EXPECT_EQ(inside(cache).digest(), before);
  EXPECT_EQ(stats().refused, 1u);
}

TEST_F(Caches, SequencesAndStepsRunOut) {
  create(options());
  kvc_seq seqs[4];
  for (kvc_seq &seq : seqs)
    seq = open();
  kvc_seq more = {};
  EXPECT_EQ(kvc_cache_open(cache, &more).code, KVC_OUT_OF_SEQUENCES);
  for (kvc_seq seq : seqs)
    reserve({{seq, 1}});
  EXPECT_EQ(stats().steps, 4u);
  for (kvc_seq seq : seqs)
    EXPECT_EQ(kvc_cache_release(cache, seq).code, KVC_BUSY);
}

TEST_F(Caches, WrongRequestsChangeNothing) {
  create(options());
  kvc_seq a = open(), b = open(), gone = open();
  ASSERT_EQ(kvc_cache_release(cache, gone).code, KVC_OK);
  kvc_step open = reserve({{b, 3}});
  struct {
    uint32_t code;
    std::vector<kvc_slot_request> requests;
  } cases[] = {{KVC_INVALID_ARGUMENT, {}},
               {KVC_INVALID_ARGUMENT, {{a, 0}}},
               {KVC_SEQUENCE_FULL, {{a, kSlotTokens + 1}}},
               {KVC_SEQUENCE_FULL, {{a, UINT32_MAX}}},
               {KVC_INVALID_ARGUMENT, {{a, 1}, {a, 1}, {a, 1}, {a, 1}}},
               {KVC_BUSY, {{a, 1}, {a, 1}}},
               {KVC_BUSY, {{a, 1}, {b, 1}}},
               {KVC_STALE, {{a, 1}, {gone, 1}}},
               {KVC_STALE, {{{0, 0}, 1}}},
               {KVC_STALE, {{{UINT32_MAX, 1}, 1}}}};
  uint64_t before = inside(cache).digest();
  for (auto &c : cases) {
    kvc_step step = {};
    kvc_status s = kvc_cache_reserve(
        cache, c.requests.data(), uint32_t(c.requests.size()), nullptr, &step);
    EXPECT_EQ(s.code, c.code) << kvc_error_text();
    EXPECT_EQ(inside(cache).digest(), before) << kvc_error_text();
  }
  uint32_t accepted[] = {4};
  EXPECT_EQ(kvc_cache_commit(cache, open, accepted).code, KVC_INVALID_ARGUMENT);
  EXPECT_STREQ(kvc_error_text(),
               "`accepted[0]`: expected at most the 3 new tokens, found 4");
  EXPECT_EQ(inside(cache).digest(), before);
}

TEST_F(Caches, StaleHandlesStayStale) {
  create(options());
  kvc_seq a = open();
  kvc_step step = reserve({{a, 2}});
  ASSERT_EQ(commit(step).code, KVC_OK);
  EXPECT_EQ(kvc_cache_commit(cache, step, nullptr).code, KVC_STALE);
  EXPECT_EQ(kvc_cache_abandon(cache, step).code, KVC_STALE);
  float row[64] = {};
  EXPECT_EQ(kvc_cache_append(cache, step, 0, row, row).code, KVC_STALE);
  EXPECT_EQ(kvc_cache_attend(cache, step, 0, row, row, row).code, KVC_STALE);
  kvc_batch_view v = {};
  v.size = sizeof(v);
  EXPECT_EQ(kvc_cache_view(cache, step, 0, 0, &v).code, KVC_STALE);
  ASSERT_EQ(kvc_cache_release(cache, a).code, KVC_OK);
  EXPECT_EQ(kvc_cache_release(cache, a).code, KVC_STALE);
  kvc_seq next = open();
  EXPECT_EQ(next.slot, a.slot) << "the slot is used again";
  uint32_t tokens;
  EXPECT_EQ(kvc_cache_length(cache, a, &tokens).code, KVC_STALE);
  EXPECT_EQ(length(next), 0u);
  kvc_step other = reserve({{next, 1}});
  EXPECT_EQ(other.slot, step.slot);
  EXPECT_EQ(kvc_cache_abandon(cache, step).code, KVC_STALE);
}

TEST_F(Caches, ViewsAndLayersAreChecked) {
  create(options());
  kvc_step step = reserve({{open(), 1}});
  kvc_batch_view v = {};
  v.size = sizeof(v);
  EXPECT_EQ(kvc_cache_view(cache, step, kPaged, 1, &v).code,
            KVC_INVALID_ARGUMENT);
  EXPECT_EQ(kvc_cache_view(cache, step, 3, 0, &v).code, KVC_INVALID_ARGUMENT);
  float row[64] = {};
  EXPECT_EQ(kvc_cache_append(cache, step, 2, row, row).code,
            KVC_INVALID_ARGUMENT);
  EXPECT_EQ(kvc_cache_append(cache, step, 0, row, nullptr).code,
            KVC_INVALID_ARGUMENT);
  EXPECT_EQ(kvc_cache_attend(cache, step, 0, nullptr, row, nullptr).code,
            KVC_INVALID_ARGUMENT);
  EXPECT_EQ(kvc_cache_mark_appended(cache, step, 2).code, KVC_INVALID_ARGUMENT);
  EXPECT_EQ(commit(step).code, KVC_OK)
      << "no failed call left the step running";
}

TEST_F(Caches, BrokenInvariantsPoison) {
  struct {
    const char *text;
    void (*damage)(kvc::rt::Cache &);
  } cases[] = {
      {"[2] `paged`: 4 of 4 live pages have 4 holders, and tables hold 3",
       Peer::losePage},
      {"`paged`: entry 0 of sequence 1, page 2: [2] of more tables than it has "
       "holders",
       [](auto &c) { Peer::holdTwice(c, 0, 1); }},
      {"`paged`: entry 1 of sequence 0, page 3: [10] written to while others "
       "hold it",
       [](auto &c) { Peer::shareUnknown(c, 0, 1); }},
      {"[8] `paged`: page 0 was written", Peer::writeZeroPage},
      {"[3] 2 open and 1 free sequences are not all 4", Peer::loseSequence},
      {"[6] step 0 has 0 layers written, but counts 1", Peer::countALayer},
      {"[7] `window`: row 0 of a step is not the table of its sequence 0",
       Peer::showAnotherPage}};
  for (auto &c : cases) {
    create(options());
    kvc_seq a = open(), b = open();
    kvc_step step = reserve({{a, 5}, {b, 2}});
    ASSERT_EQ(kvc_cache_check(cache, 2).code, KVC_OK) << kvc_error_text();
    c.damage(inside(cache));
    EXPECT_EQ(kvc_cache_check(cache, 2).code, KVC_POISONED);
    EXPECT_THAT(kvc_error_text(), HasSubstr(c.text));
    EXPECT_EQ(kvc_cache_commit(cache, step, nullptr).code, KVC_POISONED);
    EXPECT_THAT(kvc_error_text(), HasSubstr(c.text)) << "the first cause";
    EXPECT_EQ(kvc_cache_open(cache, &a).code, KVC_POISONED);
    EXPECT_EQ(stats().steps, 1u) << "statistics still work";
    kvc_cache_destroy(cache);
    cache = nullptr;
  }
  create(options());
  EXPECT_EQ(kvc_cache_check(cache, 3).code, KVC_INVALID_ARGUMENT);
}

TEST_F(Caches, GivingAPageBackTwicePoisons) {
  create(options());
  kvc_seq a = open(), b = open();
  kvc_step first = reserve({{a, 1}}), second = reserve({{b, 1}});
  Peer::holdTwice(inside(cache), a.slot, b.slot);
  EXPECT_EQ(kvc_cache_abandon(cache, second).code, KVC_OK);
  EXPECT_EQ(kvc_cache_abandon(cache, first).code, KVC_POISONED);
  EXPECT_THAT(kvc_error_text(), HasSubstr("was given back but is not live"));
  EXPECT_EQ(kvc_cache_release(cache, a).code, KVC_POISONED);
}
