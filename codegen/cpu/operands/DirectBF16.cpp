//===- DirectBF16.cpp - few query rows: bf16 multiplied as it is loaded ---===//
//
// q needs no conversion because it is bf16 already, and its scale is applied to
// the scores. Weights are rounded to bf16.
//
//===----------------------------------------------------------------------===//
#include "codegen/cpu/operands/DirectPairs.h"

using namespace mlir;
using namespace kvc;
using namespace kvc::cpu;

static bool isDot(const Operand &operand) {
  return operand.dot && operand.code.isBF16() &&
         operand.target.hasDot(operand.code, operand.dtype);
}

static OperandCost cost(const Operand &) {
  return {.f32PerProduct = 2, .instructionsPerOperand = 1};
}

namespace {

class BF16Keys : public DirectPairKeys {
public:
  using DirectPairKeys::DirectPairKeys;
  static bool fits(const Operand &operand) { return isDot(operand); }

  void loadQueryRow(Value row) override {
    Value from = a.queryRow(row);
    Type type = VectorType::get(8, k.dtype);
    kit.loop(0, a.dimK, 8, [&](Value channel) {
      kit.store(kit.load(type, kit.at(from, kit.mul(channel, 2))),
                queryAt(row, channel));
    });
  }
  Value loadHalves(Value row, int64_t first, int64_t channels) override {
    auto halves = VectorType::get(channels, kit.b.getI16Type());
    return kit.load(halves, kit.at(row, first * 2));
  }
  Type sumType() override { return kit.f32(); }
  Value multiply(Value sum, Value codes, Value queries) override {
    return kit.dotBF16(sum, codes, queries);
  }
  Value scoresOf(Value sums, Value, int64_t) override {
    return kit.fmul(sums, kit.constant(scale, sums.getType()));
  }
};

class BF16Values : public DirectPairValues {
public:
  using DirectPairValues::DirectPairValues;
  static bool fits(const Operand &operand) {
    return isDot(operand) && operand.tileTokens % 2 == 0;
  }

  /// Products are done the sooner: a step costs a store of every accumulator,
  /// but the stream of K must not wait.
  DirectPace pace() const override {
    return {.stepBytes = 4096, .prefetches = 4, .wholeTokens = true};
  }
  void storeWeights(const TileRows &rows, Value block, Value vector,
                    int64_t count, WeightFn weight) override {
    Values all;
    for (int64_t i = 0; i < count; ++i)
      all.push_back(weight(i));
    storePairs(all, rows, block, vector,
               [&](Value x) { return kit.roundToBF16(x); });
  }
  Value loadHalves(Value row, Value channel,
                   const ChannelBlock &block) override {
    return kit.load(VectorType::get(block.channels, a.planV.element),
                    kit.at(row, kit.mul(channel, 2)));
  }
  Value multiply(Value sum, Value pairs, Value weights) override {
    return kit.dotBF16(sum, pairs, weights);
  }
};

} // namespace

const OperandSource<DirectKeys> kvc::cpu::directBF16Keys =
    operandSource<DirectKeys, BF16Keys>(cost);
const OperandSource<DirectValues> kvc::cpu::directBF16Values =
    operandSource<DirectValues, BF16Values>(cost);
