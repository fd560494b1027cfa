//===- DecodeTest.cpp - every way to write an address ---------------------===//
//
// The assembler writes instructions side by side; the test goes through them
// and computes the same addresses in its own loops.
//
//===----------------------------------------------------------------------===//
#include "test/unit/Amx/Fixture.h"

#include <array>
#include <random>

using namespace kvc;
using amx::Op;

// clang-format off
#define KVC_REGISTERS "rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15"
#define KVC_INDICES "rax, rcx, rdx, rbx, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15"
// clang-format on
asm(R"(
  .section .rodata
kvc_test_rows:
  .irp base, )" KVC_REGISTERS R"(
    .irp index, )" KVC_INDICES R"(
      .irp disp, 0, 1, -128, 127, 128, -0x12345678
        tileloadd \disp(%\base,%\index,1), %tmm1
        tileloaddt1 \disp(%\base,%\index,2), %tmm6
        tilestored %tmm7, \disp(%\base,%\index,4)
        tileloadd \disp(%\base,%\index,8), %tmm0
        sttilecfg \disp(%\base,%\index,8)
      .endr
    .endr
    .irp disp, 0, 1, -128, 127, 128, -0x12345678
      tileloadd \disp(%\base), %tmm3
      ldtilecfg \disp(%\base)
    .endr
  .endr
  .irp index, )" KVC_INDICES R"(
    tilestored %tmm2, 0x1234(,%\index,4)
    ldtilecfg -0x1234(,%\index,2)
  .endr
  ldtilecfg kvc_test_rows(%rip)
kvc_test_rows_end:
kvc_test_registers:
  tilerelease
  tilezero %tmm0
  tilezero %tmm7
  tdpbf16ps %tmm3, %tmm2, %tmm1
  tdpbssd %tmm0, %tmm7, %tmm6
  tdpbsud %tmm5, %tmm4, %tmm3
  tdpbusd %tmm1, %tmm0, %tmm2
  tdpbuud %tmm7, %tmm6, %tmm5
  .text
)");
extern "C" const uint8_t kvc_test_rows[], kvc_test_rows_end[],
    kvc_test_registers[];

namespace {

/// Values that no two sums of share.
struct Registers {
  Registers() {
    std::mt19937_64 random(1);
    for (uint64_t &value : values)
      value = random();
  }
  uint64_t values[16];
};

class Decode : public testing::Test {
protected:
  /// The next instruction is `op` of `tile` at `memory`.
  void expect(Op op, unsigned tile, uint64_t memory, uint64_t stride) {
    auto in = amx::decode(at, registers.values);
    ASSERT_TRUE(in) << "byte " << at - kvc_test_rows;
    EXPECT_EQ(in->op, op);
    if (op != Op::ldtilecfg && op != Op::sttilecfg) {
      EXPECT_EQ(in->tiles[0], tile);
      EXPECT_EQ(in->stride, stride);
    }
    ASSERT_EQ(in->memory, memory) << "byte " << at - kvc_test_rows;
    at += in->bytes;
  }

  Registers registers;
  const uint8_t *at = kvc_test_rows;
};

constexpr unsigned kRsp = 4;
constexpr int64_t kDisplacements[] = {0, 1, -128, 127, 128, -0x12345678};

} // namespace

TEST_F(Decode, EveryAddress) {
  const auto &r = registers.values;
  for (unsigned base = 0; base < 16; ++base) {
    for (unsigned index = 0; index < 16; ++index)
      for (int64_t disp : kDisplacements) {
        if (index == kRsp)
          continue;
        uint64_t first = r[base] + uint64_t(disp), step = r[index];
        ASSERT_NO_FATAL_FAILURE(expect(Op::tileloadd, 1, first, step));
        ASSERT_NO_FATAL_FAILURE(expect(Op::tileloaddt1, 6, first, step * 2));
        ASSERT_NO_FATAL_FAILURE(expect(Op::tilestored, 7, first, step * 4));
        ASSERT_NO_FATAL_FAILURE(expect(Op::tileloadd, 0, first, step * 8));
        ASSERT_NO_FATAL_FAILURE(expect(Op::sttilecfg, 0, first + step * 8, 0));
      }
    for (int64_t disp : kDisplacements) {
      uint64_t first = r[base] + uint64_t(disp);
      ASSERT_NO_FATAL_FAILURE(expect(Op::tileloadd, 3, first, 0));
      ASSERT_NO_FATAL_FAILURE(expect(Op::ldtilecfg, 0, first, 0));
    }
  }
  for (unsigned index = 0; index < 16; ++index) {
    if (index == kRsp)
      continue;
    ASSERT_NO_FATAL_FAILURE(expect(Op::tilestored, 2, 0x1234, r[index] * 4));
    ASSERT_NO_FATAL_FAILURE(expect(Op::ldtilecfg, 0, r[index] * 2 - 0x1234, 0));
  }
  expect(Op::ldtilecfg, 0, reinterpret_cast<uint64_t>(kvc_test_rows), 0);
  EXPECT_EQ(at, kvc_test_rows_end);
}

