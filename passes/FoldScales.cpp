//===- FoldScales.cpp - scales leave the sums they are constant along -----===//
#include "passes/Passes.h"

#include "mlir/Transforms/GreedyPatternRewriteDriver.h"

namespace kvc {
#define GEN_PASS_DEF_FOLDSCALES
#include "passes/Passes.h.inc"
} // namespace kvc

using namespace mlir;
using namespace kvc;

namespace {

/// What makes `x`, if that is a tile [t, d] times a scale per token, which is
/// not of a byte.
tile::ScaleOp scaledByToken(Value x) {
  auto scale = x.getDefiningOp<tile::ScaleOp>();
  if (!scale || scale.getIsSigned())
    return nullptr;
  auto shape = cast<RankedTensorType>(x.getType()).getShape();
  auto boxes = cast<RankedTensorType>(scale.getBoxes().getType());
  return boxes.getDimSize(0) == shape[0] && boxes.getDimSize(1) == 1 &&
                 isDtype(boxes.getElementType())
             ? scale
             : nullptr;
}

/// <q, scale * codes> = scale * <q, codes>.
struct FoldIntoScores : OpRewritePattern<tile::DotOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(tile::DotOp dot,
                                PatternRewriter &rewriter) const override {
    tile::ScaleOp scale = scaledByToken(dot.getK());
    if (!scale)
      return failure();
    Type type = dot.getScores().getType();
    Value scores = tile::DotOp::create(rewriter, dot.getLoc(), type, dot.getQ(),
                                       scale.getX());
    rewriter.replaceOpWithNewOp<tile::ScaleTokensOp>(dot, type, scores,
                                                     scale.getBoxes());
    return success();
  }
};

/// <q, c * x> = <c * q, x> where c has a factor for each channel, the same for
/// all of the tile.
struct FoldIntoQuery : OpRewritePattern<tile::DotOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(tile::DotOp dot,
                                PatternRewriter &rewriter) const override {
    auto scale = dot.getK().getDefiningOp<tile::ScaleOp>();
    if (!scale || scale.getIsSigned() || scaledByToken(dot.getK()) ||
        cast<RankedTensorType>(scale.getBoxes().getType()).getDimSize(0) != 1)
      return failure();
    Value q =
        tile::ScaleOp::create(rewriter, dot.getLoc(), dot.getQ().getType(),
                              dot.getQ(), scale.getBoxes());
    rewriter.modifyOpInPlace(dot, [&] {
      dot.getQMutable().assign(q);
      dot.getKMutable().assign(scale.getX());
    });
    return success();
  }
};

/// sum_t p_t (scale_t * codes_t) = sum_t (p_t * scale_t) codes_t.
struct FoldIntoProbabilities : OpRewritePattern<tile::AccumulateOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(tile::AccumulateOp op,
                                PatternRewriter &rewriter) const override {
    tile::ScaleOp scale = scaledByToken(op.getV());
    if (!scale)
      return failure();
    Value p =
        tile::ScaleTokensOp::create(rewriter, op.getLoc(), op.getP().getType(),
                                    op.getP(), scale.getBoxes());
    rewriter.modifyOpInPlace(op, [&] {
      op.getPMutable().assign(p);
      op.getVMutable().assign(scale.getX());
    });
    return success();
  }
};

struct FoldScales : kvc::impl::FoldScalesBase<FoldScales> {
  void runOnOperation() override {
    RewritePatternSet patterns(&getContext());
    patterns.add<FoldIntoScores, FoldIntoQuery, FoldIntoProbabilities>(
        &getContext());
    if (failed(applyPatternsGreedily(getOperation(), std::move(patterns))))
      signalPassFailure();
  }
};

} // namespace
