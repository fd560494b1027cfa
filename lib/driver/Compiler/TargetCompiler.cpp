//===- TargetCompiler.cpp - a spec through the levels ---------------------===//
#include "lib/driver/Compiler/TargetCompiler.h"

#include "lib/base/Artifact/GpuAbi.h"
#include "lib/base/Artifact/OutputFile.h"
#include "lib/driver/Import/SpecToKvc.h"
#include "passes/Passes.h"
#include "passes/Pipeline.h"

#include "mlir/Dialect/ControlFlow/IR/ControlFlow.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/Verifier.h"
#include "mlir/Target/LLVMIR/Dialect/Builtin/BuiltinToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/LLVMIR/LLVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/NVVM/NVVMToLLVMIRTranslation.h"
#include "llvm/IR/LLVMContext.h"
#include "llvm/IR/Module.h"
#include "llvm/Support/FileSystem.h"

using namespace mlir;
using namespace kvc;

/// Objects of a target: enough for the threads of most machines, and few enough
/// that a spec of many stores stays within an artifact's entries.
static constexpr unsigned kMostObjects = 8;

bool kvc::dumpLevel(const std::string &directory, const Level &level,
                    const std::string &target, StringRef bytes,
                    Diagnostics &diagnostics) {
  std::string suffix = target.empty() ? "" : "." + target;
  llvm::replace(suffix, ':', '-');
  std::string path = llvm::formatv("{0}/{1,0+2}-{2}{3}.{4}", directory,
                                   unsigned(level.phase) + 1, level.label,
                                   suffix, level.extension);
  std::string error;
  if (std::error_code code = llvm::sys::fs::create_directories(directory))
    error = directory + ": " + code.message();
  else if (artifact::writeOutputFile(path, {bytes.bytes_begin(), bytes.size()},
                                     error))
    return true;
  diagnostics.error("E-OUTPUT", {}, error);
  return false;
}

//===----------------------------------------------------------------------===//
// Levels
//===----------------------------------------------------------------------===//

TargetCompiler::TargetCompiler(const spec::Spec &spec,
                               const CompileOptions &options,
                               Diagnostics &diagnostics, PhaseClock &clock)
    : spec(spec), options(options), diagnostics(diagnostics), clock(clock),
      places(spec, options.schedule), context(MLIRContext::Threading::DISABLED),
      bridge(context, places, diagnostics) {
  // What jobs register and load as well, but side by side.
  registerBuiltinDialectTranslation(context);
  registerLLVMDialectTranslation(context);
  registerNVVMDialectTranslation(context);
  DialectRegistry registry;
  cpu::registerScheduler(registry);
  nvptx::registerScheduler(registry);
  context.appendDialectRegistry(registry);
  // A remark is for a reader of specs, not of IR.
  context.printOpOnDiagnostic(false);
  context.loadDialect<KvcDialect, tile::TileDialect, arith::ArithDialect,
                      cf::ControlFlowDialect, func::FuncDialect,
                      LLVM::LLVMDialect, math::MathDialect, NVVM::NVVMDialect,
                      scf::SCFDialect, vector::VectorDialect>();
}

bool TargetCompiler::unexplained(const Level &level) {
  if (!diagnostics.hasErrors())
    diagnostics.error("E-INTERNAL", places.at(std::string()),
                      std::string("the compiler failed at phase `") +
                          level.label + "` without a reason");
  return false;
}

std::string kvc::textOf(ModuleOp module) {
  std::string text;
  llvm::raw_string_ostream os(text);
  module.print(os);
  os << "\n";
  return text;
}

std::string TargetCompiler::kvcText() const { return textOf(*kvcModule); }

bool TargetCompiler::import() {
  kvcModule = importSpec(context, spec);
  // What stores say of themselves is the same for all targets.
  PassManager pm(&context);
  pm.addPass(createInferReads());
  return (succeeded(verify(*kvcModule)) && succeeded(pm.run(*kvcModule))) ||
         unexplained(Level(Phase::Kvc));
}

static bool hasField(const Target &target, MLIRContext &context,
                     StringRef name) {
  return llvm::any_of(target.facts(&context).defaultSchedule().getFields(),
                      [&](const ScheduleField &f) { return f.name == name; });
}

bool TargetCompiler::plan(ModuleOp module, const Target &target) {
  module->setAttr("kvc.target", target.facts(&context));
  // A field of another kind of machine is meant for the targets that are of it.
  auto isForOthers = [&](const ScheduleOverride &entry) {
    return !hasField(target, context, entry.key) &&
           llvm::any_of(options.targets, [&](const std::string &name) {
             auto other = findTarget(name);
             return other && hasField(*other, context, entry.key);
           });
  };
  std::vector<std::string> overrides;
  for (const ScheduleOverride &entry : options.schedule)
    overrides.push_back(isForOthers(entry)
                            ? ""
                            : entry.kernel + "." + entry.key + "=" +
                                  std::to_string(entry.value));
  PassManager pm(&context);
  buildTilePipeline(pm, overrides);
  return succeeded(pm.run(module)) || unexplained(Level(Phase::Tile));
}

bool TargetCompiler::reached(const Level &level, const std::string &target,
                             TargetOutput &output,
                             llvm::function_ref<std::string()> text) {
  if (!wantsText(level.phase))
    return false;
  output.text = text();
  if (!options.dumpTo.empty() &&
      !dumpLevel(options.dumpTo, level, target, output.text, diagnostics))
    return true;
  return options.stopAfter == level.phase;
}

