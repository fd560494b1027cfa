//===- GpuExecutor.cpp - drawn kernels on the emulated GPU ----------------===//
#include "lib/Simt/Machine.h"
#include "test/unit/Tile/Executors.h"
#include "test/unit/Tile/KernelModule.h"

#include "lib/Artifact/GpuAbi.h"
#include "llvm/IR/LLVMContext.h"
#include "llvm/IR/Module.h"

using namespace kvc;
using namespace kvc::fuzz;

namespace {

class GpuExecutor : public Executor {
public:
  GpuExecutor(const Kernel &kernel, mlir::ModuleOp module,
              const nvptx::SmTarget &target);

  reference::AttendResult attend(const AttendInputs &inputs) override;
  bool combinesSplits() const override { return true; }
  reference::AttendResult merge(const MergeInputs &inputs) override;
  void append(const AppendInputs &inputs, reference::HostCache &to) override;

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
              const void *params, int64_t ctas);
  static void allow(simt::Machine &machine, const Buffer &buffer, bool write) {
    machine.allow(buffer.data(), buffer.size(), write);
  }
  template <typename T>
  static void allow(simt::Machine &machine, const std::vector<T> &values,
                    bool write) {
    machine.allow(values.data(), values.size() * sizeof(T), write);
  }

  ScheduleAttr schedule;
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
  schedule = op.getSchedule();
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
                         const void *params, int64_t ctas) {
  simt::Launch launch;
  launch.kernel =
      reinterpret_cast<simt::Kernel>(image->symbol(nvptx::symbolName(kernel)));
  nvptx::LaunchInfo info = launches.lookup(kernel);
  launch.grid = uint32_t(ctas), launch.threads = uint32_t(info.threads);
  launch.shared = size_t(info.shared);
  launch.params = params;
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
  KvcGpuPlanParams params = {};
  params.cu_q = inputs.cuQ.data(), params.kv_len = inputs.kvLen.data();
  params.split_row = plan.splitRow.data();
  params.batch = int32_t(inputs.kvLen.size());
  params.max_kv_len = KVC_MAX_TOKENS;
  params.split_rows = plan.splitRows;
  params.variants[0] = {plan.workTiles.data(), plan.count.data(),
                        plan.splitCounters.data(), int32_t(capacity), 0};
  simt::Machine machine(random.next());
  allow(machine, inputs.cuQ, false);
  allow(machine, inputs.kvLen, false);
  allow(machine, plan.workTiles, true);
  allow(machine, plan.count, true);
  allow(machine, plan.splitCounters, true);
  allow(machine, plan.splitRow, true);
  launch("s.plan", machine, &params, 1);
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
  Buffer partialO(plan.splitRows * kernel.dims[1] * 4, 0xff);
  Buffer partialLse(plan.splitRows * 4, 0xff);
  KvcGpuAttendParams params = {};
  KvcAttendArgs &args = params.args;
  args.q = inputs.q.bytes.data(), args.q_row_stride = inputs.q.stride;
  args.out = output.out.data(), args.out_row_stride = output.outStride;
  args.lse = output.wantsLse ? output.lse.as<float>() : nullptr;
  args.lse_row_stride = output.lseStride;
  args.cu_q = inputs.cuQ.data(), args.kv_len = inputs.kvLen.data();
  args.table = inputs.table.data(), args.table_stride = inputs.tableStride;
  args.split_row = plan.splitRow.data();
  args.partial_o = partialO.as<float>();
  args.partial_lse = partialLse.as<float>();
  llvm::copy(inputs.arena->cache().planes, args.planes);
  params.work = {plan.workTiles.data(), plan.count.data(),
                 plan.splitCounters.data(), int32_t(plan.workTiles.size()), 0};
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
  launch(name, machine, &params, random.range(1, plan.count[0] + 2));
  return take(output, rows);
}

reference::AttendResult GpuExecutor::merge(const MergeInputs &inputs) {
  int64_t rows = inputs.cuQ.back();
  Output output = makeOutput(rows);
  KvcGpuMergeParams params = {};
  params.args.out = output.out.data();
  params.args.out_row_stride = output.outStride;
  params.args.lse = output.wantsLse ? output.lse.as<float>() : nullptr;
  params.args.lse_row_stride = output.lseStride;
  params.args.cu_q = inputs.cuQ.data();
  params.args.split_row = inputs.splitRow.data();
  params.args.partial_o = const_cast<Buffer &>(inputs.o).as<float>();
  params.args.partial_lse = const_cast<Buffer &>(inputs.lse).as<float>();
  params.batch = int32_t(inputs.cuQ.size()) - 1;
  params.num_splits = int32_t(kernel.numSplits);
  simt::Machine machine(random.next());
  allow(machine, inputs.cuQ, false);
  allow(machine, inputs.splitRow, false);
  allow(machine, inputs.o, false);
  allow(machine, inputs.lse, false);
  allow(machine, output.out, true);
  allow(machine, output.lse, true);
  int64_t warps = launches.lookup(name).threads / 32;
  launch(name, machine, &params,
         llvm::divideCeil(rows * kernel.heads * kernel.group, warps) +
             random.range(0, 2));
  return take(output, rows);
}

void GpuExecutor::append(const AppendInputs &inputs, reference::HostCache &to) {
  KvcGpuAppendParams params = {};
  params.args.k = inputs.k.bytes.data(),
  params.args.k_row_stride = inputs.k.stride;
  params.args.v = inputs.v.bytes.data(),
  params.args.v_row_stride = inputs.v.stride;
  params.args.slot = inputs.slots.data();
  params.args.slot_tokens = to.outerTokens;
  llvm::copy(to.planes, params.args.planes);
  params.rows = int32_t(inputs.slots.size());
  simt::Machine machine(random.next());
  allow(machine, inputs.k.bytes, false);
  allow(machine, inputs.v.bytes, false);
  allow(machine, inputs.slots, false);
  // Planes of an outer stand one behind the other.
  for (const KvcPlane &plane : to.planes)
    machine.allow(plane.base,
                  to.outers * plane.outer_stride -
                      (plane.base - to.planes[0].base),
                  true);
  int64_t warps = launches.lookup(name).threads / 32;
  launch(name, machine, &params,
         llvm::divideCeil(params.rows * kernel.heads, warps) +
             random.range(0, 2));
}

std::unique_ptr<Executor> fuzz::makeGpuExecutor(const Kernel &kernel,
                                                mlir::ModuleOp module,
                                                const nvptx::SmTarget &target) {
  return std::make_unique<GpuExecutor>(kernel, module, target);
}
