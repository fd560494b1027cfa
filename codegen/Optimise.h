//===- Optimise.h - running a few of LLVM's passes --------------*- C++ -*-===//
#ifndef KVC_CODEGEN_OPTIMISE_H
#define KVC_CODEGEN_OPTIMISE_H

#include "llvm/Passes/PassBuilder.h"
#include "llvm/Target/TargetMachine.h"

namespace kvc {

/// Runs passes over each function of a module, with whatever analyses they ask
/// for.
inline void optimise(llvm::Module &module, llvm::TargetMachine &machine,
                     llvm::FunctionPassManager passes) {
  llvm::LoopAnalysisManager lam;
  llvm::FunctionAnalysisManager fam;
  llvm::CGSCCAnalysisManager cgam;
  llvm::ModuleAnalysisManager mam;
  llvm::PassBuilder builder(&machine);
  builder.registerModuleAnalyses(mam);
  builder.registerCGSCCAnalyses(cgam);
  builder.registerFunctionAnalyses(fam);
  builder.registerLoopAnalyses(lam);
  builder.crossRegisterProxies(lam, fam, cgam, mam);
  llvm::ModulePassManager all;
  all.addPass(llvm::createModuleToFunctionPassAdaptor(std::move(passes)));
  all.run(module, mam);
}

} // namespace kvc

#endif // KVC_CODEGEN_OPTIMISE_H
