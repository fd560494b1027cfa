//===- KernelArray.h - arrays that the host writes, kernels read *- C++ -*-===//
#ifndef KVC_RUNTIME_KERNELARRAY_H
#define KVC_RUNTIME_KERNELARRAY_H

#include "runtime/Device.h"
#include "runtime/HostArray.h"

namespace kvc::rt {

/// Zeroed elements of the host; a GPU has a copy of its own at a fixed address,
/// which upload() brings up to date.
template <class T> class KernelArray {
public:
  KernelArray() = default;
  ~KernelArray() {
    if (copy)
      device->deallocate(copy, host.size() * sizeof(T));
  }
  KernelArray(const KernelArray &) = delete;
  KernelArray &operator=(const KernelArray &) = delete;

  /// Once per array; the device must outlive it. False if there is not enough
  /// memory.
  bool allocate(Device &on, size_t count) {
    if (!host.allocate(count))
      return false;
    if (!on.isGpu())
      return true;
    device = &on;
    copy = static_cast<T *>(on.allocate(host.size() * sizeof(T)));
    return copy != nullptr;
  }

  T *data() const { return host.data(); }
  T &operator[](size_t i) const { return host[i]; }
  /// What kernels are given.
  const T *ofKernels() const { return copy ? copy : host.data(); }
  /// Elements [first, first + count), in the order of the stream.
  kvc_status upload(size_t first, size_t count, void *stream) const {
    if (!copy || !count)
      return ok();
    return device->upload(copy + first, host.data() + first, count * sizeof(T),
                          stream);
  }

private:
  HostArray<T> host;
  Device *device = nullptr;
  T *copy = nullptr; ///< of the device; null if kernels read the host's
};

} // namespace kvc::rt

#endif // KVC_RUNTIME_KERNELARRAY_H
