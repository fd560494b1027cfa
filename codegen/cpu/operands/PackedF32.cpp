//===- PackedF32.cpp - many query rows: matrices of f32 -------------------===//
#include "codegen/cpu/operands/PackedVectors.h"

using namespace mlir;
using namespace kvc;
using namespace kvc::cpu;

namespace {

class F32Keys : public PackedVectorKeys {
public:
  explicit F32Keys(PackedBlocks &blocks)
      : PackedVectorKeys(blocks, blocks.a.dimK) {}
  static bool fits(const Operand &) { return true; }

  void loadQueryRow(Value from, StoreFn store) override {
    kit.loop(0, a.dimK, 1, [&](Value c) {
      Value x =
          kit.loadAsF32(k.dtype, kit.at(from, kit.mul(c, k.dtypeBytes())), 1);
      store(kit.fmul(x, kit.constant(scale, x.getType())), c, 0);
    });
  }
  void pack(const TileRows &rows) override {
    packRows(rows, [&](const ChannelBlock &block, const RowFn &row,
                       Value channel, Value to) {
      kit.store(a.planK.convertInOrder(block, row, channel),
                kit.at(to, kit.mul(channel, 4)));
    });
  }
  Value multiply(Value sum, Value key, Value queries) override {
    return kit.fma(key, queries, sum);
  }
};

class F32Values : public PackedVectorValues {
public:
  explicit F32Values(PackedBlocks &blocks)
      : PackedVectorValues(blocks, /*wordTokens=*/1) {}
  static bool fits(const Operand &) { return true; }

  /// Weights stay where the scores were.
  int64_t weightBytes() const override { return 0; }
  Value weightsOf(Value block) override {
    return blocks.score(block, kit.i64(0));
  }
  void makeWeights(Value block) override;
  Value pack(const TileRows &rows) override;
  Value multiply(Value sum, Value weight, Value values) override {
    return kit.fma(weight, values, sum);
  }
};

void F32Values::makeWeights(Value block) {
  if (!blocks.scaled)
    return;
  blocks.forTokens(2, [&](Value token) {
    applyScale(block, token);
    applyScale(block, kit.add(token, 1));
  });
}

Value F32Values::pack(const TileRows &rows) {
  bool floats = isa<FloatType>(a.planV.element);
  // Free until the scales are gathered.
  Value bad = k.scratchAt(blocks.scaleV);
  auto plus = [&](Value x, Value y) { return kit.fadd(x, y); };
  if (floats)
    kit.store(kit.constant(0, kit.vec(8)), bad);
  Value count = a.existingRows(rows);
  kit.loop(kit.i64(0), count, 1, [&](Value token) {
    RowFn row = rows.at(token);
    Value to = blocks.element(packed, kit.mul(token, a.dimV));
    a.planV.forBlocks([&](const ChannelBlock &block, Value channel) {
      Value x = a.planV.convertInOrder(block, row, channel);
      if (floats) {
        // x - x is 0 for finite x, NaN otherwise.
        Value zero = kit.fsub(x, x);
        kit.store(plus(kit.load(kit.vec(8), bad), kit.fold(zero, 8, plus)),
                  bad);
        x = kit.select(kit.fcmp(arith::CmpFPredicate::ORD, zero, zero), x,
                       kit.constant(0, x.getType()));
      }
      kit.store(x, kit.at(to, kit.mul(channel, 4)));
    });
  });
  kit.loop(count, kit.i64(a.tileTokens), 1, [&](Value token) {
    kit.loop(0, a.dimV, 8, [&](Value c) {
      kit.store(kit.constant(0, kit.vec(8)),
                blocks.element(packed, kit.add(kit.mul(token, a.dimV), c)));
    });
  });
  if (!floats)
    return {};
  Value sum = kit.fold(kit.load(kit.vec(8), bad), 1, plus);
  return kit.fcmp(arith::CmpFPredicate::ORD, kit.extract(sum, 0),
                  kit.extract(sum, 0));
}

} // namespace

const OperandSource<PackedKeys> kvc::cpu::packedF32Keys =
    operandSource<PackedKeys, F32Keys>();
const OperandSource<PackedValues> kvc::cpu::packedF32Values =
    operandSource<PackedValues, F32Values>();
