//===- Ptx.cpp - LLVM dialect to PTX --------------------------------------===//
#include "codegen/Optimise.h"
#include "codegen/nvptx/Backend.h"
#include "codegen/nvptx/Kit.h"

#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Target/LLVMIR/Dialect/Builtin/BuiltinToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/LLVMIR/LLVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/NVVM/NVVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Export.h"

#include "llvm/IR/InlineAsm.h"
#include "llvm/IR/InstIterator.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/IR/Module.h"
#include "llvm/IR/OptBisect.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/TargetParser/Triple.h"
#include "llvm/Transforms/InstCombine/InstCombine.h"
#include "llvm/Transforms/Scalar/DCE.h"
#include "llvm/Transforms/Scalar/EarlyCSE.h"
#include "llvm/Transforms/Scalar/LICM.h"
#include "llvm/Transforms/Scalar/LoopPassManager.h"
#include "llvm/Transforms/Utils/ModuleUtils.h"

#include <mutex>

using namespace mlir;
using namespace kvc;
using namespace kvc::nvptx;

/// The dynamic shared memory that every kernel has: the one symbol, which
/// instructions name in their text. A static variable beside it would overlap.
static constexpr const char *kSharedName = "kvc_smem";

/// What a launch must know, and loads of parameters that are no copies.
static void markKernels(ModuleOp module, const LaunchInfos &launches) {
  OpBuilder b(module.getContext());
  for (auto function : module.getOps<LLVM::LLVMFuncOp>()) {
    auto kernel = function->getAttrOfType<StringAttr>("kvc.kernel");
    if (!kernel)
      continue;
    function->setAttr(NVVM::NVVMDialect::getKernelFuncAttrName(),
                      b.getUnitAttr());
    function.setArgAttr(0, NVVM::NVVMDialect::getGridConstantAttrName(),
                        b.getUnitAttr());
    auto launch = launches.find(kernel.getValue());
    if (launch == launches.end())
      continue;
    function->setAttr(
        NVVM::NVVMDialect::getReqntidAttrName(),
        b.getDenseI32ArrayAttr({int32_t(launch->second.threads), 1, 1}));
    if (int64_t registers = launch->second.registers)
      function->setAttr(NVVM::NVVMDialect::getMaxnregAttrName(),
                        b.getI32IntegerAttr(int32_t(registers)));
  }
}

/// The first instruction that this architecture lacks, as an error.
static LogicalResult checkOps(ModuleOp module, const SmTarget &target) {
  WalkResult result = module.walk([&](LLVM::InlineAsmOp op) {
    std::optional<Ptx> ptx = ptxOf(op);
    if (ptx && infoOf(*ptx).minSm <= target.version)
      return WalkResult::advance();
    if (ptx)
      op.emitError("`") << infoOf(*ptx).name << "` needs sm_"
                        << infoOf(*ptx).minSm << ", " << target.name
                        << " has not got it";
    else
      op.emitError("assembly that is no row of lib/base/Simt/Ops.def");
    return WalkResult::interrupt();
  });
  return failure(result.wasInterrupted());
}

static std::unique_ptr<llvm::TargetMachine>
makeMachine(const SmTarget &target) {
  static std::once_flag once;
  std::call_once(once, [] {
    LLVMInitializeNVPTXTargetInfo();
    LLVMInitializeNVPTXTarget();
    LLVMInitializeNVPTXTargetMC();
    LLVMInitializeNVPTXAsmPrinter();
  });
  llvm::Triple triple("nvptx64-nvidia-cuda");
  std::string error;
  const llvm::Target *llvmTarget =
      llvm::TargetRegistry::lookupTarget(triple, error);
  if (!llvmTarget)
    return nullptr;
  llvm::TargetOptions options;
  // What is a multiplication and an addition stays one: results must be those
  // of the emulator.
  options.AllowFPOpFusion = llvm::FPOpFusion::Strict;
  return std::unique_ptr<llvm::TargetMachine>(llvmTarget->createTargetMachine(
      triple, target.name, "+ptx" + std::to_string(target.ptx), options,
      std::nullopt, std::nullopt, llvm::CodeGenOptLevel::Default));
}

