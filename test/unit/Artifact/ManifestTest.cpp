//===- ManifestTest.cpp - what read() takes and refuses -------------------===//
#include "Sample.h"

#include "lib/base/Artifact/Json.h"
#include "lib/base/Artifact/KernelKey.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <functional>

using namespace kvc::artifact;
using nlohmann::json;
using Pointer = json::json_pointer;

static std::string errorOf(const std::string &text) {
  std::string error;
  EXPECT_FALSE(read(text, error)) << text;
  EXPECT_FALSE(error.empty());
  EXPECT_EQ(error.find('\n'), error.npos) << error;
  return error;
}

TEST(Manifest, RoundTrip) {
  std::string error, text = write(sampleManifest());
  std::optional<Manifest> back = read(text, error);
  ASSERT_TRUE(back) << error;
  EXPECT_EQ(*back, sampleManifest());
  EXPECT_EQ(write(*back), text);
}

TEST(Manifest, RoundTripOfGpuKernels) {
  std::string error, text = write(gpuSampleManifest());
  std::optional<Manifest> back = read(text, error);
  ASSERT_TRUE(back) << error;
  EXPECT_EQ(*back, gpuSampleManifest());
  EXPECT_EQ(write(*back), text);
  const KernelInfo &attend = back->kernels[2];
  EXPECT_EQ(attend.device, "cuda");
  EXPECT_EQ(attend.kind, "attend");
  EXPECT_EQ(attend.threads, 256u);
  EXPECT_EQ(attend.sharedBytes, 100000u);
  EXPECT_EQ(attend.rows, 64u);
  EXPECT_EQ(attend.registers, 168u);
  EXPECT_EQ(attend.ptx, "cuda/sm_90a.ptx");
  EXPECT_EQ(attend.sites, "");
  EXPECT_EQ(back->kernels[4].blob, "") << "PTX alone";
  EXPECT_EQ(back->kernels[6].device, "sim");
  EXPECT_EQ(back->kernels[6].sites, "sim/sm_90a.sites");
  EXPECT_EQ(back->gpuAbi, 2u);
  const ParamInfo &tiles = back->kernels[1].params.back();
  EXPECT_EQ(tiles.offset, 8u);
  EXPECT_EQ(tiles.what, "work.tiles");
  EXPECT_EQ(tiles.of, "attend.0");
  EXPECT_EQ(back->kernels[1].paramBytes, 16u);
}

TEST(Manifest, KeysAreInAFixedOrder) {
  std::string text = write(sampleManifest());
  size_t last = 0;
  for (const char *key :
       {"\"format\"", "\"cpu_abi\"", "\"gpu_abi\"", "\"producer\"",
        "\"spec_name\"", "\"key\"", "\"model\"", "\"stores\"", "\"kernels\""}) {
    size_t at = text.find(key);
    ASSERT_NE(at, text.npos) << key;
    EXPECT_GE(at, last) << key;
    last = at;
  }
}

TEST(Manifest, UnknownKeysAreIgnored) {
  json document = json::parse(write(sampleManifest()));
  document["later"] = {{"x", 1}};
  document["stores"][0]["later"] = "y";
  document["format"]["minor"] = 7;
  std::string error;
  std::optional<Manifest> back = read(document.dump(), error);
  ASSERT_TRUE(back) << error;
  EXPECT_EQ(back->formatMinor, 7u);
  back->formatMinor = kFormatMinor;
  EXPECT_EQ(*back, sampleManifest());
}

namespace {
/// One change of the sample and the start of the message that refuses it.
struct Change {
  const char *pointer;
  json value;
  std::string error;
};
} // namespace

static void expectRefused(const std::vector<Change> &changes,
                          const Manifest &sample = sampleManifest()) {
  for (const Change &change : changes) {
    json document = json::parse(write(sample));
    document[Pointer(change.pointer)] = change.value;
    std::string error = errorOf(document.dump());
    EXPECT_EQ(error.substr(0, change.error.size()), change.error)
        << change.pointer << " = " << change.value;
  }
}

