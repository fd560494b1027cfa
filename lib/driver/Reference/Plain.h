//===- Plain.h - attention as a plain low-precision program -----*- C++ -*-===//
//
// The yardstick for a kernel's error: what anyone would get from the textbook
// formula with every intermediate in the model's dtype.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_LIB_DRIVER_REFERENCE_PLAIN_H
#define KVC_LIB_DRIVER_REFERENCE_PLAIN_H

#include "lib/driver/Reference/Attend.h"

namespace kvc::reference {

/// The same inputs and shapes as `attend`, never in splits. Dequantized K and V
/// are rounded to the dtype; both products accumulate in f32 in order of
/// channel and token; each of product, scale, softcap, difference from the
/// maximum, exponential, sum, quotient and output is rounded to the dtype. So
/// for f32 it is a naive f32 program. Every o is a value of the dtype; lse is
/// f32, from the rounded maximum and sum.
llvm::Expected<AttendResult> plainAttend(const AttendProblem &problem, Rows q,
                                         const HostCache &cache,
                                         const HostBatch &batch);

/// Rounds to the nearest value of f32, f16 or bf16, ties to even.
float roundTo(mlir::Type dtype, float x);

} // namespace kvc::reference

#endif // KVC_LIB_DRIVER_REFERENCE_PLAIN_H
