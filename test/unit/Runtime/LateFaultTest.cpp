//===- LateFaultTest.cpp - faults in a library that dlopen() opened -------===//
//
// As Python and plugins have it: data of threads that start before, and of all
// that is thread_local, are then allocated when they are first used.
//
//===----------------------------------------------------------------------===//
#include "runtime/include/kvc/runtime.h"
#include "test/unit/Runtime/Faults.h"

#include <atomic>
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <thread>
#include <vector>

using namespace kvc::test;

namespace {

struct Library {
  void *handle = dlopen(KVC_TEST_RUNTIME, RTLD_NOW | RTLD_LOCAL);
  template <class Function> Function *find(const char *name) const {
    return reinterpret_cast<Function *>(dlsym(handle, name));
  }
  ~Library() { dlclose(handle); }
};

} // namespace

// More threads than have a text without asking for memory, one after the other
// and all at once.
TEST(LateFaults, AFailureNeedsNoMemory) {
  Library library;
  ASSERT_NE(library.handle, nullptr) << dlerror();
  auto *create =
      library.find<decltype(kvc_device_create_cpu)>("kvc_device_create_cpu");
  auto *text = library.find<decltype(kvc_error_text)>("kvc_error_text");
  auto fails = [&] {
    arm("a thread's first failure", {1, true});
    uint32_t code = create(nullptr, nullptr).code;
    disarm();
    EXPECT_EQ(code, KVC_INVALID_ARGUMENT);
    EXPECT_STREQ(text(),
                 "`device`: expected a place for the result, found null");
  };
  for (int i = 0; i < 100; ++i)
    std::thread(fails).join();
}

TEST(LateFaults, TextsAreOfThreads) {
  Library library;
  auto *load = library.find<decltype(kvc_program_load)>("kvc_program_load");
  auto *create =
      library.find<decltype(kvc_device_create_cpu)>("kvc_device_create_cpu");
  auto *text = library.find<decltype(kvc_error_text)>("kvc_error_text");
  EXPECT_EQ(load(nullptr, nullptr, 0, nullptr).code, KVC_INVALID_ARGUMENT);
  std::vector<std::thread> threads;
  std::atomic<int> waiting = 0;
  for (int i = 0; i < 100; ++i)
    threads.emplace_back([&] {
      EXPECT_EQ(create(nullptr, nullptr).code, KVC_INVALID_ARGUMENT);
      ++waiting;
      while (waiting < 100)
        std::this_thread::yield();
      EXPECT_STREQ(text(),
                   "`device`: expected a place for the result, found null");
    });
  for (std::thread &thread : threads)
    thread.join();
  EXPECT_STREQ(text(), "`device`: expected a handle, found null");
}
