//===- Attend.cpp - attention in float64 ----------------------------------===//
#include "lib/driver/Reference/Attend.h"
#include "lib/driver/Reference/Sequence.h"

#include <cmath>

using namespace kvc;
using namespace kvc::reference;

static constexpr double kInf = std::numeric_limits<double>::infinity();
/// Query rows that go through the cache together: enough to make use of each
/// dequantized row, few enough that their scores stay in the cache of the CPU.
static constexpr int64_t kRowBlock = 32;

AttendProblem AttendProblem::of(AttendOp op,
                                std::shared_ptr<const GivenConstants> given) {
  auto store = mlir::SymbolTable::lookupNearestSymbolFrom<StoreOp>(
      op, op.getStoreAttr());
  AttendProblem problem;
  problem.cache = mlir::cast<CacheType>(op.getCache().getType());
  problem.dtype =
      mlir::cast<mlir::RankedTensorType>(op.getQ().getType()).getElementType();
  problem.firstHead = store.getHeadBegin();
  problem.group = store.getGroup();
  problem.qHeads = store.getQHeads();
  problem.scale = op.getScale().convertToDouble();
  problem.logits = ScoreProgram(op.getLogits(), given);
  problem.shown = ScoreProgram(op.getVisible(), given);
  problem.sinks = ScoreProgram(op.getSink(), given);
  problem.splitTokens = op.getSplits();
  problem.sink = store.read().getSinkTokens();
  problem.recent = store.read().getRecentTokens();
  problem.causal = store.read().isCausal();
  return problem;
}

AttendResult AttendResult::empty(const AttendProblem &problem, int64_t rows,
                                 std::optional<int64_t> numSplits) {
  llvm::SmallVector<int64_t, 4> shape;
  if (numSplits)
    shape.push_back(*numSplits);
  shape.append({rows, problem.qHeads});
  AttendResult result;
  result.lse = result.largest = Tensor(shape, -kInf);
  shape.push_back(problem.cache.getDimV());
  result.o = Tensor(shape, 0);
  return result;
}

namespace {

/// <a, b> for a multiple of 8 elements, as eight sums that the compiler can
/// keep in vectors.
double dot(const double *a, const double *b, int64_t count) {
  double sums[8] = {};
  for (int64_t i = 0; i < count; i += 8)
    for (int64_t j = 0; j < 8; ++j)
      sums[j] += a[i + j] * b[i + j];
  return ((sums[0] + sums[1]) + (sums[2] + sums[3])) +
         ((sums[4] + sums[5]) + (sums[6] + sums[7]));
}

/// Attention of all rows of one sequence and kv head, block by block.
class Attention {
public:
  Attention(const AttendProblem &problem, const Sequence &sequence, Rows q,
            AttendResult &result, ScoreErrorFn errors)
      : problem(problem), sequence(sequence), q(q), result(result),
        errors(errors), dimK(problem.cache.getDimK()),
        dimV(problem.cache.getDimV()) {}

  /// The rows of [first, first + kRowBlock) over the tokens in `span`, which
  /// are split `splitIdx` of the result.
  void run(int64_t first, Span span, int64_t splitIdx);

private:
  void computeScores();
  void keepErrors(int64_t r, int64_t t, double s, const ScorePlace &place);
  void noteErrors(int64_t r, double sink);
  void softmax(int64_t r);
  void accumulate();
  void store(int64_t r, int64_t splitIdx);
  int64_t at(int64_t r, int64_t t) const {
    return r * (tokens.end - tokens.begin) + t - tokens.begin;
  }
  double &score(int64_t r, int64_t t) { return scores[at(r, t)]; }
  /// Only of tokens that some row may see.
  char &seen(int64_t r, int64_t t) { return isSeen[at(r, t)]; }

  const AttendProblem &problem;
  const Sequence &sequence;
  Rows q;
  AttendResult &result;
  const ScoreErrorFn errors;
  const int64_t dimK, dimV;

