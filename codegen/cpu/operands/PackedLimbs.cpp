//===- PackedLimbs.cpp - many query rows: matrices of bf16 ----------------===//
#include "codegen/cpu/operands/PackedLimbs.h"

using namespace mlir;
using namespace kvc;
using namespace kvc::cpu;
using Pred = arith::CmpFPredicate;

static Value zeros(Kit &kit, Type type) {
  return arith::ConstantOp::create(kit.b, kit.loc, kit.b.getZeroAttr(type));
}

SmallVector<Value> kvc::cpu::splitLimbs(Kit &kit, Value x, int64_t limbs) {
  SmallVector<Value> parts{kit.roundToBF16(x)};
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

SmallVector<Value> kvc::cpu::loadLimbs(Kit &kit, const ChannelPlan &plan,
                                       const ChannelBlock &block,
                                       const RowFn &row, Value channel,
                                       int64_t limbs) {
  if (plan.element.isBF16())
    return {kit.load(VectorType::get(block.channels, plan.element),
                     kit.at(row(plan.codesPlane()).at, kit.mul(channel, 2)))};
  return splitLimbs(kit, plan.convertInOrder(block, row, channel), limbs);
}

SmallVector<Value> kvc::cpu::pairWeights(Kit &kit, Value x, Value y,
                                         int64_t limbs) {
  OpBuilder &b = kit.b;
  int64_t n = cast<VectorType>(x.getType()).getNumElements();
  auto words = VectorType::get(n, b.getI32Type());
  auto bits = [&](Value v) -> Value {
    return arith::BitcastOp::create(b, kit.loc, words, v);
  };
  Value high = kit.i32s(n, int32_t(0xffff0000)), half = kit.i32s(n, 0x8000);
  Value sixteen = kit.i32s(n, 16);
  Value rest[2] = {x, y};
  SmallVector<Value> result;
  for (int64_t limb = 0; limb < limbs; ++limb) {
    bool last = limb + 1 == limbs;
    Value part[2];
    for (int64_t i : {0, 1}) {
      Value v = rest[i];
      // The larger limb is cut off, so that the rest is exact.
      part[i] = last ? kit.add(bits(v), half) : bits(v);
      if (last)
        continue;
      Value cut = arith::BitcastOp::create(b, kit.loc, v.getType(),
                                           kit.both(part[i], high));
      v = kit.fsub(v, cut); // NaN for an infinity
      rest[i] = kit.select(kit.fcmp(Pred::ORD, v, v), v,
                           kit.constant(0, v.getType()));
    }
    result.push_back(
        kit.either(arith::ShRUIOp::create(b, kit.loc, part[0], sixteen),
                   kit.both(part[1], high)));
  }
  return result;
}

//===----------------------------------------------------------------------===//
// V in pairs of tokens
//===----------------------------------------------------------------------===//

/// x [n] and y [n], bf16, as words x0 y0 x1 y1 ...
static Value pairUp(Kit &kit, Value x, Value y) {
  int64_t n = cast<VectorType>(x.getType()).getNumElements();
  SmallVector<int64_t> lanes;
  for (int64_t i = 0; i < n; ++i)
    llvm::append_values(lanes, i, n + i);
  return kit.shuffle(x, y, lanes);
}

/// Bytes of a limb of packed V.
static int64_t limbBytes(PackedBlocks &blocks) {
  return blocks.widthV * blocks.a.tileTokens / 2 * 4;
}

/// Address in packed V of the pair of tokens that `token` begins.
static Value pairAt(PackedBlocks &blocks, int64_t packed, Value token) {
  Kit &kit = blocks.kit;
  return blocks.element(packed, kit.mul(kit.div(token, 2), blocks.widthV));
}

/// Tokens `token` and the next, which may not exist.
static void packPair(PackedBlocks &blocks, const TileRows &rows, Value token,
                     int64_t packed, int64_t limbs) {
  AttendKernel &a = blocks.a;
  Kit &kit = blocks.kit;
  Value next = kit.add(token, 1), last = kit.add(a.existingRows(rows), -1);
  Value exists = kit.cmp(arith::CmpIPredicate::sle, next, last);
  RowFn row[2] = {rows.at(token), rows.at(kit.min(next, last))};
  Value to = pairAt(blocks, packed, token);
  bool floats = isa<FloatType>(a.planV.element);
  a.planV.forBlocks([&](const ChannelBlock &block, Value channel) {
    SmallVector<Value> parts[2];
    for (int64_t i : {0, 1}) {
      parts[i] = loadLimbs(kit, a.planV, block, row[i], channel, limbs);
      if (floats)
        NonFiniteFlags(blocks).hide(parts[i]);
    }
    for (int64_t limb = 0; limb < limbs; ++limb) {
      Value x = parts[0][limb], y = parts[1][limb];
      y = kit.select(exists, y, zeros(kit, y.getType()));
      kit.store(pairUp(kit, x, y), kit.at(kit.at(to, limb * limbBytes(blocks)),
                                          kit.mul(channel, 4)));
    }
  });
}

Value kvc::cpu::packTokenPairs(PackedBlocks &blocks, const TileRows &rows,
                               int64_t packed, int64_t limbs) {
  AttendKernel &a = blocks.a;
  Kit &kit = blocks.kit;
  NonFiniteFlags flags(blocks);
  bool floats = isa<FloatType>(a.planV.element);
  if (floats)
    flags.clear();
  Value end = kit.mul(kit.ceilDiv(a.existingRows(rows), 2), 2);
  kit.loop(kit.i64(0), end, 2,
           [&](Value token) { packPair(blocks, rows, token, packed, limbs); });
  kit.loop(end, kit.i64(a.tileTokens), 2, [&](Value token) {
    Value to = pairAt(blocks, packed, token);
    kit.loop(0, blocks.widthV, 8, [&](Value c) {
      for (int64_t limb = 0; limb < limbs; ++limb)
        kit.store(kit.i32s(8, 0),
                  kit.at(kit.at(to, limb * limbBytes(blocks)), kit.mul(c, 4)));
    });
  });
  return floats ? flags.none() : Value();
}

//===----------------------------------------------------------------------===//
// Infinities and NaNs
//===----------------------------------------------------------------------===//

// As many as a block can have channels.
static VectorType flagsType(Kit &kit) {
  return VectorType::get(2 * kit.lanes, kit.b.getI16Type());
}

void NonFiniteFlags::clear() {
  Kit &kit = blocks.kit;
  kit.store(zeros(kit, flagsType(kit)), address());
}

void NonFiniteFlags::hide(MutableArrayRef<Value> limbs) {
  Kit &kit = blocks.kit;
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
  Value before = kit.load(type, address());
  kit.store(kit.either(before, kit.select(bad, all(-1), zeros(kit, type))),
            address());
  for (Value &limb : limbs)
    limb = kit.select(bad, zeros(kit, limb.getType()), limb);
}

Value NonFiniteFlags::none() {
  Kit &kit = blocks.kit;
  Value any = kit.fold(kit.load(flagsType(kit), address()), 1,
                       [&](Value x, Value y) { return kit.either(x, y); });
  return kit.extract(
      kit.cmp(arith::CmpIPredicate::eq, any, zeros(kit, any.getType())), 0);
}
