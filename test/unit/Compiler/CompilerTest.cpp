//===- CompilerTest.cpp - the facade: artifacts that add up ---------------===//
#include "lib/driver/Compiler/Compiler.h"
#include "lib/base/Artifact/Bundle.h"
#include "lib/base/Artifact/ElfImage.h"
#include "lib/base/Spec/Reader.h"
#include "lib/base/Spec/Size.h"
#include "lib/driver/Compiler/Describe.h"
#include "lib/driver/Compiler/KernelCache.h"
#include "lib/driver/Compiler/Remarks.h"
#include "lib/driver/Import/SpecToKvc.h"
#include "lib/driver/Reference/Host.h"
#include "test/support/Compile.h"
#include "test/support/Files.h"

#include "mlir/IR/MLIRContext.h"
#include "llvm/Object/ELFObjectFile.h"
#include "llvm/Support/FileSystem.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <thread>

using namespace kvc;
using test::specOf;
using testing::AllOf;
using testing::Contains;
using testing::Field;
using testing::HasSubstr;
using testing::IsEmpty;

namespace {

std::vector<std::string> exampleFiles() {
  std::vector<std::string> files;
  std::error_code error;
  for (llvm::sys::fs::directory_iterator
           entry(KVC_SOURCE_DIR "/specs/examples", error),
       end;
       entry != end && !error; entry.increment(error))
    files.push_back(entry->path());
  std::sort(files.begin(), files.end());
  return files;
}

spec::Spec example(const std::string &name) {
  Diagnostics diagnostics;
  auto spec = spec::readFile(KVC_SOURCE_DIR "/specs/examples/" + name + ".json",
                             diagnostics);
  EXPECT_TRUE(spec) << name;
  return spec ? *spec : spec::Spec();
}

std::vector<std::string> allTargets() {
  std::vector<std::string> names;
  for (const CpuTargetInfo &target : cpuTargets())
    names.push_back(target.name);
  return names;
}

CompileOutput compiled(const spec::Spec &spec, const CompileOptions &options) {
  Diagnostics diagnostics;
  auto output = compile(spec, options, diagnostics);
  for (const Diagnostic &diagnostic : diagnostics.all())
    EXPECT_NE(diagnostic.severity, Severity::Error) << diagnostic.message;
  EXPECT_TRUE(output);
  return output ? std::move(*output) : CompileOutput();
}

artifact::Manifest manifestOf(const CompileOutput &output) {
  std::string error;
  auto bundle = artifact::Bundle::open(output.artifact, error);
  EXPECT_TRUE(bundle) << error;
  return bundle ? bundle->manifest() : artifact::Manifest();
}

/// The one error of a compilation that must fail.
Diagnostic failure(const spec::Spec &spec, const CompileOptions &options) {
  Diagnostics diagnostics;
  EXPECT_FALSE(compile(spec, options, diagnostics));
  EXPECT_TRUE(diagnostics.hasErrors());
  EXPECT_EQ(diagnostics.all().size(), 1u);
  return diagnostics.all().empty() ? Diagnostic() : diagnostics.all().front();
}

class Examples : public testing::TestWithParam<std::string> {
protected:
  spec::Spec spec() {
    Diagnostics diagnostics;
    auto spec = spec::readFile(GetParam(), diagnostics);
    EXPECT_TRUE(spec);
    return spec ? *spec : spec::Spec();
  }
};

/// Functions and undefined symbols of an object, by LLVM's reader.
void readSymbols(std::span<const uint8_t> bytes, std::set<std::string> &defined,
                 std::set<std::string> &undefined) {
  llvm::StringRef data(reinterpret_cast<const char *>(bytes.data()),
                       bytes.size());
  auto object = llvm::object::ObjectFile::createELFObjectFile({data, "object"});
  ASSERT_TRUE(bool(object));
  for (const llvm::object::SymbolRef &symbol : (*object)->symbols()) {
    auto flags = symbol.getFlags();
    auto name = symbol.getName();
    ASSERT_TRUE(flags && name);
    if (*flags & llvm::object::SymbolRef::SF_FormatSpecific)
      continue;
    if (*flags & llvm::object::SymbolRef::SF_Undefined)
      undefined.insert(name->str());
    else if (*flags & llvm::object::SymbolRef::SF_Global)
      defined.insert(name->str());
  }
}

// Kernels are tested on the interpreter's arenas and run on the manifest's.
void checkGeometry(const spec::Spec &spec) {
  mlir::MLIRContext context(mlir::MLIRContext::Threading::DISABLED);
  auto module = importSpec(context, spec);
  auto stores = describeStores(*module);
  auto ops = module->getOps<StoreOp>();
  ASSERT_EQ(stores.size(), spec.stores.size());
  for (auto [info, op, store] : llvm::zip(stores, ops, spec.stores)) {
    auto type = mlir::cast<CacheType>(op.getCache());
    reference::HostArena arena(type, /*outers=*/2, /*outerTokens=*/48);
    const auto &planes = arena.cache().planes;
    ASSERT_EQ(info.planes.size(), planes.size());
    EXPECT_EQ(info.pageBytes, spec::pageBytes(store));
    for (auto [plane, host] : llvm::zip(info.planes, planes)) {
      if (!info.paged)
        continue;
      EXPECT_EQ(int64_t(info.pageBytes), host.pageStride);
      EXPECT_EQ(int64_t(plane.headStride), host.headStride);
      EXPECT_EQ(int64_t(plane.pageOffset), host.base - planes[0].base);
    }
  }
}

} // namespace

