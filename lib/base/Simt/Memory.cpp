//===- Memory.cpp - memory that threads share -----------------------------===//
#include "lib/base/Simt/Memory.h"

#include <algorithm>
#include <bit>
#include <cstring>

using namespace kvc::simt;

/// "warp 1 lane 2 in `...`"
static std::string describe(const Access &access, const Accessor &accessor,
                            SiteNames &sites) {
  std::string cta;
  if (access.cta != accessor.access.cta)
    cta = format("CTA %u ", access.cta);
  const char *site = sites(access.site);
  if (access.actor >= kMaxWarps)
    return cta + format("the bulk copy in `%s`", site);
  uint32_t lanes = accessor.openLanes(access);
  if (lanes == kAllLanes)
    return cta + format("warp %u in `%s`", access.actor, site);
  return cta + format("warp %u lane %d in `%s`", access.actor,
                      std::countr_zero(lanes), site);
}

//===----------------------------------------------------------------------===//
// Shared memory
//===----------------------------------------------------------------------===//

void SharedMemory::reset(size_t newSize) {
  size = newSize;
  // NaN in every float type.
  bytes.assign(size, 0xff);
  states.assign(size, Poison);
  races.reset(size);
}

std::string SharedMemory::place(uint32_t at, uint32_t count, const char *verb) {
  if (at % std::min(count, 16u))
    return format("%s %u bytes of shared memory at %u: not aligned", verb,
                  count, at);
  if (at > size || count > size - at)
    return format("%s %u bytes of shared memory at %d: beyond its %zu bytes",
                  verb, count, int32_t(at), size);
  return "";
}

/// What is wrong with bytes whose state forbids the access.
std::string SharedMemory::misuse(uint32_t at, uint32_t count, bool write) {
  const char *verb = write ? "writes" : "reads";
  for (uint32_t i = at; i < at + count; ++i) {
    if (states[i] == Poison && !write)
      return format("reads shared memory at %u, which nothing has written", i);
    if (states[i] == Barrier)
      return format("%s shared memory at %u, which is an mbarrier", verb, i);
    if (states[i] == InFlight)
      return format("%s shared memory at %u while a copy to it from `%s` is "
                    "under way",
                    verb, i, sites(races.writer(i).site));
  }
  return "";
}

/// What every access must keep to.
std::string SharedMemory::use(uint32_t at, uint32_t count,
                              const Accessor &accessor, const Access &as,
                              bool write) {
  const char *verb = write ? "writes" : "reads";
  if (std::string finding = place(at, count, verb); !finding.empty())
    return finding;
  uint8_t either = 0, both = 0xff;
  for (uint32_t i = at; i < at + count; ++i) {
    either |= states[i];
    both &= states[i];
  }
  if (either > Valid || (both != Valid && !write))
    return misuse(at, count, write);
  Race race;
  if (write ? races.write(at, count, accessor, as, race)
            : races.read(at, count, accessor, as, race))
    return "";
  return format("race: %s shared memory at %zu, %s by %s, without a barrier "
                "between",
                verb, size_t(race.at), race.written ? "written" : "read",
                describe(race.other, accessor, sites).c_str());
}

std::string SharedMemory::read(uint32_t at, uint32_t count,
                               const Accessor &accessor) {
  return use(at, count, accessor, accessor.access, false);
}

std::string SharedMemory::write(uint32_t at, uint32_t count,
                                const Accessor &accessor) {
  std::string finding = use(at, count, accessor, accessor.access, true);
  if (finding.empty())
    std::fill_n(&states[at], count, Valid);
  return finding;
}

std::string SharedMemory::begin(uint32_t at, uint32_t count,
                                const Accessor &accessor, const Access &as) {
  std::string finding = use(at, count, accessor, as, true);
  if (finding.empty()) {
    std::fill_n(&states[at], count, InFlight);
    std::memset(&bytes[at], 0xff, count);
  }
  return finding;
}

void SharedMemory::finish(uint32_t at, uint32_t count, const Accessor *by) {
  std::fill_n(&states[at], count, Valid);
  Race none; // nobody could touch them
  if (by)
    races.write(at, count, *by, by->access, none);
}

std::string SharedMemory::makeBarrier(uint32_t at, const Accessor &accessor) {
  std::string finding = use(at, 8, accessor, accessor.access, true);
  if (finding.empty())
    std::fill_n(&states[at], 8, Barrier);
  return finding;
}

//===----------------------------------------------------------------------===//
// Global memory
//===----------------------------------------------------------------------===//

void GlobalMemory::allow(uintptr_t base, size_t bytes, bool writable) {
  ranges.emplace(base, Range{base, bytes, writable});
  restricted = true;
  longest = std::max(longest, bytes);
}

void GlobalMemory::forget(uintptr_t base) {
  auto found = ranges.find(base);
  if (found != ranges.end())
    ranges.erase(found);
  last = {};
}

std::string GlobalMemory::bounds(uintptr_t at, uint32_t bytes, bool write) {
  if (!restricted)
    return "";
  if (last.holds(at, bytes) && (last.writable || !write))
    return "";
  bool readable = false;
  for (auto range = ranges.upper_bound(at); range != ranges.begin();) {
    --range;
    if (at - range->first > longest)
      break;
    if (!range->second.holds(at, bytes))
      continue;
    if (range->second.writable || !write) {
      last = range->second;
      return "";
    }
    readable = true;
  }
  return format("%s %u bytes of global memory at %#zx: %s",
                write ? "writes" : "reads", bytes, size_t(at),
                readable ? "it may only be read" : "out of bounds");
}

std::string GlobalMemory::race(const Race &race, const Accessor &accessor,
                               const char *verb) {
  return format("race: %s global memory at %#zx, %s by %s, without "
                "synchronisation between",
                verb, size_t(race.at), race.written ? "written" : "read",
                describe(race.other, accessor, sites).c_str());
}

/// Whether loads and stores of so many bytes may be there.
static std::string aligned(uintptr_t at, uint32_t bytes, const char *verb) {
  if (at % std::min(std::bit_ceil(bytes), 16u) == 0)
    return "";
  return format("%s %u bytes of global memory at %#zx: not aligned", verb,
                bytes, size_t(at));
}

std::string GlobalMemory::read(uintptr_t at, uint32_t bytes,
                               const Accessor &accessor) {
  std::string finding = aligned(at, bytes, "reads");
  if (finding.empty())
    finding = copyFrom(at, bytes, accessor, accessor.access);
  return finding;
}

std::string GlobalMemory::copyFrom(uintptr_t at, uint32_t bytes,
                                   const Accessor &accessor, const Access &as) {
  std::string finding = bounds(at, bytes, false);
  Race found;
  if (finding.empty() && !races.read(at, bytes, accessor, as, found))
    finding = race(found, accessor, "reads");
  return finding;
}

std::string GlobalMemory::write(uintptr_t at, uint32_t bytes,
                                const Accessor &accessor) {
  std::string finding = aligned(at, bytes, "writes");
  if (finding.empty())
    finding = bounds(at, bytes, true);
  Race found;
  if (finding.empty() &&
      !races.write(at, bytes, accessor, accessor.access, found))
    finding = race(found, accessor, "writes");
  return finding;
}
