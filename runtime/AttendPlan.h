//===- AttendPlan.h - which pieces attention is cut in ----------*- C++ -*-===//
//
// A sequence's query tokens are cut into blocks and its cached tokens into
// splits at absolute multiples of the kernel's split; one work tile is one
// (split, kv head, block). Every decision depends on the sequence alone, so a
// row's result depends on nothing else either. No list of work tiles exists: an
// index is resolved when a worker takes it.
//
//   index of a work tile:   sequence > split > kv head > query block (fastest)
//
// so that neighbours read the same cached tokens (blocks), then the same pages
// (heads), and each work tile streams up to `split` tokens of one head.
//
// The partial results of all work tiles lie in the caller's workspace until
// they are merged. If they do not fit at once, the batch runs as several waves.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_RUNTIME_ATTENDPLAN_H
#define KVC_RUNTIME_ATTENDPLAN_H

#include "lib/base/Artifact/KernelAbi.h"
#include "runtime/Environment.h"

#include <cstddef>

namespace kvc::rt {

/// To whole cache lines.
constexpr size_t align(size_t bytes) { return (bytes + 63) & ~size_t(63); }

/// An attend kernel of a store, as the planner sees it.
struct AttendVariant {
  uint32_t minQueries = 0, maxQueries = 0, split = 0;
};

/// What the planner must know of a store.
struct AttendShape {
  std::vector<AttendVariant> variants; ///< by minQueries, ascending
  uint32_t kvHeads = 0;                ///< of the store
  uint32_t queryHeads = 0;             ///< of the store
  uint32_t dimV = 0;
  bool window = false;
  uint32_t sink = 0, recent = 0;
  bool causal = true;

  /// Index of the variant for a sequence with that many query tokens.
  uint32_t variantFor(uint32_t queries) const;
  /// Bytes of the partial results of one query token in a split.
  size_t partialBytes() const { return size_t(queryHeads) * (dimV + 1) * 4; }
};

/// The splits that some query token of a range may see: [0, sinkEnd) and
/// [recentBegin, recentEnd), numbered in this order.
struct ActiveSplits {
  int32_t sinkEnd = 0, recentBegin = 0, recentEnd = 0;

  int32_t count() const { return sinkEnd + recentEnd - recentBegin; }
  int32_t split(int32_t splitIdx) const {
    return splitIdx < sinkEnd ? splitIdx : recentBegin + splitIdx - sinkEnd;
  }
};

/// For query tokens at positions [first, last], last < the cached tokens.
ActiveSplits activeSplits(const AttendShape &shape, uint32_t split,
                          int64_t first, int64_t last);

/// Splits at most, of `queries` query tokens over `kvLen` cached ones.
int64_t mostSplits(const AttendShape &shape, uint32_t split, int64_t queries,
                   int64_t kvLen);

/// One sequence of a wave, or some of its query tokens.
struct PlannedSequence {
  int64_t workTileBegin = 0, mergeBegin = 0; ///< sums over the sequences before
  int64_t splitRow = 0;                      ///< likewise
  int32_t length = 0;                        ///< cached tokens seen by anyone
  int32_t rowBegin = 0;                      ///< its first query token
  int32_t queries = 0;                       ///< how many
  uint32_t variant = 0;
  int32_t blocks = 0;
  ActiveSplits splits;
};

/// A run of sequences, or a run of one sequence's query blocks, whose partial
/// results are in the workspace at the same time.
struct Wave {
  const PlannedSequence *sequences = nullptr;
  uint32_t first = 0, count = 0; ///< sequences of the batch
  uint32_t workTiles = 0, merges = 0;
};

/// Cuts a checked batch into waves, in the caller's workspace.
class AttendPlan {
public:
  /// Bytes that suffice for any batch within these bounds, where `scratch`
  /// bytes are the workers'.
  static size_t workspaceBytes(const AttendShape &shape, size_t scratch,
                               uint32_t batch, uint32_t rows, uint32_t kvLen);

  /// `args` must be valid but for its workspace.
  AttendPlan(const AttendShape &shape, const kvc_attend_args &args,
             size_t scratch);

  /// Bytes of workspace that this batch needs at least.
  size_t required() const { return needed; }
  /// Where the workers' scratch is. 64-byte aligned.
  uint8_t *scratch() const;

  /// Prepares the next wave and sets the words of its partial results; false if
  /// there is none. The workspace must have required() bytes. A wave is valid
  /// until the next call.
  bool next(Wave &wave, Environment &words);

  /// The work tile or merge of an index.
  static uint32_t workTile(const AttendShape &shape, const Wave &wave,
                           uint32_t index, KvcWorkTile &workTile);
  static uint32_t merge(const AttendShape &shape, const Wave &wave,
                        uint32_t index, KvcWorkTile &workTile);

private:
  struct Layout;

  int32_t queries(uint32_t sequence) const;
  PlannedSequence plan(uint32_t sequence, int32_t rowBegin,
                       int32_t rowEnd) const;
  size_t bytes(const PlannedSequence &planned) const;
  int32_t rowsThatFit(uint32_t sequence) const;
  bool add(Wave &wave, const PlannedSequence &planned);
  void finish(Wave &wave, Environment &words);

  const AttendShape &shape;
  const kvc_attend_args &batch;
  size_t scratchBytes;
  size_t needed = 0;
  size_t budget = 0;         ///< bytes for partial results
  uint32_t nextSequence = 0; ///< that no wave has handled
  int32_t nextRow = 0;       ///< query token of it
  size_t used = 0;           ///< bytes of partial results in the wave so far
  int64_t splitRows = 0;     ///< split rows in the wave so far
};

} // namespace kvc::rt

#endif // KVC_RUNTIME_ATTENDPLAN_H
