//===- LayerTable.cpp - which stores keep a layer -------------------------===//
#include "runtime/LayerTable.h"

#include <algorithm>

using namespace kvc;
using namespace kvc::rt;

LayerTable::LayerTable(const artifact::Manifest &manifest)
    : begins(size_t(manifest.model.layers) + 1) {
  for (const artifact::StoreInfo &store : manifest.stores)
    for (uint32_t layer : store.layers)
      ++begins[layer + 1];
  for (size_t layer = 1; layer < begins.size(); ++layer)
    begins[layer] += begins[layer - 1];
  entries.resize(begins.back());
  std::vector<uint32_t> next(begins.begin(), begins.end() - 1);
  for (uint32_t store = 0; store < manifest.stores.size(); ++store) {
    const std::vector<uint32_t> &layers = manifest.stores[store].layers;
    for (uint32_t i = 0; i < layers.size(); ++i)
      entries[next[layers[i]]++] = {store, i};
  }
}

const LayerTable::Entry *LayerTable::find(uint32_t store,
                                          uint32_t layer) const {
  if (size_t(layer) + 1 >= begins.size())
    return nullptr;
  std::span<const Entry> stores = of(layer);
  auto found = std::lower_bound(
      stores.begin(), stores.end(), store,
      [](const Entry &entry, uint32_t wanted) { return entry.store < wanted; });
  bool keeps = found != stores.end() && found->store == store;
  return keeps ? &*found : nullptr;
}
