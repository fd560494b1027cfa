//===- BenchWindows.h - kernels between their yardsticks --------*- C++ -*-===//
//
// What a memory or a core gives moves by half within seconds where others use
// the machine as well, so a rate alone says little, and a rate over a ceiling
// of another moment less. A row is therefore measured in many short windows:
// each of the kernel's stands between two of the yardsticks', and only
// neighbours are divided. Windows in which another process had our core are
// left out, if there are enough others.
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

/// What was measured in one window, or in several one after another.
struct Sample {
  double rate = 0;
  double quietRate = 0; ///< while none of our threads was interrupted; 0: never

  bool quiet() const { return quietRate > 0; }
};

/// Of samples that did the same work each: work over time.
Sample joined(const std::vector<Sample> &samples);

/// Kernel and yardsticks, window by window.
class Windows {
public:
  /// Each yardstick in a window of theirs: before the first window of the
  /// kernel and after each.
  void addYards(const std::vector<Sample> &yards);
  /// The kernel, between two of those.
  void addKernel(Sample sample) { pending = sample; }

  const std::vector<Sample> &kernel() const { return kernels; }
  size_t yards() const { return beside.size(); }
  /// A yardstick beside each window of the kernel: its two neighbours, joined.
  const std::vector<Sample> &yard(size_t index) const { return beside[index]; }

private:
  std::optional<Sample> pending;
  std::vector<Sample> kernels, last;
  std::vector<std::vector<Sample>> beside; ///< [yardstick][window]
};

/// With fewer quiet windows than this, the others count as well.
inline constexpr size_t kFewestQuiet = 5;

/// The rates of the quiet samples, or of all if those are too few.
std::vector<double> ratesOf(const std::vector<Sample> &samples);

/// What part of the best yardstick's rate a kernel has.
struct Fraction {
  size_t best = 0;          ///< the yardstick that leaves the least median
  std::vector<size_t> used; ///< windows: the quiet ones, if they are enough
  Spread ratio;             ///< in those; the median is the fraction
  Spread kernel, yard;      ///< rates in those

  /// Its own windows disagree: measure again on a quieter machine.
  bool disagrees() const { return ratio.disagreement() > kMostDisagreement; }
  /// The kernel outran all yardsticks in most windows: they are no ceiling, and
  /// the fraction says only that the kernel is at it.
  bool isAbove() const { return ratio.median > 1; }
};
/// nullopt if there is no yardstick.
std::optional<Fraction> fractionOf(const Windows &windows);

} // namespace kvc::bench

#endif // KVC_TOOLS_KVC_BENCHWINDOWS_H
