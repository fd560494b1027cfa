//===- Order.cpp - release and acquire among threads ----------------------===//
#include "lib/base/Simt/Cta.h"

#include <algorithm>

using namespace kvc::simt;

uint32_t Cta::lastClock(uint32_t warp) {
  const Thread *lanes = lanesOf(warp);
  uint32_t last = 0;
  for (uint32_t lane = 0; lane < 32; ++lane)
    last = std::max(last, lanes[lane].clock);
  return last;
}

/// A barrier of the warp: what one lane has done and acquired, all know.
void Cta::syncWarp(uint32_t index) {
  Warp &warp = warps[index];
  uint32_t last = lastClock(index);
  Thread *lanes = lanesOf(index);
  for (uint32_t lane = 0; lane < 32; ++lane) {
    if (lanes[lane].alone)
      warp.knows.join(*lanes[lane].alone);
    lanes[lane].alone.reset();
    lanes[lane].clock = last + 1;
  }
  VectorClock &own = warp.knows.own;
  own.all[index] = last;
  std::erase_if(own.lanes, [&](const VectorClock::Lane &lane) {
    return lane.warp == index;
  });
}

/// A single lane acquires; the others do at the warp's next barrier.
void Cta::acquire(Thread &thread, const Knowledge &knowledge) {
  if (!thread.alone)
    thread.alone = std::make_unique<Knowledge>(warps[thread.warp].knows);
  thread.alone->join(knowledge);
}

/// What a single lane has done and acquired is released; what it does from now
/// on is not.
void Cta::release(Thread &thread, Knowledge &to) {
  to.join(accessor(thread).knows);
  to.own.add(thread.warp, thread.lane, thread.clock);
  ++thread.clock;
}

/// bar.sync, bar.arrive: operands are the barrier and its threads.
void Cta::barrier(Thread &thread, bool waits) {
  auto number = uint32_t(thread.abi.in[0]);
  auto expected = uint32_t(thread.abi.in[1]);
  if (number >= 16 || expected == 0 || expected % 32 ||
      expected > threads.size())
    fail(thread, format("barrier %u of %u threads in a CTA of %zu", number,
                        expected, threads.size()));
  Thread *lanes = lanesOf(thread.warp);
  for (uint32_t lane = 0; lane < 32; ++lane)
    if (uint32_t(lanes[lane].abi.in[0]) != number ||
        uint32_t(lanes[lane].abi.in[1]) != expected)
      fail(thread, format("divergent: lane %u of the warp is at barrier %u of "
                          "%u threads, not at %u of %u",
                          lane, uint32_t(lanes[lane].abi.in[0]),
                          uint32_t(lanes[lane].abi.in[1]), number, expected));
  NamedBarrier &barrier = barriers[number];
  if (barrier.arrived && barrier.expected != expected)
    fail(thread, format("barrier %u of %u threads, others expect %u", number,
                        expected, barrier.expected));
  barrier.expected = expected;
  barrier.arrived += 32;
  if (barrier.arrived > expected)
    fail(thread,
         format("more threads at barrier %u than its %u", number, expected));
  Warp &warp = warps[thread.warp];
  if (waits) {
    syncWarp(thread.warp);
    barrier.waiting.push_back(thread.warp);
    warp.ready = 0;
    barrier.knows.join(warp.knows);
  } else {
    // Releases what all lanes did; they acquire nothing, not even of each
    // other.
    for (uint32_t lane = 0; lane < 32; ++lane)
      release(lanes[lane], barrier.knows);
  }
  if (barrier.arrived == expected) {
    for (uint32_t waiting : barrier.waiting) {
      warps[waiting].knows.join(barrier.knows);
      warps[waiting].ready = kAllLanes;
    }
    barrier = NamedBarrier();
  }
  if (!(warp.ready >> thread.lane & 1))
    leave(thread);
}

/// Acquires what was released at an address, adds, releases.
uint32_t Cta::addAtomically(Thread &thread, uintptr_t at, uint32_t x) {
  std::map<uint32_t, VectorClock> &place = (*released)[at];
  if (!place.empty()) {
    Knowledge released;
    for (const auto &[cta, seen] : place)
      (cta == index ? released.own : released.others[cta]) = seen;
    acquire(thread, released);
  }
  // Atomics on one address do not race with each other.
  check(thread, global.write(at, 4, accessor(thread)));
  Knowledge known;
  release(thread, known);
  place[index].join(known.own);
  for (const auto &[cta, seen] : known.others)
    place[cta].join(seen);
  counters.bytesRead += 4;
  counters.bytesWritten += 4;
  note(thread, Traffic::Space::Global, at, 4);
  auto *word = reinterpret_cast<uint32_t *>(at);
  uint32_t old = *word;
  *word += x;
  return old;
}
