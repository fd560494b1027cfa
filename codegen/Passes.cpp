//===- Passes.cpp - the backends' steps as passes -------------------------===//
#include "codegen/Passes.h"
#include "codegen/cpu/Backend.h"
#include "codegen/nvptx/Backend.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlow.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Pass/Pass.h"

namespace kvc {
#define GEN_PASS_DEF_CPUTOLLVM
#define GEN_PASS_DEF_GPUTOLLVM
#define GEN_PASS_DEF_GPUTOSIM
#define GEN_PASS_DEF_LOWERTOCPU
#define GEN_PASS_DEF_LOWERTOGPU
#define GEN_PASS_DEF_VERIFYUNIFORM
#define GEN_PASS_REGISTRATION
#include "codegen/Passes.h.inc"
} // namespace kvc

using namespace mlir;
using namespace kvc;

namespace {

/// Gives the module the facts of a target; fails if there is no such target.
template <typename Target>
LogicalResult setTarget(ModuleOp module, StringRef name,
                        const std::optional<Target> &target) {
  if (!target)
    return module.emitError("no target named `") << name << "`";
  module->setAttr("kvc.target", targetAttr(module.getContext(), *target));
  return success();
}

struct LowerToCpu : kvc::impl::LowerToCpuBase<LowerToCpu> {
  using LowerToCpuBase::LowerToCpuBase;
  void runOnOperation() override {
    auto found = cpu::findCpuTarget(target);
    cpu::KernelNeedsMap needs;
    if (failed(setTarget(getOperation(), target, found)) ||
        failed(cpu::lowerTileToCpu(getOperation(), *found, needs)))
      signalPassFailure();
  }
};

struct LowerToGpu : kvc::impl::LowerToGpuBase<LowerToGpu> {
  using LowerToGpuBase::LowerToGpuBase;
  void runOnOperation() override {
    auto found = nvptx::findSmTarget(target);
    nvptx::LaunchInfos launch;
    if (failed(setTarget(getOperation(), target, found)) ||
        failed(nvptx::lowerTileToGpu(getOperation(), *found, launch)))
      signalPassFailure();
  }
};

/// A step that needs the module alone.
template <typename Base, LogicalResult (*step)(ModuleOp)>
struct ModuleStep : Base {
  using Base::Base;
  void runOnOperation() override {
    if (failed(step(this->getOperation())))
      this->signalPassFailure();
  }
};

LogicalResult gpuToSim(ModuleOp module) {
  std::vector<std::string> sites;
  return nvptx::lowerGpuToSim(module, sites);
}

struct CpuToLlvm
    : ModuleStep<kvc::impl::CpuToLlvmBase<CpuToLlvm>, cpu::lowerCpuToLlvm> {};
struct VerifyUniform : ModuleStep<kvc::impl::VerifyUniformBase<VerifyUniform>,
                                  nvptx::verifyUniform> {};
struct GpuToLlvm
    : ModuleStep<kvc::impl::GpuToLlvmBase<GpuToLlvm>, nvptx::lowerGpuToLlvm> {};
struct GpuToSim : ModuleStep<kvc::impl::GpuToSimBase<GpuToSim>, gpuToSim> {};

} // namespace

void kvc::registerBackendPasses() { registerTileToTargetPasses(); }
