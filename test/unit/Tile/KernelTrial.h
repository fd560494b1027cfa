//===- KernelTrial.h - one drawn kernel on all executors --------*- C++ -*-===//
#ifndef KVC_TEST_UNIT_TILE_KERNELTRIAL_H
#define KVC_TEST_UNIT_TILE_KERNELTRIAL_H

#include "codegen/cpu/Backend.h"

#include <string>
#include <utility>
#include <vector>

namespace kvc::fuzz {

/// What became of a kernel.
struct Outcome {
  bool onCpu = false, onGpu = false; ///< beside the interpreter
  /// By a backend: which, and why, numbers left out.
  std::vector<std::pair<std::string, std::string>> refusals;
  std::vector<std::string> traits;
  /// The first element that differs, or another fault; "": none.
  std::string disagreement;
  std::string ir; ///< of the kernel that disagreed
  /// The largest errors over their bounds.
  double worstCpu = 0, worstGpu = 0;
  /// A bug that was planted in what the interpreter got; null: none.
  const char *plant = nullptr;
  bool caught = false;       ///< because an executor gives something else
  bool caughtAsPass = false; ///< because the kernel did before
};

/// Draws kernel `index` of a run and runs it: in the interpreter before and
/// after each pass, on one of the CPU's `levels`, and on an emulated GPU.
Outcome tryKernel(uint64_t seed, uint64_t index,
                  const std::vector<cpu::CpuTarget> &levels);

} // namespace kvc::fuzz

#endif // KVC_TEST_UNIT_TILE_KERNELTRIAL_H