TEST(Manifest, RefusesValuesOutOfRange) {
  expectRefused({
      {"/format/major", 6,
       "/format/major: expected an artifact of format 5, found 6, of a later"},
      {"/format/major", 4,
       "/format/major: expected an artifact of format 5, found 4, of an "
       "earlier"},
      {"/format/major", 0, "/format/major: expected an artifact of format 5"},
      {"/format/major", "5", "/format/major: expected an integer"},
      {"/cpu_abi", -1, "/cpu_abi"},
      {"/cpu_abi", 1.0, "/cpu_abi: expected an integer"},
      {"/cpu_abi", 4294967296, "/cpu_abi"},
      {"/producer", "two\nlines", "/producer: expected printable ASCII"},
      {"/spec_name", "", "/spec_name"},
      {"/spec_name", "a b", "/spec_name: expected letters"},
      {"/spec_name", std::string("a\0b", 3), "/spec_name: expected letters"},
      {"/spec_name", std::string(65, 'a'), "/spec_name"},
      {"/key", "", "/key"},
      {"/model", 3, "/model: expected an object"},
      {"/model/layers", 0, "/model/layers"},
      {"/model/layers", 4097, "/model/layers"},
      {"/model/layers", "4", "/model/layers"},
      {"/model/q_heads", 5, "/model/q_heads: expected a multiple of 2"},
      {"/model/kv_heads", 0, "/model/kv_heads"},
      {"/model/head_dim_k", 1u << 20, "/model/head_dim_k"},
      {"/model/dtype", "f64", "/model/dtype: expected one of `f32`"},
      {"/model/softmax_scale", 0, "/model/softmax_scale"},
      {"/model/softmax_scale", -1.5, "/model/softmax_scale"},
      {"/model/softmax_scale", "1", "/model/softmax_scale"},
      {"/stores", json::array(), "/stores: expected 1 to 256 elements"},
      {"/stores", json::object(), "/stores: expected an array"},
      {"/stores/0/layers", json::array(), "/stores/0/layers: expected 1 to"},
      {"/stores/0/layers", 3, "/stores/0/layers: expected an array"},
      {"/stores/0/layers", {0, -1, 3}, "/stores/0/layers/1"},
      {"/stores/0/layers", {0, 1, 4096}, "/stores/0/layers/2"},
      {"/stores/0/layers", json(std::vector<int>(4097)),
       "/stores/0/layers: expected 1 to 4096 elements"},
      {"/stores/0/kv_heads", {0}, "/stores/0/kv_heads: expected 2"},
      {"/stores/0/layout", "ring", "/stores/0/layout"},
      {"/stores/0/page", 0, "/stores/0/page"},
      {"/stores/0/page", 257, "/stores/0/page"},
      {"/stores/1/page", 16, "/stores/1/page"},
      {"/stores/0/order", "DNH", "/stores/0/order"},
      {"/stores/1/page_bytes", 64, "/stores/1/page_bytes"},
      {"/stores/0/page_bytes", 1ull << 40, "/stores/0/page_bytes"},
      {"/stores/0/window/recent", 0, "/stores/0/window/recent"},
      {"/stores/0/window/sink", 1u << 31, "/stores/0/window/sink"},
      {"/stores/0/window", true, "/stores/0/window: expected an object"},
      {"/stores/0/planes/0/type", "i9", "/stores/0/planes/0/type"},
      {"/stores/0/planes/0/stream", "Q",
       "/stores/0/planes/1: expected the codes of a stream"},
      {"/stores/0/planes/0/role", "", "/stores/0/planes/0/role"},
      {"/stores/0/planes/0/role", "zeros",
       "/stores/0/planes/0: expected the codes of a stream"},
      {"/stores/0/planes/0/elements", 0, "/stores/0/planes/0/elements"},
      {"/kernels/0/kind", "", "/kernels/0/kind"},
      {"/kernels/0/kind", "a b", "/kernels/0/kind"},
      {"/kernels/0/kind", "evict", "/kernels/0/symbol: expected the key"},
      {"/kernels/0/param_bytes", 4104, "/kernels/0/param_bytes"},
      {"/kernels/0/params", json::object(), "/kernels/0/params"},
      {"/kernels/0/params/0/offset", -8, "/kernels/0/params/0/offset"},
      {"/kernels/0/params/0/offset", 1ull << 32, "/kernels/0/params/0/offset"},
      {"/kernels/0/params/0/what", "", "/kernels/0/params/0/what"},
      {"/kernels/0/params/0/of", "a b", "/kernels/0/params/0/of"},
      {"/kernels/0/symbol", "a-b", "/kernels/0/symbol"},
      {"/kernels/0/features", {""}, "/kernels/0/features/0"},
      {"/kernels/0/features", json::array({1}), "/kernels/0/features/0"},
      {"/kernels/0/min_queries", 1, "/kernels/0/min_queries"},
      {"/kernels/2/min_queries", 0, "/kernels/2/min_queries"},
      {"/kernels/2/max_queries", 0, "/kernels/2/max_queries"},
      {"/kernels/2/split", 1u << 31, "/kernels/2/split"},
      {"/kernels/1/split", 1, "/kernels/1/split"},
      {"/kernels/2/scratch_bytes", 1ull << 62, "/kernels/2/scratch_bytes"},
      {"/kernels/2/schedule", std::string(4097, 'x'), "/kernels/2/schedule"},
  });
}

