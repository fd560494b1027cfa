//===- BindingTest.cpp - code runs under its own manifest only ------------===//
//
// Checksums are made anew by packing, as who tampers with an artifact would.
//
//===----------------------------------------------------------------------===//
#include "kvc/runtime.h"
#include "lib/base/Artifact/Bundle.h"
#include "lib/base/Artifact/KernelKey.h"
#include "test/support/Compile.h"

#include "llvm/ADT/StringRef.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace kvc;
using test::artifactOf;
using testing::HasSubstr;
using Bytes = std::vector<uint8_t>;

namespace {

/// One part of a spec exchanged.
struct Change {
  const char *from, *to;
};

constexpr const char *kSpec = R"({"kvc": "0.1", "name": "s",
  "model": {"layers": 2, "q_heads": 4, "kv_heads": 2, "head_dim": 64,
            "dtype": "bf16", "softmax_scale": 0.125, "logit_softcap": 30},
  "streams": {"k": {"codec": {"kind": "int8", "scale": "f32"}},
              "v": {"codec": "bf16"}},
  "layout": {"kind": "paged", "page": 16, "order": "HND"},
  "reads": {"kind": "window", "sink": 4, "recent": 128}})";

constexpr Change kChanges[] = {
    {R"("page": 16)", R"("page": 64)"},
    {R"("q_heads": 4)", R"("q_heads": 2)"},
    {R"("q_heads": 4, "kv_heads": 2)", R"("q_heads": 4, "kv_heads": 4)"},
    {R"("head_dim": 64)", R"("head_dim": 128)"},
    {R"("dtype": "bf16")", R"("dtype": "f16")"},
    {R"("softmax_scale": 0.125)", R"("softmax_scale": 0.25)"},
    {R"("logit_softcap": 30)", R"("logit_softcap": 31)"},
    {R"(, "logit_softcap": 30)", ""},
    {R"({"kind": "int8", "scale": "f32"})", R"("bf16")"},
    {R"("scale": "f32")", R"("scale": "f16")"},
    {R"({"codec": "bf16"})", R"({"codec": "int8"})"},
    {R"("order": "HND")", R"("order": "NHD")"},
    {R"({"kind": "paged", "page": 16, "order": "HND"})", R"("contiguous")"},
    {R"("sink": 4)", R"("sink": 5)"},
    {R"("recent": 128)", R"("recent": 127)"},
    {R"({"kind": "window", "sink": 4, "recent": 128})", R"("all")"},
};

/// One with expressions, of which every part is code.
constexpr const char *kScored = R"-({"kvc": "0.2", "name": "s",
  "model": {"layers": 2, "q_heads": 4, "kv_heads": 2, "head_dim": 64,
            "dtype": "bf16"},
  "attend": {"constants": {"slope": [0.5, 0.25, 0.125, 0.0625], "cap": 30},
             "logits": "cap * tanh(s / cap) - slope[h] * (p - t)",
             "visible": "p // 64 == t // 64 || t < 4"}})-";

constexpr Change kScoredChanges[] = {
    {R"("cap": 30)", R"("cap": 31)"},
    {"0.0625]", "0.0626]"},
    {"slope[h]", "slope[3 - h]"},
    {"s / cap) -", "s / cap) +"},
    {"// 64 ==", "// 128 =="},
    {"t < 4", "t <= 4"},
    {"||", "&&"},
    {R"(,
             "visible": "p // 64 == t // 64 || t < 4")",
     ""},
    {R"-("logits": "cap * tanh(s / cap) - slope[h] * (p - t)",)-", ""},
};

std::string changed(const Change &change, const char *spec = kSpec) {
  std::string text = spec;
  size_t at = text.find(change.from);
  EXPECT_NE(at, text.npos) << change.from;
  return text.replace(at, strlen(change.from), change.to);
}

/// An artifact opened, and its bytes.
struct Opened {
  explicit Opened(Bytes taken) : bytes(std::move(taken)) {
    std::string error;
    bundle = artifact::Bundle::open(bytes, error);
    EXPECT_TRUE(bundle) << error;
  }
  Bytes bytes;
  std::optional<artifact::Bundle> bundle;
};

/// The manifest of one artifact with the code of another.
Bytes mixed(const Opened &manifest, const Opened &code) {
  std::vector<artifact::Entry> entries(code.bundle->entries().begin() + 1,
                                       code.bundle->entries().end());
  std::string error;
  Bytes bytes = artifact::pack(manifest.bundle->manifest(), entries, error);
  EXPECT_FALSE(bytes.empty()) << error;
  return bytes;
}

class Binding : public testing::TestWithParam<const char *> {
protected:
  Binding() {
    llvm::StringRef target = GetParam();
    if (target.consume_front("sim:")) {
      kvc_sim_options options = {};
      options.size = sizeof(options);
      options.target = target.data();
      EXPECT_EQ(kvc_device_create_sim(&options, &device).code, KVC_OK);
    } else {
      EXPECT_EQ(kvc_device_create_cpu(nullptr, &device).code, KVC_OK);
    }
  }
  ~Binding() override { kvc_device_release(device); }

