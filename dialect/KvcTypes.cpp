//===- KvcTypes.cpp - caches and batches ----------------------------------===//
#include "dialect/KvcDialect.h"

#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/DenseSet.h"
#include "llvm/ADT/TypeSwitch.h"
#include "llvm/Support/MathExtras.h"

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

bool kvc::isCodeFloat(Type type) {
  return isDtype(type) ||
         isa<Float8E4M3FNType, Float8E5M2Type, Float4E2M1FNType>(type);
}

std::string PlaneGeometry::name() const { return (stream + "." + role).str(); }

int64_t PlaneGeometry::pageEnd() const {
  return pageOffset +
         llvm::alignTo(heads * pageRows * rowBytes, kPlaneAlignment);
}

/// The one place that says where rows stand.
static SmallVector<PlaneGeometry, 4> planesOf(int64_t heads,
                                              ArrayRef<StreamAttr> streams,
                                              LayoutAttrInterface layout) {
  SmallVector<PlaneGeometry, 4> planes;
  int64_t page = layout.getPageTokens(), offset = 0;
  for (StreamAttr stream : streams) {
    if (stream.getOf())
      continue;
    auto codec = cast<CodecAttrInterface>(stream.getCodec());
    for (const CodecPlane &kept : codec.getPlanes(stream.getDim())) {
      PlaneGeometry &plane = planes.emplace_back();
      plane.stream = stream.getName();
      plane.role = kept.role;
      plane.type = kept.type;
      plane.elements = kept.elements;
      plane.tokens = stream.getTokens() * kept.tokens;
      plane.heads = heads;
      plane.rowBytes = kept.elements * kept.type.getIntOrFloatBitWidth() / 8;
      if (page)
        plane.pageRows = plane.tokens ? page / plane.tokens : 1;
      plane.rowStride = layout.getRowStride(plane.rowBytes, heads);
      plane.headStride = layout.getHeadStride(plane.rowBytes, plane.pageRows);
      plane.pageOffset = offset;
      offset = plane.pageEnd();
    }
  }
  return planes;
}

static StreamAttr findIn(ArrayRef<StreamAttr> streams, StringRef name) {
  for (StreamAttr stream : streams)
    if (stream.getName() == name)
      return stream;
  return {};
}

/// Parses what stands behind a stream's name: `512 of k`, or `64 by CODEC` with
/// `per TOKENS` or `per sequence`.
static StreamAttr parseStream(AsmParser &parser, StringRef name,
                              ArrayRef<StreamAttr> others) {
  SMLoc loc = parser.getCurrentLocation();
  int64_t dim = 0, tokens = 1;
  Attribute codec;
  StringAttr of;
  if (parser.parseEqual() || parser.parseInteger(dim))
    return {};
  if (succeeded(parser.parseOptionalKeyword("of"))) {
    StringRef word;
    if (parser.parseKeyword(&word))
      return {};
    StreamAttr owner = findIn(others, word);
    if (!owner) {
      parser.emitError(loc)
          << "expected an earlier stream behind `of`, found `" << word << "`";
      return {};
    }
    of = StringAttr::get(parser.getContext(), word);
    codec = owner.getCodec();
    tokens = owner.getTokens();
  } else {
    if (parser.parseKeyword("by") || parser.parseAttribute(codec))
      return {};
    if (succeeded(parser.parseOptionalKeyword("per"))) {
      if (succeeded(parser.parseOptionalKeyword("sequence")))
        tokens = 0;
      else if (parser.parseInteger(tokens))
        return {};
    }
  }
  return StreamAttr::getChecked([&] { return parser.emitError(loc); },
                                parser.getContext(), name, dim, codec, tokens,
                                of);
}

