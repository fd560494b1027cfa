//===- DirectAccumulate.cpp - p . v with few query rows -------------------===//
//
// A strip is as many channels, or of as many rows, as have their accumulators
// in registers.
//
// Dequantized: a token's vectors are dequantized and multiplied by its
// probability of each row. Codes: two tokens' codes are interleaved, which
// takes one shuffle a vector, and multiplied by their pairs of probabilities,
// in bf16 or as 15-bit integers of the step's largest. Interleaving within 128
// bits is the cheap one, so accumulators have their channels in that order; the
// output puts them right.
//
//===----------------------------------------------------------------------===//
#include "codegen/cpu/DirectMainloop.h"

using namespace mlir;
using namespace kvc;
using namespace kvc::cpu;

int64_t DirectMainloop::Strip::channels() const {
  return offset(blocks.back()) + blocks.back().channels;
}

SmallVector<int64_t> DirectMainloop::accOrder(const ChannelBlock &block) const {
  if (formV == Form::F32)
    return a.planV.order(block);
  if (block.channels != 2 * kit.lanes)
    return llvm::to_vector(llvm::seq<int64_t>(0, block.channels));
  // Low halves of each 128 bits, then high halves.
  SmallVector<int64_t> order;
  for (int64_t half : {0, 4})
    for (int64_t base = 0; base < block.channels; base += 8)
      for (int64_t i = 0; i < 4; ++i)
        order.push_back(base + half + i);
  return order;
}

/// Probabilities from the scores: their sum, and what accumulate multiplies.
void DirectMainloop::prepare(const TileRows &rows,
                             ArrayRef<Operation *> transforms) {
  Value scales = scaledBy(transforms);
  if (scales)
    a.gatherScales(rows, scales, scaleV);
  Form form = rows.masked ? Form::F32 : formV;
  int64_t lanes = tokensPerVector * padded;
  auto plus = [&](Value x, Value y) { return kit.fadd(x, y); };
  auto larger = [&](Value x, Value y) { return kit.fmaxKeepNaN(x, y); };
  forBlocks([&](Value block) {
    Value origin = originOf(kit.load(kit.vec(padded), stats(m, block)));
    Value wide = kit.repeat(origin, lanes);
    Value zero = kit.constant(0, wide.getType());
    Values found = forScores(
        rows, {zero, zero},
        [&](Value vector, int64_t count, ValueRange carried) {
          Value sum, largest;
          Values all;
          for (int64_t i = 0; i < count; ++i) {
            Value v = kit.add(vector, i), at = scoresOf(rows, block, v);
            Value x = kit.exp2(kit.fsub(kit.load(kit.vec(lanes), at), wide));
            sum = sum ? plus(sum, x) : x;
            if (scales)
              x = a.scaleProbability(x, tokenScales(scaleV, v));
            largest = largest ? larger(largest, x) : x;
            all.push_back(x);
            if (form != Form::BF16)
              kit.store(x, at);
          }
          if (form == Form::BF16)
            storePairs(all, rows, block, vector,
                       [&](Value x) { return kit.roundToBF16(x); });
          return Values{plus(carried[0], sum), larger(carried[1], largest)};
        });
    Value total = kit.load(kit.vec(padded), stats(l, block));
    total = plus(total, kit.fold(found[0], padded, plus));
    kit.store(total, stats(l, block));
    if (form == Form::I8)
      packI16(rows, block, kit.fold(found[1], padded, larger));
  });
}

void DirectMainloop::accumulate(const TileRows &rows) {
  forBlocks([&](Value block) {
    forStrips([&](const Strip &strip) { accumulateStrip(rows, block, strip); });
  });
}

