//===- Append.cpp - rows encoded into the cache ---------------------------===//
//
// One warp per (row, kv head). A lane holds whole chunks of 8 channels, loaded
// once for both the row's largest element and the encoding.
//
//===----------------------------------------------------------------------===//
#include "codegen/nvptx/Kernel.h"

#include <cstddef>

using namespace mlir;
using namespace kvc;
using namespace kvc::nvptx;

namespace {

constexpr int64_t kThreads = 128;
constexpr int64_t kChannels = 8; ///< of a chunk; dims are multiples of it

/// What a lane holds of a stream's row.
struct StreamRow {
  StreamKind kind;
  CodecAttrInterface codec;
  int64_t chunks;              ///< of the row
  SmallVector<Value> channels; ///< of its chunks lane, lane + 32, ...
};

class AppendKernel {
public:
  explicit AppendKernel(Kernel &k) : k(k), kit(k.kit) {}
  LogicalResult emit(tile::ForRowsOp loop);

private:
  void emitRow(ArrayRef<tile::EncodeOp> encodes, Value row, Value slot);
  StreamRow loadRow(tile::EncodeOp encode, Value row);
  void storeRow(const StreamRow &row);
  Value target(unsigned plane);
  Value absmax(const StreamRow &row);
  /// The lane's chunk `i` of the row, which may be beyond its last.
  Value chunkOf(int64_t i) { return kit.add(lane, i * kWarpLanes); }

  Kernel &k;
  Kit &kit;
  Value lane, head, outer, token;
};

LogicalResult AppendKernel::emit(tile::ForRowsOp loop) {
  for (Operation &op : loop.getBody().front().without_terminator()) {
    if (!isa<tile::LoadRowOp, tile::EncodeOp, tile::StoreRowOp>(op))
      return op.emitError("the GPU target has no append with this op");
    if (auto encode = dyn_cast<tile::EncodeOp>(op))
      if (!encode.getX().getDefiningOp<tile::LoadRowOp>())
        return op.emitError("the GPU target encodes loaded rows only");
  }
  auto encodes =
      llvm::to_vector(loop.getBody().front().getOps<tile::EncodeOp>());
  lane = k.lane();
  Value warp = k.gridWarp(kThreads / kWarpLanes);
  Value row = kit.div(warp, k.kvHeads());
  head = kit.sub(warp, kit.mul(row, k.kvHeads()));
  Value rows = k.paramI32(offsetof(KvcGpuAppendParams, rows));
  kit.when(kit.cmp(arith::CmpIPredicate::ult, row, rows), [&] {
    Value slots = k.paramPtr(offsetof(KvcAppendArgs, slot));
    Value slot = kit.loadConst(kit.b.getI64Type(),
                               kit.ptr(slots, kit.mul(kit.wide(row), 8)), 8);
    kit.when(kit.cmp(arith::CmpIPredicate::sge, slot, kit.i64(0)),
             [&] { emitRow(encodes, row, slot); });
  });
  return success();
}

void AppendKernel::emitRow(ArrayRef<tile::EncodeOp> encodes, Value row,
                           Value slot) {
  int64_t page = k.cache.layout().getPageTokens();
  Value slotTokens =
      page ? kit.i64(page) : k.paramI64(offsetof(KvcAppendArgs, slot_tokens));
  outer = page ? kit.div(slot, page) : kit.div(slot, slotTokens);
  token = kit.sub(slot, kit.mul(outer, slotTokens));
  // All loads before the first use: K and V are under way together.
  SmallVector<StreamRow, 2> streams;
  for (tile::EncodeOp encode : encodes)
    streams.push_back(loadRow(encode, row));
  for (const StreamRow &stream : streams)
    storeRow(stream);
}

StreamRow AppendKernel::loadRow(tile::EncodeOp encode, Value row) {
  StreamKind kind = encode.getX().getDefiningOp<tile::LoadRowOp>().getStream();
  int64_t dim = k.cache.stream(kind).dim;
  StreamRow stream{kind,
                   cast<CodecAttrInterface>(encode.getCodecAttr()),
                   dim / kChannels,
                   {}};
  bool isK = kind == StreamKind::K;
  Value base =
      k.paramPtr(isK ? offsetof(KvcAppendArgs, k) : offsetof(KvcAppendArgs, v));
  Value stride = k.paramI64(isK ? offsetof(KvcAppendArgs, k_row_stride)
                                : offsetof(KvcAppendArgs, v_row_stride));
  Value modelHead = kit.add(head, int64_t(k.store.getHeadBegin()));
  Value from = kit.ptr(base, kit.mul(kit.wide(row), stride));
  from = kit.ptr(from, kit.mul(modelHead, dim * k.dtypeBytes()));
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
  Kernel::Plane plane = k.plane(offsetof(KvcAppendArgs, planes), index);
  Value at = kit.ptr(plane.base, kit.mul(outer, plane.outerStride));
  at = kit.ptr(at, kit.mul(kit.wide(head), plane.headStride));
  return kit.ptr(at, kit.mul(token, k.cache.planes()[index].tokenStride));
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
  int64_t chunkBytes =
      kChannels * row.codec.getCodeType().getIntOrFloatBitWidth() / 8;
  Value factor;
  if (Type scaleType = row.codec.getScaleType()) {
    EncodeScale scale = row.codec.emitScale(kit.b, kit.kernel, absmax(row));
    factor = scale.factor;
    kit.when(kit.cmp(arith::CmpIPredicate::eq, lane, kit.i32(0)), [&] {
      kit.store(scale.stored, target(k.cache.planeIndex(row.kind, true)),
                scaleType.getIntOrFloatBitWidth() / 8);
    });
  }
  Value to = target(k.cache.planeIndex(row.kind, false));
  // Rows are whole chunks, so no chunk is aligned to less.
  unsigned align = std::min<int64_t>(16, chunkBytes);
  for (auto [i, x] : llvm::enumerate(row.channels)) {
    Value chunk = chunkOf(i);
    Value codes = row.codec.emitEncode(kit.b, kit.kernel, x, factor);
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
  for (Operation &op : kernel.op.getBody().front()) {
    auto loop = dyn_cast<tile::ForRowsOp>(op);
    if (!loop)
      return op.emitError("the GPU target has no append with this op");
    if (failed(AppendKernel(kernel).emit(loop)))
      return failure();
  }
  return success();
}
