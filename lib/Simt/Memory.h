//===- Memory.h - what is known of every byte that threads share -*- C++
//-*-===//
//
// Happens-before by vector clocks, in the way of FastTrack (Flanagan and
// Freund, PLDI 2009): a warp has a clock of its own, which every instruction
// that orders memory advances; it knows how far it has seen the others. An
// access is ordered before mine if I have seen its warp's clock pass it. Lanes
// of one warp are ordered by the warp's own clock alone.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_LIB_SIMT_MEMORY_H
#define KVC_LIB_SIMT_MEMORY_H

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

namespace kvc::simt {

inline constexpr unsigned kMaxWarps = 32;

/// How far each warp of a CTA has been seen.
using Clock = std::array<uint32_t, kMaxWarps>;

/// What a warp knows.
struct Knowledge {
  Clock own = {}; ///< of its CTA's warps; its own clock is own[its index]
  std::map<uint32_t, Clock> others; ///< of other CTAs

  void join(const Knowledge &other);
};

/// Who accesses, and what it knows.
struct Agent {
  uint32_t cta, warp, lane;
  const Knowledge &knows;
  uint32_t site;

  uint32_t clock() const { return knows.own[warp]; }
};

/// One access, remembered.
struct Access {
  uint32_t clock = 0; ///< 0: none
  uint32_t site = 0;
  uint8_t warp = 0, lane = 0;

  static constexpr uint8_t kSeveral = 0xff; ///< lanes
};

/// The shared memory of a CTA. Every call gives "" or a finding. Addresses are
/// relative to its first byte.
class SharedMemory {
public:
  /// Forgets everything; bytes are poison.
  void reset(size_t bytes, unsigned warps);

  /// Checks a read or write of `bytes`, naturally aligned.
  std::string read(uint32_t at, uint32_t bytes, const Agent &agent);
  std::string write(uint32_t at, uint32_t bytes, const Agent &agent);
  /// A copy to these bytes begins: they are poison until finish().
  std::string begin(uint32_t at, uint32_t bytes, const Agent &agent);
  /// It is there, as if the agent had written it now.
  void finish(uint32_t at, uint32_t bytes, const Agent &agent);
  /// Bytes that only barrier instructions may touch.
  std::string makeBarrier(uint32_t at, const Agent &agent);

  uint8_t *data() { return bytes.data(); }
  size_t size() const { return bytes.size(); }
  /// What a site number says, for findings.
  std::string (*siteName)(void *context, uint32_t site) = nullptr;
  void *context = nullptr;

private:
  struct Word {
    Access writer;
    uint8_t valid = 0; ///< bit per byte
    uint8_t inFlight = 0;
    bool barrier = false;
  };
  std::string bounds(uint32_t at, uint32_t size, const char *verb);
  std::string check(uint32_t word, const Agent &agent, bool write);
  std::string race(const char *verb, const char *before, const Access &other,
                   uint32_t word, const Agent &agent);

  unsigned warps = 0;
  std::vector<uint8_t> bytes;
  std::vector<Word> words;
  std::vector<Access> readers; ///< [word][warp]
};

/// Global memory: which of it may be touched, and who wrote it.
class GlobalMemory {
public:
  void allow(uintptr_t base, size_t bytes, bool writable);
  void forget(uintptr_t base);
  /// A kernel begins: all before it is ordered.
  void reset() { writers.clear(); }

  /// "" or a finding.
  std::string read(uintptr_t at, uint32_t bytes, const Agent &agent);
  std::string write(uintptr_t at, uint32_t bytes, const Agent &agent);

  std::string (*siteName)(void *context, uint32_t site) = nullptr;
  void *context = nullptr;

private:
  struct Range {
    size_t bytes;
    bool writable;
  };
  struct Writer {
    Access access;
    uint32_t cta = 0;
  };
  std::string bounds(uintptr_t at, uint32_t bytes, bool write);
  std::string ordered(uintptr_t word, const Agent &agent, const char *verb);

  std::multimap<uintptr_t, Range> ranges;
  size_t longest = 0; ///< of them, ever
  bool restricted = false;
  std::unordered_map<uintptr_t, Writer> writers; ///< by address / 4
};

} // namespace kvc::simt

#endif // KVC_LIB_SIMT_MEMORY_H
