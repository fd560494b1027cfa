//===- GpuProgramTest.cpp - which of an artifact's kernels a GPU takes ----===//
#include "runtime/devices/Cuda.h"
#include "test/unit/Runtime/FakeGpu.h"
#include "test/unit/Runtime/GpuFixture.h"
#include "test/unit/Runtime/KernelFixture.h"

#include <gmock/gmock.h>

using namespace kvc;
using namespace kvc::rt;
using namespace kvc::test;
using testing::ElementsAre;
using testing::HasSubstr;

namespace {

artifact::Manifest cudaManifest(std::vector<std::string> targets = {"sm_80"}) {
  return gpuManifest("cuda", targets);
}

/// Loads on a GPU that has what `notes.fits` says.
kvc_status load(Notes &notes, const artifact::Manifest &manifest) {
  kvc_device *device = fakeDevice(notes);
  std::vector<uint8_t> bytes = packGpu(manifest);
  kvc_program *program = nullptr;
  kvc_status status =
      kvc_program_load(device, bytes.data(), bytes.size(), &program);
  EXPECT_EQ(program != nullptr, status.code == KVC_OK);
  if (program)
    EXPECT_EQ(kvc_program_target(program), notes.loaded);
  kvc_device_release(device);
  kvc_program_release(program);
  return status;
}

} // namespace

//===----------------------------------------------------------------------===//
// Loading
//===----------------------------------------------------------------------===//

TEST(GpuPrograms, TheBestFitIsPicked) {
  artifact::Manifest manifest = cudaManifest({"sm_80", "sm_90a", "sm_89"});
  Notes notes;
  notes.fits = {{"sm_80", 160}, {"sm_89", 89}};
  EXPECT_EQ(load(notes, manifest).code, KVC_OK) << kvc_error_text();
  EXPECT_EQ(notes.loaded, "sm_80");
  notes.fits["sm_90a"] = 161;
  EXPECT_EQ(load(notes, manifest).code, KVC_OK) << kvc_error_text();
  EXPECT_EQ(notes.loaded, "sm_90a");
}

TEST(GpuPrograms, TheNextBestIsTakenWhereOneIsRefused) {
  artifact::Manifest manifest = cudaManifest({"sm_80", "sm_89"});
  Notes notes;
  notes.fits = {{"sm_80", 80}, {"sm_89", 89}};
  notes.refused = "sm_89";
  notes.remarked = "sm_80";
  Loaded loaded(fakeDevice(notes), packGpu(manifest));
  EXPECT_STREQ(kvc_program_target(loaded.program), "sm_80");
  EXPECT_STREQ(kvc_program_remarks(loaded.program),
               "`sm_89` is refused: `cuda/sm_89.0.cubin` is refused\n"
               "`cuda/sm_80.0.cubin` took long\n"
               "`cuda/sm_80.1.cubin` took long");
  notes.fits["sm_80"] = 0;
  EXPECT_EQ(load(notes, manifest).code, KVC_UNSUPPORTED);
  EXPECT_STREQ(kvc_error_text(),
               "no variant of `fixture` runs on this GPU: `sm_80` has no home; "
               "`sm_89` is refused: `cuda/sm_89.0.cubin` is refused");
}

TEST(GpuPrograms, NoVariantListsWhyNoneFits) {
  Notes notes;
  artifact::Manifest manifest = cudaManifest({"sm_80", "sm_90a"});
  addGpuTarget(manifest, "sim", "sm_80");
  EXPECT_EQ(load(notes, manifest).code, KVC_UNSUPPORTED);
  EXPECT_STREQ(kvc_error_text(),
               "no variant of `fixture` runs on this GPU: `sm_80` has no home; "
               "`sm_90a` has no home; `sm_80` is for a device of kind `sim`");
  manifest.kernels.clear();
  EXPECT_EQ(load(notes, manifest).code, KVC_UNSUPPORTED);
  EXPECT_STREQ(kvc_error_text(), "no variant of `fixture` runs on this GPU: "
                                 "there are no kernels");
}

TEST(GpuPrograms, AnotherKernelAbiIsRefused) {
  Notes notes;
  notes.fits["sm_80"] = 1;
  artifact::Manifest manifest = cudaManifest();
  manifest.gpuAbi += 1;
  EXPECT_EQ(load(notes, manifest).code, KVC_UNSUPPORTED);
  EXPECT_STREQ(kvc_error_text(), "the kernels of `fixture` have GPU ABI 4, "
                                 "this runtime calls 3");
}

