//===- Rules.h - the numerics contract, rule by rule ------------*- C++ -*-===//
#ifndef KVC_LIB_VERIFY_RULES_H
#define KVC_LIB_VERIFY_RULES_H

#include "lib/Verify/Report.h"
#include "lib/Verify/Subject.h"

namespace kvc::verify {

/// Draws batches for one store from (seed, index) and checks the kernels on
/// them, called on the harness's own buffers: N1, N2, N4, N6 and N7 against
/// the reference, N3 append's bytes, N5 exact addresses, N8 poison, N9
/// containment, N10 run to run, N11 batch contexts, N14 that all of this could
/// fail.
Report checkStore(const Subject &subject, const StoreSubject &store,
                  uint64_t seed, uint64_t index);

} // namespace kvc::verify

#endif // KVC_LIB_VERIFY_RULES_H
