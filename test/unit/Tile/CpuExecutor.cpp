//===- CpuExecutor.cpp - drawn kernels as machine code --------------------===//
#include "lib/Amx/Emulator.h"
#include "test/unit/Tile/Executors.h"
#include "test/unit/Tile/KernelModule.h"

#include "llvm/IR/LLVMContext.h"
#include "llvm/IR/Module.h"

using namespace kvc;
using namespace kvc::fuzz;

namespace {

class CpuExecutor : public Executor {
public:
  CpuExecutor(const Kernel &kernel, mlir::ModuleOp module,
              const cpu::CpuTarget &target);

  reference::AttendResult attend(const AttendInputs &inputs) override;
  bool combinesSplits() const override { return false; }
  reference::AttendResult merge(const MergeInputs &inputs) override;
  void append(const AppendInputs &inputs, reference::HostCache &to) override;

private:
  void call(const void *args, KvcWorkTile tile);
  void attendSequence(const AttendInputs &inputs, size_t b,
                      const KvcAttendArgs &args);

  ScheduleAttr schedule;
  std::string name;
  size_t scratchBytes = 0;
  std::unique_ptr<artifact::ElfImage> image;
};

} // namespace

CpuExecutor::CpuExecutor(const Kernel &kernel, mlir::ModuleOp module,
                         const cpu::CpuTarget &target)
    : Executor(kernel) {
  tile::KernelOp op = kernelOf(module);
  schedule = op.getSchedule();
  std::string symbol = op.getSymName().str();
  name = cpu::symbolName(symbol);
  cpu::ScratchSizes scratch;
  lowerOrRefuse(module,
                [&] { return cpu::lowerTileToCpu(module, target, scratch); });
  if (!accepted())
    return;
  scratchBytes = scratch.lookup(symbol);
  std::string error = "no LLVM IR";
  std::vector<uint8_t> object;
  llvm::LLVMContext context;
  if (succeeded(cpu::lowerCpuToLlvm(module)))
    if (auto code = cpu::emitLlvm(module, target, context))
      object = cpu::emitObject(*code, target, error);
  if (!object.empty())
    image = artifact::ElfImage::load(object, error);
  if (!image)
    blame("accepted, but then: " + error);
}

void CpuExecutor::call(const void *args, KvcWorkTile tile) {
  Buffer scratch(scratchBytes, 0xff);
  tile.scratch = scratch.data();
  auto *kernel = reinterpret_cast<void (*)(const void *, const KvcWorkTile *)>(
      image->symbol(name));
  kernel(args, &tile);
  if (amx::Finding finding = amx::finish(); !finding.empty())
    blame(std::string("AMX: ") + finding.text);
  if (!scratch.ends())
    blame("wrote behind its scratch");
}

/// All work tiles of a sequence.
void CpuExecutor::attendSequence(const AttendInputs &inputs, size_t b,
                                 const KvcAttendArgs &args) {
  int64_t length = inputs.kvLen[b], queries = inputs.queries(b);
  int64_t split = schedule.getSplit() ? schedule.getSplit() : length;
  for (int64_t head = 0; head < kernel.heads; ++head)
    for (int64_t begin = 0; begin < length; begin += split)
      for (int64_t row = 0; row < queries; row += schedule.getQueries()) {
        KvcWorkTile tile = {};
        tile.sequence = int32_t(b), tile.head = int32_t(head);
        tile.begin = int32_t(begin);
        tile.end = int32_t(std::min(begin + split, length));
        tile.split_idx = int32_t(begin / split);
        tile.row_begin = int32_t(row);
        tile.row_end = int32_t(std::min(row + schedule.getQueries(), queries));
        call(&args, tile);
      }
}

