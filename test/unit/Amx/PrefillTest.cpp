//===- PrefillTest.cpp - what a prefill in matrix registers executes ------===//
//
// How fast such a kernel is cannot be seen where there is no AMX. What can is
// how many instructions it takes, exactly: every product once, and registers
// loaded once for two of them.
//
//===----------------------------------------------------------------------===//
#include "kvc/runtime.hpp"
#include "lib/base/Amx/Emulator.h"
#include "runtime/devices/CpuFeatures.h"
#include "test/support/Compile.h"

#include "llvm/Support/FormatVariadic.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace kvc;
using amx::Op;

namespace {

constexpr uint32_t kGroup = 4, kDim = 128, kQueries = 64, kTokens = 512;

std::vector<uint8_t> compileFor(const char *dtype, const char *k,
                                const char *v) {
  std::string text = llvm::formatv(
      R"({{"kvc": "0.1", "name": "prefill", "model": {{"layers": 1,
           "q_heads": {0}, "kv_heads": 1, "head_dim": {1}, "dtype": "{2}"},
           "streams": {{"k": {{"codec": "{3}"}, "v": {{"codec": "{4}"}},
           "layout": {{"kind": "contiguous"}})",
      kGroup, kDim, dtype, k, v);
  return test::artifactOf(text, "x86-64-v4-amx");
}

/// What one attend of kQueries tokens over kTokens executes; nullopt where the
/// level cannot run.
std::optional<amx::Counters> executed(const std::vector<uint8_t> &artifact) {
  auto device = Device::sim("x86-64-v4-amx");
  auto program = Program::load(*device, std::as_bytes(std::span(artifact)));
  if (!program) {
    // AMX itself is never what is missing.
    EXPECT_THAT(program.status().text(), testing::HasSubstr("lacks avx"));
    return std::nullopt;
  }
  kvc_cache_options options = {};
  options.size = sizeof(options);
  options.arena_bytes = 4 << 20;
  options.max_sequences = options.max_batch = 1;
  options.max_step_tokens = options.max_tokens_per_seq = kTokens;
  auto cache = Cache::create(*program, options);
  kvc_seq sequence = *cache->open();
  std::vector<uint16_t> zeros(kTokens * kDim), q(kQueries * kGroup * kDim),
      out(q.size());
  for (uint32_t tokens : {kTokens - kQueries, kQueries}) {
    kvc_slot_request request = {sequence, tokens};
    auto step = cache->reserve({&request, 1});
    EXPECT_TRUE(cache->append(*step, 0, zeros.data(), zeros.data()));
    amx::Counters before = amx::counters();
    if (tokens == kQueries) {
      EXPECT_TRUE(cache->attend(*step, 0, q.data(), out.data()));
      amx::Counters after = amx::counters();
      for (size_t op = 0; op < amx::kOps; ++op)
        after.ops[op] -= before.ops[op];
      return after;
    }
    EXPECT_TRUE(cache->commit(*step));
  }
  return std::nullopt;
}

/// Instructions of a block of 32 query rows and a tile of 64 tokens.
struct Work {
  uint64_t products, loads;
};

void expectWork(const char *dtype, const char *k, const char *v, Work scores,
                Work outputs) {
  if (rt::cpuHasFeature("amx-tile"))
    GTEST_SKIP() << "AMX is here: nobody counts";
  auto counters = executed(compileFor(dtype, k, v));
  if (!counters)
    GTEST_SKIP() << "the rest of x86-64-v4-amx is not here";
  constexpr uint64_t kTimes = kGroup * kQueries / 32 * (kTokens / 64);
  // Sums: of 2 x 32 tokens and 32 rows, and of 32 rows and 4 x 32 channels,
  // which go on from tile to tile.
  constexpr uint64_t kScoreSums = 2 * 4, kOutputSums = 4 * 4;
  EXPECT_EQ(counters->of(Op::tdpbf16ps),
            kTimes * (scores.products + outputs.products));
  EXPECT_EQ(counters->of(Op::tileloadd),
            kTimes * (scores.loads + outputs.loads + kOutputSums));
  EXPECT_EQ(counters->of(Op::tilestored), kTimes * (kScoreSums + kOutputSums));
  EXPECT_EQ(counters->of(Op::tilezero), kTimes * kScoreSums);
  EXPECT_EQ(counters->of(Op::ldtilecfg), 1u);
  EXPECT_EQ(counters->of(Op::tilerelease), 1u);
}

} // namespace

// A product takes 16 rows, 16 columns and 32 of what is summed over: 32 x 64 x
// 128 are 32 products.
TEST(AmxPrefill, MultipliesOnce) {
  expectWork("bf16", "bf16", "bf16", {32, 32}, {32, 32});
}

// Weights with V's scales are sums of two bf16, the codes are not.
TEST(AmxPrefill, MultipliesScaledWeightsTwice) {
  expectWork("bf16", "int8", "int8", {32, 32}, {64, 48});
}

// Both operands are sums of two: three products, and one of two loaded again.
TEST(AmxPrefill, MultipliesF16ThreeTimes) {
  expectWork("f16", "f16", "f16", {96, 80}, {96, 80});
}
