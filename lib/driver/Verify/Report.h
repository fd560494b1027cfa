//===- Report.h - what one case found ---------------------------*- C++ -*-===//
#ifndef KVC_LIB_DRIVER_VERIFY_REPORT_H
#define KVC_LIB_DRIVER_VERIFY_REPORT_H

#include <algorithm>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

namespace kvc::verify {

struct Failure {
  std::string rule;   ///< "N1" .. "N14", or "setup" where nothing could run
  std::string detail; ///< where, expected, found
};

/// Errors over their bounds, each the largest seen, and what failed.
struct Report {
  double output = 0;  ///< of o: N1, for f32 N2
  double element = 0; ///< of o in 16-bit models: N2
  double lse = 0;     ///< of lse
  uint64_t rows = 0;  ///< of o that were compared with the reference
  /// Rows of o that were to be a token's V exactly, and those for which numbers
  /// of the model's types make no logit win by enough.
  uint64_t exactRows = 0, unnamedRows = 0;
  /// Rows that the reference has nothing but NaN and infinities for: a kernel
  /// is only held to the same.
  uint64_t notFinite = 0;
  int64_t longest = 0; ///< tokens of the longest sequence attended over
  int64_t splits = 0;  ///< that some sequence was cut into, at most
  /// (store, number) of the visits of visitsOf() that were made.
  std::set<std::pair<uint32_t, size_t>> visited;
  /// Stores of which a sequence's edges were judged that is longer than what
  /// their window shows.
  std::set<uint32_t> beyondWindow;
  std::vector<Failure> failures;

  void fail(std::string rule, std::string detail) {
    if (failures.size() < kMost)
      failures.push_back({std::move(rule), std::move(detail)});
  }
  bool full() const { return failures.size() >= kMost; }
  bool failed() const { return !failures.empty(); }

  void add(Report other) {
    output = std::max(output, other.output);
    element = std::max(element, other.element);
    lse = std::max(lse, other.lse);
    rows += other.rows;
    exactRows += other.exactRows;
    unnamedRows += other.unnamedRows;
    notFinite += other.notFinite;
    longest = std::max(longest, other.longest);
    splits = std::max(splits, other.splits);
    visited.merge(other.visited);
    beyondWindow.merge(other.beyondWindow);
    for (Failure &failure : other.failures)
      fail(std::move(failure.rule), std::move(failure.detail));
  }

private:
  /// One bug fails many rows; these are enough to find it.
  static constexpr size_t kMost = 8;
};

} // namespace kvc::verify

#endif // KVC_LIB_DRIVER_VERIFY_REPORT_H
