//===- KernelBounds.cpp - how nearly a drawn kernel must agree ------------===//
#include "test/unit/Tile/KernelBounds.h"

#include "dialect/codecs/HostFloat.h"

#include <cfloat>
#include <cmath>

using namespace kvc;
using namespace kvc::fuzz;
using reference::Approx;

// As in lib/driver/Verify/Oracle.cpp.
static constexpr double kUnit = 0x1p-24;
static constexpr double kDoubt = 4;
static constexpr double kInf = std::numeric_limits<double>::infinity();

static int precisionOf(char dtype) {
  return dtype == 'f' ? 24 : dtype == 'h' ? 11 : 8;
}

static double ulp(char dtype, double x) {
  int least = dtype == 'h' ? -14 : -126;
  int exponent = x != 0 ? std::max(least, std::ilogb(x)) : least;
  return std::ldexp(1, exponent - precisionOf(dtype) + 1);
}

Formula::Formula(const Kernel &kernel, const AttendInputs &inputs)
    : kernel(kernel), inputs(inputs),
      context(mlir::MLIRContext::Threading::DISABLED) {
  context.loadDialect<KvcDialect, mlir::arith::ArithDialect,
                      mlir::math::MathDialect>();
  for (const ChainStep &step : kernel.scores) {
    mlir::Region region;
    if (step.what == ChainStep::Apply)
      step.logits.emit(region, mlir::UnknownLoc::get(&context));
    programs.emplace_back(region);
  }
  size_t tokens = 0;
  for (int32_t length : inputs.kvLen) {
    firstToken.push_back(tokens);
    tokens += length;
  }
  for (llvm::StringRef kind : {kStreamK, kStreamV})
    streams[indexOf(kind)] = dequantize(kind);
}

Formula::Stream Formula::dequantize(llvm::StringRef kind) const {
  reference::HostStream stream(inputs.arena->cache(), kind);
  bool boxes = kernel.codec(kind).boxes.has_value();
  bool scaled = stream.planes() > 1 && !boxes;
  mlir::Type scaleType = scaled ? stream.plane(1).type : mlir::Type();
  Stream result{stream.dim(), scaled, {}, {}, {}};
  uint8_t one[4] = {};
  float ones = 1;
  if (scaled && scaleType.isF16())
    one[1] = 0x3c;
  else
    memcpy(one, &ones, 4);
  std::vector<float> row(stream.dim());
  int64_t unit = inputs.arena->cache().outerTokens;
  for (size_t b = 0; b < inputs.kvLen.size(); ++b)
    for (int64_t t = 0; t < inputs.kvLen[b]; ++t)
      for (int64_t head = 0; head < kernel.heads; ++head) {
        int64_t outer = inputs.table[b * inputs.tableStride + t / unit];
        llvm::SmallVector<const uint8_t *, 2> from{
            stream.row(0, outer, head, t % unit)};
        if (scaled)
          from.push_back(one);
        if (boxes)
          stream.dequantize(outer, head, t % unit, row);
        else
          stream.codec().dequantizeRow(from, row);
        result.codes.insert(result.codes.end(), row.begin(), row.end());
        double norm = 0;
        for (float x : row)
          norm += double(x) * x;
        result.norms.push_back(std::sqrt(norm));
        if (scaled)
          result.scales.push_back(loadAs(scaleType.isF16() ? 'h' : 'f',
                                         stream.row(1, outer, head, t % unit)));
      }
  return result;
}

Approx Formula::score(llvm::ArrayRef<float> q, size_t row,
                      Precision precision) const {
  const Stream &keys = streams[indexOf(kernel.keys)];
  const float *codes = &keys.codes[row * keys.dim];
  double dot = 0, norm = 0;
  for (int64_t c = 0; c < keys.dim; ++c) {
    dot += double(q[c]) * codes[c];
    norm += double(q[c]) * q[c];
  }
  double scale = kernel.queryScale;
  if (kernel.scaledInDequantize(kernel.keys, KeyScale))
    scale *= keys.scales[row];
  double largest = std::fabs(scale) * std::sqrt(norm) * keys.norms[row];
  bool exact = precision == Precision::Float64;
  Approx x{scale * dot, kUnit * largest};
  if (!exact)
    x.error += 2 * kUnit * std::sqrt(double(keys.dim)) * largest;
  if (!exact && kernel.dtype != 'f')
    x.error += 0x1p-16 * largest;
  return x;
}

