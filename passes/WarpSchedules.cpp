//===- WarpSchedules.cpp - tiles for warps that share memory --------------===//
#include "passes/Schedules.h"

#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace kvc;

namespace {

/// Cached tokens per work tile: few enough that one long sequence fills a
/// machine, many enough that partial results are some percent of the bytes that
/// were read.
constexpr int64_t kDecodeSplit = 1024;
/// Two work tiles at a time hide each other's latencies, if both fit.
constexpr int64_t kWorkTilesAtATime = 2;
/// Bytes under way per work tile; more does not read faster.
constexpr int64_t kBytesAhead = 49152;
/// Channels of which 16 rows' accumulators and operands fit into registers.
constexpr int64_t kMaxRowsDim = 256;
/// Shared memory for other things than cached tokens.
constexpr int64_t kOtherShared = 16384;

int64_t rowBytes(StreamInfo stream) {
  int64_t bytes = stream.codeBytes();
  return llvm::alignTo(bytes, 32) + 16; // and padding against bank conflicts
}

/// Both products can run on codes as they are, or after a cheap conversion.
bool hasDots(CacheType cache, Type dtype, TargetAttr target) {
  for (StringRef stream : {kStreamK, kStreamV})
    if (!target.hasDot(cache.stream(stream).codeType(), dtype))
      return false;
  return true;
}

int64_t maxDim(CacheType cache) {
  return std::max(cache.getDimK(), cache.getDimV());
}

/// Query rows of a work tile that decodes: 8 as the machine multiplies, twice
/// that where it saves reading the cache again and accumulators leave room for
/// it.
int64_t chooseRows(int64_t wanted, CacheType cache, bool dot) {
  if (!dot)
    return maxDim(cache) > 256 ? 4 : 8;
  return wanted > 8 && maxDim(cache) <= 128 ? 16 : 8;
}

/// How many warps take how many tokens per step.
struct Shape {
  int64_t tokens, warps;
};
/// Long steps spread a softmax over more tokens, more warps hide more latency.
constexpr Shape kShapes[] = {{64, 2}, {32, 4}, {32, 2}, {16, 4},
                             {16, 2}, {16, 1}, {8, 1}};

/// The first shape of which two stages fit as often as is wanted; if none does,
/// the first of which they fit at all.
Shape chooseShape(int64_t row, int64_t room, int64_t least, int64_t most) {
  for (int64_t items : {kWorkTilesAtATime, int64_t(1)})
    for (Shape shape : kShapes)
      if (2 * shape.tokens * shape.warps * row <= room / items &&
          shape.tokens >= least && shape.tokens <= most)
        return shape;
  return {least, 1};
}

/// Tokens of a step for whose scores registers suffice. Where all codes are
/// bytes, the work that a step takes by itself is much of it all.
int64_t mostTokens(CacheType cache, bool dot, int64_t rows) {
  auto isBytes = [&](StringRef stream) {
    return cache.stream(stream).codeType().isInteger(8);
  };
  bool bytes = isBytes(kStreamK) && isBytes(kStreamV);
  return dot && bytes && rows == 8 && maxDim(cache) <= 128 ? 64 : 32;
}

/// Of a token: K and V.
int64_t tokenBytes(CacheType cache) {
  return rowBytes(cache.stream(kStreamK)) + rowBytes(cache.stream(kStreamV));
}

/// Steps in shared memory.
int64_t chooseStages(int64_t step, int64_t room) {
  int64_t stages = llvm::divideCeil(kBytesAhead, step) + 1;
  return std::clamp<int64_t>(stages, 2, std::clamp<int64_t>(room / step, 2, 8));
}

/// Warps share tokens. A warp that copies in bulk (`bulk`) takes six
/// instructions a row, all in one lane, where the others then save two: what
/// that is worth, only a GPU can say.
ScheduleAttr byTokens(StoreOp store, Type dtype, TargetAttr target,
                      int64_t queries, int64_t wanted, int64_t split) {
  auto cache = cast<CacheType>(store.getCache());
  bool dot = hasDots(cache, dtype, target);
  int64_t row = tokenBytes(cache);
  int64_t room = target.getShared() - kOtherShared;
  int64_t rows = chooseRows(wanted, cache, dot);
  Shape shape =
      chooseShape(row, room, dot ? 16 : 8, mostTokens(cache, dot, rows));
  int64_t step = shape.tokens * shape.warps * row;
  int64_t stages = chooseStages(step, room / kWorkTilesAtATime);
  return ScheduleAttr::of(store.getContext(), {.tokens = shape.tokens,
                                               .rows = rows,
                                               .queries = queries,
                                               .split = split,
                                               .dot = dot,
                                               .warps = shape.warps,
                                               .stages = stages});
}

/// Warps share rows: many of them read a tile of tokens once. Accumulators of
/// wide heads leave no room for the scores of many tokens.
ScheduleAttr warpsSplitQ(StoreOp store, TargetAttr target, int64_t queries) {
  auto cache = cast<CacheType>(store.getCache());
  int64_t tokens = maxDim(cache) <= 128 ? 64 : 32;
  int64_t step = tokens * tokenBytes(cache);
  int64_t room = target.getShared() - kOtherShared;
  int64_t warps = 8;
  // Results take the place of tokens.
  while (warps > 1 && 16 * warps * (cache.getDimV() * 4 + 40) > room)
    warps /= 2;
  while (tokens > 16 && 2 * step > room)
    tokens /= 2, step /= 2;
  return ScheduleAttr::of(store.getContext(),
                          {.tokens = tokens,
                           .rows = 16 * warps,
                           .queries = queries,
                           .dot = true,
                           .warps = warps,
                           .stages = chooseStages(step, room),
                           .warpsSplitQ = true});
}

ScheduleAttr decodeSchedule(StoreOp store, Type dtype, TargetAttr target) {
  return byTokens(store, dtype, target, kDecodeQueries,
                  /*wanted=*/store.getGroup(), kDecodeSplit);
}

/// A prefill has work tiles enough from its queries: splits would only cost
/// room.
ScheduleAttr prefillSchedule(StoreOp store, Type dtype, TargetAttr target) {
  auto cache = cast<CacheType>(store.getCache());
  constexpr int64_t kQueries = 1024;
  if (hasDots(cache, dtype, target) && maxDim(cache) <= kMaxRowsDim)
    return warpsSplitQ(store, target, kQueries);
  return byTokens(store, dtype, target, kQueries, /*wanted=*/16, /*split=*/0);
}

} // namespace

const SchedulePlanner kvc::warpPlanner = {decodeSchedule, prefillSchedule};
