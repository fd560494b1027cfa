//===- Targets.cpp - the GPU architectures and what planning asks of them -===//
#include "codegen/nvptx/Backend.h"

using namespace mlir;
using namespace kvc;
using namespace kvc::nvptx;

const std::vector<SmTarget> &kvc::nvptx::smTargets() {
  static const std::vector<SmTarget> targets = {
#define KVC_SM(NAME, VERSION, PTX, SHARED_SM, SHARED_CTA, SMS, THREADS, CTAS)  \
  {NAME, VERSION, PTX, SHARED_SM, SHARED_CTA, SMS, THREADS, CTAS},
#include "codegen/nvptx/SmTable.def"
#undef KVC_SM
  };
  return targets;
}

std::optional<SmTarget> kvc::nvptx::findSmTarget(StringRef name) {
  for (const SmTarget &target : smTargets())
    if (name == target.name)
      return target;
  return std::nullopt;
}

TargetAttr kvc::nvptx::targetAttr(MLIRContext *context,
                                  const SmTarget &target) {
  // Products of f16 take int8 as well, exactly and after three instructions for
  // four codes.
  SmallVector<Type> dot{BFloat16Type::get(context), Float16Type::get(context),
                        IntegerType::get(context, 8)};
  return TargetAttr::get(context, target.name, /*lanes=*/32, /*registers=*/255,
                         dot, /*matrix=*/{}, target.sharedPerCta);
}
