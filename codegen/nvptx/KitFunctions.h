//===- KitFunctions.h - functions of scores in a thread ---------*- C++ -*-===//
#ifndef KVC_CODEGEN_NVPTX_KITFUNCTIONS_H
#define KVC_CODEGEN_NVPTX_KITFUNCTIONS_H

#include "codegen/ScoreRegion.h"
#include "codegen/nvptx/Kernel.h"

namespace kvc::nvptx {

/// By the machine's own; with `near` for tanh of |x| <= Kit::kTanhNear alone.
class KitFunctions : public ScoreFunctions {
public:
  explicit KitFunctions(Kernel &kernel, bool near = false)
      : k(kernel), kit(kernel.kit), near(near) {}
  mlir::Value exp2(mlir::Value x) override { return kit.ex2(x); }
  mlir::Value log2(mlir::Value x) override { return kit.lg2(x); }
  mlir::Value tanh(mlir::Value x) override {
    return near ? kit.tanhNear(x) : kit.tanh(x);
  }

  mlir::Value element(llvm::StringRef constant, mlir::Value index) override {
    mlir::Value at = kit.mul(kit.extI64(index), 4);
    return kit.loadReadOnly(
        kit.f32(), kit.ptr(k.paramPtr(Word::ConstantValues, constant), at), 4);
  }

private:
  Kernel &k;
  Kit &kit;
  bool near;
};

} // namespace kvc::nvptx

#endif // KVC_CODEGEN_NVPTX_KITFUNCTIONS_H
