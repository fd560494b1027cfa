//===- AttendMma.cpp - attention on tensor cores: softmax and state -------===//
#include "codegen/nvptx/AttendMma.h"

#include <cfloat>

using namespace mlir;
using namespace kvc;
using namespace kvc::nvptx;
using arith::CmpFPredicate;
using arith::CmpIPredicate;

/// A row's reference follows its largest logit only when that is this much (in
/// powers of two) above it: probabilities of up to 2^kRescaleThreshold cost no
/// precision, and most steps then rescale nothing.
static constexpr double kRescaleThreshold = 8;

/// Of a row that has seen nothing: below any logit, yet what is hidden (-inf)
/// is below it.
static constexpr double kNoBase = -FLT_MAX;

/// Units of O, as bits of f32: of 2^-126 and 2^126.
static constexpr int64_t kLeastUnit = 0x00800000, kLargestUnit = 0x7e800000;

/// 1 / the power of two with these bits.
static Value inverseOf(Kit &kit, Value unit) {
  return kit.bitcast(kit.sub(kit.i32(0x7f000000), unit), kit.f32());
}

MmaMainloop::MmaMainloop(AttendKernel &a, Rows side, int64_t rows)
    : a(a), kit(a.kit), side(side),
      operandK(operandOfK(a.workload, a.schedule)->make(a)),
      operandV(operandOfV(a.workload, a.schedule)->make(a)),
      kSteps(operandK->kSteps()), chunkChannels(operandV->chunkChannels()),
      rowSlots(side == Rows::InM ? rows / 8 : rows / 4),
      channelSlots(int64_t(llvm::alignTo(a.dimV, chunkChannels)) / 16 *
                   (side == Rows::InM ? 4 : 2)) {
  deferScale = !a.body.logits && a.body.scale > 0 &&
               (operandK->scalesQuery() || a.body.scale <= 1);
}

OperandSourceK::Query MmaMainloop::queryOf(Value row) {
  OperandSourceK::Query query = operandK->query(a.queryRow(row), threadInGroup);
  if (query.factor && deferScale)
    query.factor = kit.fmul(query.factor, kit.f32(a.body.scale));
  return query;
}

void MmaMainloop::multiply(Ptx mma, ArrayRef<Value> x, ArrayRef<Value> y,
                           MutableArrayRef<Value> sum) {
  Values next = kit.op(mma, {x[0], x[1], x[2], x[3], y[0], y[1], sum[0], sum[1],
                             sum[2], sum[3]});
  llvm::copy(next, sum.begin());
}

void MmaMainloop::beginWorkTile(const WorkTile &) {
  groupId = kit.div(a.lane, 4);
  threadInGroup = kit.rem(a.lane, 4);
  q.clear();
  rowFactor.clear();
  places.clear();
  for (int64_t row = 0; row < rowSlots; ++row)
    places.push_back(a.place(rowOf(row)));
  loadQuery();
}

/// A score's logit less the row's base, in powers of two.
Value MmaMainloop::exponentOf(Value score, int64_t row, const State &state) {
  Value base = state.base[row];
  if (!deferScale)
    return kit.fsub(score, base);
  Value minus = LLVM::FNegOp::create(kit.b, kit.kernel, base);
  return kit.fma(score, factorOf(row), minus);
}

/// What scores are times where `deferScale`.
Value MmaMainloop::factorOf(int64_t row) {
  return rowFactor.empty() ? kit.f32(a.body.scale) : rowFactor[row];
}

Value MmaMainloop::rowOf(int64_t slot) {
  if (side == Rows::InN)
    return placeInN(slot);
  return kit.add(placeInM(slot), a.firstRow());
}

ArrayRef<int64_t> MmaMainloop::tokenLanes() const {
  static constexpr int64_t kInM[] = {4, 8, 16}, kInN[] = {1, 2};
  return side == Rows::InM ? ArrayRef<int64_t>(kInN) : ArrayRef<int64_t>(kInM);
}

//===----------------------------------------------------------------------===//
// State
//===----------------------------------------------------------------------===//

MmaMainloop::State MmaMainloop::unpack(ValueRange values) const {
  State state;
  auto take = [&](size_t n) {
    Values part(values.take_front(n));
    values = values.drop_front(n);
    return part;
  };
  state.base = take(rowSlots);
  state.l = take(rowSlots);
  if (a.body.scalesV)
    state.unit = take(rowSlots);
  state.o = take(values.size());
  return state;
}

