//===- BenchRows.h - kernels beside their yardsticks ------------*- C++ -*-===//
#ifndef KVC_TOOLS_KVC_BENCHROWS_H
#define KVC_TOOLS_KVC_BENCHROWS_H

#include "tools/kvc/BenchCase.h"
#include "tools/kvc/BenchCeiling.h"

namespace kvc::bench {

/// What is measured: an artifact, loaded once per number of threads.
struct Subject {
  std::string name; ///< the spec's
  std::vector<uint8_t> artifact;
  artifact::Manifest manifest;
  std::shared_ptr<const TokenCounter> counter; ///< of its spec
  const kvc_code_loader *loader = nullptr;     ///< null: the runtime's
  std::map<unsigned, Program> programs;
};

struct Plan {
  std::vector<Op> ops;
  std::vector<unsigned> threads;
  std::vector<unsigned> contexts; ///< empty: by op
  unsigned batch = 1;
  unsigned queries = 0; ///< 0: by op; decode always has 1
  unsigned reps = 7;
};

/// One line of the result. Rates are bytes/s, or flop/s of what is multiplied.
struct Row {
  Op op;
  std::string spec;
  unsigned page = 0; ///< 0: contiguous
  unsigned threads = 1;
  Shape shape;
  std::unique_ptr<Case> work;

  Windows windows;
  // Set at the end.
  Spread rates;                     ///< in the windows that count
  std::optional<Fraction> fraction; ///< nullopt where no yardstick is known
  std::string yardName;             ///< of the best yardstick

  /// Whether multiply units are its yardstick and not memory: of a prefill, and
  /// of a decode with more products for each byte than any core makes while it
  /// reads one, as of the 128 query heads of a latent.
  bool isMultiplied() const {
    constexpr double kMostPerByte = 128;
    return op == Op::Prefill ||
           (op == Op::Decode && work->flops() > kMostPerByte * work->bytes());
  }
  /// Bytes of a call, or flop of what is multiplied.
  double amount() const {
    return isMultiplied() ? work->flops() : work->bytes();
  }
  /// Of a call at the median rate.
  double seconds() const { return amount() / rates.median; }
};

/// All that came out. The yardsticks are over the whole run.
struct Result {
  std::vector<Row> rows;
  /// The best reader with that many threads; ascending.
  struct Ceiling {
    unsigned threads;
    Spread rate;  ///< bytes/s
    double naive; ///< bytes/s of a plain loop
    std::string reader;
    size_t tried;
  };
  std::vector<Ceiling> ceilings;
  struct Peak {
    unsigned threads;
    Spread rate; ///< flop/s
    std::string unit;
  };
  std::vector<Peak> peaks; ///< of every multiply unit, if it is a yardstick
};

/// Measures every (subject, store, op, context, threads): all rows once per
/// rep, in windows between those of its yardsticks. Returns false and sets
/// `error` if a kernel cannot run or a yardstick gives a wrong result.
bool runRows(std::vector<Subject> &subjects, const Plan &plan, Result &result,
             std::string &error);

} // namespace kvc::bench

#endif // KVC_TOOLS_KVC_BENCHROWS_H
