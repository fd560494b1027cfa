//===- BenchMemory.cpp ----------------------------------------------------===//

#include "tools/kvc/BenchMemory.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

using namespace kvc::bench;

double kvc::bench::now() {
  using namespace std::chrono;
  return duration<double>(steady_clock::now().time_since_epoch()).count();
}

//===----------------------------------------------------------------------===//
// Team
//===----------------------------------------------------------------------===//

Team::Team(unsigned threads) {
  for (unsigned i = 1; i < threads; ++i)
    workers.emplace_back([this, i] { work(i); });
}

Team::~Team() {
  {
    std::lock_guard<std::mutex> lock(mutex);
    stop = true;
  }
  wake.notify_all();
  for (std::thread &worker : workers)
    worker.join();
}

/// Waits until `all` threads, over all rounds, have come here. Yields, as there
/// may be fewer cores than threads.
void Team::meet(uint64_t all) {
  awake.fetch_add(1);
  while (awake.load() < all)
    std::this_thread::yield();
}

void Team::work(unsigned thread) {
  for (uint64_t seen = 0;;) {
    {
      std::unique_lock<std::mutex> lock(mutex);
      wake.wait(lock, [&] { return stop || round != seen; });
      if (stop)
        return;
      seen = round;
    }
    meet(seen * size());
    runBody(thread);
    done.fetch_add(1);
  }
}

static long interruptions(int who) {
  rusage usage = {};
  getrusage(who, &usage);
  return usage.ru_nivcsw;
}

long kvc::bench::interruptionsOfThread() {
  return interruptions(RUSAGE_THREAD);
}
long kvc::bench::interruptionsOfProcess() { return interruptions(RUSAGE_SELF); }

void Team::runBody(unsigned thread) {
  long before = interruptionsOfThread();
  (*task)(thread);
  double mine = now(), last = end;
  while (last < mine && !end.compare_exchange_weak(last, mine)) {
  }
  if (interruptionsOfThread() != before)
    interrupted = true;
}

double Team::run(const std::function<void(unsigned)> &body) {
  {
    std::lock_guard<std::mutex> lock(mutex);
    task = &body;
    interrupted = false;
    end = 0;
    ++round;
  }
  wake.notify_all();
  meet(round * size());
  double start = now();
  runBody(0);
  // Whoever waits may lose its core: the end is when the last one was done.
  while (done.load() < round * workers.size())
    std::this_thread::yield();
  return end - start;
}

//===----------------------------------------------------------------------===//
// Arena
//===----------------------------------------------------------------------===//

static constexpr size_t kHugePage = size_t(2) << 20;

Arena::Arena(size_t wanted) {
  size_t cache = size_t(std::max(sysconf(_SC_LEVEL3_CACHE_SIZE), 0L));
  wanted = std::max({wanted, size_t(3) << 29, 3 * cache});
  size_t rounded = (wanted + kRegion - 1) / kRegion * kRegion;
  size_t memory =
      size_t(sysconf(_SC_PHYS_PAGES)) * size_t(sysconf(_SC_PAGESIZE));
  if (rounded > memory / 4 * 3)
    return;
  void *map = mmap(nullptr, rounded + kHugePage, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (map == MAP_FAILED)
    return;
  mapping = map;
  bytes = rounded;
  base = static_cast<uint8_t *>(map);
  base += kHugePage - reinterpret_cast<uintptr_t>(map) % kHugePage;
  madvise(base, bytes, MADV_HUGEPAGE); // a wish: small pages work as well
  fill();
}

Arena::~Arena() {
  if (mapping)
    munmap(mapping, bytes + kHugePage);
}

/// Each byte is a number, and each pair of them, in whatever type they are
/// read: a 16-bit number has an exponent whose high bits are 01111, 1..2 as f16
/// and 1/128..2 as bf16. Its lower byte is below the exponents of f8 whose ones
/// are NaN, and as f8E8M0FNU a power of two from 2^-15 to 2^-8, the upper one
/// from 2^-67 to 2^-64: no sum of products leaves the normal numbers of f32, on
/// which arithmetic is fast, and not all are 0 in f16.
static uint64_t fillRegion(uint8_t *region, size_t bytes, uint64_t seed) {
  uint64_t state = 0x9E3779B97F4A7C15ull * (seed + 1), sum = 0;
  for (size_t at = 0; at < bytes; at += 8) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    uint64_t word = (state & 0x0307030703070307ull) | 0x3C703C703C703C70ull;
    std::memcpy(region + at, &word, 8);
    sum += word;
  }
  return sum;
}

void Arena::fill() {
  sums.resize(bytes / kRegion);
  Team team(std::max(1u, std::thread::hardware_concurrency()));
  team.run([&](unsigned thread) {
    for (size_t i = thread; i < sums.size(); i += team.size())
      sums[i] = fillRegion(base + i * kRegion, kRegion, i);
  });
}

uint8_t *Arena::next(size_t length, size_t shift) {
  size_t index = (cursor + length - 1) / length;
  if (index >= (bytes - shift) / length)
    index = 0;
  cursor = (index + 1) * length;
  return base + shift + index * length;
}