Values MmaMainloop::pack(const State &state) const {
  Values values;
  for (const Values *part : {&state.base, &state.l, &state.unit, &state.o})
    values.append(*part);
  return values;
}

Values MmaMainloop::initialState() {
  State state;
  state.base.assign(rowSlots, kit.f32(kNoBase));
  state.l.assign(rowSlots, kit.f32(0));
  if (a.body.scalesV)
    state.unit.assign(rowSlots, kit.i32(kLeastUnit));
  state.o.assign(rowSlots * channelSlots, kit.f32(0));
  return pack(state);
}

//===----------------------------------------------------------------------===//
// A step
//===----------------------------------------------------------------------===//

Values MmaMainloop::step(const Step &step, ValueRange values) {
  tokenSlots = side == Rows::InM ? step.tokens / 4 : step.tokens / 8;
  State state = unpack(values);
  Values s = transformed(step, scores(step));
  if (step.isFullBlock)
    s = kit.choose(
        step.isFullBlock, [&] { return s; }, [&] { return masked(step, s); });
  rescale(s, a.body.scalesV ? unitsOf(step) : Values(), state);
  Values p = probabilities(s, state);
  if (a.body.scalesV)
    p = scaleV(step, p, state);
  if (!operandV->nonFiniteBits() || !step.isFullBlock) {
    accumulate(step, p, state, nullptr);
    return pack(state);
  }
  state.o = kit.choose(
      step.isFullBlock,
      [&] {
        State whole = state;
        accumulate(step, p, whole, nullptr);
        return whole.o;
      },
      [&] {
        State partly = state;
        accumulateMasked(step, p, partly);
        return partly.o;
      });
  return pack(state);
}

Value MmaMainloop::laneScale(ArrayRef<Value> scales, int64_t token) {
  Value from = tokenOf(token);
  int64_t which = 0;
  if (scales.size() > 1) {
    // Slots are in order of the tokens that they have across lanes.
    which = token * int64_t(scales.size()) / tokenSlots;
    from = kit.add(from, -which * kWarpLanes);
  }
  return kit.bitcast(kit.op1(Ptx::ShflIdx, {scales[which], from}), kit.f32());
}

Value MmaMainloop::sees(const Step &step, int64_t row, int64_t token) {
  return a.visible(kit.add(step.first, tokenOf(token)), places[row]);
}

/// Logits in powers of two, unless `deferScale`: then without the row's factor.
Values MmaMainloop::transformed(const Step &step, Values s) {
  for (int64_t token = 0; token < tokenSlots; ++token) {
    Value scale;
    if (a.body.scalesK)
      scale = laneScale(step.scaleK, token);
    for (int64_t row = 0; row < rowSlots; ++row) {
      Value &x = s[atToken(row, token)];
      if (!deferScale && !rowFactor.empty())
        x = kit.fmul(x, rowFactor[row]);
      if (scale)
        x = kit.fmul(x, scale);
    }
  }
  if (deferScale)
    return s;
  auto logits = [&](bool near) { return this->logits(step, s, near); };
  std::optional<double> limit = a.nearLimit();
  if (!limit)
    return logits(/*near=*/false);
  // Under a softcap most scores are far below the cap: one branch for all of
  // the step's. Both sides give the same bits where both may be taken.
  Value largest;
  for (Value x : s) {
    Value size = LLVM::FAbsOp::create(kit.b, kit.kernel, x);
    largest = largest ? kit.fmax(largest, size) : size;
  }
  Value far = kit.fcmp(CmpFPredicate::UGE, largest, kit.f32(*limit));
  return kit.choose(
      anyLane(far), [&] { return logits(/*near=*/false); },
      [&] { return logits(/*near=*/true); });
}

Values MmaMainloop::logits(const Step &step, Values s, bool near) {
  Value first = kit.add(step.first, tokenOf(0));
  for (int64_t token = 0; token < tokenSlots; ++token)
    for (int64_t row = 0; row < rowSlots; ++row) {
      Value &x = s[atToken(row, token)];
      x = a.transform(x, /*tokenScale=*/{}, first, tokenAfter(token),
                      places[row], near);
    }
  return s;
}

