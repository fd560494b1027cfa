//===- FindingsTest.cpp - tiles configured, and what a CPU refuses --------===//
#include "test/unit/Amx/Fixture.h"

#include <array>

using namespace kvc;
using namespace kvc::test;
using amx::Op;

namespace {

using Rows = std::array<std::array<uint8_t, 64>, 16>;

Rows numbered() {
  Rows rows;
  for (unsigned i = 0; i < 16; ++i)
    for (unsigned j = 0; j < 64; ++j)
      rows[i][j] = uint8_t(i * 67 + j);
  return rows;
}

KVC_AMX_CODE Config reread(const Config &config) {
  Config found;
  _tile_loadconfig(&config);
  _tile_storeconfig(&found);
  _tile_release();
  return found;
}

KVC_AMX_CODE Config rereadReleased() {
  Config found = Config::full();
  _tile_release();
  _tile_storeconfig(&found);
  return found;
}

/// Loads a tile of one shape and stores it after `between`.
template <typename Between>
KVC_AMX_CODE Rows copy(const Config &config, Between between) {
  Rows from = numbered(), to;
  std::memset(&to, 0xee, sizeof(to));
  _tile_loadconfig(&config);
  _tile_loadd(2, from.data(), 64);
  between();
  _tile_stored(2, to.data(), 64);
  _tile_release();
  return to;
}

/// Rows of 16 bytes from the last to the first.
KVC_AMX_CODE Rows backwards() {
  Rows from = numbered(), to = {};
  Config config = Config().tile(5, 16, 16);
  _tile_loadconfig(&config);
  _tile_loadd(5, from[15].data(), -64);
  _tile_stored(5, to.data(), 64);
  _tile_release();
  return to;
}

KVC_AMX_CODE void multiply(const Config &config) {
  _tile_loadconfig(&config);
  _tile_dpbf16ps(0, 1, 2);
  _tile_release();
}

} // namespace

TEST_F(Amx, ConfigurationsAreKept) {
  Config config = Config::full().tile(3, 5, 12).tile(6, 0, 0);
  Config found = reread(config);
  EXPECT_EQ(std::memcmp(&found, &config, 64), 0);
  Config none;
  none.palette = 0;
  found = rereadReleased();
  EXPECT_EQ(std::memcmp(&found, &none, 64), 0);
  // Whatever else it says.
  Config released = Config::full();
  released.palette = 0;
  found = reread(released);
  EXPECT_EQ(std::memcmp(&found, &none, 64), 0);
}

TEST_F(Amx, RowsMoveAsTheyAreShaped) {
  Rows from = numbered();
  for (auto [rows, bytes] : {std::pair{16, 64}, {16, 4}, {1, 64}, {7, 20}}) {
    Rows to = copy(Config().tile(2, rows, bytes), [] {});
    for (int i = 0; i < 16; ++i)
      for (int j = 0; j < 64; ++j)
        ASSERT_EQ(to[i][j], i < rows && j < bytes ? from[i][j] : 0xee);
  }
}

TEST_F(Amx, StridesMayBeNegative) {
  Rows from = numbered(), to = backwards();
  for (int i = 0; i < 16; ++i)
    for (int j = 0; j < 16; ++j)
      ASSERT_EQ(to[i][j], from[15 - i][j]);
}

TEST_F(Amx, TilesAreZeroed) {
  Config config = Config::full();
  Rows zeros = {};
  EXPECT_EQ(copy(config, []() KVC_AMX_CODE { _tile_zero(2); }), zeros);
  EXPECT_EQ(copy(config, [&]() KVC_AMX_CODE { _tile_loadconfig(&config); }),
            zeros);
  EXPECT_EQ(copy(config, []() KVC_AMX_CODE { _tile_zero(3); }), numbered());
}

TEST_F(Emulated, BadConfigurations) {
  auto finding = [](const Config &config) {
    reread(config);
    return amx::finish();
  };
  Config config = Config::full();
  config.palette = 2;
  EXPECT_EQ(finding(config), "ldtilecfg: expected palette 0 or 1, found 2");
  config = Config::full();
  config.startRow = 3;
  EXPECT_EQ(finding(config), "ldtilecfg: expected 0 in byte 1, found 3");
  config = Config::full();
  config.reserved[13] = 9;
  EXPECT_EQ(finding(config), "ldtilecfg: expected 0 in byte 15, found 9");
  config = Config::full();
  config.moreBytes[0] = 64;
  EXPECT_EQ(finding(config), "ldtilecfg: expected 0 in byte 32, found 64");
  config = Config::full();
  config.moreRows[7] = 1;
  EXPECT_EQ(finding(config), "ldtilecfg: expected 0 in byte 63, found 1");
  EXPECT_EQ(finding(Config::full().tile(5, 17, 64)),
            "ldtilecfg: tmm5: expected at most 16 rows of 64 bytes, found 17 "
            "of 64");
  EXPECT_EQ(finding(Config::full().tile(7, 16, 65)),
            "ldtilecfg: tmm7: expected at most 16 rows of 64 bytes, found 16 "
            "of 65");
  EXPECT_EQ(finding(Config::full().tile(0, 0, 64)),
            "ldtilecfg: tmm0: expected rows and bytes, or neither, found 0 "
            "rows of 64 bytes");
  EXPECT_EQ(finding(Config::full().tile(1, 4, 0)),
            "ldtilecfg: tmm1: expected rows and bytes, or neither, found 4 "
            "rows of 0 bytes");
}

