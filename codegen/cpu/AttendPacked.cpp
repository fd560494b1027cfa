//===- AttendPacked.cpp - many query rows: multiply from packed tiles -----===//
//
// Each tile is decoded once into f32 scratch, K transposed, and then two small
// matrix products run over all query rows:
//
//   s [rows][tokens]  =  q [rows][dim k]  * kT [dim k][tokens]
//   acc [rows][dim v] = alpha * acc + s   * v  [tokens][dim v]
//
//===----------------------------------------------------------------------===//
#include "codegen/cpu/Attend.h"

#include "lib/Artifact/KernelAbi.h"

#include "mlir/Dialect/Math/IR/Math.h"
#include "llvm/Support/MathExtras.h"

#include <cmath>
#include <cstddef>

using namespace mlir;
using namespace kvc;
using namespace kvc::cpu;
using Pred = arith::CmpFPredicate;

namespace {

/// A row-major f32 matrix in scratch; `stride` in elements.
struct Matrix {
  Value base;
  int64_t stride;
};

class PackedMath : public TileMath {
public:
  explicit PackedMath(AttendKernel &a)
      : a(a), kit(a.kit), k(a.k), blockRows(a.schedule.getRows()),
        maxRows(llvm::alignTo(a.schedule.getQueries() * a.group, blockRows)) {}

  void plan() override;
  void loadQuery(double scale) override;
  void initState() override;
  void dot(const TileRows &rows) override;
  void softmaxStep(const TileRows &rows,
                   ArrayRef<Transform> transforms) override;
  void accumulate(const TileRows &rows,
                  ArrayRef<Transform> transforms) override;
  void storePartial() override;

private:
  Value rowAt(int64_t offset, Value row, int64_t elements) {
    return kit.at(k.scratchAt(offset), kit.mul(row, elements * 4));
  }
  Value loadOne(Value at) { return kit.load(kit.vec(1), at); }
  void packK(const TileRows &rows);
  Value packV(const TileRows &rows);
  SmallVector<Value> transpose(SmallVector<Value> rows);
  void product(Matrix x, Matrix y, Matrix out, int64_t inner, int64_t columns,
               bool rescale);
  void productTile(Matrix x, Matrix y, Matrix out, int64_t inner, Value row,
                   Value column, int64_t vectors, int64_t lanes, bool rescale);
  void accumulateVisible(const TileRows &rows);
  Value apply(Value x, ArrayRef<Transform> transforms, const TileRows &rows,
              Value row, int64_t firstToken);