/// Whether `condition` holds on any lane, the same for all.
Value MmaMainloop::anyLane(Value condition) {
  Value word = arith::ExtUIOp::create(kit.b, kit.kernel, kit.i32(), condition);
  return kit.cmp(CmpIPredicate::ne, kit.op1(Ptx::VoteAny, word), kit.i32(0));
}

Values MmaMainloop::masked(const Step &step, Values s) {
  for (int64_t row = 0; row < rowSlots; ++row)
    for (int64_t token = 0; token < tokenSlots; ++token) {
      Value &x = s[atToken(row, token)];
      x = kit.select(sees(step, row, token), x, kit.f32(-INFINITY));
    }
  return s;
}

/// A row's value from those of the lanes that have its other tokens.
Value MmaMainloop::overLanes(Value x,
                             llvm::function_ref<Value(Value, Value)> join) {
  for (int64_t mask : tokenLanes())
    x = join(x, kit.shflXor(x, mask));
  return x;
}

/// Of the step's tokens, for each row slot.
Values MmaMainloop::rowMax(const Values &s) {
  Values largest;
  auto join = [&](Value x, Value y) { return kit.fmax(x, y); };
  for (int64_t row = 0; row < rowSlots; ++row) {
    Value x = s[atToken(row, 0)];
    for (int64_t token = 1; token < tokenSlots; ++token)
      x = kit.fmax(x, s[atToken(row, token)]);
    largest.push_back(overLanes(x, join));
  }
  return largest;
}

/// Moves the references of rows whose logits have grown, and the units of rows
/// that have seen larger scales of V. What it does to a row depends on that row
/// alone, whatever makes the warp do it.
void MmaMainloop::rescale(const Values &s, const Values &units, State &state) {
  Values largest = rowMax(s), grown, coarser;
  Value any;
  auto note = [&](Values &list, Value changed) {
    list.push_back(changed);
    any = any ? kit.or_(any, changed) : changed;
  };
  for (int64_t row = 0; row < rowSlots; ++row) {
    Value above = exponentOf(largest[row], row, state);
    note(grown,
         kit.fcmp(CmpFPredicate::OGT, above, kit.f32(kRescaleThreshold)));
  }
  for (auto [x, unit] : llvm::zip_first(units, state.unit))
    note(coarser, kit.less(unit, x));
  Value move = anyLane(any);
  auto moved = [&] {
    State next = state;
    for (int64_t row = 0; row < rowSlots; ++row) {
      Value &base = next.base[row];
      Value logit =
          deferScale ? kit.fmul(largest[row], factorOf(row)) : largest[row];
      base = kit.select(grown[row], logit, base);
      Value factor = kit.ex2(kit.fsub(state.base[row], base));
      factor = kit.select(grown[row], factor, kit.f32(1));
      next.l[row] = kit.fmul(next.l[row], factor);
      if (!units.empty()) {
        Value &unit = next.unit[row];
        unit = kit.select(coarser[row], units[row], unit);
        Value before = kit.bitcast(state.unit[row], kit.f32());
        factor = kit.fmul(factor, kit.fmul(before, inverseOf(kit, unit)));
      }
      for (int64_t channel = 0; channel < channelSlots; ++channel) {
        Value &o = next.o[atChannel(row, channel)];
        o = kit.fmul(o, factor);
      }
    }
    return pack(next);
  };
  Values values = kit.choose(move, moved, [&] { return pack(state); });
  state = unpack(values);
}

/// p = 2^(s - base), and l.
Values MmaMainloop::probabilities(const Values &s, State &state) {
  Values p(s.size());
  for (int64_t row = 0; row < rowSlots; ++row)
    for (int64_t token = 0; token < tokenSlots; ++token) {
      size_t index = atToken(row, token);
      p[index] = kit.ex2(exponentOf(s[index], row, state));
      state.l[row] = kit.fadd(state.l[row], p[index]);
    }
  return p;
}

//===----------------------------------------------------------------------===//
// Scales of V
//===----------------------------------------------------------------------===//