TEST(Manifest, RefusesGpuKernelsThatCannotBe) {
  // Plan and attend: 1, 2 of sm_90a, 3, 4 of sm_100a, 5, 6 of the sim.
  expectRefused(
      {
          {"/gpu_abi", -1, "/gpu_abi"},
          {"/kernels/1/device", "tpu", "/kernels/1/device: expected one of"},
          {"/kernels/1/threads", 31, "/kernels/1/threads"},
          {"/kernels/1/threads", 1025, "/kernels/1/threads"},
          {"/kernels/1/threads", 129,
           "/kernels/1/threads: expected whole warps, so a multiple of 32, "
           "found 129"},
          {"/kernels/2/tile_tokens", 96,
           "/kernels/2/split: expected whole tiles, so a multiple of 96"},
          {"/kernels/2/tile_tokens", 0, "/kernels/2/tile_tokens"},
          {"/kernels/1/tile_tokens", 1, "/kernels/1/tile_tokens"},
          {"/kernels/2/split", 250, "/kernels/2/split: expected whole tiles"},
          {"/kernels/1/rows", 1, "/kernels/1/rows"},
          {"/kernels/2/rows", 0, "/kernels/2/rows"},
          {"/kernels/2/rows", 1025, "/kernels/2/rows"},
          {"/kernels/2/shared_bytes", (1u << 20) + 1,
           "/kernels/2/shared_bytes"},
          {"/kernels/2/registers", 256, "/kernels/2/registers"},
          {"/kernels/2/ptx", "", "/kernels/2/ptx"},
          {"/kernels/2/ptx", "a b", "/kernels/2/ptx"},
          {"/kernels/6/sites", "", "/kernels/6/sites"},
          {"/kernels/6/blob", "",
           "/kernels/6/blob: expected an entry's name, found none"},
          {"/kernels/0/blob", "",
           "/kernels/0/blob: expected an entry's name, found none"},
          {"/kernels/1/device", "cpu",
           "/kernels/1/params/1/of: `work.tiles` is expected of one of the 0 "
           "attend kernels"},
          {"/kernels/3/target", "sm_90a",
           "/kernels/3/name: `window.plan` is "
           "there twice for `sm_90a`"},
          {"/kernels/2/name", "window.plan",
           "/kernels/2/name: `window.plan` "
           "is there twice for `sm_90a`"},
      },
      gpuSampleManifest());
  Manifest twice = gpuSampleManifest();
  twice.kernels.push_back(twice.kernels[1]);
  twice.kernels.back().name = "window.plan2";
  EXPECT_EQ(errorOf(write(twice)), "/kernels/7: a second plan kernel of "
                                   "`window` for the same target and query "
                                   "tokens");
}

