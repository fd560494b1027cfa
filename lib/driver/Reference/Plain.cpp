//===- Plain.cpp - attention as a plain low-precision program -------------===//
#include "lib/driver/Reference/Plain.h"
#include "dialect/codecs/HostFloat.h"
#include "lib/driver/Reference/Sequence.h"

#include <cmath>

using namespace kvc;
using namespace kvc::reference;

static constexpr float kInf = std::numeric_limits<float>::infinity();

namespace {

struct RoundF32 {
  float operator()(float x) const { return x; }
};
struct RoundF16 {
  float operator()(float x) const { return fromF16(toF16(x)); }
};
struct RoundBF16 {
  float operator()(float x) const { return fromBF16(toBF16(x)); }
};

/// One row after another; `Round` rounds to the dtype.
template <typename Round> class PlainAttention {
public:
  PlainAttention(const AttendProblem &problem, Sequence &sequence, Rows q,
                 AttendResult &result)
      : problem(problem), sequence(sequence), q(q), result(result),
        dimK(problem.cache.getDimK()), dimV(problem.cache.getDimV()) {}

  void run() {
    if (sequence.rows() == 0)
      return;
    sequence.visible(0, sequence.rows()).forEach([&](int64_t t) {
      roundRow(sequence.k(t), dimK);
      roundRow(sequence.v(t), dimV);
    });
    for (int64_t r = 0; r < sequence.rows(); ++r)
      runRow(r);
  }

private:
  void roundRow(float *row, int64_t dim) {
    for (int64_t j = 0; j < dim; ++j)
      row[j] = round(row[j]);
  }

  float logit(const float *query, int64_t r, int64_t t) {
    const float *key = sequence.k(t);
    float s = 0;
    for (int64_t j = 0; j < dimK; ++j)
      s += query[j] * key[j];
    s = round(round(s) * float(problem.scale));
    return float(problem.logits.logit(
        s, sequence.place(r, t), [&](double x) { return round(float(x)); }));
  }

  void runRow(int64_t r) {
    Visible visible = sequence.visible(r, r + 1);
    const float *query =
        q.row(sequence.queryRow(r), sequence.queryHead(r)).data();
    weights.resize(sequence.length());
    float sink = round(float(problem.sinkOf(sequence.queryHead(r))));
    float largest = sink;
    auto forSeen = [&](auto fn) {
      visible.forEach([&](int64_t t) {
        if (problem.shown.visible(sequence.place(r, t)))
          fn(t);
      });
    };
    forSeen([&](int64_t t) {
      weights[t] = logit(query, r, t);
      largest = std::fmax(largest, weights[t]);
    });
    float shift = largest == -kInf ? 0 : largest;
    float total = round(std::exp(round(sink - shift)));
    forSeen([&](int64_t t) {
      weights[t] = round(std::exp(round(weights[t] - shift)));
      total += weights[t];
    });
    total = round(total);
    if (total == 0)
      return;
    sums.assign(dimV, 0);
    forSeen([&](int64_t t) {
      float p = round(weights[t] / total);
      const float *value = sequence.v(t);
      for (int64_t j = 0; j < dimV; ++j)
        sums[j] += p * value[j];
    });
    int64_t at = sequence.queryRow(r) * problem.qHeads + sequence.queryHead(r);
    for (int64_t j = 0; j < dimV; ++j)
      result.o.data[at * dimV + j] = round(sums[j]);
    result.lse.data[at] = largest + std::log(total);
  }

  const AttendProblem &problem;
  Sequence &sequence;
  Rows q;
  AttendResult &result;
  const int64_t dimK, dimV;
  std::vector<float> weights, sums;
  [[no_unique_address]] Round round;
};

template <typename Round>
llvm::Error run(const AttendProblem &problem, Rows q, const HostCache &cache,
                const HostBatch &batch, AttendResult &result) {
  Sequence sequence(problem, cache, batch);
  PlainAttention<Round> attention(problem, sequence, q, result);
  for (int64_t b = 0; b < batch.sequences(); ++b) {
    for (int64_t head = 0; head < problem.cache.getHeads(); ++head) {
      if (llvm::Error error = sequence.load(b, head))
        return error;
      attention.run();
    }
  }
  return llvm::Error::success();
}

} // namespace

float reference::roundTo(mlir::Type dtype, float x) {
  if (dtype.isBF16())
    return RoundBF16()(x);
  return dtype.isF16() ? RoundF16()(x) : x;
}

llvm::Expected<AttendResult>
reference::plainAttend(const AttendProblem &problem, Rows q,
                       const HostCache &cache, const HostBatch &batch) {
  if (llvm::Error error = check(problem, q, cache, batch))
    return error;
  AttendResult result = AttendResult::empty(problem, q.rows);
  llvm::Error error =
      problem.dtype.isBF16()  ? run<RoundBF16>(problem, q, cache, batch, result)
      : problem.dtype.isF16() ? run<RoundF16>(problem, q, cache, batch, result)
                              : run<RoundF32>(problem, q, cache, batch, result);
  if (error)
    return error;
  return result;
}
