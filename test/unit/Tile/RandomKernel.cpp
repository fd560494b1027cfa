//===- RandomKernel.cpp - tile kernels drawn at random --------------------===//
#include "test/unit/Tile/RandomKernel.h"

#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/MathExtras.h"

#include <cmath>

using namespace kvc;
using namespace kvc::fuzz;

//===----------------------------------------------------------------------===//
// Axes
//===----------------------------------------------------------------------===//

static const std::vector<AxisInfo> &axes() {
  static const std::vector<AxisInfo> all = {
      {"scales of keys",
       AxisInfo::Attend,
       {{"none", 40},
        {"in the dequantize", 30},
        {"on scores", 24},
        {"on logits", 2},
        {"ignored", 2},
        {"of the other stream", 1},
        {"twice", 1}}},
      {"scales of values",
       AxisInfo::Attend,
       {{"none", 40},
        {"in the dequantize", 30},
        {"on probabilities", 25},
        {"late", 0}, // nothing comes after them
        {"ignored", 2},
        {"of the other stream", 2},
        {"twice", 1}}},
      {"logits",
       AxisInfo::Attend,
       {{"none", 40},
        {"a softcap", 14},
        {"two softcaps", 2},
        {"ALiBi", 5},
        {"ALiBi of a table", 4},
        {"a bias per head", 4},
        {"by position", 4},
        {"clamped", 4},
        {"functions", 5},
        {"a quotient", 4},
        {"a graph of the score once", 6},
        {"a graph of it twice", 5},
        {"a graph without it", 2},
        {"two regions", 2}}},
      {"visible",
       AxisInfo::Attend,
       {{"all", 50},
        {"a window", 7},
        {"chunks", 7},
        {"dilation", 6},
        {"a window per head", 7},
        {"and, or, not", 6},
        {"a choice", 5},
        {"a graph of integers", 6},
        {"a graph of booleans", 6}}},
      {"mask", AxisInfo::Attend, {{"last", 99}, {"before the rest", 1, true}}},
      {"streams",
       AxisInfo::Attend,
       {{"K and V", 93},
        {"exchanged", 3},
        {"K for both", 2},
        {"V for both", 2}}},
      {"query scale",
       AxisInfo::Attend,
       {{"usual", 60},
        {"sharp", 22},
        {"tiny", 8},
        {"negative", 8},
        {"zero", 2}}},
      {"log2(e)",
       AxisInfo::Attend,
       {{"as a softmax has it", 90}, {"the other way", 10}}},
      {"order of ops",
       AxisInfo::Attend,
       {{"where they are used", 50}, {"first of all", 20}, {"anywhere", 30}}},
      {"detour",
       AxisInfo::Attend,
       {{"none", 80},
        {"a map of scores", 5},
        {"a slice of keys", 5},
        {"a slice of values", 5},
        {"a contraction", 5},
        {"values of keys' rows", 5},
        {"boxes of keys", 4},
        {"boxes of values", 4},
        {"boxes of both", 4}}},
      {"stored rows",
       AxisInfo::Append,
       {{"K, V", 40},
        {"V, K", 20},
        {"K alone", 15},
        {"V alone", 15},
        {"exchanged", 10}}},
      {"gathered rows",
       AxisInfo::Gather,
       {{"K, V", 20},
        {"V, K", 10},
        {"K alone", 8},
        {"V alone", 8},
        {"exchanged", 10},
        {"K for both", 15},
        {"V for both", 10},
        {"of a wider stream", 25}}},
      {"ops of gathered rows",
       AxisInfo::Gather,
       {{"the codec's", 20},
        {"slices", 15},
        {"codes sliced", 15},
        {"a map", 10},
        {"a map of two", 10},
        {"a map of a column", 10},
        {"a map of scales", 10},
        {"codes as scales", 10}}},
      {"loads of gathered rows",
       AxisInfo::Gather,
       {{"where they are used", 30}, {"once for all", 30}, {"anywhere", 40}}},
      {"wanted rows",
       AxisInfo::Gather,
       {{"K and V", 70}, {"V alone", 15}, {"K alone", 15}}},
  };
  return all;
}

