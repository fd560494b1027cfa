//===- Fork.cpp - objects in the child of fork() --------------------------===//
#include "runtime/Fork.h"

#include <atomic>
#include <pthread.h>

static std::atomic<uint32_t> generation = 0;

// Undone by the C library if this one is unloaded.
[[gnu::constructor]] static void watch() {
  pthread_atfork(nullptr, nullptr,
                 [] { generation.fetch_add(1, std::memory_order_relaxed); });
}

uint32_t kvc::rt::forks() { return generation.load(std::memory_order_relaxed); }
