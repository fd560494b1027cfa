//===- SpeedTest.cpp - a kernel of the shape of attention -----------------===//
//
// One CTA of 4 warps, 16 query rows, 1024 keys of 128 channels in bf16: what an
// attend kernel executes per key, without its arithmetic. The figure to watch
// is the time that it prints.
//
//===----------------------------------------------------------------------===//
#include "test/unit/Simt/Fixture.h"

#include <chrono>
#include <cstdio>
#include <memory>

using namespace kvc::simt;

namespace {

constexpr unsigned kKeys = 1024, kChannels = 128, kTile = 64, kStages = 2;
constexpr unsigned kRow = kChannels * 2;            ///< bytes
constexpr unsigned kWarpTile = kTile / 4 * kRow;    ///< of K or of V
constexpr unsigned kStage = 2 * kWarpTile;          ///< of a warp
constexpr unsigned kRing = kStages * kStage;        ///< of a warp
constexpr unsigned kShared = 4 * kRing + 16 * kRow; ///< rings, queries

struct Params {
  alignas(16) uint16_t k[kKeys][kChannels], v[kKeys][kChannels];
  uint16_t q[16][kChannels];
  float out[4][16][kChannels];
};

/// Rows 16-byte blocks swizzled, so that eight rows of a column differ in bank.
uint32_t place(uint32_t row, uint32_t block) {
  return row * kRow + ((block ^ (row & 7)) * 16);
}

struct Attend {
  Gpu gpu;
  Params &p;
  uint32_t thread = gpu.tid(), lane = thread % 32, warp = thread / 32;
  uint32_t ring = kBase + warp * kRing, queries = kBase + 4 * kRing;
  float sums[16][4] = {};

  void copy(unsigned tile) {
    if (tile < kKeys / kTile)
      for (unsigned i = 0; i < 8; ++i) {
        uint32_t row = i * 2 + lane / 16, block = lane % 16;
        uint32_t key = tile * kTile + warp * 16 + row;
        uint32_t to = ring + tile % kStages * kStage + place(row, block);
        gpu.op(KVC_OP_CpAsync16Zfill, {to, &p.k[key][block * 8], 16, 0, 0});
        gpu.op(KVC_OP_CpAsync16Zfill,
               {to + kWarpTile, &p.v[key][block * 8], 16, 0, 0});
      }
    gpu.op(KVC_OP_CpAsyncCommit);
  }

  void multiply(float *c, const uint32_t *a, uint32_t b0, uint32_t b1) {
    gpu.op(KVC_OP_MmaBF16,
           {a[0], a[1], a[2], a[3], b0, b1, c[0], c[1], c[2], c[3]});
    for (unsigned i = 0; i < 4; ++i)
      c[i] = gpu.outF(i);
  }

  void tile(unsigned index) {
    uint32_t stage = ring + index % kStages * kStage;
    float scores[2][4] = {};
    for (unsigned step = 0; step < 8; ++step) {
      gpu.op(KVC_OP_LdMatrixX4,
             {queries + place(lane % 16, step * 2 + lane / 16), 0});
      uint32_t a[4] = {gpu.out(0), gpu.out(1), gpu.out(2), gpu.out(3)};
      gpu.op(KVC_OP_LdMatrixX4,
             {stage + place(lane % 8 + lane / 16 * 8, step * 2 + lane / 8 % 2),
              0});
      uint32_t b[4] = {gpu.out(0), gpu.out(1), gpu.out(2), gpu.out(3)};
      multiply(scores[0], a, b[0], b[1]);
      multiply(scores[1], a, b[2], b[3]);
    }
    uint32_t a[4];
    for (unsigned i = 0; i < 4; ++i) {
      float x = scores[i / 2][i % 2 * 2], y = scores[i / 2][i % 2 * 2 + 1];
      for (int distance : {1, 2})
        gpu.op(KVC_OP_ShflBfly, {x, distance});
      a[i] = gpu.op(KVC_OP_CvtBF16x2, {y, x});
    }
    for (unsigned step = 0; step < 8; ++step) {
      gpu.op(KVC_OP_LdMatrixX4Trans,
             {stage + kWarpTile + place(lane % 16, step * 2 + lane / 16), 0});
      uint32_t b[4] = {gpu.out(0), gpu.out(1), gpu.out(2), gpu.out(3)};
      multiply(sums[step * 2], a, b[0], b[1]);
      multiply(sums[step * 2 + 1], a, b[2], b[3]);
    }
  }

  void run() {
    for (unsigned i = 0; i < 2; ++i) {
      uint32_t block = thread + i * 128;
      gpu.op(KVC_OP_CpAsync16, {queries + place(block / 16, block % 16),
                                &p.q[block / 16][block % 16 * 8], 0, 0});
    }
    copy(0);
    for (unsigned i = 0; i < kKeys / kTile; ++i) {
      copy(i + 1);
      gpu.op(KVC_OP_CpAsyncWait, {1});
      gpu.barrier(128);
      tile(i);
      gpu.barrier(128);
    }
    gpu.op(KVC_OP_CpAsyncWait, {0});
    for (unsigned i = 0; i < 16; ++i)
      for (unsigned j = 0; j < 4; ++j)
        gpu.store(
            &p.out[warp][lane / 4 + j / 2 * 8][i * 8 + lane % 4 * 2 + j % 2],
            sums[i][j]);
  }
};

class SpeedTest : public SimtTest {};

TEST_F(SpeedTest, AttentionOf1024Keys) {
  auto params = std::make_unique<Params>();
  for (auto &row : params->k)
    for (uint16_t &x : row)
      x = 0x3f80; // 1
  for (auto &row : params->v)
    for (uint16_t &x : row)
      x = 0x3f80;
  for (auto &row : params->q)
    for (uint16_t &x : row)
      x = 0x3c00; // 1/128
  double best = 1e9;
  for (int i = 0; i < 10; ++i) {
    machine->resetCounters();
    auto begin = std::chrono::steady_clock::now();
    ASSERT_EQ(run<Params>([](Gpu gpu, Params &p) { Attend{gpu, p}.run(); },
                          *params, 128, kShared),
              "");
    auto end = std::chrono::steady_clock::now();
    best = std::min(
        best, std::chrono::duration<double, std::milli>(end - begin).count());
  }
  std::printf("1024 keys: %.2f ms\n", best);
  EXPECT_EQ(counters().ops[KVC_OP_MmaBF16], 4 * 16 * 32u);
  // Every key of a warp's quarter has score 1.
  for (const auto &warp : params->out)
    for (const auto &row : warp)
      for (float x : row)
        ASSERT_EQ(x, kKeys / 4);
}

} // namespace
