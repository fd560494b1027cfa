//===- CombineSplits.cpp - the last split of a row merges all -------------===//
#include "passes/Passes.h"

#include "mlir/IR/IRMapping.h"

namespace kvc {
#define GEN_PASS_DEF_COMBINESPLITS
#include "passes/Passes.h.inc"
} // namespace kvc

using namespace mlir;
using namespace kvc;

namespace {

struct CombineSplits : kvc::impl::CombineSplitsBase<CombineSplits> {
  void runOnOperation() override {
    ModuleOp module = getOperation();
    auto target = module->getAttrOfType<TargetAttr>("kvc.target");
    if (!target || !target.getShared())
      return;
    llvm::StringMap<tile::KernelOp> merges; // by store
    for (auto kernel : module.getOps<tile::KernelOp>())
      if (kernel.getKind() == "merge")
        merges[kernel.getStore()] = kernel;
    for (auto kernel : module.getOps<tile::KernelOp>())
      if (tile::KernelOp merge = merges.lookup(kernel.getStore());
          merge && kernel.getKind() == "attend")
        for (auto store : kernel.getBody().getOps<tile::StorePartialOp>())
          copy(merge.getBody(), store.getLast());
  }

  static void copy(Region &from, Region &to) {
    IRMapping mapping;
    if (to.empty())
      from.cloneInto(&to, mapping);
  }
};

} // namespace
