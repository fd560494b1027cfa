//===- PackedOperands.cpp - many query rows: what products read -----------===//
//
// q, K and V as f32 or as words of two bf16, dense in scratch.
//
//===----------------------------------------------------------------------===//
#include "codegen/cpu/PackedMainloop.h"

#include <cmath>

using namespace mlir;
using namespace kvc;
using namespace kvc::cpu;
using Pred = arith::CmpFPredicate;

//===----------------------------------------------------------------------===//
// Query
//===----------------------------------------------------------------------===//

void PackedMainloop::loadQuery(double scale) {
  this->scale = scale;
  blocks = kit.ceilDiv(a.rows, blockRows);
  // q that needs no other form keeps its own, unscaled.
  queryScale = formK == Form::F32 || limbsQ > 1 ? 1 : scale;
  Value zero = kit.constant(0, kit.vec(8));
  kit.loop(kit.i64(0), kit.mul(blocks, limbsQ * queryWords()), 8,
           [&](Value i) { kit.store(zero, element(qT, i)); });
  kit.loop(kit.i64(0), a.rows, 1, [&](Value row) { loadQueryRow(row); });
}

/// Column `row` of qT: the channels of a query row, `blockRows` elements apart.
void PackedMainloop::loadQueryRow(Value row) {
  Value from = a.queryRow(row);
  Value column =
      kit.add(kit.mul(kit.div(row, blockRows), limbsQ * queryWords()),
              kit.rem(row, blockRows));
  auto store = [&](Value x, Value word, int64_t limb) {
    Value at = kit.add(column, kit.mul(word, blockRows));
    kit.store(x, element(qT, kit.add(at, limb * queryWords())), 4);
  };
  Type word = kit.b.getI32Type();
  if (formK == Form::F32)
    return kit.loop(0, a.dimK, 1, [&](Value c) {
      Value x =
          kit.loadAsF32(k.dtype, kit.at(from, kit.mul(c, k.dtypeBytes())), 1);
      store(kit.fmul(x, kit.constant(scale, x.getType())), c, 0);
    });
  if (limbsQ == 1)
    return kit.loop(0, a.dimK / 2, 1, [&](Value c) {
      store(kit.load(word, kit.at(from, kit.mul(c, 4))), c, 0);
    });
  kit.loop(0, a.dimK / 2, 1, [&](Value c) {
    Value x = kit.loadAsF32(k.dtype, kit.at(from, kit.mul(c, 4)), 2);
    x = kit.fmul(x, kit.constant(scale, x.getType()));
    for (auto [limb, part] : llvm::enumerate(splitLimbs(x, limbsQ)))
      store(vector::BitCastOp::create(kit.b, kit.loc, VectorType::get(1, word),
                                      part),
            c, limb);
  });
}

//===----------------------------------------------------------------------===//
// K and V
//===----------------------------------------------------------------------===//

/// x as a sum of as many bf16, the larger first; alone if it is not finite.
PackedMainloop::Values PackedMainloop::splitLimbs(Value x, int64_t limbs) {
  Values parts{kit.roundToBF16(x)};
  while (int64_t(parts.size()) < limbs) {
    Value zero = kit.fsub(x, x); // NaN unless x is finite
    Value part =
        arith::ExtFOp::create(kit.b, kit.loc, x.getType(), parts.back());
    x = kit.select(kit.fcmp(Pred::ORD, zero, zero), kit.fsub(x, part),
                   kit.constant(0, x.getType()));
    parts.push_back(kit.roundToBF16(x));
  }
  return parts;
}

/// A block of channels of a row in natural order, as bf16.
PackedMainloop::Values PackedMainloop::loadLimbs(const ChannelPlan &plan,
                                                 const ChannelBlock &block,
                                                 Value row, Value channel,
                                                 int64_t limbs) {
  Type code = plan.code;
  if (code.isBF16())
    return {kit.load(VectorType::get(block.channels, code),
                     kit.at(row, kit.mul(channel, 2)))};
  return splitLimbs(plan.convertInOrder(kit, block, row, channel), limbs);
}

