//===- BenchPeak.cpp - peak rates of the multiply units -------------------===//
//
// Each unit adds the same small number to independent accumulators whose
// operands stay in registers. The sums are exact, so a wrong one is seen.
//
//===----------------------------------------------------------------------===//

#include "tools/kvc/BenchCeiling.h"

#include "llvm/ADT/StringMap.h"
#include "llvm/TargetParser/Host.h"

#include <algorithm>
#include <cstring>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

using namespace kvc::bench;

// Twelve accumulators hide a latency of six at two per cycle. The empty asm
// keeps the compiler from adding up the rounds by itself.
static constexpr unsigned kAccumulators = 12;

/// True if every f32 of the accumulators is `wanted`.
static bool allAre(const void *sums, size_t bytes, float wanted) {
  for (size_t at = 0; at < bytes; at += sizeof(float)) {
    float value;
    std::memcpy(&value, static_cast<const char *>(sums) + at, sizeof(value));
    if (value != wanted)
      return false;
  }
  return true;
}

#define KVC_FMA(NAME, FEATURE, VECTOR, SET1, FMA)                              \
  __attribute__((target(FEATURE))) static bool NAME(uint64_t rounds) {         \
    VECTOR one = SET1(1.0f), sum[kAccumulators];                               \
    for (VECTOR &s : sum)                                                      \
      s = SET1(0.0f);                                                          \
    for (uint64_t round = 0; round < rounds; ++round) {                        \
      _Pragma("clang loop unroll(full)") for (VECTOR &s : sum) {               \
        s = FMA(one, one, s);                                                  \
        asm volatile("" : "+v"(s));                                            \
      }                                                                        \
    }                                                                          \
    return allAre(sum, sizeof(sum), float(rounds));                            \
  }
KVC_FMA(fma256, "avx2,fma", __m256, _mm256_set1_ps, _mm256_fmadd_ps)
KVC_FMA(fma512, "avx512f", __m512, _mm512_set1_ps, _mm512_fmadd_ps)
#undef KVC_FMA

__attribute__((target("avx512f,avx512bf16"))) static bool
dot512(uint64_t rounds) {
  __m512 sum[kAccumulators];
  for (__m512 &s : sum)
    s = _mm512_setzero_ps();
  // 1.0 in both halves of every 32 bits.
  __m512bh one = (__m512bh)_mm512_set1_epi32(0x3F803F80);
  for (uint64_t round = 0; round < rounds; ++round) {
#pragma clang loop unroll(full)
    for (__m512 &s : sum) {
      s = _mm512_dpbf16_ps(s, one, one);
      asm volatile("" : "+v"(s));
    }
  }
  return allAre(sum, sizeof(sum), 2.0f * float(rounds));
}

/// Linux gives the tile registers to a process that asks.
static bool permitTiles() {
  constexpr int kRequest = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
}

__attribute__((target("amx-tile,amx-bf16"))) static bool
tiles(uint64_t rounds) {
  struct alignas(64) {
    uint8_t palette = 1, start = 0, reserved[14] = {};
    uint16_t columnBytes[16] = {};
    uint8_t rows[16] = {};
  } config;
  for (unsigned tile = 0; tile < 8; ++tile)
    config.columnBytes[tile] = 64, config.rows[tile] = 16;
  alignas(64) uint16_t ones[16 * 32];
  std::fill(std::begin(ones), std::end(ones), uint16_t(0x3F80));
  alignas(64) float sum[16 * 16];
  _tile_loadconfig(&config);
  _tile_loadd(6, ones, 64);
  _tile_loadd(7, ones, 64);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (uint64_t round = 0; round < rounds; ++round) {
    _tile_dpbf16ps(0, 6, 7);
    _tile_dpbf16ps(1, 6, 7);
    _tile_dpbf16ps(2, 6, 7);
    _tile_dpbf16ps(3, 6, 7);
  }
  _tile_stored(3, sum, 64);
  _tile_release();
  return allAre(sum, sizeof(sum), 32.0f * float(rounds));
}

std::vector<Unit> kvc::bench::units() {
  llvm::StringMap<bool> features = llvm::sys::getHostCPUFeatures();
  std::vector<Unit> list;
  if (features.lookup("avx2") && features.lookup("fma"))
    list.push_back({"f32 fma, 256 bits", 2.0 * 8 * kAccumulators, fma256});
  if (features.lookup("avx512f"))
    list.push_back({"f32 fma, 512 bits", 2.0 * 16 * kAccumulators, fma512});
  if (features.lookup("avx512bf16"))
    list.push_back({"bf16 dot, 512 bits", 4.0 * 16 * kAccumulators, dot512});
  if (features.lookup("amx-tile") && features.lookup("amx-bf16") &&
      permitTiles())
    list.push_back({"bf16 tiles", 4 * 2.0 * 16 * 16 * 32, tiles});
  return list;
}

Sample kvc::bench::measure(Team &team, const Unit &unit) {
  constexpr uint64_t kRounds = uint64_t(1) << 18; // 32 * 2^18 is exact in f32
  std::atomic<bool> right{true};
  double seconds = team.run([&](unsigned) {
    if (!unit.run(kRounds))
      right = false;
  });
  double rate =
      right ? unit.flops * double(kRounds) * team.size() / seconds : 0;
  return {rate, team.wasQuiet() ? rate : 0};
}
