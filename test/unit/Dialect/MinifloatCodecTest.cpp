//===- MinifloatCodecTest.cpp - narrow #kvc.float against its text --------===//
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
  int bits, mantissaBits, bias;
  double largest;
  const llvm::fltSemantics &(*semantics)();

  uint8_t sign() const { return uint8_t(1 << (bits - 1)); }
  /// Of a NaN.
  uint8_t nan() const { return bits == 8 ? 0x7f : 0; }
};
const Format formats[] = {
    {"e4m3", 8, 3, 7, 448, llvm::APFloat::Float8E4M3FN},
    {"e5m2", 8, 2, 15, 57344, llvm::APFloat::Float8E5M2},
    {"e2m1", 4, 1, 1, 6, llvm::APFloat::Float4E2M1FN},
};

/// What a code reads as.
double valueOf(const Format &format, uint8_t code) {
  int exponent = (code & (format.sign() - 1)) >> format.mantissaBits;
  int mantissa = code & ((1 << format.mantissaBits) - 1);
  double sign = code & format.sign() ? -1 : 1;
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
    return format.nan();
  double size = std::min(std::fabs(x), format.largest), best = INFINITY;
  uint8_t nearest = 0;
  for (int code = 0; code < format.sign(); ++code) {
    if (!(valueOf(format, uint8_t(code)) <= format.largest))
      break;
    double distance = std::fabs(valueOf(format, uint8_t(code)) - size);
    if (distance < best || (distance == best && code % 2 == 0))
      best = distance, nearest = uint8_t(code);
  }
  return nearest | (std::signbit(x) ? format.sign() : 0);
}

class MinifloatCodecTest : public CodecTest,
                           public testing::WithParamInterface<Format> {
protected:
  mlir::Type type() {
    if (GetParam().bias == 7)
      return mlir::Float8E4M3FNType::get(&context);
    if (GetParam().bias == 15)
      return mlir::Float8E5M2Type::get(&context);
    return mlir::Float4E2M1FNType::get(&context);
  }
  std::vector<uint8_t> pack(const std::vector<uint8_t> &codes) {
    if (GetParam().bits == 8)
      return codes;
    std::vector<uint8_t> bytes;
    for (size_t i = 0; i < codes.size(); i += 2)
      bytes.push_back(uint8_t(codes[i] | codes[i + 1] << 4));
    return bytes;
  }
  std::vector<uint8_t> unpack(const std::vector<uint8_t> &bytes) {
    if (GetParam().bits == 8)
      return bytes;
    std::vector<uint8_t> codes;
    for (uint8_t byte : bytes)
      codes.insert(codes.end(), {uint8_t(byte & 15), uint8_t(byte >> 4)});
    return codes;
  }
  /// Of an even number of elements.
  std::vector<uint8_t> encode(const std::vector<float> &row) {
    std::vector<uint8_t> bytes(row.size() * GetParam().bits / 8, 0xde);
    floatCodec(type()).quantizeRows(row, 1, bytes.data());
    return unpack(bytes);
  }
  uint8_t encode(float x) { return encode(std::vector{x, 1.0f})[0]; }
  void check(std::vector<float> row) {
    for (size_t i = 0, n = row.size(); i < n; ++i)
      row.push_back(-row[i]);
    std::vector<uint8_t> codes = encode(row);
    for (size_t i = 0; i < row.size(); ++i)
      ASSERT_EQ(codes[i], codeOf(GetParam(), row[i])) << row[i];
  }
  /// Scales of every type.
  std::vector<mlir::Type> scaleTypes() {
    return {f32(), f16(), mlir::Float8E4M3FNType::get(&context),
            mlir::Float8E8M0FNUType::get(&context)};
  }
  void checkScaled(const std::vector<float> &row, mlir::Type scaleType,
                   int64_t channels);
};

