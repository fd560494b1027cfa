//===- AttendMmaNonFinite.cpp - V that is no number, and hidden tokens ----===//
#include "codegen/nvptx/AttendMma.h"

#include <cmath>

using namespace mlir;
using namespace kvc;
using namespace kvc::nvptx;
using arith::CmpFPredicate;
using arith::CmpIPredicate;

/// The word with halves that are infinite or NaN replaced by 0; `bad` collects
/// the bits of those halves. Not whether there are any: of each pair of so many
/// comparisons LLVM asks what one says of the other, which takes most of the
/// compile time that it has for a kernel.
Value MmaMainloop::clean(Value word, Value &bad) {
  int64_t bits = operandV->nonFiniteBits();
  Value kept = word;
  for (int64_t shift : {0, 16}) {
    Value field = kit.and_(word, int32_t(bits << shift));
    Value special =
        kit.cmp(CmpIPredicate::eq, field, kit.i32(int32_t(bits << shift)));
    Value without = kit.and_(kept, int32_t(shift ? 0xffff : 0xffff0000));
    kept = kit.select(special, without, kept);
  }
  Value lost = kit.xor_(word, kept);
  bad = bad ? kit.or_(bad, lost) : lost;
  return kept;
}

/// Where some rows do not see some tokens: p is 0 there, but 0 times an
/// infinity or a NaN is a NaN. So elements of V that are no numbers stay out of
/// the product, and are added to the rows that do see them.
void MmaMainloop::accumulateMasked(const Step &step, const Values &p,
                                   State &state) {
  Value bad;
  accumulate(step, p, state, [&](Value &word) { word = clean(word, bad); });
  Value any =
      kit.cmp(CmpIPredicate::ne, kit.op1(Ptx::VoteAny, bad), kit.i32(0));
  state.o = kit.choose(
      any,
      [&] {
        State next = state;
        addNonFinite(step, p, next);
        return next.o;
      },
      [&] { return state.o; });
}

/// P of a row slot and a token (i32, of the step), from the lane that has it.
Value MmaMainloop::weightOf(Value token, int64_t row, const Values &p) {
  bool inN = side == Rows::InM; // tokens
  Value within = kit.rem(token, 8), tile = kit.div(token, 8);
  Value lane = inN ? kit.add(kit.mul(groupId, 4), kit.div(within, 2))
                   : kit.add(kit.mul(within, 4), threadInGroup);
  // Lanes whose own value is another token's shuffle all the same.
  Value slot = inN ? kit.add(kit.mul(tile, 2), kit.rem(within, 2)) : tile;
  Value mine = p[atToken(row, 0)];
  for (int64_t i = 1; i < tokenSlots; ++i)
    mine = kit.select(kit.cmp(CmpIPredicate::eq, slot, kit.i32(i)),
                      p[atToken(row, i)], mine);
  return kit.bitcast(kit.op1(Ptx::ShflIdx, {mine, lane}), kit.f32());
}

void MmaMainloop::addNonFinite(const Step &step, const Values &p,
                               State &state) {
  // One token after the other.
  auto round = [&](Value token, ValueRange carried) {
    Values o(carried), weights, seen;
    Value from = kit.add(step.v.base, kit.mul(token, a.strideV));
    for (int64_t row = 0; row < rowSlots; ++row) {
      weights.push_back(weightOf(token, row, p));
      seen.push_back(a.visible(kit.add(step.first, token), places[row]));
    }
    for (int64_t channel = 0; channel < channelSlots; ++channel) {
      Value x = operandV->element({from, step.v.offset},
                                  channelInChunk(channel), chunkOf(channel));
      Value size = LLVM::FAbsOp::create(kit.b, kit.kernel, x);
      Value special =
          kit.not_(kit.fcmp(CmpFPredicate::OLT, size, kit.f32(INFINITY)));
      for (int64_t row = 0; row < rowSlots; ++row) {
        Value &sum = o[atChannel(row, channel)];
        sum = kit.select(kit.and_(seen[row], special),
                         kit.fma(weights[row], x, sum), sum);
      }
    }
    return o;
  };
  state.o =
      kit.loop(kit.i32(0), kit.i32(step.tokens), kit.i32(1), state.o, round);
}
