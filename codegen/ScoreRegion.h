//===- ScoreRegion.h - a score's region inside a kernel ---------*- C++ -*-===//
//
// Backends give a region its inputs, as scalars or as vectors of one length,
// and get its result; or they give the bounds of a block of rows and tokens,
// and get whether all of its tokens are visible to all of its rows, or none is.
// Which ops there are is written once, here.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_CODEGEN_SCOREREGION_H
#define KVC_CODEGEN_SCOREREGION_H

#include "dialect/KvcDialect.h"
#include "dialect/Score.h"

#include "mlir/IR/Builders.h"
#include "llvm/ADT/DenseMap.h"

#include <optional>

namespace kvc {

/// Functions that each backend has its own way with, for |x| of any size;
/// infinities and NaN as in math.h.
class ScoreFunctions {
public:
  virtual ~ScoreFunctions() = default;
  virtual mlir::Value exp2(mlir::Value x) = 0;
  virtual mlir::Value log2(mlir::Value x) = 0;
  virtual mlir::Value tanh(mlir::Value x) = 0;
  /// Elements of a constant that the call gives, at `index`, which is within
  /// it.
  virtual mlir::Value element(ConstantOp constant, mlir::Value index) = 0;
  /// The least and the largest of its elements from `first` to `last`, scalars,
  /// both within it; of more than kMostRanged maybe less and more than that.
  virtual std::pair<mlir::Value, mlir::Value>
  range(ConstantOp constant, mlir::Value first, mlir::Value last) = 0;
  static constexpr int64_t kMostRanged = 256;
};

/// The least and the largest that a value may be, of a boolean: whether it is
/// true throughout, and whether it may be true.
using Interval = std::pair<mlir::Value, mlir::Value>;
/// Of constants that calls give, by op. Both ends are one value where it is
/// known to be the only one.
using ConstantRanges = llvm::DenseMap<mlir::Operation *, Interval>;

/// Inputs of a region: those that it is not told are null. All are scalars, or
/// all vectors of one length.
struct ScoreInputs {
  mlir::Value score, query, token, context, qHead, kvHead;
  /// The score is `score` times this. A factor that the region multiplies it
  /// with is one with it, and so is a sum.
  double scale = 1;
  /// The token is `token` + `offset`. What tokens that differ by a constant
  /// have in common is then computed once, a conversion to float above all.
  int64_t offset = 0;
  /// Constants that have one value for all of these, which is not loaded again.
  const ConstantRanges *constants = nullptr;
};

/// Emits the region's ops where the builder stands; gives what it yields.
mlir::Value emitScoreRegion(mlir::OpBuilder &b, mlir::Location loc,
                            mlir::Region &region, const ScoreInputs &inputs,
                            ScoreFunctions &functions);

/// The same of a region of elements: its arguments are `x`, f32 scalars or
/// vectors of one length.
mlir::Value emitElementRegion(mlir::OpBuilder &b, mlir::Location loc,
                              mlir::Region &region, mlir::ValueRange x,
                              ScoreFunctions &functions);

/// The largest |c| of a region whose every tanh is of the score times a
/// constant c; none if there is another tanh, or no tanh at all.
std::optional<double> tanhFactor(mlir::Region &logits);

/// First and last of what a block of rows and tokens has, as i32 scalars.
struct ScoreBlock {
  std::pair<mlir::Value, mlir::Value> query, token, qHead, kvHead;
  mlir::Value context;
};

/// The constants of a region that calls give whose index does not depend on the
/// token: the same for all blocks of `rows`, whose tokens are null. Loaded once
/// per work tile, they tell which tiles a prefix or a document shows.
ConstantRanges emitConstantRanges(mlir::OpBuilder &b, mlir::Location loc,
                                  mlir::Region &visible, const ScoreBlock &rows,
                                  ScoreFunctions &functions);

/// What of a block is visible, by interval arithmetic. Both may be false: the
/// block must then be looked at token by token.
struct BlockVisibility {
  mlir::Value full;  ///< i1: every row sees every token
  mlir::Value empty; ///< i1: no row sees any
};
BlockVisibility emitBlockVisibility(mlir::OpBuilder &b, mlir::Location loc,
                                    mlir::Region &visible,
                                    const ScoreBlock &block,
                                    const ConstantRanges &constants);

} // namespace kvc

#endif // KVC_CODEGEN_SCOREREGION_H
