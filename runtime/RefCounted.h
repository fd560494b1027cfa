//===- RefCounted.h - shared ownership of handles ---------------*- C++ -*-===//
#ifndef KVC_RUNTIME_REFCOUNTED_H
#define KVC_RUNTIME_REFCOUNTED_H

#include "runtime/Fork.h"

#include <atomic>
#include <cstdint>

namespace kvc::rt {

/// An object behind a C handle. It starts with one reference, the handle's.
class RefCounted {
public:
  virtual ~RefCounted() = default;
  /// Whether it was made before fork(), by the parent of this process.
  bool isParents() const { return origin.isParent(); }
  void retain() { count.fetch_add(1, std::memory_order_relaxed); }
  void release() {
    if (count.fetch_sub(1, std::memory_order_acq_rel) == 1)
      delete this;
  }

private:
  std::atomic<uint32_t> count = 1;
  Origin origin;
};

/// Holds one reference.
template <class T> class Ref {
public:
  explicit Ref(T *object) : object(object) { object->retain(); }
  ~Ref() { object->release(); }
  Ref(const Ref &) = delete;
  Ref &operator=(const Ref &) = delete;
  T *operator->() const { return object; }
  T &operator*() const { return *object; }

private:
  T *object;
};

} // namespace kvc::rt

#endif // KVC_RUNTIME_REFCOUNTED_H
