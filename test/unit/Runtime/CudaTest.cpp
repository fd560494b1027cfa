//===- CudaTest.cpp - the CUDA device over a driver without a GPU ---------===//
//
// ctest puts the library of FakeCuda.cpp in place of the driver.
//
//===----------------------------------------------------------------------===//
#include "lib/base/Artifact/KernelKey.h"
#include "runtime/Api.h"
#include "test/unit/Runtime/FakeCuda.h"
#include "test/unit/Runtime/GpuFixture.h"
#include "test/unit/Runtime/blocks.h"

#include <algorithm>
#include <cstring>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <random>
#include <thread>

using namespace kvc;
using namespace kvc::test;
using testing::ElementsAre;
using testing::EndsWith;
using testing::StartsWith;

namespace {

class Cuda : public testing::Test {
protected:
  void SetUp() override {
    cuda = fakeCuda();
    ASSERT_TRUE(cuda) << "run this through ctest, which replaces libcuda.so.1";
    *cuda = FakeCuda();
  }
  /// Whatever was done: everything is given back, no call was misplaced.
  void TearDown() override {
    if (!cuda)
      return;
    EXPECT_EQ(cuda->retained, 0);
    EXPECT_EQ(cuda->modules, 0);
    EXPECT_EQ(cuda->memories, 0);
    EXPECT_EQ(cuda->streams, 0);
    EXPECT_EQ(cuda->events, 0);
    EXPECT_EQ(cuda->depth, 0u);
    EXPECT_EQ(cuda->misuses, 0);
  }

  void capability(int major, int minor) {
    cuda->major = major;
    cuda->minor = minor;
  }
  void failure(const char *function, int code) {
    cuda->failing = function;
    cuda->code = code;
  }
  kvc_device *create(int32_t ordinal = 0, void *context = nullptr) {
    kvc_cuda_options options = {};
    options.size = sizeof(options);
    options.ordinal = ordinal;
    options.context = context;
    kvc_device *device = nullptr;
    kvc_status status = kvc_device_create_cuda(&options, &device);
    EXPECT_EQ(device != nullptr, status.code == KVC_OK);
    bool noMemory = cuda->code == 2 && status.code == KVC_OUT_OF_MEMORY;
    EXPECT_TRUE(status.code == KVC_OK || status.code == KVC_DEVICE_ERROR ||
                noMemory);
    return device;
  }
  /// The program's target, or "" and why.
  std::string load(const artifact::Manifest &manifest,
                   kvc_code expected = KVC_OK) {
    cuda->images.clear();
    kvc_device *device = create();
    std::vector<uint8_t> bytes = packGpu(manifest);
    kvc_program *program = nullptr;
    EXPECT_EQ(
        kvc_program_load(device, bytes.data(), bytes.size(), &program).code,
        expected)
        << kvc_error_text();
    std::string target = kvc_program_target(program);
    remarks = kvc_program_remarks(program);
    kvc_device_release(device);
    kvc_program_release(program);
    return target;
  }

  FakeCuda *cuda = nullptr;
  std::string remarks; ///< of what was loaded last
};

} // namespace

//===----------------------------------------------------------------------===//
// Devices
//===----------------------------------------------------------------------===//

TEST_F(Cuda, TheOrdinalIsThatOfAGpu) {
  kvc_device *device = create(1);
  EXPECT_EQ(cuda->device, 101);
  EXPECT_EQ(cuda->retained, 1);
  kvc_device_release(device);
  ASSERT_EQ(kvc_device_create_cuda(nullptr, &device).code, KVC_OK);
  EXPECT_EQ(cuda->device, 100);
  kvc_device_release(device);
  EXPECT_FALSE(create(2));
  EXPECT_STREQ(kvc_error_text(),
               "`ordinal`: expected 0 to 1, the GPUs here, found 2");
  EXPECT_FALSE(create(-1));
  EXPECT_STREQ(kvc_error_text(),
               "`ordinal`: expected 0 to 1, the GPUs here, found -1");
  EXPECT_EQ(kvc_device_create_cuda(nullptr, nullptr).code,
            KVC_INVALID_ARGUMENT);
  kvc_cuda_options options = {};
  EXPECT_EQ(kvc_device_create_cuda(&options, &device).code,
            KVC_INVALID_ARGUMENT);
}

