//===- AttendPlan.cpp - which pieces a batch's attention is cut in --------===//
#include "runtime/AttendPlan.h"

#include "runtime/include/kvc/runtime.h"

#include <algorithm>

using namespace kvc::rt;

/// What kvc_attend_workspace allows for partial results where one block needs
/// less: a wave of this size hides the cost of starting it.
static constexpr size_t kWaveBytes = 64u << 20;
/// Keeps the work tiles of a wave well within 32 bits.
static constexpr size_t kMaxWaveBytes = size_t(64) << 30;

static int64_t ceilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

//===----------------------------------------------------------------------===//
// Splits
//===----------------------------------------------------------------------===//

uint32_t AttendShape::variantFor(uint32_t queries) const {
  uint32_t chosen = 0;
  for (uint32_t i = 0; i < variants.size(); ++i)
    if (variants[i].minQueries <= queries)
      chosen = i;
  return chosen;
}

ActiveSplits kvc::rt::activeSplits(const AttendShape &shape, uint32_t split,
                                   int64_t first, int64_t last) {
  ActiveSplits active;
  int64_t end = last + 1, size = split ? split : end;
  active.recentEnd = int32_t(ceilDiv(end, size));
  if (!shape.window)
    return active;
  int64_t oldest = std::max<int64_t>(0, first - shape.recent + 1);
  active.sinkEnd = int32_t(ceilDiv(std::min<int64_t>(shape.sink, end), size));
  active.recentBegin = std::max(int32_t(oldest / size), active.sinkEnd);
  // The sink alone may reach the end.
  active.recentEnd = std::max(active.recentEnd, active.recentBegin);
  return active;
}

//===----------------------------------------------------------------------===//
// The workspace
//
//   planned sequences | scratch | lse | o
//===----------------------------------------------------------------------===//

struct AttendPlan::Layout {
  size_t scratch, partials;

  Layout(size_t batch, size_t scratchBytes) {
    scratch = align(batch * sizeof(PlannedSequence));
    partials = scratch + align(scratchBytes);
  }
};

int64_t kvc::rt::mostSplits(const AttendShape &shape, uint32_t split,
                            int64_t queries, int64_t kvLen) {
  if (split == 0)
    return 1;
  int64_t all = ceilDiv(kvLen, split);
  if (!shape.window)
    return all;
  return std::min(all, ceilDiv(shape.sink, split) +
                           ceilDiv(shape.recent + queries, split) + 1);
}

size_t AttendPlan::workspaceBytes(const AttendShape &shape, size_t scratch,
                                  uint32_t batch, uint32_t rows,
                                  uint32_t kvLen) {
  size_t total = 0, block = 0;
  for (const AttendVariant &variant : shape.variants) {
    size_t row =
        mostSplits(shape, variant.split, rows, kvLen) * shape.partialBytes();
    total = std::max(total, rows * row);
    block = std::max(block, std::min(rows, variant.maxQueries) * row);
  }
  // 64: `o` is aligned behind `lse`.
  size_t partials = std::min(total, std::max(block, kWaveBytes)) + 64;
  return Layout(batch, scratch).partials + partials;
}

AttendPlan::AttendPlan(const AttendShape &shape, const kvc_attend_args &args,
                       size_t scratch)
    : shape(shape), batch(args), scratchBytes(scratch) {
  size_t block = 0;
  for (uint32_t b = 0; b < batch.batch; ++b) {
    PlannedSequence whole = plan(b, 0, queries(b));
    int32_t most = int32_t(shape.variants[whole.variant].maxQueries);
    whole.queries = std::min(whole.queries, most);
    block = std::max(block, bytes(whole));
  }
  Layout layout(batch.batch, scratch);
  needed = layout.partials + block + 64;
  if (batch.workspace_bytes >= needed)
    budget =
        std::min(batch.workspace_bytes - layout.partials - 64, kMaxWaveBytes);
}

uint8_t *AttendPlan::scratch() const {
  return static_cast<uint8_t *>(batch.workspace) +
         Layout(batch.batch, scratchBytes).scratch;
}

//===----------------------------------------------------------------------===//
// Waves
//===----------------------------------------------------------------------===//

int32_t AttendPlan::queries(uint32_t sequence) const {
  return batch.cu_q[sequence + 1] - batch.cu_q[sequence];
}

size_t AttendPlan::bytes(const PlannedSequence &planned) const {
  return size_t(planned.splits.count()) * planned.queries *
         shape.partialBytes();
}

/// Query tokens [rowBegin, rowEnd) of a sequence. The kernel is that of all.
PlannedSequence AttendPlan::plan(uint32_t sequence, int32_t rowBegin,
                                 int32_t rowEnd) const {
  PlannedSequence planned;
  int32_t n = queries(sequence), length = batch.kv_len[sequence];
  planned.rowBegin = rowBegin;
  planned.queries = rowEnd - rowBegin;
  planned.variant = shape.variantFor(uint32_t(n));
  const AttendVariant &variant = shape.variants[planned.variant];
  planned.blocks = int32_t(ceilDiv(planned.queries, variant.maxQueries));
  if (length == 0 || planned.queries == 0)
    return planned;
  planned.length = shape.causal ? length - (n - rowEnd) : length;
  planned.splits = activeSplits(shape, variant.split, length - n + rowBegin,
                                planned.length - 1);
  return planned;
}

