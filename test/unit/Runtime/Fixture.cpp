//===- Fixture.cpp - an artifact without a compiler, and its meaning ------===//
#include "test/unit/Runtime/Fixture.h"

#include "lib/base/Artifact/File.h"
#include "lib/base/Artifact/KernelAbi.h"
#include "lib/base/Artifact/KernelKey.h"
#include "test/unit/Runtime/Aliases.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>

using namespace kvc;
using namespace kvc::test;
using artifact::KernelInfo;
using artifact::StoreInfo;
using artifact::Word;

static StoreInfo store(const char *name, uint32_t layer, uint32_t headBegin,
                       uint32_t headEnd, uint32_t page, const char *order) {
  StoreInfo info;
  info.name = name;
  info.layers = {layer};
  info.headBegin = headBegin;
  info.headEnd = headEnd;
  info.paged = page != 0;
  info.page = page;
  info.order = order;
  uint32_t heads = headEnd - headBegin;
  bool hnd = info.order == "HND";
  for (int dim : {kDimK, kDimV}) {
    artifact::PlaneInfo plane;
    plane.stream = dim == kDimK ? "k" : "v";
    plane.role = "codes";
    plane.type = "f32";
    plane.elements = uint32_t(dim);
    plane.rowBytes = uint32_t(dim * 4);
    plane.rowStride = hnd ? plane.rowBytes : heads * plane.rowBytes;
    plane.headStride = !page ? 0 : hnd ? page * plane.rowBytes : plane.rowBytes;
    plane.pageOffset = info.pageBytes;
    info.pageBytes += heads * page * plane.rowBytes;
    info.planes.push_back(plane);
  }
  return info;
}

namespace {
/// Lists words as the structs of blocks.h have them.
class BlockList {
public:
  explicit BlockList(KernelInfo &info) : info(info) {
    info.params.clear();
    info.paramBytes = 0;
  }
  void skip() { info.paramBytes += artifact::kWordBytes; }
  void add(std::initializer_list<Word> words, const std::string &of = "") {
    for (Word word : words) {
      info.params.push_back(
          {info.paramBytes, artifact::kWords[size_t(word)].name, of});
      skip();
    }
  }
  void addPlanes() {
    for (const char *plane : {"k.codes", "v.codes"})
      add({Word::PlaneBase, Word::PlanePageStride, Word::PlaneHeadStride},
          plane);
  }
  void addWork(const std::string &of = "") {
    add({Word::WorkTiles, Word::WorkCount, Word::WorkCounters,
         Word::WorkCapacity},
        of);
  }

private:
  KernelInfo &info;
};
} // namespace

void kvc::test::listBlock(KernelInfo &info, uint32_t attends) {
  BlockList list(info);
  if (info.kind == "append" || info.kind == "gather") {
    list.skip();
    list.add({Word::Rows});
    list.addPlanes();
    list.add({Word::K, Word::KRowStride, Word::KHeadStride, Word::V,
              Word::VRowStride, Word::VHeadStride, Word::Slot,
              Word::SlotTokens});
  } else if (info.kind == "plan") {
    list.add({Word::CuQ, Word::KvLen, Word::SplitRow, Word::Batch,
              Word::MaxKvLen, Word::SplitRows});
    for (uint32_t i = 0; i < attends; ++i)
      list.addWork(artifact::attendName(i));
  } else {
    list.add({Word::Q, Word::QRowStride, Word::QHeadStride, Word::Out,
              Word::OutRowStride, Word::OutHeadStride, Word::Lse,
              Word::LseRowStride, Word::LseHeadStride, Word::CuQ, Word::KvLen,
              Word::Table, Word::TableStride});
    if (info.device == "cpu")
      list.skip();
    else
      list.add({Word::SplitRow});
    list.add({Word::PartialO, Word::PartialLse});
    list.addPlanes();
    if (info.device != "cpu")
      list.addWork();
  }
}

static KernelInfo kernel(const char *store, const char *kind,
                         const char *suffix = "", uint32_t minQueries = 0,
                         uint32_t maxQueries = 0, uint32_t split = 0) {
  KernelInfo info;
  info.name = std::string(store) + "." + kind + suffix;
  info.kind = kind;
  info.store = store;
  info.target = "generic";
  info.symbol = std::string(store) + "_" + kind;
  info.blob = "cpu/generic.o";
  info.scratchBytes = info.kind == "attend" ? kDimV * sizeof(double) : 0;
  info.minQueries = minQueries;
  info.maxQueries = maxQueries;
  info.split = split;
  info.tileTokens = info.kind == "attend";
  listBlock(info);
  return info;
}

