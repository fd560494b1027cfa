//===- FeaturesTest.cpp - what levels ask a CPU for -----------------------===//
//
// test/codegen/cpu/needs.test looks at the code; this is why it cannot be
// otherwise: LLVM knows of no feature that the runtime does not ask for.
//
//===----------------------------------------------------------------------===//
#include "lib/driver/Compiler/Compiler.h"
#include "runtime/devices/CpuFeatures.h"

#include "llvm/MC/MCSubtargetInfo.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/TargetParser/Host.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace kvc;
using testing::UnorderedElementsAreArray;

namespace {

class Features : public testing::TestWithParam<CpuTargetInfo> {};

/// What LLVM may use beyond what every x86-64 has, if these are on.
std::vector<std::string> impliedBy(const std::vector<std::string> &features) {
  llvm::InitializeNativeTarget();
  llvm::Triple triple("x86_64-unknown-linux-gnu");
  std::string error;
  const llvm::Target *target =
      llvm::TargetRegistry::lookupTarget(triple, error);
  std::unique_ptr<llvm::MCSubtargetInfo> base(
      target->createMCSubtargetInfo(triple, "x86-64", ""));
  std::unique_ptr<llvm::MCSubtargetInfo> with(target->createMCSubtargetInfo(
      triple, "x86-64", "+" + llvm::join(features, ",+")));
  std::vector<std::string> names;
  for (const llvm::SubtargetFeatureKV &feature :
       with->getAllProcessorFeatures())
    if (with->getFeatureBits()[feature.Value] &&
        !base->getFeatureBits()[feature.Value])
      names.push_back(feature.Key);
  return names;
}

} // namespace

TEST_P(Features, AreAllThatLlvmMayUse) {
  EXPECT_THAT(impliedBy(GetParam().features),
              UnorderedElementsAreArray(GetParam().features));
}

TEST_P(Features, TheRuntimeAsksForEach) {
  llvm::StringMap<bool> host = llvm::sys::getHostCPUFeatures();
  for (const std::string &feature : GetParam().features) {
    EXPECT_TRUE(rt::cpuKnowsFeature(feature)) << feature;
    EXPECT_EQ(rt::cpuHasFeature(feature), host.lookup(feature)) << feature;
  }
}

INSTANTIATE_TEST_SUITE_P(Levels, Features, testing::ValuesIn(cpuTargets()),
                         [](const testing::TestParamInfo<CpuTargetInfo> &info) {
                           std::string name = info.param.name;
                           llvm::replace(name, '-', '_');
                           return name;
                         });
