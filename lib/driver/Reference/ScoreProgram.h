//===- ScoreProgram.h - a score's region, run on the host -------*- C++ -*-===//
//
// What a logits, visible or sink region means, in float64, and how far any
// program in f32 that does the same steps may be off. Integers and booleans are
// held as float64, which has every one of 32 bits.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_LIB_DRIVER_REFERENCE_SCOREPROGRAM_H
#define KVC_LIB_DRIVER_REFERENCE_SCOREPROGRAM_H

#include "dialect/Score.h"

#include "llvm/ADT/STLFunctionalExtras.h"

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace kvc::reference {

/// A number, and a bound on the distance of what a program in f32 has for it.
struct Approx {
  double value = 0, error = 0;
};

/// Where a score stands.
struct ScorePlace {
  int64_t query = 0, token = 0;  ///< positions
  int64_t context = 0;           ///< tokens that the step found cached
  int64_t qHead = 0, kvHead = 0; ///< of the model
  /// Which row of the constants that each sequence has.
  int64_t constantRow = 0;
};

/// The values of constants that a call gives, by name: [size], or [rows][size]
/// of those that each sequence has.
using GivenConstants = std::map<std::string, std::vector<double>, std::less<>>;

/// A region, flattened once and run many times. Empty: a logit is its score,
/// every token is visible.
class ScoreProgram {
public:
  ScoreProgram() = default;
  /// `given` has the constants of the region, if it has any; without them they
  /// are NaN.
  explicit ScoreProgram(mlir::Region &region,
                        std::shared_ptr<const GivenConstants> given = nullptr);

  bool isEmpty() const { return steps.empty(); }
  /// Whether a step takes the q head or the kv head.
  bool dependsOnHeads() const;
  /// The logit of `score` at `place`.
  double logit(double score, const ScorePlace &place) const;
  /// The same of a score that is off by up to `score.error`.
  Approx logit(Approx score, const ScorePlace &place) const;
  /// The same where `round` follows each step but conversions of integers.
  double logit(double score, const ScorePlace &place,
               llvm::function_ref<double(double)> round) const;
  /// The sink of the row at `place`: -inf if the region is empty.
  double sink(const ScorePlace &place) const;
  Approx approxSink(const ScorePlace &place) const;
  /// Whether the token at `place` is seen.
  bool visible(const ScorePlace &place) const;
  /// What a region of elements makes of its arguments.
  double apply(llvm::ArrayRef<double> arguments) const;

private:
  /// One op; operands are indices of earlier results.
  struct Step {
    unsigned op = 0;
    unsigned operands[3] = {};
    double constant = 0;
    const std::vector<double> *elements = nullptr; ///< of `given`
    int64_t rowSize = 0; ///< of them, if each sequence has a row
  };
  template <typename Number, typename Finish>
  Number run(Number score, const ScorePlace &place, Finish finish) const;
  template <typename Number, typename Finish>
  Number runSteps(std::vector<Number> &values, int64_t constantRow,
                  Finish finish) const;

  std::shared_ptr<const GivenConstants> given;
  std::vector<Step> steps; ///< behind the inputs
  unsigned result = 0;
};

} // namespace kvc::reference

#endif // KVC_LIB_DRIVER_REFERENCE_SCOREPROGRAM_H
