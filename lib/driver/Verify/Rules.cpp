//===- Rules.cpp - the numerics contract, rule by rule --------------------===//
#include "lib/driver/Verify/Rules.h"
#include "lib/driver/Verify/BoundCheck.h"
#include "lib/driver/Verify/Gather.h"
#include "lib/driver/Verify/Oracle.h"

#include "lib/driver/Reference/Sequence.h"

#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/MathExtras.h"

#include <cmath>
#include <cstring>
#include <limits>

using namespace kvc;
using namespace kvc::verify;

/// Batch contexts of N11.
static constexpr unsigned kContexts = 20, kEmulatedContexts = 5;

namespace {

using Sequences = std::vector<const TestSequence *>;

/// One store's checks. Each rule is one function; all that is random comes from
/// `random`, in order.
class StoreCheck {
public:
  StoreCheck(const CompiledSpec &compiledSpec, const CompiledStore &store,
             uint64_t seed, uint64_t index)
      : compiledSpec(compiledSpec), store(store),
        random(seed, index, 'B' + store.index),
        batch(randomBatch(store, random)),
        neighbours(randomNeighbours(store, random)) {
    for (const TestSequence &sequence : batch)
      all.push_back(&sequence);
  }

  Report run();

private:
  void checkAppend();
  void checkGathered();
  bool checkReference();
  void checkRunToRun();
  void checkPoison();
  void checkContainment();
  void checkBadQuery();
  void checkInfiniteKey();
  void checkContexts();
  void checkNotVacuous();
  void checkExact();
  void checkMeans(const TestSequence &sequence, const SequenceOutput &output);
  bool showsNaN(const TestSequence &sequence, int64_t query, int64_t qHead);
  void checkMean(const TestSequence &sequence, const SequenceOutput &output,
                 int64_t head);

  Placement place(Poison poison, bool scatter);
  std::optional<Output> attendIn(const Sequences &sequences,
                                 const Placement &placement);
  Sequences context(unsigned number);
  int64_t heaviest(const TestSequence &sequence, int64_t head);
  float weightlessQuery(const TestSequence &sequence) const;

  const CompiledSpec &compiledSpec;
  const CompiledStore &store;
  Random random;
  std::vector<TestSequence> batch, neighbours;
  Sequences all;
  Output home; ///< of `all`; every context must give the same
  std::unique_ptr<Oracle> oracle;
  Report report;
};

} // namespace

Placement StoreCheck::place(Poison poison, bool scatter) {
  Placement placement;
  placement.poison = poison;
  placement.scatter = scatter;
  placement.salt = random.next();
  placement.device = random.below(Devices::kCount);
  return placement;
}

std::optional<Output> StoreCheck::attendIn(const Sequences &sequences,
                                           const Placement &placement) {
  BatchImage image(store, sequences, placement);
  return attend(compiledSpec, image, report);
}

/// N3: append leaves the bytes that the reference quantizer makes, and no
/// others.
void StoreCheck::checkAppend() {
  Placement placement = place(Poison::Random, random.percent(50));
  placement.rows = Placement::Rows::All;
  BatchImage expected(store, all, placement);
  placement.rows = Placement::Rows::None;
  BatchImage found(store, all, placement);
  if (!append(compiledSpec, found, report) ||
      !std::memcmp(expected.arena.data(), found.arena.data(),
                   expected.arena.size()))
    return;
  for (unsigned plane = 0; plane < store.planes.size(); ++plane)
    for (auto [b, sequence] : llvm::enumerate(all))
      for (int64_t head = 0; head < store.heads(); ++head)
        for (int64_t t = 0; t < sequence->length; ++t) {
          const uint8_t *want = expected.row(plane, b, head, t),
                        *got = found.row(plane, b, head, t);
          for (int64_t i = 0; i < store.planes[plane].rowBytes; ++i)
            if (want[i] != got[i])
              return report.fail(
                  "N3", llvm::formatv("store `{0}`, {1} data, plane {2}, head "
                                      "{3}, token {4}, byte {5}: expected {6}, "
                                      "found {7}",
                                      store.spec->name, name(sequence->kind),
                                      plane, head, t, i, want[i], got[i]));
        }
  report.fail("N3", "store `" + store.spec->name +
                        "`: append wrote beside the rows it was given");
}