const AxisInfo &fuzz::axisInfo(Axis axis) { return axes()[axis]; }

/// A value of an axis, by weight.
static unsigned drawValue(Axis axis, Random &random) {
  const AxisInfo &info = axisInfo(axis);
  unsigned total = 0;
  for (const AxisInfo::Value &value : info.values)
    total += value.weight;
  unsigned at = unsigned(random.below(total)), choice = 0;
  while (at >= info.values[choice].weight)
    at -= info.values[choice++].weight;
  return choice;
}

/// Of so many kernels of a kind, all but the first have a value they must have.
static constexpr uint64_t kTurns = 4;

/// The value that kernel number `turn` of those that have one must have.
static std::pair<Axis, unsigned> pinned(AxisInfo::Group group, uint64_t turn) {
  std::vector<std::pair<Axis, unsigned>> all;
  for (unsigned axis = 0; axis < kAxes; ++axis)
    for (auto [i, value] : llvm::enumerate(axisInfo(Axis(axis)).values))
      if (axisInfo(Axis(axis)).group == group && value.weight)
        all.push_back({Axis(axis), unsigned(i)});
  return all[turn % all.size()];
}

//===----------------------------------------------------------------------===//
// Stores
//===----------------------------------------------------------------------===//

mlir::Type fuzz::floatType(mlir::MLIRContext *context, char type) {
  mlir::Builder b(context);
  switch (type) {
  case 'f':
    return b.getF32Type();
  case 'h':
    return b.getF16Type();
  case 'b':
    return b.getBF16Type();
  case 'e':
    return b.getType<mlir::Float8E4M3FNType>();
  case 'm':
    return b.getType<mlir::Float8E5M2Type>();
  case 'x':
    return b.getType<mlir::Float4E2M1FNType>();
  default:
    return b.getType<mlir::Float8E8M0FNUType>();
  }
}

static const char *nameOf(char type) {
  return type == 'f'   ? "f32"
         : type == 'h' ? "f16"
         : type == 'b' ? "bf16"
         : type == 'e' ? "f8E4M3FN"
         : type == 'm' ? "f8E5M2"
                       : "f4E2M1FN";
}

mlir::Attribute Codec::attribute(mlir::MLIRContext *context) const {
  mlir::Type element = floatType(context, type);
  if (boxes && boxes->code != 'i')
    return FloatCodecAttr::get(context, floatType(context, boxes->code),
                               floatType(context, boxes->scale),
                               boxes->channels);
  if (boxes)
    return IntCodecAttr::get(
        context, boxes->bits, floatType(context, boxes->scale),
        boxes->zero ? floatType(context, boxes->zero) : mlir::Type(),
        boxes->tokens, boxes->channels);
  if (isScaled && code != 'i')
    return FloatCodecAttr::get(context, floatType(context, code), element,
                               /*channels=*/0);
  if (isScaled)
    return IntCodecAttr::get(context, 8, element);
  return FloatCodecAttr::get(context, element);
}

std::string Codec::str() const {
  if (boxes && boxes->code != 'i')
    return std::string(nameOf(boxes->code)) + " in boxes";
  if (boxes)
    return "int" + std::to_string(boxes->bits) + " in boxes" +
           (boxes->zero ? " with zeros" : "");
  std::string codes = code == 'i' ? "int8" : nameOf(code);
  return (isScaled ? codes + " x " : "") + nameOf(type);
}

/// Mostly small, since large ones cost most and add least.
static int64_t drawDim(Random &random) {
  if (random.percent(60))
    return random.pick({8, 16, 24, 32, 32, 40, 64, 64});
  if (random.percent(85))
    return random.pick({48, 72, 80, 96, 128});
  return 8 * random.range(17, 72);
}

