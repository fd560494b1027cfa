//===- AttendCombine.cpp - the end of a work tile -------------------------===//
//
// Merges the states of the warps in order of warp, writes the rows (or, where
// the sequence has several splits, the split's partial results), and combines
// the splits of a row block where this CTA is the last of its CTAs to arrive.
// Every order is fixed: the same bits however CTAs are scheduled.
//
//===----------------------------------------------------------------------===//
#include "codegen/nvptx/Attend.h"

#include <cmath>
#include <cstddef>

using namespace mlir;
using namespace kvc;
using namespace kvc::nvptx;
using arith::CmpFPredicate;
using arith::CmpIPredicate;

/// All warps take the rows in turn.
void AttendKernel::mergeWarpStates() {
  Value count = kit.sub(current.rowEnd, current.rowBegin);
  kit.loop(warp, count, kit.i32(allWarps()), [&](Value row) { mergeRow(row); });
}

AttendKernel::Merged AttendKernel::mergeStats(Value row, Value sink) {
  Merged merged;
  Values ms, ls;
  Value stats = kit.add(k.at(0, kit.mul(row, 8)).base, smemPipeline);
  for (int64_t w = 0; w < layout.smemPipelines; ++w) {
    Shared at{stats, w * smemPipelineBytes};
    ms.push_back(kit.loadShared(kit.f32(), at));
    ls.push_back(kit.loadShared(kit.f32(), at + 4));
  }
  merged.m = ms[0];
  for (Value m : ArrayRef(ms).drop_front())
    merged.m = kit.fmax(merged.m, m);
  if (sink)
    merged.m = kit.fmax(merged.m, sink);
  // No warp saw anything: all weights are 2^(-inf - 0).
  Value none = kit.fcmp(CmpFPredicate::OEQ, merged.m, kit.f32(-INFINITY));
  Value origin = kit.select(none, kit.f32(0), merged.m);
  for (auto [m, l] : llvm::zip(ms, ls)) {
    merged.weights.push_back(kit.ex2(kit.fsub(m, origin)));
    Value own = kit.fmul(merged.weights.back(), l);
    merged.l = merged.l ? kit.fadd(merged.l, own) : own;
  }
  if (sink)
    merged.l = kit.fadd(merged.l, kit.ex2(kit.fsub(sink, origin)));
  return merged;
}

/// Row of q and out.
Value AttendKernel::outputRow(Value row) {
  return kit.add(current.firstQuery,
                 kit.div(kit.add(current.rowBegin, row), group));
}
/// Q head of the store.
Value AttendKernel::qHead(Value row) {
  return kit.add(kit.mul(current.head, group),
                 kit.rem(kit.add(current.rowBegin, row), group));
}

