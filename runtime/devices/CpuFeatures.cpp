//===- CpuFeatures.cpp - what this CPU and its system offer ---------------===//
#include "runtime/devices/CpuFeatures.h"

#include <cpuid.h>
#include <cstdint>
#include <sys/syscall.h>
#include <unistd.h>

namespace {

enum Register { EAX, EBX, ECX, EDX };

/// Bits of XCR0: the registers that the system saves.
constexpr uint64_t kYmm = 0x6, kZmm = 0xe6, kTiles = 0x60000;

struct Feature {
  std::string_view name;
  uint32_t leaf, subleaf;
  Register reg;
  uint32_t bit;
  uint64_t saved;
};

constexpr Feature kFeatures[] = {
    {"sse3", 1, 0, ECX, 0, 0},
    {"ssse3", 1, 0, ECX, 9, 0},
    {"sse4.1", 1, 0, ECX, 19, 0},
    {"sse4.2", 1, 0, ECX, 20, 0},
    {"popcnt", 1, 0, ECX, 23, 0},
    {"lzcnt", 0x80000001, 0, ECX, 5, 0},
    {"fma", 1, 0, ECX, 12, kYmm},
    {"f16c", 1, 0, ECX, 29, kYmm},
    {"avx", 1, 0, ECX, 28, kYmm},
    {"avx2", 7, 0, EBX, 5, kYmm},
    {"bmi", 7, 0, EBX, 3, 0},
    {"bmi2", 7, 0, EBX, 8, 0},
    {"avx512f", 7, 0, EBX, 16, kZmm},
    {"avx512dq", 7, 0, EBX, 17, kZmm},
    {"avx512cd", 7, 0, EBX, 28, kZmm},
    {"avx512bw", 7, 0, EBX, 30, kZmm},
    {"avx512vl", 7, 0, EBX, 31, kZmm},
    {"avx512vbmi", 7, 0, ECX, 1, kZmm},
    {"avx512vnni", 7, 0, ECX, 11, kZmm},
    {"avx512fp16", 7, 0, EDX, 23, kZmm},
    {"avx512bf16", 7, 1, EAX, 5, kZmm},
    {"amx-bf16", 7, 0, EDX, 22, kTiles},
    {"amx-tile", 7, 0, EDX, 24, kTiles},
    {"amx-int8", 7, 0, EDX, 25, kTiles},
};

bool cpuHas(const Feature &feature) {
  uint32_t r[4];
  if (!__get_cpuid_count(feature.leaf, feature.subleaf, &r[EAX], &r[EBX],
                         &r[ECX], &r[EDX]))
    return false;
  return r[feature.reg] >> feature.bit & 1;
}

uint64_t savedBySystem() {
  constexpr Feature osxsave = {"osxsave", 1, 0, ECX, 27, 0};
  if (!cpuHas(osxsave))
    return 0;
  uint32_t low, high;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return uint64_t(high) << 32 | low;
}

/// Linux gives a process tile registers only if it asks.
bool mayUseTiles() {
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

} // namespace

bool kvc::rt::cpuKnowsFeature(std::string_view name) {
  for (const Feature &feature : kFeatures)
    if (feature.name == name)
      return true;
  return false;
}

bool kvc::rt::cpuHasFeature(std::string_view name) {
  for (const Feature &feature : kFeatures)
    if (feature.name == name)
      return cpuHas(feature) &&
             (savedBySystem() & feature.saved) == feature.saved &&
             (feature.saved != kTiles || mayUseTiles());
  return false;
}
