//===- Report.cpp - what is known of kernels without a GPU ----------------===//
#include "codegen/nvptx/Report.h"
#include "codegen/nvptx/Backend.h"
#include "lib/base/Artifact/KernelKey.h"

#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/MathExtras.h"
#include "llvm/Support/Regex.h"

using namespace kvc;
using artifact::KernelInfo;
using llvm::StringRef;

/// The same on every architecture that we know.
static constexpr uint64_t kRegistersPerSm = 65536, kRegisterUnit = 8,
                          kSystemShared = 1024;

static StringRef textOf(std::span<const uint8_t> bytes) {
  return {reinterpret_cast<const char *>(bytes.data()), bytes.size()};
}

std::optional<Occupancy> kvc::occupancyOf(const KernelInfo &kernel) {
  auto sm = nvptx::findSmTarget(kernel.target);
  if (!sm || !kernel.registers || !kernel.threads)
    return std::nullopt;
  uint64_t registers = llvm::alignTo(kernel.registers, kRegisterUnit);
  std::pair<uint64_t, const char *> limits[] = {
      {kRegistersPerSm / (registers * kernel.threads), "registers"},
      {uint64_t(sm->sharedPerSm) / (kernel.sharedBytes + kSystemShared),
       "shared memory"},
      {sm->threadsPerSm / kernel.threads, "threads"},
      {sm->ctasPerSm, "CTAs"}};
  auto [ctas, limit] = *llvm::min_element(limits, llvm::less_first());
  return Occupancy{unsigned(ctas), limit};
}

static std::string about(const KernelInfo &kernel) {
  return "`" + kernel.name + "` for `" + kernel.target + "`: ";
}

std::string kvc::spillRemark(const KernelInfo &kernel, const Spills &spills) {
  return about(kernel) +
         llvm::formatv("{0} bytes of spill stores, {1} bytes of spill loads, "
                       "{2} bytes of stack",
                       spills.stores, spills.loads, spills.stack)
             .str();
}

Spills kvc::spillsOf(const KernelInfo &kernel,
                     llvm::ArrayRef<std::string> spillRemarks) {
  llvm::Regex bytes("([0-9]+) bytes of spill stores, ([0-9]+) bytes of spill "
                    "loads, ([0-9]+) bytes of stack");
  Spills spills;
  llvm::SmallVector<StringRef> match;
  for (StringRef remark : spillRemarks)
    if (remark.starts_with(about(kernel)) && bytes.match(remark, &match)) {
      match[1].getAsInteger(10, spills.stores);
      match[2].getAsInteger(10, spills.loads);
      match[3].getAsInteger(10, spills.stack);
    }
  return spills;
}

/// A field of a printed schedule; 0 if it is not there.
static unsigned fieldOf(StringRef schedule, StringRef key) {
  unsigned value = 0;
  for (StringRef field : llvm::split(schedule, ", ")) {
    auto [name, text] = field.split(" = ");
    if (name == key)
      text.getAsInteger(10, value);
  }
  return value;
}

GpuReport kvc::reportGpu(const artifact::Bundle &bundle,
                         llvm::ArrayRef<std::string> spillRemarks) {
  GpuReport report;
  llvm::StringMap<llvm::StringMap<std::vector<Loop>>> sass; // by blob, symbol
  for (auto [info, stores] : artifact::distinctKernels(bundle.manifest())) {
    const KernelInfo &kernel = *info;
    if (kernel.device == "cpu")
      continue;
    GpuKernelReport &row = report.kernels.emplace_back();
    row.kernel = kernel;
    row.stores = stores;
    row.occupancy = occupancyOf(kernel);
    if (kernel.registers)
      row.spills = spillsOf(kernel, spillRemarks);
    if (kernel.kind == "attend")
      row.tokens = fieldOf(kernel.schedule, "tokens");
    if (auto ptx = bundle.find(kernel.ptx); ptx && !kernel.ptx.empty())
      if (auto loops = ptxLoops(textOf(*ptx), kernel.symbol);
          const Loop *loop = mainLoop(loops))
        row.ptx = *loop;
    if (kernel.device != "cuda" || kernel.blob.empty())
      continue;
    auto [known, isNew] = sass.try_emplace(kernel.blob);
    if (isNew)
      if (auto text = nvdisasm(*bundle.find(kernel.blob), report.whyNoSass))
        known->second = sassLoops(*text);
    row.sass = known->second.lookup(kernel.symbol);
  }
  return report;
}
