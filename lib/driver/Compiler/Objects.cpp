//===- Objects.cpp - the kernels of a target, side by side ----------------===//
#include "lib/driver/Compiler/Objects.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/IR/Threading.h"
#include "llvm/Object/ObjectFile.h"

using namespace mlir;
using namespace kvc;

std::vector<ObjectJob>
kvc::cutIntoJobs(ModuleOp module, const std::string &target,
                 const std::string &entry, Cut cut,
                 std::vector<artifact::KernelInfo> &kernels) {
  unsigned attends = llvm::count_if(
      kernels, [](const auto &kernel) { return kernel.kind == "attend"; });
  unsigned cuts = std::max(1u, std::min(attends, cut.most));
  bool apart = cut.othersApart && attends && attends < kernels.size();
  std::vector<ObjectJob> jobs(cuts + apart);
  llvm::StringMap<ObjectJob *> jobOf;
  unsigned next = 0;
  for (artifact::KernelInfo &kernel : kernels) {
    ObjectJob &job = kernel.kind == "attend" ? jobs[next++ % cuts]
                     : apart                 ? jobs.back()
                                             : jobs.front();
    job.kernels.push_back(&kernel);
    jobOf[kernel.symbol] = &job;
  }
  for (auto [index, job] : llvm::enumerate(jobs)) {
    std::string suffix = jobs.size() > 1 ? "." + std::to_string(index) : "";
    job.name = target + suffix;
    job.entry = entry + suffix;
    job.module = ModuleOp::create(module.getLoc());
    (*job.module)->setAttrs(module->getAttrDictionary());
  }
  for (auto function :
       llvm::make_early_inc_range(module.getOps<LLVM::LLVMFuncOp>())) {
    if (ObjectJob *job = jobOf.lookup(function.getSymName())) {
      function->remove();
      job->module->push_back(function);
      continue;
    }
    // A declaration.
    for (ObjectJob &job : jobs)
      job.module->push_back(function.clone());
    function.erase();
  }
  return jobs;
}

void kvc::runJobs(MLIRContext &context, std::vector<ObjectJob> &jobs,
                  PhaseClock &clock,
                  llvm::function_ref<void(ObjectJob &)> run) {
  double start = clock.now();
  context.enableMultithreading();
  parallelForEach(&context, jobs, [&](ObjectJob &job) {
    run(job);
    job.clock.end();
  });
  context.disableMultithreading();
  std::vector<const PhaseClock *> parts;
  for (const ObjectJob &job : jobs)
    parts.push_back(&job.clock);
  clock.addParts(clock.now() - start, parts);
}

std::string kvc::firstUndefined(ArrayRef<uint8_t> bytes) {
  auto file = llvm::object::ObjectFile::createELFObjectFile(
      {llvm::toStringRef(bytes), "object"});
  if (!file)
    return llvm::toString(file.takeError());
  for (const llvm::object::SymbolRef &symbol : (*file)->symbols()) {
    auto flags = symbol.getFlags();
    auto name = symbol.getName();
    if (flags && name && (*flags & llvm::object::SymbolRef::SF_Undefined) &&
        !(*flags & llvm::object::SymbolRef::SF_FormatSpecific))
      return name->str();
  }
  return "";
}
