//===- GpuFixture.cpp - the fixture's artifact, for GPUs ------------------===//
#include "test/unit/Runtime/GpuFixture.h"

#include "lib/base/Artifact/File.h"
#include "lib/base/Artifact/GpuAbi.h"
#include "lib/base/Artifact/KernelKey.h"
#include "lib/base/Simt/InstructionSet.h"

#include <cstdio>
#include <cstdlib>
#include <map>

using namespace kvc;
using namespace kvc::test;
using artifact::KernelInfo;

namespace {
struct Attend {
  const char *store, *symbol;
  uint32_t minQueries, rows, split;
};
} // namespace

static constexpr Attend kAttends[] = {{"paged", "attend0", 1, 6, 8},
                                      {"paged", "attend1", 4, 10, 12},
                                      {"window", "attend0", 1, 4, 4},
                                      {"flat", "attend0", 1, 8, 0}};
static constexpr const char *kSites =
    "where gpu_kernels.c\nread gpu_kernels.c\nwrite gpu_kernels.c\n"
    "join gpu_kernels.c\n";

static KernelInfo kernel(const char *store, const char *symbol,
                         const std::string &device, const std::string &target) {
  KernelInfo info;
  info.name = std::string(store) + "." + symbol;
  info.kind = symbol;
  info.store = store;
  info.target = target;
  info.device = device;
  info.symbol = std::string(store) + "_" + symbol;
  bool moves = info.kind == "append" || info.kind == "gather";
  info.threads = moves ? 64 : 32;
  // As the compiler has it: attend kernels apart from the small ones.
  bool small = info.kind == "plan" || moves;
  std::string entry = device + "/" + target + (small ? ".1" : ".0");
  info.blob = entry + (device == "cuda" ? ".cubin" : ".o");
  (device == "cuda" ? info.ptx : info.sites) =
      entry + (device == "cuda" ? ".ptx" : ".sites");
  return info;
}

void kvc::test::addGpuTarget(artifact::Manifest &manifest,
                             const std::string &device,
                             const std::string &target) {
  for (const Attend &attend : kAttends) {
    KernelInfo info = kernel(attend.store, attend.symbol, device, target);
    info.kind = "attend";
    info.minQueries = attend.minQueries;
    info.maxQueries = attend.rows / (kQueryHeads / kHeads);
    info.rows = attend.rows;
    info.split = attend.split;
    info.tileTokens = 1;
    info.sharedBytes = device == "cuda" ? 100 * 1024 : 0;
    listBlock(info);
    manifest.kernels.push_back(info);
  }
  for (const char *store : {"paged", "window", "flat"})
    for (const char *kind : {"plan", "append", "gather"}) {
      KernelInfo info = kernel(store, kind, device, target);
      listBlock(info, std::string(store) == "paged" ? 2 : 1);
      manifest.kernels.push_back(info);
    }
}

artifact::Manifest
kvc::test::gpuManifest(const std::string &device,
                       const std::vector<std::string> &targets) {
  artifact::Manifest manifest = fixtureManifest();
  manifest.kernels.clear();
  manifest.gpuAbi = KVC_GPU_ABI;
  for (const std::string &target : targets)
    addGpuTarget(manifest, device, target);
  return manifest;
}

std::vector<uint8_t> kvc::test::packGpu(artifact::Manifest manifest) {
  artifact::bindSymbols(manifest);
  std::string error;
  auto host = artifact::MappedFile::open(KVC_TEST_KERNELS, 1u << 20, error);
  auto object =
      artifact::MappedFile::open(KVC_TEST_GPU_KERNELS, 1u << 20, error);
  std::map<std::string, std::string> texts;
  for (const KernelInfo &kernel : manifest.kernels) {
    texts[kernel.sites] = kernel.sites == kStrangeSites
                              ? kSites
                              : simt::instructionSetLine() + "\n" + kSites;
    texts[kernel.ptx] = "PTX " + kernel.target;
    texts[kernel.blob] = "CUBIN " + kernel.target;
    const auto &from = kernel.device == "cpu" ? host : object;
    if (from && kernel.blob.ends_with(".o")) {
      auto named = withSymbols(from->bytes(), manifest);
      texts[kernel.blob].assign(named.begin(), named.end());
    }
  }
  texts.erase("");
  std::vector<artifact::Entry> entries;
  for (const auto &[name, text] : texts)
    entries.push_back(
        {name, {reinterpret_cast<const uint8_t *>(text.data()), text.size()}});
  std::vector<uint8_t> bytes = artifact::pack(manifest, entries, error);
  if (!host || !object || bytes.empty()) {
    std::fprintf(stderr, "the fixture is broken: %s\n", error.c_str());
    std::abort();
  }
  return bytes;
}

static kvc_device *sim(uint64_t seed) {
  kvc_sim_options options = {};
  options.size = sizeof(options);
  options.target = "sm_80";
  options.seed = seed;
  kvc_device *device = nullptr;
  if (kvc_device_create_sim(&options, &device).code) {
    std::fprintf(stderr, "the fixture is broken: %s\n", kvc_error_text());
    std::abort();
  }
  return device;
}

LoadedSim::LoadedSim(uint64_t seed)
    : Loaded(sim(seed), packGpu(gpuManifest("sim", {"sm_80"}))) {}