TEST(Manifest, RefusesBlocksThatDoNotAddUp) {
  // Kernel 2 attends: cu_q, and base and page stride of two planes.
  json many = json::array();
  for (unsigned i = 0; i < 513; ++i)
    many.push_back({{"offset", 8 * i}, {"what", "w" + std::to_string(i)}});
  expectRefused({
      {"/kernels/2/params", many,
       "/kernels/2/params: expected 0 to 512 elements"},
      {"/kernels/2/param_bytes", 44,
       "/kernels/2/param_bytes: expected a multiple of 8, found 44"},
      {"/kernels/2/param_bytes", 32,
       "/kernels/2/params/4/offset: expected the word to end by param_bytes "
       "32, found 40"},
      {"/kernels/2/params/4/offset", 4096,
       "/kernels/2/params/4/offset: expected the word to end by param_bytes "
       "40, found 4104"},
      {"/kernels/2/params/1/offset", 12,
       "/kernels/2/params/1/offset: expected a multiple of 8, found 12"},
      {"/kernels/2/params/1/offset", 0,
       "/kernels/2/params/1/offset: expected ascending offsets, so at least "
       "8, found 0"},
      {"/kernels/2/params/1/offset", 16,
       "/kernels/2/params/2/offset: expected ascending offsets, so at least "
       "24, found 16"},
      {"/kernels/2/params/0/what", "k.codes",
       "/kernels/2/params/0/what: expected a word that this version knows, "
       "found `k.codes`"},
      {"/kernels/2/params/0/of", "k.codes",
       "/kernels/2/params/0/of: `cu_q` is expected of nothing, found "
       "`k.codes`"},
      {"/kernels/2/params/1/of", "K.zeros",
       "/kernels/2/params/1/of: `plane.base` is expected of a plane of "
       "`window`, found `K.zeros`"},
      {"/kernels/2/params/1/what", "q",
       "/kernels/2/params/1/of: `q` is expected of nothing"},
      {"/kernels/2/params/0/what", "plane.base",
       "/kernels/2/params/0/of: `plane.base` is expected of a plane"},
      {"/kernels/2/params/2/of", "k.codes",
       "/kernels/2/params/2: `plane.base` is there twice"},
      {"/kernels/2/params/1/what", "constant.values",
       "/kernels/2/params/1/of: `constant.values` is expected of a constant of "
       "`window`, found `k.codes`"},
  });
  // Kernel 1 plans for one attend kernel, which is kernel 2.
  std::vector<Change> changes = {
      {"/kernels/2/params/5/of", "attend.0",
       "/kernels/2/params/5/of: `work.count` is expected of nothing"}};
  for (const char *of : {"attend.1", "attend.", "attend.00", "attend.0x",
                         "attend.4294967296", "attend.-0", "k.codes"})
    changes.push_back({"/kernels/1/params/1/of", of,
                       std::string("/kernels/1/params/1/of: `work.tiles` is "
                                   "expected of one of the 1 attend kernels, "
                                   "the first `attend.0`, found `") +
                           of});
  expectRefused(changes, gpuSampleManifest());
}

// A later compiler's kernels of other kinds stand in nobody's way.
TEST(Manifest, KindsAreOpen) {
  Manifest manifest = sampleManifest();
  for (const char *name : {"window.evict.1", "window.evict.2"}) {
    KernelInfo &kernel = manifest.kernels.emplace_back(manifest.kernels[0]);
    kernel.kind = "evict", kernel.name = name;
    kernel.params = {{8, "scores", "a.b"}, {24, "mask.of_pairs", ""}};
    kernel.paramBytes = 64;
  }
  bindSymbols(manifest);
  std::string error;
  EXPECT_EQ(read(write(manifest), error), manifest) << error;
  manifest.kernels.back().params[1].offset = 8;
  bindSymbols(manifest);
  EXPECT_EQ(errorOf(write(manifest)).substr(0, 28),
            "/kernels/9/params/1/offset: ");
}

// Artifacts of earlier compilers have none.
TEST(Manifest, AStoreMayHaveAGather) {
  Manifest manifest = sampleManifest();
  KernelInfo &kernel = manifest.kernels.emplace_back(manifest.kernels[0]);
  kernel.kind = "gather", kernel.name = "window.gather";
  bindSymbols(manifest);
  std::string error;
  EXPECT_EQ(read(write(manifest), error), manifest) << error;
  manifest.kernels.push_back(manifest.kernels.back());
  manifest.kernels.back().name += ".again";
  EXPECT_EQ(errorOf(write(manifest)).substr(0, 29),
            "/kernels/9: a second gather k");
  manifest.kernels.pop_back();
  manifest.kernels.back().params[0].what = "scores";
  bindSymbols(manifest);
  EXPECT_EQ(errorOf(write(manifest)).substr(0, 34),
            "/kernels/8/params/0/what: expected");
}

TEST(Manifest, AStoreHasFewAttendKernels) {
  Manifest manifest = sampleManifest();
  for (uint32_t i = 0; i < kMaxAttends; ++i) {
    manifest.kernels.push_back(manifest.kernels[3]);
    manifest.kernels.back().name += std::to_string(i);
    manifest.kernels.back().minQueries += 100 + i;
  }
  bindSymbols(manifest);
  EXPECT_EQ(errorOf(write(manifest)),
            "/kernels/0: expected at most 16 attend kernels of a store for a "
            "target, found 18");
}

