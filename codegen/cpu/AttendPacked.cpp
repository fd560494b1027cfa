//===- AttendPacked.cpp - many query rows: small matrix products ----------===//
//
// Query rows come in blocks of two vectors. q is transposed once per work tile,
// so that neither product needs the tile transposed, and the softmax of a block
// runs down its columns:
//
//   sT  [token][row]   =  k [token][dim k]  *  qT [dim k][row]    per block
//   acc [row][dim v]  = alpha * acc + (sT)T  *  v [token][dim v]
//
// Both run in f32, or in pairs of bf16 where the schedule says `dot`: of two
// channels for the first, of two tokens for the second. Codes of int8 become
// bf16 for the first without loss; not for the second, whose probabilities
// carry the scales and would be rounded with them. Matrix registers (Tiles,
// PackedTiles.cpp) read the same arrays, and for them an operand that a bf16
// cannot hold is a sum of two, of which all products but the smallest are
// taken.
//
//===----------------------------------------------------------------------===//
#include "codegen/cpu/PackedMainloop.h"

#include "llvm/Support/MathExtras.h"

#include <cmath>

using namespace mlir;
using namespace kvc;
using namespace kvc::cpu;
using Pred = arith::CmpFPredicate;

PackedMainloop::PackedMainloop(AttendKernel &a)
    : a(a), kit(a.kit), k(a.k), blockRows(2 * kit.lanes),
      tileRows(a.schedule.rows), wordsK(a.dimK), widthV(a.dimV) {
  int64_t rows = a.schedule.queries * a.group;
  maxBlocks = llvm::divideCeil(rows, blockRows);
  formK = chooseForm(a.planK.code);
  formV = chooseForm(a.planV.code);
  Type codeK = a.planK.code, codeV = a.planV.code;
  // A product of pairs would round probabilities that carry scales.
  if (formV == Form::Pairs && !codeV.isBF16())
    formV = Form::F32;
  direct = formK == Form::Pairs && codeK.isBF16();
  if (formK != Form::F32)
    wordsK = a.dimK / 2;
  if (formK == Form::Tiles) {
    wordsK = llvm::alignTo<kTileSide>(wordsK);
    limbsQ = k.dtype.isBF16() ? 1 : 2;
    limbsK = codeK.isF16() ? 2 : 1;
  }
  if (formV == Form::Tiles) {
    widthV = llvm::alignTo<kTileSide>(a.dimV);
    limbsP = k.dtype.isBF16() && codeV.isBF16() ? 1 : 2;
    limbsV = codeV.isF16() ? 2 : 1;
  }
}

PackedMainloop::Form PackedMainloop::chooseForm(Type code) {
  Type bf16 = kit.b.getBF16Type();
  if (!a.schedule.dot)
    return Form::F32;
  if (k.target().hasMatrix(code, k.dtype))
    return Form::Tiles;
  bool fits = code.isBF16() || code.isInteger(8);
  return fits && k.target().hasDot(bf16, k.dtype) ? Form::Pairs : Form::F32;
}

void PackedMainloop::plan() {
  Scratch &scratch = k.scratch;
  int64_t rows = maxRows(), tokens = a.tileTokens;
  qT = scratch.reserve(maxBlocks * limbsQ * queryWords() * 4);
  s = scratch.reserve(rows * tokens * 4);
  if (!direct)
    kRows = scratch.reserve(limbsK * keyWords() * 4);
  if (formV == Form::F32) {
    v = scratch.reserve(tokens * widthV * 4);
  } else {
    vPairs = scratch.reserve(limbsV * valueWords() * 4);
    p = scratch.reserve(limbsP * tokens / 2 * blockRows * 4);
  }
  acc = scratch.reserve(rows * widthV * 4);
  for (int64_t *offset : {&m, &l, &alpha})
    *offset = scratch.reserve(rows * 4);
  for (int64_t *offset : {&scaleK, &scaleV})
    *offset = scratch.reserve(tokens * 4);
  config = scratch.reserve(64);
}

//===----------------------------------------------------------------------===//
// State
//===----------------------------------------------------------------------===//

