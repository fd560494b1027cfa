//===- Pipeline.cpp - the whole way from kvc to tile, in order ------------===//
#include "passes/Pipeline.h"
#include "passes/Passes.h"

#include "mlir/Pass/PassRegistry.h"
#include "mlir/Transforms/Passes.h"

namespace kvc {
#define GEN_PASS_REGISTRATION
#include "passes/Passes.h.inc"
} // namespace kvc

void kvc::buildTilePipeline(mlir::OpPassManager &pm,
                            const std::vector<std::string> &overrides) {
  // kvc --> kvc: what queries see at most.
  pm.addPass(createInferReads());
  // kvc --> kvc: which kernels there are and how each will run.
  PlanScheduleOptions schedule;
  schedule.overrides.assign(overrides.begin(), overrides.end());
  pm.addPass(createPlanSchedule(schedule));
  // kvc --> tile: one kernel per op, a loop over tiles of tokens.
  pm.addPass(createLowerToTile());
  // tile --> tile: a GPU launches no kernel for what a CTA can do at its end.
  pm.addPass(createCombineSplits());
  // tile --> tile: never scale per element what can be folded.
  pm.addPass(createFoldScales());
}

void kvc::registerKvcPasses() {
  registerKvcToTilePasses();
  mlir::PassPipelineRegistration<>(
      "kvc-to-tile", "the whole way from kvc to tile",
      [](mlir::OpPassManager &pm) { buildTilePipeline(pm); });
}
