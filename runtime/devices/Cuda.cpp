//===- Cuda.cpp - a CUDA GPU as a device ----------------------------------===//
//
// The driver API by its ABI: libcuda.so.1 is opened when a device is created,
// so that one build serves machines with and without a GPU. Prototypes as in
// the driver's documentation; handles are pointers, an address of device memory
// is a 64-bit integer.
//
//===----------------------------------------------------------------------===//
#include "runtime/devices/Cuda.h"

#include "runtime/devices/Gpu.h"

#include <cstdlib>
#include <dlfcn.h>

using namespace kvc;
using namespace kvc::rt;
using artifact::KernelInfo;

namespace {

using Result = int; // CUresult; 0 is success
using Handle = void *;
using DevicePtr = unsigned long long;

constexpr int kMultiprocessors = 16, kMajor = 75, kMinor = 76;
constexpr int kMaxDynamicShared = 8;

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
  Result (*cuModuleLoadData)(Handle *, const void *);
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
  Result (*cuMemsetD8_v2)(DevicePtr, unsigned char, size_t);
  Result (*cuMemcpyHtoDAsync_v2)(DevicePtr, const void *, size_t, Handle);
  Result (*cuMemcpyDtoH_v2)(void *, DevicePtr, size_t);

  /// The library, opened once and never closed; null with a status.
  static const Driver *open(kvc_status &status);
};