void PackedMainloop::initState() {
  Value rows = kit.mul(blocks, blockRows), zero = kit.constant(0, kit.vec(8));
  kit.loop(kit.i64(0), rows, 8, [&](Value row) {
    kit.store(kit.constant(-INFINITY, kit.vec(8)), element(m, row));
    kit.store(zero, element(l, row));
  });
  auto clear = [&](int64_t offset, Value words) {
    kit.loop(kit.i64(0), words, 8,
             [&](Value i) { kit.store(zero, element(offset, i)); });
  };
  clear(acc, kit.mul(rows, widthV));
  if (formK == Form::Tiles && wordsK != a.dimK / 2) // channels that fill up
    clear(kRows, kit.i64(limbsK * keyWords()));
  if (formK == Form::Tiles || formV == Form::Tiles)
    configureTiles();
}

//===----------------------------------------------------------------------===//
// Products
//===----------------------------------------------------------------------===//

/// Row `token` of K as the product reads it; for tokens that do not exist any
/// row will do, the mask hides them.
Value PackedMainloop::keyRow(const TileRows &rows, Value token) {
  if (!direct)
    return element(kRows, kit.mul(token, wordsK));
  return rows.row(a.codesK, kit.min(token, kit.add(a.existingRows(rows), -1)));
}

void PackedMainloop::dot(const TileRows &rows) {
  Value finiteK = direct ? Value() : packK(rows);
  if (formK == Form::Tiles) {
    forBlocks([&](Value block) { scoreTiles(block); });
    if (finiteK)
      kit.when(finiteK, [] {}, [&] { addNonFiniteScores(rows); });
    return;
  }
  forTokens(tileRows, [&](Value token) {
    SmallVector<Value> keys;
    for (int64_t i = 0; i < tileRows; ++i)
      keys.push_back(keyRow(rows, kit.add(token, i)));
    forBlocks([&](Value block) { scoreTile(keys, block, token); });
  });
}

/// Scores of a block against as many tokens as `keys`.
void PackedMainloop::scoreTile(ArrayRef<Value> keys, Value block, Value token) {
  constexpr int64_t unroll = 4; // dims are multiples of 8
  Value columns = kit.mul(block, queryWords());
  SmallVector<Value> sums(2 * keys.size(), kit.constant(0, kit.vec(kit.lanes)));
  auto round = [&](Value first, ValueRange carried) {
    SmallVector<Value> next(carried);
    for (int64_t u = 0; u < unroll; ++u) {
      Value c = kit.add(first, u);
      Value at = element(qT, kit.add(columns, kit.mul(c, blockRows)));
      Value right[2];
      for (int64_t i : {0, 1})
        right[i] = kit.load(kit.vec(kit.lanes), kit.at(at, i * kit.lanes * 4));
      for (auto [i, key] : llvm::enumerate(keys)) {
        Value x = kit.load(kit.f32(), kit.at(key, kit.mul(c, 4)));
        Value left = kit.splat(x, kit.lanes);
        for (int64_t half : {0, 1})
          next[2 * i + half] =
              multiply(formK, next[2 * i + half], left, right[half]);
      }
    }
    return next;
  };
  sums = kit.loop(kit.i64(0), kit.i64(wordsK), unroll, sums, round);
  for (auto [i, sum] : llvm::enumerate(sums)) {
    if (queryScale != 1)
      sum = kit.fmul(sum, kit.constant(queryScale, sum.getType()));
    Value to = score(block, kit.add(token, int64_t(i / 2)));
    kit.store(sum, kit.at(to, int64_t(i % 2) * kit.lanes * 4));
  }
}

void PackedMainloop::prepare(const TileRows &rows,
                             ArrayRef<Operation *> transforms) {
  finite = packV(rows);
  Value scales = scaledBy(transforms);
  scaled = bool(scales);
  if (scales)
    a.gatherScales(rows, scales, scaleV);
}

void PackedMainloop::accumulate(const TileRows &rows) {
  forBlocks([&](Value block) {
    if (formV == Form::Tiles)
      return accumulateTiles(block);
    scaleAndPair(block);
    accumulateBlock(block);
  });
  if (finite)
    kit.when(finite, [] {}, [&] { addNonFinite(rows); });
}

