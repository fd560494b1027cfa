//===- InspectGpu.h - the GPU kernels of an artifact ------------*- C++ -*-===//
#ifndef KVC_TOOLS_KVC_INSPECTGPU_H
#define KVC_TOOLS_KVC_INSPECTGPU_H

#include "codegen/nvptx/Report.h"

#include "llvm/Support/JSON.h"
#include "llvm/Support/raw_ostream.h"

namespace kvc::cli {

/// Tables of what kernels take of an SM and of what their loops issue.
void printGpu(llvm::raw_ostream &os, const GpuReport &report);

/// The same as attributes of an object: `gpu_kernels`, and `no_sass` with the
/// reason where SASS could not be read.
void printGpu(llvm::json::OStream &os, const GpuReport &report);

} // namespace kvc::cli

#endif // KVC_TOOLS_KVC_INSPECTGPU_H
