//===- Gpu.h - a GPU as a device --------------------------------*- C++ -*-===//
//
// Which kernels of an artifact fit, what they are launched with, and where
// their plan and partial results are in the caller's workspace. Nothing here
// reads device memory or waits for it, so that calls can be captured in a
// graph.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_RUNTIME_DEVICES_GPU_H
#define KVC_RUNTIME_DEVICES_GPU_H

#include "lib/base/Artifact/GpuAbi.h"
#include "runtime/AttendPlan.h"
#include "runtime/Device.h"
#include "runtime/devices/GpuDriver.h"

namespace kvc::rt {

struct GpuKernel {
  GpuFunction function;
  KernelBlock block;
};

/// The kernels of one store.
struct GpuStore {
  const artifact::StoreInfo *info = nullptr;
  AttendShape shape;
  std::vector<GpuKernel> attend;  ///< one per shape.variants
  GpuKernel plan, append, gather; ///< gather: null if there is none
  uint32_t planGroup = 0;         ///< the first store that cuts batches alike
  uint32_t pageTokens = 0;        ///< 0: contiguous
  uint32_t group = 1;             ///< q heads of a kv head

  const GpuKernel &of(RowKernel kernel) const {
    return kernel == RowKernel::Append ? append : gather;
  }
};

/// Where things are in the workspace, as offsets from its first byte.
///
///   split_row | per kernel: count, split counters, work tiles | partial lse |
///   partial o
///
/// It holds whatever a plan within the bounds can make, and that is less than
/// the bounds' product: long sequences are few, since their tokens are in one
/// pool. Of the n sequences that a kernel may serve, each with at most q query
/// tokens and P splits of s tokens, R query tokens and T cached ones in all:
///
///   splits                   A = min(n P, T / s + n)
///   of those with several    M = min(m P, T / s + m), m = min(n, T / (s + 1))
///   split rows               q heads * min(min(R, m q) P, q M)
///   work tiles               kv heads * the sum of row blocks times splits,
///                            a block being `rows` rows of a head
///
/// A window bounds P instead, and says nothing of T: its pages are freed while
/// lengths grow.
struct GpuWorkspace {
  /// False if there may be more work tiles than kernels can count.
  bool plan(const GpuStore &store, const AttendBounds &bounds);

  size_t splitRow = 0;
  struct Variant {
    size_t count = 0, splitCounters = 0, workTiles = 0;
    uint32_t capacity = 0; ///< 0: no sequence uses this kernel
  };
  Variant variants[artifact::kMaxAttends];
  int64_t splitRows = 0;
  size_t planBytes = 0; ///< of all before: a step's, where it has one plan
  size_t lse = 0, o = 0;
  size_t bytes = 0;
};

class GpuDevice : public Device {
public:
  explicit GpuDevice(std::unique_ptr<GpuDriver> driver)
      : gpu(std::move(driver)) {}

  kvc_status load(const artifact::Manifest &manifest,
                  const artifact::Bundle &bundle,
                  std::unique_ptr<Executable> &executable) override;
  bool readsHostMemory() const override { return false; }
  bool isGpu() const override { return true; }
  void lend(const void *base, size_t bytes, bool writable) override {
    gpu->allow(base, bytes, writable);
  }
  void takeBack(const void *base) override { gpu->forget(base); }
  void *allocate(size_t bytes) override { return gpu->allocate(bytes); }
  void deallocate(void *memory, size_t bytes) override {
    gpu->deallocate(memory, bytes);
  }
  void zero(void *memory, size_t bytes) override { gpu->zero(memory, bytes); }
  kvc_status scrub(void *memory, size_t bytes, void *stream) override {
    return gpu->scrub(memory, bytes, stream);
  }
  kvc_status wait(void *stream, void *other) override {
    return gpu->wait(stream, other);
  }
  kvc_status copy(void *to, const void *from, size_t bytes,
                  void *stream) override {
    return gpu->copy(to, from, bytes, stream);
  }
  kvc_status upload(void *to, const void *from, size_t bytes,
                    void *stream) override {
    return gpu->upload(to, from, bytes, stream);
  }
  kvc_status download(void *to, const void *from, size_t bytes) override {
    return gpu->download(to, from, bytes);
  }

  GpuDriver &driver() { return *gpu; }

private:
  std::unique_ptr<GpuDriver> gpu;
};

} // namespace kvc::rt

#endif // KVC_RUNTIME_DEVICES_GPU_H
