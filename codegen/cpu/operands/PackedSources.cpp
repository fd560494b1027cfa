//===- PackedSources.cpp - operands of many query rows --------------------===//
#include "codegen/cpu/operands/PackedSources.h"

using namespace mlir;
using namespace kvc;
using namespace kvc::cpu;

void PackedKeys::loadQuery(double scale) {
  this->scale = scale;
  Value zero = kit.constant(0, kit.vec(8));
  kit.loop(kit.i64(0), kit.mul(blocks.blocks, queryLimbs * queryWords()), 8,
           [&](Value i) { kit.store(zero, blocks.element(query, i)); });
  // Column `row` of qT: the words of a query row, `blockRows` apart.
  kit.loop(kit.i64(0), a.rows, 1, [&](Value row) {
    Value from = a.queryRow(row);
    Value column =
        kit.add(kit.mul(kit.div(row, blockRows), queryLimbs * queryWords()),
                kit.rem(row, blockRows));
    loadQueryRow(from, [&](Value x, Value word, int64_t limb) {
      Value at = kit.add(column, kit.mul(word, blockRows));
      at = kit.add(at, limb * queryWords());
      kit.store(x, blocks.element(query, at), 4);
    });
  });
}

void PackedKeys::packRows(const TileRows &rows, PackFn pack) {
  kit.loop(kit.i64(0), a.existingRows(rows), 1, [&](Value token) {
    RowFn row = rows.at(token);
    Value to = blocks.element(packed, kit.mul(token, words));
    a.planK.forBlocks([&](const ChannelBlock &block, Value channel) {
      pack(block, row, channel, to);
    });
  });
}
