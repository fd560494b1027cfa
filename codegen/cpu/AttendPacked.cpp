//===- AttendPacked.cpp - many query rows: small matrix products ----------===//
//
// Query rows come in blocks of two vectors. q is transposed once per item, so
// that neither product needs the tile transposed, and the softmax of a block
// runs down its columns:
//
//   sT  [token][row]   =  k [token][dim k]  *  qT [dim k][row]    per block
//   acc [row][dim v]  = alpha * acc + (sT)T  *  v [token][dim v]
//
// Both run in f32, or in pairs of bf16 where the schedule says `dot`: of two
// channels for the first, of two tokens for the second. Codes of int8 become
// bf16 for the first without loss; not for the second, whose probabilities
// carry the scales and would be rounded with them.
//
//===----------------------------------------------------------------------===//
#include "codegen/cpu/Attend.h"

#include "llvm/Support/MathExtras.h"

#include <cmath>

using namespace mlir;
using namespace kvc;
using namespace kvc::cpu;
using Pred = arith::CmpFPredicate;

namespace {

class PackedMath : public TileMath {
public:
  explicit PackedMath(AttendKernel &a);

  void plan() override;
  /// Tiles do not overlap: no buffer.
  int64_t bufferBytes() override { return 0; }
  void loadQuery(double scale) override;
  void initState() override;
  void dot(const TileRows &rows) override;
  void softmaxStep(const TileRows &rows,
                   ArrayRef<Transform> transforms) override;
  void prepare(const TileRows &rows, ArrayRef<Transform> transforms) override;
  void accumulate(const TileRows &rows) override;
  void storePartial() override;

private:
  void forBlocks(Kit::Body body) { kit.loop(kit.i64(0), blocks, 1, body); }
  void forTokens(int64_t step, Kit::Body body) {
    kit.loop(kit.i64(0), kit.i64(a.tileTokens), step, body);
  }
  /// Element `index` of an array of 32-bit elements in scratch.
  Value element(int64_t offset, Value index) {
    return kit.at(k.scratchAt(offset), kit.mul(index, 4));
  }
  Value perRow(int64_t offset, Value block) {
    return element(offset, kit.mul(block, blockRows));
  }
  Value score(Value block, Value token) {
    Value row = kit.add(kit.mul(block, a.tileTokens), token);
    return element(s, kit.mul(row, blockRows));
  }
  /// 32-bit elements that a row of q or K takes.
  int64_t wordsK() const { return pairK ? a.dimK / 2 : a.dimK; }

  void loadQueryRow(Value row, double scale);
  void packK(const TileRows &rows);
  Value packV(const TileRows &rows);
  void storePairsV();
  void scaleAndPair(Value block);
  Value keyRow(const TileRows &rows, Value token);
  Value multiply(bool pairs, Value sum, Value x, Value y) {
    return pairs ? kit.dotBF16(sum, x, y) : kit.fma(x, y, sum);
  }
  void scoreTile(ArrayRef<Value> keys, Value block, Value token);
  void outputTile(Value block, Value row, Value channel, int64_t vectors,
                  int64_t lanes);
  void accumulateBlock(Value block);
  void addNonFinite(const TileRows &rows);
  Value apply(Value x, ArrayRef<Transform> transforms, const TileRows &rows,
              Value block, Value token);

