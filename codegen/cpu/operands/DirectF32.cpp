//===- DirectF32.cpp - few query rows: codes dequantized in registers -----===//
//
// K: q is [row][channel] f32 in the order of the dequantizer; each key has an
// accumulator per row, and the sums over their lanes are taken at the end.
//
// V: a token's vectors are dequantized and multiplied by its weight of each
// row.
//
//===----------------------------------------------------------------------===//
#include "codegen/cpu/operands/DirectSources.h"

using namespace mlir;
using namespace kvc;
using namespace kvc::cpu;

/// Codes of a byte are widened before they are converted, of f8 by more steps;
/// of what is decoded, they are taken apart and scaled, too.
static OperandCost cost(const Operand &operand) {
  bool isByte = operand.code.getIntOrFloatBitWidth() == 8;
  if (operand.isDecoded || (isByte && isa<FloatType>(operand.code)))
    return {.instructionsPerOperand = 5};
  return {.instructionsPerOperand = isByte ? 3.0 : 2.0};
}

namespace {

//===----------------------------------------------------------------------===//
// K
//===----------------------------------------------------------------------===//

class F32Keys : public DirectKeys {
public:
  using DirectKeys::DirectKeys;
  static bool fits(const Operand &) { return true; }

  int64_t queryBytes() const override { return blockRows * a.dimK * 4; }
  void loadQueryRow(Value row) override;
  Value scores(int64_t keys, KeyRowFn keyRow, Value block,
               ArrayRef<Value> held) override;

private:
  Values dotChannels(const ChannelBlock &shape, Value channel,
                     ArrayRef<RowFn> keyRows, Value queryBlock,
                     ArrayRef<Value> sums);
};

void F32Keys::loadQueryRow(Value row) {
  Value from = a.queryRow(row);
  Value to = kit.at(k.scratchAt(query), kit.mul(row, a.dimK * 4));
  a.planK.forBlocks([&](const ChannelBlock &block, Value channel) {
    Value x =
        kit.loadAsF32(k.dtype, kit.at(from, kit.mul(channel, k.dtypeBytes())),
                      block.channels);
    x = kit.fmul(x, kit.constant(scale, x.getType()));
    x = kit.shuffle(x, x, a.planK.order(block));
    kit.store(x, kit.at(to, kit.mul(channel, 4)));
  });
}

Value F32Keys::scores(int64_t keys, KeyRowFn keyRow, Value block,
                      ArrayRef<Value>) {
  SmallVector<RowFn> keyRows;
  for (int64_t key = 0; key < keys; ++key)
    keyRows.push_back(keyRow(key));
  Value queryBlock = blocks.blockAt(query, block, queryBytes());
  const ChannelPlan &plan = a.planK;
  const ChannelBlock &main = plan.blocks.front();
  Values sums(keys * blockRows, kit.constant(0, kit.vec(main.lanes)));
  int64_t step = plan.unroll() * main.channels;
  int64_t end = plan.main * main.channels;
  auto round = [&](Value channel, ValueRange carried) {
    Values next(carried);
    for (int64_t c = 0; c < step; c += main.channels)
      next = dotChannels(main, kit.add(channel, c), keyRows, queryBlock, next);
    return next;
  };
  if (step == end)
    sums = round(kit.i64(0), sums);
  else if (end)
    sums = kit.loop(kit.i64(0), kit.i64(end), step, sums, round);
  Values narrow; // 8-lane tails of 16-lane plans
  for (const ChannelBlock &tail : ArrayRef(plan.blocks).drop_front(plan.main)) {
    if (tail.lanes != main.lanes && narrow.empty())
      narrow.assign(keys * blockRows, kit.constant(0, kit.vec(tail.lanes)));
    Values &into = tail.lanes == main.lanes ? sums : narrow;
    into = dotChannels(tail, kit.i64(tail.first), keyRows, queryBlock, into);
  }
  // [key][row], each key padded to a power of two of rows.
  auto pad = [&](ArrayRef<Value> values) {
    Values all;
    for (int64_t key = 0; key < keys; ++key) {
      llvm::append_range(all, values.slice(key * blockRows, blockRows));
      all.append(padded - blockRows, kit.constant(0, values[0].getType()));
    }
    return all;
  };
  Value reduced = kit.reduceAdd(pad(sums));
  if (!narrow.empty())
    reduced = kit.fadd(reduced, kit.reduceAdd(pad(narrow)));
  return reduced;
}

/// Adds one block of channels to the sums [key][row].
SmallVector<Value> F32Keys::dotChannels(const ChannelBlock &shape,
                                        Value channel, ArrayRef<RowFn> keyRows,
                                        Value queryBlock,
                                        ArrayRef<Value> sums) {
  Values next(sums);
  SmallVector<Values> dequantized;
  for (const RowFn &row : keyRows)
    dequantized.push_back(a.planK.convert(shape, row, channel));
  for (int64_t v = 0; v < shape.channels / shape.lanes; ++v)
    for (int64_t row = 0; row < blockRows; ++row) {
      Value at = kit.at(queryBlock, kit.mul(channel, 4));
      Value x = kit.load(kit.vec(shape.lanes),
                         kit.at(at, (row * a.dimK + v * shape.lanes) * 4));
      for (size_t key = 0; key < keyRows.size(); ++key) {
        Value &sum = next[key * blockRows + row];
        sum = kit.fma(dequantized[key][v], x, sum);
      }
    }
  return next;
}

//===----------------------------------------------------------------------===//
// V
//===----------------------------------------------------------------------===//

class F32Values : public DirectValues {
public:
  /// Accumulators have the element order of `like`, by default that of the
  /// dequantizer.
  explicit F32Values(DirectBlocks &blocks, const DirectValues *like = nullptr)
      : DirectValues(blocks), like(like) {}
  static bool fits(const Operand &) { return true; }

