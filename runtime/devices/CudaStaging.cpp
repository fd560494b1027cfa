//===- CudaStaging.cpp - copies to a GPU that read memory later -----------===//
#include "runtime/devices/CudaStaging.h"

#include <algorithm>
#include <cstring>

using namespace kvc::rt::cuda;

/// Where copies begin in the ring.
static constexpr size_t kAlignment = 64;

Result StagingRing::open() {
  void *pinned = nullptr;
  if (Result r = cuda.cuMemHostAlloc(&pinned, kBytes, kHostPortable))
    return r;
  memory = static_cast<uint8_t *>(pinned);
  for (Segment &segment : segments)
    if (Result r = cuda.cuEventCreate(&segment.event, kEventNoTiming))
      return r;
  return 0;
}

void StagingRing::close() {
  while (count)
    retireOldest();
  for (Segment &segment : segments)
    if (segment.event)
      cuda.cuEventDestroy_v2(segment.event);
  if (memory)
    cuda.cuMemFreeHost(memory);
}

Result StagingRing::retireOldest() {
  Result result = cuda.cuEventSynchronize(at(0).event);
  oldest = (oldest + 1) % kCopies;
  --count;
  return result;
}

bool StagingRing::isRead(size_t begin, size_t end) const {
  for (size_t i = 0; i < count; ++i)
    if (at(i).begin < end && begin < at(i).end)
      return true;
  return false;
}

Result StagingRing::send(DevicePtr to, const void *from, size_t bytes,
                         Handle stream) {
  size_t room = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  if (head + room > kBytes)
    head = 0;
  while (count == kCopies || isRead(head, head + room))
    if (Result r = retireOldest())
      return r;
  std::memcpy(memory + head, from, bytes);
  if (Result r = cuda.cuMemcpyHtoDAsync_v2(to, memory + head, bytes, stream))
    return r;
  Segment &segment = at(count);
  if (Result r = cuda.cuEventRecord(segment.event, stream)) {
    // Nothing would tell when the copy is done.
    cuda.cuStreamSynchronize(stream);
    return r;
  }
  segment.begin = head;
  segment.end = head + room;
  ++count;
  head += room;
  return 0;
}

Result StagingRing::copy(DevicePtr to, const void *from, size_t bytes,
                         Handle stream) {
  std::lock_guard guard(lock);
  // While one half is on its way, the other is filled.
  constexpr size_t kMost = kBytes / 2;
  auto *next = static_cast<const uint8_t *>(from);
  for (size_t done = 0; done < bytes; done += kMost)
    if (Result r =
            send(to + done, next + done, std::min(kMost, bytes - done), stream))
      return r;
  return 0;
}
