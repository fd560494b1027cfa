//===- Traffic.h - counts what warps do to memory ---------------*- C++ -*-===//
#ifndef KVC_LIB_BASE_SIMT_TRAFFIC_H
#define KVC_LIB_BASE_SIMT_TRAFFIC_H

#include "lib/base/Simt/Machine.h"

#include <unordered_set>

namespace kvc::simt {

/// Lanes run one after the other; their accesses become those of a warp here:
/// the n-th of a lane at a site belongs with the n-th of the others.
class Traffic {
public:
  /// Which memory; CopyTarget is shared memory that a copy fills.
  enum class Space : uint8_t { Shared, Global, CopyTarget };

  /// A CTA of so many warps begins.
  void reset(unsigned warps);
  void note(uint32_t warp, uint32_t lane, uint32_t site, Space space,
            uintptr_t address, uint32_t bytes);
  /// All lanes of the warp have met: counts what they did since they last did.
  void flush(uint32_t warp);

  /// Forgets a launch that came to no end.
  void forget();

  /// Adds a launch's counts to `sites`, by name, and forgets them.
  void addTo(std::map<std::string, SiteCounters> &sites,
             std::span<const std::string> names);
  /// Different sectors of a launch so far; forgets them.
  uint64_t takeDistinct();

private:
  static constexpr uint32_t kSpaces = 3;
  /// What a warp does at once.
  struct Row {
    uint32_t lanes; ///< that take part
    uint32_t bytes; ///< of each
    uintptr_t addresses[32];
  };
  struct Rows {
    std::vector<Row> rows;
    uint32_t next[32] = {}; ///< row by lane
  };
  struct Warp {
    std::vector<Rows> bySite;      ///< kSpaces * site + space
    std::vector<uint32_t> touched; ///< of them
  };
  void countGlobal(SiteCounters &site, const Row &row);
  void countShared(SiteCounters &site, const Row &row);

  std::vector<Warp> warps;
  std::vector<SiteCounters> counts; ///< by site
  std::vector<uintptr_t> scratch;
  std::unordered_set<uintptr_t> distinct; ///< sectors of global memory
};

} // namespace kvc::simt

#endif // KVC_LIB_BASE_SIMT_TRAFFIC_H
