//===- AttendFma.cpp - products by f32 multiply-adds ----------------------===//
//
// The general path: any codec, any model dtype, every product in f32. For
// scores a lane has one token and some of its channels; for the output it has
// some channels of all rows. Rows of q, as f32, and the probabilities of a step
// are in shared memory.
//
//===----------------------------------------------------------------------===//
#include "codegen/nvptx/Attend.h"
#include "codegen/nvptx/KitFunctions.h"

#include <cmath>

using namespace mlir;
using namespace kvc;
using namespace kvc::nvptx;
using arith::CmpFPredicate;
using arith::CmpIPredicate;

namespace {

/// Channels of V that a lane dequantizes at once.
constexpr int64_t kBlock = 4;

class FmaMainloop : public Mainloop {
public:
  explicit FmaMainloop(AttendKernel &a)
      : a(a), kit(a.kit), lanesPerToken(kWarpLanes / a.tokens),
        blocks(llvm::divideCeil(a.dimV, kBlock * kWarpLanes)) {}

  void plan() override {
    query = a.k.shared.reserve(a.rows * a.dimK * 4);
    probabilities = a.k.shared.reserve(a.warps * a.rows * a.tokens * 4);
  }
  void beginWorkTile(const WorkTile &workTile) override;
  Values initialState() override;
  int64_t subStepTokens() override { return a.tokens; }
  Values step(const Step &step, ValueRange state) override;
  void epilogue(ValueRange state, Shared stats, Shared sums) override;

private:
  Values scores(const Step &step);
  Values softmax(const Step &step, Values scores, MutableArrayRef<Value> m,
                 MutableArrayRef<Value> l);
  Value dequantize(Operand &operand, Shared from, int64_t channels);
  Value addProduct(Value q, Value x, Value sum);

