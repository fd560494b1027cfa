//===- Matrices.cpp - ldmatrix, movmatrix, mma ----------------------------===//
#include "lib/base/Simt/Instructions.h"

#include <cstring>

using namespace kvc::simt;

/// Lane 8 i + r gives the address of row r of matrix i; lane 4 g + t gets
/// elements (g, 2t) and (g, 2t+1) of each, or of its transpose.
void Instructions::loadMatrices(Thread *lanes, unsigned count,
                                bool transposed) {
  uint16_t matrix[4][8][8];
  uint32_t clock = cta.lastClock(thread.warp);
  for (unsigned i = 0; i < count; ++i)
    for (unsigned row = 0; row < 8; ++row) {
      Thread &lane = lanes[8 * i + row];
      uint32_t at =
          offsetOf(uint32_t(lane.abi.in[0]) + uint32_t(lane.abi.in[1]));
      // All lanes read it: what one of them wrote must be over for the warp.
      Accessor all = cta.accessor(lane);
      all.access.lanes = kAllLanes;
      all.access.clock = clock;
      cta.check(lane, cta.shared.read(at, 16, all));
      cta.note(lane, Traffic::Space::Shared, at, 16);
      std::memcpy(matrix[i][row], cta.shared.data() + at, 16);
    }
  for (unsigned lane = 0; lane < 32; ++lane)
    for (unsigned i = 0; i < count; ++i) {
      unsigned g = lane / 4, t = lane % 4;
      uint16_t low = transposed ? matrix[i][2 * t][g] : matrix[i][g][2 * t];
      uint16_t high =
          transposed ? matrix[i][2 * t + 1][g] : matrix[i][g][2 * t + 1];
      lanes[lane].abi.out[i] = uint32_t(high) << 16 | low;
    }
}
KVC_SIMT_WARP(LdMatrixX1) { loadMatrices(lanes, 1, false); }
KVC_SIMT_WARP(LdMatrixX2) { loadMatrices(lanes, 2, false); }
KVC_SIMT_WARP(LdMatrixX4) { loadMatrices(lanes, 4, false); }
KVC_SIMT_WARP(LdMatrixX2Trans) { loadMatrices(lanes, 2, true); }
KVC_SIMT_WARP(LdMatrixX4Trans) { loadMatrices(lanes, 4, true); }

KVC_SIMT_WARP(MovMatrix) {
  uint16_t matrix[8][8];
  for (unsigned lane = 0; lane < 32; ++lane) {
    auto word = uint32_t(lanes[lane].abi.in[0]);
    matrix[lane / 4][2 * (lane % 4)] = uint16_t(word);
    matrix[lane / 4][2 * (lane % 4) + 1] = uint16_t(word >> 16);
  }
  for (unsigned lane = 0; lane < 32; ++lane) {
    unsigned g = lane / 4, t = lane % 4;
    lanes[lane].abi.out[0] =
        uint32_t(matrix[2 * t + 1][g]) << 16 | matrix[2 * t][g];
  }
}

/// m16n8k16: a0..a3 hold rows g, g+8, g, g+8 and columns 2t, 2t, 2t+8, 2t+8
/// (and the next one each); b0, b1 rows 2t, 2t+8 (and next) of column g; c and
/// d rows g, g, g+8, g+8 and columns 2t, 2t+1, 2t, 2t+1. Products are exact,
/// sums in f32 in order of k.
template <typename Convert>
void Instructions::multiply(Thread *lanes, Convert convert) {
  float a[16][16], b[16][8], c[16][8];
  for (unsigned lane = 0; lane < 32; ++lane) {
    unsigned g = lane / 4, t = lane % 4;
    const uint64_t *in = lanes[lane].abi.in;
    for (unsigned half = 0; half < 2; ++half) {
      for (unsigned i = 0; i < 4; ++i)
        a[g + 8 * (i % 2)][2 * t + 8 * (i / 2) + half] =
            convert(uint16_t(in[i] >> (16 * half)));
      for (unsigned i = 0; i < 2; ++i)
        b[2 * t + 8 * i + half][g] =
            convert(uint16_t(in[4 + i] >> (16 * half)));
    }
    for (unsigned i = 0; i < 4; ++i)
      c[g + 8 * (i / 2)][2 * t + i % 2] =
          std::bit_cast<float>(uint32_t(in[6 + i]));
  }
  for (unsigned row = 0; row < 16; ++row)
    for (unsigned k = 0; k < 16; ++k)
      for (unsigned column = 0; column < 8; ++column)
        c[row][column] += a[row][k] * b[k][column];
  for (unsigned lane = 0; lane < 32; ++lane) {
    unsigned g = lane / 4, t = lane % 4;
    for (unsigned i = 0; i < 4; ++i)
      lanes[lane].abi.out[i] =
          std::bit_cast<uint32_t>(c[g + 8 * (i / 2)][2 * t + i % 2]);
  }
}
KVC_SIMT_WARP(MmaBF16) { multiply(lanes, fromBF16); }
KVC_SIMT_WARP(MmaF16) { multiply(lanes, fromF16); }

/// m16n8k32: a0..a3 hold rows g, g+8, g, g+8 and columns 4t, 4t, 4t+16, 4t+16
/// (and the next three each); b0, b1 rows 4t, 4t+16 (and the next three) of
/// column g; c and d as above.
template <typename B> void Instructions::multiplyBytes(Thread *lanes) {
  int8_t a[16][32];
  B b[32][8];
  uint32_t c[16][8]; // of which sums may wrap
  for (unsigned lane = 0; lane < 32; ++lane) {
    unsigned g = lane / 4, t = lane % 4;
    const uint64_t *in = lanes[lane].abi.in;
    for (unsigned byte = 0; byte < 4; ++byte) {
      for (unsigned i = 0; i < 4; ++i)
        a[g + 8 * (i % 2)][4 * t + 16 * (i / 2) + byte] =
            int8_t(in[i] >> (8 * byte));
      for (unsigned i = 0; i < 2; ++i)
        b[4 * t + 16 * i + byte][g] = B(in[4 + i] >> (8 * byte));
    }
    for (unsigned i = 0; i < 4; ++i)
      c[g + 8 * (i / 2)][2 * t + i % 2] = uint32_t(in[6 + i]);
  }
  for (unsigned row = 0; row < 16; ++row)
    for (unsigned k = 0; k < 32; ++k)
      for (unsigned column = 0; column < 8; ++column)
        c[row][column] += uint32_t(int32_t(a[row][k]) * int32_t(b[k][column]));
  for (unsigned lane = 0; lane < 32; ++lane) {
    unsigned g = lane / 4, t = lane % 4;
    for (unsigned i = 0; i < 4; ++i)
      lanes[lane].abi.out[i] = c[g + 8 * (i / 2)][2 * t + i % 2];
  }
}
KVC_SIMT_WARP(MmaS8S8) { multiplyBytes<int8_t>(lanes); }
KVC_SIMT_WARP(MmaS8U8) { multiplyBytes<uint8_t>(lanes); }
