//===- Oracle.cpp - what a batch must give, and how nearly ----------------===//
#include "lib/driver/Verify/Oracle.h"
#include "lib/driver/Reference/Plain.h"
#include "lib/driver/Reference/Sequence.h"

#include "llvm/Support/FormatVariadic.h"

#include <cfloat>
#include <cmath>

using namespace kvc;
using namespace kvc::verify;

static constexpr double kInf = std::numeric_limits<double>::infinity();
static constexpr double kUnit = 0x1p-24;
/// What the statistical bounds are multiplied with to be beyond doubt.
static constexpr double kDoubt = 4;

namespace {

/// Bits of the significand, and the exponent of the least normal number.
struct FloatFormat {
  int precision, least;
  static FloatFormat of(mlir::Type type) {
    if (type.isF16())
      return {11, -14};
    return {type.isBF16() ? 8 : 24, -126};
  }
  double unit() const { return std::ldexp(1, -precision); }
  double halfUlp(double x) const {
    int exponent = least;
    if (x != 0)
      exponent = std::max(least, std::ilogb(x));
    return std::ldexp(0.5, exponent - precision + 1);
  }
};

double norm(llvm::ArrayRef<float> row) {
  double sum = 0;
  for (float x : row)
    sum += double(x) * x;
  return std::sqrt(sum);
}

/// The largest norm of a dequantized key that is finite.
double keyNorm(BatchImage &image, size_t sequence, int64_t head) {
  const CompiledStore &store = image.store;
  std::vector<float> row(store.cache().getDimK());
  double largest = 0;
  for (int64_t t = 0; t < image.sequences[sequence]->length; ++t) {
    image.dequantize(kStreamK, sequence, head, t, row);
    double size = norm(row);
    if (std::isfinite(size))
      largest = std::max(largest, size);
  }
  return largest;
}

/// The same store with other codecs.
CompiledStore withCodecs(const CompiledStore &store, CodecAttrInterface k,
                         CodecAttrInterface v) {
  CompiledStore changed = store;
  CacheType cache = store.cache();
  mlir::MLIRContext *context = cache.getContext();
  changed.problem.cache =
      CacheType::get(context, cache.getHeads(),
                     {StreamAttr::get(context, kStreamK, cache.getDimK(), k),
                      StreamAttr::get(context, kStreamV, cache.getDimV(), v)},
                     cache.getLayout());
  changed.planes.clear();
  for (const PlaneGeometry &plane : changed.cache().planes())
    changed.planes.push_back({plane.stream, plane.role, plane.type,
                              plane.rowBytes, plane.rowStride});
  return changed;
}

/// A codec that loses nothing.
CodecAttrInterface exactCodec(const CompiledStore &store) {
  mlir::MLIRContext *context = store.cache().getContext();
  return FloatCodecAttr::get(context, mlir::Float32Type::get(context));
}

/// Float64 over sequences as a store's codecs hold them.
llvm::Expected<reference::AttendResult>
attendOver(const CompiledStore &store,
           const std::vector<TestSequence> &sequences) {
  std::vector<const TestSequence *> views;
  for (const TestSequence &sequence : sequences)
    views.push_back(&sequence);
  Placement placement;
  placement.rows = Placement::Rows::All;
  BatchImage image(store, views, placement);
  std::vector<float> q = image.queries();
  return reference::attend(
      store.problem,
      {q, image.rows(), store.problem.qHeads, store.cache().getDimK()},
      image.cache, image.batch());
}

/// Changes the row of a (head, token) in place.
using ChangeRow =
    llvm::function_ref<void(int64_t, int64_t, llvm::MutableArrayRef<float>)>;

/// V of a sequence in f32, [head][token][dim]: rows as the cache holds them,
/// changed.
std::vector<float> valuesOf(BatchImage &image, size_t sequence,
                            ChangeRow change) {
  const CompiledStore &store = image.store;
  int64_t dim = store.cache().getDimV();
  int64_t tokens = image.sequences[sequence]->length;
  std::vector<float> values(store.heads() * tokens * dim);
  for (int64_t head = 0; head < store.heads(); ++head)
    for (int64_t t = 0; t < tokens; ++t) {
      llvm::MutableArrayRef<float> row(&values[(head * tokens + t) * dim],
                                       size_t(dim));
      image.dequantize(kStreamV, sequence, head, t, row);
      change(head, t, row);
    }
  return values;
}

/// What elements are weighed by (see Oracle.h).
class Weighed {
public:
  explicit Weighed(BatchImage &image)
      : image(image), info(image.store.cache().stream(kStreamV)),
        first(image.store.cache().planeIndex(kStreamV)) {
    auto planes = info.planes();
    bool hasZeros = llvm::any_of(planes, [](const CodecPlane &plane) {
      return plane.role == kPlaneZeros;
    });
    if (!info.codeType().isInteger() ||
        (image.store.problem.dtype.isF32() && !hasZeros))
      return;
    // The ends of what codes may be, whether they have a sign or not. That
    // without a negative is one where the sign is the range's.
    unsigned bits = info.codeType().getIntOrFloatBitWidth();
    unsigned ones = (1u << bits) - 1;
    unsigned least = info.codec.hasSignedScales() ? ones - (ones >> 1) : 0;
    for (unsigned code : {0u, ones, ones >> 1, least}) {
      std::vector<uint8_t> &row = ends.emplace_back(info.codeBytes());
      for (size_t bit = 0; bit < 8 * row.size(); ++bit)
        row[bit / 8] |= (code >> bit % bits & 1) << bit % 8;
    }
  }

