//===- ProductsTest.cpp - tiles multiplied, against plain loops -----------===//
#include "test/unit/Amx/Fixture.h"

#include <array>
#include <bit>
#include <cfloat>
#include <cmath>
#include <random>
#include <thread>
#include <vector>

using namespace kvc;
using namespace kvc::test;
using amx::Op;

namespace {

/// C is m rows of n dwords, A m of k, B k of n. Rows lie further apart than
/// they are wide.
struct Problem {
  unsigned m, n, k;
  Op op;
  std::vector<uint32_t> a, b, c; ///< [16][kStride]
  static constexpr unsigned kStride = 19;

  Config config() const {
    Config config;
    config.tile(3, m, n * 4).tile(0, m, k * 4).tile(7, k, n * 4);
    return config;
  }
};
constexpr unsigned kStride = Problem::kStride;

KVC_AMX_CODE void run(Problem &p) {
  Config config = p.config();
  _tile_loadconfig(&config);
  _tile_loadd(3, p.c.data(), kStride * 4);
  _tile_stream_loadd(0, p.a.data(), kStride * 4);
  _tile_loadd(7, p.b.data(), kStride * 4);
  switch (p.op) {
  case Op::tdpbf16ps:
    _tile_dpbf16ps(3, 0, 7);
    break;
  case Op::tdpbssd:
    _tile_dpbssd(3, 0, 7);
    break;
  case Op::tdpbsud:
    _tile_dpbsud(3, 0, 7);
    break;
  case Op::tdpbusd:
    _tile_dpbusd(3, 0, 7);
    break;
  default:
    _tile_dpbuud(3, 0, 7);
  }
  _tile_stored(3, p.c.data(), kStride * 4);
  _tile_release();
}

/// What AMX makes of denormals, given and got.
float flush(float x) {
  return std::fabs(x) < FLT_MIN ? std::copysign(0.0f, x) : x;
}
float bf16(uint32_t word, bool odd) {
  return flush(std::bit_cast<float>(odd ? word & 0xffff0000 : word << 16));
}

uint32_t expectedFloat(const Problem &p, unsigned m, unsigned n) {
  float sums[2] = {};
  for (unsigned k = 0; k < p.k; ++k)
    for (bool odd : {false, true})
      sums[odd] = flush(std::fmaf(bf16(p.a[m * kStride + k], odd),
                                  bf16(p.b[k * kStride + n], odd), sums[odd]));
  float sum = flush(sums[0] + sums[1]);
  float c = flush(std::bit_cast<float>(p.c[m * kStride + n]));
  return std::bit_cast<uint32_t>(flush(c + sum));
}

int64_t byte(uint32_t word, unsigned i, bool isSigned) {
  uint8_t bits = uint8_t(word >> 8 * i);
  return isSigned ? int8_t(bits) : bits;
}

uint32_t expectedInt(const Problem &p, unsigned m, unsigned n) {
  bool a = p.op == Op::tdpbssd || p.op == Op::tdpbsud;
  bool b = p.op == Op::tdpbssd || p.op == Op::tdpbusd;
  int64_t sum = int32_t(p.c[m * kStride + n]);
  for (unsigned k = 0; k < p.k; ++k)
    for (unsigned i = 0; i < 4; ++i)
      sum +=
          byte(p.a[m * kStride + k], i, a) * byte(p.b[k * kStride + n], i, b);
  return uint32_t(sum);
}

/// The bits, but all NaNs are alike.
uint32_t same(Op op, uint32_t bits) {
  bool nan = op == Op::tdpbf16ps && std::isnan(std::bit_cast<float>(bits));
  return nan ? 0x7fc00000 : bits;
}

std::vector<uint32_t> expected(const Problem &p) {
  std::vector<uint32_t> c = p.c;
  for (unsigned m = 0; m < p.m; ++m)
    for (unsigned n = 0; n < p.n; ++n)
      c[m * kStride + n] =
          same(p.op, p.op == Op::tdpbf16ps ? expectedFloat(p, m, n)
                                           : expectedInt(p, m, n));
  return c;
}

void compare(Problem p, const std::string &what) {
  std::vector<uint32_t> right = expected(p);
  run(p);
  ASSERT_EQ(amx::finish(), "") << what;
  for (size_t i = 0; i < right.size(); ++i)
    ASSERT_EQ(same(p.op, p.c[i]), same(p.op, right[i]))
        << what << ", row " << i / kStride << ", dword " << i % kStride
        << ", shape " << p.m << " " << p.n << " " << p.k;
}

Problem shaped(Op op, std::mt19937 &random) {
  auto size = [&] { return random() % 4 ? 1 + unsigned(random() % 16) : 16; };
  Problem p = {size(), size(), size(), op, {}, {}, {}};
  for (auto *matrix : {&p.a, &p.b, &p.c}) {
    matrix->resize(16 * kStride);
    for (uint32_t &word : *matrix)
      word = uint32_t(random());
  }
  return p;
}

/// Two bf16 of usual sizes: sums round, and their order matters.
uint32_t usualPair(std::mt19937 &random) {
  auto one = [&] {
    return uint32_t(random() & 0x807f) | uint32_t(120 + random() % 12) << 7;
  };
  return one() | one() << 16;
}
uint16_t special(std::mt19937 &random) {
  constexpr uint16_t kValues[] = {0,      0x8000, 1,      0x8001, 0x7f,
                                  0x807f, 0x80,   0x8080, 0x3f80, 0xbf80,
                                  0x7f80, 0xff80, 0x7fc0, 0x7f7f, 0xff7f,
                                  0x1f80, 0x2000, 0x3fc0, 0x0100};
  return kValues[random() % std::size(kValues)];
}

constexpr Op kIntProducts[] = {Op::tdpbssd, Op::tdpbsud, Op::tdpbusd,
                               Op::tdpbuud};

} // namespace

