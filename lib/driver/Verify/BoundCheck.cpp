//===- BoundCheck.cpp - what kernels give next to every bound -------------===//
#include "lib/driver/Verify/BoundCheck.h"
#include "lib/driver/Reference/Plain.h"
#include "lib/driver/Reference/Sequence.h"
#include "lib/driver/Verify/ExactValues.h"
#include "lib/driver/Verify/Oracle.h"

#include "llvm/Support/FormatVariadic.h"

#include <cmath>
#include <cstring>
#include <set>

using namespace kvc;
using namespace kvc::verify;

//===----------------------------------------------------------------------===//
// Sequences that cost little
//===----------------------------------------------------------------------===//

namespace {

/// A few rows of K and V, quantized, of which long sequences are made.
class Pool {
public:
  Pool(const CompiledStore &store, DataKind kind, int64_t queries,
       Random &random)
      : store(store), kind(kind), queries(queries),
        dimV(store.cache().getDimV()), exact(store),
        rows(makeSequence(store, DataKind::Normal, std::max(kRows, queries),
                          queries, random)) {
    if (kind == DataKind::Normal)
      return;
    std::fill(rows.q.begin(), rows.q.end(), 0.f);
    if (kind == DataKind::Zero) {
      std::fill(rows.v.begin(), rows.v.end(), 0.f);
      std::fill_n(rows.v.begin(), store.kvHeads() * dimV, mark());
    } else {
      for (size_t at = 0; at < rows.v.size(); at += dimV)
        exact.draw({&rows.v[at], size_t(dimV)}, random);
    }
    takeKOfV(store, rows); // q is 0
    quantize(store, rows);
  }

  /// What V of row 0 is in every channel, of zeros.
  float mark() const { return exact.markOfRow(); }

  TestSequence sequence(int64_t tokens, Random &random);
  /// The same, row 0 for the `marked` tokens and others for the rest.
  TestSequence sequence(int64_t tokens, const std::set<int64_t> &marked,
                        Random &random);
  /// Elements [kv heads of the store][dim v] of the V that a token got.
  const float *v(int64_t token) const {
    return &rows.v[(from[token] * store.kvHeads() + store.problem.firstHead) *
                   dimV];
  }

private:
  static constexpr int64_t kRows = 61;

  /// Of the rows that `from` says.
  TestSequence make();