/// N1, N2, N4, N6, N7: the batch against float64.
bool StoreCheck::checkReference() {
  auto output = attendIn(all, place(Poison::Zero, false));
  if (!output)
    return false;
  home = std::move(*output);
  oracle = std::make_unique<Oracle>(store, all, report);
  oracle->judge(home, report);
  for (const TestSequence *sequence : all) {
    report.longest = std::max(report.longest, sequence->length);
    report.splits = std::max(
        report.splits, store.splitsOf(sequence->length, sequence->queries));
  }
  return true;
}

/// N10: the same call again gives the same bits, with and without lse.
void StoreCheck::checkRunToRun() {
  Placement placement = place(Poison::Random, true);
  BatchImage image(store, all, placement);
  for (unsigned run = 0; run < 3 && !report.full(); ++run) {
    auto output = attend(compiledSpec, image, report);
    for (size_t b = 0; output && b < all.size(); ++b)
      sameBits(store, home[b], (*output)[b], "N10",
               llvm::formatv("sequence {0}, run {1}", b, run), report);
  }
  placement.lse = false;
  auto output = attendIn(all, placement);
  for (size_t b = 0; output && b < all.size(); ++b)
    sameBits(store, home[b], (*output)[b], "N10",
             llvm::formatv("sequence {0}, without lse", b), report);
}

/// N8: bytes that nobody owns never matter. What a kernel may have left in its
/// scratch is made bad as well, by running it over nothing but poison.
void StoreCheck::checkPoison() {
  for (Poison poison : kPoisons) {
    Placement placement = place(poison, true);
    placement.rows = Placement::Rows::None;
    BatchImage dirt(store, all, placement);
    (void)attend(compiledSpec, dirt, report);
    placement.rows = Placement::Rows::Seen;
    auto output = attendIn(all, placement);
    for (size_t b = 0; output && b < all.size(); ++b)
      sameBits(store, home[b], (*output)[b], "N8",
               llvm::formatv("sequence {0} of {1} tokens, poison {2}", b,
                             all[b]->length, name(poison)),
               report);
  }
}

/// N9: a NaN in the last token is in no row that does not see it.
void StoreCheck::checkContainment() {
  std::vector<TestSequence> spoiled;
  for (const TestSequence &sequence : batch) {
    spoiled.push_back(sequence);
    if (sequence.queries < 2 || !sequence.length)
      continue;
    for (auto [bytes, plane] : llvm::zip(spoiled.back().planes, store.planes))
      for (int64_t head = 0; head < store.heads(); ++head)
        std::memset(&bytes[(head * sequence.length + sequence.length - 1) *
                           plane.rowBytes],
                    0xff, plane.rowBytes);
  }
  Sequences sequences;
  for (const TestSequence &sequence : spoiled)
    sequences.push_back(&sequence);
  auto output = attendIn(sequences, place(Poison::Random, true));
  int64_t rows = store.queryHeads();
  for (size_t b = 0; output && b < sequences.size(); ++b) {
    SequenceOutput expected = home[b], &found = (*output)[b];
    const TestSequence &sequence = *sequences[b];
    for (int64_t row = 0; row < int64_t(found.lse.size()); ++row) {
      reference::QueryPlace place = sequence.place(row / rows);
      bool sees =
          sequence.queries >= 2 && reference::visibleTo(store.problem, place)
                                       .contains(sequence.length - 1);
      if (!sees)
        continue;
      size_t bytes = found.o.size() / found.lse.size();
      std::memcpy(&expected.o[row * bytes], &found.o[row * bytes], bytes);
      expected.lse[row] = found.lse[row];
    }
    sameBits(store, expected, found, "N9",
             llvm::formatv("sequence {0} of {1} tokens and {2} queries, NaN in "
                           "its last token",
                           b, sequences[b]->length, sequences[b]->queries),
             report);
  }
}

/// Whether a row whose scores are NaN has a logit that is: it sees some token,
/// and an expression passes the score on.
bool StoreCheck::showsNaN(const TestSequence &sequence, int64_t query,
                          int64_t qHead) {
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  reference::QueryPlace place = sequence.place(query);
  bool shows = false;
  reference::forEachSeen(store.problem, place, qHead, [&](int64_t t) {
    shows |= std::isnan(
        store.problem.logits.logit(nan, store.problem.place(place, qHead, t)));
  });
  return shows;
}

