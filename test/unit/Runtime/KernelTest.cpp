//===- KernelTest.cpp - append and attend on the caller's buffers ---------===//
#include "test/unit/Runtime/KernelFixture.h"

#include <cmath>
#include <cstring>
#include <functional>
#include <gtest/gtest.h>
#include <limits>
#include <memory>
#include <random>
#include <thread>
#include <xmmintrin.h>

using namespace kvc::test;

namespace {

class Kernels : public testing::TestWithParam<uint32_t> {};
INSTANTIATE_TEST_SUITE_P(Stores, Kernels,
                         testing::Values(kPaged, kWindow, kFlat));

} // namespace

TEST_P(Kernels, AgreeWithTheReference) {
  Loaded loaded(2);
  Buffers buffers(loaded, GetParam(), 0xff);
  Batch batch(buffers, 1);
  addMixed(batch);
  expectRight(batch, batch.attend());
}

TEST_P(Kernels, LseMayBeNull) {
  Loaded loaded;
  Buffers buffers(loaded, GetParam());
  Batch batch(buffers, 1);
  addMixed(batch);
  Result with = batch.attend();
  Result without = batch.attend([](kvc_attend_args &a) { a.lse = nullptr; });
  EXPECT_EQ(with.out, without.out);
  EXPECT_EQ(without.lse[0], 7);
}

// Bit for bit: threads, neighbours, page ids, workspace contents and size.
TEST_P(Kernels, ResultsDependOnTheSequenceAlone) {
  Loaded one(1), four(4);
  std::vector<float> expected;
  for (int context = 0; context < 20; ++context) {
    Buffers buffers(context % 2 ? four : one, GetParam(),
                    uint8_t(context * 37));
    Batch batch(buffers, uint32_t(context));
    batch.poison = context * 51;
    for (int i = 0; i < context % 4; ++i)
      batch.add(i * 3, 5 + 7 * i, uint32_t(100 + context));
    size_t row = 0;
    for (const Sequence &s : batch.sequences)
      row += size_t(s.queries);
    batch.add(9, 31, 1);
    if (context % 3)
      batch.add(2, 12, uint32_t(200 + context));
    Result result = batch.attend();
    ASSERT_EQ(result.status.code, KVC_OK) << kvc_error_text();
    auto from = result.out.begin() + int64_t(row) * kQueryHeads * kDimV;
    std::vector<float> mine(from, from + 9 * kQueryHeads * kDimV);
    if (context == 0)
      expected = mine;
    ASSERT_EQ(std::memcmp(mine.data(), expected.data(), mine.size() * 4), 0)
        << "context " << context;
  }
}

TEST_P(Kernels, SmallestWorkspaceGivesTheSameBits) {
  Loaded loaded(2);
  Buffers buffers(loaded, GetParam());
  Batch batch(buffers, 3);
  addMixed(batch);
  Result whole = batch.attend();
  // The text of the refusal says how much is needed.
  Result refused =
      batch.attend([](kvc_attend_args &a) { a.workspace_bytes = 1; });
  ASSERT_EQ(refused.status.code, KVC_INVALID_ARGUMENT);
  size_t least = 0, found = 0;
  ASSERT_EQ(std::sscanf(kvc_error_text(),
                        "`workspace_bytes`: expected at least %zu, found %zu",
                        &least, &found),
            2);
  Result waves =
      batch.attend([&](kvc_attend_args &a) { a.workspace_bytes = least; });
  ASSERT_EQ(waves.status.code, KVC_OK) << kvc_error_text();
  EXPECT_EQ(whole.out, waves.out);
  EXPECT_EQ(whole.lse, waves.lse);
  Result less =
      batch.attend([&](kvc_attend_args &a) { a.workspace_bytes = least - 1; });
  EXPECT_EQ(less.status.code, KVC_INVALID_ARGUMENT);
}

TEST(Kernel, DenormalsAndRoundingOfTheCallerDoNotMatter) {
  Loaded loaded(2);
  Buffers buffers(loaded, kPaged);
  Batch batch(buffers, 1);
  addMixed(batch);
  for (Sequence &s : batch.sequences)
    for (float &x : s.q.values)
      x *= 1e-39f;
  Result usual = batch.attend();
  unsigned saved = _mm_getcsr();
  _mm_setcsr(saved | 0x8040 | 0x6000); // flush to zero, round to zero
  Result flushed = batch.attend();
  _mm_setcsr(saved);
  EXPECT_EQ(usual.out, flushed.out);
  EXPECT_EQ(usual.lse, flushed.lse);
}

