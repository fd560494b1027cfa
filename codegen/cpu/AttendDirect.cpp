//===- AttendDirect.cpp - few query rows: state, scores and softmax -------===//
#include "codegen/cpu/DirectMainloop.h"

#include "llvm/Support/MathExtras.h"

#include <cmath>

using namespace mlir;
using namespace kvc;
using namespace kvc::cpu;

DirectMainloop::DirectMainloop(AttendKernel &kernel)
    : a(kernel), kit(a.kit), k(a.k), blocks(kernel),
      blockRows(blocks.blockRows), padded(blocks.padded),
      keys(chooseSource<DirectKeys>(Operand::of(a, a.planK)).make(blocks)),
      values(chooseSource<DirectValues>(Operand::of(a, a.planV)).make(blocks)),
      maskedValues(makeMaskedValues(blocks, *values)) {}

/// As many as keep both streams of memory going; more where products take the
/// longer, for a step costs a store of every accumulator. At least a vector of
/// scores and a group of keys.
int64_t DirectMainloop::stepTokens(int64_t tile) {
  int64_t bytes = values->pace().stepBytes;
  int64_t row = std::max(a.rowBytes(a.planK.codesPlane()),
                         a.rowBytes(a.planV.codesPlane()));
  int64_t step = llvm::bit_floor(uint64_t(std::max<int64_t>(bytes / row, 1)));
  return std::min(tile, std::max({step, kit.lanes, a.schedule.keys}));
}

void DirectMainloop::plan() {
  Scratch &scratch = k.scratch;
  int64_t count = blocks.maxBlocks();
  keys->query = scratch.reserve(count * keys->queryBytes());
  blocks.acc = scratch.reserve(blocks.maxRows * a.dimV * 4);
  for (int64_t *offset :
       {&blocks.m, &blocks.l, &keys->rowFactor, &values->rowUnit})
    *offset = scratch.reserve(count * padded * 4);
  for (int64_t *offset : {&blocks.scaleK, &blocks.scaleV})
    *offset = scratch.reserve(a.tileTokens * 4);
  values->weights = scratch.reserve(count * a.stepTokens * padded * 2);
  planWide(a.planK);
  planWide(a.planV);
}

void DirectMainloop::planWide(const ChannelPlan &plan) {
  if (!plan.isDecoded)
    return;
  for (unsigned index : plan.planes) {
    const PlaneGeometry &plane = a.plane(index);
    bool isNarrow = plane.type.isF16() || plane.type.isBF16() ||
                    (plane.role != kPlaneCodes && !plane.type.isF32());
    bool known = llvm::any_of(
        widePlanes, [&](const WidePlane &wide) { return wide.plane == index; });
    if (index == plan.codesPlane() || !isNarrow || known)
      continue;
    int64_t bytes = a.tileTokens * plane.elements * 4;
    widePlanes.push_back({index, k.scratch.reserve(bytes)});
  }
}

TileRows DirectMainloop::widen(const TileRows &rows, const ChannelPlan &plan) {
  TileRows wider = rows;
  wider.wide.resize(k.cache.planes().size());
  for (const WidePlane &wide : widePlanes) {
    if (!llvm::is_contained(plan.planes, wide.plane))
      continue;
    a.widen(rows, wide.plane, wide.rows);
    wider.wide[wide.plane] = k.scratchAt(wide.rows);
  }
  return wider;
}

void DirectMainloop::loadQuery(double scale) {
  blocks.blocks = kit.ceilDiv(a.rows, blockRows);
  keys->loadQuery(scale);
}

void DirectMainloop::initState() {
  blocks.forBlocks([&](Value block) {
    Type type = kit.vec(padded);
    kit.store(kit.constant(-INFINITY, type), blocks.stats(blocks.m, block));
    kit.store(kit.constant(0, type), blocks.stats(blocks.l, block));
    Value sums = blocks.accumulators(block);
    kit.loop(0, blockRows * a.dimV, 8, [&](Value i) {
      kit.store(kit.constant(0, kit.vec(8)), kit.at(sums, kit.mul(i, 4)));
    });
  });
}

void DirectMainloop::prefetchAhead(const TileRows &rows, unsigned plane,
                                   Value index, int64_t count, int64_t times,
                                   Value offset, int64_t bytes) {
  int64_t stride = a.rowStride(plane), n = rows.ahead.size();
  for (int64_t distance = 0; distance < n; distance += n / times) {
    Value first = kit.anywhere(rows.ahead[distance],
                               kit.mul(kit.sub(index, rows.from), stride));
    for (int64_t i = 0; i < count; ++i)
      a.prefetchBytes(kit.anywhere(first, kit.add(offset, i * stride)), bytes);
  }
}

//===----------------------------------------------------------------------===//
// Scores
//===----------------------------------------------------------------------===//

void DirectMainloop::dot(const TileRows &narrow) {
  TileRows rows = widen(narrow, a.planK);
  int64_t count = rows.masked ? 1 : a.schedule.keys;
  auto [from, to] = blocks.range(rows);
  blocks.forBlocks([&](Value block) {
    Values held = keys->holdQuery(block);
    kit.loop(from, to, count,
             [&](Value first) { dotGroup(rows, block, held, first, count); });
  });
}

/// Scores of `count` tokens from `first` against a block of query rows.
void DirectMainloop::dotGroup(const TileRows &rows, Value block,
                              ArrayRef<Value> held, Value first,
                              int64_t count) {
  unsigned codes = a.planK.codesPlane();
  auto keyRow = [&](int64_t key) {
    Value index = kit.add(first, key);
    prefetchAhead(rows, codes, index, 1, /*times=*/2, kit.i64(0),
                  a.rowBytes(codes));
    return rows.at(index);
  };
  Value result = keys->scores(count, keyRow, block, held);
  kit.store(result, blocks.scores(rows, block, first));
}