TEST_F(Emulated, BadTiles) {
  Config config = Config::full().tile(2, 0, 0);
  Rows to = copy(config, [] {});
  EXPECT_EQ(amx::finish(), "tileloadd: tmm2 is not configured");
  EXPECT_EQ(to[0][0], 0xee); // what has no shape is not stored
  copy(Config().tile(2, 4, 6), [] {});
  EXPECT_EQ(amx::finish(),
            "tileloadd: tmm2: expected rows of a multiple of 4 bytes, found 6");
  copy(Config::full(), []() KVC_AMX_CODE { _tile_release(); });
  EXPECT_EQ(amx::finish(), "tilestored: tmm2: no tile is configured");
  copy(Config().tile(2, 1, 4), []() KVC_AMX_CODE { _tile_zero(3); });
  EXPECT_EQ(amx::finish(), "tilezero: tmm3 is not configured");
  multiply(Config::full().tile(1, 0, 0));
  EXPECT_EQ(amx::finish(), "tdpbf16ps: tmm1 is not configured");
}

TEST_F(Emulated, ShapesThatDoNotFit) {
  auto finding = [](const Config &config) {
    multiply(config);
    return amx::finish();
  };
  auto fits = Config().tile(0, 3, 20).tile(1, 3, 28).tile(2, 7, 20);
  EXPECT_EQ(finding(fits), "");
  EXPECT_EQ(finding(Config(fits).tile(2, 6, 20)),
            "tdpbf16ps: shapes do not fit: tmm0 has 3 rows of 20 bytes, tmm1 3 "
            "of 28, tmm2 6 of 20");
  for (const Config &wrong :
       {Config(fits).tile(0, 4, 20), Config(fits).tile(0, 3, 24),
        Config(fits).tile(1, 2, 28), Config(fits).tile(1, 3, 32),
        Config(fits).tile(2, 8, 20), Config(fits).tile(2, 7, 16)})
    EXPECT_NE(finding(wrong), "");
}

namespace {
// tdpbuud of tiles that no assembler takes.
#define KVC_SAME_TILES(NAME, BYTES)                                            \
  KVC_AMX_CODE void NAME() {                                                   \
    Config config = Config::full();                                            \
    _tile_loadconfig(&config);                                                 \
    __asm__ volatile(".byte " BYTES);                                          \
    _tile_release();                                                           \
  }
KVC_SAME_TILES(accumulatorIsA, "0xc4, 0xe2, 0x68, 0x5e, 0xc9")
KVC_SAME_TILES(accumulatorIsB, "0xc4, 0xe2, 0x70, 0x5e, 0xca")
KVC_SAME_TILES(aIsB, "0xc4, 0xe2, 0x68, 0x5e, 0xca")
#undef KVC_SAME_TILES

KVC_AMX_CODE void leaveConfigured() {
  Config config = Config::full();
  _tile_loadconfig(&config);
}
} // namespace

TEST_F(Emulated, ProductsOfOneTileTwice) {
  accumulatorIsA();
  EXPECT_EQ(amx::finish(), "tdpbuud: expected three different tiles, found "
                           "tmm1, tmm1, tmm2");
  accumulatorIsB();
  EXPECT_NE(amx::finish(), "");
  aIsB();
  EXPECT_NE(amx::finish(), "");
}

TEST_F(Emulated, TilesLeftConfigured) {
  leaveConfigured();
  EXPECT_EQ(amx::finish(), "tiles are configured at the end of the kernel: "
                           "expected a tilerelease");
  EXPECT_EQ(amx::finish(), "");
  EXPECT_EQ(rereadReleased().palette, 0);
}

// The first finding stays, and nothing looks like a result after it.
TEST_F(Emulated, FindingsPoison) {
  Rows to = copy(Config().tile(2, 16, 64), []() KVC_AMX_CODE {
    _tile_zero(3);
    _tile_zero(4);
  });
  EXPECT_EQ(amx::finish(), "tilezero: tmm3 is not configured");
  for (const auto &row : to)
    for (uint8_t byte : row)
      ASSERT_EQ(byte, 0xff);
}

TEST_F(Emulated, InstructionsAreCounted) {
  amx::Counters before = amx::counters();
  copy(Config().tile(2, 7, 20), [] {});
  amx::Counters after = amx::counters();
  for (size_t i = 0; i < amx::kOps; ++i) {
    Op op = Op(i);
    bool once = op == Op::ldtilecfg || op == Op::tileloadd ||
                op == Op::tilestored || op == Op::tilerelease;
    EXPECT_EQ(after.of(op) - before.of(op), once) << amx::kNames[i];
  }
  EXPECT_EQ(after.bytesLoaded - before.bytesLoaded, 140u);
  EXPECT_EQ(after.bytesStored - before.bytesStored, 140u);
}
