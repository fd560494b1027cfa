//===- ManifestRandomTest.cpp - manifests drawn at random -----------------===//
#include "Sample.h"

#include "lib/base/Artifact/KernelKey.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

using namespace kvc::artifact;

static StoreInfo randomStore(const ModelInfo &model) {
  static const std::vector<std::pair<std::string, uint32_t>> types = {
      {"f32", 4},      {"f16", 2},    {"bf16", 2},     {"i8", 1},
      {"f8E4M3FN", 1}, {"f8E5M2", 1}, {"f8E8M0FNU", 1}};
  StoreInfo store;
  store.paged = *rc::gen::arbitrary<bool>();
  store.page = store.paged ? *rc::gen::inRange(1u, 257u) : 0;
  store.order = *rc::gen::element<std::string>("HND", "NHD");
  store.headEnd = model.kvHeads;
  store.window = *rc::gen::arbitrary<bool>();
  if (store.window)
    store.sink = *rc::gen::inRange(0u, 1u << 31),
    store.recent = *rc::gen::inRange(1u, 1u << 31);
  for (const char *name : {"age", "sinks"})
    if (*rc::gen::arbitrary<bool>())
      store.constants.push_back({name, *rc::gen::inRange(1u, 1u << 24),
                                 *rc::gen::element<std::string>("f32", "i32"),
                                 *rc::gen::arbitrary<bool>()});
  store.causal = *rc::gen::arbitrary<bool>();
  auto add = [&](const char *stream, const char *role, uint32_t elements,
                 uint32_t rowTokens = 1) {
    auto [type, size] = *rc::gen::elementOf(types);
    while (type == "i8" && std::string(role) == "scales")
      std::tie(type, size) = *rc::gen::elementOf(types);
    uint32_t row = elements * size;
    bool hnd = store.order == "HND";
    store.planes.push_back({stream, role, type, elements, rowTokens, row,
                            hnd ? row : row * model.kvHeads,
                            !store.paged ? 0
                            : hnd        ? row * (store.page / rowTokens)
                                         : row,
                            store.pageBytes});
    store.pageBytes +=
        (uint64_t(store.page / rowTokens) * model.kvHeads * row + 63) / 64 * 64;
  };
  for (const char *stream : {"k", "v"}) {
    add(stream, "codes", *stream == 'k' ? model.headDimK : model.headDimV);
    if (store.planes.back().type == "i8")
      add(stream, "scales", 1);
  }
  // A summary of every page, or of half of each.
  if (store.paged && *rc::gen::arbitrary<bool>())
    add("mean", "codes", 24, store.page % 2 ? store.page : store.page / 2);
  return store;
}

RC_GTEST_PROP(Manifest, AnyValidManifestRoundTrips, ()) {
  Manifest m = sampleManifest();
  m.model.kvHeads = *rc::gen::inRange(1u, 9u);
  m.model.qHeads = m.model.kvHeads * *rc::gen::inRange(1u, 9u);
  m.model.headDimK = *rc::gen::inRange(1u, 577u);
  m.model.headDimV = *rc::gen::inRange(1u, 577u);
  m.model.softmaxScale = *rc::gen::positive<double>();
  m.stores.clear();
  for (const char *name : {"window", "full"}) {
    m.stores.push_back(randomStore(m.model));
    m.stores.back().name = name;
  }
  m.model.layers = *rc::gen::inRange(2u, 80u);
  for (uint32_t layer = 0; layer < m.model.layers; ++layer) {
    bool second = layer == 1 || (layer && *rc::gen::arbitrary<bool>());
    m.stores[second].layers.push_back(layer);
  }
  bindSymbols(m);
  std::string error;
  std::optional<Manifest> back = read(write(m), error);
  RC_LOG(error);
  RC_ASSERT(back.has_value());
  RC_ASSERT(*back == m);
}
