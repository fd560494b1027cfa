//===- VerifyReport.cpp - what kvc verify prints --------------------------===//
#include "tools/kvc/VerifyReport.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/JSON.h"

using namespace kvc;
using namespace kvc::cli;

/// Failures that text output shows; JSON has all.
static constexpr size_t kShown = 12;

std::string kvc::cli::reproduceFlags(uint64_t seed,
                                     const CompileOptions &compile) {
  std::string flags = " --seed " + std::to_string(seed);
  if (compile.targets != CompileOptions().targets)
    flags += " --target=" + llvm::join(compile.targets, ",");
  for (const ScheduleOverride &entry : compile.schedule)
    flags += " '--schedule=" + entry.kernel + "." + entry.key + "=" +
             std::to_string(entry.value) + "'";
  return flags;
}

void kvc::cli::merge(verify::Summary &to, verify::Summary from) {
  to.cases += from.cases;
  to.failed += from.failed;
  to.rows += from.rows;
  to.exactRows += from.exactRows;
  to.unnamedRows += from.unnamedRows;
  to.notFinite += from.notFinite;
  to.seconds += from.seconds;
  to.longest = std::max(to.longest, from.longest);
  to.unreached = std::move(from.unreached);
  to.worstOutput = std::max(to.worstOutput, from.worstOutput);
  to.worstElement = std::max(to.worstElement, from.worstElement);
  to.worstLse = std::max(to.worstLse, from.worstLse);
  std::move(from.failures.begin(), from.failures.end(),
            std::back_inserter(to.failures));
}

static std::string commandFor(const verify::Summary &summary, size_t failure,
                              const Reproduce &reproduce) {
  if (failure < reproduce.replays)
    return reproduce.command;
  return reproduce.command + " --case " +
         std::to_string(summary.failures[failure].index);
}

void kvc::cli::printJson(llvm::raw_ostream &os, const verify::Summary &summary,
                         uint64_t seed, const Reproduce &reproduce) {
  llvm::json::OStream json(os, /*IndentSize=*/2);
  json.object([&] {
    json.attribute("cases", int64_t(summary.cases));
    json.attribute("failures", int64_t(summary.failed));
    json.attribute("worst_error_ratio", summary.worstOutput);
    json.attribute("worst_element_ratio", summary.worstElement);
    json.attribute("worst_lse_ratio", summary.worstLse);
    json.attribute("rows", int64_t(summary.rows));
    json.attribute("exact_rows", int64_t(summary.exactRows));
    json.attribute("unnamed_rows", int64_t(summary.unnamedRows));
    json.attribute("rows_not_finite", int64_t(summary.notFinite));
    json.attribute("longest_context", summary.longest);
    json.attributeArray("bounds_not_reached", [&] {
      for (const verify::UnreachedBound &each : summary.unreached)
        json.object([&] {
          json.attribute("store", each.store);
          json.attribute("bound", each.bound);
          json.attribute("tokens", each.tokens);
        });
    });
    json.attribute("seed", int64_t(seed));
    json.attribute("seconds", summary.seconds);
    json.attributeArray("layers", [&] {
      for (const verify::LayerReport &layer : summary.layers)
        json.object([&] {
          json.attribute("layer", int64_t(layer.layer));
          json.attribute("store", layer.store);
          json.attribute("tokens", layer.tokens);
          json.attribute("rows", int64_t(layer.report.rows));
          json.attribute("rows_not_finite", int64_t(layer.report.notFinite));
          json.attribute("error_ratio", layer.report.output);
          json.attribute("lse_ratio", layer.report.lse);
          json.attribute("codec_loss", layer.loss);
        });
    });
    json.attributeArray("failed", [&] {
      for (const auto &[i, each] : llvm::enumerate(summary.failures))
        json.object([&] {
          json.attribute("case", int64_t(each.index));
          json.attribute("rule", each.failure.rule);
          json.attribute("detail", each.failure.detail);
          json.attribute("spec", each.spec);
          json.attribute("reproduce", commandFor(summary, i, reproduce));
        });
    });
  });
  os << "\n";
}

