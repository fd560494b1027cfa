//===- OrcLoader.h - kernels that debuggers and profilers know --*- C++ -*-===//
//
// The runtime's own loader tells nobody what it loads. This one is LLVM's JIT,
// ORC: whoever compiles in process loads with it, and kernels have names in GDB
// and LLDB (the GDB JIT interface), to in-process unwinders, and in perf.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_LIB_DRIVER_JIT_ORCLOADER_H
#define KVC_LIB_DRIVER_JIT_ORCLOADER_H

#include "kvc/runtime.h"

#include <string>

namespace kvc {

/// For kvc_cpu_options; lives as long as the process.
const kvc_code_loader *orcCodeLoader();

/// The same, and what it loads is also written to a file for perf, jit-PID.dump
/// below $JITDUMPDIR/.debug/jit ($HOME if unset). Null, with path and reason in
/// `error`, if that cannot be created. If it cannot be written later, loading
/// fails with that reason.
const kvc_code_loader *orcDumpingCodeLoader(std::string &error);

} // namespace kvc

#endif // KVC_LIB_DRIVER_JIT_ORCLOADER_H