void AttendKernel::mergeRow(Value row) {
  Value alone = kit.cmp(CmpIPredicate::eq, current.numSplits, kit.i32(1));
  // Of several splits, none has the sink: who combines them adds it.
  Value sink = emitSink(k, body.merge, qHead(row));
  if (sink)
    sink =
        kit.select(alone, kit.fmul(sink, kit.f32(M_LOG2E)), kit.f32(-INFINITY));
  Merged merged = mergeStats(row, sink);
  Value empty = kit.fcmp(CmpFPredicate::OEQ, merged.l, kit.f32(0));
  Value inverse = kit.select(empty, kit.f32(0), kit.rcp(merged.l));
  Value lse = kit.fmul(kit.fadd(merged.m, kit.lg2(merged.l)), kit.f32(M_LN2));
  lse = kit.select(empty, kit.f32(-INFINITY), lse);

  Value head = qHead(row), query = kit.extI64(outputRow(row));
  Value modelHead = kit.add(head, k.firstQueryHead());
  Value out = k.rowHead(kWordsOfOut, query, modelHead);
  Value partialRow =
      k.partialRow(current.sequence, current.splitIdx, current.queries,
                   kit.div(kit.add(current.rowBegin, row), group), head);
  Value partial =
      kit.ptr(k.paramPtr(Word::PartialO), kit.mul(partialRow, dimV * 4));
  Value sums = kit.add(k.at(0, kit.mul(row, sumStride)).base, smemPipeline);
  kit.loop(lane, kit.i32(dimV / 4), kit.i32(kWarpLanes), [&](Value block) {
    Value at = kit.add(sums, kit.mul(block, 16));
    Value total;
    for (int64_t w = 0; w < layout.smemPipelines; ++w) {
      Value x = kit.loadShared(kit.vec(4, kit.f32()),
                               {at, w * smemPipelineBytes + statBytes});
      Value weight = kit.splat(merged.weights[w], 4);
      total = total ? kit.fma(weight, x, total) : kit.fmul(weight, x);
    }
    // Nobody saw anything: sums may hold 0 times anything.
    total = kit.fmul(total, kit.splat(inverse, 4));
    kit.when(
        alone,
        [&] {
          kit.storeFromF32(total, k.dtype,
                           kit.ptr(out, kit.mul(block, 4 * k.dtypeBytes())));
        },
        [&] { kit.store(total, kit.ptr(partial, kit.mul(block, 16)), 16); });
  });
  kit.when(kit.cmp(CmpIPredicate::eq, lane, kit.i32(0)), [&] {
    kit.when(
        alone,
        [&] {
          Value base = k.paramI64(Word::Lse);
          Value wanted = kit.cmp(CmpIPredicate::ne, base, kit.i64(0));
          kit.when(wanted, [&] {
            kit.store(lse, k.rowHead(kWordsOfLse, query, modelHead), 4);
          });
        },
        [&] {
          Value base = k.paramPtr(Word::PartialLse);
          kit.store(lse, kit.ptr(base, kit.mul(partialRow, 4)), 4);
        });
  });
}

/// The CTA that arrives last at a row block combines its splits.
void AttendKernel::combineSplits() {
  Value several = kit.less(kit.i32(1), current.numSplits);
  kit.when(several, [&] {
    // All rows of the split are written before it is counted.
    barrier();
    kit.when(kit.cmp(CmpIPredicate::eq, thread, kit.i32(0)), [&] {
      Value blocks = kit.ceilDiv(kit.mul(current.queries, group), rows);
      Value perSplit = kit.mul(blocks, k.kvHeads());
      Value index = kit.sub(current.index, kit.mul(current.splitIdx, perSplit));
      Value counter = kit.ptr(k.paramPtr(Word::WorkCounters),
                              kit.mul(kit.extI64(index), 4));
      Value before = kit.op1(Ptx::AtomAddAcqRel, {counter, kit.i32(1)});
      // The next layer's attend begins with the same plan.
      Value isLast =
          kit.cmp(CmpIPredicate::eq, kit.add(before, 1), current.numSplits);
      kit.when(isLast, [&] { kit.store(kit.i32(0), counter, 4); });
      kit.storeShared(before, k.at(workTileWords + kLastCtaFlag));
    });
    barrier();
    Value before =
        kit.loadShared(kit.i32(), k.at(workTileWords + kLastCtaFlag));
    Value last =
        kit.cmp(CmpIPredicate::eq, kit.add(before, 1), current.numSplits);
    // Every lane read the same word, which the compiler cannot know.
    Value uniform = kit.op1(
        Ptx::VoteAny,
        arith::ExtUIOp::create(kit.b, kit.kernel, kit.i32(), last).getResult());
    kit.when(kit.cmp(CmpIPredicate::ne, uniform, kit.i32(0)), [&] {
      Value count = kit.sub(current.rowEnd, current.rowBegin);
      Value step = kit.mul(kit.extI64(current.queries), k.queryHeads());
      kit.loop(warp, count, kit.i32(allWarps()), [&](Value row) {
        Value query = kit.div(kit.add(current.rowBegin, row), group);
        SplitsOfRow splits;
        splits.first = k.partialRow(current.sequence, kit.i32(0),
                                    current.queries, query, qHead(row));
        splits.step = step;
        splits.numSplits = current.numSplits;
        splits.row = outputRow(row);
        splits.qHead = qHead(row);
        emitMergeRow(k, body.merge, splits);
      });
    });
  });
}
