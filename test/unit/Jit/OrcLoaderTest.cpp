//===- OrcLoaderTest.cpp - kernels by LLVM's JIT --------------------------===//
#include "lib/driver/Jit/OrcLoader.h"

#include "kvc/runtime.hpp"
#include "lib/base/Artifact/Bundle.h"
#include "test/support/Compile.h"
#include "test/support/Files.h"

#include "llvm/ExecutionEngine/Orc/TargetProcess/JITLoaderGDB.h"
#include "llvm/Object/ELFObjectFile.h"
#include "llvm/Support/Endian.h"
#include "llvm/Support/FileSystem.h"

#include <cstdlib>
#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <random>
#include <sys/resource.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

using namespace kvc;
using testing::HasSubstr;
using Bytes = std::vector<uint8_t>;

// What a debugger reads of this process.
extern "C" jit_descriptor __jit_debug_descriptor;
// What unwinders of this process ask: the table of the function at an address.
extern "C" const void *_Unwind_Find_FDE(void *address, void *bases);

namespace {

constexpr uint32_t kHeads = 2, kQueryHeads = 4, kDim = 32, kTokens = 37;

const artifact::Bundle &bundle() {
  static const Bytes artifact = [] {
    constexpr const char *kSpec = R"({"kvc": "0.1", "name": "tiny",
      "model": {"layers": 1, "q_heads": 4, "kv_heads": 2, "head_dim": 32,
                "dtype": "f32"},
      "streams": {"k": {"codec": "int8"}, "v": {"codec": "f32"}},
      "layout": {"kind": "paged", "page": 16}})";
    return test::artifactOf(kSpec);
  }();
  static std::string error;
  static const auto opened = artifact::Bundle::open(artifact, error);
  return *opened;
}

const artifact::KernelInfo &kernel() {
  return bundle().manifest().kernels.front();
}
/// The object that kernel() is in.
Bytes object() {
  auto bytes = *bundle().find(kernel().blob);
  return {bytes.begin(), bytes.end()};
}
/// The artifact, with another object in kernel()'s place.
Bytes packWith(const Bytes &object) {
  std::map<std::string, std::span<const uint8_t>> blobs;
  for (const artifact::KernelInfo &each : bundle().manifest().kernels)
    blobs[each.blob] = *bundle().find(each.blob);
  blobs[kernel().blob] = object;
  std::vector<artifact::Entry> entries;
  for (auto &[name, bytes] : blobs)
    entries.push_back({name, bytes});
  std::string error;
  Bytes bytes = artifact::pack(bundle().manifest(), entries, error);
  EXPECT_EQ(error, "");
  return bytes;
}

/// One object by the loader itself.
class Code {
public:
  explicit Code(const Bytes &object,
                const kvc_code_loader *loader = orcCodeLoader())
      : loader(loader),
        handle(loader->load(loader->context, object.data(), object.size(),
                            error, sizeof(error))) {}
  ~Code() {
    if (handle)
      loader->release(loader->context, handle);
  }
  Code(const Code &) = delete;
  uint64_t symbol(const std::string &name) const {
    return reinterpret_cast<uint64_t>(
        loader->symbol(loader->context, handle, name.c_str()));
  }

  char error[256] = "";
  const kvc_code_loader *loader;
  void *handle;
};

/// The functions that a debugger finds now, by name, and where.
std::multimap<std::string, uint64_t> debuggersView() {
  std::multimap<std::string, uint64_t> functions;
  for (auto *entry = __jit_debug_descriptor.first_entry; entry;
       entry = entry->next_entry) {
    auto file = llvm::object::ObjectFile::createELFObjectFile(
        {{entry->symfile_addr, entry->symfile_size}, "entry"});
    if (!file) {
      ADD_FAILURE() << llvm::toString(file.takeError());
      continue;
    }
    for (const llvm::object::ELFSymbolRef symbol :
         llvm::cast<llvm::object::ELFObjectFileBase>(**file).symbols())
      if (symbol.getELFType() == llvm::ELF::STT_FUNC)
        functions.emplace(cantFail(symbol.getName()),
                          cantFail(symbol.getSection())->getAddress() +
                              cantFail(symbol.getValue()));
  }
  return functions;
}