TEST(Manifest, RefusesWhatDoesNotAddUp) {
  json plane = json::parse(write(sampleManifest()))["stores"][0]["planes"][2];
  expectRefused({
      {"/stores/0/layers",
       {0, 5},
       "/stores/0/layers/1: expected layers in ascending order below 4, found "
       "5"},
      {"/stores/0/layers", {0, 1, 1}, "/stores/0/layers/2: expected layers in"},
      {"/stores/0/layers",
       {0, 3, 1},
       "/stores/0/layers/2: expected layers in ascending order below 4, found "
       "1 after 3"},
      // What format 2 said of layers 0 to 3.
      {"/stores/0/layers", {0, 4}, "/stores/0/layers/1: expected layers in"},
      {"/stores/0/kv_heads", {0, 3}, "/stores/0/kv_heads: expected a range"},
      {"/stores/1/layers",
       {2, 3},
       "/stores/1: expected a scope of its own, found (layer 3, kv head 0) in "
       "`window`"},
      {"/stores/0/layers",
       {0, 1, 2, 3},
       "/stores/1: expected a scope of its own, found (layer 2, kv head 0) in "
       "`window`"},
      {"/stores/0/layers",
       {0, 3},
       "/stores: expected each (layer, kv head) in a store, found (layer 1, kv "
       "head 0) in none"},
      {"/model/layers", 5,
       "/stores: expected each (layer, kv head) in a store, "
       "found (layer 4, kv head 0) in none"},
      {"/stores/1/name", "window", "/stores/1/name: `window` is there twice"},
      {"/stores/0/page_bytes", 4225, "/stores/0/page_bytes: expected a mult"},
      {"/stores/0/page_bytes", 4160, "/stores/0/planes/2/page_offset"},
      {"/stores/0/planes/1/page_offset", 2016,
       "/stores/0/planes/1/page_offset: expected a multiple of 64"},
      {"/stores/0/planes/1/page_offset", 1984,
       "/stores/0/planes/1/page_offset: expected no overlap"},
      {"/stores/0/planes/2/page_offset", 1u << 30,
       "/stores/0/planes/2/page_offset: expected the plane to end"},
      {"/stores/0/planes/0/row_bytes", 128,
       "/stores/0/planes/0/row_bytes: expected 64, found 128"},
      {"/stores/0/planes/0/row_stride", 128,
       "/stores/0/planes/0/row_stride: expected 64, found 128"},
      {"/stores/0/planes/0/head_stride", 1025,
       "/stores/0/planes/0/head_stride: expected 1024, found 1025"},
      {"/stores/1/planes/0/row_stride", 128,
       "/stores/1/planes/0/row_stride: expected 256, found 128"},
      {"/stores/1/planes/0/head_stride", 128,
       "/stores/1/planes/0/head_stride: expected 0"},
      {"/stores/1/planes/1/page_offset", 64,
       "/stores/1/planes/1/page_offset: expected 0"},
      {"/stores/0/order", "NHD", "/stores/0/planes/0/row_stride"},
      {"/stores/1/planes/0/type", "f32", "/stores/1/planes/0/row_bytes"},
      {"/stores/0/planes/0/type", "f16", "/stores/0/planes/0/row_bytes"},
      {"/stores/0/planes/0/type", "i4",
       "/stores/0/planes/0/row_bytes: expected 32, found 64"},
      {"/stores/0/planes/1/type", "i4",
       "/stores/0/planes/1/elements: expected a row of whole bytes, found 4"},
      {"/stores/0/planes/1/elements", 2, "/stores/0/planes/1/row_bytes"},
      {"/stores/0/planes/0/elements", 32, "/stores/0/planes/0/row_bytes"},
      {"/stores/0/planes/0/row_tokens", 16, "/stores/0/planes/0/head_stride"},
      {"/stores/0/planes/0/row_tokens", 3,
       "/stores/0/planes/0/row_tokens: expected a divisor of a page's tokens, "
       "16, found 3"},
      {"/stores/1/planes/0/row_tokens", 2,
       "/stores/1/planes/0/row_tokens: expected 1, found 2"},
      {"/model/head_dim_k", 40,
       "/stores/0/planes/0/elements: expected the head dim 40"},
      {"/stores/0/planes/1/role", "codes",
       "/stores/0/planes/1: expected each role once in `k`, found codes again"},
      {"/model/head_dim_v", 40,
       "/stores/0/planes/2/elements: expected the head dim 40"},
      {"/stores/0/planes/0/stream", "a b", "/stores/0/planes/0/stream"},
      {"/stores/1/planes/0/stream", "w",
       "/stores/1/planes: expected a stream `k`"},
      // Without a stream of its own V is of K, and no kernel asks for it.
      {"/stores/0/planes/2/stream", "w", "/kernels/2/params/2/of"},
      {"/stores/0/planes/2/stream", "k",
       "/stores/0/planes/2: expected each role once in `k`, found codes"},
      {"/stores/0/planes/2/role", "scales",
       "/stores/0/planes/2: expected the codes of a stream"},
      {"/stores/0/planes/3", plane, "/stores/0/planes/3: expected each role"},
      {"/kernels/0/store", "other", "/kernels/0/store: expected the name"},
      {"/kernels/1/name", "window.append", "/kernels/1/name"},
      {"/kernels/1/kind", "append", "/kernels/1: a second append"},
      {"/kernels/3/min_queries", 1, "/kernels/3: a second attend"},
  });
}

