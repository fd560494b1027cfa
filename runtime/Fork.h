//===- Fork.h - objects in the child of fork() ------------------*- C++ -*-===//
//
// A child has the memory of its parent and none of its threads: nobody is left
// to join, and a lock that one of them held is held for ever. So no object that
// was made before fork() is used in the child; it can only be released, without
// a lock and without a thread.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_RUNTIME_FORK_H
#define KVC_RUNTIME_FORK_H

#include <cstdint>

namespace kvc::rt {

/// Calls of fork() between the process that loaded this library and this one.
uint32_t forks();

/// The process that made what it is part of.
class Origin {
public:
  /// Whether that was another one, of which this is a child.
  bool isParent() const { return forks() != born; }

private:
  uint32_t born = forks();
};

} // namespace kvc::rt

#endif // KVC_RUNTIME_FORK_H
