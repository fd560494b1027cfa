//===- GpuTail.cpp - from the tile level to PTX, cubins and emulation -----===//
#include "lib/Compiler/GpuReport.h"
#include "lib/Compiler/TargetCompiler.h"
#include "lib/Simt/InstructionSet.h"

#include "mlir/IR/Verifier.h"
#include "llvm/IR/LLVMContext.h"
#include "llvm/IR/Module.h"

using namespace mlir;
using namespace kvc;
using artifact::KernelInfo;

/// What the manifest says of a plan kernel, which no tile op stands for.
static void describePlans(ModuleOp module, const Target &target,
                          std::vector<KernelInfo> &kernels) {
  for (auto store : module.getOps<StoreOp>()) {
    KernelInfo &info = kernels.emplace_back();
    info.name = (store.getSymName() + ".plan").str();
    info.kind = "plan";
    info.store = store.getSymName().str();
    info.target = target.sm.name;
    info.device = target.deviceName();
    info.symbol = nvptx::symbolName(info.name);
  }
}

static void setLaunches(const nvptx::LaunchInfos &launches,
                        std::vector<KernelInfo> &kernels) {
  for (KernelInfo &kernel : kernels) {
    nvptx::LaunchInfo launch = launches.lookup(kernel.name);
    kernel.threads = uint32_t(launch.threads);
    kernel.sharedBytes = uint32_t(launch.shared);
  }
}

static std::string irText(const llvm::Module &module) {
  std::string text;
  llvm::raw_string_ostream stream(text);
  module.print(stream, nullptr);
  return text;
}

static std::vector<uint8_t> bytesOf(StringRef text) {
  return {text.bytes_begin(), text.bytes_end()};
}

// Levels of GPUs. Making PTX and assembling it are timed apart.
static constexpr Level kGpu(Phase::Cpu, "gpu", "mlir");
static constexpr Level kLlvm(Phase::Llvm, "llvm", "ll");
static constexpr Level kPtx(Phase::Object, "ptx", "ptx");
static constexpr Level kCubin(Phase::Object, "object", "cubin");

bool TargetCompiler::runGpu(ModuleOp module, const Target &target,
                            TargetOutput &output) {
  clock.begin(kGpu);
  describePlans(module, target, output.kernels);
  nvptx::LaunchInfos launches;
  if (failed(nvptx::lowerTileToGpu(module, target.sm, launches)) ||
      failed(verify(module)) || failed(nvptx::verifyUniform(module)))
    return unexplained(kGpu);
  setLaunches(launches, output.kernels);
  clock.end();
  if (reached(kGpu, target.name, output, [&] { return textOf(module); }))
    return true;

  clock.begin(kLlvm);
  if (failed(nvptx::lowerGpuToLlvm(module)))
    return unexplained(kLlvm);
  return target.device == Target::Device::Sim
             ? emitSim(module, target, output)
             : emitCuda(module, target, launches, output);
}

bool TargetCompiler::emitCuda(ModuleOp module, const Target &target,
                              const nvptx::LaunchInfos &launches,
                              TargetOutput &output) {
  clock.begin(kPtx);
  std::string ir;
  std::string ptx = nvptx::emitPtx(module, target.sm, launches,
                                   wantsText(Phase::Llvm) ? &ir : nullptr);
  if (ptx.empty())
    return unexplained(kPtx);
  clock.end();
  if (reached(kLlvm, target.name, output, [&] { return ir; }))
    return true;
  reached(kPtx, target.name, output, [&] { return ptx; });
  // Whoever wants to read the code reads PTX.
  if (options.stopAfter == Phase::Object && options.disassemble)
    return true;
  return assembleCuda(ptx, target, output);
}

bool TargetCompiler::assembleCuda(const std::string &ptx, const Target &target,
                                  TargetOutput &output) {
  std::string blob = "cuda/" + target.sm.name + ".cubin",
              text = "cuda/" + target.sm.name + ".ptx";
  bool onlyCubin = options.stopAfter == Phase::Object;
  std::optional<nvptx::Cubin> cubin;
  std::string error;
  if (!nvptx::assemblerName().empty()) {
    clock.begin(kCubin);
    cubin = nvptx::assemble(ptx, target.sm, error);
    clock.end();
    if (!cubin)
      diagnostics.error("E-INTERNAL", places.at(std::string()), error);
  } else if (onlyCubin) {
    diagnostics.error("E-NO-ASSEMBLER", {},
                      "neither nvJitLink nor ptxas of a CUDA toolkit is here "
                      "to make an object for `" +
                          target.name + "`; PTX needs neither");
  } else {
    diagnostics.report(Severity::Remark, "R-NO-ASSEMBLER",
                       places.at(std::string()),
                       "no CUDA assembler is here: the driver compiles the PTX "
                       "for `" +
                           target.name + "` when it is loaded");
  }
  if (diagnostics.hasErrors())
    return false;
  for (KernelInfo &kernel : output.kernels) {
    kernel.ptx = text;
    if (cubin)
      describeCode(*cubin, blob, kernel);
  }
  if (cubin) {
    reached(kCubin, target.name, output,
            [&] { return llvm::toStringRef(cubin->bytes).str(); });
    output.objects.emplace_back(blob, std::move(cubin->bytes));
  }
  if (!onlyCubin)
    output.objects.emplace_back(text, bytesOf(ptx));
  return true;
}

void TargetCompiler::describeCode(const nvptx::Cubin &cubin,
                                  const std::string &blob, KernelInfo &kernel) {
  kernel.blob = blob;
  nvptx::AssemblerReport report = cubin.kernels.lookup(kernel.symbol);
  kernel.registers = report.registers;
  if (report.spillStores + report.spillLoads + report.stack)
    diagnostics.report(Severity::Remark, "R-SPILL", places.at(std::string()),
                       spillRemark(kernel, {report.spillStores,
                                            report.spillLoads, report.stack}));
}

bool TargetCompiler::emitSim(ModuleOp module, const Target &target,
                             TargetOutput &output) {
  std::vector<std::string> sites;
  if (failed(nvptx::lowerGpuToSim(module, sites)))
    return unexplained(kLlvm);
  llvm::LLVMContext llvmContext;
  auto llvmModule = cpu::emitLlvm(module, target.cpu, llvmContext);
  if (!llvmModule)
    return unexplained(kLlvm);
  clock.end();
  if (reached(kLlvm, target.name, output, [&] { return irText(*llvmModule); }))
    return true;
  clock.begin(Phase::Object);
  std::string error;
  std::vector<uint8_t> object = cpu::emitObject(*llvmModule, target.cpu, error);
  clock.end();
  if (!error.empty()) {
    diagnostics.error("E-INTERNAL", places.at(std::string()), error);
    return false;
  }
  std::string blob = "sim/" + target.sm.name + ".o",
              lines = "sim/" + target.sm.name + ".sites";
  for (KernelInfo &kernel : output.kernels) {
    kernel.blob = blob;
    kernel.sites = lines;
  }
  reached(Level(Phase::Object), target.name, output,
          [&] { return llvm::toStringRef(object).str(); });
  output.objects.emplace_back(blob, std::move(object));
  output.objects.emplace_back(lines, bytesOf(simt::instructionSetLine() + "\n" +
                                             llvm::join(sites, "\n") + "\n"));
  return true;
}
