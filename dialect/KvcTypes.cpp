//===- KvcTypes.cpp - caches and batches ----------------------------------===//
#include "dialect/KvcDialect.h"

#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace kvc;

#define GET_TYPEDEF_CLASSES
#include "dialect/KvcTypes.cpp.inc"

void KvcDialect::registerTypes() {
  addTypes<
#define GET_TYPEDEF_LIST
#include "dialect/KvcTypes.cpp.inc"
      >();
}

bool kvc::isDtype(Type type) {
  return type.isF32() || type.isF16() || type.isBF16();
}

LogicalResult CacheType::verify(function_ref<InFlightDiagnostic()> emitError,
                                int64_t heads, int64_t dimK, Attribute codecK,
                                int64_t dimV, Attribute codecV,
                                Attribute layout) {
  // The bound keeps strides far from overflow.
  if (heads < 1 || heads > 65536)
    return emitError() << "a cache has 1 to 65536 heads, found " << heads;
  for (int64_t dim : {dimK, dimV})
    if (dim < 8 || dim > 576 || dim % 8)
      return emitError() << "a row has a multiple of 8 elements, 8 to 576; "
                         << "found " << dim;
  for (Attribute codec : {codecK, codecV})
    if (!isa<CodecAttrInterface>(codec))
      return emitError() << "expected a codec, found " << codec;
  if (!isa<LayoutAttrInterface>(layout))
    return emitError() << "expected a layout, found " << layout;
  return success();
}

StreamInfo CacheType::stream(StreamKind kind) const {
  return kind == StreamKind::K
             ? StreamInfo{getDimK(), cast<CodecAttrInterface>(getCodecK())}
             : StreamInfo{getDimV(), cast<CodecAttrInterface>(getCodecV())};
}

LayoutAttrInterface CacheType::layout() const {
  return cast<LayoutAttrInterface>(getLayout());
}

std::string PlaneGeometry::name() const {
  return (stringifyStreamKind(stream) + "." + role()).str();
}

SmallVector<PlaneGeometry, 4> CacheType::planes() const {
  SmallVector<PlaneGeometry, 4> planes;
  auto add = [&](StreamKind kind, bool scales, Type type, int64_t elements) {
    int64_t rowBytes = elements * type.getIntOrFloatBitWidth() / 8;
    planes.push_back({kind, scales, type, elements,
                      layout().getTokenStride(rowBytes, getHeads()),
                      layout().getHeadStride(rowBytes, getHeads())});
  };
  for (StreamKind kind : {StreamKind::K, StreamKind::V}) {
    StreamInfo info = stream(kind);
    add(kind, false, info.codec.getCodeType(), info.dim);
    if (Type scale = info.codec.getScaleType())
      add(kind, true, scale, 1);
  }
  return planes;
}

unsigned CacheType::planeIndex(StreamKind kind, bool scales) const {
  for (auto [index, plane] : llvm::enumerate(planes()))
    if (plane.stream == kind && plane.scales == scales)
      return index;
  llvm_unreachable("the cache has no such plane");
}
