//===- AttendDirect.cpp - few query rows: state and softmax ---------------===//
#include "codegen/cpu/DirectMath.h"

#include <cmath>

using namespace mlir;
using namespace kvc;
using namespace kvc::cpu;

DirectMath::DirectMath(AttendKernel &kernel)
    : a(kernel), kit(a.kit), k(a.k), blockRows(a.schedule.getRows()),
      padded(llvm::PowerOf2Ceil(blockRows)),
      tokensPerVector(std::clamp<int64_t>(kit.lanes / padded, 1, a.tileTokens)),
      maxRows(llvm::alignTo(a.schedule.getQueries() * a.group, blockRows)) {
  while (a.tileTokens % tokensPerVector)
    tokensPerVector /= 2;
  auto form = [&](StreamKind kind) {
    Type code = k.cache.stream(kind).codec.getCodeType();
    if (!a.schedule.getDot() || !k.target().hasDot(code, k.dtype))
      return Form::F32;
    return code.isBF16() ? Form::BF16 : Form::I8;
  };
  formK = form(StreamKind::K);
  if (a.tileTokens % 2 == 0)
    formV = form(StreamKind::V);
}

void DirectMath::plan() {
  Scratch &scratch = k.scratch;
  q = scratch.reserve(maxBlocks() * queryBytes());
  acc = scratch.reserve(maxRows * a.dimV * 4);
  for (int64_t *offset : {&m, &l, &queryFactor, &queryBias})
    *offset = scratch.reserve(maxBlocks() * padded * 4);
  for (int64_t *offset : {&scaleK, &scaleV})
    *offset = scratch.reserve(a.tileTokens * 4);
  s = buffer.reserve(maxBlocks() * a.tileTokens * padded * 4);
  p = buffer.reserve(maxBlocks() * a.tileTokens * padded * 2);
  for (int64_t *offset : {&alpha, &pUnit})
    *offset = buffer.reserve(maxBlocks() * padded * 4);
}

void DirectMath::initState() {
  forBlocks([&](Value block) {
    Type type = kit.vec(padded);
    kit.store(kit.constant(-INFINITY, type), stats(m, block));
    kit.store(kit.constant(0, type), stats(l, block));
    Value sums = blockAt(acc, block, blockRows * a.dimV * 4);
    kit.loop(0, blockRows * a.dimV, 8, [&](Value i) {
      kit.store(kit.constant(0, kit.vec(8)), kit.at(sums, kit.mul(i, 4)));
    });
  });
}

void DirectMath::prefetchAhead(const TileRows &rows, unsigned plane,
                               ArrayRef<Value> indices, Value offset,
                               int64_t bytes) {
  if (rows.aheadBase.empty())
    return;
  for (Value index : indices)
    a.prefetchBytes(kit.anywhere(rows.rowAhead(plane, index), offset), bytes);
}

//===----------------------------------------------------------------------===//
// Softmax
//===----------------------------------------------------------------------===//

/// The scales of the tokens of score vector `vector`, each repeated for all
/// padded rows.
Value DirectMath::tokenScales(int64_t scratch, int64_t vector) {
  int64_t n = tokensPerVector;
  Value scales = kit.load(kit.vec(n), k.scratchAt(scratch + vector * n * 4));
  SmallVector<int64_t> lanes;
  for (int64_t lane = 0; lane < n * padded; ++lane)
    lanes.push_back(lane / padded);
  return kit.shuffle(scales, scales, lanes);
}

Value DirectMath::mask(Value x, const TileRows &rows, Value block,
                       int64_t vector, tile::MaskOp op) {
  SmallVector<int32_t> token, row;
  int64_t lanes = tokensPerVector * padded;
  for (int64_t lane = 0; lane < lanes; ++lane) {
    token.push_back(vector * tokensPerVector + lane / padded);
    row.push_back(lane % padded);
  }
  OpBuilder &b = kit.b;
  Value tokens = kit.add(kit.splatI32(rows.first, lanes), kit.i32s(token));
  Value rowIds =
      kit.add(kit.splatI32(kit.mul(block, blockRows), lanes), kit.i32s(row));
  SmallVector<int32_t> groups(lanes, int32_t(a.group));
  Value queries = arith::DivUIOp::create(b, kit.loc, rowIds, kit.i32s(groups));
  Value positions = kit.add(kit.splatI32(a.posFirst, lanes), queries);
  return kit.select(
      a.visible(tokens, positions, cast<ReadAttrInterface>(op.getReadAttr())),
      x, kit.constant(-INFINITY, x.getType()));
}

Value DirectMath::applyAll(Value x, ArrayRef<Transform> transforms,
                           const TileRows &rows, Value block, int64_t vector) {
  for (const Transform &transform : transforms) {
    if (isa<tile::ScaleTokensOp>(transform.op))
      x = kit.fmul(x, tokenScales(scaleK, vector));
    else if (auto cap = dyn_cast<tile::SoftcapOp>(transform.op))
      x = a.softcap(x, cap);
    else
      x = mask(x, rows, block, vector, cast<tile::MaskOp>(transform.op));
  }
  return x;
}

void DirectMath::softmaxStep(const TileRows &rows,
                             ArrayRef<Transform> transforms) {
  if (auto stream = scaledBy(transforms))
    a.gatherScales(rows, *stream, scaleK);
  int64_t vectors = a.tileTokens / tokensPerVector;
  int64_t lanes = tokensPerVector * padded;
  auto larger = [&](Value x, Value y) { return kit.fmaxKeepNaN(x, y); };
  auto plus = [&](Value x, Value y) { return kit.fadd(x, y); };
  forBlocks([&](Value block) {
    Value from = scores(rows, block);
    SmallVector<Value> x;
    for (int64_t v = 0; v < vectors; ++v) {
      Value raw = kit.load(kit.vec(lanes), kit.at(from, v * lanes * 4));
      x.push_back(applyAll(raw, transforms, rows, block, v));
    }
    Value largest = x[0];
    for (Value other : ArrayRef(x).drop_front())
      largest = larger(largest, other);
    Value before = kit.load(kit.vec(padded), stats(m, block));
    Value after = larger(before, kit.fold(largest, padded, larger));
    // Nothing seen yet: any finite origin will do, -inf would make NaN.
    Value none = kit.fcmp(arith::CmpFPredicate::OEQ, after,
                          kit.constant(-INFINITY, after.getType()));
    Value origin = kit.select(none, kit.constant(0, after.getType()), after);
    Value rescale = kit.exp2(kit.fsub(before, origin));
    Value wide = kit.repeat(origin, lanes);
    Value sum;
    for (int64_t v = 0; v < vectors; ++v) {
      Value p = kit.exp2(kit.fsub(x[v], wide));
      kit.store(p, kit.at(from, v * lanes * 4));
      sum = sum ? kit.fadd(sum, p) : p;
    }
    Value total = kit.load(kit.vec(padded), stats(l, block));
    total = kit.fma(total, rescale, kit.fold(sum, padded, plus));
    kit.store(after, stats(m, block));
    kit.store(total, stats(l, block));
    kit.store(rescale, tileStats(rows, alpha, block));
  });
}

std::unique_ptr<TileMath> kvc::cpu::makeDirectMath(AttendKernel &kernel) {
  return std::make_unique<DirectMath>(kernel);
}
