//===- Fixture.cpp - AMX machine code in tests ----------------------------===//
#include "test/unit/Amx/Fixture.h"

#include <sys/syscall.h>
#include <unistd.h>

bool kvc::test::hasAmx() {
  // Linux gives a process tile registers only if it asks.
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  static const bool has =
      __builtin_cpu_supports("amx-tile") &&
      __builtin_cpu_supports("amx-bf16") &&
      __builtin_cpu_supports("amx-int8") &&
      syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  return has;
}
