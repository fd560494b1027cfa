//===- SimTest.cpp - the runtime on an emulated GPU -----------------------===//
//
// The kernels of gpu_kernels.c, launched as a GPU's are: workspaces, plans and
// partial results are what the device made of them.
//
//===----------------------------------------------------------------------===//
#include "test/unit/Runtime/GpuFixture.h"
#include "test/unit/Runtime/KernelFixture.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace kvc;
using namespace kvc::test;
using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

namespace {

class Sims : public testing::TestWithParam<uint32_t> {};
INSTANTIATE_TEST_SUITE_P(Stores, Sims, testing::Values(kPaged, kWindow, kFlat));

kvc_sim_options simOptions(const char *target = "sm_80") {
  kvc_sim_options options = {};
  options.size = sizeof(options);
  options.target = target;
  return options;
}

kvc_device *createSim(const kvc_sim_options &options = simOptions()) {
  kvc_device *device = nullptr;
  EXPECT_EQ(kvc_device_create_sim(&options, &device).code, KVC_OK)
      << kvc_error_text();
  return device;
}

kvc_sim_counters countersOf(const kvc_device *device) {
  kvc_sim_counters counters = {};
  counters.size = sizeof(counters);
  EXPECT_EQ(kvc_sim_get_counters(device, &counters).code, KVC_OK);
  return counters;
}

} // namespace

//===----------------------------------------------------------------------===//
// Kernels on the caller's buffers
//===----------------------------------------------------------------------===//

TEST_P(Sims, AgreeWithTheReference) {
  LoadedSim loaded;
  EXPECT_STREQ(kvc_program_target(loaded.program), "sm_80");
  Buffers buffers(loaded, GetParam(), 0xff);
  Batch batch(buffers, 1);
  addMixed(batch);
  expectRight(batch, batch.attend());
}

TEST_P(Sims, LseMayBeNull) {
  LoadedSim loaded;
  Buffers buffers(loaded, GetParam());
  Batch batch(buffers, 1);
  addMixed(batch);
  Result with = batch.attend();
  Result without = batch.attend([](kvc_attend_args &a) { a.lse = nullptr; });
  EXPECT_EQ(with.out, without.out);
  EXPECT_EQ(without.lse[0], 7);
}

