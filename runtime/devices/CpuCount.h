//===- CpuCount.h - how many threads this process should have ---*- C++ -*-===//
//
// A thread's own affinity says little: OpenMP and engines pin their threads to
// one CPU each. What counts is where the threads of the process may run, and in
// a container how much time they are given there.
//
// `root` stands before every path that is read: "" but for tests.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_RUNTIME_DEVICES_CPUCOUNT_H
#define KVC_RUNTIME_DEVICES_CPUCOUNT_H

#include <cstdint>
#include <string>
#include <vector>

namespace kvc::rt {

/// Ids of CPUs, ascending.
using CpuList = std::vector<uint32_t>;

/// "0-3,8": what the kernel writes for a set of CPUs. Empty if it is none.
CpuList parseCpuList(const std::string &text);

/// CPUs that are online and that some thread of this process may run on, or
/// that an OpenMP runtime will make threads for; empty if /proc does not say.
CpuList processCpus(const std::string &root = "");

/// CPUs that the calling thread may run on, however many there are.
CpuList callerCpus();

/// CPUs' worth of time that the control groups of this process (v1 or v2, the
/// tightest on the way to the root) allow it, rounded up; 0: no limit.
uint32_t cpuQuota(const std::string &root = "");

/// Threads that keep busy what the process may use; at least 1.
uint32_t defaultThreads(const std::string &root = "");

} // namespace kvc::rt

#endif // KVC_RUNTIME_DEVICES_CPUCOUNT_H
