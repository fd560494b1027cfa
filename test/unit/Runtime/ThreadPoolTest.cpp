//===- ThreadPoolTest.cpp - every index once, whoever wakes up ------------===//
#include "runtime/devices/ThreadPool.h"

#include <gtest/gtest.h>
#include <random>
#include <thread>
#include <vector>

using namespace kvc::rt;

namespace {

/// Plain counters: a race detector sees two threads on one index or worker.
struct Shared {
  std::vector<uint32_t> index, worker;
  std::vector<uint8_t> busy;
  std::atomic<bool> overlap = false;
};

void count(void *arg, uint32_t index, uint32_t worker) {
  auto &shared = *static_cast<Shared *>(arg);
  if (shared.busy[worker]++)
    shared.overlap = true;
  shared.index[index] += 1;
  shared.worker[worker] += 1;
  shared.busy[worker]--;
}

} // namespace

TEST(ThreadPool, RunsEveryIndexOnce) {
  std::mt19937 random(1);
  for (uint32_t workers : {1, 2, 4, 7}) {
    ThreadPool pool(workers);
    ASSERT_EQ(pool.workers(), workers);
    for (int round = 0; round < 3000; ++round) {
      uint32_t tasks = random() % (round % 100 == 0 ? 20000 : 40);
      Shared shared;
      shared.index.resize(tasks);
      shared.worker.resize(workers);
      shared.busy.resize(workers);
      pool.run(tasks, count, &shared);
      uint32_t sum = 0;
      for (uint32_t n : shared.index)
        ASSERT_EQ(n, 1u);
      for (uint32_t n : shared.worker)
        sum += n;
      ASSERT_EQ(sum, tasks);
      ASSERT_FALSE(shared.overlap.load());
      // Now and then the threads fall asleep.
      if (round % 500 == 0)
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
  }
}

TEST(ThreadPool, OthersHelp) {
  // A worker that waits for the other one: ends only if both run at once.
  struct Meeting {
    std::atomic<uint32_t> here = 0;
  } meeting;
  ThreadPool pool(2);
  pool.run(
      2,
      [](void *arg, uint32_t, uint32_t) {
        auto &meeting = *static_cast<Meeting *>(arg);
        meeting.here.fetch_add(1);
        while (meeting.here.load() < 2)
          std::this_thread::yield();
      },
      &meeting);
  EXPECT_EQ(meeting.here.load(), 2u);
}

TEST(ThreadPool, ComesAndGoes) {
  for (int round = 0; round < 200; ++round) {
    ThreadPool pool(3);
    Shared shared;
    shared.index.resize(10);
    shared.worker.resize(3);
    shared.busy.resize(3);
    if (round % 2)
      pool.run(10, count, &shared);
  }
}
