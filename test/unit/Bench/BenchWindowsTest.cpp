//===- BenchWindowsTest.cpp - fractions of made-up windows ----------------===//
#include "tools/kvc/BenchWindows.h"

#include <gtest/gtest.h>

using namespace kvc::bench;

namespace {
Sample quietSample(double rate) { return {rate, rate}; }
Sample disturbedSample(double rate) { return {rate, 0}; }

/// Quiet ones.
std::vector<Sample> samplesOf(const std::vector<double> &rates) {
  std::vector<Sample> samples;
  for (double rate : rates)
    samples.push_back(quietSample(rate));
  return samples;
}

/// `yards` and `kernel` in the order in which they were measured.
Windows windowsOf(const std::vector<std::vector<double>> &yards,
                  const std::vector<double> &kernel) {
  Windows windows;
  windows.addYards(samplesOf(yards[0]));
  for (size_t i = 0; i < kernel.size(); ++i) {
    windows.addKernel(quietSample(kernel[i]));
    windows.addYards(samplesOf(yards[i + 1]));
  }
  return windows;
}
} // namespace

TEST(BenchWindows, SpreadHasQuartiles) {
  Spread five = spread({5, 1, 4, 2, 3});
  EXPECT_EQ(five.min, 1);
  EXPECT_EQ(five.low, 2);
  EXPECT_EQ(five.median, 3);
  EXPECT_EQ(five.high, 4);
  EXPECT_EQ(five.max, 5);
  EXPECT_DOUBLE_EQ(five.disagreement(), 2.0 / 3);
  Spread four = spread({4, 1, 3, 2});
  EXPECT_EQ(four.low, 1.75);
  EXPECT_EQ(four.median, 2.5);
  EXPECT_EQ(spread({7}).high, 7);
  EXPECT_EQ(spread({}).disagreement(), 0);
}

TEST(BenchWindows, KernelsAreDividedByTheirNeighbours) {
  // 1 / (1/20 + 1/60) * 2 = 30, and 60 beside 60.
  Windows windows = windowsOf({{20}, {60}, {60}}, {15, 30});
  EXPECT_EQ(windows.kernel().size(), 2u);
  EXPECT_DOUBLE_EQ(windows.yard(0)[0].rate, 30);
  EXPECT_DOUBLE_EQ(windows.yard(0)[1].rate, 60);
  auto fraction = fractionOf(windows);
  ASSERT_TRUE(fraction);
  EXPECT_EQ(fraction->used.size(), 2u);
  EXPECT_DOUBLE_EQ(fraction->ratio.min, 0.5);
  EXPECT_DOUBLE_EQ(fraction->ratio.max, 0.5);
  EXPECT_DOUBLE_EQ(fraction->kernel.median, 22.5);
  EXPECT_DOUBLE_EQ(fraction->yard.median, 45);
  EXPECT_FALSE(fraction->disagrees());
  EXPECT_FALSE(fraction->isAbove());
}

// A machine that gives half of everything for a while, and a kernel at 80 %.
// Medians of all rates of each would give 160 %.
TEST(BenchWindows, AMachineThatSlowsDownDoesNotShow) {
  Windows windows;
  for (double speed : {1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5}) {
    windows.addYards(samplesOf({100 * speed}));
    windows.addKernel(quietSample(80 * speed));
    windows.addYards(samplesOf({100 * speed}));
  }
  auto fraction = fractionOf(windows);
  ASSERT_TRUE(fraction);
  EXPECT_DOUBLE_EQ(fraction->ratio.min, 0.8);
  EXPECT_DOUBLE_EQ(fraction->ratio.max, 0.8);
  EXPECT_FALSE(fraction->disagrees());
}

// One reader or one kernel that others interrupt does not move the median.
TEST(BenchWindows, FewDisturbancesDoNotShow) {
  std::vector<std::vector<double>> yards(13, {100});
  std::vector<double> kernel(12, 50);
  yards[3] = {10};
  kernel[9] = 5;
  auto fraction = fractionOf(windowsOf(yards, kernel));
  ASSERT_TRUE(fraction);
  EXPECT_DOUBLE_EQ(fraction->ratio.median, 0.5);
  EXPECT_FALSE(fraction->disagrees());
  EXPECT_LT(fraction->ratio.min, 0.1);
  EXPECT_GT(fraction->ratio.max, 2);
}