namespace {

/// An engine's parallel for: threads that each take every n-th index.
struct Engine {
  uint32_t workers = 3, offset = 0;
  static void run(void *context, uint32_t tasks,
                  void (*task)(void *, uint32_t, uint32_t), void *arg) {
    auto &engine = *static_cast<Engine *>(context);
    std::vector<std::thread> threads;
    for (uint32_t w = 0; w < engine.workers; ++w)
      threads.emplace_back([&engine, tasks, task, arg, w] {
        for (uint32_t i = w; i < tasks; i += engine.workers)
          task(arg, i, w + engine.offset);
      });
    for (std::thread &thread : threads)
      thread.join();
  }
};

} // namespace

TEST(Kernel, RunsOnTheCallersParallelFor) {
  Engine engine;
  kvc_parallel parallel = {&engine, engine.workers, Engine::run};
  Loaded own(1), callers(0, &parallel);
  Buffers a(own, kPaged), b(callers, kPaged);
  Batch x(a, 1), y(b, 1);
  addMixed(x);
  addMixed(y);
  Result expected = x.attend(), found = y.attend();
  ASSERT_EQ(found.status.code, KVC_OK) << kvc_error_text();
  EXPECT_EQ(expected.out, found.out);
  engine.offset = 1; // now worker 3 of 0 to 2 turns up
  EXPECT_EQ(y.attend().status.code, KVC_DEVICE_ERROR);
}

TEST(Kernel, NegativeSlotsAreSkipped) {
  Loaded loaded;
  Buffers buffers(loaded, kPaged, 0x11);
  std::vector<uint8_t> before(buffers.memory.data(),
                              buffers.memory.data() + 64 * 768);
  Rows k = Rows::random(2, kHeads, kDimK, 1), v(2, kHeads, kDimV);
  int64_t slots[2] = {-1, INT64_MIN};
  kvc_append_args args = {};
  args.size = sizeof(args);
  args.rows = 2;
  args.k = k.values.data();
  args.k_row_stride = k.stride();
  args.v = v.values.data();
  args.v_row_stride = v.stride();
  args.slot = slots;
  args.page_count = kPages;
  args.planes = buffers.planes;
  args.plane_count = 2;
  EXPECT_EQ(kvc_append(loaded.program, kPaged, &args).code, KVC_OK);
  EXPECT_EQ(std::memcmp(before.data(), buffers.memory.data(), before.size()),
            0);
  slots[1] = kPages * 4;
  EXPECT_EQ(kvc_append(loaded.program, kPaged, &args).code,
            KVC_INVALID_ARGUMENT);
  EXPECT_STREQ(kvc_error_text(), "`slot[1]`: expected below 64 * 4, found 256");
  args.k_row_stride = 60;
  EXPECT_EQ(kvc_append(loaded.program, kPaged, &args).code,
            KVC_INVALID_ARGUMENT);
  EXPECT_STREQ(kvc_error_text(),
               "`k_row_stride`: expected at least 64 bytes, found 60");
  args.rows = 0;
  EXPECT_EQ(kvc_append(loaded.program, kPaged, &args).code, KVC_OK);
}

