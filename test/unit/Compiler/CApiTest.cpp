//===- CApiTest.cpp - the compiler through its C ABI ----------------------===//
#include "kvc/compiler.h"

#include "lib/base/Artifact/Bundle.h"

#include "llvm/Object/ELFObjectFile.h"
#include "llvm/Support/JSON.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

using testing::HasSubstr;
using testing::StartsWith;

namespace {

const std::string kSpec = R"({"kvc": "0.1", "name": "tiny",
  "model": {"layers": 1, "q_heads": 2, "kv_heads": 1, "head_dim": 32,
            "dtype": "bf16"},
  "streams": {"k": {"codec": "int8"}, "v": {"codec": "bf16"}},
  "layout": {"kind": "paged", "page": 16}})";

struct Result {
  void *artifact = nullptr, *messages = nullptr;
  size_t artifactBytes = 0, messageBytes = 0;
  uint32_t code; ///< last: it is what fills in the others

  Result(const std::string &spec, const kvc_compile_options *options)
      : code(kvc_compile(spec.data(), spec.size(), options, &artifact,
                         &artifactBytes, &messages, &messageBytes)) {}
  ~Result() {
    kvc_compile_free(artifact);
    kvc_compile_free(messages);
  }
  std::string text() const { return static_cast<const char *>(messages); }
  std::string key() const {
    std::string error;
    auto bundle = kvc::artifact::Bundle::open(
        {static_cast<const uint8_t *>(artifact), artifactBytes}, error);
    EXPECT_TRUE(bundle) << error;
    return bundle ? bundle->manifest().key : "";
  }
};

} // namespace

TEST(CompilerCApi, CompilesAnArtifact) {
  Result result(kSpec, nullptr);
  ASSERT_EQ(result.code, uint32_t(KVC_COMPILE_OK)) << result.text();
  EXPECT_EQ(result.text().size(), result.messageBytes);
  EXPECT_THAT(result.text(), HasSubstr("\"remark\""));
  EXPECT_FALSE(result.key().empty());
  EXPECT_EQ(kvc_compiler_abi(), uint32_t(KVC_COMPILER_ABI));
  EXPECT_THAT(kvc_compiler_version(), StartsWith("kvc "));
}

TEST(CompilerCApi, OptionsArrive) {
  const char *targets[] = {"x86-64-v3"};
  const char *schedule[] = {"*.decode.prefetch=3"};
  kvc_compile_options options = {};
  options.size = sizeof(options);
  options.targets = targets;
  options.target_count = 1;
  Result plain(kSpec, &options);
  options.schedule = schedule;
  options.schedule_count = 1;
  Result scheduled(kSpec, &options);
  EXPECT_NE(plain.key(), scheduled.key());
  // A caller of an older header does not have the last fields.
  options.size = offsetof(kvc_compile_options, schedule);
  Result older(kSpec, &options);
  EXPECT_EQ(older.key(), plain.key());
}

// Half a pointer is none.
TEST(CompilerCApi, OptionsEndWhereAFieldDoes) {
  for (size_t size = 0; size <= sizeof(kvc_compile_options); ++size) {
    kvc_compile_options options = {};
    options.size = size;
    // The last field has 4 bytes, and padding behind it.
    bool legal = size >= 8 && (size % 8 == 0 || size >= 52);
    Result result("{", &options);
    EXPECT_EQ(result.code, uint32_t(legal ? KVC_COMPILE_FAILED
                                          : KVC_COMPILE_INVALID_ARGUMENT))
        << size;
  }
  EXPECT_EQ(sizeof(kvc_compile_options), 56u);
}

