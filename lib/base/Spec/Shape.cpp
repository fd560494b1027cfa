//===- Shape.cpp - model and stores out of a document ---------------------===//
#include "lib/base/Spec/Shape.h"
#include "lib/base/Spec/Fields.h"
#include "lib/base/Spec/Reader.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/Twine.h"

#include <cmath>

using namespace kvc;
using namespace kvc::spec;
using llvm::StringLiteral;
using llvm::StringRef;

static constexpr Word kDTypes[] = {"f32", "f16", "bf16"};
static constexpr Word kLayouts[] = {"paged", "contiguous"};
static constexpr Word kOrders[] = {"HND", "NHD"};
static constexpr Word kReads[] = {"all", "window"};

static constexpr Word kTopKeys[] = {
    "$schema", "kvc",    "name",  "model",
    "streams", "layout", "reads", {"attend", Version::V0_2},
    "stores"};
static constexpr Word kModelKeys[] = {
    "layers", "q_heads",       "kv_heads",     "head_dim",
    "dtype",  "softmax_scale", "logit_softcap"};
static constexpr Word kStoreKeys[] = {
    "name", "scope", "streams", "layout", "reads", {"attend", Version::V0_2}};

static constexpr StringLiteral kStoreExample =
    R"({"name": "full", "scope": {"layers": [0, 16]}})";

static constexpr unsigned kMaxLayers = 1024, kMaxHeads = 1024;
static constexpr unsigned kMinDim = 8, kMaxDim = 576, kDimStep = 8;
static constexpr unsigned kMaxPage = 256, kMaxStores = 256;
/// Of lists of layers: the canonical text, which writes out every default, must
/// pass the gate as well.
static constexpr size_t kMaxListed = 65536;
static constexpr unsigned kMaxTokens = INT32_MAX;
static constexpr double kMinScale = 1e-6, kMaxScale = 1e6;

namespace {

/// Fills a spec from a document. A field that cannot be read keeps its zero.
class ShapeReader {
public:
  ShapeReader(Context &context, Spec &spec)
      : context(context), spec(spec), model(spec.model) {}

  void readTop(const Node &root);

private:
  SourceLoc at(const Node &node) { return context.document.loc(node); }
  void readInto(unsigned &field, const Node *node, unsigned low, unsigned high);

  void readVersion(const Node &node);
  void readModel(const Node &node);
  unsigned readDim(const Node &node);
  void readHeadDim(const Node &node);
  void readStores(const Node &node);
  void readStore(const Node &node, Store &store);
  void readCaching(const Fields &fields, Store &store);
  void readScope(const Node &node, Scope &scope);
  void readLayers(const Node &node, std::vector<unsigned> &layers);
  void readLayerSteps(const Node &node, std::vector<unsigned> &layers);
  void readLayerList(const Node &node, std::vector<unsigned> &layers);
  bool checkOrder(const Node &node, unsigned begin, unsigned end,
                  const std::string &help = "");
  bool readRange(const Node &node, unsigned &begin, unsigned &end,
                 unsigned limit, const std::string &others = "");
  void readLayout(const Node &node, Layout &layout);
  void readRead(const Node &node, Read &read);

  Context &context;
  Spec &spec;
  Model &model;
  size_t listed = 0; ///< layers in lists, of all stores
};

} // namespace

void ShapeReader::readInto(unsigned &field, const Node *node, unsigned low,
                           unsigned high) {
  if (node)
    field = readInteger(context, *node, low, high).value_or(0);
}

void ShapeReader::readVersion(const Node &node) {
  std::vector<std::string> texts;
  for (const auto &[index, version] : llvm::enumerate(kVersions)) {
    if (node.kind == Node::Kind::String && node.string == version) {
      context.version = Version(index);
      return;
    }
    texts.push_back("\"" + version.str() + "\"");
  }
  Diagnostic &diagnostic = context.error(
      "E-VERSION", at(node),
      "expected a version of the language, " +
          quoteAll(llvm::SmallVector<StringRef>(texts.begin(), texts.end())) +
          ", found " + quote(context.document.text(node)));
  Context::addHelp(diagnostic, "use " + quote(texts.back()));
}

/// Where messages about the one store point that has no object of its own: what
/// is said of it, or else whom it serves.
static const Node &implicitStore(const Node &root) {
  for (const char *key : {"streams", "layout", "reads", "model"})
    if (const Node *node = root.find(key))
      return *node;
  return root;
}

