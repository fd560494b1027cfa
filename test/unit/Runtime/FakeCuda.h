//===- FakeCuda.h - a CUDA driver without a GPU -----------------*- C++ -*-===//
//
// libcuda.so.1 as the runtime sees it: the functions that it uses, in the
// host's memory. Launches are noted, not run, and copies are done as late as a
// driver may: when somebody waits for them. Tests find it through
// LD_LIBRARY_PATH, as the runtime does, and reach inside with fakeCuda().
//
//===----------------------------------------------------------------------===//
#ifndef KVC_TEST_UNIT_RUNTIME_FAKECUDA_H
#define KVC_TEST_UNIT_RUNTIME_FAKECUDA_H

#include <cstddef>
#include <cstdint>
#include <dlfcn.h>
#include <string>
#include <vector>

namespace kvc::test {

struct CudaLaunch {
  std::string function;
  unsigned grid[3], threads[3], shared;
  void *stream, *context;
  std::vector<uint8_t> params;
};

struct FakeCuda {
  // What it pretends.
  int devices = 2, major = 8, minor = 0, multiprocessors = 10;
  int sharedPerCta = 227 * 1024;
  /// Images that are refused, and with which code; what is said of PTX.
  std::vector<std::pair<std::string, int>> refusals;
  const char *words = "";
  const char *failing = "";  ///< the function that fails
  int code = 0;              ///< how
  int callsUntilFull = 0;    ///< the last of them is out of memory; 0: none
  bool noting = true;        ///< launches and copies
  void *capturing = nullptr; ///< a stream, in a graph

  // What was done.
  std::vector<CudaLaunch> launches;
  std::string image;               ///< that was loaded last
  std::vector<std::string> images; ///< that were tried
  int retained = 0;                ///< primary contexts
  int modules = 0, memories = 0, streams = 0, events = 0;
  int waits = 0;              ///< for events
  std::vector<void *> copies; ///< to the GPU: their streams
  int device = -1;            ///< that was asked for last
  size_t depth = 0;           ///< of this thread's stack of contexts
  int misuses = 0;            ///< calls without a context and the like
};

/// Lets a stream of the fake's do what it has to do.
inline void finishFake(void *stream) {
  void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  reinterpret_cast<void (*)(void *)>(dlsym(library, "kvc_fake_finish"))(stream);
}

/// Null if the driver that the runtime opens is another, or none.
inline FakeCuda *fakeCuda() {
  void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  void *inside = library ? dlsym(library, "kvc_fake_cuda") : nullptr;
  return inside ? reinterpret_cast<FakeCuda *(*)()>(inside)() : nullptr;
}

} // namespace kvc::test

#endif // KVC_TEST_UNIT_RUNTIME_FAKECUDA_H