size_t mappings() {
  std::ifstream maps("/proc/self/maps");
  return std::count(std::istreambuf_iterator<char>(maps), {}, '\n');
}

std::vector<float> randomRows(uint32_t width) {
  std::mt19937 random(width);
  std::vector<float> rows(size_t(kTokens) * width);
  for (float &x : rows)
    x = float(random() % 2001) / 1000 - 1;
  return rows;
}

/// Outputs of a prefill, then of a decode of the last token.
std::vector<float> run(const Program &program) {
  kvc_cache_options options = {};
  options.size = sizeof(options);
  options.arena_bytes = 1 << 20;
  options.max_sequences = options.max_batch = 1;
  options.max_step_tokens = options.max_tokens_per_seq = 64;
  auto cache = Cache::create(program, options);
  kvc_seq sequence = *cache->open();
  std::vector<float> k = randomRows(kHeads * kDim),
                     v = randomRows(kHeads * kDim + 1),
                     q = randomRows(kQueryHeads * kDim);
  std::vector<float> out(size_t(kTokens) * kQueryHeads * kDim);
  for (auto [first, count] : {std::pair(0u, kTokens - 1), {kTokens - 1, 1u}}) {
    kvc_slot_request request = {sequence, count};
    auto step = cache->reserve({&request, 1});
    size_t row = first * kHeads * kDim, queryRow = first * kQueryHeads * kDim;
    EXPECT_TRUE(cache->append(*step, 0, &k[row], &v[row]));
    EXPECT_TRUE(cache->attend(*step, 0, &q[queryRow], &out[queryRow]));
    EXPECT_TRUE(cache->commit(*step));
  }
  return out;
}

} // namespace

TEST(OrcLoader, RunsWhatTheRuntimesOwnRuns) {
  std::vector<float> results[2];
  const kvc_code_loader *loaders[] = {nullptr, orcCodeLoader()};
  Bytes artifact = packWith(object());
  for (int i = 0; i < 2; ++i) {
    auto device = Device::cpu(1, loaders[i]);
    auto program = Program::load(*device, std::as_bytes(std::span(artifact)));
    ASSERT_TRUE(program) << program.status().text();
    EXPECT_EQ(debuggersView().empty(), i == 0);
    results[i] = run(*program);
  }
  EXPECT_NE(results[0].back(), 0);
  EXPECT_EQ(0, std::memcmp(results[0].data(), results[1].data(),
                           results[0].size() * sizeof(float)));
}

TEST(OrcLoader, DebuggersSeeKernelsAsLongAsTheyLive) {
  ASSERT_THAT(debuggersView(), testing::IsEmpty());
  Bytes artifact = packWith(object());
  auto device = Device::cpu(1, orcCodeLoader());
  {
    auto first = Program::load(*device, std::as_bytes(std::span(artifact)));
    auto second = Program::load(*device, std::as_bytes(std::span(artifact)));
    auto seen = debuggersView();
    EXPECT_EQ(seen.size(), 2 * bundle().manifest().kernels.size());
    for (const artifact::KernelInfo &each : bundle().manifest().kernels)
      EXPECT_EQ(seen.count(each.symbol), 2u) << each.symbol;
    *first = Program();
    EXPECT_EQ(debuggersView().size(), bundle().manifest().kernels.size());
  }
  EXPECT_THAT(debuggersView(), testing::IsEmpty());
}

TEST(OrcLoader, SymbolsAreWhereDebuggersSeeThem) {
  Code code(object());
  ASSERT_TRUE(code.handle) << code.error;
  auto seen = debuggersView();
  ASSERT_FALSE(seen.empty());
  for (auto &[name, address] : seen)
    EXPECT_EQ(code.symbol(name), address) << name;
  EXPECT_EQ(code.symbol("not_there"), 0u);
  EXPECT_EQ(code.symbol(""), 0u);
}