/// Of each row: the power of two, as bits, that is just below the largest scale
/// of the step's tokens that it sees. A scale that is no number (its rows are
/// lost) makes it any.
Values MmaMainloop::unitsOf(const Step &step) {
  auto larger = [&](Value x, Value y) -> Value {
    return arith::MaxUIOp::create(kit.b, kit.kernel, x, y);
  };
  auto unitOf = [&](Value bits) {
    return kit.min(kit.and_(bits, 0x7f800000), kit.i32(kLargestUnit));
  };
  auto bitsOf = [&](Value scale) { return kit.bitcast(scale, kit.i32()); };
  auto whole = [&] {
    Value largest = bitsOf(step.scaleV.front());
    for (Value scale : ArrayRef(step.scaleV).drop_front())
      largest = larger(largest, bitsOf(scale));
    return Values(rowSlots, unitOf(kit.op1(Ptx::ReduxMaxU32, largest)));
  };
  auto partly = [&] {
    Values units;
    for (int64_t row = 0; row < rowSlots; ++row) {
      Value largest;
      for (int64_t token = 0; token < tokenSlots; ++token) {
        Value bits =
            kit.select(sees(step, row, token),
                       bitsOf(laneScale(step.scaleV, token)), kit.i32(0));
        largest = largest ? larger(largest, bits) : bits;
      }
      units.push_back(unitOf(overLanes(largest, larger)));
    }
    return units;
  };
  return step.isFullBlock ? kit.choose(step.isFullBlock, whole, partly)
                          : whole();
}

/// p times the token's scale, in units of a power of two that keeps the largest
/// scale that the row has seen below 2: f16 has few exponents. Which unit a row
/// has depends on the tokens that it sees alone.
Values MmaMainloop::scaleV(const Step &step, const Values &p,
                           const State &state) {
  Values scaled = p, inverse;
  for (Value unit : state.unit)
    inverse.push_back(inverseOf(kit, unit));
  for (int64_t token = 0; token < tokenSlots; ++token) {
    Value scale = laneScale(step.scaleV, token);
    for (int64_t row = 0; row < rowSlots; ++row) {
      Value &x = scaled[atToken(row, token)];
      x = kit.fmul(x, kit.fmul(scale, inverse[row]));
      // A scale that the row does not see may be anything.
      if (step.isFullBlock)
        x = kit.select(sees(step, row, token), x, kit.f32(0));
    }
  }
  return scaled;
}

//===----------------------------------------------------------------------===//
// The end
//===----------------------------------------------------------------------===//

void MmaMainloop::epilogue(ValueRange values, Shared stats, Shared sums) {
  State state = unpack(values);
  auto sum = [&](Value x, Value y) { return kit.fadd(x, y); };
  Value token = side == Rows::InM ? threadInGroup : groupId;
  Value first = kit.cmp(CmpIPredicate::eq, token, kit.i32(0));
  for (int64_t slot = 0; slot < rowSlots; ++slot) {
    Value l = overLanes(state.l[slot], sum);
    Value none =
        kit.fcmp(CmpFPredicate::OEQ, state.base[slot], kit.f32(kNoBase));
    Value m = kit.select(none, kit.f32(-INFINITY), state.base[slot]);
    Value row = rowOf(slot);
    Value at = kit.add(stats.base, kit.mul(row, 8));
    kit.when(first, [&] {
      kit.storeShared(m, {at, stats.offset});
      kit.storeShared(l, {at, stats.offset + 4});
    });
    Value unit;
    if (a.body.scalesV)
      unit = kit.bitcast(state.unit[slot], kit.f32());
    Value to = kit.add(sums.base, kit.mul(row, a.sumStride));
    for (int64_t i = 0; i < channelSlots; i += neighbours().size()) {
      int64_t chunk = chunkOf(i);
      Value channel = channelInChunk(i);
      Values o;
      for (int64_t neighbour : neighbours()) {
        o.push_back(state.o[atChannel(slot, i + neighbour)]);
        if (unit)
          o.back() = kit.fmul(o.back(), unit);
      }
      auto store = [&] {
        kit.storeShared(kit.concat(o), {kit.add(to, kit.mul(channel, 4)),
                                        sums.offset + chunk * 4});
      };
      // The last chunk may be part of one.
      if (chunk + chunkChannels <= a.dimV)
        store();
      else
        kit.when(kit.less(channel, kit.i32(a.dimV - chunk)), store);
    }
  }
}
