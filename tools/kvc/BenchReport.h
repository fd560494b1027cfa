//===- BenchReport.h - the result as a table or as JSON ---------*- C++ -*-===//
#ifndef KVC_TOOLS_KVC_BENCHREPORT_H
#define KVC_TOOLS_KVC_BENCHREPORT_H

#include "tools/kvc/BenchHost.h"

namespace llvm {
class raw_ostream;
}

namespace kvc::bench {

/// One line about the host's work.
struct HostRow {
  std::string spec;
  unsigned page = 0; ///< 0: contiguous
  std::optional<CompileTimes> compile;
  bool firstOfProcess = false; ///< `compile` found nothing warm
  unsigned sequences = 0;      ///< of `step`
  std::optional<Spread> step;
};

/// A table; figures are medians, with the least and the most behind.
void printTable(llvm::raw_ostream &os, const Result &result,
                const std::vector<HostRow> &host);

/// One object: `ceiling_gb_s` (with most threads; null if nothing was read),
/// `ceilings`, and `rows` of both kinds.
void printJson(llvm::raw_ostream &os, const Result &result,
               const std::vector<HostRow> &host);

} // namespace kvc::bench

#endif // KVC_TOOLS_KVC_BENCHREPORT_H
