//===- RandomKernelTest.cpp - drawn kernels on three executors ------------===//
//
// Legal tile kernels, drawn at random, are run by the interpreter, as machine
// code of a CPU, and on the emulated GPU. All must agree within the bounds of
// KernelBounds.h, and the interpreter with itself before and after each pass.
//
//   tile-random [--kernels=2000] [--seed=7]   that many kernels, of that seed
//   tile-random --seed=7 --kernel=123         that kernel of the seed alone
//   tile-random --kind=gather                 those of a kind alone
//
//===----------------------------------------------------------------------===//
#include "test/unit/Tile/RandomKernel.h"
#include "test/unit/Tile/Executors.h"
#include "test/unit/Tile/KernelTrial.h"

#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/PrettyStackTrace.h"
#include "llvm/Support/Signals.h"
#include "gtest/gtest.h"

#include <chrono>
#include <map>

using namespace kvc;
using namespace kvc::fuzz;

namespace {

/// What the command line asks for.
struct Options {
  uint64_t kernels = 120, seed = 1;
  std::optional<uint64_t> only;
  std::string kind; ///< "": all
} options;

/// What to say at the very end.
std::string summary;

/// What many trials found.
class Tally {
public:
  void add(uint64_t index, const Outcome &outcome);
  void print() const;
  std::string summarise(double seconds) const;
  void expectAllDrawn() const;
  void expectPlantsCaught() const;

  uint64_t ran = 0, disagreements = 0;

private:
  struct Counts {
    uint64_t drawn = 0, onThree = 0, onTwo = 0;
  };
  uint64_t drawn = 0, onThree = 0, cpuOnly = 0, gpuOnly = 0, onNone = 0;
  double worstCpu = 0, worstGpu = 0;
  uint64_t worstCpuAt = 0, worstGpuAt = 0;
  std::map<std::string, Counts> traits;
  std::map<std::pair<std::string, std::string>, uint64_t> refusals;
  struct Planted {
    uint64_t tried = 0, caught = 0, asPass = 0;
  };
  std::map<std::string, Planted> planted;
};

} // namespace

void Tally::add(uint64_t index, const Outcome &outcome) {
  ++drawn;
  bool three = outcome.onCpu && outcome.onGpu;
  bool two = outcome.onCpu != outcome.onGpu;
  onThree += three;
  cpuOnly += two && outcome.onCpu;
  gpuOnly += two && outcome.onGpu;
  onNone += !two && !three;
  ran += two || three;
  for (const std::string &trait : outcome.traits) {
    Counts &counts = traits[trait];
    ++counts.drawn;
    counts.onThree += three;
    counts.onTwo += two;
  }
  for (const auto &refusal : outcome.refusals)
    ++refusals[refusal];
  auto note = [&](double found, double &worst, uint64_t &at) {
    if (found > worst)
      worst = found, at = index;
  };
  // A merge is half an ulp off where it may be a whole one.
  if (llvm::is_contained(outcome.traits, "kind: decode") ||
      llvm::is_contained(outcome.traits, "kind: prefill")) {
    note(outcome.worstCpu, worstCpu, worstCpuAt);
    note(outcome.worstGpu, worstGpu, worstGpuAt);
  }
  if (outcome.plant) {
    Planted &counts = planted[outcome.plant];
    ++counts.tried;
    counts.caught += outcome.caught;
    counts.asPass += outcome.caughtAsPass;
  }
  if (outcome.disagreement.empty())
    return;
  ++disagreements;
  ADD_FAILURE() << llvm::formatv("kernel {0} of seed {1}: {2}\n{3}", index,
                                 options.seed, outcome.disagreement, outcome.ir)
                       .str();
}

void Tally::print() const {
  for (const auto &[trait, counts] : traits)
    printf("  %-50s drawn %5lu, on three %5lu, on two %5lu\n", trait.c_str(),
           counts.drawn, counts.onThree, counts.onTwo);
  for (const auto &[refusal, count] : refusals)
    printf("  %s refused %lu: %s\n", refusal.first.c_str(), count,
           refusal.second.c_str());
  for (const auto &[name, counts] : planted)
    printf("  planted %s: caught %lu of %lu, as a pass's %lu\n", name.c_str(),
           counts.caught, counts.tried, counts.asPass);
}

