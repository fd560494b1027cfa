//===- TensorsTest.cpp - which tensors of a file a model takes ------------===//
#include "lib/driver/Verify/Tensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

using namespace kvc;
using namespace kvc::verify;
using testing::HasSubstr;

namespace {

spec::Spec smallSpec() {
  spec::Spec spec;
  spec::Model &model = spec.model;
  model.layers = 4;
  model.qHeads = 2;
  model.kvHeads = 1;
  model.headDimK = model.headDimV = 8;
  model.dtype = spec::DType::BF16;
  spec.stores.emplace_back().scope.layers = spec::layerRange(0, 4);
  return spec;
}

/// A file of zeros with tensors of these names and [tokens, heads, dim].
struct Entry {
  std::string name;
  unsigned tokens, heads, dim = 8;
};
Safetensors fileOf(const std::vector<Entry> &entries) {
  std::string header;
  size_t at = 0;
  for (const Entry &entry : entries) {
    size_t end = at + size_t(4) * entry.tokens * entry.heads * entry.dim;
    header += (header.empty() ? "{\"" : ",\"") + entry.name +
              "\":{\"dtype\":\"F32\",\"shape\":[" +
              std::to_string(entry.tokens) + "," + std::to_string(entry.heads) +
              "," + std::to_string(entry.dim) + "],\"data_offsets\":[" +
              std::to_string(at) + "," + std::to_string(end) + "]}";
    at = end;
  }
  header += "}";
  uint64_t length = header.size();
  std::vector<uint8_t> bytes(8 + length + at);
  std::memcpy(bytes.data(), &length, 8);
  std::memcpy(bytes.data() + 8, header.data(), length);
  std::string error;
  auto file = Safetensors::read(bytes, error);
  EXPECT_TRUE(file) << error;
  return std::move(*file);
}

std::string errorOf(const std::vector<Entry> &entries) {
  std::string error;
  EXPECT_FALSE(takeLayers(fileOf(entries), smallSpec(), 0, error));
  return error;
}

} // namespace

TEST(Tensors, TakesLayersInOrderUpToALimit) {
  std::string error;
  auto layers = takeLayers(fileOf({{"layers.3.q", 5, 2},
                                   {"layers.3.k", 5, 1},
                                   {"layers.3.v", 5, 1},
                                   {"layers.0.q", 5, 2},
                                   {"layers.0.k", 5, 1},
                                   {"layers.0.v", 5, 1},
                                   {"extra", 1, 1}}),
                           smallSpec(), 4, error);
  ASSERT_TRUE(layers) << error;
  ASSERT_EQ(layers->size(), 2u);
  EXPECT_EQ((*layers)[0].layer, 0u);
  EXPECT_EQ((*layers)[1].layer, 3u);
  EXPECT_EQ((*layers)[1].tokens, 4);
  EXPECT_EQ((*layers)[1].q.size(), 4u * 2 * 8);
  EXPECT_EQ((*layers)[1].v.size(), 4u * 8);
}

TEST(Tensors, RefusesWhatDoesNotFit) {
  EXPECT_THAT(errorOf({{"other", 1, 1}}), HasSubstr("layers.<i>.q"));
  EXPECT_THAT(errorOf({{"layers.0.q", 5, 2}, {"layers.0.k", 5, 1}}),
              HasSubstr("no tensor `layers.0.v`"));
  EXPECT_THAT(
      errorOf(
          {{"layers.0.q", 5, 3}, {"layers.0.k", 5, 1}, {"layers.0.v", 5, 1}}),
      HasSubstr("`layers.0.q`: expected [>= 5, 2, 8], found [5, 3, 8]"));
  EXPECT_THAT(
      errorOf(
          {{"layers.0.q", 5, 2}, {"layers.0.k", 4, 1}, {"layers.0.v", 5, 1}}),
      HasSubstr("found [4, 1, 8]"));
  EXPECT_THAT(
      errorOf(
          {{"layers.4.q", 5, 2}, {"layers.4.k", 5, 1}, {"layers.4.v", 5, 1}}),
      HasSubstr("the model has 4 layers"));
  EXPECT_THAT(
      errorOf(
          {{"layers.0.q", 0, 2}, {"layers.0.k", 0, 1}, {"layers.0.v", 0, 1}}),
      HasSubstr("have none"));
}

// Of the layers whose V is of K.
TEST(Tensors, TakesNoVThatIsOfK) {
  spec::Spec spec = smallSpec();
  spec.stores[0].v.ofK = true;
  std::string error;
  auto layers = takeLayers(fileOf({{"layers.0.q", 5, 2}, {"layers.0.k", 5, 1}}),
                           spec, 0, error);
  ASSERT_TRUE(layers) << error;
  EXPECT_TRUE((*layers)[0].v.empty());
  EXPECT_THAT(errorOf({{"layers.0.q", 5, 2}, {"layers.0.k", 5, 1}}),
              HasSubstr("layers.0.v"));
}