TEST(CompilerCApi, FailuresSayWhy) {
  kvc_compile_options options = {};
  options.size = sizeof(options);
  options.name = "mine.json";
  Result broken("{\n  \"kvc\": 7}", &options);
  EXPECT_EQ(broken.code, uint32_t(KVC_COMPILE_FAILED));
  EXPECT_EQ(broken.artifact, nullptr);
  EXPECT_THAT(broken.text(), HasSubstr("\"file\":\"mine.json\""));
  const char *targets[] = {"pdp-11"};
  options.targets = targets;
  options.target_count = 1;
  EXPECT_THAT(Result(kSpec, &options).text(), HasSubstr("E-TARGET"));
  const char *schedule[] = {"rows"};
  options.target_count = 0;
  options.schedule = schedule;
  options.schedule_count = 1;
  EXPECT_THAT(Result(kSpec, &options).text(), HasSubstr("E-USAGE"));
}

/// A file system or an assembler that fails is nobody's bug.
TEST(CompilerCApi, FailingAssemblersAreFailures) {
  const char *targets[] = {"sm_80"};
  kvc_compile_options options = {};
  options.size = sizeof(options);
  options.targets = targets;
  options.target_count = 1;
  std::string path = getenv("PATH");
  std::string folder = KVC_SOURCE_DIR "/test/codegen/nvptx/Inputs/refusing";
  setenv("PATH", (folder + ":" + path).c_str(), 1);
  Result refused(kSpec, &options);
  EXPECT_EQ(refused.code, uint32_t(KVC_COMPILE_FAILED)) << refused.text();
  EXPECT_THAT(refused.text(), HasSubstr("/refusing/ptxas` refuses the PTX: "));
  EXPECT_EQ(refused.artifact, nullptr);
  setenv("TMPDIR", "/dev/null/none", 1);
  Result missing(kSpec, &options);
  EXPECT_EQ(missing.code, uint32_t(KVC_COMPILE_FAILED)) << missing.text();
  EXPECT_THAT(missing.text(), HasSubstr("cannot create a directory in "
                                        "`/dev/null/none`: Not a directory"));
  unsetenv("TMPDIR");
  setenv("PATH", path.c_str(), 1);
}

TEST(CompilerCApi, RefusesMissingArguments) {
  void *artifact = &artifact;
  size_t bytes = 1;
  EXPECT_EQ(
      kvc_compile(nullptr, 0, nullptr, &artifact, &bytes, nullptr, nullptr),
      uint32_t(KVC_COMPILE_INVALID_ARGUMENT));
  EXPECT_EQ(artifact, nullptr);
  EXPECT_EQ(bytes, 0u);
  EXPECT_EQ(kvc_compile("{}", 2, nullptr, nullptr, &bytes, nullptr, nullptr),
            uint32_t(KVC_COMPILE_INVALID_ARGUMENT));
  kvc_compile_options options = {};
  EXPECT_EQ(Result(kSpec, &options).code,
            uint32_t(KVC_COMPILE_INVALID_ARGUMENT));
  options.size = sizeof(options);
  options.target_count = 1;
  EXPECT_EQ(Result(kSpec, &options).code,
            uint32_t(KVC_COMPILE_INVALID_ARGUMENT));
  kvc_compile_free(nullptr);
}

namespace {
struct Explained {
  void *json = nullptr, *messages = nullptr;
  size_t jsonBytes = 1, messageBytes = 1;
  uint32_t code;

  Explained(const std::string &spec, const kvc_compile_options *options,
            const kvc_explain_options *step)
      : code(kvc_explain(spec.data(), spec.size(), options, step, &json,
                         &jsonBytes, &messages, &messageBytes)) {}
  ~Explained() {
    kvc_compile_free(json);
    kvc_compile_free(messages);
  }
  llvm::json::Object object() const {
    auto value = llvm::json::parse({static_cast<char *>(json), jsonBytes});
    if (!value) {
      ADD_FAILURE() << llvm::toString(value.takeError());
      return {};
    }
    return *value->getAsObject();
  }
};
} // namespace

