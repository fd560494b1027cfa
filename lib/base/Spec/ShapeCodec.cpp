//===- ShapeCodec.cpp - streams and their codecs out of a document --------===//
#include "lib/base/Spec/Fields.h"
#include "lib/base/Spec/Reader.h"
#include "lib/base/Spec/Shape.h"

#include "llvm/ADT/STLExtras.h"

using namespace kvc;
using namespace kvc::spec;
using llvm::StringRef;

/// Floats in the order of DType, integers of 1 to 8 bits, and floats of 8 bits
/// in the order of Fp8Codec::Format.
static constexpr Word kCodecs[] = {"f32",
                                   "f16",
                                   "bf16",
                                   {"int1", Version::V0_2},
                                   {"int2", Version::V0_2},
                                   {"int3", Version::V0_2},
                                   {"int4", Version::V0_2},
                                   {"int5", Version::V0_2},
                                   {"int6", Version::V0_2},
                                   {"int7", Version::V0_2},
                                   "int8",
                                   {"fp8_e4m3", Version::V0_2},
                                   {"fp8_e5m2", Version::V0_2}};
static constexpr unsigned kFloatCodecs = 3, kIntCodecs = 8;
/// Codecs that others have, and that a later version will.
static constexpr Word kLaterCodecs[] = {"uint2",  "uint4", "uint8", "fp4",
                                        "nvfp4",  "mxfp4", "mxfp6", "mxfp8",
                                        "mxint8", "nf4",   "e2m1"};

static constexpr Word kParameterTypes[] = {"f32", "f16"}; // as DType
static constexpr Word kScales[] = {"none", "f32", "f16"}; // then as DType
static constexpr Word kZeros[] = {"none", "min"};
/// Zeros that are not the least element: a float between codes, or a code.
static constexpr Word kLaterZeros[] = {"float", "int"};
static constexpr unsigned kGroups[] = {8, 16, 32, 64, 128, 256};

namespace {

/// Fills what a store says of its streams.
class StreamReader {
public:
  explicit StreamReader(Context &context) : context(context) {}

  void read(const Node &node, Store &store);

private:
  SourceLoc at(const Node &node) { return context.document.loc(node); }
  std::string example(const Node &node);

  void readStream(const Node &node, Stream &stream);
  void readCodec(const Node &node, Stream &stream);
  IntCodec readInt(const Node &node, unsigned bits, unsigned dim);
  Fp8Codec readFp8(const Node &node, Fp8Codec::Format format, unsigned dim);
  DType readType(const Node &node);
  std::optional<DType> readZero(const Node &node, DType scaleType);
  unsigned readGroup(const Node &node, unsigned dim);

  Context &context;
};

} // namespace

/// A stream with the codec that a string in its place names.
std::string StreamReader::example(const Node &node) {
  std::string codec = "int8";
  for (const Word &word : kCodecs)
    if (node.kind == Node::Kind::String && word.text == node.string &&
        word.since <= context.version && word.text != "int1")
      codec = node.string;
  return "{\"codec\": \"" + codec + "\"}";
}

DType StreamReader::readType(const Node &node) {
  return DType(readEnum(context, node, kParameterTypes).value_or(0));
}

std::optional<DType> StreamReader::readZero(const Node &node, DType scaleType) {
  std::optional<unsigned> kind = readKind(
      context, node, kZeros, R"({"kind": "min", "type": "f16"})", kLaterZeros);
  if (!kind)
    return std::nullopt;
  if (kZeros[*kind].text == "none") {
    Fields fields(context, node, {"kind"}, Fields::Form::ObjectOrKind);
    return std::nullopt;
  }
  Fields fields(context, node, {"kind", "type"}, Fields::Form::ObjectOrKind);
  const Node *type = fields.find("type");
  return type ? readType(*type) : scaleType;
}

