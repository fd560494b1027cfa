//===- Instructions.cpp - what each row of Ops.def does -------------------===//
#include "lib/Simt/Instructions.h"

#include <cmath>
#include <cstring>

using namespace kvc::simt;

namespace {

enum class Kind { Pure, Effect, Collective };
constexpr Kind kKinds[] = {
#define KVC_PTX_OP(NAME, SM, KIND, CONSTRAINTS, ASM) Kind::KIND,
#include "lib/Simt/Ops.def"
#undef KVC_PTX_OP
};

float flush(float x) {
  return std::fpclassify(x) == FP_SUBNORMAL ? std::copysign(0.0f, x) : x;
}

float fromF16(uint16_t bits) { return float(std::bit_cast<_Float16>(bits)); }
uint16_t toF16(float x) {
  if (std::isnan(x))
    return 0x7fff;
  return std::bit_cast<uint16_t>(_Float16(x));
}
float fromBF16(uint16_t bits) {
  return std::bit_cast<float>(uint32_t(bits) << 16);
}
uint16_t toBF16(float x) {
  if (std::isnan(x))
    return 0x7fff;
  auto bits = std::bit_cast<uint32_t>(x);
  return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

} // namespace

//===----------------------------------------------------------------------===//
// Shared memory
//===----------------------------------------------------------------------===//

/// As an offset; an address below the first byte becomes one that is refused.
static uint32_t offsetOf(uint32_t address) { return address - kSharedBase; }

void Instructions::loadShared(unsigned bytes, uint32_t address,
                              unsigned words) {
  uint32_t at = offsetOf(address);
  cta.check(thread, cta.shared.read(at, bytes, cta.agent(thread)));
  cta.count(thread, false, at, bytes);
  uint32_t value[4] = {};
  std::memcpy(value, cta.shared.data() + at, bytes);
  for (unsigned i = 0; i < words; ++i)
    result(value[i], i);
}

void Instructions::storeShared(unsigned bytes, uint32_t address,
                               const uint32_t *words) {
  uint32_t at = offsetOf(address);
  cta.check(thread, cta.shared.write(at, bytes, cta.agent(thread)));
  cta.count(thread, false, at, bytes);
  std::memcpy(cta.shared.data() + at, words, bytes);
}

void Instructions::copyAsync(uint32_t bytes, uint32_t fromMemory,
                             uint32_t toOffset, uint32_t fromOffset) {
  if (fromMemory > bytes)
    cta.fail(thread, "a copy of " + std::to_string(bytes) +
                         " bytes that takes " + std::to_string(fromMemory) +
                         " from memory");
  Copy copy = {};
  copy.to = offsetOf(u32(0) + toOffset);
  copy.bytes = bytes;
  copy.fromMemory = fromMemory;
  copy.from = uintptr_t(thread.abi.in[1]) + int32_t(fromOffset);
  copy.group = thread.group;
  copy.site = thread.site;
  copy.thread = thread.index;
  cta.startCopy(thread, copy);
  thread.copies.push_back(copy);
}

#define ONE(NAME) template <> void Instructions::one<KVC_OP_##NAME>()
#define WARP(NAME)                                                             \
  template <>                                                                  \
  void Instructions::warp<KVC_OP_##NAME>([[maybe_unused]] Thread * lanes)

ONE(SmemBase) { result(kSharedBase); }
ONE(LdsU8) { loadShared(1, u32(0) + u32(1), 1); }
ONE(LdsU16) { loadShared(2, u32(0) + u32(1), 1); }
ONE(Lds32) { loadShared(4, u32(0) + u32(1), 1); }
ONE(Lds64) { loadShared(8, u32(0) + u32(1), 2); }
ONE(Lds128) { loadShared(16, u32(0) + u32(1), 4); }
ONE(StsU16) {
  uint32_t words[] = {u32(1)};
  storeShared(2, u32(0) + u32(2), words);
}
ONE(Sts32) {
  uint32_t words[] = {u32(1)};
  storeShared(4, u32(0) + u32(2), words);
}
ONE(Sts64) {
  uint32_t words[] = {u32(1), u32(2)};
  storeShared(8, u32(0) + u32(3), words);
}
ONE(Sts128) {
  uint32_t words[] = {u32(1), u32(2), u32(3), u32(4)};
  storeShared(16, u32(0) + u32(5), words);
}

//===----------------------------------------------------------------------===//
// Copies and mbarriers
//===----------------------------------------------------------------------===//

ONE(CpAsync16) { copyAsync(16, 16, u32(2), u32(3)); }
ONE(CpAsync8) { copyAsync(8, 8, u32(2), u32(3)); }
ONE(CpAsync4) { copyAsync(4, 4, u32(2), u32(3)); }
ONE(CpAsync16Zfill) { copyAsync(16, u32(2), u32(3), u32(4)); }
ONE(CpAsync8Zfill) { copyAsync(8, u32(2), u32(3), u32(4)); }
ONE(CpAsync4Zfill) { copyAsync(4, u32(2), u32(3), u32(4)); }
ONE(CpAsyncCommit) { ++thread.group; }
ONE(CpAsyncWait) { cta.finishCopies(thread, u32(0)); }

ONE(BulkCopy) {
  Copy copy = {};
  copy.to = offsetOf(u32(0));
  copy.from = uintptr_t(thread.abi.in[1]);
  copy.bytes = copy.fromMemory = u32(2);
  copy.barrier = offsetOf(u32(3));
  copy.site = thread.site;
  copy.thread = thread.index;
  if (copy.bytes == 0 || copy.bytes % 16 || copy.to % 16 || copy.from % 16)
    cta.fail(thread, "a bulk copy whose addresses and size are not multiples "
                     "of 16");
  MBarrier &barrier = cta.mbarrier(thread, copy.barrier);
  if (!barrier.visible)
    cta.fail(thread, "a bulk copy completes on an mbarrier whose "
                     "initialisation was not fenced");
  cta.startCopy(thread, copy);
  cta.bulk.push_back(copy);
}

ONE(MbarInit) {
  uint32_t at = offsetOf(u32(0));
  if (cta.mbarriers.count(at))
    cta.fail(thread, "initialises an mbarrier twice");
  cta.check(thread, cta.shared.makeBarrier(at, cta.agent(thread)));
  MBarrier &barrier = cta.mbarriers[at];
  barrier.expected = barrier.pending = u32(1);
}
ONE(MbarFenceInit) {
  for (auto &[at, barrier] : cta.mbarriers)
    barrier.visible = true;
}
ONE(MbarArrive) { cta.arrive(thread, cta.mbarrier(thread, offsetOf(u32(0)))); }
ONE(MbarArriveExpectTx) {
  MBarrier &barrier = cta.mbarrier(thread, offsetOf(u32(0)));
  barrier.bytes += u32(1);
  cta.arrive(thread, barrier);
}
ONE(MbarWait) {
  MBarrier &barrier = cta.mbarrier(thread, offsetOf(u32(0)));
  // The phase of that parity is over when the one under way has the other.
  if (barrier.phase % 2 != (u32(1) & 1)) {
    cta.warps[thread.warp].knows.join(barrier.knows);
    return;
  }
  barrier.waiting.push_back(&thread);
  cta.wait(thread);
}
ONE(FenceProxyAsync) {}

ONE(AtomAddAcqRel) {
  auto at = uintptr_t(thread.abi.in[0]);
  // Atomics on one address do not race with each other.
  Knowledge &place = (*cta.released)[at];
  Warp &warp = cta.warps[thread.warp];
  warp.knows.join(Knowledge{{}, place.others});
  Agent agent = cta.agent(thread);
  cta.check(thread, cta.global.write(at, 4, agent));
  place.join(Knowledge{{}, warp.knows.others});
  Clock &mine = place.others[cta.index];
  for (unsigned i = 0; i < kMaxWarps; ++i)
    mine[i] = std::max(mine[i], warp.knows.own[i]);
  cta.advance(warp, thread.warp);
  auto *word = reinterpret_cast<uint32_t *>(at);
  result(*word);
  *word += u32(1);
  cta.counters.bytesRead += 4;
  cta.counters.bytesWritten += 4;
}

//===----------------------------------------------------------------------===//
// Threads and arithmetic
//===----------------------------------------------------------------------===//

ONE(TidX) { result(thread.index); }
ONE(CtaidX) { result(cta.index); }
ONE(NctaidX) { result(cta.launch->grid); }

ONE(Ex2) { result(flush(float(std::exp2(double(flush(f32(0))))))); }
ONE(Lg2) { result(flush(float(std::log2(double(flush(f32(0))))))); }
ONE(Rcp) { result(flush(float(1 / double(flush(f32(0)))))); }
ONE(Prmt) {
  uint64_t pool = uint64_t(u32(1)) << 32 | u32(0);
  uint32_t selector = u32(2), value = 0;
  for (unsigned i = 0; i < 4; ++i) {
    unsigned nibble = selector >> (4 * i) & 15;
    auto byte = uint8_t(pool >> (8 * (nibble & 7)));
    if (nibble & 8) // replicates its sign
      byte = byte & 0x80 ? 0xff : 0;
    value |= uint32_t(byte) << (8 * i);
  }
  result(value);
}
ONE(CvtBF16x2) { result(uint32_t(toBF16(f32(0))) << 16 | toBF16(f32(1))); }
ONE(CvtF16x2) { result(uint32_t(toF16(f32(0))) << 16 | toF16(f32(1))); }
ONE(SubF16x2) {
  uint32_t x = u32(0), y = u32(1), value = 0;
  for (unsigned shift : {0, 16})
    value |= uint32_t(toF16(fromF16(uint16_t(x >> shift)) -
                            fromF16(uint16_t(y >> shift))))
             << shift;
  result(value);
}

//===----------------------------------------------------------------------===//
// Warps
//===----------------------------------------------------------------------===//

WARP(BarSync) { cta.barrier(thread, /*waits=*/true); }
WARP(BarArrive) { cta.barrier(thread, /*waits=*/false); }
WARP(WarpSync) { cta.advance(cta.warps[thread.warp], thread.warp); }
WARP(ShflBfly) {
  for (uint32_t lane = 0; lane < 32; ++lane)
    lanes[lane].abi.out[0] =
        lanes[(lane ^ lanes[lane].abi.in[1]) & 31].abi.in[0];
}
WARP(ShflIdx) {
  for (uint32_t lane = 0; lane < 32; ++lane)
    lanes[lane].abi.out[0] = lanes[lanes[lane].abi.in[1] & 31].abi.in[0];
}
WARP(ShflUp) {
  for (uint32_t lane = 0; lane < 32; ++lane) {
    auto by = uint32_t(lanes[lane].abi.in[1]);
    lanes[lane].abi.out[0] = lanes[lane >= by ? lane - by : lane].abi.in[0];
  }
}
static uint32_t ballot(const Thread *lanes) {
  uint32_t bits = 0;
  for (uint32_t lane = 0; lane < 32; ++lane)
    bits |= uint32_t(uint32_t(lanes[lane].abi.in[0]) != 0) << lane;
  return bits;
}
WARP(VoteAny) {
  uint32_t any = ballot(lanes) != 0;
  for (uint32_t lane = 0; lane < 32; ++lane)
    lanes[lane].abi.out[0] = any;
}
WARP(Ballot) {
  uint32_t bits = ballot(lanes);
  for (uint32_t lane = 0; lane < 32; ++lane)
    lanes[lane].abi.out[0] = bits;
}
WARP(ReduxMaxU32) {
  uint32_t most = 0;
  for (uint32_t lane = 0; lane < 32; ++lane)
    most = std::max(most, uint32_t(lanes[lane].abi.in[0]));
  for (uint32_t lane = 0; lane < 32; ++lane)
    lanes[lane].abi.out[0] = most;
}

//===----------------------------------------------------------------------===//
// Matrices
//===----------------------------------------------------------------------===//

/// Lane 8 i + r gives the address of row r of matrix i; lane 4 g + t gets
/// elements (g, 2t) and (g, 2t+1) of each, or of its transpose.
void Instructions::loadMatrices(Thread *lanes, unsigned count, bool transposed,
                                unsigned) {
  uint16_t matrix[4][8][8];
  for (unsigned i = 0; i < count; ++i)
    for (unsigned row = 0; row < 8; ++row) {
      Thread &lane = lanes[8 * i + row];
      uint32_t at =
          offsetOf(uint32_t(lane.abi.in[0]) + uint32_t(lane.abi.in[1]));
      cta.check(lane, cta.shared.read(at, 16, cta.agent(lane)));
      cta.count(lane, false, at, 16);
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
WARP(LdMatrixX1) { loadMatrices(lanes, 1, false, 0); }
WARP(LdMatrixX2) { loadMatrices(lanes, 2, false, 0); }
WARP(LdMatrixX4) { loadMatrices(lanes, 4, false, 0); }
WARP(LdMatrixX2Trans) { loadMatrices(lanes, 2, true, 0); }
WARP(LdMatrixX4Trans) { loadMatrices(lanes, 4, true, 0); }

WARP(MovMatrix) {
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
  float a[16][16], b[16][8];
  for (unsigned lane = 0; lane < 32; ++lane) {
    unsigned g = lane / 4, t = lane % 4;
    const uint64_t *in = lanes[lane].abi.in;
    for (unsigned i = 0; i < 4; ++i)
      for (unsigned half = 0; half < 2; ++half)
        a[g + 8 * (i % 2)][2 * t + 8 * (i / 2) + half] =
            convert(uint16_t(in[i] >> (16 * half)));
    for (unsigned i = 0; i < 2; ++i)
      for (unsigned half = 0; half < 2; ++half)
        b[2 * t + 8 * i + half][g] =
            convert(uint16_t(in[4 + i] >> (16 * half)));
  }
  for (unsigned lane = 0; lane < 32; ++lane) {
    unsigned g = lane / 4, t = lane % 4;
    for (unsigned i = 0; i < 4; ++i) {
      unsigned row = g + 8 * (i / 2), column = 2 * t + i % 2;
      auto sum = std::bit_cast<float>(uint32_t(lanes[lane].abi.in[6 + i]));
      for (unsigned k = 0; k < 16; ++k)
        sum += a[row][k] * b[k][column];
      lanes[lane].abi.out[i] = std::bit_cast<uint32_t>(sum);
    }
  }
}
WARP(MmaBF16) { multiply(lanes, fromBF16); }
WARP(MmaF16) { multiply(lanes, fromF16); }

//===----------------------------------------------------------------------===//
// Dispatch
//===----------------------------------------------------------------------===//

// A row of Ops.def without its function above does not link.
namespace {
template <unsigned Op, Kind kind> void executeOne(Instructions &it) {
  if constexpr (kind != Kind::Collective)
    it.one<Op>();
}
template <unsigned Op, Kind kind>
void executeAll(Instructions &it, Thread *lanes) {
  if constexpr (kind == Kind::Collective)
    it.warp<Op>(lanes);
}
} // namespace

void Instructions::execute() {
  if (kKinds[thread.op] == Kind::Collective)
    return cta.collective(thread);
  if (thread.lane == 0)
    ++cta.counters.ops[thread.op];
  switch (thread.op) {
#define KVC_PTX_OP(NAME, SM, KIND, CONSTRAINTS, ASM)                           \
  case KVC_OP_##NAME:                                                          \
    return executeOne<KVC_OP_##NAME, Kind::KIND>(*this);
#include "lib/Simt/Ops.def"
#undef KVC_PTX_OP
  }
}

void Instructions::executeWarp(Thread *lanes) {
  switch (thread.op) {
#define KVC_PTX_OP(NAME, SM, KIND, CONSTRAINTS, ASM)                           \
  case KVC_OP_##NAME:                                                          \
    return executeAll<KVC_OP_##NAME, Kind::KIND>(*this, lanes);
#include "lib/Simt/Ops.def"
#undef KVC_PTX_OP
  }
}
