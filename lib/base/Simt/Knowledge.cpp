//===- Knowledge.cpp - what is over, as threads see it --------------------===//
#include "lib/base/Simt/Knowledge.h"

#include <algorithm>
#include <bit>

using namespace kvc::simt;

bool VectorClock::has(uint32_t warp, uint32_t lane, uint32_t clock) const {
  if (clock <= all[warp])
    return true;
  for (const Lane &known : lanes)
    if (known.warp == warp && known.lane == lane)
      return clock <= known.clock;
  return false;
}

void VectorClock::add(uint32_t warp, uint32_t lane, uint32_t clock) {
  for (Lane &known : lanes)
    if (known.warp == warp && known.lane == lane) {
      known.clock = std::max(known.clock, clock);
      return;
    }
  lanes.push_back({uint8_t(warp), uint8_t(lane), clock});
}

void VectorClock::join(const VectorClock &other) {
  for (unsigned i = 0; i < kActors; ++i)
    all[i] = std::max(all[i], other.all[i]);
  for (const Lane &lane : other.lanes)
    add(lane.warp, lane.lane, lane.clock);
  std::erase_if(lanes,
                [&](const Lane &lane) { return lane.clock <= all[lane.warp]; });
}

void Knowledge::join(const Knowledge &other) {
  own.join(other.own);
  for (const auto &[cta, seen] : other.others)
    others[cta].join(seen);
}

uint32_t Accessor::openLanes(const Access &other) const {
  const VectorClock *seen = &knows.own;
  uint32_t open = other.lanes;
  if (other.cta != access.cta) {
    auto known = knows.others.find(other.cta);
    if (known == knows.others.end())
      return open;
    seen = &known->second;
  } else if (other.actor == access.actor && std::has_single_bit(access.lanes)) {
    open &= ~access.lanes; // a lane does not race with itself
  }
  for (uint32_t lane = 0; lane < 32; ++lane)
    if (seen->has(other.actor, lane, other.clock))
      open &= ~(uint32_t(1) << lane);
  return open;
}

bool Accessor::followsOther(const Access &other) const {
  auto known = knows.others.find(other.cta);
  if (known == knows.others.end())
    return false;
  return other.clock <= known->second.all[other.actor] || !openLanes(other);
}
