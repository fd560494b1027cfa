//===- TargetCompiler.cpp - a spec through the levels ---------------------===//
#include "lib/Compiler/TargetCompiler.h"

#include "lib/Artifact/File.h"
#include "lib/Import/SpecToKvc.h"
#include "passes/Pipeline.h"

#include "mlir/Dialect/ControlFlow/IR/ControlFlow.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/Verifier.h"
#include "mlir/Target/LLVMIR/Dialect/Builtin/BuiltinToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/LLVMIR/LLVMToLLVMIRTranslation.h"
#include "llvm/Support/FileSystem.h"

using namespace mlir;
using namespace kvc;

/// Objects of a target: enough for the threads of most machines, and few enough
/// that a spec of many stores stays within an artifact's entries.
static constexpr unsigned kMostObjects = 8;

//===----------------------------------------------------------------------===//
// Clock and dumps
//===----------------------------------------------------------------------===//

static constexpr const char *kExtensions[] = {"mlir", "mlir", "mlir",
                                              "ll",   "o",    "kvca"};

Level::Level(Phase phase)
    : Level(phase, name(phase), kExtensions[size_t(phase)]) {}

void PhaseClock::begin(const Level &level) {
  end();
  current = level.label;
  start = Clock::now();
}

void PhaseClock::end() {
  if (current)
    spent[*current] +=
        std::chrono::duration<double, std::milli>(Clock::now() - start).count();
  current.reset();
}

void PhaseClock::addJobs(double wall, llvm::ArrayRef<ObjectJob> jobs) {
  double llvm = 0, object = 0;
  for (const ObjectJob &job : jobs) {
    llvm += job.llvmMs;
    object += job.objectMs;
  }
  if (llvm + object == 0)
    return;
  auto add = [&](Phase phase, double time) {
    spent[name(phase)] += wall * time / (llvm + object);
  };
  add(Phase::Llvm, llvm);
  if (object != 0)
    add(Phase::Object, object);
}

std::vector<std::pair<std::string, double>> PhaseClock::milliseconds() const {
  std::vector<std::pair<std::string, double>> list;
  for (auto [label, time] : spent)
    list.emplace_back(label.str(), time);
  return list;
}

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
  else if (artifact::writeFileAtomically(
               path, {bytes.bytes_begin(), bytes.size()}, error))
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
      places(spec), context(MLIRContext::Threading::DISABLED),
      bridge(context, places, diagnostics) {
  // What jobs register as well, but side by side.
  registerBuiltinDialectTranslation(context);
  registerLLVMDialectTranslation(context);
  // A remark is for a reader of specs, not of IR.
  context.printOpOnDiagnostic(false);
  context
      .loadDialect<KvcDialect, tile::TileDialect, arith::ArithDialect,
                   cf::ControlFlowDialect, func::FuncDialect, LLVM::LLVMDialect,
                   math::MathDialect, scf::SCFDialect, vector::VectorDialect>();
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
  return succeeded(verify(*kvcModule)) || unexplained(Level(Phase::Kvc));
}

bool TargetCompiler::plan(ModuleOp module, const Target &target) {
  module->setAttr("kvc.target", target.facts(&context));
  std::vector<std::string> overrides;
  for (const ScheduleOverride &entry : options.schedule)
    overrides.push_back(entry.kernel + "." + entry.key + "=" +
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

bool TargetCompiler::emit(ModuleOp module, const cpu::CpuTarget &target,
                          TargetOutput &output) {
  clock.begin(Phase::Llvm);
  if (failed(cpu::lowerCpuToLlvm(module)))
    return unexplained(Level(Phase::Llvm));
  // Whoever asks for one level gets it in one piece.
  unsigned most = options.stopAfter == Phase::Artifact ? kMostObjects : 1;
  auto jobs = cutIntoJobs(module, target, most, output.kernels);
  clock.end();
  context.enableMultithreading();
  double wall = runJobs(jobs, target,
                        {/*llvmText=*/wantsText(Phase::Llvm),
                         /*object=*/options.stopAfter > Phase::Llvm});
  context.disableMultithreading();
  clock.addJobs(wall, jobs);
  for (ObjectJob &job : jobs)
    if (!job.error.empty())
      diagnostics.error("E-INTERNAL", places.at(std::string()), job.error);
    else if (!reached(Level(Phase::Llvm), job.name, output,
                      [&] { return job.llvmText; })) {
      reached(Level(Phase::Object), job.name, output,
              [&] { return llvm::toStringRef(job.bytes).str(); });
      output.objects.emplace_back("cpu/" + job.name + ".o",
                                  std::move(job.bytes));
    }
  return !diagnostics.hasErrors();
}

bool TargetCompiler::runCpu(ModuleOp module, const cpu::CpuTarget &target,
                            TargetOutput &output) {
  clock.begin(Phase::Cpu);
  cpu::ScratchSizes scratch;
  if (failed(cpu::lowerTileToCpu(module, target, scratch)))
    return unexplained(Level(Phase::Cpu));
  for (artifact::KernelInfo &kernel : output.kernels)
    kernel.scratchBytes = scratch.lookup(kernel.name);
  clock.end();
  return reached(Level(Phase::Cpu), target.name, output,
                 [&] { return textOf(module); }) ||
         emit(module, target, output);
}

std::optional<TargetOutput> TargetCompiler::run(const Target &target) {
  TargetOutput output;
  clock.begin(Phase::Tile);
  OwningOpRef<ModuleOp> module(kvcModule->clone());
  if (!plan(*module, target))
    return std::nullopt;
  output.kernels = describeKernels(*module, target);
  remarkFolds(*module);
  clock.end();
  bool done = reached(Level(Phase::Tile), target.name, output,
                      [&] { return textOf(*module); }) ||
              (target.isGpu() ? runGpu(*module, target, output)
                              : runCpu(*module, target.cpu, output));
  if (!done || diagnostics.hasErrors())
    return std::nullopt;
  return output;
}
