//===- BoundCheck.h - lengths next to every bound of a store ----*- C++ -*-===//
//
// Kernels go wrong where something begins or ends: a page, a split, the sink,
// the window, the query tokens that a kernel takes. These checks stand next to
// each such bound, however far out, with sequences that cost little to make:
// rows drawn from a small pool, few query tokens, and answers that are known
// without a reference.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_LIB_VERIFY_BOUNDCHECK_H
#define KVC_LIB_VERIFY_BOUNDCHECK_H

#include "lib/Verify/Launch.h"

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

/// Which visits a case makes.
enum class Visits : uint8_t {
  Share,  ///< every kShares-th: kShares cases in a row make all
  Sample, ///< a few that are cheap
  All,
};
inline constexpr uint64_t kShares = 4;

/// Makes the visits of a case. On each, o and lse are exact: under a query of
/// zeros lse is the logarithm of how many tokens are seen, and o the mean of
/// integers (N5); a token that no query sees is NaN (N8); queries name single
/// tokens and get their V (N5); and, where float64 is not too slow, random
/// values are judged (N1, N2) and equal in other pages (N11).
Report checkBounds(const CompiledSpec &compiledSpec, const CompiledStore &store,
                   uint64_t seed, uint64_t index, Visits which);

/// N5: rows of DataKind::Addresses have exactly the V that they name.
void checkAddresses(const CompiledStore &store, const TestSequence &sequence,
                    const SequenceOutput &output, Report &report);

} // namespace kvc::verify

#endif // KVC_LIB_VERIFY_BOUNDCHECK_H
