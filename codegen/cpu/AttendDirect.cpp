//===- AttendDirect.cpp - few query rows: state and softmax ---------------===//
#include "codegen/cpu/DirectMainloop.h"

#include <cmath>

using namespace mlir;
using namespace kvc;
using namespace kvc::cpu;

DirectMainloop::DirectMainloop(AttendKernel &kernel)
    : a(kernel), kit(a.kit), k(a.k), blockRows(a.schedule.rows),
      padded(llvm::PowerOf2Ceil(blockRows)),
      tokensPerVector(std::clamp<int64_t>(kit.lanes / padded, 1, a.tileTokens)),
      maxRows(llvm::alignTo(a.schedule.queries * a.group, blockRows)) {
  while (a.tileTokens % tokensPerVector)
    tokensPerVector /= 2;
  // By what a product reads, be it K's rows or V's.
  auto form = [&](const ChannelPlan &plan) {
    Type code = plan.code;
    if (!a.schedule.dot || !k.target().hasDot(code, k.dtype))
      return Form::F32;
    return code.isBF16() ? Form::BF16 : Form::I8;
  };
  formK = form(a.planK);
  if (a.tileTokens % 2 == 0)
    formV = form(a.planV);
}

/// As many as keep both streams of memory going; more where products take the
/// longer, for a step costs a store of every accumulator. At least a vector of
/// scores and a group of keys.
int64_t DirectMainloop::stepTokens(int64_t tile) {
  int64_t bytes = formV == Form::BF16 ? 4096 : 8192;
  int64_t row = std::max(a.rowBytes(a.codesK), a.rowBytes(a.codesV));
  int64_t step = llvm::bit_floor(uint64_t(std::max<int64_t>(bytes / row, 1)));
  return std::min(tile, std::max({step, kit.lanes, a.schedule.keys}));
}

void DirectMainloop::plan() {
  Scratch &scratch = k.scratch;
  q = scratch.reserve(maxBlocks() * queryBytes());
  acc = scratch.reserve(maxRows * a.dimV * 4);
  for (int64_t *offset : {&m, &l, &queryFactor, &pUnit})
    *offset = scratch.reserve(maxBlocks() * padded * 4);
  for (int64_t *offset : {&scaleK, &scaleV})
    *offset = scratch.reserve(a.tileTokens * 4);
  p = scratch.reserve(maxBlocks() * a.stepTokens * padded * 2);
}

void DirectMainloop::initState() {
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
// Softmax
//===----------------------------------------------------------------------===//

/// The scales of the tokens of score vector `vector`, each repeated for all
/// padded rows.
Value DirectMainloop::tokenScales(int64_t scratch, Value vector) {
  int64_t n = tokensPerVector;
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
  int64_t lanes = tokensPerVector * padded;
  for (int64_t lane = 0; lane < lanes; ++lane) {
    token.push_back(lane / padded);
    row.push_back(lane % padded);
  }
  Value first = kit.add(rows.first, kit.mul(vector, tokensPerVector));
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
      x = kit.fmul(x, tokenScales(scaleK, vector));
    else if (auto logits = dyn_cast<tile::LogitsOp>(transform))
      x = a.logits(x, logits, inputsOf(rows, block, vector));
    else
      x = a.mask(x, cast<tile::MaskOp>(transform),
                 inputsOf(rows, block, vector));
  }
  return x;
}

/// Carries values over the vectors of scores of a block that `rows` holds,
/// [token][padded], a few at a time: `body` gets the first one's index and how
/// many there are.
DirectMainloop::Values DirectMainloop::forScores(
    const TileRows &rows, Values init,
    llvm::function_ref<Values(Value, int64_t, ValueRange)> body) {
  int64_t vectors = a.countRows(rows) / tokensPerVector;
  Value first = rows.from ? kit.div(rows.from, tokensPerVector) : kit.i64(0);
  if (vectors <= 8)
    return body(first, vectors, init);
  return kit.loop(first, kit.add(first, vectors), 4, init,
                  [&](Value vector, ValueRange carried) {
                    return body(vector, 4, carried);
                  });
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
    a.gatherScales(rows, scales, scaleK);
  int64_t lanes = tokensPerVector * padded;
  auto larger = [&](Value x, Value y) { return kit.fmaxKeepNaN(x, y); };
  forBlocks([&](Value block) {
    Value before = kit.load(kit.vec(padded), stats(m, block));
    Value low = kit.constant(-INFINITY, kit.vec(lanes));
    Value largest = forScores(
        rows, {low}, [&](Value vector, int64_t count, ValueRange carried) {
          Value largest;
          for (int64_t i = 0; i < count; ++i) {
            Value v = kit.add(vector, i), at = scoresOf(rows, block, v);
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
    kit.store(after, stats(m, block));
    Value moved = kit.any(kit.fcmp(arith::CmpFPredicate::UNE, factor,
                                   kit.constant(1, factor.getType())));
    kit.when(moved, [&] { rescale(block, factor); });
  });
}

/// Multiplies all that a block has summed by `factor`, row by row.
void DirectMainloop::rescale(Value block, Value factor) {
  Value total = kit.load(kit.vec(padded), stats(l, block));
  kit.store(kit.fmul(total, factor), stats(l, block));
  Value sums = blockAt(acc, block, blockRows * a.dimV * 4);
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
