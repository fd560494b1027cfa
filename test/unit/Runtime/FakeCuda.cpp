//===- FakeCuda.cpp - a CUDA driver without a GPU -------------------------===//
//
// Where a CUDA toolkit is installed, its header checks the prototypes.
//
//===----------------------------------------------------------------------===//
#include "test/unit/Runtime/FakeCuda.h"

#include "test/unit/Runtime/blocks.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <new>

#ifdef KVC_TEST_CUDA_HEADER
#include <cuda.h>
#else
using CUresult = int;
using CUdevice = int;
using CUdevice_attribute = int;
using CUfunction_attribute = int;
using CUjit_option = int;
using CUcontext = struct CUctx_st *;
using CUmodule = struct CUmod_st *;
using CUfunction = struct CUfunc_st *;
using CUstream = struct CUstream_st *;
using CUevent = struct CUevent_st *;
using CUstreamCaptureStatus = int;
using CUstreamCaptureMode = int;
using CUdeviceptr = unsigned long long;
#endif

using namespace kvc;
using namespace kvc::test;

namespace {

// Numbers of the driver's documentation.
enum {
  Success = 0,
  InvalidValue = 1,
  OutOfMemory = 2,
  InvalidDevice = 101,
  InvalidContext = 201,
  NoBinaryForGpu = 209,
  UnsupportedPtx = 222,
  NotFound = 500,
  LaunchOutOfResources = 701,
  StreamCaptureImplicit = 906,
};

struct Function {
  std::string name;
  int maxShared = 48 * 1024;
};
struct Module {
  std::map<std::string, Function> functions;
};

FakeCuda fake;
int primary; // its address is the primary context

/// What a stream has yet to do. It is done as late as may be: when somebody
/// waits for it.
struct Work {
  size_t number;
  void *stream;
  uint8_t *to;
  const uint8_t *from; ///< null: `value`
  uint8_t value;
  size_t bytes;
  /// What another stream has to do before, up to a work; null: nothing.
  const void *waited = nullptr;
  size_t before = 0;
};
std::vector<Work> undone;
size_t works = 0;
std::map<uintptr_t, size_t> pinned; // bytes by address

struct Event {
  void *stream;
  size_t before; ///< the number of the first work behind it
};

void perform(const Work &work) {
  if (work.from)
    std::memcpy(work.to, work.from, work.bytes);
  else
    std::memset(work.to, work.value, work.bytes);
}

/// Does what a stream, or all of them, has to do up to some work.
void finish(const void *stream, bool all, size_t before = SIZE_MAX) {
  for (size_t i = 0; i < undone.size();) {
    Work work = undone[i];
    if ((!all && work.stream != stream) || work.number >= before) {
      ++i;
      continue;
    }
    undone.erase(undone.begin() + long(i));
    if (!work.waited) {
      perform(work);
      continue;
    }
    finish(work.waited, /*all=*/false, work.before);
    i = 0;
  }
}

/// At once where nothing is noted: no memory of this library's then.
void add(const Work &work) {
  if (fake.noting)
    undone.push_back(work);
  else
    perform(work);
}

bool isPinned(const void *from, size_t bytes) {
  auto next = pinned.upper_bound(uintptr_t(from));
  if (next == pinned.begin())
    return false;
  auto [base, size] = *std::prev(next);
  return uintptr_t(from) + bytes <= base + size;
}
/// A thread's stack of contexts. It needs no memory, as faults are for the
/// runtime to meet, not for its driver.
struct Contexts {
  void *stack[15];
  size_t depth;

