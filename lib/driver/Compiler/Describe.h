//===- Describe.h - what the IR says, for the manifest ----------*- C++ -*-===//
#ifndef KVC_LIB_DRIVER_COMPILER_DESCRIBE_H
#define KVC_LIB_DRIVER_COMPILER_DESCRIBE_H

#include "lib/base/Artifact/Manifest.h"
#include "lib/base/Spec/Spec.h"
#include "lib/driver/Compiler/Target.h"

namespace kvc {

artifact::ModelInfo describeModel(const spec::Model &model);

/// The stores of a module with their page geometry: planes in the order of
/// CacheType::planes(), each at a multiple of 64 bytes, and so the whole page.
std::vector<artifact::StoreInfo> describeStores(mlir::ModuleOp module);

/// The kernels of a module at the tile level, for one target. What comes of
/// their lowering is not known yet, and symbols are without keys.
///
/// A store's attend kernels share the query counts out in the order of the
/// module: the first takes 1 to its schedule's `queries`, each other all from
/// there on. This is the one place that says so.
std::vector<artifact::KernelInfo> describeKernels(mlir::ModuleOp module,
                                                  const Target &target);

/// The plan kernels of a GPU, which no tile op stands for.
std::vector<artifact::KernelInfo> describePlans(mlir::ModuleOp module,
                                                const Target &target);

/// Emits remarks on the module's kernels about what was folded into what.
void remarkFolds(mlir::ModuleOp module);

} // namespace kvc

#endif // KVC_LIB_DRIVER_COMPILER_DESCRIBE_H
