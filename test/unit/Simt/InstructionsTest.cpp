//===- InstructionsTest.cpp - what instructions mean ----------------------===//
//
// Against formulas of the PTX manual, written once more here.
//
//===----------------------------------------------------------------------===//
#include "test/unit/Simt/Fixture.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <set>

using namespace kvc::simt;

namespace {

class InstructionsTest : public SimtTest {};

struct Words {
  uint32_t x[256] = {}, y[256] = {}, z[256] = {}, out[256] = {};
};

TEST_F(InstructionsTest, ThreadsKnowWhereTheyAre) {
  struct {
    uint32_t thread[3][64], ctas[3][64];
  } seen = {};
  using Seen = decltype(seen);
  ASSERT_EQ(run<Seen>(
                [](Gpu gpu, Seen &seen) {
                  uint32_t cta = gpu.op(KVC_OP_CtaidX);
                  uint32_t thread = gpu.op(KVC_OP_TidX);
                  ++seen.thread[cta][thread];
                  seen.ctas[cta][thread] = gpu.op(KVC_OP_NctaidX);
                },
                seen, 64, 0, 3),
            "");
  for (unsigned cta = 0; cta < 3; ++cta)
    for (unsigned thread = 0; thread < 64; ++thread) {
      EXPECT_EQ(seen.thread[cta][thread], 1u);
      EXPECT_EQ(seen.ctas[cta][thread], 3u);
    }
}

//===----------------------------------------------------------------------===//
// Between lanes
//===----------------------------------------------------------------------===//

TEST_F(InstructionsTest, ShufflesMoveValuesBetweenLanes) {
  for (uint32_t by : {0u, 1u, 2u, 5u, 16u, 31u}) {
    Words words;
    words.x[0] = by;
    ASSERT_EQ(run<Words>(
                  [](Gpu gpu, Words &w) {
                    uint32_t thread = gpu.tid(), value = 1000 + thread;
                    w.y[thread] = gpu.op(KVC_OP_ShflBfly, {value, w.x[0]});
                    w.z[thread] = gpu.op(KVC_OP_ShflUp, {value, w.x[0]});
                    w.out[thread] =
                        gpu.op(KVC_OP_ShflIdx, {value, thread * 7 + w.x[0]});
                  },
                  words, 64),
              "");
    for (uint32_t thread = 0; thread < 64; ++thread) {
      uint32_t lane = thread % 32, first = 1000 + thread - lane;
      EXPECT_EQ(words.y[thread], first + (lane ^ by));
      EXPECT_EQ(words.z[thread], first + (lane < by ? lane : lane - by));
      EXPECT_EQ(words.out[thread], first + (thread * 7 + by) % 32);
    }
  }
}

TEST_F(InstructionsTest, VotesAndMaximaAreOverTheWarp) {
  Words words;
  // Warp 0 has one, warp 1 none; any bit counts.
  words.x[5] = 0x80000000;
  words.x[9] = 4;
  words.y[40] = 0xffffff00;
  ASSERT_EQ(run<Words>(
                [](Gpu gpu, Words &w) {
                  uint32_t t = gpu.tid();
                  w.z[t] = gpu.op(KVC_OP_VoteAny, {w.x[t]});
                  w.x[t] = gpu.op(KVC_OP_Ballot, {w.x[t]});
                  w.y[t] = gpu.op(KVC_OP_ReduxMaxU32, {w.y[t] + t});
                },
                words, 64),
            "");
  for (uint32_t thread = 0; thread < 64; ++thread) {
    bool first = thread < 32;
    EXPECT_EQ(words.z[thread], first ? 1u : 0u);
    EXPECT_EQ(words.x[thread], first ? 1u << 5 | 1u << 9 : 0u);
    EXPECT_EQ(words.y[thread], first ? 31u : 0xffffff00u + 40);
  }
}

TEST_F(InstructionsTest, OneLaneOfAWarpIsElected) {
  std::set<uint32_t> chosen;
  for (unsigned seed = 0; seed < 20; ++seed) {
    Words words;
    machine = std::make_unique<Machine>(seed);
    ASSERT_EQ(
        run<Words>([](Gpu gpu,
                      Words &w) { w.out[gpu.tid()] = gpu.op(KVC_OP_ElectOne); },
                   words, 64),
        "");
    for (uint32_t warp = 0; warp < 64; warp += 32) {
      EXPECT_EQ(std::count(words.out + warp, words.out + warp + 32, 1u), 1);
      EXPECT_EQ(std::count(words.out + warp, words.out + warp + 32, 0u), 31);
    }
    chosen.insert(
        uint32_t(std::find(words.out, words.out + 32, 1u) - words.out));
  }
  // No kernel may depend on which.
  EXPECT_GT(chosen.size(), 5u);
}

//===----------------------------------------------------------------------===//
// Shared memory
//===----------------------------------------------------------------------===//

TEST_F(InstructionsTest, SharedMemoryHoldsWhatIsStored) {
  Words words;
  ASSERT_EQ(run<Words>(
                [](Gpu gpu, Words &w) {
                  if (gpu.tid() != 0)
                    return;
                  uint32_t base = gpu.op(KVC_OP_SmemBase);
                  w.out[0] = base;
                  gpu.op(KVC_OP_Sts128, {base, 0x03020100, 0x07060504,
                                         0x0b0a0908, 0x0f0e0d0c, 0});
                  gpu.op(KVC_OP_Sts64, {base, 0x13121110, 0x17161514, 16});
                  gpu.op(KVC_OP_Sts32, {base + 16, 0x1b1a1918, 8});
                  gpu.op(KVC_OP_StsU16, {base, 0xffff1d1c, 28});
                  gpu.op(KVC_OP_StsU16, {base + 28, 0x1f1e, 2});
                  w.out[1] = gpu.op(KVC_OP_Lds128, {base, 16});
                  for (unsigned i = 1; i < 4; ++i)
                    w.out[1 + i] = gpu.out(i);
                  w.out[5] = gpu.op(KVC_OP_Lds64, {base + 8, 0});
                  w.out[6] = gpu.out(1);
                  w.out[7] = gpu.op(KVC_OP_Lds32, {base + 8, -4});
                  w.out[8] = gpu.op(KVC_OP_LdsU16, {base, 6});
                  w.out[9] = gpu.op(KVC_OP_LdsU8, {base, 31});
                },
                words),
            "");
  EXPECT_NE(words.out[0], 0u);
  EXPECT_EQ(words.out[0] % 1024, 0u);
  auto wordAt = [](uint32_t at) {
    return at | (at + 1) << 8 | (at + 2) << 16 | (at + 3) << 24;
  };
  for (unsigned i = 0; i < 4; ++i)
    EXPECT_EQ(words.out[1 + i], wordAt(16 + 4 * i));
  EXPECT_EQ(words.out[5], wordAt(8));
  EXPECT_EQ(words.out[6], wordAt(12));
  EXPECT_EQ(words.out[7], wordAt(4));
  EXPECT_EQ(words.out[8], 0x0706u);
  EXPECT_EQ(words.out[9], 0x1fu);
}

//===----------------------------------------------------------------------===//
// Arithmetic
//===----------------------------------------------------------------------===//

/// f32 of which many are special.
std::vector<float> samples() {
  using Limits = std::numeric_limits<float>;
  std::vector<float> all = {0.0f,
                            -0.0f,
                            1.0f,
                            -1.0f,
                            Limits::infinity(),
                            -Limits::infinity(),
                            Limits::quiet_NaN(),
                            Limits::min(),
                            -Limits::min(),
                            Limits::denorm_min(),
                            std::nextafter(Limits::min(), 0.0f),
                            Limits::max(),
                            -Limits::max(),
                            65504.0f,
                            65519.0f,
                            65520.0f,
                            127.5f,
                            -126.0f,
                            -126.5f,
                            -149.0f};
  std::mt19937 random(3);
  for (unsigned i = 0; i < 100; ++i)
    all.push_back(std::bit_cast<float>(uint32_t(random())));
  for (unsigned i = 0; i < 100; ++i)
    all.push_back(std::uniform_real_distribution<float>(-140, 140)(random));
  return all;
}

/// Equal, or both NaN, or as near as `ulps`.
void expectNear(float found, double exact, double ulps) {
  if (std::isnan(exact)) {
    EXPECT_TRUE(std::isnan(found));
    return;
  }
  // Below the smallest normal number there is only 0.
  if (std::abs(exact) < double(std::numeric_limits<float>::min())) {
    EXPECT_LE(std::abs(found), std::numeric_limits<float>::min());
    EXPECT_FALSE(std::fpclassify(found) == FP_SUBNORMAL);
    EXPECT_EQ(std::signbit(found), std::signbit(exact));
    return;
  }
  if (std::abs(exact) > double(std::numeric_limits<float>::max())) {
    EXPECT_EQ(found, std::copysign(HUGE_VALF, float(exact)));
    return;
  }
  EXPECT_LE(std::abs(double(found) - exact), ulps * std::abs(exact) * 0x1p-23);
}

TEST_F(InstructionsTest, ApproximationsAreNearAndFlushDenormals) {
  struct Math {
    float x, ex2, lg2, rcp;
  };
  for (float x : samples()) {
    Math math = {x, 0, 0, 0};
    ASSERT_EQ(run<Math>(
                  [](Gpu gpu, Math &math) {
                    if (gpu.tid() != 0)
                      return;
                    gpu.op(KVC_OP_Ex2, {math.x});
                    math.ex2 = gpu.outF(0);
                    gpu.op(KVC_OP_Lg2, {math.x});
                    math.lg2 = gpu.outF(0);
                    gpu.op(KVC_OP_Rcp, {math.x});
                    math.rcp = gpu.outF(0);
                  },
                  math),
              "");
    SCOPED_TRACE(x);
    double in = std::fpclassify(x) == FP_SUBNORMAL ? std::copysign(0.0, x) : x;
    expectNear(math.ex2, std::exp2(in), 2);
    expectNear(math.rcp, 1 / in, 1);
    // Near 1 the logarithm's error is not relative.
    if (in > 0 && std::isfinite(in))
      EXPECT_NEAR(math.lg2, std::log2(in), 2e-5);
    else
      EXPECT_TRUE(in == 0          ? math.lg2 == -HUGE_VALF
                  : in == HUGE_VAL ? math.lg2 == HUGE_VALF
                                   : std::isnan(math.lg2));
  }
}

/// Of a 16-bit float with so many bits of exponent and mantissa.
double decode(uint32_t bits, int exponentBits, int mantissaBits) {
  double sign = bits >> 15 & 1 ? -1 : 1;
  int top = (1 << exponentBits) - 1, bias = top / 2;
  int exponent = int(bits >> mantissaBits) & top;
  double mantissa = bits & ((1u << mantissaBits) - 1);
  if (exponent == top)
    return mantissa != 0 ? std::nan("") : sign * HUGE_VAL;
  if (exponent == 0)
    return sign * std::ldexp(mantissa, 1 - bias - mantissaBits);
  return sign *
         std::ldexp(1 + std::ldexp(mantissa, -mantissaBits), exponent - bias);
}

/// The number of 16 bits nearest to x: found by trying all of them.
uint32_t nearest(float x, int exponentBits, int mantissaBits) {
  if (std::isnan(x))
    return 0x7fff;
  uint32_t best = 0;
  double error = HUGE_VAL;
  uint32_t sign = std::signbit(x) ? 0x8000 : 0;
  uint32_t infinity = ((1u << exponentBits) - 1) << mantissaBits;
  for (uint32_t bits = 0; bits <= infinity; ++bits) {
    // Infinity counts as the number that would come next.
    double value = bits == infinity ? std::ldexp(1, 1 << (exponentBits - 1))
                                    : decode(bits, exponentBits, mantissaBits);
    double off = std::abs(std::abs(double(x)) - value);
    if (std::isinf(x))
      off = bits == infinity ? 0 : HUGE_VAL;
    if (off < error || (off == error && bits % 2 == 0)) {
      best = bits;
      error = off;
    }
  }
  return best | sign;
}

TEST_F(InstructionsTest, ConversionsRoundToNearestEven) {
  struct Pair {
    float high, low;
    uint32_t bf16, f16;
  };
  std::vector<float> all = samples();
  // Ties.
  for (float x : {1.00390625f, 1.01171875f, 1.00048828125f, 1.00146484375f,
                  0x1p-25f, 0x1.8p-24f, 0x1p-134f, 0x1.8p-133f})
    all.push_back(x);
  for (size_t i = 0; i < all.size(); ++i) {
    Pair pair = {all[i], -all[all.size() - 1 - i], 0, 0};
    ASSERT_EQ(run<Pair>(
                  [](Gpu gpu, Pair &p) {
                    if (gpu.tid() != 0)
                      return;
                    p.bf16 = gpu.op(KVC_OP_CvtBF16x2, {p.high, p.low});
                    p.f16 = gpu.op(KVC_OP_CvtF16x2, {p.high, p.low});
                  },
                  pair),
              "");
    SCOPED_TRACE(testing::Message() << pair.high << " " << pair.low);
    EXPECT_EQ(pair.bf16 >> 16, nearest(pair.high, 8, 7));
    EXPECT_EQ(pair.bf16 & 0xffff, nearest(pair.low, 8, 7));
    EXPECT_EQ(pair.f16 >> 16, nearest(pair.high, 5, 10));
    EXPECT_EQ(pair.f16 & 0xffff, nearest(pair.low, 5, 10));
  }
}

TEST_F(InstructionsTest, HalvesAreSubtractedEach) {
  struct Halves {
    uint32_t x, y, out;
  };
  std::mt19937 random(5);
  for (unsigned i = 0; i < 300; ++i) {
    Halves halves = {uint32_t(random()), uint32_t(random()), 0};
    if (i % 3 == 0) // near each other
      halves.y = halves.x ^ (random() & 0x00030007);
    ASSERT_EQ(run<Halves>(
                  [](Gpu gpu, Halves &h) {
                    h.out = gpu.op(KVC_OP_SubF16x2, {h.x, h.y});
                  },
                  halves),
              "");
    for (unsigned shift : {0, 16}) {
      double exact = decode(halves.x >> shift & 0xffff, 5, 10) -
                     decode(halves.y >> shift & 0xffff, 5, 10);
      uint32_t found = halves.out >> shift & 0xffff;
      if (std::isnan(exact))
        EXPECT_TRUE(std::isnan(decode(found, 5, 10)));
      else if (exact == 0)
        EXPECT_EQ(decode(found, 5, 10), 0);
      else
        EXPECT_EQ(found, nearest(float(exact), 5, 10));
    }
  }
}

TEST_F(InstructionsTest, PrmtPicksBytes) {
  struct Bytes {
    uint32_t x, y, selector, out;
  };
  std::mt19937 random(7);
  for (unsigned i = 0; i < 200; ++i) {
    Bytes bytes = {uint32_t(random()), uint32_t(random()), uint32_t(random()),
                   0};
    if (i == 0)
      bytes.selector = 0x7654;
    ASSERT_EQ(run<Bytes>(
                  [](Gpu gpu, Bytes &b) {
                    b.out = gpu.op(KVC_OP_Prmt, {b.x, b.y, b.selector});
                  },
                  bytes),
              "");
    uint8_t pool[8];
    for (unsigned b = 0; b < 4; ++b) {
      pool[b] = uint8_t(bytes.x >> (8 * b));
      pool[4 + b] = uint8_t(bytes.y >> (8 * b));
    }
    for (unsigned b = 0; b < 4; ++b) {
      uint32_t nibble = bytes.selector >> (4 * b) & 15;
      uint8_t picked = pool[nibble % 8];
      if (nibble >= 8)
        picked = picked >= 128 ? 255 : 0;
      EXPECT_EQ(bytes.out >> (8 * b) & 255, picked);
    }
  }
}

} // namespace
