//===- Lower.cpp - tile.kernel -> function on a parameter block -----------===//
#include "codegen/nvptx/Backend.h"
#include "codegen/nvptx/Kernel.h"
#include "dialect/tile/Graph.h"

#include "mlir/Dialect/ControlFlow/IR/ControlFlow.h"

#include "llvm/ADT/MapVector.h"

using namespace mlir;
using namespace kvc;
using namespace kvc::nvptx;

std::string kvc::nvptx::symbolName(StringRef kernel) {
  std::string name = "kvc_" + kernel.str();
  for (char &c : name)
    if (!llvm::isAlnum(c))
      c = '_';
  return name;
}

/// An empty kernel whose one parameter is a block, by value: finish() says of
/// how many bytes.
static LLVM::LLVMFuncOp createFunction(OpBuilder &b, Location loc,
                                       StringRef kernel) {
  MLIRContext *context = b.getContext();
  auto type = LLVM::LLVMFunctionType::get(
      LLVM::LLVMVoidType::get(context), {LLVM::LLVMPointerType::get(context)});
  auto function = LLVM::LLVMFuncOp::create(b, loc, symbolName(kernel), type);
  function.setArgAttr(0, "llvm.align", b.getI64IntegerAttr(8));
  // A loop that clears memory must not become a call of memset.
  function->setAttr("passthrough",
                    b.getArrayAttr({b.getStringAttr("no-builtins")}));
  function->setAttr("kvc.kernel", b.getStringAttr(kernel));
  b.setInsertionPointToStart(function.addEntryBlock(b));
  return function;
}

/// Ends the body of a kernel, which has asked for all that it needs. Fails,
/// with an error at `op`, if that is more than a block holds.
static LogicalResult finish(Operation *op, LLVM::LLVMFuncOp function,
                            Kernel &kernel, StringRef name, LaunchInfo launch,
                            LaunchInfos &launches) {
  OpBuilder &b = kernel.kit.b;
  LLVM::ReturnOp::create(b, op->getLoc(), ValueRange());
  uint32_t bytes = kernel.block.bytes();
  if (bytes > artifact::kMaxParamBytes)
    return op->emitError("`")
           << name << "` needs a parameter block of " << bytes
           << " bytes, and a GPU takes " << artifact::kMaxParamBytes;
  auto words = LLVM::LLVMArrayType::get(b.getI8Type(),
                                        std::max(bytes, artifact::kWordBytes));
  function.setArgAttr(0, "llvm.byval", TypeAttr::get(words));
  launch.shared = kernel.shared.bytes();
  launch.params = std::move(kernel.block);
  launches[name] = std::move(launch);
  return success();
}

static LogicalResult lowerKernel(tile::KernelOp op, const SmTarget &target,
                                 LaunchInfos &launches) {
  if (failed(tile::checkLowered(op)) ||
      (op.getKind() == "append" && failed(tile::checkAttentionStreams(op))))
    return failure();
  auto store =
      SymbolTable::lookupNearestSymbolFrom<StoreOp>(op, op.getStoreAttr());
  StringRef kind = op.getKind();
  OpBuilder b(op);
  Location loc = op.getLoc();
  auto function = createFunction(b, loc, op.getSymName());
  Kit kit(b, loc);
  Kernel kernel(op, store, target, kit, function.getArgument(0));
  LaunchInfo launch;
  LogicalResult result = kind == "attend"   ? emitAttend(kernel, launch)
                         : kind == "merge"  ? emitMerge(kernel, launch)
                         : kind == "gather" ? emitGather(kernel, launch)
                                            : emitAppend(kernel, launch);
  if (failed(result) ||
      failed(finish(op, function, kernel, op.getSymName(), launch, launches)))
    return failure();
  op.erase();
  return success();
}

static LogicalResult emitStorePlan(StoreOp store,
                                   ArrayRef<PlanVariant> variants,
                                   const SmTarget &target,
                                   LaunchInfos &launches) {
  if (variants.size() > artifact::kMaxAttends)
    return store.emitError("the GPU target plans at most ")
           << artifact::kMaxAttends << " attend kernels of a store, found "
           << variants.size();
  OpBuilder b(store);
  Location loc = store.getLoc();
  std::string name = (store.getSymName() + ".plan").str();
  auto function = createFunction(b, loc, name);
  Kit kit(b, loc);
  Kernel kernel(nullptr, store, target, kit, function.getArgument(0));
  LaunchInfo launch;
  emitPlan(kernel, variants, launch);
  return finish(store, function, kernel, name, launch, launches);
}

LogicalResult kvc::nvptx::lowerTileToGpu(ModuleOp module,
                                         const SmTarget &target,
                                         LaunchInfos &launch) {
  module.getContext()
      ->loadDialect<arith::ArithDialect, LLVM::LLVMDialect, scf::SCFDialect,
                    vector::VectorDialect, cf::ControlFlowDialect>();
  llvm::MapVector<StoreOp, SmallVector<PlanVariant>> stores;
  llvm::StringMap<int64_t> nextQueries;
  for (auto op : llvm::make_early_inc_range(module.getOps<tile::KernelOp>())) {
    if (op.getKind() == "attend") {
      auto store =
          SymbolTable::lookupNearestSymbolFrom<StoreOp>(op, op.getStoreAttr());
      ScheduleAttrInterface schedule = *op.getSchedule();
      // Each kernel begins where the one before it ends.
      int64_t &next = nextQueries.try_emplace(op.getStore(), 1).first->second;
      stores[store].push_back({next, schedule.getRows(), schedule.getSplit()});
      next += schedule.getQueries();
    }
    if (failed(lowerKernel(op, target, launch)))
      return failure();
  }
  for (auto &[store, variants] : stores)
    if (failed(emitStorePlan(store, variants, target, launch)))
      return failure();
  // The stores have said all they know.
  for (auto store : llvm::make_early_inc_range(module.getOps<StoreOp>()))
    store.erase();
  return success();
}
