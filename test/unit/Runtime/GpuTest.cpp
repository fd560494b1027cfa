//===- GpuTest.cpp - what a GPU is given to launch ------------------------===//
//
// A driver that runs nothing and notes everything.
//
//===----------------------------------------------------------------------===//
#include "runtime/devices/Gpu.h"
#include "runtime/Api.h"
#include "runtime/devices/Cuda.h"
#include "test/unit/Runtime/GpuFixture.h"
#include "test/unit/Runtime/KernelFixture.h"

#include <cstring>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <map>

using namespace kvc;
using namespace kvc::rt;
using namespace kvc::test;
using testing::ElementsAre;
using testing::HasSubstr;

namespace {

struct Launched {
  std::string kernel;
  uint32_t grid;
  std::vector<uint8_t> params;
  void *stream;

  template <class T> T as() const {
    T value = {};
    EXPECT_EQ(params.size(), sizeof(T));
    std::memcpy(&value, params.data(), std::min(params.size(), sizeof(T)));
    return value;
  }
};

/// What the tests set and see of a FakeDriver, which is the device's.
struct Notes {
  std::map<std::string, uint32_t> fits; ///< by target
  std::map<std::string, uint32_t> resident;
  std::string loaded;  ///< target
  std::string missing; ///< symbol that the module has not
  std::string failing; ///< kernel that does not launch
  std::vector<Launched> launches;
};

class FakeModule : public GpuModule {
public:
  explicit FakeModule(Notes &notes) : notes(notes) {}
  kvc_status find(const artifact::KernelInfo &info,
                  GpuFunction &function) override {
    if (info.symbol == notes.missing)
      return fail(KVC_CORRUPT, 1, "no `%s`", info.symbol.c_str());
    function.info = &info;
    function.handle = &notes;
    function.module = this;
    function.resident = notes.resident[info.name];
    return ok();
  }

private:
  Notes &notes;
};

class FakeDriver : public GpuDriver {
public:
  explicit FakeDriver(Notes &notes) : notes(notes) {}
  const char *kind() const override { return "cuda"; }
  uint32_t fit(const artifact::KernelInfo &info,
               std::string &why) const override {
    why = "has no home";
    return notes.fits[info.target];
  }
  kvc_status load(const artifact::KernelInfo &info, const artifact::Bundle &,
                  std::unique_ptr<GpuModule> &module) override {
    notes.loaded = info.target;
    module = std::make_unique<FakeModule>(notes);
    return ok();
  }
  kvc_status launch(const GpuFunction &function, uint32_t grid,
                    const void *params, size_t paramBytes,
                    void *stream) override {
    if (function.info->name == notes.failing)
      return fail(KVC_DEVICE_ERROR, 2, "`%s` does not launch",
                  notes.failing.c_str());
    auto *bytes = static_cast<const uint8_t *>(params);
    notes.launches.push_back(
        {function.info->name, grid, {bytes, bytes + paramBytes}, stream});
    return ok();
  }
  void *allocate(size_t) override { return nullptr; }
  void deallocate(void *, size_t) override {}
  void zero(void *, size_t) override {}

private:
  Notes &notes;
};

kvc_device *fakeDevice(Notes &notes) {
  return wrap(new GpuDevice(std::make_unique<FakeDriver>(notes)));
}

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

//===----------------------------------------------------------------------===//
// Launches
//===----------------------------------------------------------------------===//

/// No address here is ever touched.
template <class T> T *fakeAddress(uintptr_t value) {
  return reinterpret_cast<T *>(value);
}

struct Launches : testing::Test {
  Launches() {
    notes.fits["sm_80"] = 1;
    notes.resident = {{"paged.attend0", 50}, {"paged.attend1", 7}};
    loaded.emplace(fakeDevice(notes), packGpu(cudaManifest()));
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
    args.outers = 10;
    args.planes[0] = {fakeAddress<void>(0x40000), 768, 128};
    args.planes[1] = {fakeAddress<void>(0x40100), 768, 256};
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
    args.outers = 10;
    args.slot_tokens = 96;
    args.workspace = fakeAddress<void>(kWorkspace);
    args.planes[0] = {fakeAddress<void>(0x40000), 768, 128};
    args.planes[1] = {fakeAddress<void>(0x40100), 768, 256};
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
  auto params = launch.as<KvcGpuAppendParams>();
  EXPECT_EQ(params.rows, 5);
  EXPECT_EQ(params.args.k, args.k);
  EXPECT_EQ(params.args.k_row_stride, 64);
  EXPECT_EQ(params.args.v, args.v);
  EXPECT_EQ(params.args.v_row_stride, 144);
  EXPECT_EQ(params.args.slot, args.slot);
  EXPECT_EQ(params.args.slot_tokens, 4) << "a page's";
  EXPECT_EQ(params.args.planes[1].base, args.planes[1].base);
  EXPECT_EQ(params.args.planes[1].outer_stride, 768);
  EXPECT_EQ(params.args.planes[1].head_stride, 256);
  EXPECT_EQ(params.args.planes[2].base, nullptr);
}

TEST_F(Launches, AppendRoundsUpAndTakesTheCallersCapacity) {
  kvc_append_args args = appendArgs();
  ASSERT_EQ(append(args, kFlat).code, KVC_OK) << kvc_error_text();
  ASSERT_THAT(names(), ElementsAre("flat.append"));
  EXPECT_EQ(notes.launches[0].grid, 3u); // 5 rows, 1 head
  auto params = notes.launches[0].as<KvcGpuAppendParams>();
  EXPECT_EQ(params.args.slot_tokens, 96);
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

  auto plan = notes.launches[0].as<KvcGpuPlanParams>();
  EXPECT_EQ(plan.cu_q, args.cu_q);
  EXPECT_EQ(plan.kv_len, args.kv_len);
  EXPECT_EQ(plan.batch, 3);
  EXPECT_EQ(plan.max_kv_len, 100);
  // Up to 3 query tokens: 9 rows of 4 heads in 13 parts. More: 20 in 9.
  EXPECT_EQ(plan.part_rows, 9 * 4 * 13 + 20 * 4 * 9);
  // (rows of a head / rows per item + sequences) * heads * parts
  EXPECT_EQ(plan.variants[0].capacity, (9 * 2 / 6 + 3) * 2 * 13);
  EXPECT_EQ(plan.variants[1].capacity, (20 * 2 / 10 + 3) * 2 * 9);
  EXPECT_EQ(notes.launches[1].grid, 50u) << "as many as run at once";
  EXPECT_EQ(notes.launches[2].grid, 7u);
  for (int v = 0; v < 2; ++v) {
    auto attend = notes.launches[1 + v].as<KvcGpuAttendParams>();
    EXPECT_EQ(std::memcmp(&attend.work, &plan.variants[v], sizeof(KvcGpuItems)),
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
    EXPECT_EQ(attend.args.part_row, plan.part_row);
    EXPECT_EQ(attend.args.planes[0].base, args.planes[0].base);
    EXPECT_EQ(attend.args.planes[0].outer_stride, 768);
    EXPECT_EQ(attend.args.planes[0].head_stride, 128);
  }
}

TEST_F(Launches, EverythingIsInTheWorkspace) {
  kvc_attend_args args = attendArgs();
  ASSERT_EQ(attend(args).code, KVC_OK) << kvc_error_text();
  auto plan = notes.launches[0].as<KvcGpuPlanParams>();
  auto first = notes.launches[1].as<KvcGpuAttendParams>();
  auto inside = [&](const void *at, size_t bytes) {
    uintptr_t from = uintptr_t(at) - kWorkspace;
    EXPECT_LE(from + bytes, args.workspace_bytes);
    EXPECT_EQ(from % 64, 0u);
  };
  inside(plan.part_row, 3 * 8);
  for (int v = 0; v < 2; ++v) {
    size_t items = size_t(plan.variants[v].capacity);
    inside(plan.variants[v].count, 4);
    inside(plan.variants[v].arrivals, items * 4);
    inside(plan.variants[v].items, items * sizeof(KvcGpuItem));
  }
  inside(first.args.partial_lse, size_t(plan.part_rows) * 4);
  inside(first.args.partial_o, size_t(plan.part_rows) * kDimV * 4);
}

TEST_F(Launches, KernelsThatNoSequenceUsesAreLeftOut) {
  kvc_attend_args args = attendArgs();
  args.max_queries = 3;
  ASSERT_EQ(attend(args).code, KVC_OK) << kvc_error_text();
  EXPECT_THAT(names(), ElementsAre("paged.plan", "paged.attend0"));
  auto plan = notes.launches[0].as<KvcGpuPlanParams>();
  EXPECT_EQ(plan.variants[1].capacity, 0);
  EXPECT_NE(plan.variants[1].count, nullptr);
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

TEST_F(Launches, NoMoreCtasThanItems) {
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

TEST_F(Launches, BoundsMustBeGivenAndCountable) {
  kvc_attend_args args = attendArgs();
  args.rows = 0;
  expectRefused(attend(args), "`rows`: a GPU expects the number of rows of q, "
                              "1 to 1073741823, found 0");
  // As of a caller who knows no bounds yet.
  args.rows = 20;
  args.size = offsetof(kvc_attend_args, rows);
  expectRefused(attend(args), "`rows`: a GPU expects the number of rows of q, "
                              "1 to 1073741823, found 0");
  args = attendArgs();
  args.rows = 1u << 31;
  expectRefused(attend(args), "`rows`: a GPU expects the number of rows of q, "
                              "1 to 1073741823, found 2147483648");
  args.rows = 1u << 30;
  args.rows -= 1;
  expectRefused(attend(args),
                "`rows` (1073741823), `batch` (3) and `max_kv_len` (100) allow "
                "for more than 2^30 items of work");
  args = attendArgs();
  args.max_kv_len = 1u << 31;
  expectRefused(attend(args),
                "`max_kv_len`: expected at most 2147483391, found 2147483648");
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
  EXPECT_EQ(notes.launches[0].as<KvcGpuAppendParams>().rows, INT32_MAX);
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
  args.planes[1].head_stride = 264;
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
  append.planes[0].base = fakeAddress<void>(0x40008);
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

TEST_F(Launches, ThereIsNoCacheInMemoryThatTheHostCannotReach) {
  kvc_cache_options options = {};
  options.size = sizeof(options);
  kvc_cache *cache = nullptr;
  EXPECT_EQ(kvc_cache_create(loaded->program, &options, &cache).code,
            KVC_UNSUPPORTED);
  EXPECT_THAT(kvc_error_text(), HasSubstr("kvc_append and kvc_attend"));
}

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
  EXPECT_STREQ(kvc_error_text(), "the kernels of `fixture` have GPU ABI 2, "
                                 "this runtime calls 1");
}

TEST(GpuPrograms, IncompleteVariantsAreRefused) {
  Notes notes;
  notes.fits["sm_80"] = 1;
  struct {
    const char *drop, *text;
  } cases[] = {{"window.plan", "`window` has no plan kernel for `sm_80`"},
               {"flat.append", "`flat` has no append kernel for `sm_80`"},
               {"flat.attend0", "`flat` has no attend kernel for `sm_80`"},
               {"paged.attend0",
                "`paged`: expected 1 to 4 attend kernels, the first "
                "for one query token"}};
  for (auto &c : cases) {
    artifact::Manifest manifest = cudaManifest();
    std::erase_if(manifest.kernels,
                  [&](auto &kernel) { return kernel.name == c.drop; });
    EXPECT_EQ(load(notes, manifest).code, KVC_CORRUPT) << c.drop;
    EXPECT_STREQ(kvc_error_text(), c.text);
  }
  artifact::Manifest manifest = cudaManifest();
  for (uint32_t i = 0; i < 3; ++i) {
    artifact::KernelInfo kernel = manifest.kernels[1]; // paged.attend1
    kernel.name += "." + std::to_string(i);
    kernel.minQueries = 20 + i;
    manifest.kernels.push_back(kernel);
  }
  EXPECT_EQ(load(notes, manifest).code, KVC_CORRUPT);
  EXPECT_THAT(kvc_error_text(), HasSubstr("1 to 4 attend kernels"));
  notes.missing = "flat_plan";
  EXPECT_EQ(load(notes, cudaManifest()).code, KVC_CORRUPT);
  EXPECT_STREQ(kvc_error_text(), "no `flat_plan`");
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
  args.planes[0].base = args.planes[1].base = fakeAddress<void>(0x1000);
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
