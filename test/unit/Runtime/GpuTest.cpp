//===- GpuTest.cpp - what a GPU is given to launch ------------------------===//
#include "runtime/KernelArray.h"
#include "test/unit/Runtime/FakeGpu.h"
#include "test/unit/Runtime/GpuFixture.h"

#include <gmock/gmock.h>
#include <optional>

using namespace kvc;
using namespace kvc::test;
using testing::ElementsAre;
using testing::HasSubstr;

namespace {

struct Launches : testing::Test {
  Launches() {
    notes.fits["sm_80"] = 1;
    notes.resident = {{"paged.attend0", 50}, {"paged.attend1", 7}};
    loaded.emplace(fakeDevice(notes), packGpu(gpuManifest("cuda", {"sm_80"})));
  }

  kvc_append_args appendArgs() {
    kvc_append_args args = {};
    args.size = sizeof(args);
    args.rows = 5;
    args.k = fakeAddress<void>(0x10000);
    args.k_row_stride = 64;
    args.v = fakeAddress<void>(0x20000);
    args.v_row_stride = 144;
    args.slot = fakeAddress<int64_t>(0x30000);
    args.slot_tokens = 96;
    args.page_count = 10;
    planes[0] = {fakeAddress<void>(0x40000), 768, 128};
    planes[1] = {fakeAddress<void>(0x40100), 768, 256};
    args.planes = planes;
    args.plane_count = 2;
    args.stream = fakeAddress<void>(0x57);
    return args;
  }
  kvc_attend_args attendArgs() {
    kvc_attend_args args = {};
    args.size = sizeof(args);
    args.batch = 3;
    args.q = fakeAddress<void>(0x10000);
    args.q_row_stride = 128;
    args.out = fakeAddress<void>(0x20000);
    args.out_row_stride = 272;
    args.lse = fakeAddress<float>(0x30000);
    args.lse_row_stride = 20;
    args.cu_q = fakeAddress<int32_t>(0x50000);
    args.kv_len = fakeAddress<int32_t>(0x50100);
    args.table = fakeAddress<int32_t>(0x50200);
    args.table_stride = 40;
    args.page_count = 10;
    args.slot_tokens = 96;
    args.workspace = fakeAddress<void>(kWorkspace);
    planes[0] = {fakeAddress<void>(0x40000), 768, 128};
    planes[1] = {fakeAddress<void>(0x40100), 768, 256};
    args.planes = planes;
    args.plane_count = 2;
    args.stream = fakeAddress<void>(0x58);
    args.rows = 20;
    args.max_kv_len = 100;
    EXPECT_EQ(kvc_attend_workspace(loaded->program, kPaged, 3, 20, 100,
                                   &args.workspace_bytes)
                  .code,
              KVC_OK);
    return args;
  }
  kvc_status append(const kvc_append_args &args, uint32_t store = kPaged) {
    return kvc_append(loaded->program, store, &args);
  }
  kvc_status attend(const kvc_attend_args &args, uint32_t store = kPaged) {
    return kvc_attend(loaded->program, store, &args);
  }
  void expectRefused(const kvc_status &status, const char *text) {
    EXPECT_EQ(status.code, KVC_INVALID_ARGUMENT) << text;
    EXPECT_STREQ(kvc_error_text(), text);
    EXPECT_TRUE(notes.launches.empty()) << text;
  }
  std::vector<std::string> names() {
    std::vector<std::string> list;
    for (const Launched &launch : notes.launches)
      list.push_back(launch.kernel);
    return list;
  }

  static constexpr uintptr_t kWorkspace = 0x1000000;
  Notes notes;
  kvc_plane planes[2] = {}; ///< of the last arguments
  std::optional<Loaded> loaded;
};

} // namespace

