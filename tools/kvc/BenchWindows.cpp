//===- BenchWindows.cpp - kernels between their yardsticks ----------------===//
#include "tools/kvc/BenchWindows.h"

#include <algorithm>
#include <cmath>
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

void Windows::addYards(const std::vector<double> &rates) {
  if (auto rate = std::exchange(pending, std::nullopt)) {
    kernels.push_back(*rate);
    beside.resize(rates.size());
    // Both did the same work, so the harmonic mean is work over time.
    for (size_t i = 0; i < rates.size(); ++i)
      beside[i].push_back(2 / (1 / last[i] + 1 / rates[i]));
  }
  last = rates;
}

std::optional<Fraction> kvc::bench::fractionOf(const Windows &windows) {
  std::optional<Fraction> least;
  for (size_t i = 0; i < windows.yards(); ++i) {
    Fraction fraction;
    fraction.best = i;
    for (size_t k = 0; k < windows.kernel().size(); ++k)
      fraction.ratios.push_back(windows.kernel()[k] / windows.yard(i)[k]);
    fraction.spread = spread(fraction.ratios);
    if (!least || fraction.spread.median < least->spread.median)
      least = std::move(fraction);
  }
  return least;
}