Approx Formula::logit(Approx x, const ScorePlace &place, size_t row) const {
  for (auto [step, program] : llvm::zip_equal(kernel.scores, programs)) {
    if (step.what == ChainStep::Scale) {
      double scale = streams[indexOf(step.scales)].scales[row];
      x = {x.value * scale, x.error * scale};
      x.error += kUnit * std::fabs(x.value);
      continue;
    }
    double value = step.logits.evaluate(x.value, place);
    x = program.logit({x.value, kDoubt * x.error}, place);
    // Two float64 programs of one meaning.
    bool same = std::fabs(x.value - value) <= 1e-9 * (1 + std::fabs(value));
    x = {same ? value : NAN, x.error / kDoubt};
  }
  return x;
}

/// What the probability of a row's token is multiplied with.
double Formula::weight(size_t row) const {
  double factor = 1;
  if (kernel.scaledInDequantize(kernel.values, ValueScale))
    factor = streams[indexOf(kernel.values)].scales[row];
  for (const ChainStep &step : kernel.probabilities)
    factor *= streams[indexOf(step.scales)].scales[row];
  return factor;
}

/// The bounds of a row from what its tokens may be off by: `error` of the
/// largest logit, in powers of e. `products`: the type that their operands are
/// rounded to, `type`: that of the result.
static void finish(ExpectedRow &row, char products, char type, bool exact,
                   double error, double tokens, double flushed,
                   llvm::ArrayRef<double> sizes) {
  double sum = exact ? 0x1p-40 : kUnit * (2 * std::sqrt(tokens) + 17);
  double unit = exact             ? 2 * kUnit // codes times scales, in f32
                : products == 'f' ? 0
                                  : std::ldexp(1, -precisionOf(products));
  // A comparison that may go either way leaves anything; 0 times it is 0.
  double relative = std::expm1(std::min(700., kDoubt * (error + sum)));
  relative += 2 * unit;
  for (auto [x, size] : llvm::zip_equal(row.o, sizes)) {
    x.bound = relative * size;
    if (!exact)
      x.bound += ulp(type, x.value) + flushed;
  }
  row.lse.bound = kDoubt * (error + sum + 2 * kUnit * std::fabs(row.lse.value));
}

ExpectedRow Formula::row(size_t b, int64_t i, int64_t column, int64_t begin,
                         int64_t end, Precision precision, bool sink) const {
  const Stream &values = streams[indexOf(kernel.values)];
  ScorePlace place;
  place.context = inputs.kvLen[b] - inputs.queries(b);
  place.query = place.context + i;
  place.qHead = kernel.firstHead * kernel.group + column;
  place.kvHead = place.qHead / kernel.group;
  llvm::ArrayRef<float> q = inputs.q.view().row(inputs.cuQ[b] + i, place.qHead);
  ExpectedRow row;
  int64_t dim = kernel.dims[1];
  row.o.resize(dim);
  std::vector<std::pair<size_t, double>> seen; // row of the streams, logit
  double largest = -kInf, error = 0;
  for (int64_t t = begin; t < std::min<int64_t>(end, inputs.kvLen[b]); ++t) {
    place.token = t;
    if (!kernel.sees(place))
      continue;
    size_t at = (firstToken[b] + t) * kernel.heads + column / kernel.group;
    Approx x = logit(score(q, at, precision), place, at);
    seen.push_back({at, x.value});
    largest = std::max(largest, x.value);
    // NaN is no bound, and stays.
    if (!(M_LN2 * x.error <= error))
      error = M_LN2 * x.error;
  }
  row.lse.value = -kInf;
  double sinkLogit = -kInf;
  if (sink && kernel.sink)
    sinkLogit = M_LOG2E * kernel.sink->at(place.qHead, place.kvHead);
  largest = std::max(largest, sinkLogit);
  if (largest == -kInf && seen.empty())
    return row;
  row.empty = false;
  const Codec &codec = kernel.codec(kernel.values);
  bool isInteger = codec.isScaled && codec.code == 'i';
  bool whole = values.integer && isInteger && kernel.dtype != 'f' &&
               precision != Precision::Float64;
  std::vector<double> sizes(dim);
  double total = std::exp2(sinkLogit - largest), most = 0;
  for (auto [at, logit] : seen) {
    double p = std::exp2(logit - largest), factor = weight(at);
    total += p;
    const float *codes = &values.codes[at * values.dim + kernel.firstValue];
    for (int64_t c = 0; c < dim; ++c) {
      double x = factor * codes[c];
      double size = whole ? 127 * factor : std::fabs(x);
      row.o[c].value += p * x;
      sizes[c] += p * size;
      most = std::max(most, size);
    }
  }
  for (auto [x, size] : llvm::zip_equal(row.o, sizes)) {
    x.value /= total;
    size /= total;
  }
  row.lse.value = M_LN2 * (largest + std::log2(total));
  double tokens = seen.size(), flushed = FLT_MIN * most * inputs.kvLen[b];
  if (kernel.dtype == 'b')
    flushed += 2 * FLT_MIN;
  if (kernel.dtype != 'f' && (codec.isScaled ? isInteger : codec.type == 'h'))
    flushed += kDoubt * 0x1p-25 * std::sqrt(tokens) * most / total;
  finish(row, kernel.dtype, precision == Precision::Output ? kernel.dtype : 'f',
         precision == Precision::Float64, error, tokens, flushed, sizes);
  return row;
}

