//===- Pipeline.h - the target-neutral pipeline -----------------*- C++ -*-===//
#ifndef KVC_PASSES_PIPELINE_H
#define KVC_PASSES_PIPELINE_H

#include "mlir/Pass/PassManager.h"

#include <string>
#include <vector>

namespace kvc {

/// kvc -> tile. The module must carry `kvc.target`. `overrides` are
/// KERNEL.FIELD=VALUE, or "" for none. The backend whose target it is must have
/// attached its scheduler to the context; what follows is its own (codegen/).
void buildTilePipeline(mlir::OpPassManager &pm,
                       const std::vector<std::string> &overrides = {});

} // namespace kvc

#endif // KVC_PASSES_PIPELINE_H