Codec fuzz::drawCodec(bool isScaled, Random &random) {
  Codec codec;
  codec.isScaled = isScaled;
  codec.type = isScaled ? random.pick({'f', 'h'})
                        : random.pick({'f', 'h', 'b', 'e', 'm'});
  codec.code = random.pick({'i', 'i', 'i', 'e', 'm'});
  return codec;
}

Codec fuzz::drawBoxes(int64_t dim, Random &random) {
  Boxes boxes;
  boxes.zero = random.pick({'\0', '\0', 'f', 'h'});
  boxes.bits = unsigned(random.range(boxes.zero ? 1 : 2, 8));
  boxes.scale = random.pick({'f', 'h'});
  boxes.tokens = random.pick({1, 1, 2, 4});
  do
    boxes.channels = random.pick({0, 0, 1, 2, 3, 4, 8, 8, 16, 24, 32});
  while (boxes.channels && dim % boxes.channels);
  if (random.percent(35)) {
    char code = random.pick({'e', 'm', 'x', 'x'});
    boxes = {code == 'x' ? 4u : 8u,
             random.pick({'f', 'h', 'e', 'p'}),
             0,
             1,
             boxes.channels,
             code};
  }
  Codec codec;
  codec.boxes = boxes;
  return codec;
}

static void drawStore(Kernel &kernel, Random &random) {
  kernel.dtype = random.pick({'f', 'h', 'b'});
  kernel.heads = random.pick({1, 1, 2, 3});
  kernel.firstHead = random.percent(25) ? random.range(1, 2) : 0;
  kernel.kvHeads = kernel.firstHead + kernel.heads + random.pick({0, 0, 1});
  kernel.group = random.pick({1, 2, 3, 4, 4, 8});
  for (int64_t &dim : kernel.dims)
    dim = drawDim(random);
  if (random.percent(50))
    kernel.dims[1] = kernel.dims[0];
  kernel.page = random.percent(25)   ? 0
                : random.percent(60) ? random.pick({1, 8, 16, 16, 32, 64, 256})
                                     : random.range(1, 40);
  kernel.nhd = random.percent(40);
  if (random.percent(35))
    kernel.window = {{random.pick({0, 0, 1, 4, 16, 33}),
                      random.percent(50) ? random.range(1, 24)
                                         : random.pick({31, 64, 500})}};
  kernel.causal = !random.percent(15);
}

//===----------------------------------------------------------------------===//
// Bodies
//===----------------------------------------------------------------------===//

/// Whether an operand with this choice has scales beside its rows.
static bool wantsInteger(unsigned choice) {
  return choice != scale::None && choice != scale::OfOther;
}

/// Makes choices that go together, leaving the one of `fixed` alone.
static void settle(Kernel &kernel, Axis fixed) {
  unsigned *choice = kernel.choice;
  // Boxes are scaled where they are decoded.
  if (choice[Detour] >= detour::BoxesOfKeys) {
    if (fixed == KeyScale || fixed == ValueScale || fixed == Streams)
      choice[Detour] = detour::None;
    else
      choice[KeyScale] = choice[ValueScale] = scale::None,
      choice[Streams] = streams::KAndV;
  }
  if (choice[Detour] == detour::ValuesOfKeys) {
    if (fixed == KeyScale || fixed == ValueScale || fixed == Streams)
      choice[Detour] = detour::None;
    else
      choice[KeyScale] = choice[ValueScale] = scale::None,
      choice[Streams] = streams::OnlyK;
  }
  if (choice[KeyScale] == scale::Late && choice[Logits] == 0) {
    if (fixed == Logits)
      choice[KeyScale] = scale::OnProduct;
    else
      choice[Logits] = logits::Softcap;
  }
  // A mask stands before something.
  if (choice[MaskPlace] && choice[Logits] == 0) {
    if (fixed == Logits)
      choice[MaskPlace] = 0;
    else
      choice[Logits] = logits::Softcap;
  }
  bool same =
      choice[Streams] == streams::OnlyK || choice[Streams] == streams::OnlyV;
  bool others = choice[KeyScale] == scale::OfOther ||
                choice[ValueScale] == scale::OfOther;
  bool alike =
      wantsInteger(choice[KeyScale]) == wantsInteger(choice[ValueScale]);
  if (!same || (alike && !others))
    return;
  // Both operands are of one codec, and no other stream is loaded.
  if (fixed == KeyScale && choice[KeyScale] != scale::OfOther)
    choice[ValueScale] =
        wantsInteger(choice[KeyScale]) ? scale::InDequantize : scale::None;
  else if (fixed == ValueScale && choice[ValueScale] != scale::OfOther)
    choice[KeyScale] =
        wantsInteger(choice[ValueScale]) ? scale::InDequantize : scale::None;
  else if (fixed == Streams)
    choice[KeyScale] = choice[ValueScale] = scale::InDequantize;
  else
    choice[Streams] = streams::KAndV;
}