TEST_F(Cuda, MachinesWithoutAGpuSaySo) {
  cuda->devices = 0;
  EXPECT_FALSE(create());
  EXPECT_STREQ(kvc_error_text(), "there is no CUDA GPU here");
  failure("cuInit", 100);
  EXPECT_FALSE(create());
  EXPECT_STREQ(kvc_error_text(), "cuInit: unknown error (CUDA error 100)");
}

TEST_F(Cuda, EveryFailureOfTheDriverIsReported) {
  for (const char *function :
       {"cuDeviceGetCount", "cuDeviceGet", "cuDeviceGetAttribute",
        "cuDevicePrimaryCtxRetain", "cuStreamCreate"}) {
    failure(function, 2);
    EXPECT_FALSE(create());
    EXPECT_EQ(kvc_error_text(),
              function + std::string(": out of memory (CUDA error 2)"));
  }
  for (const char *function : {"cuMemHostAlloc", "cuEventCreate"}) {
    failure(function, 2);
    EXPECT_FALSE(create());
    EXPECT_STREQ(kvc_error_text(),
                 "pinned memory for copies: out of memory (CUDA error 2)");
  }
}

TEST_F(Cuda, TheContextMayBeTheCallers) {
  int own;
  kvc_device *device = create(0, &own);
  EXPECT_EQ(cuda->retained, 0);
  std::vector<uint8_t> bytes = packGpu(gpuManifest("cuda", {"sm_80"}));
  Loaded loaded(device, bytes);
  kvc_append_args args = {};
  args.size = sizeof(args);
  args.rows = 1;
  alignas(64) char memory[64];
  kvc_plane planes[] = {{memory, 0, 0}, {memory, 0, 0}};
  args.planes = planes;
  args.plane_count = 2;
  args.k = args.v = memory;
  args.k_row_stride = 64;
  args.v_row_stride = 128;
  int64_t slot = 0;
  args.slot = &slot;
  ASSERT_EQ(kvc_append(loaded.program, kPaged, &args).code, KVC_OK)
      << kvc_error_text();
  ASSERT_EQ(cuda->launches.size(), 1u);
  EXPECT_EQ(cuda->launches[0].context, &own);
}

// Which the runtime does for caches.
TEST_F(Cuda, MemoryIsZeroedBeforeAnyStreamUsesIt) {
  kvc_device *handle = create();
  rt::Device &device = *rt::unwrap(handle);
  auto *memory = static_cast<uint8_t *>(device.allocate(1000));
  ASSERT_TRUE(memory);
  EXPECT_EQ(std::count(memory, memory + 1000, 0), 1000);
  memory[5] = memory[10] = memory[20] = 1;
  device.zero(memory + 8, 8);
  EXPECT_EQ(std::count(memory, memory + 1000, 0), 998);
  device.deallocate(memory, 1000);
  for (const char *function : {"cuMemAlloc", "cuMemsetD8Async",
                               "cuStreamSynchronize", "cuCtxPushCurrent"}) {
    failure(function, 2);
    EXPECT_EQ(device.allocate(64), nullptr) << function;
  }
  failure("", 0);
  kvc_device_release(handle);
}

TEST_F(Cuda, PagesAreScrubbedInTheOrderOfTheStream) {
  kvc_device *handle = create();
  rt::Device &device = *rt::unwrap(handle);
  auto *memory = static_cast<uint8_t *>(device.allocate(64));
  ASSERT_TRUE(memory);
  std::fill(memory, memory + 64, uint8_t(1));
  int stream, other;
  EXPECT_EQ(device.scrub(memory + 8, 40, &stream).code, KVC_OK);
  finishFake(&other);
  EXPECT_EQ(std::count(memory, memory + 64, 1), 64) << "nobody waits";
  finishFake(&stream);
  EXPECT_EQ(std::count(memory + 8, memory + 48, 0), 40);
  EXPECT_EQ(std::count(memory, memory + 64, 1), 24);
  failure("cuMemsetD8Async", 700);
  EXPECT_EQ(device.scrub(memory, 8, &stream).code, KVC_DEVICE_ERROR);
  EXPECT_THAT(kvc_error_text(), testing::HasSubstr("cuMemsetD8Async"));
  failure("", 0);
  device.deallocate(memory, 64);
  kvc_device_release(handle);
}

