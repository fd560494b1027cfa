//===- Bounds.h - where a store's kernels do something else -----*- C++ -*-===//
//
// Kernels go wrong where something begins or ends: a page, a split, the sink,
// the window, the query tokens that a kernel takes. Each is a bound, and what
// stands just before, at and behind it has to be right.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_LIB_DRIVER_VERIFY_BOUNDS_H
#define KVC_LIB_DRIVER_VERIFY_BOUNDS_H

#include "lib/driver/Verify/CompiledSpec.h"

namespace kvc::verify {

/// A sequence that stands next to a bound.
struct Visit {
  int64_t tokens = 0, queries = 0;
};

/// A number at which a kernel of the store does something else.
struct Bound {
  std::string name; ///< "split of 2048, attend.decode"
  int64_t at = 0;   ///< tokens, or query tokens
  std::vector<size_t> visits;
};

/// All bounds of a store, from its spec and from its kernels' schedules, with
/// the sequences that visit them. Of two kernels each is visited.
struct Bounds {
  std::string store;
  std::vector<Bound> bounds;
  std::vector<Visit> visits; ///< no two are equal
};
Bounds boundsOf(const CompiledStore &store);

} // namespace kvc::verify

#endif // KVC_LIB_DRIVER_VERIFY_BOUNDS_H
