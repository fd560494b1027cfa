//===- CpuSimTest.cpp - a level of x86-64 whose AMX is emulated -----------===//
#include "runtime/devices/CpuFeatures.h"
#include "test/unit/Runtime/KernelFixture.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace kvc;
using namespace kvc::test;
using testing::HasSubstr;

namespace {

kvc_device *createSim(uint32_t threads = 1) {
  kvc_sim_options options = {};
  options.size = sizeof(options);
  options.target = "x86-64-tiles";
  options.threads = threads;
  kvc_device *device = nullptr;
  EXPECT_EQ(kvc_device_create_sim(&options, &device).code, KVC_OK)
      << kvc_error_text();
  return device;
}

/// The fixture's kernels, and the same for a level with AMX, where `symbol`,
/// "tiles_append", stands for "paged_append".
std::vector<uint8_t> artifactWith(const std::string &symbol,
                                  const char *feature = "amx-bf16") {
  std::string replaced = "paged" + symbol.substr(symbol.rfind('_'));
  artifact::Manifest manifest = fixtureManifest();
  std::vector<artifact::KernelInfo> kernels = manifest.kernels;
  for (artifact::KernelInfo &kernel : kernels) {
    kernel.target = "x86-64-tiles";
    kernel.features = {"amx-tile", feature};
    if (kernel.symbol == replaced)
      kernel.symbol = symbol;
    manifest.kernels.push_back(kernel);
  }
  return pack(manifest);
}

kvc_sim_counters countersOf(const kvc_device *device) {
  kvc_sim_counters counters = {};
  counters.size = sizeof(counters);
  EXPECT_EQ(kvc_sim_get_counters(device, &counters).code, KVC_OK);
  return counters;
}

/// Appends `rows` rows to the first pages of `paged`.
kvc_status append(Loaded &loaded, Buffers &buffers, uint32_t rows) {
  Rows k = Rows::random(rows, kHeads, kDimK, 1), v(rows, kHeads, kDimV);
  std::vector<int64_t> slots(rows);
  for (uint32_t i = 0; i < rows; ++i)
    slots[i] = i;
  kvc_append_args args = {};
  args.size = sizeof(args);
  args.rows = rows;
  args.k = k.values.data();
  args.k_row_stride = k.stride();
  args.v = v.values.data();
  args.v_row_stride = v.stride();
  args.slot = slots.data();
  args.planes = buffers.planes;
  args.plane_count = 2;
  return kvc_append(loaded.program, kPaged, &args);
}

/// Gathers them again.
kvc_status gather(Loaded &loaded, Buffers &buffers, uint32_t rows) {
  Rows k(rows, kHeads, kDimK);
  std::vector<int64_t> slots(rows);
  kvc_gather_args args = {};
  args.size = sizeof(args);
  args.rows = rows;
  args.k = k.values.data();
  args.k_row_stride = k.stride();
  args.slot = slots.data();
  args.planes = buffers.planes;
  args.plane_count = 2;
  return kvc_gather(loaded.program, kPaged, &args);
}

} // namespace

TEST(CpuSim, KernelsRunOnAllThreads) {
  for (uint32_t threads : {1, 3}) {
    Loaded loaded(createSim(threads), artifactWith("tiles_append"));
    EXPECT_STREQ(kvc_program_target(loaded.program), "x86-64-tiles");
    Buffers buffers(loaded, kPaged, 0xff);
    uint64_t before = countersOf(loaded.device).instructions;
    uint64_t products = countersOf(loaded.device).mma;
    Batch batch(buffers, 1);
    addMixed(batch);
    expectRight(batch, batch.attend());
    ASSERT_EQ(append(loaded, buffers, 200).code, KVC_OK) << kvc_error_text();
    if (rt::cpuHasFeature("amx-tile"))
      continue; // nobody counts
    products = countersOf(loaded.device).mma - products;
    EXPECT_GE(products, 200u / 16);
    EXPECT_EQ(countersOf(loaded.device).instructions - before, 6 * products);
  }
}

TEST(CpuSim, FindingsAreDeviceErrors) {
  if (rt::cpuHasFeature("amx-tile"))
    GTEST_SKIP() << "nobody looks";
  constexpr const char *kFinding = ": tiles are configured at the end of the "
                                   "kernel: expected a tilerelease";
  for (uint32_t threads : {1, 3})
    for (std::string kind : {"append", "gather", "attend", "merge"}) {
      Loaded loaded(createSim(threads), artifactWith("tiles_kept_" + kind));
      Buffers buffers(loaded, kPaged);
      kvc_status status = append(loaded, buffers, 100);
      if (kind == "gather") {
        ASSERT_EQ(status.code, KVC_OK) << kvc_error_text();
        status = gather(loaded, buffers, 100);
      } else if (kind != "append") {
        ASSERT_EQ(status.code, KVC_OK) << kvc_error_text();
        Batch batch(buffers, 1);
        addMixed(batch);
        status = batch.attend().status;
      }
      EXPECT_EQ(status.code, KVC_DEVICE_ERROR);
      EXPECT_EQ(kvc_error_text(), kind + kFinding);
    }
}

TEST(CpuSim, OnlyAmxIsEmulated) {
  auto load = [](kvc_device *device, const std::vector<uint8_t> &bytes) {
    kvc_program *program = nullptr;
    uint32_t code =
        kvc_program_load(device, bytes.data(), bytes.size(), &program).code;
    kvc_program_release(program);
    kvc_device_release(device);
    return code;
  };
  for (const char *feature : {"no-such-feature", "amx-fp8"}) {
    EXPECT_EQ(load(createSim(), artifactWith("tiles_append", feature)),
              KVC_UNSUPPORTED);
    EXPECT_THAT(kvc_error_text(),
                HasSubstr(std::string("`x86-64-tiles` lacks ") + feature));
  }
  EXPECT_EQ(load(createSim(), pack(fixtureManifest())), KVC_UNSUPPORTED);
  EXPECT_STREQ(kvc_error_text(),
               "no variant of `fixture` runs on this CPU as an emulated "
               "`x86-64-tiles`: there are no kernels for `x86-64-tiles`");
  kvc_sim_options options = {};
  options.size = sizeof(options);
  options.target = "sim:x86-64-tiles";
  kvc_device *device = nullptr;
  EXPECT_EQ(kvc_device_create_sim(&options, &device).code,
            KVC_INVALID_ARGUMENT);
  EXPECT_THAT(kvc_error_text(), HasSubstr("write `x86-64-tiles`"));
  EXPECT_EQ(device, nullptr);
}

// The CPU device takes what the CPU has.
TEST(CpuSim, IsForTheAsking) {
  kvc_device *device = nullptr;
  ASSERT_EQ(kvc_device_create_cpu(nullptr, &device).code, KVC_OK);
  kvc_sim_counters counters = {};
  counters.size = sizeof(counters);
  EXPECT_EQ(kvc_sim_get_counters(device, &counters).code, KVC_INVALID_ARGUMENT);
  Loaded loaded(device, artifactWith("tiles_append"));
  EXPECT_STREQ(kvc_program_target(loaded.program),
               rt::cpuHasFeature("amx-bf16") ? "x86-64-tiles" : "generic");
}
