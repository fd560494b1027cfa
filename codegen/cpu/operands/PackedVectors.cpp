//===- PackedVectors.cpp - many query rows: products in vectors -----------===//
#include "codegen/cpu/operands/PackedVectors.h"

using namespace mlir;
using namespace kvc;
using namespace kvc::cpu;

//===----------------------------------------------------------------------===//
// Scores
//===----------------------------------------------------------------------===//

Value PackedVectorKeys::keyRow(const TileRows &, Value token) {
  return blocks.element(packed, kit.mul(token, words));
}

void PackedVectorKeys::dot(const TileRows &rows) {
  pack(rows);
  blocks.forTokens(blocks.tileRows, [&](Value token) {
    SmallVector<Value> keyRows;
    for (int64_t i = 0; i < blocks.tileRows; ++i)
      keyRows.push_back(keyRow(rows, kit.add(token, i)));
    blocks.forBlocks([&](Value block) { scoreTile(keyRows, block, token); });
  });
}

/// Scores of a block against as many tokens as `keyRows`.
void PackedVectorKeys::scoreTile(ArrayRef<Value> keyRows, Value block,
                                 Value token) {
  constexpr int64_t unroll = 4; // dims are multiples of 8
  Value columns = kit.mul(block, queryWords());
  SmallVector<Value> sums(2 * keyRows.size(),
                          kit.constant(0, kit.vec(kit.lanes)));
  auto round = [&](Value first, ValueRange carried) {
    SmallVector<Value> next(carried);
    for (int64_t u = 0; u < unroll; ++u) {
      Value c = kit.add(first, u);
      Value at = blocks.element(query, kit.add(columns, kit.mul(c, blockRows)));
      Value right[2];
      for (int64_t i : {0, 1})
        right[i] = kit.load(kit.vec(kit.lanes), kit.at(at, i * kit.lanes * 4));
      for (auto [i, key] : llvm::enumerate(keyRows)) {
        Value x = kit.load(kit.f32(), kit.at(key, kit.mul(c, 4)));
        Value left = kit.splat(x, kit.lanes);
        for (int64_t half : {0, 1})
          next[2 * i + half] = multiply(next[2 * i + half], left, right[half]);
      }
    }
    return next;
  };
  sums = kit.loop(kit.i64(0), kit.i64(words), unroll, sums, round);
  for (auto [i, sum] : llvm::enumerate(sums)) {
    if (sumScale() != 1)
      sum = kit.fmul(sum, kit.constant(sumScale(), sum.getType()));
    Value to = blocks.score(block, kit.add(token, int64_t(i / 2)));
    kit.store(sum, kit.at(to, int64_t(i % 2) * kit.lanes * 4));
  }
}

//===----------------------------------------------------------------------===//
// Output
//===----------------------------------------------------------------------===//

Value PackedVectorValues::applyScale(Value block, Value token) {
  Value x = blocks.weight(blocks.score(block, token), token, blockRows);
  if (blocks.scaled)
    kit.store(x, blocks.score(block, token));
  return x;
}

void PackedVectorValues::accumulate(Value block) {
  makeWeights(block);
  int64_t wide = 2 * kit.lanes;
  kit.loop(0, blockRows, blocks.tileRows, [&](Value row) {
    int64_t done = a.dimV / wide * wide;
    kit.loop(0, done, wide, [&](Value channel) {
      outputTile(block, row, channel, 2, kit.lanes);
    });
    for (int64_t lanes : {kit.lanes, int64_t(8)})
      for (; a.dimV - done >= lanes; done += lanes)
        outputTile(block, row, kit.i64(done), 1, lanes);
  });
}

/// acc = alpha * acc + weights * v for tileRows rows from `row` of the block,
/// and vectors * lanes channels.
void PackedVectorValues::outputTile(Value block, Value row, Value channel,
                                    int64_t vectors, int64_t lanes) {
  int64_t tileRows = blocks.tileRows;
  Value first = kit.add(kit.mul(block, blockRows), row);
  auto slot = [&](int64_t i, int64_t vector) {
    return kit.at(blocks.accumulator(block, kit.add(row, i), channel),
                  vector * lanes * 4);
  };
  // The sums of this tile alone, as with the weights.
  SmallVector<Value> sums(tileRows * vectors, kit.constant(0, kit.vec(lanes)));
  Value left = kit.at(weightsOf(block), kit.mul(row, 4));
  Value right = blocks.element(packed, channel);
  auto round = [&](Value word, ValueRange carried) {
    SmallVector<Value> next(carried), x;
    Value to = kit.at(right, kit.mul(word, a.dimV * 4));
    for (int64_t j = 0; j < vectors; ++j)
      x.push_back(kit.load(kit.vec(lanes), kit.at(to, j * lanes * 4)));
    Value from = kit.at(left, kit.mul(word, blockRows * 4));
    for (int64_t i = 0; i < tileRows; ++i) {
      Value wide = kit.splat(kit.load(kit.f32(), kit.at(from, i * 4)), lanes);
      for (int64_t j = 0; j < vectors; ++j)
        next[i * vectors + j] = multiply(next[i * vectors + j], wide, x[j]);
    }
    return next;
  };
  sums =
      kit.loop(kit.i64(0), kit.i64(a.tileTokens / wordTokens), 1, sums, round);
  for (int64_t i = 0; i < tileRows; ++i) {
    Value factor = kit.splat(
        kit.load(kit.f32(), blocks.element(blocks.alpha, kit.add(first, i))),
        lanes);
    for (int64_t j = 0; j < vectors; ++j) {
      Value before = kit.load(kit.vec(lanes), slot(i, j));
      kit.store(kit.fma(before, factor, sums[i * vectors + j]), slot(i, j));
    }
  }
}
