//===- Plant.cpp - faults in what a kernel is given and leaves ------------===//
#include "lib/Verify/Plant.h"
#include "lib/Verify/Launch.h"

#include <atomic>
#include <cmath>
#include <cstring>

using namespace kvc;
using namespace kvc::verify;

/// Whether one more token than `member` has would still be in its memory.
static bool hasTail(const Stage &stage, const Member &member) {
  return member.length % stage.cache.outerTokens != 0;
}

/// Tokens of `member` in all splits but the last; all of them where the queries
/// need more.
static int64_t withoutLastSplit(const StoreSubject &store,
                                const Member &member) {
  int64_t split = store.variantFor(member.queries).split;
  if (!split || member.length <= split)
    return member.length;
  int64_t rest = (member.length - 1) / split * split;
  return rest < member.queries ? member.length : rest;
}

/// Turns every query token's heads by one.
static void turnHeads(AttendMemory &memory) {
  const StoreSubject &store = memory.stage.store;
  int64_t head =
      store.cache().getDimK() * store.problem.dtype.getIntOrFloatBitWidth() / 8;
  for (int64_t row = 0; row < memory.stage.rows(); ++row) {
    uint8_t *first =
        memory.q.data() + row * memory.qStride + store.firstQuery() * head;
    std::rotate(first, first + head, first + store.queryHeads() * head);
  }
}

void verify::plantBeforeAttend(Fault fault, AttendMemory &memory) {
  Stage &stage = memory.stage;
  const StoreSubject &store = stage.store;
  for (size_t b = 0; b < stage.members.size(); ++b) {
    const Member &member = *stage.members[b];
    if (fault == Fault::ShortLength && member.length > member.queries)
      --memory.kvLen[b];
    if (fault == Fault::LongLength && hasTail(stage, member))
      ++memory.kvLen[b];
    if (fault == Fault::LostSplit)
      memory.kvLen[b] = withoutLastSplit(store, member);
  }
  int64_t last = stage.members.size() - 1;
  if (fault == Fault::TableEntry && last > 0 && stage.members[0]->length &&
      stage.members[last]->length)
    memory.table[0] = memory.table[last * stage.tableStride];
  if (fault == Fault::HeadStride &&
      memory.planes[0].head_stride > store.planes[0].tokenStride)
    memory.planes[0].head_stride -= store.planes[0].tokenStride;
  if (fault == Fault::QueryHeads)
    turnHeads(memory);
  if (fault == Fault::SwapScales && memory.planes.size() == 4 &&
      store.planes[1].type == store.planes[3].type)
    std::swap(memory.planes[1], memory.planes[3]);
}

/// Changes every o that the launch wrote.
template <typename Fn> static void forOutputs(AttendMemory &memory, Fn change) {
  const StoreSubject &store = memory.stage.store;
  int64_t width = store.problem.dtype.getIntOrFloatBitWidth() / 8;
  int64_t head = store.cache().getDimV() * width;
  for (int64_t row = 0; row < memory.stage.rows(); ++row) {
    uint8_t *first =
        memory.out.data() + row * memory.outStride + store.firstQuery() * head;
    for (int64_t i = 0; i < store.queryHeads() * store.cache().getDimV(); ++i)
      change(row, first + i * width);
  }
}

static void roundOutputs(AttendMemory &memory) {
  if (!memory.stage.store.problem.dtype.isF32())
    return;
  forOutputs(memory, [](int64_t, uint8_t *at) {
    std::memset(at, 0, 2); // the lower half of an f32
  });
}

/// Elements become multiples of an ulp of their row's largest: an error that no
/// norm of the row can see, and the end of its small channels.
static void roundToOneStep(AttendMemory &memory) {
  const StoreSubject &store = memory.stage.store;
  mlir::Type dtype = store.problem.dtype;
  if (dtype.isF32())
    return;
  int64_t dim = store.cache().getDimV(), bits = dtype.isF16() ? 10 : 7;
  std::vector<uint8_t *> row;
  forOutputs(memory, [&](int64_t, uint8_t *at) {
    row.push_back(at);
    if (int64_t(row.size()) < dim)
      return;
    float largest = 0;
    for (const uint8_t *x : row)
      largest = std::fmax(largest, std::fabs(element(dtype, x, 0)));
    if (largest > 0 && std::isfinite(largest)) {
      double step = std::ldexp(1, std::ilogb(largest) - bits);
      for (uint8_t *x : row)
        pack(dtype, float(std::nearbyint(element(dtype, x, 0) / step) * step),
             x);
    }
    row.clear();
  });
}

static void leakTail(AttendMemory &memory) {
  Stage &stage = memory.stage;
  for (size_t b = 0; b < stage.members.size(); ++b) {
    const Member &member = *stage.members[b];
    if (!hasTail(stage, member))
      continue;
    uint8_t bit = *stage.row(0, b, 0, member.length) & 1;
    forOutputs(memory, [&](int64_t row, uint8_t *at) {
      if (row >= stage.cuQ[b] && row < stage.cuQ[b + 1])
        *at ^= bit;
    });
  }
}

static void widenLse(AttendMemory &memory) {
  const StoreSubject &store = memory.stage.store;
  for (int64_t row = 0; row < memory.stage.rows(); ++row) {
    auto *first =
        reinterpret_cast<float *>(memory.lse.data() + row * memory.lseStride) +
        store.firstQuery();
    for (int64_t head = 0; head < store.queryHeads(); ++head)
      first[head] *= float(M_LOG2E);
  }
}

static void spoilEmpty(AttendMemory &memory) {
  Stage &stage = memory.stage;
  int64_t width = stage.store.problem.dtype.getIntOrFloatBitWidth() / 8;
  for (size_t b = 0; b < stage.members.size(); ++b)
    if (!stage.members[b]->length)
      forOutputs(memory, [&](int64_t row, uint8_t *at) {
        if (row >= stage.cuQ[b] && row < stage.cuQ[b + 1])
          std::memset(at, 0xff, width);
      });
}

void verify::plantAfterAttend(Fault fault, AttendMemory &memory) {
  static std::atomic<unsigned> runs;
  auto flip = [](int64_t, uint8_t *at) { *at ^= 1; };
  switch (fault) {
  case Fault::LowPrecision:
    return roundOutputs(memory);
  case Fault::OneStep:
    return roundToOneStep(memory);
  case Fault::TailLeak:
    return leakTail(memory);
  case Fault::Log2Lse:
    return widenLse(memory);
  case Fault::EmptyNan:
    return spoilEmpty(memory);
  case Fault::Flaky:
    return ++runs % 5 == 0 ? forOutputs(memory, flip) : void();
  case Fault::BatchOdd:
    return memory.stage.members.size() % 2 ? forOutputs(memory, flip) : void();
  case Fault::RowOverrun:
    if (memory.stage.rows())
      memory.out.data()[memory.stage.rows() * memory.outStride] ^= 1;
    return;
  default:
    return;
  }
}

void verify::plantBeforeAppend(Fault fault, std::vector<int64_t> &slots) {
  for (int64_t &slot : slots) {
    if (fault == Fault::WrongSlot && slot > 0)
      return void(--slot);
    if (fault == Fault::SkippedRow && slot < 0)
      slot = 0;
  }
}

void verify::plantAfterAppend(Fault fault, Stage &stage) {
  if (fault != Fault::CodeBit)
    return;
  for (size_t b = 0; b < stage.members.size(); ++b)
    if (int64_t length = stage.members[b]->length)
      *stage.row(0, b, 0, length - 1) ^= 1;
}
