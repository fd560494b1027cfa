//===- Sim.cpp - LLVM dialect to an emulated kernel -----------------------===//
//
// The module that would become PTX, for the host: an instruction of Ops.def
// becomes a call of the emulator with its operands in memory, an access to
// global memory is checked first. Everything else runs as it is.
//
//===----------------------------------------------------------------------===//
#include "codegen/nvptx/Backend.h"
#include "codegen/nvptx/Kit.h"

#include "lib/base/Simt/SimAbi.h"

#include "mlir/IR/AttrTypeSubElements.h"
#include "llvm/ADT/StringMap.h"

#include <cstddef>

using namespace mlir;
using namespace kvc;
using namespace kvc::nvptx;

namespace {

class SimLowering {
public:
  SimLowering(ModuleOp module, std::vector<std::string> &sites)
      : module(module), sites(sites), b(module.getContext()) {}
  LogicalResult run();

private:
  LogicalResult lowerFunction(LLVM::LLVMFuncOp function);
  LogicalResult lowerOp(Operation *op);
  LogicalResult lowerInstruction(LLVM::InlineAsmOp op);
  void check(Operation *access, Value address, Type type, uint32_t flags);
  Value site(StringRef name, Location loc);
  Value field(Location loc, size_t offset);
  Value constant(Location loc, int64_t value, unsigned bits) {
    Type type = b.getIntegerType(bits);
    return LLVM::ConstantOp::create(b, loc, type,
                                    b.getIntegerAttr(type, value));
  }
  Type ptr() { return LLVM::LLVMPointerType::get(b.getContext()); }

  ModuleOp module;
  std::vector<std::string> &sites;
  llvm::StringMap<uint32_t> known;
  OpBuilder b;
  Value thread;
};

} // namespace

/// "name File.cpp:LINE" of the line that emitted an op.
Value SimLowering::site(StringRef name, Location loc) {
  std::string text = name.str();
  loc->walk([&](Location part) {
    auto line = dyn_cast<FileLineColLoc>(part);
    if (!line)
      return WalkResult::advance();
    text += (" " + line.getFilename().getValue() + ":" +
             std::to_string(line.getLine()))
                .str();
    return WalkResult::interrupt();
  });
  auto [entry, isNew] = known.try_emplace(text, sites.size());
  if (isNew)
    sites.push_back(text);
  return constant(loc, entry->second, 32);
}

Value SimLowering::field(Location loc, size_t offset) {
  return LLVM::GEPOp::create(b, loc, ptr(), b.getI8Type(), thread,
                             ArrayRef<LLVM::GEPArg>{int32_t(offset)});
}

void SimLowering::check(Operation *access, Value address, Type type,
                        uint32_t flags) {
  auto space = cast<LLVM::LLVMPointerType>(address.getType()).getAddressSpace();
  if (space != 1)
    return;
  Location loc = access->getLoc();
  b.setInsertionPoint(access);
  Value function = LLVM::LoadOp::create(
      b, loc, ptr(), field(loc, offsetof(KvcSimThread, access)));
  DataLayout layout(module);
  Value bytes = constant(loc, layout.getTypeSize(type).getFixedValue(), 32);
  Value name = site(flags & KVC_SIM_WRITE ? "store" : "load", loc);
  auto signature =
      LLVM::LLVMFunctionType::get(LLVM::LLVMVoidType::get(b.getContext()),
                                  {ptr(), address.getType(), b.getI32Type(),
                                   b.getI32Type(), b.getI32Type()});
  LLVM::CallOp::create(b, loc, signature,
                       ValueRange{function, thread, address, bytes,
                                  constant(loc, flags, 32), name});
}

