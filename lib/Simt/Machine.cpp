//===- Machine.cpp - runs GPU kernels thread by thread --------------------===//
#include "lib/Simt/Machine.h"
#include "lib/Simt/Cta.h"

#include <algorithm>
#include <numeric>

using namespace kvc::simt;

struct Machine::State {
  explicit State(uint64_t seed)
      : random(seed), global(sites), cta(stacks, global, sites, counters) {}

  std::mt19937_64 random;
  StackPool stacks;
  SiteNames sites;
  GlobalMemory global;
  Counters counters;
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
  ++state->counters.launches;
  finding.clear();
  state->global.reset();
  state->sites.names = launch.sites;
  Cta::Released released;
  std::vector<uint32_t> order(launch.grid);
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), state->random);
  for (uint32_t index : order) {
    finding = state->cta.run(launch, index, state->random, released);
    if (!finding.empty())
      break;
  }
  state->cta.addSiteCounters(launch);
  return finding.empty();
}

void Machine::countSites(bool wanted) { state->cta.counting = wanted; }
const Counters &Machine::counters() const { return state->counters; }
void Machine::resetCounters() { state->counters = Counters(); }