TEST(GpuPrograms, IncompleteVariantsAreRefused) {
  Notes notes;
  notes.fits["sm_80"] = 1;
  struct {
    const char *drop, *text;
  } cases[] = {
      {"window.plan", "`window` has no plan kernel for `sm_80`"},
      {"flat.append", "`flat` has no append kernel for `sm_80`"},
      {"flat.attend0", "`flat` has no attend kernel for `sm_80`"},
      {"paged.attend0", "`paged` has no attend kernel for one query token"}};
  for (auto &c : cases) {
    artifact::Manifest manifest = cudaManifest();
    std::erase_if(manifest.kernels,
                  [&](auto &kernel) { return kernel.name == c.drop; });
    for (artifact::KernelInfo &kernel : manifest.kernels)
      listBlock(kernel); // of a plan for no attend kernel
    EXPECT_EQ(load(notes, manifest).code, KVC_CORRUPT) << c.drop;
    EXPECT_STREQ(kvc_error_text(), c.text);
  }
  notes.missing = "flat_plan";
  EXPECT_EQ(load(notes, cudaManifest()).code, KVC_CORRUPT);
  EXPECT_STREQ(kvc_error_text(), "no `flat_plan`");
}

// Of a launch that does not have it: the block would hold rubbish.
TEST(GpuPrograms, WordsThatNoLaunchSetsAreRefused) {
  Notes notes;
  notes.fits["sm_80"] = 1;
  artifact::Manifest manifest = cudaManifest();
  for (artifact::KernelInfo &kernel : manifest.kernels)
    if (kernel.name == "window.plan")
      kernel.params[0].what = "slot";
  EXPECT_EQ(load(notes, manifest).code, KVC_CORRUPT);
  EXPECT_STREQ(kvc_error_text(), "`window.plan`: expected words that a launch "
                                 "of kind `plan` sets, found `slot`");
}

// What a later compiler adds is not even looked for.
TEST(GpuPrograms, KindsThatNothingNeedsAreNotLoaded) {
  Notes notes;
  notes.fits["sm_80"] = 1;
  artifact::Manifest manifest = cudaManifest();
  artifact::KernelInfo kernel = manifest.kernels[0];
  kernel.kind = "evict", kernel.name = "paged.evict";
  kernel.minQueries = kernel.maxQueries = kernel.split = kernel.tileTokens = 0;
  kernel.rows = 0;
  kernel.params = {{0, "scores", "some"}};
  manifest.kernels.push_back(kernel);
  notes.missing = "paged_evict";
  manifest.kernels.back().symbol = "paged_evict";
  EXPECT_EQ(load(notes, manifest).code, KVC_OK) << kvc_error_text();
}

// Kernels share entries, which are loaded once.
TEST(GpuPrograms, EntriesAreLoadedOnce) {
  artifact::Manifest manifest = cudaManifest({"sm_80", "sm_90a"});
  Notes notes;
  notes.fits = {{"sm_90a", 1}};
  EXPECT_EQ(load(notes, manifest).code, KVC_OK) << kvc_error_text();
  EXPECT_THAT(notes.entries,
              ElementsAre("cuda/sm_90a.0.cubin", "cuda/sm_90a.1.cubin"));
  // PTX alone: it is what tells entries apart.
  for (artifact::KernelInfo &kernel : manifest.kernels)
    kernel.blob.clear();
  notes.entries.clear();
  EXPECT_EQ(load(notes, manifest).code, KVC_OK) << kvc_error_text();
  EXPECT_THAT(notes.entries, ElementsAre("", ""));
}

// For the same target, say.
TEST(GpuPrograms, KernelsOfOtherDevicesAreLeftAlone) {
  artifact::Manifest manifest = gpuManifest("sim", {"sm_80"});
  addGpuTarget(manifest, "cuda", "sm_80");
  Notes notes;
  notes.fits["sm_80"] = 1;
  notes.foreign = "sim";
  EXPECT_EQ(load(notes, manifest).code, KVC_OK) << kvc_error_text();
}

