//===- GpuTest.cpp - what a GPU is given to launch ------------------------===//
#include "test/unit/Runtime/GpuLaunches.h"

#include <gmock/gmock.h>

using namespace kvc;
using namespace kvc::test;
using testing::ElementsAre;

TEST_F(Launches, AppendIsOneWarpPerRowAndHead) {
  kvc_append_args args = appendArgs();
  ASSERT_EQ(append(args).code, KVC_OK) << kvc_error_text();
  ASSERT_THAT(names(), ElementsAre("paged.append"));
  const Launched &launch = notes.launches[0];
  EXPECT_EQ(launch.grid, 5u); // 5 rows, 2 heads, 2 warps a CTA
  EXPECT_EQ(launch.stream, args.stream);
  auto params = launch.as<RowBlock>();
  EXPECT_EQ(params.rows, 5);
  EXPECT_EQ(params.k, args.k);
  EXPECT_EQ(params.k_row_stride, 64);
  EXPECT_EQ(params.v, args.v);
  EXPECT_EQ(params.v_row_stride, 144);
  EXPECT_EQ(params.slot, args.slot);
  EXPECT_EQ(params.slot_tokens, 4) << "a page's";
  EXPECT_EQ(params.planes[1].base, args.planes[1].base);
  EXPECT_EQ(params.planes[1].page_stride, 768);
  EXPECT_EQ(params.planes[1].head_stride, 256);
  EXPECT_EQ(params.nothing, 0);
}

TEST_F(Launches, AppendRoundsUpAndTakesTheCallersCapacity) {
  kvc_append_args args = appendArgs();
  ASSERT_EQ(append(args, kFlat).code, KVC_OK) << kvc_error_text();
  ASSERT_THAT(names(), ElementsAre("flat.append"));
  EXPECT_EQ(notes.launches[0].grid, 3u); // 5 rows, 1 head
  auto params = notes.launches[0].as<RowBlock>();
  EXPECT_EQ(params.slot_tokens, 96);
}

TEST_F(Launches, NothingToDoLaunchesNothing) {
  kvc_append_args append = appendArgs();
  append.rows = 0;
  EXPECT_EQ(this->append(append).code, KVC_OK);
  kvc_attend_args attend = attendArgs();
  attend.batch = 0;
  EXPECT_EQ(this->attend(attend).code, KVC_OK);
  EXPECT_TRUE(notes.launches.empty());
}

TEST_F(Launches, AttendIsThePlanThenEveryKernel) {
  kvc_attend_args args = attendArgs();
  ASSERT_EQ(attend(args).code, KVC_OK) << kvc_error_text();
  ASSERT_THAT(names(),
              ElementsAre("paged.plan", "paged.attend0", "paged.attend1"));
  for (const Launched &launch : notes.launches)
    EXPECT_EQ(launch.stream, args.stream);
  EXPECT_EQ(notes.launches[0].grid, 1u);

  auto plan = notes.launches[0].as<PlanBlock>();
  EXPECT_EQ(plan.cu_q, args.cu_q);
  EXPECT_EQ(plan.kv_len, args.kv_len);
  EXPECT_EQ(plan.batch, 3);
  EXPECT_EQ(plan.max_kv_len, 100);
  // Up to 3 query tokens: 9 rows of 4 heads in 13 splits. More: 20 in 9.
  EXPECT_EQ(plan.split_rows, 9 * 4 * 13 + 20 * 4 * 9);
  // heads * splits * blocks: one of 6 rows in a sequence; of 10, as many as 40
  // rows and what two sequences leave open.
  EXPECT_EQ(plan.attends[0].capacity, 2 * 13 * 3);
  EXPECT_EQ(plan.attends[1].capacity, 2 * (40 * 9 + 9 * 3 * 9) / 10);
  EXPECT_EQ(notes.launches[1].grid, 50u) << "as many as run at once";
  EXPECT_EQ(notes.launches[2].grid, 7u);
  for (int v = 0; v < 2; ++v) {
    auto attend = notes.launches[1 + v].as<GpuAttendBlock>();
    EXPECT_EQ(std::memcmp(&attend.work, &plan.attends[v], sizeof(WorkWords)),
              0);
    EXPECT_EQ(attend.args.q, args.q);
    EXPECT_EQ(attend.args.q_row_stride, 128);
    EXPECT_EQ(attend.args.out, args.out);
    EXPECT_EQ(attend.args.out_row_stride, 272);
    EXPECT_EQ(attend.args.lse, args.lse);
    EXPECT_EQ(attend.args.lse_row_stride, 20);
    EXPECT_EQ(attend.args.cu_q, args.cu_q);
    EXPECT_EQ(attend.args.kv_len, args.kv_len);
    EXPECT_EQ(attend.args.table, args.table);
    EXPECT_EQ(attend.args.table_stride, 40);
    EXPECT_EQ(attend.args.split_row, plan.split_row);
    EXPECT_EQ(attend.args.planes[0].base, args.planes[0].base);
    EXPECT_EQ(attend.args.planes[0].page_stride, 768);
    EXPECT_EQ(attend.args.planes[0].head_stride, 128);
  }
}

