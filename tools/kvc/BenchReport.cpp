//===- BenchReport.cpp ----------------------------------------------------===//

#include "tools/kvc/BenchReport.h"

#include "tools/kvc/Cli.h"

#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/raw_ostream.h"

#include <nlohmann/json.hpp>

#include <cmath>

using namespace kvc;
using namespace kvc::bench;
using llvm::formatv;
using nlohmann::ordered_json;

static const char *name(Op op) {
  constexpr const char *kNames[] = {"decode", "prefill", "append"};
  return kNames[size_t(op)];
}

/// What a row's rate is counted in.
static double unit(const Row &row) { return row.isMultiplied() ? 1e12 : 1e9; }

//===----------------------------------------------------------------------===//
// Table
//===----------------------------------------------------------------------===//

static std::string pageText(unsigned page) {
  return page ? std::to_string(page) : "-";
}

/// "31.20 (30.10 .. 32.00)"
static std::string spreadText(const Spread &spread, double one) {
  return formatv("{0:f3} ({1:f3} .. {2:f3})", spread.median / one,
                 spread.min / one, spread.max / one);
}

/// "55.2 % (53.1 .. 57.0)": the median of the ratios and their quartiles.
static std::string fractionText(const Row &row) {
  if (!row.fraction)
    return "";
  const Spread &spread = row.fraction->ratio;
  return formatv("{0:f1} % ({1:f1} .. {2:f1})", spread.median * 100,
                 spread.low * 100, spread.high * 100);
}

static std::string flagsOf(const Row &row) {
  std::string flags;
  if (row.fraction && row.fraction->disagrees())
    flags += "~";
  if (row.fraction && row.fraction->isAbove())
    flags += "^";
  return flags;
}

static void printKernels(llvm::raw_ostream &os, const std::vector<Row> &rows) {
  if (rows.empty())
    return;
  cli::Table table({"op", "spec", ">context", ">page", ">threads", ">us/call",
                    "rate", "", "of max (middle half)", ""});
  std::string seen;
  for (const Row &row : rows) {
    table.row({name(row.op), row.spec, std::to_string(row.shape.context),
               pageText(row.page), std::to_string(row.threads),
               formatv("{0:f1}", row.seconds() * 1e6),
               spreadText(row.rates, unit(row)),
               row.isMultiplied() ? "TFLOP/s" : "GB/s", fractionText(row),
               flagsOf(row)});
    seen += flagsOf(row);
  }
  table.print(os);
  if (seen.find('~') != seen.npos)
    os << formatv("~ the windows of this row disagree: the middle half of its "
                  "ratios spans more than {0:f0} % of their median. Others use "
                  "the machine: run it again, or with more --reps\n",
                  kMostDisagreement * 100);
  if (seen.find('^') != seen.npos)
    os << "^ the kernel outran the best yardsticks in most windows beside "
          "them: "
          "it is at the ceiling, which they do not show\n";
}

static void printHost(llvm::raw_ostream &os, const std::vector<HostRow> &rows) {
  if (rows.empty())
    return;
  cli::Table table(
      {"op", "spec", ">page", "what", "median (least .. most)", ""});
  for (const HostRow &row : rows) {
    if (row.compile && row.firstOfProcess)
      table.row({"compile", row.spec, pageText(row.page),
                 "first of the process", formatv("{0:f2}", row.compile->first),
                 "ms"});
    if (row.compile) {
      table.row({"compile", row.spec, pageText(row.page), "cold",
                 spreadText(row.compile->cold, 1), "ms"});
      table.row({"compile", row.spec, pageText(row.page), "from the disk cache",
                 spreadText(row.compile->cached, 1), "ms"});
      for (const CompileTimes::Object &made : row.compile->objects) {
        table.row({"compile", row.spec, pageText(row.page),
                   "cold, PTX of " + made.kernels, spreadText(made.ptx, 1),
                   "ms"});
        if (made.cubin)
          table.row({"compile", row.spec, pageText(row.page),
                     "cold, cubin of " + made.kernels,
                     spreadText(*made.cubin, 1), "ms"});
      }
    }
    if (row.step)
      table.row({"runtime", row.spec, pageText(row.page),
                 formatv("reserve + commit, {0} sequences", row.sequences),
                 spreadText(*row.step, 1), "us per sequence"});
  }
  table.print(os);
}

void kvc::bench::printTable(llvm::raw_ostream &os, const Result &result,
                            const std::vector<HostRow> &host) {
  for (const Result::Ceiling &ceiling : result.ceilings)
    os << formatv("read ceiling, {0} thread{1}: {2:f1} GB/s ({3:f1} .. "
                  "{4:f1}, middle half {8:f1} .. {9:f1}), best of {5} readers: "
                  "{6}; a naive loop: {7:f1}\n",
                  ceiling.threads, ceiling.threads == 1 ? "" : "s",
                  ceiling.rate.median / 1e9, ceiling.rate.min / 1e9,
                  ceiling.rate.max / 1e9, ceiling.tried, ceiling.reader,
                  ceiling.naive / 1e9, ceiling.rate.low / 1e9,
                  ceiling.rate.high / 1e9);
  for (const Result::Peak &peak : result.peaks)
    os << formatv("multiply peak, {0} thread{1}: {2:f3} TFLOP/s ({3:f3} .. "
                  "{4:f3}): {5}\n",
                  peak.threads, peak.threads == 1 ? "" : "s",
                  peak.rate.median / 1e12, peak.rate.min / 1e12,
                  peak.rate.max / 1e12, peak.unit);
  printKernels(os, result.rows);
  printHost(os, host);
}