/// The weights of a block's rows for a token, V's scales in them.
Value PackedMainloop::weight(Value at, Value token, int64_t lanes) {
  Value x = kit.load(kit.vec(lanes), at);
  if (!scaled)
    return x;
  Value scale = kit.load(kit.f32(), element(scaleV, token));
  return a.scaleProbability(x, kit.splat(scale, lanes));
}

/// Weights of two tokens as words of bf16, and what those lack. Halves are
/// rounded up: to even would take three instructions more. A NaN may be lost
/// here; the row's sum of weights has it.
PackedMainloop::Values PackedMainloop::pairWeights(Value x, Value y,
                                                   int64_t limbs) {
  OpBuilder &b = kit.b;
  int64_t n = cast<VectorType>(x.getType()).getNumElements();
  auto words = VectorType::get(n, b.getI32Type());
  auto bits = [&](Value v) -> Value {
    return arith::BitcastOp::create(b, kit.loc, words, v);
  };
  Value high = kit.i32s(n, int32_t(0xffff0000)), half = kit.i32s(n, 0x8000);
  Value sixteen = kit.i32s(n, 16);
  Value rest[2] = {x, y};
  Values result;
  for (int64_t limb = 0; limb < limbs; ++limb) {
    bool last = limb + 1 == limbs;
    Value part[2];
    for (int64_t i : {0, 1}) {
      Value v = rest[i];
      // The larger limb is cut off, so that the rest is exact.
      part[i] = last ? kit.add(bits(v), half) : bits(v);
      if (last)
        continue;
      Value cut = arith::BitcastOp::create(b, kit.loc, v.getType(),
                                           kit.both(part[i], high));
      v = kit.fsub(v, cut); // NaN for an infinity
      rest[i] = kit.select(kit.fcmp(Pred::ORD, v, v), v,
                           kit.constant(0, v.getType()));
    }
    result.push_back(
        kit.either(arith::ShRUIOp::create(b, kit.loc, part[0], sixteen),
                   kit.both(part[1], high)));
  }
  return result;
}

/// Applies V's scales to the probabilities of a block, and for products of
/// pairs makes p [token / 2][row] of them.
void PackedMainloop::scaleAndPair(Value block) {
  if (!scaled && formV != Form::Pairs)
    return;
  auto load = [&](Value token) {
    Value x = weight(score(block, token), token, blockRows);
    if (scaled)
      kit.store(x, score(block, token));
    return x;
  };
  forTokens(2, [&](Value token) {
    Value x = load(token), y = load(kit.add(token, 1));
    if (formV == Form::Pairs)
      kit.store(pairWeights(x, y, 1)[0],
                element(p, kit.mul(kit.div(token, 2), blockRows)));
  });
}

void PackedMainloop::accumulateBlock(Value block) {
  int64_t wide = 2 * kit.lanes;
  kit.loop(0, blockRows, tileRows, [&](Value row) {
    int64_t done = a.dimV / wide * wide;
    kit.loop(0, done, wide, [&](Value channel) {
      outputTile(block, row, channel, 2, kit.lanes);
    });
    for (int64_t lanes : {kit.lanes, int64_t(8)})
      for (; a.dimV - done >= lanes; done += lanes)
        outputTile(block, row, kit.i64(done), 1, lanes);
  });
}