TEST(CompilerCApi, Explains) {
  // int8 and its f32 scale, bf16; of 32 channels.
  const int64_t bytesPerToken = 36 + 64;
  Explained plain(kSpec, nullptr, nullptr);
  ASSERT_EQ(plain.code, uint32_t(KVC_COMPILE_OK));
  llvm::json::Object object = plain.object();
  EXPECT_EQ(object.getInteger("bytes_per_token"), bytesPerToken);
  EXPECT_EQ(object.getInteger("context"), 8192);
  EXPECT_EQ(object.getNumber("step_bytes"), 8192.0 * bytesPerToken);
  EXPECT_FALSE(object.getArray("kernels")->empty());
  EXPECT_EQ(object.get("bound"), nullptr);

  kvc_explain_options step = {};
  step.size = sizeof(step);
  step.context = 100, step.batch = 3;
  step.bandwidth_gb_s = 0.001, step.tflop_s = 1;
  object = Explained(kSpec, nullptr, &step).object();
  EXPECT_EQ(object.getNumber("step_bytes"), 300.0 * bytesPerToken);
  EXPECT_EQ(object.getNumber("memory_ms"), 300.0 * bytesPerToken / 1e3);
  EXPECT_EQ(object.getString("bound"), "memory");
  // An older caller has no rates.
  step.size = offsetof(kvc_explain_options, bandwidth_gb_s);
  object = Explained(kSpec, nullptr, &step).object();
  EXPECT_EQ(object.getInteger("context"), 100);
  EXPECT_EQ(object.get("memory_ms"), nullptr);
}

TEST(CompilerCApi, ExplainRefuses) {
  for (size_t size = 0; size <= sizeof(kvc_explain_options); ++size) {
    kvc_explain_options step = {};
    step.size = size;
    // Two fields of 4 bytes, then two of 8.
    bool legal =
        size == 8 || size == 12 || size == 16 || size == 24 || size == 32;
    Explained explained("{", nullptr, &step);
    EXPECT_EQ(explained.code, uint32_t(legal ? KVC_COMPILE_FAILED
                                             : KVC_COMPILE_INVALID_ARGUMENT))
        << size;
    EXPECT_EQ(explained.json, nullptr);
    EXPECT_EQ(explained.jsonBytes, 0u);
  }
  for (double rate : {-1.0, double(NAN), double(INFINITY)}) {
    kvc_explain_options step = {};
    step.size = sizeof(step);
    step.bandwidth_gb_s = rate;
    EXPECT_EQ(Explained(kSpec, nullptr, &step).code,
              uint32_t(KVC_COMPILE_INVALID_ARGUMENT));
    step.bandwidth_gb_s = 0, step.tflop_s = rate;
    EXPECT_EQ(Explained(kSpec, nullptr, &step).code,
              uint32_t(KVC_COMPILE_INVALID_ARGUMENT));
  }
  size_t bytes = 1;
  EXPECT_EQ(kvc_explain(kSpec.data(), kSpec.size(), nullptr, nullptr, nullptr,
                        &bytes, nullptr, nullptr),
            uint32_t(KVC_COMPILE_INVALID_ARGUMENT));
  EXPECT_EQ(bytes, 0u);
}

TEST(CompilerCApi, GivesALoader) {
  EXPECT_NE(kvc_orc_code_loader(0), nullptr);
  EXPECT_EQ(kvc_orc_code_loader(0), kvc_orc_code_loader(0));
  EXPECT_EQ(kvc_orc_code_loader(2), nullptr);
}

TEST(CompilerCApi, ExportsNothingElse) {
  auto file = llvm::object::ObjectFile::createObjectFile(KVC_COMPILER_LIBRARY);
  ASSERT_TRUE(bool(file));
  auto *elf =
      llvm::dyn_cast<llvm::object::ELFObjectFileBase>(file->getBinary());
  ASSERT_TRUE(elf);
  unsigned exported = 0;
  for (const llvm::object::SymbolRef &symbol :
       elf->getDynamicSymbolIterators()) {
    auto flags = symbol.getFlags();
    auto name = symbol.getName();
    ASSERT_TRUE(flags && name);
    if (*flags & (llvm::object::SymbolRef::SF_Undefined |
                  llvm::object::SymbolRef::SF_FormatSpecific))
      continue;
    EXPECT_THAT(name->str(), StartsWith("kvc_"));
    ++exported;
  }
  EXPECT_EQ(exported, 6u);
}