/// N9: a NaN in one channel of one query row is in that row, and in no other.
void StoreCheck::checkBadQuery() {
  int64_t heads = store.queryHeads(), dim = store.cache().getDimK();
  for (auto [b, sequence] : llvm::enumerate(batch)) {
    if (!sequence.queries || !sequence.length)
      continue;
    int64_t query = random.below(sequence.queries), head = random.below(heads);
    int64_t channel = random.below(dim);
    if (store.hasExpressions() &&
        !showsNaN(sequence, query, store.firstQuery() + head))
      continue;
    TestSequence spoiled = sequence;
    int64_t row = query * store.problem.qHeads + store.firstQuery() + head;
    spoiled.q[row * dim + channel] = std::numeric_limits<float>::quiet_NaN();
    auto output = attendIn({&spoiled}, place(Poison::Random, true));
    if (!output)
      return;
    // All but that row as it was; the row all NaN.
    SequenceOutput expected = home[b], &found = (*output)[0];
    int64_t at = query * heads + head, dimV = store.cache().getDimV();
    size_t bytes = found.o.size() / found.lse.size();
    bool isNaN = std::isnan(found.lse[at]);
    for (int64_t c = 0; c < dimV; ++c)
      isNaN &= std::isnan(
          element(store.problem.dtype, found.o.data(), at * dimV + c));
    if (!isNaN)
      return report.fail(
          "N9", llvm::formatv("store `{0}`, sequence {1}: NaN in channel {2} "
                              "of query {3}, q head {4} is lost",
                              store.spec->name, b, channel, query,
                              head + store.firstQuery()));
    std::memcpy(&expected.o[at * bytes], &found.o[at * bytes], bytes);
    expected.lse[at] = found.lse[at];
    sameBits(store, expected, found, "N9",
             llvm::formatv("sequence {0}, NaN in query {1}, q head {2}", b,
                           query, head + store.firstQuery()),
             report);
  }
}

/// By what to multiply the key -60000 so that in no row its logit has a weight,
/// whatever that row's others are; 0 if nothing is large enough.
float StoreCheck::weightlessQuery(const TestSequence &sequence) const {
  auto norm = [](const std::vector<float> &values, int64_t dim) {
    double largest = 0;
    for (size_t row = 0; row < values.size(); row += dim) {
      double sum = 0;
      for (int64_t c = 0; c < dim; ++c)
        sum += double(values[row + c]) * values[row + c];
      largest = std::max(largest, sum);
    }
    return std::sqrt(largest);
  };
  int64_t dim = store.cache().getDimK();
  double scale = store.problem.scale;
  double others = scale * norm(sequence.q, dim) * norm(sequence.k, dim);
  double wanted = (2 * others + 200) / scale;
  // A softcap takes both keys to its bound.
  if (store.softcap)
    wanted = std::max(wanted, (20 * *store.softcap + others) / scale);
  double query = std::exp2(std::ceil(std::log2(std::max(1., wanted / 60000))));
  return query <= (store.problem.dtype.isF16() ? 0x1p15 : 0x1p60) ? float(query)
                                                                  : 0;
}

/// N7: a key whose product is -infinity weighs as little as one whose product
/// is very negative: nothing.
void StoreCheck::checkInfiniteKey() {
  mlir::Type code = store.cache().stream(kStreamK).codeType();
  // An expression may make anything of a score, or hide all others.
  if (!isa<mlir::FloatType>(code) || store.hasLogits() || store.hasVisible())
    return;
  int64_t dim = store.cache().getDimK();
  // An infinite value of V would be in o.
  int64_t first = store.cache().isVOfK() ? store.cache().getDimV() : 0;
  if (first == dim)
    return;
  for (auto [b, sequence] : llvm::enumerate(batch)) {
    if (!sequence.queries || sequence.position(0) < 1 ||
        sequence.kind != DataKind::Normal)
      continue;
    float query = weightlessQuery(sequence);
    if (query == 0)
      continue;
    // A token before all queries, so that each sees another: its own.
    int64_t token = random.below(sequence.position(0));
    int64_t channel = random.range(first, dim - 1);
    TestSequence infinite = sequence;
    for (size_t row = 0; row < infinite.q.size() / dim; ++row)
      infinite.q[row * dim + channel] = query;
    for (size_t row = 0; row < infinite.k.size() / dim; ++row)
      infinite.k[row * dim + channel] = 0;
    TestSequence finite = infinite;
    for (int64_t head = 0; head < store.kvHeads(); ++head) {
      int64_t at = (token * store.kvHeads() + head) * dim + channel;
      infinite.k[at] = -std::numeric_limits<float>::infinity();
      finite.k[at] = -60000; // f16 has it
    }
    quantize(store, infinite);
    quantize(store, finite);
    auto expected = attendIn({&finite}, place(Poison::Random, true));
    auto found = attendIn({&infinite}, place(Poison::Random, true));
    if (expected && found)
      sameBits(store, (*expected)[0], (*found)[0], "N7",
               llvm::formatv("sequence {0}, -inf in channel {1} of key {2}", b,
                             channel, token),
               report);
  }
}

