//===- RandomSpec.cpp - valid specs drawn at random -----------------------===//
#include "lib/driver/Verify/RandomSpec.h"
#include "lib/base/Spec/Canonical.h"
#include "lib/base/Spec/Fields.h"
#include "lib/base/Spec/Reader.h"
#include "lib/base/Spec/Size.h"
#include "lib/driver/Verify/Batch.h"
#include "lib/driver/Verify/Random.h"

#include "llvm/Support/FormatVariadic.h"

#include <cmath>
#include <cstdlib>

using namespace kvc;
using namespace kvc::verify;

namespace {

class Generator {
public:
  Generator(uint64_t seed, uint64_t index)
      : random(seed, index, 'S'), deal(seed, index, 'L'),
        formulas(seed, index, 'E'), sinks(seed, index, 'K'),
        calls(seed, index, 'G'), codes(seed, index, 'C'),
        narrow(seed, index, 'F'), latents(seed, index, 'M') {}
  spec::Spec draw(uint64_t index);

private:
  unsigned dim();
  unsigned groupSize();
  /// Evenly by its power of ten, from the whole of the range that scales and
  /// caps have; of few digits, since texts are read by people.
  double anySize() {
    std::string text = std::to_string(random.range(100, 999)) + "e" +
                       std::to_string(random.range(-8, 3));
    return std::clamp(std::strtod(text.c_str(), nullptr), 1e-6, 1e6);
  }
  /// Evenly by its number of bits.
  unsigned anyCount(unsigned most) {
    uint64_t power = uint64_t(1) << random.range(0, llvm::Log2_64_Ceil(most));
    return unsigned(std::min<uint64_t>(most, random.range(power / 2, power)));
  }
  spec::DType dtype() {
    return random.pick({spec::DType::F32, spec::DType::F16, spec::DType::BF16});
  }
  void drawModel(spec::Model &model);
  spec::Codec codec(unsigned dim);
  spec::MinifloatCodec minifloat(unsigned dim);
  spec::Layout layout();
  spec::Read read();
  void dealLayers(spec::Spec &spec);
  std::string logits();
  std::string sink(const spec::Model &model, spec::Attend &attend);
  std::string visible();
  std::string givenVisible(const spec::Model &model, spec::Attend &attend);
  std::optional<spec::Expr> parse(const std::string &text,
                                  const spec::Model &model,
                                  const spec::Attend &attend,
                                  spec::ExprType type);
  void drawAttend(const spec::Model &model, spec::Attend &attend);
  void drawVOfK(spec::Store &store);
  void drawScopes(spec::Spec &spec);

  Random random;
  Random deal;     ///< of layers; a stream of its own keeps all else as it was
  Random formulas; ///< likewise
  Random sinks;    ///< likewise
  Random calls;    ///< likewise
  Random codes;    ///< likewise
  Random narrow;   ///< likewise
  Random latents;  ///< likewise
};

} // namespace

/// Sizes that models have, and any other multiple of 8 up to 576. Large ones
/// are rare: they cost most and add least.
unsigned Generator::dim() {
  if (random.percent(50))
    return random.pick(
        {8u, 32u, 64u, 64u, 80u, 96u, 128u, 128u, 192u, 256u, 512u, 576u});
  return 8 * random.range(1, random.percent(15) ? 72 : 24);
}

/// Those that models have, any up to 128, and rarely all that there may be.
unsigned Generator::groupSize() {
  if (random.percent(85))
    return random.pick(
        {1u, 1u, 2u, 3u, 4u, 4u, 5u, 6u, 7u, 8u, 8u, 9u, 12u, 16u});
  return random.range(1, random.percent(5) ? 1024 : 128);
}

