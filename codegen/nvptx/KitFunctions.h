//===- KitFunctions.h - functions of scores in a thread ---------*- C++ -*-===//
#ifndef KVC_CODEGEN_NVPTX_KITFUNCTIONS_H
#define KVC_CODEGEN_NVPTX_KITFUNCTIONS_H

#include "codegen/ScoreRegion.h"
#include "codegen/nvptx/Kernel.h"

namespace kvc::nvptx {

/// By the machine's own; with `near` for tanh of |x| <= Kit::kTanhNear alone.
class KitFunctions : public ScoreFunctions {
public:
  /// `sequence` (i32) is whose constants are read, of those that each has.
  explicit KitFunctions(Kernel &kernel, mlir::Value sequence = {},
                        bool near = false)
      : k(kernel), kit(kernel.kit), sequence(sequence), near(near) {}
  mlir::Value exp2(mlir::Value x) override { return kit.ex2(x); }
  mlir::Value log2(mlir::Value x) override { return kit.lg2(x); }
  mlir::Value tanh(mlir::Value x) override {
    return near ? kit.tanhNear(x) : kit.tanh(x);
  }

  mlir::Value element(ConstantOp constant, mlir::Value index) override;
  /// Of a warp, whose lanes share the elements. All have the same bounds.
  std::pair<mlir::Value, mlir::Value>
  range(ConstantOp constant, mlir::Value first, mlir::Value last) override;

private:
  Kernel &k;
  Kit &kit;
  mlir::Value sequence;
  bool near;
};

} // namespace kvc::nvptx

#endif // KVC_CODEGEN_NVPTX_KITFUNCTIONS_H
