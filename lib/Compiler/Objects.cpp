//===- Objects.cpp - from the LLVM dialect to objects, side by side -------===//
#include "lib/Compiler/Objects.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/IR/LLVMContext.h"
#include "llvm/IR/Module.h"
#include "llvm/Object/ObjectFile.h"

#include <atomic>
#include <chrono>
#include <thread>

using namespace mlir;
using namespace kvc;

//===----------------------------------------------------------------------===//
// Cutting
//===----------------------------------------------------------------------===//

/// The kernels of one object, by C name.
static OwningOpRef<ModuleOp> cloneOnly(ModuleOp module,
                                       const llvm::StringSet<> &symbols) {
  OwningOpRef<ModuleOp> part(module.clone());
  for (auto function :
       llvm::make_early_inc_range(part->getOps<LLVM::LLVMFuncOp>()))
    if (!function.isExternal() && !symbols.contains(function.getSymName()))
      function.erase();
  return part;
}

std::vector<ObjectJob>
kvc::cutIntoJobs(ModuleOp module, const cpu::CpuTarget &target, unsigned most,
                 std::vector<artifact::KernelInfo> &kernels) {
  std::vector<llvm::StringSet<>> symbols(1);
  std::vector<unsigned> jobOf;
  unsigned attends = 0;
  for (const artifact::KernelInfo &kernel : kernels) {
    // The others are small.
    unsigned job = kernel.kind == "attend" ? attends++ % most : 0;
    symbols.resize(std::max<size_t>(symbols.size(), job + 1));
    symbols[job].insert(kernel.symbol);
    jobOf.push_back(job);
  }
  std::vector<ObjectJob> jobs(symbols.size());
  for (auto [index, job] : llvm::enumerate(jobs)) {
    job.name = target.name;
    if (jobs.size() > 1)
      job.name += "." + std::to_string(index);
    job.module = cloneOnly(module, symbols[index]);
  }
  for (auto [kernel, job] : llvm::zip(kernels, jobOf))
    kernel.blob = "cpu/" + jobs[job].name + ".o";
  return jobs;
}

//===----------------------------------------------------------------------===//
// Running
//===----------------------------------------------------------------------===//

/// The first symbol that an object expects from elsewhere; "" if none. The
/// runtime has no linker to give it one.
static std::string firstUndefined(ArrayRef<uint8_t> bytes) {
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

static double millisecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double, std::milli>(
             std::chrono::steady_clock::now() - start)
      .count();
}

static void runJob(ObjectJob &job, const cpu::CpuTarget &target,
                   JobOptions options) {
  auto start = std::chrono::steady_clock::now();
  llvm::LLVMContext context;
  auto module = cpu::emitLlvm(*job.module, target, context);
  job.llvmMs = millisecondsSince(start);
  if (!module) {
    job.error = "no LLVM IR for " + target.name;
    return;
  }
  if (options.llvmText) {
    llvm::raw_string_ostream os(job.llvmText);
    module->print(os, nullptr);
  }
  if (!options.object)
    return;
  start = std::chrono::steady_clock::now();
  job.bytes = cpu::emitObject(*module, target, job.error);
  if (std::string symbol = firstUndefined(job.bytes);
      job.error.empty() && !symbol.empty())
    job.error = "the code for " + target.name + " needs `" + symbol + "`";
  job.objectMs = millisecondsSince(start);
}

double kvc::runJobs(std::vector<ObjectJob> &jobs, const cpu::CpuTarget &target,
                    JobOptions options) {
  auto start = std::chrono::steady_clock::now();
  std::atomic<size_t> next = 0;
  auto work = [&] {
    for (size_t i = next++; i < jobs.size(); i = next++)
      runJob(jobs[i], target, options);
  };
  size_t threads =
      std::min<size_t>(std::thread::hardware_concurrency(), jobs.size());
  std::vector<std::thread> helpers;
  for (size_t i = 1; i < threads; ++i)
    helpers.emplace_back(work);
  work();
  for (std::thread &helper : helpers)
    helper.join();
  return millisecondsSince(start);
}