reference::AttendResult CpuExecutor::attend(const AttendInputs &inputs) {
  int64_t columns = kernel.heads * kernel.group, dim = kernel.dims[1];
  int64_t longest = *llvm::max_element(inputs.kvLen);
  int64_t split = schedule.getSplit() ? schedule.getSplit() : longest;
  auto splitsOf = [&](size_t b) {
    return llvm::divideCeil(inputs.kvLen[b], split);
  };
  std::vector<int64_t> splitRow;
  int64_t splitRows = 0;
  for (size_t b = 0; b < inputs.kvLen.size(); ++b) {
    splitRow.push_back(splitRows);
    splitRows += splitsOf(b) * inputs.queries(b) * columns;
  }
  Buffer o(splitRows * dim * 4, 0xff), lse(splitRows * 4, 0xff);
  KvcAttendArgs args = {};
  args.q = inputs.q.bytes.data(), args.q_row_stride = inputs.q.stride;
  args.cu_q = inputs.cuQ.data(), args.kv_len = inputs.kvLen.data();
  args.table = inputs.table.data(), args.table_stride = inputs.tableStride;
  args.split_row = splitRow.data();
  args.partial_o = o.as<float>(), args.partial_lse = lse.as<float>();
  llvm::copy(inputs.arena->cache().planes, args.planes);
  int64_t rows = inputs.q.rows, numSplits = llvm::divideCeil(longest, split);
  reference::AttendResult result;
  result.o = reference::Tensor({numSplits, rows, columns, dim}, 0);
  result.lse = reference::Tensor({numSplits, rows, columns}, -INFINITY);
  for (size_t b = 0; b < inputs.kvLen.size(); ++b) {
    attendSequence(inputs, b, args);
    for (int64_t splitIdx = 0; splitIdx < int64_t(splitsOf(b)); ++splitIdx)
      for (int64_t i = 0; i < inputs.queries(b) * columns; ++i) {
        int64_t from = splitRow[b] + splitIdx * inputs.queries(b) * columns + i;
        int64_t to = (splitIdx * rows + inputs.cuQ[b]) * columns + i;
        result.lse.data[to] = lse.as<float>()[from];
        for (int64_t c = 0; c < dim; ++c)
          result.o.data[to * dim + c] = o.as<float>()[from * dim + c];
      }
  }
  if (!o.ends() || !lse.ends())
    blame("wrote behind the partial results");
  return result;
}

reference::AttendResult CpuExecutor::merge(const MergeInputs &inputs) {
  int64_t rows = inputs.cuQ.back();
  Output output = makeOutput(rows);
  KvcAttendArgs args = {};
  args.out = output.out.data(), args.out_row_stride = output.outStride;
  args.lse = output.wantsLse ? output.lse.as<float>() : nullptr;
  args.lse_row_stride = output.lseStride;
  args.cu_q = inputs.cuQ.data();
  args.split_row = inputs.splitRow.data();
  args.partial_o = const_cast<Buffer &>(inputs.o).as<float>();
  args.partial_lse = const_cast<Buffer &>(inputs.lse).as<float>();
  for (size_t b = 0; b + 1 < inputs.cuQ.size(); ++b)
    for (int64_t head = 0; head < kernel.heads; ++head)
      for (int32_t row = 0; row < inputs.cuQ[b + 1] - inputs.cuQ[b]; ++row) {
        KvcWorkTile tile = {};
        tile.sequence = int32_t(b), tile.head = int32_t(head);
        tile.split_idx = int32_t(kernel.numSplits);
        tile.row_begin = row, tile.row_end = row + 1;
        call(&args, tile);
      }
  return take(output, rows);
}

void CpuExecutor::append(const AppendInputs &inputs, reference::HostCache &to) {
  KvcAppendArgs args = {};
  args.k = inputs.k.bytes.data(), args.k_row_stride = inputs.k.stride;
  args.v = inputs.v.bytes.data(), args.v_row_stride = inputs.v.stride;
  args.slot = inputs.slots.data();
  args.slot_tokens = to.outerTokens;
  llvm::copy(to.planes, args.planes);
  KvcWorkTile tile = {};
  int64_t rows = inputs.slots.size();
  // Two work tiles: where one ends, the other begins.
  for (int64_t begin : {int64_t(0), rows / 2}) {
    tile.begin = int32_t(begin);
    tile.end = int32_t(begin ? rows : rows / 2);
    if (rows == 1)
      tile.end = 1;
    call(&args, tile);
    if (rows == 1)
      break;
  }
}

std::unique_ptr<Executor> fuzz::makeCpuExecutor(const Kernel &kernel,
                                                mlir::ModuleOp module,
                                                const cpu::CpuTarget &target) {
  return std::make_unique<CpuExecutor>(kernel, module, target);
}

std::vector<cpu::CpuTarget> fuzz::runnableLevels() {
  std::vector<cpu::CpuTarget> levels;
  for (const cpu::CpuTarget &target : cpu::cpuTargets())
    if (llvm::all_of(
            cpu::missingFeatures(target),
            [](const std::string &feature) { return amx::emulates(feature); }))
      levels.push_back(target);
  amx::install();
  return levels;
}