void Generator::drawModel(spec::Model &model) {
  model.layers = random.range(1, random.percent(3) ? 24 : 4);
  unsigned group = groupSize();
  model.kvHeads = random.range(1, group > 8 ? 2 : 4);
  if (random.percent(5)) // as with one latent row for all heads
    model.kvHeads = 1, group = random.pick({16u, 32u, 64u, 128u});
  if (random.percent(3))
    model.kvHeads = random.range(1, std::max(1u, 32 / group));
  model.kvHeads = std::min(model.kvHeads, 1024 / group);
  model.qHeads = model.kvHeads * group;
  model.headDimK = dim();
  model.headDimV = random.percent(60) ? model.headDimK : dim();
  model.dtype = dtype();
  model.softmaxScale = 1 / std::sqrt(double(model.headDimK));
  if (random.percent(20))
    model.softmaxScale = random.range(20, 250) * 1e-3;
  else if (random.percent(20))
    model.softmaxScale = anySize();
  if (random.percent(25))
    model.logitSoftcap =
        random.percent(50) ? random.pick({5.0, 20.0, 30.0, 50.0}) : anySize();
}

spec::MinifloatCodec Generator::minifloat(unsigned dim) {
  using Format = spec::MinifloatCodec::Format;
  using Type = spec::ParameterType;
  spec::MinifloatCodec codec{narrow.pick(
      {Format::E4M3, Format::E4M3, Format::E5M2, Format::E2M1, Format::E2M1})};
  bool isFp4 = codec.format == Format::E2M1;
  if (narrow.percent(isFp4 ? 15 : 30)) // as they are
    return codec;
  codec.scaleType = isFp4 ? narrow.pick({Type::F16, Type::E8M0, Type::E4M3})
                          : narrow.pick({Type::F32, Type::F16, Type::E8M0});
  unsigned group = 8u << narrow.range(0, 5);
  if (narrow.percent(isFp4 ? 80 : 50) && group < dim && dim % group == 0)
    codec.group = group;
  return codec;
}

spec::Codec Generator::codec(unsigned dim) {
  if (!random.percent(40)) {
    spec::DType type = dtype();
    if (narrow.percent(25))
      return minifloat(dim);
    return spec::FloatCodec{type};
  }
  auto type = [](Random &random) {
    return random.percent(50) ? spec::ParameterType::F32
                              : spec::ParameterType::F16;
  };
  spec::IntCodec codec;
  codec.scaleType = type(random);
  if (codes.percent(40)) // 8 bits, one scale: what most loops are for
    return codec;
  if (codes.percent(55))
    codec.zeroType = type(codes);
  codec.bits = codes.percent(50) ? codes.pick({2, 4, 4})
                                 : codes.range(codec.zeroType ? 1 : 2, 8);
  unsigned group = 8u << codes.range(0, 5);
  if (codes.percent(60) && group < dim && dim % group == 0)
    codec.group = group;
  using Rounding = spec::IntCodec::Rounding;
  codec.extreme = !codec.zeroType && narrow.percent(25);
  codec.exact = narrow.percent(25);
  codec.zeroBetweenCodes = codec.zeroType && narrow.percent(30);
  if (narrow.percent(40))
    codec.rounding = narrow.pick({Rounding::HalfUp, Rounding::HalfAway});
  return codec;
}

spec::Layout Generator::layout() {
  spec::Layout layout;
  layout.paged = random.percent(80);
  layout.order =
      random.percent(50) ? spec::PageOrder::HND : spec::PageOrder::NHD;
  layout.page = random.percent(60)
                    ? random.pick({1u, 8u, 16u, 16u, 32u, 64u, 128u, 256u})
                    : unsigned(random.range(1, random.percent(30) ? 256 : 40));
  return layout;
}

spec::Read Generator::read() {
  spec::Read read;
  if (random.percent(65))
    return read;
  spec::Read::Window window;
  window.sink = random.pick({0u, 0u, 1u, 4u, 16u, 100u});
  window.recent = random.percent(50) ? random.range(1, 40)
                                     : random.pick({64, 128, 500, 4096});
  if (random.percent(10))
    window.sink = anyCount(INT32_MAX);
  if (random.percent(10))
    window.recent = std::max(1u, anyCount(INT32_MAX));
  read.window = window;
  return read;
}