LogicalResult SimLowering::lowerInstruction(LLVM::InlineAsmOp op) {
  std::optional<Ptx> ptx = ptxOf(op);
  if (!ptx)
    return op.emitError(
        "assembly that is no row of lib/base/Simt/Ops.def cannot be "
        "emulated");
  Location loc = op.getLoc();
  b.setInsertionPoint(op);
  Type i64 = b.getI64Type();
  for (auto [i, operand] : llvm::enumerate(op.getOperands())) {
    Value slot = field(loc, offsetof(KvcSimThread, in) + 8 * i);
    Value x = operand;
    if (isa<LLVM::LLVMPointerType>(x.getType()))
      x = LLVM::PtrToIntOp::create(b, loc, i64, x);
    LLVM::StoreOp::create(b, loc, x, slot);
  }
  Value function = LLVM::LoadOp::create(b, loc, ptr(),
                                        field(loc, offsetof(KvcSimThread, op)));
  auto signature =
      LLVM::LLVMFunctionType::get(LLVM::LLVMVoidType::get(b.getContext()),
                                  {ptr(), b.getI32Type(), b.getI32Type()});
  LLVM::CallOp::create(b, loc, signature,
                       ValueRange{function, thread,
                                  constant(loc, uint32_t(*ptx), 32),
                                  site(infoOf(*ptx).name, loc)});
  if (op.getNumResults() == 0) {
    op.erase();
    return success();
  }
  auto result = [&](Type type, size_t i) -> Value {
    return LLVM::LoadOp::create(
        b, loc, type, field(loc, offsetof(KvcSimThread, out) + 8 * i));
  };
  Type type = op.getResult(0).getType();
  Value all;
  if (auto parts = dyn_cast<LLVM::LLVMStructType>(type)) {
    all = LLVM::UndefOp::create(b, loc, type);
    for (auto [i, part] : llvm::enumerate(parts.getBody()))
      all = LLVM::InsertValueOp::create(b, loc, all, result(part, i),
                                        ArrayRef<int64_t>{int64_t(i)});
  } else {
    all = result(type, 0);
  }
  op.getResult(0).replaceAllUsesWith(all);
  op.erase();
  return success();
}

LogicalResult SimLowering::lowerOp(Operation *op) {
  if (auto assembly = dyn_cast<LLVM::InlineAsmOp>(op))
    return lowerInstruction(assembly);
  if (auto load = dyn_cast<LLVM::LoadOp>(op))
    check(op, load.getAddr(), load.getResult().getType(), 0);
  else if (auto store = dyn_cast<LLVM::StoreOp>(op))
    check(op, store.getAddr(), store.getValue().getType(), KVC_SIM_WRITE);
  else if (isa<LLVM::CallOp, LLVM::CallIntrinsicOp, LLVM::AtomicRMWOp,
               LLVM::AtomicCmpXchgOp, LLVM::FenceOp>(op))
    return op->emitError("cannot be emulated: it is no row of "
                         "lib/base/Simt/Ops.def");
  return success();
}

LogicalResult SimLowering::lowerFunction(LLVM::LLVMFuncOp function) {
  auto kernel = function->getAttrOfType<StringAttr>("kvc.kernel");
  if (!kernel)
    return success();
  Block &entry = function.getBody().front();
  thread = entry.insertArgument(0u, ptr(), function.getLoc());
  SmallVector<Operation *> ops;
  function.walk([&](Operation *op) { ops.push_back(op); });
  for (Operation *op : ops)
    if (op != function && failed(lowerOp(op)))
      return failure();
  function.setFunctionType(LLVM::LLVMFunctionType::get(
      LLVM::LLVMVoidType::get(b.getContext()), {ptr(), ptr()}));
  function.removeArgAttrsAttr();
  return success();
}

LogicalResult SimLowering::run() {
  for (auto function : module.getOps<LLVM::LLVMFuncOp>())
    if (failed(lowerFunction(function)))
      return failure();
  // The host has one memory.
  AttrTypeReplacer replacer;
  replacer.addReplacement(
      [](LLVM::LLVMPointerType type) -> std::optional<Type> {
        return LLVM::LLVMPointerType::get(type.getContext());
      });
  replacer.recursivelyReplaceElementsIn(module, /*replaceAttrs=*/true,
                                        /*replaceLocs=*/false,
                                        /*replaceTypes=*/true);
  return success();
}

LogicalResult kvc::nvptx::lowerGpuToSim(ModuleOp module,
                                        std::vector<std::string> &sites) {
  return SimLowering(module, sites).run();
}
