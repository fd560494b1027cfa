//===- Cpu.h - the CPU as a device ------------------------------*- C++ -*-===//
#ifndef KVC_RUNTIME_DEVICES_CPU_H
#define KVC_RUNTIME_DEVICES_CPU_H

#include "runtime/Device.h"

namespace kvc::rt {

/// A CPU device with a thread pool of its own or the caller's parallel for.
/// With a level ("x86-64-v4-amx") it runs the kernels of that level only, and
/// emulates AMX where the CPU has none (lib/base/Amx).
kvc_status createCpuDevice(const kvc_cpu_options &options, Device *&device,
                           const char *level = "");

} // namespace kvc::rt

#endif // KVC_RUNTIME_DEVICES_CPU_H