// A capture of some other stream goes on whatever is created meanwhile; the
// fake counts what would break it.
TEST_F(Cuda, NothingBreaksACaptureElsewhere) {
  int stream;
  cuda->capturing = &stream;
  kvc_device *handle = create();
  rt::Device &device = *rt::unwrap(handle);
  auto *memory = static_cast<uint8_t *>(device.allocate(64));
  ASSERT_TRUE(memory);
  device.zero(memory, 64);
  int other;
  EXPECT_EQ(device.upload(memory, "abcd", 4, &other).code, KVC_OK);
  // What is in the graph would be read again when it is replayed.
  EXPECT_EQ(device.upload(memory, "abcd", 4, &stream).code, KVC_DEVICE_ERROR);
  EXPECT_STREQ(kvc_error_text(), "`stream` is being captured in a graph, where "
                                 "a copy from the host has no place");
  device.deallocate(memory, 64);
  kvc_device_release(handle);
}

TEST_F(Cuda, CopiesAreInTheOrderOfTheStream) {
  kvc_device *handle = create();
  rt::Device &device = *rt::unwrap(handle);
  auto *memory = static_cast<char *>(device.allocate(64));
  ASSERT_TRUE(memory);
  int stream;
  char text[] = "abcd";
  EXPECT_EQ(device.upload(memory + 8, text, 4, &stream).code, KVC_OK);
  // The driver has not read it yet, and it is the caller's again.
  EXPECT_NE(std::memcmp(memory + 8, "abcd", 4), 0);
  std::memset(text, 'x', 4);
  EXPECT_THAT(cuda->copies, testing::ElementsAre(&stream));
  char back[5] = {};
  EXPECT_EQ(device.download(back, memory + 8, 4).code, KVC_OK);
  EXPECT_STREQ(back, "abcd");
  EXPECT_EQ(device.copy(memory + 16, memory + 8, 4, &stream).code, KVC_OK);
  int elsewhere;
  finishFake(&elsewhere);
  EXPECT_NE(std::memcmp(memory + 16, "abcd", 4), 0) << "nobody waits";
  finishFake(&stream);
  EXPECT_EQ(std::memcmp(memory + 16, "abcd", 4), 0);
  for (const char *function : {"cuMemcpyDtoDAsync", "cuCtxPushCurrent"}) {
    failure(function, 2);
    EXPECT_EQ(device.copy(memory, memory + 8, 2, nullptr).code,
              KVC_DEVICE_ERROR);
    EXPECT_EQ(kvc_error_text(),
              function + std::string(": out of memory (CUDA error 2)"));
  }
  failure("", 0);
  // What is behind on another stream waits, and only that.
  ASSERT_EQ(device.upload(memory + 24, "efgh", 4, &stream).code, KVC_OK);
  ASSERT_EQ(device.wait(&elsewhere, &stream).code, KVC_OK);
  ASSERT_EQ(device.copy(memory + 32, memory + 24, 4, &elsewhere).code, KVC_OK);
  ASSERT_EQ(device.upload(memory + 40, "ijkl", 4, &stream).code, KVC_OK);
  finishFake(&elsewhere);
  EXPECT_EQ(std::memcmp(memory + 32, "efgh", 4), 0);
  EXPECT_NE(std::memcmp(memory + 40, "ijkl", 4), 0);
  for (const char *function :
       {"cuEventRecord", "cuStreamWaitEvent", "cuCtxPushCurrent"}) {
    failure(function, 2);
    EXPECT_EQ(device.wait(&elsewhere, &stream).code, KVC_DEVICE_ERROR);
    EXPECT_EQ(kvc_error_text(),
              function + std::string(": out of memory (CUDA error 2)"));
  }
  failure("", 0);
  for (const char *function :
       {"cuMemcpyHtoDAsync", "cuCtxPushCurrent", "cuStreamIsCapturing"}) {
    failure(function, 2);
    EXPECT_EQ(device.upload(memory, "ab", 2, nullptr).code, KVC_DEVICE_ERROR);
    EXPECT_EQ(kvc_error_text(),
              function + std::string(": out of memory (CUDA error 2)"));
  }
  for (const char *function :
       {"cuMemcpyDtoHAsync", "cuCtxSynchronize", "cuStreamSynchronize"}) {
    failure(function, 2);
    EXPECT_EQ(device.download(back, memory, 2).code, KVC_DEVICE_ERROR);
    EXPECT_EQ(kvc_error_text(),
              function + std::string(": out of memory (CUDA error 2)"));
  }
  failure("", 0);
  device.deallocate(memory, 64);
  kvc_device_release(handle);
}

