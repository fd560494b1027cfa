//===- KernelArray.h - arrays that the host writes, kernels read *- C++ -*-===//
#ifndef KVC_RUNTIME_KERNELARRAY_H
#define KVC_RUNTIME_KERNELARRAY_H

#include "runtime/Device.h"
#include "runtime/HostArray.h"

#include <algorithm>
#include <cstdint>

namespace kvc::rt {

/// Memory of several arrays: zeroed, of the host. A GPU has a copy of its own
/// at a fixed address, which upload() brings up to date with few copies, since
/// each costs some microseconds however short it is.
class KernelMemory {
public:
  KernelMemory() = default;
  ~KernelMemory() {
    if (copy)
      device->deallocate(copy, host.size());
  }
  KernelMemory(const KernelMemory &) = delete;
  KernelMemory &operator=(const KernelMemory &) = delete;

  /// Where an array of that many bytes will be. Before allocate().
  size_t reserve(size_t arrayBytes) {
    size_t at = bytes;
    bytes = (bytes + arrayBytes + 63) & ~size_t(63);
    return at;
  }
  /// Once; the device must outlive it. `changes`: noted at most before an
  /// upload; of more, some become one. False if there is not enough memory.
  bool allocate(Device &on, size_t changes) {
    if (!host.allocate(bytes))
      return false;
    if (!on.isGpu())
      return true;
    device = &on;
    copy = static_cast<uint8_t *>(on.allocate(host.size()));
    return copy && changed.allocate(changes);
  }

  uint8_t *ofHost(size_t at) const { return host.data() + at; }
  const uint8_t *ofKernels(size_t at) const {
    return (copy ? copy : host.data()) + at;
  }
  /// Notes that the host wrote [at, at + length).
  void change(size_t at, size_t length) {
    if (!copy || !length)
      return;
    if (count == changed.size())
      changed[count - 1].include({at, at + length});
    else
      changed[count++] = {at, at + length};
  }
  /// Copies what was changed since the last time, in the order of the stream.
  kvc_status upload(void *stream) {
    Range *all = changed.data();
    std::sort(all, all + count,
              [](const Range &a, const Range &b) { return a.begin < b.begin; });
    kvc_status status = ok();
    for (size_t i = 0; i < count && isOk(status);) {
      Range range = all[i++];
      while (i < count && all[i].begin <= range.end + kGap)
        range.include(all[i++]);
      status = device->upload(copy + range.begin, host.data() + range.begin,
                              range.end - range.begin, stream);
    }
    count = 0;
    return status;
  }

private:
  /// Bytes that are copied in the time that another copy would take to begin:
  /// 3 us at some 20 GB/s.
  static constexpr size_t kGap = 1 << 16;
  struct Range {
    size_t begin, end;
    void include(const Range &other) {
      begin = std::min(begin, other.begin);
      end = std::max(end, other.end);
    }
  };

  HostArray<uint8_t> host;
  HostArray<Range> changed; ///< of a GPU
  size_t bytes = 0, count = 0;
  Device *device = nullptr;
  uint8_t *copy = nullptr; ///< of the device; null if kernels read the host's
};

/// One of its arrays.
template <class T> class KernelArray {
public:
  /// Once, before the memory is allocated, which must outlive it.
  void reserve(KernelMemory &in, size_t count) {
    memory = &in;
    at = in.reserve(count * sizeof(T));
  }
  T *data() const { return reinterpret_cast<T *>(memory->ofHost(at)); }
  T &operator[](size_t i) const { return data()[i]; }
  /// What kernels are given.
  const T *ofKernels() const {
    return reinterpret_cast<const T *>(memory->ofKernels(at));
  }
  /// Elements [first, first + count) were written.
  void change(size_t first, size_t count) const {
    memory->change(at + first * sizeof(T), count * sizeof(T));
  }

private:
  KernelMemory *memory = nullptr;
  size_t at = 0;
};

} // namespace kvc::rt

#endif // KVC_RUNTIME_KERNELARRAY_H
