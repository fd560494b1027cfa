//===- AlignedBytes.h - memory that kernels are given -----------*- C++ -*-===//
//
// Kernels may rely on 64-byte alignment, and a vector has no more than 16. What
// stands behind the last byte is known, so that a test can ask whether anyone
// wrote there.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_TEST_SUPPORT_ALIGNEDBYTES_H
#define KVC_TEST_SUPPORT_ALIGNEDBYTES_H

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

namespace kvc::test {

class AlignedBytes {
public:
  static constexpr uint8_t kPattern = 0x5a;

  explicit AlignedBytes(size_t bytes = 0, uint8_t fill = kPattern)
      : count(bytes), storage(bytes + kBehind + kAlignment, fill) {
    skip = (kAlignment - uintptr_t(storage.data()) % kAlignment) % kAlignment;
    std::memset(data() + bytes, kPattern, kBehind);
  }
  // Views point into the storage, which a move keeps where it is.
  AlignedBytes(AlignedBytes &&) = default;
  AlignedBytes &operator=(AlignedBytes &&) = default;

  uint8_t *data() { return storage.data() + skip; }
  const uint8_t *data() const { return storage.data() + skip; }
  template <typename T> T *as() { return reinterpret_cast<T *>(data()); }
  size_t size() const { return count; }
  std::span<const uint8_t> bytes() const { return {data(), count}; }
  /// Whether nothing was written behind the last byte.
  bool ends() const {
    return std::all_of(data() + count, data() + count + kBehind,
                       [](uint8_t byte) { return byte == kPattern; });
  }

private:
  static constexpr size_t kAlignment = 64, kBehind = 64;

  size_t count, skip;
  std::vector<uint8_t> storage;
};

} // namespace kvc::test

#endif // KVC_TEST_SUPPORT_ALIGNEDBYTES_H
