//===- OperandSources.cpp - the first that fits ---------------------------===//
#include "codegen/cpu/operands/DirectSources.h"
#include "codegen/cpu/operands/PackedSources.h"

using namespace kvc;
using namespace kvc::cpu;

template <class Source>
const OperandSource<Source> &kvc::cpu::chooseSource(const Operand &operand) {
  const OperandSource<Source> *chosen = nullptr;
  auto offer = [&]<class Product>(const OperandSource<Product> &source) {
    if constexpr (std::is_same_v<Product, Source>)
      if (!chosen && source.fits(operand))
        chosen = &source;
  };
#define KVC_OPERAND_SOURCE(Product, name) offer(name);
#include "codegen/cpu/operands/OperandSources.def"
  return *chosen;
}

template const OperandSource<DirectKeys> &
kvc::cpu::chooseSource(const Operand &);
template const OperandSource<DirectValues> &
kvc::cpu::chooseSource(const Operand &);
template const OperandSource<PackedKeys> &
kvc::cpu::chooseSource(const Operand &);
template const OperandSource<PackedValues> &
kvc::cpu::chooseSource(const Operand &);
