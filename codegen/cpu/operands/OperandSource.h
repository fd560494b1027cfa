//===- OperandSource.h - what products multiply -----------------*- C++ -*-===//
//
// An operand source is how codes of one stream become what a product of a loop
// multiplies: what a row of codes is loaded as, which instruction multiplies it
// with what, how q or the probabilities are prepared for that, and in which
// order elements come out. The loops (DirectMainloop, PackedMainloop) know no
// type of codes. Each loop has a source for K and one for V, taken from a list
// of OperandSources.def when the kernel is lowered. Schedules ask the same
// lists what a source will cost, before there is a kernel.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_CODEGEN_CPU_OPERANDS_OPERANDSOURCE_H
#define KVC_CODEGEN_CPU_OPERANDS_OPERANDSOURCE_H

#include "codegen/cpu/Attend.h"

#include <memory>

namespace kvc::cpu {

/// What a source is chosen by.
struct Operand {
  /// Of an element as it is multiplied: a code, or f32 where it is decoded.
  mlir::Type code;
  bool isDecoded;
  mlir::Type dtype; ///< of the model
  TargetAttr target;
  bool dot;           ///< the schedule's: products of what is not f32
  int64_t tileTokens; ///< tokens of a tile

  /// K or V of an attend kernel.
  static Operand of(AttendKernel &kernel, const ChannelPlan &plan) {
    return {plan.element,      plan.isDecoded,      kernel.k.dtype,
            kernel.k.target(), kernel.schedule.dot, kernel.tileTokens};
  }
};

/// What sources differ by in a schedule's cost. By default, as f32.
struct OperandCost {
  /// How many products of f32 vectors one of this source's is worth.
  double f32PerProduct = 1;
  /// In the direct loop: instructions from codes in memory to the operand of
  /// one product.
  double instructionsPerOperand = 2;
  /// Operands are in matrix registers, so that none is loaded as a vector.
  bool inMatrixRegisters = false;
};

/// One source that a loop can take.
template <class Source> struct OperandSource {
  /// Whether the source can multiply `operand`.
  bool (*fits)(const Operand &operand);
  /// Of an operand that fits.
  OperandCost (*cost)(const Operand &operand);
  std::unique_ptr<Source> (*make)(typename Source::Blocks &blocks);
};

inline OperandCost costAsF32(const Operand &) { return {}; }

/// The registration of `T`, which has a static fits().
template <class Source, class T>
constexpr OperandSource<Source>
operandSource(OperandCost (*cost)(const Operand &) = costAsF32) {
  return {&T::fits, cost,
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
template <class Source>
const OperandSource<Source> &chooseSource(const Operand &operand);

} // namespace kvc::cpu

#endif // KVC_CODEGEN_CPU_OPERANDS_OPERANDSOURCE_H