  int64_t productTokens() const override { return 1; }
  SmallVector<int64_t> order(const ChannelBlock &block) const override {
    return like ? like->order(block) : a.planV.order(block);
  }
  void storeWeights(const TileRows &rows, Value block, Value vector,
                    int64_t count, WeightFn weight) override;
  Values addTokens(const TileRows &rows, Value block, Value token,
                   const DirectStrip &strip, ArrayRef<Value> sums) override;

private:
  Values dequantize(const RowFn &row, Value channel, const ChannelBlock &block);

  const DirectValues *like;
};

/// Where the scores were.
void F32Values::storeWeights(const TileRows &rows, Value block, Value vector,
                             int64_t count, WeightFn weight) {
  for (int64_t i = 0; i < count; ++i)
    kit.store(weight(i), blocks.scoresOf(rows, block, kit.add(vector, i)));
}

/// Dequantizes a block of a row; the elements are in accumulator order.
SmallVector<Value> F32Values::dequantize(const RowFn &row, Value channel,
                                         const ChannelBlock &block) {
  Values dequantized = a.planV.convert(block, row, channel);
  SmallVector<int64_t> from = a.planV.order(block), to = order(block);
  if (from == to)
    return dequantized;
  SmallVector<int64_t> element(block.channels);
  for (auto [e, c] : llvm::enumerate(from))
    element[c] = e;
  Value all = kit.concat(dequantized);
  Values out;
  for (int64_t first = 0; first < block.channels; first += block.lanes) {
    SmallVector<int64_t> lanes;
    for (int64_t i = 0; i < block.lanes; ++i)
      lanes.push_back(element[to[first + i]]);
    out.push_back(kit.shuffle(all, all, lanes));
  }
  return out;
}

/// With a mask, a token of weight 0 adds nothing even where v is not finite: it
/// is hidden from the row.
SmallVector<Value> F32Values::addTokens(const TileRows &rows, Value block,
                                        Value token, const DirectStrip &strip,
                                        ArrayRef<Value> sums) {
  Values dequantized;
  for (const ChannelBlock &shape : strip.blocks) {
    Value channel = kit.add(strip.channel, strip.offset(shape));
    llvm::append_range(dequantized, dequantize(rows.at(token), channel, shape));
  }
  Value from = blocks.scores(rows, block, token);
  Values next(sums);
  int64_t lanes = strip.blocks.front().lanes, vectors = dequantized.size();
  for (int64_t row = 0; row < strip.rows; ++row) {
    Value p = kit.load(kit.f32(), kit.at(from, (strip.firstRow + row) * 4));
    Value wide = kit.splat(p, lanes);
    Value hidden;
    if (rows.masked)
      hidden =
          kit.fcmp(arith::CmpFPredicate::OEQ, p, kit.constant(0, kit.f32()));
    for (int64_t v = 0; v < vectors; ++v) {
      Value &sum = next[row * vectors + v];
      Value more = kit.fma(wide, dequantized[v], sum);
      sum = hidden ? kit.select(hidden, sum, more) : more;
    }
  }
  return next;
}

} // namespace

const OperandSource<DirectKeys> kvc::cpu::directF32Keys =
    operandSource<DirectKeys, F32Keys>(cost);
const OperandSource<DirectValues> kvc::cpu::directF32Values =
    operandSource<DirectValues, F32Values>(cost);

std::unique_ptr<DirectValues>
kvc::cpu::makeMaskedValues(DirectBlocks &blocks, const DirectValues &like) {
  return std::make_unique<F32Values>(blocks, &like);
}
