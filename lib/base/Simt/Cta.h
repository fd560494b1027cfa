//===- Cta.h - one CTA of an emulated launch --------------------*- C++ -*-===//
#ifndef KVC_LIB_BASE_SIMT_CTA_H
#define KVC_LIB_BASE_SIMT_CTA_H

#include "lib/base/Simt/Fiber.h"
#include "lib/base/Simt/Machine.h"
#include "lib/base/Simt/Memory.h"
#include "lib/base/Simt/Traffic.h"

#include <algorithm>
#include <exception>
#include <random>

namespace kvc::simt {

class Cta;

/// Shared memory as instructions see it begins here: never at 0.
inline constexpr uint32_t kSharedBase = 1024;

/// A copy under way, from cp.async or a bulk copy.
struct Copy {
  uint32_t to;
  uint32_t bytes;      ///< written
  uint32_t fromMemory; ///< of them, the rest is zeros
  uintptr_t from;
  uint64_t digest;  ///< of the source when it began
  uint32_t group;   ///< cp.async: of the thread
  uint32_t barrier; ///< bulk: address of its mbarrier
  uint32_t site;
};

/// Bytes under way.
struct InFlight {
  uint64_t now = 0, most = 0;

  void begin(uint32_t bytes) { most = std::max(most, now += bytes); }
  void end(uint32_t bytes) { now -= bytes; }
};

/// A GPU thread. The first field is what its kernel sees.
struct Thread {
  KvcSimThread abi;
  Cta *cta;
  uint32_t index, lane, warp;
  uint32_t op, site; ///< that it waits in, or executed last
  uint32_t clock;
  /// What it knows beyond its warp, if anything.
  std::unique_ptr<Knowledge> alone;
  Fiber fiber;
  // cp.async
  std::vector<Copy> copies;
  uint32_t group; ///< that copies belong to now
  InFlight inFlight;
  /// What was over, and the own clock, at the last fence.proxy.async.
  std::unique_ptr<VectorClock> fenced;
  uint32_t fencedClock;
};

struct Warp {
  Knowledge knows; ///< all lanes
  // Bit per lane; those in neither wait.
  uint32_t ready = 0, exited = 0;
  uint32_t arrived = 0; ///< waits in the collective below
  uint32_t op = 0, site = 0;
};

/// One of the 16 barriers of bar.sync.
struct NamedBarrier {
  uint32_t expected = 0, arrived = 0;
  Knowledge knows;
  std::vector<uint32_t> waiting; ///< warps
};

struct MBarrier {
  uint32_t number = 0;   ///< its actor is kMaxWarps + number
  uint32_t expected = 0; ///< arrivals per phase
  uint32_t pending = 0;  ///< of them, still to come
  int64_t bytes = 0;     ///< announced and not there yet
  uint32_t phase = 0;    ///< phases that are over
  Access made;           ///< its initialisation
  bool fenced = false;   ///< so that copies may complete on it
  Knowledge knows, next; ///< what waiting for the last, this phase tells
  uint32_t seen = 0;     ///< phases that a thread has waited for
  uint32_t copied = 0;   ///< phases over when the last copy's will be
  uint32_t copySite = 0;
  std::vector<Thread *> waiting;
};

/// Runs the threads of one CTA after the other, on one host thread.
class Cta {
public:
  Cta(StackPool &stacks, GlobalMemory &global, SiteNames &sites,
      Counters &counters)
      : stacks(stacks), global(global), sites(sites), counters(counters),
        shared(sites) {}

  /// What atomics released, by address and CTA.
  using Released = std::map<uintptr_t, std::map<uint32_t, VectorClock>>;

  /// Runs CTA `index` of a launch. "" or a finding. What instructions throw is
  /// thrown here: the CTA may be run again then, or another.
  std::string run(const Launch &launch, uint32_t index, std::mt19937_64 &random,
                  Released &released);

