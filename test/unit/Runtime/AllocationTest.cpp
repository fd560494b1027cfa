//===- AllocationTest.cpp - no heap memory after create -------------------===//
#include "test/unit/Runtime/FakeCuda.h"
#include "test/unit/Runtime/Faults.h"
#include "test/unit/Runtime/GpuFixture.h"

#include <gtest/gtest.h>

using namespace kvc::test;

TEST(Allocation, TheHookSeesTheLibrary) {
  kvc_device *device = nullptr;
  arm("");
  kvc_status status = kvc_device_create_cpu(nullptr, &device);
  EXPECT_GE(disarm(), 1u);
  EXPECT_EQ(status.code, KVC_OK);
  kvc_device_release(device);
}

TEST(Allocation, NoneAfterCreate) {
  Loaded loaded(2);
  kvc_cache_options o = {};
  o.size = sizeof(o);
  o.max_sequences = 4;
  o.max_batch = 4;
  o.max_step_tokens = 60;
  o.max_tokens_per_seq = 64;
  o.arena_bytes = 200000;
  kvc_cache *cache = nullptr;
  ASSERT_EQ(kvc_cache_create(loaded.program, &o, &cache).code, KVC_OK)
      << kvc_error_text();
  Rows k = Rows::random(60, kHeads, kDimK, 1);
  Rows v = Rows::random(60, kHeads, kDimV, 2);
  Rows q = Rows::random(60, kQueryHeads, kDimK, 3);
  Rows out(60, kQueryHeads, kDimV), lse(60, kQueryHeads, 1);
  uint32_t failed = 0, refused = 0, tokens;
  kvc_batch_view view = {};
  view.size = sizeof(view);
  kvc_cache_stats stats = {};
  stats.size = sizeof(stats);
  kvc_seq_stats ofSequence = {};
  ofSequence.size = sizeof(ofSequence);
  auto check = [&](kvc_status status) { failed += status.code != KVC_OK; };
  arm("");
  for (int round = 0; round < 200; ++round) {
    kvc_seq a, b;
    kvc_step step;
    check(kvc_cache_open(cache, &a));
    check(kvc_cache_open(cache, &b));
    for (uint32_t n = 1; n < 8; ++n) {
      kvc_slot_request requests[] = {{a, n}, {b, 8 - n}};
      check(kvc_cache_reserve(cache, requests, 2, nullptr, &step));
      for (uint32_t layer = 0; layer < 2; ++layer) {
        check(kvc_cache_view(cache, step, layer, layer, &view));
        check(kvc_cache_append(cache, step, layer, k.values.data(),
                               v.values.data()));
        check(kvc_cache_attend(cache, step, layer, q.values.data(),
                               out.values.data(), lse.values.data()));
      }
      uint32_t accepted[] = {n / 2, 8 - n};
      check(n % 3 ? kvc_cache_commit(cache, step, accepted)
                  : kvc_cache_abandon(cache, step));
      check(kvc_cache_length(cache, a, &tokens));
      check(kvc_cache_read(cache, a, 1, 0, tokens, k.values.data(), {},
                           v.values.data(), {}, nullptr));
    }
    kvc_seq child;
    check(kvc_cache_fork(cache, a, &child));
    kvc_slot_request forked = {child, 2};
    check(kvc_cache_reserve(cache, &forked, 1, nullptr, &step));
    check(kvc_cache_abandon(cache, step));
    check(kvc_cache_truncate(cache, child, 0));
    check(kvc_cache_release(cache, child));
    check(kvc_cache_get_stats(cache, &stats));
    check(kvc_cache_get_seq_stats(cache, a, &ofSequence));
    check(kvc_cache_check(cache, 2));
    // Failures do not allocate either.
    kvc_slot_request tooLong = {a, 65};
    refused +=
        kvc_cache_reserve(cache, &tooLong, 1, nullptr, &step).code != KVC_OK;
    check(kvc_cache_release(cache, a));
    check(kvc_cache_release(cache, b));
    refused += kvc_cache_release(cache, b).code != KVC_OK;
  }
  EXPECT_EQ(disarm(), 0u);
  EXPECT_EQ(failed, 0u) << kvc_error_text();
  EXPECT_EQ(refused, 400u);
  kvc_cache_destroy(cache);
}

// Over the driver of FakeCuda.cpp, with which ctest runs this.
TEST(Allocation, NoneOfKernelsOnAGpu) {
  FakeCuda *cuda = fakeCuda();
  if (!cuda)
    GTEST_SKIP() << "run this through ctest, which replaces libcuda.so.1";
  kvc_device *device = nullptr;
  ASSERT_EQ(kvc_device_create_cuda(nullptr, &device).code, KVC_OK)
      << kvc_error_text();
  Loaded loaded(device, packGpu(gpuManifest("cuda", {"sm_80"})));
  cuda->noting = false;
  alignas(64) static char memory[64]; // that nobody reads
  kvc_append_args append = {};
  append.size = sizeof(append);
  append.rows = 9;
  append.k = append.v = memory;
  append.k_row_stride = 64;
  append.v_row_stride = 128;
  append.slot = reinterpret_cast<int64_t *>(memory);
  kvc_plane planes[] = {{memory, 0, 0}, {memory, 0, 0}};
  append.planes = planes;
  append.plane_count = 2;
  kvc_gather_args gather = {};
  gather.size = sizeof(gather);
  gather.rows = 9;
  gather.k = memory;
  gather.k_row_stride = 64;
  gather.slot = append.slot;
  gather.planes = planes;
  gather.plane_count = 2;
  kvc_attend_args attend = {};
  attend.size = sizeof(attend);
  attend.batch = 3;
  attend.rows = 9;
  attend.max_kv_len = 100;
  attend.q = attend.out = attend.workspace = memory;
  attend.q_row_stride = 128;
  attend.out_row_stride = 256;
  attend.cu_q = attend.kv_len = attend.table =
      reinterpret_cast<int32_t *>(memory);
  attend.workspace_bytes = size_t(1) << 30;
  attend.planes = planes;
  attend.plane_count = 2;
  uint32_t failed = 0;
  arm("");
  for (int round = 0; round < 10; ++round) {
    failed += kvc_append(loaded.program, kPaged, &append).code != KVC_OK;
    failed += kvc_gather(loaded.program, kPaged, &gather).code != KVC_OK;
    failed += kvc_attend(loaded.program, kPaged, &attend).code != KVC_OK;
  }
  attend.workspace_bytes = 0;
  uint32_t refused = kvc_attend(loaded.program, kPaged, &attend).code != KVC_OK;
  EXPECT_EQ(disarm(), 0u);
  EXPECT_EQ(failed, 0u) << kvc_error_text();
  EXPECT_EQ(refused, 1u);
}