TEST_F(Decode, EveryRegister) {
  struct Row {
    Op op;
    std::array<uint8_t, 3> tiles;
    unsigned used;
  };
  at = kvc_test_registers;
  // AT&T's order is B, A, accumulator.
  for (const Row &row :
       {Row{Op::tilerelease, {}, 0}, Row{Op::tilezero, {0}, 1},
        Row{Op::tilezero, {7}, 1}, Row{Op::tdpbf16ps, {1, 2, 3}, 3},
        Row{Op::tdpbssd, {6, 7, 0}, 3}, Row{Op::tdpbsud, {3, 4, 5}, 3},
        Row{Op::tdpbusd, {2, 0, 1}, 3}, Row{Op::tdpbuud, {5, 6, 7}, 3}}) {
    auto in = amx::decode(at, registers.values);
    ASSERT_TRUE(in);
    EXPECT_EQ(in->op, row.op);
    for (unsigned i = 0; i < row.used; ++i)
      EXPECT_EQ(in->tiles[i], row.tiles[i]) << amx::kNames[size_t(row.op)];
    EXPECT_EQ(in->bytes, 5u);
    at += in->bytes;
  }
}

// One bit away from tdpbf16ps %tmm3, %tmm2, %tmm1, tileloadd (%rax), %tmm1 and
// tilerelease: other instructions, or none.
TEST_F(Decode, OthersAreLeftAlone) {
  constexpr std::array<uint8_t, 6> kOthers[] = {
      {0x0f, 0x0b},                         // ud2
      {0xc5, 0xf8, 0x77},                   // vzeroupper
      {0x62, 0xe2, 0x62, 0x5c, 0xca},       // EVEX
      {0xc4, 0xe1, 0x62, 0x5c, 0xca},       // another map
      {0xc4, 0xe2, 0x62, 0x5d, 0xca},       // another opcode
      {0xc4, 0xe2, 0xe2, 0x5c, 0xca},       // W
      {0xc4, 0xe2, 0x66, 0x5c, 0xca},       // L
      {0xc4, 0xe2, 0x63, 0x5c, 0xca},       // tdpfp16ps
      {0xc4, 0x62, 0x62, 0x5c, 0xca},       // tmm9
      {0xc4, 0xc2, 0x62, 0x5c, 0xca},       // tmm10
      {0xc4, 0xe2, 0x22, 0x5c, 0xca},       // tmm11
      {0xc4, 0xe2, 0x62, 0x5c, 0x0a},       // of memory
      {0xc4, 0xe2, 0x7b, 0x4b, 0x08},       // rows without SIB
      {0xc4, 0xe2, 0x7b, 0x4b, 0xcc},       // rows of a register
      {0xc4, 0xe2, 0x73, 0x4b, 0x0c, 0x20}, // a third operand
      {0xc4, 0x62, 0x7b, 0x4b, 0x0c, 0x20}, // tmm9
      {0xc4, 0xe2, 0x78, 0x49, 0xc1},       // tilerelease with an operand
      {0xc4, 0xe2, 0x78, 0x49, 0x08},       // ldtilecfg /1
      {0xc4, 0xe2, 0x79, 0x49, 0xc0},       // sttilecfg of a register
  };
  for (const auto &bytes : kOthers)
    EXPECT_FALSE(amx::decode(bytes.data(), registers.values))
        << testing::PrintToString(bytes);
}
