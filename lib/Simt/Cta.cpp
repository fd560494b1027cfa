//===- Cta.cpp - one CTA of an emulated launch ----------------------------===//
#include "lib/Simt/Cta.h"
#include "lib/Simt/Instructions.h"

#include <algorithm>
#include <bit>

using namespace kvc::simt;

static const char *const kOpNames[] = {
#define KVC_PTX_OP(NAME, SM, KIND, CONSTRAINTS, ASM) #NAME,
#include "lib/Simt/Ops.def"
#undef KVC_PTX_OP
};

Cta::Cta(StackPool &stacks, GlobalMemory &global, Counters &counters)
    : stacks(stacks), global(global), counters(counters) {
  auto name = [](void *context, uint32_t site) {
    return static_cast<Cta *>(context)->siteName(site);
  };
  shared.siteName = name;
  shared.context = this;
  global.siteName = name;
  global.context = this;
}

std::string Cta::siteName(uint32_t site) const {
  if (site < launch->sites.size())
    return "`" + launch->sites[site] + "`";
  return "site " + std::to_string(site);
}

//===----------------------------------------------------------------------===//
// Running
//===----------------------------------------------------------------------===//

void Cta::prepare(const Launch &newLaunch, uint32_t newIndex) {
  launch = &newLaunch;
  index = newIndex;
  finding.clear();
  uint32_t warpCount = launch->threads / 32;
  shared.reset(launch->shared, warpCount);
  warps.assign(warpCount, Warp());
  for (uint32_t w = 0; w < warpCount; ++w)
    warps[w].knows.own[w] = 1;
  pendingCounts.assign(warpCount, {});
  for (NamedBarrier &barrier : barriers)
    barrier = NamedBarrier();
  mbarriers.clear();
  bulk.clear();
  inFlight = 0;
  last = nullptr;
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
    thread.status = Thread::Status::Ready;
    thread.copies.clear();
    thread.group = 0;
    thread.fiber.prepare(stacks.top(i), start, &thread);
  }
}

std::string Cta::run(const Launch &newLaunch, uint32_t newIndex,
                     std::mt19937_64 &newRandom,
                     std::map<uintptr_t, Knowledge> &newReleased) {
  random = &newRandom;
  released = &newReleased;
  prepare(newLaunch, newIndex);
  schedule();
  for (uint32_t w = 0; w < warps.size(); ++w)
    flushCounts(warps[w], w);
  ++counters.ctas;
  if (finding.empty() && !bulk.empty())
    finding = "ends while a bulk copy is under way";
  if (finding.empty())
    return "";
  return launch->name + ", CTA " + std::to_string(index) + ": " + finding;
}

void Cta::start(void *argument) {
  auto &thread = *static_cast<Thread *>(argument);
  Cta &cta = *thread.cta;
  cta.launch->kernel(&thread.abi, cta.launch->params);
  if (!thread.copies.empty())
    cta.fail(thread, "ends while a copy that it began is under way");
  thread.status = Thread::Status::Exited;
  --cta.live;
  ++cta.warps[thread.warp].exited;
  if (cta.warps[thread.warp].arrived)
    cta.fail(thread, "ends while other lanes of its warp wait in " +
                         std::string(kOpNames[cta.last ? cta.last->op : 0]));
  cta.scheduler.enter(thread.fiber);
}

/// A thread that can go on: of the warp that ran last if there is one, so that
/// lanes meet soon; otherwise of any.
Thread *Cta::pick() {
  auto ready = [&](uint32_t warp) -> Thread * {
    for (uint32_t i = warp * 32; i < warp * 32 + 32; ++i)
      if (threads[i].status == Thread::Status::Ready)
        return &threads[i];
    return nullptr;
  };
  if (last)
    if (Thread *next = ready(last->warp))
      return next;
  uint32_t first = uint32_t((*random)() % warps.size());
  for (uint32_t i = 0; i < warps.size(); ++i)
    if (Thread *next = ready((first + i) % warps.size()))
      return next;
  return nullptr;
}