TEST(OrcLoader, UnwindersKnowTheirFrames) {
  auto *code = new Code(object());
  auto *address = reinterpret_cast<char *>(code->symbol(kernel().symbol));
  void *bases[3];
  EXPECT_TRUE(_Unwind_Find_FDE(address + 1, bases));
  EXPECT_EQ(bases[2], address);
  delete code;
  EXPECT_FALSE(_Unwind_Find_FDE(address + 1, bases));
}

TEST(OrcLoader, RefusesBrokenObjects) {
  Bytes cut = object(), notElf = {1, 2, 3};
  cut.resize(cut.size() - 1);
  EXPECT_FALSE(Code(notElf).handle);
  EXPECT_THAT(Code(cut).error, HasSubstr("sections within the object"));
  EXPECT_THAT(debuggersView(), testing::IsEmpty());
  // No more than there is room for.
  const kvc_code_loader *loader = orcCodeLoader();
  char error[8] = "1234567";
  EXPECT_FALSE(
      loader->load(loader->context, notElf.data(), notElf.size(), error, 5));
  EXPECT_STREQ(error, "expe");
  EXPECT_STREQ(error + 5, "67");

  auto device = Device::cpu(1, loader);
  Bytes artifact = packWith(cut);
  auto program = Program::load(*device, std::as_bytes(std::span(artifact)));
  ASSERT_FALSE(program);
  EXPECT_EQ(program.status().code(), KVC_CORRUPT);
  EXPECT_THAT(program.status().text(),
              HasSubstr("`" + kernel().blob + "`: expected"));
}

TEST(OrcLoader, SaysWhatTheLinkerSays) {
  // The runtime's loader has no use for unwind tables, and does not look.
  Bytes bad = object();
  auto file = llvm::object::ObjectFile::createELFObjectFile(
      {llvm::toStringRef(bad), "object"});
  for (const llvm::object::ELFSectionRef section : (*file)->sections())
    if (cantFail(section.getName()) == ".rela.eh_frame") {
      auto *first = const_cast<char *>(cantFail(section.getContents()).data());
      reinterpret_cast<llvm::ELF::Elf64_Rela *>(first)->setSymbol(12345);
    }
  Code code(bad);
  EXPECT_FALSE(code.handle);
  EXPECT_THAT(code.error, HasSubstr("it goes past the end of the section"));
  EXPECT_THAT(debuggersView(), testing::IsEmpty());
}

TEST(OrcLoader, LeavesNothingBehind) {
  Bytes good = object(), bad = good;
  bad.resize(bad.size() - 1);
  auto round = [&] {
    for (int i = 0; i < 50; ++i) {
      EXPECT_TRUE(Code(good).handle);
      EXPECT_FALSE(Code(bad).handle);
    }
  };
  round(); // LLVM's own tables, and the allocator's
  size_t before = mappings();
  round();
  EXPECT_LE(mappings(), before + 5);
  EXPECT_THAT(debuggersView(), testing::IsEmpty());
}

TEST(OrcLoader, LoadsOnManyThreads) {
  Bytes bytes = object();
  bundle();
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i)
    threads.emplace_back([&] {
      for (int round = 0; round < 20; ++round) {
        Code first(bytes), second(bytes);
        ASSERT_TRUE(first.handle && second.handle);
        EXPECT_NE(first.symbol(kernel().symbol), 0u);
        EXPECT_NE(first.symbol(kernel().symbol),
                  second.symbol(kernel().symbol));
      }
    });
  for (std::thread &thread : threads)
    thread.join();
  EXPECT_THAT(debuggersView(), testing::IsEmpty());
}

