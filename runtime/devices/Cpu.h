//===- Cpu.h - the CPU as a device ------------------------------*- C++ -*-===//
#ifndef KVC_RUNTIME_DEVICES_CPU_H
#define KVC_RUNTIME_DEVICES_CPU_H

#include "runtime/Device.h"

namespace kvc::rt {

/// A CPU device with a thread pool of its own or the caller's parallel for.
kvc_status createCpuDevice(const kvc_cpu_options &options, Device *&device);

} // namespace kvc::rt

#endif // KVC_RUNTIME_DEVICES_CPU_H
