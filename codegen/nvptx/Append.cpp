//===- Append.cpp - rows quantized into the cache -------------------------===//
//
// A lane has whole chunks of 8 channels: lane, lane + 32, ... It loads them
// once for both the ranges of boxes and the quantization.
//
//===----------------------------------------------------------------------===//
#include "codegen/nvptx/Rows.h"

#include "codegen/Convert.h"
#include "dialect/tile/Graph.h"

#include <cmath>

using namespace mlir;
using namespace kvc;
using namespace kvc::nvptx;

namespace {

constexpr int64_t kChunk = 8; ///< channels; dims are multiples of it

/// What a lane holds of a row.
struct StreamRow {
  tile::StoredRow stored;
  CodecAttrInterface codec;
  unsigned codes;              ///< plane
  int64_t chunks;              ///< of the row
  int64_t boxChunks;           ///< of each of its boxes
  SmallVector<Value> channels; ///< of its chunks lane, lane + 32, ...

  bool isOneBox() const { return boxChunks == chunks; }
};

class AppendKernel {
public:
  AppendKernel(Kernel &k, const SlotRow &slot)
      : k(k), kit(k.kit), slot(slot), lane(k.lane()) {}
  void emit(ArrayRef<tile::StoredRow> rows);

private:
  StreamRow loadRow(tile::StoredRow stored);
  void storeRow(const StreamRow &row);
  void storeChunk(const StreamRow &row, Value x, Value chunk,
                  const QuantizeBox &box);
  QuantizeBox emitBox(const StreamRow &row, ArrayRef<Value> channels,
                      Value chunk);
  QuantizeRange range(const StreamRow &row, ArrayRef<Value> channels);
  /// The lane's chunk `i` of the row, which may be beyond its last.
  Value chunkOf(int64_t i) { return kit.add(lane, i * kWarpLanes); }

