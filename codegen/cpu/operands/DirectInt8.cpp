//===- DirectInt8.cpp - few query rows: int8 codes times integers ---------===//
//
// Codes are widened to 16 bits as they are loaded. q is 15 bits and a sign of
// the largest of its row; weights are 15 bits of the step's largest, and their
// products are summed in integers, which are added to the accumulators when the
// step ends.
//
//===----------------------------------------------------------------------===//
#include "codegen/cpu/operands/DirectPairs.h"

using namespace mlir;
using namespace kvc;
using namespace kvc::cpu;

static bool isDot(const Operand &operand) {
  return operand.dot && operand.code.isInteger(8) &&
         operand.target.hasDot(operand.code, operand.dtype);
}

static OperandCost cost(const Operand &) {
  return {.f32PerProduct = 2, .instructionsPerOperand = 2};
}

static VectorType halvesType(Kit &kit, int64_t n) {
  return VectorType::get(n, kit.b.getI16Type());
}

static Value loadWidened(Kit &kit, Value address, int64_t n) {
  Value codes = kit.load(VectorType::get(n, kit.b.getI8Type()), address);
  return arith::ExtSIOp::create(kit.b, kit.loc, halvesType(kit, n), codes);
}

namespace {

//===----------------------------------------------------------------------===//
// K
//===----------------------------------------------------------------------===//

class Int8Keys : public DirectPairKeys {
public:
  using DirectPairKeys::DirectPairKeys;
  static bool fits(const Operand &operand) { return isDot(operand); }

  void loadQueryRow(Value row) override;
  Value loadHalves(Value row, int64_t first, int64_t channels) override {
    return loadWidened(kit, kit.at(row, first), channels);
  }
  Type sumType() override { return kit.b.getI32Type(); }
  Value multiply(Value sum, Value codes, Value queries) override {
    return kit.dotI16(sum, codes, queries);
  }
  Value scoresOf(Value sums, Value block, int64_t keys) override {
    Value factor =
        kit.repeat(kit.load(kit.vec(padded), blocks.stats(rowFactor, block)),
                   keys * padded);
    return kit.fmul(kit.toF32(sums), factor);
  }
};

void Int8Keys::loadQueryRow(Value row) {
  Type type = kit.vec(8);
  Value from = a.queryRow(row);
  auto load = [&](Value c) {
    return kit.loadAsF32(k.dtype, kit.at(from, kit.mul(c, k.dtypeBytes())), 8);
  };
  auto larger = [&](Value x, Value y) { return kit.fmaxKeepNaN(x, y); };
  auto plus = [&](Value x, Value y) { return kit.fadd(x, y); };
  // The largest magnitude, and beside it x - x: NaN unless all is finite, which
  // integers could not say.
  Value zeros = kit.constant(0, type);
  Values found =
      kit.loop(kit.i64(0), kit.i64(a.dimK), 8, ValueRange{zeros, zeros},
               [&](Value c, ValueRange carried) {
                 Value x = load(c),
                       size = LLVM::FAbsOp::create(kit.b, kit.loc, x);
                 return Values{larger(carried[0], size),
                               plus(carried[1], kit.fsub(x, x))};
               });
  // The largest integer: no sum of products overflows.
  double unit = std::min<int64_t>(INT16_MAX, INT32_MAX / (128 * a.dimK));
  Value one = kit.fold(found[0], 1, larger);
  Value finite = kit.fold(found[1], 1, plus); // 0, or NaN
  Value none = kit.fcmp(arith::CmpFPredicate::OLT, one,
                        kit.constant(0x1p-100, kit.vec(1)));
  Value inverse = kit.select(none, kit.constant(0, kit.vec(1)),
                             kit.fdiv(kit.constant(unit, kit.vec(1)), one));
  Value wide = kit.splat(kit.extract(inverse, 0), 8);
  kit.loop(0, a.dimK, 8, [&](Value c) {
    Value x = kit.roundToI32(kit.fmul(load(c), wide));
    kit.store(arith::TruncIOp::create(kit.b, kit.loc, halvesType(kit, 8), x),
              queryAt(row, c));
  });
  Value stat = kit.add(kit.mul(kit.div(row, blockRows), padded * 4),
                       kit.mul(kit.rem(row, blockRows), 4));
  Value factor = kit.fmul(one, kit.constant(scale / unit, kit.vec(1)));
  kit.store(plus(factor, finite), kit.at(k.scratchAt(rowFactor), stat));
}

//===----------------------------------------------------------------------===//
// V
//===----------------------------------------------------------------------===//

class Int8Values : public DirectPairValues {
public:
  using DirectPairValues::DirectPairValues;
  static bool fits(const Operand &operand) {
    return isDot(operand) && operand.tileTokens % 2 == 0;
  }

