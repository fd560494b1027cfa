//===- Copies.cpp - cp.async, bulk copies and their mbarriers -------------===//
//
// A copy is performed when its thread waits for it, a bulk copy when no thread
// can go on: as late as may be. Until then its target is poison, so that a
// missing wait and a copy that begins too early both show.
//
//===----------------------------------------------------------------------===//
#include "lib/base/Simt/Cta.h"

#include <algorithm>
#include <bit>
#include <cstring>

using namespace kvc::simt;

/// In the way of FNV-1a, of a copy's source.
static uint64_t digestOf(const Copy &copy) {
  const auto *from = reinterpret_cast<const uint8_t *>(copy.from);
  uint64_t digest = 0xcbf29ce484222325;
  for (uint32_t i = 0; i < copy.fromMemory; i += 8) {
    uint64_t part = 0;
    std::memcpy(&part, from + i, std::min(copy.fromMemory - i, 8u));
    digest = (digest ^ part) * 0x100000001b3;
  }
  return digest;
}

/// Targets and sources, of either kind of copy.
void Cta::startCopy(Thread &thread, Copy &copy, const Access &as) {
  copy.site = thread.site;
  if (copy.from % std::min(copy.bytes, 16u))
    fail(thread, format("copies %u bytes from global memory at %#zx: not "
                        "aligned",
                        copy.bytes, size_t(copy.from)));
  Accessor accessor = this->accessor(thread);
  check(thread, shared.begin(copy.to, copy.bytes, accessor, as));
  if (copy.fromMemory) {
    check(thread, global.copyFrom(copy.from, copy.fromMemory, accessor, as));
    note(thread, Traffic::Space::Global, copy.from, copy.fromMemory);
  }
  copy.digest = digestOf(copy);
  counters.bytesRead += copy.fromMemory;
}

/// False if the source is no longer what it was.
bool Cta::perform(const Copy &copy) {
  if (digestOf(copy) != copy.digest)
    return false;
  uint8_t *to = shared.data() + copy.to;
  if (copy.fromMemory)
    std::memcpy(to, reinterpret_cast<const void *>(copy.from), copy.fromMemory);
  std::memset(to + copy.fromMemory, 0, copy.bytes - copy.fromMemory);
  return true;
}

//===----------------------------------------------------------------------===//
// cp.async
//===----------------------------------------------------------------------===//

void Cta::copyAsync(Thread &thread, Copy copy) {
  if (copy.fromMemory > copy.bytes)
    fail(thread, format("a copy of %u bytes takes %u from memory", copy.bytes,
                        copy.fromMemory));
  copy.group = thread.group;
  startCopy(thread, copy, accessor(thread).access);
  note(thread, Traffic::Space::CopyTarget, copy.to, copy.bytes);
  thread.copies.push_back(copy);
  thread.inFlight.begin(copy.bytes);
}

/// Performs a thread's copies but those of its `keep` last groups.
void Cta::finishCopies(Thread &thread, uint32_t keep) {
  Accessor by = accessor(thread);
  size_t done = 0;
  for (const Copy &copy : thread.copies) {
    if (copy.group + keep >= thread.group)
      break;
    if (!perform(copy))
      fail(thread, format("the source of the copy from `%s` was written while "
                          "the copy was under way",
                          sites(copy.site)));
    thread.inFlight.end(copy.bytes);
    by.access.site = copy.site;
    shared.finish(copy.to, copy.bytes, &by);
    ++done;
  }
  thread.copies.erase(thread.copies.begin(), thread.copies.begin() + done);
}

//===----------------------------------------------------------------------===//
// Bulk copies
//===----------------------------------------------------------------------===//

/// What threads wrote to a copy's target must be fenced, by its writer or by
/// the copy's issuer after it learnt of it, as copies are another proxy.
void Cta::checkFenced(Thread &thread, const Copy &copy) {
  for (uint32_t at = copy.to; at < copy.to + copy.bytes; at += 2) {
    Access write = shared.writer(at);
    if (write.clock == 0 || write.actor >= kMaxWarps)
      continue;
    auto lane = uint32_t(std::countr_zero(write.lanes));
    if (threads[write.actor * 32 + lane].fencedClock >= write.clock ||
        (thread.fenced && thread.fenced->has(write.actor, lane, write.clock)))
      continue;
    fail(thread, format("a bulk copy to shared memory at %u, written by warp "
                        "%u lane %u in `%s`, without a proxy fence between",
                        at, write.actor, lane, sites(write.site)));
  }
}

