//===- Data.cpp - the numbers of a sequence -------------------------------===//
#include "lib/driver/Reference/Plain.h"
#include "lib/driver/Reference/Sequence.h"
#include "lib/driver/Verify/Batch.h"
#include "lib/driver/Verify/ExactValues.h"

#include "llvm/ADT/APFloat.h"

#include <cfloat>
#include <cmath>
#include <tuple>

using namespace kvc;
using namespace kvc::verify;

static constexpr float kInf = std::numeric_limits<float>::infinity();
/// By how much a logit wins: more than enough for all others to weigh nothing.
static constexpr double kWins = 1024, kLeastWins = 160;
/// Logits that still have 10 bits behind the point, as powers of two. Kernels
/// subtract a row's rounded reference; beyond this, what that rounding leaves
/// of the largest logit moves a probability of f16 off 1.
static constexpr double kMostLogit = 8192 * M_LN2;

const char *verify::name(DataKind kind) {
  static constexpr const char *names[] = {
      "normal",     "sharp",      "channels",  "uneven",   "equal",
      "dominant",   "decreasing", "huge",      "denormal", "zero",
      "infinite-v", "infinite-k", "addresses", "mean"};
  return names[unsigned(kind)];
}

namespace {

/// The largest magnitude that values of a type can have.
double largestOf(mlir::Type type) {
  return llvm::APFloat::getLargest(
             mlir::cast<mlir::FloatType>(type).getFloatSemantics())
      .convertToDouble();
}

/// The largest that survives a codec: one whose scale and zero are numbers,
/// too.
double largestOf(const StreamInfo &stream) {
  auto planes = stream.planes();
  mlir::Type code = planes[0].type;
  bool floats = mlir::isa<mlir::FloatType>(code);
  if (planes.size() == 1)
    return largestOf(code);
  // A group spans at most twice that, in at least half as many steps of a scale
  // as there are codes; without a zero it is once, in half of the steps.
  double codes = floats ? largestOf(code)
                        : std::ldexp(1, int(code.getIntOrFloatBitWidth()) - 2);
  double most = largestOf(planes[1].type) * codes;
  for (const CodecPlane &zeros : llvm::drop_begin(planes, 2))
    most = std::min(most, largestOf(zeros.type));
  return most;
}

/// The exponent below which values lose digits to a codec, if few.
int leastExponentOf(const StreamInfo &stream) {
  mlir::Type code = stream.codeType();
  if (stream.planes().size() > 1 || code.getIntOrFloatBitWidth() > 8)
    return -126;
  const llvm::fltSemantics &semantics =
      mlir::cast<mlir::FloatType>(code).getFloatSemantics();
  return llvm::APFloat::semanticsMinExponent(semantics) +
         int(llvm::APFloat::semanticsPrecision(semantics)) - 1;
}

/// The least magnitude that is not rounded to 0.
double smallestOf(const StreamInfo &stream) {
  auto type = mlir::dyn_cast<mlir::FloatType>(stream.codeType());
  if (!type || stream.planes().size() > 1)
    return 0;
  return llvm::APFloat::getSmallest(type.getFloatSemantics()).convertToDouble();
}

/// Whether a row of numbers of one magnitude keeps it for both signs, nearly:
/// not where the least of few codes stands for one of them, and none for the
/// other.
bool keepsNegatives(const StreamInfo &stream) {
  std::vector<float> row(stream.dim, 1.0f);
  for (int64_t c = 1; c < stream.dim; c += 2)
    row[c] = -1;
  std::vector<std::vector<uint8_t>> bytes;
  llvm::SmallVector<uint8_t *, 3> to;
  llvm::SmallVector<const uint8_t *, 3> from;
  for (const CodecPlane &plane : stream.planes())
    bytes.emplace_back(plane.elements * plane.type.getIntOrFloatBitWidth() / 8);
  for (std::vector<uint8_t> &plane : bytes)
    to.push_back(plane.data()), from.push_back(plane.data());
  stream.codec.quantizeRows(row, 1, to);
  stream.codec.dequantizeRow(from, row);
  return std::fabs(row[0] + row[1]) < 0.01f;
}

/// Fills one sequence. Whatever the model's scale, softcap and types are, q and
/// K are finite and logits as the kind says, or as near as finite numbers come.
class Filler {
public:
  Filler(const CompiledStore &store, TestSequence &sequence, Random &random)
      : store(store), sequence(sequence), random(random),
        dimK(store.cache().getDimK()), dimV(store.cache().getDimV()),
        kvHeads(store.kvHeads()), mostQ(largestOf(store.problem.dtype)),
        mostK(std::min(mostQ, largestOf(store.cache().stream(kStreamK)))),
        mostV(std::min(mostQ, largestOf(store.cache().stream(kStreamV)))),
        leastK(leastExponentOf(store.cache().stream(kStreamK))), exact(store) {}

