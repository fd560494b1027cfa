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
    "::kvc::KvcDialect", "::mlir::arith::ArithDialect",
    "::mlir::cf::ControlFlowDialect", "::mlir::func::FuncDialect",
    "::mlir::LLVM::LLVMDialect", "::mlir::math::MathDialect",
    "::mlir::scf::SCFDialect", "::mlir::vector::VectorDialect",
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
    "::kvc::KvcDialect", "::mlir::arith::ArithDialect",
    "::mlir::cf::ControlFlowDialect", "::mlir::func::FuncDialect",
    "::mlir::LLVM::LLVMDialect", "::mlir::math::MathDialect",
    "::mlir::scf::SCFDialect", "::mlir::vector::VectorDialect",
  ];
  let options = [
    Option<"target", "target", "std::string", "\"sm_90\"",
      "a GPU architecture, as `kvc targets` lists them">,
  ];
}

def CpuToLlvm : Pass<"kvc-cpu-to-llvm", "::mlir::ModuleOp"> {
  let summary = "what kvc-lower-to-cpu gives becomes the LLVM dialect";
  let description = [{
    tanh and log2 become polynomials: a kernel calls nothing.
  }];
  let dependentDialects = [
    "::mlir::arith::ArithDialect", "::mlir::cf::ControlFlowDialect",
    "::mlir::LLVM::LLVMDialect", "::mlir::vector::VectorDialect",
  ];
}

def VerifyUniform : Pass<"kvc-verify-uniform", "::mlir::ModuleOp"> {
  let summary = "refuses what lanes do together where they may part";
  let description = [{
    Of what kvc-lower-to-gpu gives: barriers, shuffles, products of tensor cores
    and copies that all lanes of a warp, or all warps of a CTA, must reach.
    Changes nothing.
  }];
}

def GpuToLlvm : Pass<"kvc-gpu-to-llvm", "::mlir::ModuleOp"> {
  let summary = "what kvc-lower-to-gpu gives becomes the LLVM dialect";
  let description = [{
    PTX instructions stay inline assembly with their name in `kvc.op`.
  }];
  let dependentDialects = [
    "::mlir::cf::ControlFlowDialect", "::mlir::LLVM::LLVMDialect",
  ];
}

def GpuToSim : Pass<"kvc-gpu-to-sim", "::mlir::ModuleOp"> {
  let summary = "kernels for the emulator of lib/base/Simt";
  let description = [{
    Each PTX instruction, and each access to memory, becomes a call of the
    function of its name, told by an index where in the backend it was written.
    After kvc-gpu-to-llvm.
  }];
  let dependentDialects = ["::mlir::LLVM::LLVMDialect"];
}

#endif // KVC_CODEGEN_PASSES
