//===- Merge.cpp - splits of an attention combined by log-sum-exp ---------===//
//
// A split is a token with logit lse and value o. One warp combines a row: its
// lanes find the largest lse together, so that the sums need no rescaling, then
// each sums its own channels in order of split.
//
//===----------------------------------------------------------------------===//
#include "codegen/nvptx/Kernel.h"
#include "codegen/nvptx/KitFunctions.h"

#include <cmath>
#include <cstddef>

using namespace mlir;
using namespace kvc;
using namespace kvc::nvptx;
using arith::CmpFPredicate;

namespace {

constexpr int64_t kThreads = 128;
constexpr int64_t kLaneChannels = 4; ///< of a lane in each block
constexpr int64_t kBlock = kLaneChannels * kWarpLanes;
/// Loads of o that a lane has under way; each is 16 bytes.
constexpr int64_t kLoadsAhead = 8;

class RowMerge {
public:
  RowMerge(Kernel &k, const tile::MergeGraph &graph, const SplitsOfRow &row)
      : k(k), kit(k.kit), graph(graph), row(row), dim(graph.dim()),
        blocks(llvm::divideCeil(dim, kBlock)), lane(k.lane()),
        partialO(k.paramPtr(Word::PartialO)),
        partialLse(k.paramPtr(Word::PartialLse)) {}
  void emit();

private:
  Value largestLse();
  Kit::Values addSplits(Value splitIdx, int64_t count, ValueRange carried);
  void storeLse(Value lse);
  void storeOutput(ValueRange sums, Value inverse);

  Value splitRowIndex(Value splitIdx) {
    return kit.add(row.first, kit.mul(kit.extI64(splitIdx), row.step));
  }
  Value lseOf(Value splitIdx) {
    return kit.load(
        kit.f32(), kit.ptr(partialLse, kit.mul(splitRowIndex(splitIdx), 4)), 4);
  }
  /// The lane's first channel of a block; beyond the row's last in a last
  /// block that is not whole.
  Value channel(int64_t block) {
    return kit.add(kit.mul(lane, kLaneChannels), block * kBlock);
  }
  bool isWhole(int64_t block) { return (block + 1) * kBlock <= dim; }
  Value loadO(Value splitIdx, int64_t block);
  Value weightOf(Value lse) {
    return kit.ex2(kit.fmul(kit.fsub(lse, origin), kit.f32(M_LOG2E)));
  }
  Value isNone(Value lse) {
    return kit.fcmp(CmpFPredicate::OEQ, lse, kit.f32(-INFINITY));
  }