TEST_P(Examples, CompileForEveryTargetToSelfContainedObjects) {
  CompileOptions options;
  options.targets = allTargets();
  CompileOutput output = compiled(spec(), options);
  std::string error;
  auto bundle = artifact::Bundle::open(output.artifact, error);
  ASSERT_TRUE(bundle) << error;
  std::set<std::string> targets;
  for (const artifact::KernelInfo &kernel : bundle->manifest().kernels) {
    targets.insert(kernel.target);
    auto blob = bundle->find(kernel.blob);
    ASSERT_TRUE(blob) << kernel.blob;
    std::set<std::string> defined, undefined;
    readSymbols(*blob, defined, undefined);
    EXPECT_THAT(defined, Contains(kernel.symbol));
    EXPECT_THAT(undefined, IsEmpty());
    auto image = artifact::ElfImage::load(*blob, error);
    ASSERT_TRUE(image) << error;
    EXPECT_TRUE(image->symbol(kernel.symbol));
  }
  EXPECT_EQ(targets.size(), cpuTargets().size());
}

TEST_P(Examples, CompileTwiceToTheSameBytes) {
  CompileOptions options;
  EXPECT_EQ(compiled(spec(), options).artifact,
            compiled(spec(), options).artifact);
}

TEST_P(Examples, ManifestGeometryIsTheInterpreters) { checkGeometry(spec()); }

TEST(Compiler, GeometryOfPlanesThatFillNoLine) {
  for (const char *order : {"HND", "NHD"})
    checkGeometry(
        specOf(std::string(R"({"kvc": "0.1", "name": "s", "model": {"layers": 1,
    "q_heads": 3, "kv_heads": 3, "head_dim": 40, "dtype": "bf16"},
    "streams": {"k": {"codec": "int8"}, "v": {"codec": "int8"}},
    "layout": {"kind": "paged", "page": 5, "order": ")") +
               order + "\"}}"));
}

TEST(Compiler, LevelsStopWhereAsked) {
  spec::Spec spec = example("k_int8_v_bf16");
  const std::pair<Phase, const char *> levels[] = {
      {Phase::Kvc, "kvc.attend"},
      {Phase::Tile, "tile.kernel"},
      {Phase::Cpu, "func.func @kvc_"},
      {Phase::Llvm, "define void @kvc_"}};
  for (auto [phase, text] : levels) {
    CompileOptions options;
    options.stopAfter = phase;
    CompileOutput output = compiled(spec, options);
    EXPECT_THAT(output.text, HasSubstr(text));
    EXPECT_THAT(output.artifact, IsEmpty());
  }
  CompileOptions options;
  options.stopAfter = Phase::Object;
  options.disassemble = true;
  CompileOutput output = compiled(spec, options);
  EXPECT_THAT(output.text, HasSubstr("_append_"));
  EXPECT_THAT(output.text, HasSubstr("ret"));
  std::set<std::string> defined, undefined;
  readSymbols(output.artifact, defined, undefined);
  EXPECT_FALSE(defined.empty());
}

