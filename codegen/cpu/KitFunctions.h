//===- KitFunctions.h - functions of scores on vectors ----------*- C++ -*-===//
#ifndef KVC_CODEGEN_CPU_KITFUNCTIONS_H
#define KVC_CODEGEN_CPU_KITFUNCTIONS_H

#include "codegen/ScoreRegion.h"
#include "codegen/cpu/Kernel.h"

namespace kvc::cpu {

/// Functions of scores on vectors, by the kit or as polynomials.
class KitFunctions : public ScoreFunctions {
public:
  explicit KitFunctions(Kernel &kernel) : k(kernel), kit(kernel.kit) {}
  /// The kit's exp2 takes what a softmax gives it, little above 0: half of x,
  /// cut where the result is 0 or infinite anyway, squared.
  mlir::Value exp2(mlir::Value x) override;
  mlir::Value log2(mlir::Value x) override;
  mlir::Value tanh(mlir::Value x) override { return kit.tanh(x); }
  /// Lane by lane: an index is a head, mostly, and all loads leave the loop.
  mlir::Value element(llvm::StringRef constant, mlir::Value index) override;

private:
  Kernel &k;
  Kit &kit;
};

} // namespace kvc::cpu

#endif // KVC_CODEGEN_CPU_KITFUNCTIONS_H
