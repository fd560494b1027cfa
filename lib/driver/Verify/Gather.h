//===- Gather.h - rows decoded from a batch image ---------------*- C++ -*-===//
#ifndef KVC_LIB_DRIVER_VERIFY_GATHER_H
#define KVC_LIB_DRIVER_VERIFY_GATHER_H

#include "lib/driver/Verify/BatchImage.h"
#include "lib/driver/Verify/Report.h"

namespace kvc::verify {

/// N15: kvc_gather of every sequence's tokens, in random order, some twice and
/// some rows skipped, gives what the reference makes of their codes: as f32,
/// rounded once to the model's dtype. It writes nothing else. One of K and V
/// may not be wanted.
void checkGather(const CompiledSpec &compiledSpec, BatchImage &image,
                 Report &report);

} // namespace kvc::verify

#endif // KVC_LIB_DRIVER_VERIFY_GATHER_H