void ShapeReader::readTop(const Node &root) {
  // First: which keys there are depends on it.
  if (const Node *version = root.find("kvc"))
    readVersion(*version);
  Fields top(context, root, kTopKeys,
             ("{\"kvc\": \"" + kLanguageVersion +
              "\", \"name\": \"my_cache\", \"model\": {...}}")
                 .str());
  if (const Node *schema = top.find("$schema"))
    if (schema->kind != Node::Kind::String)
      context.error("E-TYPE", at(*schema), "expected a string");
  top.require("kvc", ("\"kvc\": \"" + kLanguageVersion + "\"").str());
  if (const Node *name = top.require("name", "\"name\": \"my_cache\""))
    spec.name = readName(context, *name).value_or("");
  if (const Node *node = top.require("model", "\"model\": {\"layers\": 32, "
                                              "...}"))
    readModel(*node);
  const Node *stores = top.find("stores");
  if (!stores) {
    Store &store = spec.stores.emplace_back();
    store.name = "main";
    store.scope.loc = at(root);
    store.loc = at(implicitStore(root));
    store.scope.layers = layerRange(0, model.layers);
    store.scope.headEnd = model.kvHeads;
    readCaching(top, store);
    return;
  }
  for (const char *key : {"streams", "layout", "reads", "attend"})
    if (const Node *node = top.find(key)) {
      Diagnostic &diagnostic = context.error(
          "E-CONFLICT", context.document.keyLoc(*node),
          quote(key) + " stands beside `stores`, so it applies to none");
      Context::addNote(diagnostic, context.document.keyLoc(*stores),
                       "`stores` is here");
      Context::addHelp(diagnostic, "move it into each store that it is for");
    }
  readStores(*stores);
}

//===----------------------------------------------------------------------===//
// The model
//===----------------------------------------------------------------------===//

void ShapeReader::readModel(const Node &node) {
  Fields fields(context, node, kModelKeys,
                R"({"layers": 32, "q_heads": 32, "kv_heads": 8, )"
                R"("head_dim": 128, "dtype": "bf16"})");
  model.loc = at(node);
  readInto(model.layers, fields.require("layers", "\"layers\": 32"), 1,
           kMaxLayers);
  readInto(model.qHeads, fields.require("q_heads", "\"q_heads\": 32"), 1,
           kMaxHeads);
  readInto(model.kvHeads, fields.require("kv_heads", "\"kv_heads\": 8"), 1,
           kMaxHeads);
  if (const Node *dim = fields.require("head_dim", "\"head_dim\": 128"))
    readHeadDim(*dim);
  if (const Node *dtype = fields.require("dtype", "\"dtype\": \"bf16\""))
    model.dtype = DType(readEnum(context, *dtype, kDTypes).value_or(0));
  if (model.headDimK)
    model.softmaxScale = 1 / std::sqrt(double(model.headDimK));
  if (const Node *scale = fields.find("softmax_scale"))
    model.softmaxScale =
        readNumber(context, *scale, kMinScale, kMaxScale).value_or(0);
  if (const Node *cap = fields.find("logit_softcap"))
    model.logitSoftcap = readNumber(context, *cap, kMinScale, kMaxScale);
}

unsigned ShapeReader::readDim(const Node &node) {
  unsigned dim = readInteger(context, node, kMinDim, kMaxDim).value_or(0);
  if (dim % kDimStep == 0)
    return dim;
  Diagnostic &diagnostic =
      context.error("E-MULTIPLE", at(node),
                    "a head dimension is a multiple of 8, found " +
                        quote(std::to_string(dim)));
  unsigned below = dim - dim % kDimStep;
  Context::addHelp(diagnostic, "use " + std::to_string(below) + " or " +
                                   std::to_string(below + kDimStep));
  return 0;
}

void ShapeReader::readHeadDim(const Node &node) {
  if (node.kind != Node::Kind::Object) {
    model.headDimK = model.headDimV = readDim(node);
    return;
  }
  Fields fields(context, node, {"k", "v"});
  if (const Node *k = fields.require("k", "\"k\": 192"))
    model.headDimK = readDim(*k);
  if (const Node *v = fields.require("v", "\"v\": 128"))
    model.headDimV = readDim(*v);
}