//===----------------------------------------------------------------------===//
// JSON
//===----------------------------------------------------------------------===//

/// Six significant digits: more would be noise.
static double rounded(double value) {
  if (value == 0 || !std::isfinite(value))
    return 0;
  double scale = std::pow(10, 5 - std::floor(std::log10(std::fabs(value))));
  return std::round(value * scale) / scale;
}

static ordered_json toJson(const Spread &spread, double one) {
  return {{"median", rounded(spread.median / one)},
          {"min", rounded(spread.min / one)},
          {"low", rounded(spread.low / one)},
          {"high", rounded(spread.high / one)},
          {"max", rounded(spread.max / one)}};
}

static void addFraction(ordered_json &object, const Row &row,
                        const std::string &rate) {
  const bool isMultiplied = row.isMultiplied();
  const Fraction &fraction = *row.fraction;
  const std::vector<Sample> &yard = row.windows.yard(fraction.best);
  const std::string key =
      isMultiplied ? "fraction_of_peak" : "fraction_of_ceiling";
  const std::string ceiling = (isMultiplied ? "peak_" : "ceiling_") + rate;
  object[key] = rounded(fraction.ratio.median);
  object["fraction"] = toJson(fraction.ratio, 1);
  object["windows_disagree"] = fraction.disagrees();
  object["above_ceiling"] = fraction.isAbove();
  object[ceiling] = rounded(fraction.yard.median / unit(row));
  object[isMultiplied ? "peak_unit" : "ceiling_reader"] = row.yardName;
  object["windows_used"] = fraction.used.size();
  // All of them; `quiet_` rates are null where a thread was interrupted.
  ordered_json windows = ordered_json::array();
  auto add = [&](ordered_json &object, const std::string &key,
                 const Sample &sample) {
    object[key] = rounded(sample.rate / unit(row));
    object["quiet_" + key] = nullptr;
    if (sample.quiet())
      object["quiet_" + key] = rounded(sample.quietRate / unit(row));
  };
  for (size_t i = 0; i < yard.size(); ++i) {
    ordered_json &window = windows.emplace_back();
    add(window, rate, row.windows.kernel()[i]);
    add(window, ceiling, yard[i]);
  }
  object["windows"] = std::move(windows);
}

static ordered_json toJson(const Row &row) {
  const bool isMultiplied = row.isMultiplied();
  const std::string rate = isMultiplied ? "tflop_s" : "gb_s";
  const Spread &rates = row.rates;
  ordered_json object = {{"op", name(row.op)},
                         {"spec", row.spec},
                         {"context", row.shape.context},
                         {"page_size", row.page},
                         {"threads", row.threads},
                         {"batch", row.shape.batch},
                         {"queries", row.shape.queries},
                         {"samples", row.windows.kernel().size()},
                         {"us", rounded(row.seconds() * 1e6)}};
  object[rate] = rounded(rates.median / unit(row));
  object[rate + "_min"] = rounded(rates.min / unit(row));
  object[rate + "_max"] = rounded(rates.max / unit(row));
  if (row.fraction)
    addFraction(object, row, rate);
  return object;
}

static void addJson(ordered_json &rows, const HostRow &row) {
  ordered_json object = {
      {"op", ""}, {"spec", row.spec}, {"page_size", row.page}};
  if (row.compile) {
    object["op"] = "compile";
    if (row.firstOfProcess)
      object["first_ms"] = rounded(row.compile->first);
    object["cold_ms"] = toJson(row.compile->cold, 1);
    object["cached_ms"] = toJson(row.compile->cached, 1);
    for (const CompileTimes::Object &made : row.compile->objects) {
      ordered_json &entry = object["objects"][made.kernels];
      entry["ptx_ms"] = toJson(made.ptx, 1);
      if (made.cubin)
        entry["cubin_ms"] = toJson(*made.cubin, 1);
    }
  }
  if (row.step) {
    object["op"] = "runtime";
    object["sequences"] = row.sequences;
    object["us_per_sequence"] = toJson(*row.step, 1);
  }
  rows.push_back(std::move(object));
}

void kvc::bench::printJson(llvm::raw_ostream &os, const Result &result,
                           const std::vector<HostRow> &host) {
  ordered_json object = {{"ceiling_gb_s", nullptr}};
  ordered_json ceilings = ordered_json::array(), peaks = ceilings,
               rows = ceilings;
  for (const Result::Ceiling &ceiling : result.ceilings) {
    object["ceiling_gb_s"] = rounded(ceiling.rate.median / 1e9);
    ceilings.push_back({{"threads", ceiling.threads},
                        {"gb_s", toJson(ceiling.rate, 1e9)},
                        {"reader", ceiling.reader},
                        {"readers_tried", ceiling.tried},
                        {"naive_gb_s", rounded(ceiling.naive / 1e9)}});
  }
  for (const Result::Peak &peak : result.peaks)
    peaks.push_back({{"threads", peak.threads},
                     {"unit", peak.unit},
                     {"tflop_s", toJson(peak.rate, 1e12)}});
  for (const Row &row : result.rows)
    rows.push_back(toJson(row));
  for (const HostRow &row : host)
    addJson(rows, row);
  object["ceilings"] = std::move(ceilings);
  object["peaks"] = std::move(peaks);
  object["rows"] = std::move(rows);
  os << object.dump(2) << "\n";
}
