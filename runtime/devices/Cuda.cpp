//===- Cuda.cpp - a CUDA GPU as a device ----------------------------------===//
#include "runtime/devices/Cuda.h"

#include "runtime/devices/CudaApi.h"
#include "runtime/devices/CudaStaging.h"
#include "runtime/devices/Gpu.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>

using namespace kvc;
using namespace kvc::rt;
using namespace kvc::rt::cuda;
using artifact::KernelInfo;

namespace {

/// What a GPU is, and its context.
struct Gpu {
  const Driver *cuda = nullptr;
  int device = 0, major = 0, minor = 0, multiprocessors = 0;
  int sharedPerCta = 0; ///< the most that a kernel may ask for
  Handle context = nullptr;
  bool primary = false; ///< the context is the primary one, retained here
};

class CudaModule : public GpuModule {
public:
  explicit CudaModule(const Gpu &gpu) : gpu(gpu) {}
  ~CudaModule() override {
    Current current(*gpu.cuda, gpu.context);
    if (module)
      gpu.cuda->cuModuleUnload(module);
  }
  kvc_status find(const KernelInfo &info, GpuFunction &function) override;

  Handle module = nullptr; ///< that the driver loads

private:
  const Gpu &gpu; ///< the driver's, which outlives programs
};

kvc_status CudaModule::find(const KernelInfo &info, GpuFunction &function) {
  const Driver &cuda = *gpu.cuda;
  Current current(cuda, gpu.context);
  if (current.result)
    return cuda.notMade(current.result, "cuCtxPushCurrent");
  Handle handle = nullptr;
  if (Result r = cuda.cuModuleGetFunction(&handle, module, info.symbol.c_str()))
    return r == kNotFound ? fail(KVC_CORRUPT, 426,
                                 "the code for `%s` has no function `%s`",
                                 info.target.c_str(), info.symbol.c_str())
                          : cuda.notMade(r, info.symbol.c_str());
  if (info.sharedBytes > 48 * 1024)
    if (Result r = cuda.cuFuncSetAttribute(handle, kMaxDynamicShared,
                                           int(info.sharedBytes)))
      return cuda.notMade(r, "shared memory of a kernel");
  int perSm = 0;
  if (Result r = cuda.cuOccupancyMaxActiveBlocksPerMultiprocessor(
          &perSm, handle, int(info.threads), info.sharedBytes))
    return cuda.notMade(r, "occupancy of a kernel");
  function.info = &info;
  function.handle = handle;
  function.module = this;
  function.resident = uint32_t(perSm * gpu.multiprocessors);
  return ok();
}

class CudaDriver : public GpuDriver {
public:
  explicit CudaDriver(const Gpu &gpu) : gpu(gpu), staging(*gpu.cuda) {}
  ~CudaDriver() override;
  /// Once, before anything else.
  kvc_status open();

  /// Takes the primary context.
  Result retain() {
    Result r = gpu.cuda->cuDevicePrimaryCtxRetain(&gpu.context, gpu.device);
    gpu.primary = !r;
    return r;
  }

  const char *kind() const override { return "cuda"; }
  std::string name() const override {
    return "sm_" + std::to_string(gpu.major) + std::to_string(gpu.minor);
  }
  uint32_t sharedPerCta() const override { return uint32_t(gpu.sharedPerCta); }
  uint32_t fit(const KernelInfo &info, std::string &why) const override;
  kvc_status load(const KernelInfo &info, const artifact::Bundle &bundle,
                  std::unique_ptr<GpuModule> &module,
                  std::string &remark) override;
  kvc_status launch(const GpuFunction &function, uint32_t grid,
                    const void *params, size_t paramBytes,
                    void *stream) override;
  void *allocate(size_t bytes) override;
  void deallocate(void *memory, size_t) override {
    Current current(*gpu.cuda, gpu.context);
    Uncaptured uncaptured(*gpu.cuda);
    gpu.cuda->cuMemFree_v2(DevicePtr(memory));
  }
  void zero(void *memory, size_t bytes) override {
    Current current(*gpu.cuda, gpu.context);
    Uncaptured uncaptured(*gpu.cuda);
    clear(DevicePtr(memory), bytes);
  }
  kvc_status scrub(void *memory, size_t bytes, void *stream) override;
  kvc_status wait(void *stream, void *other) override;
  kvc_status copy(void *to, const void *from, size_t bytes,
                  void *stream) override;
  kvc_status upload(void *to, const void *from, size_t bytes,
                    void *stream) override;
  kvc_status download(void *to, const void *from, size_t bytes) override;

private:
  Result loadImage(const artifact::Bundle &bundle, const std::string &entry,
                   Handle &module, std::string &why) const;
  Result clear(DevicePtr memory, size_t bytes);

