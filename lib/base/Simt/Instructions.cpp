//===- Instructions.cpp - what each row of Ops.def does -------------------===//
#include "lib/base/Simt/Instructions.h"

#include <cmath>
#include <cstring>

using namespace kvc::simt;

namespace {

enum class Kind { Pure, Effect, Collective };
constexpr Kind kKinds[] = {
#define KVC_PTX_OP(NAME, SM, KIND, CONSTRAINTS, ASM) Kind::KIND,
#include "lib/base/Simt/Ops.def"
#undef KVC_PTX_OP
};

float flush(float x) {
  return std::fpclassify(x) == FP_SUBNORMAL ? std::copysign(0.0f, x) : x;
}

} // namespace

//===----------------------------------------------------------------------===//
// Shared memory
//===----------------------------------------------------------------------===//

/// Operands are an address, if `store` words, and an offset.
void Instructions::loadShared(uint32_t bytes, unsigned words) {
  uint32_t at = offsetOf(u32(0) + u32(1));
  cta.check(thread, cta.shared.read(at, bytes, cta.accessor(thread)));
  cta.note(thread, Traffic::Space::Shared, at, bytes);
  uint32_t value[4] = {};
  std::memcpy(value, cta.shared.data() + at, bytes);
  for (unsigned i = 0; i < words; ++i)
    result(value[i], i);
}

void Instructions::storeShared(uint32_t bytes, unsigned words) {
  uint32_t at = offsetOf(u32(0) + u32(1 + words));
  cta.check(thread, cta.shared.write(at, bytes, cta.accessor(thread)));
  cta.note(thread, Traffic::Space::Shared, at, bytes);
  uint32_t value[4];
  for (unsigned i = 0; i < words; ++i)
    value[i] = u32(1 + i);
  std::memcpy(cta.shared.data() + at, value, bytes);
}

/// The two offsets are operands `offsets` and the next.
void Instructions::copyAsync(uint32_t bytes, uint32_t fromMemory,
                             unsigned offsets) {
  Copy copy = {};
  copy.to = offsetOf(u32(0) + u32(offsets));
  copy.from =
      uintptr_t(u64(1)) + uintptr_t(intptr_t(int32_t(u32(offsets + 1))));
  copy.bytes = bytes;
  copy.fromMemory = fromMemory;
  cta.copyAsync(thread, copy);
}

KVC_SIMT_ONE(SmemBase) { result(kSharedBase); }
KVC_SIMT_ONE(LdsU8) { loadShared(1, 1); }
KVC_SIMT_ONE(LdsU16) { loadShared(2, 1); }
KVC_SIMT_ONE(Lds32) { loadShared(4, 1); }
KVC_SIMT_ONE(Lds64) { loadShared(8, 2); }
KVC_SIMT_ONE(Lds128) { loadShared(16, 4); }
KVC_SIMT_ONE(StsU16) { storeShared(2, 1); }
KVC_SIMT_ONE(Sts32) { storeShared(4, 1); }
KVC_SIMT_ONE(Sts64) { storeShared(8, 2); }
KVC_SIMT_ONE(Sts128) { storeShared(16, 4); }

//===----------------------------------------------------------------------===//
// Copies and mbarriers
//===----------------------------------------------------------------------===//

KVC_SIMT_ONE(CpAsync16) { copyAsync(16, 16, 2); }
KVC_SIMT_ONE(CpAsync8) { copyAsync(8, 8, 2); }
KVC_SIMT_ONE(CpAsync4) { copyAsync(4, 4, 2); }
KVC_SIMT_ONE(CpAsync16Zfill) { copyAsync(16, u32(2), 3); }
KVC_SIMT_ONE(CpAsync8Zfill) { copyAsync(8, u32(2), 3); }
KVC_SIMT_ONE(CpAsync4Zfill) { copyAsync(4, u32(2), 3); }
KVC_SIMT_ONE(CpAsyncCommit) { ++thread.group; }
KVC_SIMT_ONE(CpAsyncWait) { cta.finishCopies(thread, u32(0)); }

void Instructions::copyBulk() {
  Copy copy = {};
  copy.to = offsetOf(u32(0));
  copy.from = uintptr_t(u64(1));
  copy.bytes = copy.fromMemory = u32(2);
  copy.barrier = offsetOf(u32(3));
  cta.startBulk(thread, copy);
}
KVC_SIMT_ONE(BulkCopy) { copyBulk(); }
KVC_SIMT_ONE(BulkCopyCta) { copyBulk(); }
KVC_SIMT_ONE(MbarInit) { cta.initBarrier(thread, offsetOf(u32(0)), u32(1)); }
KVC_SIMT_ONE(MbarFenceInit) { cta.fenceInits(thread); }
KVC_SIMT_ONE(MbarArrive) { cta.arrive(thread, offsetOf(u32(0)), 0); }
KVC_SIMT_ONE(MbarArriveExpectTx) {
  cta.arrive(thread, offsetOf(u32(0)), u32(1));
}
KVC_SIMT_ONE(MbarWait) { cta.waitFor(thread, offsetOf(u32(0)), u32(1)); }
KVC_SIMT_ONE(FenceProxyAsync) {
  thread.fenced = std::make_unique<VectorClock>(cta.accessor(thread).knows.own);
  thread.fencedClock = thread.clock++;
}
KVC_SIMT_ONE(AtomAddAcqRel) {
  result(cta.addAtomically(thread, uintptr_t(u64(0)), u32(1)));
}

//===----------------------------------------------------------------------===//
// Threads and arithmetic
//===----------------------------------------------------------------------===//

