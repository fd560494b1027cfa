//===- GpuExecutor.cpp - drawn kernels on the emulated GPU ----------------===//
#include "lib/base/Simt/Machine.h"
#include "test/support/KernelWords.h"
#include "test/unit/Tile/Executors.h"
#include "test/unit/Tile/KernelModule.h"

#include "lib/base/Artifact/GpuAbi.h"
#include "llvm/IR/LLVMContext.h"
#include "llvm/IR/Module.h"

using namespace kvc;
using namespace kvc::fuzz;
using artifact::Word;
using test::KernelWords;

namespace {

class GpuExecutor : public Executor {
public:
  GpuExecutor(const Kernel &kernel, mlir::ModuleOp module,
              const nvptx::SmTarget &target);

  reference::AttendResult attend(const AttendInputs &inputs) override;
  reference::AttendResult merge(const MergeInputs &inputs) override;
  void append(const AppendInputs &inputs, reference::HostCache &to) override;
  reference::AttendResult gather(const GatherInputs &inputs) override;

private:
  struct Planned {
    std::vector<KvcGpuWorkTile> workTiles;
    std::vector<int32_t> count;
    std::vector<uint32_t> splitCounters;
    std::vector<int64_t> splitRow;
    int64_t splitRows = 0;
  };
  Planned plan(const AttendInputs &inputs);
  void launch(const std::string &kernel, simt::Machine &machine,
              const KernelWords &words, int64_t ctas);
  static void allow(simt::Machine &machine, const AlignedBytes &buffer,
                    bool write) {
    machine.allow(buffer.data(), buffer.size(), write);
  }
  template <typename T>
  static void allow(simt::Machine &machine, const std::vector<T> &values,
                    bool write) {
    machine.allow(values.data(), values.size() * sizeof(T), write);
  }

  ScheduleAttrInterface schedule; ///< null unless it attends
  std::string name;
  nvptx::LaunchInfos launches;
  std::vector<std::string> sites;
  std::unique_ptr<artifact::ElfImage> image;
  Random random;
};

} // namespace

GpuExecutor::GpuExecutor(const Kernel &kernel, mlir::ModuleOp module,
                         const nvptx::SmTarget &target)
    : Executor(kernel), random(kernel.random('G')) {
  tile::KernelOp op = kernelOf(module);
  schedule = op.getScheduleAttr();
  name = op.getSymName().str();
  lowerOrRefuse(
      module, [&] { return nvptx::lowerTileToGpu(module, target, launches); });
  if (!accepted())
    return;
  std::string error = "lowering failed";
  std::vector<uint8_t> object;
  llvm::LLVMContext context;
  cpu::CpuTarget host = *cpu::findCpuTarget("x86-64-v3");
  host.optimised = false; // most of what it does is calls of the emulator
  if (succeeded(nvptx::verifyUniform(module)) &&
      succeeded(nvptx::lowerGpuToLlvm(module)) &&
      succeeded(nvptx::lowerGpuToSim(module, sites)))
    if (auto code = cpu::emitLlvm(module, host, context))
      object = cpu::emitObject(*code, host, error);
  if (!object.empty())
    image = artifact::ElfImage::load(object, error);
  if (!image)
    blame("accepted, but then: " + error);
}

void GpuExecutor::launch(const std::string &kernel, simt::Machine &machine,
                         const KernelWords &words, int64_t ctas) {
  simt::Launch launch;
  launch.kernel =
      reinterpret_cast<simt::Kernel>(image->symbol(nvptx::symbolName(kernel)));
  nvptx::LaunchInfo info = launches.lookup(kernel);
  launch.grid = uint32_t(ctas), launch.threads = uint32_t(info.threads);
  launch.shared = size_t(info.shared);
  std::vector<uint64_t> block = words.block(info.params);
  launch.params = block.data();
  launch.sites = sites;
  launch.name = kernel;
  std::string finding;
  if (!machine.launch(launch, finding))
    blame("emulator: " + finding);
}

