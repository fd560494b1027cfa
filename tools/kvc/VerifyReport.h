//===- VerifyReport.h - what kvc verify prints ------------------*- C++ -*-===//
#ifndef KVC_TOOLS_KVC_VERIFYREPORT_H
#define KVC_TOOLS_KVC_VERIFYREPORT_H

#include "lib/driver/Verify/Verify.h"

#include "llvm/Support/raw_ostream.h"

namespace kvc::cli {

/// The command that shows a failure again: it lacks only --case, and of the
/// first `replays` failures, which no --case selects, nothing.
struct Reproduce {
  std::string command;
  size_t replays = 0;
};

/// " --seed S", then --target and --schedule as `compile` has them.
std::string reproduceFlags(uint64_t seed, const CompileOptions &compile);

/// Adds what another run of the same command found.
void merge(verify::Summary &to, verify::Summary from);

/// One object: cases, failures (of them), worst_error_ratio, worst_lse_ratio,
/// rows, rows_not_finite, longest_context, bounds_not_reached[], seed, seconds,
/// layers[], failed[].
void printJson(llvm::raw_ostream &os, const verify::Summary &summary,
               uint64_t seed, const Reproduce &reproduce);
void printText(llvm::raw_ostream &os, const verify::Summary &summary,
               uint64_t seed, const Reproduce &reproduce);

/// A line per planted bug; whether all were caught. One that was tried in no
/// case is a failure; of a spec, it is named as one that cannot show there.
bool printPlanted(llvm::raw_ostream &os,
                  const std::vector<verify::Planted> &all, bool ofSpec);

} // namespace kvc::cli

#endif // KVC_TOOLS_KVC_VERIFYREPORT_H
