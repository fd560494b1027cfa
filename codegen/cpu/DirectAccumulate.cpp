//===- DirectAccumulate.cpp - p . v with few query rows -------------------===//
//
// A strip is as many channels as accumulators of all rows fit in registers.
//
// Decoded: a token's vectors are decoded and multiplied by its probability of
// each row. Codes: two tokens' codes are interleaved, which takes one shuffle a
// vector, and multiplied by their pairs of probabilities, in bf16 or as 15-bit
// integers of the tile's largest. Interleaving within 128 bits is the cheap
// one, so accumulators have their channels in that order; the output puts them
// right.
//
//===----------------------------------------------------------------------===//
#include "codegen/cpu/DirectMath.h"

using namespace mlir;
using namespace kvc;
using namespace kvc::cpu;

int64_t DirectMath::Strip::channels() const {
  return offset(blocks.back()) + blocks.back().channels;
}

SmallVector<int64_t> DirectMath::accOrder(const ChannelBlock &block) const {
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

void DirectMath::prepare(const TileRows &rows, ArrayRef<Transform> transforms) {
  if (auto stream = scaledBy(transforms)) {
    a.gatherScales(rows, *stream, scaleV);
    scaleProbabilities(rows);
  }
  if (rows.masked || formV == Form::F32)
    return;
  forBlocks([&](Value block) {
    formV == Form::BF16 ? packBF16(rows, block) : packI16(rows, block);
  });
}

void DirectMath::accumulate(const TileRows &rows) {
  forBlocks([&](Value block) {
    forStrips([&](const Strip &strip) { accumulateStrip(rows, block, strip); });
  });
}

void DirectMath::scaleProbabilities(const TileRows &rows) {
  int64_t lanes = tokensPerVector * padded;
  forBlocks([&](Value block) {
    for (int64_t v = 0; v < a.tileTokens / tokensPerVector; ++v) {
      Value at = kit.at(scores(rows, block), v * lanes * 4);
      kit.store(a.scaleProbability(kit.load(kit.vec(lanes), at),
                                   tokenScales(scaleV, v)),
                at);
    }
  });
}

/// Positions that put elements [token][padded] of n lanes in pairs of tokens,
/// [pair][padded][2].
static SmallVector<int64_t> pairLanes(int64_t n, int64_t padded) {
  SmallVector<int64_t> pairs;
  for (int64_t pair = 0; pair < n; pair += 2 * padded)
    for (int64_t row = 0; row < padded; ++row)
      llvm::append_values(pairs, pair + row, pair + padded + row);
  return pairs;
}

void DirectMath::packBF16(const TileRows &rows, Value block) {
  int64_t all = a.tileTokens * padded;
  int64_t n = std::min(all, 2 * std::max(kit.lanes, padded));
  for (int64_t i = 0; i < all; i += n) {
    Value x = kit.load(kit.vec(n), kit.at(scores(rows, block), i * 4));
    Value rounded = kit.roundToBF16(x);
    kit.store(kit.shuffle(rounded, rounded, pairLanes(n, padded)),
              kit.at(probabilities(rows, block), i * 2));
  }
}

void DirectMath::packI16(const TileRows &rows, Value block) {
  OpBuilder &b = kit.b;
  int64_t all = a.tileTokens * padded;
  int64_t n = std::min(all, 2 * std::max(kit.lanes, padded));
  auto larger = [&](Value x, Value y) { return kit.fmaxKeepNaN(x, y); };
  Values x;
  for (int64_t i = 0; i < all; i += n)
    x.push_back(kit.load(kit.vec(n), kit.at(scores(rows, block), i * 4)));
  Value largest = x[0];
  for (Value other : ArrayRef(x).drop_front())
    largest = larger(largest, other);
  largest = kit.fold(largest, padded, larger);
  // Powers of two by their exponent fields: 2^e <= largest, and 2^-e. A largest
  // of 0 has unit 0; NaN is in l already.
  auto ints = VectorType::get(padded, b.getI32Type());
  Value bits = arith::BitcastOp::create(b, kit.loc, ints, largest);
  Value field = kit.both(bits, kit.i32s(padded, 0x7f800000));
  Value power = arith::BitcastOp::create(b, kit.loc, kit.vec(padded), field);
  Value inverse =
      arith::BitcastOp::create(b, kit.loc, kit.vec(padded),
                               kit.sub(kit.i32s(padded, 0x7f000000), field));
  // A power of two, so that equal probabilities stay equal weights.
  constexpr double steps = 16384;
  kit.store(kit.fmul(power, kit.constant(1 / steps, power.getType())),
            tileStats(rows, pUnit, block));
  auto halves = VectorType::get(n, b.getI16Type());
  Value wide = kit.repeat(inverse, n);
  for (auto [i, value] : llvm::enumerate(x)) {
    Type type = value.getType();
    Value y = kit.fmul(kit.fmul(value, wide), kit.constant(steps, type));
    // Just below 2 * steps rounds up to what i16 has no room for.
    y = kit.fminKeepNaN(kit.constant(INT16_MAX, type), y);
    Value rounded =
        arith::TruncIOp::create(b, kit.loc, halves, kit.roundToI32(y));
    kit.store(kit.shuffle(rounded, rounded, pairLanes(n, padded)),
              kit.at(probabilities(rows, block), i * n * 2));
  }
}

void DirectMath::forStrips(llvm::function_ref<void(const Strip &)> body) {
  const ChannelPlan &plan = a.planV;
  int64_t vectors = plan.blocks.front().channels / plan.blocks.front().lanes;
  int64_t fit = a.schedule.getRows() * vectors * 2;
  int64_t wide = std::max<int64_t>(1, k.target().getRegisters() / fit);
  ArrayRef<ChannelBlock> blocks(plan.blocks);
  int64_t done = plan.main / wide * wide;
  int64_t step = wide * plan.blocks.front().channels;
  kit.loop(0, done / wide * step, step,
           [&](Value channel) { body({channel, blocks.take_front(wide)}); });
  // What is left over: the last main blocks together, then each tail.
  if (int64_t rest = plan.main - done)
    body({kit.i64(blocks[done].first), blocks.slice(done, rest)});
  for (int64_t i = plan.main; i < int64_t(blocks.size()); ++i)
    body({kit.i64(blocks[i].first), blocks.slice(i, 1)});
}

/// acc[rows][strip] = alpha * acc + sum_t p[t] v[t].
void DirectMath::accumulateStrip(const TileRows &rows, Value block,
                                 const Strip &strip) {
  Value base = kit.at(blockAt(acc, block, blockRows * a.dimV * 4),
                      kit.mul(strip.channel, 4));
  bool integers = formV == Form::I8 && !rows.masked;
  Values slots, sums, zeros, units;
  for (int64_t row = 0; row < blockRows; ++row) {
    Value factor =
        kit.load(kit.f32(), kit.at(tileStats(rows, alpha, block), row * 4));
    Value unit =
        kit.load(kit.f32(), kit.at(tileStats(rows, pUnit, block), row * 4));
    for (const ChannelBlock &shape : strip.blocks)
      for (int64_t c = 0; c < shape.channels; c += shape.lanes) {
        int64_t element = row * a.dimV + strip.offset(shape) + c;
        slots.push_back(kit.at(base, element * 4));
        Value sum = kit.load(kit.vec(shape.lanes), slots.back());
        sums.push_back(kit.fmul(sum, kit.splat(factor, shape.lanes)));
        zeros.push_back(kit.i32s(shape.lanes, 0));
        units.push_back(kit.splat(unit, shape.lanes));
      }
  }
  if (integers) {
    Values products = stripPairs(rows, block, strip, zeros);
    for (auto [sum, product, unit] : llvm::zip_equal(sums, products, units))
      sum = kit.fma(kit.toF32(product), unit, sum);
  } else if (formV == Form::BF16 && !rows.masked) {
    sums = stripPairs(rows, block, strip, sums);
  } else {
    sums = stripTokens(rows, block, strip, sums);
  }
  for (auto [slot, sum] : llvm::zip_equal(slots, sums))
    kit.store(sum, slot);
}

DirectMath::Values DirectMath::stripTokens(const TileRows &rows, Value block,
                                           const Strip &strip, Values sums) {
  Value count = rows.count ? rows.count : kit.i64(a.tileTokens);
  return kit.loop(kit.i64(0), count, 1, sums,
                  [&](Value token, ValueRange carried) {
                    prefetchStrip(rows, strip, token);
                    return addToken(rows, block, token, strip, Values(carried),
                                    rows.masked);
                  });
}

DirectMath::Values DirectMath::stripPairs(const TileRows &rows, Value block,
                                          const Strip &strip, Values sums) {
  return kit.loop(kit.i64(0), kit.i64(a.tileTokens), 2, sums,
                  [&](Value token, ValueRange carried) {
                    prefetchStrip(rows, strip, token);
                    prefetchStrip(rows, strip, kit.add(token, 1));
                    return addPair(rows, block, token, strip, Values(carried));
                  });
}

void DirectMath::prefetchStrip(const TileRows &rows, const Strip &strip,
                               Value token) {
  int64_t bytes = a.codeBytes(a.planV);
  prefetchAhead(rows, a.codesV, token, kit.mul(strip.channel, bytes),
                strip.channels() * bytes);
}

/// Decodes a block of a row; the elements are in accumulator order.
DirectMath::Values DirectMath::decodeV(Value row, Value channel,
                                       const ChannelBlock &block) {
  Values decoded = a.planV.decode(kit, block, row, channel);
  SmallVector<int64_t> from = a.planV.order(block), to = accOrder(block);
  if (from == to)
    return decoded;
  SmallVector<int64_t> element(block.channels);
  for (auto [e, c] : llvm::enumerate(from))
    element[c] = e;
  Value all = kit.concat(decoded);
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
DirectMath::Values DirectMath::addToken(const TileRows &rows, Value block,
                                        Value token, const Strip &strip,
                                        ArrayRef<Value> sums, bool skipZero) {
  Values decoded;
  for (const ChannelBlock &shape : strip.blocks) {
    Value channel = kit.add(strip.channel, strip.offset(shape));
    llvm::append_range(decoded,
                       decodeV(rows.row(a.codesV, token), channel, shape));
  }
  Value weights = kit.at(scores(rows, block), kit.mul(token, padded * 4));
  Values next(sums);
  int64_t lanes = strip.blocks.front().lanes, vectors = decoded.size();
  for (int64_t row = 0; row < blockRows; ++row) {
    Value p = kit.load(kit.f32(), kit.at(weights, row * 4));
    Value wide = kit.splat(p, lanes);
    Value hidden;
    if (skipZero)
      hidden =
          kit.fcmp(arith::CmpFPredicate::OEQ, p, kit.constant(0, kit.f32()));
    for (int64_t v = 0; v < vectors; ++v) {
      Value &sum = next[row * vectors + v];
      Value more = kit.fma(wide, decoded[v], sum);
      sum = hidden ? kit.select(hidden, sum, more) : more;
    }
  }
  return next;
}

DirectMath::Values DirectMath::addPair(const TileRows &rows, Value block,
                                       Value token, const Strip &strip,
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
  Value words = kit.at(probabilities(rows, block), kit.mul(token, padded * 2));
  Values next(sums);
  int64_t lanes = strip.blocks.front().lanes, vectors = pairs.size();
  for (int64_t row = 0; row < blockRows; ++row) {
    Value word = kit.load(kit.b.getI32Type(), kit.at(words, row * 4), 4);
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
Value DirectMath::loadHalves(Value row, Value channel,
                             const ChannelBlock &block) {
  Type code = a.planV.codec.getCodeType();
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

void DirectMath::storePartial() {
  kit.loop(kit.i64(0), a.rows, 1, [&](Value row) {
    Value block = kit.div(row, blockRows);
    Value lane = kit.mul(kit.rem(row, blockRows), 4);
    auto stat = [&](int64_t offset) {
      return kit.load(kit.vec(1), kit.at(stats(offset, block), lane));
    };
    storeRow(row, a.storePartialLse(row, stat(m), stat(l)));
  });
}

void DirectMath::storeRow(Value row, Value inverse) {
  Value to = a.partialOutput(row);
  // Blocks are dense: row r of the item stands at acc + r * dim v.
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