TEST_F(Launches, EverythingIsInTheWorkspace) {
  kvc_attend_args args = attendArgs();
  ASSERT_EQ(attend(args).code, KVC_OK) << kvc_error_text();
  auto plan = notes.launches[0].as<PlanBlock>();
  auto first = notes.launches[1].as<GpuAttendBlock>();
  auto inside = [&](const void *at, size_t bytes) {
    uintptr_t from = uintptr_t(at) - kWorkspace;
    EXPECT_LE(from + bytes, args.workspace_bytes);
    EXPECT_EQ(from % 64, 0u);
  };
  inside(plan.split_row, 3 * 8);
  for (int v = 0; v < 2; ++v) {
    size_t workTiles = size_t(plan.attends[v].capacity);
    inside(plan.attends[v].count, 4);
    inside(plan.attends[v].split_counters, workTiles * 4);
    inside(plan.attends[v].work_tiles, workTiles * sizeof(KvcGpuWorkTile));
  }
  inside(first.args.partial_lse, size_t(plan.split_rows) * 4);
  inside(first.args.partial_o, size_t(plan.split_rows) * kDimV * 4);
}

TEST_F(Launches, KernelsThatNoSequenceUsesAreLeftOut) {
  kvc_attend_args args = attendArgs();
  args.max_queries = 3;
  ASSERT_EQ(attend(args).code, KVC_OK) << kvc_error_text();
  EXPECT_THAT(names(), ElementsAre("paged.plan", "paged.attend0"));
  auto plan = notes.launches[0].as<PlanBlock>();
  EXPECT_EQ(plan.attends[1].capacity, 0);
  EXPECT_NE(plan.attends[1].count, nullptr);
  notes.launches.clear();
  args.max_queries = 4;
  ASSERT_EQ(attend(args).code, KVC_OK);
  EXPECT_EQ(notes.launches.size(), 3u);
  notes.launches.clear();
  args.max_queries = 0; // as many as rows
  args.rows = 3;
  ASSERT_EQ(attend(args).code, KVC_OK);
  EXPECT_EQ(notes.launches.size(), 2u);
}

TEST_F(Launches, NoMoreCtasThanWorkTiles) {
  kvc_attend_args args = attendArgs();
  args.batch = args.rows = 1;
  args.max_kv_len = 8;
  ASSERT_EQ(attend(args).code, KVC_OK) << kvc_error_text();
  EXPECT_EQ(notes.launches[1].grid, 2u); // a block of two heads
}