  bool empty() const { return depth == 0; }
  size_t size() const { return depth; }
  void *back() const { return stack[depth - 1]; }
  void push_back(void *context) { stack[depth++] = context; }
  void pop_back() { --depth; }
};
[[gnu::tls_model("initial-exec")]] thread_local Contexts contexts = {};
[[gnu::tls_model("initial-exec")]] thread_local int captureMode = 0; // global

CUresult result(int code) { return CUresult(code); }

/// The code that a function must fail with; needs a context, if `inContext`.
int enter(const char *name, bool inContext = true) {
  if (inContext && contexts.empty()) {
    ++fake.misuses;
    return InvalidContext;
  }
  if (fake.callsUntilFull && --fake.callsUntilFull == 0)
    return OutOfMemory;
  return std::strcmp(fake.failing, name) ? Success : fake.code;
}

/// What a capture elsewhere forbids threads that did not ask for leave.
int enterUncaptured(const char *name) {
  int code = enter(name);
  if (fake.capturing && captureMode != 2) {
    ++fake.misuses;
    return StreamCaptureImplicit;
  }
  return code;
}

/// "CUBIN sm_90a" on compute capability 9.0.
int checkImage(const std::string &image) {
  bool binary = image.compare(0, 9, "CUBIN sm_") == 0;
  if (!binary && image.compare(0, 7, "PTX sm_"))
    return InvalidValue;
  int version = std::atoi(image.c_str() + (binary ? 9 : 7));
  int here = fake.major * 10 + fake.minor;
  if (image.back() == 'a')
    return version == here ? Success : NoBinaryForGpu;
  if (!binary)
    return version <= here ? Success : UnsupportedPtx;
  return version / 10 == fake.major && version <= here ? Success
                                                       : NoBinaryForGpu;
}

/// How long the parameter of a kernel is; a driver knows it from the kernel.
size_t paramBytes(const std::string &function) {
  if (function.find("_plan_") != function.npos)
    return sizeof(PlanBlock);
  if (function.find("_append_") != function.npos ||
      function.find("_gather_") != function.npos)
    return sizeof(RowBlock);
  return sizeof(GpuAttendBlock);
}

} // namespace

#define KVC_FAKE extern "C" [[gnu::visibility("default")]]

KVC_FAKE FakeCuda *kvc_fake_cuda() { return &fake; }
KVC_FAKE void kvc_fake_finish(void *stream) { finish(stream, /*all=*/false); }

KVC_FAKE CUresult cuInit(unsigned) { return result(enter("cuInit", false)); }

KVC_FAKE CUresult cuGetErrorString(CUresult error, const char **text) {
  switch (int(error)) {
  case OutOfMemory:
    *text = "out of memory";
    return result(Success);
  case NoBinaryForGpu:
    *text = "no kernel image is available for execution on the device";
    return result(Success);
  case NotFound:
    *text = "named symbol not found";
    return result(Success);
  default:
    *text = nullptr;
    return result(InvalidValue);
  }
}

KVC_FAKE CUresult cuDeviceGetCount(int *count) {
  *count = fake.devices;
  return result(enter("cuDeviceGetCount", false));
}

KVC_FAKE CUresult cuDeviceGet(CUdevice *device, int ordinal) {
  if (ordinal < 0 || ordinal >= fake.devices)
    return result(InvalidDevice);
  *device = fake.device = 100 + ordinal;
  return result(enter("cuDeviceGet", false));
}

KVC_FAKE CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute,
                                       CUdevice device) {
  switch (int(attribute)) {
  case 16:
    *value = fake.multiprocessors;
    break;
  case 97:
    *value = fake.sharedPerCta;
    break;
  case 75:
    *value = fake.major;
    break;
  case 76:
    *value = fake.minor;
    break;
  default:
    return result(InvalidValue);
  }
  return result(device == fake.device ? enter("cuDeviceGetAttribute", false)
                                      : int(InvalidDevice));
}

KVC_FAKE CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice) {
  int code = enter("cuDevicePrimaryCtxRetain", false);
  if (code == Success) {
    *context = reinterpret_cast<CUcontext>(&primary);
    ++fake.retained;
  }
  return result(code);
}

KVC_FAKE CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
  fake.misuses += device != fake.device;
  --fake.retained;
  return result(Success);
}

KVC_FAKE CUresult cuCtxPushCurrent_v2(CUcontext context) {
  int code = enter("cuCtxPushCurrent", false);
  if (code == Success)
    contexts.push_back(context);
  fake.depth = contexts.size();
  return result(code);
}

KVC_FAKE CUresult cuCtxPopCurrent_v2(CUcontext *context) {
  if (contexts.empty()) {
    ++fake.misuses;
    return result(InvalidContext);
  }
  *context = static_cast<CUcontext>(contexts.back());
  contexts.pop_back();
  fake.depth = contexts.size();
  return result(Success);
}

KVC_FAKE CUresult cuCtxSynchronize() {
  int code = enter("cuCtxSynchronize");
  if (code == Success)
    finish(nullptr, /*all=*/true);
  return result(code);
}

KVC_FAKE CUresult cuModuleLoadDataEx(CUmodule *module, const void *image,
                                     unsigned count, CUjit_option *options,
                                     void **values) try {
  int code = enter("cuModuleLoadData");
  fake.image = static_cast<const char *>(image);
  fake.images.push_back(fake.image);
  if (code == Success)
    code = checkImage(fake.image);
  for (const auto &[image, refusal] : fake.refusals)
    if (image == fake.image)
      code = refusal;
  // The driver's compiler has a word to say of PTX, in the caller's buffer.
  if (code != Success && fake.image.starts_with("PTX") && count == 2 &&
      int(options[0]) == 5 && int(options[1]) == 6)
    std::snprintf(static_cast<char *>(values[0]),
                  reinterpret_cast<size_t>(values[1]), "%s", fake.words);
  if (code == Success) {
    *module = reinterpret_cast<CUmodule>(new Module());
    ++fake.modules;
  }
  return result(code);
} catch (const std::bad_alloc &) {
  return result(OutOfMemory);
}

