//===- WrapperTest.cpp - the C++ header as users see it -------------------===//
#include "kvc/runtime.hpp"

#include "test/unit/Runtime/GpuFixture.h"

#include <array>
#include <gtest/gtest.h>
#include <type_traits>

extern "C" uint32_t kvc_test_header_is_c(void);

static_assert(std::is_nothrow_move_constructible_v<kvc::Cache> &&
              !std::is_copy_constructible_v<kvc::Cache>);

TEST(Header, IsC) {
  EXPECT_EQ(kvc_test_header_is_c(), uint32_t(KVC_RUNTIME_ABI));
}

TEST(Wrapper, RunsAStep) {
  std::vector<uint8_t> bytes = kvc::test::pack(kvc::test::fixtureManifest());
  auto device = kvc::Device::cpu(1);
  ASSERT_TRUE(device) << device.status().text();
  auto program = kvc::Program::load(*device, std::as_bytes(std::span(bytes)));
  ASSERT_TRUE(program) << program.status().text();
  *device = kvc::Device(); // the program keeps it
  EXPECT_STREQ(program->name(), "fixture");
  EXPECT_EQ(program->model().q_heads, 4u);
  EXPECT_EQ(program->store(program->storeCount() - 1)->page_tokens, 0u);
  auto layers = program->layers(program->storeCount() - 1);
  ASSERT_TRUE(layers && layers->size() == 1);
  EXPECT_EQ(layers->front(), 1u);
  EXPECT_FALSE(program->layers(program->storeCount()));

  kvc_cache_options options = {};
  options.size = sizeof(options);
  options.arena_bytes = 100000;
  options.max_sequences = options.max_batch = 2;
  options.max_step_tokens = 8;
  options.max_tokens_per_seq = 32;
  auto cache = kvc::Cache::create(*program, options);
  ASSERT_TRUE(cache) << cache.status().text();
  // The store has none.
  EXPECT_TRUE(cache->setConstants(0, KVC_ALL_LAYERS, {}));
  std::array<const void *, 1> one = {};
  EXPECT_EQ(cache->setConstants(0, 0, one).text(),
            "`constant_count`: expected the 0 constants of `" +
                std::string(program->store(0)->name) + "`, found 1");
  kvc_seq sequence = *cache->open();
  std::array<kvc_slot_request, 1> requests = {{{sequence, 3}}};
  auto step = cache->reserve(requests);
  ASSERT_TRUE(step) << step.status().text();
  std::vector<float> k(3 * 16, 1), v(3 * 32, 2), q(3 * 32, 1), out(3 * 64);
  for (uint32_t layer = 0; layer < 2; ++layer) {
    EXPECT_TRUE(cache->append(*step, layer, k.data(), v.data()));
    EXPECT_TRUE(cache->attend(*step, layer, q.data(), out.data()));
    for (float x : out)
      EXPECT_FLOAT_EQ(x, 2);
  }
  EXPECT_EQ(cache->view(*step, 0, 0)->rows, 3u);
  std::array<uint32_t, 1> accepted = {2};
  EXPECT_TRUE(cache->commit(*step, accepted));
  EXPECT_EQ(*cache->length(sequence), 2u);
  std::vector<float> readK(2 * 16), readV(2 * 32);
  EXPECT_TRUE(cache->read(sequence, 1, 0, 2, readK.data(), readV.data()));
  EXPECT_EQ(readK, std::vector<float>(2 * 16, 1));
  EXPECT_EQ(readV, std::vector<float>(2 * 32, 2));
  EXPECT_EQ(cache->read(sequence, 1, 2, 1, readK.data(), nullptr).code(),
            KVC_INVALID_ARGUMENT);
  EXPECT_EQ(cache->stats().pages_live, 2u);
  auto child = cache->fork(sequence);
  ASSERT_TRUE(child) << child.status().text();
  EXPECT_EQ(cache->stats(*child)->pages_shared, 2u);
  EXPECT_EQ(*cache->layerBytes(0), 4u * 192);
  EXPECT_TRUE(cache->truncate(*child, 0));
  EXPECT_EQ(*cache->length(*child), 0u);
  EXPECT_TRUE(cache->release(*child));
  EXPECT_GT(*program->tokensThatFit(options), 2u);
  EXPECT_TRUE(cache->check(2));
  EXPECT_TRUE(cache->release(sequence));
  auto stale = cache->length(sequence);
  EXPECT_FALSE(stale);
  EXPECT_EQ(stale.status().code(), KVC_STALE);
  EXPECT_STREQ(stale.status().name(), "stale handle");
  EXPECT_STREQ(stale.status().text(), "sequence {0, 1} is not open");
}

TEST(Wrapper, MakesDevicesOfAllKinds) {
  using namespace kvc::test;
  std::vector<uint8_t> bytes = packGpu(gpuManifest("sim", {"sm_80"}));
  auto sim = kvc::Device::sim("sm_80");
  ASSERT_TRUE(sim) << sim.status().text();
  auto program = kvc::Program::load(*sim, std::as_bytes(std::span(bytes)));
  ASSERT_TRUE(program) << program.status().text();
  EXPECT_STREQ(program->target(), "sm_80");
  EXPECT_FALSE(kvc::Device::sim(""));
  // No machine has so many.
  EXPECT_EQ(kvc::Device::cuda(1 << 20).status().code(), KVC_DEVICE_ERROR);
}

TEST(Wrapper, RunsKernelsOnTheCallersBuffers) {
  std::vector<uint8_t> bytes = kvc::test::pack(kvc::test::fixtureManifest());
  auto device = kvc::Device::cpu();
  auto program = kvc::Program::load(*device, std::as_bytes(std::span(bytes)));
  ASSERT_TRUE(program) << program.status().text();
  EXPECT_GT(*program->attendWorkspace(0, 1, 1, 100), 0u);
  kvc_append_args append = {};
  append.size = sizeof(append);
  EXPECT_TRUE(program->append(0, append)) << "no rows";
  append.rows = 1;
  EXPECT_EQ(program->append(0, append).code(), KVC_INVALID_ARGUMENT);
  kvc_gather_args gather = {};
  gather.size = sizeof(gather);
  EXPECT_TRUE(program->gather(0, gather)) << "no rows";
  gather.rows = 1;
  EXPECT_EQ(program->gather(0, gather).code(), KVC_INVALID_ARGUMENT);
  kvc_attend_args attend = {};
  EXPECT_EQ(program->attend(0, attend).code(), KVC_INVALID_ARGUMENT);
  EXPECT_FALSE(kvc::Program::loadFile(*device, "/no/such/file"));
}
