//===- CountersTest.cpp - what attend does, counted in emulation ----------===//
//
// Figures that a GPU's profiler would print, of the attend kernels of a
// 128-wide bf16 cache in pages of 16, and of a latent, as they are planned by
// default. Nothing is timed.
//
//===----------------------------------------------------------------------===//
#include "test/support/AlignedBytes.h"
#include "test/support/Compile.h"

#include "kvc/runtime.h"

#include "gtest/gtest.h"

#include <numeric>

using namespace kvc;

namespace {

constexpr int64_t kTokens = 4096, kPage = 16, kHeads = 8;

/// A cache of bf16 with one kv head.
struct Shape {
  int64_t dimK, dimV;
  std::vector<int64_t> rows; ///< bytes of a row of each plane

  std::string spec() const {
    return R"({"kvc": "0.2", "name": "counters", "model": {"layers": 1,
      "q_heads": 8, "kv_heads": 1, "dtype": "bf16", "head_dim": {"k": )" +
           std::to_string(dimK) + R"(, "v": )" + std::to_string(dimV) +
           R"(}}, "streams": {"v": )" +
           (rows.size() == 1 ? R"({"of": "k"})" : R"({"codec": "bf16"})") +
           R"(}, "layout": {"kind": "paged", "page": 16}})";
  }
  int64_t tokenBytes() const {
    return std::accumulate(rows.begin(), rows.end(), int64_t(0));
  }
};
const Shape kPlain = {128, 128, {256, 256}}, kLatent = {576, 512, {1152}};

/// Query tokens, and cached tokens that they see.
struct Work {
  int64_t queries, tokens;
  int64_t queryBytes(const Shape &shape) const {
    return queries * kHeads * shape.dimK * 2;
  }
  int64_t outBytes(const Shape &shape) const {
    return queries * kHeads * shape.dimV * 2;
  }
  /// The cache, q and the output, each once.
  double idealBytes(const Shape &shape) const {
    return double(tokens * shape.tokenBytes() + queryBytes(shape) +
                  outBytes(shape));
  }
};
constexpr Work kDecode = {1, kTokens}, kPrefill = {32, 1024};

/// Memory of an emulated GPU.
struct Memory {
  test::AlignedBytes bytes;
  uint8_t *data;

