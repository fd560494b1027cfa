//===- CachePeer.h - the inside of a cache, for its tests -------*- C++ -*-===//
#ifndef KVC_TEST_UNIT_RUNTIME_CACHEPEER_H
#define KVC_TEST_UNIT_RUNTIME_CACHEPEER_H

#include "runtime/Cache.h"

#include <algorithm>

namespace kvc::rt {

/// Breaks what no call can break, and sees what no call shows.
struct CacheTestPeer {
  static void losePage(Cache &cache) { cache.stores[0]->pool.take(); }
  static void holdTwice(Cache &cache, uint32_t from, uint32_t to) {
    cache.stores[0]->table(to)[0] = cache.stores[0]->table(from)[0];
  }
  static void shareUnknown(Cache &cache, uint32_t sequence, uint32_t entry) {
    cache.stores[0]->pool.share(cache.stores[0]->table(sequence)[entry]);
  }
  static void writeZeroPage(Cache &cache) {
    cache.arena[cache.stores[0]->layout.offset] = 1;
  }
  static void loseSequence(Cache &cache) { cache.freeSequenceCount -= 1; }
  static void countALayer(Cache &cache) { cache.steps[0].written += 1; }
  static void showAnotherPage(Cache &cache) {
    cache.steps[0].tables[1].table[0] += 1;
  }
  /// Puts a page back that a window has left behind.
  static void keepUnseen(Cache &cache, uint32_t store, uint32_t sequence,
                         uint32_t entry) {
    cache.stores[store]->table(sequence)[entry] =
        cache.stores[store]->pool.take();
  }

  /// Whether every byte of free pages and of slots without a sequence is 0.
  static bool freeIsZero(const Cache &cache) {
    for (const auto &store : cache.stores) {
      const StoreLayout &layout = store->layout;
      for (uint32_t page = 0; page < layout.pages; ++page) {
        bool used = layout.paged() ? page == uint32_t(kSinkPage) ||
                                         store->pool.isLive(int32_t(page))
                                   : cache.sequences[page].isOpen();
        for (uint32_t layer = 0; !used && layer < layout.layers(); ++layer) {
          const uint8_t *at = cache.arena + layout.offset +
                              layer * layout.layerBytes +
                              page * layout.pageBytes;
          if (std::any_of(at, at + layout.pageBytes,
                          [](uint8_t byte) { return byte; }))
            return false;
        }
      }
    }
    return true;
  }
};

} // namespace kvc::rt

#endif // KVC_TEST_UNIT_RUNTIME_CACHEPEER_H
