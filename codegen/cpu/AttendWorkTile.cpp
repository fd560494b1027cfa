//===- AttendWorkTile.cpp - one sequence, kv head and split ---------------===//
#include "codegen/cpu/AttendWorkTile.h"

#include "codegen/cpu/KitFunctions.h"
#include "lib/base/Artifact/KernelAbi.h"

#include "mlir/Dialect/Math/IR/Math.h"

#include <cmath>
#include <cstddef>

using namespace mlir;
using namespace kvc;
using namespace kvc::cpu;
using Pred = arith::CmpIPredicate;

void AttendWorkTile::load(bool isCausal, ArrayRef<Region *> visible) {
  sequence = k.workTileField(offsetof(KvcWorkTile, sequence));
  head = k.workTileField(offsetof(KvcWorkTile, head));
  tokensBegin = k.workTileField(offsetof(KvcWorkTile, begin));
  rowBegin = k.workTileField(offsetof(KvcWorkTile, row_begin));
  Value rowEnd = k.workTileField(offsetof(KvcWorkTile, row_end));
  Value cu = kit.at(k.argPtr(Word::CuQ), kit.mul(sequence, 4));
  Value queries = kit.sub(kit.loadI32(cu, 4), kit.loadI32(cu, 0));
  Value length =
      kit.loadI32(kit.at(k.argPtr(Word::KvLen), kit.mul(sequence, 4)), 0);
  context = kit.sub(length, queries);
  posFirst = kit.add(context, rowBegin);
  Value tokens = kit.sub(rowEnd, rowBegin);
  posLast = kit.add(kit.add(posFirst, tokens), -1);
  rows = kit.mul(tokens, group);
  for (Region *region : visible) {
    KitFunctions functions(k, sequence);
    ConstantRanges ranges =
        emitConstantRanges(kit.b, kit.loc, *region, rowBlock(), functions);
    constants.insert(ranges.begin(), ranges.end());
  }
  // What the last query sees at most.
  tokensEnd = k.workTileField(offsetof(KvcWorkTile, end));
  if (isCausal)
    tokensEnd = kit.min(tokensEnd, kit.add(posLast, 1));
}

void AttendWorkTile::locatePlanes() {
  Value stride = k.argI64(Word::TableStride);
  table = kit.at(k.argPtr(Word::Table), kit.mul(kit.mul(sequence, stride), 4));
  bool paged = k.cache.layout().getPageTokens();
  Value outer = paged ? Value() : kit.loadI32(table, 0);
  for (unsigned plane = 0; plane < planes.size(); ++plane) {
    Value origin =
        kit.at(k.planeBase(plane), kit.mul(head, k.planeHeadStride(plane)));
    Value stride = k.planePageStride(plane);
    planeOrigin.push_back(paged ? origin
                                : kit.at(origin, kit.mul(outer, stride)));
    planeOuter.push_back(stride);
  }
}

Value AttendWorkTile::address(unsigned plane, Value token) {
  int64_t page = k.cache.layout().getPageTokens(), stride = rowStride(plane);
  auto within = [&](Value token) {
    int64_t each = planes[plane].tokens;
    return kit.mul(each == 1 ? token : kit.div(token, each), stride);
  };
  if (!page)
    return kit.at(planeOrigin[plane], within(token));
  Value id = kit.loadI32(kit.at(table, kit.mul(kit.div(token, page), 4)), 0);
  Value base = kit.at(planeOrigin[plane], kit.mul(id, planeOuter[plane]));
  return kit.at(base, within(kit.rem(token, page)));
}

//===----------------------------------------------------------------------===//
// Scores
//===----------------------------------------------------------------------===//

ScoreBlock AttendWorkTile::rowBlock() {
  auto i32 = [&](Value x) { return kit.truncI32(x); };
  Value kvHead = kit.add(head, int64_t(k.store.getHeadBegin()));
  Value firstHead = kit.mul(kvHead, group);
  ScoreBlock block;
  block.query = {i32(posFirst), i32(posLast)};
  block.context = i32(context);
  block.qHead = {i32(firstHead), i32(kit.add(firstHead, group - 1))};
  block.kvHead = {i32(kvHead), i32(kvHead)};
  return block;
}

