//===- Host.cpp - caches, batches and tensors in host memory --------------===//
#include "lib/driver/Reference/Host.h"

#include "llvm/Support/MathExtras.h"

#include <cstring>

using namespace kvc;
using namespace kvc::reference;

Tensor::Tensor(llvm::ArrayRef<int64_t> shape, double fill) : shape(shape) {
  int64_t count = 1;
  for (int64_t dim : shape)
    count *= dim;
  data.assign(count, fill);
}

HostStream::HostStream(const HostCache &cache, llvm::StringRef stream)
    : info(cache.type.stream(stream)) {
  llvm::StringRef owner = cache.type.findStream(stream).getOwner();
  for (auto [geometry, at] : llvm::zip_equal(cache.type.planes(), cache.planes))
    if (geometry.stream == owner)
      parts.push_back({geometry, at});
}

void HostStream::dequantize(int64_t outer, int64_t head, int64_t token,
                            llvm::MutableArrayRef<float> to) const {
  llvm::SmallVector<const uint8_t *, 3> rows;
  for (size_t plane = 0; plane < parts.size(); ++plane)
    rows.push_back(row(plane, outer, head, token));
  info.codec.dequantizeRow(rows, to);
}

void HostStream::quantize(int64_t outer, int64_t head, int64_t token,
                          llvm::ArrayRef<float> rows) const {
  int64_t count = rows.size() / info.dim;
  // Of a row of codes; 0: all of the sequence's.
  int64_t each = parts.front().geometry.tokens;
  if (count == 1) {
    llvm::SmallVector<uint8_t *, 3> to;
    for (size_t plane = 0; plane < parts.size(); ++plane)
      to.push_back(row(plane, outer, head, token));
    return info.codec.quantizeRows(rows, 1, to);
  }
  // Rows of one head need not stand one after another in the cache.
  llvm::SmallVector<std::vector<uint8_t>, 3> dense;
  llvm::SmallVector<uint8_t *, 3> to;
  for (const Part &part : parts) {
    int64_t boxRows = count * each / part.geometry.tokens;
    dense.emplace_back(boxRows * part.geometry.rowBytes);
    to.push_back(dense.back().data());
  }
  info.codec.quantizeRows(rows, count, to);
  for (size_t plane = 0; plane < parts.size(); ++plane) {
    const PlaneGeometry &geometry = parts[plane].geometry;
    for (int64_t t = 0; t < count * each; t += geometry.tokens)
      std::memcpy(row(plane, outer, head, token + t),
                  &dense[plane][t / geometry.tokens * geometry.rowBytes],
                  geometry.rowBytes);
  }
}

HostArena::HostArena(CacheType type, int64_t outers, int64_t outerTokens,
                     uint8_t fill) {
  if (int64_t page = type.layout().getPageTokens())
    outerTokens = page;
  // Only here is a contiguous sequence's capacity known.
  auto rowsOf = [&](const PlaneGeometry &plane) {
    return plane.tokens ? llvm::divideCeil(outerTokens, plane.tokens) : 1;
  };
  llvm::SmallVector<int64_t> offsets;
  for (const PlaneGeometry &plane : type.planes()) {
    offsets.push_back(stride);
    stride += llvm::alignTo(plane.heads * rowsOf(plane) * plane.rowBytes,
                            kPlaneAlignment);
  }
  size = outers * stride;
  storage.assign(size + kPlaneAlignment, fill);
  base = reinterpret_cast<uint8_t *>(
      llvm::alignAddr(storage.data(), llvm::Align(kPlaneAlignment)));

  view.type = type;
  view.outers = outers;
  view.outerTokens = outerTokens;
  for (auto [plane, offset] : llvm::zip(type.planes(), offsets)) {
    int64_t headStride =
        plane.headStride ? plane.headStride : rowsOf(plane) * plane.rowStride;
    view.planes.push_back({base + offset, stride, headStride});
  }
}
