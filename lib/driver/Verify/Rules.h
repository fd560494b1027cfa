//===- Rules.h - the numerics contract, rule by rule ------------*- C++ -*-===//
#ifndef KVC_LIB_DRIVER_VERIFY_RULES_H
#define KVC_LIB_DRIVER_VERIFY_RULES_H

#include "lib/driver/Verify/CompiledSpec.h"
#include "lib/driver/Verify/Report.h"

namespace kvc::verify {

/// Draws batches for one store from (seed, index) and checks the kernels on
/// them, called on the harness's own buffers: N1, N2, N4, N6 and N7 against
/// the reference, N3 append's bytes, N5 exact addresses, N8 poison, N9
/// containment, N10 run to run, N11 batch contexts, N14 that all of this could
/// fail, N15 what gather decodes.
Report checkStore(const CompiledSpec &compiledSpec, const CompiledStore &store,
                  uint64_t seed, uint64_t index);

} // namespace kvc::verify

#endif // KVC_LIB_DRIVER_VERIFY_RULES_H