// Nor does a CPU take a GPU's, whatever their target is called.
TEST(GpuPrograms, ACpuTakesItsOwnKernels) {
  artifact::Manifest manifest = gpuManifest("sim", {"sm_80", "generic"});
  addGpuTarget(manifest, "cuda", "sm_80");
  artifact::Manifest host = fixtureManifest();
  kvc_device *device = nullptr;
  ASSERT_EQ(kvc_device_create_cpu(nullptr, &device).code, KVC_OK);
  std::vector<uint8_t> bytes = packGpu(manifest);
  kvc_program *program = nullptr;
  EXPECT_EQ(kvc_program_load(device, bytes.data(), bytes.size(), &program).code,
            KVC_UNSUPPORTED);
  EXPECT_STREQ(kvc_error_text(), "no variant of `fixture` runs on this CPU: "
                                 "there are no kernels for CPUs");
  manifest.cpuAbi = host.cpuAbi;
  manifest.kernels.insert(manifest.kernels.end(), host.kernels.begin(),
                          host.kernels.end());
  bytes = packGpu(manifest);
  ASSERT_EQ(kvc_program_load(device, bytes.data(), bytes.size(), &program).code,
            KVC_OK)
      << kvc_error_text();
  EXPECT_STREQ(kvc_program_target(program), "generic");
  Loaded loaded(device, bytes);
  Buffers buffers(loaded, kPaged);
  Batch batch(buffers, 1);
  addMixed(batch);
  expectRight(batch, batch.attend());
  kvc_program_release(program);
}

// In whatever order the manifest has them.
TEST(GpuPrograms, KernelsAreOrderedByQueryTokens) {
  artifact::Manifest manifest = cudaManifest();
  std::swap(manifest.kernels[0], manifest.kernels[1]);
  Notes notes;
  notes.fits["sm_80"] = 1;
  Loaded loaded(fakeDevice(notes), packGpu(manifest));
  kvc_attend_args args = {};
  args.size = sizeof(args);
  args.batch = args.rows = args.max_kv_len = 1;
  args.q = args.out = fakeAddress<void>(0x1000);
  args.q_row_stride = 128;
  args.out_row_stride = 256;
  args.cu_q = args.kv_len = args.table = fakeAddress<int32_t>(0x1000);
  args.workspace = fakeAddress<void>(0x1000);
  args.workspace_bytes = SIZE_MAX;
  kvc_plane plane = {fakeAddress<void>(0x1000), 0, 0},
            planes[] = {plane, plane};
  args.planes = planes;
  args.plane_count = 2;
  ASSERT_EQ(kvc_attend(loaded.program, kPaged, &args).code, KVC_OK)
      << kvc_error_text();
  ASSERT_EQ(notes.launches.size(), 2u);
  EXPECT_EQ(notes.launches[1].kernel, "paged.attend0");
  EXPECT_EQ(notes.launches[1].grid, 1u) << "at least one CTA";
}

//===----------------------------------------------------------------------===//
// Compute capabilities
//===----------------------------------------------------------------------===//

TEST(Cuda, WhatRunsWhere) {
  struct {
    const char *target;
    int major, minor;
    bool binary, ptx;
  } cases[] = {
      {"sm_80", 8, 0, true, true},       {"sm_80", 8, 9, true, true},
      {"sm_86", 8, 0, false, false},     {"sm_89", 8, 9, true, true},
      {"sm_89", 9, 0, false, true},      {"sm_80", 9, 0, false, true},
      {"sm_80", 7, 5, false, false},     {"sm_90", 9, 0, true, true},
      {"sm_90a", 9, 0, true, true},      {"sm_90a", 10, 0, false, false},
      {"sm_90a", 8, 9, false, false},    {"sm_100", 10, 3, true, true},
      {"sm_100a", 10, 0, true, true},    {"sm_100a", 10, 3, false, false},
      {"sm_103a", 10, 3, true, true},    {"sm_120", 12, 0, true, true},
      {"sm_120", 12, 1, true, true},     {"sm_120a", 12, 1, false, false},
      {"sm_100", 12, 0, false, true},    {"sm_120", 10, 0, false, false},
      {"x86-64-v3", 9, 0, false, false}, {"sm_", 9, 0, false, false},
      {"sm_x", 9, 0, false, false},
  };
  for (auto &c : cases) {
    EXPECT_EQ(cubinRunsOn(c.target, c.major, c.minor), c.binary)
        << c.target << " on " << c.major << "." << c.minor;
    EXPECT_EQ(ptxRunsOn(c.target, c.major, c.minor), c.ptx)
        << c.target << " on " << c.major << "." << c.minor;
  }
}
