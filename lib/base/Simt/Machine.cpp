//===- Machine.cpp - runs GPU kernels thread by thread --------------------===//
#include "lib/base/Simt/Machine.h"
#include "lib/base/Simt/Cta.h"

#include <algorithm>
#include <numeric>

using namespace kvc::simt;

struct Machine::State {
  explicit State(uint64_t seed)
      : random(seed), global(sites), cta(stacks, global, sites, launch) {}

  std::mt19937_64 random;
  StackPool stacks;
  SiteNames sites;
  GlobalMemory global;
  Counters counters;
  Counters launch; ///< of the launch under way
  Cta cta;
};

Machine::Machine(uint64_t seed) : state(std::make_unique<State>(seed)) {}
Machine::~Machine() = default;

void Machine::allow(const void *base, size_t bytes, bool writable) {
  state->global.allow(reinterpret_cast<uintptr_t>(base), bytes, writable);
}
void Machine::forget(const void *base) {
  state->global.forget(reinterpret_cast<uintptr_t>(base));
}

bool Machine::launch(const Launch &launch, std::string &finding) {
  if (launch.threads == 0 || launch.threads % 32 ||
      launch.threads > 32 * kMaxWarps) {
    finding = launch.name + ": " + std::to_string(launch.threads) +
              " threads per CTA";
    return false;
  }
  state->launch = Counters();
  state->launch.launches = 1;
  finding.clear();
  state->global.reset();
  state->sites.names = launch.sites;
  Cta::Released released;
  std::vector<uint32_t> order(launch.grid);
  std::iota(order.begin(), order.end(), 0);
  std::mt19937_64 random = state->random;
  std::shuffle(order.begin(), order.end(), random);
  try {
    for (uint32_t index : order) {
      finding = state->cta.run(launch, index, random, released);
      if (!finding.empty())
        break;
    }
    state->cta.addSiteCounters(launch);
    state->counters.add(state->launch);
  } catch (...) {
    state->cta.forgetSiteCounters();
    throw;
  }
  state->random = random;
  return finding.empty();
}

void Counters::add(const Counters &later) {
  for (const auto &[name, site] : later.sites)
    sites.try_emplace(name); // of zeros, should the next one throw
  for (const auto &[name, site] : later.sites) {
    SiteCounters &to = sites.find(name)->second;
    to.executions += site.executions;
    to.wavefronts += site.wavefronts;
    to.idealWavefronts += site.idealWavefronts;
    to.sectors += site.sectors;
    to.idealSectors += site.idealSectors;
  }
  launches += later.launches;
  ctas += later.ctas;
  for (size_t op = 0; op < KVC_OP_COUNT; ++op)
    ops[op] += later.ops[op];
  bytesRead += later.bytesRead;
  bytesWritten += later.bytesWritten;
  mostInFlight = std::max(mostInFlight, later.mostInFlight);
  distinctSectors += later.distinctSectors;
}

void Machine::countSites(bool wanted) { state->cta.counting = wanted; }
const Counters &Machine::counters() const { return state->counters; }
void Machine::resetCounters() { state->counters = Counters(); }