  Memory(kvc_device *device, size_t size, int writable)
      : bytes(size, 0), data(bytes.data()) {
    EXPECT_EQ(kvc_sim_allow(device, data, size, writable).code, KVC_OK);
  }
};

struct Measured {
  kvc_sim_counters counters = {};
};

/// One sequence; random page order.
Measured runAttend(const std::string &target, const Work &work,
                   const Shape &shape = kPlain) {
  std::vector<uint8_t> artifact =
      test::artifactOf(shape.spec(), "sim:" + target);
  kvc_sim_options sim = {};
  sim.size = sizeof(sim);
  sim.target = target.c_str();
  sim.flags = KVC_SIM_COUNT;
  kvc_device *device = nullptr;
  kvc_program *program = nullptr;
  EXPECT_EQ(kvc_device_create_sim(&sim, &device).code, KVC_OK);
  EXPECT_EQ(
      kvc_program_load(device, artifact.data(), artifact.size(), &program).code,
      KVC_OK);
  Memory cache(device, kTokens * shape.tokenBytes(), 0),
      q(device, work.queryBytes(shape), 0),
      out(device, work.outBytes(shape), 1);
  Memory cu(device, 8, 0), length(device, 4, 0),
      table(device, kTokens / kPage * 4, 0);
  reinterpret_cast<int32_t *>(cu.data)[1] = int32_t(work.queries);
  *reinterpret_cast<int32_t *>(length.data) = int32_t(work.tokens);
  for (int64_t i = 0; i < kTokens / kPage; ++i)
    reinterpret_cast<int32_t *>(table.data)[i] = int32_t(i * 37 % 256);
  kvc_attend_args args = {};
  args.size = sizeof(args);
  args.batch = 1;
  args.rows = args.max_queries = uint32_t(work.queries);
  args.max_kv_len = uint32_t(work.tokens);
  args.q = q.data;
  args.out = out.data;
  args.q_row_stride = kHeads * shape.dimK * 2;
  args.out_row_stride = kHeads * shape.dimV * 2;
  args.cu_q = reinterpret_cast<int32_t *>(cu.data);
  args.kv_len = reinterpret_cast<int32_t *>(length.data);
  args.table = reinterpret_cast<int32_t *>(table.data);
  args.table_stride = kTokens / kPage;
  std::vector<kvc_plane> planes;
  uint8_t *at = cache.data;
  for (int64_t row : shape.rows) {
    planes.push_back({at, kPage * shape.tokenBytes(), kPage * row});
    at += kPage * row;
  }
  args.planes = planes.data();
  args.plane_count = uint32_t(planes.size());
  EXPECT_EQ(kvc_attend_workspace(program, 0, 1, args.rows, args.max_kv_len,
                                 &args.workspace_bytes)
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
  Measured run = runAttend(GetParam(), kDecode);
  // From memory; what several warps read comes from a cache but once.
  double moved = 32.0 * run.counters.sectors_distinct;
  double ideal = kDecode.idealBytes(kPlain);
  EXPECT_LE(moved / ideal, 1.02);
  EXPECT_GE(moved / ideal, 1);
  // And from that cache: q and page ids again and again, and partial results.
  EXPECT_LE(32.0 * run.counters.sectors / ideal, 1.05);
}

TEST_P(Decode, HasNoBankConflicts) {
  Measured run = runAttend(GetParam(), kDecode);
  EXPECT_GT(run.counters.wavefronts, kTokens);
  EXPECT_EQ(run.counters.wavefronts, run.counters.wavefronts_best);
}

TEST_P(Decode, MultipliesOncePerTokenAndEightHeads) {
  EXPECT_EQ(runAttend(GetParam(), kDecode).counters.mma, uint64_t(kTokens));
}

TEST_P(Decode, HasEnoughUnderWay) {
  // Two CTAs share an SM: nvptx-schedules checks that they fit.
  uint64_t perSm = 2 * runAttend(GetParam(), kDecode).counters.most_in_flight;
  RecordProperty("bytes_per_sm", std::to_string(perSm));
  EXPECT_GE(perSm, 40u * 1024);
}

// A row of a latent is K and V: it is read once for both, and stands in shared
// memory once.
TEST_P(Decode, ReadsALatentOnceForKAndV) {
  Measured run = runAttend(GetParam(), kDecode, kLatent);
  double ideal = kDecode.idealBytes(kLatent);
  EXPECT_LE(32.0 * run.counters.sectors_distinct / ideal, 1.02);
  // Partial results of 512 channels are more beside a row of 1,152 bytes.
  EXPECT_LE(32.0 * run.counters.sectors / ideal, 1.07);
  EXPECT_EQ(run.counters.wavefronts, run.counters.wavefronts_best);
}

class Prefill : public testing::TestWithParam<const char *> {};

TEST_P(Prefill, ReadsTheCacheOnceForManyRows) {
  Measured run = runAttend(GetParam(), kPrefill);
  double ideal = kPrefill.idealBytes(kPlain);
  EXPECT_LE(32.0 * run.counters.sectors_distinct / ideal, 1.02);
  // 256 rows are two work tiles.
  EXPECT_LE(32.0 * run.counters.sectors / ideal, 2 * 1.02);
}

TEST_P(Prefill, HasNoBankConflicts) {
  Measured run = runAttend(GetParam(), kPrefill);
  EXPECT_GT(run.counters.wavefronts, uint64_t(kPrefill.tokens));
  EXPECT_EQ(run.counters.wavefronts, run.counters.wavefronts_best);
}

TEST_P(Prefill, MultipliesTwicePerTokenAndSixteenRows) {
  // Of two query tokens each; of the last tokens, 16 at a time, as far as some
  // row of a warp sees any.
  uint64_t products = 0;
  for (int64_t query = 1; query < kPrefill.queries; query += 2) {
    int64_t position = kPrefill.tokens - kPrefill.queries + query;
    products += uint64_t(position / 16 + 1) * 16 * 2;
  }
  EXPECT_EQ(runAttend(GetParam(), kPrefill).counters.mma, products);
}

INSTANTIATE_TEST_SUITE_P(Targets, Decode, testing::Values("sm_80", "sm_90"));
INSTANTIATE_TEST_SUITE_P(Targets, Prefill, testing::Values("sm_80", "sm_90"));

} // namespace