  void fill();

private:
  void fillNormal();
  void chooseCodes();
  void fillAddresses();
  void drawPicks();
  int64_t pickFor(int64_t query, int64_t head);
  /// Whether the query sees the token with that q head.
  bool sees(int64_t query, int64_t head, int64_t token) const;
  void dropLosers();
  std::vector<float> keptK() const;
  bool wins(int64_t row, llvm::ArrayRef<float> kept);
  /// That of equal codes where q * K is `product`, before any softcap.
  double logitOf(double product) const {
    return store.problem.scale * dimK * product;
  }
  double winsBy(double product) const;
  double winning() const;
  void chooseOrthogonal();
  double codeAt(int64_t code, int64_t channel) const;
  void fillMean();
  /// Every key is `key(token)` in all channels, every query one number, so that
  /// the logits are `logit` * key(token); keys are up to `mostKey`.
  template <typename Key> void fillFlat(double logit, double mostKey, Key key);
  void unbalance();
  void spoil();
  /// Factors of q and of K, powers of two, with that product or as near as it
  /// may be where values are up to `query` and `key` times their factors.
  std::pair<double, double> share(double product, double query,
                                  double key) const;
  float *k(int64_t t, int64_t head) {
    return &sequence.k[(t * kvHeads + head) * dimK];
  }
  float *v(int64_t t, int64_t head) {
    return &sequence.v[(t * kvHeads + head) * dimV];
  }
  float *q(int64_t i, int64_t head) {
    return &sequence.q[(i * store.problem.qHeads + head) * dimK];
  }

