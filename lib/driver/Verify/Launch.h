//===- Launch.h - a batch image run through the runtime ---------*- C++ -*-===//
#ifndef KVC_LIB_DRIVER_VERIFY_LAUNCH_H
#define KVC_LIB_DRIVER_VERIFY_LAUNCH_H

#include "lib/driver/Verify/BatchImage.h"
#include "lib/driver/Verify/Report.h"

namespace kvc::verify {

/// What an attend gave one sequence: the bits of o, [queries][q heads of the
/// store][dim v] in the model's dtype, and lse of the same rows.
struct SequenceOutput {
  std::vector<uint8_t> o;
  std::vector<float> lse;
};
using Output = std::vector<SequenceOutput>;

/// kvc_attend over the image. Everything around what it reads holds poison,
/// and what it has no business to write is checked afterwards. nullopt: it
/// failed, which is reported as "setup".
std::optional<Output> attend(const CompiledSpec &compiledSpec,
                             BatchImage &image, Report &report);

/// kvc_append of every sequence's rows, in random order and two calls, into an
/// image that holds none of them.
bool append(const CompiledSpec &compiledSpec, BatchImage &image,
            Report &report);

/// What a call that failed breaks: a device that fails is an emulator that
/// found something.
const char *ruleOf(const kvc_status &status);
/// As the runtime is given them.
llvm::SmallVector<kvc_plane, 4>
planesOf(llvm::ArrayRef<reference::HostPlane> planes);

/// Whether two outputs of a sequence are the same bits; otherwise reports the
/// first difference under `rule`, which `context` describes.
bool sameBits(const CompiledStore &store, const SequenceOutput &expected,
              const SequenceOutput &found, const std::string &rule,
              const std::string &context, Report &report);

/// All digits that tell one float from another.
std::string number(double x);
/// Element `at` of bits of a float type, as a number.
float element(mlir::Type type, const uint8_t *bits, size_t at);

} // namespace kvc::verify

#endif // KVC_LIB_DRIVER_VERIFY_LAUNCH_H