void Cta::schedule() {
  while (live && finding.empty()) {
    Thread *next = pick();
    if (!next && finishBulk())
      continue;
    if (!next) {
      finding = deadlock();
      return;
    }
    last = next;
    next->fiber.enter(scheduler);
  }
}

std::string Cta::deadlock() {
  std::map<std::string, unsigned> where;
  for (const Thread &thread : threads)
    if (thread.status == Thread::Status::Waiting)
      ++where[siteName(thread.site)];
  std::string text = "deadlock:";
  const char *separator = " ";
  for (const auto &[site, count] : where) {
    text += separator + std::to_string(count) + " threads wait in " + site;
    separator = ", ";
  }
  uint32_t exited = uint32_t(threads.size()) - live;
  if (exited)
    text += ", " + std::to_string(exited) + " have ended";
  return text;
}

void Cta::fail(Thread &thread, const std::string &what) {
  finding = "warp " + std::to_string(thread.warp) + " lane " +
            std::to_string(thread.lane) + " in " + siteName(thread.site) +
            ": " + what;
  scheduler.enter(thread.fiber);
  __builtin_unreachable(); // a CTA with a finding runs no more
}

void Cta::wait(Thread &thread) {
  thread.status = Thread::Status::Waiting;
  scheduler.enter(thread.fiber);
}

//===----------------------------------------------------------------------===//
// What kernels call
//===----------------------------------------------------------------------===//

void Cta::opEntry(KvcSimThread *abi, uint32_t op, uint32_t site) {
  auto &thread = *reinterpret_cast<Thread *>(abi);
  thread.op = op;
  thread.site = site;
  Instructions{*thread.cta, thread}.execute();
}

void Cta::accessEntry(KvcSimThread *abi, const void *address, uint32_t bytes,
                      uint32_t flags, uint32_t site) {
  auto &thread = *reinterpret_cast<Thread *>(abi);
  Cta &cta = *thread.cta;
  thread.site = site;
  auto at = reinterpret_cast<uintptr_t>(address);
  bool write = flags & KVC_SIM_WRITE;
  Agent agent = cta.agent(thread);
  cta.check(thread, write ? cta.global.write(at, bytes, agent)
                          : cta.global.read(at, bytes, agent));
  (write ? cta.counters.bytesWritten : cta.counters.bytesRead) += bytes;
  cta.count(thread, true, at, bytes);
}

//===----------------------------------------------------------------------===//
// Warps and barriers
//===----------------------------------------------------------------------===//

/// Waits for all lanes of the warp at the same instruction; the last to arrive
/// executes it for all, as `Instructions::executeWarp` says.
void Cta::collective(Thread &thread) {
  Warp &warp = warps[thread.warp];
  Thread *lanes = &threads[thread.warp * 32];
  for (uint32_t lane = 0; lane < 32; ++lane) {
    Thread &other = lanes[lane];
    if (other.status == Thread::Status::Exited)
      fail(thread, "divergent: lane " + std::to_string(lane) +
                       " of the warp has ended");
    bool here = other.op == thread.op && other.site == thread.site;
    if (other.status == Thread::Status::Waiting && !here)
      fail(thread, "divergent: lane " + std::to_string(lane) +
                       " of the warp waits in " + siteName(other.site));
  }
  if (++warp.arrived < 32)
    return wait(thread);
  warp.arrived = 0;
  flushCounts(warp, thread.warp);
  ++counters.ops[thread.op];
  for (uint32_t lane = 0; lane < 32; ++lane)
    lanes[lane].status = Thread::Status::Ready;
  Instructions{*this, thread}.executeWarp(lanes);
}

