//===- Clock.cpp - how long the levels of a compilation take --------------===//
#include "lib/driver/Compiler/Clock.h"

using namespace kvc;

static constexpr const char *kExtensions[] = {"mlir", "mlir", "mlir",
                                              "ll",   "o",    "kvca"};

Level::Level(Phase phase)
    : Level(phase, name(phase), kExtensions[size_t(phase)]) {}

void PhaseClock::begin(const Level &level) {
  end();
  current = level.label;
  start = Clock::now();
}

void PhaseClock::end() {
  if (current)
    spent[*current] +=
        std::chrono::duration<double, std::milli>(Clock::now() - start).count();
  current.reset();
}

void PhaseClock::addParts(double wall,
                          llvm::ArrayRef<const PhaseClock *> parts) {
  double all = 0;
  for (const PhaseClock *part : parts)
    for (auto [label, time] : part->spent)
      all += time;
  for (const PhaseClock *part : parts)
    for (auto [label, time] : part->spent)
      spent[label] += all != 0 ? wall * time / all : 0;
}

double PhaseClock::now() const {
  return std::chrono::duration<double, std::milli>(Clock::now() - made).count();
}

std::vector<std::pair<std::string, double>> PhaseClock::milliseconds() const {
  std::vector<std::pair<std::string, double>> list;
  for (auto [label, time] : spent)
    list.emplace_back(label.str(), time);
  return list;
}
