//===- OperandSource.h - what products multiply -----------------*- C++ -*-===//
//
// An operand source is how codes of one stream become what a product of a loop
// multiplies: what a row of codes is loaded as, which instruction multiplies it
// with what, how q or the probabilities are prepared for that, and in which
// order elements come out. The loops (DirectMainloop, PackedMainloop) know no
// type of codes. Each loop has a source for K and one for V, taken from a list
// of OperandSources.def when the kernel is lowered.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_CODEGEN_CPU_OPERANDS_OPERANDSOURCE_H
#define KVC_CODEGEN_CPU_OPERANDS_OPERANDSOURCE_H

#include "codegen/cpu/Attend.h"

#include <memory>

namespace kvc::cpu {

/// What a source is chosen by.
struct Operand {
  mlir::Type code;  ///< a cached element
  mlir::Type dtype; ///< of the model
  TargetAttr target;
  bool dot;           ///< the schedule's: products of what is not f32
  int64_t tileTokens; ///< tokens of a tile

  /// K or V of an attend kernel.
  static Operand of(AttendKernel &kernel, const ChannelPlan &plan) {
    return {plan.code, kernel.k.dtype, kernel.k.target(), kernel.schedule.dot,
            kernel.tileTokens};
  }
};

/// One source that a loop can take.
template <class Source> struct OperandSource {
  /// Whether the source can multiply `operand`.
  bool (*fits)(const Operand &operand);
  std::unique_ptr<Source> (*make)(typename Source::Blocks &blocks);
};

/// The registration of `T`, which has a static fits().
template <class Source, class T>
constexpr OperandSource<Source> operandSource() {
  return {&T::fits,
          [](typename Source::Blocks &blocks) -> std::unique_ptr<Source> {
            return std::make_unique<T>(blocks);
          }};
}

class DirectBlocks;
class DirectKeys;
class DirectValues;
class PackedBlocks;
class PackedKeys;
class PackedValues;

#define KVC_OPERAND_SOURCE(Product, name)                                      \
  extern const OperandSource<Product> name;
#include "codegen/cpu/operands/OperandSources.def"

/// The first source of a product's list that fits.
std::unique_ptr<DirectKeys> chooseDirectKeys(DirectBlocks &blocks);
std::unique_ptr<DirectValues> chooseDirectValues(DirectBlocks &blocks);
std::unique_ptr<PackedKeys> choosePackedKeys(PackedBlocks &blocks);
std::unique_ptr<PackedValues> choosePackedValues(PackedBlocks &blocks);

} // namespace kvc::cpu

#endif // KVC_CODEGEN_CPU_OPERANDS_OPERANDSOURCE_H
