//===- ProgramTest.cpp - artifacts loaded, picked apart and refused -------===//
#include "runtime/devices/CpuCode.h"
#include "runtime/devices/CpuFeatures.h"
#include "test/unit/Runtime/Fixture.h"

#include <cstring>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <random>

using namespace kvc;
using namespace kvc::test;
using testing::HasSubstr;

namespace {

class Programs : public testing::Test {
protected:
  Programs() {
    EXPECT_EQ(kvc_device_create_cpu(nullptr, &device).code, KVC_OK);
  }
  ~Programs() override { kvc_device_release(device); }

  kvc_status load(const std::vector<uint8_t> &bytes) {
    kvc_program *program = nullptr;
    kvc_status status =
        kvc_program_load(device, bytes.data(), bytes.size(), &program);
    target = program ? kvc_program_target(program) : "";
    EXPECT_EQ(program != nullptr, status.code == KVC_OK);
    kvc_program_release(program);
    return status;
  }

  kvc_device *device = nullptr;
  std::string target;
};

/// All kernels once more, for another target.
void addTarget(artifact::Manifest &manifest, const char *target,
               std::vector<std::string> features) {
  size_t count = manifest.kernels.size();
  for (size_t i = 0; i < count; ++i) {
    if (manifest.kernels[i].target != "generic")
      continue;
    artifact::KernelInfo kernel = manifest.kernels[i];
    kernel.target = target;
    kernel.features = features;
    manifest.kernels.push_back(kernel);
  }
}

void dropTarget(artifact::Manifest &manifest, const char *target) {
  std::erase_if(manifest.kernels,
                [&](auto &kernel) { return kernel.target == target; });
}

} // namespace

TEST_F(Programs, DescribeThemselves) {
  Loaded loaded;
  EXPECT_STREQ(kvc_program_name(loaded.program), "fixture");
  EXPECT_STREQ(kvc_program_target(loaded.program), "generic");
  kvc_model_info model = {};
  model.size = sizeof(model);
  ASSERT_EQ(kvc_program_get_model(loaded.program, &model).code, KVC_OK);
  EXPECT_EQ(model.size, sizeof(model));
  EXPECT_EQ(model.q_heads, 4u);
  EXPECT_EQ(model.head_dim_v, 16u);
  EXPECT_STREQ(model.dtype, "f32");
  EXPECT_EQ(model.softmax_scale, 0.5);
  ASSERT_EQ(kvc_program_store_count(loaded.program), 3u);
  kvc_store_info store = {};
  store.size = sizeof(store);
  ASSERT_EQ(kvc_program_get_store(loaded.program, kWindow, &store).code,
            KVC_OK);
  EXPECT_STREQ(store.name, "window");
  ASSERT_EQ(store.layer_count, 1u);
  EXPECT_EQ(store.layers[0], 1u);
  EXPECT_EQ(store.page_tokens, 8u);
  EXPECT_EQ(store.page_bytes, 768u);
  EXPECT_EQ(store.plane_count, 2u);
  EXPECT_STREQ(store.planes[1].stream, "v");
  EXPECT_EQ(store.planes[1].page_offset, 256u);
  EXPECT_EQ(kvc_program_get_store(loaded.program, 3, &store).code,
            KVC_INVALID_ARGUMENT);
  EXPECT_STREQ(kvc_error_text(), "`store`: expected below 3, found 3");
}

TEST_F(Programs, OlderCallersGetWhatTheyHaveRoomFor) {
  Loaded loaded;
  struct {
    kvc_model_info info;
    uint64_t canary = 42;
  } older;
  std::memset(&older.info, 0x55, sizeof(older.info));
  older.info.size = offsetof(kvc_model_info, dtype);
  ASSERT_EQ(kvc_program_get_model(loaded.program, &older.info).code, KVC_OK);
  EXPECT_EQ(older.info.head_dim_k, 8u);
  EXPECT_EQ(older.info.size, offsetof(kvc_model_info, dtype));
  uint64_t untouched;
  std::memcpy(&untouched, &older.info.dtype, 8);
  EXPECT_EQ(untouched, 0x5555555555555555u);
}