  const CompiledStore &store;
  TestSequence &sequence;
  Random &random;
  const int64_t dimK, dimV, kvHeads;
  const double mostQ, mostK, mostV; ///< largest finite values
  const int leastK;                 ///< the least exponent that small keys have
  const ExactValues exact;
  double sizeQ = 1, sizeK = 1; ///< of fillNormal(), or of codes
  /// Bits of a token's code, each in some channels; 0: codes are orthogonal.
  int64_t bits = 0;
  int64_t codes = 0; ///< how many; 0: no logit can win
};

std::pair<double, double> Filler::share(double product, double query,
                                        double key) const {
  int exponent = std::ilogb(product);
  int roomQ = std::ilogb(mostQ / query), roomK = std::ilogb(mostK / key);
  // Halves of a small product: f16 has few negative exponents.
  if (exponent <= 0) {
    int k = std::min(std::max(exponent - exponent / 2, leastK), roomK);
    return {std::ldexp(1, exponent - k), std::ldexp(1, k)};
  }
  int q = std::min(exponent, roomQ);
  int k = std::clamp(exponent - q, std::min(0, roomK), roomK);
  return {std::ldexp(1, q), std::ldexp(1, k)};
}

/// Logits of variance 1, or as the model's scale makes them of plain numbers.
void Filler::fillNormal() {
  double size = store.problem.scale * std::sqrt(double(dimK));
  if ((size < 1. / 16 || size > 16) && !random.percent(20))
    std::tie(sizeQ, sizeK) = share(1 / size, 8, 64);
  for (float &x : sequence.q)
    x = float(random.normal() * sizeQ);
  for (float &x : sequence.k)
    x = float(random.normal() * sizeK);
  for (float &x : sequence.v)
    x = random.normal();
}

template <typename Key>
void Filler::fillFlat(double logit, double mostKey, Key key) {
  double product = logit / (store.problem.scale * dimK);
  double size = share(product, 1, mostKey).second;
  std::fill(sequence.q.begin(), sequence.q.end(),
            float(std::min(product / size, mostQ)));
  for (int64_t t = 0; t < sequence.length; ++t)
    std::fill_n(k(t, 0), kvHeads * dimK, float(size * key(t)));
}

/// By how much a code's logit beats all others where q * K is `product`, if
/// codes are in bits.
double Filler::winsBy(double product) const {
  double top = logitOf(product);
  double next = top - 2 * (dimK / bits) * store.problem.scale * product;
  if (!store.softcap)
    return top - next;
  double cap = *store.softcap;
  return cap * (std::tanh(top / cap) - std::tanh(next / cap));
}

/// The least q * K, a power of two, for which that is kWins, or less where
/// logits would pass kMostLogit, or else, under a softcap, that for which it is
/// most.
double Filler::winning() const {
  double best = 1, most = 0;
  for (int exponent = -60; exponent < 60 && most < kWins; ++exponent) {
    double product = std::ldexp(1, exponent), wins = winsBy(product);
    if (most >= kLeastWins && logitOf(product) > kMostLogit)
      break;
    if (wins > most)
      most = wins, best = product;
  }
  return best;
}

/// How tokens are told from each other: by codes in bits, or by orthogonal ones
/// where a softcap wants logits far apart.
void Filler::chooseCodes() {
  bits = llvm::Log2_64_Ceil(uint64_t(std::max<int64_t>(2, sequence.length)));
  bits = std::min(bits, dimK);
  codes = int64_t(1) << bits;
  std::tie(sizeQ, sizeK) = share(winning(), 1, 1);
  if (winsBy(sizeQ * sizeK) < kLeastWins) {
    codes = 0; // such as of 16-bit queries by keys of up to 448
    if (store.softcap)
      chooseOrthogonal();
  }
  if (!keepsNegatives(store.cache().stream(kStreamK)))
    codes = 0;
  // Where codes are fewer than tokens, each query wants one of its own.
  if (codes)
    sequence.queries = std::min(sequence.queries, codes - 1);
}

/// Rows of a Hadamard matrix: the cap is between a code's logit and all other
/// codes', twice the cap between it and those of tokens that are never picked.
/// That is enough where what the others weigh is rounded away beside it.
void Filler::chooseOrthogonal() {
  bits = 0;
  int64_t size = llvm::bit_floor(uint64_t(dimK));
  double cap = *store.softcap, unit = store.problem.scale * size;
  std::tie(sizeQ, sizeK) =
      share(std::exp2(std::ceil(std::log2(16 * cap / unit))), 1, double(size));
  double wins = cap * std::tanh(unit * sizeQ * sizeK / cap);
  double digits = store.problem.dtype.isF32() ? 26 : 14;
  double wanted = std::log(exact.addressRatio()) + digits * M_LN2;
  bool wide = wins >= wanted + std::log(double(size)) &&
              2 * wins >= wanted + std::log(double(sequence.length + 1));
  bool kept = sizeK >= smallestOf(store.cache().stream(kStreamK));
  codes = wide && kept ? size + 1 : 0;
}

/// What channel `channel` of keys, and of queries that pick them, says.
double Filler::codeAt(int64_t code, int64_t channel) const {
  if (bits)
    return (code >> (channel % bits)) & 1 ? 1 : -1;
  int64_t size = llvm::bit_floor(uint64_t(dimK));
  if (channel >= size)
    return 0;
  // Less the sum of all rows: as far from each of them.
  if (code == 0)
    return channel == 0 ? -double(size) : 0;
  return llvm::popcount(uint64_t(code - 1) & uint64_t(channel)) % 2 ? -1 : 1;
}

/// A token that the query sees with that q head; -1: none.
int64_t Filler::pickFor(int64_t query, int64_t head) {
  reference::QueryPlace place = sequence.place(query);
  if (store.hasVisible()) {
    llvm::SmallVector<int64_t> seen;
    reference::forEachSeen(store.problem, place, head,
                           [&](int64_t t) { seen.push_back(t); });
    if (seen.empty())
      return -1;
    return random.pick(
        {seen.front(), seen.back(), seen[random.below(seen.size())]});
  }
  reference::Visible visible = reference::visibleTo(store.problem, place);
  llvm::SmallVector<reference::Span, 2> spans;
  for (reference::Span span : {visible.sink, visible.recent})
    if (span.begin < span.end)
      spans.push_back(span);
  if (spans.empty())
    return -1;
  reference::Span span = spans[random.below(spans.size())];
  return random.pick(
      {span.begin, span.end - 1, random.range(span.begin, span.end - 1)});
}

bool Filler::sees(int64_t query, int64_t head, int64_t token) const {
  reference::QueryPlace place = sequence.place(query);
  return token >= 0 &&
         reference::visibleTo(store.problem, place).contains(token) &&
         store.problem.shown.visible(store.problem.place(place, head, token));
}

/// Draws what each query row picks, and the codes of tokens: their numbers, or
/// where there are fewer codes 0 for all that are never picked.
void Filler::drawPicks() {
  int64_t used = 0;
  bool few = codes < sequence.length || !bits;
  sequence.codes.assign(sequence.length, 0);
  for (int64_t t = 0; !few && t < sequence.length; ++t)
    sequence.codes[t] = int32_t(t);
  for (int64_t i = 0; i < sequence.queries; ++i) {
    int64_t first = -1;
    for (int64_t head = 0; head < store.problem.qHeads; ++head) {
      int64_t pick = codes ? pickFor(i, head) : -1;
      if (few && pick >= 0 && !sequence.codes[pick]) {
        // One is kept for each query to come.
        if (first < 0 || used + sequence.queries - i < codes)
          sequence.codes[pick] = int32_t(++used);
        else
          pick = sees(i, head, first) ? first : -1;
      }
      if (first < 0)
        first = pick;
      sequence.picks.push_back(int32_t(pick));
    }
  }
}

void Filler::fillAddresses() {
  drawPicks();
  for (int64_t t = 0; t < sequence.length; ++t)
    for (int64_t head = 0; head < kvHeads; ++head) {
      for (int64_t c = 0; c < dimK; ++c)
        k(t, head)[c] = float(sizeK * codeAt(sequence.codes[t], c));
      for (int64_t c = 0; c < dimV; ++c)
        v(t, head)[c] = exact.address(head, t, c);
    }
  for (int64_t row = 0; row < int64_t(sequence.picks.size()); ++row)
    if (int64_t pick = sequence.picks[row]; pick >= 0)
      for (int64_t c = 0; c < dimK; ++c)
        sequence.q[row * dimK + c] =
            float(sizeQ * codeAt(sequence.codes[pick], c));
}

/// K as the codec keeps it, [token][kv head][dim].
std::vector<float> Filler::keptK() const {
  StreamInfo info = store.cache().stream(kStreamK);
  std::vector<std::vector<uint8_t>> planes;
  llvm::SmallVector<uint8_t *, 3> to;
  llvm::SmallVector<const uint8_t *, 3> from;
  for (const CompiledStore::Plane &plane : store.planes)
    if (plane.stream == kStreamK)
      planes.emplace_back(plane.rowBytes);
  for (std::vector<uint8_t> &plane : planes)
    to.push_back(plane.data()), from.push_back(plane.data());
  std::vector<float> kept(sequence.k.size());
  for (size_t at = 0; at < kept.size(); at += dimK) {
    info.codec.quantizeRows({&sequence.k[at], size_t(dimK)}, 1, to);
    info.codec.dequantizeRow(from, {&kept[at], size_t(dimK)});
  }
  return kept;
}

/// Whether the logit of what row `row` of q picks beats all others and the
/// sink, whatever an expression makes of them.
bool Filler::wins(int64_t row, llvm::ArrayRef<float> kept) {
  int64_t head = row % store.problem.qHeads,
          kvHead = head / store.problem.group;
  reference::QueryPlace place = sequence.place(row / store.problem.qHeads);
  const float *q = &sequence.q[row * dimK];
  double top = -kInf, next = store.problem.sinkOf(head);
  reference::forEachSeen(store.problem, place, head, [&](int64_t t) {
    double product = 0;
    for (int64_t c = 0; c < dimK; ++c)
      product += double(q[c]) * kept[(t * kvHeads + kvHead) * dimK + c];
    double logit = store.problem.logits.logit(
        store.problem.scale * product, store.problem.place(place, head, t));
    double &most = t == sequence.picks[row] ? top : next;
    most = std::isnan(logit) ? kInf : std::max(most, logit);
  });
  return top - next >= kWins && std::fabs(top) <= kMostLogit;
}

/// Takes the picks of rows back that do not win.
void Filler::dropLosers() {
  std::vector<float> kept = keptK();
  for (int64_t row = 0; row < int64_t(sequence.picks.size()); ++row)
    if (sequence.picks[row] >= 0 && !wins(row, kept))
      sequence.picks[row] = -1;
}

void Filler::fillMean() {
  for (float &x : sequence.k)
    x = random.normal();
  for (int64_t t = 0; t < sequence.length; ++t)
    for (int64_t head = 0; head < kvHeads; ++head)
      exact.draw({v(t, head), size_t(dimV)}, random);
  takeKOfV(store, sequence);
}

/// Tokens and channels of V of very different sizes, and channels of K that are
/// strong where those of q are weak.
void Filler::unbalance() {
  for (int64_t row = 0; row < sequence.length * kvHeads; ++row) {
    double token = std::ldexp(1, -int(random.below(9)));
    for (int64_t c = 0; c < dimV; ++c)
      sequence.v[row * dimV + c] *= float(std::ldexp(token, -int(c % 11)));
    for (int64_t c = 0; c < dimK; ++c)
      sequence.k[row * dimK + c] *= float(std::ldexp(1, int(c % 6)));
  }
  for (size_t i = 0; i < sequence.q.size(); ++i)
    sequence.q[i] *= float(std::ldexp(1, -int(i % dimK % 6)));
}

/// Changes what fillNormal() left.
void Filler::spoil() {
  if (!sequence.length)
    return;
  switch (sequence.kind) {
  case DataKind::Sharp: {
    // Under a softcap scores lie where it bends.
    double times = std::max(
        8., std::min(1.5 * store.softcap.value_or(0), mostQ / (8 * sizeQ)));
    for (float &x : sequence.q)
      x *= float(times);
    break;
  }
  case DataKind::Channels:
    for (int64_t row = 0; row < sequence.length * kvHeads; ++row)
      for (int64_t c = 3; c < dimK; c += 23)
        sequence.k[row * dimK + c] *= 10;
    break;
  case DataKind::Uneven:
    unbalance();
    break;
  case DataKind::Equal:
    for (int64_t t = 1; t < sequence.length; ++t)
      std::copy_n(k(0, 0), kvHeads * dimK, k(t, 0));
    break;
  case DataKind::Dominant: {
    int64_t t = random.below(sequence.length);
    for (float &x : sequence.q)
      x = float(std::fabs(x) + 0.5 * sizeQ);
    std::fill_n(k(t, 0), kvHeads * dimK,
                float(40 / (store.problem.scale * dimK * sizeQ)));
    break;
  }
  case DataKind::Decreasing:
    fillFlat(6e4 / 4, 4 + sequence.length / 64.,
             [](int64_t t) { return -4 - t / 64.; });
    break;
  case DataKind::Huge:
    fillFlat(1e4, 1, [&](int64_t) { return random.pick({-1., 1.}); });
    break;
  case DataKind::Denormal: {
    float size = store.problem.dtype.isF16() ? 1e-6f : 1e-39f;
    for (auto *values : {&sequence.k, &sequence.v})
      for (float &x : *values)
        x *= size;
    break;
  }
  case DataKind::InfiniteV:
    for (int64_t n = 0; n < 4; ++n)
      sequence.v[random.below(sequence.v.size())] = kInf;
    break;
  case DataKind::InfiniteK: {
    // Infinite values of V are another kind.
    int64_t channel = store.cache().isVOfK() ? dimV : 0;
    if (channel == dimK)
      break;
    for (int64_t row = 0; row < sequence.queries * store.problem.qHeads; ++row)
      sequence.q[row * dimK + channel] = 1;
    for (int64_t head = 0; head < kvHeads; ++head)
      k(random.below(sequence.length), head)[channel] = -kInf;
    break;
  }
  default:
    break;
  }
}

void Filler::fill() {
  if (sequence.kind == DataKind::Addresses)
    chooseCodes();
  sequence.q.assign(sequence.queries * store.problem.qHeads * dimK, 0);
  sequence.k.assign(sequence.length * kvHeads * dimK, 0);
  sequence.v.assign(sequence.length * kvHeads * dimV, 0);
  if (sequence.kind == DataKind::Addresses) {
    fillAddresses();
  } else if (sequence.kind == DataKind::Mean) {
    fillMean();
  } else if (sequence.kind != DataKind::Zero) {
    fillNormal();
    spoil();
  }
  auto round = [&](std::vector<float> &values, double most) {
    for (float &x : values) {
      if (std::isfinite(x))
        x = std::clamp(x, float(-most), float(most));
      x = reference::roundTo(store.problem.dtype, x);
    }
  };
  round(sequence.q, mostQ);
  round(sequence.k, mostK);
  round(sequence.v, mostV);
  if (sequence.kind == DataKind::Addresses && store.hasWeights())
    dropLosers();
}

} // namespace

