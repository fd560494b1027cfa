//===- Fiber.h - threads of an emulated CTA ---------------------*- C++ -*-===//
#ifndef KVC_LIB_BASE_SIMT_FIBER_H
#define KVC_LIB_BASE_SIMT_FIBER_H

#include <cstddef>
#include <vector>

namespace kvc::simt {

/// A call stack of its own that runs when it is switched to.
class Fiber {
public:
  using Entry = void (*)(void *);
  /// Prepares to run entry(argument) on `stack` (its end is `top`). `entry`
  /// must never return: it ends with a last switch away.
  void prepare(std::byte *top, Entry entry, void *argument);
  /// Leaves the stack that runs now, which `from` remembers, for this one.
  void enter(Fiber &from);

private:
  void *stack = nullptr;
};

/// Stacks with a page behind each that faults, used again and again.
class StackPool {
public:
  ~StackPool();
  static constexpr size_t kBytes = 128 * 1024;
  /// The end of the i-th stack.
  std::byte *top(size_t i);

private:
  std::vector<std::byte *> stacks;
};

} // namespace kvc::simt

#endif // KVC_LIB_BASE_SIMT_FIBER_H
