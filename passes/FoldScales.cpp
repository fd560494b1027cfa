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

/// The same dequantize without its scales.
tile::DequantizeOp unscaled(PatternRewriter &rewriter,
                            tile::DequantizeOp dequantize) {
  return tile::DequantizeOp::create(
      rewriter, dequantize.getLoc(), dequantize.getX().getType(),
      dequantize.getCodes(), Value(), dequantize.getCodecAttr());
}

tile::DequantizeOp scaledDequantize(Value x) {
  auto dequantize = x.getDefiningOp<tile::DequantizeOp>();
  return dequantize && dequantize.getScales() ? dequantize : nullptr;
}

/// <q, scale * codes> = scale * <q, codes>.
struct FoldIntoScores : OpRewritePattern<tile::DotOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(tile::DotOp dot,
                                PatternRewriter &rewriter) const override {
    tile::DequantizeOp dequantize = scaledDequantize(dot.getK());
    if (!dequantize)
      return failure();
    Type type = dot.getScores().getType();
    Value scores = tile::DotOp::create(rewriter, dot.getLoc(), type, dot.getQ(),
                                       unscaled(rewriter, dequantize));
    rewriter.replaceOpWithNewOp<tile::ScaleTokensOp>(dot, type, scores,
                                                     dequantize.getScales());
    return success();
  }
};

/// sum_t p_t (scale_t * codes_t) = sum_t (p_t * scale_t) codes_t.
struct FoldIntoProbabilities : OpRewritePattern<tile::AccumulateOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(tile::AccumulateOp op,
                                PatternRewriter &rewriter) const override {
    tile::DequantizeOp dequantize = scaledDequantize(op.getV());
    if (!dequantize)
      return failure();
    Value p =
        tile::ScaleTokensOp::create(rewriter, op.getLoc(), op.getP().getType(),
                                    op.getP(), dequantize.getScales());
    Value v = unscaled(rewriter, dequantize);
    rewriter.replaceOpWithNewOp<tile::AccumulateOp>(op, op.getNext().getType(),
                                                    p, v, op.getState());
    return success();
  }
};

struct FoldScales : kvc::impl::FoldScalesBase<FoldScales> {
  void runOnOperation() override {
    RewritePatternSet patterns(&getContext());
    patterns.add<FoldIntoScores, FoldIntoProbabilities>(&getContext());
    if (failed(applyPatternsGreedily(getOperation(), std::move(patterns))))
      signalPassFailure();
  }
};

} // namespace
