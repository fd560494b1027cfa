//===- RandomExpr.h - what scores' regions say, drawn at random -*- C++ -*-===//
#ifndef KVC_TEST_UNIT_TILE_RANDOMEXPR_H
#define KVC_TEST_UNIT_TILE_RANDOMEXPR_H

#include "test/unit/Tile/ScoreExpr.h"

#include "lib/driver/Verify/Random.h"

namespace kvc::fuzz {

using verify::Random;

/// What a logits region is like.
namespace logits {
enum : unsigned {
  None,
  Softcap,
  TwoSoftcaps,
  Alibi,
  AlibiTree,
  HeadBias,
  ByPosition,
  Clamped,
  Functions,
  Quotient,
  ScoreOnce,
  ScoreTwice,
  NoScore,
  TwoRegions
};
}
/// x -> (cap log2(e)) tanh(x / cap)
Expr softcap(double cap);
/// Any but None and those of two regions; `heads`: of the model.
Expr drawLogits(unsigned choice, int64_t heads, Random &random);

/// What a visible region is like.
namespace shown {
enum : unsigned {
  All,
  Window,
  Chunks,
  Dilation,
  HeadWindows,
  Logic,
  Choice,
  Integers,
  Booleans
};
}
/// Any but All.
Expr drawVisible(unsigned choice, Random &random);

} // namespace kvc::fuzz

#endif // KVC_TEST_UNIT_TILE_RANDOMEXPR_H
