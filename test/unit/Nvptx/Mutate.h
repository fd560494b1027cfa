//===- Mutate.h - kernels with one bug planted ------------------*- C++ -*-===//
#ifndef KVC_TEST_UNIT_NVPTX_MUTATE_H
#define KVC_TEST_UNIT_NVPTX_MUTATE_H

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"

#include <string>
#include <vector>

namespace kvc::nvptx {

/// One bug in one place of a kernel, which is at the level that
/// lowerTileToGpu() gives.
struct Mutation {
  /// A C identifier: what is done, the C++ file that emitted the place if it
  /// is an instruction, and which of such places it is, from 1.
  std::string name;
  unsigned kind;      ///< of the kinds that Mutate.cpp knows
  unsigned place;     ///< index of the op among those of the kernel, in order
  std::string before; ///< the line that emitted the next instruction
};

/// Which bugs to look for places for.
enum class Suspects : uint8_t {
  Attend, ///< what orders, hides and bounds
  Plan,   ///< barriers, and every value that is written
  Append, ///< conditions, and every value that is written
};

/// All mutations of a kernel, in order of kind.
std::vector<Mutation> mutationsOf(mlir::LLVM::LLVMFuncOp kernel,
                                  Suspects suspects);

/// Plants one in a copy of the kernel that it was found in.
void mutate(mlir::LLVM::LLVMFuncOp kernel, const Mutation &mutation);

} // namespace kvc::nvptx

#endif // KVC_TEST_UNIT_NVPTX_MUTATE_H
