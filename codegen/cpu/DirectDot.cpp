//===- DirectDot.cpp - q . k with few query rows --------------------------===//
//
// Decoded: q is [row][channel] f32 in the order of the decoder; each key has an
// accumulator per row, and the sums over their lanes are taken at the end.
//
// Codes: q is [chunk][row][segment] words of two bf16 or four bytes. A segment
// of a key's codes is loaded once for all rows (a broadcast), so that a key has
// one accumulator, whose lanes belong to the rows. For bf16, q needs no
// conversion because it is bf16 already, and its scale is applied to the
// scores. For int8, q is a 16-bit integer of its row, in two limbs of a byte:
//
//   <q, k> = 256 <high, k + 128> + <low, k + 128> - 128 sum(q)
//
// since the product wants one unsigned operand.
//
//===----------------------------------------------------------------------===//
#include "codegen/cpu/DirectMath.h"

using namespace mlir;
using namespace kvc;
using namespace kvc::cpu;

void DirectMath::loadQuery(double scale) {
  blocks = kit.ceilDiv(a.rows, blockRows);
  queryScale = scale;
  // Rows and channels that only fill up count as zeros.
  kit.loop(kit.i64(0), kit.mul(blocks, queryBytes()), 32, [&](Value byte) {
    kit.store(kit.constant(0, kit.vec(8)), kit.at(k.scratchAt(q), byte));
  });
  kit.loop(kit.i64(0), a.rows, 1, [&](Value row) {
    if (formK == Form::F32)
      loadQueryF32(row, scale);
    else if (formK == Form::BF16)
      loadQueryBF16(row);
    else
      loadQueryI8(row, scale);
  });
}

void DirectMath::loadQueryF32(Value row, double scale) {
  Value from = a.queryRow(row);
  Value to = kit.at(k.scratchAt(q), kit.mul(row, a.dimK * 4));
  a.planK.forBlocks(kit, [&](const ChannelBlock &block, Value channel) {
    Value x =
        kit.loadAsF32(k.dtype, kit.at(from, kit.mul(channel, k.dtypeBytes())),
                      block.channels);
    x = kit.fmul(x, kit.constant(scale, x.getType()));
    x = kit.shuffle(x, x, a.planK.order(block));
    kit.store(x, kit.at(to, kit.mul(channel, 4)));
  });
}

/// Address of word `word` of query row `row`.
Value DirectMath::queryWord(Value row, Value word) {
  int64_t limbs = formK == Form::I8 ? 2 : 1;
  Value at =
      kit.at(k.scratchAt(q), kit.mul(kit.div(row, blockRows), queryBytes()));
  at = kit.at(at, kit.mul(kit.div(word, segment()), limbs * kit.lanes * 4));
  at = kit.at(at, kit.mul(kit.rem(row, blockRows), segment() * 4));
  return kit.at(at, kit.mul(kit.rem(word, segment()), 4));
}

void DirectMath::loadQueryBF16(Value row) {
  Value from = a.queryRow(row);
  kit.loop(0, a.dimK / 2, 1, [&](Value word) {
    Value x = kit.load(kit.b.getI32Type(), kit.at(from, kit.mul(word, 4)));
    kit.store(x, queryWord(row, word), 4);
  });
}

void DirectMath::loadQueryI8(Value row, double scale) {
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
  // The largest integer: two signed bytes, and no sum of products overflows.
  double unit = std::min<int64_t>(127 * 256 + 127, INT32_MAX / (127 * a.dimK));
  Value one = kit.fold(found[0], 1, larger);
  Value finite = kit.fold(found[1], 1, plus); // 0, or NaN
  Value none = kit.fcmp(arith::CmpFPredicate::OLT, one,
                        kit.constant(0x1p-100, kit.vec(1)));
  Value inverse = kit.select(none, kit.constant(0, kit.vec(1)),
                             kit.fdiv(kit.constant(unit, kit.vec(1)), one));
  Value wide = kit.splat(kit.extract(inverse, 0), 8);
  Values sum =
      kit.loop(kit.i64(0), kit.i64(a.dimK), 8, ValueRange{kit.i32s(8, 0)},
               [&](Value c, ValueRange carried) {
                 Value x = kit.roundToI32(kit.fmul(load(c), wide));
                 storeLimbs(x, row, c);
                 return Values{kit.add(carried[0], x)};
               });
  Value total = kit.reduceAdd(sum);
  Value stat = kit.add(kit.mul(kit.div(row, blockRows), padded * 4),
                       kit.mul(kit.rem(row, blockRows), 4));
  Value factor = kit.fmul(one, kit.constant(scale / unit, kit.vec(1)));
  kit.store(plus(factor, finite), kit.at(k.scratchAt(queryFactor), stat));
  kit.store(arith::MulIOp::create(kit.b, kit.loc, total, kit.i32s(1, -128)),
            kit.at(k.scratchAt(queryBias), stat));
}

