//===- Score.h - regions that say what becomes of a score -------*- C++ -*-===//
//
// A logits region turns the scaled score of one query row and one cached token
// into its logit; a visible region says whether the row sees the token at all;
// a sink region is a logit of the row itself. All are element-wise, made of a
// closed list of arith and math ops on f32, i32 and i1, and end in `kvc.yield`.
// Integers do not overflow.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_DIALECT_SCORE_H
#define KVC_DIALECT_SCORE_H

#include "mlir/IR/Operation.h"

namespace kvc {

/// What a region is told, in the order of its arguments: a logits region all, a
/// visible region all but the score, a sink region the heads.
enum class ScoreInput : uint8_t {
  Score,         ///< f32: scale * <q, k>
  QueryPosition, ///< i32
  TokenPosition, ///< i32
  Context,       ///< i32: tokens of the sequence that the step found cached
  QueryHead,     ///< i32, of the model
  KvHead,        ///< i32, of the model
};
inline constexpr unsigned kScoreInputs = 6;

enum class ScoreRegionKind : uint8_t { Logits, Visible, Sink };

/// Which input argument `index` of the region is.
ScoreInput inputOf(mlir::Region &region, unsigned index);
/// The argument for `input`; null if a region of this kind is not told.
mlir::BlockArgument argumentOf(mlir::Region &region, ScoreInput input);
/// What the region yields.
mlir::Value yieldedBy(mlir::Region &region);
/// Whether `value` depends on argument `input` of its region.
bool dependsOn(mlir::Value value, ScoreInput input);

/// Adds the block of a region, with its arguments, and returns it.
mlir::Block &addScoreBlock(mlir::Region &region, ScoreRegionKind kind,
                           mlir::Location loc);

/// Checks arguments, ops and the yielded value of a region of `op`, which may
/// be empty.
mlir::LogicalResult verifyScoreRegion(mlir::Operation *op, mlir::Region &region,
                                      ScoreRegionKind kind);
/// The same of a region that makes an f32 of `arguments` others, at most
/// kScoreInputs.
mlir::LogicalResult verifyElementRegion(mlir::Operation *op,
                                        mlir::Region &region,
                                        unsigned arguments);

} // namespace kvc

#endif // KVC_DIALECT_SCORE_H