// More copies than the ring holds, in bytes and in number, on two streams, from
// memory that is written again at once: what is read late is still what was
// there.
TEST_F(Cuda, WhatIsStagedStaysUntilItIsRead) {
  kvc_device *handle = create();
  rt::Device &device = *rt::unwrap(handle);
  constexpr size_t kBytes = 12 << 20;
  auto *memory = static_cast<uint8_t *>(device.allocate(kBytes));
  ASSERT_TRUE(memory);
  std::mt19937 random(11);
  std::vector<uint8_t> expected(kBytes), scratch(kBytes);
  int streams[2];
  size_t at = 0;
  while (at < kBytes) {
    // Short ones, such as fill a part, and such as the ring cannot hold.
    size_t most = random() % 4 ? 200 : random() % 3 ? 300'000 : 3'000'000;
    size_t bytes = std::min(kBytes - at, 1 + random() % most);
    for (size_t i = 0; i < bytes; ++i)
      scratch[i] = expected[at + i] = uint8_t(random());
    ASSERT_EQ(
        device
            .upload(memory + at, scratch.data(), bytes, &streams[random() % 2])
            .code,
        KVC_OK);
    std::fill_n(scratch.data(), bytes, 0xee);
    at += bytes;
  }
  EXPECT_GT(cuda->waits, 0) << "the ring was never full";
  std::vector<uint8_t> found(kBytes);
  ASSERT_EQ(device.download(found.data(), memory, kBytes).code, KVC_OK);
  EXPECT_TRUE(found == expected);
  failure("cuEventSynchronize", 2);
  bool failed = false;
  for (int i = 0; i < 100 && !failed; ++i)
    failed = device.upload(memory, "abcd", 4, nullptr).code != KVC_OK;
  EXPECT_TRUE(failed);
  failure("", 0);
  device.deallocate(memory, kBytes);
  kvc_device_release(handle);
}

//===----------------------------------------------------------------------===//
// Programs
//===----------------------------------------------------------------------===//

TEST_F(Cuda, BinariesComeFirstThenPtx) {
  artifact::Manifest all =
      gpuManifest("cuda", {"sm_80", "sm_89", "sm_90a", "sm_100a", "sm_120"});
  struct {
    int major, minor;
    const char *target, *image;
  } cases[] = {
      {8, 0, "sm_80", "CUBIN sm_80"},      {8, 6, "sm_80", "CUBIN sm_80"},
      {8, 9, "sm_89", "CUBIN sm_89"},      {9, 0, "sm_90a", "CUBIN sm_90a"},
      {10, 0, "sm_100a", "CUBIN sm_100a"}, {10, 3, "sm_89", "PTX sm_89"},
      {12, 0, "sm_120", "CUBIN sm_120"},   {12, 1, "sm_120", "CUBIN sm_120"},
      {13, 0, "sm_120", "PTX sm_120"}};
  for (auto &c : cases) {
    capability(c.major, c.minor);
    EXPECT_EQ(load(all), c.target) << c.major << "." << c.minor;
    EXPECT_EQ(cuda->image, c.image);
    // What the driver compiles is said.
    EXPECT_EQ(remarks.empty(), cuda->image.starts_with("CUBIN")) << remarks;
  }
}

