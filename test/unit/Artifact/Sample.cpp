//===- Sample.cpp - a small valid artifact for tests ----------------------===//
#include "Sample.h"

#include "lib/base/Artifact/KernelKey.h"
#include "test/support/Files.h"

#include <gtest/gtest.h>

#include <sstream>

using namespace kvc::artifact;

static StoreInfo pagedStore() {
  StoreInfo store;
  store.name = "window";
  store.layers = {0, 1, 3};
  store.headBegin = 0, store.headEnd = 2;
  store.paged = true;
  store.page = 16;
  store.order = "HND";
  store.planes = {{"k", "codes", "i8", 64, 1, 64, 64, 16 * 64, 0},
                  {"k", "scales", "f32", 1, 1, 4, 4, 16 * 4, 2 * 16 * 64},
                  {"v", "codes", "bf16", 32, 1, 64, 64, 16 * 64, 2 * 16 * 68}};
  store.pageBytes = 2 * 16 * (64 + 4 + 64);
  store.window = true;
  store.sink = 4, store.recent = 1024;
  return store;
}

static StoreInfo contiguousStore() {
  StoreInfo store;
  store.name = "full";
  store.layers = {2};
  store.headBegin = 0, store.headEnd = 2;
  store.paged = false;
  store.order = "NHD";
  store.planes = {{"k", "codes", "f16", 64, 1, 128, 256, 0, 0},
                  {"v", "codes", "f16", 32, 1, 64, 128, 0, 0}};
  return store;
}

/// Some words of every scope that a kernel of this kind can ask for.
static void addParams(KernelInfo &kernel) {
  ParamBlock block;
  if (kernel.kind == "append")
    block.offsetOf(Word::Slot);
  else
    block.offsetOf(Word::CuQ);
  if (kernel.kind == "attend")
    for (Word word : {Word::PlaneBase, Word::PlanePageStride})
      for (const char *plane : {"k.codes", "v.codes"})
        block.offsetOf(word, plane);
  if (kernel.kind == "plan")
    block.offsetOf(Word::WorkTiles, "attend.0");
  else if (kernel.device != "cpu")
    block.offsetOf(Word::WorkCount);
  kernel.params = block.params();
  kernel.paramBytes = block.bytes();
}

Manifest kvc::artifact::sampleManifest() {
  Manifest m;
  m.cpuAbi = 2;
  m.producer = "kvc 0.1.0, LLVM 22.1.8";
  m.specName = "sample";
  m.key = "00ff12ab";
  m.model = {4, 6, 2, 64, 32, "bf16", 0.125};
  m.stores = {pagedStore(), contiguousStore()};
  for (const char *store : {"window", "full"}) {
    std::string prefix = std::string(store) + ".";
    KernelInfo kernel;
    kernel.store = store;
    kernel.target = "x86-64-v3";
    kernel.features = {"avx2", "fma"};
    kernel.symbol = "kvc_golden";
    kernel.blob = kSampleBlob;
    kernel.schedule = "#kvc.schedule<block = 16>";
    kernel.kind = "append", kernel.name = prefix + "append";
    addParams(kernel);
    m.kernels.push_back(kernel);
    kernel.kind = "merge", kernel.name = prefix + "merge";
    addParams(kernel);
    m.kernels.push_back(kernel);
    kernel.kind = "attend", kernel.name = prefix + "attend.decode";
    kernel.scratchBytes = 8192;
    kernel.split = 512, kernel.tileTokens = 16;
    kernel.minQueries = 1, kernel.maxQueries = 16;
    addParams(kernel);
    m.kernels.push_back(kernel);
    kernel.name = prefix + "attend.prefill";
    kernel.minQueries = 17, kernel.maxQueries = 64;
    m.kernels.push_back(kernel);
  }
  bindSymbols(m);
  return m;
}

Manifest kvc::artifact::gpuSampleManifest() {
  Manifest m = sampleManifest();
  m.gpuAbi = 2;
  m.kernels.erase(m.kernels.begin() + 1, m.kernels.end());
  KernelInfo binary, ptx, sim;
  binary.device = ptx.device = "cuda";
  binary.target = sim.target = "sm_90a";
  binary.blob = "cuda/sm_90a.cubin", binary.ptx = "cuda/sm_90a.ptx";
  binary.registers = 168;
  ptx.target = "sm_100a";
  ptx.ptx = "cuda/sm_100a.ptx";
  sim.device = "sim";
  sim.blob = "sim/sm_90a.o", sim.sites = "sim/sm_90a.sites";
  for (KernelInfo kernel : {binary, ptx, sim})
    for (const char *kind : {"plan", "attend"}) {
      kernel.store = "window";
      kernel.kind = kind, kernel.name = std::string("window.") + kind;
      kernel.symbol = std::string("window_") + kind;
      kernel.threads = 256;
      addParams(kernel);
      if (kernel.kind == "attend") {
        kernel.schedule = "#kvc.schedule<block = 64>";
        kernel.minQueries = 1, kernel.maxQueries = 21;
        kernel.split = 256, kernel.tileTokens = 64;
        kernel.sharedBytes = 100000;
        kernel.rows = 64;
      }
      m.kernels.push_back(kernel);
    }
  bindSymbols(m);
  return m;
}

std::vector<Entry> kvc::artifact::gpuSampleEntries() {
  std::vector<Entry> entries;
  for (const char *name :
       {"cuda/sm_90a.cubin", "cuda/sm_90a.ptx", "cuda/sm_100a.ptx",
        "sim/sm_90a.o", "sim/sm_90a.sites"})
    entries.push_back({name,
                       {reinterpret_cast<const uint8_t *>(name),
                        std::char_traits<char>::length(name)}});
  return entries;
}

std::vector<uint8_t> kvc::artifact::readFile(const std::string &path) {
  auto bytes = kvc::test::readFile<std::vector<uint8_t>>(path);
  EXPECT_FALSE(bytes.empty()) << path;
  return bytes;
}

std::vector<uint8_t> kvc::artifact::testObject(const std::string &name) {
  std::istringstream paths(KVC_TEST_OBJECTS);
  for (std::string path; std::getline(paths, path, ':');)
    if (path.find("/" + name + ".c") != path.npos)
      return readFile(path);
  ADD_FAILURE() << "no object " << name;
  return {};
}

std::string kvc::artifact::goldenPath(const char *version) {
  return std::string(KVC_TEST_DATA) + "/golden-" + version + ".kvca";
}