ScoreInputs AttendWorkTile::scoreInputs(Value tokens, Value rows) {
  int64_t n = cast<VectorType>(tokens.getType()).getNumElements();
  Value groups = kit.i32s(n, int32_t(group));
  Value queries = arith::DivUIOp::create(kit.b, kit.loc, rows, groups);
  Value inGroup = kit.sub(
      rows, arith::MulIOp::create(kit.b, kit.loc, queries, groups).getResult());
  Value kvHead = kit.add(head, int64_t(k.store.getHeadBegin()));
  ScoreInputs inputs;
  inputs.token = tokens;
  inputs.query = kit.add(kit.splatI32(posFirst, n), queries);
  inputs.qHead = kit.add(kit.splatI32(kit.mul(kvHead, group), n), inGroup);
  inputs.kvHead = kit.splatI32(kvHead, n);
  inputs.context = kit.splatI32(context, n);
  inputs.constants = &constants;
  return inputs;
}

Value AttendWorkTile::logits(Value x, tile::LogitsOp op, ScoreInputs at) {
  KitFunctions functions(k, sequence);
  at.score = x;
  return emitScoreRegion(kit.b, kit.loc, op.getLogits(), at, functions);
}

Value AttendWorkTile::visible(tile::MaskOp op, const ScoreInputs &at) {
  KitFunctions functions(k, sequence);
  auto read = cast<ReadAttrInterface>(op.getReadAttr());
  int64_t n = cast<VectorType>(at.token.getType()).getNumElements();
  ReadTest test(kit.b, kit.loc, read, kit.splatI32(tokensEnd, n));
  Value seen = test.shows(at.token, at.query);
  if (!op.getVisible().empty())
    seen = kit.both(
        seen, emitScoreRegion(kit.b, kit.loc, op.getVisible(), at, functions));
  return seen;
}

Value AttendWorkTile::mask(Value x, tile::MaskOp op, const ScoreInputs &at) {
  return kit.select(visible(op, at), x, kit.constant(-INFINITY, x.getType()));
}

//===----------------------------------------------------------------------===//
// Rows of queries and results
//===----------------------------------------------------------------------===//

Value AttendWorkTile::queryRow(Value row) {
  Value cu = kit.at(k.argPtr(Word::CuQ), kit.mul(sequence, 4));
  Value token =
      kit.add(kit.add(kit.loadI32(cu, 0), rowBegin), kit.div(row, group));
  Value kvHead = kit.add(head, int64_t(k.store.getHeadBegin()));
  Value qHead = kit.add(kit.mul(kvHead, group), kit.rem(row, group));
  return k.rowHead(kWordsOfQ, token, qHead);
}

Value AttendWorkTile::partialRow(Value row) {
  return k.partialRow(k.workTileField(offsetof(KvcWorkTile, split_idx)),
                      kit.add(rowBegin, kit.div(row, group)),
                      kit.add(kit.mul(head, group), kit.rem(row, group)));
}

Value AttendWorkTile::partialOutput(Value row) {
  return kit.at(k.argPtr(Word::PartialO), kit.mul(partialRow(row), dimV * 4));
}

Value AttendWorkTile::storePartialLse(Value row, Value m, Value l) {
  Type one = kit.vec(1);
  Value zero = kit.constant(0, one);
  Value empty = kit.fcmp(arith::CmpFPredicate::OEQ, l, zero);
  Value log = math::Log2Op::create(kit.b, kit.loc, l);
  Value lse = kit.fmul(kit.fadd(m, log), kit.constant(M_LN2, one));
  kit.store(kit.select(empty, kit.constant(-INFINITY, one), lse),
            kit.at(k.argPtr(Word::PartialLse), kit.mul(partialRow(row), 4)));
  Value inverse = kit.select(empty, zero, kit.fdiv(kit.constant(1, one), l));
  return kit.extract(inverse, 0);
}