// Made where there was no assembler.
TEST_F(Cuda, PtxAlone) {
  artifact::Manifest manifest = gpuManifest("cuda", {"sm_80", "sm_90a"});
  for (artifact::KernelInfo &kernel : manifest.kernels)
    kernel.blob.clear();
  capability(9, 0);
  EXPECT_EQ(load(manifest), "sm_90a");
  EXPECT_EQ(cuda->image, "PTX sm_90a");
  capability(10, 0);
  EXPECT_EQ(load(manifest), "sm_80");
  EXPECT_EQ(cuda->image, "PTX sm_80");
}

// However late the architecture of the PTX.
TEST_F(Cuda, ABinaryComesBeforePtx) {
  artifact::Manifest manifest = gpuManifest("cuda", {"sm_89", "sm_80"});
  for (artifact::KernelInfo &kernel : manifest.kernels)
    if (kernel.target == "sm_89")
      kernel.blob.clear();
  capability(8, 9);
  EXPECT_EQ(load(manifest), "sm_80");
  EXPECT_EQ(cuda->image, "CUBIN sm_80");
}

// As drivers before 580 do with what CUDA 13 assembled.
TEST_F(Cuda, ARefusedBinaryGivesWayToItsPtx) {
  artifact::Manifest manifest = gpuManifest("cuda", {"sm_80"});
  cuda->refusals = {{"CUBIN sm_80", 200}};
  EXPECT_EQ(load(manifest), "sm_80");
  EXPECT_THAT(cuda->images, ElementsAre("CUBIN sm_80", "PTX sm_80",
                                        "CUBIN sm_80", "PTX sm_80"));
  EXPECT_EQ(remarks,
            "the driver compiled `cuda/sm_80.0.ptx`: the driver refused "
            "`cuda/sm_80.0.cubin`: unknown error (CUDA error 200)\n"
            "the driver compiled `cuda/sm_80.1.ptx`: the driver refused "
            "`cuda/sm_80.1.cubin`: unknown error (CUDA error 200)");
  cuda->refusals.clear();
  EXPECT_EQ(load(manifest), "sm_80");
  EXPECT_EQ(remarks, "");
}

TEST_F(Cuda, WhereBothAreRefusedBothReasonsAreGiven) {
  artifact::Manifest manifest = gpuManifest("cuda", {"sm_80"});
  cuda->refusals = {{"CUBIN sm_80", 209}, {"PTX sm_80", 222}};
  cuda->words = "ptxas fatal: Unsupported .version 8.7\nptxas fatal: end\n";
  load(manifest, KVC_UNSUPPORTED);
  EXPECT_STREQ(
      kvc_error_text(),
      "no variant of `fixture` runs on this GPU: `sm_80` is refused: the "
      "driver refused `cuda/sm_80.0.cubin`: no kernel image is available for "
      "execution on the device (CUDA error 209); and `cuda/sm_80.0.ptx`: "
      "unknown error (CUDA error 222): ptxas fatal: Unsupported .version 8.7 "
      "ptxas fatal: end");
}

// Memory that is missing is not the binary's fault.
TEST_F(Cuda, OutOfMemoryIsNoRefusal) {
  cuda->refusals = {{"CUBIN sm_80", 2}};
  load(gpuManifest("cuda", {"sm_80"}), KVC_OUT_OF_MEMORY);
  EXPECT_STREQ(kvc_error_text(),
               "`cuda/sm_80.0.cubin`: out of memory (CUDA error 2)");
  EXPECT_THAT(cuda->images, ElementsAre("CUBIN sm_80"));
}

// Before PTX of the same architecture would be, another's may be taken.
TEST_F(Cuda, WhereOneTargetIsRefusedTheNextIsTried) {
  artifact::Manifest manifest = gpuManifest("cuda", {"sm_80", "sm_89"});
  capability(8, 9);
  cuda->refusals = {{"CUBIN sm_89", 209}, {"PTX sm_89", 222}};
  EXPECT_EQ(load(manifest), "sm_80");
  EXPECT_THAT(remarks, StartsWith("`sm_89` is refused: the driver refused "
                                  "`cuda/sm_89.0.cubin`"));
  EXPECT_EQ(cuda->image, "CUBIN sm_80");
}