void Cta::barrier(Thread &thread, bool waits) {
  uint64_t number = uint32_t(thread.abi.in[0]);
  auto expected = uint32_t(thread.abi.in[1]);
  if (number >= 16 || expected == 0 || expected % 32 ||
      expected > threads.size())
    fail(thread, "barrier " + std::to_string(number) + " of " +
                     std::to_string(expected) + " threads in a CTA of " +
                     std::to_string(threads.size()));
  NamedBarrier &barrier = barriers[number];
  if (barrier.arrived && barrier.expected != expected)
    fail(thread, "barrier " + std::to_string(number) + " of " +
                     std::to_string(expected) + " threads, others expect " +
                     std::to_string(barrier.expected));
  barrier.expected = expected;
  barrier.arrived += 32;
  Thread *lanes = &threads[thread.warp * 32];
  barrier.knows.join(warps[thread.warp].knows);
  advance(warps[thread.warp], thread.warp);
  if (barrier.arrived > expected)
    fail(thread, "more threads at barrier " + std::to_string(number) +
                     " than its " + std::to_string(expected));
  if (waits)
    for (uint32_t lane = 0; lane < 32; ++lane) {
      lanes[lane].status = Thread::Status::Waiting;
      barrier.waiting.push_back(&lanes[lane]);
    }
  if (barrier.arrived == expected) {
    for (Thread *waiting : barrier.waiting) {
      waiting->status = Thread::Status::Ready;
      if (waiting->lane == 0)
        warps[waiting->warp].knows.join(barrier.knows);
    }
    barrier = NamedBarrier();
  }
  if (thread.status == Thread::Status::Waiting)
    scheduler.enter(thread.fiber);
}

//===----------------------------------------------------------------------===//
// Copies
//===----------------------------------------------------------------------===//

void Cta::startCopy(Thread &thread, Copy copy) {
  check(thread, shared.begin(copy.to, copy.bytes, agent(thread)));
  if (copy.fromMemory)
    check(thread, global.read(copy.from, copy.fromMemory, agent(thread)));
  if (copy.from % copy.bytes % 16)
    fail(thread, "copies from an address that is not aligned");
  counters.bytesRead += copy.fromMemory;
  if (copy.fromMemory)
    count(thread, true, copy.from, copy.fromMemory);
  inFlight += copy.bytes;
  counters.mostInFlight = std::max(counters.mostInFlight, inFlight);
}

static void perform(SharedMemory &shared, const Copy &copy) {
  uint8_t *to = shared.data() + copy.to;
  const auto *from = reinterpret_cast<const uint8_t *>(copy.from);
  for (uint32_t i = 0; i < copy.bytes; ++i)
    to[i] = i < copy.fromMemory ? from[i] : 0;
}

/// Performs a thread's copies but those of its `keep` last groups.
void Cta::finishCopies(Thread &thread, uint32_t keep) {
  size_t done = 0;
  for (const Copy &copy : thread.copies) {
    if (copy.group + keep >= thread.group)
      break;
    perform(shared, copy);
    shared.finish(copy.to, copy.bytes, agent(thread));
    inFlight -= copy.bytes;
    ++done;
  }
  thread.copies.erase(thread.copies.begin(), thread.copies.begin() + done);
}

/// Performs the oldest bulk copy; false if there is none. Called only when no
/// thread can go on: as late as may be.
bool Cta::finishBulk() {
  if (bulk.empty())
    return false;
  Copy copy = bulk.front();
  bulk.erase(bulk.begin());
  perform(shared, copy);
  MBarrier &barrier = mbarriers[copy.barrier];
  Thread &issuer = threads[copy.thread];
  // Whoever waits for the barrier sees the bytes.
  shared.finish(copy.to, copy.bytes, agent(issuer));
  barrier.next.join(warps[issuer.warp].knows);
  advance(warps[issuer.warp], issuer.warp);
  inFlight -= copy.bytes;
  barrier.bytes -= copy.bytes;
  complete(barrier);
  return true;
}

//===----------------------------------------------------------------------===//
// mbarriers
//===----------------------------------------------------------------------===//

MBarrier &Cta::mbarrier(Thread &thread, uint32_t at) {
  auto found = mbarriers.find(at);
  if (found == mbarriers.end())
    fail(thread, "shared memory at " + std::to_string(at) + " is no mbarrier");
  return found->second;
}

