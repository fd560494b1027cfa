//===- CacheLayout.h - where everything is in a cache's arena ---*- C++ -*-===//
//
//   arena = store 0 | store 1 | ...
//   store = layer 0 | layer 1 | ...            of its layers, in their order
//   layer = page 0 | page 1 | ...              or a sequence's slot
//   page  = plane 0 | plane 1 | ...            each 64-byte aligned
//
// One page id serves all layers of its store. A contiguous store has a slot for
// every sequence; paged stores share what is left so that all hold about as
// many tokens.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_RUNTIME_CACHELAYOUT_H
#define KVC_RUNTIME_CACHELAYOUT_H

#include "lib/base/Artifact/KernelAbi.h"
#include "lib/base/Artifact/Manifest.h"
#include "runtime/Status.h"

namespace kvc::rt {

/// KVC_INVALID_ARGUMENT if a bound of `options` is out of range for `manifest`.
kvc_status checkBounds(const artifact::Manifest &manifest,
                       const kvc_cache_options &options);

/// Steps that may be open at once.
inline constexpr uint32_t kMaxSteps = 4;

/// Pages [begin, end) of a sequence's table.
struct PageRange {
  uint32_t begin = 0, end = 0;

  uint32_t count() const { return end - begin; }
  bool holds(uint32_t page) const { return page >= begin && page < end; }
};

struct StoreLayout {
  const artifact::StoreInfo *info = nullptr;
  uint64_t offset = 0;     ///< of the store in the arena
  uint64_t layerBytes = 0; ///< pages * pageBytes
  uint64_t pageBytes = 0;  ///< of one layer
  uint32_t pages = 0;      ///< with the sentinels; contiguous: slots
  uint32_t pageTokens = 0; ///< contiguous: capacity of a slot
  uint32_t tableWidth = 0; ///< pages of the longest sequence; contiguous: 1
  std::vector<uint64_t> planeOffset; ///< in a page
  std::vector<int64_t> headStride;

  bool paged() const { return info->paged; }
  uint32_t layers() const { return uint32_t(info->layers.size()); }
  /// Pages that hold so many tokens of one sequence.
  uint32_t pagesFor(uint32_t tokens) const {
    return uint32_t((uint64_t(tokens) + pageTokens - 1) / pageTokens);
  }
  /// Pages all of whose tokens no query at position `settled` or later sees:
  /// those between the sink and the window. Pages that tokens from `settled` on
  /// go to are never among them.
  PageRange unseen(uint32_t settled) const;
  /// Pages that a sequence of `tokens` committed and reserved tokens holds, of
  /// which none will be fewer than `settled`.
  uint32_t held(uint32_t settled, uint32_t tokens) const {
    return pagesFor(tokens) - unseen(settled).count();
  }
  size_t planeCount() const { return info->planes.size(); }
  /// Where a contiguous slot has a plane's rows of so many tokens: a run from
  /// each of the first heads' first row on.
  struct Runs {
    uint32_t count;
    uint64_t bytes; ///< of each
  };
  Runs runsOf(size_t plane, uint32_t tokens) const;
  /// Plane `plane` of the `layer`-th of the store's layers.
  kvc_plane planeOf(uint8_t *arena, uint32_t layer, size_t plane) const;
};

/// The smallest arena in which `tokens` tokens have pages however the
/// `max_sequences` sequences share them. `options.arena_bytes` is not read.
/// KVC_INVALID_ARGUMENT if the options are out of range, if sequences of
/// `max_tokens_per_seq` cannot have so many tokens, or if no arena can.
kvc_status arenaBytes(const artifact::Manifest &manifest,
                      const kvc_cache_options &options, uint64_t tokens,
                      uint64_t &bytes);

/// The most tokens for which arenaBytes() is at most `options.arena_bytes`, 0
/// if there are none. KVC_INVALID_ARGUMENT if the options are out of range.
kvc_status tokensInArena(const artifact::Manifest &manifest,
                         const kvc_cache_options &options, uint64_t &tokens);

/// Divides the arena. KVC_INVALID_ARGUMENT if it is too small for one page of
/// each store beside the sentinels.
kvc_status layOut(const artifact::Manifest &manifest,
                  const kvc_cache_options &options,
                  std::vector<StoreLayout> &stores);

} // namespace kvc::rt

#endif // KVC_RUNTIME_CACHELAYOUT_H
