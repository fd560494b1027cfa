//===- FloatCodecTest.cpp - #kvc.float against llvm::APFloat --------------===//
#include "test/unit/Dialect/Codecs.h"

#include <cfloat>
#include <cmath>
#include <cstring>

using namespace kvc;

namespace {

struct Half {
  const char *name;
  const llvm::fltSemantics &(*semantics)();
};
const Half halves[] = {{"f16", llvm::APFloat::IEEEhalf},
                       {"bf16", llvm::APFloat::BFloat}};

template <typename Code>
const uint8_t *bytesOf(const std::vector<Code> &codes) {
  return reinterpret_cast<const uint8_t *>(codes.data());
}

class HalfCodecTest : public CodecTest,
                      public testing::WithParamInterface<Half> {
protected:
  CodecAttrInterface codec() {
    return floatCodec(GetParam().name == std::string("f16") ? f16() : bf16());
  }
  const llvm::fltSemantics &semantics() { return GetParam().semantics(); }

  /// Encodes a whole row and compares every element with APFloat.
  void checkEncode(const std::vector<float> &row) {
    std::vector<uint16_t> codes(row.size(), 0xdead);
    codec().quantizeRows(row, 1, reinterpret_cast<uint8_t *>(codes.data()));
    for (size_t i = 0; i < row.size(); ++i)
      ASSERT_EQ(codes[i], narrow(row[i], semantics()))
          << "f32 0x" << std::hex << std::bit_cast<uint32_t>(row[i]);
  }
};

TEST_P(HalfCodecTest, DecodesEveryPattern) {
  std::vector<uint16_t> codes(65536);
  for (size_t i = 0; i < codes.size(); ++i)
    codes[i] = uint16_t(i);
  std::vector<float> row(codes.size());
  codec().dequantizeRow(bytesOf(codes), row);
  for (size_t i = 0; i < codes.size(); ++i)
    ASSERT_EQ(std::bit_cast<uint32_t>(row[i]),
              std::bit_cast<uint32_t>(widen(codes[i], semantics())))
        << "code 0x" << std::hex << codes[i];
}

TEST_P(HalfCodecTest, EncodesEveryValueBackAndEveryTie) {
  std::vector<float> row;
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    float x = widen(uint16_t(bits), semantics());
    row.push_back(x);
    float next = widen(uint16_t(bits + 1), semantics());
    if (!std::isfinite(x) || !std::isfinite(next))
      continue;
    // Half way between neighbours, and the f32s on both sides of it.
    float tie = float((double(x) + double(next)) / 2);
    row.insert(row.end(), {tie, std::nextafterf(tie, INFINITY),
                           std::nextafterf(tie, -INFINITY)});
  }
  checkEncode(row);
}

TEST_P(HalfCodecTest, EncodesTheEdgesOfF32) {
  std::vector<float> row = {INFINITY,        FLT_MAX,         FLT_MIN,
                            FLT_TRUE_MIN,    FLT_MIN / 2,     65504,
                            65519.996f,      65520,           65536,
                            0x1p-24f,        0x1p-25f,        0x1.000002p-25f,
                            0x1.fffffep-26f, 0x1.ffcp-15f,    0x1.ffep-15f,
                            0x1.fff8p-15f,   0x1.fefffep127f, 0x1.ffp127f};
  for (uint32_t payload : {1u, 0x2000u, 0x10000u, 0x1fffffu, 0x3fffffu,
                           0x400000u, 0x401234u, 0x7fffffu})
    row.push_back(std::bit_cast<float>(0x7f800000 | payload));
  for (size_t i = 0, n = row.size(); i < n; ++i)
    row.push_back(
        std::bit_cast<float>(std::bit_cast<uint32_t>(row[i]) ^ 0x80000000));
  checkEncode(row);
}

TEST_P(HalfCodecTest, EncodesASampleOfAllF32) {
  std::vector<float> row;
  for (uint64_t bits = 0; bits < (1ull << 32); bits += 40503)
    row.push_back(std::bit_cast<float>(uint32_t(bits)));
  checkEncode(row);
}

INSTANTIATE_TEST_SUITE_P(All, HalfCodecTest, testing::ValuesIn(halves),
                         [](const auto &info) { return info.param.name; });

TEST_F(CodecTest, F32KeepsEveryBit) {
  std::vector<uint32_t> bits = {0,          0x80000000, 1,          0x3f800000,
                                0x7f7fffff, 0x7f800000, 0x7f800001, 0xffc12345};
  std::vector<float> row(bits.size());
  memcpy(row.data(), bits.data(), bits.size() * 4);
  std::vector<uint32_t> codes(bits.size());
  floatCodec(f32()).quantizeRows(row, 1,
                                 reinterpret_cast<uint8_t *>(codes.data()));
  EXPECT_EQ(codes, bits);
  std::vector<float> back(bits.size());
  floatCodec(f32()).dequantizeRow(bytesOf(codes), back);
  EXPECT_EQ(memcmp(back.data(), bits.data(), bits.size() * 4), 0);
}

TEST_F(CodecTest, FloatCodecsHaveCodesAlone) {
  for (mlir::Type type : {f32(), f16(), bf16()}) {
    auto planes = floatCodec(type).getPlanes(24);
    ASSERT_EQ(planes.size(), 1u);
    EXPECT_EQ(planes[0].role, kPlaneCodes);
    EXPECT_EQ(planes[0].type, type);
    EXPECT_EQ(planes[0].elements, 24);
  }
}

} // namespace