/// Ends the phase if nothing is missing.
void Cta::complete(MBarrier &barrier) {
  if (barrier.pending || barrier.bytes)
    return;
  ++barrier.phase;
  barrier.pending = barrier.expected;
  barrier.knows = barrier.next;
  for (Thread *thread : barrier.waiting) {
    thread->status = Thread::Status::Ready;
    warps[thread->warp].knows.join(barrier.knows);
  }
  barrier.waiting.clear();
}

void Cta::arrive(Thread &thread, MBarrier &barrier) {
  if (barrier.pending == 0)
    fail(thread, "more arrivals at an mbarrier than its " +
                     std::to_string(barrier.expected));
  --barrier.pending;
  barrier.next.join(warps[thread.warp].knows);
  advance(warps[thread.warp], thread.warp);
  complete(barrier);
}

//===----------------------------------------------------------------------===//
// Counters
//===----------------------------------------------------------------------===//

/// Notes a lane's access; those of one site by all lanes are counted together,
/// when the lanes have met.
void Cta::count(Thread &thread, bool isGlobal, uintptr_t address,
                uint32_t bytes) {
  if (!counting)
    return;
  uint32_t lane = uint32_t(1) << thread.lane;
  std::vector<WarpAccess> &list = pendingCounts[thread.warp];
  for (WarpAccess &access : list)
    if (access.site == thread.site && !(access.lanes & lane)) {
      access.lanes |= lane;
      access.addresses[thread.lane] = address;
      return;
    }
  WarpAccess &access = list.emplace_back();
  access = {thread.site, bytes, isGlobal, lane, {}};
  access.addresses[thread.lane] = address;
}

void Cta::flushCounts(Warp &, uint32_t warp) {
  for (const WarpAccess &access : pendingCounts[warp])
    countRow(access);
  pendingCounts[warp].clear();
}

void Cta::countRow(const WarpAccess &access) {
  if (access.site >= siteCounters.size())
    siteCounters.resize(access.site + 1);
  SiteCounters &site = siteCounters[access.site];
  ++site.executions;
  uint64_t bytes = uint64_t(std::popcount(access.lanes)) * access.bytes;
  if (access.global) {
    std::vector<uintptr_t> sectors;
    for (uint32_t lane = 0; lane < 32; ++lane)
      if (access.lanes >> lane & 1)
        for (uintptr_t at = access.addresses[lane] / 32;
             at * 32 < access.addresses[lane] + access.bytes; ++at)
          sectors.push_back(at);
    std::sort(sectors.begin(), sectors.end());
    sectors.erase(std::unique(sectors.begin(), sectors.end()), sectors.end());
    site.sectors += sectors.size();
    site.idealSectors += (bytes + 31) / 32;
    return;
  }
  // As many lanes at a time as make 128 bytes; each bank gives one word a pass.
  uint32_t lanesAtOnce = std::min(32u, 128 / access.bytes);
  for (uint32_t first = 0; first < 32; first += lanesAtOnce) {
    std::vector<uintptr_t> words;
    for (uint32_t lane = first; lane < first + lanesAtOnce; ++lane)
      if (access.lanes >> lane & 1)
        for (uint32_t byte = 0; byte < std::max(access.bytes, 4u); byte += 4)
          words.push_back((access.addresses[lane] + byte) / 4);
    if (words.empty())
      continue;
    std::sort(words.begin(), words.end());
    words.erase(std::unique(words.begin(), words.end()), words.end());
    unsigned perBank[32] = {}, most = 0;
    for (uintptr_t word : words)
      most = std::max(most, ++perBank[word % 32]);
    site.wavefronts += most;
    site.idealWavefronts += 1;
  }
}

void Cta::addSiteCounters(const Launch &done) {
  for (size_t i = 0; i < siteCounters.size(); ++i) {
    const SiteCounters &from = siteCounters[i];
    if (from.executions == 0)
      continue;
    SiteCounters &to =
        counters.sites[i < done.sites.size() ? done.sites[i]
                                             : "site " + std::to_string(i)];
    to.executions += from.executions;
    to.wavefronts += from.wavefronts;
    to.idealWavefronts += from.idealWavefronts;
    to.sectors += from.sectors;
    to.idealSectors += from.idealSectors;
  }
  siteCounters.clear();
}
