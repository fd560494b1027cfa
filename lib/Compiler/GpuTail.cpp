//===- GpuTail.cpp - from the tile level to PTX, cubins and emulation -----===//
#include "lib/Compiler/TargetCompiler.h"

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
    info.device = target.device == Target::Device::Sim ? "sim" : "cuda";
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

static std::vector<uint8_t> bytesOf(StringRef text) {
  return {text.bytes_begin(), text.bytes_end()};
}

bool TargetCompiler::runGpu(ModuleOp module, const Target &target,
                            TargetOutput &output) {
  clock.begin(Phase::Cpu);
  describePlans(module, target, output.kernels);
  nvptx::LaunchInfos launches;
  if (failed(nvptx::lowerTileToGpu(module, target.sm, launches)) ||
      failed(verify(module)))
    return unexplained(Phase::Cpu);
  setLaunches(launches, output.kernels);
  clock.end();
  if (reached(Phase::Cpu, target.name, output, [&] { return textOf(module); }))
    return true;

  clock.begin(Phase::Llvm);
  if (failed(nvptx::lowerGpuToLlvm(module)))
    return unexplained(Phase::Llvm);
  clock.end();
  if (reached(Phase::Llvm, target.name, output, [&] { return textOf(module); }))
    return true;
  return target.device == Target::Device::Sim
             ? emitSim(module, target, output)
             : emitCuda(module, target, launches, output);
}

bool TargetCompiler::emitCuda(ModuleOp module, const Target &target,
                              const nvptx::LaunchInfos &launches,
                              TargetOutput &output) {
  clock.begin(Phase::Object);
  std::string ptx = nvptx::emitPtx(module, target.sm, launches);
  if (ptx.empty())
    return unexplained(Phase::Object);
  std::string blob = "cuda/" + target.sm.name + ".cubin",
              text = "cuda/" + target.sm.name + ".ptx";
  // Whoever wants to read the code reads PTX.
  if (options.disassemble) {
    output.text = ptx;
    return true;
  }
  std::string error;
  std::optional<nvptx::Cubin> cubin;
  bool assembler = !nvptx::assemblerName().empty();
  if (assembler)
    cubin = nvptx::assemble(ptx, target.sm, error);
  clock.end();
  if (assembler && !cubin) {
    diagnostics.error("E-INTERNAL", places.at(std::string()), error);
    return false;
  }
  if (!cubin)
    diagnostics.report(Severity::Remark, "R-NO-ASSEMBLER",
                       places.at(std::string()),
                       "no CUDA assembler is here: the driver compiles the PTX "
                       "for `" +
                           target.name + "` when it is loaded");
  for (KernelInfo &kernel : output.kernels) {
    kernel.ptx = text;
    if (!cubin)
      continue;
    kernel.blob = blob;
    nvptx::AssemblerReport report = cubin->kernels.lookup(kernel.symbol);
    kernel.registers = report.registers;
    if (report.spillStores + report.spillLoads + report.stack)
      diagnostics.report(
          Severity::Remark, "R-SPILL", places.at(std::string()),
          llvm::formatv("`{0}`: {1} bytes of registers are spilled, {2} bytes "
                        "of stack",
                        kernel.name, report.spillStores, report.stack));
  }
  reached(Phase::Object, target.name, output, [&] { return ptx; });
  if (options.stopAfter == Phase::Object) {
    output.objects.emplace_back(blob, cubin ? cubin->bytes : bytesOf(ptx));
    return true;
  }
  if (cubin)
    output.objects.emplace_back(blob, std::move(cubin->bytes));
  output.objects.emplace_back(text, bytesOf(ptx));
  return true;
}

bool TargetCompiler::emitSim(ModuleOp module, const Target &target,
                             TargetOutput &output) {
  clock.begin(Phase::Object);
  std::vector<std::string> sites;
  if (failed(nvptx::lowerGpuToSim(module, sites)))
    return unexplained(Phase::Object);
  llvm::LLVMContext llvmContext;
  auto llvmModule = cpu::emitLlvm(module, target.cpu, llvmContext);
  if (!llvmModule)
    return unexplained(Phase::Object);
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
  output.objects.emplace_back(blob, std::move(object));
  output.objects.emplace_back(lines, bytesOf(llvm::join(sites, "\n") + "\n"));
  return true;
}