  AttendKernel &a;
  Kit &kit;
  Kernel &k;
  bool pairK, pairV; ///< products of bf16 pairs
  bool direct;       ///< K's codes are the pairs: read where they stand
  int64_t blockRows; ///< rows of a block
  int64_t tileRows;  ///< tokens or rows of a register tile
  int64_t maxBlocks;
  double queryScale = 1; ///< applied to scores if q stays as it is
  Value blocks;          ///< of this item
  Value finite;          ///< whether the tile's V is; null: it must be
  bool scaled = false;   ///< V has scales
  int64_t qT = 0, s = 0, kRows = 0, v = 0, vPairs = 0, p = 0, acc = 0;
  int64_t m = 0, l = 0, alpha = 0, scaleK = 0, scaleV = 0;
};

PackedMath::PackedMath(AttendKernel &a)
    : a(a), kit(a.kit), k(a.k), blockRows(2 * kit.lanes),
      tileRows(a.schedule.getRows()) {
  int64_t rows = a.schedule.getQueries() * a.group;
  maxBlocks = llvm::divideCeil(rows, blockRows);
  Type codeK = a.planK.codec.getCodeType();
  Type bf16 = kit.b.getBF16Type();
  bool pairs = a.schedule.getDot() && k.target().hasDot(bf16, k.dtype);
  pairK = pairs && (codeK.isBF16() || codeK.isInteger(8));
  pairV = pairs && a.planV.codec.getCodeType().isBF16();
  direct = pairK && codeK.isBF16();
}

void PackedMath::plan() {
  Scratch &scratch = k.scratch;
  int64_t rows = maxBlocks * blockRows, tokens = a.tileTokens;
  qT = scratch.reserve(rows * wordsK() * 4);
  s = scratch.reserve(rows * tokens * 4);
  if (!direct)
    kRows = scratch.reserve(tokens * wordsK() * 4);
  v = scratch.reserve(tokens * a.dimV * 4);
  if (pairV) {
    vPairs = scratch.reserve(tokens / 2 * a.dimV * 4);
    p = scratch.reserve(tokens / 2 * blockRows * 4);
  }
  acc = scratch.reserve(rows * a.dimV * 4);
  for (int64_t *offset : {&m, &l, &alpha})
    *offset = scratch.reserve(rows * 4);
  for (int64_t *offset : {&scaleK, &scaleV})
    *offset = scratch.reserve(tokens * 4);
}

//===----------------------------------------------------------------------===//
// Query and state
//===----------------------------------------------------------------------===//

void PackedMath::loadQuery(double scale) {
  blocks = kit.ceilDiv(a.rows, blockRows);
  queryScale = scale;
  Value zero = kit.constant(0, kit.vec(8));
  kit.loop(kit.i64(0), kit.mul(blocks, blockRows * wordsK()), 8,
           [&](Value i) { kit.store(zero, element(qT, i)); });
  kit.loop(kit.i64(0), a.rows, 1, [&](Value row) { loadQueryRow(row, scale); });
}

/// Column `row` of qT: the channels of a query row, `blockRows` elements apart.
void PackedMath::loadQueryRow(Value row, double scale) {
  Value from = a.queryRow(row);
  Value column = kit.add(kit.mul(kit.div(row, blockRows), blockRows * wordsK()),
                         kit.rem(row, blockRows));
  kit.loop(0, wordsK(), 1, [&](Value c) {
    Value x;
    if (pairK) {
      x = kit.load(kit.b.getI32Type(), kit.at(from, kit.mul(c, 4)));
    } else {
      x = kit.loadAsF32(k.dtype, kit.at(from, kit.mul(c, k.dtypeBytes())), 1);
      x = kit.fmul(x, kit.constant(scale, x.getType()));
    }
    kit.store(x, element(qT, kit.add(column, kit.mul(c, blockRows))), 4);
  });
}

void PackedMath::initState() {
  Value rows = kit.mul(blocks, blockRows), zero = kit.constant(0, kit.vec(8));
  kit.loop(kit.i64(0), rows, 8, [&](Value row) {
    kit.store(kit.constant(-INFINITY, kit.vec(8)), element(m, row));
    kit.store(zero, element(l, row));
  });
  kit.loop(kit.i64(0), kit.mul(rows, a.dimV), 8,
           [&](Value i) { kit.store(zero, element(acc, i)); });
}

//===----------------------------------------------------------------------===//
// Packing
//===----------------------------------------------------------------------===//

/// A decoded block of channels in natural order.
static Value decodeInOrder(Kit &kit, const ChannelPlan &plan,
                           const ChannelBlock &block, Value row,
                           Value channel) {
  Value x = kit.concat(plan.decode(kit, block, row, channel));
  SmallVector<int64_t> order = plan.order(block), back(order.size());
  for (auto [element, c] : llvm::enumerate(order))
    back[c] = element;
  return kit.shuffle(x, x, back);
}

/// The rows of K that exist, in f32 or bf16.
void PackedMath::packK(const TileRows &rows) {
  kit.loop(kit.i64(0), rows.count, 1, [&](Value token) {
    Value row = rows.row(a.codesK, token);
    Value to = element(kRows, kit.mul(token, wordsK()));
    a.planK.forBlocks(kit, [&](const ChannelBlock &block, Value channel) {
      Value x = decodeInOrder(kit, a.planK, block, row, channel);
      kit.store(pairK ? kit.roundToBF16(x) : x,
                kit.at(to, kit.mul(channel, pairK ? 2 : 4)));
    });
  });
}

/// Packs V, zeros where there is no token. An infinity or NaN counts as 0 too,
/// since a probability of 0 must hide it (addNonFinite). Returns whether there
/// is none, null if the codes cannot be one.
Value PackedMath::packV(const TileRows &rows) {
  bool floats = isa<FloatType>(a.planV.codec.getCodeType());
  Value bad = k.scratchAt(scaleV); // free until the scales are gathered
  if (floats)
    kit.store(kit.constant(0, kit.vec(8)), bad);
  kit.loop(kit.i64(0), rows.count, 1, [&](Value token) {
    Value row = rows.row(a.codesV, token);
    Value to = element(v, kit.mul(token, a.dimV));
    a.planV.forBlocks(kit, [&](const ChannelBlock &block, Value channel) {
      Value x = decodeInOrder(kit, a.planV, block, row, channel);
      if (floats) {
        // x - x is 0 for finite x, NaN otherwise.
        Value zero = kit.fsub(x, x);
        auto plus = [&](Value x, Value y) { return kit.fadd(x, y); };
        kit.store(plus(kit.load(kit.vec(8), bad), kit.fold(zero, 8, plus)),
                  bad);
        x = kit.select(kit.fcmp(Pred::ORD, zero, zero), x,
                       kit.constant(0, x.getType()));
      }
      kit.store(x, kit.at(to, kit.mul(channel, 4)));
    });
  });
  kit.loop(rows.count, kit.i64(a.tileTokens), 1, [&](Value token) {
    kit.loop(0, a.dimV, 8, [&](Value c) {
      kit.store(kit.constant(0, kit.vec(8)),
                element(v, kit.add(kit.mul(token, a.dimV), c)));
    });
  });
  if (!floats)
    return {};
  Value sum = kit.fold(kit.load(kit.vec(8), bad), 1,
                       [&](Value x, Value y) { return kit.fadd(x, y); });
  return kit.fcmp(Pred::ORD, kit.extract(sum, 0), kit.extract(sum, 0));
}

/// x [2n] and y [2n] as pairs x0 y0 x1 y1 ... of bf16.
static Value pairUp(Kit &kit, Value x, Value y) {
  int64_t n = cast<VectorType>(x.getType()).getNumElements();
  SmallVector<int64_t> lanes;
  for (int64_t i = 0; i < n; ++i)
    llvm::append_values(lanes, i, n + i);
  return kit.shuffle(kit.roundToBF16(x), kit.roundToBF16(y), lanes);
}

/// vPairs [token / 2][dim v] from v.
void PackedMath::storePairsV() {
  forTokens(2, [&](Value token) {
    Value from = kit.mul(token, a.dimV);
    Value to = kit.mul(kit.div(token, 2), a.dimV);
    kit.loop(0, a.dimV, 8, [&](Value c) {
      Value x = kit.load(kit.vec(8), element(v, kit.add(from, c)));
      Value y =
          kit.load(kit.vec(8), element(v, kit.add(kit.add(from, c), a.dimV)));
      kit.store(pairUp(kit, x, y), element(vPairs, kit.add(to, c)));
    });
  });
}

/// Applies V's scales to the probabilities of a block, and for products of
/// pairs makes p [token / 2][row] of them.
void PackedMath::scaleAndPair(Value block) {
  if (!scaled && !pairV)
    return;
  auto load = [&](Value token) {
    Value x = kit.load(kit.vec(blockRows), score(block, token));
    if (!scaled)
      return x;
    Value scale = kit.load(kit.f32(), element(scaleV, token));
    x = a.scaleProbability(x, kit.splat(scale, blockRows));
    kit.store(x, score(block, token));
    return x;
  };
  forTokens(2, [&](Value token) {
    Value x = load(token), y = load(kit.add(token, 1));
    if (pairV)
      kit.store(pairUp(kit, x, y),
                element(p, kit.mul(kit.div(token, 2), blockRows)));
  });
}

//===----------------------------------------------------------------------===//
// Products
//===----------------------------------------------------------------------===//

/// Row `token` of K as the product reads it; for tokens that do not exist any
/// row will do, the mask hides them.
Value PackedMath::keyRow(const TileRows &rows, Value token) {
  if (!direct)
    return element(kRows, kit.mul(token, wordsK()));
  return rows.row(a.codesK, kit.min(token, kit.add(rows.count, -1)));
}

void PackedMath::dot(const TileRows &rows) {
  if (!direct)
    packK(rows);
  forTokens(tileRows, [&](Value token) {
    SmallVector<Value> keys;
    for (int64_t i = 0; i < tileRows; ++i)
      keys.push_back(keyRow(rows, kit.add(token, i)));
    forBlocks([&](Value block) { scoreTile(keys, block, token); });
  });
}

/// Scores of a block against as many tokens as `keys`.
void PackedMath::scoreTile(ArrayRef<Value> keys, Value block, Value token) {
  constexpr int64_t unroll = 4; // dims are multiples of 8
  Value columns = kit.mul(block, blockRows * wordsK());
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
              multiply(pairK, next[2 * i + half], left, right[half]);
      }
    }
    return next;
  };
  sums = kit.loop(kit.i64(0), kit.i64(wordsK()), unroll, sums, round);
  for (auto [i, sum] : llvm::enumerate(sums)) {
    if (pairK)
      sum = kit.fmul(sum, kit.constant(queryScale, sum.getType()));
    Value to = score(block, kit.add(token, int64_t(i / 2)));
    kit.store(sum, kit.at(to, int64_t(i % 2) * kit.lanes * 4));
  }
}