/// acc = alpha * acc + p * v for tileRows rows from `row` of the block, and
/// vectors * lanes channels.
void PackedMainloop::outputTile(Value block, Value row, Value channel,
                                int64_t vectors, int64_t lanes) {
  Value first = kit.add(kit.mul(block, blockRows), row);
  auto slot = [&](int64_t i, int64_t vector) {
    return kit.at(accumulator(block, kit.add(row, i), channel),
                  vector * lanes * 4);
  };
  // The sums of this tile alone, as with the weights.
  SmallVector<Value> sums(tileRows * vectors, kit.constant(0, kit.vec(lanes)));
  // [token][row] of p and [token][channel] of v, or pairs of tokens.
  Value pBase =
      formV == Form::Pairs ? k.scratchAt(p) : score(block, kit.i64(0));
  Value left = kit.at(pBase, kit.mul(row, 4));
  Value right = element(formV == Form::Pairs ? vPairs : v, channel);
  auto round = [&](Value token, ValueRange carried) {
    SmallVector<Value> next(carried), x;
    Value to = kit.at(right, kit.mul(token, widthV * 4));
    for (int64_t j = 0; j < vectors; ++j)
      x.push_back(kit.load(kit.vec(lanes), kit.at(to, j * lanes * 4)));
    Value from = kit.at(left, kit.mul(token, blockRows * 4));
    for (int64_t i = 0; i < tileRows; ++i) {
      Value wide = kit.splat(kit.load(kit.f32(), kit.at(from, i * 4)), lanes);
      for (int64_t j = 0; j < vectors; ++j)
        next[i * vectors + j] =
            multiply(formV, next[i * vectors + j], wide, x[j]);
    }
    return next;
  };
  sums =
      kit.loop(kit.i64(0),
               kit.i64(formV == Form::Pairs ? a.tileTokens / 2 : a.tileTokens),
               1, sums, round);
  for (int64_t i = 0; i < tileRows; ++i) {
    Value factor = kit.splat(
        kit.load(kit.f32(), element(alpha, kit.add(first, i))), lanes);
    for (int64_t j = 0; j < vectors; ++j) {
      Value before = kit.load(kit.vec(lanes), slot(i, j));
      kit.store(kit.fma(before, factor, sums[i * vectors + j]), slot(i, j));
    }
  }
}

/// Adds q * k for the infinities and NaNs of K, which were packed as 0.
void PackedMainloop::addNonFiniteScores(const TileRows &rows) {
  auto add = [&](Value row, Value token, const ChannelBlock &block,
                 Value channel) {
    Value x =
        a.planK.convertInOrder(kit, block, rows.row(a.codesK, token), channel);
    Value zero = kit.fsub(x, x);
    Value from = kit.at(a.queryRow(row), kit.mul(channel, k.dtypeBytes()));
    Value query = kit.loadAsF32(k.dtype, from, block.channels);
    query = kit.fmul(query, kit.constant(scale, query.getType()));
    Value terms = kit.select(kit.fcmp(Pred::UNO, zero, zero),
                             kit.fmul(query, x), kit.constant(0, x.getType()));
    Value at = kit.at(score(kit.div(row, blockRows), token),
                      kit.mul(kit.rem(row, blockRows), 4));
    auto plus = [&](Value x, Value y) { return kit.fadd(x, y); };
    kit.store(plus(kit.load(kit.vec(1), at), kit.fold(terms, 1, plus)), at);
  };
  kit.loop(kit.i64(0), a.rows, 1, [&](Value row) {
    kit.loop(kit.i64(0), a.existingRows(rows), 1, [&](Value token) {
      a.planK.forBlocks(kit, [&](const ChannelBlock &block, Value channel) {
        add(row, token, block, channel);
      });
    });
  });
}

/// Adds p * v for the infinities and NaNs of V, which were packed as 0, to the
/// rows that see their tokens.
void PackedMainloop::addNonFinite(const TileRows &rows) {
  auto add = [&](Value row, Value token, const ChannelBlock &block,
                 Value channel) {
    Value at = kit.at(score(kit.div(row, blockRows), token),
                      kit.mul(kit.rem(row, blockRows), 4));
    Value weight = kit.load(kit.f32(), at);
    Value x =
        a.planV.convertInOrder(kit, block, rows.row(a.codesV, token), channel);
    Value zero = kit.fsub(x, x);
    Value seen = kit.fcmp(Pred::UNE, weight, kit.constant(0, kit.f32()));
    Value wanted = kit.both(kit.fcmp(Pred::UNO, zero, zero),
                            kit.splat(seen, block.channels));
    Value slot = element(acc, kit.add(kit.mul(row, widthV), channel));
    Value sum = kit.load(x.getType(), slot);
    Value more = kit.fma(kit.splat(weight, block.channels), x, sum);
    kit.store(kit.select(wanted, more, sum), slot);
  };
  kit.loop(kit.i64(0), a.rows, 1, [&](Value row) {
    kit.loop(kit.i64(0), a.existingRows(rows), 1, [&](Value token) {
      a.planV.forBlocks(kit, [&](const ChannelBlock &block, Value channel) {
        add(row, token, block, channel);
      });
    });
  });
}

