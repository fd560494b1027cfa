//===- CudaApi.cpp - the CUDA driver's functions --------------------------===//
#include "runtime/devices/CudaApi.h"

#include <cerrno>
#include <dlfcn.h>
#include <new>
#include <type_traits>

using namespace kvc::rt;
using namespace kvc::rt::cuda;

const Driver *Driver::open(kvc_status &status) {
  static Driver driver;
  static const char *missing = nullptr;
  static const bool loaded = [] {
    errno = 0;
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library && errno == ENOMEM)
      throw std::bad_alloc(); // so that the next call tries again
    if (!library)
      return false;
    auto load = [&](auto &function, const char *name) {
      void *address = dlsym(library, name);
      if (!address && !missing)
        missing = name;
      function = reinterpret_cast<std::decay_t<decltype(function)>>(address);
    };
#define KVC_LOAD(NAME) load(driver.NAME, #NAME)
    KVC_LOAD(cuInit);
    KVC_LOAD(cuGetErrorString);
    KVC_LOAD(cuDeviceGetCount);
    KVC_LOAD(cuDeviceGet);
    KVC_LOAD(cuDeviceGetAttribute);
    KVC_LOAD(cuDevicePrimaryCtxRetain);
    KVC_LOAD(cuDevicePrimaryCtxRelease_v2);
    KVC_LOAD(cuCtxPushCurrent_v2);
    KVC_LOAD(cuCtxPopCurrent_v2);
    KVC_LOAD(cuCtxSynchronize);
    KVC_LOAD(cuModuleLoadDataEx);
    KVC_LOAD(cuModuleUnload);
    KVC_LOAD(cuModuleGetFunction);
    KVC_LOAD(cuFuncSetAttribute);
    KVC_LOAD(cuOccupancyMaxActiveBlocksPerMultiprocessor);
    KVC_LOAD(cuLaunchKernel);
    KVC_LOAD(cuMemAlloc_v2);
    KVC_LOAD(cuMemFree_v2);
    KVC_LOAD(cuMemHostAlloc);
    KVC_LOAD(cuMemFreeHost);
    KVC_LOAD(cuMemsetD8Async);
    KVC_LOAD(cuMemcpyDtoDAsync_v2);
    KVC_LOAD(cuMemcpyHtoDAsync_v2);
    KVC_LOAD(cuMemcpyDtoHAsync_v2);
    KVC_LOAD(cuStreamCreate);
    KVC_LOAD(cuStreamDestroy_v2);
    KVC_LOAD(cuStreamSynchronize);
    KVC_LOAD(cuStreamWaitEvent);
    KVC_LOAD(cuStreamIsCapturing);
    KVC_LOAD(cuThreadExchangeStreamCaptureMode);
    KVC_LOAD(cuEventCreate);
    KVC_LOAD(cuEventDestroy_v2);
    KVC_LOAD(cuEventRecord);
    KVC_LOAD(cuEventSynchronize);
#undef KVC_LOAD
    return true;
  }();
  if (!loaded)
    status = fail(KVC_DEVICE_ERROR, 421,
                  "there is no CUDA driver here: libcuda.so.1 was not found");
  else if (missing)
    status = fail(KVC_DEVICE_ERROR, 422,
                  "the CUDA driver here is too old: it has no `%s`", missing);
  return loaded && !missing ? &driver : nullptr;
}

static const char *textOf(const Driver &cuda, Result result) {
  const char *text = nullptr;
  if (cuda.cuGetErrorString(result, &text) || !text)
    return "unknown error";
  return text;
}

std::string Driver::explain(Result result) const {
  return std::string(textOf(*this, result)) + " (CUDA error " +
         std::to_string(result) + ")";
}

kvc_status Driver::failed(Result result, const char *what) const {
  return fail(KVC_DEVICE_ERROR, 423, "%s: %s (CUDA error %d)", what,
              textOf(*this, result), result);
}

kvc_status Driver::notMade(Result result, const char *what) const {
  kvc_status status = failed(result, what);
  if (result == kOutOfMemory)
    status.code = KVC_OUT_OF_MEMORY;
  return status;
}