  AttendKernel &a;
  Kit &kit;
  int64_t lanesPerToken;
  int64_t blocks;                     ///< of V per lane and row
  int64_t query, probabilities;       ///< in shared memory
  llvm::SmallVector<RowPlace> places; ///< of each row
};

/// All threads that multiply copy q; it is read after the barrier.
void FmaMainloop::beginWorkTile(const WorkTile &) {
  for (int64_t row = 0; row < a.rows; ++row) {
    Value from = a.queryRow(kit.i32(row));
    Shared to = a.k.at(query + row * a.dimK * 4);
    kit.loop(a.thread, kit.i32(a.dimK / 8), kit.i32(a.warps * kWarpLanes),
             [&](Value block) {
               Value x = kit.loadAsF32(
                   a.k.dtype,
                   kit.ptr(from, kit.mul(block, 8 * a.k.dtypeBytes())), 8);
               Value at = kit.add(to.base, kit.mul(block, 32));
               for (int64_t half = 0; half < 2; ++half) {
                 Values lanes;
                 for (int64_t i = 0; i < 4; ++i)
                   lanes.push_back(kit.extract(x, 4 * half + i));
                 kit.storeShared(kit.concat(lanes),
                                 {at, to.offset + 16 * half});
               }
             });
  }
  a.barrierOfReaders();
  places.clear();
  for (int64_t row = 0; row < a.rows; ++row)
    places.push_back(a.place(kit.i32(row)));
}

/// m and l of each row, the same in all lanes; then sums [rows][blocks][4].
Values FmaMainloop::initialState() {
  Values state(a.rows, kit.f32(-INFINITY));
  state.append(a.rows, kit.f32(0));
  state.append(a.rows * blocks * kBlock, kit.f32(0));
  return state;
}

/// `channels` codes at `from`, as f32, without the scale.
Value FmaMainloop::dequantize(Operand &operand, Shared from, int64_t channels) {
  auto load = [&](int64_t byte, VectorType type) {
    return kit.loadShared(type, from + byte);
  };
  return CodeConversion{operand.code(), channels}
      .emit(kit.b, kit.kernel, load, channels)
      .front();
}

/// sum + x y, or whatever takes the place of the product.
Value FmaMainloop::addProduct(Value q, Value x, Value sum) {
  if (!a.body.contract)
    return kit.fma(q, x, sum);
  KitFunctions functions(a.k, a.workTile().sequence);
  Value scaled = kit.fmul(q, kit.f32(a.body.scale));
  return kit.fadd(sum, emitElementRegion(kit.b, kit.kernel,
                                         a.body.contract.getBody(), {scaled, x},
                                         functions));
}

/// Of this lane's token with each row.
Values FmaMainloop::scores(const Step &step) {
  Value token = kit.rem(a.lane, a.tokens);
  Value part = kit.div(a.lane, a.tokens);
  Value row = kit.add(step.k.base, kit.mul(token, a.strideK));
  Shared q = a.k.at(query);
  Values sums(a.rows, kit.f32(0));
  sums = kit.loop(
      part, kit.i32(a.dimK / kBlock), kit.i32(lanesPerToken), sums,
      [&](Value block, ValueRange carried) {
        Values next(carried);
        Value at = kit.add(
            row, kit.mul(block, kBlock * int64_t(a.body.k.codeBytes())));
        Value x = dequantize(a.body.k, {at, step.k.offset}, kBlock);
        Value y = kit.add(q.base, kit.mul(block, kBlock * 4));
        for (int64_t r = 0; r < a.rows; ++r) {
          Value qs = kit.loadShared(kit.vec(kBlock, kit.f32()),
                                    {y, q.offset + r * a.dimK * 4});
          for (int64_t i = 0; i < kBlock; ++i)
            next[r] =
                addProduct(kit.extract(qs, i), kit.extract(x, i), next[r]);
        }
        return next;
      });
  for (Value &sum : sums)
    for (int64_t mask = a.tokens; mask < kWarpLanes; mask *= 2)
      sum = kit.fadd(sum, kit.shflXor(sum, mask));
  return sums;
}

/// Probabilities of this lane's token; m and l move on. The factors for what
/// was summed before come back behind them.
Values FmaMainloop::softmax(const Step &step, Values s,
                            MutableArrayRef<Value> m,
                            MutableArrayRef<Value> l) {
  Value token = kit.add(step.first, kit.rem(a.lane, a.tokens));
  Value scaleK, scaleV;
  if (a.body.scalesK)
    scaleK = step.scaleK.front();
  if (a.body.scalesV)
    scaleV = step.scaleV.front();
  ArrayRef<Operation *> chainS = a.body.scores, chainP = a.body.probabilities;
  Values scalesS = a.scalesOfChain(chainS, step.first);
  Values scalesP = a.scalesOfChain(chainP, step.first);
  Values p, factors;
  for (int64_t r = 0; r < a.rows; ++r) {
    Value seen = a.visible(token, places[r]);
    Value logit = a.body.contract
                      ? s[r] // of scaled rows of q
                      : a.transform(s[r], scaleK, token, 0, places[r]);
    logit = a.applyChain(logit, chainS, scalesS, token, places[r]);
    Value x = kit.select(seen, logit, kit.f32(-INFINITY));
    Value largest = x;
    for (int64_t mask = 1; mask < a.tokens; mask *= 2)
      largest = kit.fmax(largest, kit.shflXor(largest, mask));
    largest = kit.fmax(largest, m[r]);
    Value none = kit.fcmp(CmpFPredicate::OEQ, largest, kit.f32(-INFINITY));
    Value base = kit.select(none, kit.f32(0), largest);
    Value factor = kit.ex2(kit.fsub(m[r], base));
    Value mine = kit.ex2(kit.fsub(x, base));
    Value sum = mine;
    for (int64_t mask = 1; mask < a.tokens; mask *= 2)
      sum = kit.fadd(sum, kit.shflXor(sum, mask));
    l[r] = kit.fma(l[r], factor, sum);
    m[r] = largest;
    // What nobody sees may have any scale.
    if (scaleV) {
      Value hidden = kit.fcmp(CmpFPredicate::OEQ, mine, kit.f32(0));
      mine = kit.select(hidden, kit.f32(0), kit.fmul(mine, scaleV));
    }
    if (!chainP.empty()) {
      Value weight = a.applyChain(mine, chainP, scalesP, token, places[r]);
      mine = kit.select(seen, weight, kit.f32(0));
    }
    p.push_back(mine);
    factors.push_back(factor);
  }
  p.append(factors);
  return p;
}

Values FmaMainloop::step(const Step &step, ValueRange values) {
  Values state(values);
  MutableArrayRef<Value> all(state);
  Values p = softmax(step, scores(step), all.take_front(a.rows),
                     all.slice(a.rows, a.rows));
  MutableArrayRef<Value> sums = all.drop_front(2 * a.rows);
  for (auto [i, sum] : llvm::enumerate(sums))
    sum = kit.fmul(sum, p[a.rows + i / (blocks * kBlock)]);
  // The lanes that have a token's first channels write its probabilities.
  int64_t rowBytes = a.tokens * 4;
  Shared own = a.k.at(probabilities, kit.mul(a.warp, a.rows * rowBytes));
  kit.op(Ptx::WarpSync, {});
  kit.when(kit.less(a.lane, kit.i32(a.tokens)), [&] {
    for (int64_t r = 0; r < a.rows; ++r)
      kit.storeShared(p[r], {kit.add(own.base, kit.mul(a.lane, 4)),
                             own.offset + r * rowBytes});
  });
  kit.op(Ptx::WarpSync, {});
  Values results = kit.loop(
      kit.i32(0), kit.i32(a.tokens), kit.i32(1), ValueRange(sums),
      [&](Value token, ValueRange carried) {
        Values next(carried);
        Value position = kit.add(step.first, token);
        Value row = kit.add(step.v.base, kit.mul(token, a.strideV));
        Values weights;
        for (int64_t r = 0; r < a.rows; ++r)
          weights.push_back(
              kit.loadShared(kit.f32(), {kit.add(own.base, kit.mul(token, 4)),
                                         own.offset + r * rowBytes}));
        for (int64_t i = 0; i < blocks; ++i) {
          // Lanes beyond the row read its first block again.
          Value block = kit.add(a.lane, i * kWarpLanes);
          Value there = kit.less(block, kit.i32(a.dimV / kBlock));
          block = kit.select(there, block, kit.i32(0));
          Value at = kit.add(
              row, kit.mul(block, kBlock * int64_t(a.body.v.codeBytes())));
          Value x = dequantize(a.body.v, {at, step.v.offset}, kBlock);
          for (int64_t r = 0; r < a.rows; ++r) {
            // A token that the row does not see may be infinite or NaN.
            Value seen;
            if (step.isFullBlock)
              seen = a.visible(position, places[r]);
            for (int64_t c = 0; c < kBlock; ++c) {
              Value &sum = next[(r * blocks + i) * kBlock + c];
              Value more = kit.fma(weights[r], kit.extract(x, c), sum);
              sum = seen ? kit.select(seen, more, sum) : more;
            }
          }
        }
        return next;
      });
  llvm::copy(results, sums.begin());
  return state;
}

void FmaMainloop::epilogue(ValueRange state, Shared stats, Shared sums) {
  Value first = kit.cmp(CmpIPredicate::eq, a.lane, kit.i32(0));
  kit.when(first, [&] {
    for (int64_t r = 0; r < a.rows; ++r) {
      kit.storeShared(state[r], stats + 8 * r);
      kit.storeShared(state[a.rows + r], stats + (8 * r + 4));
    }
  });
  ValueRange o = state.drop_front(2 * a.rows);
  for (int64_t i = 0; i < blocks; ++i) {
    Value block = kit.add(a.lane, i * kWarpLanes);
    kit.when(kit.less(block, kit.i32(a.dimV / kBlock)), [&] {
      Value at = kit.add(sums.base, kit.mul(block, kBlock * 4));
      for (int64_t r = 0; r < a.rows; ++r) {
        Values part(o.slice((r * blocks + i) * kBlock, kBlock));
        kit.storeShared(kit.concat(part), {at, sums.offset + r * a.sumStride});
      }
    });
  }
}

} // namespace

std::unique_ptr<Mainloop> kvc::nvptx::makeFmaMainloop(AttendKernel &kernel) {
  return std::make_unique<FmaMainloop>(kernel);
}
