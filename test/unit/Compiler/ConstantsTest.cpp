//===- ConstantsTest.cpp - constants that each call gives -----------------===//
//
// Through the C ABI, on the CPU and an emulated GPU: each layer has its own
// values, which are read when they are used, and calls without them fail.
//
//===----------------------------------------------------------------------===//
#include "kvc/runtime.hpp"
#include "test/support/Compile.h"

#include <cmath>
#include <gtest/gtest.h>

using namespace kvc;

namespace {

constexpr uint32_t kQueryHeads = 4, kKvHeads = 2, kDim = 32;

// With q = 0 a row's weights are those of the expressions alone.
constexpr const char *kSpec = R"({"kvc": "0.2", "name": "given",
  "model": {"layers": 2, "q_heads": 4, "kv_heads": 2, "head_dim": 32,
            "dtype": "f32"},
  "streams": {"k": {"codec": "f32"}, "v": {"codec": "f32"}},
  "layout": {"kind": "paged", "page": 16},
  "attend": {"constants": {"sinks": {"size": 4}, "age": {"size": 3}},
             "logits": "s + age[min(max(p - t, 0), 2)]", "sink": "sinks[h]"}})";

// A tree of at most four drafts behind what is cached, or none.
constexpr const char *kTree = R"({"kvc": "0.2", "name": "tree",
  "model": {"layers": 1, "q_heads": 4, "kv_heads": 2, "head_dim": 32,
            "dtype": "f32"},
  "streams": {"k": {"codec": "f32"}, "v": {"codec": "f32"}},
  "layout": {"kind": "paged", "page": 16},
  "attend": {
    "constants": {"nodes": {"size": 1, "type": "int", "per": "sequence"},
                  "tree": {"size": 16, "type": "int", "per": "sequence"}},
    "visible": "t < c || nodes[0] == 0 || tree[4 * min(p - c, 3) + max(0, min(t - c, 3))] != 0"}})";

class Constants : public testing::TestWithParam<const char *> {
protected:
  void load(const char *text) {
    std::vector<uint8_t> artifact = test::artifactOf(text, GetParam());
    kvc_sim_options sim = {};
    sim.size = sizeof(sim);
    isGpu = llvm::StringRef(GetParam()).starts_with("sim:");
    sim.target = "sm_80";
    ASSERT_EQ((isGpu ? kvc_device_create_sim(&sim, &device)
                     : kvc_device_create_cpu(nullptr, &device))
                  .code,
              KVC_OK);
    ASSERT_EQ(
        kvc_program_load(device, artifact.data(), artifact.size(), &program)
            .code,
        KVC_OK)
        << kvc_error_text();
    kvc_cache_options cacheOptions = {};
    cacheOptions.size = sizeof(cacheOptions);
    cacheOptions.arena_bytes = 1 << 20;
    cacheOptions.max_sequences = cacheOptions.max_batch = 2;
    cacheOptions.max_step_tokens = 8;
    cacheOptions.max_tokens_per_seq = 64;
    ASSERT_EQ(kvc_cache_create(program, &cacheOptions, &cache).code, KVC_OK)
        << kvc_error_text();
    q.resize(kQueryHeads * kDim), out.resize(q.size()), lse.resize(kQueryHeads);
    k.resize(kKvHeads * kDim), v.resize(kKvHeads * kDim);
    allow(q), allow(k), allow(v), allow(out), allow(lse);
  }
  void TearDown() override {
    kvc_cache_destroy(cache);
    kvc_program_release(program);
    kvc_device_release(device);
  }
  template <class T> void allow(std::vector<T> &values) {
    if (isGpu)
      kvc_sim_allow(device, values.data(), values.size() * 4, 1);
  }
  kvc_status set(uint32_t layer, std::vector<const void *> constants) {
    return kvc_cache_set_constants(cache, 0, layer, constants.data(),
                                   uint32_t(constants.size()));
  }
  void reserve() {
    if (!sequence.generation) {
      ASSERT_EQ(kvc_cache_open(cache, &sequence).code, KVC_OK);
    }
    kvc_slot_request request = {};
    request.seq = sequence;
    request.new_tokens = 1;
    ASSERT_EQ(kvc_cache_reserve(cache, &request, 1, nullptr, &step).code,
              KVC_OK);
  }
  /// Appends a token whose V is `value`.
  void append(uint32_t layer, float value) {
    std::fill(v.begin(), v.end(), value);
    ASSERT_EQ(kvc_cache_append(cache, step, layer, k.data(), v.data()).code,
              KVC_OK);
  }
  kvc_status attend(uint32_t layer) {
    return kvc_cache_attend(cache, step, layer, q.data(), out.data(),
                            lse.data());
  }

