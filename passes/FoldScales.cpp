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

/// The same decode without its scales.
tile::DecodeOp unscaled(PatternRewriter &rewriter, tile::DecodeOp decode) {
  return tile::DecodeOp::create(rewriter, decode.getLoc(),
                                decode.getX().getType(), decode.getCodes(),
                                Value(), decode.getCodecAttr());
}

tile::DecodeOp scaledDecode(Value x) {
  auto decode = x.getDefiningOp<tile::DecodeOp>();
  return decode && decode.getScales() ? decode : nullptr;
}

/// <q, scale * codes> = scale * <q, codes>.
struct FoldIntoScores : OpRewritePattern<tile::DotOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(tile::DotOp dot,
                                PatternRewriter &rewriter) const override {
    tile::DecodeOp decode = scaledDecode(dot.getK());
    if (!decode)
      return failure();
    Type type = dot.getScores().getType();
    Value scores = tile::DotOp::create(rewriter, dot.getLoc(), type, dot.getQ(),
                                       unscaled(rewriter, decode));
    rewriter.replaceOpWithNewOp<tile::ScaleTokensOp>(dot, type, scores,
                                                     decode.getScales());
    return success();
  }
};

/// sum_t p_t (scale_t * codes_t) = sum_t (p_t * scale_t) codes_t.
struct FoldIntoProbabilities : OpRewritePattern<tile::AccumulateOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(tile::AccumulateOp op,
                                PatternRewriter &rewriter) const override {
    tile::DecodeOp decode = scaledDecode(op.getV());
    if (!decode)
      return failure();
    Value p =
        tile::ScaleTokensOp::create(rewriter, op.getLoc(), op.getP().getType(),
                                    op.getP(), decode.getScales());
    Value v = unscaled(rewriter, decode);
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
