//===- Sharing.h - each distinct kernel once --------------------*- C++ -*-===//
//
// Many stores are alike: every layer of a model with one of its own has the
// same kernels. Kernels with one key (lib/base/Artifact/KernelKey.h) are the
// same kernel, so the first is compiled and the others share its code.
//
// Stores are compared before anything is lowered, when only tiles are planned.
// What is alike within stores that are not, is found once it is lowered.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_LIB_DRIVER_COMPILER_SHARING_H
#define KVC_LIB_DRIVER_COMPILER_SHARING_H

#include "lib/base/Artifact/Manifest.h"

#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/StringMap.h"

namespace kvc {

/// The kernels of one target.
class KernelSharing {
public:
  /// `manifest` has the model, the stores and this target's kernels as
  /// describeKernels() gives them.
  explicit KernelSharing(artifact::Manifest manifest)
      : all(std::move(manifest)) {}

  /// At the tile level: takes stores whose kernels are those of a store before
  /// them out of the module, kernels and all, with a remark. Fails, with an
  /// error on the module, if a key hides a difference.
  mlir::LogicalResult shareStores(mlir::ModuleOp module);
  /// The kernels that are left to compile.
  std::vector<artifact::KernelInfo> distinct() const;
  /// Of functions: gives each the symbol with its kernel's key, which `kernels`
  /// get as well, now that all of a kernel is known. A function whose symbol is
  /// there already goes, and its kernel with it. Fails, with an error on the
  /// function, if a key hides a difference.
  mlir::LogicalResult bind(mlir::ModuleOp module,
                           std::vector<artifact::KernelInfo> &kernels);
  /// All kernels of the target, from those that were compiled.
  std::vector<artifact::KernelInfo>
  expand(llvm::ArrayRef<artifact::KernelInfo> compiled) const;

private:
  artifact::Manifest all;
  llvm::StringMap<std::string> sameAs; ///< kernel by kernel, by name
};

} // namespace kvc

#endif // KVC_LIB_DRIVER_COMPILER_SHARING_H