  Kernel &k;
  Kit &kit;
  const tile::MergeGraph &graph;
  const SplitsOfRow &row;
  const int64_t dim, blocks;
  Value lane, partialO, partialLse;
  Value origin; ///< the largest lse, or 0 if no split saw anything
};

Value RowMerge::largestLse() {
  Value largest =
      kit.loop(lane, row.numSplits, kit.i32(kWarpLanes), kit.f32(-INFINITY),
               [&](Value splitIdx, ValueRange carried) {
                 return Kit::Values{kit.fmax(carried[0], lseOf(splitIdx))};
               })[0];
  for (int64_t mask = kWarpLanes / 2; mask; mask /= 2)
    largest = kit.fmax(largest, kit.shflXor(largest, mask));
  return largest;
}

Value RowMerge::loadO(Value splitIdx, int64_t block) {
  // Lanes beyond the row read its last channels again, and store nothing.
  Value first = channel(block);
  if (!isWhole(block))
    first = kit.min(first, kit.i32(dim - kLaneChannels));
  Value from = kit.ptr(partialO, kit.mul(splitRowIndex(splitIdx), dim * 4));
  return kit.load(kit.vec(kLaneChannels, kit.f32()),
                  kit.ptr(from, kit.mul(first, 4)), 16);
}

/// Adds splits [splitIdx, splitIdx + count) to the sums of each block and to
/// the sum of weights, which comes last.
Kit::Values RowMerge::addSplits(Value splitIdx, int64_t count,
                                ValueRange carried) {
  Kit::Values sums(carried), lses, os;
  // All loads before the first use.
  for (int64_t i = 0; i < count; ++i) {
    Value at = kit.add(splitIdx, i);
    lses.push_back(lseOf(at));
    for (int64_t block = 0; block < blocks; ++block)
      os.push_back(loadO(at, block));
  }
  for (int64_t i = 0; i < count; ++i) {
    Value weight = weightOf(lses[i]);
    Value weights = kit.splat(weight, kLaneChannels);
    // The o of a split that saw nothing may be anything.
    Value none = isNone(lses[i]);
    Value zero = kit.constant(0, kit.vec(kLaneChannels, kit.f32()));
    for (int64_t block = 0; block < blocks; ++block) {
      Value o = kit.select(none, zero, os[i * blocks + block]);
      sums[block] = kit.fma(weights, o, sums[block]);
    }
    sums[blocks] = kit.fadd(sums[blocks], weight);
  }
  return sums;
}

void RowMerge::emit() {
  Value largest = largestLse(), sink = emitSink(k, graph, row.qHead);
  if (sink)
    largest = kit.fmax(largest, sink);
  origin = kit.select(isNone(largest), kit.f32(0), largest);
  Kit::Values sums(blocks, kit.constant(0, kit.vec(kLaneChannels, kit.f32())));
  sums.push_back(sink ? weightOf(sink) : kit.f32(0));
  // Many splits at a time, then what is left; the order is the same.
  int64_t ahead = std::max<int64_t>(2, kLoadsAhead / blocks);
  Value most = kit.mul(kit.div(row.numSplits, ahead), ahead);
  sums = kit.loop(kit.i32(0), most, kit.i32(ahead), sums,
                  [&](Value splitIdx, ValueRange carried) {
                    return addSplits(splitIdx, ahead, carried);
                  });
  sums = kit.loop(most, row.numSplits, kit.i32(1), sums,
                  [&](Value splitIdx, ValueRange carried) {
                    return addSplits(splitIdx, 1, carried);
                  });
  Value total = sums.pop_back_val();
  Value empty = kit.fcmp(CmpFPredicate::OEQ, total, kit.f32(0));
  Value inverse = arith::DivFOp::create(kit.b, kit.kernel, kit.f32(1), total);
  inverse = kit.select(empty, kit.f32(0), inverse);
  Value lse = kit.fma(kit.lg2(total), kit.f32(M_LN2), origin);
  storeLse(kit.select(empty, kit.f32(-INFINITY), lse));
  storeOutput(sums, inverse);
}

void RowMerge::storeLse(Value lse) {
  Value address = k.paramI64(Word::Lse);
  Value wanted = kit.cmp(arith::CmpIPredicate::ne, address, kit.i64(0));
  Value first = kit.cmp(arith::CmpIPredicate::eq, lane, kit.i32(0));
  kit.when(kit.and_(wanted, first), [&] {
    Value qHead = kit.add(row.qHead, k.firstQueryHead());
    kit.store(lse, k.rowHead(kWordsOfLse, kit.extI64(row.row), qHead), 4);
  });
}

void RowMerge::storeOutput(ValueRange sums, Value inverse) {
  Value qHead = kit.add(row.qHead, k.firstQueryHead());
  Value to = k.rowHead(kWordsOfOut, kit.extI64(row.row), qHead);
  for (int64_t block = 0; block < blocks; ++block) {
    Value x = kit.fmul(sums[block], kit.splat(inverse, kLaneChannels));
    Value first = channel(block);
    auto store = [&] {
      kit.storeFromF32(x, k.dtype, kit.ptr(to, kit.mul(first, k.dtypeBytes())));
    };
    if (isWhole(block))
      store();
    else
      kit.when(kit.less(first, kit.i32(dim)), store);
  }
}

/// The sequence that row `row` of q belongs to: the last that begins at or
/// before it.
Value sequenceOf(Kernel &k, Value cu, Value row) {
  Kit &kit = k.kit;
  Value batch = k.paramI32(Word::Batch);
  Value zeros = LLVM::CountLeadingZerosOp::create(
      kit.b, kit.kernel, kit.i32(), batch, /*is_zero_poison=*/false);
  Value steps = kit.sub(kit.i32(32), zeros);
  // cu[low] <= row < cu[high]
  return kit.loop(
      kit.i32(0), steps, kit.i32(1), {kit.i32(0), batch},
      [&](Value, ValueRange range) {
        Value middle = kit.shr(kit.add(range[0], range[1]), 1);
        Value begin = kit.loadReadOnly(
            kit.i32(), kit.ptr(cu, kit.mul(kit.extI64(middle), 4)), 4);
        Value below = kit.cmp(arith::CmpIPredicate::sle, begin, row);
        return Kit::Values{kit.select(below, middle, range[0]),
                           kit.select(below, range[1], middle)};
      })[0];
}

void emitRows(Kernel &k, const tile::MergeGraph &graph) {
  Kit &kit = k.kit;
  Value warp = k.gridWarp(kThreads / kWarpLanes);
  Value row = kit.div(warp, k.queryHeads());
  Value qHead = kit.sub(warp, kit.mul(row, k.queryHeads()));
  Value cu = k.paramPtr(Word::CuQ);
  auto cuOf = [&](Value sequence) {
    return kit.loadReadOnly(kit.i32(),
                            kit.ptr(cu, kit.mul(kit.extI64(sequence), 4)), 4);
  };
  Value rows = cuOf(k.paramI32(Word::Batch));
  kit.when(kit.cmp(arith::CmpIPredicate::ult, row, rows), [&] {
    Value sequence = sequenceOf(k, cu, row);
    Value first = cuOf(sequence);
    Value queries = kit.sub(cuOf(kit.add(sequence, 1)), first);
    SplitsOfRow splits;
    splits.first =
        k.partialRow(sequence, kit.i32(0), queries, kit.sub(row, first), qHead);
    splits.step = kit.mul(kit.extI64(queries), k.queryHeads());
    splits.numSplits = k.paramI32(Word::NumSplits);
    splits.row = row;
    splits.qHead = qHead;
    emitMergeRow(k, graph, splits);
  });
}

} // namespace

Value kvc::nvptx::emitSink(Kernel &kernel, const tile::MergeGraph &graph,
                           Value qHead) {
  mlir::Region &sink = tile::SoftmaxInitOp(graph.init).getSink();
  if (sink.empty())
    return Value();
  Kit &kit = kernel.kit;
  ScoreInputs inputs;
  inputs.qHead = kit.add(qHead, kernel.firstQueryHead());
  inputs.kvHead = kit.div(inputs.qHead, kernel.group());
  KitFunctions functions(kernel);
  return emitScoreRegion(kit.b, kit.kernel, sink, inputs, functions);
}

void kvc::nvptx::emitMergeRow(Kernel &kernel, const tile::MergeGraph &graph,
                              const SplitsOfRow &row) {
  RowMerge(kernel, graph, row).emit();
}

LogicalResult kvc::nvptx::emitMerge(Kernel &kernel, LaunchInfo &launch) {
  launch.threads = kThreads;
  // Left alone, the assembler takes so few for sm_120 that some are spilled.
  launch.registers = 64;
  FailureOr<tile::MergeGraph> graph = tile::MergeGraph::of(kernel.op);
  if (failed(graph))
    return failure();
  emitRows(kernel, *graph);
  return success();
}
