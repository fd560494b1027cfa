//===- Object.cpp - LLVM IR and objects, and which CPUs they run on -------===//
#include "codegen/Optimise.h"
#include "codegen/cpu/Backend.h"

#include "mlir/Target/LLVMIR/Dialect/Builtin/BuiltinToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/LLVMIR/LLVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Export.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/IR/Module.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/TargetParser/Host.h"
#include "llvm/TargetParser/Triple.h"
#include "llvm/Transforms/InstCombine/InstCombine.h"
#include "llvm/Transforms/Scalar/EarlyCSE.h"
#include "llvm/Transforms/Scalar/LICM.h"
#include "llvm/Transforms/Scalar/LoopPassManager.h"

#include <mutex>

using namespace mlir;
using namespace kvc;
using namespace kvc::cpu;

const std::vector<CpuTarget> &kvc::cpu::cpuTargets() {
#define KVC_STRIP(...) __VA_ARGS__
#define KVC_CPU_TARGET(NAME, CPU, LANES, REGISTERS, DOT, MATRIX, FEATURES,     \
                       WITHOUT)                                                \
  {NAME,  CPU,       KVC_STRIP FEATURES, KVC_STRIP WITHOUT,                    \
   LANES, REGISTERS, KVC_STRIP DOT,      KVC_STRIP MATRIX},
  static const std::vector<CpuTarget> targets = {
#include "codegen/cpu/CpuTargets.def"
  };
#undef KVC_CPU_TARGET
#undef KVC_STRIP
  return targets;
}

static bool hostHas(const std::string &feature) {
  static const llvm::StringMap<bool> host = llvm::sys::getHostCPUFeatures();
  return host.lookup(feature);
}

std::vector<std::string> kvc::cpu::missingFeatures(const CpuTarget &target) {
  std::vector<std::string> missing;
  llvm::copy_if(target.features, std::back_inserter(missing),
                [](const std::string &feature) { return !hostHas(feature); });
  return missing;
}

std::optional<CpuTarget> kvc::cpu::findCpuTarget(StringRef name) {
  std::optional<CpuTarget> best;
  for (const CpuTarget &target : cpuTargets()) {
    if (name == target.name)
      return target;
    if (name == "native" && missingFeatures(target).empty() &&
        llvm::none_of(target.without, hostHas))
      best = target;
  }
  return best;
}

TargetAttr kvc::cpu::targetAttr(MLIRContext *context, const CpuTarget &target) {
  auto types = [&](const std::vector<std::string> &codes) {
    SmallVector<Type> list;
    for (StringRef code : codes)
      list.push_back(code == "bf16"  ? Type(BFloat16Type::get(context))
                     : code == "f16" ? Type(Float16Type::get(context))
                                     : Type(IntegerType::get(context, 8)));
    return list;
  };
  return TargetAttr::get(context, target.name, target.lanes, target.registers,
                         types(target.dot), types(target.matrix),
                         /*shared=*/0, /*bulk=*/false);
}

/// What every x86-64 has. A level's own name would let LLVM use features that
/// the level does not ask a machine for.
static constexpr const char *kBaseCpu = "x86-64";

static std::unique_ptr<llvm::TargetMachine>
makeMachine(const CpuTarget &target) {
  static std::once_flag once;
  std::call_once(once, [] {
    llvm::InitializeNativeTarget();
    llvm::InitializeNativeTargetAsmPrinter();
  });
  llvm::Triple triple("x86_64-unknown-linux-gnu");
  std::string error;
  const llvm::Target *llvmTarget =
      llvm::TargetRegistry::lookupTarget(triple, error);
  if (!llvmTarget)
    return nullptr;
  llvm::TargetOptions options;
  return std::unique_ptr<llvm::TargetMachine>(llvmTarget->createTargetMachine(
      triple, kBaseCpu, "", options, llvm::Reloc::PIC_, llvm::CodeModel::Small,
      target.optimised ? llvm::CodeGenOptLevel::Default
                       : llvm::CodeGenOptLevel::None));
}

std::unique_ptr<llvm::Module> kvc::cpu::emitLlvm(ModuleOp module,
                                                 const CpuTarget &target,
                                                 llvm::LLVMContext &context) {
  registerBuiltinDialectTranslation(*module.getContext());
  registerLLVMDialectTranslation(*module.getContext());
  auto llvmModule = translateModuleToLLVMIR(module, context, "kvc");
  std::unique_ptr<llvm::TargetMachine> machine = makeMachine(target);
  if (!llvmModule || !machine) {
    module.emitError("cannot translate to LLVM IR for ") << target.name;
    return nullptr;
  }
  llvmModule->setTargetTriple(machine->getTargetTriple());
  llvmModule->setDataLayout(machine->createDataLayout());
  // vpdpwssd as it is: LLVM would rather split it in two for its latency.
  std::string features =
      "+" + llvm::join(target.features, ",+") + ",+fast-dpwssd";
  for (llvm::Function &function : *llvmModule) {
    if (function.isDeclaration())
      continue;
    function.addFnAttr("target-cpu", kBaseCpu);
    function.addFnAttr("tune-cpu", target.tune);
    function.addFnAttr("target-features", features);
    function.addFnAttr("prefer-vector-width",
                       std::to_string(target.lanes * 32));
  }
  // The kernels are already unrolled, vectorised and free of memory that could
  // be a register: what is left is to fold addresses and to hoist. The default
  // pipelines take five times as long for the same code.
  llvm::FunctionPassManager fpm;
  fpm.addPass(llvm::EarlyCSEPass());
  fpm.addPass(llvm::InstCombinePass());
  fpm.addPass(llvm::createFunctionToLoopPassAdaptor(
      llvm::LICMPass(llvm::LICMOptions()), /*UseMemorySSA=*/true));
  optimise(*llvmModule, *machine, std::move(fpm));
  return llvmModule;
}

std::vector<uint8_t> kvc::cpu::emitObject(llvm::Module &module,
                                          const CpuTarget &target,
                                          std::string &error) {
  std::unique_ptr<llvm::TargetMachine> machine = makeMachine(target);
  llvm::SmallVector<char, 0> bytes;
  llvm::raw_svector_ostream os(bytes);
  llvm::legacy::PassManager codegen;
  if (!machine ||
      machine->addPassesToEmitFile(codegen, os, nullptr,
                                   llvm::CodeGenFileType::ObjectFile)) {
    error = "cannot emit an object for " + target.name;
    return {};
  }
  codegen.run(module);
  return {bytes.begin(), bytes.end()};
}