  Gpu gpu;
  /// For what is in no order with the caller's work: the legacy default stream
  /// would wait for all of it, and breaks captures under way.
  Handle own = nullptr;
  /// Behind what a stream waits for. It is recorded again for the next that
  /// waits, which changes nothing for those before.
  Handle behind = nullptr;
  std::mutex waiting;
  StagingRing staging;
};

kvc_status CudaDriver::open() {
  const Driver &cuda = *gpu.cuda;
  Current current(cuda, gpu.context);
  if (current.result)
    return cuda.notMade(current.result, "cuCtxPushCurrent");
  Uncaptured uncaptured(cuda);
  if (Result r = cuda.cuStreamCreate(&own, kStreamNonBlocking))
    return cuda.notMade(r, "cuStreamCreate");
  if (Result r = staging.open())
    return cuda.notMade(r, "pinned memory for copies");
  if (Result r = cuda.cuEventCreate(&behind, kEventNoTiming))
    return cuda.notMade(r, "cuEventCreate");
  return ok();
}

CudaDriver::~CudaDriver() {
  const Driver &cuda = *gpu.cuda;
  if (gpu.context) {
    Current current(cuda, gpu.context);
    Uncaptured uncaptured(cuda);
    staging.close();
    if (behind)
      cuda.cuEventDestroy_v2(behind);
    if (own)
      cuda.cuStreamDestroy_v2(own);
  }
  if (gpu.primary)
    cuda.cuDevicePrimaryCtxRelease_v2(gpu.device);
}

/// "sm_90a" as 90 and whether there is a letter.
bool parse(const std::string &target, int &version, bool &exact) {
  if (target.compare(0, 3, "sm_"))
    return false;
  char *end = nullptr;
  version = int(std::strtol(target.c_str() + 3, &end, 10));
  exact = *end != 0;
  return version > 0;
}

/// Beyond every version: any binary comes before any PTX.
static constexpr int kBinaryFit = 1 << 20;

uint32_t CudaDriver::fit(const KernelInfo &info, std::string &why) const {
  int version = 0;
  bool exact = false;
  parse(info.target, version, exact);
  // A binary before PTX, a later architecture before an earlier one.
  if (!info.blob.empty() && cubinRunsOn(info.target, gpu.major, gpu.minor))
    return uint32_t(kBinaryFit + version);
  if (ptxRunsOn(info.target, gpu.major, gpu.minor))
    return uint32_t(version);
  why = "does not run on compute capability " + std::to_string(gpu.major) +
        "." + std::to_string(gpu.minor);
  return 0;
}

/// `why` gets what the driver says of an entry that it refuses.
Result CudaDriver::loadImage(const artifact::Bundle &bundle,
                             const std::string &entry, Handle &module,
                             std::string &why) const {
  // Bundle::open checked that it is there. PTX must end with a zero.
  auto bytes = *bundle.find(entry);
  std::string text(reinterpret_cast<const char *>(bytes.data()), bytes.size());
  char log[512] = {};
  int options[] = {kJitErrorLog, kJitErrorLogBytes};
  void *values[] = {log, reinterpret_cast<void *>(sizeof(log) - 1)};
  Result result =
      gpu.cuda->cuModuleLoadDataEx(&module, text.c_str(), 2, options, values);
  if (!result)
    return result;
  why = "`" + entry + "`: " + gpu.cuda->explain(result);
  std::string words = log;
  while (!words.empty() && std::isspace(uint8_t(words.back())))
    words.pop_back();
  std::replace(words.begin(), words.end(), '\n', ' ');
  if (!words.empty())
    why += ": " + words;
  return result;
}

/// The binary, or where the driver refuses it (one of another CUDA release, or
/// damaged) the PTX of the same kernels, which the driver compiles. What runs a
/// binary takes its PTX.
kvc_status CudaDriver::load(const KernelInfo &info,
                            const artifact::Bundle &bundle,
                            std::unique_ptr<GpuModule> &module,
                            std::string &remark) {
  const Driver &cuda = *gpu.cuda;
  Current current(cuda, gpu.context);
  if (current.result)
    return cuda.notMade(current.result, "cuCtxPushCurrent");
  auto loaded = std::make_unique<CudaModule>(gpu);
  std::string reason = "there is no binary for " + name(), why;
  if (!info.blob.empty() && cubinRunsOn(info.target, gpu.major, gpu.minor)) {
    Result r = loadImage(bundle, info.blob, loaded->module, reason);
    if (r == kOutOfMemory)
      return fail(KVC_OUT_OF_MEMORY, 429, "%s", reason.c_str());
    if (r)
      reason = "the driver refused " + reason;
  }
  if (!loaded->module) {
    if (Result r = loadImage(bundle, info.ptx, loaded->module, why))
      return fail(r == kOutOfMemory ? KVC_OUT_OF_MEMORY : KVC_UNSUPPORTED, 428,
                  "%s; and %s", reason.c_str(), why.c_str());
    remark = "the driver compiled `" + info.ptx + "`: " + reason;
  }
  module = std::move(loaded);
  return ok();
}

kvc_status CudaDriver::launch(const GpuFunction &function, uint32_t grid,
                              const void *params, size_t, void *stream) {
  if (grid == 0)
    return ok();
  const Driver &cuda = *gpu.cuda;
  Current current(cuda, gpu.context);
  if (current.result)
    return cuda.failed(current.result, "cuCtxPushCurrent");
  void *arguments[] = {const_cast<void *>(params)};
  const KernelInfo &info = *function.info;
  Result r =
      cuda.cuLaunchKernel(function.handle, grid, 1, 1, info.threads, 1, 1,
                          info.sharedBytes, stream, arguments, nullptr);
  return r ? cuda.failed(r, info.name.c_str()) : ok();
}

kvc_status CudaDriver::scrub(void *memory, size_t bytes, void *stream) {
  const Driver &cuda = *gpu.cuda;
  Current current(cuda, gpu.context);
  if (current.result)
    return cuda.failed(current.result, "cuCtxPushCurrent");
  Result r = cuda.cuMemsetD8Async(DevicePtr(memory), 0, bytes, stream);
  return r ? cuda.failed(r, "cuMemsetD8Async") : ok();
}

kvc_status CudaDriver::wait(void *stream, void *other) {
  const Driver &cuda = *gpu.cuda;
  Current current(cuda, gpu.context);
  if (current.result)
    return cuda.failed(current.result, "cuCtxPushCurrent");
  std::lock_guard guard(waiting);
  if (Result r = cuda.cuEventRecord(behind, other))
    return cuda.failed(r, "cuEventRecord");
  Result r = cuda.cuStreamWaitEvent(stream, behind, 0);
  return r ? cuda.failed(r, "cuStreamWaitEvent") : ok();
}

kvc_status CudaDriver::copy(void *to, const void *from, size_t bytes,
                            void *stream) {
  const Driver &cuda = *gpu.cuda;
  Current current(cuda, gpu.context);
  if (current.result)
    return cuda.failed(current.result, "cuCtxPushCurrent");
  Result r =
      cuda.cuMemcpyDtoDAsync_v2(DevicePtr(to), DevicePtr(from), bytes, stream);
  return r ? cuda.failed(r, "cuMemcpyDtoDAsync") : ok();
}

kvc_status CudaDriver::upload(void *to, const void *from, size_t bytes,
                              void *stream) {
  const Driver &cuda = *gpu.cuda;
  Current current(cuda, gpu.context);
  if (current.result)
    return cuda.failed(current.result, "cuCtxPushCurrent");
  int capturing = 0;
  if (Result r = cuda.cuStreamIsCapturing(stream, &capturing))
    return cuda.failed(r, "cuStreamIsCapturing");
  // A replay would copy what is staged there by then.
  if (capturing)
    return fail(KVC_DEVICE_ERROR, 430,
                "`stream` is being captured in a graph, where a copy from the "
                "host has no place");
  Result r = staging.copy(DevicePtr(to), from, bytes, stream);
  return r ? cuda.failed(r, "cuMemcpyHtoDAsync") : ok();
}

kvc_status CudaDriver::download(void *to, const void *from, size_t bytes) {
  const Driver &cuda = *gpu.cuda;
  Current current(cuda, gpu.context);
  if (current.result)
    return cuda.failed(current.result, "cuCtxPushCurrent");
  if (Result r = cuda.cuCtxSynchronize())
    return cuda.failed(r, "cuCtxSynchronize");
  if (Result r = cuda.cuMemcpyDtoHAsync_v2(to, DevicePtr(from), bytes, own))
    return cuda.failed(r, "cuMemcpyDtoHAsync");
  Result r = cuda.cuStreamSynchronize(own);
  return r ? cuda.failed(r, "cuStreamSynchronize") : ok();
}

/// Waits for it: the caller's streams need not wait for any other.
Result CudaDriver::clear(DevicePtr memory, size_t bytes) {
  Result result = gpu.cuda->cuMemsetD8Async(memory, 0, bytes, own);
  return result ? result : gpu.cuda->cuStreamSynchronize(own);
}

void *CudaDriver::allocate(size_t bytes) {
  Current current(*gpu.cuda, gpu.context);
  if (current.result)
    return nullptr;
  Uncaptured uncaptured(*gpu.cuda);
  DevicePtr memory = 0;
  if (gpu.cuda->cuMemAlloc_v2(&memory, bytes))
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
    return cuda.notMade(r, "cuInit");
  int count = 0;
  if (Result r = cuda.cuDeviceGetCount(&count))
    return cuda.notMade(r, "cuDeviceGetCount");
  if (count == 0)
    return fail(KVC_DEVICE_ERROR, 425, "there is no CUDA GPU here");
  if (options.ordinal < 0 || options.ordinal >= count)
    return fail(KVC_DEVICE_ERROR, 424,
                "`ordinal`: expected 0 to %d, the GPUs here, found %d",
                count - 1, options.ordinal);
  if (Result r = cuda.cuDeviceGet(&gpu.device, options.ordinal))
    return cuda.notMade(r, "cuDeviceGet");
  for (auto [value, attribute] : {std::pair{&gpu.major, kMajor},
                                  {&gpu.minor, kMinor},
                                  {&gpu.multiprocessors, kMultiprocessors},
                                  {&gpu.sharedPerCta, kSharedPerBlockOptIn}})
    if (Result r = cuda.cuDeviceGetAttribute(value, attribute, gpu.device))
      return cuda.notMade(r, "cuDeviceGetAttribute");
  gpu.context = options.context;
  auto driver = std::make_unique<CudaDriver>(gpu);
  CudaDriver &made = *driver;
  auto created = std::make_unique<GpuDevice>(std::move(driver));
  if (!gpu.context)
    if (Result r = made.retain())
      return cuda.notMade(r, "cuDevicePrimaryCtxRetain");
  if (kvc_status s = made.open(); !isOk(s))
    return s;
  device = created.release();
  return ok();
}