  /// Adds up the counters of a launch's sites. Between launches.
  void addSiteCounters(const Launch &launch) {
    traffic.addTo(counters.sites, launch.sites);
    counters.distinctSectors += traffic.takeDistinct();
  }
  /// Forgets those of a launch that came to no end.
  void forgetSiteCounters() { traffic.forget(); }

  bool counting = false; ///< by site

private:
  friend struct Instructions;

  static void start(void *thread);
  static void opEntry(KvcSimThread *thread, uint32_t op, uint32_t site);
  static void accessEntry(KvcSimThread *thread, const void *address,
                          uint32_t bytes, uint32_t flags, uint32_t site);
  template <class Body> static void enter(Thread &thread, Body body) noexcept;
  void prepare(const Launch &launch, uint32_t index);
  void schedule();
  Thread *pick(uint32_t warp);
  void leave(Thread &thread);
  void checkEnd();
  void countUp();
  std::string deadlock();

  //===--- for instructions -------------------------------------------------//
  /// Ends the launch; does not return. Callers must not hold memory then, as
  /// their stack is never unwound.
  [[noreturn]] void fail(Thread &thread, std::string what);
  void check(Thread &thread, std::string finding) {
    if (!finding.empty())
      fail(thread, std::move(finding));
  }
  Accessor accessor(const Thread &thread) const {
    return {{thread.clock, thread.site, uint32_t(1) << thread.lane, index,
             uint8_t(thread.warp)},
            thread.alone ? *thread.alone : warps[thread.warp].knows};
  }
  Thread *lanesOf(uint32_t warp) { return &threads[warp * 32]; }
  void makeReady(const Thread &thread) {
    warps[thread.warp].ready |= uint32_t(1) << thread.lane;
  }
  void note(const Thread &thread, Traffic::Space space, uintptr_t address,
            uint32_t bytes) {
    if (counting)
      traffic.note(thread.warp, thread.lane, thread.site, space, address,
                   bytes);
  }
  void collective(Thread &thread);

  //===--- Order.cpp: release and acquire among threads --------------------//
  uint32_t lastClock(uint32_t warp);
  void syncWarp(uint32_t warp);
  void acquire(Thread &thread, const Knowledge &knowledge);
  void release(Thread &thread, Knowledge &to);
  void barrier(Thread &thread, bool waits);
  uint32_t addAtomically(Thread &thread, uintptr_t at, uint32_t x);

  //===--- Copies.cpp -------------------------------------------------------//
  void startCopy(Thread &thread, Copy &copy, const Access &as);
  bool perform(const Copy &copy);
  void copyAsync(Thread &thread, Copy copy);
  void finishCopies(Thread &thread, uint32_t keep);
  void startBulk(Thread &thread, Copy copy);
  void checkFenced(Thread &thread, const Copy &copy);
  bool finishBulk();
  void initBarrier(Thread &thread, uint32_t at, uint32_t expected);
  void fenceInits(Thread &thread);
  MBarrier &mbarrier(Thread &thread, uint32_t at);
  void arrive(Thread &thread, uint32_t at, uint32_t bytes);
  void waitFor(Thread &thread, uint32_t at, uint32_t parity);
  void complete(MBarrier &barrier);

  StackPool &stacks;
  GlobalMemory &global;
  SiteNames &sites;
  Counters &counters;
  const Launch *launch = nullptr;
  uint32_t index = 0;
  std::mt19937_64 *random = nullptr;
  Released *released = nullptr;
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  SharedMemory shared;
  Traffic traffic;
  /// Executions of instructions that are no collectives: [warp][op][lane].
  std::vector<uint32_t> executed;
  NamedBarrier barriers[16];
  std::map<uint32_t, MBarrier> mbarriers;
  std::vector<Copy> bulk;
  InFlight bulkInFlight;
  Fiber scheduler;
  uint32_t live = 0;
  std::string finding;
  std::exception_ptr thrown; ///< by an instruction
};

} // namespace kvc::simt

#endif // KVC_LIB_BASE_SIMT_CTA_H