  Kernel &k;
  Kit &kit;
  const SlotRow &slot;
  Value lane;
};

void AppendKernel::emit(ArrayRef<tile::StoredRow> rows) {
  // All loads before the first use: K and V are under way together.
  SmallVector<StreamRow, 2> streams;
  for (const tile::StoredRow &stored : rows)
    streams.push_back(loadRow(stored));
  for (const StreamRow &stream : streams)
    storeRow(stream);
}

StreamRow AppendKernel::loadRow(tile::StoredRow stored) {
  int64_t chunks = stored.dim() / kChunk;
  StreamRow stream{stored,
                   cast<CodecAttrInterface>(stored.quantize.getCodecAttr()),
                   k.cache.planeIndex(stored.store.getStream()),
                   chunks,
                   chunks / stored.boxes(),
                   {}};
  Value from = slot.modelRow(stored.load.getName());
  for (int64_t i = 0; i * kWarpLanes < chunks; ++i) {
    // A lane beyond the row reads its last chunk again, which changes no range,
    // and stores nothing.
    Value chunk = chunkOf(i);
    if ((i + 1) * kWarpLanes > chunks)
      chunk = kit.min(chunk, kit.i32(chunks - 1));
    stream.channels.push_back(kit.loadAsF32(
        k.dtype, kit.ptr(from, kit.mul(chunk, kChunk * k.dtypeBytes())),
        kChunk));
  }
  return stream;
}

/// That of the lane's box, of which it has `channels`: the row, or as many
/// lanes side by side as a box has chunks. NaN elements do not count.
QuantizeRange AppendKernel::range(const StreamRow &row,
                                  ArrayRef<Value> channels) {
  CodecAttrInterface codec = row.codec;
  bool hasLeast = codec.rangeHasLeast();
  SmallVector<Value> counted;
  for (Value x : channels)
    counted.push_back(codec.emitInRange(kit.b, kit.kernel, x));
  auto reduce = [&](double init, llvm::function_ref<Value(Value, Value)> pick) {
    Value most = kit.constant(init, kit.vec(kChunk, kit.f32()));
    for (Value x : counted)
      most = pick(most, x);
    Value one = kit.extract(most, 0);
    for (int64_t i = 1; i < kChunk; ++i)
      one = pick(one, kit.extract(most, i));
    int64_t lanes = row.isOneBox() ? kWarpLanes : row.boxChunks;
    for (int64_t mask = lanes / 2; mask; mask /= 2)
      one = pick(one, kit.shflXor(one, mask));
    return one;
  };
  QuantizeRange range;
  range.largest = reduce(hasLeast ? -INFINITY : 0,
                         [&](Value x, Value y) { return kit.fmax(x, y); });
  if (hasLeast)
    range.least =
        reduce(INFINITY, [&](Value x, Value y) { return kit.fmin(x, y); });
  return range;
}

/// The box of `chunk`; its first lane stores what is kept of it.
QuantizeBox AppendKernel::emitBox(const StreamRow &row,
                                  ArrayRef<Value> channels, Value chunk) {
  CodecAttrInterface codec = row.codec;
  QuantizeBox box = codec.emitBox(kit.b, kit.kernel, range(row, channels));
  Value index = kit.i32(0);
  Value isFirst = kit.cmp(arith::CmpIPredicate::eq, lane, kit.i32(0));
  if (!row.isOneBox()) {
    index = kit.div(chunk, row.boxChunks);
    Value within = kit.rem(chunk, row.boxChunks);
    isFirst = kit.and_(kit.cmp(arith::CmpIPredicate::eq, within, kit.i32(0)),
                       kit.less(chunk, kit.i32(row.chunks)));
  }
  kit.when(isFirst, [&] {
    for (auto [i, stored] : llvm::enumerate(box.stored)) {
      int64_t bytes = stored.getType().getIntOrFloatBitWidth() / 8;
      Value to = slot.address(row.codes + 1 + unsigned(i));
      kit.store(stored, kit.ptr(to, kit.mul(index, bytes)), unsigned(bytes));
    }
  });
  return box;
}

void AppendKernel::storeChunk(const StreamRow &row, Value x, Value chunk,
                              const QuantizeBox &box) {
  CodecAttrInterface codec = row.codec;
  int64_t bits = k.cache.planes()[row.codes].type.getIntOrFloatBitWidth();
  Value codes = codec.emitQuantize(kit.b, kit.kernel, x, box);
  Value to =
      kit.ptr(slot.address(row.codes), kit.mul(chunk, kChunk * bits / 8));
  // Rows are whole chunks, so no chunk is aligned to less.
  if (bits >= 8)
    return kit.store(codes, to, std::min<unsigned>(16, kChunk * bits / 8));
  storePacked(kit.b, kit.kernel, codes, bits, [&](Value piece, int64_t byte) {
    kit.store(piece, kit.ptr(to, byte), pieceBytes(bits));
  });
}

void AppendKernel::storeRow(const StreamRow &row) {
  QuantizeBox box;
  if (row.stored.hasBoxes() && row.isOneBox())
    box = emitBox(row, row.channels, lane);
  for (auto [i, x] : llvm::enumerate(row.channels)) {
    Value chunk = chunkOf(i);
    if (!row.isOneBox())
      box = emitBox(row, x, chunk);
    auto store = [&] { storeChunk(row, x, chunk, box); };
    if ((int64_t(i) + 1) * kWarpLanes <= row.chunks)
      store();
    else
      kit.when(kit.less(chunk, kit.i32(row.chunks)), store);
  }
}

} // namespace

LogicalResult kvc::nvptx::emitAppend(Kernel &kernel, LaunchInfo &launch) {
  launch.threads = kRowThreads;
  auto rows = tile::storedRows(kernel.op);
  if (failed(rows))
    return failure();
  atSlot(kernel,
         [&](const SlotRow &slot) { AppendKernel(kernel, slot).emit(*rows); });
  return success();
}