Type CacheType::parse(AsmParser &parser) {
  int64_t heads = 0;
  SmallVector<StreamAttr> streams;
  Attribute layout;
  if (parser.parseLess() || parser.parseKeyword("heads") ||
      parser.parseEqual() || parser.parseInteger(heads) || parser.parseComma())
    return {};
  while (failed(parser.parseOptionalKeyword("layout"))) {
    StringRef name;
    if (parser.parseKeyword(&name))
      return {};
    StreamAttr stream = parseStream(parser, name, streams);
    if (!stream || parser.parseComma())
      return {};
    streams.push_back(stream);
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
  for (StreamAttr stream : getStreams()) {
    printer << ", " << stream.getName() << " = " << stream.getDim();
    if (stream.getOf()) {
      printer << " of " << stream.getOwner();
      continue;
    }
    printer << " by " << stream.getCodec();
    if (stream.getTokens() == 0)
      printer << " per sequence";
    else if (stream.getTokens() != 1)
      printer << " per " << stream.getTokens();
  }
  printer << ", layout = " << getLayout() << ">";
}

/// Checks a stream that is the beginning of rows of another, `of`.
static LogicalResult verifyView(function_ref<InFlightDiagnostic()> emitError,
                                StreamAttr stream, StreamAttr of) {
  auto refuse = [&] {
    return emitError() << "`" << stream.getName() << "` is of `"
                       << stream.getOwner() << "`, ";
  };
  if (!of)
    return refuse() << "which is no earlier stream";
  if (of.getOf())
    return refuse() << "which is of `" << of.getOwner() << "` itself";
  if (stream.getCodec() != of.getCodec() ||
      stream.getTokens() != of.getTokens())
    return refuse() << "so it has the codec and the tokens of that";
  int64_t dim = stream.getDim(), all = of.getDim();
  if (dim > all)
    return refuse() << "whose rows have " << all << " elements, found " << dim;
  return success();
}

LogicalResult CacheType::verify(function_ref<InFlightDiagnostic()> emitError,
                                int64_t heads, ArrayRef<StreamAttr> streams,
                                Attribute layout) {
  // The bound keeps strides far from overflow.
  if (heads < 1 || heads > 65536)
    return emitError() << "a cache has 1 to 65536 heads, found " << heads;
  llvm::SmallDenseSet<StringRef> names;
  for (auto [index, stream] : llvm::enumerate(streams)) {
    if (!names.insert(stream.getName()).second)
      return emitError() << "a cache has each stream once, found `"
                         << stream.getName() << "` twice";
    if (stream.getOf() && failed(verifyView(emitError, stream,
                                            findIn(streams.take_front(index),
                                                   stream.getOwner()))))
      return failure();
  }
  auto known = dyn_cast<LayoutAttrInterface>(layout);
  if (!known)
    return emitError() << "expected a layout, found " << layout;
  for (const PlaneGeometry &plane : planesOf(heads, streams, known))
    if (plane.tokens > 1 && known.getPageTokens() % plane.tokens)
      return emitError() << "a row of `" << plane.name() << "` stands for "
                         << plane.tokens << " tokens, which must divide pages "
                         << "of " << known.getPageTokens();
  return success();
}

StreamAttr CacheType::findStream(StringRef name) const {
  return findIn(getStreams(), name);
}

StreamInfo StreamInfo::ofF32(MLIRContext *context, int64_t dim) {
  return {dim, cast<CodecAttrInterface>(
                   FloatCodecAttr::get(context, Float32Type::get(context)))};
}

bool StreamInfo::isMultipliedAsCodes() const {
  SmallVector<CodecPlane, 3> planes = this->planes();
  bool folds =
      planes.size() == 1 ||
      (planes.size() == 2 && planes[1].tokens == 1 && planes[1].elements == 1 &&
       isDtype(planes[1].type) && !codec.hasSignedScales());
  return folds && planes[0].type.getIntOrFloatBitWidth() >= 8;
}

StreamInfo CacheType::stream(StringRef name) const {
  StreamAttr stream = findStream(name);
  assert(stream && "the cache has no such stream");
  return {stream.getDim(), cast<CodecAttrInterface>(stream.getCodec())};
}

LayoutAttrInterface CacheType::layout() const {
  return cast<LayoutAttrInterface>(getLayout());
}

SmallVector<PlaneGeometry, 4> CacheType::planes() const {
  return planesOf(getHeads(), getStreams(), layout());
}

unsigned CacheType::planeIndex(StringRef stream) const {
  unsigned index = 0;
  StringRef owner = findStream(stream).getOwner();
  for (StreamAttr other : getStreams()) {
    if (other.getName() == owner)
      return index;
    if (other.getOf())
      continue;
    auto codec = cast<CodecAttrInterface>(other.getCodec());
    index += codec.getPlanes(other.getDim()).size();
  }
  llvm_unreachable("the cache has no such stream");
}

int64_t CacheType::pageBytes() const {
  SmallVector<PlaneGeometry, 4> all = planes();
  return all.empty() ? 0 : all.back().pageEnd();
}
