//===- BoundCheck.h - what kernels give next to every bound -----*- C++ -*-===//
//
// Checks that stand next to each bound of a store, however far out, with
// sequences that cost little to make: rows drawn from a small pool, few query
// tokens, and answers that are known without a reference.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_LIB_DRIVER_VERIFY_BOUNDCHECK_H
#define KVC_LIB_DRIVER_VERIFY_BOUNDCHECK_H

#include "lib/driver/Verify/Bounds.h"
#include "lib/driver/Verify/Launch.h"

namespace kvc::verify {

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

#endif // KVC_LIB_DRIVER_VERIFY_BOUNDCHECK_H
