//===- BenchWindowsTest.cpp - fractions of made-up windows ----------------===//
#include "tools/kvc/BenchWindows.h"

#include <gtest/gtest.h>

using namespace kvc::bench;

namespace {
/// `yards` and `kernel` in the order in which they were measured.
Windows windowsOf(const std::vector<std::vector<double>> &yards,
                  const std::vector<double> &kernel) {
  Windows windows;
  windows.addYards(yards[0]);
  for (size_t i = 0; i < kernel.size(); ++i) {
    windows.addKernel(kernel[i]);
    windows.addYards(yards[i + 1]);
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
  EXPECT_EQ(windows.kernel(), (std::vector<double>{15, 30}));
  auto fraction = fractionOf(windows);
  ASSERT_TRUE(fraction);
  ASSERT_EQ(fraction->ratios.size(), 2u);
  EXPECT_DOUBLE_EQ(fraction->ratios[0], 0.5);
  EXPECT_DOUBLE_EQ(fraction->ratios[1], 0.5);
  EXPECT_FALSE(fraction->disagrees());
  EXPECT_FALSE(fraction->isAbove());
}

// A machine that gives half of everything for a while, and a kernel at 80 %.
// Medians of all rates of each would give 160 %.
TEST(BenchWindows, AMachineThatSlowsDownDoesNotShow) {
  Windows windows;
  for (double speed : {1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5}) {
    windows.addYards({100 * speed});
    windows.addKernel(80 * speed);
    windows.addYards({100 * speed});
  }
  auto fraction = fractionOf(windows);
  ASSERT_TRUE(fraction);
  EXPECT_DOUBLE_EQ(fraction->spread.min, 0.8);
  EXPECT_DOUBLE_EQ(fraction->spread.max, 0.8);
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
  EXPECT_DOUBLE_EQ(fraction->spread.median, 0.5);
  EXPECT_FALSE(fraction->disagrees());
  EXPECT_LT(fraction->spread.min, 0.1);
  EXPECT_GT(fraction->spread.max, 2);
}

TEST(BenchWindows, TheBestYardstickCounts) {
  auto fraction = fractionOf(
      windowsOf({{50, 80, 70}, {50, 80, 70}, {50, 80, 70}}, {40, 40}));
  ASSERT_TRUE(fraction);
  EXPECT_EQ(fraction->best, 1u);
  EXPECT_DOUBLE_EQ(fraction->spread.median, 0.5);
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
  windows.addYards({10});
  windows.addKernel(5);
  windows.addYards({10});
  auto fraction = fractionOf(windows);
  ASSERT_EQ(fraction->ratios.size(), 2u);
  EXPECT_DOUBLE_EQ(fraction->spread.min, 0.5);
  EXPECT_DOUBLE_EQ(fraction->spread.max, 0.5);
}