  // Of the block: rows, tokens, and what each row sees.
  int64_t begin = 0, end = 0;
  Span tokens;
  Visible any;
  llvm::SmallVector<Visible> visible;
  std::vector<double> queries, scores, sums, row;
  std::vector<char> isSeen;
  std::vector<ScoreError> logitErrors; ///< of each score; only with `errors`
  llvm::SmallVector<double> largest, origin, total;
};

void Attention::computeScores() {
  int64_t rows = end - begin;
  queries.resize(rows * dimK);
  for (int64_t r = 0; r < rows; ++r)
    llvm::copy(
        q.row(sequence.queryRow(begin + r), sequence.queryHead(begin + r)),
        &queries[r * dimK]);
  scores.resize(rows * (tokens.end - tokens.begin));
  isSeen.resize(scores.size());
  logitErrors.resize(errors ? scores.size() : 0);
  row.resize(dimK);
  any.forEach([&](int64_t t) {
    std::copy_n(sequence.k(t), dimK, row.data());
    for (int64_t r = 0; r < rows; ++r) {
      ScorePlace place = sequence.place(begin + r, t);
      seen(r, t) = visible[r].contains(t) && problem.shown.visible(place);
      if (!seen(r, t))
        continue;
      double s = problem.scale * dot(&queries[r * dimK], row.data(), dimK);
      score(r, t) = problem.logits.logit(s, place);
      if (errors)
        keepErrors(r, t, s, place);
    }
  });
}

/// How far a logit of this value and error may be off, once it is a power of
/// two.
static double errorOf(const Approx &logit) {
  return logit.error + 4 * 0x1p-24 * std::fabs(logit.value);
}

/// Carries the errors of a score on to its logit.
void Attention::keepErrors(int64_t r, int64_t t, double s,
                           const ScorePlace &place) {
  ScoreError of =
      errors(sequence.queryRow(begin + r), sequence.queryHead(begin + r));
  auto logit = [&](double error) {
    return errorOf(problem.logits.logit(Approx{s, error}, place));
  };
  logitErrors[at(r, t)] = {logit(of.f32), logit(of.all)};
}

/// The largest error of a logit of row `r`, its sink among them. One that
/// weighs nothing beside the others, its error included, moves nothing: -1e30
/// says that there is no such logit, and is off by 1e22.
void Attention::noteErrors(int64_t r, double sink) {
  constexpr double kNothing = 110; // exp(-110) is less than f32 has
  size_t at = size_t(sequence.queryRow(begin + r) * problem.qHeads +
                     sequence.queryHead(begin + r));
  auto forLogits = [&](auto fn) {
    visible[r].forEach([&](int64_t t) {
      if (seen(r, t))
        fn(score(r, t), logitErrors[this->at(r, t)]);
    });
    if (sink == -kInf)
      return;
    double error = errorOf(problem.sinks.approxSink(
        problem.place({}, sequence.queryHead(begin + r), 0)));
    fn(sink, ScoreError{error, error});
  };
  double floor = -kInf;
  forLogits([&](double value, const ScoreError &error) {
    if (std::isfinite(value) && std::isfinite(error.all))
      floor = std::fmax(floor, value - error.all);
  });
  forLogits([&](double value, const ScoreError &error) {
    if (value == -kInf || value + error.all < floor - kNothing)
      return;
    double &f32 = result.f32Error.data[at], &all = result.logitError.data[at];
    f32 = std::fmax(f32, error.f32);
    all = std::fmax(all, error.all);
  });
}

/// Turns the scores of a row into exp(s - origin) and sums them. A sink is
/// left to whoever merges splits.
void Attention::softmax(int64_t r) {
  bool hasSink = !problem.sinks.isEmpty() && !problem.splitTokens;
  double sink = hasSink ? problem.sinkOf(sequence.queryHead(begin + r)) : -kInf;
  if (errors)
    noteErrors(r, sink);
  largest[r] = -kInf;
  auto forSeen = [&](auto fn) {
    visible[r].forEach([&](int64_t t) {
      if (seen(r, t))
        fn(t);
    });
  };
  forSeen([&](int64_t t) { largest[r] = std::fmax(largest[r], score(r, t)); });
  // With nothing but -inf every weight is 0, rather than exp(-inf + inf).
  double most = std::fmax(largest[r], sink), shift = most == -kInf ? 0 : most;
  origin[r] = shift;
  total[r] = std::exp(sink - shift);
  forSeen([&](int64_t t) {
    score(r, t) = std::exp(score(r, t) - shift);
    total[r] += score(r, t);
  });
}

void Attention::accumulate() {
  int64_t rows = end - begin;
  sums.assign(rows * dimV, 0);
  row.resize(dimV);
  any.forEach([&](int64_t t) {
    std::copy_n(sequence.v(t), dimV, row.data());
    for (int64_t r = 0; r < rows; ++r) {
      if (!seen(r, t))
        continue;
      double p = score(r, t), *sum = &sums[r * dimV];
      for (int64_t j = 0; j < dimV; ++j)
        sum[j] += p * row[j];
    }
  });
}

void Attention::store(int64_t r, int64_t splitIdx) {
  // An empty row keeps what the result was filled with.
  if (total[r] == 0)
    return;
  int64_t rows = q.rows, heads = problem.qHeads;
  int64_t at = (splitIdx * rows + sequence.queryRow(begin + r)) * heads +
               sequence.queryHead(begin + r);
  for (int64_t j = 0; j < dimV; ++j)
    result.o.data[at * dimV + j] = sums[r * dimV + j] / total[r];
  result.lse.data[at] = origin[r] + std::log(total[r]);
  result.largest.data[at] = largest[r];
}

void Attention::run(int64_t first, Span span, int64_t splitIdx) {
  begin = first;
  end = std::min(first + kRowBlock, sequence.rows());
  tokens = span;
  any = sequence.visible(begin, end).within(span);
  visible.clear();
  for (int64_t r = begin; r < end; ++r)
    visible.push_back(sequence.visible(r, r + 1).within(span));
  largest.resize(end - begin);
  origin.resize(end - begin);
  total.resize(end - begin);

  computeScores();
  for (int64_t r = 0; r < end - begin; ++r)
    softmax(r);
  accumulate();
  for (int64_t r = 0; r < end - begin; ++r)
    store(r, splitIdx);
}

/// Splits of the longest sequence; one even if all are empty.
int64_t countSplits(const HostBatch &batch, int64_t tokens) {
  int64_t longest = 1;
  for (int32_t length : batch.kvLen)
    longest = std::max<int64_t>(longest, length);
  return (longest - 1) / tokens + 1;
}

} // namespace