TEST(Manifest, VMayBeOfK) {
  Manifest manifest = sampleManifest();
  std::erase_if(manifest.stores[0].planes,
                [](const PlaneInfo &plane) { return plane.stream == "v"; });
  // Which read it.
  std::erase_if(manifest.kernels, [](const KernelInfo &kernel) {
    return kernel.store == "window";
  });
  bindSymbols(manifest);
  std::string error;
  std::optional<Manifest> found = read(write(manifest), error);
  ASSERT_TRUE(found) << error;
  EXPECT_FALSE(found->stores[0].storesV());
  EXPECT_TRUE(found->stores[1].storesV());
  std::swap(manifest.model.headDimK, manifest.model.headDimV);
  for (StoreInfo &store : manifest.stores)
    for (PlaneInfo &plane : store.planes)
      if (plane.role == "codes")
        plane.elements = plane.stream == "k" ? manifest.model.headDimK
                                             : manifest.model.headDimV;
  for (PlaneInfo &plane : manifest.stores[0].planes)
    if (plane.role == "codes") {
      plane.rowBytes = plane.rowStride = 32;
      plane.headStride = 32 * manifest.stores[0].page;
    }
  bindSymbols(manifest);
  EXPECT_EQ(errorOf(write(manifest)),
            "/stores/0/planes: expected a stream `v`, whose rows are longer "
            "than those of `k`");
}

// A runtime multiplies a token's bytes with tokens, layers and sequences.
TEST(Manifest, ATokenHasBoundedBytes) {
  Manifest manifest = sampleManifest();
  manifest.stores.erase(manifest.stores.begin());
  std::erase_if(manifest.kernels, [](const KernelInfo &kernel) {
    return kernel.store != "full";
  });
  StoreInfo &store = manifest.stores[0];
  manifest.model.qHeads = manifest.model.kvHeads = store.headEnd = 4096;
  store.layers = {0, 1, 2, 3};
  auto withRow = [&](uint32_t elements) {
    store.planes.resize(2);
    store.planes.push_back(
        {"x", "codes", "f32", elements, 1, elements * 4, 0, 0, 0});
    for (PlaneInfo &plane : store.planes)
      plane.rowStride = 4096 * plane.rowBytes;
    bindSymbols(manifest);
    return write(manifest);
  };
  std::string error;
  EXPECT_TRUE(read(withRow(4048), error)) << error;
  EXPECT_EQ(errorOf(withRow(4049)),
            "/stores/0/planes/2/row_bytes: expected rows of all heads and "
            "planes of at most 67108864, found 67125248");
}

/// Calls `visit` with the pointer of every value of `node`.
static void walk(const json &node, const std::string &at,
                 const std::function<void(const std::string &)> &visit) {
  visit(at);
  for (const auto &[key, value] : node.items())
    if (node.is_structured())
      walk(value, at + '/' + key, visit);
}

TEST(Manifest, EveryKeyIsNeeded) {
  json document = json::parse(write(gpuSampleManifest()));
  unsigned removed = 0;
  walk(document, "", [&](const std::string &at) {
    size_t slash = at.rfind('/');
    if (slash == at.npos)
      return;
    json changed = document;
    json &parent = changed[Pointer(at.substr(0, slash))];
    std::string key = at.substr(slash + 1);
    if (!parent.is_object() || key == "window" || key == "of")
      return;
    parent.erase(key);
    ++removed;
    EXPECT_EQ(errorOf(changed.dump()), (slash ? at.substr(0, slash) : "/") +
                                           ": expected a key `" + key + "`");
  });
  EXPECT_GT(removed, 100u);
}