  std::vector<float> values(size_t sequence) {
    return valuesOf(image, sequence, [&](int64_t head, int64_t t, auto row) {
      for (float &x : row)
        x = std::fabs(x);
      for (const std::vector<uint8_t> &codes : ends)
        widen(sequence, head, t, codes, row);
    });
  }

private:
  /// Each element to what its group makes of the one in `codes`, if that is
  /// larger.
  void widen(size_t sequence, int64_t head, int64_t t,
             const std::vector<uint8_t> &codes,
             llvm::MutableArrayRef<float> row) {
    llvm::SmallVector<const uint8_t *, 3> rows = {codes.data()};
    for (size_t plane = 1; plane < info.planes().size(); ++plane)
      rows.push_back(image.row(first + plane, sequence, head, t));
    other.resize(row.size());
    info.codec.dequantizeRow(rows, other);
    for (auto [x, y] : llvm::zip_equal(row, other))
      x = std::max(x, std::fabs(y));
  }

  BatchImage &image;
  StreamInfo info;
  unsigned first;                         ///< plane of V
  std::vector<std::vector<uint8_t>> ends; ///< rows of codes; empty: as it is
  std::vector<float> other;
};

/// The largest |V| of a sequence that is a number.
double largestValue(const TestSequence &sequence) {
  double largest = 0;
  for (float x : sequence.v)
    if (std::isfinite(x))
      largest = std::max(largest, std::fabs(double(x)));
  return largest;
}

} // namespace

Oracle::Oracle(const CompiledStore &store,
               llvm::ArrayRef<const TestSequence *> sequences, Report &report)
    : store(store), sequences(sequences) {
  Placement placement;
  placement.poison = Poison::Zero;
  placement.rows = Placement::Rows::All;
  BatchImage image(store, sequences, placement);
  firstRow = image.cuQ;
  std::vector<float> q = image.queries();
  reference::Rows rows{q, image.rows(), store.problem.qHeads,
                       store.cache().getDimK()};
  auto take = [&](llvm::Expected<reference::AttendResult> result,
                  reference::AttendResult &into) {
    if (!result) {
      report.fail("setup", llvm::toString(result.takeError()));
      return false;
    }
    into = std::move(*result);
    return true;
  };
  for (size_t b = 0; b < sequences.size(); ++b) {
    values.push_back(largestValue(*sequences[b]));
    keyNorms.emplace_back();
    for (int64_t head = 0; head < store.heads(); ++head)
      keyNorms[b].push_back(keyNorm(image, b, head));
  }
  auto errorsOf = [&](int64_t row, int64_t head) {
    size_t b = llvm::upper_bound(firstRow, row) - firstRow.begin() - 1;
    reference::ScoreError error = scoreError(b, row - firstRow[b], head);
    return reference::ScoreError{kDoubt * error.f32, kDoubt * error.all};
  };
  reference::ScoreErrorFn errors;
  if (store.hasWeights())
    errors = errorsOf;
  valid = take(reference::attend(store.problem, rows, image.cache,
                                 image.batch(), errors),
               ref) &&
          take(reference::plainAttend(store.problem, rows, image.cache,
                                      image.batch()),
               plain);
  if (!valid)
    return;
  findSpoilt(image, report);
  Weighed weighed(image);
  std::vector<std::vector<float>> planes;
  for (size_t b = 0; b < sequences.size(); ++b)
    planes.push_back(weighed.values(b));
  valid = take(attendOverValues(planes), weights);
}

