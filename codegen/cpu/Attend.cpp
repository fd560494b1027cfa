//===- Attend.cpp - the frame of an attend kernel -------------------------===//
#include "codegen/cpu/Attend.h"

#include "lib/Artifact/KernelAbi.h"

#include "mlir/Dialect/Math/IR/Math.h"
#include "llvm/ADT/SetVector.h"
#include "llvm/ADT/TypeSwitch.h"
#include "llvm/Support/MathExtras.h"

#include <cmath>
#include <cstddef>

using namespace mlir;
using namespace kvc;
using namespace kvc::cpu;
using Pred = arith::CmpIPredicate;

static constexpr int64_t kPlanes = offsetof(KvcAttendArgs, planes);

Products::Products(tile::KernelOp kernel) {
  auto operand = [](Value x) -> Operand {
    auto decode = x.getDefiningOp<tile::DecodeOp>();
    return {decode,
            decode ? decode.getCodes().getDefiningOp<tile::LoadOp>() : nullptr};
  };
  kernel->walk([&](tile::DotOp op) {
    k = dot ? Operand() : operand(op.getK());
    dot = op;
  });
  kernel->walk([&](tile::AccumulateOp op) {
    v = accumulate ? Operand() : operand(op.getV());
    accumulate = op;
  });
}

/// Elements per row of a tile.
static int64_t rowElements(Value tile) {
  return cast<RankedTensorType>(tile.getType()).getDimSize(1);
}

AttendKernel::AttendKernel(Kernel &kernel, Products products)
    : k(kernel), kit(kernel.kit), schedule(kernel.op.getSchedule()),
      dimK(rowElements(products.dot.getK())),
      dimV(rowElements(products.accumulate.getV())), group(kernel.group()),
      tileTokens(schedule.getTokens()),
      planK(products.k.codec(), dimK, kit.lanes),
      planV(products.v.codec(), dimV, kit.lanes),
      codesK(kernel.cache.planeIndex(products.k.load.getStream(), false)),
      codesV(kernel.cache.planeIndex(products.v.load.getStream(), false)),
      planes(kernel.cache.planes()) {
  int64_t page = kernel.cache.layout().getPageTokens();
  even = page % tileTokens == 0; // a contiguous sequence has page 0
}

/// Says what makes this kernel slower than it could be.
void AttendKernel::remarkSlowPaths() {
  LayoutAttrInterface layout = k.cache.layout();
  auto remark = [&] {
    return k.op.emitRemark("`") << k.op.getSymName() << "`: ";
  };
  if (!even && !schedule.getPack()) // a small part of many rows' work
    remark() << "tiles of " << tileTokens << " tokens straddle pages of "
             << layout.getPageTokens()
             << ": rows are found one by one [R-ROW-TABLE]";
  if (layout.getOrderName() == "NHD" && k.cache.getHeads() > 1)
    remark() << "order NHD puts the rows of a head " << tokenStride(codesK)
             << " bytes apart; HND reads them in one stream [R-NHD]";
  llvm::SmallSetVector<Type, 2> codes;
  codes.insert(planK.codec.getCodeType());
  codes.insert(planV.codec.getCodeType());
  for (Type code : codes) {
    TargetAttr target = k.target();
    bool known = llvm::is_contained(target.getDot(), code);
    bool taken = target.hasDot(code, k.dtype);
    if (schedule.getPack()) {
      known |= llvm::is_contained(target.getMatrix(), code);
      taken |= target.hasMatrix(code, k.dtype);
    }
    if (known && !taken)
      remark() << "codes of " << code << " are decoded to f32: the target's "
               << "products of them would round a model of " << k.dtype
               << " [R-DECODED]";
  }
}

/// What these loops ask of a schedule beyond its own rules.
LogicalResult AttendKernel::checkSchedule() {
  int64_t rows = schedule.getRows();
  if (schedule.getPack()) {
    auto matrix = [&](const ChannelPlan &plan) {
      return schedule.getDot() &&
             k.target().hasMatrix(plan.codec.getCodeType(), k.dtype);
    };
    if ((matrix(planK) || matrix(planV)) && tileTokens % 32)
      return k.op.emitError("with matrix registers, `tokens` (")
             << tileTokens << ") must be a multiple of 32";
    if (tileTokens % rows || tileTokens % 2 || 2 * kit.lanes % rows)
      return k.op.emitError("a packed kernel's `rows` (")
             << rows << ") must divide " << 2 * kit.lanes
             << " and its `tokens` (" << tileTokens << "), which must be even";
    return success();
  }
  if (!llvm::isPowerOf2_64(tileTokens) ||
      !llvm::isPowerOf2_64(schedule.getKeys()))
    return k.op.emitError("`tokens` (")
           << tileTokens << ") and `keys` (" << schedule.getKeys()
           << ") must be powers of two unless `pack` is true";
  return success();
}

