//===- CudaApi.h - the CUDA driver's functions ------------------*- C++ -*-===//
//
// The driver API by its ABI: libcuda.so.1 is opened when a device is created,
// so that one build serves machines with and without a GPU. Prototypes as in
// the driver's documentation; handles are pointers, an address of device memory
// is a 64-bit integer.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_RUNTIME_DEVICES_CUDAAPI_H
#define KVC_RUNTIME_DEVICES_CUDAAPI_H

#include "runtime/Status.h"

#include <string>

namespace kvc::rt::cuda {

using Result = int; // CUresult; 0 is success
using Handle = void *;
using DevicePtr = unsigned long long;

// Numbers of the driver's documentation.
inline constexpr Result kOutOfMemory = 2, kNotFound = 500;
inline constexpr int kMultiprocessors = 16, kMajor = 75, kMinor = 76;
inline constexpr int kSharedPerBlockOptIn = 97;
inline constexpr int kMaxDynamicShared = 8;
inline constexpr int kJitErrorLog = 5, kJitErrorLogBytes = 6;
inline constexpr unsigned kHostPortable = 1;
inline constexpr unsigned kStreamNonBlocking = 1, kEventNoTiming = 2;
inline constexpr int kCaptureRelaxed = 2;

/// The functions that are used, as the library names them.
struct Driver {
  Result (*cuInit)(unsigned);
  Result (*cuGetErrorString)(Result, const char **);
  Result (*cuDeviceGetCount)(int *);
  Result (*cuDeviceGet)(int *, int);
  Result (*cuDeviceGetAttribute)(int *, int, int);
  Result (*cuDevicePrimaryCtxRetain)(Handle *, int);
  Result (*cuDevicePrimaryCtxRelease_v2)(int);
  Result (*cuCtxPushCurrent_v2)(Handle);
  Result (*cuCtxPopCurrent_v2)(Handle *);
  Result (*cuCtxSynchronize)();
  Result (*cuModuleLoadDataEx)(Handle *, const void *, unsigned, int *,
                               void **);
  Result (*cuModuleUnload)(Handle);
  Result (*cuModuleGetFunction)(Handle *, Handle, const char *);
  Result (*cuFuncSetAttribute)(Handle, int, int);
  Result (*cuOccupancyMaxActiveBlocksPerMultiprocessor)(int *, Handle, int,
                                                        size_t);
  Result (*cuLaunchKernel)(Handle, unsigned, unsigned, unsigned, unsigned,
                           unsigned, unsigned, unsigned, Handle, void **,
                           void **);
  Result (*cuMemAlloc_v2)(DevicePtr *, size_t);
  Result (*cuMemFree_v2)(DevicePtr);
  Result (*cuMemHostAlloc)(void **, size_t, unsigned);
  Result (*cuMemFreeHost)(void *);
  Result (*cuMemsetD8Async)(DevicePtr, unsigned char, size_t, Handle);
  Result (*cuMemcpyDtoDAsync_v2)(DevicePtr, DevicePtr, size_t, Handle);
  Result (*cuMemcpyHtoDAsync_v2)(DevicePtr, const void *, size_t, Handle);
  Result (*cuMemcpyDtoHAsync_v2)(void *, DevicePtr, size_t, Handle);
  Result (*cuStreamCreate)(Handle *, unsigned);
  Result (*cuStreamDestroy_v2)(Handle);
  Result (*cuStreamSynchronize)(Handle);
  Result (*cuStreamWaitEvent)(Handle, Handle, unsigned);
  Result (*cuStreamIsCapturing)(Handle, int *);
  Result (*cuThreadExchangeStreamCaptureMode)(int *);
  Result (*cuEventCreate)(Handle *, unsigned);
  Result (*cuEventDestroy_v2)(Handle);
  Result (*cuEventRecord)(Handle, Handle);
  Result (*cuEventSynchronize)(Handle);

  /// The library, opened once and never closed; null with a status.
  static const Driver *open(kvc_status &status);

  /// "out of memory (CUDA error 2)".
  std::string explain(Result result) const;
  /// KVC_DEVICE_ERROR: "WHAT: out of memory (CUDA error 2)". Needs no memory.
  kvc_status failed(Result result, const char *what) const;
  /// The same before anything runs, when memory that is short has changed
  /// nothing: KVC_OUT_OF_MEMORY. Once kernels run, a call may report what went
  /// wrong in an earlier one.
  kvc_status notMade(Result result, const char *what) const;
};

/// Makes a context current for as long as it lives.
class Current {
public:
  Current(const Driver &cuda, Handle context)
      : cuda(cuda), result(cuda.cuCtxPushCurrent_v2(context)) {}
  ~Current() {
    Handle popped;
    if (!result)
      cuda.cuCtxPopCurrent_v2(&popped);
  }
  Current(const Current &) = delete;
  Current &operator=(const Current &) = delete;

  const Driver &cuda;
  const Result result;
};

/// Allows this thread, as long as it lives, what a capture under way in some
/// other thread forbids all of them by default: allocating, say, which has
/// nothing to do with the stream that is captured.
class Uncaptured {
public:
  explicit Uncaptured(const Driver &cuda) : cuda(cuda) {
    cuda.cuThreadExchangeStreamCaptureMode(&mode);
  }
  ~Uncaptured() { cuda.cuThreadExchangeStreamCaptureMode(&mode); }
  Uncaptured(const Uncaptured &) = delete;
  Uncaptured &operator=(const Uncaptured &) = delete;

private:
  const Driver &cuda;
  int mode = kCaptureRelaxed; ///< the other one, after each exchange
};

} // namespace kvc::rt::cuda

#endif // KVC_RUNTIME_DEVICES_CUDAAPI_H