//===----------------------------------------------------------------------===//
// Stores
//===----------------------------------------------------------------------===//

void ShapeReader::readStores(const Node &node) {
  size_t count = node.children.size();
  if (node.kind != Node::Kind::Array || count < 1 || count > kMaxStores) {
    Diagnostic &diagnostic =
        context.error("E-TYPE", at(node),
                      "`stores` is an array of 1 to " +
                          std::to_string(kMaxStores) + " objects");
    Context::addHelp(diagnostic,
                     ("for example `[" + kStoreExample + "]`").str());
    return;
  }
  for (const Node *child : node.children)
    readStore(*child, spec.stores.emplace_back());
}

void ShapeReader::readStore(const Node &node, Store &store) {
  Fields fields(context, node, kStoreKeys, kStoreExample);
  store.loc = store.scope.loc = at(node);
  if (const Node *name = fields.require("name", "\"name\": \"full\""))
    store.name = readName(context, *name).value_or("");
  store.scope.layers = layerRange(0, model.layers);
  store.scope.headEnd = model.kvHeads;
  if (const Node *scope = fields.find("scope"))
    readScope(*scope, store.scope);
  readCaching(fields, store);
}

void ShapeReader::readScope(const Node &node, Scope &scope) {
  Fields fields(context, node, {"layers", "heads"}, R"({"layers": [0, 16]})");
  scope.loc = at(node);
  if (const Node *layers = fields.find("layers"))
    readLayers(*layers, scope.layers);
  if (const Node *heads = fields.find("heads"))
    if (!readRange(*heads, scope.headBegin, scope.headEnd, kMaxHeads))
      scope.headEnd = 0;
}

void ShapeReader::readLayers(const Node &node, std::vector<unsigned> &layers) {
  layers.clear();
  if (node.kind != Node::Kind::Object) {
    unsigned begin = 0, end = 0;
    std::string others;
    if (context.version >= Version::V0_2)
      others = ", or `{\"from\": 0, \"step\": 2}`, or `{\"list\": [0, 5, 11]}`";
    if (readRange(node, begin, end, kMaxLayers, others))
      layers = layerRange(begin, end);
    return;
  }
  if (!context.has(Version::V0_2, at(node), "an object of layers"))
    return;
  if (node.find("list"))
    readLayerList(node, layers);
  else
    readLayerSteps(node, layers);
}

/// {"from": 0, "to": 42, "step": 2}
void ShapeReader::readLayerSteps(const Node &node,
                                 std::vector<unsigned> &layers) {
  Fields fields(context, node, {"from", "to", "step", "list"});
  const Node *from = fields.find("from"), *to = fields.find("to"),
             *stride = fields.find("step");
  std::optional<unsigned> begin = 0, end = model.layers, step = 1;
  if (from)
    begin = readInteger(context, *from, 0, kMaxLayers - 1);
  if (to)
    end = readInteger(context, *to, 1, kMaxLayers);
  if (stride)
    step = readInteger(context, *stride, 1, kMaxLayers);
  // 0: the model's layers could not be read.
  if (!begin || !end || !*end || !step)
    return;
  std::string help;
  if (!to)
    help = "`to` is the model's number of layers where it is left out";
  if (!checkOrder(node, *begin, *end, help))
    return;
  layers = layerRange(*begin, *end, *step);
}

/// {"list": [0, 5, 11]}
void ShapeReader::readLayerList(const Node &node,
                                std::vector<unsigned> &layers) {
  Fields fields(context, node, {"list", "from", "to", "step"});
  for (const char *key : {"from", "to", "step"})
    if (const Node *other = fields.find(key)) {
      context.error("E-CONFLICT", context.document.keyLoc(*other),
                    quote(key) + " stands beside `list`, which names each "
                                 "layer");
      return;
    }
  const Node &list = *fields.find("list");
  size_t count = list.children.size();
  if (list.kind != Node::Kind::Array || count < 1 || count > kMaxLayers) {
    Diagnostic &diagnostic = context.error(
        "E-TYPE", at(list),
        "expected an array of 1 to " + std::to_string(kMaxLayers) + " layers");
    Context::addHelp(diagnostic, "for example `{\"list\": [0, 5, 11]}`");
    return;
  }
  std::vector<unsigned> read;
  for (const Node *child : list.children) {
    auto layer = readInteger(context, *child, 0,
                             (model.layers ? model.layers : kMaxLayers) - 1);
    if (!layer)
      return;
    if (!read.empty() && *layer <= read.back()) {
      context.error("E-SCOPE", at(*child),
                    "expected layers in ascending order, each once, found " +
                        std::to_string(*layer) + " after " +
                        std::to_string(read.back()));
      return;
    }
    read.push_back(*layer);
  }
  listed += count;
  if (listed > kMaxListed) {
    context.error("E-RANGE", at(list),
                  "the lists of all stores together have at most " +
                      std::to_string(kMaxListed) + " layers");
    return;
  }
  layers = std::move(read);
}