/// Reads a dump as `perf inject` does, from its header on.
static void checkDump(llvm::StringRef dump, const std::string &wanted) {
  auto u32 = [&](size_t at) {
    return llvm::support::endian::read32le(dump.data() + at);
  };
  auto u64 = [&](size_t at) {
    return llvm::support::endian::read64le(dump.data() + at);
  };
  ASSERT_GE(dump.size(), 40u);
  EXPECT_EQ(u32(0), 0x4A695444u);
  EXPECT_EQ(u32(4), 1u);
  EXPECT_EQ(u32(8), 40u);
  EXPECT_EQ(u32(12), 62u); // EM_X86_64
  EXPECT_EQ(u32(20), uint32_t(getpid()));
  size_t at = 40, functions = 0;
  bool found = false;
  while (at < dump.size()) {
    ASSERT_LE(at + 56, dump.size());
    uint32_t size = u32(at + 4);
    ASSERT_LE(at + size, dump.size());
    EXPECT_EQ(u32(at), 0u); // code that is loaded
    EXPECT_EQ(u64(at + 24), u64(at + 32));
    EXPECT_EQ(u64(at + 48), functions++);
    llvm::StringRef name = dump.data() + at + 56;
    uint64_t bytes = u64(at + 40);
    ASSERT_EQ(size, 56 + name.size() + 1 + bytes);
    found |= name == wanted;
    at += size;
  }
  EXPECT_TRUE(found);
}

TEST(OrcLoader, ADumpThatCannotBeWrittenFailsTheLoad) {
  test::TempDir folder;
  std::string directory = folder.path();
  object(); // compiled before the limit
  pid_t child = fork();
  if (child == 0) {
    setenv("JITDUMPDIR", directory.c_str(), 1);
    std::string why;
    const kvc_code_loader *loader = orcDumpingCodeLoader(why);
    rlimit limit{100, 100};
    setrlimit(RLIMIT_FSIZE, &limit);
    char error[512] = "";
    bool loaded = loader && loader->load(loader->context, object().data(),
                                         object().size(), error, sizeof(error));
    llvm::StringRef text = error;
    _exit(loaded                                            ? 1
          : !text.starts_with("cannot write `" + directory) ? 2
          : !text.ends_with(".dump`: File too large")       ? 3
                                                            : 0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  std::error_code error;
  for (llvm::sys::fs::recursive_directory_iterator at(directory, error), end;
       at != end && !error; at.increment(error))
    if (llvm::StringRef(at->path()).ends_with(".dump")) {
      uint64_t bytes = 0;
      EXPECT_FALSE(llvm::sys::fs::file_size(at->path(), bytes));
      EXPECT_EQ(bytes, 40u); // whole records
    }
}

TEST(OrcLoader, WritesWhatPerfReads) {
  test::TempDir folder;
  std::string directory = folder.path();
  setenv("JITDUMPDIR", directory.c_str(), 1);
  std::string none = folder.path("none");
  std::ofstream(none) << "a file";
  setenv("JITDUMPDIR", none.c_str(), 1);
  std::string why;
  EXPECT_EQ(orcDumpingCodeLoader(why), nullptr);
  EXPECT_EQ(why, "cannot create `" + none + "/.debug/jit`: Not a directory");
  setenv("JITDUMPDIR", directory.c_str(), 1);
  const kvc_code_loader *loader = orcDumpingCodeLoader(why);
  ASSERT_TRUE(loader) << why;
  EXPECT_EQ(orcDumpingCodeLoader(why), loader);
  EXPECT_TRUE(Code(object(), loader).handle);
  std::error_code error;
  std::string dump;
  for (llvm::sys::fs::recursive_directory_iterator at(directory, error), end;
       at != end && !error; at.increment(error))
    if (llvm::StringRef(at->path()).ends_with(".dump"))
      dump = test::readFile(at->path());
  checkDump(dump, kernel().symbol);
  // The plain loader does not write.
  EXPECT_NE(orcCodeLoader(), loader);
  EXPECT_EQ(orcCodeLoader()->context, nullptr);
}
