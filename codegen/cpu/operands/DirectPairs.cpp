//===- DirectPairs.cpp - few query rows: products of 16-bit pairs ---------===//
#include "codegen/cpu/operands/DirectPairs.h"

using namespace mlir;
using namespace kvc;
using namespace kvc::cpu;

//===----------------------------------------------------------------------===//
// K
//===----------------------------------------------------------------------===//

Value DirectPairKeys::queryAt(Value row, Value channel) {
  int64_t bytes = kit.lanes * 4; // of a chunk of a row
  Value at = kit.at(k.scratchAt(query),
                    kit.mul(kit.div(row, blockRows), queryBytes()));
  Value chunk = kit.div(channel, chunkChannels());
  Value vector = kit.add(kit.mul(chunk, blockRows), kit.rem(row, blockRows));
  at = kit.at(at, kit.mul(vector, bytes));
  return kit.at(at, kit.mul(kit.rem(channel, chunkChannels()), 2));
}

/// The vectors of a block of q if they fit in registers; otherwise each is
/// loaded where it is used.
SmallVector<Value> DirectPairKeys::holdQuery(Value block) {
  Values held;
  if (inRegisters())
    for (int64_t i = 0; i < chunks() * blockRows; ++i)
      held.push_back(loadQueryVector(block, i));
  return held;
}

Value DirectPairKeys::loadQueryVector(Value block, int64_t index) {
  Type type = VectorType::get(kit.lanes, kit.b.getI32Type());
  Value from = blocks.blockAt(query, block, queryBytes());
  return kit.load(type, kit.at(from, index * kit.lanes * 4), kit.lanes * 4);
}

/// One key after the other: a stream of rows in their order is what prefetchers
/// follow, and a key has a sum per row under way. Only where q does not stay in
/// registers, several keys share what is loaded of it.
Value DirectPairKeys::scores(int64_t keys, KeyRowFn keyRow, Value block,
                             ArrayRef<Value> held) {
  auto queries = [&](int64_t i) {
    return held.empty() ? loadQueryVector(block, i) : held[i];
  };
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
        keyRows.push_back(
            keyRow(sums.size() / blockRows + j)(a.planK.codesPlane()).at);
      llvm::append_range(sums, dotTogether(keyRows, queries));
    }
    if (row < blockRows)
      return sums[key * blockRows + row];
    return arith::ConstantOp::create(kit.b, kit.loc,
                                     kit.b.getZeroAttr(sums[0].getType()));
  });
  return scoresOf(result, block, keys);
}

/// The sums, still of all lanes, of each key with each row: [key][row].
SmallVector<Value> DirectPairKeys::dotTogether(ArrayRef<Value> keyRows,
                                               QueryFn queries) {
  Value zero = arith::ConstantOp::create(
      kit.b, kit.loc, kit.b.getZeroAttr(VectorType::get(kit.lanes, sumType())));
  Values sums(keyRows.size() * blockRows, zero);
  for (int64_t chunk = 0; chunk < chunks(); ++chunk) {
    Values codes;
    for (Value row : keyRows)
      codes.push_back(loadChunk(row, chunk));
    for (int64_t row = 0; row < blockRows; ++row) {
      Value vector = queries(chunk * blockRows + row);
      for (auto [key, x] : llvm::enumerate(codes)) {
        Value &sum = sums[key * blockRows + row];
        sum = multiply(sum, x, vector);
      }
    }
  }
  return sums;
}

/// A chunk of a key's codes in 16 bits each; zeros past the last channel.
Value DirectPairKeys::loadChunk(Value row, int64_t chunk) {
  int64_t first = chunk * chunkChannels();
  int64_t n = std::min(chunkChannels(), a.dimK - first);
  Value x = loadHalves(row, first, n);
  SmallVector<int64_t> lanes;
  for (int64_t lane = 0; lane < chunkChannels(); ++lane)
    lanes.push_back(std::min(lane, n));
  Value zero =
      arith::ConstantOp::create(kit.b, kit.loc, kit.b.getZeroAttr(x.getType()));
  return n == chunkChannels() ? x : kit.shuffle(x, zero, lanes);
}

//===----------------------------------------------------------------------===//
// V
//===----------------------------------------------------------------------===//

SmallVector<int64_t> DirectPairValues::order(const ChannelBlock &block) const {
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

Value DirectPairValues::pairsAt(Value block, Value tokenInStep) {
  int64_t bytes = padded * 2;
  return kit.at(blocks.blockAt(weights, block, a.stepTokens * bytes),
                kit.mul(tokenInStep, bytes));
}

void DirectPairValues::storePairs(ArrayRef<Value> x, const TileRows &rows,
                                  Value block, Value vector,
                                  llvm::function_ref<Value(Value)> narrow) {
  int64_t lanes = blocks.scoreLanes();
  size_t some = x.size() > 1 ? 2 : 1; // a lone vector is all of the tile
  int64_t n = some * lanes;
  SmallVector<int64_t> pairs;
  for (int64_t pair = 0; pair < n; pair += 2 * padded)
    for (int64_t row = 0; row < padded; ++row)
      llvm::append_values(pairs, pair + row, pair + padded + row);
  Value token = kit.mul(vector, blocks.tokensPerVector);
  Value to = pairsAt(block, kit.sub(token, blocks.range(rows).first));
  for (size_t i = 0; i < x.size(); i += some) {
    Value halves = narrow(kit.concat(x.slice(i, some)));
    kit.store(kit.shuffle(halves, halves, pairs), kit.at(to, i * lanes * 2));
  }
}

SmallVector<Value> DirectPairValues::addTokens(const TileRows &rows,
                                               Value block, Value token,
                                               const DirectStrip &strip,
                                               ArrayRef<Value> sums) {
  Values pairs;
  for (const ChannelBlock &shape : strip.blocks) {
    Value codes[2];
    for (int64_t i : {0, 1})
      codes[i] = loadHalves(rows.row(a.planV.codesPlane(), kit.add(token, i)),
                            kit.add(strip.channel, strip.offset(shape)), shape);
    SmallVector<int64_t> order = this->order(shape);
    for (int64_t first = 0; first < shape.channels; first += shape.lanes) {
      SmallVector<int64_t> lanes;
      for (int64_t i = first; i < first + shape.lanes; ++i)
        llvm::append_values(lanes, order[i], shape.channels + order[i]);
      pairs.push_back(kit.shuffle(codes[0], codes[1], lanes));
    }
  }
  Value words = pairsAt(block, kit.sub(token, blocks.range(rows).first));
  Values next(sums);
  int64_t lanes = strip.blocks.front().lanes, vectors = pairs.size();
  for (int64_t row = 0; row < strip.rows; ++row) {
    Value word = kit.load(kit.b.getI32Type(),
                          kit.at(words, (strip.firstRow + row) * 4), 4);
    Value wide = kit.splat(word, lanes);
    for (int64_t v = 0; v < vectors; ++v) {
      Value &sum = next[row * vectors + v];
      sum = multiply(sum, pairs[v], wide);
    }
  }
  return next;
}
