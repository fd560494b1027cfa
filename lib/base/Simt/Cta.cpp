//===- Cta.cpp - one CTA of an emulated launch ----------------------------===//
#include "lib/base/Simt/Cta.h"
#include "lib/base/Simt/Instructions.h"

#include <algorithm>
#include <bit>
#include <utility>

using namespace kvc::simt;

//===----------------------------------------------------------------------===//
// Running
//===----------------------------------------------------------------------===//

void Cta::prepare(const Launch &newLaunch, uint32_t newIndex) {
  launch = &newLaunch;
  index = newIndex;
  finding = std::string();
  uint32_t warpCount = launch->threads / 32;
  shared.reset(launch->shared);
  traffic.reset(warpCount);
  executed.assign(size_t(warpCount) * KVC_OP_COUNT * 32, 0);
  warps.assign(warpCount, Warp());
  for (Warp &warp : warps)
    warp.ready = kAllLanes;
  for (NamedBarrier &barrier : barriers)
    barrier = NamedBarrier();
  mbarriers.clear();
  bulk.clear();
  bulkInFlight = {};
  live = launch->threads;
  threads.resize(launch->threads);
  for (uint32_t i = 0; i < launch->threads; ++i) {
    Thread &thread = threads[i];
    thread.abi.op = opEntry;
    thread.abi.access = accessEntry;
    thread.cta = this;
    thread.index = i;
    thread.lane = i % 32;
    thread.warp = i / 32;
    thread.op = thread.site = 0;
    thread.clock = 1;
    thread.alone.reset();
    thread.copies.clear();
    thread.group = 0;
    thread.inFlight = {};
    thread.fenced.reset();
    thread.fencedClock = 0;
    thread.fiber.prepare(stacks.top(i), start, &thread);
  }
}

std::string Cta::run(const Launch &newLaunch, uint32_t newIndex,
                     std::mt19937_64 &newRandom, Released &newReleased) {
  random = &newRandom;
  released = &newReleased;
  prepare(newLaunch, newIndex);
  schedule();
  if (thrown)
    std::rethrow_exception(std::exchange(thrown, nullptr));
  for (uint32_t w = 0; w < warps.size(); ++w)
    traffic.flush(w);
  countUp();
  if (finding.empty())
    checkEnd();
  if (finding.empty())
    return "";
  return launch->name + ", CTA " + std::to_string(index) + ": " + finding;
}

/// Runs what a thread does outside of its kernel. What that throws ends here,
/// as kernels are no code that can be unwound, and a fiber's stack has no
/// caller; the scheduler's loop goes on. Only then are stacks changed: the C++
/// runtime knows of threads, not of fibers, which exception is being handled.
template <class Body> void Cta::enter(Thread &thread, Body body) noexcept {
  Cta &cta = *thread.cta;
  try {
    return body(cta);
  } catch (...) {
    cta.thrown = std::current_exception();
  }
  cta.scheduler.enter(thread.fiber);
}

void Cta::start(void *argument) {
  auto &thread = *static_cast<Thread *>(argument);
  thread.cta->launch->kernel(&thread.abi, thread.cta->launch->params);
  enter(thread, [&](Cta &cta) {
    Warp &warp = cta.warps[thread.warp];
    if (!thread.copies.empty())
      cta.fail(thread, format("ends while its copy from `%s` is under way",
                              cta.sites(thread.copies[0].site)));
    --cta.live;
    warp.ready &= ~(uint32_t(1) << thread.lane);
    warp.exited |= uint32_t(1) << thread.lane;
    if (warp.arrived)
      cta.fail(thread,
               format("ends while lane %d of its warp waits in `%s`",
                      std::countr_zero(warp.arrived), cta.sites(warp.site)));
    cta.leave(thread);
  });
}

/// A thread of the warp that can go on: the next lane, so that all come to
/// where they synchronise; or of any other warp.
Thread *Cta::pick(uint32_t warpIndex) {
  if (uint32_t ready = warps[warpIndex].ready)
    return &lanesOf(warpIndex)[std::countr_zero(ready)];
  auto first = uint32_t((*random)() % warps.size());
  for (uint32_t i = 0; i < warps.size(); ++i) {
    uint32_t other = (first + i) % uint32_t(warps.size());
    if (uint32_t ready = warps[other].ready)
      return &lanesOf(other)[std::countr_zero(ready)];
  }
  return nullptr;
}

/// Lets others run until the thread is ready again, if it is not.
void Cta::leave(Thread &thread) {
  Thread *next = pick(thread.warp);
  if (next == &thread)
    return;
  (next ? next->fiber : scheduler).enter(thread.fiber);
}

