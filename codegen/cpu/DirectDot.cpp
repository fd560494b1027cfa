//===- DirectDot.cpp - q . k with few query rows --------------------------===//
//
// Dequantized: q is [row][channel] f32 in the order of the dequantizer; each
// key has an accumulator per row, and the sums over their lanes are taken at
// the end.
//
// Codes: q is [chunk][row] vectors of pairs of bf16 or of 16-bit integers. A
// chunk of a key's codes is loaded once for all rows. For bf16, q needs no
// conversion because it is bf16 already, and its scale is applied to the
// scores. For int8, codes are widened to 16 bits as they are loaded, and q is
// 15 bits and a sign of the largest of its row.
//
//===----------------------------------------------------------------------===//
#include "codegen/cpu/DirectMainloop.h"

using namespace mlir;
using namespace kvc;
using namespace kvc::cpu;

void DirectMainloop::loadQuery(double scale) {
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

void DirectMainloop::loadQueryF32(Value row, double scale) {
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

/// Where codes from `channel` on, a multiple of 8, of query row `row` stand.
Value DirectMainloop::queryAt(Value row, Value channel) {
  int64_t bytes = kit.lanes * 4; // of a chunk of a row
  Value at =
      kit.at(k.scratchAt(q), kit.mul(kit.div(row, blockRows), queryBytes()));
  Value chunk = kit.div(channel, chunkChannels());
  Value vector = kit.add(kit.mul(chunk, blockRows), kit.rem(row, blockRows));
  at = kit.at(at, kit.mul(vector, bytes));
  return kit.at(at, kit.mul(kit.rem(channel, chunkChannels()), 2));
}

void DirectMainloop::loadQueryBF16(Value row) {
  Value from = a.queryRow(row);
  Type type = VectorType::get(8, k.dtype);
  kit.loop(0, a.dimK, 8, [&](Value channel) {
    kit.store(kit.load(type, kit.at(from, kit.mul(channel, 2))),
              queryAt(row, channel));
  });
}

void DirectMainloop::loadQueryI8(Value row, double scale) {
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
  auto halves = VectorType::get(8, kit.b.getI16Type());
  kit.loop(0, a.dimK, 8, [&](Value c) {
    Value x = kit.roundToI32(kit.fmul(load(c), wide));
    kit.store(arith::TruncIOp::create(kit.b, kit.loc, halves, x),
              queryAt(row, c));
  });
  Value stat = kit.add(kit.mul(kit.div(row, blockRows), padded * 4),
                       kit.mul(kit.rem(row, blockRows), 4));
  Value factor = kit.fmul(one, kit.constant(scale / unit, kit.vec(1)));
  kit.store(plus(factor, finite), kit.at(k.scratchAt(queryFactor), stat));
}

void DirectMainloop::dot(const TileRows &rows) {
  int64_t keys = rows.masked ? 1 : a.schedule.keys;
  auto [from, to] = range(rows);
  forBlocks([&](Value block) {
    Values words = queryWords(block);
    kit.loop(from, to, keys,
             [&](Value first) { dotGroup(rows, block, words, first, keys); });
  });
}

/// The vectors of a block of q if they fit in registers; otherwise each is
/// loaded where it is used.
DirectMainloop::Values DirectMainloop::queryWords(Value block) {
  Values words;
  if (formK != Form::F32 && inRegisters())
    for (int64_t i = 0; i < chunks() * blockRows; ++i)
      words.push_back(loadWord(block, i));
  return words;
}

Value DirectMainloop::loadWord(Value block, int64_t index) {
  Type type = VectorType::get(kit.lanes, kit.b.getI32Type());
  Value from = blockAt(q, block, queryBytes());
  return kit.load(type, kit.at(from, index * kit.lanes * 4), kit.lanes * 4);
}

/// Scores of `keys` tokens from `first` against a block of query rows.
void DirectMainloop::dotGroup(const TileRows &rows, Value block,
                              ArrayRef<Value> words, Value first,
                              int64_t keys) {
  auto keyRow = [&](int64_t key) {
    Value index = kit.add(first, key);
    prefetchAhead(rows, a.codesK, index, 1, /*times=*/2, kit.i64(0),
                  a.rowBytes(a.codesK));
    return rows.row(a.codesK, index);
  };
  auto word = [&](int64_t i) {
    return words.empty() ? loadWord(block, i) : words[i];
  };
  Value result = formK == Form::F32 ? dotF32(keys, keyRow, block)
                                    : dotCodes(keys, keyRow, word, block);
  kit.store(result, scores(rows, block, first));
}

Value DirectMainloop::dotF32(int64_t keys, KeyRowFn keyRow, Value block) {
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
DirectMainloop::Values DirectMainloop::dotChannels(const ChannelBlock &shape,
                                                   Value channel,
                                                   ArrayRef<Value> keyRows,
                                                   Value query,
                                                   ArrayRef<Value> sums) {
  Values next(sums);
  SmallVector<Values> dequantized;
  for (Value row : keyRows)
    dequantized.push_back(a.planK.convert(kit, shape, row, channel));
  for (int64_t v = 0; v < shape.channels / shape.lanes; ++v)
    for (int64_t row = 0; row < blockRows; ++row) {
      Value at = kit.at(query, kit.mul(channel, 4));
      Value x = kit.load(kit.vec(shape.lanes),
                         kit.at(at, (row * a.dimK + v * shape.lanes) * 4));
      for (size_t key = 0; key < keyRows.size(); ++key) {
        Value &sum = next[key * blockRows + row];
        sum = kit.fma(dequantized[key][v], x, sum);
      }
    }
  return next;
}

/// One key after the other: a stream of rows in their order is what prefetchers
/// follow, and a key has a sum per row under way. Only where q does not stay in
/// registers, several keys share what is loaded of it.
Value DirectMainloop::dotCodes(int64_t keys, KeyRowFn keyRow, WordFn word,
                               Value block) {
  int64_t together =
      inRegisters() ? 1 : std::clamp<int64_t>(16 / blockRows, 1, keys);
  // With registers to spare, the next key's products come before the sums of
  // this one are reduced, which has to wait for them.
  int64_t early = together == 1 ? 1 : 0;
  Values sums;
  Value result = kit.reduceAdd(keys * padded, [&](int64_t i) -> Value {
    int64_t key = i / padded, row = i % padded;
    int64_t until =
        std::min(keys, key / together * together + together + early);
    while (int64_t(sums.size()) < until * blockRows) {
      Values keyRows;
      for (int64_t j = 0; j < together; ++j)
        keyRows.push_back(keyRow(sums.size() / blockRows + j));
      llvm::append_range(sums, dotTogether(keyRows, word));
    }
    if (row < blockRows)
      return sums[key * blockRows + row];
    return arith::ConstantOp::create(kit.b, kit.loc,
                                     kit.b.getZeroAttr(sums[0].getType()));
  });
  if (formK == Form::BF16)
    return kit.fmul(result, kit.constant(queryScale, result.getType()));
  Value factor = kit.repeat(
      kit.load(kit.vec(padded), stats(queryFactor, block)), keys * padded);
  return kit.fmul(kit.toF32(result), factor);
}

/// The sums, still of all lanes, of each key with each row: [key][row].
DirectMainloop::Values DirectMainloop::dotTogether(ArrayRef<Value> keyRows,
                                                   WordFn word) {
  Value zero = formK == Form::BF16 ? kit.constant(0, kit.vec(kit.lanes))
                                   : kit.i32s(kit.lanes, 0);
  Values sums(keyRows.size() * blockRows, zero);
  for (int64_t chunk = 0; chunk < chunks(); ++chunk) {
    Values codes;
    for (Value row : keyRows)
      codes.push_back(codesOf(row, chunk));
    for (int64_t row = 0; row < blockRows; ++row) {
      Value words = word(chunk * blockRows + row);
      for (auto [key, x] : llvm::enumerate(codes)) {
        Value &sum = sums[key * blockRows + row];
        sum = formK == Form::BF16 ? kit.dotBF16(sum, x, words)
                                  : kit.dotI16(sum, x, words);
      }
    }
  }
  return sums;
}

/// A chunk of a key's codes in 16 bits each; zeros past the last channel.
Value DirectMainloop::codesOf(Value row, int64_t chunk) {
  int64_t first = chunk * chunkChannels();
  int64_t n = std::min(chunkChannels(), a.dimK - first);
  auto halves = VectorType::get(n, kit.b.getI16Type());
  Value x;
  if (formK == Form::BF16) {
    x = kit.load(halves, kit.at(row, first * 2));
  } else {
    Type codes = VectorType::get(n, kit.b.getI8Type());
    x = arith::ExtSIOp::create(kit.b, kit.loc, halves,
                               kit.load(codes, kit.at(row, first)));
  }
  SmallVector<int64_t> lanes;
  for (int64_t lane = 0; lane < chunkChannels(); ++lane)
    lanes.push_back(std::min(lane, n));
  Value zero =
      arith::ConstantOp::create(kit.b, kit.loc, kit.b.getZeroAttr(halves));
  return n == chunkChannels() ? x : kit.shuffle(x, zero, lanes);
}
