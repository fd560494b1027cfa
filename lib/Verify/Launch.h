//===- Launch.h - a stage run through the runtime ---------------*- C++ -*-===//
#ifndef KVC_LIB_VERIFY_LAUNCH_H
#define KVC_LIB_VERIFY_LAUNCH_H

#include "lib/Verify/Report.h"
#include "lib/Verify/Stage.h"

namespace kvc::verify {

/// What an attend gave one member: the bits of o, [queries][q heads of the
/// store][dim v] in the model's dtype, and lse of the same rows.
struct MemberOutput {
  std::vector<uint8_t> o;
  std::vector<float> lse;
};
using Output = std::vector<MemberOutput>;

/// kvc_attend over the stage. Everything around what it reads holds poison,
/// and what it has no business to write is checked afterwards. nullopt: it
/// failed, which is reported as "setup".
std::optional<Output> attend(const Subject &subject, Stage &stage,
                             Report &report);

/// kvc_append of every member's rows, in random order and two calls, into a
/// stage that holds none of them.
bool append(const Subject &subject, Stage &stage, Report &report);

/// Whether two outputs of a member are the same bits; otherwise reports the
/// first difference under `rule`, which `context` describes.
bool sameBits(const StoreSubject &store, const MemberOutput &expected,
              const MemberOutput &found, const std::string &rule,
              const std::string &context, Report &report);

/// All digits that tell one float from another.
std::string number(double x);
/// Element `at` of bits of a float type, as a number.
float element(mlir::Type type, const uint8_t *bits, size_t at);

} // namespace kvc::verify

#endif // KVC_LIB_VERIFY_LAUNCH_H