/// Threads switch to each other; here is who is left when none can go on.
void Cta::schedule() {
  while (live && finding.empty() && !thrown) {
    if (Thread *next = pick(uint32_t((*random)() % warps.size())))
      next->fiber.enter(scheduler);
    else if (!finishBulk() && finding.empty())
      finding = deadlock();
  }
}

std::string Cta::deadlock() {
  std::map<std::string, unsigned> where;
  for (const Thread &thread : threads)
    if (!(warps[thread.warp].exited >> thread.lane & 1))
      ++where[sites(thread.site)];
  std::string text = "deadlock:";
  const char *separator = " ";
  for (const auto &[site, count] : where) {
    text += format("%s%u threads wait in `%s`", separator, count, site.c_str());
    separator = ", ";
  }
  if (uint32_t exited = uint32_t(threads.size()) - live)
    text += format(", %u have ended", exited);
  return text;
}

/// What a CTA must not leave behind.
void Cta::checkEnd() {
  if (!bulk.empty()) {
    finding = format("ends while the bulk copy in `%s` is under way",
                     sites(bulk[0].site));
    return;
  }
  for (const auto &[at, barrier] : mbarriers)
    if (barrier.copied > barrier.seen) {
      finding = format("ends and has not waited for the bulk copy in `%s`",
                       sites(barrier.copySite));
      return;
    }
}

void Cta::fail(Thread &thread, std::string what) {
  {
    std::string who = format("warp %u lane %u in `%s`: ", thread.warp,
                             thread.lane, sites(thread.site));
    finding = std::move(what);
    finding.insert(0, who);
  }
  scheduler.enter(thread.fiber);
  __builtin_unreachable(); // a CTA with a finding runs no more
}

//===----------------------------------------------------------------------===//
// What kernels call
//===----------------------------------------------------------------------===//

void Cta::opEntry(KvcSimThread *abi, uint32_t op, uint32_t site) {
  auto &thread = *reinterpret_cast<Thread *>(abi);
  thread.op = op;
  thread.site = site;
  enter(thread, [&](Cta &cta) { Instructions{cta, thread}.execute(); });
}

void Cta::accessEntry(KvcSimThread *abi, const void *address, uint32_t bytes,
                      uint32_t flags, uint32_t site) {
  auto &thread = *reinterpret_cast<Thread *>(abi);
  thread.site = site;
  auto at = reinterpret_cast<uintptr_t>(address);
  bool write = flags & KVC_SIM_WRITE;
  enter(thread, [&](Cta &cta) {
    Accessor accessor = cta.accessor(thread);
    cta.check(thread, write ? cta.global.write(at, bytes, accessor)
                            : cta.global.read(at, bytes, accessor));
    (write ? cta.counters.bytesWritten : cta.counters.bytesRead) += bytes;
    cta.note(thread, Traffic::Space::Global, at, bytes);
  });
}

/// Waits for all lanes of the warp at the same instruction; the last to arrive
/// executes it for all.
void Cta::collective(Thread &thread) {
  Warp &warp = warps[thread.warp];
  if (warp.exited)
    fail(thread, format("divergent: lane %d of the warp has ended",
                        std::countr_zero(warp.exited)));
  if (warp.arrived && (warp.op != thread.op || warp.site != thread.site))
    fail(thread, format("divergent: lane %d of the warp waits in `%s`",
                        std::countr_zero(warp.arrived), sites(warp.site)));
  warp.op = thread.op;
  warp.site = thread.site;
  uint32_t lane = uint32_t(1) << thread.lane;
  warp.arrived |= lane;
  if (warp.arrived != kAllLanes) {
    warp.ready &= ~lane;
    return leave(thread);
  }
  warp.arrived = 0;
  warp.ready = kAllLanes;
  traffic.flush(thread.warp);
  ++counters.ops[thread.op];
  Instructions{*this, thread}.executeWarp(lanesOf(thread.warp));
}

/// What a CTA adds to the counters at its end.
void Cta::countUp() {
  ++counters.ctas;
  // Lanes that execute an instruction equally often do so together.
  for (size_t w = 0; w < warps.size(); ++w)
    for (size_t op = 0; op < KVC_OP_COUNT; ++op) {
      const uint32_t *lanes = &executed[(w * KVC_OP_COUNT + op) * 32];
      counters.ops[op] += *std::max_element(lanes, lanes + 32);
    }
  // Threads run one after the other here; on a GPU their copies overlap.
  uint64_t most = bulkInFlight.most;
  for (const Thread &thread : threads)
    most += thread.inFlight.most;
  counters.mostInFlight = std::max(counters.mostInFlight, most);
}