TEST_F(Amx, BF16OfUsualSizes) {
  std::mt19937 random(1);
  for (unsigned round = 0; round < 300; ++round) {
    Problem p = shaped(Op::tdpbf16ps, random);
    for (auto *matrix : {&p.a, &p.b})
      for (uint32_t &word : *matrix)
        word = usualPair(random);
    for (uint32_t &word : p.c)
      word = std::bit_cast<uint32_t>(float(int(random() % 2001) - 1000) / 512);
    ASSERT_NO_FATAL_FAILURE(compare(p, "round " + std::to_string(round)));
  }
}

TEST_F(Amx, BF16OfAllBits) {
  std::mt19937 random(2);
  for (unsigned round = 0; round < 100; ++round)
    ASSERT_NO_FATAL_FAILURE(compare(shaped(Op::tdpbf16ps, random),
                                    "round " + std::to_string(round)));
}

// Zeros, denormals, infinities, NaNs and what overflows and underflows, few in
// a row so that not every sum is a NaN.
TEST_F(Amx, BF16OfSpecialValues) {
  std::mt19937 random(3);
  for (unsigned round = 0; round < 500; ++round) {
    Problem p = shaped(Op::tdpbf16ps, random);
    p.k = 1 + round % 3;
    for (auto *matrix : {&p.a, &p.b})
      for (uint32_t &word : *matrix)
        word = special(random) | uint32_t(special(random)) << 16;
    for (uint32_t &word : p.c)
      word = uint32_t(special(random)) << 16 | (random() % 3 ? 0 : 1);
    ASSERT_NO_FATAL_FAILURE(compare(p, "round " + std::to_string(round)));
  }
}

// 1 + 2^-24 is a tie, and even is below; 1 + 2^-23 + 2^-24 is one, and even is
// above.
TEST_F(Amx, BF16RoundsTiesToEven) {
  Problem p = {1, 2, 2, Op::tdpbf16ps, {}, {}, {}};
  for (auto *matrix : {&p.a, &p.b, &p.c})
    matrix->resize(16 * kStride);
  auto bits = [](float x) { return std::bit_cast<uint32_t>(x) >> 16; };
  p.a[0] = bits(1), p.a[1] = bits(0x1p-12f);
  p.b[0] = bits(1), p.b[kStride] = bits(0x1p-12f);
  p.b[1] = bits(1), p.b[kStride + 1] = bits(0x1.8p-11f);
  run(p);
  EXPECT_EQ(std::bit_cast<float>(p.c[0]), 1);
  EXPECT_EQ(std::bit_cast<float>(p.c[1]), 1 + 0x1p-22f);
}

// MXCSR decides nothing, and is what it was.
TEST_F(Amx, MxcsrIsNotAsked) {
  std::mt19937 random(4);
  unsigned before = _mm_getcsr();
  for (unsigned mode : {0x1f80u, 0x3f80u, 0x5f80u, 0x7f80u, 0x9fc0u}) {
    Problem p = shaped(Op::tdpbf16ps, random);
    for (auto *matrix : {&p.a, &p.b, &p.c})
      for (uint32_t &word : *matrix)
        word = usualPair(random);
    std::vector<uint32_t> right = expected(p);
    _mm_setcsr(mode);
    run(p);
    unsigned after = _mm_getcsr();
    _mm_setcsr(before);
    EXPECT_EQ(after, mode);
    EXPECT_EQ(p.c, right) << mode;
  }
}

TEST_F(Amx, Bytes) {
  std::mt19937 random(5);
  for (unsigned round = 0; round < 100; ++round)
    for (Op op : kIntProducts)
      ASSERT_NO_FATAL_FAILURE(
          compare(shaped(op, random), "round " + std::to_string(round)));
}

// The largest products, beside an accumulator that wraps around.
TEST_F(Amx, BytesWrapAround) {
  std::mt19937 random(6);
  for (Op op : kIntProducts)
    for (uint32_t word : {0x80808080u, 0xffffffffu, 0x7f7f7f7fu}) {
      Problem p = shaped(op, random);
      for (uint32_t &each : p.a)
        each = word;
      for (uint32_t &each : p.b)
        each = random() % 2 ? 0x80808080 : 0xffffffff;
      for (uint32_t &each : p.c)
        each = random() % 2 ? 0x7fffffff : 0x80000000;
      ASSERT_NO_FATAL_FAILURE(compare(p, "extremes"));
    }
}

TEST_F(Amx, EachThreadHasItsTiles) {
  std::vector<std::thread> threads;
  std::atomic<unsigned> wrong = 0;
  for (unsigned seed = 0; seed < 6; ++seed)
    threads.emplace_back([seed, &wrong] {
      std::mt19937 random(seed);
      for (unsigned round = 0; round < 200; ++round) {
        Problem p = shaped(Op::tdpbusd, random);
        std::vector<uint32_t> right = expected(p);
        run(p);
        wrong += p.c != right || !amx::finish().empty();
      }
    });
  for (std::thread &thread : threads)
    thread.join();
  EXPECT_EQ(wrong, 0u);
}