  const CompiledStore &store;
  DataKind kind;
  int64_t queries, dimV;
  ExactValues exact;
  TestSequence rows;
  std::vector<int32_t> from; ///< row of each token
};

TestSequence Pool::sequence(int64_t tokens, Random &random) {
  from.resize(tokens);
  for (int32_t &row : from)
    row = random.below(rows.length);
  return make();
}

TestSequence Pool::sequence(int64_t tokens, const std::set<int64_t> &marked,
                            Random &random) {
  from.resize(tokens);
  for (int32_t &row : from)
    row = random.range(1, rows.length - 1);
  for (int64_t token : marked)
    from[token] = 0;
  return make();
}

/// Its k and v are those of the pool: enough for the largest of them.
TestSequence Pool::make() {
  int64_t tokens = from.size();
  TestSequence sequence;
  sequence.kind = kind;
  sequence.length = tokens;
  sequence.queries = queries;
  sequence.q = rows.q;
  sequence.k = rows.k;
  sequence.v = rows.v;
  for (auto [plane, made] : llvm::zip(store.planes, rows.planes)) {
    std::vector<uint8_t> &to = sequence.planes.emplace_back();
    to.resize(store.heads() * tokens * plane.rowBytes);
    for (int64_t head = 0; head < store.heads(); ++head)
      for (int64_t t = 0; t < tokens; ++t)
        std::memcpy(&to[(head * tokens + t) * plane.rowBytes],
                    &made[(head * rows.length + from[t]) * plane.rowBytes],
                    plane.rowBytes);
  }
  return sequence;
}

//===----------------------------------------------------------------------===//
// Checks
//===----------------------------------------------------------------------===//

/// What one visit costs: of one kernel, multiplications; and cached elements.
struct Cost {
  int64_t macs, elements;
};
Cost costOf(const CompiledStore &store, const Visit &visit) {
  int64_t dims = store.cache().getDimK() + store.cache().getDimV();
  // The references evaluate expressions for every head and token.
  int64_t steps = store.hasLogits() || store.hasVisible() ? 512 : 0;
  int64_t seen = visit.tokens;
  if (store.window && store.problem.causal)
    seen = std::min(seen, int64_t(store.window->sink) + store.window->recent +
                              visit.queries);
  return {visit.queries * seen * store.queryHeads() * (dims + steps),
          visit.tokens * store.heads() * dims};
}

/// Above these a visit is not made, by who runs the kernels and for how long.
Cost limitOf(const CompiledStore &store, Visits which) {
  if (store.emulated)
    return which == Visits::Sample ? Cost{300'000, 150'000}
                                   : Cost{3'000'000, 2'000'000};
  return which == Visits::Sample ? Cost{20'000'000, 2'000'000}
                                 : Cost{10'000'000'000, 80'000'000};
}

/// One visit, with all that is drawn for it from `random`.
class BoundCheck {
public:
  BoundCheck(const CompiledSpec &compiledSpec, const CompiledStore &store,
             const Visit &visit, Random random, Report &report)
      : compiledSpec(compiledSpec), store(store), visit(visit),
        cost(costOf(store, visit)), random(random), report(report) {}
  void run();

private:
  void checkCounts();
  void judgeCounts(const Pool &pool, const SequenceOutput &output);
  struct Weights;
  Weights weightsOf(int64_t query, int64_t qHead);
  void judgeCount(int64_t row, const Weights &weights, double lse);
  struct Mean;
  Mean meanOf(const Pool &pool, const Weights &weights, int64_t kvHead);
  void judgeMean(int64_t row, const Weights &weights, const Mean &mean,
                 const SequenceOutput &output);
  void checkEdges();
  void checkNamed();
  void checkNumbers();
  std::optional<SequenceOutput> attendTo(const TestSequence &sequence,
                                         Poison poison, bool scatter,
                                         unsigned device);
  std::string where(int64_t row) const;

  const CompiledSpec &compiledSpec;
  const CompiledStore &store;
  const Visit visit;
  const Cost cost;
  Random random;
  Report &report;
};

std::optional<SequenceOutput> BoundCheck::attendTo(const TestSequence &sequence,
                                                   Poison poison, bool scatter,
                                                   unsigned device) {
  Placement placement;
  placement.poison = poison;
  placement.scatter = scatter;
  placement.salt = random.next();
  placement.device = device;
  BatchImage image(store, &sequence, placement);
  auto output = attend(compiledSpec, image, report);
  return output ? std::optional(std::move(output->front())) : std::nullopt;
}

std::string BoundCheck::where(int64_t row) const {
  return llvm::formatv("store `{0}`, {1} tokens, query {2} of {3}, q head {4}",
                       store.spec->name, visit.tokens, row / store.queryHeads(),
                       visit.queries,
                       row % store.queryHeads() + store.firstQuery());
}

/// What a row of zero scores weighs: each token the same, unless an expression
/// makes logits of them; and what a sink adds to the sum.
struct BoundCheck::Weights {
  std::vector<int64_t> tokens;
  std::vector<double> weights; ///< the largest is 1
  double total = 0;
  double lse = 0;
  double error = 0; ///< of a logit
};

/// Of query token `query`.
BoundCheck::Weights BoundCheck::weightsOf(int64_t query, int64_t qHead) {
  Weights row;
  TestSequence sequence;
  sequence.length = visit.tokens;
  sequence.queries = visit.queries;
  reference::QueryPlace place = sequence.place(query);
  reference::Approx sink =
      store.problem.sinks.approxSink(store.problem.place(place, qHead, 0));
  double largest = sink.value;
  row.error = sink.error;
  auto logitOf = [&](int64_t t) {
    return store.problem.logits.logit(reference::Approx{},
                                      store.problem.place(place, qHead, t));
  };
  bool uniform = !store.hasLogits();
  reference::forEachSeen(store.problem, place, qHead, [&](int64_t t) {
    reference::Approx logit = uniform ? reference::Approx() : logitOf(t);
    largest = std::max(largest, logit.value);
    row.error = std::max(row.error, logit.error);
    row.tokens.push_back(t);
    row.weights.push_back(logit.value);
  });
  // With nothing but -inf every weight is 0, rather than exp(-inf + inf).
  double shift = largest == -INFINITY ? 0 : largest;
  if (store.hasSink())
    row.total = std::exp(sink.value - shift);
  for (double &weight : row.weights)
    row.total += weight = std::exp(weight - shift);
  row.lse = shift + std::log(row.total);
  return row;
}

/// "2.5 +- 0.01", or what is not finite alone.
static std::string numberWithin(double x, double bound) {
  return std::isfinite(x) ? number(x) + " +- " + number(bound) : number(x);
}

/// With logits of 0 lse is log(tokens seen). Up to some ten thousand of them no
/// rounding comes near that of one token more or less; beyond, checkEdges()
/// does what this cannot.
void BoundCheck::judgeCount(int64_t row, const Weights &weights, double lse) {
  double bound =
      32 * 0x1p-24 * (1 + std::fabs(weights.lse)) + 2 * weights.error;
  // An expression that is NaN makes it so: there is nothing to count by.
  bool bothNaN = std::isnan(lse) && std::isnan(weights.lse);
  if (lse == weights.lse || bothNaN ||
      (std::isfinite(weights.lse) && std::fabs(lse - weights.lse) <= bound))
    return;
  if (!store.hasWeights())
    return report.fail("N5",
                       llvm::formatv("{0}: sees {1} tokens, its lse counts {2}",
                                     where(row), weights.tokens.size(),
                                     number(std::exp(lse))));
  report.fail("N5",
              llvm::formatv("{0}: lse over {1} tokens is {2}, expected "
                            "{3}",
                            where(row), weights.tokens.size(), number(lse),
                            numberWithin(weights.lse, bound)));
}

/// What o is, per channel, and the same of V's absolute values.
struct BoundCheck::Mean {
  std::vector<double> values, sizes;
};

BoundCheck::Mean BoundCheck::meanOf(const Pool &pool, const Weights &weights,
                                    int64_t kvHead) {
  int64_t dim = store.cache().getDimV();
  Mean mean{std::vector<double>(dim), std::vector<double>(dim)};
  for (auto [t, weight] : llvm::zip(weights.tokens, weights.weights))
    for (int64_t c = 0; c < dim; ++c) {
      mean.values[c] += weight * pool.v(t)[kvHead * dim + c];
      mean.sizes[c] += weight * std::fabs(pool.v(t)[kvHead * dim + c]);
    }
  // A row whose tokens all weigh nothing is 0.
  for (int64_t c = 0; c < dim && weights.total != 0; ++c) {
    mean.values[c] /= weights.total;
    mean.sizes[c] /= weights.total;
  }
  return mean;
}

void BoundCheck::judgeMean(int64_t row, const Weights &weights,
                           const Mean &mean, const SequenceOutput &output) {
  int64_t dim = store.cache().getDimV();
  mlir::Type dtype = store.problem.dtype;
  double unit = dtype.isF32() ? 0x1p-24 : dtype.isF16() ? 0x1p-11 : 0x1p-8;
  double sums =
      4 * 0x1p-24 * (2 * std::sqrt(double(weights.tokens.size())) + 17);
  for (int64_t c = 0; c < dim && !weights.tokens.empty(); ++c) {
    double expected = mean.values[c];
    double found = element(dtype, output.o.data(), row * dim + c);
    // 2^-9: the least that integers over a few thousand tokens differ by is
    // well above, and what probabilities in fixed point lose is well below.
    double bound = unit * std::fabs(expected) + 0x1p-9 +
                   ExactValues::kMostDrawn * std::expm1(2 * weights.error);
    // Equal weights are 1; others are rounded, and so are their sums (N2).
    if (store.hasWeights())
      bound += (2 * unit + sums) * mean.sizes[c];
    bool bothNaN = std::isnan(found) && std::isnan(expected);
    if (bothNaN || std::fabs(found - expected) <= bound)
      continue;
    return report.fail(
        "N5",
        llvm::formatv("{0}, o[{1}]: the mean over {2} tokens is {3}, expected "
                      "{4}",
                      where(row), c, weights.tokens.size(), number(found),
                      numberWithin(expected, bound)));
  }
}

void BoundCheck::judgeCounts(const Pool &pool, const SequenceOutput &output) {
  // Without expressions all heads see the same.
  bool perHead = store.hasExpressions();
  for (int64_t query = 0; query < visit.queries && !report.full(); ++query) {
    Weights weights;
    Mean mean;
    for (int64_t head = 0; head < store.queryHeads(); ++head) {
      if (head == 0 || perHead)
        weights = weightsOf(query, head + store.firstQuery());
      if (head % store.problem.group == 0 || perHead)
        mean = meanOf(pool, weights, head / store.problem.group);
      int64_t row = query * store.queryHeads() + head;
      judgeCount(row, weights, output.lse[row]);
      judgeMean(row, weights, mean, output);
    }
  }
}

/// Which tokens are seen, and each once: those that are not are NaN.
void BoundCheck::checkCounts() {
  Pool pool(store, DataKind::Mean, visit.queries, random);
  TestSequence sequence = pool.sequence(visit.tokens, random);
  if (auto output =
          attendTo(sequence, Poison::NaN, true, random.below(Devices::kCount)))
    judgeCounts(pool, *output);
}

/// The first and the last token of the first and the last run of tokens that a
/// query sees.
static void addEdges(llvm::ArrayRef<int64_t> tokens, std::set<int64_t> &edges) {
  if (tokens.empty())
    return;
  edges.insert({tokens.front(), tokens.back()});
  auto breaks = [&](size_t i) { return tokens[i] + 1 != tokens[i + 1]; };
  for (size_t i = 0; i + 1 < tokens.size(); ++i)
    if (breaks(i)) {
      edges.insert(tokens[i]);
      break;
    }
  for (size_t i = tokens.size() - 1; i-- > 0;)
    if (breaks(i)) {
      edges.insert(tokens[i + 1]);
      break;
    }
}

/// Whether the tokens at the edges of what a query sees are seen: they are all
/// that o has, however many tokens share the weight.
void BoundCheck::checkEdges() {
  Pool pool(store, DataKind::Zero, visit.queries, random);
  std::set<int64_t> edges;
  for (int64_t query : {int64_t(0), visit.queries - 1})
    for (int64_t head : {int64_t(0), store.queryHeads() - 1})
      addEdges(weightsOf(query, head + store.firstQuery()).tokens, edges);
  TestSequence sequence = pool.sequence(visit.tokens, edges, random);
  auto output =
      attendTo(sequence, Poison::NaN, true, random.below(Devices::kCount));
  if (!output)
    return;
  for (int64_t row = 0; row < visit.queries * store.queryHeads(); ++row) {
    Weights weights = weightsOf(row / store.queryHeads(),
                                row % store.queryHeads() + store.firstQuery());
    double found = element(store.problem.dtype, output->o.data(),
                           row * store.cache().getDimV());
    if (weights.tokens.empty()) {
      if (found != 0)
        return report.fail("N6",
                           llvm::formatv("{0}: sees nothing and gives {1}",
                                         where(row), number(found)));
      continue;
    }
    double marks = 0;
    for (auto [t, weight] : llvm::zip(weights.tokens, weights.weights))
      marks += edges.count(t) ? weight : 0;
    // Where all tokens weigh nothing o is 0.
    double unit = weights.total == 0 ? 0 : pool.mark() / weights.total;
    double expected = marks * unit;
    if (std::isnan(found) && std::isnan(expected))
      continue;
    // One edge of five is 20 %. Beside the largest weight, 1, one of 2^-24 may
    // be nothing: a slope leaves distant tokens less than f32 has.
    double least = double(edges.size()) * 0x1p-24 * unit;
    if (!(std::fabs(found - expected) <= 0.05 * expected + least))
      return report.fail(
          "N5",
          llvm::formatv("{0}: the tokens at the edges of what is seen weigh "
                        "{1} and give {2}, expected {3}",
                        where(row), number(marks), number(found),
                        number(expected)));
  }
}

/// Where each seen token is.
void BoundCheck::checkNamed() {
  TestSequence sequence = makeSequence(store, DataKind::Addresses, visit.tokens,
                                       visit.queries, random);
  if (auto output = attendTo(sequence, Poison::Random, true,
                             random.below(Devices::kCount)))
    checkAddresses(store, sequence, *output, report);
}

/// What is computed from them, and that it depends on no page.
void BoundCheck::checkNumbers() {
  Pool pool(store, DataKind::Normal, visit.queries, random);
  TestSequence sequence = pool.sequence(visit.tokens, random);
  auto home = attendTo(sequence, Poison::Zero, false, 0);
  if (!home)
    return;
  const TestSequence *only = &sequence;
  Oracle(store, only, report).judge({*home}, report);
  auto other = attendTo(sequence, Poison::MinusInfinity, true, 1);
  if (other)
    sameBits(store, *home, *other, "N11",
             llvm::formatv("{0} tokens in other pages", visit.tokens), report);
}

void BoundCheck::run() {
  // A float64 reference does some hundred million multiplications a second.
  static constexpr Cost kQuick{100'000'000, 24'000'000};
  report.longest = std::max(report.longest, visit.tokens);
  report.splits =
      std::max(report.splits, store.splitsOf(visit.tokens, visit.queries));
  checkCounts();
  checkEdges();
  if (store.window &&
      visit.tokens > int64_t(store.window->sink) + store.window->recent)
    report.beyondWindow.insert(store.index);
  if (cost.elements <= kQuick.elements)
    checkNamed();
  if (cost.macs <= kQuick.macs && cost.elements <= kQuick.elements)
    checkNumbers();
}

/// The visits of a case, by number.
std::vector<size_t> choose(const CompiledStore &store, const Bounds &bounds,
                           uint64_t index, Visits which, Random &random) {
  static constexpr size_t kSamples = 3;
  Cost limit = limitOf(store, which);
  std::vector<size_t> chosen;
  for (size_t number = 0; number < bounds.visits.size(); ++number) {
    Cost cost = costOf(store, bounds.visits[number]);
    if (cost.macs > limit.macs || cost.elements > limit.elements ||
        (which == Visits::Share && number % kShares != index % kShares))
      continue;
    chosen.push_back(number);
  }
  if (which == Visits::Sample) {
    random.shuffle(chosen);
    chosen.resize(std::min(chosen.size(), kSamples));
  }
  return chosen;
}

} // namespace

/// V of a token at a head of the store, as it is cached.
static void dequantizeV(const CompiledStore &store,
                        const TestSequence &sequence, int64_t head,
                        int64_t token, llvm::MutableArrayRef<float> row) {
  StreamInfo info = store.cache().stream(kStreamV);
  unsigned plane = store.cache().planeIndex(kStreamV);
  llvm::SmallVector<const uint8_t *, 3> rows;
  for (size_t i = 0; i < info.planes().size(); ++i, ++plane)
    rows.push_back(&sequence.planes[plane][(head * sequence.length + token) *
                                           store.planes[plane].rowBytes]);
  info.codec.dequantizeRow(rows, row);
}

void verify::checkAddresses(const CompiledStore &store,
                            const TestSequence &sequence,
                            const SequenceOutput &output, Report &report) {
  int64_t dim = store.cache().getDimV(), heads = store.queryHeads();
  ExactValues exact(store);
  for (int64_t i = 0; i < sequence.queries * heads; ++i) {
    int64_t query = i / heads, head = i % heads;
    if (!sequence.length)
      continue;
    int64_t row = query * store.problem.qHeads + store.firstQuery() + head;
    int64_t pick = sequence.picks[row];
    if (pick < 0) {
      ++report.unnamedRows;
      continue;
    }
    ++report.exactRows;
    int64_t kvHead = store.problem.firstHead + head / store.problem.group;
    // Where V is of K it has the numbers of K's codes as they are cached, which
    // the model's dtype need not have to the bit.
    bool isOfK = store.cache().isVOfK();
    std::vector<float> v(dim);
    if (isOfK)
      dequantizeV(store, sequence, head / store.problem.group, pick, v);
    float within = 0; // of the row's largest
    for (float x : v)
      within = std::max(within, std::fabs(x) / 128);
    for (int64_t c = 0; c < dim; ++c) {
      float expected = isOfK ? v[c] : exact.address(kvHead, pick, c);
      float found = element(store.problem.dtype, output.o.data(), i * dim + c);
      if (std::fabs(found - expected) <= within)
        continue;
      return report.fail(
          "N5", llvm::formatv("store `{0}`, {1} tokens, query {2} of {3}, q "
                              "head {4}, picks token {5}: o[{6}] is {7}, "
                              "expected {9}{8}",
                              store.spec->name, sequence.length, query,
                              sequence.queries, head + store.firstQuery(), pick,
                              c, number(found), number(expected),
                              isOfK ? "about " : "exactly "));
    }
  }
}

Report verify::checkBounds(const CompiledSpec &compiledSpec,
                           const CompiledStore &store, uint64_t seed,
                           uint64_t index, Visits which) {
  Report report;
  Random random(seed, index, 'V' + (uint64_t(store.index) << 8));
  Bounds bounds = boundsOf(store);
  for (size_t number : choose(store, bounds, index, which, random)) {
    if (report.full())
      break;
    BoundCheck(compiledSpec, store, bounds.visits[number],
               Random(random.next(), number), report)
        .run();
    report.visited.emplace(store.index, number);
  }
  return report;
}