//===----------------------------------------------------------------------===//
// Softmax
//===----------------------------------------------------------------------===//

/// The steps between the dot and the softmax, for one token and all rows.
Value PackedMainloop::apply(Value x, ArrayRef<Operation *> transforms,
                            const TileRows &rows, Value block, Value token) {
  int64_t n = blockRows;
  if (formK == Form::Tiles && queryScale != 1)
    x = kit.fmul(x, kit.constant(queryScale, x.getType()));
  auto lanes = llvm::to_vector(llvm::seq<int32_t>(0, int32_t(n)));
  auto inputs = [&] {
    Value row = kit.add(kit.splatI32(kit.mul(block, n), n), kit.i32s(lanes));
    return a.scoreInputs(kit.splatI32(kit.add(rows.first, token), n), row);
  };
  for (Operation *transform : transforms) {
    if (isa<tile::ScaleTokensOp>(transform))
      x = kit.fmul(x,
                   kit.splat(kit.load(kit.f32(), element(scaleK, token)), n));
    else if (auto logits = dyn_cast<tile::LogitsOp>(transform))
      x = a.logits(x, logits, inputs());
    else if (rows.masked)
      x = a.mask(x, cast<tile::MaskOp>(transform), inputs());
  }
  return x;
}

void PackedMainloop::softmaxStep(const TileRows &rows,
                                 ArrayRef<Operation *> transforms) {
  if (Value scales = scaledBy(transforms))
    a.gatherScales(rows, scales, scaleK);
  Type type = kit.vec(blockRows);
  Value tokens = kit.i64(a.tileTokens), none = kit.constant(-INFINITY, type);
  forBlocks([&](Value block) {
    Value before = kit.load(type, perRow(m, block));
    Value after = kit.loop(
        kit.i64(0), tokens, 1, ValueRange{before},
        [&](Value token, ValueRange carried) {
          Value at = score(block, token);
          Value x = apply(kit.load(type, at), transforms, rows, block, token);
          kit.store(x, at);
          return SmallVector<Value>{kit.fmaxKeepNaN(carried[0], x)};
        })[0];
    // Nothing seen yet: any finite origin will do, -inf would make NaN.
    Value origin = kit.select(kit.fcmp(Pred::OEQ, after, none),
                              kit.constant(0, type), after);
    Value rescale = kit.exp2(kit.fsub(before, origin));
    // Apart from what earlier tiles summed: equal weights added to a large sum
    // are all rounded the same way.
    Value weights =
        kit.loop(kit.i64(0), tokens, 1, ValueRange{kit.constant(0, type)},
                 [&](Value token, ValueRange carried) {
                   Value at = score(block, token);
                   Value weight =
                       kit.exp2(kit.fsub(kit.load(type, at), origin));
                   kit.store(weight, at);
                   return SmallVector<Value>{kit.fadd(carried[0], weight)};
                 })[0];
    Value total = kit.fma(kit.load(type, perRow(l, block)), rescale, weights);
    kit.store(after, perRow(m, block));
    kit.store(total, perRow(l, block));
    kit.store(rescale, perRow(alpha, block));
  });
}

//===----------------------------------------------------------------------===//
// Result
//===----------------------------------------------------------------------===//

void PackedMainloop::storePartial() {
  if (formK == Form::Tiles || formV == Form::Tiles)
    kit.releaseTiles();
  kit.loop(kit.i64(0), a.rows, 1, [&](Value row) {
    Value inverse =
        a.storePartialLse(row, kit.load(kit.vec(1), element(m, row)),
                          kit.load(kit.vec(1), element(l, row)));
    Value wide = kit.splat(inverse, 8);
    Value to = a.partialOutput(row), from = element(acc, kit.mul(row, widthV));
    kit.loop(0, a.dimV, 8, [&](Value c) {
      Value x = kit.load(kit.vec(8), kit.at(from, kit.mul(c, 4)));
      kit.store(kit.fmul(x, wide), kit.at(to, kit.mul(c, 4)));
    });
  });
}

std::unique_ptr<Mainloop> kvc::cpu::makePackedMainloop(AttendKernel &kernel) {
  return std::make_unique<PackedMainloop>(kernel);
}
