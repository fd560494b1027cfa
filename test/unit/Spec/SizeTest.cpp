//===- SizeTest.cpp - bytes per token and page ----------------------------===//
#include "lib/base/Spec/Size.h"
#include "Cases.h"
#include "lib/base/Spec/Reader.h"

#include <gtest/gtest.h>

using namespace kvc;
using namespace kvc::test;

namespace {

spec::Spec read(const nlohmann::json &json) {
  Diagnostics diagnostics;
  return spec::read(json.dump(), "a.json", diagnostics).value();
}

TEST(Size, AddsCodesAndScales) {
  spec::Spec spec = read(single()); // int8, dims 64, 2 heads, 4 layers
  const spec::Store &store = spec.stores[0];
  EXPECT_EQ(spec::rowBytes(store.k).codes, 64u);
  EXPECT_EQ(spec::rowBytes(store.k).scales, 4u);
  EXPECT_EQ(spec::rowBytes(store.v).scales, 2u);
  EXPECT_EQ(spec::tokenBytes(store), 2u * (64 + 4 + 64 + 2));
  EXPECT_EQ(spec::tokenBytes(spec), 4u * 2 * (64 + 4 + 64 + 2));
  EXPECT_EQ(spec::plainTokenBytes(spec.model), 4u * 2 * (64 + 64) * 2);
}

TEST(Size, AddsScalesAndZerosOfGroups) {
  nlohmann::json json = coded(); // K 128 by 32, V 80 by 16, 2 heads
  json["layout"]["kind"] = "paged", json["layout"]["page"] = 1;
  spec::Spec spec = read(json);
  const spec::Store &store = spec.stores[0];
  spec::RowBytes k = spec::rowBytes(store.k), v = spec::rowBytes(store.v);
  EXPECT_EQ(k.codes, 64u);
  EXPECT_EQ(k.scales, 4u * 2);
  EXPECT_EQ(k.zeros, 4u * 2);
  EXPECT_EQ(v.codes, 20u);
  EXPECT_EQ(v.scales, 5u * 2);
  EXPECT_EQ(v.zeros, 5u * 4);
  EXPECT_EQ(spec::tokenBytes(store), 2u * (64 + 8 + 8 + 20 + 10 + 20));
  EXPECT_EQ(spec::pageBytes(store), 128u + 64 + 64 + 64 + 64 + 64);
}

TEST(Size, PlanesOfAPageAreAligned) {
  nlohmann::json json = single();
  json["layout"]["page"] = 3;
  json["model"]["head_dim"] = {{"k", 8}, {"v", 40}};
  spec::Spec spec = read(json);
  // 2 heads x 3 tokens of 8, 4, 40 and 2 bytes: 48, 24, 240 and 12.
  EXPECT_EQ(spec::pageBytes(spec.stores[0]), 64u + 64 + 256 + 64);
}

TEST(Size, VThatIsOfKCostsNothing) {
  nlohmann::json json = single();
  json["model"]["head_dim"] = {{"k", 64}, {"v", 40}};
  json["kvc"] = "0.2";
  json["streams"]["v"] = {{"of", "k"}};
  spec::Spec spec = read(json);
  const spec::Store &store = spec.stores[0];
  EXPECT_TRUE(store.v.ofK);
  EXPECT_FALSE(spec::storesV(spec, 0));
  EXPECT_EQ(spec::rowBytes(store.v).total(), 0u);
  EXPECT_EQ(spec::tokenBytes(store), 2u * (64 + 4));
  EXPECT_EQ(spec.canonical,
            read(nlohmann::json::parse(spec.canonical)).canonical);
  EXPECT_NE(spec.canonical.find(R"("v":{"of":"k"})"), std::string::npos);
}

TEST(Size, AContiguousStoreHasNoPages) {
  nlohmann::json json = single();
  json["layout"] = "contiguous";
  EXPECT_EQ(spec::pageBytes(read(json).stores[0]), 0u);
}

TEST(Size, StoresCountTheirOwnPairs) {
  nlohmann::json json = several();
  json["stores"][0]["streams"] = {{"k", {{"codec", "f32"}}}};
  // 2 layers of (4 + 2) bytes and 2 of (2 + 2), 2 heads of 64.
  EXPECT_EQ(spec::tokenBytes(read(json)), 64u * 2 * (2 * 6 + 2 * 4));
}

} // namespace
