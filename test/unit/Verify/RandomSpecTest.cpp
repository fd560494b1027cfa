//===- RandomSpecTest.cpp - the drawn specs cover the language ------------===//
#include "lib/driver/Verify/RandomSpec.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>

using namespace kvc;

static std::optional<spec::Spec> draw(uint64_t seed, uint64_t index) {
  Diagnostics diagnostics;
  auto spec = verify::randomSpec(seed, index, diagnostics);
  EXPECT_FALSE(diagnostics.hasErrors());
  return spec;
}

TEST(RandomSpec, DependsOnSeedAndIndexAlone) {
  auto first = draw(1, 7), again = draw(1, 7), other = draw(1, 8),
       seed = draw(2, 7);
  ASSERT_TRUE(first && again && other && seed);
  EXPECT_EQ(first->canonical, again->canonical);
  EXPECT_NE(first->canonical, other->canonical);
  EXPECT_NE(first->canonical, seed->canonical);
}

TEST(RandomSpec, CoversWhatTheContractNames) {
  std::set<unsigned> groups, pages, dims;
  std::set<size_t> codecPairs;
  std::set<spec::DType> dtypes;
  unsigned oddDims = 0, unlikeDims = 0, windows = 0, softcaps = 0,
           contiguous = 0, tokenMajor = 0, byLayer = 0, byHead = 0, stepped = 0,
           unordered = 0;
  std::map<int, unsigned> scales, caps; // by powers of ten
  unsigned widest = 0, longestSink = 0;
  for (uint64_t index = 0; index < 2000; ++index) {
    auto spec = draw(1, index);
    ASSERT_TRUE(spec);
    const spec::Model &model = spec->model;
    groups.insert(model.group());
    dtypes.insert(model.dtype);
    dims.insert({model.headDimK, model.headDimV});
    oddDims += model.headDimK % 16 == 8;
    unlikeDims += model.headDimK != model.headDimV;
    softcaps += model.logitSoftcap.has_value();
    ++scales[int(std::floor(std::log10(model.softmaxScale)))];
    if (model.logitSoftcap)
      ++caps[int(std::floor(std::log10(*model.logitSoftcap)))];
    for (const spec::Store &store : spec->stores) {
      auto number = [](const spec::Codec &codec) {
        if (const auto *stored = std::get_if<spec::FloatCodec>(&codec))
          return unsigned(stored->type);
        if (const auto *code = std::get_if<spec::IntCodec>(&codec))
          return 3 + unsigned(code->scaleType);
        return 5u;
      };
      codecPairs.insert(number(store.k.codec) * 6 + number(store.v.codec));
      if (store.layout.paged)
        pages.insert(store.layout.page);
      contiguous += !store.layout.paged;
      tokenMajor += store.layout.order == spec::PageOrder::NHD;
      windows += store.read.window.has_value();
      if (store.read.window) {
        widest = std::max(widest, store.read.window->recent);
        longestSink = std::max(longestSink, store.read.window->sink);
      }
      byLayer += store.scope.layers.size() < spec->model.layers;
      std::optional<unsigned> step = spec::stepOf(store.scope.layers);
      stepped += step && *step > 1;
      unordered += !step;
      byHead += store.scope.headBegin > 0;
    }
  }
  for (unsigned group : {1, 2, 3, 4, 7, 8, 9, 16})
    EXPECT_TRUE(groups.contains(group)) << group;
  EXPECT_EQ(dtypes.size(), 3u);
  EXPECT_EQ(codecPairs.size(), 36u);
  EXPECT_TRUE(pages.contains(1) && pages.contains(256));
  EXPECT_GT(pages.size(), 100u);
  EXPECT_EQ(*dims.begin(), 8u);
  EXPECT_EQ(*dims.rbegin(), 576u);
  EXPECT_GT(dims.size(), 60u); // of 72
  unsigned to128 = std::distance(groups.begin(), groups.upper_bound(128));
  EXPECT_GT(to128, 90u);
  EXPECT_GT(*groups.rbegin(), 512u);
  for (int power = -6; power < 6; ++power) {
    EXPECT_GT(scales[power], 10u) << power;
    EXPECT_GT(caps[power], 5u) << power;
  }
  EXPECT_GT(widest, 1u << 29);
  EXPECT_GT(longestSink, 1u << 29);
  for (unsigned count : {oddDims, unlikeDims, windows, softcaps, contiguous,
                         tokenMajor, byLayer, byHead, stepped})
    EXPECT_GT(count, 100u);
  EXPECT_GT(unordered, 50u);
}