/// Eight integers of a query row, from channel `c` on, as high and low bytes:
/// x = 256 high + low with both signed.
void DirectMath::storeLimbs(Value x, Value row, Value c) {
  OpBuilder &b = kit.b;
  auto bytes = VectorType::get(8, b.getI8Type());
  Value low = arith::TruncIOp::create(b, kit.loc, bytes, x);
  Value rest = kit.sub(x, arith::ExtSIOp::create(b, kit.loc, x.getType(), low));
  Value high = arith::TruncIOp::create(
      b, kit.loc, bytes,
      arith::ShRSIOp::create(b, kit.loc, rest, kit.i32s(8, 8)));
  auto words = VectorType::get(2, b.getI32Type());
  Values limbs{high, low};
  for (auto [limb, value] : llvm::enumerate(limbs)) {
    Value pair = vector::BitCastOp::create(b, kit.loc, words, value);
    for (int64_t i : {0, 1}) {
      Value at = queryWord(row, kit.add(kit.div(c, 4), i));
      kit.store(kit.extract(pair, i), kit.at(at, limb * kit.lanes * 4), 4);
    }
  }
}

void DirectMath::dot(const TileRows &rows) {
  int64_t keys = rows.masked ? 1 : a.schedule.getKeys();
  Value count = rows.count ? rows.count : kit.i64(a.tileTokens);
  forBlocks([&](Value block) {
    Values words = queryWords(block);
    kit.loop(kit.i64(0), count, keys,
             [&](Value first) { dotGroup(rows, block, words, first, keys); });
  });
}

/// The words of a block of q, chunk by chunk, for as long as registers last;
/// what follows is loaded where it is used.
DirectMath::Values DirectMath::queryWords(Value block) {
  constexpr int64_t registers = 16;
  Values words;
  int64_t all = formK == Form::F32 ? 0 : queryBytes() / (kit.lanes * 4);
  for (int64_t i = 0; i < std::min(all, registers); ++i)
    words.push_back(loadWord(block, i));
  return words;
}

Value DirectMath::loadWord(Value block, int64_t index) {
  Type type = VectorType::get(kit.lanes, kit.b.getI32Type());
  Value from = blockAt(q, block, queryBytes());
  return kit.load(type, kit.at(from, index * kit.lanes * 4), kit.lanes * 4);
}

/// Scores of `keys` tokens from `first` against a block of query rows.
void DirectMath::dotGroup(const TileRows &rows, Value block,
                          ArrayRef<Value> words, Value first, int64_t keys) {
  auto keyRow = [&](int64_t key) {
    Value index = kit.add(first, key);
    prefetchAhead(rows, a.codesK, index, kit.i64(0), a.rowBytes(a.codesK));
    return rows.row(a.codesK, index);
  };
  auto word = [&](int64_t i) {
    return i < int64_t(words.size()) ? words[i] : loadWord(block, i);
  };
  Value result = formK == Form::F32    ? dotF32(keys, keyRow, block)
                 : formK == Form::BF16 ? dotBF16(keys, keyRow, word)
                                       : dotI8(keys, keyRow, word, block);
  kit.store(result, kit.at(scores(rows, block), kit.mul(first, padded * 4)));
}

