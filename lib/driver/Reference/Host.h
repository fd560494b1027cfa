//===- Host.h - caches, batches and tensors in host memory ------*- C++ -*-===//
//
// What the interpreter computes on. Inputs and caches are views: the caller
// owns the memory, and may hand the same bytes to a kernel.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_LIB_DRIVER_REFERENCE_HOST_H
#define KVC_LIB_DRIVER_REFERENCE_HOST_H

#include "dialect/KvcDialect.h"

#include <vector>

namespace kvc::reference {

/// A read-only view of rows as the model gives them, [rows, heads, dim] dense:
/// the stored bits of the model's dtype widened to f32, which is exact.
struct Rows {
  llvm::ArrayRef<float> data;
  int64_t rows = 0, heads = 0, dim = 0;

  llvm::ArrayRef<float> row(int64_t row, int64_t head) const {
    return data.slice((row * heads + head) * dim, dim);
  }
};

/// Tokens [begin, end).
struct Span {
  int64_t begin = 0, end = 0;
};

/// A dense row-major result in float64.
struct Tensor {
  llvm::SmallVector<int64_t, 4> shape;
  std::vector<double> data;

  Tensor() = default;
  Tensor(llvm::ArrayRef<int64_t> shape, double fill);
};

/// Where one plane stands. Address of (page, head, row) = base + page *
/// pageStride + head * headStride + row * the plane's row stride, where a
/// sequence's slot is its page if the layout is contiguous.
struct HostPlane {
  uint8_t *base;
  int64_t pageStride, headStride; ///< bytes
};

/// A view of one layer's part of a store. Plane i is plane i of
/// `type.planes()`, which also gives its row stride.
struct HostCache {
  CacheType type;
  llvm::SmallVector<HostPlane, 4> planes;
  int64_t outers = 0;      ///< pages of the pool, or slots for sequences
  int64_t outerTokens = 0; ///< tokens of a page, or capacity of a slot
};

/// Where the rows of one stream stand in a cache.
class HostStream {
public:
  HostStream(const HostCache &cache, llvm::StringRef stream);

  int64_t dim() const { return info.dim; }
  const CodecAttrInterface &codec() const { return info.codec; }
  size_t planes() const { return parts.size(); }
  const PlaneGeometry &plane(size_t index) const {
    return parts[index].geometry;
  }
  /// The row of a plane that has token `token` of page or slot `outer`, at kv
  /// head `head` (from the store's first). All must be in range.
  uint8_t *row(size_t plane, int64_t outer, int64_t head, int64_t token) const {
    const Part &part = parts[plane];
    int64_t tokens = part.geometry.tokens;
    return part.at.base + outer * part.at.pageStride +
           head * part.at.headStride +
           (tokens ? token / tokens : 0) * part.geometry.rowStride;
  }
  void dequantize(int64_t outer, int64_t head, int64_t token,
                  llvm::MutableArrayRef<float> row) const;
  /// Quantizes rows from that of token `token` on: one, or whole boxes of the
  /// codec.
  void quantize(int64_t outer, int64_t head, int64_t token,
                llvm::ArrayRef<float> rows) const;

private:
  struct Part {
    PlaneGeometry geometry;
    HostPlane at;
  };
  StreamInfo info;
  llvm::SmallVector<Part, 3> parts;
};

/// Where a query token stands in its sequence.
struct QueryPlace {
  int64_t position = 0;
  int64_t context = 0;     ///< tokens that the step found cached
  int64_t length = 0;      ///< tokens that are cached, its own included
  int64_t constantRow = 0; ///< row of the constants that each sequence has
};

/// A view of the sequences of one step, in the form that kernels take them.
struct HostBatch {
  llvm::ArrayRef<int32_t> cuQ;   ///< [batch + 1] offsets into the rows of q
  llvm::ArrayRef<int32_t> kvLen; ///< [batch] cached tokens, queries included
  /// [batch][tableStride] page ids, or with tableStride 1 the slot of each
  /// sequence. Entries past a sequence's last token are never read.
  llvm::ArrayRef<int32_t> table;
  int64_t tableStride = 0;
  /// [batch]: whose row of the constants that each sequence has; empty: its own
  /// number's.
  llvm::ArrayRef<int64_t> constantRows = {};

  int64_t sequences() const { return kvLen.size(); }
  int64_t queries(int64_t b) const { return cuQ[b + 1] - cuQ[b]; }
  /// Of query token `query` of sequence `b`.
  QueryPlace place(int64_t b, int64_t query) const {
    int64_t context = kvLen[b] - queries(b);
    return {context + query, context, kvLen[b],
            constantRows.empty() ? b : constantRows[b]};
  }
};

/// Memory for the cache of one layer, in the geometry of the runtime: outer
/// after outer, each its planes in order, every plane and outer 64-byte
/// aligned.
class HostArena {
public:
  /// All bytes are `fill`. `outerTokens` is the capacity of a slot where the
  /// layout is contiguous; a paged layout knows its own.
  HostArena(CacheType type, int64_t outers, int64_t outerTokens = 0,
            uint8_t fill = 0);
  // The view points into the storage.
  HostArena(const HostArena &) = delete;
  HostArena(HostArena &&) = default;

  HostCache &cache() { return view; }
  llvm::MutableArrayRef<uint8_t> bytes() { return {base, size}; }
  int64_t outerBytes() const { return stride; }

private:
  HostCache view;
  std::vector<uint8_t> storage;
  uint8_t *base = nullptr;
  size_t size = 0;
  int64_t stride = 0;
};

} // namespace kvc::reference

#endif // KVC_LIB_DRIVER_REFERENCE_HOST_H