llvm::Expected<reference::AttendResult>
Oracle::attendOverValues(llvm::ArrayRef<std::vector<float>> values) const {
  std::vector<TestSequence> changed;
  for (auto [sequence, plane] : llvm::zip_equal(sequences, values)) {
    TestSequence &copy = changed.emplace_back(*sequence);
    copy.planes.resize(store.cache().stream(kStreamK).planes().size());
    auto *bytes = reinterpret_cast<const uint8_t *>(plane.data());
    copy.planes.emplace_back(bytes, bytes + plane.size() * sizeof(float));
  }
  return attendOver(withCodecs(store, store.cache().stream(kStreamK).codec,
                               exactCodec(store)),
                    changed);
}

void Oracle::findSpoilt(BatchImage &image, Report &report) {
  std::vector<std::vector<float>> marks;
  bool any = false;
  for (size_t b = 0; b < sequences.size(); ++b) {
    marks.push_back(valuesOf(image, b, [](int64_t, int64_t, auto row) {
      for (float &x : row)
        x = std::isfinite(x) ? 0 : 1;
    }));
    any |= llvm::is_contained(marks.back(), 1.f);
  }
  if (!any)
    return;
  auto result = attendOverValues(marks);
  if (result)
    spoilt = std::move(*result);
  else
    report.fail("setup", llvm::toString(result.takeError()));
}

std::string Oracle::where(size_t sequence, int64_t query, int64_t head) const {
  const TestSequence &at = *sequences[sequence];
  return llvm::formatv("store `{0}`, sequence {1} ({2} data, {3} tokens, {4} "
                       "queries), query {5}, q head {6}",
                       store.spec->name, sequence, name(at.kind), at.length,
                       at.queries, query, head);
}

reference::ScoreError Oracle::scoreError(size_t sequence, int64_t query,
                                         int64_t head) const {
  const reference::AttendProblem &problem = store.problem;
  int64_t dim = store.cache().getDimK();
  const float *q =
      &sequences[sequence]->q[(query * problem.qHeads + head) * dim];
  double largest = problem.scale * norm({q, size_t(dim)}) *
                   keyNorms[sequence][head / problem.group - problem.firstHead];
  reference::ScoreError error;
  error.f32 = error.all = 2 * kUnit * std::sqrt(double(dim)) * largest;
  if (!problem.dtype.isF32())
    error.all += 0x1p-16 * largest;
  return error;
}

/// How far rounding may take the row's logits, sums and values.
struct Oracle::Bounds {
  double f32 = 0;     ///< absolute error of a logit, in f32
  double logit = 0;   ///< the same, with what else kernels may do to it
  double sum = 0;     ///< relative error of a sum over the tokens, in f32
  double flushed = 0; ///< error of o where small probabilities become 0
  double least = 0;   ///< weight of a token below which it may become 0
};

Oracle::Bounds Oracle::boundsOf(size_t sequence, int64_t query,
                                int64_t head) const {
  const reference::AttendProblem &problem = store.problem;
  const TestSequence &at = *sequences[sequence];
  reference::Visible seen = reference::visibleTo(problem, at.place(query));
  double tokens =
      (seen.sink.end - seen.sink.begin) + (seen.recent.end - seen.recent.begin);
  Bounds bounds;
  reference::ScoreError score = scoreError(sequence, query, head);
  bounds.f32 = score.f32;
  bounds.logit = score.all;
  if (store.hasWeights()) {
    int64_t row = rowIndex(sequence, query, head);
    bounds.f32 = ref.f32Error.data[row] / kDoubt;
    bounds.logit = ref.logitError.data[row] / kDoubt;
  }
  bounds.sum = kUnit * (2 * std::sqrt(tokens) + 17);
  // Least normal numbers: of f32, and of f16 for probabilities.
  bounds.flushed = FLT_MIN * values[sequence] * at.length;
  if (problem.dtype.isBF16())
    bounds.flushed += 2 * FLT_MIN;
  int64_t row = rowIndex(sequence, query, head);
  double peak = std::exp(ref.largest.data[row] - ref.lse.data[row]);
  mlir::Type codeV = store.cache().stream(kStreamV).codeType();
  bool inF16 = !problem.dtype.isF32() && (codeV.isF16() || codeV.isInteger());
  bounds.least = (inF16 ? 0x1p-24 : FLT_MIN) * peak * tokens *
                 std::exp(kDoubt * bounds.logit);
  if (inF16 && peak <= 1) // no NaN
    bounds.flushed +=
        kDoubt * 0x1p-25 * std::sqrt(tokens) * peak * values[sequence];
  return bounds;
}

