//===- Attend.cpp - the frame of an attend kernel -------------------------===//
#include "codegen/cpu/Attend.h"

#include "lib/Artifact/KernelAbi.h"

#include "mlir/Dialect/Math/IR/Math.h"
#include "llvm/ADT/TypeSwitch.h"

#include <cmath>
#include <cstddef>

using namespace mlir;
using namespace kvc;
using namespace kvc::cpu;
using Pred = arith::CmpIPredicate;

static constexpr int64_t kPlanes = offsetof(KvcAttendArgs, planes);

AttendKernel::AttendKernel(Kernel &kernel)
    : k(kernel), kit(kernel.kit), schedule(kernel.op.getSchedule()),
      dimK(kernel.cache.getDimK()), dimV(kernel.cache.getDimV()),
      group(kernel.group()), tileTokens(schedule.getTokens()),
      planK(kernel.cache.stream(StreamKind::K).codec, dimK, kit.lanes),
      planV(kernel.cache.stream(StreamKind::V).codec, dimV, kit.lanes),
      codesK(kernel.cache.planeIndex(StreamKind::K, false)),
      codesV(kernel.cache.planeIndex(StreamKind::V, false)),
      planes(kernel.cache.planes()) {
  int64_t page = kernel.cache.layout().getPageTokens();
  even = page % tileTokens == 0; // a contiguous sequence has page 0
}

LogicalResult AttendKernel::emit() {
  int64_t rows = schedule.getRows();
  if (schedule.getPack() && (tileTokens % rows || tileTokens % 2))
    return k.op.emitError("a packed kernel's `tokens` (")
           << tileTokens << ") must be even and a multiple of its `rows` ("
           << rows << ")";
  math = schedule.getPack() ? makePackedMath(*this) : makeDirectMath(*this);
  math->plan();
  if (!even)
    rowTable = k.scratch.reserve(planes.size() * tileTokens * 8);
  loadItem();
  for (Operation &op : k.op.getBody().front()) {
    LogicalResult result =
        llvm::TypeSwitch<Operation *, LogicalResult>(&op)
            .Case([&](tile::LoadQueryOp load) {
              return math->loadQuery(load.getScale().convertToDouble()),
                     success();
            })
            .Case([&](tile::SoftmaxInitOp) {
              return math->initState(), success();
            })
            .Case([&](tile::ForTokensOp loop) { return emitLoop(loop); })
            .Case([&](tile::StorePartialOp) {
              return math->storePartial(), success();
            })
            .Default([](Operation *op) {
              return op->emitError("the CPU target has no attend with this op");
            });
    if (failed(result))
      return failure();
  }
  return success();
}

void AttendKernel::loadItem() {
  sequence = k.itemField(offsetof(KvcWorkItem, sequence));
  head = k.itemField(offsetof(KvcWorkItem, head));
  tokensBegin = k.itemField(offsetof(KvcWorkItem, begin));
  rowBegin = k.itemField(offsetof(KvcWorkItem, row_begin));
  Value rowEnd = k.itemField(offsetof(KvcWorkItem, row_end));
  Value cu = kit.at(kit.loadPtr(k.args, offsetof(KvcAttendArgs, cu_q)),
                    kit.mul(sequence, 4));
  queries = kit.sub(kit.loadI32(cu, 4), kit.loadI32(cu, 0));
  Value length =
      kit.loadI32(kit.at(kit.loadPtr(k.args, offsetof(KvcAttendArgs, kv_len)),
                         kit.mul(sequence, 4)),
                  0);
  posFirst = kit.add(kit.sub(length, queries), rowBegin);
  Value tokens = kit.sub(rowEnd, rowBegin);
  posLast = kit.add(kit.add(posFirst, tokens), -1);
  rows = kit.mul(tokens, group);
  // What the last query sees at most.
  tokensEnd =
      kit.min(k.itemField(offsetof(KvcWorkItem, end)), kit.add(posLast, 1));
  lastTile =
      kit.mul(kit.div(kit.max(kit.add(tokensEnd, -1), kit.i64(0)), tileTokens),
              tileTokens);
  Value stride = kit.loadI64(k.args, offsetof(KvcAttendArgs, table_stride));
  table = kit.at(kit.loadPtr(k.args, offsetof(KvcAttendArgs, table)),
                 kit.mul(kit.mul(sequence, stride), 4));
  bool paged = k.cache.layout().getPageTokens();
  Value outer = paged ? Value() : kit.loadI32(table, 0);
  for (unsigned plane = 0; plane < planes.size(); ++plane) {
    Value origin = kit.at(k.planeBase(kPlanes, plane),
                          kit.mul(head, k.planeHeadStride(kPlanes, plane)));
    Value stride = k.planeOuterStride(kPlanes, plane);
    planeOrigin.push_back(paged ? origin
                                : kit.at(origin, kit.mul(outer, stride)));
    planeOuter.push_back(stride);
  }
}

