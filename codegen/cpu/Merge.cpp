//===- Merge.cpp - splits of an attention combined by log-sum-exp ---------===//
//
// One row at a time: a split is a token with logit lse and value o. The row's
// largest lse is found first, so that the sums need no rescaling.
//
//===----------------------------------------------------------------------===//
#include "codegen/cpu/Kernel.h"
#include "codegen/cpu/KitFunctions.h"

#include "dialect/tile/Graph.h"
#include "lib/base/Artifact/KernelAbi.h"

#include <cmath>
#include <cstddef>

using namespace mlir;
using namespace kvc;
using namespace kvc::cpu;

namespace {

class MergeKernel {
public:
  MergeKernel(Kernel &k, tile::MergeGraph graph)
      : k(k), kit(k.kit), graph(graph), dim(graph.dim()), group(k.group()) {}
  void emit();

private:
  void emitRow(Value row);
  Value sinkOf(Value row);
  Value splitRowIndex(Value splitIdx, Value row);
  Value partial(Word word, Value index, int64_t bytes) {
    return kit.at(k.argPtr(word), kit.mul(index, bytes));
  }
  void storeOutput(Value row, Value inverse, Value sums);
  void storeLse(Value row, Value lse);
  Value kvHead() { return kit.add(head, int64_t(k.store.getHeadBegin())); }
  Value qHead(Value row) {
    return kit.add(kit.mul(kvHead(), group), kit.rem(row, group));
  }

  Kernel &k;
  Kit &kit;
  tile::MergeGraph graph;
  int64_t dim, group;
  int64_t sums = 0; ///< scratch [dim]
  Value head, numSplits, rowBegin, firstQuery;
};

void MergeKernel::emit() {
  sums = k.scratch.reserve(dim * 4);
  Value sequence = k.workTileField(offsetof(KvcWorkTile, sequence));
  head = k.workTileField(offsetof(KvcWorkTile, head));
  numSplits = k.workTileField(offsetof(KvcWorkTile, split_idx));
  rowBegin = k.workTileField(offsetof(KvcWorkTile, row_begin));
  Value rowEnd = k.workTileField(offsetof(KvcWorkTile, row_end));
  Value cu = kit.at(k.argPtr(Word::CuQ), kit.mul(sequence, 4));
  firstQuery = kit.loadI32(cu, 0);
  Value rows = kit.mul(kit.sub(rowEnd, rowBegin), group);
  kit.loop(kit.i64(0), rows, 1, [&](Value row) { emitRow(row); });
}

Value MergeKernel::splitRowIndex(Value splitIdx, Value row) {
  return k.partialRow(splitIdx, kit.add(rowBegin, kit.div(row, group)),
                      kit.add(kit.mul(head, group), kit.rem(row, group)));
}

/// The logit that every row has seen before the first split; -inf: none.
Value MergeKernel::sinkOf(Value row) {
  if (graph.init.getSink().empty())
    return kit.constant(-INFINITY, kit.vec(1));
  ScoreInputs inputs;
  inputs.qHead = kit.splatI32(qHead(row), 1);
  inputs.kvHead = kit.splatI32(kvHead(), 1);
  KitFunctions functions(k);
  return emitScoreRegion(kit.b, kit.loc, graph.init.getSink(), inputs,
                         functions);
}

void MergeKernel::emitRow(Value row) {
  Type one = kit.vec(1);
  auto lseOf = [&](Value splitIdx) {
    return kit.load(one,
                    partial(Word::PartialLse, splitRowIndex(splitIdx, row), 4));
  };
  auto f = [&](double value) { return kit.constant(value, one); };
  Value sink = sinkOf(row);
  Value largest = kit.loop(kit.i64(0), numSplits, 1, ValueRange{sink},
                           [&](Value splitIdx, ValueRange carried) {
                             return SmallVector<Value>{
                                 kit.fmaxKeepNaN(carried[0], lseOf(splitIdx))};
                           })[0];
  auto isNone = [&](Value x) {
    return kit.fcmp(arith::CmpFPredicate::OEQ, x, f(-INFINITY));
  };
  Value origin = kit.select(isNone(largest), f(0), largest);
  auto forChannels = [&](Kit::Body body) { kit.loop(0, dim, 8, body); };
  Value at = k.scratchAt(sums);
  forChannels([&](Value c) {
    kit.store(kit.constant(0, kit.vec(8)), kit.at(at, kit.mul(c, 4)));
  });
  auto weightOf = [&](Value lse) {
    return kit.exp2(kit.fmul(kit.fsub(lse, origin), f(M_LOG2E)));
  };
  Value start = graph.init.getSink().empty() ? f(0) : weightOf(sink);
  Value total = kit.loop(
      kit.i64(0), numSplits, 1, ValueRange{start},
      [&](Value splitIdx, ValueRange carried) {
        Value splitLse = lseOf(splitIdx);
        Value weight = weightOf(splitLse);
        Value weights = kit.splat(kit.extract(weight, 0), 8);
        // The o of a split that saw nothing may be anything.
        Value none = kit.extract(isNone(splitLse), 0);
        Value nothing = kit.constant(0, kit.vec(8));
        Value o =
            partial(Word::PartialO, splitRowIndex(splitIdx, row), dim * 4);
        forChannels([&](Value c) {
          Value slot = kit.at(at, kit.mul(c, 4));
          Value x = kit.load(kit.vec(8), kit.at(o, kit.mul(c, 4)));
          x = kit.select(none, nothing, x);
          kit.store(kit.fma(weights, x, kit.load(kit.vec(8), slot)), slot);
        });
        return SmallVector<Value>{kit.fadd(carried[0], weight)};
      })[0];
  Value empty = kit.fcmp(arith::CmpFPredicate::OEQ, total, f(0));
  Value inverse = kit.select(empty, f(0), kit.fdiv(f(1), total));
  Value log = math::Log2Op::create(kit.b, kit.loc, total);
  Value lse = kit.fma(log, f(M_LN2), origin);
  storeLse(row, kit.select(empty, f(-INFINITY), lse));
  storeOutput(row, kit.extract(inverse, 0), at);
}

void MergeKernel::storeLse(Value row, Value lse) {
  Value base = k.argPtr(Word::Lse);
  Value query = kit.add(kit.add(firstQuery, rowBegin), kit.div(row, group));
  kit.when(kit.isNotNull(base),
           [&] { kit.store(lse, k.rowHead(kWordsOfLse, query, qHead(row))); });
}

void MergeKernel::storeOutput(Value row, Value inverse, Value from) {
  Value query = kit.add(kit.add(firstQuery, rowBegin), kit.div(row, group));
  Value out = k.rowHead(kWordsOfOut, query, qHead(row));
  kit.loop(0, dim, 8, [&](Value c) {
    Value x = kit.load(kit.vec(8), kit.at(from, kit.mul(c, 4)));
    x = kit.fmul(x, kit.splat(inverse, 8));
    kit.storeFromF32(x, k.dtype, kit.at(out, kit.mul(c, k.dtypeBytes())));
  });
}

} // namespace

LogicalResult kvc::cpu::emitMerge(Kernel &kernel) {
  FailureOr<tile::MergeGraph> graph = tile::MergeGraph::of(kernel.op);
  if (failed(graph))
    return failure();
  MergeKernel(kernel, *graph).emit();
  return success();
}
