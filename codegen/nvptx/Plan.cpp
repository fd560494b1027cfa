//===- Plan.cpp - which pieces a batch's attention is cut in --------------===//
//
// One CTA makes the list of work tiles of every attend kernel of a store, since
// only the device knows the lengths. Its threads take the sequences of a round,
// one each; prefix sums say where the work tiles of each begin; then all
// threads write the round's, each finding the sequence of its own by bisection,
// so that one long sequence is as fast as many short ones.
//
// Counts are cut where they exceed what any buffer holds, so that no sum
// overflows whatever the lengths are.
//
//===----------------------------------------------------------------------===//
#include "codegen/nvptx/Kernel.h"

#include <cstddef>

using namespace mlir;
using namespace kvc;
using namespace kvc::nvptx;
using arith::CmpIPredicate;

namespace {

constexpr int64_t kThreads = 256;
constexpr int64_t kWarps = kThreads / kWarpLanes;
/// More split rows than memory for them: 2^48 rows of 36 bytes at least.
constexpr int64_t kManyRows = int64_t(1) << 48;
/// Most work tiles that are counted. Loops step beyond the last by up to a CTA.
constexpr int64_t kMostWorkTiles = INT32_MAX;
constexpr int64_t kMostCapacity = kMostWorkTiles - kThreads;

class PlanKernel {
public:
  PlanKernel(Kernel &k, ArrayRef<PlanVariant> variants)
      : k(k), kit(k.kit), variants(variants) {}
  void emit();

private:
  /// A sequence of the batch. i32.
  struct Sequence {
    Value queries, length;
  };
  /// The splits that some query token sees: [0, sinkEnd) and from recentBegin
  /// on, `numSplits` in all. A sequence without any has one, of no tokens.
  struct Splits {
    Value sinkEnd, recentBegin, numSplits;
  };
  struct Scan {
    Value before, total; ///< of the threads before this; of all
  };
  using Combine = llvm::function_ref<Value(Value, Value)>;

  Kit::Values emitRound(Value first, ValueRange carried);
  Sequence loadSequence(Value index, Value inBatch);
  Value isVariant(size_t v, Value queries);
  Splits splitsOf(const PlanVariant &variant, const Sequence &sequence);
  Value blocksOf(const PlanVariant &variant, Value queries);
  Value splitRowsOf(Value queries, Value numSplits);
  Value workTilesOf(const PlanVariant &variant, Value queries, Value numSplits);
  void writeWorkTiles(size_t v, Value first, Value begin, Value end);
  void writeWorkTile(size_t v, Value first, Value index);

  Value warpShift(Value x, int64_t lanes);
  Scan scan(Value x, int64_t totals, Combine combine);
  void barrier() { kit.op(Ptx::BarSync, {}, {0, kThreads}); }
  Value addWorkTiles(Value x, Value y);

  Value capacityOf(size_t v) {
    Value capacity = k.paramI32(Word::WorkCapacity, artifact::attendName(v));
    return kit.min(capacity, kit.i32(kMostCapacity));
  }