/// Stores vectors of probabilities from `vector` on, each element made one of
/// 16 bits by `narrow`, in pairs of tokens: [pair][padded][2].
void DirectMainloop::storePairs(ArrayRef<Value> x, const TileRows &rows,
                                Value block, Value vector,
                                llvm::function_ref<Value(Value)> narrow) {
  int64_t lanes = tokensPerVector * padded;
  size_t some = x.size() > 1 ? 2 : 1; // a lone vector is all of the tile
  int64_t n = some * lanes;
  SmallVector<int64_t> pairs;
  for (int64_t pair = 0; pair < n; pair += 2 * padded)
    for (int64_t row = 0; row < padded; ++row)
      llvm::append_values(pairs, pair + row, pair + padded + row);
  Value token = kit.mul(vector, tokensPerVector);
  Value to = pairsAt(block, kit.sub(token, range(rows).first));
  for (size_t i = 0; i < x.size(); i += some) {
    Value halves = narrow(kit.concat(x.slice(i, some)));
    kit.store(kit.shuffle(halves, halves, pairs), kit.at(to, i * lanes * 2));
  }
}

/// Probabilities as integers, of a unit that their largest of each row gives.
void DirectMainloop::packI16(const TileRows &rows, Value block, Value largest) {
  OpBuilder &b = kit.b;
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
            stats(pUnit, block));
  int64_t lanes = tokensPerVector * padded;
  Value wide = kit.repeat(inverse, lanes);
  auto narrow = [&](Value x) -> Value {
    auto halves = VectorType::get(
        cast<VectorType>(x.getType()).getNumElements(), b.getI16Type());
    return arith::TruncIOp::create(b, kit.loc, halves,
                                   kit.roundToI32(x, steps));
  };
  forScores(rows, {}, [&](Value vector, int64_t count, ValueRange) {
    Values all;
    for (int64_t i = 0; i < count; ++i) {
      Value at = scoresOf(rows, block, kit.add(vector, i));
      Value x = kit.fmul(kit.load(kit.vec(lanes), at), wide);
      // Just below 2 * steps rounds up to what i16 has no room for.
      all.push_back(
          kit.fminKeepNaN(kit.constant(INT16_MAX / steps, x.getType()), x));
    }
    storePairs(all, rows, block, vector, narrow);
    return Values();
  });
}

void DirectMainloop::forStrips(llvm::function_ref<void(const Strip &)> body) {
  const ChannelPlan &plan = a.planV;
  ArrayRef<ChannelBlock> blocks(plan.blocks);
  int64_t vectors = blocks.front().channels / blocks.front().lanes;
  int64_t fit = k.target().getRegisters() / 2; // accumulators
  int64_t all = std::max<int64_t>(1, plan.main * vectors);
  // Pairs of bf16 are cheap to make twice: whole tokens for some of the rows,
  // so that memory is read in the order of its addresses, which is all that
  // prefetchers of a core follow.
  int64_t some = std::min(blockRows, fit / all);
  if (formV == Form::BF16 && plan.main == int64_t(blocks.size()) &&
      2 * some >= std::min<int64_t>(blockRows, 4)) {
    for (int64_t row = 0; row < blockRows; row += some)
      body({kit.i64(0), blocks, row, std::min(some, blockRows - row)});
    return;
  }
  int64_t wide = std::max<int64_t>(1, fit / (blockRows * vectors));
  int64_t done = plan.main / wide * wide;
  int64_t step = wide * blocks.front().channels;
  kit.loop(0, done / wide * step, step, [&](Value channel) {
    body({channel, blocks.take_front(wide), 0, blockRows});
  });
  // What is left over: the last main blocks together, then each tail.
  if (int64_t rest = plan.main - done)
    body({kit.i64(blocks[done].first), blocks.slice(done, rest), 0, blockRows});
  for (int64_t i = plan.main; i < int64_t(blocks.size()); ++i)
    body({kit.i64(blocks[i].first), blocks.slice(i, 1), 0, blockRows});
}

