//===- PackedLimbs.h - many query rows: matrices of bf16 --------*- C++ -*-===//
//
// An element that a bf16 cannot hold is a sum of two, its limbs, of whose
// products all but the smallest are taken. What the sources of bf16 in vectors
// and in matrix registers pack alike.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_CODEGEN_CPU_OPERANDS_PACKEDLIMBS_H
#define KVC_CODEGEN_CPU_OPERANDS_PACKEDLIMBS_H

#include "codegen/cpu/PackedBlocks.h"

namespace kvc::cpu {

/// x as a sum of as many bf16, the larger first; alone if it is not finite.
llvm::SmallVector<mlir::Value> splitLimbs(Kit &kit, mlir::Value x,
                                          int64_t limbs);

/// A block of channels of a token in natural order, as bf16.
llvm::SmallVector<mlir::Value> loadLimbs(Kit &kit, const ChannelPlan &plan,
                                         const ChannelBlock &block,
                                         const RowFn &row, mlir::Value channel,
                                         int64_t limbs);

/// Weights of two tokens as words of bf16, and what those lack. Halves are
/// rounded up: to even would take three instructions more. A NaN may be lost
/// here; the row's sum of weights has it.
llvm::SmallVector<mlir::Value> pairWeights(Kit &kit, mlir::Value x,
                                           mlir::Value y, int64_t limbs);

/// Packs V in pairs of tokens into `packed` [limb][token / 2][width v]. Returns
/// what PackedValues::pack() does.
mlir::Value packTokenPairs(PackedBlocks &blocks, const TileRows &rows,
                           int64_t packed, int64_t limbs);

/// Finds infinities and NaNs among elements that are packed, and hides them.
class NonFiniteFlags {
public:
  /// Flags of elements that were hidden are where V's scales will be.
  explicit NonFiniteFlags(PackedBlocks &blocks) : blocks(blocks) {}

  void clear();
  /// Makes elements 0 that are infinite or NaN, and leaves flags of them.
  void hide(llvm::MutableArrayRef<mlir::Value> limbs);
  /// Whether nothing was hidden.
  mlir::Value none();

private:
  mlir::Value address() { return blocks.k.scratchAt(blocks.scaleV); }

  PackedBlocks &blocks;
};

} // namespace kvc::cpu

#endif // KVC_CODEGEN_CPU_OPERANDS_PACKEDLIMBS_H