TEST_F(Launches, APlanIsMadeOnceForManyAttends) {
  kvc_attend_args args = attendArgs();
  size_t bytes = 0;
  ASSERT_EQ(kvc_attend_plan_bytes(loaded->program, kPaged, &args, &bytes).code,
            KVC_OK);
  args.plan = fakeAddress<void>(0x2000000);
  kvc_attend_args batch = args; // all that a plan is made of
  batch.q = nullptr, batch.out = nullptr, batch.table = nullptr;
  batch.planes = nullptr;
  batch.workspace = nullptr;
  ASSERT_EQ(kvc_attend_plan(loaded->program, kPaged, &batch).code, KVC_OK)
      << kvc_error_text();
  args.workspace_bytes -= bytes;
  for (int layer = 0; layer < 3; ++layer)
    ASSERT_EQ(attend(args).code, KVC_OK) << kvc_error_text();
  EXPECT_THAT(names(),
              ElementsAre("paged.plan", "paged.attend0", "paged.attend1",
                          "paged.attend0", "paged.attend1", "paged.attend0",
                          "paged.attend1"));
  auto plan = notes.launches[0].as<PlanBlock>();
  auto last = notes.launches[6].as<GpuAttendBlock>();
  EXPECT_EQ(std::memcmp(&last.work, &plan.attends[1], sizeof(WorkWords)), 0);
  EXPECT_EQ(plan.split_row, args.plan);
  EXPECT_LE(uintptr_t(plan.attends[1].work_tiles + plan.attends[1].capacity),
            uintptr_t(args.plan) + bytes);
  EXPECT_EQ(uintptr_t(last.args.partial_lse), kWorkspace);
  EXPECT_LE(uintptr_t(last.args.partial_o + plan.split_rows * kDimV),
            kWorkspace + args.workspace_bytes);
  notes.launches.clear();
  args.workspace_bytes -= 1;
  EXPECT_EQ(attend(args).code, KVC_INVALID_ARGUMENT);
  args.plan = fakeAddress<void>(0x2000020);
  const char *text = "`plan`: expected 64-byte aligned memory, found 0x2000020";
  expectRefused(attend(args), text);
  expectRefused(kvc_attend_plan(loaded->program, kPaged, &args), text);
  args.plan = nullptr;
  expectRefused(kvc_attend_plan(loaded->program, kPaged, &args),
                "`plan`: expected 64-byte aligned memory, found (nil)");
  args.kv_len = nullptr;
  expectRefused(kvc_attend_plan(loaded->program, kPaged, &args),
                "`cu_q` and `kv_len`: expected arrays, found null");
}

TEST_F(Launches, AFailureEndsTheCall) {
  kvc_attend_args args = attendArgs();
  notes.failing = "paged.attend0";
  EXPECT_EQ(attend(args).code, KVC_DEVICE_ERROR);
  EXPECT_THAT(names(), ElementsAre("paged.plan"));
  notes.launches.clear();
  notes.failing = "paged.plan";
  EXPECT_EQ(attend(args).code, KVC_DEVICE_ERROR);
  EXPECT_TRUE(notes.launches.empty());
  EXPECT_STREQ(kvc_error_text(), "`paged.plan` does not launch");
}

TEST_F(Launches, TheWorkspaceMustSuffice) {
  kvc_attend_args args = attendArgs();
  size_t needed = args.workspace_bytes;
  args.workspace_bytes -= 1;
  std::string text = "`workspace_bytes`: expected at least " +
                     std::to_string(needed) + ", found " +
                     std::to_string(needed - 1);
  expectRefused(attend(args), text.c_str());
  args.max_queries = 19; // less than the workspace was made for
  args.max_kv_len = 90;
  EXPECT_EQ(attend(args).code, KVC_OK) << kvc_error_text();
}

TEST_F(Launches, NoneOfABatchWithoutRows) {
  kvc_attend_args args = attendArgs();
  args.rows = 0;
  args.q = args.out = nullptr;
  EXPECT_EQ(attend(args).code, KVC_OK) << kvc_error_text();
  args = attendArgs();
  args.batch = 0;
  EXPECT_EQ(attend(args).code, KVC_OK) << kvc_error_text();
  kvc_append_args none = appendArgs();
  none.rows = 0;
  none.k = nullptr;
  EXPECT_EQ(append(none).code, KVC_OK) << kvc_error_text();
  EXPECT_TRUE(notes.launches.empty());
}