/// acc[rows][strip] += sum_t p[t] v[t].
void DirectMainloop::accumulateStrip(const TileRows &rows, Value block,
                                     const Strip &strip) {
  Value base = kit.at(blockAt(acc, block, blockRows * a.dimV * 4),
                      kit.mul(strip.channel, 4));
  struct Slot {
    Value at;
    int64_t row, lanes;
  };
  SmallVector<Slot> slots;
  for (int64_t row = strip.firstRow; row < strip.firstRow + strip.rows; ++row)
    for (const ChannelBlock &shape : strip.blocks)
      for (int64_t c = 0; c < shape.channels; c += shape.lanes) {
        int64_t element = row * a.dimV + strip.offset(shape) + c;
        slots.push_back({kit.at(base, element * 4), row, shape.lanes});
      }
  auto load = [&](const Slot &slot) {
    return kit.load(kit.vec(slot.lanes), slot.at);
  };
  if (formV == Form::I8 && !rows.masked) {
    // In integers, which are added to what is in memory at the end.
    Values sums;
    for (const Slot &slot : slots)
      sums.push_back(kit.i32s(slot.lanes, 0));
    sums = stripPairs(rows, block, strip, sums);
    for (auto [slot, sum] : llvm::zip_equal(slots, sums)) {
      Value unit =
          kit.load(kit.f32(), kit.at(stats(pUnit, block), slot.row * 4));
      kit.store(
          kit.fma(kit.toF32(sum), kit.splat(unit, slot.lanes), load(slot)),
          slot.at);
    }
    return;
  }
  Values sums = llvm::map_to_vector(slots, load);
  sums = formV == Form::BF16 && !rows.masked
             ? stripPairs(rows, block, strip, sums)
             : stripTokens(rows, block, strip, sums);
  for (auto [slot, sum] : llvm::zip_equal(slots, sums))
    kit.store(sum, slot.at);
}

DirectMainloop::Values DirectMainloop::stripTokens(const TileRows &rows,
                                                   Value block,
                                                   const Strip &strip,
                                                   Values sums) {
  auto [from, to] = range(rows);
  return kit.loop(from, to, 1, sums, [&](Value token, ValueRange carried) {
    prefetchStrip(rows, strip, token, 1);
    return addToken(rows, block, token, strip, Values(carried), rows.masked);
  });
}

DirectMainloop::Values DirectMainloop::stripPairs(const TileRows &rows,
                                                  Value block,
                                                  const Strip &strip,
                                                  Values sums) {
  auto [from, to] = range(rows);
  return kit.loop(from, to, 2, sums, [&](Value token, ValueRange carried) {
    prefetchStrip(rows, strip, token, 2);
    return addPair(rows, block, token, strip, Values(carried));
  });
}

/// Twice in all; pairs of bf16, which are done the sooner, four times.
void DirectMainloop::prefetchStrip(const TileRows &rows, const Strip &strip,
                                   Value token, int64_t count) {
  int64_t bytes = a.codeBytes(a.planV), passes = blockRows / strip.rows;
  int64_t times =
      formV == Form::BF16 ? std::clamp<int64_t>(4 / passes, 1, 4) : 2;
  prefetchAhead(rows, a.codesV, token, count, llvm::bit_floor(uint64_t(times)),
                kit.mul(strip.channel, bytes), strip.channels() * bytes);
}

