//===- FaultInjection.cpp - faults in what a kernel is given --------------===//
#include "lib/driver/Verify/FaultInjection.h"
#include "lib/driver/Verify/Launch.h"

#include <atomic>
#include <cmath>
#include <cstring>

using namespace kvc;
using namespace kvc::verify;

/// Whether one more token than `sequence` has would still be in its memory.
static bool hasTail(const BatchImage &image, const TestSequence &sequence) {
  return sequence.length % image.cache.outerTokens != 0;
}

/// Tokens of `sequence` in all splits but the last; all of them where the
/// queries need more.
static int64_t withoutLastSplit(const CompiledStore &store,
                                const TestSequence &sequence) {
  int64_t split = store.variantFor(sequence.queries).split;
  if (!split || sequence.length <= split)
    return sequence.length;
  int64_t rest = (sequence.length - 1) / split * split;
  return rest < sequence.queries ? sequence.length : rest;
}

/// Turns every query token's heads by one.
static void turnHeads(AttendMemory &memory) {
  const CompiledStore &store = memory.image.store;
  const RowLayout &layout = memory.qLayout;
  for (int64_t row = 0; row < memory.image.rows(); ++row)
    for (int64_t head = 0; head + 1 < store.queryHeads(); ++head) {
      auto *at = memory.q.data() + layout.at(row, store.firstQuery() + head);
      std::swap_ranges(at, at + layout.headBytes, at + layout.headStride);
    }
}

/// Changes every row of each plane in place, until the call is over.
template <typename Fn> static void changeRows(AttendMemory &memory, Fn change) {
  BatchImage &image = memory.image;
  memory.kept = image.arena;
  for (auto [number, plane] : llvm::enumerate(image.store.planes))
    for (auto [b, sequence] : llvm::enumerate(image.sequences))
      for (int64_t head = 0; head < image.store.heads(); ++head)
        for (int64_t t = 0; t < sequence->length; ++t)
          change(plane, image.row(number, b, head, t));
}

/// As if a loop over groups forgot to take the next scale.
static void repeatScale(const CompiledStore::Plane &plane, uint8_t *row) {
  int64_t width = plane.type.getIntOrFloatBitWidth() / 8;
  if (plane.role == kPlaneScales && plane.rowBytes >= 2 * width)
    std::memcpy(row + width, row, width);
}

/// As if a byte were not shifted.
static void repeatCodes(const CompiledStore::Plane &plane, uint8_t *row) {
  int64_t bits = plane.type.getIntOrFloatBitWidth();
  if (plane.role != kPlaneCodes || bits >= 8)
    return;
  for (int64_t to = 0; to < 8 * plane.rowBytes; ++to) {
    int64_t from = to - bits;
    if (to / bits % 2 == 0)
      continue;
    bool bit = row[from / 8] >> from % 8 & 1;
    row[to / 8] = (row[to / 8] & ~(1 << to % 8)) | bit << to % 8;
  }
}

/// Of both streams, where the two are of one form.
static void swapZeros(AttendMemory &memory) {
  llvm::ArrayRef<CompiledStore::Plane> planes = memory.image.store.planes;
  for (size_t i = 1; i < planes.size(); ++i)
    if (planes[i].role == kPlaneZeros && planes[i].type == planes[i - 1].type)
      std::swap(memory.planes[i], memory.planes[i - 1]);
}

static void swapScales(AttendMemory &memory) {
  const CompiledStore &store = memory.image.store;
  size_t k = 1, v = store.cache().planeIndex(kStreamV) + 1;
  auto isScales = [&](size_t plane) {
    return plane < store.planes.size() &&
           store.planes[plane].role == kPlaneScales;
  };
  if (isScales(k) && isScales(v) &&
      store.planes[k].type == store.planes[v].type &&
      store.planes[k].rowBytes == store.planes[v].rowBytes)
    std::swap(memory.planes[k], memory.planes[v]);
}

void verify::injectBeforeAttend(Fault fault, AttendMemory &memory) {
  BatchImage &image = memory.image;
  const CompiledStore &store = image.store;
  for (size_t b = 0; b < image.sequences.size(); ++b) {
    const TestSequence &sequence = *image.sequences[b];
    if (fault == Fault::ShortLength && sequence.length > sequence.queries)
      --memory.kvLen[b];
    if (fault == Fault::LongLength && hasTail(image, sequence))
      ++memory.kvLen[b];
    if (fault == Fault::LostSplit)
      memory.kvLen[b] = withoutLastSplit(store, sequence);
  }
  int64_t last = image.sequences.size() - 1;
  if (fault == Fault::TableEntry && last > 0 && image.sequences[0]->length &&
      image.sequences[last]->length)
    memory.table[0] = memory.table[last * image.tableStride];
  if (fault == Fault::HeadStride &&
      memory.planes[0].headStride > store.planes[0].rowStride)
    memory.planes[0].headStride -= store.planes[0].rowStride;
  if (fault == Fault::QueryHeads)
    turnHeads(memory);
  if (fault == Fault::SwapScales)
    swapScales(memory);
  if (fault == Fault::SwapZeros)
    swapZeros(memory);
  if (fault == Fault::OneGroup)
    changeRows(memory, repeatScale);
  if (fault == Fault::OneCode)
    changeRows(memory, repeatCodes);
}

