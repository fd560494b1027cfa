//===- PagePool.cpp - which pages of a store are free ---------------------===//
#include "runtime/PagePool.h"

using namespace kvc::rt;

bool PagePool::create(uint32_t pages) {
  if (!stack.allocate(pages) || !holders.allocate(pages))
    return false;
  pageCount = pages;
  // Taken from the back: ascending at first, which streams best.
  for (uint32_t page = pages; page > uint32_t(kFirstPage); --page)
    stack[freeCount++] = int32_t(page - 1);
  return true;
}

int32_t PagePool::take() {
  int32_t page = stack[--freeCount];
  holders[size_t(page)] = 1;
  liveCount += 1;
  return page;
}

PagePool::Given PagePool::give(int32_t page) {
  if (!isLive(page))
    return Given::NotLive;
  uint32_t left = --holders[size_t(page)];
  sharedCount -= left == 1;
  if (left)
    return Given::Held;
  liveCount -= 1;
  stack[freeCount++] = page;
  return Given::Freed;
}