Value AttendKernel::address(unsigned plane, Value token) {
  int64_t page = k.cache.layout().getPageTokens(), stride = tokenStride(plane);
  if (!page)
    return kit.at(planeOrigin[plane], kit.mul(token, stride));
  Value id = kit.loadI32(kit.at(table, kit.mul(kit.div(token, page), 4)), 0);
  Value base = kit.at(planeOrigin[plane], kit.mul(id, planeOuter[plane]));
  return kit.at(base, kit.mul(kit.rem(token, page), stride));
}

int64_t AttendKernel::rowBytes(unsigned plane) {
  return planes[plane].elements * planes[plane].type.getIntOrFloatBitWidth() /
         8;
}

void AttendKernel::prefetchBytes(Value address, int64_t bytes) {
  for (int64_t byte = 0; byte < bytes; byte += 64)
    kit.prefetch(kit.at(address, byte), schedule.getLevel());
}

//===----------------------------------------------------------------------===//
// Tiles
//===----------------------------------------------------------------------===//

Value TileRows::row(unsigned plane, Value index) const {
  Kit &kit = kernel->kit;
  if (!table.empty())
    return kit.loadPtr(kit.at(table[plane], kit.mul(index, 8)), 0);
  return kit.at(base[plane], kit.mul(index, kernel->tokenStride(plane)));
}

Value TileRows::rowAhead(unsigned plane, Value index) const {
  Kit &kit = kernel->kit;
  int64_t stride = kernel->tokenStride(plane), tokens = kernel->tileTokens;
  int64_t within = kernel->schedule.getPrefetch() % tokens;
  if (!within)
    return kit.at(aheadBase[plane], kit.mul(index, stride));
  Value row = kit.add(index, within);
  Value wrapped = kit.at(afterBase[plane], -tokens * stride);
  Value from = kit.select(kit.cmp(Pred::slt, row, kit.i64(tokens)),
                          aheadBase[plane], wrapped);
  return kit.at(from, kit.mul(row, stride));
}

TileRows AttendKernel::locate(Value first, Value end, bool masked) {
  TileRows rows;
  rows.kernel = this;
  rows.first = first;
  rows.masked = masked;
  if (masked)
    rows.count = kit.min(kit.sub(end, first), kit.i64(tileTokens));
  if (!even) {
    fillTable(rows);
    return rows;
  }
  int64_t ahead = schedule.getPrefetch() / tileTokens * tileTokens;
  auto later = [&](unsigned plane, int64_t tokens) {
    return address(plane, kit.min(kit.add(first, tokens), lastTile));
  };
  for (unsigned plane = 0; plane < planes.size(); ++plane) {
    rows.base.push_back(address(plane, first));
    if (!schedule.getPrefetch() || masked)
      continue;
    rows.aheadBase.push_back(later(plane, ahead));
    rows.afterBase.push_back(later(plane, ahead + tileTokens));
  }
  return rows;
}

/// Rows that stand anywhere: their addresses are looked up once per tile. The
/// same rows of the next tile are prefetched on the way.
void AttendKernel::fillTable(TileRows &rows) {
  for (unsigned plane = 0; plane < planes.size(); ++plane)
    rows.table.push_back(k.scratchAt(rowTable + plane * tileTokens * 8));
  Value count = rows.count ? rows.count : kit.i64(tileTokens);
  kit.loop(kit.i64(0), count, 1, [&](Value index) {
    Value token = kit.add(rows.first, index);
    for (unsigned plane = 0; plane < planes.size(); ++plane)
      kit.store(address(plane, token),
                kit.at(rows.table[plane], kit.mul(index, 8)), 8);
    if (!schedule.getPrefetch() || rows.masked)
      return;
    Value ahead = kit.min(kit.add(token, tileTokens), kit.add(tokensEnd, -1));
    for (unsigned plane : {codesK, codesV})
      prefetchBytes(address(plane, ahead), rowBytes(plane));
  });
}

