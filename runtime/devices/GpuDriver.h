//===- GpuDriver.h - what a GPU must do -------------------------*- C++ -*-===//
//
// What the GPU device needs of whatever runs its kernels: the CUDA driver or
// the emulator.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_RUNTIME_DEVICES_GPUDRIVER_H
#define KVC_RUNTIME_DEVICES_GPUDRIVER_H

#include "lib/base/Artifact/Bundle.h"
#include "runtime/Status.h"

#include <memory>
#include <string>

namespace kvc::rt {

/// A kernel that can be launched. Lives as long as its module.
struct GpuFunction {
  const artifact::KernelInfo *info = nullptr;
  void *handle = nullptr; ///< the driver's
  const class GpuModule *module = nullptr;
  uint32_t resident = 1; ///< CTAs that the GPU runs at once
};

/// Kernels of one target that are in the same entries, loaded.
class GpuModule {
public:
  virtual ~GpuModule() = default;
  virtual kvc_status find(const artifact::KernelInfo &info,
                          GpuFunction &function) = 0;
};

class GpuDriver {
public:
  virtual ~GpuDriver() = default;
  /// KernelInfo::device of the kernels that it runs.
  virtual const char *kind() const = 0;
  /// The GPU's architecture: "sm_86".
  virtual std::string name() const = 0;
  /// Bytes of dynamic shared memory that a kernel may ask for at most.
  virtual uint32_t sharedPerCta() const = 0;
  /// How well code for `info.target` fits: 0 not at all (`why` says it),
  /// otherwise the more the better.
  virtual uint32_t fit(const artifact::KernelInfo &info,
                       std::string &why) const = 0;
  /// Loads the entries that `info` says its kernel is in. Strings of `info`
  /// must outlive the module. `remark` gets what a user should know of how it
  /// went, if anything: a slower way that was taken. KVC_UNSUPPORTED: the GPU
  /// or its driver refuses this code; others may do.
  virtual kvc_status load(const artifact::KernelInfo &info,
                          const artifact::Bundle &bundle,
                          std::unique_ptr<GpuModule> &module,
                          std::string &remark) = 0;
  /// Launches on a stream; `params` is copied.
  virtual kvc_status launch(const GpuFunction &function, uint32_t grid,
                            const void *params, size_t paramBytes,
                            void *stream) = 0;
  /// Zeroed memory of the GPU; null if there is not enough.
  virtual void *allocate(size_t bytes) = 0;
  virtual void deallocate(void *memory, size_t bytes) = 0;
  virtual void zero(void *memory, size_t bytes) = 0;
  /// As of Device.
  virtual kvc_status scrub(void *memory, size_t bytes, void *stream) = 0;
  virtual kvc_status wait(void * /*stream*/, void * /*other*/) { return ok(); }
  virtual kvc_status copy(void *to, const void *from, size_t bytes,
                          void *stream) = 0;
  virtual kvc_status upload(void *to, const void *from, size_t bytes,
                            void *stream) = 0;
  virtual kvc_status download(void *to, const void *from, size_t bytes) = 0;
  virtual void allow(const void *, size_t, bool /*writable*/) {}
  virtual void forget(const void *) {}
};

} // namespace kvc::rt

#endif // KVC_RUNTIME_DEVICES_GPUDRIVER_H