KVC_SIMT_ONE(TidX) { result(thread.index); }
KVC_SIMT_ONE(CtaidX) { result(cta.index); }
KVC_SIMT_ONE(NctaidX) { result(cta.launch->grid); }

KVC_SIMT_ONE(Ex2) { result(flush(float(std::exp2(double(flush(f32(0))))))); }
KVC_SIMT_ONE(Lg2) { result(flush(float(std::log2(double(flush(f32(0))))))); }
KVC_SIMT_ONE(Rcp) { result(flush(float(1 / double(flush(f32(0)))))); }
KVC_SIMT_ONE(Prmt) {
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
KVC_SIMT_ONE(CvtBF16x2) {
  result(uint32_t(toBF16(f32(0))) << 16 | toBF16(f32(1)));
}
KVC_SIMT_ONE(CvtF16x2) {
  result(uint32_t(toF16(f32(0))) << 16 | toF16(f32(1)));
}
KVC_SIMT_ONE(SubF16x2) {
  uint32_t x = u32(0), y = u32(1), value = 0;
  for (unsigned shift : {0, 16})
    value |= uint32_t(toF16(fromF16(uint16_t(x >> shift)) -
                            fromF16(uint16_t(y >> shift))))
             << shift;
  result(value);
}

float kvc::simt::fromF16(uint16_t bits) {
  uint32_t sign = uint32_t(bits & 0x8000) << 16, rest = bits & 0x7fff;
  uint32_t value = (rest << 13) + ((127 - 15) << 23);
  if (rest < 0x400) // 0, denormal
    value = std::bit_cast<uint32_t>(float(rest) * 0x1p-24f);
  else if (rest >= 0x7c00) // infinity, NaN
    value |= 0x7f800000;
  return std::bit_cast<float>(value | sign);
}

uint16_t kvc::simt::toF16(float x) {
  if (std::isnan(x))
    return 0x7fff;
  return std::bit_cast<uint16_t>(_Float16(x));
}

uint16_t kvc::simt::toBF16(float x) {
  if (std::isnan(x))
    return 0x7fff;
  auto bits = std::bit_cast<uint32_t>(x);
  return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

//===----------------------------------------------------------------------===//
// Warps
//===----------------------------------------------------------------------===//

KVC_SIMT_WARP(BarSync) { cta.barrier(thread, /*waits=*/true); }
KVC_SIMT_WARP(BarArrive) { cta.barrier(thread, /*waits=*/false); }
KVC_SIMT_WARP(WarpSync) { cta.syncWarp(thread.warp); }
KVC_SIMT_WARP(ShflBfly) {
  for (uint32_t lane = 0; lane < 32; ++lane)
    lanes[lane].abi.out[0] =
        lanes[(lane ^ lanes[lane].abi.in[1]) & 31].abi.in[0];
}
KVC_SIMT_WARP(ShflIdx) {
  for (uint32_t lane = 0; lane < 32; ++lane)
    lanes[lane].abi.out[0] = lanes[lanes[lane].abi.in[1] & 31].abi.in[0];
}
KVC_SIMT_WARP(ShflUp) {
  for (uint32_t lane = 0; lane < 32; ++lane) {
    uint32_t by = lanes[lane].abi.in[1] & 31;
    lanes[lane].abi.out[0] = lanes[lane >= by ? lane - by : lane].abi.in[0];
  }
}
static uint32_t ballot(const Thread *lanes) {
  uint32_t bits = 0;
  for (uint32_t lane = 0; lane < 32; ++lane)
    bits |= uint32_t(uint32_t(lanes[lane].abi.in[0]) != 0) << lane;
  return bits;
}
KVC_SIMT_WARP(VoteAny) {
  uint32_t any = ballot(lanes) != 0;
  for (uint32_t lane = 0; lane < 32; ++lane)
    lanes[lane].abi.out[0] = any;
}
KVC_SIMT_WARP(Ballot) {
  uint32_t bits = ballot(lanes);
  for (uint32_t lane = 0; lane < 32; ++lane)
    lanes[lane].abi.out[0] = bits;
}
/// Which lane it is, is nobody's business.
KVC_SIMT_WARP(ElectOne) {
  uint32_t chosen = uint32_t((*cta.random)()) % 32;
  for (uint32_t lane = 0; lane < 32; ++lane)
    lanes[lane].abi.out[0] = lane == chosen;
}
KVC_SIMT_WARP(ReduxMaxU32) {
  uint32_t most = 0;
  for (uint32_t lane = 0; lane < 32; ++lane)
    most = std::max(most, uint32_t(lanes[lane].abi.in[0]));
  for (uint32_t lane = 0; lane < 32; ++lane)
    lanes[lane].abi.out[0] = most;
}

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
  ++cta.executed[(thread.warp * KVC_OP_COUNT + thread.op) * 32 + thread.lane];
  switch (thread.op) {
#define KVC_PTX_OP(NAME, SM, KIND, CONSTRAINTS, ASM)                           \
  case KVC_OP_##NAME:                                                          \
    return executeOne<KVC_OP_##NAME, Kind::KIND>(*this);
#include "lib/base/Simt/Ops.def"
#undef KVC_PTX_OP
  }
}

void Instructions::executeWarp(Thread *lanes) {
  switch (thread.op) {
#define KVC_PTX_OP(NAME, SM, KIND, CONSTRAINTS, ASM)                           \
  case KVC_OP_##NAME:                                                          \
    return executeAll<KVC_OP_##NAME, Kind::KIND>(*this, lanes);
#include "lib/base/Simt/Ops.def"
#undef KVC_PTX_OP
  }
}
