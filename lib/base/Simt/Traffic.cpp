//===- Traffic.cpp - counts what warps do to memory -----------------------===//
#include "lib/base/Simt/Traffic.h"

#include <algorithm>
#include <bit>

using namespace kvc::simt;

void Traffic::reset(unsigned count) {
  if (warps.size() < count)
    warps.resize(count);
}

void Traffic::note(uint32_t warpIndex, uint32_t lane, uint32_t site,
                   Space space, uintptr_t address, uint32_t bytes) {
  Warp &warp = warps[warpIndex];
  size_t key = size_t(site) * kSpaces + size_t(space);
  if (key >= warp.bySite.size())
    warp.bySite.resize(key + 64);
  Rows &rows = warp.bySite[key];
  uint32_t index = rows.next[lane]++;
  if (index == rows.rows.size()) {
    if (index == 0)
      warp.touched.push_back(uint32_t(key));
    rows.rows.emplace_back();
    rows.rows[index].lanes = 0;
  }
  Row &row = rows.rows[index];
  row.lanes |= uint32_t(1) << lane;
  row.bytes = bytes;
  row.addresses[lane] = address;
}

void Traffic::flush(uint32_t warpIndex) {
  Warp &warp = warps[warpIndex];
  for (uint32_t key : warp.touched) {
    Rows &rows = warp.bySite[key];
    if (key / kSpaces >= counts.size())
      counts.resize(key / kSpaces + 1);
    SiteCounters &site = counts[key / kSpaces];
    for (const Row &row : rows.rows) {
      auto space = Space(key % kSpaces);
      site.executions += space == Space::CopyTarget ? 0 : 1;
      if (space == Space::Global)
        countGlobal(site, row);
      else
        countShared(site, row);
    }
    rows.rows.clear();
    std::fill_n(rows.next, 32, 0);
  }
  warp.touched.clear();
}

void Traffic::countGlobal(SiteCounters &site, const Row &row) {
  scratch.clear();
  bool ascends = true;
  for (uint32_t lanes = row.lanes; lanes; lanes &= lanes - 1) {
    uintptr_t address = row.addresses[std::countr_zero(lanes)];
    uintptr_t end = (address + row.bytes - 1) / 32;
    for (uintptr_t sector = address / 32; sector <= end; ++sector) {
      if (!scratch.empty() && scratch.back() >= sector) {
        if (scratch.back() == sector)
          continue;
        ascends = false;
      }
      scratch.push_back(sector);
    }
  }
  if (!ascends) {
    std::sort(scratch.begin(), scratch.end());
    scratch.erase(std::unique(scratch.begin(), scratch.end()), scratch.end());
  }
  site.sectors += scratch.size();
  distinct.insert(scratch.begin(), scratch.end());
  site.idealSectors +=
      (uint64_t(std::popcount(row.lanes)) * row.bytes + 31) / 32;
}

/// As many lanes at a time as make 128 bytes; each of 32 banks gives one word
/// of 4 bytes a pass, to all that want it.
void Traffic::countShared(SiteCounters &site, const Row &row) {
  uint32_t atOnce = std::min(32u, 128 / row.bytes);
  for (uint32_t first = 0; first < 32; first += atOnce) {
    uintptr_t words[32][32]; // that a bank gives
    unsigned counts[32] = {}, most = 0;
    for (uint32_t lane = first; lane < first + atOnce; ++lane) {
      if (!(row.lanes >> lane & 1))
        continue;
      uintptr_t end = (row.addresses[lane] + row.bytes - 1) / 4;
      for (uintptr_t word = row.addresses[lane] / 4; word <= end; ++word) {
        uintptr_t *bank = words[word % 32];
        unsigned &count = counts[word % 32];
        if (std::find(bank, bank + count, word) == bank + count)
          bank[count++] = word;
        most = std::max(most, count);
      }
    }
    site.wavefronts += most;
    site.idealWavefronts += most ? 1 : 0;
  }
}

void Traffic::forget() {
  warps.clear();
  counts.clear();
  distinct.clear();
}

void Traffic::addTo(std::map<std::string, SiteCounters> &sites,
                    std::span<const std::string> names) {
  for (size_t i = 0; i < counts.size(); ++i) {
    const SiteCounters &from = counts[i];
    if (from.executions == 0)
      continue;
    SiteCounters &to =
        sites[i < names.size() ? names[i] : "site " + std::to_string(i)];
    to.executions += from.executions;
    to.wavefronts += from.wavefronts;
    to.idealWavefronts += from.idealWavefronts;
    to.sectors += from.sectors;
    to.idealSectors += from.idealSectors;
  }
  counts.clear();
}

uint64_t Traffic::takeDistinct() {
  uint64_t count = distinct.size();
  distinct.clear();
  return count;
}