artifact::Manifest kvc::test::fixtureManifest() {
  artifact::Manifest m;
  m.cpuAbi = KVC_CPU_ABI;
  m.producer = "the runtime's tests";
  m.specName = "fixture";
  m.key = "0123456789abcdef";
  m.model = {kLayers, kQueryHeads, kHeads, kDimK, kDimV, "f32", 0.5};
  m.stores = {store("paged", 0, 0, 2, 4, "HND"),
              store("window", 1, 0, 1, 8, "NHD"),
              store("flat", 1, 1, 2, 0, "HND")};
  m.stores[kWindow].window = true;
  m.stores[kWindow].sink = 3;
  m.stores[kWindow].recent = 6;
  m.kernels = {kernel("paged", "attend", ".decode", 1, 3, 8),
               kernel("paged", "attend", ".prefill", 4, 5, 12),
               kernel("window", "attend", ".decode", 1, 2, 4),
               kernel("flat", "attend", ".decode", 1, 4, 0)};
  for (const char *store : {"paged", "window", "flat"})
    for (const char *kind : {"merge", "append", "gather"})
      m.kernels.push_back(kernel(store, kind));
  return m;
}

std::vector<uint8_t>
kvc::test::withSymbols(std::span<const uint8_t> object,
                       const artifact::Manifest &manifest) {
  std::vector<std::pair<std::string, std::string>> symbols;
  for (const KernelInfo &kernel : manifest.kernels)
    symbols.emplace_back(artifact::unboundSymbol(kernel.symbol), kernel.symbol);
  return withAliases(object, symbols);
}

std::vector<uint8_t> kvc::test::pack(artifact::Manifest manifest) {
  artifact::bindSymbols(manifest);
  std::string error;
  auto object = artifact::MappedFile::open(KVC_TEST_KERNELS, 1u << 20, error);
  std::vector<uint8_t> bytes;
  if (object) {
    std::vector<uint8_t> named = withSymbols(object->bytes(), manifest);
    artifact::Entry entry = {"cpu/generic.o", named};
    bytes = artifact::pack(manifest, {&entry, 1}, error);
  }
  if (bytes.empty()) {
    std::fprintf(stderr, "the fixture is broken: %s\n", error.c_str());
    std::abort();
  }
  return bytes;
}

static void need(const kvc_status &status) {
  if (status.code == KVC_OK)
    return;
  std::fprintf(stderr, "the fixture is broken: %s\n", kvc_error_text());
  std::abort();
}

static kvc_device *cpu(uint32_t threads, const kvc_parallel *parallel) {
  kvc_cpu_options options = {};
  options.size = sizeof(options);
  options.threads = threads;
  options.parallel = parallel;
  kvc_device *device = nullptr;
  need(kvc_device_create_cpu(&options, &device));
  return device;
}

Loaded::Loaded(uint32_t threads, const kvc_parallel *parallel)
    : Loaded(cpu(threads, parallel), pack(fixtureManifest())) {}

Loaded::Loaded(kvc_device *device, const std::vector<uint8_t> &artifact)
    : device(device) {
  need(kvc_program_load(device, artifact.data(), artifact.size(), &program));
}

Loaded::~Loaded() {
  // In the order that needs the program to keep its device alive.
  kvc_device_release(device);
  kvc_program_release(program);
}

void Lent::add(const void *base, size_t bytes, bool writable) {
  // Refused, and no matter, if the device is none.
  if (kvc_sim_allow(device, base, bytes, writable).code == KVC_OK)
    bases.push_back(base);
}

Lent::~Lent() {
  for (const void *base : bases)
    kvc_sim_forget(device, base);
}

Rows Rows::random(uint32_t rows, int heads, int dim, uint32_t seed) {
  Rows made(rows, heads, dim);
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  for (float &value : made.values)
    value = normal(random);
  return made;
}

static void expectedHead(const History &history, bool window, int64_t position,
                         int queryHead, const float *q, double *out,
                         double &lse) {
  int head = queryHead / (kQueryHeads / kHeads);
  std::vector<std::pair<int64_t, double>> scores;
  double largest = -INFINITY, total = 0;
  for (int64_t t = 0; t <= position; ++t) {
    if (window && t >= 3 && t <= position - 6)
      continue;
    double x = 0;
    for (int c = 0; c < kDimK; ++c)
      x += double(q[queryHead * kDimK + c]) *
           history.k[size_t(t)][size_t(head * kDimK + c)];
    scores.push_back({t, x * 0.5});
    largest = std::max(largest, x * 0.5);
  }
  std::fill_n(out, kDimV, 0.0);
  for (auto &[t, x] : scores)
    total += std::exp(x - largest);
  for (auto &[t, x] : scores)
    for (int c = 0; c < kDimV; ++c)
      out[c] += std::exp(x - largest) / total *
                history.v[size_t(t)][size_t(head * kDimV + c)];
  lse = largest + std::log(total);
}

void kvc::test::expectedOfStore(const History &history, uint32_t store,
                                int64_t position, const float *q, double *out,
                                double *lse) {
  int first = store == kFlat ? 2 : 0, last = store == kWindow ? 2 : 4;
  for (int h = first; h < last; ++h)
    expectedHead(history, store == kWindow, position, h, q, out + h * kDimV,
                 lse[h]);
}

void kvc::test::expectedAttention(const History &history, int layer,
                                  int64_t position, const float *q, double *out,
                                  double *lse) {
  if (layer == 0)
    return expectedOfStore(history, kPaged, position, q, out, lse);
  expectedOfStore(history, kWindow, position, q, out, lse);
  expectedOfStore(history, kFlat, position, q, out, lse);
}
