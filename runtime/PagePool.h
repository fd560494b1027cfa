//===- PagePool.h - which pages of a store are free -------------*- C++ -*-===//
//
// Page 0 is read where a table has no page and never written; page 1 takes
// writes that nobody reads. Neither is ever handed out.
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

  /// A page of its own for the caller. free() must not be 0.
  int32_t take();
  /// False, and no change, if the page is not live: a broken invariant.
  [[nodiscard]] bool give(int32_t page);

  /// O(1): free and live pages are all pages.
  bool isConserved() const { return freeCount + liveCount == total(); }
  bool isLive(int32_t page) const {
    return page >= kFirstPage && uint32_t(page) < pageCount && states[page];
  }
  /// Free pages, in no order.
  const int32_t *freeList() const { return stack.data(); }
  uint32_t pages() const { return pageCount; }

private:
  uint32_t pageCount = 0, freeCount = 0, liveCount = 0;
  HostArray<int32_t> stack;  ///< the page freed last is taken next: it is warm
  HostArray<uint8_t> states; ///< 1: live
};

} // namespace kvc::rt

#endif // KVC_RUNTIME_PAGEPOOL_H
