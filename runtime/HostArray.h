//===- HostArray.h - arrays of a fixed size, made once ----------*- C++ -*-===//
#ifndef KVC_RUNTIME_HOSTARRAY_H
#define KVC_RUNTIME_HOSTARRAY_H

#include <cstddef>
#include <cstdlib>
#include <type_traits>

namespace kvc::rt {

/// Zeroed elements; memory that is never touched costs nothing. Not enough
/// memory is an answer, not the end.
template <class T> class HostArray {
  static_assert(std::is_trivially_copyable_v<T>);

public:
  HostArray() = default;
  ~HostArray() { std::free(elements); }
  HostArray(const HostArray &) = delete;
  HostArray &operator=(const HostArray &) = delete;

  /// Once per array. False if there is not enough memory.
  bool allocate(size_t count) {
    elements = static_cast<T *>(std::calloc(count ? count : 1, sizeof(T)));
    length = elements ? count : 0;
    return elements != nullptr;
  }
  size_t size() const { return length; }
  T *data() const { return elements; }
  T &operator[](size_t i) const { return elements[i]; }

private:
  T *elements = nullptr;
  size_t length = 0;
};

} // namespace kvc::rt

#endif // KVC_RUNTIME_HOSTARRAY_H