/// What the store's plan kernel makes of a batch.
GpuExecutor::Planned GpuExecutor::plan(const AttendInputs &inputs) {
  Planned plan;
  int64_t columns = kernel.heads * kernel.group, capacity = 0;
  for (size_t b = 0; b < inputs.kvLen.size(); ++b) {
    int64_t split = schedule.getSplit() ? schedule.getSplit() : KVC_MAX_TOKENS;
    int64_t numSplits = llvm::divideCeil(inputs.kvLen[b], split);
    int64_t rows = inputs.queries(b) * kernel.group;
    capacity +=
        kernel.heads * numSplits * llvm::divideCeil(rows, schedule.getRows());
    plan.splitRows += numSplits * inputs.queries(b) * columns;
  }
  plan.workTiles.assign(capacity, {});
  plan.count = {-7};
  plan.splitCounters.assign(capacity, 0x5a5a5a5a);
  plan.splitRow.assign(inputs.kvLen.size(), -7);
  KernelWords words;
  words.set(Word::CuQ, inputs.cuQ.data());
  words.set(Word::KvLen, inputs.kvLen.data());
  words.set(Word::SplitRow, plan.splitRow.data());
  words.set(Word::Batch, int64_t(inputs.kvLen.size()));
  words.set(Word::MaxKvLen, KVC_MAX_TOKENS);
  words.set(Word::SplitRows, plan.splitRows);
  std::string only = artifact::attendName(0);
  words.set(Word::WorkTiles, plan.workTiles.data(), only);
  words.set(Word::WorkCount, plan.count.data(), only);
  words.set(Word::WorkCounters, plan.splitCounters.data(), only);
  words.set(Word::WorkCapacity, capacity, only);
  simt::Machine machine(random.next());
  allow(machine, inputs.cuQ, false);
  allow(machine, inputs.kvLen, false);
  allow(machine, plan.workTiles, true);
  allow(machine, plan.count, true);
  allow(machine, plan.splitCounters, true);
  allow(machine, plan.splitRow, true);
  launch("s.plan", machine, words, 1);
  if (plan.count[0] < 1 || plan.count[0] > capacity)
    blame("a plan of " + std::to_string(plan.count[0]) + " work tiles");
  return plan;
}

reference::AttendResult GpuExecutor::attend(const AttendInputs &inputs) {
  Planned plan = this->plan(inputs);
  int64_t rows = inputs.q.rows;
  Output output = makeOutput(rows);
  if (!fault.empty())
    return take(output, rows);
  AlignedBytes partialO(plan.splitRows * kernel.dims[1] * 4, 0xff);
  AlignedBytes partialLse(plan.splitRows * 4, 0xff);
  KernelWords words;
  words.set(Word::Q, inputs.q.bytes.data());
  words.set(Word::QRowStride, inputs.q.stride);
  words.set(Word::QHeadStride, inputs.q.headStride);
  words.set(Word::Out, output.out.data());
  words.set(Word::OutRowStride, output.outStride);
  words.set(Word::OutHeadStride, kernel.dims[1] * widthOf(kernel.dtype));
  words.set(Word::Lse, output.wantsLse ? output.lse.data() : nullptr);
  words.set(Word::LseRowStride, output.lseStride);
  words.set(Word::LseHeadStride, 4);
  words.set(Word::CuQ, inputs.cuQ.data());
  words.set(Word::KvLen, inputs.kvLen.data());
  words.set(Word::Table, inputs.table.data());
  words.set(Word::TableStride, inputs.tableStride);
  words.set(Word::SplitRow, plan.splitRow.data());
  words.set(Word::PartialO, partialO.data());
  words.set(Word::PartialLse, partialLse.data());
  words.setPlanes(inputs.arena->cache());
  words.set(Word::WorkTiles, plan.workTiles.data());
  words.set(Word::WorkCount, plan.count.data());
  words.set(Word::WorkCounters, plan.splitCounters.data());
  simt::Machine machine(random.next());
  allow(machine, inputs.q.bytes, false);
  allow(machine, inputs.cuQ, false);
  allow(machine, inputs.kvLen, false);
  allow(machine, inputs.table, false);
  auto cache = inputs.arena->bytes();
  machine.allow(cache.data(), cache.size(), false);
  allow(machine, plan.workTiles, false);
  allow(machine, plan.count, false);
  allow(machine, plan.splitRow, false);
  allow(machine, plan.splitCounters, true);
  allow(machine, partialO, true);
  allow(machine, partialLse, true);
  allow(machine, output.out, true);
  allow(machine, output.lse, true);
  launch(name, machine, words, random.range(1, plan.count[0] + 2));
  return take(output, rows);
}

