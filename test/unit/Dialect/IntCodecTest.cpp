//===- IntCodecTest.cpp - #kvc.int against a scalar quantiser -------------===//
//
// The quantiser here is written from the text of Codecs.td, in float64 with an
// explicit rounding wherever the text has one.
//
//===----------------------------------------------------------------------===//
#include "test/unit/Dialect/Codecs.h"

#include <cfloat>
#include <cmath>
#include <cstring>
#include <random>

using namespace kvc;

namespace {

struct Encoded {
  std::vector<int8_t> codes;
  uint32_t scaleBits = 0;
  float scale = 0;
};

double nearestEven(double x) {
  double low = std::floor(x), rest = x - low;
  if (rest != 0.5)
    return rest < 0.5 ? low : low + 1;
  return std::fmod(low, 2) == 0 ? low : low + 1;
}

double finite(float x) {
  if (std::isnan(x))
    return 0;
  return std::isinf(x) ? std::copysign(double(FLT_MAX), x) : x;
}

Encoded quantise(const std::vector<float> &row, bool halfScale) {
  double absmax = 0;
  for (float x : row)
    absmax = std::max(absmax, std::abs(finite(x)));
  Encoded result;
  // float64 has twice the digits of f32: rounding its quotient again is exact.
  float scale = float(absmax / 127);
  const llvm::fltSemantics &half = llvm::APFloat::IEEEhalf();
  if (halfScale)
    scale = widen(narrow(std::min(scale, 65504.0f), half), half);
  if (scale < FLT_MIN)
    scale = 0;
  result.scale = scale;
  result.scaleBits =
      halfScale ? narrow(scale, half) : std::bit_cast<uint32_t>(scale);
  float factor = scale == 0 ? 0 : float(1 / double(scale));
  for (float x : row) {
    float product = float(finite(x) * double(factor));
    double code = nearestEven(product);
    result.codes.push_back(int8_t(std::min(127.0, std::max(-127.0, code))));
  }
  return result;
}

class IntCodecTest : public CodecTest,
                     public testing::WithParamInterface<bool> {
protected:
  CodecAttrInterface codec() {
    return IntCodecAttr::get(&context, 8, GetParam() ? f16() : f32());
  }
  Encoded encode(const std::vector<float> &row) {
    Encoded result;
    result.codes.assign(row.size(), 99);
    codec().quantizeRow(row, reinterpret_cast<uint8_t *>(result.codes.data()),
                        reinterpret_cast<uint8_t *>(&result.scaleBits));
    return result;
  }
  /// Codes and scale as the text says, and what they decode to.
  void check(const std::vector<float> &row) {
    Encoded want = quantise(row, GetParam()), got = encode(row);
    ASSERT_EQ(got.scaleBits, want.scaleBits);
    ASSERT_EQ(got.codes, want.codes);
    std::vector<float> back(row.size(), NAN);
    codec().dequantizeRow(reinterpret_cast<uint8_t *>(got.codes.data()),
                          reinterpret_cast<uint8_t *>(&got.scaleBits), back);
    for (size_t i = 0; i < row.size(); ++i)
      ASSERT_EQ(back[i], float(double(want.codes[i]) * want.scale)) << i;
  }
};

// Nothing computed here: these are the numbers.
TEST_P(IntCodecTest, KnownRow) {
  Encoded got = encode({127, 0.5, 1.5, 2.5, -0.5, -1.5, -126.5, NAN});
  EXPECT_EQ(got.scaleBits, GetParam() ? 0x3c00u : 0x3f800000u);
  EXPECT_EQ(got.codes, (std::vector<int8_t>{127, 0, 2, 2, 0, -2, -126, 0}));
}

TEST_P(IntCodecTest, RowsOfNothing) {
  for (float x : {0.0f, -0.0f, NAN}) {
    Encoded got = encode(std::vector<float>(8, x));
    EXPECT_EQ(got.scaleBits, 0u);
    EXPECT_EQ(got.codes, std::vector<int8_t>(8, 0));
  }
}

TEST_P(IntCodecTest, Extremes) {
  float inf = INFINITY;
  check({inf, -inf, 1, -1, 0, NAN, FLT_MAX, -FLT_MAX});
  check({FLT_MAX, 1, 2, 3, 4, 5, 6, 7});
  check({NAN, 1, -2, NAN, 3, -0.0f, 0, NAN});
  // Around the smallest scale that counts: 127 * FLT_MIN.
  for (float scale : {FLT_MIN, std::nextafterf(FLT_MIN, 0), FLT_MIN * 2})
    for (float off : {0.0f, FLT_TRUE_MIN, -FLT_TRUE_MIN})
      check({127 * scale + off, scale, -scale, 0, 0, 0, 0, FLT_TRUE_MIN});
  check(std::vector<float>(8, FLT_TRUE_MIN));
  // Around the largest, the smallest normal and the smallest f16.
  for (float scale : {65504.0f, 65519.0f, 65520.0f, 1e6f, 0x1p-14f, 0x1p-15f,
                      0x1p-24f, 0x1p-25f, 0x1.1p-25f})
    check({127 * scale, -127 * scale, 63.5f * scale, scale, -scale / 2,
           100 * scale, -99.5f * scale, 0});
}

TEST_P(IntCodecTest, Ties) {
  // A scale that is a power of two makes every half a tie.
  for (int exponent : {-10, -3, 0, 5}) {
    float scale = std::ldexp(1.0f, exponent);
    std::vector<float> row;
    for (int half = -254; half <= 254; ++half)
      row.push_back(float(half) / 2 * scale);
    check(row);
  }
}

TEST_P(IntCodecTest, RandomRows) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::uniform_real_distribution<float> exponent(-40, 40);
  for (int i = 0; i < 5000; ++i) {
    std::vector<float> row(i % 3 == 0 ? 8 : i % 3 == 1 ? 64 : 576);
    float size = std::exp2(exponent(random));
    for (float &x : row)
      x = normal(random) * size;
    check(row);
  }
}

TEST_P(IntCodecTest, HasCodesAndAScale) {
  EXPECT_TRUE(codec().getCodeType().isInteger(8));
  EXPECT_EQ(codec().getScaleType(), GetParam() ? f16() : f32());
}

INSTANTIATE_TEST_SUITE_P(Scale, IntCodecTest, testing::Bool(),
                         [](const auto &info) {
                           return info.param ? "f16" : "f32";
                         });

} // namespace