TEST(RandomSpec, DrawsBitsZerosAndGroups) {
  std::map<unsigned, unsigned> bits, groups;
  unsigned zeros = 0, unlikeZeros = 0;
  for (uint64_t index = 0; index < 2000; ++index) {
    auto spec = draw(1, index);
    ASSERT_TRUE(spec);
    for (const spec::Store &store : spec->stores)
      for (const spec::Codec &codec : {store.k.codec, store.v.codec})
        if (const auto *code = std::get_if<spec::IntCodec>(&codec)) {
          ++bits[code->bits], ++groups[code->group];
          zeros += code->zeroType.has_value();
          unlikeZeros += code->zeroType && code->zeroType != code->scaleType;
        }
  }
  for (unsigned count = 1; count <= 8; ++count)
    EXPECT_GT(bits[count], 10u) << count;
  for (unsigned group : {0u, 8u, 16u, 32u, 64u, 128u, 256u})
    EXPECT_GT(groups[group], 3u) << group;
  EXPECT_GT(zeros, 100u);
  EXPECT_GT(unlikeZeros, 50u);
}

TEST(RandomSpec, DrawsNarrowFloats) {
  std::map<std::pair<spec::MinifloatCodec::Format, int>, unsigned> scales;
  std::map<unsigned, unsigned> groups;
  for (uint64_t index = 0; index < 2000; ++index) {
    auto spec = draw(1, index);
    ASSERT_TRUE(spec);
    for (const spec::Store &store : spec->stores)
      for (const spec::Codec &codec : {store.k.codec, store.v.codec})
        if (const auto *stored = std::get_if<spec::MinifloatCodec>(&codec)) {
          int scale = stored->scaleType ? int(*stored->scaleType) : -1;
          ++scales[{stored->format, scale}];
          groups[stored->group] += stored->scaleType.has_value();
        }
  }
  EXPECT_EQ(scales.size(), 4u + 4 + 4);
  for (auto [drawn, count] : scales)
    EXPECT_GT(count, 20u) << int(drawn.first) << " " << drawn.second;
  for (unsigned group : {0u, 8u, 16u, 32u, 64u, 128u})
    EXPECT_GT(groups[group], 3u) << group;
  EXPECT_GT(groups[256], 0u);
}

TEST(RandomSpec, DrawsWhoCopies) {
  unsigned drawn[2] = {}, none = 0;
  for (uint64_t index = 0; index < 500; ++index) {
    bool any = false;
    for (const ScheduleOverride &change :
         verify::randomSchedule(1, index, "sim:sm_90a"))
      if (change.key == "bulk") {
        ++drawn[change.value];
        any = true;
      }
    none += !any; // rows of 8 more bytes, or codes that are decoded
    for (const char *target : {"sim:sm_89", "sm_90a", "x86-64-v3"})
      for (const ScheduleOverride &change :
           verify::randomSchedule(1, index, target))
        EXPECT_NE(change.key, "bulk") << target;
  }
  EXPECT_GT(drawn[0], 100u);
  EXPECT_GT(drawn[1], 200u);
  EXPECT_GT(none, 20u);
}

// An emulated CPU is a CPU.
TEST(RandomSpec, EmulatedCpusAreScheduledAsCpus) {
  unsigned drawn = 0;
  for (uint64_t index = 0; index < 100; ++index) {
    auto native = verify::randomSchedule(1, index, "x86-64-v4-amx");
    auto emulated = verify::randomSchedule(1, index, "sim:x86-64-v4-amx");
    ASSERT_EQ(native.size(), emulated.size());
    for (size_t i = 0; i < native.size(); ++i) {
      EXPECT_EQ(native[i].kernel, emulated[i].kernel);
      EXPECT_EQ(native[i].key, emulated[i].key);
      EXPECT_EQ(native[i].value, emulated[i].value);
    }
    drawn += !native.empty();
  }
  EXPECT_GT(drawn, 10u);
}
