//===- ThreadPool.h - a parallel for on persistent threads ------*- C++ -*-===//
#ifndef KVC_RUNTIME_DEVICES_THREADPOOL_H
#define KVC_RUNTIME_DEVICES_THREADPOOL_H

#include "runtime/Fork.h"

#include <atomic>
#include <cstdint>
#include <memory>
#include <pthread.h>

namespace kvc::rt {

/// Runs task(arg, index, worker) for every index. The calling thread takes part
/// as worker 0, so a pool of one has no threads. Workers take the next few
/// indices from one counter; whoever wakes up too late to help is not waited
/// for. run() allocates nothing and must not be called by two threads at once.
class ThreadPool {
public:
  using Task = void (*)(void *arg, uint32_t index, uint32_t worker);

  /// Threads run where the caller may if that is room for all of them,
  /// otherwise where any thread of the process may: callers are often pinned.
  ///
  /// At most `workers` workers; fewer if the system refuses threads, which
  /// workers() tells. `workers` >= 1. Tasks must throw nothing.
  explicit ThreadPool(uint32_t workers);
  ~ThreadPool();
  ThreadPool(const ThreadPool &) = delete;
  ThreadPool &operator=(const ThreadPool &) = delete;

  uint32_t workers() const { return threadCount + 1; }
  void run(uint32_t tasks, Task task, void *arg);

private:
  struct Thread {
    pthread_t handle;
    ThreadPool *pool;
    uint32_t worker;
  };

  bool start(Thread &thread, const pthread_attr_t *attributes);
  static void *threadMain(void *thread);
  void work(uint32_t worker);
  bool join();
  void leave();
  void closeAndWait();

  Origin origin;
  uint32_t threadCount = 0;
  std::unique_ptr<Thread[]> threads;

  // The job. Written only while it is closed and nobody is inside.
  Task task = nullptr;
  void *arg = nullptr;
  uint32_t tasks = 0, grain = 1;

  // On cache lines of their own: threads spin on them.
  /// Counts jobs; idle threads sleep on it. Its value never decides whether a
  /// thread works: `gate` does.
  alignas(64) std::atomic<uint32_t> jobs = 0;
  /// Bit 31: the job is open. Below: threads inside.
  alignas(64) std::atomic<uint32_t> gate = 0;
  alignas(64) std::atomic<uint64_t> next = 0;
  std::atomic<bool> stopping = false;
};

} // namespace kvc::rt

#endif // KVC_RUNTIME_DEVICES_THREADPOOL_H