/// Dequantizes a block of a row; the elements are in accumulator order.
DirectMainloop::Values DirectMainloop::dequantizeV(Value row, Value channel,
                                                   const ChannelBlock &block) {
  Values dequantized = a.planV.convert(kit, block, row, channel);
  SmallVector<int64_t> from = a.planV.order(block), to = accOrder(block);
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

/// With `skipZero`, a token of probability 0 adds nothing even where v is not
/// finite: it is hidden from the row.
DirectMainloop::Values DirectMainloop::addToken(const TileRows &rows,
                                                Value block, Value token,
                                                const Strip &strip,
                                                ArrayRef<Value> sums,
                                                bool skipZero) {
  Values dequantized;
  for (const ChannelBlock &shape : strip.blocks) {
    Value channel = kit.add(strip.channel, strip.offset(shape));
    llvm::append_range(dequantized,
                       dequantizeV(rows.row(a.codesV, token), channel, shape));
  }
  Value weights = scores(rows, block, token);
  Values next(sums);
  int64_t lanes = strip.blocks.front().lanes, vectors = dequantized.size();
  for (int64_t row = 0; row < strip.rows; ++row) {
    Value p = kit.load(kit.f32(), kit.at(weights, (strip.firstRow + row) * 4));
    Value wide = kit.splat(p, lanes);
    Value hidden;
    if (skipZero)
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

DirectMainloop::Values DirectMainloop::addPair(const TileRows &rows,
                                               Value block, Value token,
                                               const Strip &strip,
                                               ArrayRef<Value> sums) {
  Values pairs;
  for (const ChannelBlock &shape : strip.blocks) {
    Value codes[2];
    for (int64_t i : {0, 1})
      codes[i] = loadHalves(rows.row(a.codesV, kit.add(token, i)),
                            kit.add(strip.channel, strip.offset(shape)), shape);
    SmallVector<int64_t> order = accOrder(shape);
    for (int64_t first = 0; first < shape.channels; first += shape.lanes) {
      SmallVector<int64_t> lanes;
      for (int64_t i = first; i < first + shape.lanes; ++i)
        llvm::append_values(lanes, order[i], shape.channels + order[i]);
      pairs.push_back(kit.shuffle(codes[0], codes[1], lanes));
    }
  }
  Value words = pairsAt(block, kit.sub(token, range(rows).first));
  Values next(sums);
  int64_t lanes = strip.blocks.front().lanes, vectors = pairs.size();
  for (int64_t row = 0; row < strip.rows; ++row) {
    Value word = kit.load(kit.b.getI32Type(),
                          kit.at(words, (strip.firstRow + row) * 4), 4);
    Value wide = kit.splat(word, lanes);
    for (int64_t v = 0; v < vectors; ++v) {
      Value &sum = next[row * vectors + v];
      sum = formV == Form::BF16 ? kit.dotBF16(sum, pairs[v], wide)
                                : kit.dotI16(sum, pairs[v], wide);
    }
  }
  return next;
}

/// The codes of a block of channels in 16 bits each.
Value DirectMainloop::loadHalves(Value row, Value channel,
                                 const ChannelBlock &block) {
  Type code = a.planV.code;
  Value codes = kit.load(VectorType::get(block.channels, code),
                         kit.at(row, kit.mul(channel, a.codeBytes(a.planV))));
  if (formV == Form::BF16)
    return codes;
  auto halves = VectorType::get(block.channels, kit.b.getI16Type());
  return arith::ExtSIOp::create(kit.b, kit.loc, halves, codes);
}

//===----------------------------------------------------------------------===//
// Result
//===----------------------------------------------------------------------===//

void DirectMainloop::storePartial() {
  kit.loop(kit.i64(0), a.rows, 1, [&](Value row) {
    Value block = kit.div(row, blockRows);
    Value lane = kit.mul(kit.rem(row, blockRows), 4);
    auto stat = [&](int64_t offset) {
      return kit.load(kit.vec(1), kit.at(stats(offset, block), lane));
    };
    storeRow(row, a.storePartialLse(row, stat(m), stat(l)));
  });
}

void DirectMainloop::storeRow(Value row, Value inverse) {
  Value to = a.partialOutput(row);
  // Blocks are dense: row r of the work tile stands at acc + r * dim v.
  Value from = kit.at(k.scratchAt(acc), kit.mul(row, a.dimV * 4));
  a.planV.forBlocks(kit, [&](const ChannelBlock &block, Value channel) {
    Value x =
        kit.load(kit.vec(block.channels), kit.at(from, kit.mul(channel, 4)));
    x = kit.fmul(x, kit.splat(inverse, block.channels));
    SmallVector<int64_t> order = accOrder(block), back(order.size());
    for (auto [element, channel] : llvm::enumerate(order))
      back[channel] = element;
    kit.store(kit.shuffle(x, x, back), kit.at(to, kit.mul(channel, 4)));
  });
}