  bool isGpu = false;
  kvc_device *device = nullptr;
  kvc_program *program = nullptr;
  kvc_cache *cache = nullptr;
  kvc_seq sequence = {};
  kvc_step step = {};
  std::vector<float> q, k, v, out, lse;
};

TEST_P(Constants, AreOfTheLayerAndReadWhenUsed) {
  load(kSpec);
  std::vector<float> age = {0.5f, -1, 2}, first = {0, 1, 2, 3},
                     second = {-2, 4, 0.25f, -8};
  allow(age), allow(first), allow(second);
  ASSERT_EQ(set(KVC_ALL_LAYERS, {age.data(), first.data()}).code, KVC_OK);
  ASSERT_EQ(set(1, {age.data(), second.data()}).code, KVC_OK);
  std::vector<double> values;
  for (uint32_t token = 0; token < 5; ++token) {
    reserve();
    values.push_back(token + 1);
    if (token == 4)
      first[2] = -3; // the caller's memory, and no copy
    for (uint32_t layer : {0u, 1u}) {
      append(layer, float(token + 1));
      ASSERT_EQ(attend(layer).code, KVC_OK) << kvc_error_text();
      for (uint32_t head = 0; head < kQueryHeads; ++head) {
        double sum = std::exp((layer ? second : first)[head]), o = 0;
        for (uint32_t t = 0; t <= token; ++t) {
          double weight = std::exp(age[std::min(token - t, 2u)]);
          sum += weight, o += weight * values[t];
        }
        EXPECT_NEAR(out[head * kDim], o / sum, 1e-5)
            << token << " " << layer << " " << head;
        EXPECT_NEAR(lse[head], std::log(sum), 1e-5);
      }
    }
    ASSERT_EQ(kvc_cache_commit(cache, step, nullptr).code, KVC_OK);
  }
}

/// What each row of a step sees: q and K are 0, so that o is the mean of V.
struct Draft {
  int context;
  std::vector<std::vector<int>> seen; ///< of the step's own, by row; none: all
};

// Each sequence of a batch has a tree of its own, in the order of the step.
TEST_P(Constants, OfASequenceAreInTheOrderOfTheStep) {
  load(kTree);
  const Draft drafts[] = {{5, {{0}, {0, 1}, {0, 2}, {0, 2, 3}}},
                          {2, {{0}, {1}, {0, 1, 2}}}};
  std::vector<int32_t> nodes(2), tree(32);
  allow(nodes), allow(tree);
  const void *arrays[] = {nodes.data(), tree.data()};
  ASSERT_EQ(kvc_cache_set_constants(cache, 0, KVC_ALL_LAYERS, arrays, 2).code,
            KVC_OK);
  kvc_slot_request requests[2] = {};
  std::vector<double> before[2];
  auto run = [&](bool drafted) {
    int rows = 0;
    for (int b : {0, 1}) {
      requests[b].new_tokens =
          uint32_t(drafted ? drafts[b].seen.size() : drafts[b].context);
      rows += int(requests[b].new_tokens);
    }
    k.assign(rows * kKvHeads * kDim, 0), v.resize(k.size());
    q.assign(rows * kQueryHeads * kDim, 0), out.resize(q.size());
    lse.resize(rows * kQueryHeads);
    allow(k), allow(v), allow(q), allow(out), allow(lse);
    for (size_t i = 0; i < v.size(); ++i)
      v[i] = float(1 + i / (kKvHeads * kDim) * 3 + drafted * 100);
    ASSERT_EQ(kvc_cache_reserve(cache, requests, 2, nullptr, &step).code,
              KVC_OK);
    ASSERT_EQ(kvc_cache_append(cache, step, 0, k.data(), v.data()).code,
              KVC_OK);
    ASSERT_EQ(attend(0).code, KVC_OK) << kvc_error_text();
    ASSERT_EQ(kvc_cache_commit(cache, step, nullptr).code, KVC_OK);
  };
  for (int b : {0, 1}) {
    ASSERT_EQ(kvc_cache_open(cache, &requests[b].seq).code, KVC_OK);
  }
  run(/*drafted=*/false); // no nodes: causal
  int row = 0;
  for (int b : {0, 1})
    for (int i = 0; i < drafts[b].context; ++i, ++row) {
      before[b].push_back(v[row * kKvHeads * kDim]);
      double sum = 0;
      for (double value : before[b])
        sum += value;
      EXPECT_NEAR(out[row * kQueryHeads * kDim], sum / (i + 1), 1e-5) << row;
    }
  for (int b : {0, 1}) {
    nodes[b] = int(drafts[b].seen.size());
    for (size_t i = 0; i < drafts[b].seen.size(); ++i)
      for (int j : drafts[b].seen[i])
        tree[16 * b + 4 * i + j] = 1;
  }
  run(/*drafted=*/true);
  row = 0;
  for (int b : {0, 1}) {
    int first = row;
    for (const std::vector<int> &seen : drafts[b].seen) {
      double sum = 0, count = double(before[b].size() + seen.size());
      for (double value : before[b])
        sum += value;
      for (int j : seen)
        sum += v[(first + j) * kKvHeads * kDim];
      EXPECT_NEAR(out[row * kQueryHeads * kDim], sum / count, 1e-4) << row;
      EXPECT_NEAR(lse[row * kQueryHeads], std::log(count), 1e-5) << row;
      ++row;
    }
  }
}

