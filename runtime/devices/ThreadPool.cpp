//===- ThreadPool.cpp - a parallel for on persistent threads --------------===//
#include "runtime/devices/ThreadPool.h"

#include "runtime/devices/CpuCount.h"

#include <algorithm>
#include <sched.h>

using namespace kvc::rt;

static constexpr uint32_t kOpen = 1u << 31;
/// About ten microseconds: layers of one step follow each other faster than a
/// sleeping thread wakes up, and no longer, as engines have threads too.
static constexpr int kSpins = 256;

static void relax() { __builtin_ia32_pause(); }

/// Waits until `word` differs from `value`.
static uint32_t waitWhile(std::atomic<uint32_t> &word, uint32_t value) {
  for (int spin = 0; spin < kSpins; ++spin) {
    uint32_t found = word.load(std::memory_order_acquire);
    if (found != value)
      return found;
    relax();
  }
  word.wait(value, std::memory_order_acquire);
  return word.load(std::memory_order_acquire);
}

namespace {
/// How threads of a pool are made.
class Attributes {
public:
  /// Threads that may run on `cpus`; empty: where their maker may.
  explicit Attributes(const CpuList &cpus) {
    made = !cpus.empty() && pthread_attr_init(&attributes) == 0;
    if (!made)
      return;
    size_t bytes = CPU_ALLOC_SIZE(cpus.back() + 1);
    // Sets of the C library's own size end at CPU 1,023.
    if (cpu_set_t *set = CPU_ALLOC(cpus.back() + 1)) {
      CPU_ZERO_S(bytes, set);
      for (uint32_t cpu : cpus)
        CPU_SET_S(cpu, bytes, set);
      pthread_attr_setaffinity_np(&attributes, bytes, set);
      CPU_FREE(set);
    }
  }
  ~Attributes() {
    if (made)
      pthread_attr_destroy(&attributes);
  }
  Attributes(const Attributes &) = delete;
  Attributes &operator=(const Attributes &) = delete;
  const pthread_attr_t *get() const { return made ? &attributes : nullptr; }

private:
  pthread_attr_t attributes;
  bool made;
};
} // namespace

ThreadPool::ThreadPool(uint32_t workers) : threads(new Thread[workers]) {
  bool room = workers == 1 || callerCpus().size() >= workers;
  Attributes attributes(room ? CpuList() : processCpus());
  for (uint32_t worker = 1; worker < workers; ++worker) {
    Thread &thread = threads[threadCount];
    thread.pool = this;
    thread.worker = worker;
    // CPUs may have been taken away since they were asked for.
    if (!start(thread, attributes.get()) && !start(thread, nullptr))
      return;
    threadCount += 1;
  }
}

bool ThreadPool::start(Thread &thread, const pthread_attr_t *attributes) {
  return pthread_create(&thread.handle, attributes, threadMain, &thread) == 0;
}

ThreadPool::~ThreadPool() {
  if (origin.isParent())
    return; // whose threads they are
  stopping.store(true, std::memory_order_relaxed);
  jobs.fetch_add(1, std::memory_order_release);
  jobs.notify_all();
  for (uint32_t i = 0; i < threadCount; ++i)
    pthread_join(threads[i].handle, nullptr);
}

void *ThreadPool::threadMain(void *argument) {
  auto *thread = static_cast<Thread *>(argument);
  ThreadPool &pool = *thread->pool;
  uint32_t seen = 0;
  for (;;) {
    seen = waitWhile(pool.jobs, seen);
    if (pool.stopping.load(std::memory_order_relaxed))
      return nullptr;
    if (pool.join()) {
      pool.work(thread->worker);
      pool.leave();
    }
  }
}

bool ThreadPool::join() {
  uint32_t value = gate.load(std::memory_order_relaxed);
  while (value & kOpen)
    if (gate.compare_exchange_weak(value, value + 1, std::memory_order_acquire,
                                   std::memory_order_relaxed))
      return true;
  return false;
}

void ThreadPool::leave() {
  // 1: the last one leaves a closed job.
  if (gate.fetch_sub(1, std::memory_order_release) == 1)
    gate.notify_one();
}

void ThreadPool::closeAndWait() {
  uint32_t inside = gate.fetch_and(~kOpen, std::memory_order_acquire) & ~kOpen;
  while (inside)
    inside = waitWhile(gate, inside);
}

void ThreadPool::work(uint32_t worker) {
  for (;;) {
    uint64_t first = next.fetch_add(grain, std::memory_order_relaxed);
    if (first >= tasks)
      return;
    uint64_t last = std::min<uint64_t>(first + grain, tasks);
    for (uint64_t index = first; index < last; ++index)
      task(arg, uint32_t(index), worker);
  }
}

void ThreadPool::run(uint32_t count, Task function, void *argument) {
  if (count <= 1 || threadCount == 0) {
    for (uint32_t index = 0; index < count; ++index)
      function(argument, index, 0);
    return;
  }
  task = function;
  arg = argument;
  tasks = count;
  // Small enough to end together, large enough to leave the counter alone.
  grain = std::clamp<uint32_t>(count / (workers() * 32), 1, 64);
  next.store(0, std::memory_order_relaxed);
  gate.fetch_or(kOpen, std::memory_order_release);
  jobs.fetch_add(1, std::memory_order_release);
  jobs.notify_all();
  work(0);
  closeAndWait();
}
