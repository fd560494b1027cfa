//===- OperandSources.cpp - the first that fits ---------------------------===//
#include "codegen/cpu/operands/DirectSources.h"
#include "codegen/cpu/operands/PackedSources.h"

using namespace kvc;
using namespace kvc::cpu;

template <class Source>
static std::unique_ptr<Source> choose(typename Source::Blocks &blocks,
                                      const ChannelPlan &plan) {
  Operand operand = Operand::of(blocks.a, plan);
  std::unique_ptr<Source> chosen;
  auto offer = [&]<class Product>(const OperandSource<Product> &source) {
    if constexpr (std::is_same_v<Product, Source>)
      if (!chosen && source.fits(operand))
        chosen = source.make(blocks);
  };
#define KVC_OPERAND_SOURCE(Product, name) offer(name);
#include "codegen/cpu/operands/OperandSources.def"
  return chosen;
}

std::unique_ptr<DirectKeys> kvc::cpu::chooseDirectKeys(DirectBlocks &blocks) {
  return choose<DirectKeys>(blocks, blocks.a.planK);
}

std::unique_ptr<DirectValues>
kvc::cpu::chooseDirectValues(DirectBlocks &blocks) {
  return choose<DirectValues>(blocks, blocks.a.planV);
}

std::unique_ptr<PackedKeys> kvc::cpu::choosePackedKeys(PackedBlocks &blocks) {
  return choose<PackedKeys>(blocks, blocks.a.planK);
}

std::unique_ptr<PackedValues>
kvc::cpu::choosePackedValues(PackedBlocks &blocks) {
  return choose<PackedValues>(blocks, blocks.a.planV);
}
