//===- Lower.cpp - tile.kernel -> function -> LLVM dialect ----------------===//
#include "codegen/cpu/Backend.h"
#include "codegen/cpu/Kernel.h"
#include "dialect/tile/Graph.h"

#include "lib/base/Artifact/KernelAbi.h"

#include "mlir/Conversion/ArithToLLVM/ArithToLLVM.h"
#include "mlir/Conversion/ControlFlowToLLVM/ControlFlowToLLVM.h"
#include "mlir/Conversion/FuncToLLVM/ConvertFuncToLLVM.h"
#include "mlir/Conversion/LLVMCommon/ConversionTarget.h"
#include "mlir/Conversion/LLVMCommon/TypeConverter.h"
#include "mlir/Conversion/MathToLLVM/MathToLLVM.h"
#include "mlir/Conversion/SCFToControlFlow/SCFToControlFlow.h"
#include "mlir/Conversion/VectorToLLVM/ConvertVectorToLLVM.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlow.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Math/Transforms/Passes.h"
#include "mlir/Transforms/DialectConversion.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"

using namespace mlir;
using namespace kvc;
using namespace kvc::cpu;

std::string kvc::cpu::symbolName(StringRef kernel) {
  std::string name = "kvc_" + kernel.str();
  for (char &c : name)
    if (!llvm::isAlnum(c))
      c = '_';
  return name;
}

static LogicalResult lowerKernel(tile::KernelOp op, const CpuTarget &target,
                                 KernelNeedsMap &needs) {
  if (failed(tile::checkLowered(op)) ||
      (op.getKind() == "append" && failed(tile::checkAttentionStreams(op))))
    return failure();
  auto store =
      SymbolTable::lookupNearestSymbolFrom<StoreOp>(op, op.getStoreAttr());
  OpBuilder b(op);
  Location loc = op.getLoc();
  Type ptr = LLVM::LLVMPointerType::get(b.getContext());
  auto function = func::FuncOp::create(b, loc, symbolName(op.getSymName()),
                                       b.getFunctionType({ptr, ptr}, {}));
  // A loop that clears memory must not become a call of memset.
  function->setAttr("passthrough",
                    b.getArrayAttr({b.getStringAttr("no-builtins")}));
  for (unsigned i : {0u, 1u})
    function.setArgAttr(i, "llvm.noalias", b.getUnitAttr());
  b.setInsertionPointToStart(function.addEntryBlock());
  Kit kit(b, loc, target.lanes);
  Kernel kernel(op, store, kit);
  kernel.args = function.getArgument(0);
  kernel.workTile = function.getArgument(1);
  kernel.scratchBase =
      kit.loadPtr(kernel.workTile, offsetof(KvcWorkTile, scratch));
  StringRef kind = op.getKind();
  LogicalResult result = kind == "attend"   ? emitAttend(kernel)
                         : kind == "merge"  ? emitMerge(kernel)
                         : kind == "gather" ? emitGather(kernel)
                                            : emitAppend(kernel);
  if (failed(result))
    return failure();
  func::ReturnOp::create(b, loc);
  if (kernel.params.bytes() > artifact::kMaxParamBytes)
    return op.emitError("`")
           << op.getSymName() << "` needs a parameter block of "
           << kernel.params.bytes() << " bytes, and takes at most "
           << artifact::kMaxParamBytes;
  needs[op.getSymName()] = {uint64_t(kernel.scratch.bytes()),
                            std::move(kernel.params)};
  op.erase();
  return success();
}

LogicalResult kvc::cpu::lowerTileToCpu(ModuleOp module, const CpuTarget &target,
                                       KernelNeedsMap &needs) {
  module.getContext()
      ->loadDialect<arith::ArithDialect, func::FuncDialect, LLVM::LLVMDialect,
                    math::MathDialect, scf::SCFDialect, vector::VectorDialect,
                    cf::ControlFlowDialect>();
  for (auto op : llvm::make_early_inc_range(module.getOps<tile::KernelOp>()))
    if (failed(lowerKernel(op, target, needs)))
      return failure();
  // The stores have said all they know.
  for (auto store : llvm::make_early_inc_range(module.getOps<StoreOp>()))
    store.erase();
  return success();
}

LogicalResult kvc::cpu::lowerCpuToLlvm(ModuleOp module) {
  MLIRContext *context = module.getContext();
  {
    // tanh and log2 as polynomials: nothing may call a library.
    RewritePatternSet patterns(context);
    populateMathPolynomialApproximationPatterns(patterns);
    bool any = false;
    module.walk([&](Operation *op) {
      any |= isa_and_nonnull<math::MathDialect>(op->getDialect());
    });
    if (any && failed(applyPatternsGreedily(module, std::move(patterns))))
      return failure();
  }
  LLVMTypeConverter converter(context);
  RewritePatternSet patterns(context);
  populateSCFToControlFlowConversionPatterns(patterns);
  cf::populateControlFlowToLLVMConversionPatterns(converter, patterns);
  arith::populateArithToLLVMConversionPatterns(converter, patterns);
  populateVectorToLLVMConversionPatterns(converter, patterns);
  populateMathToLLVMConversionPatterns(converter, patterns);
  populateFuncToLLVMConversionPatterns(converter, patterns);
  mlir::LLVMConversionTarget target(*context);
  target.addLegalOp<ModuleOp>();
  return applyFullConversion(module, target, std::move(patterns));
}
