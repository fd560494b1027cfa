//===- BenchWindows.cpp - kernels between their yardsticks ----------------===//
#include "tools/kvc/BenchWindows.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

using namespace kvc::bench;

/// Between the two samples that it falls between.
static double quantile(const std::vector<double> &sorted, double part) {
  double at = part * double(sorted.size() - 1);
  size_t below = size_t(std::floor(at));
  size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (at - double(below)) * (sorted[above] - sorted[below]);
}

Spread kvc::bench::spread(std::vector<double> samples) {
  if (samples.empty())
    return {};
  std::sort(samples.begin(), samples.end());
  return {samples.front(), quantile(samples, 0.25), quantile(samples, 0.5),
          quantile(samples, 0.75), samples.back()};
}

/// Zero of none.
static double harmonicMean(const std::vector<double> &rates) {
  double seconds = 0;
  for (double rate : rates)
    seconds += 1 / rate;
  return rates.empty() ? 0 : double(rates.size()) / seconds;
}

Sample kvc::bench::joined(const std::vector<Sample> &samples) {
  std::vector<double> all, quiet;
  for (const Sample &sample : samples) {
    all.push_back(sample.rate);
    if (sample.quiet())
      quiet.push_back(sample.quietRate);
  }
  return {harmonicMean(all), harmonicMean(quiet)};
}

std::vector<double> kvc::bench::ratesOf(const std::vector<Sample> &samples) {
  std::vector<double> all, quiet;
  for (const Sample &sample : samples) {
    all.push_back(sample.rate);
    if (sample.quiet())
      quiet.push_back(sample.quietRate);
  }
  return quiet.size() >= kFewestQuiet ? quiet : all;
}

void Windows::addYards(const std::vector<Sample> &yards) {
  if (auto sample = std::exchange(pending, std::nullopt)) {
    kernels.push_back(*sample);
    beside.resize(yards.size());
    for (size_t i = 0; i < yards.size(); ++i)
      beside[i].push_back(joined({last[i], yards[i]}));
  }
  last = yards;
}

static Fraction fractionUnder(const Windows &windows, size_t index) {
  const std::vector<Sample> &kernel = windows.kernel(),
                            &yard = windows.yard(index);
  Fraction fraction;
  fraction.best = index;
  for (size_t i = 0; i < kernel.size(); ++i)
    if (kernel[i].quiet() && yard[i].quiet())
      fraction.used.push_back(i);
  bool quiet = fraction.used.size() >= kFewestQuiet;
  if (!quiet) {
    fraction.used.resize(kernel.size());
    std::iota(fraction.used.begin(), fraction.used.end(), size_t(0));
  }
  // Never one that was disturbed over one that was not.
  auto rateOf = [&](const Sample &sample) {
    return quiet ? sample.quietRate : sample.rate;
  };
  std::vector<double> kernels, yards, ratios;
  for (size_t i : fraction.used) {
    kernels.push_back(rateOf(kernel[i]));
    yards.push_back(rateOf(yard[i]));
    ratios.push_back(kernels.back() / yards.back());
  }
  fraction.kernel = spread(std::move(kernels));
  fraction.yard = spread(std::move(yards));
  fraction.ratio = spread(std::move(ratios));
  return fraction;
}

std::optional<Fraction> kvc::bench::fractionOf(const Windows &windows) {
  std::optional<Fraction> least;
  for (size_t i = 0; i < windows.yards(); ++i) {
    Fraction fraction = fractionUnder(windows, i);
    if (!least || fraction.ratio.median < least->ratio.median)
      least = std::move(fraction);
  }
  return least;
}