//===----------------------------------------------------------------------===//
// Softmax
//===----------------------------------------------------------------------===//

/// The scales of the tokens of score vector `vector`, each repeated for all
/// padded rows.
Value DirectMainloop::tokenScales(int64_t scratch, Value vector) {
  int64_t n = blocks.tokensPerVector;
  Value scales = kit.load(kit.vec(n),
                          kit.at(k.scratchAt(scratch), kit.mul(vector, n * 4)));
  SmallVector<int64_t> lanes;
  for (int64_t lane = 0; lane < n * padded; ++lane)
    lanes.push_back(lane / padded);
  return kit.shuffle(scales, scales, lanes);
}

/// Where the elements of score vector `vector` stand.
ScoreInputs DirectMainloop::inputsOf(const TileRows &rows, Value block,
                                     Value vector) {
  SmallVector<int32_t> token, row;
  int64_t lanes = blocks.scoreLanes();
  for (int64_t lane = 0; lane < lanes; ++lane) {
    token.push_back(lane / padded);
    row.push_back(lane % padded);
  }
  Value first = kit.add(rows.first, kit.mul(vector, blocks.tokensPerVector));
  Value tokens = kit.add(kit.splatI32(first, lanes), kit.i32s(token));
  Value rowIds =
      kit.add(kit.splatI32(kit.mul(block, blockRows), lanes), kit.i32s(row));
  return a.scoreInputs(tokens, rowIds);
}

Value DirectMainloop::applyAll(Value x, ArrayRef<Operation *> transforms,
                               const TileRows &rows, Value block,
                               Value vector) {
  for (Operation *transform : transforms) {
    if (isa<tile::ScaleTokensOp>(transform))
      x = kit.fmul(x, tokenScales(blocks.scaleK, vector));
    else if (auto logits = dyn_cast<tile::LogitsOp>(transform))
      x = a.logits(x, logits, inputsOf(rows, block, vector));
    else
      x = a.mask(x, cast<tile::MaskOp>(transform),
                 inputsOf(rows, block, vector));
  }
  return x;
}

/// What exponents count from. Nothing seen yet: any finite origin will do, -inf
/// would make NaN.
Value DirectMainloop::originOf(Value largest) {
  Value none = kit.fcmp(arith::CmpFPredicate::OEQ, largest,
                        kit.constant(-INFINITY, largest.getType()));
  return kit.select(none, kit.constant(0, largest.getType()), largest);
}

/// The largest of all scores so far; what was summed from another origin is
/// rescaled at once, which after the first tiles is rare.
void DirectMainloop::softmaxStep(const TileRows &rows,
                                 ArrayRef<Operation *> all) {
  SmallVector<Operation *> transforms(all);
  if (!rows.masked)
    llvm::erase_if(transforms, [](Operation *transform) {
      return isa<tile::MaskOp>(transform);
    });
  if (Value scales = scaledBy(transforms))
    a.gatherScales(rows, scales, blocks.scaleK);
  int64_t lanes = blocks.scoreLanes();
  auto larger = [&](Value x, Value y) { return kit.fmaxKeepNaN(x, y); };
  blocks.forBlocks([&](Value block) {
    Value before = kit.load(kit.vec(padded), blocks.stats(blocks.m, block));
    Value low = kit.constant(-INFINITY, kit.vec(lanes));
    Value largest = blocks.forScores(
        rows, {low}, [&](Value vector, int64_t count, ValueRange carried) {
          Value largest;
          for (int64_t i = 0; i < count; ++i) {
            Value v = kit.add(vector, i), at = blocks.scoresOf(rows, block, v);
            Value x = kit.load(kit.vec(lanes), at);
            if (!transforms.empty()) {
              x = applyAll(x, transforms, rows, block, v);
              kit.store(x, at);
            }
            largest = largest ? larger(largest, x) : x;
          }
          return Values{larger(carried[0], largest)};
        })[0];
    Value after = larger(before, kit.fold(largest, padded, larger));
    Value factor = kit.exp2(kit.fsub(before, originOf(after)));
    kit.store(after, blocks.stats(blocks.m, block));
    Value moved = kit.any(kit.fcmp(arith::CmpFPredicate::UNE, factor,
                                   kit.constant(1, factor.getType())));
    kit.when(moved, [&] { rescale(block, factor); });
  });
}

/// Multiplies all that a block has summed by `factor`, row by row.
void DirectMainloop::rescale(Value block, Value factor) {
  Value total = kit.load(kit.vec(padded), blocks.stats(blocks.l, block));
  kit.store(kit.fmul(total, factor), blocks.stats(blocks.l, block));
  Value sums = blocks.accumulators(block);
  for (int64_t row = 0; row < blockRows; ++row) {
    Value wide = kit.splat(kit.extract(factor, row), 8);
    kit.loop(0, a.dimV, 8, [&](Value channel) {
      Value at = kit.at(kit.at(sums, row * a.dimV * 4), kit.mul(channel, 4));
      kit.store(kit.fmul(kit.load(kit.vec(8), at), wide), at);
    });
  }
}

std::unique_ptr<Mainloop> kvc::cpu::makeDirectMainloop(AttendKernel &kernel) {
  return std::make_unique<DirectMainloop>(kernel);
}