TEST_F(Programs, TheBestVariantThatRunsHereIsPicked) {
  artifact::Manifest manifest = fixtureManifest();
  addTarget(manifest, "future", {"avx2", "no-such-feature"});
  ASSERT_EQ(load(pack(manifest)).code, KVC_OK) << kvc_error_text();
  EXPECT_EQ(target, "generic");
  if (!rt::cpuHasFeature("avx2"))
    GTEST_SKIP() << "no AVX2";
  addTarget(manifest, "better", {"avx2"});
  ASSERT_EQ(load(pack(manifest)).code, KVC_OK) << kvc_error_text();
  EXPECT_EQ(target, "better");
}

TEST_F(Programs, NoVariantListsWhatEachLacks) {
  artifact::Manifest manifest = fixtureManifest();
  addTarget(manifest, "future", {"telepathy", "avx1024"});
  addTarget(manifest, "past", {"abacus"});
  dropTarget(manifest, "generic");
  EXPECT_EQ(load(pack(manifest)).code, KVC_UNSUPPORTED);
  EXPECT_STREQ(kvc_error_text(),
               "no variant of `fixture` runs on this CPU: `future` lacks "
               "avx1024, telepathy; `past` lacks abacus");
  manifest.kernels.clear();
  EXPECT_EQ(load(pack(manifest)).code, KVC_UNSUPPORTED);
  EXPECT_THAT(kvc_error_text(), HasSubstr("there are no kernels"));
}

TEST_F(Programs, AnotherKernelAbiIsRefused) {
  artifact::Manifest manifest = fixtureManifest();
  manifest.cpuAbi += 1;
  EXPECT_EQ(load(pack(manifest)).code, KVC_UNSUPPORTED);
  EXPECT_THAT(kvc_error_text(), HasSubstr("CPU ABI 5, this runtime calls 4"));
}

TEST_F(Programs, IncompleteVariantsAreRefused) {
  struct {
    const char *drop, *text;
  } cases[] = {{"window.merge", "`window` has no merge kernel for `generic`"},
               {"flat.append", "`flat` has no append kernel for `generic`"},
               {"flat.attend.decode", "`flat` has no attend kernel"},
               {"paged.attend.decode",
                "`paged` has no attend kernel for one query token"}};
  for (auto &c : cases) {
    artifact::Manifest manifest = fixtureManifest();
    std::erase_if(manifest.kernels,
                  [&](auto &kernel) { return kernel.name == c.drop; });
    EXPECT_EQ(load(pack(manifest)).code, KVC_CORRUPT) << c.drop;
    EXPECT_THAT(kvc_error_text(), HasSubstr(c.text));
  }
  artifact::Manifest manifest = fixtureManifest();
  manifest.kernels[0].symbol = "not_there";
  EXPECT_EQ(load(pack(manifest)).code, KVC_CORRUPT);
  EXPECT_THAT(kvc_error_text(), HasSubstr("has no function `not_there_"));
}

TEST_F(Programs, HostileBytesAreRefused) {
  std::vector<uint8_t> good = pack(fixtureManifest());
  ASSERT_EQ(load(good).code, KVC_OK);
  EXPECT_EQ(load({1, 2, 3}).code, KVC_CORRUPT);
  EXPECT_THAT(kvc_error_text(), HasSubstr("not a usable artifact: "));
  std::mt19937 random(1);
  int refused = 0, rounds = 2000;
  for (int i = 0; i < rounds; ++i) {
    std::vector<uint8_t> bad = good;
    if (i % 4 == 0)
      bad.resize(random() % bad.size());
    else
      bad[random() % bad.size()] ^= uint8_t(1 + random() % 255);
    kvc_status status = load(bad);
    refused += status.code == KVC_CORRUPT;
    ASSERT_TRUE(status.code == KVC_CORRUPT || status.code == KVC_OK);
  }
  // Some bits of a ZIP mean nothing; those of blobs and manifest all do.
  EXPECT_GT(refused, rounds * 95 / 100);
}