/// What stays must not become conditional. Of other assembly LLVM knows only by
/// attributes that it may be shared and hoisted. Not so where a thread is:
/// asking again costs no more than a copy, and one value for the whole kernel
/// makes decode kernels of sm_89 spill.
static void markAssembly(llvm::CallInst &call) {
  auto *assembly = llvm::dyn_cast<llvm::InlineAsm>(call.getCalledOperand());
  if (!assembly)
    return;
  if (assembly->hasSideEffects())
    call.setConvergent();
  else if (call.arg_size())
    call.setDoesNotAccessMemory();
  call.setDoesNotThrow();
}

/// Marks what lanes do together, which no pass may make conditional, and
/// declares the shared memory. False if something is called.
static bool prepare(llvm::Module &module) {
  for (llvm::Function &function : module) {
    if (function.isDeclaration() && !function.isIntrinsic())
      return false;
    function.addFnAttr(llvm::Attribute::Convergent);
    function.addFnAttr(llvm::Attribute::NoUnwind);
    for (llvm::Instruction &instruction : llvm::instructions(function))
      if (auto *call = llvm::dyn_cast<llvm::CallInst>(&instruction))
        markAssembly(*call);
  }
  auto *bytes =
      llvm::ArrayType::get(llvm::Type::getInt8Ty(module.getContext()), 0);
  auto *shared = new llvm::GlobalVariable(
      module, bytes, /*isConstant=*/false, llvm::GlobalValue::ExternalLinkage,
      /*Initializer=*/nullptr, kSharedName, /*InsertBefore=*/nullptr,
      llvm::GlobalValue::NotThreadLocal, /*AddressSpace=*/3);
  shared->setAlignment(llvm::Align(1024));
  return true;
}

/// Kernels are unrolled as they should be. Nothing here may move or repeat what
/// lanes do together.
static llvm::FunctionPassManager passes() {
  llvm::FunctionPassManager list;
  list.addPass(llvm::EarlyCSEPass());
  list.addPass(llvm::InstCombinePass());
  list.addPass(llvm::createFunctionToLoopPassAdaptor(
      llvm::LICMPass(llvm::LICMOptions()), /*UseMemorySSA=*/true));
  list.addPass(llvm::EarlyCSEPass());
  list.addPass(llvm::DCEPass());
  return list;
}

namespace {
/// Leaves out passes of the code generator that take a third of its time and
/// find nothing: the kit spells out how one address follows from another.
class CodegenGate : public llvm::OptPassGate {
public:
  bool isEnabled() const override { return true; }
  bool shouldRunPass(StringRef pass, StringRef) const override {
    return pass != "slsr" && pass != "nary-reassociate";
  }
};
} // namespace

std::string kvc::nvptx::emitPtx(ModuleOp module, const SmTarget &target,
                                const LaunchInfos &launch,
                                std::string *llvmText) {
  MLIRContext *mlirContext = module.getContext();
  mlirContext->loadDialect<NVVM::NVVMDialect>();
  registerBuiltinDialectTranslation(*mlirContext);
  registerLLVMDialectTranslation(*mlirContext);
  registerNVVMDialectTranslation(*mlirContext);
  if (failed(checkOps(module, target)))
    return {};
  markKernels(module, launch);
  CodegenGate gate;
  llvm::LLVMContext context;
  context.setOptPassGate(gate);
  auto llvmModule = translateModuleToLLVMIR(module, context, "kvc");
  std::unique_ptr<llvm::TargetMachine> machine = makeMachine(target);
  if (!llvmModule || !machine) {
    module.emitError("cannot translate to LLVM IR for ") << target.name;
    return {};
  }
  llvmModule->setTargetTriple(machine->getTargetTriple());
  llvmModule->setDataLayout(machine->createDataLayout());
  if (!prepare(*llvmModule)) {
    module.emitError("a GPU kernel calls a function");
    return {};
  }
  optimise(*llvmModule, *machine, passes());
  if (llvmText) {
    llvm::raw_string_ostream stream(*llvmText);
    llvmModule->print(stream, nullptr);
  }
  llvm::SmallVector<char, 0> text;
  llvm::raw_svector_ostream os(text);
  llvm::legacy::PassManager codegen;
  if (machine->addPassesToEmitFile(codegen, os, nullptr,
                                   llvm::CodeGenFileType::AssemblyFile)) {
    module.emitError("cannot emit PTX for ") << target.name;
    return {};
  }
  codegen.run(*llvmModule);
  return std::string(text.begin(), text.end());
}