const Driver *Driver::open(kvc_status &status) {
  static Driver driver;
  static const char *missing = nullptr;
  static const bool loaded = [] {
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
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
    KVC_LOAD(cuModuleLoadData);
    KVC_LOAD(cuModuleUnload);
    KVC_LOAD(cuModuleGetFunction);
    KVC_LOAD(cuFuncSetAttribute);
    KVC_LOAD(cuOccupancyMaxActiveBlocksPerMultiprocessor);
    KVC_LOAD(cuLaunchKernel);
    KVC_LOAD(cuMemAlloc_v2);
    KVC_LOAD(cuMemFree_v2);
    KVC_LOAD(cuMemsetD8_v2);
    KVC_LOAD(cuMemcpyHtoDAsync_v2);
    KVC_LOAD(cuMemcpyDtoH_v2);
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

kvc_status failed(const Driver &cuda, Result result, const char *what) {
  const char *text = nullptr;
  if (cuda.cuGetErrorString(result, &text) || !text)
    text = "unknown error";
  return fail(KVC_DEVICE_ERROR, 423, "%s: %s (CUDA error %d)", what, text,
              result);
}

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
  const Driver &cuda;
  const Result result;
};

/// What a GPU is, and its context.
struct Gpu {
  const Driver *cuda = nullptr;
  int device = 0, major = 0, minor = 0, multiprocessors = 0;
  Handle context = nullptr;
  bool primary = false; ///< the context is the primary one, retained here
};

class CudaModule : public GpuModule {
public:
  CudaModule(const Gpu &gpu, Handle module) : gpu(gpu), module(module) {}
  ~CudaModule() override {
    Current current(*gpu.cuda, gpu.context);
    gpu.cuda->cuModuleUnload(module);
  }
  kvc_status find(const KernelInfo &info, GpuFunction &function) override;

private:
  const Gpu &gpu; ///< the driver's, which outlives programs
  Handle module;
};

kvc_status CudaModule::find(const KernelInfo &info, GpuFunction &function) {
  const Driver &cuda = *gpu.cuda;
  Current current(cuda, gpu.context);
  if (current.result)
    return failed(cuda, current.result, "cuCtxPushCurrent");
  Handle handle = nullptr;
  if (Result r = cuda.cuModuleGetFunction(&handle, module, info.symbol.c_str()))
    return failed(cuda, r, info.symbol.c_str());
  if (info.sharedBytes > 48 * 1024)
    if (Result r = cuda.cuFuncSetAttribute(handle, kMaxDynamicShared,
                                           int(info.sharedBytes)))
      return failed(cuda, r, "shared memory of a kernel");
  int perSm = 0;
  if (Result r = cuda.cuOccupancyMaxActiveBlocksPerMultiprocessor(
          &perSm, handle, int(info.threads), info.sharedBytes))
    return failed(cuda, r, "occupancy of a kernel");
  function.info = &info;
  function.handle = handle;
  function.module = this;
  function.resident = uint32_t(perSm * gpu.multiprocessors);
  return ok();
}

class CudaDriver : public GpuDriver {
public:
  explicit CudaDriver(const Gpu &gpu) : gpu(gpu) {}
  ~CudaDriver() override {
    if (gpu.primary)
      gpu.cuda->cuDevicePrimaryCtxRelease_v2(gpu.device);
  }

  const char *kind() const override { return "cuda"; }
  uint32_t fit(const KernelInfo &info, std::string &why) const override;
  kvc_status load(const KernelInfo &info, const artifact::Bundle &bundle,
                  std::unique_ptr<GpuModule> &module) override;
  kvc_status launch(const GpuFunction &function, uint32_t grid,
                    const void *params, size_t paramBytes,
                    void *stream) override;
  void *allocate(size_t bytes) override;
  void deallocate(void *memory, size_t) override {
    Current current(*gpu.cuda, gpu.context);
    gpu.cuda->cuMemFree_v2(DevicePtr(memory));
  }
  void zero(void *memory, size_t bytes) override {
    Current current(*gpu.cuda, gpu.context);
    clear(DevicePtr(memory), bytes);
  }
  kvc_status upload(void *to, const void *from, size_t bytes,
                    void *stream) override;
  kvc_status download(void *to, const void *from, size_t bytes) override;

private:
  Result clear(DevicePtr memory, size_t bytes);

  Gpu gpu;
};

/// "sm_90a" as 90 and whether there is a letter.
bool parse(const std::string &target, int &version, bool &exact) {
  if (target.compare(0, 3, "sm_"))
    return false;
  char *end = nullptr;
  version = int(std::strtol(target.c_str() + 3, &end, 10));
  exact = *end != 0;
  return version > 0;
}

uint32_t CudaDriver::fit(const KernelInfo &info, std::string &why) const {
  int version = 0;
  bool exact = false;
  parse(info.target, version, exact);
  // A binary before PTX, a later architecture before an earlier one.
  if (!info.blob.empty() && cubinRunsOn(info.target, gpu.major, gpu.minor))
    return uint32_t(2 * version + 1);
  if (ptxRunsOn(info.target, gpu.major, gpu.minor))
    return uint32_t(version);
  why = "does not run on compute capability " + std::to_string(gpu.major) +
        "." + std::to_string(gpu.minor);
  return 0;
}

kvc_status CudaDriver::load(const KernelInfo &info,
                            const artifact::Bundle &bundle,
                            std::unique_ptr<GpuModule> &module) {
  const Driver &cuda = *gpu.cuda;
  bool binary =
      !info.blob.empty() && cubinRunsOn(info.target, gpu.major, gpu.minor);
  const std::string &entry = binary ? info.blob : info.ptx;
  // Bundle::open checked that it is there. PTX must end with a zero.
  auto bytes = *bundle.find(entry);
  std::string text(reinterpret_cast<const char *>(bytes.data()), bytes.size());
  Current current(cuda, gpu.context);
  if (current.result)
    return failed(cuda, current.result, "cuCtxPushCurrent");
  Handle loaded = nullptr;
  if (Result r = cuda.cuModuleLoadData(&loaded, text.c_str()))
    return failed(cuda, r, entry.c_str());
  module = std::make_unique<CudaModule>(gpu, loaded);
  return ok();
}

kvc_status CudaDriver::launch(const GpuFunction &function, uint32_t grid,
                              const void *params, size_t, void *stream) {
  if (grid == 0)
    return ok();
  const Driver &cuda = *gpu.cuda;
  Current current(cuda, gpu.context);
  if (current.result)
    return failed(cuda, current.result, "cuCtxPushCurrent");
  void *arguments[] = {const_cast<void *>(params)};
  const KernelInfo &info = *function.info;
  Result r =
      cuda.cuLaunchKernel(function.handle, grid, 1, 1, info.threads, 1, 1,
                          info.sharedBytes, stream, arguments, nullptr);
  return r ? failed(cuda, r, info.name.c_str()) : ok();
}

/// From memory that is not pinned: the driver has read it when it returns.
kvc_status CudaDriver::upload(void *to, const void *from, size_t bytes,
                              void *stream) {
  const Driver &cuda = *gpu.cuda;
  Current current(cuda, gpu.context);
  if (current.result)
    return failed(cuda, current.result, "cuCtxPushCurrent");
  Result r = cuda.cuMemcpyHtoDAsync_v2(DevicePtr(to), from, bytes, stream);
  return r ? failed(cuda, r, "cuMemcpyHtoDAsync") : ok();
}

kvc_status CudaDriver::download(void *to, const void *from, size_t bytes) {
  const Driver &cuda = *gpu.cuda;
  Current current(cuda, gpu.context);
  if (current.result)
    return failed(cuda, current.result, "cuCtxPushCurrent");
  if (Result r = cuda.cuCtxSynchronize())
    return failed(cuda, r, "cuCtxSynchronize");
  Result r = cuda.cuMemcpyDtoH_v2(to, DevicePtr(from), bytes);
  return r ? failed(cuda, r, "cuMemcpyDtoH") : ok();
}

/// Waits for it: the caller's streams need not wait for the default one.
Result CudaDriver::clear(DevicePtr memory, size_t bytes) {
  Result result = gpu.cuda->cuMemsetD8_v2(memory, 0, bytes);
  return result ? result : gpu.cuda->cuCtxSynchronize();
}

void *CudaDriver::allocate(size_t bytes) {
  Current current(*gpu.cuda, gpu.context);
  DevicePtr memory = 0;
  if (current.result || gpu.cuda->cuMemAlloc_v2(&memory, bytes))
    return nullptr;
  if (clear(memory, bytes)) {
    gpu.cuda->cuMemFree_v2(memory);
    return nullptr;
  }
  return reinterpret_cast<void *>(memory);
}

} // namespace

