//===- RandomSpec.h - valid specs drawn at random ---------------*- C++ -*-===//
#ifndef KVC_LIB_DRIVER_VERIFY_RANDOMSPEC_H
#define KVC_LIB_DRIVER_VERIFY_RANDOMSPEC_H

#include "lib/base/Spec/Spec.h"
#include "lib/driver/Compiler/Compiler.h"

namespace kvc::verify {

/// Case `index` of `seed`: a small model over the whole range of head
/// dimensions, GQA ratios, codecs, layouts and reads. Goes through JSON text
/// and the reader, so that these are tried as well; nullopt, with reasons in
/// `diagnostics`, is a bug of one of the two.
std::optional<spec::Spec> randomSpec(uint64_t seed, uint64_t index,
                                     Diagnostics &diagnostics);

/// Overrides that the schedules of this case's spec can take; results must hold
/// under any schedule. Emulated decode kernels always get short splits, so that
/// there are splits to combine, and all that can copy in bulk, or not.
std::vector<ScheduleOverride> randomSchedule(uint64_t seed, uint64_t index,
                                             const std::string &target);

} // namespace kvc::verify

#endif // KVC_LIB_DRIVER_VERIFY_RANDOMSPEC_H