TEST_F(Programs, FilesThatAreNotThere) {
  kvc_program *program = nullptr;
  EXPECT_EQ(kvc_program_load_file(device, "/no/such/file.kvca", &program).code,
            KVC_IO_ERROR);
  EXPECT_THAT(kvc_error_text(), HasSubstr("/no/such/file.kvca"));
}

TEST_F(Programs, NullsAreRefused) {
  kvc_program *program = nullptr;
  EXPECT_EQ(kvc_program_load(nullptr, "", 0, &program).code,
            KVC_INVALID_ARGUMENT);
  EXPECT_EQ(kvc_program_load(device, nullptr, 0, &program).code,
            KVC_INVALID_ARGUMENT);
  EXPECT_EQ(kvc_program_load(device, "", 0, nullptr).code,
            KVC_INVALID_ARGUMENT);
  EXPECT_EQ(kvc_program_get_model(nullptr, nullptr).code, KVC_INVALID_ARGUMENT);
  EXPECT_EQ(kvc_append(nullptr, 0, nullptr).code, KVC_INVALID_ARGUMENT);
  EXPECT_EQ(kvc_gather(nullptr, 0, nullptr).code, KVC_INVALID_ARGUMENT);
  EXPECT_EQ(kvc_attend(nullptr, 0, nullptr).code, KVC_INVALID_ARGUMENT);
  kvc_program_release(nullptr);
  kvc_device_release(nullptr);
}

namespace {

/// A loader of the caller's that counts, over the runtime's own.
struct Counting {
  int loaded = 0, released = 0, most = 100;
  const char *refusal = "full";
  kvc_code_loader loader = {sizeof(loader), this, load, symbol, release};

  static void *load(void *context, const void *object, size_t bytes,
                    char *error, size_t errorBytes) {
    auto &self = *static_cast<Counting *>(context);
    if (self.loaded == self.most) {
      std::strncpy(error, self.refusal, errorBytes);
      return nullptr;
    }
    ++self.loaded;
    return rt::kElfLoader.load(nullptr, object, bytes, error, errorBytes);
  }
  static void *symbol(void *, void *code, const char *name) {
    return rt::kElfLoader.symbol(nullptr, code, name);
  }
  static void release(void *context, void *code) {
    ++static_cast<Counting *>(context)->released;
    rt::kElfLoader.release(nullptr, code);
  }
};

class CodeLoaders : public testing::Test {
protected:
  kvc_status create() {
    kvc_cpu_options options = {};
    options.size = sizeof(options);
    options.threads = 1;
    options.code_loader = &counting.loader;
    return kvc_device_create_cpu(&options, &device);
  }
  ~CodeLoaders() override { kvc_device_release(device); }
  kvc_status load(const artifact::Manifest &manifest) {
    std::vector<uint8_t> bytes = pack(manifest);
    return kvc_program_load(device, bytes.data(), bytes.size(), &program);
  }

  Counting counting;
  kvc_device *device = nullptr;
  kvc_program *program = nullptr;
};

} // namespace

TEST_F(CodeLoaders, LoadEachObjectAndTakeItBack) {
  ASSERT_EQ(create().code, KVC_OK) << kvc_error_text();
  counting.loader = {}; // copied
  ASSERT_EQ(load(fixtureManifest()).code, KVC_OK) << kvc_error_text();
  EXPECT_EQ(counting.loaded, 1);
  EXPECT_EQ(counting.released, 0);
  kvc_program_release(program);
  EXPECT_EQ(counting.released, 1);
}