// 8.6 and 8.9 have less of it than 8.0, though they run its code.
TEST_F(Cuda, SharedMemoryDecidesWhatFits) {
  capability(8, 6);
  cuda->sharedPerCta = 101376;
  artifact::Manifest manifest = gpuManifest("cuda", {"sm_80"});
  load(manifest, KVC_UNSUPPORTED);
  EXPECT_STREQ(kvc_error_text(),
               "no variant of `fixture` runs on this GPU: `sm_80` needs 102400 "
               "bytes of shared memory for a CTA of `paged.attend0`, this GPU "
               "(sm_86) has 101376");
  // Beside a schedule that fits, it is passed by, in whatever order.
  for (std::vector<std::string> targets :
       {std::vector<std::string>{"sm_80", "sm_86"}, {"sm_86", "sm_80"}}) {
    manifest = gpuManifest("cuda", targets);
    for (artifact::KernelInfo &kernel : manifest.kernels)
      if (kernel.target == "sm_86" && kernel.sharedBytes)
        kernel.sharedBytes = 101376;
    EXPECT_EQ(load(manifest), "sm_86");
    capability(8, 9);
    EXPECT_EQ(load(manifest), "sm_86");
    capability(8, 6);
  }
  // PTX that fits comes before a binary that does not.
  manifest = gpuManifest("cuda", {"sm_80", "sm_86"});
  for (artifact::KernelInfo &kernel : manifest.kernels) {
    if (kernel.target == "sm_86")
      kernel.blob.clear();
    if (kernel.target == "sm_86" && kernel.sharedBytes)
      kernel.sharedBytes = 1024;
  }
  EXPECT_EQ(load(manifest), "sm_86");
  EXPECT_EQ(remarks, "the driver compiled `cuda/sm_86.0.ptx`: there is no "
                     "binary for sm_86\n"
                     "the driver compiled `cuda/sm_86.1.ptx`: there is no "
                     "binary for sm_86");
}

TEST_F(Cuda, NoVariantListsThemAll) {
  capability(7, 5);
  EXPECT_EQ(load(gpuManifest("cuda", {"sm_80", "sm_90a"}), KVC_UNSUPPORTED),
            "");
  EXPECT_STREQ(kvc_error_text(),
               "no variant of `fixture` runs on this GPU: `sm_80` does not run "
               "on compute capability 7.5; `sm_90a` does not run on compute "
               "capability 7.5");
}

TEST_F(Cuda, WhatTheDriverRefusesIsNamed) {
  artifact::Manifest manifest = gpuManifest("cuda", {"sm_80"});
  struct {
    const char *function, *text;
  } cases[] = {
      {"cuModuleGetFunction", "paged_attend0_"},
      {"cuFuncSetAttribute", "shared memory of a kernel: no kernel image"},
      {"cuOccupancyMaxActiveBlocksPerMultiprocessor",
       "occupancy of a kernel: no kernel image"}};
  for (auto &c : cases) {
    failure(c.function, 209);
    load(manifest, KVC_DEVICE_ERROR);
    EXPECT_THAT(kvc_error_text(), StartsWith(c.text));
    EXPECT_EQ(cuda->modules, 0);
  }
  failure("", 0);
  manifest.kernels[2].symbol = "missing";
  load(manifest, KVC_CORRUPT);
  EXPECT_THAT(kvc_error_text(),
              StartsWith("the code for `sm_80` has no function `missing_"));
  manifest.kernels[2].symbol = "window_attend0";
  manifest.kernels[2].sharedBytes = 300 * 1024;
  load(manifest, KVC_UNSUPPORTED);
  EXPECT_THAT(kvc_error_text(),
              EndsWith("`sm_80` needs 307200 bytes of shared memory for a CTA "
                       "of `window.attend0`, this GPU (sm_80) has 232448"));
}

TEST_F(Cuda, ProgramsKeepTheirDevice) {
  kvc_device *device = create();
  std::vector<uint8_t> bytes = packGpu(gpuManifest("cuda", {"sm_80"}));
  kvc_program *program = nullptr;
  ASSERT_EQ(kvc_program_load(device, bytes.data(), bytes.size(), &program).code,
            KVC_OK);
  kvc_device_release(device);
  EXPECT_EQ(cuda->retained, 1);
  EXPECT_EQ(cuda->modules, 2);
  kvc_program_release(program);
}