static llvm::StringRef other(llvm::StringRef stream) {
  return stream == kStreamK ? kStreamV : kStreamK;
}

/// The codecs and streams that the choices ask for.
static void drawStreams(Kernel &kernel, Random &random) {
  unsigned which = kernel.choice[Streams];
  kernel.keys = which == streams::Exchanged || which == streams::OnlyV
                    ? kStreamV
                    : kStreamK;
  kernel.values = which == streams::Exchanged || which == streams::OnlyK
                      ? kStreamK
                      : kStreamV;
  for (Codec &codec : kernel.codecs)
    codec = drawCodec(random.percent(50), random);
  // q is as long as K, o as V.
  if (which != streams::KAndV)
    kernel.dims[1] = kernel.dims[0];
  if (kernel.choice[Detour] == detour::ValuesOfKeys) {
    kernel.dims[1] = 8 * random.range(1, kernel.dims[0] / 8);
    kernel.firstValue = random.range(0, kernel.dims[0] - kernel.dims[1]);
  }
  auto set = [&](llvm::StringRef stream, unsigned choice, llvm::StringRef of) {
    kernel.codecs[indexOf(stream)] = drawCodec(wantsInteger(choice), random);
    if (choice == scale::OfOther)
      kernel.codecs[indexOf(of)] = drawCodec(true, random);
  };
  unsigned keyScale = kernel.choice[KeyScale];
  unsigned &valueScale = kernel.choice[ValueScale];
  if (kernel.keys != kernel.values && keyScale == scale::OfOther &&
      !wantsInteger(valueScale))
    valueScale = scale::OnProduct;
  unsigned &ownScale = kernel.choice[KeyScale];
  if (kernel.keys != kernel.values && valueScale == scale::OfOther &&
      !wantsInteger(ownScale))
    ownScale = scale::OnProduct;
  set(kernel.values, valueScale, kernel.keys);
  set(kernel.keys, ownScale, kernel.values);
  // The types of real models come more often than those that a draw gives.
  for (Codec &codec : kernel.codecs)
    if (!codec.isScaled && random.percent(60))
      codec.type = kernel.dtype;
  unsigned detour = kernel.choice[Detour];
  if (detour == detour::BoxesOfKeys || detour == detour::BoxesOfBoth)
    kernel.codecs[0] = drawBoxes(kernel.dims[0], random);
  if (detour == detour::BoxesOfValues || detour == detour::BoxesOfBoth)
    kernel.codecs[1] = drawBoxes(kernel.dims[1], random);
  if (int64_t tokens = kernel.boxTokens(); kernel.page % tokens)
    kernel.page = tokens * random.range(1, 16);
}

/// What the logits ops of an axis' value do, one after the other.
static std::vector<unsigned> regionsOf(unsigned choice, Random &random) {
  if (choice == logits::None)
    return {};
  if (choice == logits::TwoSoftcaps)
    return {logits::Softcap, logits::Softcap};
  if (choice != logits::TwoRegions)
    return {choice};
  unsigned first =
      random.pick({+logits::Softcap, +logits::Clamped, +logits::ScoreOnce});
  return {first, random.pick({+logits::Alibi, +logits::ByPosition,
                              +logits::ScoreTwice})};
}

