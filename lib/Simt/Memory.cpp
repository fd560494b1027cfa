//===- Memory.cpp - what is known of every byte that threads share --------===//
#include "lib/Simt/Memory.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

using namespace kvc::simt;

static std::string format(const char *text, auto... values) {
  char buffer[512];
  std::snprintf(buffer, sizeof(buffer), text, values...);
  return buffer;
}

void Knowledge::join(const Knowledge &other) {
  auto raise = [](Clock &clock, const Clock &more) {
    for (unsigned i = 0; i < kMaxWarps; ++i)
      clock[i] = std::max(clock[i], more[i]);
  };
  raise(own, other.own);
  for (const auto &[cta, clock] : other.others)
    raise(others[cta], clock);
}

//===----------------------------------------------------------------------===//
// Shared memory
//===----------------------------------------------------------------------===//

void SharedMemory::reset(size_t size, unsigned warpCount) {
  warps = warpCount;
  // NaN in every float type.
  bytes.assign((size + 15) / 16 * 16, 0xff);
  words.assign(bytes.size() / 4, Word());
  readers.assign(words.size() * warps, Access());
}

std::string SharedMemory::bounds(uint32_t at, uint32_t size, const char *verb) {
  if (at % size && size <= 16)
    return format("%s of %u bytes of shared memory at %u: not aligned", verb,
                  size, at);
  if (at > bytes.size() || size > bytes.size() - at)
    return format("%s of %u bytes of shared memory at %u: beyond its %zu bytes",
                  verb, size, at, bytes.size());
  return "";
}

std::string SharedMemory::race(const char *verb, const char *before,
                               const Access &other, uint32_t word,
                               const Agent &agent) {
  std::string name = siteName(context, other.site);
  if (other.warp == agent.warp && other.lane == Access::kSeveral)
    return format("race: %s shared memory at %u, %s by other lanes of the warp "
                  "in %s, without a barrier between",
                  verb, word * 4, before, name.c_str());
  return format("race: %s shared memory at %u, %s by warp %u lane %u in %s, "
                "without a barrier between",
                verb, word * 4, before, other.warp, other.lane, name.c_str());
}

/// Whether `agent` may not assume that `access` is over.
static bool unordered(const Access &access, const Agent &agent) {
  if (access.clock == 0)
    return false;
  if (access.warp == agent.warp)
    return access.lane != agent.lane && access.clock >= agent.clock();
  return access.clock > agent.knows.own[access.warp];
}

std::string SharedMemory::check(uint32_t word, const Agent &agent, bool write) {
  const Word &known = words[word];
  const char *verb = write ? "writes" : "reads";
  if (known.barrier)
    return format("%s shared memory at %u, which is an mbarrier", verb,
                  word * 4);
  if (known.inFlight)
    return format("%s shared memory at %u while a copy to it from %s is under "
                  "way",
                  verb, word * 4, siteName(context, known.writer.site).c_str());
  if (unordered(known.writer, agent))
    return race(verb, "written", known.writer, word, agent);
  if (!write)
    return "";
  for (unsigned warp = 0; warp < warps; ++warp) {
    const Access &reader = readers[word * warps + warp];
    if (unordered(reader, agent))
      return race(verb, "read", reader, word, agent);
  }
  return "";
}

/// Bits of a word's bytes that [at, at + size) covers.
static uint8_t coverage(uint32_t word, uint32_t at, uint32_t size) {
  uint8_t bits = 0;
  for (uint32_t byte = 0; byte < 4; ++byte)
    if (word * 4 + byte >= at && word * 4 + byte < at + size)
      bits |= 1 << byte;
  return bits;
}

std::string SharedMemory::read(uint32_t at, uint32_t size, const Agent &agent) {
  if (std::string finding = bounds(at, size, "read"); !finding.empty())
    return finding;
  for (uint32_t word = at / 4; word * 4 < at + size; ++word) {
    if (std::string finding = check(word, agent, false); !finding.empty())
      return finding;
    uint8_t wanted = coverage(word, at, size);
    if ((words[word].valid & wanted) != wanted)
      return format("reads shared memory at %u, which nothing has written",
                    word * 4);
    Access &reader = readers[word * warps + agent.warp];
    bool several = reader.clock == agent.clock() && reader.lane != agent.lane;
    reader = {agent.clock(), agent.site, uint8_t(agent.warp),
              several ? Access::kSeveral : uint8_t(agent.lane)};
  }
  return "";
}

std::string SharedMemory::write(uint32_t at, uint32_t size,
                                const Agent &agent) {
  if (std::string finding = bounds(at, size, "write"); !finding.empty())
    return finding;
  for (uint32_t word = at / 4; word * 4 < at + size; ++word) {
    uint8_t covered = coverage(word, at, size);
    // Two lanes may write the halves of a word.
    bool whole = covered == 0xf;
    if (std::string finding = whole ? check(word, agent, true) : "";
        !finding.empty())
      return finding;
    words[word].valid |= covered;
    words[word].writer = {agent.clock(), agent.site, uint8_t(agent.warp),
                          uint8_t(agent.lane)};
  }
  return "";
}

