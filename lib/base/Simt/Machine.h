//===- Machine.h - runs GPU kernels thread by thread ------------*- C++ -*-===//
//
// An emulated GPU: every thread of a CTA is a fiber, CTAs run one after the
// other, both in an order that a seed decides. It finds what a GPU would not
// tell: reads of copies that have not been waited for, races, instructions of a
// warp that not all lanes reach, accesses out of bounds, deadlocks. The first
// finding ends the launch.
//
// What it cannot find: how exactly tensor cores and approximations round, and
// what only timing shows.
//
// No LLVM here: the runtime links this.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_LIB_BASE_SIMT_MACHINE_H
#define KVC_LIB_BASE_SIMT_MACHINE_H

#include "lib/base/Simt/SimAbi.h"

#include <cstddef>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace kvc::simt {

using Kernel = void (*)(KvcSimThread *, const void *params);

struct Launch {
  Kernel kernel = nullptr;
  uint32_t grid = 1, threads = 32; ///< CTAs; threads per CTA, whole warps
  size_t shared = 0;               ///< bytes of dynamic shared memory
  const void *params = nullptr;
  std::span<const std::string> sites; ///< what site numbers mean
  std::string name;                   ///< of the kernel, for findings
};

/// What one line of a kernel did, summed over warps.
struct SiteCounters {
  uint64_t executions = 0; ///< by warps
  /// Passes over the banks of shared memory, and the fewest that would do.
  uint64_t wavefronts = 0, idealWavefronts = 0;
  /// 32-byte sectors of global memory, and the fewest that hold those bytes.
  uint64_t sectors = 0, idealSectors = 0;
};

struct Counters {
  uint64_t launches = 0, ctas = 0;
  uint64_t ops[KVC_OP_COUNT] = {}; ///< executed by warps, by instruction
  uint64_t bytesRead = 0, bytesWritten = 0; ///< of global memory
  /// Bytes of copies that a CTA has under way at most: those of its threads,
  /// which run at once on a GPU.
  uint64_t mostInFlight = 0;
  /// 32-byte sectors that a launch touches at all, added over launches: what
  /// must come from memory where a cache holds the rest.
  uint64_t distinctSectors = 0;
  std::map<std::string, SiteCounters> sites; ///< by what a site says

  /// Adds what came after; all or nothing.
  void add(const Counters &later);
};

class Machine {
public:
  /// `seed` decides the order of CTAs and warps.
  explicit Machine(uint64_t seed = 0);
  ~Machine();
  Machine(const Machine &) = delete;
  Machine &operator=(const Machine &) = delete;

  /// Global memory that kernels may read, and write if `writable`. If nothing
  /// was ever allowed, bounds are not checked. Ranges may overlap.
  void allow(const void *base, size_t bytes, bool writable);
  /// Takes the range that begins at `base` back.
  void forget(const void *base);

  /// Runs a kernel to its end. False, with `finding` set, if it did something
  /// that a kernel must not do. If it throws, because memory ran out, all is as
  /// before but what the kernel has written: it may be launched again.
  bool launch(const Launch &launch, std::string &finding);

  /// Whether to count what each line does (`Counters::sites`): it takes a third
  /// of the time.
  void countSites(bool wanted);
  const Counters &counters() const;
  void resetCounters();

private:
  struct State;
  std::unique_ptr<State> state;
};

} // namespace kvc::simt

#endif // KVC_LIB_BASE_SIMT_MACHINE_H