KVC_FAKE CUresult cuModuleUnload(CUmodule module) {
  int code = enter("cuModuleUnload");
  delete reinterpret_cast<Module *>(module);
  --fake.modules;
  return result(code);
}

KVC_FAKE CUresult cuModuleGetFunction(CUfunction *function, CUmodule module,
                                      const char *name) try {
  int code = enter("cuModuleGetFunction");
  if (code == Success && std::strstr(name, "missing"))
    code = NotFound;
  if (code == Success) {
    Function &made = reinterpret_cast<Module *>(module)->functions[name];
    made.name = name;
    *function = reinterpret_cast<CUfunction>(&made);
  }
  return result(code);
} catch (const std::bad_alloc &) {
  return result(OutOfMemory);
}

KVC_FAKE CUresult cuFuncSetAttribute(CUfunction function,
                                     CUfunction_attribute attribute,
                                     int value) {
  int code = enter("cuFuncSetAttribute");
  if (code == Success && (int(attribute) != 8 || value > fake.sharedPerCta))
    code = InvalidValue;
  if (code == Success)
    reinterpret_cast<Function *>(function)->maxShared = value;
  return result(code);
}

KVC_FAKE CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(
    int *blocks, CUfunction function, int threads, size_t shared) {
  bool fits =
      shared <= size_t(reinterpret_cast<Function *>(function)->maxShared);
  *blocks = !fits ? 0 : shared ? int(228 * 1024 / (shared + 1024)) : 4;
  if (*blocks > 2048 / threads)
    *blocks = 2048 / threads;
  return result(enter("cuOccupancyMaxActiveBlocksPerMultiprocessor"));
}

KVC_FAKE CUresult cuLaunchKernel(CUfunction handle, unsigned gridX,
                                 unsigned gridY, unsigned gridZ,
                                 unsigned threadsX, unsigned threadsY,
                                 unsigned threadsZ, unsigned shared,
                                 CUstream stream, void **params, void **extra) {
  int code = enter("cuLaunchKernel");
  if (code != Success || !fake.noting)
    return result(code);
  auto &function = *reinterpret_cast<Function *>(handle);
  if (gridX == 0 || extra || int(shared) > function.maxShared) {
    ++fake.misuses;
    return result(InvalidValue);
  }
  auto *bytes = static_cast<const uint8_t *>(params[0]);
  fake.launches.push_back({function.name,
                           {gridX, gridY, gridZ},
                           {threadsX, threadsY, threadsZ},
                           shared,
                           stream,
                           contexts.back(),
                           {bytes, bytes + paramBytes(function.name)}});
  return result(Success);
}

KVC_FAKE CUresult cuMemAlloc_v2(CUdeviceptr *memory, size_t bytes) {
  int code = enterUncaptured("cuMemAlloc");
  void *made = code == Success
                   ? std::aligned_alloc(256, (bytes + 255) & ~size_t(255))
                   : nullptr;
  if (!made)
    return result(OutOfMemory);
  std::memset(made, 0xff, bytes);
  *memory = CUdeviceptr(reinterpret_cast<uintptr_t>(made));
  ++fake.memories;
  return result(Success);
}

KVC_FAKE CUresult cuMemFree_v2(CUdeviceptr memory) {
  finish(nullptr, /*all=*/true); // it waits
  std::free(reinterpret_cast<void *>(memory));
  --fake.memories;
  return result(enterUncaptured("cuMemFree"));
}

KVC_FAKE CUresult cuMemHostAlloc(void **memory, size_t bytes, unsigned) {
  int code = enterUncaptured("cuMemHostAlloc");
  if (code != Success)
    return result(code);
  void *made = std::malloc(bytes);
  try {
    pinned[uintptr_t(made)] = bytes;
  } catch (const std::bad_alloc &) {
    std::free(made);
    made = nullptr;
  }
  if (!made) {
    pinned.erase(0);
    return result(OutOfMemory);
  }
  *memory = made;
  ++fake.memories;
  return result(Success);
}

KVC_FAKE CUresult cuMemFreeHost(void *memory) {
  finish(nullptr, /*all=*/true);
  fake.misuses += pinned.erase(uintptr_t(memory)) != 1;
  std::free(memory);
  --fake.memories;
  return result(enterUncaptured("cuMemFreeHost"));
}