void verify::takeKOfV(const CompiledStore &store, TestSequence &sequence) {
  if (!store.cache().isVOfK())
    return;
  int64_t dimK = store.cache().getDimK(), dimV = store.cache().getDimV();
  for (int64_t row = 0; row < sequence.length * store.kvHeads(); ++row)
    for (int64_t c = 0; c < dimK; ++c)
      sequence.k[row * dimK + c] = sequence.v[row * dimV + c % dimV];
}

/// Where V is of K it is what K says.
static void takeVOfK(const CompiledStore &store, TestSequence &sequence) {
  if (!store.cache().isVOfK())
    return;
  int64_t dimK = store.cache().getDimK(), dimV = store.cache().getDimV();
  int64_t rows = sequence.k.size() / dimK;
  sequence.v.resize(rows * dimV);
  for (int64_t row = 0; row < rows; ++row)
    std::copy_n(&sequence.k[row * dimK], dimV, &sequence.v[row * dimV]);
}

void verify::quantize(const CompiledStore &store, TestSequence &sequence) {
  takeVOfK(store, sequence);
  int64_t kvHeads = store.kvHeads();
  sequence.planes.clear();
  for (const CompiledStore::Plane &plane : store.planes)
    sequence.planes.emplace_back(store.heads() * sequence.length *
                                 plane.rowBytes);
  for (llvm::StringRef stream : {kStreamK, kStreamV}) {
    if (stream == kStreamV && store.cache().isVOfK())
      continue;
    StreamInfo info = store.cache().stream(stream);
    const std::vector<float> &from =
        stream == kStreamK ? sequence.k : sequence.v;
    unsigned first = store.cache().planeIndex(stream);
    size_t count = info.planes().size();
    for (int64_t head = 0; head < store.heads(); ++head)
      for (int64_t t = 0; t < sequence.length; ++t) {
        int64_t index = t * kvHeads + store.problem.firstHead + head;
        int64_t to = head * sequence.length + t;
        llvm::SmallVector<uint8_t *, 3> rows;
        for (size_t plane = first; plane < first + count; ++plane)
          rows.push_back(
              &sequence.planes[plane][to * store.planes[plane].rowBytes]);
        info.codec.quantizeRows({&from[index * info.dim], size_t(info.dim)}, 1,
                                rows);
      }
  }
}

TestSequence verify::makeSequence(const CompiledStore &store, DataKind kind,
                                  int64_t length, int64_t queries,
                                  Random &random) {
  TestSequence sequence;
  sequence.kind = kind;
  sequence.length = length;
  sequence.queries = queries;
  Filler(store, sequence, random).fill();
  quantize(store, sequence);
  return sequence;
}
