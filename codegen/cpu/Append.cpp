//===- Append.cpp - rows quantized into the cache -------------------------===//
#include "codegen/cpu/Rows.h"

#include "dialect/tile/Graph.h"

#include <cmath>

using namespace mlir;
using namespace kvc;
using namespace kvc::cpu;

namespace {

/// A row of one stream on its way into the cache.
class RowWriter {
public:
  RowWriter(Kernel &k, tile::StoredRow stored, const SlotRow &slot)
      : k(k), kit(k.kit), slot(slot),
        codec(cast<CodecAttrInterface>(stored.quantize.getCodecAttr())),
        codes(k.cache.planeIndex(stored.store.getStream())),
        hasBoxes(stored.hasBoxes()), dim(stored.dim()), boxes(stored.boxes()),
        from(slot.modelRow(stored.load.getName())) {}
  void emit();

private:
  Value load(Value channel) {
    return kit.loadAsF32(k.dtype,
                         kit.at(from, kit.mul(channel, k.dtypeBytes())), 8);
  }
  QuantizeRange range(Value begin, Value end);
  QuantizeBox emitBox(Value box, Value begin, Value end);
  void store(Value codes, Value to, Value channel);

  Kernel &k;
  Kit &kit;
  const SlotRow &slot;
  CodecAttrInterface codec;
  unsigned codes; ///< plane
  bool hasBoxes;
  int64_t dim, boxes;
  Value from;
};

/// NaN elements do not count.
QuantizeRange RowWriter::range(Value begin, Value end) {
  using Predicate = arith::CmpFPredicate;
  // A NaN in `x` loses: the comparison is false.
  auto pick = [&](Predicate predicate) {
    return [&, predicate](Value x, Value y) {
      return kit.select(kit.fcmp(predicate, x, y), x, y);
    };
  };
  auto larger = pick(Predicate::OGT), smaller = pick(Predicate::OLT);
  bool hasLeast = codec.rangeHasLeast();
  SmallVector<Value> init = {
      kit.constant(hasLeast ? -INFINITY : 0, kit.vec(8))};
  if (hasLeast)
    init.push_back(kit.constant(INFINITY, kit.vec(8)));
  auto body = [&](Value c, ValueRange carried) {
    Value x = codec.emitInRange(kit.b, kit.loc, load(c));
    SmallVector<Value> next = {larger(x, carried[0])};
    if (hasLeast)
      next.push_back(smaller(x, carried[1]));
    return next;
  };
  auto most = kit.loop(begin, end, 8, init, body);
  QuantizeRange range;
  range.largest = kit.extract(kit.fold(most[0], 1, larger), 0);
  if (hasLeast)
    range.least = kit.extract(kit.fold(most[1], 1, smaller), 0);
  return range;
}

/// Stores what is kept of a box.
QuantizeBox RowWriter::emitBox(Value index, Value begin, Value end) {
  QuantizeBox box = codec.emitBox(kit.b, kit.loc, range(begin, end));
  for (auto [i, stored] : llvm::enumerate(box.stored)) {
    int64_t bytes = stored.getType().getIntOrFloatBitWidth() / 8;
    kit.store(stored, kit.at(slot.address(codes + 1 + unsigned(i)),
                             kit.mul(index, bytes)));
  }
  return box;
}

void RowWriter::store(Value x, Value to, Value channel) {
  Type type = k.cache.planes()[codes].type;
  int64_t bits = type.getIntOrFloatBitWidth();
  if (bits >= 8)
    return kit.store(x, kit.at(to, kit.mul(channel, bits / 8)));
  Value at = kit.at(to, kit.mul(kit.div(channel, 8), bits));
  storePacked(kit.b, kit.loc, x, bits, [&](Value piece, int64_t byte) {
    kit.store(piece, kit.at(at, byte), 1);
  });
}

void RowWriter::emit() {
  kit.loop(0, boxes, 1, [&](Value index) {
    Value begin = kit.mul(index, dim / boxes);
    Value end = kit.add(begin, dim / boxes);
    QuantizeBox box;
    if (hasBoxes)
      box = emitBox(index, begin, end);
    Value to = slot.address(codes);
    kit.loop(begin, end, 8, [&](Value channel) {
      store(codec.emitQuantize(kit.b, kit.loc, load(channel), box), to,
            channel);
    });
  });
}

} // namespace

LogicalResult kvc::cpu::emitAppend(Kernel &kernel) {
  auto rows = tile::storedRows(kernel.op);
  if (failed(rows))
    return failure();
  forSlots(kernel, [&](const SlotRow &slot) {
    for (const tile::StoredRow &stored : *rows)
      RowWriter(kernel, stored, slot).emit();
  });
  return success();
}
