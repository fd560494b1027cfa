//===- ShapeCodec.cpp - streams and their codecs out of a document --------===//
#include "lib/base/Spec/Fields.h"
#include "lib/base/Spec/Reader.h"
#include "lib/base/Spec/Shape.h"

#include "llvm/ADT/STLExtras.h"

using namespace kvc;
using namespace kvc::spec;
using llvm::StringRef;

/// Floats in the order of DType, integers of 1 to 8 bits, and narrower floats
/// in the order of MinifloatCodec::Format.
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
                                   {"fp8_e5m2", Version::V0_2},
                                   {"fp4_e2m1", Version::V0_2}};
static constexpr unsigned kFloatCodecs = 3, kIntCodecs = 8;
/// Codecs that others have, and that a later version will.
static constexpr Word kLaterCodecs[] = {"uint2", "uint4",  "uint8",
                                        "mxfp6", "mxint8", "nf4"};

/// Names of a codec with its parameters, and how a spec says them.
static constexpr struct {
  llvm::StringLiteral name, codec;
} kNamed[] = {
    {"mxfp4", R"({"kind": "fp4_e2m1", "scale": "e8m0", "group": 32})"},
    {"nvfp4", R"({"kind": "fp4_e2m1", "scale": "e4m3", "group": 16})"},
    {"mxfp8", R"({"kind": "fp8_e4m3", "scale": "e8m0", "group": 32})"},
    {"mxfp8_e4m3", R"({"kind": "fp8_e4m3", "scale": "e8m0", "group": 32})"},
    {"mxfp8_e5m2", R"({"kind": "fp8_e5m2", "scale": "e8m0", "group": 32})"},
};

static constexpr Word kParameterTypes[] = {"f32", "f16"}; // as ParameterType
/// None, then as ParameterType.
static constexpr Word kScales[] = {"none", "f32", "f16", "e4m3", "e8m0"};
static constexpr Word kZeros[] = {"none", "min", "float"};
/// Zeros that are codes.
static constexpr Word kLaterZeros[] = {"int"};
static constexpr Word kRanges[] = {"absmax", "extreme"};
static constexpr Word kQuantizedBy[] = {"stored", "exact"};
static constexpr Word kRoundings[] = {"even", "half_up", "half_away"};
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
  void readValues(const Node &node, Store &store);
  bool isBeginningOfK(const Node &of, const Store &store);
  bool isNamed(const Node &node);
  void readCodec(const Node &node, Stream &stream);
  IntCodec readInt(const Node &node, unsigned bits, unsigned dim);
  MinifloatCodec readMinifloat(const Node &node, MinifloatCodec::Format format,
                               unsigned dim);
  ParameterType readType(const Node &node);
  void readZero(const Node &node, IntCodec &quantised);
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

ParameterType StreamReader::readType(const Node &node) {
  return ParameterType(readEnum(context, node, kParameterTypes).value_or(0));
}

void StreamReader::readZero(const Node &node, IntCodec &quantised) {
  std::optional<unsigned> kind = readKind(
      context, node, kZeros, R"({"kind": "min", "type": "f16"})", kLaterZeros);
  if (!kind)
    return;
  if (kZeros[*kind].text == "none") {
    Fields fields(context, node, {"kind"}, Fields::Form::ObjectOrKind);
    return;
  }
  Fields fields(context, node, {"kind", "type"}, Fields::Form::ObjectOrKind);
  const Node *type = fields.find("type");
  quantised.zeroType = type ? readType(*type) : quantised.scaleType;
  quantised.zeroBetweenCodes = kZeros[*kind].text == "float";
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
  Fields fields(context, node,
                {"kind",
                 "scale",
                 {"zero", Version::V0_2},
                 {"group", Version::V0_2},
                 {"range", Version::V0_2},
                 {"quantize_by", Version::V0_2},
                 {"rounding", Version::V0_2}},
                Fields::Form::ObjectOrKind);
  IntCodec quantised;
  quantised.bits = bits;
  if (const Node *scale = fields.find("scale"))
    quantised.scaleType = readType(*scale);
  unsigned errors = context.errorCount();
  const Node *zero = fields.find("zero");
  if (zero)
    readZero(*zero, quantised);
  if (bits == 1 && !quantised.zeroType && context.errorCount() == errors)
    Context::addHelp(
        context.error("E-VALUE", at(zero ? *zero : node),
                      "a code of `int1` has no room for a sign and a value"),
        R"(use `{"kind": "int1", "zero": "min"}`, or `int2`)");
  if (const Node *group = fields.find("group"))
    quantised.group = readGroup(*group, dim);
  if (const Node *range = fields.find("range")) {
    quantised.extreme = readEnum(context, *range, kRanges) == 1;
    if (quantised.zeroType)
      Context::addHelp(
          context.error("E-CONFLICT", context.document.keyLoc(*range),
                        "with a zero the range of a group is from its least "
                        "element to its largest"),
          R"(leave `range` out, or write `"zero": "none"`)");
  }
  if (const Node *by = fields.find("quantize_by"))
    quantised.exact = readEnum(context, *by, kQuantizedBy) == 1;
  if (const Node *rounding = fields.find("rounding"))
    quantised.rounding = IntCodec::Rounding(
        readEnum(context, *rounding, kRoundings).value_or(0));
  return quantised;
}

