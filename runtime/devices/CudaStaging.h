//===- CudaStaging.h - copies to a GPU that read memory later ---*- C++ -*-===//
//
// A copy on a stream may read the host's memory long after the call that asked
// for it has returned. So it never reads the caller's: bytes go into a ring of
// pinned memory, and a part of the ring is written again only once the event
// behind the copy that reads it has passed.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_RUNTIME_DEVICES_CUDASTAGING_H
#define KVC_RUNTIME_DEVICES_CUDASTAGING_H

#include "runtime/devices/CudaApi.h"

#include <cstdint>
#include <mutex>

namespace kvc::rt::cuda {

/// Calls need the context to be current. Safe from any thread.
class StagingRing {
public:
  /// What the ring holds, and copies under way at most.
  static constexpr size_t kBytes = 1 << 20;
  static constexpr size_t kCopies = 32;

  explicit StagingRing(const Driver &cuda) : cuda(cuda) {}
  /// Once, before any copy. A failure leaves nothing behind that close() does
  /// not free.
  Result open();
  /// Waits for all copies.
  void close();

  /// Copies in the order of the stream; `from` may be written again when it
  /// returns. Waits only where the ring is full.
  Result copy(DevicePtr to, const void *from, size_t bytes, Handle stream);

private:
  /// Bytes [begin, end) of the ring, read until `event` has passed.
  struct Segment {
    size_t begin, end;
    Handle event;
  };
  Result send(DevicePtr to, const void *from, size_t bytes, Handle stream);
  Result retireOldest();
  bool isRead(size_t begin, size_t end) const;
  Segment &at(size_t i) { return segments[(oldest + i) % kCopies]; }
  const Segment &at(size_t i) const { return segments[(oldest + i) % kCopies]; }

  const Driver &cuda;
  std::mutex lock;
  uint8_t *memory = nullptr;
  size_t head = 0; ///< where the next copy's bytes go
  /// In the order in which they were sent, from `oldest` on, round and round.
  Segment segments[kCopies] = {};
  size_t oldest = 0, count = 0;
};

} // namespace kvc::rt::cuda

#endif // KVC_RUNTIME_DEVICES_CUDASTAGING_H