bool Oracle::judgeEmpty(size_t sequence, int64_t query, int64_t head,
                        llvm::ArrayRef<float> o, Report &report) const {
  if (ref.lse.data[rowIndex(sequence, query, head)] != -kInf)
    return false;
  for (auto [j, x] : llvm::enumerate(o))
    if (x != 0) { // true for NaN
      report.fail("N6",
                  llvm::formatv("{0}, o[{1}]: sees nothing, expected 0, "
                                "found {2}",
                                where(sequence, query, head), j, number(x)));
      break;
    }
  return true;
}

void Oracle::judgeLse(size_t sequence, int64_t query, int64_t head, float found,
                      Report &report) const {
  double expected = ref.lse.data[rowIndex(sequence, query, head)];
  double bound = 0, error = 0;
  if (std::isfinite(expected)) {
    Bounds bounds = boundsOf(sequence, query, head);
    bound =
        kDoubt * (bounds.logit + bounds.sum + 2 * kUnit * std::fabs(expected));
    error = std::isfinite(found) ? std::fabs(found - expected) : kInf;
    report.lse = std::max(report.lse, error / bound);
  } else if (!(found == expected) &&
             !(std::isnan(found) && std::isnan(expected))) {
    error = kInf;
  }
  if (error > bound)
    report.fail(expected == -kInf ? "N6" : "N2",
                llvm::formatv("{0}, lse: expected {1} +- {2}, found {3}",
                              where(sequence, query, head), number(expected),
                              number(bound), number(found)));
}

bool Oracle::plainIsFinite(size_t sequence) const {
  int64_t dim = store.cache().getDimV(), heads = store.problem.qHeads;
  for (int64_t i = firstRow[sequence] * heads * dim,
               end = firstRow[sequence + 1] * heads * dim;
       i < end; ++i)
    if (std::isfinite(ref.o.data[i]) && !std::isfinite(plain.o.data[i]))
      return false;
  return true;
}

namespace {
/// The element that is furthest off, by error over bound or by error.
struct Worst {
  double score = -1, error = 0, bound = 0, expected = 0, found = 0;
  int64_t query = 0, head = 0, channel = 0;

  void note(double newScore, const Worst &element) {
    if (!(newScore > score))
      return;
    *this = element;
    score = newScore;
  }
};
} // namespace

/// What judging one sequence gathers.
struct Oracle::Judgement {
  double flushed = 0;    ///< what is lost where small numbers are taken for 0
  double largest = 0;    ///< |ref|
  double plainError = 0; ///< or what f32 cannot tell, if that is more
  Worst byElement, byRow;
};

void Oracle::judgeRow(size_t sequence, int64_t query, int64_t head,
                      llvm::ArrayRef<float> o, Judgement &judgement) const {
  FloatFormat format = FloatFormat::of(store.problem.dtype);
  double unit = store.problem.dtype.isF32() ? 0 : format.unit();
  Bounds bounds = boundsOf(sequence, query, head);
  double relative = std::expm1(kDoubt * (bounds.logit + bounds.sum)) + 2 * unit;
  double untold = std::expm1(kDoubt * bounds.f32);
  judgement.flushed = std::max(judgement.flushed, bounds.flushed);
  int64_t at = rowIndex(sequence, query, head) * o.size();
  for (auto [j, found] : llvm::enumerate(o)) {
    double expected = ref.o.data[at + j], weight = weights.o.data[at + j];
    if (!std::isfinite(expected) && !spoilt.o.data.empty() &&
        spoilt.o.data[at + j] < bounds.least)
      continue;
    Worst element;
    element.expected = expected, element.found = found;
    element.query = query, element.head = head, element.channel = j;
    bool same =
        found == expected || (std::isnan(found) && std::isnan(expected));
    if (!same)
      element.error = std::isfinite(found) ? std::fabs(found - expected) : kInf;
    if (std::isfinite(expected)) {
      judgement.largest = std::max(judgement.largest, std::fabs(expected));
      judgement.plainError = std::max(
          {judgement.plainError, std::fabs(plain.o.data[at + j] - expected),
           std::isfinite(weight) ? untold * weight : 0});
      element.bound = bounds.flushed + 2 * format.halfUlp(expected);
      if (std::isfinite(weight))
        element.bound += relative * weight;
    }
    judgement.byRow.note(element.error, element);
    judgement.byElement.note(
        element.error > 0 ? element.error / element.bound : 0, element);
  }
}