static void drawChains(Kernel &kernel, Random &random) {
  unsigned keyScale = kernel.choice[KeyScale];
  auto by = [](llvm::StringRef stream) {
    return ChainStep{ChainStep::Scale, stream, Expr()};
  };
  std::vector<ChainStep> &scores = kernel.scores;
  bool otherFirst = random.percent(50);
  if (keyScale == scale::OnProduct || keyScale == scale::Twice)
    scores.push_back(by(kernel.keys));
  if (keyScale == scale::OfOther && otherFirst)
    scores.push_back(by(other(kernel.keys)));
  for (unsigned choice : regionsOf(kernel.choice[Logits], random))
    scores.push_back({ChainStep::Apply, kStreamK,
                      drawLogits(choice, kernel.qHeads(), random)});
  if (keyScale == scale::Late || keyScale == scale::Twice)
    scores.push_back(by(kernel.keys));
  if (keyScale == scale::OfOther && !otherFirst)
    scores.push_back(by(other(kernel.keys)));
  unsigned valueScale = kernel.choice[ValueScale];
  if (valueScale == scale::OnProduct || valueScale == scale::Twice)
    kernel.probabilities.push_back(by(kernel.values));
  if (valueScale == scale::Twice)
    kernel.probabilities.push_back(by(kernel.values));
  if (valueScale == scale::OfOther)
    kernel.probabilities.push_back(by(other(kernel.values)));
}

/// A scale of q that makes logits of some ones.
static void drawQueryScale(Kernel &kernel) {
  constexpr double tokenScale = 0.03; // of integers, usually
  const Codec &keys = kernel.codec(kernel.keys);
  double code = keys.code == 'i' ? 36 : keys.code == 'e' ? 130 : 16000;
  double size = std::sqrt(double(kernel.dim(kernel.keys)));
  bool first =
      !kernel.scores.empty() && kernel.scores[0].what == ChainStep::Scale;
  if (keys.isScaled && !first &&
      !kernel.scaledInDequantize(kernel.keys, KeyScale))
    size *= code;
  if (kernel.choice[KeyScale] == scale::OfOther ||
      (kernel.choice[KeyScale] == scale::Twice && !kernel.choice[Logits]))
    size *= tokenScale;
  static constexpr double kFactors[] = {1, 6, 0.05, -1.5, 0};
  kernel.queryScale = kFactors[kernel.choice[QueryScale]] / size;
  bool folded = (kernel.choice[Logits] == 0) != (kernel.choice[Log2e] == 1);
  if (folded)
    kernel.queryScale *= M_LOG2E;
}

static void drawAttend(Kernel &kernel, Random &random, uint64_t turn) {
  for (unsigned axis = 0; axis < kAxes; ++axis)
    kernel.choice[axis] = drawValue(Axis(axis), random);
  Axis fixed = kAxes;
  if (turn % kTurns) {
    auto [axis, value] = pinned(AxisInfo::Attend, turn - turn / kTurns - 1);
    kernel.choice[fixed = axis] = value;
  }
  settle(kernel, fixed);
  drawStreams(kernel, random);
  drawChains(kernel, random);
  drawQueryScale(kernel);
  if (kernel.choice[Shown] != shown::All)
    kernel.visible = drawVisible(kernel.choice[Shown], random);
}

/// Those that append kernels quantize into; now and then one that they refuse.
static Codec drawStoredBoxes(int64_t dim, Random &random) {
  Codec codec = drawBoxes(dim, random);
  codec.boxes->tokens = 1;
  if (random.percent(5))
    return codec;
  do
    codec.boxes->channels = random.pick({0, 8, 16, 32, 32, 64, 128, 256});
  while (codec.boxes->channels && dim % codec.boxes->channels);
  return codec;
}

static void drawAppend(Kernel &kernel, Random &random, uint64_t turn) {
  kernel.choice[StoredRows] =
      turn % kTurns ? pinned(AxisInfo::Append, turn - turn / kTurns - 1).second
                    : drawValue(StoredRows, random);
  if (kernel.choice[StoredRows] == stored::Exchanged)
    kernel.dims[1] = kernel.dims[0];
  for (unsigned i : {0u, 1u})
    kernel.codecs[i] = random.percent(60)
                           ? drawStoredBoxes(kernel.dims[i], random)
                           : drawCodec(random.percent(60), random);
}