ExpectedRow fuzz::mergedRow(const Kernel &kernel, const MergeInputs &inputs,
                            int64_t row, Precision precision) {
  int64_t dim = kernel.dims[1],
          rows = inputs.wideLse.data.size() / kernel.numSplits;
  auto lse = [&](int64_t splitIdx) {
    return inputs.wideLse.data[splitIdx * rows + row];
  };
  ExpectedRow result;
  result.o.resize(dim);
  result.lse.value = -kInf;
  double sink = -kInf, furthest = 0, most = 0;
  int64_t column = row % inputs.wideLse.shape.back();
  int64_t qHead = kernel.firstHead * kernel.group + column;
  if (kernel.sink)
    sink = kernel.sink->at(qHead, qHead / kernel.group);
  double heaviest = -kInf; // of the splits
  for (int64_t splitIdx = 0; splitIdx < kernel.numSplits; ++splitIdx)
    heaviest = std::max(heaviest, lse(splitIdx));
  double largest = std::max(sink, heaviest);
  if (largest == -kInf)
    return result;
  result.empty = false;
  double total = std::exp(sink - largest);
  if (total > 0x1p-30)
    furthest = largest - sink;
  std::vector<double> sizes(dim);
  for (int64_t splitIdx = 0; splitIdx < kernel.numSplits; ++splitIdx) {
    if (lse(splitIdx) == -kInf)
      continue;
    double p = std::exp(lse(splitIdx) - largest);
    // A split that weighs nothing beside another may be off by anything; beside
    // a sink, which adds nothing to o, it may be all that there is.
    if (p > 0x1p-30 * std::exp(heaviest - largest))
      furthest = std::max(furthest, largest - lse(splitIdx));
    total += p;
    for (int64_t c = 0; c < dim; ++c) {
      double x = inputs.wideO.data[(splitIdx * rows + row) * dim + c];
      result.o[c].value += p * x;
      sizes[c] += p * std::fabs(x);
      most = std::max(most, std::fabs(x));
    }
  }
  for (auto [x, size] : llvm::zip_equal(result.o, sizes)) {
    x.value /= total;
    size /= total;
  }
  result.lse.value = largest + std::log(total);
  // Differences of logits are rounded, and their products with log2(e).
  bool exact = precision == Precision::Float64;
  finish(result, 'f', kernel.dtype, exact, exact ? 0 : 2 * kUnit * furthest,
         kernel.numSplits, FLT_MIN * most * kernel.numSplits, sizes);
  return result;
}

//===----------------------------------------------------------------------===//
// Gather
//===----------------------------------------------------------------------===//

namespace {

/// The number that f32 arithmetic nearly gives.
struct Rounded {
  double value = 0, error = 0;