/// How many of the sequence's remaining query tokens fill a wave; whole blocks.
int32_t AttendPlan::rowsThatFit(uint32_t sequence) const {
  int32_t n = queries(sequence);
  PlannedSequence rest = plan(sequence, nextRow, n);
  int32_t block = int32_t(shape.variants[rest.variant].maxQueries);
  size_t row = size_t(rest.splits.count()) * shape.partialBytes();
  int64_t blocks = std::max<int64_t>(1, budget / row / block);
  return int32_t(std::min<int64_t>(blocks * block, n - nextRow));
}

bool AttendPlan::add(Wave &wave, const PlannedSequence &planned) {
  size_t more = bytes(planned);
  if (used + more > budget && wave.count)
    return false;
  auto *sequences = static_cast<PlannedSequence *>(batch.workspace);
  PlannedSequence &added = sequences[wave.count++];
  added = planned;
  added.workTileBegin = wave.workTiles;
  added.mergeBegin = wave.merges;
  added.splitRow = splitRows;
  uint32_t merges = shape.kvHeads * uint32_t(planned.blocks);
  wave.merges += merges;
  wave.workTiles += merges * uint32_t(planned.splits.count());
  splitRows +=
      int64_t(planned.splits.count()) * planned.queries * shape.queryHeads;
  used += more;
  return true;
}

/// Points the kernels at the wave's partial results.
void AttendPlan::finish(Wave &wave, Environment &words) {
  auto *base = static_cast<uint8_t *>(batch.workspace);
  Layout layout(batch.batch, scratchBytes);
  words.set(Word::PartialLse, base + layout.partials);
  words.set(Word::PartialO,
            base + layout.partials + align(size_t(splitRows) * sizeof(float)));
  wave.sequences = reinterpret_cast<PlannedSequence *>(base);
}

bool AttendPlan::next(Wave &wave, Environment &words) {
  wave = Wave();
  wave.first = nextSequence;
  used = 0;
  splitRows = 0;
  while (nextSequence < batch.batch) {
    int32_t n = queries(nextSequence);
    PlannedSequence planned = plan(nextSequence, nextRow, n);
    if (bytes(planned) <= budget) {
      if (!add(wave, planned))
        break;
      nextSequence += 1;
      nextRow = 0;
      continue;
    }
    if (wave.count)
      break;
    // Too long for one wave: some of its blocks are a wave.
    int32_t end = nextRow + rowsThatFit(nextSequence);
    add(wave, plan(nextSequence, nextRow, end));
    nextRow = end == n ? 0 : end;
    nextSequence += end == n;
    break;
  }
  finish(wave, words);
  return wave.count != 0;
}

//===----------------------------------------------------------------------===//
// Work tiles
//===----------------------------------------------------------------------===//

/// The sequence whose range contains `index`; those without work have none.
template <int64_t PlannedSequence::*begin>
static uint32_t sequenceOf(const Wave &wave, uint32_t index) {
  auto after = [](int64_t index, const PlannedSequence &sequence) {
    return index < sequence.*begin;
  };
  const PlannedSequence *end = wave.sequences + wave.count;
  return uint32_t(std::upper_bound(wave.sequences, end, index, after) -
                  wave.sequences - 1);
}

static void setRows(KvcWorkTile &workTile, const AttendShape &shape,
                    const PlannedSequence &sequence, int32_t block) {
  int64_t most = shape.variants[sequence.variant].maxQueries;
  int64_t begin = block * most;
  int64_t end = std::min<int64_t>(begin + most, sequence.queries);
  workTile.row_begin = sequence.rowBegin + int32_t(begin);
  workTile.row_end = sequence.rowBegin + int32_t(end);
  workTile.split_queries = sequence.queries;
  workTile.split_row =
      sequence.splitRow - int64_t(sequence.rowBegin) * shape.queryHeads;
}

uint32_t AttendPlan::workTile(const AttendShape &shape, const Wave &wave,
                              uint32_t index, KvcWorkTile &workTile) {
  uint32_t b = sequenceOf<&PlannedSequence::workTileBegin>(wave, index);
  const PlannedSequence &sequence = wave.sequences[b];
  const AttendVariant &variant = shape.variants[sequence.variant];
  uint32_t rest = index - uint32_t(sequence.workTileBegin);
  int32_t block = int32_t(rest % uint32_t(sequence.blocks));
  rest /= uint32_t(sequence.blocks);
  workTile.sequence = int32_t(wave.first + b);
  workTile.head = int32_t(rest % shape.kvHeads);
  workTile.split_idx = int32_t(rest / shape.kvHeads);
  int64_t begin =
      int64_t(sequence.splits.split(workTile.split_idx)) * variant.split;
  int64_t end = variant.split ? begin + variant.split : sequence.length;
  workTile.begin = int32_t(begin);
  workTile.end = int32_t(std::min<int64_t>(end, sequence.length));
  setRows(workTile, shape, sequence, block);
  return sequence.variant;
}

uint32_t AttendPlan::merge(const AttendShape &shape, const Wave &wave,
                           uint32_t index, KvcWorkTile &workTile) {
  uint32_t b = sequenceOf<&PlannedSequence::mergeBegin>(wave, index);
  const PlannedSequence &sequence = wave.sequences[b];
  uint32_t rest = index - uint32_t(sequence.mergeBegin);
  int32_t block = int32_t(rest % uint32_t(sequence.blocks));
  workTile.sequence = int32_t(wave.first + b);
  workTile.head = int32_t(rest / uint32_t(sequence.blocks));
  workTile.split_idx = sequence.splits.count();
  setRows(workTile, shape, sequence, block);
  return sequence.variant;
}