LogicalResult AttendKernel::emit() {
  if (failed(checkSchedule()))
    return failure();
  remarkSlowPaths();
  math = schedule.getPack() ? makePackedMath(*this) : makeDirectMath(*this);
  math->plan();
  buffers = k.scratch.reserve(2 * math->bufferBytes());
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
    kit.prefetch(kit.anywhere(address, kit.i64(byte)), schedule.getLevel());
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
  Value from = aheadBase[plane], row = index;
  if (within) {
    row = kit.add(index, within);
    Value here = kit.cmp(Pred::slt, row, kit.i64(tokens));
    from = kit.select(here, from, afterBase[plane]);
    row = kit.select(here, row, kit.add(row, -tokens));
  }
  return kit.anywhere(from, kit.mul(row, stride));
}

TileRows AttendKernel::locate(Value first, bool masked) {
  TileRows rows;
  rows.kernel = this;
  rows.first = first;
  rows.masked = masked;
  rows.buffer = k.scratchAt(buffers);
  if (masked)
    rows.count = kit.min(kit.sub(tokensEnd, first), kit.i64(tileTokens));
  if (!even) {
    fillTable(rows);
    return rows;
  }
  int64_t ahead = schedule.getPrefetch() / tileTokens * tileTokens;
  auto later = [&](unsigned plane, int64_t tokens) {
    return address(plane, kit.min(kit.add(first, tokens), lastTile));
  };
  for (unsigned plane = 0; plane < planes.size(); ++plane) {
    rows.base.push_back(later(plane, 0));
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
  Value count = countOf(rows);
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

AttendKernel::Sight AttendKernel::sight(Value first, ReadAttrInterface read) {
  Value last = kit.add(first, tileTokens);
  Sight sight;
  sight.full = kit.both(kit.cmp(Pred::sle, last, tokensEnd),
                        kit.cmp(Pred::sle, last, kit.add(posFirst, 1)));
  if (read.isAll())
    return sight;
  Value sink = kit.i64(read.getSinkTokens());
  Value newest = kit.add(posLast, -read.getRecentTokens());
  Value oldest = kit.add(posFirst, -read.getRecentTokens() + 1);
  sight.full =
      kit.both(sight.full, kit.either(kit.cmp(Pred::sle, last, sink),
                                      kit.cmp(Pred::sgt, first, newest)));
  sight.seen = kit.either(kit.cmp(Pred::slt, first, sink),
                          kit.cmp(Pred::sgt, last, oldest));
  return sight;
}

/// Tile after tile.
LogicalResult AttendKernel::emitLoop(tile::ForTokensOp loop) {
  if (even && !schedule.getPack())
    return emitPipelined(loop);
  auto read = cast<ReadAttrInterface>(loop.getReadAttr());
  LogicalResult result = success();
  kit.loop(tokensBegin, tokensEnd, tileTokens, [&](Value first) {
    auto tile = [&](bool masked) {
      if (failed(emitTile(loop, locate(first, masked))))
        result = failure();
    };
    Sight sight = this->sight(first, read);
    auto masked = [&] {
      sight.seen ? kit.when(sight.seen, [&] { tile(true); }) : tile(true);
    };
    if (math->masksAll())
      masked();
    else
      kit.when(sight.full, [&] { tile(false); }, masked);
  });
  return result;
}

/// A tile's softmax is a long chain that everything after it waits for, and a
/// core looks only a few hundred instructions ahead. So the scores of the next
/// full tile come before the output of this one, in the other of two buffers.
LogicalResult AttendKernel::emitPipelined(tile::ForTokensOp loop) {
  auto read = cast<ReadAttrInterface>(loop.getReadAttr());
  LogicalResult result = success();
  auto check = [&](LogicalResult step) {
    if (failed(step))
      result = failure();
  };
  Value never =
      arith::ConstantOp::create(kit.b, kit.loc, kit.b.getBoolAttr(false));
  Value origin = planeOrigin[codesV];
  // One round more than there are tiles, for the output of the last.
  kit.loop(tokensBegin, kit.add(tokensEnd, tileTokens), tileTokens,
           ValueRange{never, kit.i64(0), origin, origin, origin},
           [&](Value first, ValueRange carried) {
             Sight sight = this->sight(first, read);
             Value exists = kit.cmp(Pred::slt, first, tokensEnd);
             TileRows rows = locate(first, /*masked=*/false);
             rows.buffer = kit.at(rows.buffer, carried[1]);
             kit.when(sight.full, [&] { check(emitScores(loop, rows)); });

             TileRows before = rows; // of it, only V's rows and the buffer
             before.first = {};
             Value other = kit.sub(kit.i64(math->bufferBytes()), carried[1]);
             before.buffer = kit.at(k.scratchAt(buffers), other);
             before.base[codesV] = carried[2];
             if (schedule.getPrefetch()) {
               before.aheadBase[codesV] = carried[3];
               before.afterBase[codesV] = carried[4];
             }
             kit.when(carried[0], [&] { math->accumulate(before); });

             Value partly = kit.both(exists, kit.negate(sight.full));
             if (sight.seen)
               partly = kit.both(partly, sight.seen);
             kit.when(partly, [&] {
               TileRows masked = locate(first, /*masked=*/true);
               masked.buffer = rows.buffer;
               check(emitTile(loop, masked));
             });
             bool ahead = schedule.getPrefetch();
             return SmallVector<Value>{sight.full, other, rows.base[codesV],
                                       ahead ? rows.aheadBase[codesV] : origin,
                                       ahead ? rows.afterBase[codesV] : origin};
           });
  return result;
}

LogicalResult AttendKernel::emitTile(tile::ForTokensOp loop,
                                     const TileRows &rows) {
  if (failed(emitScores(loop, rows)))
    return failure();
  math->accumulate(rows);
  return success();
}

/// All of a tile but the last product.
LogicalResult AttendKernel::emitScores(tile::ForTokensOp loop,
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
            .Case([&](tile::ScaleTokensOp step) -> LogicalResult {
              if (!step.getScales().getDefiningOp<tile::LoadOp>() ||
                  scaledBy(pending.lookup(step.getX())))
                return step.emitError("the CPU target scales once, by scales "
                                      "as they are loaded");
              return pass(step.getX(), step), success();
            })
            .Case([&](tile::SoftcapOp step) {
              return pass(step.getX(), step), success();
            })
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
            .Case([&](tile::AccumulateOp step) -> LogicalResult {
              SmallVector<Transform> steps = pending.lookup(step.getP());
              for (const Transform &transform : steps)
                if (!isa<tile::ScaleTokensOp>(transform.op))
                  return transform.op->emitError(
                      "the CPU target only scales probabilities");
              return math->prepare(rows, steps), success();
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
  return k.partialRow(sequence, k.itemField(offsetof(KvcWorkItem, part)),
                      queries, kit.add(rowBegin, kit.div(row, group)),
                      kit.add(kit.mul(head, group), kit.rem(row, group)));
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

std::optional<StreamKind> kvc::cpu::scaledBy(ArrayRef<Transform> transforms) {
  for (const Transform &transform : transforms)
    if (auto scale = dyn_cast<tile::ScaleTokensOp>(transform.op))
      if (auto load = scale.getScales().getDefiningOp<tile::LoadOp>())
        return load.getStream();
  return std::nullopt;
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
  if (!rows.aheadBase.empty())
    prefetchBytes(rows.aheadBase[plane], tileTokens * tokenStride(plane));
  if (!rows.masked && even && tokenStride(plane) == rowBytes(plane) &&
      tileTokens % kit.lanes == 0) {
    for (int64_t i = 0; i < tileTokens; i += kit.lanes)
      kit.store(kit.loadAsF32(type, rows.row(plane, kit.i64(i)), kit.lanes),
                k.scratchAt(scratch + i * 4));
    return;
  }
  Value count = countOf(rows);
  kit.loop(kit.i64(0), count, 1, [&](Value index) {
    Value scale = kit.loadAsF32(type, rows.row(plane, index), 1);
    kit.store(scale, kit.at(k.scratchAt(scratch), kit.mul(index, 4)));
  });
}

Value AttendKernel::visible(Value tokens, Value positions,
                            ReadAttrInterface read) {
  int64_t n = cast<VectorType>(tokens.getType()).getNumElements();
  Value seen = kit.both(kit.cmp(Pred::sle, tokens, positions),
                        kit.cmp(Pred::slt, tokens, kit.splatI32(tokensEnd, n)));
  if (read.isAll())
    return seen;
  auto bound = [&](int64_t value) { return kit.i32s(n, int32_t(value)); };
  Value age = arith::SubIOp::create(kit.b, kit.loc, positions, tokens);
  Value near = kit.cmp(Pred::slt, age, bound(read.getRecentTokens()));
  Value sink = kit.cmp(Pred::slt, tokens, bound(read.getSinkTokens()));
  return kit.both(seen, kit.either(near, sink));
}

LogicalResult kvc::cpu::emitAttend(Kernel &kernel) {
  Products products(kernel.op);
  if (!products.valid())
    return kernel.op.emitError("the CPU target has attends of one dot and one "
                               "accumulate, on decoded tiles of a stream");
  return AttendKernel(kernel, products).emit();
}
