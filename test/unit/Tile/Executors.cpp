//===- Executors.cpp - what both executors share --------------------------===//
#include "test/unit/Tile/Executors.h"

#include "mlir/IR/Verifier.h"

using namespace kvc;
using namespace kvc::fuzz;

void Executor::lowerOrRefuse(mlir::ModuleOp module,
                             llvm::function_ref<mlir::LogicalResult()> lower) {
  std::string said;
  mlir::ScopedDiagnosticHandler handler(
      module.getContext(), [&](mlir::Diagnostic &diagnostic) {
        if (diagnostic.getSeverity() == mlir::DiagnosticSeverity::Error &&
            said.empty())
          said = diagnostic.str();
        return mlir::success();
      });
  if (mlir::succeeded(lower())) {
    if (mlir::failed(mlir::verify(module)))
      blame("the backend made IR that does not verify: " + said);
  } else if (said.empty()) {
    blame("refused without a word");
  } else {
    refusal = said;
  }
}

Executor::Output Executor::makeOutput(int64_t rows) const {
  Random random = kernel.random('O');
  Output output;
  output.wantsLse = random.percent(75);
  output.outStride = kernel.qHeads() * kernel.dims[1] * widthOf(kernel.dtype) +
                     16 * random.range(0, 2);
  output.lseStride = kernel.qHeads() * 4 + 4 * random.range(0, 3);
  output.out = AlignedBytes(rows * output.outStride);
  output.lse = AlignedBytes(rows * output.lseStride);
  return output;
}

/// Whether [from, to) of a row is as it was.
static bool untouched(const uint8_t *row, int64_t from, int64_t to) {
  return std::all_of(row + from, row + to, [](uint8_t byte) {
    return byte == AlignedBytes::kPattern;
  });
}

reference::AttendResult Executor::take(const Output &output, int64_t rows) {
  int64_t columns = kernel.heads * kernel.group, dim = kernel.dims[1];
  int64_t first = kernel.firstHead * kernel.group;
  int64_t width = dim * widthOf(kernel.dtype);
  reference::AttendResult result;
  result.o = reference::Tensor({rows, columns, dim}, 0);
  result.lse = reference::Tensor({rows, columns}, NAN);
  if (!output.out.ends() || !output.lse.ends())
    blame("wrote behind out or lse");
  for (int64_t row = 0; row < rows; ++row) {
    const uint8_t *o = output.out.data() + row * output.outStride;
    const uint8_t *lse = output.lse.data() + row * output.lseStride;
    int64_t last = first + columns;
    int64_t lseFirst = output.wantsLse ? first * 4 : output.lseStride;
    int64_t lseLast = output.wantsLse ? last * 4 : output.lseStride;
    if (!untouched(o, 0, first * width) ||
        !untouched(o, last * width, output.outStride) ||
        !untouched(lse, 0, lseFirst) ||
        !untouched(lse, lseLast, output.lseStride))
      blame("wrote beside its q heads of out or lse");
    for (int64_t column = 0; column < columns; ++column) {
      int64_t at = row * columns + column, head = first + column;
      for (int64_t c = 0; c < dim; ++c)
        result.o.data[at * dim + c] =
            loadAs(kernel.dtype, o + head * width + c * widthOf(kernel.dtype));
      if (output.wantsLse)
        result.lse.data[at] = loadAs('f', lse + head * 4);
    }
  }
  if (!output.wantsLse)
    result.lse.data.clear();
  return result;
}

std::vector<Executor::GatherOutput>
Executor::makeGatherOutputs(int64_t rows) const {
  Random random = kernel.random('O');
  std::vector<GatherOutput> outputs;
  for (llvm::StringRef name : {kStreamK, kStreamV}) {
    GatherOutput output{name, AlignedBytes(), 0, 0};
    // GPUs want rows at multiples of 16 bytes.
    output.headStride =
        kernel.dim(name) * widthOf(kernel.dtype) + 16 * random.range(0, 1);
    output.stride =
        kernel.kvHeads * output.headStride + 16 * random.range(0, 2);
    output.bytes = AlignedBytes(rows * output.stride);
    outputs.push_back(std::move(output));
  }
  return outputs;
}

test::KernelWords Executor::wordsOf(std::vector<GatherOutput> &outputs,
                                    const GatherInputs &inputs) const {
  using artifact::Word;
  test::KernelWords words;
  words.set(Word::K, addressOf(outputs[0]));
  words.set(Word::KRowStride, outputs[0].stride);
  words.set(Word::KHeadStride, outputs[0].headStride);
  words.set(Word::V, addressOf(outputs[1]));
  words.set(Word::VRowStride, outputs[1].stride);
  words.set(Word::VHeadStride, outputs[1].headStride);
  words.set(Word::Slot, inputs.slots.data());
  words.set(Word::SlotTokens, inputs.arena->cache().outerTokens);
  words.setPlanes(inputs.arena->cache());
  return words;
}

reference::AttendResult
Executor::takeGathered(const std::vector<GatherOutput> &outputs,
                       const GatherInputs &inputs) {
  std::vector<double> elements;
  for (const GatherOutput &output : outputs) {
    int64_t width = widthOf(kernel.dtype), dim = kernel.dim(output.rows);
    if (!output.bytes.ends())
      blame("wrote behind the rows that it gathers");
    for (auto [i, slot] : llvm::enumerate(inputs.slots)) {
      const uint8_t *row = output.bytes.data() + int64_t(i) * output.stride;
      int64_t end = 0; // of what was stored or looked at
      for (int64_t head = 0; head < kernel.kvHeads; ++head) {
        int64_t at = head * output.headStride;
        bool stores = slot >= 0 && kernel.gathers(output.rows) &&
                      head >= kernel.firstHead &&
                      head < kernel.firstHead + kernel.heads;
        for (int64_t c = 0; c < dim; ++c)
          elements.push_back(stores ? loadAs(kernel.dtype, row + at + c * width)
                                    : 0);
        if (!untouched(row, end, stores ? at : at + dim * width))
          blame("wrote beside the rows that it gathers");
        end = at + dim * width;
      }
      if (!untouched(row, end, output.stride))
        blame("wrote beside the rows that it gathers");
    }
  }
  reference::AttendResult result;
  result.o = reference::Tensor({int64_t(elements.size())}, 0);
  result.o.data = std::move(elements);
  return result;
}