TEST_F(CodeLoaders, RefuseInTheirOwnWords) {
  ASSERT_EQ(create().code, KVC_OK);
  counting.most = 0;
  EXPECT_EQ(load(fixtureManifest()).code, KVC_CORRUPT);
  EXPECT_STREQ(kvc_error_text(), "`cpu/generic.o`: full");
  counting.refusal = "";
  EXPECT_EQ(load(fixtureManifest()).code, KVC_OUT_OF_MEMORY);
  // strncpy leaves no null.
  std::string endless(5000, 'x');
  counting.refusal = endless.c_str();
  EXPECT_EQ(load(fixtureManifest()).code, KVC_CORRUPT);
  EXPECT_THAT(kvc_error_text(), HasSubstr("xxxx"));
  EXPECT_EQ(counting.released, 0);
}

TEST_F(CodeLoaders, GetCodeBackThatIsOfNoUse) {
  ASSERT_EQ(create().code, KVC_OK);
  artifact::Manifest manifest = fixtureManifest();
  manifest.kernels.back().symbol = "not_there";
  EXPECT_EQ(load(manifest).code, KVC_CORRUPT);
  EXPECT_THAT(kvc_error_text(), HasSubstr("has no function `not_there_"));
  EXPECT_EQ(counting.loaded, 1);
  EXPECT_EQ(counting.released, 1);
}

TEST_F(CodeLoaders, AreWhole) {
  counting.loader.release = nullptr;
  EXPECT_EQ(create().code, KVC_INVALID_ARGUMENT);
  EXPECT_STREQ(kvc_error_text(),
               "`code_loader`: expected three functions, found null");
  counting.loader = {};
  EXPECT_EQ(create().code, KVC_INVALID_ARGUMENT);
  EXPECT_EQ(device, nullptr);
}

TEST(Devices, WrongOptionsAreRefused) {
  kvc_device *device = nullptr;
  kvc_cpu_options options = {};
  EXPECT_EQ(kvc_device_create_cpu(&options, &device).code,
            KVC_INVALID_ARGUMENT);
  options.size = sizeof(options);
  options.threads = 9000;
  EXPECT_EQ(kvc_device_create_cpu(&options, &device).code,
            KVC_INVALID_ARGUMENT);
  EXPECT_STREQ(kvc_error_text(),
               "`threads`: expected at most 8192, found 9000");
  kvc_parallel parallel = {};
  options.threads = 0;
  options.parallel = &parallel;
  EXPECT_EQ(kvc_device_create_cpu(&options, &device).code,
            KVC_INVALID_ARGUMENT);
  EXPECT_EQ(device, nullptr);
}

TEST(CpuFeatures, AgreeWithTheCompilersOwnTable) {
  __builtin_cpu_init();
#define KVC_SAME(name)                                                         \
  EXPECT_EQ(rt::cpuHasFeature(name), bool(__builtin_cpu_supports(name))) << name
  KVC_SAME("avx2");
  KVC_SAME("fma");
  KVC_SAME("f16c");
  KVC_SAME("bmi2");
  KVC_SAME("avx512f");
  KVC_SAME("avx512bw");
  KVC_SAME("avx512cd");
  KVC_SAME("avx512dq");
  KVC_SAME("avx512vl");
  KVC_SAME("avx512bf16");
  KVC_SAME("avx512fp16");
  KVC_SAME("avx512vnni");
  KVC_SAME("avx512vbmi");
  KVC_SAME("amx-tile");
  KVC_SAME("amx-int8");
  KVC_SAME("amx-bf16");
#undef KVC_SAME
  EXPECT_FALSE(rt::cpuHasFeature(""));
}

TEST(Status, CodesHaveNames) {
  EXPECT_STREQ(kvc_code_name(KVC_OUT_OF_PAGES), "out of pages");
  EXPECT_STREQ(kvc_code_name(KVC_OUT_OF_MEMORY), "out of memory");
  EXPECT_STREQ(kvc_code_name(999), "unknown code");
  EXPECT_EQ(kvc_runtime_abi(), uint32_t(KVC_RUNTIME_ABI));
}