/// Changes every o that the launch wrote.
template <typename Fn> static void forOutputs(AttendMemory &memory, Fn change) {
  const CompiledStore &store = memory.image.store;
  int64_t width = store.problem.dtype.getIntOrFloatBitWidth() / 8;
  for (int64_t row = 0; row < memory.image.rows(); ++row)
    for (int64_t head = 0; head < store.queryHeads(); ++head) {
      int64_t at = memory.outLayout.at(row, store.firstQuery() + head);
      for (int64_t i = 0; i < store.cache().getDimV(); ++i)
        change(row, memory.out.data() + at + i * width);
    }
}

static void roundOutputs(AttendMemory &memory) {
  if (!memory.image.store.problem.dtype.isF32())
    return;
  forOutputs(memory, [](int64_t, uint8_t *at) {
    std::memset(at, 0, 2); // the lower half of an f32
  });
}

/// Elements become multiples of an ulp of their row's largest: an error that no
/// norm of the row can see, and the end of its small channels.
static void roundToOneStep(AttendMemory &memory) {
  const CompiledStore &store = memory.image.store;
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
  BatchImage &image = memory.image;
  for (size_t b = 0; b < image.sequences.size(); ++b) {
    const TestSequence &sequence = *image.sequences[b];
    if (!hasTail(image, sequence))
      continue;
    uint8_t bit = *image.row(0, b, 0, sequence.length) & 1;
    forOutputs(memory, [&](int64_t row, uint8_t *at) {
      if (row >= image.cuQ[b] && row < image.cuQ[b + 1])
        *at ^= bit;
    });
  }
}

static void widenLse(AttendMemory &memory) {
  const CompiledStore &store = memory.image.store;
  for (int64_t row = 0; row < memory.image.rows(); ++row)
    for (int64_t head = 0; head < store.queryHeads(); ++head) {
      int64_t at = memory.lseLayout.at(row, store.firstQuery() + head);
      *reinterpret_cast<float *>(memory.lse.data() + at) *= float(M_LOG2E);
    }
}

static void spoilEmpty(AttendMemory &memory) {
  BatchImage &image = memory.image;
  int64_t width = image.store.problem.dtype.getIntOrFloatBitWidth() / 8;
  for (size_t b = 0; b < image.sequences.size(); ++b)
    if (!image.sequences[b]->length)
      forOutputs(memory, [&](int64_t row, uint8_t *at) {
        if (row >= image.cuQ[b] && row < image.cuQ[b + 1])
          std::memset(at, 0xff, width);
      });
}

void verify::injectAfterAttend(Fault fault, AttendMemory &memory) {
  static std::atomic<unsigned> runs;
  auto flip = [](int64_t, uint8_t *at) { *at ^= 1; };
  if (memory.kept.size())
    std::memcpy(memory.image.arena.data(), memory.kept.data(),
                memory.kept.size());
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
    return memory.image.sequences.size() % 2 ? forOutputs(memory, flip)
                                             : void();
  case Fault::RowOverrun:
    if (memory.image.rows())
      memory.out.data()[memory.outLayout.bytes()] ^= 1;
    return;
  default:
    return;
  }
}

void verify::injectBeforeAppend(Fault fault, std::vector<int64_t> &slots) {
  for (int64_t &slot : slots) {
    if (fault == Fault::WrongSlot && slot > 0)
      return void(--slot);
    if (fault == Fault::SkippedRow && slot < 0)
      slot = 0;
  }
}

void verify::injectAfterAppend(Fault fault, BatchImage &image) {
  if (fault != Fault::CodeBit)
    return;
  for (size_t b = 0; b < image.sequences.size(); ++b)
    if (int64_t length = image.sequences[b]->length)
      *image.row(0, b, 0, length - 1) ^= 1;
}

void verify::injectBeforeGather(Fault fault, const BatchImage &image,
                                std::vector<int64_t> &slots) {
  if (fault != Fault::GatherSlot)
    return;
  for (int64_t &slot : slots)
    if (slot % image.cache.outerTokens > 0)
      return void(--slot);
}

void verify::injectAfterGather(Fault fault, Buffer &rows,
                               const RowLayout &layout) {
  if (fault == Fault::GatherBit && layout.bytes())
    rows.data()[layout.bytes() / 2] ^= 1;
  if (fault == Fault::GatherOverrun)
    rows.data()[layout.bytes()] ^= 1;
}
