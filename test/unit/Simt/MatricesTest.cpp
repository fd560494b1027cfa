//===- MatricesTest.cpp - matrices spread over the lanes of a warp --------===//
//
// Which lane holds which element, as the PTX manual says: section "Matrix
// Fragments for mma.m16n8k16 with floating point type" and "... for
// mma.m16n8k32", and those of ldmatrix and movmatrix.
//
//===----------------------------------------------------------------------===//
#include "test/unit/Simt/Fixture.h"

#include <cmath>
#include <random>

using namespace kvc::simt;

namespace {

class MatricesTest : public SimtTest {};

//===----------------------------------------------------------------------===//
// mma
//===----------------------------------------------------------------------===//

// Of element i of the 8, 4, 4 and 4 that a lane holds of A, B, C and D.
struct Place {
  unsigned row, column;
};
Place placeInA(unsigned lane, unsigned i) {
  unsigned group = lane >> 2, inGroup = lane % 4;
  unsigned row = i < 2 || (i >= 4 && i < 6) ? group : group + 8;
  unsigned column = inGroup * 2 + (i & 1) + (i >= 4 ? 8 : 0);
  return {row, column};
}
Place placeInB(unsigned lane, unsigned i) {
  unsigned group = lane >> 2, inGroup = lane % 4;
  return {inGroup * 2 + (i & 1) + (i >= 2 ? 8 : 0), group};
}
Place placeInC(unsigned lane, unsigned i) {
  unsigned group = lane >> 2, inGroup = lane % 4;
  return {i < 2 ? group : group + 8, inGroup * 2 + (i & 1)};
}

struct Product {
  uint32_t op;
  uint32_t a[32][4] = {}, b[32][2] = {}; ///< by lane
  float c[32][4] = {}, d[32][4] = {};
};

void multiply(Gpu gpu, Product &p) {
  uint32_t lane = gpu.lane();
  const auto &a = p.a[lane];
  const auto &b = p.b[lane];
  const auto &c = p.c[lane];
  gpu.op(p.op, {a[0], a[1], a[2], a[3], b[0], b[1], c[0], c[1], c[2], c[3]});
  for (unsigned i = 0; i < 4; ++i)
    p.d[lane][i] = gpu.outF(i);
}

/// Bits of integers up to 127, which both types hold, and their sum exactly.
uint16_t encode(uint32_t op, float x) {
  auto bits = std::bit_cast<uint32_t>(x);
  if (op == KVC_OP_MmaBF16)
    return uint16_t(bits >> 16);
  if (x == 0)
    return 0;
  uint32_t exponent = (bits >> 23 & 0xff) - 127 + 15;
  return uint16_t(bits >> 16 & 0x8000) |
         uint16_t(exponent << 10 | (bits >> 13 & 0x3ff));
}

class MmaTest : public SimtTest,
                public testing::WithParamInterface<uint32_t> {};

TEST_P(MmaTest, MultipliesAndAdds) {
  std::mt19937 random(GetParam());
  auto integer = [&] {
    return float(std::uniform_int_distribution<int>(-127, 127)(random));
  };
  float a[16][16], b[16][8], c[16][8];
  for (auto &row : a)
    for (float &x : row)
      x = integer();
  for (auto &row : b)
    for (float &x : row)
      x = integer();
  for (auto &row : c)
    for (float &x : row)
      x = integer() / 4;
  Product p{GetParam()};
  for (unsigned lane = 0; lane < 32; ++lane) {
    for (unsigned i = 0; i < 8; ++i) {
      Place at = placeInA(lane, i);
      p.a[lane][i / 2] |= uint32_t(encode(p.op, a[at.row][at.column]))
                          << (i % 2 * 16);
    }
    for (unsigned i = 0; i < 4; ++i) {
      Place inB = placeInB(lane, i), inC = placeInC(lane, i);
      p.b[lane][i / 2] |= uint32_t(encode(p.op, b[inB.row][inB.column]))
                          << (i % 2 * 16);
      p.c[lane][i] = c[inC.row][inC.column];
    }
  }
  ASSERT_EQ(run<Product>(multiply, p), "");
  for (unsigned lane = 0; lane < 32; ++lane)
    for (unsigned i = 0; i < 4; ++i) {
      auto [row, column] = placeInC(lane, i);
      float sum = c[row][column];
      for (unsigned k = 0; k < 16; ++k)
        sum += a[row][k] * b[k][column];
      EXPECT_EQ(p.d[lane][i], sum) << row << " " << column;
    }
}

/// Values that only wide products and an f32 sum keep.
TEST_P(MmaTest, ProductsAreExactAndSumsF32) {
  Product p{GetParam()};
  uint16_t x = encode(p.op, 1.0078125f); // 1 + 2^-7
  for (unsigned lane = 0; lane < 32; ++lane) {
    // Column 0 of A, row 0 of B.
    if (lane % 4 == 0) {
      p.a[lane][0] = p.a[lane][1] = x;
      p.b[lane][0] = x;
    }
    for (float &c : p.c[lane])
      c = 0x1p-20f;
  }
  ASSERT_EQ(run<Product>(multiply, p), "");
  float exact = float(1.0078125 * 1.0078125 + 0x1p-20);
  for (const auto &lane : p.d)
    for (float d : lane)
      EXPECT_EQ(d, exact);
}

TEST_P(MmaTest, InfinityAndNaNReachTheSums) {
  Product p{GetParam()};
  uint16_t one = encode(p.op, 1);
  uint16_t infinity = p.op == KVC_OP_MmaBF16 ? 0x7f80 : 0x7c00;
  p.a[0][0] = infinity; // (0, 0)
  p.a[4][0] = 0x7fff;   // (1, 0)
  p.b[0][0] = one;      // (0, 0)
  ASSERT_EQ(run<Product>(multiply, p), "");
  EXPECT_EQ(p.d[0][0], HUGE_VALF);    // times 1
  EXPECT_TRUE(std::isnan(p.d[0][1])); // times 0
  EXPECT_TRUE(std::isnan(p.d[4][0]));
  EXPECT_EQ(p.d[8][0], 0);
}

TEST_P(MmaTest, DenormalsCount) {
  Product p{GetParam()};
  p.a[0][0] = 1; // the smallest number
  p.b[0][0] = encode(p.op, 2);
  ASSERT_EQ(run<Product>(multiply, p), "");
  EXPECT_EQ(p.d[0][0], p.op == KVC_OP_MmaBF16 ? 0x1p-132f : 0x1p-23f);
}

INSTANTIATE_TEST_SUITE_P(Types, MmaTest,
                         testing::Values(KVC_OP_MmaBF16, KVC_OP_MmaF16),
                         [](const testing::TestParamInfo<uint32_t> &info) {
                           return info.param == KVC_OP_MmaBF16 ? "BF16" : "F16";
                         });

//===----------------------------------------------------------------------===//
// mma of bytes
//===----------------------------------------------------------------------===//

struct ByteProduct {
  uint32_t op;
  uint32_t a[32][4] = {}, b[32][2] = {}; ///< by lane
  uint32_t c[32][4] = {}, d[32][4] = {};
};

void multiplyBytes(Gpu gpu, ByteProduct &p) {
  uint32_t lane = gpu.lane();
  const auto &a = p.a[lane];
  const auto &b = p.b[lane];
  const auto &c = p.c[lane];
  gpu.op(p.op, {a[0], a[1], a[2], a[3], b[0], b[1], c[0], c[1], c[2], c[3]});
  for (unsigned i = 0; i < 4; ++i)
    p.d[lane][i] = gpu.out(i);
}

struct ByteForm {
  const char *name;
  uint32_t op;
  bool signedB;
};
void PrintTo(const ByteForm &form, std::ostream *os) { *os << form.name; }

class ByteMmaTest : public SimtTest,
                    public testing::WithParamInterface<ByteForm> {};

/// As the PTX manual says of m16n8k32 with 8-bit integers; of element i of the
/// 16 and 8 that a lane holds of A and B.
TEST_P(ByteMmaTest, MultipliesAndAddsModulo32Bits) {
  ByteForm form = GetParam();
  std::mt19937 random(form.op);
  auto number = [&](bool isSigned) {
    return std::uniform_int_distribution<int>(isSigned ? -128 : 0,
                                              isSigned ? 127 : 255)(random);
  };
  int a[16][32], b[32][8];
  uint32_t c[16][8];
  for (auto &row : a)
    for (int &x : row)
      x = number(true);
  for (auto &row : b)
    for (int &x : row)
      x = number(form.signedB);
  for (auto &row : c)
    for (uint32_t &x : row)
      x = uint32_t(random());
  ByteProduct p{form.op};
  for (unsigned lane = 0; lane < 32; ++lane) {
    unsigned group = lane >> 2, inGroup = lane % 4;
    for (unsigned i = 0; i < 16; ++i) {
      unsigned row = i < 4 || (i >= 8 && i < 12) ? group : group + 8;
      unsigned column = inGroup * 4 + (i & 3) + (i >= 8 ? 16 : 0);
      p.a[lane][i / 4] |= (uint32_t(a[row][column]) & 0xff) << (i % 4 * 8);
    }
    for (unsigned i = 0; i < 8; ++i) {
      unsigned row = inGroup * 4 + (i & 3) + (i >= 4 ? 16 : 0);
      p.b[lane][i / 4] |= (uint32_t(b[row][group]) & 0xff) << (i % 4 * 8);
    }
    for (unsigned i = 0; i < 4; ++i)
      p.c[lane][i] = c[placeInC(lane, i).row][placeInC(lane, i).column];
  }
  ASSERT_EQ(run<ByteProduct>(multiplyBytes, p), "");
  for (unsigned lane = 0; lane < 32; ++lane)
    for (unsigned i = 0; i < 4; ++i) {
      auto [row, column] = placeInC(lane, i);
      int64_t sum = c[row][column];
      for (unsigned k = 0; k < 32; ++k)
        sum += a[row][k] * b[k][column];
      EXPECT_EQ(p.d[lane][i], uint32_t(sum)) << row << " " << column;
    }
}

INSTANTIATE_TEST_SUITE_P(Types, ByteMmaTest,
                         testing::Values(ByteForm{"S8S8", KVC_OP_MmaS8S8, true},
                                         ByteForm{"S8U8", KVC_OP_MmaS8U8,
                                                  false}),
                         [](const testing::TestParamInfo<ByteForm> &info) {
                           return info.param.name;
                         });

//===----------------------------------------------------------------------===//
// ldmatrix, movmatrix
//===----------------------------------------------------------------------===//

struct Loads {
  uint32_t op, count;
  uint16_t memory[64][8]; ///< rows of 16 bytes, of matrices
  uint32_t rows[32];      ///< which one a lane names
  uint32_t got[32][4] = {};
};

TEST_F(MatricesTest, LdMatrixSpreadsRows) {
  struct Form {
    uint32_t op, count;
    bool transposed;
  };
  std::mt19937 random(11);
  for (Form form :
       {Form{KVC_OP_LdMatrixX1, 1, false}, Form{KVC_OP_LdMatrixX2, 2, false},
        Form{KVC_OP_LdMatrixX4, 4, false},
        Form{KVC_OP_LdMatrixX2Trans, 2, true},
        Form{KVC_OP_LdMatrixX4Trans, 4, true}}) {
    Loads loads = {form.op, form.count, {}, {}, {}};
    for (auto &row : loads.memory)
      for (uint16_t &x : row)
        x = uint16_t(random());
    // Lanes whose addresses do not count name rows that do not exist.
    for (unsigned lane = 0; lane < 32; ++lane)
      loads.rows[lane] =
          lane < 8 * form.count ? uint32_t(random()) % 64 : 1u << 20;
    ASSERT_EQ(
        run<Loads>(
            [](Gpu gpu, Loads &l) {
              uint32_t lane = gpu.lane();
              for (uint32_t at = lane * 4; at < sizeof(l.memory); at += 128) {
                const auto *bytes = reinterpret_cast<const char *>(l.memory);
                uint32_t word;
                memcpy(&word, bytes + at, 4);
                gpu.sts(at, word);
              }
              gpu.warpSync();
              gpu.op(l.op, {kBase + l.rows[lane] * 16 - 64, 64});
              for (unsigned i = 0; i < l.count; ++i)
                l.got[lane][i] = gpu.out(i);
            },
            loads),
        "");
    for (unsigned lane = 0; lane < 32; ++lane)
      for (unsigned i = 0; i < form.count; ++i)
        for (unsigned half = 0; half < 2; ++half) {
          // Row lane/4, columns 2 * (lane % 4) and the next.
          unsigned row = lane / 4, column = lane % 4 * 2 + half;
          if (form.transposed)
            std::swap(row, column);
          EXPECT_EQ(loads.got[lane][i] >> (16 * half) & 0xffff,
                    loads.memory[loads.rows[8 * i + row]][column]);
        }
  }
}

TEST_F(MatricesTest, MovMatrixTransposes) {
  struct Moved {
    uint32_t in[32], out[32];
  } moved = {};
  auto element = [](unsigned row, unsigned column) {
    return 0x100 * row + column + 1;
  };
  for (unsigned lane = 0; lane < 32; ++lane)
    moved.in[lane] = element(lane / 4, lane % 4 * 2) |
                     element(lane / 4, lane % 4 * 2 + 1) << 16;
  ASSERT_EQ(run<Moved>(
                [](Gpu gpu, Moved &m) {
                  uint32_t lane = gpu.lane();
                  m.out[lane] = gpu.op(KVC_OP_MovMatrix, {m.in[lane]});
                },
                moved),
            "");
  for (unsigned lane = 0; lane < 32; ++lane)
    EXPECT_EQ(moved.out[lane], element(lane % 4 * 2, lane / 4) |
                                   element(lane % 4 * 2 + 1, lane / 4) << 16);
}

} // namespace
