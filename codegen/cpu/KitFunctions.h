//===- KitFunctions.h - functions of scores on vectors ----------*- C++ -*-===//
#ifndef KVC_CODEGEN_CPU_KITFUNCTIONS_H
#define KVC_CODEGEN_CPU_KITFUNCTIONS_H

#include "codegen/ScoreRegion.h"
#include "codegen/cpu/Kit.h"

#include "mlir/Dialect/Math/IR/Math.h"

namespace kvc::cpu {

/// Functions of scores on vectors, by the kit or as polynomials.
class KitFunctions : public ScoreFunctions {
public:
  explicit KitFunctions(Kit &kit) : kit(kit) {}
  /// The kit's exp2 takes what a softmax gives it, little above 0: half of x,
  /// cut where the result is 0 or infinite anyway, squared.
  mlir::Value exp2(mlir::Value x) override {
    auto f = [&](double value) { return kit.constant(value, x.getType()); };
    mlir::Value cut = mlir::arith::MinimumFOp::create(
        kit.b, kit.loc, kit.fmaxKeepNaN(f(-300), x), f(260));
    mlir::Value root = kit.exp2(kit.fmul(cut, f(0.5)));
    return kit.fmul(root, root);
  }
  mlir::Value log2(mlir::Value x) override {
    return mlir::math::Log2Op::create(kit.b, kit.loc, x);
  }
  mlir::Value tanh(mlir::Value x) override { return kit.tanh(x); }

private:
  Kit &kit;
};

} // namespace kvc::cpu

#endif // KVC_CODEGEN_CPU_KITFUNCTIONS_H