bool kvc::rt::cubinRunsOn(const std::string &target, int major, int minor) {
  int version = 0;
  bool exact = false;
  if (!parse(target, version, exact) || version / 10 != major)
    return false;
  return exact ? version % 10 == minor : version % 10 <= minor;
}

bool kvc::rt::ptxRunsOn(const std::string &target, int major, int minor) {
  int version = 0;
  bool exact = false;
  if (!parse(target, version, exact))
    return false;
  int here = 10 * major + minor;
  return exact ? version == here : version <= here;
}

kvc_status kvc::rt::createCudaDevice(const kvc_cuda_options &options,
                                     Device *&device) {
  kvc_status status = ok();
  Gpu gpu;
  gpu.cuda = Driver::open(status);
  if (!gpu.cuda)
    return status;
  const Driver &cuda = *gpu.cuda;
  if (Result r = cuda.cuInit(0))
    return failed(cuda, r, "cuInit");
  int count = 0;
  if (Result r = cuda.cuDeviceGetCount(&count))
    return failed(cuda, r, "cuDeviceGetCount");
  if (count == 0)
    return fail(KVC_DEVICE_ERROR, 425, "there is no CUDA GPU here");
  if (options.ordinal < 0 || options.ordinal >= count)
    return fail(KVC_DEVICE_ERROR, 424,
                "`ordinal`: expected 0 to %d, the GPUs here, found %d",
                count - 1, options.ordinal);
  if (Result r = cuda.cuDeviceGet(&gpu.device, options.ordinal))
    return failed(cuda, r, "cuDeviceGet");
  for (auto [value, attribute] : {std::pair{&gpu.major, kMajor},
                                  {&gpu.minor, kMinor},
                                  {&gpu.multiprocessors, kMultiprocessors}})
    if (Result r = cuda.cuDeviceGetAttribute(value, attribute, gpu.device))
      return failed(cuda, r, "cuDeviceGetAttribute");
  gpu.context = options.context;
  if (!gpu.context) {
    if (Result r = cuda.cuDevicePrimaryCtxRetain(&gpu.context, gpu.device))
      return failed(cuda, r, "cuDevicePrimaryCtxRetain");
    gpu.primary = true;
  }
  device = new GpuDevice(std::make_unique<CudaDriver>(gpu));
  return ok();
}
