//===- BenchMemory.h - threads and cold memory for `kvc bench` ---*- C++
//-*-===//
#ifndef KVC_TOOLS_KVC_BENCHMEMORY_H
#define KVC_TOOLS_KVC_BENCHMEMORY_H

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace kvc::bench {

/// Seconds, of a clock that never goes back.
double now();

/// Threads that sleep between runs: one that polls would slow what is measured
/// next. The caller is thread 0. A body must not call run().
class Team {
public:
  explicit Team(unsigned threads);
  ~Team();
  Team(const Team &) = delete;
  Team &operator=(const Team &) = delete;

  unsigned size() const { return unsigned(workers.size()) + 1; }
  /// Runs body(thread) on every thread; returns the seconds from the moment
  /// that all are awake until the last is done.
  double run(const std::function<void(unsigned)> &body);
  /// Whether no other process had the core of a thread during the last run().
  bool wasQuiet() const { return !interrupted.load(); }

private:
  void work(unsigned thread);
  void meet(uint64_t all);
  void runBody(unsigned thread);

  std::vector<std::thread> workers;
  std::mutex mutex;
  std::condition_variable wake;
  const std::function<void(unsigned)> *task = nullptr;
  uint64_t round = 0; ///< runs so far
  bool stop = false;
  std::atomic<uint64_t> awake{0}, done{0}; ///< sums over all rounds
  std::atomic<bool> interrupted{false};
  std::atomic<double> end{0}; ///< of the last run()
};

/// How often a thread, or all threads of the process, had to leave their core
/// to others so far.
long interruptionsOfThread();
long interruptionsOfProcess();

/// Memory to read from, much larger than any cache, in large pages where the
/// system has them. Every byte is a finite number as f8, every two are one of
/// moderate size as bf16 and as f16, and every four as f32, so one fill serves
/// all codecs.
///
/// Readers and kernels all take what they read next from one place that moves
/// on: whatever comes has not been touched for nearly a whole arena.
class Arena {
public:
  static constexpr size_t kRegion = size_t(16) << 20;

  /// At least `bytes`, 1.5 GiB and three times the last-level cache.
  explicit Arena(size_t bytes);
  ~Arena();
  Arena(const Arena &) = delete;
  Arena &operator=(const Arena &) = delete;

  /// False if the system had no such memory.
  bool valid() const { return base != nullptr; }
  size_t size() const { return bytes; }
  /// The next `length` bytes, at `shift` behind a multiple of `length` from the
  /// start; `shift` is less than `length`, and both fit in the arena together.
  uint8_t *next(size_t length, size_t shift = 0);
  /// How many such places there are, and which one `address` is.
  size_t places(size_t length) const { return bytes / length; }
  size_t place(const uint8_t *address, size_t length) const {
    return size_t(address - base) / length;
  }
  /// Sum of the 64-bit words of the region (from next(kRegion)).
  uint64_t checksum(const uint8_t *region) const {
    return sums[place(region, kRegion)];
  }

private:
  void fill();

  void *mapping = nullptr;
  uint8_t *base = nullptr;
  size_t bytes = 0, cursor = 0;
  std::vector<uint64_t> sums;
};

} // namespace kvc::bench

#endif // KVC_TOOLS_KVC_BENCHMEMORY_H
