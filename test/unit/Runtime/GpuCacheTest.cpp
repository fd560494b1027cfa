//===- GpuCacheTest.cpp - caches in a GPU's memory ------------------------===//
#include "runtime/KernelArray.h"
#include "test/unit/Runtime/GpuLaunches.h"

#include <gmock/gmock.h>

using namespace kvc;
using namespace kvc::test;
using testing::ElementsAre;
using testing::HasSubstr;

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
    return kvc_cache_reserve(cache, &request, 1, kStream, &step);
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
  // Behind the plans of three stores.
  ASSERT_EQ(notes.launches[3].kernel, "paged.append");
  auto append = notes.launches[3].as<RowBlock>();
  EXPECT_EQ(append.slot, view.write_slot);
}

/// Four layers of `paged` in two stores, which cut batches alike, and three of
/// each of the others.
static artifact::Manifest manyLayers() {
  artifact::Manifest manifest = gpuManifest("cuda", {"sm_80"});
  manifest.model.layers = 7;
  for (artifact::StoreInfo &store : manifest.stores)
    store.layers = {3, 4, 5};
  manifest.stores[kPaged].layers = {0, 1, 2};
  artifact::StoreInfo again = manifest.stores[kPaged];
  again.name = "again", again.layers = {6};
  manifest.stores.push_back(again);
  for (size_t i = 0, count = manifest.kernels.size(); i < count; ++i)
    if (manifest.kernels[i].store == "paged") {
      artifact::KernelInfo kernel = manifest.kernels[i];
      kernel.store = "again";
      kernel.name.replace(0, 5, "again");
      manifest.kernels.push_back(kernel);
    }
  return manifest;
}

TEST_F(GpuCache, OnePlanServesAllLayersOfAStep) {
  kvc_cache_destroy(cache);
  loaded.emplace(fakeDevice(notes), packGpu(manyLayers()));
  SetUp();
  auto *rows = fakeAddress<void>(0x7000);
  std::vector<const KvcGpuWorkTile *> tiles;
  for (int round = 0; round < 3; ++round) {
    notes.launches.clear();
    ASSERT_EQ(reserve(1).code, KVC_OK) << kvc_error_text();
    EXPECT_THAT(names(), ElementsAre("paged.plan", "window.plan", "flat.plan"));
    auto plan = notes.launches[0].as<PlanBlock>();
    tiles.push_back(plan.attends[0].work_tiles);
    ASSERT_EQ(kvc_cache_mark_appended(cache, step, KVC_ALL_LAYERS).code,
              KVC_OK);
    notes.launches.clear();
    for (uint32_t layer = 0; layer < 7; ++layer)
      ASSERT_EQ(kvc_cache_attend(cache, step, layer, rows, rows, nullptr).code,
                KVC_OK)
          << kvc_error_text();
    EXPECT_THAT(names(),
                ElementsAre("paged.attend0", "paged.attend0", "paged.attend0",
                            "window.attend0", "flat.attend0", "window.attend0",
                            "flat.attend0", "window.attend0", "flat.attend0",
                            "again.attend0"));
    for (size_t i : {0, 1, 2, 9}) {
      auto attend = notes.launches[i].as<GpuAttendBlock>();
      EXPECT_EQ(std::memcmp(&attend.work, &plan.attends[0], sizeof(WorkWords)),
                0);
      EXPECT_EQ(attend.args.split_row, plan.split_row);
    }
    // The second and third steps are open at a time.
    if (round == 0)
      ASSERT_EQ(kvc_cache_commit(cache, step, nullptr).code, KVC_OK);
    else
      ASSERT_EQ(kvc_cache_open(cache, &seq).code, KVC_OK);
  }
  EXPECT_EQ(tiles[0], tiles[1]) << "of one slot, for graphs";
  EXPECT_NE(tiles[1], tiles[2]);
}

// What a graph of one step holds is where the plan of a later one is.
TEST_F(GpuCache, APlanIsWhereItWasWhateverTheStepHolds) {
  std::vector<PlanBlock> plans;
  for (uint32_t tokens : {8, 1, 3}) {
    notes.launches.clear();
    ASSERT_EQ(reserve(tokens).code, KVC_OK) << kvc_error_text();
    plans.push_back(notes.launches[0].as<PlanBlock>());
    ASSERT_EQ(kvc_cache_abandon(cache, step).code, KVC_OK);
  }
  for (const PlanBlock &plan : plans)
    EXPECT_EQ(std::memcmp(&plan, &plans[0], sizeof(plan)), 0);
}