/// Deals the layers of stores that have a range each: in turn, or any way that
/// leaves each one.
void Generator::dealLayers(spec::Spec &spec) {
  size_t hands = spec.stores.size();
  if (hands < 2 || !deal.percent(60))
    return;
  // Few layers have few ways to lie, and kernels see only the first and last.
  unsigned &layers = spec.model.layers;
  layers = std::max<unsigned>(layers, deal.range(hands, 12));
  bool inTurn = deal.percent(50);
  for (spec::Store &store : spec.stores)
    store.scope.layers.clear();
  for (unsigned layer = 0; layer < layers; ++layer) {
    size_t hand =
        layer < hands || inTurn ? layer % hands : deal.range(0, hands - 1);
    spec.stores[hand].scope.layers.push_back(layer);
  }
}

/// A formula of some model, or several after one another.
std::string Generator::logits() {
  auto number = [&](double low, double high) {
    return llvm::formatv("{0:F3}",
                         low + (high - low) * formulas.range(0, 100) / 100)
        .str();
  };
  std::string s = "s";
  for (int64_t n = formulas.range(1, formulas.percent(30) ? 3 : 1); n > 0; --n)
    switch (formulas.range(0, 8)) {
    case 8:
      s = "p - c < " + std::to_string(formulas.range(1, 6)) + " ? " + s +
          " : (" + s + ") + " + number(0, 2);
      break;
    case 0: // ALiBi
      s = "(" + s + ") - exp2(-8.0 * (h + 1) / " + number(1, 64) +
          ") * (p - t)";
      break;
    case 1:
      s = number(5, 60) + " * tanh((" + s + ") / " + number(5, 60) + ")";
      break;
    case 2:
      s = "(" + s + ") + bias[h]";
      break;
    case 3:
      s = "p - t < " + std::to_string(formulas.range(1, 300)) + " ? " + s +
          " : (" + s + ") - " + number(0, 4);
      break;
    case 4:
      s = "max(min(" + s + ", " + number(5, 40) + "), -" + number(5, 40) + ")";
      break;
    case 5: // T5's buckets
      s = "(" + s + ") - " + number(0, 2) + " * log2(1.0 + abs(p - t))";
      break;
    case 6:
      s = "(" + s + ") * " + (formulas.percent(50) ? "gain" : number(0, 2));
      break;
    default:
      s = "h % 2 == 0 && t < " + std::to_string(formulas.range(1, 64)) +
          " ? (" + s + ") + " + number(0, 3) + " : " + s;
      break;
    }
  return s;
}

std::string Generator::visible() {
  auto count = [&](unsigned most) {
    return std::to_string(formulas.range(1, formulas.percent(50) ? most : 40));
  };
  std::string n = count(600);
  switch (formulas.range(0, 7)) {
  case 0:
    return "t > p - " + n;
  case 1:
    return "t > p - " + n + " || t < " + count(100);
  case 2: // chunks
    return "p // " + n + " == t // " + n;
  case 3: // dilated
    return "(p - t) % " + count(9) + " == 0";
  case 4: // wider from head to head
    return "p - t < " + count(60) + " * (h + 1)";
  case 5:
    return "!(t % " + count(20) + " == 1) || p == t";
  case 6:
    return "g % 2 == 0 ? t > p - " + n + " : p // " + n + " == t // " + n;
  default:
    return "t < " + n + " || p - t < " + count(64) + " && p % 3 != 2";
  }
}