/// The rows of K that exist, in f32 or bf16. Where q is a sum of two, a part
/// of it times an infinity need not have the sign of the whole: infinities and
/// NaNs then count as 0, to be added later (addNonFiniteScores). Returns
/// whether there is none, null if all are multiplied as they are.
Value PackedMainloop::packK(const TileRows &rows) {
  bool hide = limbsQ > 1 && isa<FloatType>(a.planK.code);
  if (hide)
    clearFlags();
  kit.loop(kit.i64(0), a.existingRows(rows), 1, [&](Value token) {
    Value row = rows.row(a.codesK, token);
    Value to = element(kRows, kit.mul(token, wordsK));
    a.planK.forBlocks(kit, [&](const ChannelBlock &block, Value channel) {
      if (formK == Form::F32)
        return kit.store(a.planK.convertInOrder(kit, block, row, channel),
                         kit.at(to, kit.mul(channel, 4)));
      Values limbs = loadLimbs(a.planK, block, row, channel, limbsK);
      if (hide)
        hideNonFinite(limbs);
      Value at = kit.at(to, kit.mul(channel, 2));
      for (auto [limb, x] : llvm::enumerate(limbs))
        kit.store(x, kit.at(at, limb * keyWords() * 4));
    });
  });
  return hide ? noFlags() : Value();
}

/// Packs V, zeros where there is no token. An infinity or NaN counts as 0 too,
/// since a probability of 0 must hide it (addNonFinite). Returns whether there
/// is none, null if the codes cannot be one.
Value PackedMainloop::packV(const TileRows &rows) {
  if (formV != Form::F32)
    return packPairsV(rows);
  bool floats = isa<FloatType>(a.planV.code);
  Value bad = k.scratchAt(scaleV); // free until the scales are gathered
  if (floats)
    kit.store(kit.constant(0, kit.vec(8)), bad);
  Value count = a.existingRows(rows);
  kit.loop(kit.i64(0), count, 1, [&](Value token) {
    Value row = rows.row(a.codesV, token);
    Value to = element(v, kit.mul(token, a.dimV));
    a.planV.forBlocks(kit, [&](const ChannelBlock &block, Value channel) {
      Value x = a.planV.convertInOrder(kit, block, row, channel);
      if (floats) {
        // x - x is 0 for finite x, NaN otherwise.
        Value zero = kit.fsub(x, x);
        auto plus = [&](Value x, Value y) { return kit.fadd(x, y); };
        kit.store(plus(kit.load(kit.vec(8), bad), kit.fold(zero, 8, plus)),
                  bad);
        x = kit.select(kit.fcmp(Pred::ORD, zero, zero), x,
                       kit.constant(0, x.getType()));
      }
      kit.store(x, kit.at(to, kit.mul(channel, 4)));
    });
  });
  kit.loop(count, kit.i64(a.tileTokens), 1, [&](Value token) {
    kit.loop(0, a.dimV, 8, [&](Value c) {
      kit.store(kit.constant(0, kit.vec(8)),
                element(v, kit.add(kit.mul(token, a.dimV), c)));
    });
  });
  if (!floats)
    return {};
  Value sum = kit.fold(kit.load(kit.vec(8), bad), 1,
                       [&](Value x, Value y) { return kit.fadd(x, y); });
  return kit.fcmp(Pred::ORD, kit.extract(sum, 0), kit.extract(sum, 0));
}

/// x [n] and y [n], bf16, as words x0 y0 x1 y1 ...
Value PackedMainloop::pairUp(Value x, Value y) {
  int64_t n = cast<VectorType>(x.getType()).getNumElements();
  SmallVector<int64_t> lanes;
  for (int64_t i = 0; i < n; ++i)
    llvm::append_values(lanes, i, n + i);
  return kit.shuffle(x, y, lanes);
}