LogicalResult AttendKernel::emitLoop(tile::ForTokensOp loop) {
  auto read = cast<ReadAttrInterface>(loop.getReadAttr());
  LogicalResult result = success();
  kit.loop(tokensBegin, tokensEnd, tileTokens, [&](Value first) {
    auto tile = [&](bool masked) {
      if (failed(emitTile(loop, locate(first, tokensEnd, masked))))
        result = failure();
    };
    Value last = kit.add(first, tileTokens);
    // Every row sees every token: no mask, no bounds.
    Value full = kit.both(kit.cmp(Pred::sle, last, tokensEnd),
                          kit.cmp(Pred::sle, last, kit.add(posFirst, 1)));
    Value seen;
    if (!read.isAll()) {
      Value sink = kit.i64(read.getSinkTokens());
      Value newest = kit.add(posLast, -read.getRecentTokens());
      Value oldest = kit.add(posFirst, -read.getRecentTokens() + 1);
      full = kit.both(full, kit.either(kit.cmp(Pred::sle, last, sink),
                                       kit.cmp(Pred::sgt, first, newest)));
      seen = kit.either(kit.cmp(Pred::slt, first, sink),
                        kit.cmp(Pred::sgt, last, oldest));
    }
    auto masked = [&] {
      seen ? kit.when(seen, [&] { tile(true); }) : tile(true);
    };
    // With many rows a mask costs little beside the products: one path for all.
    if (schedule.getPack())
      masked();
    else
      kit.when(full, [&] { tile(false); }, masked);
  });
  return result;
}

LogicalResult AttendKernel::emitTile(tile::ForTokensOp loop,
                                     const TileRows &rows) {
  // Steps on scores and on probabilities wait until they are read.
  llvm::DenseMap<Value, SmallVector<Transform>> pending;
  auto pass = [&](Value from, Operation *op) {
    SmallVector<Transform> steps = pending.lookup(from);
    steps.push_back({op});
    pending[op->getResult(0)] = std::move(steps);
  };
  for (Operation &op : loop.getBody().front().without_terminator()) {
    LogicalResult result =
        llvm::TypeSwitch<Operation *, LogicalResult>(&op)
            // Rows are decoded where they are multiplied.
            .Case([&](tile::LoadOp) { return success(); })
            .Case([&](tile::DecodeOp decode) -> LogicalResult {
              if (decode.getScales())
                return decode.emitError(
                    "scales must be folded first (kvc-fold-scales)");
              return success();
            })
            .Case([&](tile::DotOp) { return math->dot(rows), success(); })
            .Case<tile::ScaleTokensOp, tile::SoftcapOp>(
                [&](auto step) { return pass(step.getX(), step), success(); })
            .Case([&](tile::MaskOp mask) {
              if (rows.masked)
                pass(mask.getX(), mask);
              else
                pending[mask.getResult()] = pending.lookup(mask.getX());
              return success();
            })
            .Case([&](tile::SoftmaxStepOp step) {
              return math->softmaxStep(rows, pending.lookup(step.getScores())),
                     success();
            })
            .Case([&](tile::AccumulateOp step) {
              return math->accumulate(rows, pending.lookup(step.getP())),
                     success();
            })
            .Default([](Operation *op) {
              return op->emitError(
                  "the CPU target has no tile op of this kind");
            });
    if (failed(result))
      return failure();
  }
  return success();
}

//===----------------------------------------------------------------------===//
// Services for TileMath
//===----------------------------------------------------------------------===//

Value AttendKernel::queryRow(Value row) {
  Value cu = kit.at(kit.loadPtr(k.args, offsetof(KvcAttendArgs, cu_q)),
                    kit.mul(sequence, 4));
  Value token =
      kit.add(kit.add(kit.loadI32(cu, 0), rowBegin), kit.div(row, group));
  Value stride = kit.loadI64(k.args, offsetof(KvcAttendArgs, q_row_stride));
  Value q = kit.loadPtr(k.args, offsetof(KvcAttendArgs, q));
  Value kvHead = kit.add(head, int64_t(k.store.getHeadBegin()));
  Value column = kit.add(kit.mul(kvHead, group), kit.rem(row, group));
  return kit.at(kit.at(q, kit.mul(token, stride)),
                kit.mul(column, dimK * k.dtypeBytes()));
}

