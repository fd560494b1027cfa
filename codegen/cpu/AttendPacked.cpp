//===- AttendPacked.cpp - many query rows: small matrix products ----------===//
//
// q is transposed once per work tile, so that neither product needs the tile
// transposed, and the softmax of a block of rows runs down its columns:
//
//   sT  [token][row]   =  k [token][dim k]  *  qT [dim k][row]    per block
//   acc [row][dim v]  = alpha * acc + (sT)T  *  v [token][dim v]
//
//===----------------------------------------------------------------------===//
#include "codegen/cpu/PackedMainloop.h"

#include <cmath>

using namespace mlir;
using namespace kvc;
using namespace kvc::cpu;
using Pred = arith::CmpFPredicate;

Value PackedBlocks::weight(Value at, Value token, int64_t lanes) {
  Value x = kit.load(kit.vec(lanes), at);
  if (!scaled)
    return x;
  Value scale = kit.load(kit.f32(), element(scaleV, token));
  return a.scaleProbability(x, kit.splat(scale, lanes));
}

PackedMainloop::PackedMainloop(AttendKernel &a)
    : a(a), kit(a.kit), k(a.k), blocks(a), blockRows(blocks.blockRows),
      keys(chooseSource<PackedKeys>(Operand::of(a, a.planK)).make(blocks)),
      values(chooseSource<PackedValues>(Operand::of(a, a.planV)).make(blocks)) {
  blocks.widthV = values->width();
}

void PackedMainloop::plan() {
  Scratch &scratch = k.scratch;
  int64_t rows = blocks.maxRows(), tokens = a.tileTokens;
  keys->query = scratch.reserve(blocks.maxBlocks * keys->queryBytes());
  blocks.s = scratch.reserve(rows * tokens * 4);
  keys->packed = scratch.reserve(keys->packedBytes());
  values->packed = scratch.reserve(values->packedBytes());
  values->weights = scratch.reserve(values->weightBytes());
  blocks.acc = scratch.reserve(rows * blocks.widthV * 4);
  for (int64_t *offset : {&blocks.m, &blocks.l, &blocks.alpha})
    *offset = scratch.reserve(rows * 4);
  for (int64_t *offset : {&blocks.scaleK, &blocks.scaleV})
    *offset = scratch.reserve(tokens * 4);
  blocks.registers.plan();
}

//===----------------------------------------------------------------------===//
// State
//===----------------------------------------------------------------------===//

void PackedMainloop::loadQuery(double scale) {
  blocks.blocks = kit.ceilDiv(a.rows, blockRows);
  keys->loadQuery(scale);
}

void PackedMainloop::initState() {
  Value rows = kit.mul(blocks.blocks, blockRows);
  Value zero = kit.constant(0, kit.vec(8));
  kit.loop(kit.i64(0), rows, 8, [&](Value row) {
    kit.store(kit.constant(-INFINITY, kit.vec(8)),
              blocks.element(blocks.m, row));
    kit.store(zero, blocks.element(blocks.l, row));
  });
  kit.loop(kit.i64(0), kit.mul(rows, blocks.widthV), 8,
           [&](Value i) { kit.store(zero, blocks.element(blocks.acc, i)); });
  keys->initState();
  blocks.registers.configure();
}

//===----------------------------------------------------------------------===//
// Products
//===----------------------------------------------------------------------===//

void PackedMainloop::dot(const TileRows &rows) { keys->dot(rows); }

void PackedMainloop::prepare(const TileRows &rows,
                             ArrayRef<Operation *> transforms) {
  finite = values->pack(rows);
  Value scales = scaledBy(transforms);
  blocks.scaled = bool(scales);
  if (scales)
    a.gatherScales(rows, scales, blocks.scaleV);
}

void PackedMainloop::accumulate(const TileRows &rows) {
  blocks.forBlocks([&](Value block) { values->accumulate(block); });
  if (finite)
    kit.when(finite, [] {}, [&] { addNonFinite(rows); });
}

/// Adds p * v for the infinities and NaNs of V, which were packed as 0, to the
/// rows that see their tokens.
void PackedMainloop::addNonFinite(const TileRows &rows) {
  auto add = [&](Value row, Value token, const ChannelBlock &block,
                 Value channel) {
    Value at = kit.at(blocks.score(kit.div(row, blockRows), token),
                      kit.mul(kit.rem(row, blockRows), 4));
    Value weight = kit.load(kit.f32(), at);
    Value x = a.planV.convertInOrder(block, rows.at(token), channel);
    Value zero = kit.fsub(x, x);
    Value seen = kit.fcmp(Pred::UNE, weight, kit.constant(0, kit.f32()));
    Value wanted = kit.both(kit.fcmp(Pred::UNO, zero, zero),
                            kit.splat(seen, block.channels));
    Value slot = blocks.element(blocks.acc,
                                kit.add(kit.mul(row, blocks.widthV), channel));
    Value sum = kit.load(x.getType(), slot);
    Value more = kit.fma(kit.splat(weight, block.channels), x, sum);
    kit.store(kit.select(wanted, more, sum), slot);
  };
  kit.loop(kit.i64(0), a.rows, 1, [&](Value row) {
    kit.loop(kit.i64(0), a.existingRows(rows), 1, [&](Value token) {
      a.planV.forBlocks([&](const ChannelBlock &block, Value channel) {
        add(row, token, block, channel);
      });
    });
  });
}