TEST_P(MinifloatCodecTest, EveryCodeReadsAsItsTypeSays) {
  std::vector<uint8_t> codes(size_t(1) << GetParam().bits);
  for (size_t i = 0; i < codes.size(); ++i)
    codes[i] = uint8_t(i);
  std::vector<float> row(codes.size());
  std::vector<uint8_t> bytes = pack(codes);
  floatCodec(type()).dequantizeRow(bytes.data(), row);
  for (size_t i = 0; i < codes.size(); ++i) {
    double want = valueOf(GetParam(), codes[i]);
    llvm::APFloat other(GetParam().semantics(),
                        llvm::APInt(unsigned(GetParam().bits), i));
    ASSERT_EQ(std::isnan(row[i]), std::isnan(want)) << i;
    ASSERT_EQ(other.isNaN(), std::isnan(want)) << i;
    if (std::isnan(want))
      continue;
    ASSERT_EQ(row[i], want) << i;
    ASSERT_EQ(std::signbit(row[i]), i >= GetParam().sign()) << i;
    ASSERT_EQ(other.convertToDouble(), want) << i;
  }
}

TEST_P(MinifloatCodecTest, EveryCodeComesBack) {
  for (int code = 0; code < 1 << GetParam().bits; ++code) {
    double x = valueOf(GetParam(), uint8_t(code));
    int want = code;
    if (std::isnan(x))
      want = GetParam().nan();
    else if (std::isinf(x))
      want = encode(float(std::copysign(GetParam().largest, x)));
    EXPECT_EQ(encode(float(x)), want) << code;
  }
}

TEST_P(MinifloatCodecTest, RoundsAtEveryMiddle) {
  std::vector<float> row;
  for (int code = 0; code < GetParam().sign() - 1; ++code) {
    double x = valueOf(GetParam(), uint8_t(code)),
           next = valueOf(GetParam(), uint8_t(code + 1));
    if (!std::isfinite(next))
      break;
    float tie = float((x + next) / 2); // exact
    row.insert(row.end(), {tie, std::nextafterf(tie, INFINITY),
                           std::nextafterf(tie, -INFINITY)});
  }
  ASSERT_GE(row.size(), GetParam().bits == 8 ? 3u * 120 : 3u * 7);
  check(row);
}

TEST_P(MinifloatCodecTest, Saturates) {
  float largest = float(GetParam().largest);
  check({0, FLT_TRUE_MIN, FLT_MIN, largest, std::nextafterf(largest, INFINITY),
         // Where the next value would be, and half way there.
         largest * 15 / 14, largest * 29 / 28, largest * 8 / 7, largest * 2,
         65504, 1e30f, FLT_MAX, INFINITY});
  for (uint32_t bits : {0x7f800001u, 0x7fc00000u, 0x7fffffffu, 0xff800001u,
                        0xffc00000u, 0xffffffffu})
    EXPECT_EQ(encode(std::bit_cast<float>(bits)), GetParam().nan());
}

TEST_P(MinifloatCodecTest, EncodesASampleOfAllF32) {
  std::vector<float> row;
  for (uint64_t bits = 0; bits < 1ull << 31; bits += 99991)
    row.push_back(std::bit_cast<float>(uint32_t(bits)));
  check(row);
}

//===----------------------------------------------------------------------===//
// Scales
//===----------------------------------------------------------------------===//

/// The largest power of two that is not above x.
int exponentOf(double x) {
  int exponent = 0;
  std::frexp(x, &exponent);
  return exponent - 1;
}