reference::AttendResult GpuExecutor::merge(const MergeInputs &inputs) {
  int64_t rows = inputs.cuQ.back();
  Output output = makeOutput(rows);
  KernelWords words;
  words.set(Word::Out, output.out.data());
  words.set(Word::OutRowStride, output.outStride);
  words.set(Word::OutHeadStride, kernel.dims[1] * widthOf(kernel.dtype));
  words.set(Word::Lse, output.wantsLse ? output.lse.data() : nullptr);
  words.set(Word::LseRowStride, output.lseStride);
  words.set(Word::LseHeadStride, 4);
  words.set(Word::CuQ, inputs.cuQ.data());
  words.set(Word::SplitRow, inputs.splitRow.data());
  words.set(Word::PartialO, inputs.o.data());
  words.set(Word::PartialLse, inputs.lse.data());
  words.set(Word::Batch, int64_t(inputs.cuQ.size()) - 1);
  words.set(Word::NumSplits, kernel.numSplits);
  simt::Machine machine(random.next());
  allow(machine, inputs.cuQ, false);
  allow(machine, inputs.splitRow, false);
  allow(machine, inputs.o, false);
  allow(machine, inputs.lse, false);
  allow(machine, output.out, true);
  allow(machine, output.lse, true);
  int64_t warps = launches.lookup(name).threads / 32;
  launch(name, machine, words,
         llvm::divideCeil(rows * kernel.heads * kernel.group, warps) +
             random.range(0, 2));
  return take(output, rows);
}

void GpuExecutor::append(const AppendInputs &inputs, reference::HostCache &to) {
  int64_t rows = inputs.slots.size();
  KernelWords words;
  words.set(Word::K, inputs.k.bytes.data());
  words.set(Word::KRowStride, inputs.k.stride);
  words.set(Word::KHeadStride, inputs.k.headStride);
  words.set(Word::V, inputs.v.bytes.data());
  words.set(Word::VRowStride, inputs.v.stride);
  words.set(Word::VHeadStride, inputs.v.headStride);
  words.set(Word::Slot, inputs.slots.data());
  words.set(Word::SlotTokens, to.outerTokens);
  words.setPlanes(to);
  words.set(Word::Rows, rows);
  simt::Machine machine(random.next());
  allow(machine, inputs.k.bytes, false);
  allow(machine, inputs.v.bytes, false);
  allow(machine, inputs.slots, false);
  // Planes of an outer stand one behind the other.
  for (const reference::HostPlane &plane : to.planes)
    machine.allow(
        plane.base,
        to.outers * plane.pageStride - (plane.base - to.planes[0].base), true);
  int64_t warps = launches.lookup(name).threads / 32;
  launch(name, machine, words,
         llvm::divideCeil(rows * kernel.heads, warps) + random.range(0, 2));
}

reference::AttendResult GpuExecutor::gather(const GatherInputs &inputs) {
  int64_t rows = inputs.slots.size();
  std::vector<GatherOutput> outputs = makeGatherOutputs(rows);
  KernelWords words = wordsOf(outputs, inputs);
  words.set(Word::Rows, rows);
  simt::Machine machine(random.next());
  allow(machine, inputs.slots, false);
  auto cache = inputs.arena->bytes();
  machine.allow(cache.data(), cache.size(), false);
  for (GatherOutput &output : outputs)
    if (addressOf(output))
      allow(machine, output.bytes, true);
  int64_t warps = launches.lookup(name).threads / 32;
  launch(name, machine, words,
         llvm::divideCeil(rows * kernel.heads, warps) + random.range(0, 2));
  return takeGathered(outputs, inputs);
}

std::unique_ptr<Executor> fuzz::makeGpuExecutor(const Kernel &kernel,
                                                mlir::ModuleOp module,
                                                const nvptx::SmTarget &target) {
  return std::make_unique<GpuExecutor>(kernel, module, target);
}
