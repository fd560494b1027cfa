//===- Append.cpp - rows quantized into the cache -------------------------===//
//
// A lane loads its channels once for both the row's largest element and the
// quantization.
//
//===----------------------------------------------------------------------===//
#include "codegen/nvptx/Rows.h"

#include "dialect/tile/Graph.h"

using namespace mlir;
using namespace kvc;
using namespace kvc::nvptx;

namespace {

/// What a lane holds of a row.
struct StreamRow {
  StringRef stream; ///< that it is stored to
  CodecAttrInterface codec;
  size_t planes;               ///< of the codec
  int64_t chunks;              ///< of the row
  SmallVector<Value> channels; ///< of its chunks lane, lane + 32, ...
};

class AppendKernel {
public:
  AppendKernel(Kernel &k, const SlotRow &slot)
      : k(k), kit(k.kit), slot(slot), lane(k.lane()) {}
  void emit(ArrayRef<tile::StoredRow> rows);

private:
  StreamRow loadRow(tile::StoredRow stored);
  void storeRow(const StreamRow &row);
  Value absmax(const StreamRow &row);
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
  bool isK = stored.load.getName() == kStreamK;
  int64_t dim = k.cache.stream(stored.load.getName()).dim;
  StreamRow stream{stored.store.getStream(),
                   cast<CodecAttrInterface>(stored.quantize.getCodecAttr()),
                   stored.quantize.getPlanes().size(),
                   dim / kChunk,
                   {}};
  Value from = slot.modelRow(isK ? kWordsOfK : kWordsOfV);
  for (int64_t i = 0; i * kWarpLanes < stream.chunks; ++i) {
    // A lane beyond the row reads its last chunk again, which changes no
    // maximum, and stores nothing.
    Value chunk = chunkOf(i);
    if ((i + 1) * kWarpLanes > stream.chunks)
      chunk = kit.min(chunk, kit.i32(stream.chunks - 1));
    stream.channels.push_back(kit.loadAsF32(
        k.dtype, kit.ptr(from, kit.mul(chunk, kChunk * k.dtypeBytes())),
        kChunk));
  }
  return stream;
}

/// Largest |x| of a row, on all lanes; NaN elements do not count.
Value AppendKernel::absmax(const StreamRow &row) {
  Value most = kit.constant(0, kit.vec(kChunk, kit.f32()));
  for (Value x : row.channels)
    most = kit.fmax(most, LLVM::FAbsOp::create(kit.b, kit.kernel, x));
  Value largest = kit.extract(most, 0);
  for (int64_t i = 1; i < kChunk; ++i)
    largest = kit.fmax(largest, kit.extract(most, i));
  for (int64_t mask = kWarpLanes / 2; mask; mask /= 2)
    largest = kit.fmax(largest, kit.shflXor(largest, mask));
  return largest;
}

void AppendKernel::storeRow(const StreamRow &row) {
  auto planes = k.cache.planes();
  unsigned codesPlane = k.cache.planeIndex(row.stream);
  int64_t chunkBytes =
      kChunk * planes[codesPlane].type.getIntOrFloatBitWidth() / 8;
  Value factor;
  if (row.planes > 1) {
    QuantizeScale scale = row.codec.emitScale(kit.b, kit.kernel, absmax(row));
    factor = scale.factor;
    kit.when(kit.cmp(arith::CmpIPredicate::eq, lane, kit.i32(0)), [&] {
      kit.store(scale.stored, slot.address(codesPlane + 1),
                planes[codesPlane + 1].rowBytes);
    });
  }
  Value to = slot.address(codesPlane);
  // Rows are whole chunks, so no chunk is aligned to less.
  unsigned align = std::min<int64_t>(16, chunkBytes);
  for (auto [i, x] : llvm::enumerate(row.channels)) {
    Value chunk = chunkOf(i);
    Value codes = row.codec.emitQuantize(kit.b, kit.kernel, x, factor);
    auto store = [&] {
      kit.store(codes, kit.ptr(to, kit.mul(chunk, chunkBytes)), align);
    };
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