//===----------------------------------------------------------------------===//
// Softmax
//===----------------------------------------------------------------------===//

/// The steps between the dot and the softmax, for one token and all rows.
Value PackedMainloop::apply(Value x, ArrayRef<Operation *> transforms,
                            const TileRows &rows, Value block, Value token) {
  int64_t n = blockRows;
  if (double scale = keys->scoreScale(); scale != 1)
    x = kit.fmul(x, kit.constant(scale, x.getType()));
  auto lanes = llvm::to_vector(llvm::seq<int32_t>(0, int32_t(n)));
  auto inputs = [&] {
    Value row = kit.add(kit.splatI32(kit.mul(block, n), n), kit.i32s(lanes));
    return a.scoreInputs(kit.splatI32(kit.add(rows.first, token), n), row);
  };
  for (Operation *transform : transforms) {
    if (isa<tile::ScaleTokensOp>(transform))
      x = kit.fmul(
          x, kit.splat(
                 kit.load(kit.f32(), blocks.element(blocks.scaleK, token)), n));
    else if (auto logits = dyn_cast<tile::LogitsOp>(transform))
      x = a.logits(x, logits, inputs());
    else if (rows.masked)
      x = a.mask(x, cast<tile::MaskOp>(transform), inputs());
  }
  return x;
}

void PackedMainloop::softmaxStep(const TileRows &rows,
                                 ArrayRef<Operation *> transforms) {
  if (Value scales = scaledBy(transforms))
    a.gatherScales(rows, scales, blocks.scaleK);
  Type type = kit.vec(blockRows);
  Value tokens = kit.i64(a.tileTokens), none = kit.constant(-INFINITY, type);
  blocks.forBlocks([&](Value block) {
    Value before = kit.load(type, blocks.perRow(blocks.m, block));
    Value after = kit.loop(
        kit.i64(0), tokens, 1, ValueRange{before},
        [&](Value token, ValueRange carried) {
          Value at = blocks.score(block, token);
          Value x = apply(kit.load(type, at), transforms, rows, block, token);
          kit.store(x, at);
          return SmallVector<Value>{kit.fmaxKeepNaN(carried[0], x)};
        })[0];
    // Nothing seen yet: any finite origin will do, -inf would make NaN.
    Value origin = kit.select(kit.fcmp(Pred::OEQ, after, none),
                              kit.constant(0, type), after);
    Value rescale = kit.exp2(kit.fsub(before, origin));
    // Apart from what earlier tiles summed: equal weights added to a large sum
    // are all rounded the same way.
    Value weights =
        kit.loop(kit.i64(0), tokens, 1, ValueRange{kit.constant(0, type)},
                 [&](Value token, ValueRange carried) {
                   Value at = blocks.score(block, token);
                   Value weight =
                       kit.exp2(kit.fsub(kit.load(type, at), origin));
                   kit.store(weight, at);
                   return SmallVector<Value>{kit.fadd(carried[0], weight)};
                 })[0];
    Value total = kit.fma(kit.load(type, blocks.perRow(blocks.l, block)),
                          rescale, weights);
    kit.store(after, blocks.perRow(blocks.m, block));
    kit.store(total, blocks.perRow(blocks.l, block));
    kit.store(rescale, blocks.perRow(blocks.alpha, block));
  });
}

//===----------------------------------------------------------------------===//
// Result
//===----------------------------------------------------------------------===//

void PackedMainloop::storePartial() {
  blocks.registers.release();
  kit.loop(kit.i64(0), a.rows, 1, [&](Value row) {
    Value inverse = a.storePartialLse(
        row, kit.load(kit.vec(1), blocks.element(blocks.m, row)),
        kit.load(kit.vec(1), blocks.element(blocks.l, row)));
    Value wide = kit.splat(inverse, 8);
    Value to = a.partialOutput(row),
          from = blocks.element(blocks.acc, kit.mul(row, blocks.widthV));
    kit.loop(0, a.dimV, 8, [&](Value c) {
      Value x = kit.load(kit.vec(8), kit.at(from, kit.mul(c, 4)));
      kit.store(kit.fmul(x, wide), kit.at(to, kit.mul(c, 4)));
    });
  });
}

std::unique_ptr<Mainloop> kvc::cpu::makePackedMainloop(AttendKernel &kernel) {
  return std::make_unique<PackedMainloop>(kernel);
}