//===----------------------------------------------------------------------===//
// Objects
//===----------------------------------------------------------------------===//

Cut TargetCompiler::cut(bool othersApart) const {
  return options.stopAfter == Phase::Artifact ? Cut{kMostObjects, othersApart}
                                              : Cut();
}

bool TargetCompiler::finish(std::vector<ObjectJob> jobs, TargetOutput &output,
                            llvm::function_ref<void(ObjectJob &)> run) {
  clock.end();
  runJobs(context, jobs, clock, run);
  for (ObjectJob &job : jobs) {
    // One reason is enough.
    if (job.failed && !job.error.empty() && !diagnostics.hasErrors())
      diagnostics.error(job.errorCode, places.at(std::string()), job.error);
    else if (job.failed)
      unexplained(Level(Phase::Object));
    for (const auto &[code, message] : job.remarks)
      diagnostics.report(Severity::Remark, code, places.at(std::string()),
                         message);
    for (auto &[level, text] : job.texts)
      reached(level, job.name, output, [&] { return std::move(text); });
    llvm::move(job.entries, std::back_inserter(output.objects));
    auto names = llvm::map_range(
        job.kernels, [](const auto *kernel) { return kernel->name; });
    if (!job.failed)
      output.times.push_back({llvm::join(names, ", "),
                              job.kernels.front()->target, job.ptxAt,
                              job.objectAt});
  }
  return !diagnostics.hasErrors();
}

static std::string irText(const llvm::Module &module) {
  std::string text;
  llvm::raw_string_ostream stream(text);
  module.print(stream, nullptr);
  return text;
}

void TargetCompiler::makeObject(ObjectJob &job,
                                const cpu::CpuTarget &target) const {
  job.clock.begin(Phase::Llvm);
  llvm::LLVMContext llvmContext;
  auto module = cpu::emitLlvm(*job.module, target, llvmContext);
  if (!module)
    return job.fail();
  if (wantsText(Phase::Llvm))
    job.texts.emplace_back(Phase::Llvm, irText(*module));
  if (options.stopAfter == Phase::Llvm)
    return;
  job.clock.begin(Phase::Object);
  std::string error;
  std::vector<uint8_t> bytes = cpu::emitObject(*module, target, error);
  if (!error.empty())
    return job.fail(error);
  if (std::string symbol = firstUndefined(bytes); !symbol.empty())
    return job.fail("the code for " + target.name + " needs `" + symbol + "`");
  job.objectAt = clock.now();
  if (wantsText(Phase::Object))
    job.texts.emplace_back(Phase::Object, llvm::toStringRef(bytes).str());
  std::string entry = job.entry + ".o";
  for (artifact::KernelInfo *kernel : job.kernels)
    kernel->blob = entry;
  job.entries.emplace_back(entry, std::move(bytes));
}

bool TargetCompiler::runCpu(ModuleOp module, const cpu::CpuTarget &target,
                            KernelSharing &sharing, TargetOutput &output) {
  clock.begin(Phase::Cpu);
  cpu::KernelNeedsMap needs;
  if (failed(cpu::lowerTileToCpu(module, target, needs)))
    return unexplained(Level(Phase::Cpu));
  for (artifact::KernelInfo &kernel : output.kernels) {
    const cpu::KernelNeeds &of = needs[kernel.name];
    kernel.scratchBytes = of.scratch;
    kernel.paramBytes = of.params.bytes();
    kernel.params = of.params.params();
  }
  if (failed(sharing.bind(module, output.kernels)))
    return unexplained(Level(Phase::Cpu));
  clock.end();
  if (reached(Level(Phase::Cpu), target.name, output,
              [&] { return textOf(module); }))
    return true;
  clock.begin(Phase::Llvm);
  if (failed(cpu::lowerCpuToLlvm(module)))
    return unexplained(Level(Phase::Llvm));
  return finish(cutIntoJobs(module, target.name, "cpu/" + target.name,
                            cut(/*othersApart=*/false), output.kernels),
                output, [&](ObjectJob &job) { makeObject(job, target); });
}

artifact::Manifest TargetCompiler::describe(ModuleOp module,
                                            const Target &target) const {
  artifact::Manifest manifest;
  manifest.cpuAbi = KVC_CPU_ABI;
  manifest.gpuAbi = KVC_GPU_ABI;
  manifest.model = describeModel(spec.model);
  manifest.stores = stores();
  manifest.kernels = describeKernels(module, target);
  if (target.isGpu())
    llvm::append_range(manifest.kernels, describePlans(module, target));
  return manifest;
}

std::optional<TargetOutput> TargetCompiler::run(const Target &target) {
  TargetOutput output;
  clock.begin(Phase::Tile);
  OwningOpRef<ModuleOp> module(kvcModule->clone());
  if (!plan(*module, target))
    return std::nullopt;
  KernelSharing sharing(describe(*module, target));
  if (failed(sharing.shareStores(*module)))
    return std::nullopt;
  output.kernels = sharing.distinct();
  remarkFolds(*module);
  clock.end();
  bool ends = reached(Level(Phase::Tile), target.name, output,
                      [&] { return textOf(*module); });
  bool done =
      ends || (target.isGpu() ? runGpu(*module, target, sharing, output)
                              : runCpu(*module, target.cpu, sharing, output));
  if (!done || diagnostics.hasErrors())
    return std::nullopt;
  output.kernels = sharing.expand(output.kernels);
  return output;
}