//===----------------------------------------------------------------------===//
// Launches
//===----------------------------------------------------------------------===//

namespace {

class CudaLaunches : public Cuda {
protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(Cuda::SetUp());
    loaded.emplace(create(), packGpu(gpuManifest("cuda", {"sm_80"})));
    args.size = sizeof(args);
    args.batch = 2;
    args.rows = 400;
    args.max_kv_len = 1000;
    planes[0].base = planes[1].base = address;
    args.planes = planes;
    args.plane_count = 2;
    args.q = args.out = address;
    args.q_row_stride = 128;
    args.out_row_stride = 256;
    args.cu_q = args.kv_len = args.table = static_cast<int32_t *>(address);
    args.workspace = address;
    args.stream = &stream;
    ASSERT_EQ(kvc_attend_workspace(loaded->program, kPaged, 2, 400, 1000,
                                   &args.workspace_bytes)
                  .code,
              KVC_OK);
  }
  void TearDown() override {
    loaded.reset();
    Cuda::TearDown();
  }

  kvc_plane planes[2] = {}; ///< of the arguments
  std::optional<Loaded> loaded;
  kvc_attend_args args = {};
  void *address = reinterpret_cast<void *>(0x1000); ///< that nobody reads
  int stream;
};

} // namespace

TEST_F(CudaLaunches, HaveTheirKernelsShape) {
  ASSERT_EQ(kvc_attend(loaded->program, kPaged, &args).code, KVC_OK)
      << kvc_error_text();
  ASSERT_EQ(cuda->launches.size(), 3u);
  const char *names[] = {"paged_plan", "paged_attend0", "paged_attend1"};
  // Ten multiprocessors with 2 CTAs of 100 KB each.
  unsigned grids[] = {1, 20, 20}, shared[] = {0, 100 * 1024, 100 * 1024};
  for (int i = 0; i < 3; ++i) {
    const CudaLaunch &launch = cuda->launches[size_t(i)];
    EXPECT_EQ(artifact::unboundSymbol(launch.function), names[i]);
    EXPECT_EQ(launch.grid[0], grids[i]);
    EXPECT_EQ(launch.grid[1] * launch.grid[2], 1u);
    EXPECT_EQ(launch.threads[0], 32u);
    EXPECT_EQ(launch.threads[1] * launch.threads[2], 1u);
    EXPECT_EQ(launch.shared, shared[i]);
    EXPECT_EQ(launch.stream, &stream);
  }
  PlanBlock plan;
  std::memcpy(&plan, cuda->launches[0].params.data(), sizeof(plan));
  EXPECT_EQ(plan.batch, 2);
  EXPECT_EQ(plan.max_kv_len, 1000);
  GpuAttendBlock attend;
  std::memcpy(&attend, cuda->launches[2].params.data(), sizeof(attend));
  EXPECT_EQ(attend.args.out, address);
  EXPECT_EQ(attend.work.work_tiles, plan.attends[1].work_tiles);
}

TEST_F(CudaLaunches, FromAnyThreadInWhateverContext) {
  std::thread([&] {
    EXPECT_EQ(kvc_attend(loaded->program, kPaged, &args).code, KVC_OK)
        << kvc_error_text();
  }).join();
  ASSERT_EQ(cuda->launches.size(), 3u);
  EXPECT_EQ(cuda->depth, 0u);
}

TEST_F(CudaLaunches, FailuresNameTheKernel) {
  failure("cuLaunchKernel", 701);
  EXPECT_EQ(kvc_attend(loaded->program, kPaged, &args).code, KVC_DEVICE_ERROR);
  EXPECT_STREQ(kvc_error_text(), "paged.plan: unknown error (CUDA error 701)");
  failure("cuCtxPushCurrent", 2);
  EXPECT_EQ(kvc_attend(loaded->program, kPaged, &args).code, KVC_DEVICE_ERROR);
  EXPECT_STREQ(kvc_error_text(),
               "cuCtxPushCurrent: out of memory (CUDA error 2)");
  failure("", 0);
}