MinifloatCodec StreamReader::readMinifloat(const Node &node,
                                           MinifloatCodec::Format format,
                                           unsigned dim) {
  Fields fields(context, node, {"kind", "scale", "group"},
                Fields::Form::ObjectOrKind);
  MinifloatCodec stored{format};
  bool known = true;
  if (const Node *scale = fields.find("scale")) {
    std::optional<unsigned> type = readEnum(context, *scale, kScales);
    known = type.has_value();
    if (type && *type)
      stored.scaleType = ParameterType(*type - 1);
    if (stored.scaleType == ParameterType::E4M3 &&
        format != MinifloatCodec::Format::E2M1)
      Context::addHelp(
          context.error("E-CONFLICT", at(*scale),
                        "scales of `" + std::string(name(format)) +
                            "` are mostly too small for `e4m3`, which begins "
                            "at 2^-9"),
          "use \"e8m0\", \"f16\" or \"f32\", or `fp4_e2m1`");
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

/// Whether `node` is a name for which there is a codec with parameters, which
/// the error says.
bool StreamReader::isNamed(const Node &node) {
  const Node *kind =
      node.kind == Node::Kind::Object ? node.find("kind") : &node;
  if (!kind || kind->kind != Node::Kind::String ||
      context.version < Version::V0_2)
    return false;
  for (const auto &[name, codec] : kNamed)
    if (kind->string == name) {
      Context::addHelp(
          context.error("E-VALUE", at(*kind),
                        quote(name) + " is a codec with its scale and group"),
          "write `" + codec.str() + "`");
      return true;
    }
  return false;
}

void StreamReader::readCodec(const Node &node, Stream &stream) {
  if (isNamed(node))
    return;
  std::optional<unsigned> kind =
      readKind(context, node, kCodecs, "\"int8\"", kLaterCodecs);
  if (!kind)
    return;
  if (*kind >= kFloatCodecs + kIntCodecs) {
    auto format = MinifloatCodec::Format(*kind - kFloatCodecs - kIntCodecs);
    stream.codec = readMinifloat(node, format, stream.dim);
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

/// Whether rows of V may be the beginnings of rows of K, as `of` says.
bool StreamReader::isBeginningOfK(const Node &of, const Store &store) {
  unsigned k = store.k.dim, v = store.v.dim;
  if (!readEnum(context, of, {"k"}) || !k || !v) // 0: not known
    return false;
  auto dims = [&] {
    return " V has " + std::to_string(v) + " channels and K " +
           std::to_string(k);
  };
  if (v > k) {
    context.error("E-CONFLICT", at(of),
                  "rows of V that are the beginnings of rows of K are no "
                  "longer than those, found" +
                      dims());
    return false;
  }
  unsigned group = std::visit(
      [](const auto &codec) {
        if constexpr (requires { codec.group; })
          return codec.group;
        else
          return 0u;
      },
      store.k.codec);
  if (group && v % group) {
    context.error("E-MULTIPLE", at(of),
                  "V is made of whole groups of K's channels, of " +
                      std::to_string(group) + " each, found" + dims());
    return false;
  }
  return true;
}

/// V has a codec, or is of K.
void StreamReader::readValues(const Node &node, Store &store) {
  const Node *of = node.kind == Node::Kind::Object ? node.find("of") : nullptr;
  if (!of)
    return readStream(node, store.v);
  Fields fields(context, node, {"codec", {"of", Version::V0_2}}, example(node));
  store.v.loc = store.v.codecLoc = at(node);
  if (context.version < Version::V0_2)
    return;
  if (const Node *codec = fields.find("codec"))
    Context::addHelp(context.error("E-CONFLICT",
                                   context.document.keyLoc(*codec),
                                   "V that is of K has the codec of K"),
                     "leave `codec` out, or `of`");
  if (!isBeginningOfK(*of, store))
    return;
  store.v.ofK = true;
  store.v.codec = store.k.codec;
}

void StreamReader::read(const Node &node, Store &store) {
  std::string one = example(node);
  Fields both(context, node, {"k", "v"},
              "{\"k\": " + one + ", \"v\": " + one + "}");
  if (const Node *k = both.find("k"))
    readStream(*k, store.k);
  if (const Node *v = both.find("v"))
    readValues(*v, store);
}

void spec::readStreams(Context &context, const Node &node, Store &store) {
  StreamReader(context).read(node, store);
}