Value AttendKernel::partialRow(Value row) {
  Value base =
      kit.load(kit.b.getI64Type(),
               kit.at(kit.loadPtr(k.args, offsetof(KvcAttendArgs, part_row)),
                      kit.mul(sequence, 8)),
               8);
  Value part = k.itemField(offsetof(KvcWorkItem, part));
  Value token =
      kit.add(kit.add(kit.mul(part, queries), rowBegin), kit.div(row, group));
  Value column = kit.add(kit.mul(head, group), kit.rem(row, group));
  return kit.add(kit.add(base, kit.mul(token, k.cache.getHeads() * group)),
                 column);
}

Value AttendKernel::partialOutput(Value row) {
  return kit.at(kit.loadPtr(k.args, offsetof(KvcAttendArgs, partial_o)),
                kit.mul(partialRow(row), dimV * 4));
}

Value AttendKernel::storePartialLse(Value row, Value m, Value l) {
  Type one = kit.vec(1);
  Value zero = kit.constant(0, one);
  Value empty = kit.fcmp(arith::CmpFPredicate::OEQ, l, zero);
  Value log = math::Log2Op::create(kit.b, kit.loc, l);
  Value lse = kit.fmul(kit.fadd(m, log), kit.constant(M_LN2, one));
  kit.store(kit.select(empty, kit.constant(-INFINITY, one), lse),
            kit.at(kit.loadPtr(k.args, offsetof(KvcAttendArgs, partial_lse)),
                   kit.mul(partialRow(row), 4)));
  Value inverse = kit.select(empty, zero, kit.fdiv(kit.constant(1, one), l));
  return kit.extract(inverse, 0);
}

bool kvc::cpu::hasScales(ArrayRef<Transform> transforms) {
  return llvm::any_of(transforms, [](const Transform &t) {
    return isa<tile::ScaleTokensOp>(t.op);
  });
}

Value AttendKernel::softcap(Value x, tile::SoftcapOp op) {
  double cap = op.getCap().convertToDouble();
  Value inner = kit.fmul(x, kit.constant(1 / cap, x.getType()));
  Value t = math::TanhOp::create(kit.b, kit.loc, inner);
  return kit.fmul(t, kit.constant(cap * M_LOG2E, x.getType()));
}

Value AttendKernel::scaleProbability(Value p, Value scale) {
  Value zero = kit.constant(0, p.getType());
  Value hidden = kit.fcmp(arith::CmpFPredicate::OEQ, p, zero);
  return kit.select(hidden, zero, kit.fmul(p, scale));
}

void AttendKernel::gatherScales(const TileRows &rows, StreamKind kind,
                                int64_t scratch) {
  unsigned plane = scalePlane(kind);
  Type type = planes[plane].type;
  if (!rows.masked && even && tokenStride(plane) == rowBytes(plane) &&
      tileTokens % kit.lanes == 0) {
    for (int64_t i = 0; i < tileTokens; i += kit.lanes)
      kit.store(kit.loadAsF32(type, rows.row(plane, kit.i64(i)), kit.lanes),
                k.scratchAt(scratch + i * 4));
    return;
  }
  Value count = rows.count ? rows.count : kit.i64(tileTokens);
  kit.loop(kit.i64(0), count, 1, [&](Value index) {
    Value scale = kit.loadAsF32(type, rows.row(plane, index), 1);
    kit.store(scale, kit.at(k.scratchAt(scratch), kit.mul(index, 4)));
  });
}

Value AttendKernel::visible(Value tokens, Value positions) {
  int64_t n = cast<VectorType>(tokens.getType()).getNumElements();
  Value seen = kit.both(kit.cmp(Pred::sle, tokens, positions),
                        kit.cmp(Pred::slt, tokens, kit.splatI32(tokensEnd, n)));
  if (read().isAll())
    return seen;
  auto bound = [&](int64_t value) { return kit.i32s(n, int32_t(value)); };
  Value age = arith::SubIOp::create(kit.b, kit.loc, positions, tokens);
  Value near = kit.cmp(Pred::slt, age, bound(read().getRecentTokens()));
  Value sink = kit.cmp(Pred::slt, tokens, bound(read().getSinkTokens()));
  return kit.both(seen, kit.either(near, sink));
}

LogicalResult kvc::cpu::emitAttend(Kernel &kernel) {
  return AttendKernel(kernel).emit();
}