/// Codes and scales as the text says, and what they read as.
void MinifloatCodecTest::checkScaled(const std::vector<float> &row,
                                     mlir::Type scaleType, int64_t channels) {
  auto codec = FloatCodecAttr::get(&context, type(), scaleType, channels);
  if (!channels)
    channels = int64_t(row.size());
  std::vector<uint8_t> packed(row.size() * GetParam().bits / 8, 0xde);
  size_t scaleBytes = scaleType.getIntOrFloatBitWidth() / 8;
  std::vector<uint8_t> scales(row.size() / channels * scaleBytes, 0xde);
  codec.quantizeRows(row, 1, {packed.data(), scales.data()});
  std::vector<uint8_t> codes = unpack(packed);
  std::vector<float> back(row.size());
  codec.dequantizeRow({packed.data(), scales.data()}, back);
  const llvm::fltSemantics &half = llvm::APFloat::IEEEhalf();
  for (size_t first = 0; first < row.size(); first += channels) {
    double absmax = 0;
    for (size_t i = first; i < first + channels; ++i)
      if (!std::isnan(row[i]))
        absmax = std::max(absmax, std::min<double>(FLT_MAX, std::fabs(row[i])));
    float scale = float(absmax / GetParam().largest);
    uint32_t bits = 0, found = 0;
    std::memcpy(&found, &scales[first / channels * scaleBytes], scaleBytes);
    if (scaleBytes == 4) {
      scale = scale < FLT_MIN ? 0 : scale;
      bits = std::bit_cast<uint32_t>(scale);
    } else if (scaleBytes == 2) {
      bits = narrow(std::min(scale, 65504.0f), half);
      scale = widen(uint16_t(bits), half);
    } else if (mlir::isa<mlir::Float8E4M3FNType>(scaleType)) {
      bits = codeOf(formats[0], scale);
      scale = float(valueOf(formats[0], uint8_t(bits)));
    } else {
      int exponent = exponentOf(absmax) - exponentOf(GetParam().largest);
      bits = absmax == 0 ? 0 : uint32_t(std::max(exponent + 127, 0));
      scale = bits ? std::ldexp(1.0f, exponent) : 0;
    }
    ASSERT_EQ(found, bits);
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

TEST_P(MinifloatCodecTest, ScaledRows) {
  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  for (mlir::Type scale : scaleTypes())
    for (int64_t channels : {0, 8, 16})
      for (int exponent : {0, 20, -20, 120, -120, -140}) {
        std::vector<float> row(64);
        for (float &x : row)
          x = std::ldexp(normal(random), exponent);
        checkScaled(row, scale, channels);
        // An infinity fills its box's range, a NaN leaves it.
        row[3] = -INFINITY, row[20] = NAN, row[21] = -0.0f;
        checkScaled(row, scale, channels);
        checkScaled(std::vector<float>(64, NAN), scale, channels);
        checkScaled(std::vector<float>(64, 0.0f), scale, channels);
      }
}

TEST_P(MinifloatCodecTest, ABoxThatEndsInTheLargestValueIsKept) {
  std::vector<float> row;
  for (int code = 0; code < 1 << GetParam().bits; ++code)
    if (float x = float(valueOf(GetParam(), uint8_t(code))); std::isfinite(x))
      row.push_back(x);
  const uint32_t ones[] = {0x3f800000, 0x3c00, 0x38, 0x7f};
  for (auto [type, one] : llvm::zip_equal(scaleTypes(), ones)) {
    checkScaled(row, type, 0);
    std::vector<uint8_t> codes(row.size());
    uint32_t scale = 0;
    FloatCodecAttr::get(&context, this->type(), type, 0)
        .quantizeRows(row, 1,
                      {codes.data(), reinterpret_cast<uint8_t *>(&scale)});
    EXPECT_EQ(scale, one);
  }
}

TEST_P(MinifloatCodecTest, PowersOfTwoReadAsTheyStand) {
  mlir::Type powers = mlir::Float8E8M0FNUType::get(&context);
  auto codec = FloatCodecAttr::get(&context, type(), powers, 0);
  std::vector<float> row(8, 1.0f);
  std::vector<uint8_t> codes(row.size());
  floatCodec(type()).quantizeRows(row, 1, codes.data());
  for (int exponent = 0; exponent < 256; ++exponent) {
    uint8_t scale = uint8_t(exponent);
    codec.dequantizeRow({codes.data(), &scale}, row);
    if (exponent == 255)
      EXPECT_TRUE(std::isnan(row[0]));
    else
      EXPECT_EQ(row[0], std::ldexp(1.0f, exponent - 127)) << exponent;
  }
}

TEST_P(MinifloatCodecTest, HasCodesAndPerhapsScales) {
  auto planes = floatCodec(type()).getPlanes(24);
  ASSERT_EQ(planes.size(), 1u);
  EXPECT_EQ(planes[0].type, type());
  planes = FloatCodecAttr::get(&context, type(), f16(), 8).getPlanes(24);
  ASSERT_EQ(planes.size(), 2u);
  EXPECT_EQ(planes[1].role, kPlaneScales);
  EXPECT_EQ(planes[1].type, f16());
  EXPECT_EQ(planes[1].elements, 3);
}

INSTANTIATE_TEST_SUITE_P(All, MinifloatCodecTest, testing::ValuesIn(formats),
                         [](const auto &info) { return info.param.name; });

} // namespace
