//===- OpKernels.h - one small kernel per instruction -----------*- C++ -*-===//
//
// Every row of lib/base/Simt/Ops.def in a kernel that does little else: it
// takes words from memory, executes the row, and writes all that it gave or
// did.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_TOOLS_OP_VECTORS_OPKERNELS_H
#define KVC_TOOLS_OP_VECTORS_OPKERNELS_H

#include "codegen/nvptx/Backend.h"
#include "codegen/nvptx/Kit.h"

namespace kvc::opvectors {

/// The parameter of every kernel.
struct Params {
  const void *in; ///< CTA c has the 32-bit words from c * ctaWords on
  void *out;      ///< zeros; the same
};

/// What input words are.
enum class Words : uint8_t {
  Random,   ///< any bits
  Floats,   ///< f32, special ones among them
  Halves,   ///< pairs of finite f16 or bf16, see `half`
  Integers, ///< the same, small integers: sums of products are exact
};

/// How a GPU's words are compared with the emulator's.
enum class Check : uint8_t {
  Bits,
  Ulps, ///< f32, at most `limit` steps or `limit` * 2^-23 apart; NaN is NaN
  Sums, ///< f32, at most `limit` apart
};

struct OpKernel {
  std::string name; ///< of the row, with a suffix if it has several
  nvptx::Ptx row;
  Words words = Words::Random;
  bool bf16 = false; ///< halves are
  Check check = Check::Bits;
  double limit = 0;
  uint32_t threads = 32, shared = 0;
  uint32_t inWords = 0, outWords = 0; ///< of a thread
};

/// All that `target` has, emitted into `module`; every row of Ops.def that it
/// has is among them, or an error is on the module.
mlir::FailureOr<std::vector<OpKernel>> emitOpKernels(mlir::ModuleOp module,
                                                     const nvptx::SmTarget &sm);

} // namespace kvc::opvectors

#endif // KVC_TOOLS_OP_VECTORS_OPKERNELS_H