TEST_F(Launches, AppendIsOneWarpPerRowAndHead) {
  kvc_append_args args = appendArgs();
  ASSERT_EQ(append(args).code, KVC_OK) << kvc_error_text();
  ASSERT_THAT(names(), ElementsAre("paged.append"));
  const Launched &launch = notes.launches[0];
  EXPECT_EQ(launch.grid, 5u); // 5 rows, 2 heads, 2 warps a CTA
  EXPECT_EQ(launch.stream, args.stream);
  auto params = launch.as<AppendBlock>();
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
  auto params = notes.launches[0].as<AppendBlock>();
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
  EXPECT_EQ(notes.launches[0].as<AppendBlock>().rows, INT32_MAX);
}

// Vectors of 16 bytes must not straddle.
TEST_F(Launches, RowsAndPlanesMustBeAligned) {
  kvc_attend_args args = attendArgs();
  args.q = fakeAddress<void>(0x10004);
  expectRefused(attend(args),
                "`q`: a GPU expects address and row stride to be multiples of "
                "16, found 0x10004 and 128");
  args = attendArgs();
  args.out_row_stride = 264;
  expectRefused(attend(args),
                "`out`: a GPU expects address and row stride to be multiples "
                "of 16, found 0x20000 and 264");
  args = attendArgs();
  planes[1].head_stride = 264;
  expectRefused(attend(args), "`planes[1]`: a GPU expects base and strides to "
                              "be multiples of 16");
  kvc_append_args append = appendArgs();
  append.k = fakeAddress<void>(0x10008);
  expectRefused(this->append(append),
                "`k`: a GPU expects address and row stride to be multiples of "
                "16, found 0x10008 and 64");
  append = appendArgs();
  append.v_row_stride = 132;
  expectRefused(this->append(append),
                "`v`: a GPU expects address and row stride to be multiples of "
                "16, found 0x20000 and 132");
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

//===----------------------------------------------------------------------===//
// Caches
//===----------------------------------------------------------------------===//

namespace {

/// One sequence of a cache in the GPU's memory.
class GpuCache : public Launches {
protected:
  void SetUp() override {
    kvc_cache_options options = {};
    options.size = sizeof(options);
    options.arena_bytes = 1 << 20;
    options.max_sequences = 4, options.max_batch = 2;
    options.max_step_tokens = 8, options.max_tokens_per_seq = 64;
    options.stream = kStream;
    ASSERT_EQ(kvc_cache_create(loaded->program, &options, &cache).code, KVC_OK)
        << kvc_error_text();
    ASSERT_EQ(kvc_cache_open(cache, &seq).code, KVC_OK);
  }
  void TearDown() override {
    kvc_cache_destroy(cache);
    EXPECT_TRUE(notes.memories.empty());
  }
  kvc_status reserve(uint32_t tokens) {
    kvc_slot_request request = {seq, tokens};
    return kvc_cache_reserve(cache, &request, 1, &step);
  }

  void *const kStream = fakeAddress<void>(0x5000);
  kvc_cache *cache = nullptr;
  kvc_seq seq = {};
  kvc_step step = {};
};

} // namespace

TEST_F(GpuCache, StepsRunInTheOrderOfItsStream) {
  ASSERT_EQ(reserve(5).code, KVC_OK) << kvc_error_text();
  kvc_batch_view view = {};
  view.size = sizeof(view);
  ASSERT_EQ(kvc_cache_view(cache, step, kPaged, 0, &view).code, KVC_OK);
  // Of the GPU.
  EXPECT_TRUE(notes.holds(view.cu_q, 8));
  EXPECT_TRUE(notes.holds(view.kv_len, 4));
  EXPECT_TRUE(notes.holds(view.table, 8));
  EXPECT_TRUE(notes.holds(view.write_slot, 40));
  EXPECT_TRUE(notes.holds(view.planes[0].base, 1));
  EXPECT_EQ(view.cu_q[1], 5);
  EXPECT_EQ(view.kv_len[0], 5);
  auto *rows = fakeAddress<void>(0x7000);
  ASSERT_EQ(kvc_cache_append(cache, step, 0, rows, rows).code, KVC_OK)
      << kvc_error_text();
  ASSERT_EQ(kvc_cache_attend(cache, step, 0, rows, rows, nullptr).code, KVC_OK)
      << kvc_error_text();
  ASSERT_EQ(kvc_cache_append(cache, step, 1, rows, rows).code, KVC_OK)
      << kvc_error_text();
  ASSERT_EQ(kvc_cache_commit(cache, step, nullptr).code, KVC_OK);
  ASSERT_FALSE(notes.launches.empty());
  for (const Launched &launch : notes.launches)
    EXPECT_EQ(launch.stream, kStream) << launch.kernel;
  ASSERT_FALSE(notes.uploads.empty());
  for (void *stream : notes.uploads)
    EXPECT_EQ(stream, kStream);
  auto append = notes.launches[0].as<AppendBlock>();
  EXPECT_EQ(append.slot, view.write_slot);
}

// One copy has all of it: offsets, lengths, slots and what is new of the
// tables, as they are close to each other.
TEST_F(GpuCache, AStepIsOneCopy) {
  for (uint32_t token = 0; token < 12; ++token) {
    notes.uploads.clear();
    ASSERT_EQ(reserve(1).code, KVC_OK) << kvc_error_text();
    ASSERT_EQ(kvc_cache_mark_appended(cache, step, KVC_ALL_LAYERS).code,
              KVC_OK);
    ASSERT_EQ(kvc_cache_commit(cache, step, nullptr).code, KVC_OK);
    EXPECT_EQ(notes.uploads.size(), 1u) << token;
  }
}

TEST_F(GpuCache, PagesAreScrubbedInTheOrderOfItsStream) {
  kvc_cache_options options = {};
  options.size = sizeof(options);
  options.arena_bytes = 1 << 20;
  options.max_sequences = 4, options.max_batch = 2;
  options.max_step_tokens = 8, options.max_tokens_per_seq = 64;
  options.stream = kStream;
  kvc_cache_destroy(cache);
  for (uint32_t flags : {0, int(KVC_SCRUB)}) {
    options.flags = flags;
    ASSERT_EQ(kvc_cache_create(loaded->program, &options, &cache).code, KVC_OK);
    ASSERT_EQ(kvc_cache_open(cache, &seq).code, KVC_OK);
    ASSERT_EQ(reserve(5).code, KVC_OK) << kvc_error_text();
    ASSERT_EQ(kvc_cache_abandon(cache, step).code, KVC_OK);
    // Two pages of `paged`, one of `window`.
    EXPECT_EQ(notes.scrubs, std::vector<void *>(flags ? 3 : 0, kStream));
    ASSERT_EQ(kvc_cache_release(cache, seq).code, KVC_OK);
    EXPECT_EQ(notes.scrubs, std::vector<void *>(flags ? 4 : 0, kStream))
        << "and the slot";
    notes.scrubs.clear();
    if (!flags)
      kvc_cache_destroy(cache);
  }
  ASSERT_EQ(kvc_cache_open(cache, &seq).code, KVC_OK);
  ASSERT_EQ(reserve(1).code, KVC_OK);
  notes.uploadsFail = true;
  EXPECT_EQ(kvc_cache_abandon(cache, step).code, KVC_POISONED);
  EXPECT_THAT(kvc_error_text(), HasSubstr("zeroing failed"));
}

// Of long tables, nothing but what changed, and what lies next to it.
TEST_F(GpuCache, FarChangesAreCopiesOfTheirOwn) {
  rt::KernelMemory memory;
  rt::KernelArray<int32_t> first, second;
  first.reserve(memory, 100);
  second.reserve(memory, 1 << 20);
  ASSERT_TRUE(memory.allocate(*rt::unwrap(loaded->device), 4));
  auto upload = [&] {
    notes.uploads.clear();
    size_t before = notes.uploaded;
    EXPECT_EQ(memory.upload(kStream).code, KVC_OK);
    return notes.uploaded - before;
  };
  auto write = [&](rt::KernelArray<int32_t> &array, size_t at) {
    array[at] += int32_t(at) + 1;
    array.change(at, 1);
  };
  EXPECT_EQ(upload(), 0u);
  write(second, 900000);
  write(first, 99);
  write(second, 500000);
  EXPECT_EQ(upload(), 3 * 4u);
  EXPECT_EQ(notes.uploads.size(), 3u);
  write(second, 500010);
  write(second, 500000);
  EXPECT_EQ(upload(), 11 * 4u);
  EXPECT_EQ(notes.uploads.size(), 1u);
  // More changes than were announced are copied as one.
  for (size_t at : {0, 200000, 400000, 600000, 800000, 1000000})
    write(second, at);
  upload();
  EXPECT_EQ(notes.uploads.size(), 4u);
  for (size_t at = 0; at < 1 << 20; ++at)
    ASSERT_EQ(second[at], second.ofKernels()[at]) << at;
  EXPECT_EQ(first.ofKernels()[99], 100);
}

// 20 sequences decode: kernels for more than 3 query tokens have nothing to do.
TEST_F(GpuCache, DecodesLaunchNoPrefill) {
  kvc_cache_options options = {};
  options.size = sizeof(options);
  options.arena_bytes = 1 << 20;
  options.max_sequences = options.max_batch = 20;
  options.max_step_tokens = 40, options.max_tokens_per_seq = 64;
  kvc_cache *wide = nullptr;
  ASSERT_EQ(kvc_cache_create(loaded->program, &options, &wide).code, KVC_OK)
      << kvc_error_text();
  auto run = [&](uint32_t longest) {
    std::vector<kvc_slot_request> requests(20);
    for (kvc_slot_request &request : requests) {
      EXPECT_EQ(kvc_cache_open(wide, &request.seq).code, KVC_OK);
      request.new_tokens = 1;
    }
    requests[7].new_tokens = longest;
    EXPECT_EQ(kvc_cache_reserve(wide, requests.data(), 20, &step).code, KVC_OK)
        << kvc_error_text();
    auto *rows = fakeAddress<void>(0x7000);
    EXPECT_EQ(kvc_cache_mark_appended(wide, step, KVC_ALL_LAYERS).code, KVC_OK)
        << kvc_error_text();
    notes.launches.clear();
    EXPECT_EQ(kvc_cache_attend(wide, step, 0, rows, rows, nullptr).code, KVC_OK)
        << kvc_error_text();
    EXPECT_EQ(kvc_cache_commit(wide, step, nullptr).code, KVC_OK);
    for (const kvc_slot_request &request : requests)
      EXPECT_EQ(kvc_cache_release(wide, request.seq).code, KVC_OK);
    auto list = names();
    return std::count(list.begin(), list.end(), "paged.attend1");
  };
  EXPECT_EQ(run(1), 0);
  EXPECT_EQ(run(3), 0);
  EXPECT_EQ(run(4), 1);
  EXPECT_EQ(run(1), 0);
  kvc_cache_destroy(wide);
}

TEST_F(GpuCache, ACopyThatFailsPoisons) {
  notes.uploadsFail = true;
  EXPECT_EQ(reserve(1).code, KVC_DEVICE_ERROR);
  notes.uploadsFail = false;
  EXPECT_EQ(reserve(1).code, KVC_POISONED);
  EXPECT_THAT(kvc_error_text(), HasSubstr("the copy failed"));
}

TEST_F(GpuCache, TheZeroPageIsRead) {
  EXPECT_EQ(kvc_cache_check(cache, 2).code, KVC_OK) << kvc_error_text();
  ASSERT_EQ(reserve(1).code, KVC_OK);
  kvc_batch_view view = {};
  view.size = sizeof(view);
  ASSERT_EQ(kvc_cache_view(cache, step, kPaged, 0, &view).code, KVC_OK);
  static_cast<uint8_t *>(view.planes[0].base)[5] = 1; // page 0 is the first
  EXPECT_EQ(kvc_cache_check(cache, 2).code, KVC_POISONED);
  EXPECT_THAT(kvc_error_text(), HasSubstr("page 0 was written"));
}