void Cta::startBulk(Thread &thread, Copy copy) {
  if (copy.bytes == 0 || copy.bytes % 16 || copy.to % 16 || copy.from % 16)
    fail(thread, "a bulk copy whose addresses and size are not multiples of "
                 "16");
  MBarrier &barrier = mbarrier(thread, copy.barrier);
  if (!barrier.fenced)
    fail(thread, "a bulk copy completes on an mbarrier whose initialisation "
                 "was not fenced");
  Access as = accessor(thread).access;
  as.actor = uint8_t(kMaxWarps + barrier.number);
  as.lanes = 1;
  as.clock = barrier.phase + 1;
  // Beyond the end there are no writers to look at.
  if (copy.to < launch->shared && copy.bytes <= launch->shared - copy.to)
    checkFenced(thread, copy);
  startCopy(thread, copy, as);
  barrier.copied = barrier.phase + 1;
  barrier.copySite = thread.site;
  bulk.push_back(copy);
  bulkInFlight.begin(copy.bytes);
}

/// Performs a bulk copy; false if there is none.
bool Cta::finishBulk() {
  if (bulk.empty())
    return false;
  auto chosen = bulk.begin() + long((*random)() % bulk.size());
  Copy copy = *chosen;
  bulk.erase(chosen);
  bulkInFlight.end(copy.bytes);
  if (!perform(copy))
    finding = format("the source of the bulk copy in `%s` was written while "
                     "the copy was under way",
                     sites(copy.site));
  shared.finish(copy.to, copy.bytes, nullptr);
  MBarrier &barrier = mbarriers.at(copy.barrier);
  barrier.bytes -= copy.bytes;
  complete(barrier);
  return true;
}

//===----------------------------------------------------------------------===//
// mbarriers
//===----------------------------------------------------------------------===//

void Cta::initBarrier(Thread &thread, uint32_t at, uint32_t expected) {
  if (mbarriers.count(at))
    fail(thread, "initialises an mbarrier twice");
  if (mbarriers.size() == kMaxMbarriers)
    fail(thread, format("more than %u mbarriers, which is all that the "
                        "emulator has",
                        kMaxMbarriers));
  if (expected == 0)
    fail(thread, "an mbarrier that expects no arrival");
  check(thread, shared.makeBarrier(at, accessor(thread)));
  MBarrier barrier;
  barrier.number = uint32_t(mbarriers.size());
  barrier.expected = barrier.pending = expected;
  barrier.made = accessor(thread).access;
  mbarriers.emplace(at, std::move(barrier));
}

void Cta::fenceInits(Thread &thread) {
  for (auto &[at, barrier] : mbarriers)
    if (barrier.made.actor == thread.warp &&
        barrier.made.lanes >> thread.lane & 1)
      barrier.fenced = true;
}

MBarrier &Cta::mbarrier(Thread &thread, uint32_t at) {
  auto found = mbarriers.find(at);
  if (found == mbarriers.end())
    fail(thread, format("no mbarrier was initialised at %u", at));
  MBarrier &barrier = found->second;
  if (!accessor(thread).follows(barrier.made))
    fail(thread,
         format("race: uses the mbarrier at %u, initialised by warp %u "
                "lane %d in `%s`, without a barrier between",
                at, barrier.made.actor, std::countr_zero(barrier.made.lanes),
                sites(barrier.made.site)));
  return barrier;
}

/// Ends the phase if nothing is missing.
void Cta::complete(MBarrier &barrier) {
  if (barrier.pending || barrier.bytes)
    return;
  barrier.next.own.all[kMaxWarps + barrier.number] = ++barrier.phase;
  barrier.knows = barrier.next;
  barrier.pending = barrier.expected;
  for (Thread *thread : barrier.waiting) {
    acquire(*thread, barrier.knows);
    makeReady(*thread);
    barrier.seen = barrier.phase;
  }
  barrier.waiting.clear();
}

/// One arrival, which announces `bytes` to come.
void Cta::arrive(Thread &thread, uint32_t at, uint32_t bytes) {
  MBarrier &barrier = mbarrier(thread, at);
  if (barrier.pending == 0)
    fail(thread, format("more arrivals at the mbarrier at %u than its %u", at,
                        barrier.expected));
  barrier.bytes += bytes;
  --barrier.pending;
  release(thread, barrier.next);
  complete(barrier);
}

/// Waits until the phase of that parity is over.
void Cta::waitFor(Thread &thread, uint32_t at, uint32_t parity) {
  MBarrier &barrier = mbarrier(thread, at);
  // It is when the one under way has the other parity.
  if (barrier.phase % 2 != (parity & 1)) {
    acquire(thread, barrier.knows);
    barrier.seen = barrier.phase;
    return;
  }
  barrier.waiting.push_back(&thread);
  warps[thread.warp].ready &= ~(uint32_t(1) << thread.lane);
  leave(thread);
}