INSTANTIATE_TEST_SUITE_P(
    Specs, Examples, testing::ValuesIn(exampleFiles()), [](const auto &info) {
      llvm::StringRef path = info.param;
      std::string name = path.rsplit('/').second.drop_back(5).str(); // .json
      for (char &c : name)
        c = llvm::isAlnum(c) ? c : '_';
      return name;
    });

TEST(Compiler, AttendKernelsShareOutTheQueryCounts) {
  CompileOptions options;
  options.schedule = {{"*.decode", "queries", 5}};
  artifact::Manifest manifest =
      manifestOf(compiled(example("window_layers"), options));
  std::map<std::string, uint32_t> next;
  for (const artifact::KernelInfo &kernel : manifest.kernels) {
    if (kernel.kind != "attend")
      continue;
    uint32_t &expected = next.try_emplace(kernel.store, 1).first->second;
    EXPECT_EQ(kernel.minQueries, expected) << kernel.name;
    expected += kernel.maxQueries;
    if (kernel.minQueries == 1) {
      EXPECT_EQ(kernel.maxQueries, 5u);
    }
  }
  EXPECT_EQ(next.size(), 2u);
}

TEST(Compiler, ThreadsShareNothing) {
  spec::Spec spec = example("int8_paged");
  std::vector<uint8_t> expected = compiled(spec, {}).artifact;
  std::vector<std::vector<uint8_t>> found(4);
  std::vector<std::thread> threads;
  for (auto &bytes : found)
    threads.emplace_back([&] { bytes = compiled(spec, {}).artifact; });
  for (std::thread &thread : threads)
    thread.join();
  for (const auto &bytes : found)
    EXPECT_EQ(bytes, expected);
}

TEST(Compiler, WhatChangesCodeChangesTheKey) {
  spec::Spec spec = example("smollm2"), other = spec;
  other.canonical += " ";
  std::set<std::string> keys;
  auto add = [&](const spec::Spec &spec, const CompileOptions &options) {
    keys.insert(manifestOf(compiled(spec, options)).key);
  };
  CompileOptions plain, v3, both, swapped, fast, faster;
  plain.targets = {"x86-64-v4"};
  v3.targets = {"x86-64-v3"};
  both.targets = {"x86-64-v3", "x86-64-v4"};
  swapped.targets = {"x86-64-v4", "x86-64-v3"};
  fast = plain;
  fast.schedule = {{"*.decode", "prefetch", 4}};
  faster = plain;
  faster.schedule = {{"*.decode", "prefetch", 5}};
  for (const CompileOptions &options : {plain, v3, both, swapped, fast, faster})
    add(spec, options);
  add(other, plain);
  EXPECT_EQ(keys.size(), 7u);
  add(spec, plain);
  EXPECT_EQ(keys.size(), 7u);
}

TEST(Compiler, ReportsWhatOptionsCannotBe) {
  spec::Spec spec = example("smollm2");
  CompileOptions options;
  options.schedule = {{"*.decod", "rows", 2}};
  Diagnostic error = failure(spec, options);
  EXPECT_THAT(error.message, HasSubstr("`*.decod.rows=2`"));
  options.schedule = {{"*.decode", "rows", 200}};
  // The place is that of the option, which a library's caller has none of; the
  // spec says nothing about it.
  EXPECT_EQ(failure(spec, options).code, "E-SCHEDULE");
  EXPECT_EQ(failure(spec, options).loc.file, "");
  options.schedule = {{"*.decode", "colour", 1}};
  EXPECT_THAT(failure(spec, options).message, HasSubstr("colour=1"));
  options.schedule = {};
  options.targets = {"x86-64-v9"};
  EXPECT_EQ(failure(spec, options).code, "E-TARGET");
  options.targets = {};
  EXPECT_EQ(failure(spec, options).code, "E-TARGET");
  options.targets = {"x86-64-v3", "x86-64-v4"};
  options.stopAfter = Phase::Llvm;
  EXPECT_EQ(failure(spec, options).code, "E-TARGET");
  options.targets = {"x86-64-v3"};
  options.dumpTo = "/dev/null/dumps";
  EXPECT_EQ(failure(spec, options).code, "E-OUTPUT");
}