  uint32_t load(const Bytes &bytes) {
    kvc_program *program = nullptr;
    kvc_status status =
        kvc_program_load(device, bytes.data(), bytes.size(), &program);
    EXPECT_EQ(program != nullptr, status.code == KVC_OK);
    if (program)
      kvc_program_release(program);
    return status.code;
  }

  kvc_device *device = nullptr;
};

} // namespace

TEST_P(Binding, CodeOfAnotherSpecIsRefused) {
  Opened own(artifactOf(kSpec, GetParam()));
  EXPECT_EQ(load(mixed(own, own)), uint32_t(KVC_OK)) << kvc_error_text();
  for (const Change &change : kChanges) {
    Opened other(artifactOf(changed(change), GetParam()));
    EXPECT_EQ(load(mixed(own, other)), uint32_t(KVC_CORRUPT)) << change.to;
    EXPECT_THAT(kvc_error_text(), HasSubstr("has no function `kvc_main_"));
    EXPECT_EQ(load(mixed(other, own)), uint32_t(KVC_CORRUPT)) << change.to;
  }
}

TEST_P(Binding, CodeOfAnotherExpressionIsRefused) {
  Opened own(artifactOf(kScored, GetParam()));
  EXPECT_EQ(load(mixed(own, own)), uint32_t(KVC_OK)) << kvc_error_text();
  for (const Change &change : kScoredChanges) {
    Opened other(artifactOf(changed(change, kScored), GetParam()));
    EXPECT_EQ(load(mixed(own, other)), uint32_t(KVC_CORRUPT)) << change.to;
    EXPECT_THAT(kvc_error_text(), HasSubstr("has no function `kvc_main_"));
    EXPECT_EQ(load(mixed(other, own)), uint32_t(KVC_CORRUPT)) << change.to;
  }
}

// Spaces and parentheses are no part of it.
TEST_P(Binding, CodeOfTheSameExpressionIsTaken) {
  Opened own(artifactOf(kScored, GetParam()));
  Change written{"cap * tanh(s / cap) -", "(cap*tanh((s/cap)))-"};
  Opened other(artifactOf(changed(written, kScored), GetParam()));
  EXPECT_EQ(load(mixed(own, other)), uint32_t(KVC_OK)) << kvc_error_text();
}

// As who makes a manifest fit itself, but has other code.
TEST_P(Binding, AManifestThatIsBoundAnewIsRefused) {
  Opened own(artifactOf(kSpec, GetParam()));
  std::vector<artifact::Entry> entries(own.bundle->entries().begin() + 1,
                                       own.bundle->entries().end());
  using Edit = void (*)(artifact::KernelInfo &);
  const std::pair<const char *, Edit> edits[] = {
      {"nothing", [](artifact::KernelInfo &) {}},
      {"scratch", [](artifact::KernelInfo &k) { k.scratchBytes /= 2; }},
      {"threads",
       [](artifact::KernelInfo &k) { k.threads = k.threads ? 64 : 0; }},
      {"shared", [](artifact::KernelInfo &k) { k.sharedBytes = 0; }},
      {"rows", [](artifact::KernelInfo &k) { k.rows = k.rows ? 1 : 0; }},
      {"split", [](artifact::KernelInfo &k) { k.split = 2 * k.tileTokens; }},
      {"queries",
       [](artifact::KernelInfo &k) {
         if (k.minQueries > 1)
           k.minQueries = 5;
       }},
  };
  unsigned refused = 0;
  for (const auto &[what, edit] : edits) {
    artifact::Manifest manifest = own.bundle->manifest();
    for (artifact::KernelInfo &kernel : manifest.kernels)
      edit(kernel);
    bool same = manifest == own.bundle->manifest();
    artifact::bindSymbols(manifest);
    std::string error;
    Bytes bytes = artifact::pack(manifest, entries, error);
    ASSERT_FALSE(bytes.empty()) << error;
    EXPECT_EQ(load(bytes), uint32_t(same ? KVC_OK : KVC_CORRUPT)) << what;
    refused += !same;
  }
  EXPECT_GE(refused, 3u);
}

INSTANTIATE_TEST_SUITE_P(Targets, Binding,
                         testing::Values("x86-64-v3", "sim:sm_80"),
                         [](const auto &info) {
                           return std::string(info.param[0] == 'x' ? "cpu"
                                                                   : "sim");
                         });

// Where a GPU's driver is what looks symbols up.
TEST(Binding, PtxAndCubinsHaveTheKeys) {
  Opened own(artifactOf(kSpec, "sm_80"));
  artifact::KernelKeys keys(own.bundle->manifest());
  for (const artifact::KernelInfo &kernel : own.bundle->manifest().kernels)
    for (const std::string &name : {kernel.ptx, kernel.blob}) {
      if (name.empty()) // without an assembler
        continue;
      auto entry = *own.bundle->find(name);
      llvm::StringRef text(reinterpret_cast<const char *>(entry.data()),
                           entry.size());
      EXPECT_TRUE(text.contains(kernel.symbol)) << name;
      EXPECT_TRUE(llvm::StringRef(kernel.symbol).ends_with(keys.of(kernel)));
    }
}