void Oracle::conclude(size_t sequence, const Judgement &judgement,
                      Report &report) const {
  auto hold = [&](const char *rule, const Worst &worst, double bound,
                  double &ratio) {
    if (worst.error > 0 && std::isfinite(worst.error) && bound > 0)
      ratio = std::max(ratio, worst.error / bound);
    if (worst.error > bound)
      report.fail(
          rule,
          llvm::formatv("{0}, o[{1}]: expected {2}, found {3}, an error of {4} "
                        "where {5} is allowed",
                        where(sequence, worst.query, worst.head), worst.channel,
                        number(worst.expected), number(worst.found),
                        number(worst.error), number(bound)));
  };
  mlir::Type dtype = store.problem.dtype;
  hold("N2", judgement.byElement, judgement.byElement.bound,
       dtype.isF32() ? report.output : report.element);
  // A plain program that overflows says nothing about how near one must be.
  if (!dtype.isF32() && plainIsFinite(sequence))
    hold("N1", judgement.byRow,
         judgement.plainError +
             FloatFormat::of(dtype).halfUlp(judgement.largest) +
             judgement.flushed,
         report.output);
}

void Oracle::judgeSequence(size_t sequence, const SequenceOutput &output,
                           Report &report) const {
  Judgement judgement;
  std::vector<float> o(store.cache().getDimV());
  int64_t row = 0, first = store.firstQuery();
  for (int64_t query = 0; query < sequences[sequence]->queries; ++query)
    for (int64_t head = first; head < first + store.queryHeads();
         ++head, ++row) {
      for (size_t j = 0; j < o.size(); ++j)
        o[j] =
            element(store.problem.dtype, output.o.data(), row * o.size() + j);
      if (!output.lse.empty())
        judgeLse(sequence, query, head, output.lse[row], report);
      if (judgeEmpty(sequence, query, head, o, report))
        continue;
      llvm::ArrayRef<double> expected =
          llvm::ArrayRef(ref.o.data)
              .slice(rowIndex(sequence, query, head) * o.size(), o.size());
      bool anyFinite =
          llvm::any_of(expected, [](double x) { return std::isfinite(x); });
      ++(anyFinite ? report.rows : report.notFinite);
      judgeRow(sequence, query, head, o, judgement);
    }
  conclude(sequence, judgement, report);
}

void Oracle::judge(const Output &output, Report &report) const {
  if (!valid)
    return;
  for (size_t b = 0; b < sequences.size(); ++b)
    judgeSequence(b, output[b], report);
}

std::string Oracle::vacuous() const {
  std::optional<double> first;
  bool anyFinite = false, allFinite = true;
  for (double x : ref.o.data) {
    anyFinite |= std::isfinite(x);
    allFinite &= std::isfinite(x);
    if (x == 0 || !std::isfinite(x))
      continue;
    if (first && *first != x)
      return "";
    first = x;
  }
  if (first)
    return "the reference is " + number(*first) + " everywhere";
  // What calls give an expression may hide every token of a small batch.
  if (allFinite && store.hasVisible() &&
      llvm::all_of(ref.largest.data,
                   [](double logit) { return logit == -kInf; }))
    return "";
  if (allFinite)
    return "the reference is 0 everywhere";
  // Rows that see nothing are 0 whatever the logits.
  return std::string("the reference is NaN or infinite ") +
         (anyFinite ? "wherever it is not 0" : "everywhere");
}

double Oracle::quantisationLoss(Report &report) const {
  auto isLossless = [&](llvm::StringRef stream) {
    mlir::Type code = store.cache().stream(stream).codeType();
    return code.isF32() || code == store.problem.dtype;
  };
  if (!valid || (isLossless(kStreamK) && isLossless(kStreamV)))
    return 0;
  CompiledStore exact = withCodecs(store, exactCodec(store), exactCodec(store));
  std::vector<TestSequence> copies;
  for (const TestSequence *sequence : sequences) {
    copies.push_back(*sequence);
    quantize(exact, copies.back());
  }
  auto result = attendOver(exact, copies);
  if (!result)
    return report.fail("setup", llvm::toString(result.takeError())), 0;
  double loss = 0, largest = 0;
  for (auto [lossy, given] : llvm::zip(ref.o.data, result->o.data)) {
    loss = std::max(loss, std::fabs(lossy - given));
    largest = std::max(largest, std::fabs(given));
  }
  return largest > 0 ? loss / largest : 0;
}
