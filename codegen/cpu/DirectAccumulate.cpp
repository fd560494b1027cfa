//===- DirectAccumulate.cpp - p . v with few query rows -------------------===//
//
// A strip is as many channels, or of as many rows, as have their accumulators
// in registers. Their elements are in the order of V's source; the output puts
// them right.
//
//===----------------------------------------------------------------------===//
#include "codegen/cpu/DirectMainloop.h"

#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace kvc;
using namespace kvc::cpu;

/// Weights from the scores: their sum, and what accumulate multiplies.
void DirectMainloop::prepare(const TileRows &rows,
                             ArrayRef<Operation *> transforms) {
  Value scales = scaledBy(transforms);
  if (scales)
    a.gatherScales(rows, scales, blocks.scaleV);
  DirectValues &source = valuesOf(rows);
  int64_t lanes = blocks.scoreLanes();
  auto plus = [&](Value x, Value y) { return kit.fadd(x, y); };
  auto larger = [&](Value x, Value y) { return kit.fmaxKeepNaN(x, y); };
  blocks.forBlocks([&](Value block) {
    Value origin =
        originOf(kit.load(kit.vec(padded), blocks.stats(blocks.m, block)));
    Value wide = kit.repeat(origin, lanes);
    Value zero = kit.constant(0, wide.getType());
    Values found = blocks.forScores(
        rows, {zero, zero},
        [&](Value vector, int64_t count, ValueRange carried) {
          Value sum, largest;
          auto weight = [&](int64_t i) {
            Value v = kit.add(vector, i), at = blocks.scoresOf(rows, block, v);
            Value x = kit.exp2(kit.fsub(kit.load(kit.vec(lanes), at), wide));
            sum = sum ? plus(sum, x) : x;
            if (scales)
              x = a.scaleProbability(x, tokenScales(blocks.scaleV, v));
            largest = largest ? larger(largest, x) : x;
            return x;
          };
          source.storeWeights(rows, block, vector, count, weight);
          return Values{plus(carried[0], sum), larger(carried[1], largest)};
        });
    Value total = kit.load(kit.vec(padded), blocks.stats(blocks.l, block));
    total = plus(total, kit.fold(found[0], padded, plus));
    kit.store(total, blocks.stats(blocks.l, block));
    source.finishWeights(rows, block, found[1]);
  });
}

void DirectMainloop::accumulate(const TileRows &narrow) {
  TileRows rows = widen(narrow, a.planV);
  blocks.forBlocks([&](Value block) {
    forStrips(
        [&](const DirectStrip &strip) { accumulateStrip(rows, block, strip); });
  });
}

void DirectMainloop::forStrips(
    llvm::function_ref<void(const DirectStrip &)> body) {
  const ChannelPlan &plan = a.planV;
  ArrayRef<ChannelBlock> shapes(plan.blocks);
  int64_t vectors = shapes.front().channels / shapes.front().lanes;
  int64_t fit = k.target().getRegisters() / 2; // accumulators
  int64_t all = std::max<int64_t>(1, plan.main * vectors);
  int64_t some = std::min(blockRows, fit / all);
  if (values->pace().wholeTokens && plan.main == int64_t(shapes.size()) &&
      2 * some >= std::min<int64_t>(blockRows, 4)) {
    for (int64_t row = 0; row < blockRows; row += some)
      body({kit.i64(0), shapes, row, std::min(some, blockRows - row)});
    return;
  }
  int64_t wide = std::max<int64_t>(1, fit / (blockRows * vectors));
  int64_t done = plan.main / wide * wide;
  int64_t step = wide * shapes.front().channels;
  kit.loop(0, done / wide * step, step, [&](Value channel) {
    body({channel, shapes.take_front(wide), 0, blockRows});
  });
  // What is left over: the last main shapes together, then each tail.
  if (int64_t rest = plan.main - done)
    body({kit.i64(shapes[done].first), shapes.slice(done, rest), 0, blockRows});
  for (int64_t i = plan.main; i < int64_t(shapes.size()); ++i)
    body({kit.i64(shapes[i].first), shapes.slice(i, 1), 0, blockRows});
}

/// acc[rows][strip] += sum_t p[t] v[t].
void DirectMainloop::accumulateStrip(const TileRows &rows, Value block,
                                     const DirectStrip &strip) {
  DirectValues &source = valuesOf(rows);
  Value base = kit.at(blocks.accumulators(block), kit.mul(strip.channel, 4));
  SmallVector<DirectStrip::Slot> slots;
  for (int64_t row = strip.firstRow; row < strip.firstRow + strip.rows; ++row)
    for (const ChannelBlock &shape : strip.blocks)
      for (int64_t c = 0; c < shape.channels; c += shape.lanes) {
        int64_t element = row * a.dimV + strip.offset(shape) + c;
        slots.push_back({kit.at(base, element * 4), row, shape.lanes});
      }
  Values sums = source.beginSums(slots);
  auto [from, to] = blocks.range(rows);
  int64_t tokens = source.productTokens();
  sums = kit.loop(from, to, tokens, sums, [&](Value token, ValueRange carried) {
    prefetchStrip(rows, strip, token, tokens);
    return source.addTokens(rows, block, token, strip, Values(carried));
  });
  source.endSums(block, slots, sums);
}

/// As often as V's source likes in all, for however many of the rows at a time.
void DirectMainloop::prefetchStrip(const TileRows &rows,
                                   const DirectStrip &strip, Value token,
                                   int64_t count) {
  int64_t passes = blockRows / strip.rows;
  int64_t wanted = values->pace().prefetches;
  int64_t times = std::clamp<int64_t>(wanted / passes, 1, wanted);
  prefetchAhead(rows, a.planV.codesPlane(), token, count,
                llvm::bit_floor(uint64_t(times)),
                a.planV.codeBytes(kit, strip.channel),
                strip.channels() * a.planV.codeBits() / 8);
}

//===----------------------------------------------------------------------===//
// Result
//===----------------------------------------------------------------------===//

void DirectMainloop::storePartial() {
  kit.loop(kit.i64(0), a.rows, 1, [&](Value row) {
    Value block = kit.div(row, blockRows);
    Value lane = kit.mul(kit.rem(row, blockRows), 4);
    auto stat = [&](int64_t offset) {
      return kit.load(kit.vec(1), kit.at(blocks.stats(offset, block), lane));
    };
    storeRow(row, a.storePartialLse(row, stat(blocks.m), stat(blocks.l)));
  });
}

void DirectMainloop::storeRow(Value row, Value inverse) {
  Value to = a.partialOutput(row);
  // Blocks are dense: row r of the work tile stands at acc + r * dim v.
  Value from = kit.at(k.scratchAt(blocks.acc), kit.mul(row, a.dimV * 4));
  a.planV.forBlocks([&](const ChannelBlock &block, Value channel) {
    Value x =
        kit.load(kit.vec(block.channels), kit.at(from, kit.mul(channel, 4)));
    x = kit.fmul(x, kit.splat(inverse, block.channels));
    SmallVector<int64_t> order = values->order(block), back(order.size());
    for (auto [element, channel] : llvm::enumerate(order))
      back[channel] = element;
    kit.store(kit.shuffle(x, x, back), kit.at(to, kit.mul(channel, 4)));
  });
}
