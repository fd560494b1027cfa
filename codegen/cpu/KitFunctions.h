//===- KitFunctions.h - functions of scores on vectors ----------*- C++ -*-===//
#ifndef KVC_CODEGEN_CPU_KITFUNCTIONS_H
#define KVC_CODEGEN_CPU_KITFUNCTIONS_H

#include "codegen/ScoreRegion.h"
#include "codegen/cpu/Kernel.h"

namespace kvc::cpu {

/// Functions of scores on vectors, by the kit or as polynomials.
class KitFunctions : public ScoreFunctions {
public:
  /// `sequence` (i64) is whose constants are read, of those that each has.
  explicit KitFunctions(Kernel &kernel, mlir::Value sequence = {})
      : k(kernel), kit(kernel.kit), sequence(sequence) {}
  /// The kit's exp2 takes what a softmax gives it, little above 0: half of x,
  /// cut where the result is 0 or infinite anyway, squared.
  mlir::Value exp2(mlir::Value x) override;
  mlir::Value log2(mlir::Value x) override;
  mlir::Value tanh(mlir::Value x) override { return kit.tanh(x); }
  /// Lane by lane: an index is a head, mostly, and all loads leave the loop.
  mlir::Value element(ConstantOp constant, mlir::Value index) override;
  std::pair<mlir::Value, mlir::Value>
  range(ConstantOp constant, mlir::Value first, mlir::Value last) override;

private:
  /// The element at `index` (i32) of the values from `base` on.
  mlir::Value load(mlir::Type type, mlir::Value base, mlir::Value index);
  mlir::Value baseOf(ConstantOp constant);

  Kernel &k;
  Kit &kit;
  mlir::Value sequence;
};

} // namespace kvc::cpu

#endif // KVC_CODEGEN_CPU_KITFUNCTIONS_H