std::string Tally::summarise(double seconds) const {
  return llvm::formatv(
      "tile-random: {0} kernels, ran on interpreter+cpu+gpu: {1}, "
      "interpreter+cpu: {2}, interpreter+gpu: {3}, refused by both: {4}, {5} "
      "disagreements; worst ratio of attends cpu {6:f3} (kernel {7}), gpu "
      "{8:f3} (kernel {9}); seed {10}; {11:f0} s",
      ran, onThree, cpuOnly, gpuOnly, onNone, disagreements, worstCpu,
      worstCpuAt, worstGpu, worstGpuAt, options.seed, seconds);
}

/// A generator that always makes the same kernel tests nothing.
void Tally::expectAllDrawn() const {
  for (unsigned axis = 0; axis < kAxes; ++axis) {
    const AxisInfo &info = axisInfo(Axis(axis));
    for (const AxisInfo::Value &value : info.values) {
      if (!value.weight)
        continue;
      std::string trait = std::string(info.name) + ": " + value.name;
      auto counts = traits.find(trait);
      ASSERT_NE(counts, traits.end()) << trait << " was never drawn";
      uint64_t ran = counts->second.onThree + counts->second.onTwo;
      EXPECT_EQ(ran == 0, value.refused) << trait << " ran " << ran << " times";
    }
  }
}

void Tally::expectPlantsCaught() const {
  uint64_t kinds = 0;
  for (const auto &[name, counts] : planted) {
    kinds += counts.caught > 0;
    // Some kernels hide a bug: none of their logits comes near the cap, or
    // nobody asks for the lse.
    if (counts.tried < 8)
      continue;
    EXPECT_GE(4 * counts.caught, counts.tried) << name;
    EXPECT_GE(counts.asPass, counts.caught) << name;
  }
  EXPECT_GE(kinds, 6u);
}

namespace {

TEST(RandomKernel, Agrees) {
  std::vector<cpu::CpuTarget> levels = runnableLevels();
  ASSERT_FALSE(levels.empty());
  auto start = std::chrono::steady_clock::now();
  Tally tally;
  auto run = [&](uint64_t index) {
    llvm::PrettyStackTraceFormat trace("kernel %lu of seed %lu", index,
                                       options.seed);
    tally.add(index, tryKernel(options.seed, index, levels));
  };
  constexpr uint64_t kMostDisagreements = 5;
  if (options.only)
    run(*options.only);
  else
    for (uint64_t index = 0; tally.ran < options.kernels &&
                             tally.disagreements < kMostDisagreements;
         ++index)
      if (options.kind.empty() ||
          options.kind == drawKernel(options.seed, index).kindName())
        run(index);
  std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  tally.print();
  summary = tally.summarise(took.count());
  // As many as it takes until each value of each axis has had its turn.
  if (options.only || options.kernels < 120 || tally.disagreements ||
      !options.kind.empty())
    return;
  tally.expectAllDrawn();
  tally.expectPlantsCaught();
}

bool parse(llvm::StringRef argument) {
  uint64_t number;
  if (argument.consume_front("--kernels="))
    return !argument.getAsInteger(10, options.kernels);
  if (argument.consume_front("--seed="))
    return !argument.getAsInteger(10, options.seed);
  if (argument.consume_front("--kind=")) {
    options.kind = argument.str();
    return llvm::is_contained(kKindNames, argument);
  }
  if (!argument.consume_front("--kernel=") || argument.getAsInteger(10, number))
    return false;
  options.only = number;
  return true;
}

} // namespace

int main(int argc, char **argv) {
  llvm::sys::PrintStackTraceOnErrorSignal(argv[0]);
  testing::InitGoogleTest(&argc, argv);
  for (int i = 1; i < argc; ++i)
    if (!parse(argv[i])) {
      fprintf(stderr,
              "tile-random: expected --kernels=N, --seed=S, --kind=KIND or "
              "--kernel=I, found %s\n",
              argv[i]);
      return 2;
    }
  int status = RUN_ALL_TESTS();
  puts(summary.c_str());
  return status;
}