TEST(BenchWindows, TheBestYardstickCounts) {
  auto fraction = fractionOf(
      windowsOf({{50, 80, 70}, {50, 80, 70}, {50, 80, 70}}, {40, 40}));
  ASSERT_TRUE(fraction);
  EXPECT_EQ(fraction->best, 1u);
  EXPECT_DOUBLE_EQ(fraction->ratio.median, 0.5);
}

TEST(BenchWindows, DisagreementIsFlagged) {
  std::vector<std::vector<double>> yards(9, {100});
  auto at = [&](double step) {
    std::vector<double> kernel;
    for (int i = -4; i < 4; ++i)
      kernel.push_back(50 + i * step);
    return fractionOf(windowsOf(yards, kernel))->disagrees();
  };
  // The middle half of eight equal steps spans three and a half of them.
  EXPECT_FALSE(at(1.3));
  EXPECT_TRUE(at(1.5));
}

TEST(BenchWindows, AKernelThatOutrunsAllIsFlagged) {
  EXPECT_TRUE(
      fractionOf(windowsOf({{10, 9}, {10, 9}, {10, 9}}, {11, 12}))->isAbove());
  EXPECT_FALSE(fractionOf(windowsOf({{10, 13}, {10, 13}, {10, 13}}, {11, 12}))
                   ->isAbove());
}

TEST(BenchWindows, WithoutYardsticksThereIsNoFraction) {
  EXPECT_FALSE(fractionOf(windowsOf({{}, {}}, {10})));
  EXPECT_FALSE(fractionOf(Windows()));
}

// A round begins with yardsticks of its own: those of an earlier one are not
// beside its kernel.
TEST(BenchWindows, RoundsDoNotMix) {
  Windows windows = windowsOf({{100}, {100}}, {50});
  windows.addYards(samplesOf({10}));
  windows.addKernel(quietSample(5));
  windows.addYards(samplesOf({10}));
  auto fraction = fractionOf(windows);
  ASSERT_EQ(fraction->used.size(), 2u);
  EXPECT_DOUBLE_EQ(fraction->ratio.min, 0.5);
  EXPECT_DOUBLE_EQ(fraction->ratio.max, 0.5);
}

TEST(BenchWindows, JoinedIsWorkOverTime) {
  Sample all = joined({quietSample(20), quietSample(60)});
  EXPECT_DOUBLE_EQ(all.rate, 30);
  EXPECT_DOUBLE_EQ(all.quietRate, 30);
  Sample one = joined({disturbedSample(20), quietSample(60)});
  EXPECT_DOUBLE_EQ(one.rate, 30);
  EXPECT_DOUBLE_EQ(one.quietRate, 60);
  Sample none = joined({disturbedSample(20), disturbedSample(60)});
  EXPECT_DOUBLE_EQ(none.rate, 30);
  EXPECT_FALSE(none.quiet());
}

// Where another process has the core most of the time, the few windows that it
// leaves alone say what the kernel is worth. If they are too few, all count, of
// kernel and yardsticks alike.
TEST(BenchWindows, QuietWindowsCountIfTheyAreEnough) {
  auto measured = [](size_t quiet) {
    Windows windows;
    // Each yardstick was disturbed in one of its two repetitions.
    Sample yard = joined({quietSample(100), disturbedSample(100.0 / 7)});
    EXPECT_DOUBLE_EQ(yard.rate, 25);
    windows.addYards({yard});
    for (size_t i = 0; i < 20; ++i) {
      windows.addKernel(i < quiet ? quietSample(80) : disturbedSample(10));
      windows.addYards({yard});
    }
    return *fractionOf(windows);
  };
  EXPECT_EQ(measured(kFewestQuiet).used.size(), kFewestQuiet);
  EXPECT_DOUBLE_EQ(measured(kFewestQuiet).ratio.median, 0.8);
  EXPECT_DOUBLE_EQ(measured(kFewestQuiet).kernel.min, 80);
  EXPECT_EQ(measured(kFewestQuiet - 1).used.size(), 20u);
  EXPECT_DOUBLE_EQ(measured(kFewestQuiet - 1).ratio.median, 0.4);
}

TEST(BenchWindows, RatesAreThoseOfQuietSamplesIfTheyAreEnough) {
  std::vector<Sample> samples(kFewestQuiet - 1, quietSample(8));
  samples.push_back(disturbedSample(1));
  EXPECT_EQ(spread(ratesOf(samples)).min, 1);
  samples.push_back(quietSample(7));
  EXPECT_EQ(ratesOf(samples).size(), kFewestQuiet);
  EXPECT_EQ(spread(ratesOf(samples)).min, 7);
}