llvm::Expected<AttendResult> reference::attend(const AttendProblem &problem,
                                               Rows q, const HostCache &cache,
                                               const HostBatch &batch,
                                               ScoreErrorFn errors) {
  if (llvm::Error error = check(problem, q, cache, batch))
    return error;
  std::optional<int64_t> numSplits;
  if (problem.splitTokens)
    numSplits = countSplits(batch, *problem.splitTokens);
  AttendResult result = AttendResult::empty(problem, q.rows, numSplits);
  Sequence sequence(problem, cache, batch);
  if (errors)
    result.f32Error = result.logitError = Tensor(result.lse.shape, 0);
  Attention attention(problem, sequence, q, result, errors);
  for (int64_t b = 0; b < batch.sequences(); ++b) {
    for (int64_t head = 0; head < problem.cache.getHeads(); ++head) {
      if (llvm::Error error = sequence.load(b, head))
        return error;
      int64_t length = sequence.length();
      int64_t step =
          problem.splitTokens ? std::min(*problem.splitTokens, length) : length;
      for (int64_t r = 0; r < sequence.rows(); r += kRowBlock) {
        // Rows of no tokens at all may have a sink.
        int64_t t = 0, splitIdx = 0;
        do {
          attention.run(r, {t, std::min(t + step, length)}, splitIdx);
          t += step, ++splitIdx;
        } while (t < length);
      }
    }
  }
  return result;
}

AttendResult
reference::merge(const Tensor &partialO, const Tensor &partialLse,
                 llvm::function_ref<double(int64_t column)> sinkOf) {
  llvm::ArrayRef<int64_t> oShape = partialO.shape, lseShape = partialLse.shape;
  AttendResult result;
  result.o = Tensor(oShape.drop_front(), 0);
  result.lse = Tensor(lseShape.drop_front(), -kInf);
  int64_t numSplits = lseShape.front(), rows = result.lse.data.size();
  int64_t dim = oShape.back();
  for (int64_t r = 0; r < rows; ++r) {
    auto splitLse = [&](int64_t p) { return partialLse.data[p * rows + r]; };
    double sink = sinkOf ? sinkOf(r % lseShape.back()) : -kInf;
    double largest = sink, total = 0;
    for (int64_t p = 0; p < numSplits; ++p)
      largest = std::fmax(largest, splitLse(p));
    total += sink == -kInf ? 0 : std::exp(sink - largest);
    for (int64_t p = 0; p < numSplits; ++p)
      total += splitLse(p) == -kInf ? 0 : std::exp(splitLse(p) - largest);
    if (total == 0)
      continue;
    double lse = result.lse.data[r] = largest + std::log(total);
    for (int64_t p = 0; p < numSplits; ++p)
      // An empty split's o never matters, be it NaN.
      if (splitLse(p) != -kInf)
        for (int64_t j = 0; j < dim; ++j)
          result.o.data[r * dim + j] += std::exp(splitLse(p) - lse) *
                                        partialO.data[(p * rows + r) * dim + j];
  }
  return result;
}