/// What calls say of each sequence, or of a head.
std::string Generator::givenVisible(const spec::Model &model,
                                    spec::Attend &attend) {
  auto add = [&](const char *name, unsigned size, bool perSequence) {
    spec::Constant constant{name, {}, false, {}, size};
    constant.perSequence = perSequence;
    constant.type = spec::ExprType::Int;
    attend.constants.push_back(constant);
  };
  switch (calls.range(0, 5)) {
  case 0: { // a tree of drafts
    unsigned n = calls.pick({2u, 5u, 8u, 16u});
    std::string last = std::to_string(n - 1);
    add("tree", n * n, true);
    return "t < c || tree[min(p - c, " + last + ") * " + std::to_string(n) +
           " + max(0, min(t - c, " + last + "))] != 0";
  }
  case 1:
    add("prefix", 1, true);
    return "t <= p || t < prefix[0]";
  case 2: // where the document of a position begins
    add("first", 800, true);
    // Of the second, a tile's positions span more values than bounds are
    // searched in.
    return calls.percent(70) ? "t >= first[min(p, 99)]"
                             : "t >= first[8 * min(p, 99)]";
  case 3:
    add("document", 64, calls.percent(50));
    return "document[p % 64] == document[t % 64] || t == p";
  case 4:
    add("span", model.qHeads, calls.percent(50));
    return "p - t < span[h]";
  default: { // a window per head
    spec::Constant spans{"spans", {}, false, {}};
    spans.type = spec::ExprType::Int;
    for (unsigned head = 0; head < model.qHeads; ++head)
      spans.values.push_back(calls.range(-1, calls.percent(60) ? 60 : 600));
    attend.constants.push_back(spans);
    return "abs(p - t) < spans[h]";
  }
  }
}

/// `text` as the reader would have it; none if it goes beyond what integers
/// hold.
std::optional<spec::Expr> Generator::parse(const std::string &text,
                                           const spec::Model &model,
                                           const spec::Attend &attend,
                                           spec::ExprType type) {
  Diagnostics diagnostics;
  auto document =
      spec::Document::parse("[\"" + text + "\"]", "drawn", diagnostics);
  spec::Context context(*document, diagnostics);
  spec::ExprScope scope{type == spec::ExprType::Float, /*positions=*/true,
                        model.qHeads, model.kvHeads, attend.constants};
  return readExpr(context, *document->root().children.front(), scope, type);
}

/// Of a head: as large as what few tokens weigh, or thousands.
std::string Generator::sink(const spec::Model &model, spec::Attend &attend) {
  if (sinks.percent(30))
    return std::to_string(sinks.range(-3, 7)) + " - 0.125 * h";
  if (sinks.percent(15))
    return "-1e30"; // none
  if (sinks.percent(20))
    return "g % 2 == 0 ? 0.5 : log(1.0 + h)";
  spec::Constant values{"sinks", {}, false, {}};
  if (sinks.percent(50))
    values.given = model.qHeads;
  for (unsigned head = 0; head < model.qHeads && !values.given; ++head)
    values.values.push_back(sinks.range(-64, 128) / 16.);
  attend.constants.push_back(values);
  return "sinks[h]";
}

void Generator::drawAttend(const spec::Model &model, spec::Attend &attend) {
  if (formulas.percent(30) && !model.logitSoftcap) {
    spec::Constant bias{"bias", {}, false, {}};
    for (unsigned head = 0; head < model.qHeads; ++head)
      bias.values.push_back(formulas.range(-40, 40) / 16.);
    if (sinks.percent(40))
      bias = {"bias", {}, false, {}, model.qHeads};
    attend.constants = {bias,
                        {"gain", {formulas.range(4, 24) / 16.}, true, {}}};
    std::string text = logits();
    if (sinks.percent(25)) { // a table of T5
      attend.constants.push_back({"table", {}, false, {}, 32});
      text = "(" + text + ") + table[max(0, min(p - t, 31))]";
    }
    attend.logits = parse(text, model, attend, spec::ExprType::Float);
  }
  if (formulas.percent(25)) {
    std::string text =
        calls.percent(40) ? givenVisible(model, attend) : visible();
    attend.visible = parse(text, model, attend, spec::ExprType::Bool);
  }
  attend.causal = !calls.percent(15);
  if (sinks.percent(25)) {
    std::string text = sink(model, attend);
    attend.sink = parse(text, model, attend, spec::ExprType::Float);
  }
}