/// Each sequence alone first; then any of them in any order, between strangers.
Sequences StoreCheck::context(unsigned number) {
  if (number < all.size())
    return {all[number]};
  Sequences sequences;
  for (const TestSequence *sequence : all)
    if (random.percent(70))
      sequences.push_back(sequence);
  if (sequences.empty())
    sequences.push_back(all.front());
  for (const TestSequence &neighbour : neighbours)
    if (random.percent(60))
      sequences.push_back(&neighbour);
  random.shuffle(sequences);
  return sequences;
}

/// N11: a row's bits do not depend on its batch, pages, strides or threads.
void StoreCheck::checkContexts() {
  unsigned contexts = store.emulated ? kEmulatedContexts : kContexts;
  for (unsigned number = 0; number < contexts && !report.full(); ++number) {
    Sequences sequences = context(number);
    auto output = attendIn(sequences, place(Poison::Random, true));
    for (size_t i = 0; output && i < sequences.size(); ++i) {
      auto at = llvm::find(all, sequences[i]);
      if (at == all.end())
        continue;
      sameBits(store, home[at - all.begin()], (*output)[i], "N11",
               llvm::formatv("sequence {0} as number {1} of {2}, context {3}",
                             at - all.begin(), i, sequences.size(), number),
               report);
    }
  }
}

/// The token that weighs most for the last query and the first q head of a kv
/// head, by K as the cache holds it: what was given may have another winner
/// where logits are far apart. -1: they see none, or next to the sink it weighs
/// nothing.
int64_t StoreCheck::heaviest(const TestSequence &sequence, int64_t head) {
  int64_t dim = store.cache().getDimK(), best = -1;
  int64_t kvHead = store.problem.firstHead + head;
  const float *q = &sequence.q[((sequence.queries - 1) * store.problem.qHeads +
                                kvHead * store.problem.group) *
                               dim];
  double most = -std::numeric_limits<double>::infinity();
  int64_t qHead = kvHead * store.problem.group;
  reference::QueryPlace place = sequence.place(sequence.queries - 1);
  BatchImage image(store, {&sequence}, Placement());
  std::vector<float> k(dim);
  reference::forEachSeen(store.problem, place, qHead, [&](int64_t t) {
    image.dequantize(kStreamK, 0, head, t, k);
    double product = 0;
    for (int64_t j = 0; j < dim; ++j)
      product += double(q[j]) * k[j];
    double logit = store.problem.logits.logit(
        store.problem.scale * product, store.problem.place(place, qHead, t));
    if (best < 0 || logit > most)
      most = logit, best = t;
  });
  constexpr double kNothing = 60; // e^-60 of V shows in no 16 bits
  return most < store.problem.sinkOf(qHead) - kNothing ? -1 : best;
}

