//===- Cta.h - one CTA of an emulated launch --------------------*- C++ -*-===//
#ifndef KVC_LIB_SIMT_CTA_H
#define KVC_LIB_SIMT_CTA_H

#include "lib/Simt/Fiber.h"
#include "lib/Simt/Machine.h"
#include "lib/Simt/Memory.h"

#include <random>

namespace kvc::simt {

class Cta;

/// A copy under way, from cp.async or a bulk copy.
struct Copy {
  uint32_t to;
  uint32_t bytes;      ///< written
  uint32_t fromMemory; ///< of them, the rest is zeros
  uintptr_t from;
  uint32_t group;   ///< cp.async: of the thread
  uint32_t barrier; ///< bulk: address of its mbarrier
  uint32_t site;
  uint32_t thread; ///< index in the CTA
};

/// A GPU thread. The first field is what its kernel sees.
struct Thread {
  KvcSimThread abi;
  Cta *cta;
  uint32_t index, lane, warp;
  enum class Status : uint8_t { Ready, Waiting, Exited } status;
  uint32_t op, site; ///< that it waits in, or executed last
  Fiber fiber;
  // cp.async
  std::vector<Copy> copies;
  uint32_t group; ///< that copies belong to now
};

struct Warp {
  Knowledge knows;
  uint32_t arrived = 0; ///< lanes that wait in a collective
  uint32_t exited = 0;
  bool fencedInit = false; ///< of mbarriers, since the last one
};

/// One of the 16 barriers of bar.sync.
struct NamedBarrier {
  uint32_t expected = 0, arrived = 0;
  Knowledge knows;
  std::vector<Thread *> waiting;
};

/// An mbarrier.
struct MBarrier {
  uint32_t expected = 0; ///< arrivals per phase
  uint32_t pending = 0;
  int64_t bytes = 0; ///< announced and not there yet
  uint32_t phase = 0;
  bool visible = false;  ///< to the async proxy: its init was fenced
  Knowledge knows, next; ///< what waiting for the last, this phase tells
  std::vector<Thread *> waiting;
};

/// Accesses of a warp's lanes at one site, until they are counted.
struct WarpAccess {
  uint32_t site;
  uint32_t bytes; ///< of each lane
  bool global;
  uint32_t lanes = 0; ///< that have one
  uintptr_t addresses[32] = {};
};

/// Runs the threads of one CTA after the other, on one host thread.
class Cta {
public:
  Cta(StackPool &stacks, GlobalMemory &global, Counters &counters);

  /// Runs CTA `index` of a launch. "" or a finding.
  std::string run(const Launch &launch, uint32_t index, std::mt19937_64 &random,
                  std::map<uintptr_t, Knowledge> &released);

  /// Adds up the counters of a launch's sites. Between launches.
  void addSiteCounters(const Launch &launch);
  bool counting = false; ///< by site

private:
  friend struct Instructions;

  static void start(void *thread);
  static void opEntry(KvcSimThread *thread, uint32_t op, uint32_t site);
  static void accessEntry(KvcSimThread *thread, const void *address,
                          uint32_t bytes, uint32_t flags, uint32_t site);
  void prepare(const Launch &launch, uint32_t index);
  void schedule();
  Thread *pick();
  std::string deadlock();

  //===--- for instructions -------------------------------------------------//
  Agent agent(const Thread &thread) {
    return {index, thread.warp, thread.lane, warps[thread.warp].knows,
            thread.site};
  }
  /// Ends the launch; does not return to the fiber.
  void fail(Thread &thread, const std::string &what);
  void check(Thread &thread, std::string &&finding) {
    if (!finding.empty())
      fail(thread, finding);
  }
  /// Lets others run until the thread is ready again.
  void wait(Thread &thread);
  void advance(Warp &warp, uint32_t index) { ++warp.knows.own[index]; }
  void collective(Thread &thread);
  void barrier(Thread &thread, bool waits);
  void count(Thread &thread, bool global, uintptr_t address, uint32_t bytes);
  void countRow(const WarpAccess &access);
  void flushCounts(Warp &warp, uint32_t index);
  void startCopy(Thread &thread, Copy copy);
  void finishCopies(Thread &thread, uint32_t keep);
  bool finishBulk();
  void arrive(Thread &thread, MBarrier &barrier);
  void complete(MBarrier &barrier);
  MBarrier &mbarrier(Thread &thread, uint32_t at);
  std::string siteName(uint32_t site) const;

  StackPool &stacks;
  GlobalMemory &global;
  Counters &counters;
  const Launch *launch = nullptr;
  uint32_t index = 0;
  std::mt19937_64 *random = nullptr;
  std::map<uintptr_t, Knowledge> *released = nullptr;
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  std::vector<std::vector<WarpAccess>> pendingCounts; ///< by warp
  std::vector<SiteCounters> siteCounters;             ///< of the launch
  SharedMemory shared;
  NamedBarrier barriers[16];
  std::map<uint32_t, MBarrier> mbarriers;
  std::vector<Copy> bulk;
  uint64_t inFlight = 0;
  Fiber scheduler;
  Thread *last = nullptr;
  uint32_t live = 0;
  std::string finding;
};

/// Shared memory as instructions see it begins here: never at 0.
inline constexpr uint32_t kSharedBase = 1024;

} // namespace kvc::simt

#endif // KVC_LIB_SIMT_CTA_H