static void printLayers(llvm::raw_ostream &os,
                        const std::vector<verify::LayerReport> &layers) {
  if (layers.empty())
    return;
  os << "layer  store         tokens   error   lse error   codec loss\n";
  for (const verify::LayerReport &layer : layers)
    os << llvm::format("%5u  %-12s %7lld %7.3f %11.3f %12.2e\n", layer.layer,
                       layer.store.c_str(), (long long)layer.tokens,
                       layer.report.output, layer.report.lse, layer.loss);
  for (const verify::LayerReport &layer : layers)
    if (uint64_t rows = layer.report.notFinite)
      os << "layer " << layer.layer << ", store `" << layer.store
         << "`: " << rows << " of " << rows + layer.report.rows
         << " rows are NaN or infinite in the reference: compared in nothing "
            "but that\n";
  os << "\n";
}

void kvc::cli::printText(llvm::raw_ostream &os, const verify::Summary &summary,
                         uint64_t seed, const Reproduce &reproduce) {
  printLayers(os, summary.layers);
  for (size_t i = 0; i < summary.failures.size() && i < kShown; ++i) {
    const verify::CaseFailure &each = summary.failures[i];
    os << "case " << each.index << ": " << each.failure.rule << ": "
       << each.failure.detail << "\n";
    bool last = i + 1 == summary.failures.size() || i + 1 == kShown ||
                i + 1 == reproduce.replays ||
                summary.failures[i + 1].index != each.index;
    if (last)
      os << "  spec: " << each.spec
         << "\n  reproduce: " << commandFor(summary, i, reproduce) << "\n";
  }
  if (summary.failures.size() > kShown)
    os << "... and " << summary.failures.size() - kShown << " more\n";
  for (const verify::UnreachedBound &each : summary.unreached)
    os << "not reached: store `" << each.store << "`, " << each.bound << ": "
       << "a sequence of " << each.tokens << " tokens\n";
  os << summary.cases << " cases, " << summary.failed << " failed; worst error "
     << llvm::format("%.3f of its bound, of one element %.3f, lse %.3f",
                     summary.worstOutput, summary.worstElement,
                     summary.worstLse)
     << "; " << summary.rows << " rows against float64, " << summary.exactRows
     << " exact addresses";
  if (summary.unnamedRows)
    os << " (not of " << summary.unnamedRows
       << " rows, where no logit can win)";
  os << "; longest context " << summary.longest << " tokens; seed " << seed
     << "; " << llvm::format("%.1f s", summary.seconds) << "\n";
}

/// The line's words on what became of it; whether that is as it should be.
static bool sayPlanted(llvm::raw_ostream &os, const verify::Planted &planted,
                       bool ofSpec) {
  if (planted.missed) {
    os << "MISSED by case " << *planted.missed;
    return false;
  }
  if (planted.caught) {
    os << "caught by " << planted.failure.failure.rule << " in case "
       << planted.failure.index;
    if (planted.tried > 1)
      os << ", " << planted.tried << " tried";
    if (planted.outOfReach)
      os << ", out of reach in " << planted.outOfReach;
    return true;
  }
  if (planted.tried) {
    os << "NOT CAUGHT in " << planted.tried << " cases";
    return false;
  }
  if (planted.outOfReach) {
    os << "NOT TRIED: out of reach in all cases that it applies to";
    return false;
  }
  os << (ofSpec ? "cannot show under this spec"
                : "NOT TRIED: applies to no drawn case");
  return ofSpec;
}

bool kvc::cli::printPlanted(llvm::raw_ostream &os,
                            const std::vector<verify::Planted> &all,
                            bool ofSpec) {
  bool caught = true;
  for (const verify::Planted &planted : all) {
    os << llvm::format("%-14s ", planted.fault.name);
    caught &= sayPlanted(os, planted, ofSpec);
    os << " (" << planted.fault.what << ")\n";
  }
  return caught;
}