  static Rounded of(double value, double error) {
    return {value, error + kUnit * std::fabs(value) + FLT_MIN};
  }
  Rounded operator+(Rounded y) const {
    return of(value + y.value, error + y.error);
  }
  Rounded operator*(Rounded y) const {
    return of(value * y.value, error * std::fabs(y.value) +
                                   (std::fabs(value) + error) * y.error);
  }
};

} // namespace

/// Element `index` of the row of a plane that has the slot.
static double elementOf(const reference::HostStream &stream, unsigned plane,
                        char type, int64_t slot, int64_t unit, int64_t head,
                        int64_t index) {
  const uint8_t *row = stream.row(plane, slot / unit, head, slot % unit);
  if (type == 'x')
    return fromE2M1(uint8_t(unpackCode(row, index, 4, /*isSigned=*/false)));
  return loadAs(type, row + index * widthOf(type));
}

/// An element before anything is made of it but what its codec says: code,
/// and that times a scale plus a zero.
static std::pair<double, Rounded>
dequantized(const Kernel &kernel, const reference::HostCache &cache,
            llvm::StringRef name, int64_t slot, int64_t head, int64_t c) {
  reference::HostStream stream(cache, name);
  const Codec &codec = kernel.codec(name);
  int64_t unit = cache.outerTokens;
  if (!codec.boxes && !codec.isScaled) {
    double x = elementOf(stream, 0, codec.type, slot, unit, head, c);
    return {x, {x, 0}};
  }
  Boxes boxes = codec.boxes.value_or(Boxes{8, codec.type, 0, 1, 0, codec.code});
  int64_t box = boxes.channels ? c / boxes.channels : 0;
  double code = boxes.code != 'i'
                    ? elementOf(stream, 0, boxes.code, slot, unit, head, c)
                    : unpackCode(stream.row(0, slot / unit, head, slot % unit),
                                 c, boxes.bits, /*isSigned=*/!boxes.zero);
  Rounded scale{elementOf(stream, 1, boxes.scale, slot, unit, head, box), 0};
  if (kernel.choice[GatheredOps] == gathered::MapOfScales)
    scale = Rounded{std::fabs(scale.value), 0} + Rounded{0.0625, 0};
  Rounded x = Rounded{code, 0} * scale;
  if (boxes.zero)
    x = x + Rounded{elementOf(stream, 2, boxes.zero, slot, unit, head, box), 0};
  return {code, x};
}

Expected fuzz::gatheredElement(const Kernel &kernel, const GatherInputs &inputs,
                               const GatheredRow &row, int64_t slot,
                               int64_t head, int64_t c, Precision precision) {
  auto at = [&](int64_t channel) {
    return dequantized(kernel, inputs.arena->cache(), row.from, slot, head,
                       row.first + channel);
  };
  auto [code, x] = at(c);
  int64_t dim = kernel.dim(row.to);
  switch (kernel.choice[GatheredOps]) {
  case gathered::Map:
    if (x.value < -0.5) // NaN stays
      x = {-0.5, std::isfinite(x.value) ? x.error : 0};
    x = x * Rounded{1.5, 0} + Rounded{0.125, 0};
    // As lib/driver/Reference/ScoreProgram.cpp has functions.
    x = Rounded::of(std::tanh(x.value), x.error);
    x.error += kDoubt * 8 * kUnit * std::fabs(x.value);
    break;
  case gathered::MapOfTwo:
    x = x + Rounded{-0.25 * code, 0};
    break;
  case gathered::MapOfColumn:
    x = x * Rounded{0.5, 0} + at(row.column).second;
    break;
  case gathered::CodesAsScales:
    x = x * Rounded{at(dim - dim / row.channels + c / row.channels).first, 0};
    break;
  default:
    break;
  }
  if (!std::isfinite(x.value))
    return {x.value, 0};
  if (precision == Precision::Float64)
    return {x.value, 0x1p-20 * x.error};
  // To the nearest of the model's numbers; f32 is that already.
  double rounds = kernel.dtype == 'f'
                      ? 0
                      : ulp(kernel.dtype, std::fabs(x.value) + x.error) / 2;
  return {x.value, 1.001 * x.error + rounds};
}