namespace {

struct WrongCase {
  const char *text;
  Batch::Change change;
};

/// Changes to addMixed()'s batch over `paged`.
std::vector<WrongCase> wrongCases() {
  static int32_t wrongCuQ[7], wrongLength[6], wrongTable[6 * 25];
  return {
      {"`q`: expected a buffer, found null",
       [](kvc_attend_args &a) { a.q = nullptr; }},
      {"`q`: expected address and strides to be multiples of 4",
       [](kvc_attend_args &a) { a.q_row_stride += 2; }},
      {"`out_row_stride`: expected at least 256 bytes, found 252",
       [](kvc_attend_args &a) { a.out_row_stride = 252; }},
      {"`out_head_stride`: expected 0, or 64 to 2^31 - 1 bytes, found 32",
       [](kvc_attend_args &a) { a.out_head_stride = 32; }},
      {"`q_head_stride`: expected 0, or 32 to 2^31 - 1 bytes, found -32",
       [](kvc_attend_args &a) { a.q_head_stride = -32; }},
      {"`lse_head_stride`: expected 0, or 4 to 2^31 - 1 bytes, found "
       "2147483648",
       [](kvc_attend_args &a) { a.lse_head_stride = int64_t(1) << 31; }},
      {"`out_row_stride`: expected at least 304 bytes, found 256",
       [](kvc_attend_args &a) { a.out_head_stride = 80; }},
      {"`out_row_stride`: expected at least 304 bytes, found 64",
       [](kvc_attend_args &a) {
         a.out_row_stride = 64, a.out_head_stride = 80;
       }},
      {"`lse_row_stride`: expected at least 16 bytes, found 0",
       [](kvc_attend_args &a) { a.lse_row_stride = 0; }},
      {"`planes[1]` (v codes of `paged`): expected a base, found null",
       [](kvc_attend_args &a) { planesOf(a)[1].base = nullptr; }},
      {"`planes[0]`: expected base and strides to be multiples of 4",
       [](kvc_attend_args &a) { planesOf(a)[0].head_stride += 1; }},
      {"`plane_count`: expected the 2 planes of `paged`, found 1",
       [](kvc_attend_args &a) { a.plane_count = 1; }},
      {"`plane_count`: expected the 2 planes of `paged`, found 3",
       [](kvc_attend_args &a) { a.plane_count = 3; }},
      {"`planes`: expected an array, found null",
       [](kvc_attend_args &a) { a.planes = nullptr; }},
      {"`workspace`: expected 64-byte aligned memory, found (nil)",
       [](kvc_attend_args &a) { a.workspace = nullptr; }},
      {"`cu_q`, `kv_len` and `table`: expected arrays, found null",
       [](kvc_attend_args &a) { a.table = nullptr; }},
      {"`page_count`: expected 0 or more, found -1",
       [](kvc_attend_args &a) { a.page_count = -1; }},
      {"`table_stride`: sequence 0 has 33 tokens, so expected at least 9 "
       "entries, found 8",
       [](kvc_attend_args &a) { a.table_stride = 8; }},
      {"`cu_q[0]`: expected 0, found 1",
       [](kvc_attend_args &a) {
         std::copy_n(a.cu_q, 7, wrongCuQ);
         wrongCuQ[0] = 1;
         a.cu_q = wrongCuQ;
       }},
      {"`cu_q`: expected ascending offsets, found 0 after 1",
       [](kvc_attend_args &a) {
         std::copy_n(a.cu_q, 7, wrongCuQ);
         wrongCuQ[2] = 0;
         a.cu_q = wrongCuQ;
       }},
      {"`kv_len[3]`: expected 0, or at least its 12 query tokens, found 11",
       [](kvc_attend_args &a) {
         std::copy_n(a.kv_len, 6, wrongLength);
         wrongLength[3] = 11;
         a.kv_len = wrongLength;
       }},
      {"`table`: entry 4 of sequence 4: expected 0 to 63, found 64",
       [](kvc_attend_args &a) {
         std::copy_n(a.table, 6 * 25, wrongTable);
         wrongTable[4 * 25 + 4] = 64;
         a.table = wrongTable;
       }},
      {"kvc_attend_args: expected `size` to be 224, found 0",
       [](kvc_attend_args &a) { a.size = 0; }},
  };
}

} // namespace

TEST(Kernel, WrongArgumentsAreRefusedBeforeAnyWrite) {
  Loaded loaded;
  Buffers buffers(loaded, kPaged);
  Batch batch(buffers, 1);
  addMixed(batch);
  for (const WrongCase &c : wrongCases()) {
    Result result = batch.attend(c.change);
    EXPECT_EQ(result.status.code, KVC_INVALID_ARGUMENT) << c.text;
    EXPECT_NE(result.status.where, 0u);
    EXPECT_STREQ(kvc_error_text(), c.text);
    for (float x : result.out)
      ASSERT_EQ(x, 7) << c.text;
  }
}

TEST(Kernel, ContiguousSlotsAreBounded) {
  Loaded loaded;
  Buffers buffers(loaded, kFlat);
  Batch batch(buffers, 1);
  batch.add(1, 20, 1);
  EXPECT_EQ(
      batch.attend([](kvc_attend_args &a) { a.slot_tokens = 19; }).status.code,
      KVC_INVALID_ARGUMENT);
  EXPECT_STREQ(kvc_error_text(),
               "`kv_len[0]`: expected at most the slot's 19 tokens, found 20");
  EXPECT_EQ(
      batch.attend([](kvc_attend_args &a) { a.slot_tokens = 0; }).status.code,
      KVC_INVALID_ARGUMENT);
}

TEST(Kernel, OldAndNewCallersStructs) {
  Loaded loaded;
  Buffers buffers(loaded, kPaged);
  Batch batch(buffers, 1);
  batch.add(2, 20, 1);
  Result expected = batch.attend();
  // A newer caller with two fields more, unused or used.
  struct Newer {
    kvc_attend_args known;
    uint64_t more[2];
  };
  for (uint64_t used : {0, 1}) {
    Newer newer = {};
    Result result = batch.attend([&](kvc_attend_args &a) {
      newer.known = a;
      newer.known.size = sizeof(newer);
      newer.more[1] = used;
      kvc_status status = kvc_attend(loaded.program, kPaged, &newer.known);
      EXPECT_EQ(status.code, used ? KVC_INVALID_ARGUMENT : KVC_OK);
    });
    if (!used)
      EXPECT_EQ(result.out, expected.out);
  }
  // An older caller that knows of no stream, nor of what comes after it.
  Result older = batch.attend([](kvc_attend_args &a) {
    a.size = offsetof(kvc_attend_args, stream);
    std::memset(&a.stream, 0xff, sizeof(a) - a.size);
  });
  EXPECT_EQ(older.status.code, KVC_OK) << kvc_error_text();
  EXPECT_EQ(older.out, expected.out);
}
