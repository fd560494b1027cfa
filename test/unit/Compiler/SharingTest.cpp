//===- SharingTest.cpp - each distinct kernel is compiled once ------------===//
#include "lib/base/Artifact/Bundle.h"
#include "lib/base/Artifact/KernelKey.h"
#include "lib/driver/Compiler/Target.h"
#include "test/support/Compile.h"

#include "llvm/ADT/StringRef.h"
#include "llvm/Object/ELFObjectFile.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

using namespace kvc;
using testing::HasSubstr;

namespace {

/// `count` stores of a layer each, of which every `period`-th has a window.
std::string specOf(unsigned count, unsigned period = 0) {
  std::string layers = std::to_string(count);
  std::string text = R"({"kvc": "0.1", "name": "many", "model": {"layers": )" +
                     layers + R"(, "q_heads": 4, "kv_heads": 2,
    "head_dim": 64, "dtype": "bf16"}, "stores": [)";
  for (unsigned i = 0; i < count; ++i)
    text += std::string(i ? "," : "") + R"({"name": "layer)" +
            std::to_string(i) + R"(", "scope": {"layers": [)" +
            std::to_string(i) + "," + std::to_string(i + 1) +
            R"(]}, "layout": {"kind": "paged", "page": 16}, "reads": )" +
            (period && i % period == 0
                 ? R"({"kind": "window", "sink": 4, "recent": 128}})"
                 : R"("all"})");
  return text + "]}";
}

struct Compiled {
  Diagnostics diagnostics;
  CompileOutput output;
  artifact::Manifest manifest;
  size_t functions = 0; ///< in all entries

  Compiled(const std::string &text, const std::string &target,
           std::vector<ScheduleOverride> schedule = {}) {
    CompileOptions options;
    options.targets = {target};
    options.schedule = std::move(schedule);
    auto result = compile(test::specOf(text), options, diagnostics);
    EXPECT_TRUE(result);
    output = std::move(*result);
    std::string error;
    auto bundle = artifact::Bundle::open(output.artifact, error);
    EXPECT_TRUE(bundle) << error;
    manifest = bundle->manifest();
    for (const artifact::Entry &entry : bundle->entries())
      functions += count(entry);
  }

  size_t remarks(const std::string &code) const {
    return llvm::count_if(diagnostics.all(),
                          [&](auto &each) { return each.code == code; });
  }

private:
  /// Functions of an object, kernels of PTX.
  static size_t count(const artifact::Entry &entry) {
    llvm::StringRef bytes(reinterpret_cast<const char *>(entry.bytes.data()),
                          entry.bytes.size());
    if (llvm::StringRef(entry.name).ends_with(".ptx"))
      return bytes.count(".visible .entry");
    if (!llvm::StringRef(entry.name).ends_with(".o"))
      return 0;
    auto object = llvm::object::ObjectFile::createELFObjectFile({bytes, ""});
    EXPECT_TRUE(bool(object));
    return llvm::count_if((*object)->symbols(), [](const auto &symbol) {
      auto flags = symbol.getFlags();
      return flags && *flags & llvm::object::SymbolRef::SF_Global;
    });
  }
};

class Sharing : public testing::TestWithParam<const char *> {
protected:
  bool isGpu() const { return GetParam()[0] != 'x'; }
  size_t kernels() const { return isGpu() ? 6 : 5; } // a GPU's plan
};

} // namespace

TEST_P(Sharing, StoresThatAreAlikeAreCompiledOnce) {
  Compiled one(specOf(1), GetParam()), many(specOf(36), GetParam());
  EXPECT_EQ(one.functions, kernels());
  EXPECT_EQ(many.functions, one.functions);
  EXPECT_EQ(many.output.objectTimes.size(), one.output.objectTimes.size());
  ASSERT_EQ(many.manifest.kernels.size(), 36 * kernels());
  auto distinct = artifact::distinctKernels(many.manifest);
  ASSERT_EQ(distinct.size(), kernels());
  for (const artifact::DistinctKernel &kernel : distinct) {
    EXPECT_EQ(kernel.stores, 36u);
    EXPECT_EQ(kernel.info->store, "layer0");
  }
  // A kernel of a model with one layer is the same as of one with 36.
  auto single = artifact::distinctKernels(one.manifest);
  for (size_t i = 0; i < kernels(); ++i)
    EXPECT_EQ(distinct[i].info->symbol, single[i].info->symbol);
  EXPECT_EQ(many.remarks("R-SHARED"), 1u);
  EXPECT_EQ(one.remarks("R-SHARED"), 0u);
  for (const Diagnostic &each : one.diagnostics.all())
    EXPECT_EQ(many.remarks(each.code), one.remarks(each.code)) << each.code;
}