namespace {
struct CachedCompiler : testing::Test {
  void SetUp() override {
    setenv("KVC_CACHE_DIR", directory.c_str(), 1);
    options.useCache = true;
  }
  void TearDown() override { unsetenv("KVC_CACHE_DIR"); }
  test::TempDir folder;
  std::string directory = folder.path();
  CompileOptions options;
};
} // namespace

TEST_F(CachedCompiler, HitsAreTheSameArtifactAndRemarks) {
  spec::Spec spec = example("int8_paged");
  Diagnostics cold, warm;
  auto first = compile(spec, options, cold);
  auto second = compile(spec, options, warm);
  ASSERT_TRUE(first && second);
  EXPECT_FALSE(first->fromCache);
  EXPECT_TRUE(second->fromCache);
  EXPECT_EQ(first->artifact, second->artifact);
  auto texts = [](const Diagnostics &diagnostics) {
    std::string text;
    llvm::raw_string_ostream os(text);
    diagnostics.print(os, Diagnostics::Format::Json);
    return text;
  };
  EXPECT_THAT(texts(cold), HasSubstr("R-FOLDED"));
  EXPECT_EQ(texts(cold), texts(warm));
  options.useCache = false;
  EXPECT_EQ(compiled(spec, options).artifact, first->artifact);
}

TEST_F(CachedCompiler, RemarksPointIntoTheSpecAtHand) {
  std::string text = R"({"kvc": "0.1", "name": "s", "model": {"layers": 1,
    "q_heads": 1, "kv_heads": 1, "head_dim": 64, "dtype": "bf16"},
    "streams": {"k": {"codec": "int8"}, "v": {"codec": "int8"}},
    "layout": {"kind": "paged", "page": 16}})";
  compiled(specOf(text), options);
  Diagnostics diagnostics;
  auto output = compile(specOf("\n\n" + text), options, diagnostics);
  ASSERT_TRUE(output && output->fromCache);
  ASSERT_FALSE(diagnostics.all().empty());
  // Two empty lines stand before the spec whose `streams` were on line 3.
  EXPECT_EQ(diagnostics.all().front().loc.line, 5u);
}

TEST_F(CachedCompiler, ADamagedEntryIsCompiledAnew) {
  spec::Spec spec = example("smollm2");
  std::vector<uint8_t> expected = compiled(spec, options).artifact;
  // Entries that are intact, but hold no artifact: what a bug, not a disk,
  // would leave.
  Diagnostics quiet;
  KernelCache cache(directory, quiet);
  ASSERT_EQ(cache.list().size(), 1u);
  ASSERT_TRUE(cache.store(cache.list()[0].key, std::vector<uint8_t>(100)));
  CompileOutput again = compiled(spec, options);
  EXPECT_FALSE(again.fromCache);
  EXPECT_EQ(again.artifact, expected);
  EXPECT_TRUE(compiled(spec, options).fromCache);
}

TEST_F(CachedCompiler, AnUnsafeDirectoryIsARemarkAndChangesNoArtifact) {
  std::vector<uint8_t> expected =
      compiled(example("smollm2"), options).artifact;
  llvm::sys::fs::setPermissions(directory, llvm::sys::fs::all_all);
  Diagnostics diagnostics;
  options.emitRemarks = true;
  auto output = compile(example("smollm2"), options, diagnostics);
  ASSERT_TRUE(output);
  EXPECT_FALSE(output->fromCache);
  EXPECT_THAT(diagnostics.all(),
              Contains(AllOf(
                  Field(&Diagnostic::code, "R-CACHE-DIR"),
                  Field(&Diagnostic::severity, Severity::Remark),
                  Field(&Diagnostic::message, HasSubstr("with mode 0777;")))));
  EXPECT_EQ(output->artifact, expected);
}
