//===- Faults.h - memory and threads that run out ---------------*- C++ -*-===//
//
// A program that links Faults.cpp has a malloc (and so operator new), mmap,
// mprotect and pthread_create of its own, which shared libraries use as well:
// it counts their calls and refuses the one that it is told to.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_TEST_UNIT_RUNTIME_FAULTS_H
#define KVC_TEST_UNIT_RUNTIME_FAULTS_H

#include <cstdint>

namespace kvc::test {

/// Which calls are refused, by their number since arm().
struct Fault {
  uint64_t n = 0;        ///< from 1; 0: none
  bool persists = false; ///< and all that follow
};

/// Begins to count the calls of all threads, and to refuse. `what` is named,
/// with the number, should the process end now.
void arm(const char *what, Fault fault = {});
/// Ends that. Gives the number of calls.
uint64_t disarm();

/// Blocks and mappings that exist now.
int64_t live();

} // namespace kvc::test

#endif // KVC_TEST_UNIT_RUNTIME_FAULTS_H