TEST_F(GpuCache, APlanThatFailsPoisons) {
  notes.failing = "window.plan";
  EXPECT_EQ(reserve(1).code, KVC_DEVICE_ERROR);
  EXPECT_EQ(reserve(1).code, KVC_POISONED);
}

// Steps have streams of their own, and what the cache launches is in one order:
// they share pages and the workspace.
TEST_F(GpuCache, AStreamWaitsForTheOneBefore) {
  void *other = fakeAddress<void>(0x6000);
  ASSERT_EQ(reserve(1).code, KVC_OK) << kvc_error_text();
  EXPECT_TRUE(notes.waits.empty()) << "there is nothing to wait for";
  kvc_step first = step, second;
  kvc_seq another;
  ASSERT_EQ(kvc_cache_open(cache, &another).code, KVC_OK);
  kvc_slot_request request = {another, 1};
  ASSERT_EQ(kvc_cache_reserve(cache, &request, 1, other, &second).code, KVC_OK);
  std::vector<std::pair<void *, void *>> waits = {{other, kStream}};
  EXPECT_EQ(notes.waits, waits);
  auto *rows = fakeAddress<float>(0x7000);
  notes.launches.clear();
  ASSERT_EQ(kvc_cache_append(cache, second, 0, rows, rows).code, KVC_OK);
  ASSERT_EQ(kvc_cache_append(cache, second, 1, rows, rows).code, KVC_OK);
  EXPECT_EQ(notes.waits, waits);
  ASSERT_EQ(kvc_cache_append(cache, first, 0, rows, rows).code, KVC_OK);
  waits.push_back({kStream, other});
  EXPECT_EQ(notes.waits, waits);
  ASSERT_EQ(kvc_cache_attend(cache, second, 0, rows, rows, nullptr).code,
            KVC_OK);
  waits.push_back({other, kStream});
  EXPECT_EQ(notes.waits, waits);
  for (const auto &launch : notes.launches)
    EXPECT_TRUE(launch.stream == other || launch.stream == kStream);
  EXPECT_EQ(notes.launches.back().stream, other);
  notes.uploadsFail = true;
  EXPECT_EQ(kvc_cache_append(cache, first, 0, rows, rows).code,
            KVC_DEVICE_ERROR);
  EXPECT_EQ(kvc_cache_append(cache, first, 0, rows, rows).code, KVC_POISONED);
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

// A page of each paged store and layer, before the kernels that write to it.
TEST_F(GpuCache, PagesAreCopiedInTheOrderOfItsStream) {
  ASSERT_EQ(reserve(5).code, KVC_OK) << kvc_error_text();
  ASSERT_EQ(kvc_cache_mark_appended(cache, step, KVC_ALL_LAYERS).code, KVC_OK);
  ASSERT_EQ(kvc_cache_commit(cache, step, nullptr).code, KVC_OK);
  kvc_seq child;
  ASSERT_EQ(kvc_cache_fork(cache, seq, &child).code, KVC_OK);
  size_t slot = notes.copies.size();
  EXPECT_GT(slot, 0u) << "the contiguous store's tokens";
  ASSERT_EQ(reserve(1).code, KVC_OK) << kvc_error_text();
  EXPECT_EQ(notes.copies.size(), slot + 2);
  for (void *stream : notes.copies)
    EXPECT_EQ(stream, kStream);
  ASSERT_EQ(kvc_cache_abandon(cache, step).code, KVC_OK);
  ASSERT_EQ(kvc_cache_fork(cache, seq, &child).code, KVC_OK);
  notes.uploadsFail = true;
  EXPECT_EQ(reserve(1).code, KVC_DEVICE_ERROR);
  EXPECT_THAT(kvc_error_text(), HasSubstr("the copy failed"));
  EXPECT_EQ(kvc_cache_fork(cache, seq, &child).code, KVC_POISONED);
}

TEST_F(GpuCache, PagesAreScrubbedInTheOrderOfItsStream) {
  kvc_cache_options options = {};
  options.size = sizeof(options);
  options.arena_bytes = 1 << 20;
  options.max_sequences = 4, options.max_batch = 2;
  options.max_step_tokens = 8, options.max_tokens_per_seq = 64;
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
    EXPECT_EQ(kvc_cache_reserve(wide, requests.data(), 20, nullptr, &step).code,
              KVC_OK)
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