/// Whether `node`, a range [begin, end), is not empty.
bool ShapeReader::checkOrder(const Node &node, unsigned begin, unsigned end,
                             const std::string &help) {
  if (begin < end)
    return true;
  Diagnostic &diagnostic =
      context.error("E-SCOPE", at(node),
                    "a range [begin, end) has begin < end, found " +
                        std::to_string(begin) + " to " + std::to_string(end));
  if (!help.empty())
    Context::addHelp(diagnostic, help);
  return false;
}

bool ShapeReader::readRange(const Node &node, unsigned &begin, unsigned &end,
                            unsigned limit, const std::string &others) {
  if (node.kind != Node::Kind::Array || node.children.size() != 2) {
    Diagnostic &diagnostic = context.error(
        "E-TYPE", at(node),
        "a range is an array [begin, end) of two integers, found " +
            quote(context.document.text(node)));
    Context::addHelp(diagnostic, "for example `[0, 16]` for 0 to 15" + others);
    return false;
  }
  auto first = readInteger(context, *node.children[0], 0, limit - 1);
  auto last = readInteger(context, *node.children[1], 1, limit);
  if (!first || !last || !checkOrder(node, *first, *last))
    return false;
  begin = *first;
  end = *last;
  return true;
}

/// What both a store and the top level may say about caching.
void ShapeReader::readCaching(const Fields &fields, Store &store) {
  store.k.dim = model.headDimK;
  store.v.dim = model.headDimV;
  for (Stream *stream : {&store.k, &store.v}) {
    stream->codec = FloatCodec{model.dtype};
    stream->loc = stream->codecLoc = store.loc;
  }
  store.layout.loc = store.read.loc = store.loc;
  if (const Node *streams = fields.find("streams"))
    readStreams(context, *streams, store);
  if (const Node *layout = fields.find("layout"))
    readLayout(*layout, store.layout);
  if (const Node *reads = fields.find("reads"))
    readRead(*reads, store.read);
  if (const Node *attend = fields.find("attend"))
    readAttend(context, *attend, model, store.attend);
}

void ShapeReader::readLayout(const Node &node, Layout &layout) {
  layout.loc = at(node);
  std::optional<unsigned> kind =
      readKind(context, node, kLayouts, R"({"kind": "paged", "page": 16})");
  if (!kind)
    return;
  layout.paged = kLayouts[*kind].text == "paged";
  std::vector<Word> keys = {"kind", "order"};
  if (layout.paged)
    keys.push_back("page");
  Fields fields(context, node, keys, Fields::Form::ObjectOrKind);
  if (layout.paged)
    readInto(layout.page, fields.find("page"), 1, kMaxPage);
  if (const Node *order = fields.find("order"))
    layout.order = PageOrder(readEnum(context, *order, kOrders).value_or(0));
}

void ShapeReader::readRead(const Node &node, Read &read) {
  read.loc = at(node);
  std::optional<unsigned> kind =
      readKind(context, node, kReads, R"({"kind": "window", "recent": 4096})");
  if (!kind)
    return;
  if (kReads[*kind].text == "all") {
    Fields fields(context, node, {"kind"}, Fields::Form::ObjectOrKind);
    return;
  }
  Fields fields(context, node, {"kind", "sink", "recent"},
                Fields::Form::ObjectOrKind);
  Read::Window window;
  readInto(window.sink, fields.find("sink"), 0, kMaxTokens);
  readInto(window.recent,
           fields.require("recent", "{\"kind\": \"window\", \"recent\": 1024}"),
           1, kMaxTokens);
  read.window = window;
}

void spec::readShape(Context &context, Spec &spec) {
  ShapeReader(context, spec).readTop(context.document.root());
}