Value DirectMath::dotF32(int64_t keys, KeyRowFn keyRow, Value block) {
  Values keyRows;
  for (int64_t key = 0; key < keys; ++key)
    keyRows.push_back(keyRow(key));
  Value query = blockAt(q, block, queryBytes());
  const ChannelPlan &plan = a.planK;
  const ChannelBlock &main = plan.blocks.front();
  Values sums(keys * blockRows, kit.constant(0, kit.vec(main.lanes)));
  int64_t step = plan.unroll() * main.channels;
  int64_t end = plan.main * main.channels;
  auto round = [&](Value channel, ValueRange carried) {
    Values next(carried);
    for (int64_t c = 0; c < step; c += main.channels)
      next = dotChannels(main, kit.add(channel, c), keyRows, query, next);
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
    into = dotChannels(tail, kit.i64(tail.first), keyRows, query, into);
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
DirectMath::Values DirectMath::dotChannels(const ChannelBlock &shape,
                                           Value channel,
                                           ArrayRef<Value> keyRows, Value query,
                                           ArrayRef<Value> sums) {
  Values next(sums);
  SmallVector<Values> decoded;
  for (Value row : keyRows)
    decoded.push_back(a.planK.decode(kit, shape, row, channel));
  for (int64_t v = 0; v < shape.channels / shape.lanes; ++v)
    for (int64_t row = 0; row < blockRows; ++row) {
      Value at = kit.at(query, kit.mul(channel, 4));
      Value x = kit.load(kit.vec(shape.lanes),
                         kit.at(at, (row * a.dimK + v * shape.lanes) * 4));
      for (size_t key = 0; key < keyRows.size(); ++key) {
        Value &sum = next[key * blockRows + row];
        sum = kit.fma(decoded[key][v], x, sum);
      }
    }
  return next;
}

// Both take one key after the other: a stream of rows in their order is what
// prefetchers follow, and a core has several keys' sums under way anyway.

Value DirectMath::dotBF16(int64_t keys, KeyRowFn keyRow, WordFn word) {
  Values sums;
  for (int64_t key = 0; key < keys; ++key) {
    Value row = keyRow(key);
    // Two sums: half the wait for one product after the other.
    Value part[2];
    part[0] = part[1] = kit.constant(0, kit.vec(kit.lanes));
    for (int64_t chunk = 0; chunk < chunks(); ++chunk)
      part[chunk % 2] =
          kit.dotBF16(part[chunk % 2], wordsOf(row, chunk), word(chunk));
    sums.push_back(kit.fadd(part[0], part[1]));
  }
  Value scores = kit.reduceAdd(sums, padded);
  return kit.fmul(scores, kit.constant(queryScale, scores.getType()));
}

Value DirectMath::dotI8(int64_t keys, KeyRowFn keyRow, WordFn word,
                        Value block) {
  Value signs = kit.i32s(kit.lanes, int32_t(0x80808080));
  Value eight = kit.i32s(kit.lanes, 8);
  Values sums;
  for (int64_t key = 0; key < keys; ++key) {
    Value row = keyRow(key);
    Value high = kit.i32s(kit.lanes, 0), low = high;
    for (int64_t chunk = 0; chunk < chunks(); ++chunk) {
      Value codes =
          arith::XOrIOp::create(kit.b, kit.loc, wordsOf(row, chunk), signs);
      high = kit.dotU8I8(high, codes, word(2 * chunk));
      low = kit.dotU8I8(low, codes, word(2 * chunk + 1));
    }
    sums.push_back(
        kit.add(arith::ShLIOp::create(kit.b, kit.loc, high, eight), low));
  }
  Value total = kit.reduceAdd(sums, padded);
  int64_t n = cast<VectorType>(total.getType()).getNumElements();
  Type ints = VectorType::get(padded, kit.b.getI32Type());
  Value bias = kit.repeat(kit.load(ints, stats(queryBias, block)), n);
  Value factor =
      kit.repeat(kit.load(kit.vec(padded), stats(queryFactor, block)), n);
  return kit.fmul(kit.toF32(kit.add(total, bias)), factor);
}

/// The chunk's segment of a key's codes, once for every row; zeros past the
/// last channel.
Value DirectMath::wordsOf(Value row, int64_t chunk) {
  int64_t first = chunk * segment();
  int64_t n = std::min(segment(), a.dimK / wordChannels() - first);
  Value x =
      kit.load(VectorType::get(n, kit.b.getI32Type()), kit.at(row, first * 4));
  SmallVector<int64_t> lanes;
  for (int64_t lane = 0; lane < kit.lanes; ++lane)
    lanes.push_back(std::min(lane % segment(), n));
  return kit.shuffle(x, kit.i32s(n, 0), lanes);
}
