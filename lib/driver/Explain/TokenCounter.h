//===- TokenCounter.h - what the steps of a spec see ------------*- C++ -*-===//
#ifndef KVC_LIB_DRIVER_EXPLAIN_TOKENCOUNTER_H
#define KVC_LIB_DRIVER_EXPLAIN_TOKENCOUNTER_H

#include "lib/base/Artifact/Manifest.h"
#include "lib/base/Spec/Spec.h"
#include "lib/driver/Reference/SeenTokens.h"

#include "mlir/IR/MLIRContext.h"

#include <memory>

namespace kvc {

/// Counts what the stores of a compiled spec show to their queries. Constants
/// that each call gives are 0.
class TokenCounter {
public:
  TokenCounter(const spec::Spec &spec, const artifact::Manifest &manifest);

  /// Of the last `queries` of a sequence of `length` tokens; `store` is an
  /// index into the stores of the spec and the manifest.
  reference::SeenTokens of(size_t store, int64_t length,
                           int64_t queries) const {
    return reference::countSeen(problems[store], length, queries);
  }
  /// How often of() runs an expression for that.
  double placesOf(size_t store, int64_t length, int64_t queries) const {
    return reference::placesOf(problems[store], length, queries);
  }

private:
  std::unique_ptr<mlir::MLIRContext> context; ///< of the problems' types
  std::vector<reference::AttendProblem> problems;
};

/// Constants that each call gives and that decide which tokens a store shows,
/// each once, as "`prefix`, `tree`"; "" if there are none.
std::string constantsOfVisible(const spec::Store &store);

} // namespace kvc

#endif // KVC_LIB_DRIVER_EXPLAIN_TOKENCOUNTER_H