/// V that is the beginning of K, where it fits.
void Generator::drawVOfK(spec::Store &store) {
  unsigned group = std::visit(
      llvm::makeVisitor([](const spec::FloatCodec &) { return 0u; },
                        [](const auto &codec) { return codec.group; }),
      store.k.codec);
  if (!latents.percent(12) || store.v.dim > store.k.dim ||
      (group && store.v.dim % group))
    return;
  store.v.codec = store.k.codec;
  store.v.ofK = true;
}

/// One store for all, or up to four that share the layers or the heads.
void Generator::drawScopes(spec::Spec &spec) {
  const spec::Model &model = spec.model;
  bool byLayer = random.percent(50);
  unsigned size = byLayer ? model.layers : model.kvHeads;
  unsigned parts = random.percent(30) ? random.pick({2u, 2u, 2u, 3u, 4u}) : 1;
  parts = std::min(parts, size);
  static constexpr const char *kNames[] = {"first", "second", "third",
                                           "fourth"};
  unsigned from = 0;
  for (unsigned part = 0; part < parts; ++part) {
    spec::Store &store = spec.stores.emplace_back();
    store.name = kNames[part];
    unsigned later = parts - part - 1; // each wants one at least
    unsigned end = later ? random.range(from + 1, size - later) : size;
    store.scope.layers = byLayer ? spec::layerRange(from, end)
                                 : spec::layerRange(0, model.layers);
    store.scope.headBegin = byLayer ? 0 : from;
    store.scope.headEnd = byLayer ? model.kvHeads : end;
    from = end;
    store.k.dim = model.headDimK, store.k.codec = codec(model.headDimK);
    store.v.dim = model.headDimV, store.v.codec = codec(model.headDimV);
    drawVOfK(store);
    store.layout = layout();
    store.read = read();
    drawAttend(model, store.attend);
  }
  if (byLayer)
    dealLayers(spec);
}

spec::Spec Generator::draw(uint64_t index) {
  spec::Spec spec;
  spec.name = "random-" + std::to_string(index);
  drawModel(spec.model);
  drawScopes(spec);
  return spec;
}

std::optional<spec::Spec> verify::randomSpec(uint64_t seed, uint64_t index,
                                             Diagnostics &diagnostics) {
  std::string text = canonicalText(Generator(seed, index).draw(index));
  auto spec = spec::read(text, "random-" + std::to_string(index) + ".json",
                         diagnostics);
  if (spec && spec->canonical != text) {
    diagnostics.error("E-INTERNAL", {},
                      "a canonical text changed when it was read: " + text);
    return std::nullopt;
  }
  return spec;
}

/// Of codes as they are read: V that is of K has some.
static unsigned codeBytes(spec::Stream stream) {
  stream.ofK = false;
  return rowBytes(stream).codes;
}

/// Whether GPUs multiply a store's codes as they are. Otherwise both streams
/// are decoded first, into f32.
static bool multipliesCodes(const spec::Store &store) {
  auto isWhole = [](const spec::Stream &stream) {
    if (const auto *stored = std::get_if<spec::MinifloatCodec>(&stream.codec))
      return !stored->group && spec::bits(stored->format) == 8 &&
             (!stored->scaleType || spec::bytes(*stored->scaleType) > 1);
    const auto *code = std::get_if<spec::IntCodec>(&stream.codec);
    return !code || (code->bits == 8 && !code->zeroType && !code->group &&
                     !code->extreme);
  };
  return isWhole(store.k) && isWhole(store.v);
}

