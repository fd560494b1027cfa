//===- KitModule.h - kernels that tests write with the kit ------*- C++ -*-===//
#ifndef KVC_TEST_UNIT_NVPTX_KITMODULE_H
#define KVC_TEST_UNIT_NVPTX_KITMODULE_H

#include "codegen/nvptx/Backend.h"
#include "codegen/nvptx/Kit.h"

#include "mlir/Dialect/ControlFlow/IR/ControlFlow.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/Verifier.h"

#include "gtest/gtest.h"

namespace kvc::nvptx {

/// What a kernel gets.
struct KitParams {
  void *memory; ///< global
  int64_t number;
};

/// A module of kernels on KitParams, and the errors that it meets.
class KitModule {
public:
  KitModule()
      : context(mlir::MLIRContext::Threading::DISABLED),
        handler(&context, [&](mlir::Diagnostic &diagnostic) {
          errors += errors.empty() ? "" : "\n";
          errors += diagnostic.str();
          for (mlir::Diagnostic &note : diagnostic.getNotes())
            errors += "\n" + note.str();
        }) {
    context.loadDialect<mlir::arith::ArithDialect, mlir::LLVM::LLVMDialect,
                        mlir::scf::SCFDialect, mlir::vector::VectorDialect,
                        mlir::cf::ControlFlowDialect>();
    context.printOpOnDiagnostic(false);
    module = mlir::ModuleOp::create(mlir::UnknownLoc::get(&context));
  }

  /// `body` gets the two parameters as values.
  using Body = llvm::function_ref<void(Kit &kit, mlir::Value memory,
                                       mlir::Value number)>;
  void kernel(llvm::StringRef name, Body body, LaunchInfo launch = {32, 0}) {
    using namespace mlir;
    OpBuilder b = OpBuilder::atBlockEnd(module->getBody());
    Location loc = b.getUnknownLoc();
    auto type =
        LLVM::LLVMFunctionType::get(LLVM::LLVMVoidType::get(&context),
                                    {LLVM::LLVMPointerType::get(&context)});
    auto function = LLVM::LLVMFuncOp::create(b, loc, symbolName(name), type);
    function.setArgAttr(0, "llvm.byval",
                        TypeAttr::get(LLVM::LLVMArrayType::get(
                            b.getI8Type(), sizeof(KitParams))));
    function.setArgAttr(0, "llvm.align", b.getI64IntegerAttr(8));
    function->setAttr("kvc.kernel", b.getStringAttr(name));
    b.setInsertionPointToStart(function.addEntryBlock(b));
    Kit kit(b, loc);
    Value params = function.getArgument(0);
    body(kit, kit.loadReadOnly(kit.global(), params, 8),
         kit.loadReadOnly(b.getI64Type(),
                          kit.ptr(params, offsetof(KitParams, number)), 8));
    LLVM::ReturnOp::create(b, loc, ValueRange());
    launches[name] = launch;
  }

  /// To the LLVM dialect.
  void lower() {
    ASSERT_TRUE(succeeded(mlir::verify(*module))) << errors;
    ASSERT_TRUE(succeeded(lowerGpuToLlvm(*module))) << errors;
  }

  mlir::MLIRContext context;
  std::string errors; ///< with their notes, one a line
  mlir::ScopedDiagnosticHandler handler;
  mlir::OwningOpRef<mlir::ModuleOp> module;
  LaunchInfos launches;
};

} // namespace kvc::nvptx

#endif // KVC_TEST_UNIT_NVPTX_KITMODULE_H
