//===- BenchCeiling.h - what this machine can give --------------*- C++ -*-===//
//
// The yardsticks of `kvc bench`: the read bandwidth of memory and the peak of
// the multiply units. A naive reader loses a quarter of the bandwidth, and
// which reader wins depends on the machine, the day and the placement of its
// code, so all are tried, and the best few run beside every window of a kernel.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_TOOLS_KVC_BENCHCEILING_H
#define KVC_TOOLS_KVC_BENCHCEILING_H

#include "tools/kvc/BenchMemory.h"
#include "tools/kvc/BenchWindows.h"

#include <map>
#include <memory>
#include <string>

namespace kvc::bench {

/// One way to read memory. `read` returns the sum of the 64-bit words of
/// [begin, begin + bytes), bytes a multiple of 64 KiB, and asks for what is
/// `ahead` bytes further on, if its kind does.
struct Reader {
  std::string name; ///< "avx512, 4 streams, t0 2048 ahead"
  uint64_t (*read)(const uint8_t *begin, size_t bytes, size_t ahead);
  size_t ahead = 0;
};

/// Those that this CPU can run.
std::vector<Reader> readers();

/// The read bandwidth of an arena.
class ReadCeiling {
public:
  /// Tries every reader with each number of threads.
  ReadCeiling(Arena &arena, const std::vector<unsigned> &threads);

  /// The best few with that many threads, best first.
  const std::vector<Reader> &kept(unsigned threads) const;
  /// Reads `regions` with each of kept(threads) in turn; bytes/s of each.
  std::vector<Sample> sample(unsigned threads, unsigned regions);
  /// Bytes/s of the naive reader when all were tried: how far off it is.
  double naive(unsigned threads) const;
  size_t tried() const { return all.size(); }
  /// A reader gave a wrong sum: no figure means anything.
  bool broken() const { return wrong; }

private:
  struct Trial {
    std::unique_ptr<Team> team;
    std::vector<Reader> kept;
    double naive = 0;
  };
  Sample measure(Team &team, const Reader &reader);
  void tryAll(Trial &trial);

  Arena &arena;
  std::vector<Reader> all;
  std::map<unsigned, Trial> trials;
  bool wrong = false;
};

/// One multiply unit of a core.
struct Unit {
  std::string name; ///< "f32 fma, 512 bits"
  double flops;     ///< of one round
  /// Runs that many rounds, at most 2^18; false if the result is wrong.
  bool (*run)(uint64_t rounds);
};

/// Those that this CPU has.
std::vector<Unit> units();

/// Flop/s of a unit on all threads of a team; 0 if a result was wrong.
Sample measure(Team &team, const Unit &unit);

} // namespace kvc::bench

#endif // KVC_TOOLS_KVC_BENCHCEILING_H