/// 0, for the whole row, where it is that or cannot be read.
unsigned StreamReader::readGroup(const Node &node, unsigned dim) {
  std::vector<std::string> legal;
  for (unsigned group : kGroups)
    if (dim % group == 0) // 0: not known
      legal.push_back(std::to_string(group));
  std::string use =
      "use " +
      quoteAll(llvm::SmallVector<StringRef>(legal.begin(), legal.end()));
  if (dim)
    use += ", which divide the head dimension " + std::to_string(dim);
  use += "; without `group` it is the whole row";
  if (node.kind == Node::Kind::Object && node.find("tokens")) {
    Context::addHelp(context.error("E-NOT-IN-VERSION", at(*node.find("tokens")),
                                   "groups of several tokens are not in "
                                   "version " +
                                       kLanguageVersion.str() +
                                       " of the language"),
                     use);
    return 0;
  }
  if (node.kind != Node::Kind::Integer) {
    Context::addHelp(context.error("E-TYPE", at(node),
                                   "a group is a number of channels, found " +
                                       quote(context.document.text(node))),
                     use);
    return 0;
  }
  if (!llvm::is_contained(kGroups, node.integer)) {
    Context::addHelp(
        context.error("E-VALUE", at(node),
                      "a group has 8, 16, 32, 64, 128 or 256 channels, found " +
                          quote(context.document.text(node))),
        use);
    return 0;
  }
  if (dim % node.integer) {
    Context::addHelp(context.error("E-MULTIPLE", at(node),
                                   "a group divides the head dimension " +
                                       std::to_string(dim) + ", found " +
                                       quote(context.document.text(node))),
                     use);
    return 0;
  }
  return node.integer == dim ? 0 : unsigned(node.integer);
}

IntCodec StreamReader::readInt(const Node &node, unsigned bits, unsigned dim) {
  Fields fields(
      context, node,
      {"kind", "scale", {"zero", Version::V0_2}, {"group", Version::V0_2}},
      Fields::Form::ObjectOrKind);
  IntCodec quantised;
  quantised.bits = bits;
  if (const Node *scale = fields.find("scale"))
    quantised.scaleType = readType(*scale);
  unsigned errors = context.errorCount();
  const Node *zero = fields.find("zero");
  if (zero)
    quantised.zeroType = readZero(*zero, quantised.scaleType);
  if (bits == 1 && !quantised.zeroType && context.errorCount() == errors)
    Context::addHelp(
        context.error("E-VALUE", at(zero ? *zero : node),
                      "a code of `int1` has no room for a sign and a value"),
        R"(use `{"kind": "int1", "zero": "min"}`, or `int2`)");
  if (const Node *group = fields.find("group"))
    quantised.group = readGroup(*group, dim);
  return quantised;
}

Fp8Codec StreamReader::readFp8(const Node &node, Fp8Codec::Format format,
                               unsigned dim) {
  Fields fields(context, node, {"kind", "scale", "group"},
                Fields::Form::ObjectOrKind);
  Fp8Codec stored{format};
  bool known = true;
  if (const Node *scale = fields.find("scale")) {
    std::optional<unsigned> type = readEnum(context, *scale, kScales);
    known = type.has_value();
    if (type && *type)
      stored.scaleType = DType(*type - 1);
  }
  const Node *group = fields.find("group");
  if (!group)
    return stored;
  unsigned channels = readGroup(*group, dim);
  if (stored.scaleType)
    stored.group = channels;
  else if (known)
    Context::addHelp(
        context.error("E-CONFLICT", context.document.keyLoc(*group),
                      "the channels of a `group` share a scale, and there is "
                      "none"),
        R"(add `"scale": "f32"`, or leave `group` out)");
  return stored;
}

void StreamReader::readCodec(const Node &node, Stream &stream) {
  std::optional<unsigned> kind =
      readKind(context, node, kCodecs, "\"int8\"", kLaterCodecs);
  if (!kind)
    return;
  if (*kind >= kFloatCodecs + kIntCodecs) {
    auto format = Fp8Codec::Format(*kind - kFloatCodecs - kIntCodecs);
    stream.codec = readFp8(node, format, stream.dim);
    return;
  }
  if (*kind >= kFloatCodecs) {
    stream.codec = readInt(node, *kind - kFloatCodecs + 1, stream.dim);
    return;
  }
  Fields fields(context, node, {"kind"}, Fields::Form::ObjectOrKind);
  stream.codec = FloatCodec{DType(*kind)};
}

void StreamReader::readStream(const Node &node, Stream &stream) {
  Fields fields(context, node, {"codec"}, example(node));
  stream.loc = stream.codecLoc = at(node);
  if (const Node *codec = fields.find("codec")) {
    stream.codecLoc = at(*codec);
    readCodec(*codec, stream);
  }
}

void StreamReader::read(const Node &node, Store &store) {
  std::string one = example(node);
  Fields both(context, node, {"k", "v"},
              "{\"k\": " + one + ", \"v\": " + one + "}");
  if (const Node *k = both.find("k"))
    readStream(*k, store.k);
  if (const Node *v = both.find("v"))
    readStream(*v, store.v);
}

void spec::readStreams(Context &context, const Node &node, Store &store) {
  StreamReader(context).read(node, store);
}