// Those that see something else attend with kernels of their own, and append,
// gather and merge with the same.
TEST_P(Sharing, StoresThatDifferAreNot) {
  Compiled two(specOf(6, 2), GetParam());
  EXPECT_EQ(two.functions, 2 * kernels() - 3);
  EXPECT_EQ(two.remarks("R-SHARED"), 2u);
  for (const artifact::KernelInfo &kernel : two.manifest.kernels) {
    bool window = (kernel.store.back() - '0') % 2 == 0;
    bool own = kernel.kind == "attend" || kernel.kind == "plan";
    EXPECT_THAT(kernel.symbol,
                HasSubstr(window || !own ? "layer0_" : "layer1_"));
  }
}

/// Two stores that take turns, of which the second reads `reads`.
static std::string turnsOf(const std::string &reads) {
  return R"({"kvc": "0.2", "name": "turns", "model": {"layers": 9,
    "q_heads": 4, "kv_heads": 2, "head_dim": 64, "dtype": "bf16"}, "stores": [
    {"name": "even", "scope": {"layers": {"step": 2}}},
    {"name": "odd", "scope": {"layers": {"from": 1, "step": 2}},
     "reads": )" +
         reads + "}]}";
}

TEST_P(Sharing, StoresThatTakeTurnsAreCompiledOnce) {
  Compiled alike(turnsOf(R"("all")"), GetParam());
  EXPECT_EQ(alike.functions, kernels());
  EXPECT_EQ(alike.remarks("R-SHARED"), 1u);
  for (const artifact::KernelInfo &kernel : alike.manifest.kernels)
    EXPECT_THAT(kernel.symbol, HasSubstr("even_"));
  ASSERT_EQ(alike.manifest.stores.size(), 2u);
  EXPECT_EQ(alike.manifest.stores[0].layers,
            (std::vector<uint32_t>{0, 2, 4, 6, 8}));
  EXPECT_EQ(alike.manifest.stores[1].layers,
            (std::vector<uint32_t>{1, 3, 5, 7}));
  Compiled window(turnsOf(R"({"kind": "window", "recent": 100})"), GetParam());
  EXPECT_EQ(window.functions, 2 * kernels() - 3);
  EXPECT_EQ(window.remarks("R-SHARED"), 0u);
  for (const artifact::DistinctKernel &kernel :
       artifact::distinctKernels(window.manifest)) {
    bool own = kernel.info->kind == "attend" || kernel.info->kind == "plan";
    EXPECT_EQ(kernel.stores, own ? 1u : 2u) << kernel.info->name;
  }
}

/// Two stores that take turns, each with what it does with scores.
static std::string scoredTurns(const std::string &even,
                               const std::string &odd) {
  return R"({"kvc": "0.2", "name": "turns", "model": {"layers": 9,
    "q_heads": 4, "kv_heads": 2, "head_dim": 64, "dtype": "bf16"}, "stores": [
    {"name": "even", "scope": {"layers": {"step": 2}}, "attend": )" +
         even + R"(},
    {"name": "odd", "scope": {"layers": {"from": 1, "step": 2}},
     "attend": )" +
         odd + "}]}";
}

