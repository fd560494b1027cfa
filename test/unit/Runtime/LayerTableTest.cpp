//===- LayerTableTest.cpp - the stores of a layer are found ---------------===//
#include "runtime/LayerTable.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

using namespace kvc;
using namespace kvc::rt;

// Stores that take turns in any way, some of them with others by heads.
TEST(LayerTable, IsWhatTheStoresSay) {
  std::mt19937 random(7);
  for (int round = 0; round < 50; ++round) {
    artifact::Manifest manifest;
    manifest.model.layers = 1 + random() % 40;
    manifest.stores.resize(1 + random() % 8);
    for (uint32_t layer = 0; layer < manifest.model.layers; ++layer)
      for (artifact::StoreInfo &store : manifest.stores)
        if (random() % 3 == 0)
          store.layers.push_back(layer);
    LayerTable table(manifest);
    for (uint32_t layer = 0; layer < manifest.model.layers; ++layer) {
      size_t found = 0;
      for (uint32_t i = 0; i < manifest.stores.size(); ++i) {
        const std::vector<uint32_t> &layers = manifest.stores[i].layers;
        auto at = std::find(layers.begin(), layers.end(), layer);
        const LayerTable::Entry *entry = table.find(i, layer);
        ASSERT_EQ(entry != nullptr, at != layers.end());
        if (!entry)
          continue;
        EXPECT_EQ(entry->store, i);
        EXPECT_EQ(entry->layer, uint32_t(at - layers.begin()));
        EXPECT_EQ(&table.of(layer)[found++], entry);
      }
      EXPECT_EQ(table.of(layer).size(), found);
    }
    EXPECT_EQ(table.find(0, manifest.model.layers), nullptr);
    EXPECT_EQ(table.find(0, UINT32_MAX), nullptr);
    EXPECT_EQ(table.find(uint32_t(manifest.stores.size()), 0), nullptr);
    EXPECT_EQ(table.find(UINT32_MAX, 0), nullptr);
  }
}