TEST_P(Constants, AreAskedForByName) {
  load(kSpec);
  kvc_store_info info = {};
  info.size = sizeof(info);
  ASSERT_EQ(kvc_program_get_store(program, 0, &info).code, KVC_OK);
  ASSERT_EQ(info.constant_count, 2u);
  EXPECT_STREQ(info.constants[0].name, "age");
  EXPECT_EQ(info.constants[0].size, 3u);
  EXPECT_STREQ(info.constants[0].type, "f32");
  EXPECT_EQ(info.constants[0].per_sequence, 0u);
  EXPECT_STREQ(info.constants[1].name, "sinks");
  EXPECT_EQ(info.constants[1].size, 4u);

  std::vector<float> age(3), sinks(4);
  allow(age), allow(sinks);
  reserve();
  append(0, 1), append(1, 1);
  EXPECT_EQ(attend(0).code, KVC_INVALID_ARGUMENT);
  EXPECT_STREQ(kvc_error_text(), "the constants of `main` are not set for "
                                 "layer 0: see kvc_cache_set_constants");
  EXPECT_EQ(set(0, {age.data()}).code, KVC_INVALID_ARGUMENT);
  EXPECT_STREQ(kvc_error_text(), "`constant_count`: expected the 2 constants "
                                 "of `main`, found 1");
  EXPECT_EQ(set(0, {age.data(), nullptr}).code, KVC_INVALID_ARGUMENT);
  EXPECT_STREQ(kvc_error_text(), "`constants[1]` (`sinks` of `main`): expected "
                                 "4 values of 4 bytes, found (nil)");
  EXPECT_EQ(set(2, {age.data(), sinks.data()}).code, KVC_INVALID_ARGUMENT);
  EXPECT_STREQ(kvc_error_text(), "store 0 of 1 does not cover layer 2");
  ASSERT_EQ(set(0, {age.data(), sinks.data()}).code, KVC_OK);
  EXPECT_EQ(attend(0).code, KVC_OK) << kvc_error_text();
  EXPECT_EQ(attend(1).code, KVC_INVALID_ARGUMENT); // not set for it
  ASSERT_EQ(set(KVC_ALL_LAYERS, {age.data(), sinks.data()}).code, KVC_OK);
  EXPECT_EQ(attend(1).code, KVC_OK) << kvc_error_text();
}

INSTANTIATE_TEST_SUITE_P(Targets, Constants,
                         testing::Values("native", "sim:sm_80"),
                         [](const auto &info) {
                           return std::string(info.index ? "Gpu" : "Cpu");
                         });

} // namespace