std::string SharedMemory::begin(uint32_t at, uint32_t size,
                                const Agent &agent) {
  if (std::string finding = bounds(at, size, "copy"); !finding.empty())
    return finding;
  for (uint32_t word = at / 4; word * 4 < at + size; ++word) {
    if (std::string finding = check(word, agent, true); !finding.empty())
      return finding;
    words[word].inFlight = 1;
    words[word].valid = 0;
    words[word].writer = {agent.clock(), agent.site, uint8_t(agent.warp),
                          uint8_t(agent.lane)};
  }
  std::memset(&bytes[at], 0xff, size);
  return "";
}

void SharedMemory::finish(uint32_t at, uint32_t size, const Agent &agent) {
  for (uint32_t word = at / 4; word * 4 < at + size; ++word) {
    words[word].inFlight = 0;
    words[word].valid = 0xf;
    words[word].writer = {agent.clock(), words[word].writer.site,
                          uint8_t(agent.warp), uint8_t(agent.lane)};
  }
}

std::string SharedMemory::makeBarrier(uint32_t at, const Agent &agent) {
  if (std::string finding = bounds(at, 8, "mbarrier"); !finding.empty())
    return finding;
  for (uint32_t word = at / 4; word < at / 4 + 2; ++word) {
    if (std::string finding = check(word, agent, true); !finding.empty())
      return finding;
    words[word].barrier = true;
  }
  return "";
}

//===----------------------------------------------------------------------===//
// Global memory
//===----------------------------------------------------------------------===//

void GlobalMemory::allow(uintptr_t base, size_t bytes, bool writable) {
  restricted = true;
  longest = std::max(longest, bytes);
  ranges.emplace(base, Range{bytes, writable});
}

void GlobalMemory::forget(uintptr_t base) {
  auto found = ranges.find(base);
  if (found != ranges.end())
    ranges.erase(found);
}

std::string GlobalMemory::bounds(uintptr_t at, uint32_t bytes, bool write) {
  const char *verb = write ? "writes" : "reads";
  if (at % std::min(bytes, 16u))
    return format("%s %u bytes of global memory at %#zx: not aligned", verb,
                  bytes, size_t(at));
  if (!restricted)
    return "";
  bool readable = false;
  for (auto range = ranges.upper_bound(at); range != ranges.begin();) {
    --range;
    if (at - range->first > longest)
      break;
    if (at - range->first > range->second.bytes ||
        bytes > range->second.bytes - (at - range->first))
      continue;
    if (range->second.writable || !write)
      return "";
    readable = true;
  }
  if (readable)
    return format("writes %u bytes of global memory at %#zx, which may only be "
                  "read",
                  bytes, size_t(at));
  return format("%s %u bytes of global memory at %#zx: out of bounds", verb,
                bytes, size_t(at));
}

std::string GlobalMemory::ordered(uintptr_t word, const Agent &agent,
                                  const char *verb) {
  auto found = writers.find(word);
  if (found == writers.end())
    return "";
  const Writer &writer = found->second;
  const Access &access = writer.access;
  if (writer.cta == agent.cta) {
    if (!unordered(access, agent))
      return "";
  } else {
    auto known = agent.knows.others.find(writer.cta);
    if (known != agent.knows.others.end() &&
        access.clock <= known->second[access.warp])
      return "";
  }
  return format(
      "race: %s global memory at %#zx, written by CTA %u warp %u lane "
      "%u in %s, without synchronisation between",
      verb, size_t(word * 4), writer.cta, access.warp, access.lane,
      siteName(context, access.site).c_str());
}

std::string GlobalMemory::read(uintptr_t at, uint32_t bytes,
                               const Agent &agent) {
  if (std::string finding = bounds(at, bytes, false); !finding.empty())
    return finding;
  if (writers.empty())
    return "";
  for (uintptr_t word = at / 4; word * 4 < at + bytes; ++word)
    if (std::string finding = ordered(word, agent, "reads"); !finding.empty())
      return finding;
  return "";
}

std::string GlobalMemory::write(uintptr_t at, uint32_t bytes,
                                const Agent &agent) {
  if (std::string finding = bounds(at, bytes, true); !finding.empty())
    return finding;
  for (uintptr_t word = at / 4; word * 4 < at + bytes; ++word) {
    // Two lanes may write the halves of a word.
    if (bytes >= 4)
      if (std::string finding = ordered(word, agent, "writes");
          !finding.empty())
        return finding;
    writers[word] = {
        {agent.clock(), agent.site, uint8_t(agent.warp), uint8_t(agent.lane)},
        agent.cta};
  }
  return "";
}