  AttendKernel &a;
  Kit &kit;
  Kernel &k;
  int64_t blockRows, maxRows;
  Value allRows; ///< rows of this item, padded to whole blocks
  int64_t q = 0, s = 0, acc = 0, m = 0, l = 0, alpha = 0, kT = 0, v = 0;
  int64_t scaleK = 0, scaleV = 0;
};

void PackedMath::plan() {
  Scratch &scratch = k.scratch;
  q = scratch.reserve(maxRows * a.dimK * 4);
  acc = scratch.reserve(maxRows * a.dimV * 4);
  s = scratch.reserve(maxRows * a.tileTokens * 4);
  kT = scratch.reserve(a.dimK * a.tileTokens * 4);
  v = scratch.reserve(a.dimV * a.tileTokens * 4);
  for (int64_t *offset : {&m, &l, &alpha})
    *offset = scratch.reserve(maxRows * 4);
  for (int64_t *offset : {&scaleK, &scaleV})
    *offset = scratch.reserve(a.tileTokens * 4);
}

//===----------------------------------------------------------------------===//
// Query and state
//===----------------------------------------------------------------------===//

void PackedMath::loadQuery(double scale) {
  allRows = kit.mul(kit.ceilDiv(a.rows, blockRows), blockRows);
  kit.loop(kit.i64(0), a.rows, 1, [&](Value row) {
    Value from = a.queryRow(row), to = rowAt(q, row, a.dimK);
    kit.loop(0, a.dimK, 8, [&](Value c) {
      Value x =
          kit.loadAsF32(k.dtype, kit.at(from, kit.mul(c, k.dtypeBytes())), 8);
      kit.store(kit.fmul(x, kit.constant(scale, x.getType())),
                kit.at(to, kit.mul(c, 4)));
    });
  });
  kit.loop(a.rows, allRows, 1, [&](Value row) {
    kit.loop(0, a.dimK, 8, [&](Value c) {
      kit.store(kit.constant(0, kit.vec(8)),
                kit.at(rowAt(q, row, a.dimK), kit.mul(c, 4)));
    });
  });
}

void PackedMath::initState() {
  kit.loop(kit.i64(0), allRows, 1, [&](Value row) {
    kit.store(kit.constant(-INFINITY, kit.vec(1)), rowAt(m, row, 1));
    kit.store(kit.constant(0, kit.vec(1)), rowAt(l, row, 1));
    kit.loop(0, a.dimV, 8, [&](Value c) {
      kit.store(kit.constant(0, kit.vec(8)),
                kit.at(rowAt(acc, row, a.dimV), kit.mul(c, 4)));
    });
  });
}

//===----------------------------------------------------------------------===//
// Packing
//===----------------------------------------------------------------------===//

/// n vectors of n lanes, transposed by exchanging halves log2 n times.
SmallVector<Value> PackedMath::transpose(SmallVector<Value> rows) {
  int64_t n = rows.size();
  for (int64_t half = n / 2; half; half /= 2)
    for (int64_t i = 0; i < n; ++i) {
      if (i & half)
        continue;
      SmallVector<int64_t> low, high;
      for (int64_t lane = 0; lane < n; ++lane) {
        low.push_back(lane & half ? n + lane - half : lane);
        high.push_back(lane & half ? n + lane : lane + half);
      }
      Value x = rows[i], y = rows[i + half];
      rows[i] = kit.shuffle(x, y, low);
      rows[i + half] = kit.shuffle(x, y, high);
    }
  return rows;
}

void PackedMath::packK(const TileRows &rows) {
  auto pack = [&](const ChannelBlock &block, Value channel) {
    SmallVector<int64_t> order = a.planK.order(block);
    kit.loop(0, a.tileTokens, block.lanes, [&](Value token) {
      SmallVector<SmallVector<Value>> decoded;
      for (int64_t i = 0; i < block.lanes; ++i) {
        Value index = kit.add(token, i);
        // Columns of tokens that do not exist repeat the last that does.
        if (rows.count)
          index = kit.min(index, kit.add(rows.count, -1));
        decoded.push_back(
            a.planK.decode(kit, block, rows.row(a.codesK, index), channel));
      }
      for (int64_t v = 0; v < block.channels / block.lanes; ++v) {
        SmallVector<Value> square;
        for (SmallVector<Value> &row : decoded)
          square.push_back(row[v]);
        for (auto [i, x] : llvm::enumerate(transpose(square))) {
          Value to = rowAt(kT, kit.add(channel, order[v * block.lanes + i]),
                           a.tileTokens);
          kit.store(x, kit.at(to, kit.mul(token, 4)));
        }
      }
    });
  };
  a.planK.forBlocks(kit, pack);
}

/// Packs V, zeros where there is no token. Returns whether all is finite, or
/// null if it does not matter (no token is hidden from any row).
Value PackedMath::packV(const TileRows &rows) {
  Value bad = k.scratchAt(scaleV); // free until the scales are gathered
  if (rows.masked)
    kit.store(kit.constant(0, kit.vec(8)), bad);
  Value count = rows.count ? rows.count : kit.i64(a.tileTokens);
  kit.loop(kit.i64(0), count, 1, [&](Value token) {
    Value row = rows.row(a.codesV, token), to = rowAt(v, token, a.dimV);
    a.planV.forBlocks(kit, [&](const ChannelBlock &block, Value channel) {
      SmallVector<Value> decoded = a.planV.decode(kit, block, row, channel);
      Value x = kit.concat(decoded);
      SmallVector<int64_t> order = a.planV.order(block), back(order.size());
      for (auto [element, c] : llvm::enumerate(order))
        back[c] = element;
      kit.store(kit.shuffle(x, x, back), kit.at(to, kit.mul(channel, 4)));
    });
    if (rows.masked)
      kit.loop(0, a.dimV, 8, [&](Value c) {
        // x - x is 0 for finite x, NaN otherwise.
        Value x = kit.load(kit.vec(8), kit.at(to, kit.mul(c, 4)));
        kit.store(kit.fadd(kit.load(kit.vec(8), bad), kit.fsub(x, x)), bad);
      });
  });
  if (!rows.masked)
    return {};
  kit.loop(count, kit.i64(a.tileTokens), 1, [&](Value token) {
    kit.loop(0, a.dimV, 8, [&](Value c) {
      kit.store(kit.constant(0, kit.vec(8)),
                kit.at(rowAt(v, token, a.dimV), kit.mul(c, 4)));
    });
  });
  Value sum = kit.fold(kit.load(kit.vec(8), bad), 1,
                       [&](Value x, Value y) { return kit.fadd(x, y); });
  return kit.fcmp(Pred::ORD, kit.extract(sum, 0), kit.extract(sum, 0));
}

//===----------------------------------------------------------------------===//
// Products
//===----------------------------------------------------------------------===//

/// out = x * y, or alpha * out + x * y: [rows][inner] by [inner][columns].
void PackedMath::product(Matrix x, Matrix y, Matrix out, int64_t inner,
                         int64_t columns, bool rescale) {
  int64_t wide = 2 * kit.lanes;
  kit.loop(kit.i64(0), allRows, blockRows, [&](Value row) {
    int64_t done = columns / wide * wide;
    kit.loop(0, done, wide, [&](Value column) {
      productTile(x, y, out, inner, row, column, 2, kit.lanes, rescale);
    });
    for (int64_t lanes : {kit.lanes, int64_t(8)})
      for (; columns - done >= lanes; done += lanes)
        productTile(x, y, out, inner, row, kit.i64(done), 1, lanes, rescale);
  });
}

/// One register tile: blockRows x (vectors * lanes).
void PackedMath::productTile(Matrix x, Matrix y, Matrix out, int64_t inner,
                             Value row, Value column, int64_t vectors,
                             int64_t lanes, bool rescale) {
  auto element = [&](const Matrix &matrix, Value row, Value column) {
    return kit.at(matrix.base,
                  kit.mul(kit.add(kit.mul(row, matrix.stride), column), 4));
  };
  auto slot = [&](int64_t i, int64_t v) {
    return kit.at(element(out, kit.add(row, i), column), v * lanes * 4);
  };
  SmallVector<Value> sums;
  for (int64_t i = 0; i < blockRows; ++i) {
    Value factor;
    if (rescale)
      factor = kit.splat(kit.load(kit.f32(), rowAt(alpha, kit.add(row, i), 1)),
                         lanes);
    for (int64_t v = 0; v < vectors; ++v)
      sums.push_back(
          rescale ? kit.fmul(kit.load(kit.vec(lanes), slot(i, v)), factor)
                  : kit.constant(0, kit.vec(lanes)));
  }
  constexpr int64_t unroll = 4; // dims and tiles are multiples of 8
  sums = kit.loop(
      kit.i64(0), kit.i64(inner), unroll, sums,
      [&](Value first, ValueRange carried) {
        SmallVector<Value> next(carried);
        for (int64_t u = 0; u < unroll; ++u) {
          Value step = kit.add(first, u);
          SmallVector<Value> right;
          for (int64_t v = 0; v < vectors; ++v)
            right.push_back(
                kit.load(kit.vec(lanes),
                         kit.at(element(y, step, column), v * lanes * 4)));
          for (int64_t i = 0; i < blockRows; ++i) {
            Value left = kit.splat(
                kit.load(kit.f32(), element(x, kit.add(row, i), step)), lanes);
            for (int64_t v = 0; v < vectors; ++v) {
              Value &sum = next[i * vectors + v];
              sum = kit.fma(left, right[v], sum);
            }
          }
        }
        return next;
      });
  for (int64_t i = 0; i < blockRows; ++i)
    for (int64_t v = 0; v < vectors; ++v)
      kit.store(sums[i * vectors + v], slot(i, v));
}

void PackedMath::dot(const TileRows &rows) {
  packK(rows);
  product({k.scratchAt(q), a.dimK}, {k.scratchAt(kT), a.tileTokens},
          {k.scratchAt(s), a.tileTokens}, a.dimK, a.tileTokens, false);
}

void PackedMath::accumulate(const TileRows &rows,
                            ArrayRef<Transform> transforms) {
  Value finite = packV(rows);
  if (hasScales(transforms)) {
    a.gatherScales(rows, StreamKind::V, scaleV);
    // Scale V's rows rather than all probabilities: there are fewer.
    Value count = rows.count ? rows.count : kit.i64(a.tileTokens);
    kit.loop(kit.i64(0), count, 1, [&](Value token) {
      Value scale = kit.splat(kit.load(kit.f32(), rowAt(scaleV, token, 1)), 8);
      kit.loop(0, a.dimV, 8, [&](Value c) {
        Value at = kit.at(rowAt(v, token, a.dimV), kit.mul(c, 4));
        kit.store(kit.fmul(kit.load(kit.vec(8), at), scale), at);
      });
    });
  }
  auto multiply = [&] {
    product({k.scratchAt(s), a.tileTokens}, {k.scratchAt(v), a.dimV},
            {k.scratchAt(acc), a.dimV}, a.tileTokens, a.dimV, true);
  };
  if (finite)
    kit.when(finite, multiply, [&] { accumulateVisible(rows); });
  else
    multiply();
}

/// The product where a hidden token holds an infinity or NaN: a probability of
/// 0 then adds nothing, instead of NaN.
void PackedMath::accumulateVisible(const TileRows &rows) {
  kit.loop(kit.i64(0), a.rows, 1, [&](Value row) {
    Value factor = kit.splat(kit.load(kit.f32(), rowAt(alpha, row, 1)), 8);
    kit.loop(0, a.dimV, 8, [&](Value c) {
      Value slot = kit.at(rowAt(acc, row, a.dimV), kit.mul(c, 4));
      Value start = kit.fmul(kit.load(kit.vec(8), slot), factor);
      Value sum = kit.loop(
          kit.i64(0), rows.count, 1, ValueRange{start},
          [&](Value token, ValueRange carried) {
            Value p = kit.load(kit.f32(), kit.at(rowAt(s, row, a.tileTokens),
                                                 kit.mul(token, 4)));
            Value x = kit.load(kit.vec(8),
                               kit.at(rowAt(v, token, a.dimV), kit.mul(c, 4)));
            Value more = kit.fma(kit.splat(p, 8), x, carried[0]);
            Value hidden = kit.fcmp(Pred::OEQ, p, kit.constant(0, kit.f32()));
            return SmallVector<Value>{kit.select(hidden, carried[0], more)};
          })[0];
      kit.store(sum, slot);
    });
  });
}

//===----------------------------------------------------------------------===//
// Softmax
//===----------------------------------------------------------------------===//

Value PackedMath::apply(Value x, ArrayRef<Transform> transforms,
                        const TileRows &rows, Value row, int64_t firstToken) {
  int64_t lanes = kit.lanes;
  for (const Transform &transform : transforms) {
    if (isa<tile::ScaleTokensOp>(transform.op)) {
      x = kit.fmul(
          x, kit.load(kit.vec(lanes), k.scratchAt(scaleK + firstToken * 4)));
    } else if (auto cap = dyn_cast<tile::SoftcapOp>(transform.op)) {
      x = a.softcap(x, cap);
    } else {
      SmallVector<int32_t> ids;
      for (int64_t lane = 0; lane < lanes; ++lane)
        ids.push_back(firstToken + lane);
      Value tokens = kit.add(kit.splatI32(rows.first, lanes), kit.i32s(ids));
      Value position = kit.add(a.posFirst, kit.div(row, a.group));
      x = kit.select(a.visible(tokens, kit.splatI32(position, lanes)), x,
                     kit.constant(-INFINITY, x.getType()));
    }
  }
  return x;
}

void PackedMath::softmaxStep(const TileRows &rows,
                             ArrayRef<Transform> transforms) {
  if (hasScales(transforms))
    a.gatherScales(rows, StreamKind::K, scaleK);
  auto larger = [&](Value x, Value y) { return kit.fmaxKeepNaN(x, y); };
  auto plus = [&](Value x, Value y) { return kit.fadd(x, y); };
  kit.loop(kit.i64(0), allRows, 1, [&](Value row) {
    Value from = rowAt(s, row, a.tileTokens);
    SmallVector<Value> x;
    for (int64_t t = 0; t < a.tileTokens; t += kit.lanes)
      x.push_back(apply(kit.load(kit.vec(kit.lanes), kit.at(from, t * 4)),
                        transforms, rows, row, t));
    Value largest = x[0];
    for (Value other : ArrayRef(x).drop_front())
      largest = larger(largest, other);
    Value before = loadOne(rowAt(m, row, 1));
    Value after = larger(before, kit.fold(largest, 1, larger));
    // Nothing seen yet: any finite origin will do, -inf would make NaN.
    Value none =
        kit.fcmp(Pred::OEQ, after, kit.constant(-INFINITY, kit.vec(1)));
    Value origin = kit.select(none, kit.constant(0, kit.vec(1)), after);
    Value rescale = kit.exp2(kit.fsub(before, origin));
    Value wide = kit.repeat(origin, kit.lanes);
    Value sum;
    for (auto [i, score] : llvm::enumerate(x)) {
      Value p = kit.exp2(kit.fsub(score, wide));
      kit.store(p, kit.at(from, int64_t(i) * kit.lanes * 4));
      sum = sum ? kit.fadd(sum, p) : p;
    }
    Value total =
        kit.fma(loadOne(rowAt(l, row, 1)), rescale, kit.fold(sum, 1, plus));
    kit.store(after, rowAt(m, row, 1));
    kit.store(total, rowAt(l, row, 1));
    kit.store(rescale, rowAt(alpha, row, 1));
  });
}

//===----------------------------------------------------------------------===//
// Result
//===----------------------------------------------------------------------===//

void PackedMath::storePartial() {
  kit.loop(kit.i64(0), a.rows, 1, [&](Value row) {
    Value inverse = a.storePartialLse(row, loadOne(rowAt(m, row, 1)),
                                      loadOne(rowAt(l, row, 1)));
    Value wide = kit.splat(inverse, 8);
    Value to = a.partialOutput(row), from = rowAt(acc, row, a.dimV);
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