TEST(Manifest, AnyValueAnywhereIsRefusedOrReadBack) {
  json document = json::parse(write(gpuSampleManifest()));
  const std::vector<json> strange = {nullptr,
                                     true,
                                     -1,
                                     0,
                                     1.5,
                                     1e300,
                                     UINT64_MAX,
                                     INT64_MIN,
                                     "",
                                     "\xe2\x82\xac/",
                                     "x",
                                     json::array(),
                                     json::object(),
                                     json::array({1, 2})};
  walk(document, "", [&](const std::string &at) {
    for (const json &value : strange) {
      json changed = document;
      changed[Pointer(at)] = value;
      std::string error;
      std::optional<Manifest> manifest = read(changed.dump(), error);
      ASSERT_NE(manifest.has_value(), !error.empty()) << at << value;
      ASSERT_TRUE(!manifest || read(write(*manifest), error) == manifest)
          << at << value;
    }
  });
}

TEST(Manifest, RefusesTextThatIsNotOneDocument) {
  std::string good = write(sampleManifest());
  for (size_t size = 0; size + 2 < good.size(); ++size)
    errorOf(good.substr(0, size));
  EXPECT_EQ(errorOf(good + "x").substr(0, 16), "not JSON at byte");
  EXPECT_EQ(errorOf("[]"), "/: expected an object");
  EXPECT_EQ(errorOf(R"({"a": {"b": 1, "c": 2, "b": 3}})"),
            "/a/b: duplicate key");
  EXPECT_EQ(errorOf(R"([{"x~/\n": 1, "x~/\n": 2}])"),
            "/0/x~0~1?: duplicate key");
  EXPECT_EQ(errorOf(R"([0, {"x": []}, {"y": {}, "y": 2}])"),
            "/2/y: duplicate key");
  EXPECT_NE(errorOf(R"({"a": 1e400})").find("finite number"),
            std::string::npos);
  EXPECT_NE(errorOf(R"({"a": NaN})").find("not JSON"), std::string::npos);
}

TEST(Manifest, GateComesBeforeTheParser) {
  std::string deep(100000, '[');
  EXPECT_EQ(errorOf(deep), "expected a nesting of at most 32, found 100000");
  std::string big(kMaxJsonBytes, ' ');
  EXPECT_EQ(errorOf(big + "{}"),
            "expected at most 67108864 bytes, found 67108866");
  std::string many = "[0";
  for (unsigned i = 0; i < kMaxJsonValues; ++i)
    many += ",0";
  EXPECT_EQ(errorOf(many + "]"), "expected at most 4000000 values");
  // Brackets in strings do not nest, those after a string do.
  std::string brackets(40, '[');
  EXPECT_EQ(errorOf(R"({"a": "[\\\"[)" + brackets + "\"}"),
            "/: expected a key `format`");
  EXPECT_EQ(errorOf(R"({"a\\": )" + brackets).substr(0, 18),
            "expected a nesting");
}

/// A valid store over `heads` heads whose geometry follows from random choices.
TEST(Manifest, ConstantsOfAStoreAreByName) {
  Manifest manifest = sampleManifest();
  manifest.stores[0].constants = {{"age", 3}, {"tree", 64, "i32", true}};
  manifest.stores[0].causal = false;
  bindSymbols(manifest);
  std::string error;
  auto back = read(write(manifest), error);
  ASSERT_TRUE(back) << error;
  EXPECT_EQ(*back, manifest);
  expectRefused(
      {{"/stores/0/constants/0/size", 0, "/stores/0/constants/0/size"},
       {"/stores/0/constants/0/size", (1 << 24) + 1,
        "/stores/0/constants/0/size"},
       {"/stores/0/constants/0/type", "i8", "/stores/0/constants/0/type"},
       {"/stores/0/constants/1/per", "head", "/stores/0/constants/1/per"},
       {"/stores/0/mask", "none", "/stores/0/mask"},
       {"/stores/0/constants/0/name", "a b", "/stores/0/constants/0/name"},
       {"/stores/0/constants/1/name", "age",
        "/stores/0/constants/1/name: expected constants by name, each once, "
        "found `age` after `age`"},
       {"/stores/0/constants", nlohmann::json::array(), "/stores/0/constants"}},
      manifest);
}
