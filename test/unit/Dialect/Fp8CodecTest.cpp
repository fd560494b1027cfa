//===- Fp8CodecTest.cpp - #kvc.float of 8 bits against its text -----------===//
//
// The quantiser here is written from the text of Codecs.td: it looks for the
// nearest of all codes, in float64, and rounds wherever the text does.
//
//===----------------------------------------------------------------------===//
#include "test/unit/Dialect/Codecs.h"

#include <cfloat>
#include <cmath>
#include <random>

using namespace kvc;

namespace {

struct Format {
  const char *name;
  int mantissaBits, bias;
  double largest;
  const llvm::fltSemantics &(*semantics)();
};
const Format formats[] = {
    {"e4m3", 3, 7, 448, llvm::APFloat::Float8E4M3FN},
    {"e5m2", 2, 15, 57344, llvm::APFloat::Float8E5M2},
};

/// What a code reads as.
double valueOf(const Format &format, uint8_t code) {
  int exponent = (code & 0x7f) >> format.mantissaBits;
  int mantissa = code & ((1 << format.mantissaBits) - 1);
  double sign = code & 0x80 ? -1 : 1;
  if (format.bias == 7 && (code & 0x7f) == 0x7f)
    return NAN;
  if (format.bias == 15 && exponent == 31)
    return mantissa ? NAN : sign * INFINITY;
  if (exponent == 0)
    return sign * std::ldexp(mantissa, 1 - format.bias - format.mantissaBits);
  return sign * std::ldexp((1 << format.mantissaBits) + mantissa,
                           exponent - format.bias - format.mantissaBits);
}

/// Nearest, ties to even, saturated.
uint8_t codeOf(const Format &format, double x) {
  if (std::isnan(x))
    return 0x7f;
  double size = std::min(std::fabs(x), format.largest), best = INFINITY;
  uint8_t nearest = 0;
  for (int code = 0; valueOf(format, uint8_t(code)) <= format.largest; ++code) {
    double distance = std::fabs(valueOf(format, uint8_t(code)) - size);
    if (distance < best || (distance == best && code % 2 == 0))
      best = distance, nearest = uint8_t(code);
  }
  return nearest | (std::signbit(x) ? 0x80 : 0);
}

class Fp8CodecTest : public CodecTest,
                     public testing::WithParamInterface<Format> {
protected:
  mlir::Type type() {
    if (GetParam().bias == 7)
      return mlir::Float8E4M3FNType::get(&context);
    return mlir::Float8E5M2Type::get(&context);
  }
  std::vector<uint8_t> encode(const std::vector<float> &row) {
    std::vector<uint8_t> codes(row.size(), 0xde);
    floatCodec(type()).quantizeRows(row, 1, codes.data());
    return codes;
  }
  void check(std::vector<float> row) {
    for (size_t i = 0, n = row.size(); i < n; ++i)
      row.push_back(-row[i]);
    std::vector<uint8_t> codes = encode(row);
    for (size_t i = 0; i < row.size(); ++i)
      ASSERT_EQ(codes[i], codeOf(GetParam(), row[i])) << row[i];
  }
  void checkScaled(const std::vector<float> &row, bool halfScale,
                   int64_t channels);
};

TEST_P(Fp8CodecTest, EveryCodeReadsAsItsTypeSays) {
  std::vector<uint8_t> codes(256);
  for (size_t i = 0; i < codes.size(); ++i)
    codes[i] = uint8_t(i);
  std::vector<float> row(256);
  floatCodec(type()).dequantizeRow(codes.data(), row);
  for (size_t i = 0; i < codes.size(); ++i) {
    double want = valueOf(GetParam(), codes[i]);
    llvm::APFloat other(GetParam().semantics(), llvm::APInt(8, i));
    ASSERT_EQ(std::isnan(row[i]), std::isnan(want)) << i;
    ASSERT_EQ(other.isNaN(), std::isnan(want)) << i;
    if (std::isnan(want))
      continue;
    ASSERT_EQ(row[i], want) << i;
    ASSERT_EQ(std::signbit(row[i]), i >= 128) << i;
    ASSERT_EQ(other.convertToDouble(), want) << i;
  }
}

TEST_P(Fp8CodecTest, EveryCodeComesBack) {
  for (int code = 0; code < 256; ++code) {
    double x = valueOf(GetParam(), uint8_t(code));
    int want = code;
    if (std::isnan(x))
      want = 0x7f;
    else if (std::isinf(x))
      want = encode({float(std::copysign(GetParam().largest, x))})[0];
    EXPECT_EQ(encode({float(x)})[0], want) << code;
  }
}

TEST_P(Fp8CodecTest, RoundsAtEveryMiddle) {
  std::vector<float> row;
  for (int code = 0; code < 0x7f; ++code) {
    double x = valueOf(GetParam(), uint8_t(code)),
           next = valueOf(GetParam(), uint8_t(code + 1));
    if (!std::isfinite(next))
      break;
    float tie = float((x + next) / 2); // exact
    row.insert(row.end(), {tie, std::nextafterf(tie, INFINITY),
                           std::nextafterf(tie, -INFINITY)});
  }
  ASSERT_GT(row.size(), 3u * 120);
  check(row);
}

TEST_P(Fp8CodecTest, Saturates) {
  float largest = float(GetParam().largest);
  check({0, FLT_TRUE_MIN, FLT_MIN, largest, std::nextafterf(largest, INFINITY),
         // Where the next value would be, and half way there.
         largest * 15 / 14, largest * 29 / 28, largest * 8 / 7, largest * 2,
         65504, 1e30f, FLT_MAX, INFINITY});
  for (uint32_t bits : {0x7f800001u, 0x7fc00000u, 0x7fffffffu, 0xff800001u,
                        0xffc00000u, 0xffffffffu})
    EXPECT_EQ(encode({std::bit_cast<float>(bits)})[0], 0x7f);
}

TEST_P(Fp8CodecTest, EncodesASampleOfAllF32) {
  std::vector<float> row;
  for (uint64_t bits = 0; bits < 1ull << 31; bits += 99991)
    row.push_back(std::bit_cast<float>(uint32_t(bits)));
  check(row);
}

//===----------------------------------------------------------------------===//
// Scales
//===----------------------------------------------------------------------===//

/// Codes and scales as the text says, and what they read as.
void Fp8CodecTest::checkScaled(const std::vector<float> &row, bool halfScale,
                               int64_t channels) {
  auto codec = FloatCodecAttr::get(&context, type(), halfScale ? f16() : f32(),
                                   channels);
  if (!channels)
    channels = int64_t(row.size());
  std::vector<uint8_t> codes(row.size(), 0xde);
  std::vector<uint32_t> scales(row.size() / channels, 0xdeadbeef);
  auto *bytes = reinterpret_cast<uint8_t *>(scales.data());
  codec.quantizeRows(row, 1, {codes.data(), bytes});
  std::vector<float> back(row.size());
  codec.dequantizeRow({codes.data(), bytes}, back);
  const llvm::fltSemantics &half = llvm::APFloat::IEEEhalf();
  for (size_t first = 0; first < row.size(); first += channels) {
    double absmax = 0;
    for (size_t i = first; i < first + channels; ++i)
      if (!std::isnan(row[i]))
        absmax = std::max(absmax, std::min<double>(FLT_MAX, std::fabs(row[i])));
    float scale = float(absmax / GetParam().largest);
    if (halfScale)
      scale = widen(narrow(std::min(scale, 65504.0f), half), half);
    if (scale < FLT_MIN)
      scale = 0;
    size_t box = first / channels;
    if (halfScale)
      ASSERT_EQ(reinterpret_cast<uint16_t *>(bytes)[box], narrow(scale, half));
    else
      ASSERT_EQ(scales[box], std::bit_cast<uint32_t>(scale));
    float factor = scale == 0 ? 0 : float(1 / double(scale));
    for (size_t i = first; i < first + channels; ++i) {
      float scaled = float(double(row[i]) * double(factor));
      ASSERT_EQ(codes[i], codeOf(GetParam(), scaled)) << row[i];
      float want = float(valueOf(GetParam(), codes[i]) * double(scale));
      ASSERT_TRUE(back[i] == want || (std::isnan(back[i]) && std::isnan(want)))
          << back[i] << " " << want;
    }
  }
}

TEST_P(Fp8CodecTest, ScaledRows) {
  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  for (bool halfScale : {false, true})
    for (int64_t channels : {0, 8, 16})
      for (int exponent : {0, 20, -20, 120, -120, -140}) {
        std::vector<float> row(64);
        for (float &x : row)
          x = std::ldexp(normal(random), exponent);
        checkScaled(row, halfScale, channels);
        // An infinity fills its box's range, a NaN leaves it.
        row[3] = -INFINITY, row[20] = NAN, row[21] = -0.0f;
        checkScaled(row, halfScale, channels);
        checkScaled(std::vector<float>(64, NAN), halfScale, channels);
        checkScaled(std::vector<float>(64, 0.0f), halfScale, channels);
      }
}

TEST_P(Fp8CodecTest, ABoxThatEndsInTheLargestValueIsKept) {
  std::vector<float> row;
  for (int code = 0; code < 256; ++code)
    if (float x = float(valueOf(GetParam(), uint8_t(code))); std::isfinite(x))
      row.push_back(x);
  for (bool halfScale : {false, true}) {
    checkScaled(row, halfScale, 0);
    std::vector<uint8_t> codes(row.size());
    uint32_t scale = 0;
    FloatCodecAttr::get(&context, type(), halfScale ? f16() : f32(), 0)
        .quantizeRows(row, 1,
                      {codes.data(), reinterpret_cast<uint8_t *>(&scale)});
    EXPECT_EQ(scale, halfScale ? 0x3c00u : 0x3f800000u);
  }
}

TEST_P(Fp8CodecTest, HasCodesAndPerhapsScales) {
  auto planes = floatCodec(type()).getPlanes(24);
  ASSERT_EQ(planes.size(), 1u);
  EXPECT_EQ(planes[0].type, type());
  planes = FloatCodecAttr::get(&context, type(), f16(), 8).getPlanes(24);
  ASSERT_EQ(planes.size(), 2u);
  EXPECT_EQ(planes[1].role, kPlaneScales);
  EXPECT_EQ(planes[1].type, f16());
  EXPECT_EQ(planes[1].elements, 3);
}

INSTANTIATE_TEST_SUITE_P(All, Fp8CodecTest, testing::ValuesIn(formats),
                         [](const auto &info) { return info.param.name; });

} // namespace