void PackedMath::prepare(const TileRows &rows, ArrayRef<Transform> transforms) {
  finite = packV(rows);
  auto stream = scaledBy(transforms);
  scaled = stream.has_value();
  if (scaled)
    a.gatherScales(rows, *stream, scaleV);
}

void PackedMath::accumulate(const TileRows &rows) {
  if (pairV)
    storePairsV();
  forBlocks([&](Value block) {
    scaleAndPair(block);
    accumulateBlock(block);
  });
  if (finite)
    kit.when(finite, [] {}, [&] { addNonFinite(rows); });
}

void PackedMath::accumulateBlock(Value block) {
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
void PackedMath::outputTile(Value block, Value row, Value channel,
                            int64_t vectors, int64_t lanes) {
  Value first = kit.add(kit.mul(block, blockRows), row);
  auto slot = [&](int64_t i, int64_t vector) {
    Value at = kit.add(kit.mul(kit.add(first, i), a.dimV), channel);
    return kit.at(element(acc, at), vector * lanes * 4);
  };
  SmallVector<Value> sums;
  for (int64_t i = 0; i < tileRows; ++i) {
    Value factor = kit.load(kit.f32(), element(alpha, kit.add(first, i)));
    for (int64_t j = 0; j < vectors; ++j)
      sums.push_back(kit.fmul(kit.load(kit.vec(lanes), slot(i, j)),
                              kit.splat(factor, lanes)));
  }
  // [token][row] of p and [token][channel] of v, or pairs of tokens.
  Value pBase = pairV ? k.scratchAt(p) : score(block, kit.i64(0));
  Value left = kit.at(pBase, kit.mul(row, 4));
  Value right = element(pairV ? vPairs : v, channel);
  auto round = [&](Value token, ValueRange carried) {
    SmallVector<Value> next(carried), x;
    Value to = kit.at(right, kit.mul(token, a.dimV * 4));
    for (int64_t j = 0; j < vectors; ++j)
      x.push_back(kit.load(kit.vec(lanes), kit.at(to, j * lanes * 4)));
    Value from = kit.at(left, kit.mul(token, blockRows * 4));
    for (int64_t i = 0; i < tileRows; ++i) {
      Value wide = kit.splat(kit.load(kit.f32(), kit.at(from, i * 4)), lanes);
      for (int64_t j = 0; j < vectors; ++j)
        next[i * vectors + j] =
            multiply(pairV, next[i * vectors + j], wide, x[j]);
    }
    return next;
  };
  sums = kit.loop(kit.i64(0), kit.i64(pairV ? a.tileTokens / 2 : a.tileTokens),
                  1, sums, round);
  for (int64_t i = 0; i < tileRows; ++i)
    for (int64_t j = 0; j < vectors; ++j)
      kit.store(sums[i * vectors + j], slot(i, j));
}

/// Adds p * v for the infinities and NaNs of V, which were packed as 0, to the
/// rows that see their tokens.
void PackedMath::addNonFinite(const TileRows &rows) {
  auto add = [&](Value row, Value token, const ChannelBlock &block,
                 Value channel) {
    Value at = kit.at(score(kit.div(row, blockRows), token),
                      kit.mul(kit.rem(row, blockRows), 4));
    Value weight = kit.load(kit.f32(), at);
    Value x =
        decodeInOrder(kit, a.planV, block, rows.row(a.codesV, token), channel);
    Value zero = kit.fsub(x, x);
    Value seen = kit.fcmp(Pred::UNE, weight, kit.constant(0, kit.f32()));
    Value wanted = kit.both(kit.fcmp(Pred::UNO, zero, zero),
                            kit.splat(seen, block.channels));
    Value slot = element(acc, kit.add(kit.mul(row, a.dimV), channel));
    Value sum = kit.load(x.getType(), slot);
    Value more = kit.fma(kit.splat(weight, block.channels), x, sum);
    kit.store(kit.select(wanted, more, sum), slot);
  };
  kit.loop(kit.i64(0), a.rows, 1, [&](Value row) {
    kit.loop(kit.i64(0), rows.count, 1, [&](Value token) {
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
Value PackedMath::apply(Value x, ArrayRef<Transform> transforms,
                        const TileRows &rows, Value block, Value token) {
  int64_t n = blockRows;
  for (const Transform &transform : transforms) {
    if (isa<tile::ScaleTokensOp>(transform.op)) {
      x = kit.fmul(x,
                   kit.splat(kit.load(kit.f32(), element(scaleK, token)), n));
    } else if (auto cap = dyn_cast<tile::SoftcapOp>(transform.op)) {
      x = a.softcap(x, cap);
    } else {
      auto read = cast<ReadAttrInterface>(
          cast<tile::MaskOp>(transform.op).getReadAttr());
      SmallVector<int32_t> lanes;
      for (int64_t lane = 0; lane < n; ++lane)
        lanes.push_back(lane);
      Value row = kit.add(kit.splatI32(kit.mul(block, n), n), kit.i32s(lanes));
      Value query = arith::DivUIOp::create(kit.b, kit.loc, row,
                                           kit.i32s(n, int32_t(a.group)));
      Value positions = kit.add(kit.splatI32(a.posFirst, n), query);
      Value tokens = kit.splatI32(kit.add(rows.first, token), n);
      x = kit.select(a.visible(tokens, positions, read), x,
                     kit.constant(-INFINITY, x.getType()));
    }
  }
  return x;
}

void PackedMath::softmaxStep(const TileRows &rows,
                             ArrayRef<Transform> transforms) {
  if (auto stream = scaledBy(transforms))
    a.gatherScales(rows, *stream, scaleK);
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
    Value start = kit.fmul(kit.load(type, perRow(l, block)), rescale);
    Value total =
        kit.loop(kit.i64(0), tokens, 1, ValueRange{start},
                 [&](Value token, ValueRange carried) {
                   Value at = score(block, token);
                   Value weight =
                       kit.exp2(kit.fsub(kit.load(type, at), origin));
                   kit.store(weight, at);
                   return SmallVector<Value>{kit.fadd(carried[0], weight)};
                 })[0];
    kit.store(after, perRow(m, block));
    kit.store(total, perRow(l, block));
    kit.store(rescale, perRow(alpha, block));
  });
}

//===----------------------------------------------------------------------===//
// Result
//===----------------------------------------------------------------------===//

void PackedMath::storePartial() {
  kit.loop(kit.i64(0), a.rows, 1, [&](Value row) {
    Value inverse =
        a.storePartialLse(row, kit.load(kit.vec(1), element(m, row)),
                          kit.load(kit.vec(1), element(l, row)));
    Value wide = kit.splat(inverse, 8);
    Value to = a.partialOutput(row), from = element(acc, kit.mul(row, a.dimV));
    kit.loop(0, a.dimV, 8, [&](Value c) {
      Value x = kit.load(kit.vec(8), kit.at(from, kit.mul(c, 4)));
      kit.store(kit.fmul(x, wide), kit.at(to, kit.mul(c, 4)));
    });
  });
}

} // namespace

std::unique_ptr<TileMath> kvc::cpu::makePackedMath(AttendKernel &kernel) {
  return std::make_unique<PackedMath>(kernel);
}