// Bit for bit: neighbours, page ids, workspace contents, order of CTAs.
TEST_P(Sims, ResultsDependOnTheSequenceAlone) {
  std::vector<float> expected;
  for (uint32_t context = 0; context < 8; ++context) {
    LoadedSim loaded(context);
    Buffers buffers(loaded, GetParam(), uint8_t(context * 37));
    Batch batch(buffers, context);
    batch.poison = int(context * 51);
    size_t row = 0;
    for (uint32_t i = 0; i < context % 4; ++i) {
      batch.add(int32_t(i * 3), int32_t(5 + 7 * i), 100 + context);
      row += i * 3;
    }
    batch.add(9, 31, 1);
    if (context % 3)
      batch.add(2, 12, 200 + context);
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

// Random shapes in workspaces without a byte to spare, nor any other memory to
// write to.
TEST_P(Sims, TheWorkspaceSuffices) {
  std::mt19937 random(7);
  auto pick = [&](int32_t n) { return int32_t(random() % uint32_t(n)); };
  for (uint32_t round = 0; round < 12; ++round) {
    LoadedSim loaded(round);
    Buffers buffers(loaded, GetParam());
    Batch batch(buffers, round);
    int32_t most = 0, longest = 0;
    for (int i = 0, n = 1 + pick(5); i < n; ++i) {
      int32_t queries = pick(3) ? pick(4) : pick(14);
      int32_t length = pick(8) ? queries + pick(40) : 0;
      batch.add(queries, length, round * 100 + uint32_t(i));
      most = std::max(most, queries);
      longest = std::max(longest, length);
    }
    batch.add(1, 9, 5); // so that there is something to see
    most = std::max(most, 1);
    longest = std::max(longest, 9);
    auto tight = [&](size_t bytes) {
      return batch.attend([&](kvc_attend_args &a) {
        a.max_queries = uint32_t(most);
        a.max_kv_len = uint32_t(longest);
        a.workspace_bytes = bytes;
      });
    };
    Result refused = tight(0);
    ASSERT_EQ(refused.status.code, KVC_INVALID_ARGUMENT);
    size_t least = 0;
    ASSERT_EQ(std::sscanf(kvc_error_text(),
                          "`workspace_bytes`: expected at least %zu", &least),
              1);
    Result less = tight(least - 1);
    EXPECT_EQ(less.status.code, KVC_INVALID_ARGUMENT);
    ASSERT_NO_FATAL_FAILURE(expectRight(batch, tight(least)));
  }
}

// Lengths beyond what was promised may give any result, and touch nothing.
TEST_P(Sims, BrokenPromisesStayInBounds) {
  LoadedSim loaded;
  Buffers buffers(loaded, GetParam());
  Batch batch(buffers, 1);
  addMixed(batch);
  for (uint32_t rows : {1, 3, 7, 20})
    for (uint32_t length : {0, 1, 13, 40}) {
      size_t bytes = 0;
      ASSERT_EQ(kvc_attend_workspace(loaded.program, GetParam(), 6, rows,
                                     length, &bytes)
                    .code,
                KVC_OK);
      Result result = batch.attend([&](kvc_attend_args &a) {
        a.rows = rows;
        a.max_kv_len = length;
        a.workspace_bytes = bytes;
      });
      EXPECT_EQ(result.status.code, KVC_OK)
          << kvc_error_text() << " rows " << rows << " length " << length;
    }
}

TEST(Sim, NegativeSlotsAreSkipped) {
  LoadedSim loaded;
  Buffers buffers(loaded, kPaged, 0x11);
  std::vector<uint8_t> before(buffers.memory.data(),
                              buffers.memory.data() + buffers.bytes);
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
  args.planes = buffers.planes;
  args.plane_count = 2;
  ASSERT_EQ(kvc_append(loaded.program, kPaged, &args).code, KVC_OK)
      << kvc_error_text();
  EXPECT_EQ(std::memcmp(before.data(), buffers.memory.data(), before.size()),
            0);
}

//===----------------------------------------------------------------------===//
// Caches
//===----------------------------------------------------------------------===//

namespace {

/// A cache on a sim, fed random tokens.
struct CacheRun {
  explicit CacheRun(const kvc_cache_options &options) {
    EXPECT_EQ(kvc_cache_create(loaded.program, &options, &cache).code, KVC_OK)
        << kvc_error_text();
    EXPECT_EQ(kvc_cache_open(cache, &seq).code, KVC_OK);
  }
  ~CacheRun() { kvc_cache_destroy(cache); }

  /// Appends `n` tokens to both layers, attends and compares; keeps `kept`.
  void step(uint32_t n, uint32_t kept, uint32_t seed);

  LoadedSim loaded;
  kvc_cache *cache = nullptr;
  kvc_seq seq = {};
  History history[kLayers];
};

void CacheRun::step(uint32_t n, uint32_t kept, uint32_t seed) {
  kvc_slot_request request = {seq, n};
  kvc_step step = {};
  ASSERT_EQ(kvc_cache_reserve(cache, &request, 1, nullptr, &step).code, KVC_OK)
      << kvc_error_text();
  for (uint32_t layer = 0; layer < kLayers; ++layer) {
    Rows k = Rows::random(n, kHeads, kDimK, seed + 10 * layer);
    Rows v = Rows::random(n, kHeads, kDimV, seed + 10 * layer + 1);
    Rows q = Rows::random(n, kQueryHeads, kDimK, seed + 10 * layer + 2);
    Rows out(n, kQueryHeads, kDimV), lse(n, kQueryHeads, 1);
    Lent lent(loaded);
    for (Rows *rows : {&k, &v, &q})
      lent.reads(rows->values);
    for (Rows *rows : {&out, &lse})
      lent.writes(rows->values.data(), rows->values.size() * 4);
    ASSERT_EQ(
        kvc_cache_append(cache, step, layer, k.values.data(), v.values.data())
            .code,
        KVC_OK)
        << kvc_error_text();
    ASSERT_EQ(kvc_cache_attend(cache, step, layer, q.values.data(),
                               out.values.data(), lse.values.data())
                  .code,
              KVC_OK)
        << kvc_error_text();
    History &past = history[layer];
    size_t before = past.k.size();
    for (uint32_t i = 0; i < n; ++i) {
      past.k.push_back({k.row(i), k.row(i) + k.width});
      past.v.push_back({v.row(i), v.row(i) + v.width});
    }
    for (uint32_t i = 0; i < n; ++i) {
      double o[kQueryHeads * kDimV], l[kQueryHeads];
      expectedAttention(past, int(layer), int64_t(before + i), q.row(i), o, l);
      for (int c = 0; c < kQueryHeads * kDimV; ++c)
        ASSERT_NEAR(out.row(i)[c], o[c], 1e-5);
      for (int h = 0; h < kQueryHeads; ++h)
        ASSERT_NEAR(lse.row(i)[h], l[h], 1e-5);
    }
    past.k.resize(before + kept);
    past.v.resize(before + kept);
  }
  ASSERT_EQ(kvc_cache_commit(cache, step, &kept).code, KVC_OK);
}

kvc_cache_options cacheOptions() {
  kvc_cache_options options = {};
  options.size = sizeof(options);
  options.arena_bytes = 100000;
  options.max_sequences = options.max_batch = 2;
  options.max_step_tokens = 16;
  options.max_tokens_per_seq = 64;
  return options;
}

} // namespace

TEST(SimCache, StepsAgreeWithTheReference) {
  CacheRun run(cacheOptions());
  uint32_t seed = 1;
  for (auto [n, kept] :
       {std::pair{13u, 13u}, {1u, 1u}, {1u, 1u}, {5u, 2u}, {1u, 1u}, {8u, 8u}})
    ASSERT_NO_FATAL_FAILURE(run.step(n, kept, seed += 100));
  EXPECT_EQ(kvc_cache_check(run.cache, 2).code, KVC_OK) << kvc_error_text();
}

TEST(SimCache, TheArenaMayBeTheCallers) {
  kvc_cache_options options = cacheOptions();
  AlignedBytes arena(options.arena_bytes, 0xff);
  options.arena = arena.data();
  CacheRun run(options);
  ASSERT_NO_FATAL_FAILURE(run.step(9, 9, 1));
  ASSERT_NO_FATAL_FAILURE(run.step(1, 1, 2));
}

// What the caller has not lent is out of bounds once a cache has lent its own.
TEST(SimCache, RowsMustBeLent) {
  CacheRun run(cacheOptions());
  kvc_slot_request request = {run.seq, 1};
  kvc_step step = {};
  ASSERT_EQ(kvc_cache_reserve(run.cache, &request, 1, nullptr, &step).code,
            KVC_OK);
  Rows k(1, kHeads, kDimK), v(1, kHeads, kDimV);
  EXPECT_EQ(
      kvc_cache_append(run.cache, step, 0, k.values.data(), v.values.data())
          .code,
      KVC_DEVICE_ERROR);
  EXPECT_THAT(kvc_error_text(),
              EndsWith("out of bounds: kernels may touch what their cache "
                       "owns, and what `kvc_sim_allow` was told of"));
  EXPECT_EQ(kvc_cache_commit(run.cache, step, nullptr).code, KVC_POISONED);
}

// A cache that never was takes nothing back that the caller has lent.
TEST(SimCache, FailedCreationLeavesTheCallersMemoryLent) {
  LoadedSim loaded;
  kvc_cache_options options = cacheOptions();
  // More work tiles than can be counted: no workspace is large enough.
  options.max_sequences = options.max_batch = 1;
  options.max_step_tokens = 1u << 14;
  options.max_tokens_per_seq = 1u << 20;
  options.arena_bytes = size_t(128) << 20;
  AlignedBytes arena(options.arena_bytes);
  options.arena = arena.data();
  Lent lent(loaded);
  lent.writes(arena.data(), options.arena_bytes);
  kvc_cache *cache = nullptr;
  ASSERT_EQ(kvc_cache_create(loaded.program, &options, &cache).code,
            KVC_OUT_OF_MEMORY);
  EXPECT_STREQ(kvc_error_text(), "not enough memory for the workspace");
  Rows k(1, kHeads, kDimK), v(1, kHeads, kDimV);
  int64_t slot = 0;
  lent.reads(k.values);
  lent.reads(v.values);
  lent.reads(&slot, sizeof(slot));
  kvc_append_args args = {};
  args.size = sizeof(args);
  args.rows = 1;
  args.k = k.values.data();
  args.k_row_stride = k.stride();
  args.v = v.values.data();
  args.v_row_stride = v.stride();
  args.slot = &slot;
  kvc_plane planes[] = {{arena.data(), 768, 128},
                        {arena.data() + 256, 768, 256}};
  args.planes = planes;
  args.plane_count = 2;
  EXPECT_EQ(kvc_append(loaded.program, kPaged, &args).code, KVC_OK)
      << kvc_error_text();
}

//===----------------------------------------------------------------------===//
// The device
//===----------------------------------------------------------------------===//

TEST(Sim, FindingsNameKernelCtaAndSite) {
  LoadedSim loaded;
  Buffers buffers(loaded, kPaged);
  Batch batch(buffers, 1);
  batch.add(1, 20, 1);
  // A workspace that nobody has lent.
  Result result = batch.attend([](kvc_attend_args &a) {
    a.workspace = static_cast<uint8_t *>(a.workspace) + (1 << 20);
  });
  EXPECT_EQ(result.status.code, KVC_DEVICE_ERROR);
  EXPECT_NE(result.status.where, 0u);
  EXPECT_THAT(kvc_error_text(),
              StartsWith("paged.plan, CTA 0: warp 0 lane 0 in `write "
                         "gpu_kernels.c`: writes 4 bytes of global memory"));
  EXPECT_THAT(kvc_error_text(), HasSubstr("out of bounds"));
  // The device goes on.
  expectRight(batch, batch.attend());
}

TEST(Sim, MemoryIsAllowedForReadingOrWritingUntilForgotten) {
  LoadedSim loaded;
  Buffers buffers(loaded, kPaged);
  Batch batch(buffers, 1);
  batch.add(1, 20, 1);
  size_t bytes = buffers.bytes;
  // Appending needs more than reading.
  Rows k(1, kHeads, kDimK), v(1, kHeads, kDimV);
  int64_t slot = 5;
  kvc_append_args args = {};
  args.size = sizeof(args);
  args.rows = 1;
  args.k = k.values.data();
  args.k_row_stride = k.stride();
  args.v = v.values.data();
  args.v_row_stride = v.stride();
  args.slot = &slot;
  args.planes = buffers.planes;
  args.plane_count = 2;
  Lent lent(loaded);
  lent.reads(k.values);
  lent.reads(v.values);
  lent.reads(&slot, sizeof(slot));
  uint8_t *memory = buffers.memory.data();
  auto append = [&] { return kvc_append(loaded.program, kPaged, &args).code; };
  EXPECT_EQ(append(), KVC_DEVICE_ERROR);
  ASSERT_EQ(kvc_sim_allow(loaded.device, memory, bytes, 0).code, KVC_OK);
  EXPECT_EQ(append(), KVC_DEVICE_ERROR);
  EXPECT_THAT(kvc_error_text(), HasSubstr("it may only be read"));
  ASSERT_EQ(kvc_sim_allow(loaded.device, memory + 768, 768, 1).code, KVC_OK);
  EXPECT_EQ(append(), KVC_OK) << kvc_error_text();
  ASSERT_EQ(kvc_sim_forget(loaded.device, memory + 768).code, KVC_OK);
  EXPECT_EQ(append(), KVC_DEVICE_ERROR);
  EXPECT_EQ(kvc_sim_forget(loaded.device, memory + 64).code, KVC_OK)
      << "nothing begins there";
  ASSERT_EQ(kvc_sim_forget(loaded.device, memory).code, KVC_OK);
}

TEST(Sim, CountersAreSums) {
  kvc_sim_options options = simOptions();
  options.flags = KVC_SIM_COUNT;
  Loaded loaded(createSim(options), packGpu(gpuManifest("sim", {"sm_80"})));
  EXPECT_EQ(countersOf(loaded.device).launches, 0u);
  Buffers buffers(loaded, kPaged);
  buffers.write({3}, 3, 1);
  // 3 rows for 2 heads, 2 warps a CTA.
  kvc_sim_counters appended = countersOf(loaded.device);
  EXPECT_EQ(appended.launches, 1u);
  EXPECT_EQ(appended.ctas, 3u);
  EXPECT_EQ(appended.bytes_written, 3u * 2 * (kDimK + kDimV) * 4);
  // Every lane reads the slot.
  EXPECT_EQ(appended.bytes_read, appended.bytes_written + 3 * 64 * 8);
  EXPECT_GT(appended.instructions, 0u);
  EXPECT_GT(appended.sectors, 0u);
  EXPECT_GT(appended.sectors_best, 0u);
  EXPECT_EQ(appended.mma, 0u);
  Batch batch(buffers, 1);
  batch.add(1, 20, 1);
  batch.attend();
  kvc_sim_counters attended = countersOf(loaded.device);
  // Another append, the plan, the only kernel that one query token uses.
  EXPECT_EQ(attended.launches, appended.launches + 3);
  // An older caller gets what it knows.
  kvc_sim_counters older;
  std::memset(&older, 0x55, sizeof(older));
  older.size = offsetof(kvc_sim_counters, ctas);
  ASSERT_EQ(kvc_sim_get_counters(loaded.device, &older).code, KVC_OK);
  EXPECT_EQ(older.launches, attended.launches);
  EXPECT_EQ(older.ctas, 0x5555555555555555u);
}

// As those of a step's layers do; the second and third would combine splits
// early, or never, if the first left its counters behind.
TEST(Sim, OnePlanServesManyAttends) {
  LoadedSim loaded;
  Buffers buffers(loaded, kPaged);
  Batch batch(buffers, 1);
  addMixed(batch);
  Result expected = batch.attend();
  ASSERT_NO_FATAL_FAILURE(expectRight(batch, expected));
  uint64_t alone = countersOf(loaded.device).launches;
  AlignedBytes plan;
  size_t bytes = 0;
  for (int layer = 0; layer < 3; ++layer) {
    Result result = batch.attend([&](kvc_attend_args &a) {
      if (!plan.size()) {
        ASSERT_EQ(
            kvc_attend_plan_bytes(loaded.program, kPaged, &a, &bytes).code,
            KVC_OK);
        plan = AlignedBytes(bytes);
        a.plan = plan.data();
        kvc_sim_allow(loaded.device, plan.data(), bytes, 1);
        kvc_sim_allow(loaded.device, a.cu_q, (a.batch + 1) * 4, 0);
        kvc_sim_allow(loaded.device, a.kv_len, a.batch * 4, 0);
        EXPECT_EQ(kvc_attend_plan(loaded.program, kPaged, &a).code, KVC_OK)
            << kvc_error_text();
        kvc_sim_forget(loaded.device, a.cu_q);
        kvc_sim_forget(loaded.device, a.kv_len);
      }
      a.plan = plan.data();
      a.workspace_bytes -= bytes;
    });
    ASSERT_EQ(result.status.code, KVC_OK) << kvc_error_text();
    EXPECT_EQ(result.out, expected.out) << layer;
    EXPECT_EQ(result.lse, expected.lse) << layer;
  }
  // The plan, and three times two kernels.
  EXPECT_EQ(countersOf(loaded.device).launches, alone + 1 + 3 * 2);
  kvc_sim_forget(loaded.device, plan.data());
}

TEST(Sim, CountsNoSitesUnlessAsked) {
  LoadedSim loaded;
  Buffers buffers(loaded, kPaged);
  buffers.write({3}, 3, 1);
  EXPECT_EQ(countersOf(loaded.device).launches, 1u);
  EXPECT_EQ(countersOf(loaded.device).sectors, 0u);
}

TEST(Sim, OtherTargetsAreListed) {
  artifact::Manifest manifest = gpuManifest("sim", {"sm_80", "sm_90a"});
  artifact::Manifest host = fixtureManifest();
  manifest.kernels.insert(manifest.kernels.end(), host.kernels.begin(),
                          host.kernels.end());
  addGpuTarget(manifest, "cuda", "sm_89");
  std::vector<uint8_t> bytes = packGpu(manifest);
  kvc_device *device = createSim(simOptions("sm_89"));
  kvc_program *program = nullptr;
  EXPECT_EQ(kvc_program_load(device, bytes.data(), bytes.size(), &program).code,
            KVC_UNSUPPORTED);
  EXPECT_STREQ(
      kvc_error_text(),
      "no variant of `fixture` runs on the emulated `sm_89`: `sm_80` is "
      "not `sm_89`; `sm_90a` is not `sm_89`; `generic` is for a device of "
      "kind `cpu`; `sm_89` is for a device of kind `cuda`");
  kvc_device_release(device);
  device = createSim(simOptions("sm_90a"));
  ASSERT_EQ(kvc_program_load(device, bytes.data(), bytes.size(), &program).code,
            KVC_OK)
      << kvc_error_text();
  EXPECT_STREQ(kvc_program_target(program), "sm_90a");
  kvc_device_release(device);
  kvc_program_release(program);
}

TEST(Sim, CodeForAnotherCpuIsRefused) {
  artifact::Manifest manifest = gpuManifest("sim", {"sm_80"});
  for (artifact::KernelInfo &kernel : manifest.kernels)
    kernel.features = {"sse3", "avx1024"};
  std::vector<uint8_t> bytes = packGpu(manifest);
  kvc_device *device = createSim();
  kvc_program *program = nullptr;
  EXPECT_EQ(kvc_program_load(device, bytes.data(), bytes.size(), &program).code,
            KVC_UNSUPPORTED);
  EXPECT_THAT(kvc_error_text(), HasSubstr("needs avx1024, which this CPU "
                                          "lacks"));
  kvc_device_release(device);
}

TEST(Sim, BrokenObjectsAreRefused) {
  kvc_device *device = createSim();
  kvc_program *program = nullptr;
  auto load = [&](const artifact::Manifest &manifest) {
    std::vector<uint8_t> bytes = packGpu(manifest);
    return kvc_program_load(device, bytes.data(), bytes.size(), &program).code;
  };
  artifact::Manifest manifest = gpuManifest("sim", {"sm_80"});
  manifest.kernels[1].symbol = "not_there";
  EXPECT_EQ(load(manifest), KVC_CORRUPT);
  EXPECT_THAT(kvc_error_text(),
              StartsWith("`sim/sm_80.0.o` has no function `not_there_"));
  manifest = gpuManifest("sim", {"sm_80"});
  for (artifact::KernelInfo &kernel : manifest.kernels)
    kernel.blob = "sim/text";
  EXPECT_EQ(load(manifest), KVC_CORRUPT);
  EXPECT_THAT(kvc_error_text(), StartsWith("`sim/text`: "));
  // Made for an emulator whose instructions have other numbers.
  manifest = gpuManifest("sim", {"sm_80"});
  for (artifact::KernelInfo &kernel : manifest.kernels)
    kernel.sites = kStrangeSites;
  EXPECT_EQ(load(manifest), KVC_UNSUPPORTED);
  EXPECT_THAT(kvc_error_text(), HasSubstr("other instructions"));
  EXPECT_EQ(program, nullptr);
  kvc_device_release(device);
}

TEST(Sim, WrongOptionsAreRefused) {
  kvc_device *device = nullptr;
  kvc_sim_options options = simOptions();
  auto create = [&] { return kvc_device_create_sim(&options, &device).code; };
  EXPECT_EQ(kvc_device_create_sim(nullptr, &device).code, KVC_INVALID_ARGUMENT);
  EXPECT_EQ(kvc_device_create_sim(&options, nullptr).code,
            KVC_INVALID_ARGUMENT);
  options.target = nullptr;
  EXPECT_EQ(create(), KVC_INVALID_ARGUMENT);
  EXPECT_THAT(kvc_error_text(), HasSubstr("`target`: expected the name"));
  options = simOptions("");
  EXPECT_EQ(create(), KVC_INVALID_ARGUMENT);
  for (const char *wrong : {"banana", "sm_", "sm_90xx", "sm90", "sm_a", "SM_90",
                            "x86-64", "x86-64-", "sim:", "sim:sim:"}) {
    options = simOptions(wrong);
    EXPECT_EQ(create(), KVC_INVALID_ARGUMENT) << wrong;
    EXPECT_EQ(kvc_error_text(),
              "`target`: expected a GPU architecture, as `sm_90`, or a level "
              "of x86-64, as `x86-64-v4-amx`, found `" +
                  std::string(wrong) + "`");
  }
  for (std::string right : {"sm_90", "sm_90a", "x86-64-v4-amx"}) {
    std::string wrong = "sim:" + right;
    options = simOptions(wrong.c_str());
    EXPECT_EQ(create(), KVC_INVALID_ARGUMENT);
    EXPECT_EQ(kvc_error_text(), "`target`: expected a name without `sim:`, "
                                "found `" +
                                    wrong + "`: write `" + right + "`");
  }
  options = simOptions();
  options.flags = 6;
  EXPECT_EQ(create(), KVC_INVALID_ARGUMENT);
  EXPECT_STREQ(kvc_error_text(), "`flags`: expected KVC_SIM_COUNT or 0, found "
                                 "6");
  options.size = 0;
  EXPECT_EQ(create(), KVC_INVALID_ARGUMENT);
  EXPECT_EQ(device, nullptr);
}

TEST(Sim, OtherDevicesAreNone) {
  Loaded loaded;
  kvc_sim_counters counters = {};
  counters.size = sizeof(counters);
  int memory = 0;
  EXPECT_EQ(kvc_sim_allow(loaded.device, &memory, 4, 1).code,
            KVC_INVALID_ARGUMENT);
  EXPECT_STREQ(kvc_error_text(), "`device`: expected an emulated GPU");
  EXPECT_EQ(kvc_sim_forget(loaded.device, &memory).code, KVC_INVALID_ARGUMENT);
  EXPECT_EQ(kvc_sim_get_counters(loaded.device, &counters).code,
            KVC_INVALID_ARGUMENT);
  EXPECT_EQ(kvc_sim_allow(nullptr, &memory, 4, 1).code, KVC_INVALID_ARGUMENT);
  EXPECT_STREQ(kvc_error_text(), "`device`: expected a handle, found null");
  EXPECT_EQ(kvc_sim_get_counters(nullptr, &counters).code,
            KVC_INVALID_ARGUMENT);
  LoadedSim sim;
  EXPECT_EQ(kvc_sim_get_counters(sim.device, nullptr).code,
            KVC_INVALID_ARGUMENT);
}
