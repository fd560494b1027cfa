//===- Host.cpp - caches, batches and tensors in host memory --------------===//
#include "lib/Reference/Host.h"

#include "llvm/Support/MathExtras.h"

using namespace kvc;
using namespace kvc::reference;

Tensor::Tensor(llvm::ArrayRef<int64_t> shape, double fill) : shape(shape) {
  int64_t count = 1;
  for (int64_t dim : shape)
    count *= dim;
  data.assign(count, fill);
}

HostStream::HostStream(const HostCache &cache, llvm::StringRef stream)
    : info(cache.type.stream(stream)), codes{}, scales{}, codesStride(0),
      scalesStride(0), hasScales(info.codec.getScaleType() != nullptr) {
  auto planes = cache.type.planes();
  unsigned index = cache.type.planeIndex(stream, /*scales=*/false);
  codes = cache.planes[index];
  codesStride = planes[index].tokenStride;
  if (!hasScales)
    return;
  index = cache.type.planeIndex(stream, /*scales=*/true);
  scales = cache.planes[index];
  scalesStride = planes[index].tokenStride;
}

HostRow HostStream::row(int64_t outer, int64_t head, int64_t token) const {
  auto address = [&](const HostPlane &plane, int64_t tokenStride) {
    return plane.base + outer * plane.pageStride + head * plane.headStride +
           token * tokenStride;
  };
  return {address(codes, codesStride),
          hasScales ? address(scales, scalesStride) : nullptr};
}

static constexpr int64_t kAlignment = 64;

HostArena::HostArena(CacheType type, int64_t outers, int64_t outerTokens,
                     uint8_t fill) {
  if (int64_t page = type.layout().getPageTokens())
    outerTokens = page;
  llvm::SmallVector<int64_t> offsets;
  for (const PlaneGeometry &plane : type.planes()) {
    offsets.push_back(stride);
    int64_t rowBytes = plane.elements * plane.type.getIntOrFloatBitWidth() / 8;
    stride +=
        llvm::alignTo(type.getHeads() * outerTokens * rowBytes, kAlignment);
  }
  size = outers * stride;
  storage.assign(size + kAlignment, fill);
  base = reinterpret_cast<uint8_t *>(
      llvm::alignAddr(storage.data(), llvm::Align(kAlignment)));

  view.type = type;
  view.outers = outers;
  view.outerTokens = outerTokens;
  for (auto [plane, offset] : llvm::zip(type.planes(), offsets)) {
    // Only here is a contiguous sequence's capacity known.
    int64_t headStride =
        plane.headStride ? plane.headStride : outerTokens * plane.tokenStride;
    view.planes.push_back({base + offset, stride, headStride});
  }
}
