//===- Passes.td - tile -> a target's level ----------------*- tablegen -*-===//
#ifndef KVC_CODEGEN_PASSES
#define KVC_CODEGEN_PASSES

include "mlir/Pass/PassBase.td"

def LowerToCpu : Pass<"kvc-lower-to-cpu", "::mlir::ModuleOp"> {
  let summary = "each tile.kernel becomes a function of vectors and loops";
  let description = [{
    `kvc.target` of the module becomes the target's; stores go, once their
    kernels have their code.
  }];
  let dependentDialects = [
    "::mlir::arith::ArithDialect", "::mlir::cf::ControlFlowDialect",
    "::mlir::func::FuncDialect", "::mlir::LLVM::LLVMDialect",
    "::mlir::math::MathDialect", "::mlir::scf::SCFDialect",
    "::mlir::vector::VectorDialect",
  ];
  let options = [
    Option<"target", "target", "std::string", "\"x86-64-v4\"",
      "a CPU level, as `kvc targets` lists them">,
  ];
}

def LowerToGpu : Pass<"kvc-lower-to-gpu", "::mlir::ModuleOp"> {
  let summary = "each tile.kernel becomes a function of threads";
  let description = [{
    Adds the plan kernel of each store that attends. PTX instructions that LLVM
    has no op for are calls of functions named by lib/base/Simt/Ops.def.
  }];
  let dependentDialects = [
    "::mlir::arith::ArithDialect", "::mlir::cf::ControlFlowDialect",
    "::mlir::func::FuncDialect", "::mlir::LLVM::LLVMDialect",
    "::mlir::math::MathDialect", "::mlir::scf::SCFDialect",
    "::mlir::vector::VectorDialect",
  ];
  let options = [
    Option<"target", "target", "std::string", "\"sm_90\"",
      "a GPU architecture, as `kvc targets` lists them">,
  ];
}

#endif // KVC_CODEGEN_PASSES