/// Of these kernels all but the first of some have the next value of every
/// axis: there are too few of them for one at a time. Each time round, other
/// values meet.
static void drawGatherChoices(Kernel &kernel, Random &random, uint64_t turn) {
  uint64_t next = turn - turn / kTurns - 1;
  uint64_t round = next / axisInfo(GatheredRows).values.size();
  for (unsigned axis = GatheredRows; axis < kAxes; ++axis)
    kernel.choice[axis] =
        turn % kTurns ? unsigned((next + (axis - GatheredRows) * round) %
                                 axisInfo(Axis(axis)).values.size())
                      : drawValue(Axis(axis), random);
  // Most calls want all: what they do not is not compared.
  if (turn % kTurns && next % 2)
    kernel.choice[GatheredWanted] = gathered::Both;
}

Kernel fuzz::drawKernel(uint64_t seed, uint64_t index) {
  Kernel kernel;
  kernel.seed = seed, kernel.index = index;
  if (Random sinks = kernel.random('N'); sinks.percent(40))
    kernel.sink = {sinks.range(-48, 96) / 16., sinks.range(-8, 8) / 16.,
                   sinks.range(0, 8) / 16.};
  Random random = kernel.random('K');
  drawStore(kernel, random);
  // Of eleven, eight attend: their bodies vary most.
  constexpr uint64_t kOf = 11, kAttends = 8;
  uint64_t round = index / kOf, place = index % kOf;
  if (place < kAttends) {
    kernel.kind = place % 4 < 2 ? Kind::Decode : Kind::Prefill;
    drawAttend(kernel, random, round * kAttends + place);
  } else if (place == kAttends) {
    kernel.kind = Kind::Append;
    drawAppend(kernel, random, round);
  } else if (place == kAttends + 1) {
    kernel.kind = Kind::Gather;
    drawGatherChoices(kernel, random, round);
    drawGather(kernel, random);
  } else {
    kernel.kind = Kind::Merge;
    for (Codec &codec : kernel.codecs)
      codec = drawCodec(random.percent(50), random);
    kernel.numSplits = random.pick({1, 2, 3, 7, 8, 9, 33, 40});
  }
  return kernel;
}

std::vector<std::string> Kernel::traits() const {
  std::vector<std::string> list;
  auto add = [&](const char *name, std::string value) {
    list.push_back(std::string(name) + ": " + std::move(value));
  };
  add("kind", kindName().str());
  add("model", nameOf(dtype));
  add("K", codecs[0].str());
  add("V", codecs[1].str());
  if (wide)
    add("W", wide->codec.str());
  add("dims", dims[0] == dims[1] ? "equal" : "differ");
  add("layout", (page ? page == 1     ? "pages of 1, "
                        : page == 256 ? "pages of 256, "
                                      : "pages, "
                      : "contiguous, ") +
                    std::string(nhd ? "NHD" : "HND"));
  for (unsigned axis = 0; axis < kAxes; ++axis) {
    const AxisInfo &info = axisInfo(Axis(axis));
    bool has = info.group == AxisInfo::Append   ? kind == Kind::Append
               : info.group == AxisInfo::Gather ? kind == Kind::Gather
                                                : isAttend();
    if (has)
      add(info.name, info.values[choice[axis]].name);
  }
  if (isAttend())
    add("read", (window ? std::string("window") : "all") +
                    (causal ? "" : " and ahead"));
  if (isAttend() || kind == Kind::Merge)
    add("sink", sink ? "one" : "none");
  return list;
}

bool Kernel::sees(const ScorePlace &place) const {
  if (causal && place.token > place.query)
    return false;
  bool read = !window || place.token < window->sink ||
              place.token > place.query - window->recent;
  return read && visible.holds(place);
}
