//===- Knowledge.h - what is over, as threads see it ------------*- C++ -*-===//
//
// Happens-before by vector clocks, in the way of FastTrack (Flanagan and
// Freund, PLDI 2009). Every thread has a clock, which advances when the thread
// releases what it has done; an access is over for another thread once that
// one has acquired a clock not below the access's.
//
// Threads mostly acquire and release by whole warps: a warp's lanes share what
// they know, and what they release is one number for all of them. What a single
// lane releases (by an mbarrier or an atomic) is kept by lane until the warp's
// next barrier.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_LIB_BASE_SIMT_KNOWLEDGE_H
#define KVC_LIB_BASE_SIMT_KNOWLEDGE_H

#include <array>
#include <cstdint>
#include <map>
#include <vector>

namespace kvc::simt {

inline constexpr unsigned kMaxWarps = 32, kMaxMbarriers = 32;
/// Actors of a CTA: its warps, then its mbarriers, on which bulk copies
/// complete; an mbarrier's clock is how many of its phases are over.
inline constexpr unsigned kActors = kMaxWarps + kMaxMbarriers;

/// What is over in one CTA.
struct VectorClock {
  struct Lane {
    uint8_t warp, lane;
    uint32_t clock;
  };
  std::array<uint32_t, kActors> all = {}; ///< for all lanes of an actor
  std::vector<Lane> lanes;                ///< where more is for one lane

  void join(const VectorClock &other);
  void add(uint32_t warp, uint32_t lane, uint32_t clock);
  bool has(uint32_t warp, uint32_t lane, uint32_t clock) const;
};

/// What a thread of a CTA knows.
struct Knowledge {
  VectorClock own;                        ///< of its CTA
  std::map<uint32_t, VectorClock> others; ///< of other CTAs

  void join(const Knowledge &other);
};

inline constexpr uint32_t kAllLanes = 0xffffffff;

/// One access, remembered.
struct Access {
  uint32_t clock = 0; ///< 0: none
  uint32_t site = 0;
  uint32_t lanes = 0; ///< bit per lane
  uint32_t cta = 0;
  uint8_t actor = 0;

  bool sameAs(const Access &other) const {
    return clock == other.clock && lanes == other.lanes && cta == other.cta &&
           actor == other.actor;
  }
};

/// Who accesses, and what it knows.
struct Accessor {
  Access access;
  const Knowledge &knows;

  /// Whether an earlier access is over for this one.
  bool follows(const Access &other) const {
    if (other.clock == 0)
      return true;
    if (other.cta != access.cta)
      return followsOther(other);
    if (other.clock <= knows.own.all[other.actor])
      return true;
    // A lane's own accesses are in order.
    if (other.actor == access.actor && other.lanes == access.lanes)
      return true;
    return !knows.own.lanes.empty() && !openLanes(other);
  }
  /// Of an access's lanes, those for which it is not over.
  uint32_t openLanes(const Access &other) const;

private:
  bool followsOther(const Access &other) const;
};

} // namespace kvc::simt

#endif // KVC_LIB_BASE_SIMT_KNOWLEDGE_H