// Expressions are of attend alone, and the same one is the same code.
TEST_P(Sharing, ExpressionsAreOfAttendAlone) {
  const char *pairs[][2] = {
      {R"-({"logits": "s - 0.5 * (p - t)"})-",
       R"-({"logits": "s - 0.25 * (p - t)"})-"},
      {R"-({"visible": "p // 64 == t // 64"})-",
       R"-({"visible": "p // 65 == t // 65"})-"},
      {R"-({"visible": "(p - t) % 2 == 0"})-", "{}"},
      {R"-({"constants": {"d": [1, 2, 3, 4]}, "logits": "s + d[h]"})-",
       R"-({"constants": {"d": [1, 2, 3, 5]}, "logits": "s + d[h]"})-"}};
  for (auto [even, odd] : pairs) {
    SCOPED_TRACE(odd);
    Compiled two(scoredTurns(even, odd), GetParam());
    EXPECT_EQ(two.functions, 2 * kernels() - 3);
    EXPECT_EQ(two.remarks("R-SHARED"), 0u);
    for (const artifact::DistinctKernel &kernel :
         artifact::distinctKernels(two.manifest)) {
      bool own = kernel.info->kind == "attend" || kernel.info->kind == "plan";
      EXPECT_EQ(kernel.stores, own ? 1u : 2u) << kernel.info->name;
    }
  }
  Compiled alike(scoredTurns(R"-({"logits": "s - 0.5 * (p - t)"})-",
                             R"-({"logits": "(s)-0.5*float(p-t)"})-"),
                 GetParam());
  EXPECT_EQ(alike.functions, kernels());
  EXPECT_EQ(alike.remarks("R-SHARED"), 1u);
}

// Of a store with one kernel of its own the others are shared, but for the
// plan.
TEST_P(Sharing, KernelsThatAreAlikeAreCompiledOnce) {
  Compiled three(specOf(3), GetParam(),
                 {{"layer1.attend.decode", "split", 512}});
  bool planned = isGpu();
  EXPECT_EQ(three.functions, kernels() + 1 + planned);
  std::map<std::string, std::string> symbols;
  for (const artifact::KernelInfo &kernel : three.manifest.kernels)
    symbols[kernel.name] = kernel.symbol;
  for (const char *name : {".append", ".gather", ".merge", ".attend.prefill"})
    for (const char *store : {"layer1", "layer2"})
      EXPECT_EQ(symbols[std::string(store) + name],
                symbols[std::string("layer0") + name]);
  EXPECT_NE(symbols["layer1.attend.decode"], symbols["layer0.attend.decode"]);
  EXPECT_EQ(symbols["layer2.attend.decode"], symbols["layer0.attend.decode"]);
  EXPECT_EQ(symbols["layer2.plan"], symbols["layer0.plan"]);
  EXPECT_EQ(symbols["layer1.plan"] != symbols["layer0.plan"], planned);
}

// The most stores and targets that are legal: no bound of the artifact's
// readers is in the way.
TEST(Sharing, TheMostStoresFitForAllTargets) {
  Diagnostics diagnostics;
  CompileOptions options;
  options.targets = targetNames();
  auto output = compile(test::specOf(specOf(256, 2)), options, diagnostics);
  ASSERT_TRUE(output);
  std::string error;
  auto bundle = artifact::Bundle::open(output->artifact, error);
  ASSERT_TRUE(bundle) << error;
  EXPECT_GT(bundle->manifest().kernels.size(),
            256 * 5 * options.targets.size());
  // The message names a few of the stores that share, and counts the others.
  auto shared = llvm::find_if(diagnostics.all(), [](const Diagnostic &each) {
    return each.code == "R-SHARED";
  });
  ASSERT_NE(shared, diagnostics.all().end());
  EXPECT_THAT(shared->message, HasSubstr("`layer16` and 119 more have"));
}

INSTANTIATE_TEST_SUITE_P(Targets, Sharing,
                         testing::Values("x86-64-v3", "sm_80", "sim:sm_80"),
                         [](const auto &info) {
                           std::string name = info.param;
                           for (char &c : name)
                             c = isalnum(c) ? c : '_';
                           return name;
                         });

TEST(Sharing, ManyStoresFitAnArtifact) {
  Compiled most(specOf(256), "x86-64-v3");
  EXPECT_EQ(most.functions, 5u);
  EXPECT_EQ(most.manifest.stores.size(), 256u);
}
