//===- LogitScale.h - logits in powers of two -------------------*- C++ -*-===//
#ifndef KVC_PASSES_LOGITSCALE_H
#define KVC_PASSES_LOGITSCALE_H

#include "mlir/IR/Region.h"

namespace kvc {

/// Rewrites a logits region to give its result times log2(e), so that each
/// probability is one exp2. Returns what the scores that it is given must be
/// times: log2(e) if the region only adds to the score, for then the factor
/// goes into q and into what is added; else 1.
double scaleLogits(mlir::Region &region);

} // namespace kvc

#endif // KVC_PASSES_LOGITSCALE_H
