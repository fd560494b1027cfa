//===- CpuExecutor.cpp - drawn kernels as machine code --------------------===//
#include "lib/base/Amx/Emulator.h"
#include "lib/base/Artifact/KernelAbi.h"
#include "test/support/KernelWords.h"
#include "test/unit/Tile/Executors.h"
#include "test/unit/Tile/KernelModule.h"

#include "llvm/IR/LLVMContext.h"
#include "llvm/IR/Module.h"

using namespace kvc;
using namespace kvc::fuzz;
using artifact::Word;
using test::KernelWords;

namespace {

class CpuExecutor : public Executor {
public:
  CpuExecutor(const Kernel &kernel, mlir::ModuleOp module,
              const cpu::CpuTarget &target);

  reference::AttendResult attend(const AttendInputs &inputs) override;
  reference::AttendResult merge(const MergeInputs &inputs) override;
  void append(const AppendInputs &inputs, reference::HostCache &to) override;
  reference::AttendResult gather(const GatherInputs &inputs) override;

private:
  void callRows(const KernelWords &words, int64_t rows);
  void call(const KernelWords &words, KvcWorkTile tile);
  void attendSequence(const AttendInputs &inputs, size_t b,
                      const KernelWords &words);

  ScheduleAttrInterface schedule; ///< null unless it attends
  std::string name;
  cpu::KernelNeeds needs;
  std::vector<int64_t> splitRow; ///< of each sequence, in attend
  std::unique_ptr<artifact::ElfImage> image;
};

} // namespace

CpuExecutor::CpuExecutor(const Kernel &kernel, mlir::ModuleOp module,
                         const cpu::CpuTarget &target)
    : Executor(kernel) {
  tile::KernelOp op = kernelOf(module);
  schedule = op.getScheduleAttr();
  std::string symbol = op.getSymName().str();
  name = cpu::symbolName(symbol);
  cpu::KernelNeedsMap all;
  lowerOrRefuse(module,
                [&] { return cpu::lowerTileToCpu(module, target, all); });
  if (!accepted())
    return;
  needs = all.lookup(symbol);
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

void CpuExecutor::call(const KernelWords &words, KvcWorkTile tile) {
  AlignedBytes scratch(needs.scratch, 0xff);
  tile.scratch = scratch.data();
  auto *kernel = reinterpret_cast<void (*)(const void *, const KvcWorkTile *)>(
      image->symbol(name));
  kernel(words.block(needs.params).data(), &tile);
  if (amx::Finding finding = amx::finish(); !finding.empty())
    blame(std::string("AMX: ") + finding.text);
  if (!scratch.ends())
    blame("wrote behind its scratch");
}

/// All work tiles of a sequence.
void CpuExecutor::attendSequence(const AttendInputs &inputs, size_t b,
                                 const KernelWords &words) {
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
        tile.split_queries = int32_t(queries);
        tile.split_row = splitRow[b];
        call(words, tile);
      }
}

reference::AttendResult CpuExecutor::attend(const AttendInputs &inputs) {
  int64_t columns = kernel.heads * kernel.group, dim = kernel.dims[1];
  int64_t longest = *llvm::max_element(inputs.kvLen);
  int64_t split = schedule.getSplit() ? schedule.getSplit() : longest;
  auto splitsOf = [&](size_t b) {
    return llvm::divideCeil(inputs.kvLen[b], split);
  };
  splitRow.clear();
  int64_t splitRows = 0;
  for (size_t b = 0; b < inputs.kvLen.size(); ++b) {
    splitRow.push_back(splitRows);
    splitRows += splitsOf(b) * inputs.queries(b) * columns;
  }
  AlignedBytes o(splitRows * dim * 4, 0xff), lse(splitRows * 4, 0xff);
  KernelWords words;
  words.set(Word::Q, inputs.q.bytes.data());
  words.set(Word::QRowStride, inputs.q.stride);
  words.set(Word::QHeadStride, inputs.q.headStride);
  words.set(Word::CuQ, inputs.cuQ.data());
  words.set(Word::KvLen, inputs.kvLen.data());
  words.set(Word::Table, inputs.table.data());
  words.set(Word::TableStride, inputs.tableStride);
  words.set(Word::PartialO, o.data());
  words.set(Word::PartialLse, lse.data());
  words.setPlanes(inputs.arena->cache());
  int64_t rows = inputs.q.rows, numSplits = llvm::divideCeil(longest, split);
  reference::AttendResult result;
  result.o = reference::Tensor({numSplits, rows, columns, dim}, 0);
  result.lse = reference::Tensor({numSplits, rows, columns}, -INFINITY);
  for (size_t b = 0; b < inputs.kvLen.size(); ++b) {
    attendSequence(inputs, b, words);
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
  KernelWords words;
  words.set(Word::Out, output.out.data());
  words.set(Word::OutRowStride, output.outStride);
  words.set(Word::OutHeadStride, kernel.dims[1] * widthOf(kernel.dtype));
  words.set(Word::Lse, output.wantsLse ? output.lse.data() : nullptr);
  words.set(Word::LseRowStride, output.lseStride);
  words.set(Word::LseHeadStride, 4);
  words.set(Word::CuQ, inputs.cuQ.data());
  words.set(Word::PartialO, inputs.o.data());
  words.set(Word::PartialLse, inputs.lse.data());
  for (size_t b = 0; b + 1 < inputs.cuQ.size(); ++b)
    for (int64_t head = 0; head < kernel.heads; ++head)
      for (int32_t row = 0; row < inputs.cuQ[b + 1] - inputs.cuQ[b]; ++row) {
        KvcWorkTile tile = {};
        tile.sequence = int32_t(b), tile.head = int32_t(head);
        tile.split_idx = int32_t(kernel.numSplits);
        tile.row_begin = row, tile.row_end = row + 1;
        tile.split_queries = inputs.cuQ[b + 1] - inputs.cuQ[b];
        tile.split_row = inputs.splitRow[b];
        call(words, tile);
      }
  return take(output, rows);
}

void CpuExecutor::append(const AppendInputs &inputs, reference::HostCache &to) {
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
  callRows(words, inputs.slots.size());
}

reference::AttendResult CpuExecutor::gather(const GatherInputs &inputs) {
  std::vector<GatherOutput> outputs = makeGatherOutputs(inputs.slots.size());
  KernelWords words = wordsOf(outputs, inputs);
  callRows(words, inputs.slots.size());
  return takeGathered(outputs, inputs);
}

void CpuExecutor::callRows(const KernelWords &words, int64_t rows) {
  KvcWorkTile tile = {};
  // Two work tiles: where one ends, the other begins.
  for (int64_t begin : {int64_t(0), rows / 2}) {
    tile.begin = int32_t(begin);
    tile.end = int32_t(begin ? rows : rows / 2);
    if (rows == 1)
      tile.end = 1;
    call(words, tile);
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
