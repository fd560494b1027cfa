//===- KernelModule.h - the IR of a drawn kernel ----------------*- C++ -*-===//
#ifndef KVC_TEST_UNIT_TILE_KERNELMODULE_H
#define KVC_TEST_UNIT_TILE_KERNELMODULE_H

#include "test/unit/Tile/RandomKernel.h"

#include "mlir/IR/BuiltinOps.h"

namespace kvc::fuzz {

/// The ops by what they do, so that a change of their names is one here.
using LoadOp = tile::LoadOp;
using ConvertOp = tile::ConvertOp;
using ScaleOp = tile::ScaleOp;
using QuantizeOp = tile::QuantizeOp;
using ForSplitsOp = tile::ForSplitsOp;

/// A module of the kernel, `s.kernel`, and its store `s`. `schedule` is null
/// unless it attends.
mlir::OwningOpRef<mlir::ModuleOp> buildModule(const Kernel &kernel,
                                              TargetAttr target,
                                              ScheduleAttrInterface schedule);

/// What a gather kernel does with the row `token`.
void buildGathered(const Kernel &kernel, mlir::OpBuilder &b, CacheType cache,
                   mlir::Value token);

tile::KernelOp kernelOf(mlir::ModuleOp module);
StoreOp storeOf(mlir::ModuleOp module);

/// A bug to plant in a kernel.
struct Plant {
  const char *name;
  /// Makes the change in a copy; false where the kernel has no such place, or
  /// where the change would be none.
  bool (*apply)(tile::KernelOp kernel);
};
llvm::ArrayRef<Plant> plants();

} // namespace kvc::fuzz

#endif // KVC_TEST_UNIT_TILE_KERNELMODULE_H
