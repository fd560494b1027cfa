//===- HostFloat.h - narrow floats in host arithmetic -----------*- C++ -*-===//
//
// Conversions between f32 and the bits of the 16-bit floats, to nearest, ties
// to even; a NaN stays one, made quiet, with the upper bits of its payload. And
// of the floats of 8 and 4 bits, as #kvc.float says.
// llvm::APFloat says the same (the tests compare them) at fifty times the cost,
// which a reference that decodes whole caches cannot pay.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_DIALECT_CODECS_HOSTFLOAT_H
#define KVC_DIALECT_CODECS_HOSTFLOAT_H

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

namespace kvc {

inline float fromBF16(uint16_t bits) {
  uint32_t wide = uint32_t(bits) << 16;
  uint32_t quiet = (wide & 0x7fffffff) > 0x7f800000 ? 0x400000 : 0;
  return std::bit_cast<float>(wide | quiet);
}

inline uint16_t toBF16(float x) {
  uint32_t bits = std::bit_cast<uint32_t>(x);
  uint32_t rounded = bits + 0x7fff + ((bits >> 16) & 1);
  bool isNaN = (bits & 0x7fffffff) > 0x7f800000;
  return (isNaN ? bits | 0x400000 : rounded) >> 16;
}

inline float fromF16(uint16_t bits) {
  uint32_t sign = uint32_t(bits & 0x8000) << 16;
  uint32_t magnitude = uint32_t(bits & 0x7fff) << 13;
  // Read as an f32, the fields stand right but for the exponent's bias; the
  // product is exact, and makes subnormals normal.
  uint32_t finite =
      std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) * 0x1p112f);
  uint32_t quiet = magnitude > 0x0f800000 ? 0x400000 : 0;
  uint32_t special = magnitude | 0x7f800000 | quiet;
  return std::bit_cast<float>(sign |
                              (magnitude >= 0x0f800000 ? special : finite));
}

inline uint16_t toF16(float x) {
  uint32_t bits = std::bit_cast<uint32_t>(x);
  uint32_t sign = (bits >> 16) & 0x8000, magnitude = bits & 0x7fffffff;
  // Normal: round at bit 13, then move the exponent's bias from 127 to 15.
  uint32_t normal =
      (magnitude + 0xfff + ((magnitude >> 13) & 1) - (112u << 23)) >> 13;
  // Subnormal: an ulp of 0.5 is the smallest f16, so the sum rounds right.
  uint32_t subnormal =
      std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) -
      std::bit_cast<uint32_t>(0.5f);
  uint32_t result = magnitude < 0x38800000 ? subnormal : normal;
  if (magnitude >= 0x477ff000) // 65520 and above
    result = 0x7c00;
  if (magnitude > 0x7f800000)
    result = 0x7e00 | ((magnitude >> 13) & 0x3ff);
  return uint16_t(sign | result);
}

/// Saturates; a NaN is the code `nan`.
template <int width, int mantissaBits, int bias, int largest, uint8_t nan>
inline uint8_t toMinifloat(float x) {
  constexpr int shift = 23 - mantissaBits;
  uint32_t sign = std::bit_cast<uint32_t>(x) >> 31 << (width - 1);
  float size = std::min(std::fabs(x), float(largest));
  uint32_t bits = std::bit_cast<uint32_t>(size);
  uint32_t normal = (bits + (1u << (shift - 1)) - 1 + ((bits >> shift) & 1) -
                     (uint32_t(127 - bias) << 23)) >>
                    shift;
  // Subnormal: an ulp of `unit` is the smallest, so the sum rounds right.
  constexpr float unit = float(uint64_t(1) << (24 - bias - mantissaBits));
  uint32_t subnormal =
      std::bit_cast<uint32_t>(size + unit) - std::bit_cast<uint32_t>(unit);
  constexpr float leastNormal = 1.0f / float(1 << (bias - 1));
  return std::isnan(x) ? nan : sign | (size < leastNormal ? subnormal : normal);
}

inline uint8_t toE4M3(float x) { return toMinifloat<8, 3, 7, 448, 0x7f>(x); }
inline uint8_t toE5M2(float x) { return toMinifloat<8, 2, 15, 57344, 0x7f>(x); }
inline uint8_t toE2M1(float x) { return toMinifloat<4, 1, 1, 6, 0>(x); }

/// The upper half of an f16.
inline float fromE5M2(uint8_t code) { return fromF16(uint16_t(code << 8)); }

/// As an f16 the fields stand right but for the exponent's bias.
inline float fromE4M3(uint8_t code) {
  uint16_t half = uint16_t((code & 0x80) << 8 | (code & 0x7f) << 7);
  return fromF16((code & 0x7f) == 0x7f ? half | 0x4000 : half) * 256;
}

inline float fromE2M1(uint8_t code) {
  return fromF16(uint16_t((code & 8) << 12 | (code & 7) << 9)) * 16384;
}

/// The exponent of an f32: a power of two, of 0 the one below all normal f32.
inline float fromE8M0(uint8_t code) {
  uint32_t bits = std::max(uint32_t(code) << 23, 1u << 22);
  return std::bit_cast<float>(code == 0xff ? 0x7fc00000 : bits);
}

} // namespace kvc

#endif // KVC_DIALECT_CODECS_HOSTFLOAT_H