  Kernel &k;
  Kit &kit;
  ArrayRef<PlanVariant> variants;
  Value thread, lane, warp;
  int64_t sequences; ///< shared [kThreads] of Sequence
  int64_t rowTotals; ///< shared [kWarps] of i64
  /// Shared [kThreads]: a sequence's first work tile.
  SmallVector<int64_t> begins;
  SmallVector<int64_t> workTileTotals; ///< shared [kWarps]
};

//===----------------------------------------------------------------------===//
// One sequence
//===----------------------------------------------------------------------===//

PlanKernel::Sequence PlanKernel::loadSequence(Value index, Value inBatch) {
  auto load = [&](Word word, Value i) {
    Value base = k.paramPtr(word);
    return kit.loadReadOnly(kit.i32(), kit.ptr(base, kit.mul(kit.extI64(i), 4)),
                            4);
  };
  Kit::Values loaded = kit.choose(
      inBatch,
      [&] {
        Value begin = load(Word::CuQ, index);
        Value end = load(Word::CuQ, kit.add(index, 1));
        Value length = load(Word::KvLen, index);
        return Kit::Values{kit.sub(end, begin), length};
      },
      [&] { return Kit::Values{kit.i32(0), kit.i32(0)}; });
  Value longest = k.paramI32(Word::MaxKvLen);
  // Rows of a kv head are counted in 32 bits.
  Value most = kit.i32(INT32_MAX / k.group());
  return {kit.max(kit.min(loaded[0], most), kit.i32(0)),
          kit.max(kit.min(loaded[1], longest), kit.i32(0))};
}

/// Whether a sequence with that many query tokens uses variant `v`.
Value PlanKernel::isVariant(size_t v, Value queries) {
  Value from =
      kit.cmp(CmpIPredicate::sge, queries, kit.i32(variants[v].minQueries));
  if (v + 1 == variants.size())
    return from;
  Value to = kit.less(queries, kit.i32(variants[v + 1].minQueries));
  return kit.and_(from, to);
}

PlanKernel::Splits PlanKernel::splitsOf(const PlanVariant &variant,
                                        const Sequence &sequence) {
  Value zero = kit.i32(0), one = kit.i32(1);
  if (variant.split == 0)
    return {zero, zero, one};
  Value all = kit.ceilDiv(sequence.length, variant.split);
  ReadAttrInterface read = k.store.read();
  if (read.isAll())
    return {zero, zero, kit.max(all, one)};
  // The oldest recent token that anyone sees is the first query token's.
  Value first = kit.max(kit.sub(sequence.length, sequence.queries), zero);
  Value oldest =
      kit.max(kit.sub(first, kit.i32(read.getRecentTokens() - 1)), zero);
  Splits splits;
  Value sink = kit.min(sequence.length, kit.i32(read.getSinkTokens()));
  splits.sinkEnd = kit.ceilDiv(sink, variant.split);
  splits.recentBegin = kit.max(kit.div(oldest, variant.split), splits.sinkEnd);
  // Neither the sink nor the oldest token is beyond the last split.
  Value recent = kit.sub(all, splits.recentBegin);
  splits.numSplits = kit.max(kit.add(splits.sinkEnd, recent), one);
  return splits;
}

Value PlanKernel::blocksOf(const PlanVariant &variant, Value queries) {
  return kit.ceilDiv(kit.mul(queries, k.group()), variant.rows);
}

/// Rows (i64) of a sequence's splits, if there are several; at most kManyRows.
Value PlanKernel::splitRowsOf(Value queries, Value numSplits) {
  Value rows = kit.mul(kit.extI64(queries), k.queryHeads());
  Value many = kit.i64(kManyRows);
  Value product = kit.min(kit.mul(rows, kit.extI64(numSplits)), many);
  // Beyond it, the product may be more than 64 bits.
  Value sure = kit.less(rows, kit.i64(int64_t(1) << 32));
  Value several = kit.less(kit.i32(1), numSplits);
  return kit.select(several, kit.select(sure, product, many), kit.i64(0));
}

/// Work tiles of a sequence; at most kMostWorkTiles.
Value PlanKernel::workTilesOf(const PlanVariant &variant, Value queries,
                              Value numSplits) {
  Value blocks = kit.extI64(blocksOf(variant, queries));
  Value perSplit =
      kit.min(kit.mul(blocks, k.kvHeads()), kit.i64(kMostWorkTiles));
  Value workTiles = kit.mul(perSplit, kit.extI64(numSplits));
  return kit.truncI32(kit.min(workTiles, kit.i64(kMostWorkTiles)));
}

//===----------------------------------------------------------------------===//
// Prefix sums
//===----------------------------------------------------------------------===//

/// x (i32 or i64) of the lane that many before this one.
Value PlanKernel::warpShift(Value x, int64_t lanes) {
  if (x.getType().isInteger(32))
    return kit.op1(Ptx::ShflUp, x, lanes);
  Value words = kit.bitcast(x, kit.vec(2, kit.i32()));
  Value low = kit.op1(Ptx::ShflUp, kit.extract(words, 0), lanes);
  Value high = kit.op1(Ptx::ShflUp, kit.extract(words, 1), lanes);
  return kit.bitcast(kit.concat({low, high}), x.getType());
}

/// Over all threads of the CTA, in order. `totals` is shared memory for a value
/// per warp; a barrier must stand between two uses of it.
PlanKernel::Scan PlanKernel::scan(Value x, int64_t totals, Combine combine) {
  int64_t bytes = x.getType().getIntOrFloatBitWidth() / 8;
  Value zero = bytes == 4 ? kit.i32(0) : kit.i64(0);
  Value sum = x;
  for (int64_t lanes = 1; lanes < kWarpLanes; lanes *= 2) {
    Value before = combine(sum, warpShift(sum, lanes));
    sum = kit.select(kit.less(lane, kit.i32(lanes)), sum, before);
  }
  Value isFirst = kit.cmp(CmpIPredicate::eq, lane, kit.i32(0));
  Value own = kit.select(isFirst, zero, warpShift(sum, 1));
  Value isLast = kit.cmp(CmpIPredicate::eq, lane, kit.i32(kWarpLanes - 1));
  kit.when(isLast,
           [&] { kit.storeShared(sum, k.at(totals, kit.mul(warp, bytes))); });
  barrier();
  Scan result{zero, zero};
  for (int64_t w = 0; w < kWarps; ++w) {
    Value total = kit.loadShared(x.getType(), k.at(totals + w * bytes));
    Value isBefore = kit.less(kit.i32(w), warp);
    result.before = combine(result.before, kit.select(isBefore, total, zero));
    result.total = combine(result.total, total);
  }
  result.before = combine(result.before, own);
  return result;
}

/// x + y, at most kMostWorkTiles.
Value PlanKernel::addWorkTiles(Value x, Value y) {
  return arith::MinUIOp::create(kit.b, kit.kernel, kit.add(x, y),
                                kit.i32(kMostWorkTiles));
}

//===----------------------------------------------------------------------===//
// Work tiles
//===----------------------------------------------------------------------===//

/// Work tile `index` of variant `v`, of a sequence of the round that begins
/// with sequence `first`.
void PlanKernel::writeWorkTile(size_t v, Value first, Value index) {
  const PlanVariant &variant = variants[v];
  auto beginOf = [&](Value place) {
    return kit.loadShared(kit.i32(), k.at(begins[v], kit.mul(place, 4)));
  };
  // The last sequence that begins at or before it: those without work begin
  // where the next one does.
  Value place = kit.i32(0);
  for (int64_t step = kThreads / 2; step; step /= 2) {
    Value next = kit.add(place, step);
    Value beyond = kit.less(index, beginOf(next));
    place = kit.select(beyond, place, next);
  }
  Value words =
      kit.loadShared(kit.vec(2, kit.i32()), k.at(sequences, kit.mul(place, 8)));
  Sequence sequence{kit.extract(words, 0), kit.extract(words, 1)};
  Splits splits = splitsOf(variant, sequence);
  Value blocks = blocksOf(variant, sequence.queries);
  Value rest = kit.sub(index, beginOf(place));
  Value quotient = kit.div(rest, blocks);
  Value block = kit.sub(rest, kit.mul(quotient, blocks));
  Value splitIdx = kit.div(quotient, k.kvHeads());
  Value head = kit.sub(quotient, kit.mul(splitIdx, k.kvHeads()));
  Value begin = kit.i32(0), end = sequence.length;
  if (variant.split) {
    Value recent =
        kit.add(splits.recentBegin, kit.sub(splitIdx, splits.sinkEnd));
    Value split =
        kit.select(kit.less(splitIdx, splits.sinkEnd), splitIdx, recent);
    begin = kit.mul(split, variant.split);
    Value tokens =
        kit.min(kit.sub(sequence.length, begin), kit.i32(variant.split));
    end = kit.add(begin, tokens);
  }
  Value rows = kit.mul(sequence.queries, k.group());
  Value rowBegin = kit.mul(block, variant.rows);
  Value rowCount = kit.min(kit.sub(rows, rowBegin), kit.i32(variant.rows));
  Value fields[] = {kit.add(first, place),
                    head,
                    begin,
                    end,
                    splitIdx,
                    splits.numSplits,
                    rowBegin,
                    kit.add(rowBegin, rowCount)};
  Value to = kit.ptr(k.paramPtr(Word::WorkTiles, artifact::attendName(v)),
                     kit.mul(kit.extI64(index), sizeof(KvcGpuWorkTile)));
  kit.store(kit.concat(ArrayRef(fields).take_front(4)), to, 16);
  kit.store(kit.concat(ArrayRef(fields).drop_front(4)), kit.ptr(to, 16), 16);
  Value splitCounters = k.paramPtr(Word::WorkCounters, artifact::attendName(v));
  kit.store(kit.i32(0), kit.ptr(splitCounters, kit.mul(kit.extI64(index), 4)),
            4);
}

/// Work tiles [begin, end) of variant `v`.
void PlanKernel::writeWorkTiles(size_t v, Value first, Value begin, Value end) {
  kit.loop(kit.add(begin, thread), end, kit.i32(kThreads),
           [&](Value index) { writeWorkTile(v, first, index); });
}

//===----------------------------------------------------------------------===//
// Rounds
//===----------------------------------------------------------------------===//

/// Plans sequences from `first` on, one per thread. Carried are the split
/// rows (i64) and the work tiles of each variant that came before.
Kit::Values PlanKernel::emitRound(Value first, ValueRange carried) {
  Value index = kit.add(first, thread);
  Value batch = k.paramI32(Word::Batch);
  Value inBatch = kit.less(index, batch);
  Sequence sequence = loadSequence(index, inBatch);
  Value numSplits = kit.i32(1);
  for (auto [v, variant] : llvm::enumerate(variants))
    numSplits = kit.select(isVariant(v, sequence.queries),
                           splitsOf(variant, sequence).numSplits, numSplits);

  Value splitRows = splitRowsOf(sequence.queries, numSplits);
  Scan rowScan = scan(splitRows, rowTotals,
                      [&](Value x, Value y) { return kit.add(x, y); });
  Value splitRow = kit.add(carried[0], rowScan.before);
  Value room = k.paramI64(Word::SplitRows);
  Value fits = kit.cmp(CmpIPredicate::sle, kit.add(splitRow, splitRows), room);
  // One split needs no room, even behind a sequence that found none.
  fits = kit.or_(fits, kit.cmp(CmpIPredicate::eq, splitRows, kit.i64(0)));
  kit.when(inBatch, [&] {
    Value to = k.paramPtr(Word::SplitRow);
    kit.store(splitRow, kit.ptr(to, kit.mul(kit.extI64(index), 8)), 8);
  });

  Value words = kit.concat({sequence.queries, sequence.length});
  kit.storeShared(words, k.at(sequences, kit.mul(thread, 8)));
  Kit::Values next{
      kit.min(kit.add(carried[0], rowScan.total), kit.i64(kManyRows))};
  for (auto [v, variant] : llvm::enumerate(variants)) {
    Value own = kit.and_(fits, isVariant(v, sequence.queries));
    Value workTiles = workTilesOf(variant, sequence.queries, numSplits);
    Scan workTileScan =
        scan(kit.select(own, workTiles, kit.i32(0)), workTileTotals[v],
             [&](Value x, Value y) { return addWorkTiles(x, y); });
    Value begin = addWorkTiles(carried[v + 1], workTileScan.before);
    kit.storeShared(kit.min(begin, capacityOf(v)),
                    k.at(begins[v], kit.mul(thread, 4)));
    next.push_back(addWorkTiles(carried[v + 1], workTileScan.total));
  }
  barrier();
  for (size_t v = 0; v < variants.size(); ++v)
    writeWorkTiles(v, first, kit.min(carried[v + 1], capacityOf(v)),
                   kit.min(next[v + 1], capacityOf(v)));
  // The next round's first scan has a barrier before anything that is read
  // here is written again.
  return next;
}

void PlanKernel::emit() {
  sequences = k.shared.reserve(kThreads * 8);
  rowTotals = k.shared.reserve(kWarps * 8);
  for (size_t v = 0; v < variants.size(); ++v) {
    begins.push_back(k.shared.reserve(kThreads * 4));
    workTileTotals.push_back(k.shared.reserve(kWarps * 4));
  }
  thread = k.thread();
  lane = k.lane();
  warp = k.warp();
  Kit::Values none{kit.i64(0)};
  none.append(variants.size(), kit.i32(0));
  Value batch = k.paramI32(Word::Batch);
  Kit::Values totals = kit.loop(kit.i32(0), batch, kit.i32(kThreads), none,
                                [&](Value first, ValueRange carried) {
                                  return emitRound(first, carried);
                                });
  kit.when(kit.cmp(CmpIPredicate::eq, thread, kit.i32(0)), [&] {
    for (size_t v = 0; v < variants.size(); ++v) {
      Value count = k.paramPtr(Word::WorkCount, artifact::attendName(v));
      kit.store(kit.min(totals[v + 1], capacityOf(v)), count, 4);
    }
  });
}

} // namespace

void kvc::nvptx::emitPlan(Kernel &kernel, ArrayRef<PlanVariant> variants,
                          LaunchInfo &launch) {
  launch.threads = kThreads;
  PlanKernel(kernel, variants).emit();
}
