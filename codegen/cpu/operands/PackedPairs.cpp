//===- PackedPairs.cpp - many query rows: vectors of pairs of bf16 --------===//
//
// q keeps its own bits, unscaled: sums are scaled instead. Codes of K that are
// bf16 are read where they stand; those of int8 become bf16 without loss. V is
// bf16 alone: probabilities that carry scales would be rounded with them.
//
//===----------------------------------------------------------------------===//
#include "codegen/cpu/operands/PackedLimbs.h"
#include "codegen/cpu/operands/PackedVectors.h"

using namespace mlir;
using namespace kvc;
using namespace kvc::cpu;

static bool hasPairs(const Operand &operand) {
  Type bf16 = BFloat16Type::get(operand.code.getContext());
  return operand.dot && operand.target.hasDot(bf16, operand.dtype);
}

static OperandCost cost(const Operand &) { return {.f32PerProduct = 2}; }

namespace {

//===----------------------------------------------------------------------===//
// K
//===----------------------------------------------------------------------===//

class PairKeys : public PackedVectorKeys {
public:
  explicit PairKeys(PackedBlocks &blocks)
      : PackedVectorKeys(blocks, blocks.a.dimK / 2) {}

  void loadQueryRow(Value from, StoreFn store) override {
    kit.loop(0, a.dimK / 2, 1, [&](Value c) {
      store(kit.load(kit.b.getI32Type(), kit.at(from, kit.mul(c, 4))), c, 0);
    });
  }
  Value multiply(Value sum, Value key, Value queries) override {
    return kit.dotBF16(sum, key, queries);
  }
  double sumScale() const override { return scale; }
};

class BF16Keys : public PairKeys {
public:
  using PairKeys::PairKeys;
  static bool fits(const Operand &operand) {
    return hasPairs(operand) && operand.code.isBF16();
  }

  int64_t packedBytes() const override { return 0; }
  void pack(const TileRows &) override {}
  /// For tokens that do not exist any row will do.
  Value keyRow(const TileRows &rows, Value token) override {
    Value last = kit.add(a.existingRows(rows), -1);
    return rows.row(a.planK.codesPlane(), kit.min(token, last));
  }
};

class Int8Keys : public PairKeys {
public:
  using PairKeys::PairKeys;
  static bool fits(const Operand &operand) {
    return hasPairs(operand) && operand.code.isInteger(8);
  }

  void pack(const TileRows &rows) override {
    packRows(rows, [&](const ChannelBlock &block, const RowFn &row,
                       Value channel, Value to) {
      Value x = loadLimbs(kit, a.planK, block, row, channel, 1)[0];
      kit.store(x, kit.at(to, kit.mul(channel, 2)));
    });
  }
};

//===----------------------------------------------------------------------===//
// V
//===----------------------------------------------------------------------===//

class BF16Values : public PackedVectorValues {
public:
  explicit BF16Values(PackedBlocks &blocks)
      : PackedVectorValues(blocks, /*wordTokens=*/2) {}
  static bool fits(const Operand &operand) {
    return hasPairs(operand) && operand.code.isBF16();
  }

  int64_t weightBytes() const override {
    return a.tileTokens / 2 * blockRows * 4;
  }
  Value pack(const TileRows &rows) override {
    return packTokenPairs(blocks, rows, packed, 1);
  }
  /// [token / 2][row] of a block.
  void makeWeights(Value block) override {
    blocks.forTokens(2, [&](Value token) {
      Value x = applyScale(block, token);
      Value y = applyScale(block, kit.add(token, 1));
      kit.store(pairWeights(kit, x, y, 1)[0],
                blocks.element(weights, kit.mul(kit.div(token, 2), blockRows)));
    });
  }
  Value weightsOf(Value) override { return k.scratchAt(weights); }
  Value multiply(Value sum, Value weight, Value values) override {
    return kit.dotBF16(sum, weight, values);
  }
};

} // namespace

const OperandSource<PackedKeys> kvc::cpu::packedBF16Keys =
    operandSource<PackedKeys, BF16Keys>(cost);
const OperandSource<PackedKeys> kvc::cpu::packedInt8Keys =
    operandSource<PackedKeys, Int8Keys>(cost);
const OperandSource<PackedValues> kvc::cpu::packedBF16Values =
    operandSource<PackedValues, BF16Values>(cost);
