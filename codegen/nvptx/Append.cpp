//===- Append.cpp - rows quantized into the cache -------------------------===//
//
// One warp per (row, kv head). A lane holds whole chunks of 8 channels, loaded
// once for both the row's largest element and the quantization.
//
//===----------------------------------------------------------------------===//
#include "codegen/nvptx/Kernel.h"

#include "dialect/tile/Graph.h"

#include <cstddef>

using namespace mlir;
using namespace kvc;
using namespace kvc::nvptx;

namespace {

constexpr int64_t kThreads = 128;
constexpr int64_t kChannels = 8; ///< of a chunk; dims are multiples of it

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
  explicit AppendKernel(Kernel &k) : k(k), kit(k.kit) {}
  void emit(ArrayRef<tile::StoredRow> stored);

private:
  void emitRows(ArrayRef<tile::StoredRow> rows, Value row, Value slot);
  StreamRow loadRow(tile::StoredRow stored, Value row);
  void storeRow(const StreamRow &row);
  Value target(unsigned plane);
  Value absmax(const StreamRow &row);
  /// The lane's chunk `i` of the row, which may be beyond its last.
  Value chunkOf(int64_t i) { return kit.add(lane, i * kWarpLanes); }

  Kernel &k;
  Kit &kit;
  Value lane, head, outer, token;
};

void AppendKernel::emit(ArrayRef<tile::StoredRow> stored) {
  lane = k.lane();
  Value warp = k.gridWarp(kThreads / kWarpLanes);
  Value row = kit.div(warp, k.kvHeads());
  head = kit.sub(warp, kit.mul(row, k.kvHeads()));
  Value rows = k.paramI32(Word::Rows);
  kit.when(kit.cmp(arith::CmpIPredicate::ult, row, rows), [&] {
    Value slots = k.paramPtr(Word::Slot);
    Value slot = kit.loadReadOnly(
        kit.b.getI64Type(), kit.ptr(slots, kit.mul(kit.extI64(row), 8)), 8);
    kit.when(kit.cmp(arith::CmpIPredicate::sge, slot, kit.i64(0)),
             [&] { emitRows(stored, row, slot); });
  });
}

void AppendKernel::emitRows(ArrayRef<tile::StoredRow> rows, Value row,
                            Value slot) {
  int64_t page = k.cache.layout().getPageTokens();
  Value slotTokens = page ? kit.i64(page) : k.paramI64(Word::SlotTokens);
  outer = page ? kit.div(slot, page) : kit.div(slot, slotTokens);
  token = kit.sub(slot, kit.mul(outer, slotTokens));
  // All loads before the first use: K and V are under way together.
  SmallVector<StreamRow, 2> streams;
  for (const tile::StoredRow &stored : rows)
    streams.push_back(loadRow(stored, row));
  for (const StreamRow &stream : streams)
    storeRow(stream);
}

StreamRow AppendKernel::loadRow(tile::StoredRow stored, Value row) {
  bool isK = stored.load.getName() == kStreamK;
  int64_t dim = k.cache.stream(stored.load.getName()).dim;
  StreamRow stream{stored.store.getStream(),
                   cast<CodecAttrInterface>(stored.quantize.getCodecAttr()),
                   stored.quantize.getPlanes().size(),
                   dim / kChannels,
                   {}};
  Value from = k.rowHead(isK ? kWordsOfK : kWordsOfV, kit.extI64(row),
                         kit.add(head, int64_t(k.store.getHeadBegin())));
  for (int64_t i = 0; i * kWarpLanes < stream.chunks; ++i) {
    // A lane beyond the row reads its last chunk again, which changes no
    // maximum, and stores nothing.
    Value chunk = chunkOf(i);
    if ((i + 1) * kWarpLanes > stream.chunks)
      chunk = kit.min(chunk, kit.i32(stream.chunks - 1));
    stream.channels.push_back(kit.loadAsF32(
        k.dtype, kit.ptr(from, kit.mul(chunk, kChannels * k.dtypeBytes())),
        kChannels));
  }
  return stream;
}

Value AppendKernel::target(unsigned index) {
  Kernel::Plane plane = k.plane(index);
  Value at = kit.ptr(plane.base, kit.mul(outer, plane.pageStride));
  at = kit.ptr(at, kit.mul(kit.extI64(head), plane.headStride));
  return kit.ptr(at, kit.mul(token, k.cache.planes()[index].rowStride));
}

/// Largest |x| of a row, on all lanes; NaN elements do not count.
Value AppendKernel::absmax(const StreamRow &row) {
  Value most = kit.constant(0, kit.vec(kChannels, kit.f32()));
  for (Value x : row.channels)
    most = kit.fmax(most, LLVM::FAbsOp::create(kit.b, kit.kernel, x));
  Value largest = kit.extract(most, 0);
  for (int64_t i = 1; i < kChannels; ++i)
    largest = kit.fmax(largest, kit.extract(most, i));
  for (int64_t mask = kWarpLanes / 2; mask; mask /= 2)
    largest = kit.fmax(largest, kit.shflXor(largest, mask));
  return largest;
}

void AppendKernel::storeRow(const StreamRow &row) {
  auto planes = k.cache.planes();
  unsigned codesPlane = k.cache.planeIndex(row.stream);
  int64_t chunkBytes =
      kChannels * planes[codesPlane].type.getIntOrFloatBitWidth() / 8;
  Value factor;
  if (row.planes > 1) {
    QuantizeScale scale = row.codec.emitScale(kit.b, kit.kernel, absmax(row));
    factor = scale.factor;
    kit.when(kit.cmp(arith::CmpIPredicate::eq, lane, kit.i32(0)), [&] {
      kit.store(scale.stored, target(codesPlane + 1),
                planes[codesPlane + 1].rowBytes);
    });
  }
  Value to = target(codesPlane);
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
  launch.threads = kThreads;
  auto rows = tile::storedRows(kernel.op);
  if (failed(rows))
    return failure();
  AppendKernel(kernel).emit(*rows);
  return success();
}