  void storeWeights(const TileRows &rows, Value block, Value vector,
                    int64_t count, WeightFn weight) override;
  void finishWeights(const TileRows &rows, Value block, Value largest) override;
  Values beginSums(ArrayRef<DirectStrip::Slot> slots) override;
  void endSums(Value block, ArrayRef<DirectStrip::Slot> slots,
               ArrayRef<Value> sums) override;
  Value loadHalves(Value row, Value channel,
                   const ChannelBlock &block) override {
    return loadWidened(kit, kit.at(row, channel), block.channels);
  }
  Value multiply(Value sum, Value pairs, Value weights) override {
    return kit.dotI16(sum, pairs, weights);
  }
};

/// In f32 where the scores were, until the largest is known.
void Int8Values::storeWeights(const TileRows &rows, Value block, Value vector,
                              int64_t count, WeightFn weight) {
  for (int64_t i = 0; i < count; ++i)
    kit.store(weight(i), blocks.scoresOf(rows, block, kit.add(vector, i)));
}

/// Weights as integers, of a unit that the largest of each row gives.
void Int8Values::finishWeights(const TileRows &rows, Value block,
                               Value allLargest) {
  OpBuilder &b = kit.b;
  Value largest = kit.fold(allLargest, padded, [&](Value x, Value y) {
    return kit.fmaxKeepNaN(x, y);
  });
  // Powers of two by their exponent fields: 2^e <= largest, and 2^-e. A largest
  // of 0 has unit 0; NaN is in l already.
  auto ints = VectorType::get(padded, b.getI32Type());
  Value bits = arith::BitcastOp::create(b, kit.loc, ints, largest);
  Value field = kit.both(bits, kit.i32s(padded, 0x7f800000));
  Value power = arith::BitcastOp::create(b, kit.loc, kit.vec(padded), field);
  // A power of two, so that equal probabilities stay equal weights.
  constexpr double steps = 16384;
  Value inverse =
      arith::BitcastOp::create(b, kit.loc, kit.vec(padded),
                               kit.sub(kit.i32s(padded, 0x7f000000), field));
  kit.store(kit.fmul(power, kit.constant(1 / steps, power.getType())),
            blocks.stats(rowUnit, block));
  int64_t lanes = blocks.scoreLanes();
  Value wide = kit.repeat(inverse, lanes);
  auto narrow = [&](Value x) -> Value {
    int64_t n = cast<VectorType>(x.getType()).getNumElements();
    return arith::TruncIOp::create(b, kit.loc, halvesType(kit, n),
                                   kit.roundToI32(x, steps));
  };
  blocks.forScores(rows, {}, [&](Value vector, int64_t count, ValueRange) {
    Values all;
    for (int64_t i = 0; i < count; ++i) {
      Value at = blocks.scoresOf(rows, block, kit.add(vector, i));
      Value x = kit.fmul(kit.load(kit.vec(lanes), at), wide);
      // Just below 2 * steps rounds up to what i16 has no room for.
      all.push_back(
          kit.fminKeepNaN(kit.constant(INT16_MAX / steps, x.getType()), x));
    }
    storePairs(all, rows, block, vector, narrow);
    return Values();
  });
}

SmallVector<Value> Int8Values::beginSums(ArrayRef<DirectStrip::Slot> slots) {
  return llvm::map_to_vector(slots, [&](const DirectStrip::Slot &slot) {
    return kit.i32s(slot.lanes, 0);
  });
}

void Int8Values::endSums(Value block, ArrayRef<DirectStrip::Slot> slots,
                         ArrayRef<Value> sums) {
  for (auto [slot, sum] : llvm::zip_equal(slots, sums)) {
    Value unit =
        kit.load(kit.f32(), kit.at(blocks.stats(rowUnit, block), slot.row * 4));
    kit.store(kit.fma(kit.toF32(sum), kit.splat(unit, slot.lanes),
                      kit.load(kit.vec(slot.lanes), slot.at)),
              slot.at);
  }
}

} // namespace

const OperandSource<DirectKeys> kvc::cpu::directInt8Keys =
    operandSource<DirectKeys, Int8Keys>(cost);
const OperandSource<DirectValues> kvc::cpu::directInt8Values =
    operandSource<DirectValues, Int8Values>(cost);