/// packV in pairs of tokens: vPairs [limb][token / 2][channel].
Value PackedMainloop::packPairsV(const TileRows &rows) {
  bool floats = isa<FloatType>(a.planV.code);
  if (floats)
    clearFlags();
  Value end = kit.mul(kit.ceilDiv(a.existingRows(rows), 2), 2);
  kit.loop(kit.i64(0), end, 2, [&](Value token) { packPair(rows, token); });
  kit.loop(end, kit.i64(a.tileTokens), 2, [&](Value token) {
    Value to = element(vPairs, kit.mul(kit.div(token, 2), widthV));
    kit.loop(0, widthV, 8, [&](Value c) {
      for (int64_t limb = 0; limb < limbsV; ++limb)
        kit.store(kit.i32s(8, 0),
                  kit.at(kit.at(to, limb * valueWords() * 4), kit.mul(c, 4)));
    });
  });
  return floats ? noFlags() : Value();
}

/// Tokens `token` and the next, which may not exist.
void PackedMainloop::packPair(const TileRows &rows, Value token) {
  Value next = kit.add(token, 1), last = kit.add(a.existingRows(rows), -1);
  Value exists = kit.cmp(arith::CmpIPredicate::sle, next, last);
  Value row[2] = {rows.row(a.codesV, token),
                  rows.row(a.codesV, kit.min(next, last))};
  Value to = element(vPairs, kit.mul(kit.div(token, 2), widthV));
  bool floats = isa<FloatType>(a.planV.code);
  a.planV.forBlocks(kit, [&](const ChannelBlock &block, Value channel) {
    Values limbs[2];
    for (int64_t i : {0, 1}) {
      limbs[i] = loadLimbs(a.planV, block, row[i], channel, limbsV);
      if (floats)
        hideNonFinite(limbs[i]);
    }
    for (int64_t limb = 0; limb < limbsV; ++limb) {
      Value x = limbs[0][limb], y = limbs[1][limb];
      y = kit.select(exists, y, zeros(y.getType()));
      kit.store(pairUp(x, y), kit.at(kit.at(to, limb * valueWords() * 4),
                                     kit.mul(channel, 4)));
    }
  });
}

Value PackedMainloop::zeros(Type type) {
  return arith::ConstantOp::create(kit.b, kit.loc, kit.b.getZeroAttr(type));
}

/// Makes elements 0 that are infinite or NaN, and leaves flags of them.
void PackedMainloop::hideNonFinite(Values &limbs) {
  OpBuilder &b = kit.b;
  auto shape = cast<VectorType>(limbs[0].getType()).getShape();
  auto type = VectorType::get(shape, b.getI16Type());
  auto all = [&](int16_t value) {
    return arith::ConstantOp::create(
        b, kit.loc, DenseElementsAttr::get(type, b.getI16IntegerAttr(value)));
  };
  Value exponent = all(0x7f80);
  Value bits = vector::BitCastOp::create(b, kit.loc, type, limbs[0]);
  Value bad =
      kit.cmp(arith::CmpIPredicate::eq, kit.both(bits, exponent), exponent);
  Value before = kit.load(type, flags());
  kit.store(kit.either(before, kit.select(bad, all(-1), zeros(type))), flags());
  for (Value &limb : limbs)
    limb = kit.select(bad, zeros(limb.getType()), limb);
}

// As many as a block can have channels.
static VectorType flagsType(Kit &kit) {
  return VectorType::get(2 * kit.lanes, kit.b.getI16Type());
}

void PackedMainloop::clearFlags() { kit.store(zeros(flagsType(kit)), flags()); }

Value PackedMainloop::noFlags() {
  Value any = kit.fold(kit.load(flagsType(kit), flags()), 1,
                       [&](Value x, Value y) { return kit.either(x, y); });
  return kit.extract(
      kit.cmp(arith::CmpIPredicate::eq, any, zeros(any.getType())), 0);
}