KVC_FAKE CUresult cuStreamCreate(CUstream *stream, unsigned flags) try {
  int code = enter("cuStreamCreate");
  fake.misuses += flags != 1; // it must not wait for the default stream
  if (code == Success) {
    *stream = reinterpret_cast<CUstream>(new int);
    ++fake.streams;
  }
  return result(code);
} catch (const std::bad_alloc &) {
  return result(OutOfMemory);
}

KVC_FAKE CUresult cuStreamDestroy_v2(CUstream stream) {
  finish(stream, /*all=*/false);
  delete reinterpret_cast<int *>(stream);
  --fake.streams;
  return result(enter("cuStreamDestroy"));
}

KVC_FAKE CUresult cuStreamSynchronize(CUstream stream) {
  int code = enter("cuStreamSynchronize");
  if (code == Success)
    finish(stream, /*all=*/false);
  return result(code);
}

KVC_FAKE CUresult cuStreamIsCapturing(CUstream stream,
                                      CUstreamCaptureStatus *status) {
  *status = CUstreamCaptureStatus(fake.capturing && fake.capturing == stream);
  return result(enter("cuStreamIsCapturing"));
}

KVC_FAKE CUresult cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode *mode) {
  int before = captureMode;
  captureMode = int(*mode);
  *mode = CUstreamCaptureMode(before);
  return result(Success);
}

KVC_FAKE CUresult cuEventCreate(CUevent *event, unsigned) try {
  int code = enter("cuEventCreate");
  if (code == Success) {
    *event = reinterpret_cast<CUevent>(new Event());
    ++fake.events;
  }
  return result(code);
} catch (const std::bad_alloc &) {
  return result(OutOfMemory);
}

KVC_FAKE CUresult cuEventDestroy_v2(CUevent event) {
  delete reinterpret_cast<Event *>(event);
  --fake.events;
  return result(enter("cuEventDestroy"));
}

KVC_FAKE CUresult cuEventRecord(CUevent event, CUstream stream) {
  int code = enter("cuEventRecord");
  if (code == Success)
    *reinterpret_cast<Event *>(event) = {stream, works};
  return result(code);
}

KVC_FAKE CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned) {
  int code = enter("cuStreamWaitEvent");
  auto &of = *reinterpret_cast<Event *>(event);
  if (code == Success && fake.noting)
    undone.push_back(
        {works++, stream, nullptr, nullptr, 0, 0, of.stream, of.before});
  return result(code);
}

KVC_FAKE CUresult cuEventSynchronize(CUevent event) {
  int code = enter("cuEventSynchronize");
  auto &of = *reinterpret_cast<Event *>(event);
  if (code == Success) {
    finish(of.stream, /*all=*/false, of.before);
    ++fake.waits;
  }
  return result(code);
}

KVC_FAKE CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from,
                                       size_t bytes, CUstream stream) {
  int code = enter("cuMemcpyHtoDAsync");
  if (code != Success)
    return result(code);
  // A driver reads pageable memory at once or, in a capture, whenever it likes.
  fake.misuses += !isPinned(from, bytes);
  add({works++, stream, reinterpret_cast<uint8_t *>(to),
       static_cast<const uint8_t *>(from), 0, bytes});
  if (fake.noting)
    fake.copies.push_back(stream);
  return result(Success);
}

KVC_FAKE CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from,
                                       size_t bytes, CUstream stream) {
  int code = enter("cuMemcpyDtoDAsync");
  if (code == Success)
    add({works++, stream, reinterpret_cast<uint8_t *>(to),
         reinterpret_cast<const uint8_t *>(from), 0, bytes});
  return result(code);
}

KVC_FAKE CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t bytes,
                                       CUstream stream) {
  int code = enter("cuMemcpyDtoHAsync");
  fake.misuses += stream == nullptr; // the default one waits for all others
  if (code == Success)
    add({works++, stream, static_cast<uint8_t *>(to),
         reinterpret_cast<const uint8_t *>(from), 0, bytes});
  return result(code);
}

#ifndef KVC_TEST_OLD_CUDA
KVC_FAKE CUresult cuMemsetD8Async(CUdeviceptr memory, unsigned char value,
                                  size_t bytes, CUstream stream) {
  int code = enter("cuMemsetD8Async");
  fake.misuses += stream == nullptr;
  if (code == Success)
    add({works++, stream, reinterpret_cast<uint8_t *>(memory), nullptr, value,
         bytes});
  return result(code);
}
#endif
