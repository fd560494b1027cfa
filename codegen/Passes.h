//===- Passes.h - the backends' steps as passes -----------------*- C++ -*-===//
#ifndef KVC_CODEGEN_PASSES_H
#define KVC_CODEGEN_PASSES_H

#include "mlir/Pass/Pass.h"

namespace kvc {

#define GEN_PASS_DECL
#include "codegen/Passes.h.inc"

/// Registers a pass for each step of the backends up to the LLVM dialect, for
/// kvc-opt. lib/driver/Compiler calls the backends itself: it wants what a
/// module cannot carry (scratch sizes, launch shapes).
void registerBackendPasses();

} // namespace kvc

#endif // KVC_CODEGEN_PASSES_H
