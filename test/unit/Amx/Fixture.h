//===- Fixture.h - AMX machine code in tests --------------------*- C++ -*-===//
//
// The compiler makes the instructions. A CPU with AMX executes them, so that
// the loops which the emulator is compared with are compared with hardware too.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_TEST_UNIT_AMX_FIXTURE_H
#define KVC_TEST_UNIT_AMX_FIXTURE_H

#include "lib/base/Amx/Emulator.h"

#include <cstring>
#include <gtest/gtest.h>
#include <immintrin.h>

namespace kvc::test {

#define KVC_AMX_CODE                                                           \
  __attribute__((target("amx-tile,amx-bf16,amx-int8"), noinline))

/// What ldtilecfg reads.
struct Config {
  uint8_t palette = 1, startRow = 0, reserved[14] = {};
  uint16_t bytes[8] = {}, moreBytes[8] = {};
  uint8_t rows[8] = {}, moreRows[8] = {};

  Config &tile(unsigned number, unsigned tileRows, unsigned rowBytes) {
    rows[number] = uint8_t(tileRows);
    bytes[number] = uint16_t(rowBytes);
    return *this;
  }
  static Config full() {
    Config config;
    for (unsigned i = 0; i < 8; ++i)
      config.tile(i, 16, 64);
    return config;
  }
};
static_assert(sizeof(Config) == 64);

/// Whether this CPU executes AMX, and this process may.
bool hasAmx();

/// Installs the emulator where there is no AMX, and begins and ends with no
/// finding.
class Amx : public testing::Test {
protected:
  void SetUp() override {
    if (!hasAmx())
      amx::install();
    amx::finish();
  }
  void TearDown() override { EXPECT_EQ(amx::finish(), ""); }
};

/// What only the emulator does.
class Emulated : public Amx {
protected:
  void SetUp() override {
    Amx::SetUp();
    if (hasAmx())
      GTEST_SKIP() << "this CPU executes AMX";
  }
};

} // namespace kvc::test

#endif // KVC_TEST_UNIT_AMX_FIXTURE_H