/// Whether warps may copy whole rows: an emulated GPU that can, and rows of
/// multiples of 16 bytes.
static bool mayCopyInBulk(const spec::Spec &spec, llvm::StringRef target) {
  unsigned version = 0;
  if (!target.consume_front("sim:sm_") || target.consumeInteger(10, version) ||
      version < 90)
    return false;
  return llvm::all_of(spec.stores, [](const spec::Store &store) {
    return multipliesCodes(store) && codeBytes(store.k) % 16 == 0 &&
           codeBytes(store.v) % 16 == 0;
  });
}

namespace {
using Set =
    llvm::function_ref<void(const char *kernel, const char *key, int64_t)>;
}

/// Warps that share tokens where they would share rows.
static void drawSharedTokens(Random &random, const spec::Spec &spec, Set set) {
  int64_t tokens = random.pick({16, 32}), warps = 2, stages = 2, most = 0;
  for (const spec::Store &store : spec.stores)
    most = std::max<int64_t>(most, multipliesCodes(store)
                                       ? codeBytes(store.k) + codeBytes(store.v)
                                       : 4 * (store.k.dim + store.v.dim));
  // What every GPU has of shared memory for them.
  constexpr int64_t kRoom = 80000;
  if (tokens * warps * stages * most > kRoom)
    tokens = 16;
  if (tokens * warps * stages * most > kRoom)
    warps = 1;
  // Beside rows of f32 so wide there is no room for eight of q.
  bool isWide = tokens * warps * stages * most > kRoom;
  set("*.prefill", "warpsSplitQ", 0);
  set("*.prefill", "queryShared", 0);
  set("*.prefill", "tokens", tokens);
  set("*.prefill", "warps", warps);
  set("*.prefill", "stages", stages);
  set("*.prefill", "rows",
      isWide && llvm::none_of(spec.stores, multipliesCodes) ? 3 : 8);
  if (random.percent(50)) { // f32 multiply-adds where there are better ones
    set("*.decode", "tokens", 8); // those take 32 at most
    for (const char *kernel : {"*.decode", "*.prefill"}) {
      set(kernel, "dot", 0);
      set(kernel, "rows",
          isWide ? random.pick({1, 3}) : random.pick({1, 3, 8}));
    }
  }
}

std::vector<ScheduleOverride>
verify::randomSchedule(uint64_t seed, uint64_t index,
                       const std::string &target) {
  Random random(seed, index, 'O');
  std::vector<ScheduleOverride> list;
  auto set = [&](const char *kernel, const char *key, int64_t value) {
    list.push_back({kernel, key, value});
  };
  bool emulated = isEmulatedGpu(target);
  if (emulated)
    set("*.decode", "split", kEmulatedSplit * random.pick({1, 1, 2}));
  spec::Spec spec = Generator(seed, index).draw(index);
  Random bulk(seed, index, 'B');
  if (mayCopyInBulk(spec, target))
    for (const char *kernel : {"*.decode", "*.prefill"})
      set(kernel, "bulk", bulk.pick({0, 1, 1}));
  if (!random.percent(30))
    return list;
  if (random.percent(50))
    set("*.decode", "queries", random.pick({1, 2, 5, 16}));
  if (emulated) {
    drawSharedTokens(random, spec, set);
    return list;
  }
  if (random.percent(50))
    // Not below 512: exactBatch's means are over as many tokens.
    set("*.decode", "split", random.pick({512, 1024, 4096, 0}));
  if (random.percent(50))
    set("*.decode", "rows", random.pick({1, 2, 4, 8}));
  if (random.percent(30))
    set("*.decode", "keys", random.pick({1, 2, 4}));
  if (random.percent(30))
    set("*.decode", "prefetch", 0);
  if (random.percent(50))
    set("*.prefill", "queries", random.pick({7, 33, 64}));
  if (random.percent(30))
    set("*.prefill", "rows", random.pick({2, 4, 8}));
  return list;
}
