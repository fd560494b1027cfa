//===- Clock.h - how long the levels of a compilation take ------*- C++ -*-===//
#ifndef KVC_LIB_DRIVER_COMPILER_CLOCK_H
#define KVC_LIB_DRIVER_COMPILER_CLOCK_H

#include "lib/driver/Compiler/Compiler.h"

#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/StringRef.h"

#include <chrono>

namespace kvc {

/// What a phase gives for one kind of target.
struct Level {
  Phase phase;
  const char *label;     ///< "gpu": in dumps and times
  const char *extension; ///< of a dump

  constexpr Level(Phase phase, const char *label, const char *extension)
      : phase(phase), label(label), extension(extension) {}
  /// As it is for CPUs.
  explicit Level(Phase phase);
};

/// Adds up the milliseconds of each level.
class PhaseClock {
public:
  /// Ends the level under way, and begins one.
  void begin(Phase phase) { begin(Level(phase)); }
  void begin(const Level &level);
  void end();
  /// Adds `wall` milliseconds in which others ran side by side, shared out
  /// between their levels.
  void addParts(double wall, llvm::ArrayRef<const PhaseClock *> parts);
  /// Since this clock was made.
  double now() const;
  std::vector<std::pair<std::string, double>> milliseconds() const;

private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point made = Clock::now(), start;
  std::optional<llvm::StringRef> current; ///< label of a level
  llvm::MapVector<llvm::StringRef, double> spent;
};

} // namespace kvc

#endif // KVC_LIB_DRIVER_COMPILER_CLOCK_H
