//===- Passes.h - the passes from kvc to tile -------------------*- C++ -*-===//
#ifndef KVC_PASSES_PASSES_H
#define KVC_PASSES_PASSES_H

#include "dialect/tile/TileDialect.h"

#include "mlir/Pass/Pass.h"

namespace kvc {

#define GEN_PASS_DECL
#include "passes/Passes.h.inc"

/// The op of a function that holds one op and a return of its results; null if
/// the function is not like that.
mlir::Operation *getOnlyOp(mlir::func::FuncOp function);

/// Registers every pass of this folder with its flag, for kvc-opt.
void registerKvcPasses();

} // namespace kvc

#endif // KVC_PASSES_PASSES_H
