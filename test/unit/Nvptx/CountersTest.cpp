//===- CountersTest.cpp - what decode does, counted in emulation ----------===//
//
// Figures that a GPU's profiler would print, of the decode kernel of a 128-wide
// bf16 cache in pages of 16, as it is planned by default. Nothing is timed.
//
//===----------------------------------------------------------------------===//
#include "lib/Compiler/Compiler.h"
#include "lib/Spec/Reader.h"

#include "kvc/runtime.h"

#include "gtest/gtest.h"

#include <numeric>

using namespace kvc;

namespace {

constexpr const char *kSpec = R"({
  "kvc": "0.1", "name": "counters",
  "model": {"layers": 1, "q_heads": 8, "kv_heads": 1, "head_dim": 128,
            "dtype": "bf16"},
  "streams": {"k": {"codec": "bf16"}, "v": {"codec": "bf16"}},
  "layout": {"kind": "paged", "page": 16}, "reads": "all"})";
constexpr int64_t kTokens = 4096, kPage = 16, kDim = 128, kHeads = 8;
/// Of K and V.
constexpr int64_t kCacheBytes = kTokens * kDim * 2 * 2;

/// 64-byte aligned memory of an emulated GPU.
struct Memory {
  std::vector<uint8_t> bytes;
  uint8_t *data = nullptr;

  Memory(kvc_device *device, size_t size, int writable) : bytes(size + 64) {
    data = bytes.data() + (-uintptr_t(bytes.data()) & 63);
    EXPECT_EQ(kvc_sim_allow(device, data, size, writable).code, KVC_OK);
  }
};

struct Measured {
  kvc_sim_counters counters = {};
};

/// One query token of one sequence; random page order.
Measured runDecode(const std::string &target) {
  Diagnostics diagnostics;
  auto spec = spec::read(kSpec, "counters.json", diagnostics);
  CompileOptions options;
  options.targets = {"sim:" + target};
  auto output = compile(*spec, options, diagnostics);
  EXPECT_TRUE(output);
  kvc_sim_options sim = {};
  sim.size = sizeof(sim);
  sim.target = target.c_str();
  sim.flags = KVC_SIM_COUNT;
  kvc_device *device = nullptr;
  kvc_program *program = nullptr;
  EXPECT_EQ(kvc_device_create_sim(&sim, &device).code, KVC_OK);
  EXPECT_EQ(kvc_program_load(device, output->artifact.data(),
                             output->artifact.size(), &program)
                .code,
            KVC_OK);
  Memory cache(device, kCacheBytes, 0), q(device, kHeads * kDim * 2, 0),
      out(device, kHeads * kDim * 2, 1);
  Memory cu(device, 8, 0), length(device, 4, 0),
      table(device, kTokens / kPage * 4, 0);
  reinterpret_cast<int32_t *>(cu.data)[1] = 1;
  *reinterpret_cast<int32_t *>(length.data) = kTokens;
  for (int64_t i = 0; i < kTokens / kPage; ++i)
    reinterpret_cast<int32_t *>(table.data)[i] = int32_t(i * 37 % 256);
  kvc_attend_args args = {};
  args.size = sizeof(args);
  args.batch = args.rows = args.max_queries = 1;
  args.max_kv_len = kTokens;
  args.q = q.data;
  args.out = out.data;
  args.q_row_stride = args.out_row_stride = kHeads * kDim * 2;
  args.cu_q = reinterpret_cast<int32_t *>(cu.data);
  args.kv_len = reinterpret_cast<int32_t *>(length.data);
  args.table = reinterpret_cast<int32_t *>(table.data);
  args.table_stride = kTokens / kPage;
  for (int plane = 0; plane < 2; ++plane)
    args.planes[plane] = {cache.data + plane * kPage * kDim * 2,
                          2 * kPage * kDim * 2, kPage * kDim * 2};
  EXPECT_EQ(
      kvc_attend_workspace(program, 0, 1, 1, kTokens, &args.workspace_bytes)
          .code,
      KVC_OK);
  Memory workspace(device, args.workspace_bytes, 1);
  args.workspace = workspace.data;
  Measured run;
  EXPECT_EQ(kvc_attend(program, 0, &args).code, KVC_OK) << kvc_error_text();
  run.counters.size = sizeof(run.counters);
  EXPECT_EQ(kvc_sim_get_counters(device, &run.counters).code, KVC_OK);
  kvc_program_release(program);
  kvc_device_release(device);
  return run;
}

class Decode : public testing::TestWithParam<const char *> {};

TEST_P(Decode, MovesLittleBesideTheCache) {
  Measured run = runDecode(GetParam());
  // From memory; what several warps read comes from a cache but once.
  double moved = 32.0 * run.counters.sectors_distinct;
  double ideal = kCacheBytes + 2.0 * kHeads * kDim * 2;
  EXPECT_LE(moved / ideal, 1.02);
  EXPECT_GE(moved / ideal, 1);
  // And from that cache: q and page ids again and again, and parts.
  EXPECT_LE(32.0 * run.counters.sectors / ideal, 1.05);
}

TEST_P(Decode, HasNoBankConflicts) {
  Measured run = runDecode(GetParam());
  EXPECT_GT(run.counters.wavefronts, kTokens);
  EXPECT_EQ(run.counters.wavefronts, run.counters.wavefronts_best);
}

TEST_P(Decode, MultipliesOncePerTokenAndEightHeads) {
  EXPECT_EQ(runDecode(GetParam()).counters.mma, uint64_t(kTokens));
}

TEST_P(Decode, HasEnoughUnderWay) {
  // Two CTAs share an SM: nvptx-schedules checks that they fit.
  uint64_t perSm = 2 * runDecode(GetParam()).counters.most_in_flight;
  RecordProperty("bytes_per_sm", std::to_string(perSm));
  EXPECT_GE(perSm, 40u * 1024);
}

INSTANTIATE_TEST_SUITE_P(Targets, Decode, testing::Values("sm_80", "sm_90a"));

} // namespace
