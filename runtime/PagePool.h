//===- PagePool.h - which pages of a store are free -------------*- C++ -*-===//
//
// A page is held by as many sequences as have it in their tables, and free when
// the last one gives it back. Page 0 is read where a table has no page and
// never written; page 1 takes writes that nobody reads. Neither is ever handed
// out.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_RUNTIME_PAGEPOOL_H
#define KVC_RUNTIME_PAGEPOOL_H

#include "runtime/HostArray.h"

#include <cstdint>

namespace kvc::rt {

inline constexpr int32_t kZeroPage = 0, kSinkPage = 1, kFirstPage = 2;

class PagePool {
public:
  /// `pages` includes the sentinels. Once per pool; false: no memory.
  bool create(uint32_t pages);

  uint32_t total() const { return pageCount - kFirstPage; }
  uint32_t free() const { return freeCount; }
  uint32_t live() const { return liveCount; }
  /// Live pages that several hold.
  uint32_t shared() const { return sharedCount; }

  /// A page that the caller alone holds. free() must not be 0.
  int32_t take();
  /// One more holder of a live page.
  void share(int32_t page) { sharedCount += ++holders[size_t(page)] == 2; }
  enum class Given {
    NotLive, ///< nothing has changed: an invariant is broken
    Held,    ///< by others still
    Freed
  };
  /// Takes one of a page's holders away.
  [[nodiscard]] Given give(int32_t page);

  /// O(1): free and live pages are all pages.
  bool isConserved() const { return freeCount + liveCount == total(); }
  bool isLive(int32_t page) const {
    return page >= kFirstPage && uint32_t(page) < pageCount &&
           holders[size_t(page)];
  }
  /// 0: it is free, or a sentinel.
  uint32_t holdersOf(int32_t page) const { return holders[size_t(page)]; }
  /// Free pages, in no order.
  const int32_t *freeList() const { return stack.data(); }
  uint32_t pages() const { return pageCount; }

private:
  uint32_t pageCount = 0, freeCount = 0, liveCount = 0, sharedCount = 0;
  HostArray<int32_t> stack; ///< the page freed last is taken next: it is warm
  HostArray<uint32_t> holders;
};

} // namespace kvc::rt

#endif // KVC_RUNTIME_PAGEPOOL_H