/// N14: the reference is not trivial, and one bit of the cache that is live
/// changes some output.
void StoreCheck::checkNotVacuous() {
  if (std::string why = oracle->vacuous(); !why.empty())
    return report.fail("N14", "store `" + store.spec->name +
                                  "`: nothing was compared: " + why);
  int64_t head = random.below(store.heads()), t = -1;
  size_t at = 0; // one is never trivial, but for what expressions hide
  for (; at < batch.size(); ++at)
    if (batch[at].kind == DataKind::Normal && batch[at].length >= 3 &&
        batch[at].queries >= 1 && (t = heaviest(batch[at], head)) >= 0)
      break;
  if (at == batch.size()) {
    if (!store.hasVisible() && !store.hasSink())
      report.fail("N14", "store `" + store.spec->name +
                             "`: no sequence that any bit of V matters to");
    return;
  }
  TestSequence changed = batch[at];
  unsigned codes = store.cache().planeIndex(kStreamV);
  const CompiledStore::Plane &plane = store.planes[codes];
  int64_t dim = store.cache().getDimV();
  const float *v =
      &changed.v[(t * store.kvHeads() + store.problem.firstHead + head) * dim];
  int64_t channel = std::max_element(v, v + dim,
                                     [](float x, float y) {
                                       return std::fabs(x) < std::fabs(y);
                                     }) -
                    v;
  int64_t row = head * changed.length + t;
  int64_t width = plane.type.getIntOrFloatBitWidth();
  int64_t top = channel * width + width - 1;
  changed.planes[codes][row * plane.rowBytes + top / 8] ^= 1 << top % 8;
  Sequences sequences = all;
  sequences[at] = &changed;
  auto output = attendIn(sequences, place(Poison::Random, false));
  if (output && (*output)[at].o == home[at].o)
    report.fail("N14", llvm::formatv("store `{0}`, sequence {1}: another top "
                                     "bit in its V changes nothing",
                                     store.spec->name, at));
}

/// N5: q = 0 over a power of two of tokens gives exact means of integers.
void StoreCheck::checkMeans(const TestSequence &sequence,
                            const SequenceOutput &output) {
  // An expression gives tokens weights of their own.
  if (store.hasWeights())
    return;
  for (int64_t head = 0; head < store.queryHeads() && !report.full(); ++head)
    checkMean(sequence, output, head);
}

/// Of q head `head` of the store and the only query.
void StoreCheck::checkMean(const TestSequence &sequence,
                           const SequenceOutput &output, int64_t head) {
  int64_t dim = store.cache().getDimV(), tokens = 0;
  int64_t kvHead = store.problem.firstHead + head / store.problem.group;
  std::vector<double> sums(dim);
  reference::forEachSeen(
      store.problem, sequence.place(0), head + store.firstQuery(),
      [&](int64_t t) {
        ++tokens;
        for (int64_t c = 0; c < dim; ++c)
          sums[c] += sequence.v[(t * store.kvHeads() + kvHead) * dim + c];
      });
  if (!llvm::isPowerOf2_64(tokens))
    return;
  for (int64_t c = 0; c < dim; ++c) {
    float mean = sums[c] / tokens;
    uint8_t bits[4];
    pack(store.problem.dtype, mean, bits);
    float expected = element(store.problem.dtype, bits, 0);
    float found = element(store.problem.dtype, output.o.data(), head * dim + c);
    if (found != expected)
      return report.fail(
          "N5", llvm::formatv("store `{0}`, q head {1}, o[{2}]: the mean over "
                              "{3} tokens is {4}, expected exactly {5}",
                              store.spec->name, head + store.firstQuery(), c,
                              tokens, number(found), number(expected)));
  }
}

void StoreCheck::checkExact() {
  std::vector<TestSequence> exact = exactBatch(store, random);
  Sequences sequences;
  for (const TestSequence &sequence : exact)
    sequences.push_back(&sequence);
  auto output = attendIn(sequences, place(Poison::Random, true));
  for (size_t b = 0; output && b < sequences.size(); ++b) {
    if (sequences[b]->kind == DataKind::Mean)
      checkMeans(*sequences[b], (*output)[b]);
    else
      checkAddresses(store, *sequences[b], (*output)[b], report);
  }
}

/// N15, on bytes of all tokens.
void StoreCheck::checkGathered() {
  Placement placement = place(Poison::Random, random.percent(50));
  placement.rows = Placement::Rows::All;
  BatchImage image(store, all, placement);
  checkGather(compiledSpec, image, report);
}

Report StoreCheck::run() {
  checkAppend();
  if (!checkReference())
    return report;
  for (void (StoreCheck::*rule)() :
       {&StoreCheck::checkExact, &StoreCheck::checkRunToRun,
        &StoreCheck::checkPoison, &StoreCheck::checkContainment,
        &StoreCheck::checkBadQuery, &StoreCheck::checkInfiniteKey,
        &StoreCheck::checkContexts, &StoreCheck::checkNotVacuous,
        &StoreCheck::checkGathered})
    if (!report.full())
      (this->*rule)();
  return report;
}

Report verify::checkStore(const CompiledSpec &compiledSpec,
                          const CompiledStore &store, uint64_t seed,
                          uint64_t index) {
  return StoreCheck(compiledSpec, store, seed, index).run();
}
