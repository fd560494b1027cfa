//===- GpuTail.cpp - from the tile level to PTX, cubins and emulation -----===//
#include "codegen/nvptx/Report.h"
#include "lib/base/Simt/InstructionSet.h"
#include "lib/driver/Compiler/TargetCompiler.h"

#include "mlir/IR/Verifier.h"

using namespace mlir;
using namespace kvc;
using artifact::KernelInfo;

static void setLaunches(const nvptx::LaunchInfos &launches,
                        std::vector<KernelInfo> &kernels) {
  for (KernelInfo &kernel : kernels) {
    nvptx::LaunchInfo launch = launches.lookup(kernel.name);
    kernel.paramBytes = launch.params.bytes();
    kernel.params = launch.params.params();
    kernel.threads = uint32_t(launch.threads);
    kernel.sharedBytes = uint32_t(launch.shared);
  }
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
                            KernelSharing &sharing, TargetOutput &output) {
  clock.begin(kGpu);
  nvptx::LaunchInfos launches;
  if (failed(nvptx::lowerTileToGpu(module, target.sm, launches)))
    return unexplained(kGpu);
  setLaunches(launches, output.kernels);
  if (failed(sharing.bind(module, output.kernels)))
    return unexplained(kGpu);
  if (target.device == Target::Device::Cuda && !checkAssembler(target))
    return false;
  std::string entry = std::string(target.deviceName()) + "/" + target.sm.name;
  return finish(cutIntoJobs(module, target.name, entry,
                            cut(/*othersApart=*/true), output.kernels),
                output,
                [&](ObjectJob &job) { makeGpu(job, target, launches); });
}

bool TargetCompiler::checkAssembler(const Target &target) {
  bool makesPtx = options.stopAfter >= Phase::Object;
  bool onlyCubin = options.stopAfter == Phase::Object && !options.disassemble;
  if (!makesPtx || !nvptx::assemblerName().empty())
    return true;
  if (onlyCubin)
    diagnostics.error("E-NO-ASSEMBLER", {},
                      "neither nvJitLink nor ptxas of a CUDA toolkit is here "
                      "to make an object for `" +
                          target.name + "`; PTX needs neither");
  else if (options.stopAfter == Phase::Artifact)
    diagnostics.report(Severity::Remark, "R-NO-ASSEMBLER",
                       places.at(std::string()),
                       "no CUDA assembler is here: the driver compiles the PTX "
                       "for `" +
                           target.name + "` when it is loaded");
  return !onlyCubin;
}

void TargetCompiler::makeGpu(ObjectJob &job, const Target &target,
                             const nvptx::LaunchInfos &launches) const {
  job.clock.begin(kGpu);
  if (failed(verify(*job.module)) || failed(nvptx::verifyUniform(*job.module)))
    return job.fail();
  if (wantsText(Phase::Cpu))
    job.texts.emplace_back(kGpu, textOf(*job.module));
  if (options.stopAfter == Phase::Cpu)
    return;
  job.clock.begin(kLlvm);
  if (failed(nvptx::lowerGpuToLlvm(*job.module)))
    return job.fail();
  if (target.device == Target::Device::Sim)
    makeSim(job, target);
  else
    makeCuda(job, target, launches);
}

void TargetCompiler::makeCuda(ObjectJob &job, const Target &target,
                              const nvptx::LaunchInfos &launches) const {
  job.clock.begin(kPtx);
  std::string ir;
  std::string ptx = nvptx::emitPtx(*job.module, target.sm, launches,
                                   wantsText(Phase::Llvm) ? &ir : nullptr);
  if (ptx.empty())
    return job.fail();
  job.ptxAt = clock.now();
  if (wantsText(Phase::Llvm))
    job.texts.emplace_back(kLlvm, std::move(ir));
  if (options.stopAfter == Phase::Llvm)
    return;
  if (wantsText(Phase::Object))
    job.texts.emplace_back(kPtx, ptx);
  bool onlyObject = options.stopAfter == Phase::Object;
  // Whoever wants to read the code reads PTX.
  if (!nvptx::assemblerName().empty() && !(onlyObject && options.disassemble))
    assembleCuda(job, ptx, target);
  if (job.failed || onlyObject)
    return;
  std::string entry = job.entry + ".ptx";
  for (KernelInfo *kernel : job.kernels)
    kernel->ptx = entry;
  job.entries.emplace_back(entry, bytesOf(ptx));
}

void TargetCompiler::assembleCuda(ObjectJob &job, const std::string &ptx,
                                  const Target &target) const {
  job.clock.begin(kCubin);
  std::string error;
  auto cubin = nvptx::assemble(ptx, target.sm, error);
  if (!cubin)
    return job.fail(error, "E-ASSEMBLER");
  job.objectAt = clock.now();
  std::string entry = job.entry + ".cubin";
  for (KernelInfo *kernel : job.kernels) {
    kernel->blob = entry;
    nvptx::AssemblerReport report = cubin->kernels.lookup(kernel->symbol);
    kernel->registers = report.registers;
    Spills spills = {report.spillStores, report.spillLoads, report.stack};
    if (spills != Spills())
      job.remarks.emplace_back(kSpillCode, spillRemark(*kernel, spills));
  }
  if (wantsText(Phase::Object))
    job.texts.emplace_back(kCubin, llvm::toStringRef(cubin->bytes).str());
  job.entries.emplace_back(entry, std::move(cubin->bytes));
}

void TargetCompiler::makeSim(ObjectJob &job, const Target &target) const {
  std::vector<std::string> sites;
  if (failed(nvptx::lowerGpuToSim(*job.module, sites)))
    return job.fail();
  makeObject(job, target.cpu);
  if (job.entries.empty())
    return;
  std::string entry = job.entry + ".sites";
  for (KernelInfo *kernel : job.kernels)
    kernel->sites = entry;
  job.entries.emplace_back(entry, bytesOf(simt::instructionSetLine() + "\n" +
                                          llvm::join(sites, "\n") + "\n"));
}
