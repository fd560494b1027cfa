//===- Explain.h - what a spec costs, and how it runs -----------*- C++ -*-===//
#ifndef KVC_LIB_DRIVER_EXPLAIN_EXPLAIN_H
#define KVC_LIB_DRIVER_EXPLAIN_EXPLAIN_H

#include "lib/base/Artifact/Manifest.h"
#include "lib/base/Spec/Spec.h"
#include "lib/base/Support/Diagnostics.h"
#include "lib/driver/Compiler/Compiler.h"
#include "lib/driver/Compiler/Remarks.h"

#include <optional>
#include <string>
#include <vector>

namespace kvc {

/// A decode step to explain: one new token of each sequence.
struct DecodeStep {
  uint32_t context = 8192; ///< cached tokens per sequence
  uint32_t batch = 1;      ///< sequences
  double bandwidth = 0;    ///< of memory, in GB/s; 0: not known
  double tflops = 0;       ///< arithmetic, in TFLOP/s; 0: not known
};

/// What a step of one store reads and computes, over all its layers.
struct StoreCost {
  uint64_t tokenBytes = 0;     ///< of one token, all layers
  uint64_t bf16TokenBytes = 0; ///< the same with every element as bf16
  uint64_t visible = 0; ///< cached tokens that one new token sees, at the kv
                        ///< head where it sees most
  /// Cache that the step reads, beyond any integer. CPUs skip what an
  /// expression hides, GPUs copy it.
  double stepBytes = 0, gpuStepBytes = 0;
  double stepFlops = 0; ///< multiplies and adds of QK and PV
  /// Why a step may see less than is counted; "": it sees as much.
  std::string atMost;
};

struct Explanation {
  spec::Spec spec;
  artifact::Manifest manifest;
  std::vector<Remark> remarks;
  std::vector<StoreCost> stores; ///< like spec.stores
  StoreCost total;
  DecodeStep step;
  bool forCpus = false, forGpus = false; ///< there are kernels for some

  /// On CPUs, if there are kernels for some.
  double stepBytes(const StoreCost &cost) const {
    return forCpus ? cost.stepBytes : cost.gpuStepBytes;
  }
  /// Milliseconds at the step's rates; 0 where none is given.
  double memoryMs() const;
  double arithmeticMs() const;
  bool isAtMost() const;
  /// "memory" or "arithmetic", whichever takes longer; null unless both rates
  /// are given.
  const char *bound() const;
};

/// Compiles the spec and counts. Nothing, and errors, if it cannot be compiled.
std::optional<Explanation> explain(const spec::Spec &spec,
                                   CompileOptions options,
                                   const DecodeStep &step,
                                   Diagnostics &diagnostics);

/// What `kvc explain --json` prints; see tools/kvc/README.md.
std::string toJson(const Explanation &all);

} // namespace kvc

#endif // KVC_LIB_DRIVER_EXPLAIN_EXPLAIN_H
