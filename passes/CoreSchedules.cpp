//===- CoreSchedules.cpp - tiles for cores with caches --------------------===//
#include "passes/Schedules.h"

#include "llvm/ADT/Sequence.h"

using namespace mlir;
using namespace kvc;

namespace {

/// Cached tokens per work tile. A prefill has work tiles enough from its
/// queries, and every split costs room for as many partial rows.
constexpr int64_t kDecodeSplit = 2048, kPrefillSplit = 16384;

/// Query rows per register tile: as many as share a loaded K element while
/// accumulators stay in registers, with the fewest padded rows.
int64_t chooseRows(int64_t group, int64_t registers, bool dot) {
  if (registers >= 32 && group % 8 == 0)
    return 8;
  // Products have a power of two of rows in a register.
  SmallVector<int64_t> candidates{4, 3, 5, 2};
  if (dot)
    candidates = {4, 2};
  for (int64_t rows : candidates)
    if (group % rows == 0)
      return rows;
  return group == 1 ? 1 : 4;
}

int64_t rowBytes(StreamInfo stream) { return stream.codeBytes(); }
/// Of the longer of a token's two rows.
int64_t rowBytes(CacheType cache) {
  return std::max(rowBytes(cache.stream(kStreamK)),
                  rowBytes(cache.stream(kStreamV)));
}

/// Whether both streams are multiplied as pairs of bf16, which takes no longer
/// than memory does.
bool inPairs(CacheType cache, Type dtype, TargetAttr target) {
  auto pairs = [&](StringRef stream) {
    Type code = cache.stream(stream).codeType();
    return code.isBF16() && target.hasDot(code, dtype);
  };
  return pairs(kStreamK) && pairs(kStreamV);
}

/// Tokens per tile: many, for a tile's softmax is a long chain; or fewer if
/// pages then hold whole tiles, whose rows stand evenly.
int64_t chooseTokens(CacheType cache) {
  int64_t page = cache.layout().getPageTokens();
  int64_t wanted = std::clamp<int64_t>(8192 / rowBytes(cache), 16, 64);
  for (int64_t tokens : {64, 32, 16, 8, 4})
    if (tokens <= wanted && page % tokens == 0)
      return tokens;
  return 16;
}

/// Tokens ahead to prefetch: 16 KiB of each stream, or half as much where
/// memory is all that is waited for.
int64_t choosePrefetch(CacheType cache, int64_t tokens, bool pairs) {
  int64_t wanted = (pairs ? 8192 : 16384) / rowBytes(cache);
  return llvm::bit_floor(uint64_t(std::clamp<int64_t>(wanted, 1, 3 * tokens)));
}

ScheduleAttr decodeSchedule(StoreOp store, Type dtype, TargetAttr target) {
  auto cache = cast<CacheType>(store.getCache());
  StreamInfo k = cache.stream(kStreamK), v = cache.stream(kStreamV);
  bool dotK = target.hasDot(k.codeType(), dtype);
  bool dot = dotK || target.hasDot(v.codeType(), dtype);
  int64_t rows = chooseRows(store.getGroup(), target.getRegisters(), dot);
  bool pairs = inPairs(cache, dtype, target);
  int64_t tokens = chooseTokens(cache);
  // Enough independent accumulators to cover the multiply-add's latency; of
  // products, a key has one for each row, and long rows are work enough.
  int64_t vectors = llvm::divideCeil(rowBytes(k), 64) * rows;
  int64_t keys =
      dotK ? std::clamp<int64_t>(128 / vectors, 2,
                                 std::max<int64_t>(8, target.getLanes() / rows))
           : std::clamp<int64_t>(target.getRegisters() / 2 / rows, 1, 8);
  int64_t prefetch = choosePrefetch(cache, tokens, pairs);
  keys = llvm::bit_floor(uint64_t(keys));
  return ScheduleAttr::of(store.getContext(), {.tokens = tokens,
                                               .rows = rows,
                                               .keys = std::min(keys, tokens),
                                               .queries = kDecodeQueries,
                                               .split = kDecodeSplit,
                                               .prefetch = prefetch,
                                               .dot = dot});
}

ScheduleAttr prefillSchedule(StoreOp store, Type dtype, TargetAttr target) {
  auto cache = cast<CacheType>(store.getCache());
  // Query rows, accumulators and packed tiles of a work tile share the L2
  // cache: 256 rows of 128 elements take 400 KB of its 512 or more.
  int64_t dim = std::max(cache.getDimK(), cache.getDimV());
  int64_t rows = std::max<int64_t>(1, 256 * 128 / dim);
  int64_t queries = std::clamp<int64_t>(rows / store.getGroup(), 1, 256);
  auto product = [&](StringRef stream) {
    return target.hasMatrix(cache.stream(stream).codeType(), dtype);
  };
  Type bf16 = BFloat16Type::get(store.getContext());
  bool dot =
      target.hasDot(bf16, dtype) || product(kStreamK) || product(kStreamV);
  return ScheduleAttr::of(store.getContext(),
                          {.tokens = 64,
                           .rows = target.getRegisters() >= 32 ? 8 : 4,
                           .queries = queries,
                           .split = kPrefillSplit,
                           .pack = true,
                           .dot = dot});
}

} // namespace

const SchedulePlanner kvc::corePlanner = {decodeSchedule, prefillSchedule};
