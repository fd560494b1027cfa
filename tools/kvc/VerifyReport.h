//===- VerifyReport.h - what kvc verify prints ------------------*- C++ -*-===//
#ifndef KVC_TOOLS_KVC_VERIFYREPORT_H
#define KVC_TOOLS_KVC_VERIFYREPORT_H

#include "lib/Verify/Verify.h"

#include "llvm/Support/raw_ostream.h"

namespace kvc::cli {

/// " --seed S", and the flag --target with what `compile` has, or nothing.
std::string reproduceFlags(uint64_t seed);
std::string targetFlag(const CompileOptions &compile);

/// Adds what another run of the same command found.
void merge(verify::Summary &to, verify::Summary from);

/// One object: cases, failures (of them), worst_error_ratio, worst_lse_ratio,
/// rows, seed, seconds, layers[], failed[]. `reproduce` is a command that lacks
/// only its --case.
void printJson(llvm::raw_ostream &os, const verify::Summary &summary,
               uint64_t seed, const std::string &reproduce);
void printText(llvm::raw_ostream &os, const verify::Summary &summary,
               uint64_t seed, const std::string &reproduce);

/// A line per planted bug; whether all were caught.
bool printPlanted(llvm::raw_ostream &os,
                  const std::vector<verify::Planted> &all);

} // namespace kvc::cli

#endif // KVC_TOOLS_KVC_VERIFYREPORT_H