TEST_F(Launches, BoundsMustBeGivenAndCountable) {
  // As of a caller who knows no bounds yet.
  kvc_attend_args args = attendArgs();
  args.size = offsetof(kvc_attend_args, rows);
  expectRefused(attend(args),
                "`size`: a GPU expects a kvc_attend_args with `rows`");
  args = attendArgs();
  args.rows = 1u << 31;
  expectRefused(attend(args), "`rows`: a GPU expects the number of rows of q, "
                              "at most 1073741823, found 2147483648");
  args.rows = 1u << 30;
  args.rows -= 1;
  expectRefused(attend(args),
                "`rows` (1073741823), `batch` (3) and `max_kv_len` (100) allow "
                "for more than 2^30 work tiles");
  args = attendArgs();
  args.max_kv_len = 1u << 31;
  expectRefused(attend(args),
                "`max_kv_len`: a GPU expects the most cached tokens of a "
                "sequence, at most 2147483391, found 2147483648");
  size_t bytes = 0;
  EXPECT_EQ(kvc_attend_workspace(loaded->program, kPaged, 1, UINT32_MAX,
                                 UINT32_MAX, &bytes)
                .code,
            KVC_OK);
  EXPECT_EQ(bytes, SIZE_MAX) << "nothing suffices";
}

TEST_F(Launches, AppendRowsMustBeCountable) {
  kvc_append_args args = appendArgs();
  args.rows = INT32_MAX;
  ASSERT_EQ(append(args).code, KVC_OK) << kvc_error_text();
  EXPECT_EQ(notes.launches[0].grid, uint32_t(INT32_MAX));
  EXPECT_EQ(notes.launches[0].as<RowBlock>().rows, INT32_MAX);
}

// Vectors of 16 bytes must not straddle.
TEST_F(Launches, RowsAndPlanesMustBeAligned) {
  kvc_attend_args args = attendArgs();
  args.q = fakeAddress<void>(0x10004);
  expectRefused(attend(args),
                "`q`: a GPU expects address, row stride and head stride to be "
                "multiples of 16, found 0x10004, 128 and 32");
  args = attendArgs();
  args.out_row_stride = 264;
  expectRefused(
      attend(args),
      "`out`: a GPU expects address, row stride and head stride to be "
      "multiples of 16, found 0x20000, 264 and 64");
  args = attendArgs();
  args.q_head_stride = 36, args.q_row_stride = 144;
  expectRefused(attend(args),
                "`q`: a GPU expects address, row stride and head stride to be "
                "multiples of 16, found 0x10000, 144 and 36");
  args = attendArgs();
  planes[1].head_stride = 264;
  expectRefused(attend(args), "`planes[1]`: a GPU expects base and strides to "
                              "be multiples of 16");
  kvc_append_args append = appendArgs();
  append.k = fakeAddress<void>(0x10008);
  expectRefused(this->append(append),
                "`k`: a GPU expects address, row stride and head stride to be "
                "multiples of 16, found 0x10008, 64 and 32");
  append = appendArgs();
  append.v_row_stride = 132;
  expectRefused(this->append(append),
                "`v`: a GPU expects address, row stride and head stride to be "
                "multiples of 16, found 0x20000, 132 and 64");
  append = appendArgs();
  planes[0].base = fakeAddress<void>(0x40008);
  expectRefused(this->append(append),
                "`planes[0]`: a GPU expects base and strides to be multiples "
                "of 16");
}

// Arrays of a GPU are not the host's to read; what can be checked is.
TEST_F(Launches, WhatNeedsNoMemoryIsCheckedAsOnACpu) {
  kvc_attend_args args = attendArgs();
  args.cu_q = nullptr;
  expectRefused(attend(args),
                "`cu_q`, `kv_len` and `table`: expected arrays, found null");
  args = attendArgs();
  args.workspace = fakeAddress<void>(kWorkspace + 32);
  expectRefused(attend(args), "`workspace`: expected 64-byte aligned memory, "
                              "found 0x1000020");
  args = attendArgs();
  args.lse_row_stride = 12;
  expectRefused(attend(args),
                "`lse_row_stride`: expected at least 16 bytes, found 12");
  kvc_append_args append = appendArgs();
  append.slot = nullptr;
  expectRefused(this->append(append), "`slot`: expected an array, found null");
}

TEST_F(Launches, AreNotEmulated) {
  int memory = 0;
  EXPECT_EQ(kvc_sim_allow(loaded->device, &memory, 4, 1).code,
            KVC_INVALID_ARGUMENT);
  EXPECT_STREQ(kvc_error_text(), "`device`: expected an emulated GPU");
}
