//===- KvcTypes.cpp - caches and batches ----------------------------------===//
#include "dialect/KvcDialect.h"

#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/DenseSet.h"
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

Type CacheType::parse(AsmParser &parser) {
  int64_t heads = 0;
  SmallVector<StreamAttr> streams;
  Attribute layout;
  if (parser.parseLess() || parser.parseKeyword("heads") ||
      parser.parseEqual() || parser.parseInteger(heads) || parser.parseComma())
    return {};
  while (failed(parser.parseOptionalKeyword("layout"))) {
    SMLoc loc = parser.getCurrentLocation();
    StringRef name;
    int64_t dim = 0;
    Attribute codec;
    if (parser.parseKeyword(&name) || parser.parseEqual() ||
        parser.parseInteger(dim) || parser.parseKeyword("by") ||
        parser.parseAttribute(codec) || parser.parseComma())
      return {};
    streams.push_back(
        StreamAttr::getChecked([&] { return parser.emitError(loc); },
                               parser.getContext(), name, dim, codec));
    if (!streams.back())
      return {};
  }
  if (parser.parseEqual() || parser.parseAttribute(layout) ||
      parser.parseGreater())
    return {};
  return CacheType::getChecked(
      [&] { return parser.emitError(parser.getNameLoc()); },
      parser.getContext(), heads, streams, layout);
}

void CacheType::print(AsmPrinter &printer) const {
  printer << "<heads = " << getHeads();
  for (StreamAttr stream : getStreams())
    printer << ", " << stream.getName() << " = " << stream.getDim() << " by "
            << stream.getCodec();
  printer << ", layout = " << getLayout() << ">";
}

LogicalResult CacheType::verify(function_ref<InFlightDiagnostic()> emitError,
                                int64_t heads, ArrayRef<StreamAttr> streams,
                                Attribute layout) {
  // The bound keeps strides far from overflow.
  if (heads < 1 || heads > 65536)
    return emitError() << "a cache has 1 to 65536 heads, found " << heads;
  llvm::SmallDenseSet<StringRef> names;
  for (StreamAttr stream : streams)
    if (!names.insert(stream.getName()).second)
      return emitError() << "a cache has each stream once, found `"
                         << stream.getName() << "` twice";
  if (!isa<LayoutAttrInterface>(layout))
    return emitError() << "expected a layout, found " << layout;
  return success();
}

StreamAttr CacheType::findStream(StringRef name) const {
  for (StreamAttr stream : getStreams())
    if (stream.getName() == name)
      return stream;
  return {};
}

StreamInfo CacheType::stream(StringRef name) const {
  StreamAttr stream = findStream(name);
  assert(stream && "the cache has no such stream");
  return {stream.getDim(), cast<CodecAttrInterface>(stream.getCodec())};
}

LayoutAttrInterface CacheType::layout() const {
  return cast<LayoutAttrInterface>(getLayout());
}

std::string PlaneGeometry::name() const {
  return (stream + "." + role()).str();
}

SmallVector<PlaneGeometry, 4> CacheType::planes() const {
  SmallVector<PlaneGeometry, 4> planes;
  auto add = [&](StringRef stream, bool scales, Type type, int64_t elements) {
    int64_t rowBytes = elements * type.getIntOrFloatBitWidth() / 8;
    planes.push_back({stream, scales, type, elements,
                      layout().getTokenStride(rowBytes, getHeads()),
                      layout().getHeadStride(rowBytes, getHeads())});
  };
  for (StreamAttr stream : getStreams()) {
    auto codec = cast<CodecAttrInterface>(stream.getCodec());
    add(stream.getName(), false, codec.getCodeType(), stream.getDim());
    if (Type scale = codec.getScaleType())
      add(stream.getName(), true, scale, 1);
  }
  return planes;
}

unsigned CacheType::planeIndex(StringRef stream, bool scales) const {
  for (auto [index, plane] : llvm::enumerate(planes()))
    if (plane.stream == stream && plane.scales == scales)
      return index;
  llvm_unreachable("the cache has no such plane");
}
