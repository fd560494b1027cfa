//===- BenchWindows.h - kernels between their yardsticks --------*- C++ -*-===//
//
// What a memory or a core gives moves by half within seconds where others use
// the machine as well, so a rate alone says little, and a rate over a ceiling
// of another moment less. A row is therefore measured in many short windows:
// each of the kernel's stands between two of the yardsticks', and only
// neighbours are divided.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_TOOLS_KVC_BENCHWINDOWS_H
#define KVC_TOOLS_KVC_BENCHWINDOWS_H

#include <cstddef>
#include <optional>
#include <vector>

namespace kvc::bench {

/// Of several samples of one quantity; zeros if there are none.
struct Spread {
  double min = 0;
  double low = 0; ///< the first quartile
  double median = 0;
  double high = 0; ///< the third quartile
  double max = 0;

  /// How far apart the middle half of the samples is, over the median.
  double disagreement() const { return median > 0 ? (high - low) / median : 0; }
};
Spread spread(std::vector<double> samples);

/// Windows that disagree by more than this make a row doubtful.
inline constexpr double kMostDisagreement = 0.1;

/// Kernel and yardsticks, window by window.
class Windows {
public:
  /// The rate of each yardstick in a window of theirs: before the first window
  /// of the kernel and after each.
  void addYards(const std::vector<double> &rates);
  /// The kernel's rate, between two of those.
  void addKernel(double rate) { pending = rate; }

  /// The kernel's rates.
  const std::vector<double> &kernel() const { return kernels; }
  size_t yards() const { return beside.size(); }
  /// The rates of a yardstick beside each of those: work over time of its two
  /// neighbours.
  const std::vector<double> &yard(size_t index) const { return beside[index]; }

private:
  std::optional<double> pending;
  std::vector<double> kernels, last;
  std::vector<std::vector<double>> beside; ///< [yardstick][window]
};

/// What part of the best yardstick's rate a kernel has.
struct Fraction {
  size_t best = 0;            ///< the yardstick that leaves the least median
  std::vector<double> ratios; ///< one per window
  Spread spread;              ///< of them; the median is the fraction

  /// Its own windows disagree: measure again on a quieter machine.
  bool disagrees() const { return spread.disagreement() > kMostDisagreement; }
  /// The kernel outran all yardsticks in most windows: they are no ceiling, and
  /// the fraction says only that the kernel is at it.
  bool isAbove() const { return spread.median > 1; }
};
/// nullopt if there is no yardstick.
std::optional<Fraction> fractionOf(const Windows &windows);

} // namespace kvc::bench

#endif // KVC_TOOLS_KVC_BENCHWINDOWS_H
