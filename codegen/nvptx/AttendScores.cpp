//===- AttendScores.cpp - who sees a token, what becomes of a score -------===//
#include "codegen/nvptx/Attend.h"
#include "codegen/nvptx/KitFunctions.h"

#include <cmath>

using namespace mlir;
using namespace kvc;
using namespace kvc::nvptx;
using arith::CmpIPredicate;

//===----------------------------------------------------------------------===//
// Which tokens
//===----------------------------------------------------------------------===//

/// The work tile's tiles, one round of all warps each: from its first token on,
/// and with a window, of those behind the sink only what the first row sees.
/// Tiles stand at absolute multiples.
void AttendKernel::planTiles() {
  int64_t tile = tileTokens();
  auto count = [&](Value from, Value to) {
    return kit.ceilDiv(kit.max(kit.sub(to, from), kit.i32(0)), tile);
  };
  if (body.read.isAll()) {
    sinkTiles = tiles = count(current.begin, current.end);
    return;
  }
  Value sink = kit.i32(body.read.getSinkTokens());
  sinkTiles = count(current.begin, kit.min(current.end, sink));
  Value behind = kit.add(current.begin, kit.mul(sinkTiles, tile));
  Value oldest = kit.add(current.posFirst, 1 - body.read.getRecentTokens());
  oldest = kit.max(oldest, kit.i32(0));
  Value recent = kit.max(behind, kit.mul(kit.div(oldest, tile), tile));
  tiles = kit.add(sinkTiles, count(recent, current.end));
  recentBase = kit.sub(recent, kit.mul(sinkTiles, tile));
}

Value AttendKernel::tileFirst(Value tile) {
  Value base = current.begin;
  if (recentBase)
    base = kit.select(kit.less(tile, sinkTiles), base, recentBase);
  return kit.add(base, kit.mul(tile, tileTokens()));
}

Value AttendKernel::firstOf(Value tile) {
  return kit.add(tileFirst(tile), ownTokens());
}

ReadTest AttendKernel::readTest() {
  return ReadTest(kit.b, kit.kernel, body.read, current.end);
}

ScoreInputs AttendKernel::inputs(Value token, const RowPlace &row) {
  ScoreInputs inputs;
  inputs.query = row.position;
  inputs.token = token;
  inputs.context = current.posZero;
  inputs.constants = &current.constants;
  inputs.qHead = row.qHead;
  inputs.kvHead = kit.add(current.head, k.store.getHeadBegin());
  return inputs;
}

Value AttendKernel::visible(Value token, const RowPlace &row) {
  Value seen = readTest().shows(token, row.position);
  if (!hasVisible())
    return seen;
  KitFunctions functions(k, current.sequence);
  return kit.and_(seen,
                  emitScoreRegion(kit.b, kit.kernel, body.mask.getVisible(),
                                  inputs(token, row), functions));
}

ScoreBlock AttendKernel::rowBlock() {
  Value kvHead = kit.add(current.head, k.store.getHeadBegin());
  Value qHead = kit.mul(kvHead, group);
  ScoreBlock block;
  block.query = {current.ownFirst, current.ownLast};
  block.context = current.posZero;
  block.qHead = {qHead, kit.add(qHead, group - 1)};
  block.kvHead = {kvHead, kvHead};
  return block;
}

BlockVisibility AttendKernel::visibleBlock(Value first, int64_t count) {
  Value last = kit.min(kit.add(first, count), current.end);
  ScoreBlock block = rowBlock();
  block.token = {first, kit.max(first, kit.add(last, -1))};
  return emitBlockVisibility(kit.b, kit.kernel, body.mask.getVisible(), block,
                             current.constants);
}

Value AttendKernel::isShownInFull(Value first, int64_t count) {
  return readTest().showsAll(first, kit.add(first, count), current.posFirst,
                             current.posLast);
}

Value AttendKernel::isFullBlock(Value first, int64_t count) {
  Value full = readTest().showsAll(first, kit.add(first, count),
                                   current.ownFirst, current.ownLast);
  return hasVisible() ? kit.and_(full, visibleBlock(first, count).full) : full;
}

Value AttendKernel::isEmptyBlock(Value first, int64_t count) {
  Value empty = kit.not_(readTest().showsSome(
      first, kit.add(first, count), current.ownFirst, current.ownLast));
  return hasVisible() ? kit.or_(empty, visibleBlock(first, count).empty)
                      : empty;
}

Value AttendKernel::anyRowVisible(Value token) {
  return readTest().showsSome(token, kit.add(token, 1), current.posFirst,
                              current.posLast);
}

//===----------------------------------------------------------------------===//
// Scores
//===----------------------------------------------------------------------===//

Value AttendKernel::transform(Value score, Value tokenScale, Value token,
                              int64_t offset, const RowPlace &row, bool near) {
  if (!body.logits) {
    Value x = kit.fmul(score, kit.f32(body.scale));
    return tokenScale ? kit.fmul(x, tokenScale) : x;
  }
  KitFunctions functions(k, current.sequence, near);
  ScoreInputs at = inputs(token, row);
  at.score = tokenScale ? kit.fmul(score, tokenScale) : score;
  at.scale = body.scale;
  at.offset = offset;
  return emitScoreRegion(kit.b, kit.kernel, body.logits.getLogits(), at,
                         functions);
}

Values AttendKernel::scalesOfChain(ArrayRef<Operation *> chain, Value first) {
  assert(tokens <= kWarpLanes);
  Values scales;
  for (Operation *op : chain)
    if (auto scale = dyn_cast<tile::ScaleTokensOp>(op))
      scales.append(loadScale(scale.getScales(), first, pagesOf(first)));
  return scales;
}

Value AttendKernel::applyChain(Value x, ArrayRef<Operation *> chain,
                               ValueRange scales, Value token,
                               const RowPlace &row) {
  KitFunctions functions(k, current.sequence);
  for (Operation *op : chain) {
    if (auto logits = dyn_cast<tile::LogitsOp>(op)) {
      ScoreInputs at = inputs(token, row);
      at.score = x;
      x = emitScoreRegion(kit.b, kit.kernel, logits.getLogits(), at, functions);
      continue;
    }
    if (auto map = dyn_cast<tile::MapOp>(op)) {
      x = emitElementRegion(kit.b, kit.kernel, map.getBody(), x, functions);
      continue;
    }
    x = kit.fmul(x, scales.front());
    scales = scales.drop_front();
  }
  return x;
}

std::optional<double> AttendKernel::nearLimit() {
  if (!body.logits)
    return std::nullopt;
  std::optional<double> factor = tanhFactor(body.logits.getLogits());
  if (!factor)
    return std::nullopt;
  // A little less: the product with the factor is rounded.
  double limit = Kit::kTanhNear / (*factor * std::fabs(body.scale)) * 0.999;
  return std::isnormal(float(limit)) ? std::optional(limit) : std::nullopt;
}
