//===- AttendMma.cpp - attention on tensor cores: softmax and state -------===//
#include "codegen/nvptx/AttendMma.h"

#include <cmath>

using namespace mlir;
using namespace kvc;
using namespace kvc::nvptx;
using arith::CmpFPredicate;
using arith::CmpIPredicate;

/// A row's reference follows its largest logit only when that is this much (in
/// powers of two) above it: probabilities of up to 2^kSlack cost no precision,
/// and most steps then rescale nothing.
static constexpr double kSlack = 8;

static Form formOf(Type code) {
  return code.isBF16() ? Form::BF16 : code.isF16() ? Form::F16 : Form::I8;
}

MmaMath::MmaMath(AttendKernel &a, Rows side, int64_t rows)
    : a(a), kit(a.kit), side(side),
      formK(formOf(a.body.k.codec().getCodeType())),
      formV(formOf(a.body.v.codec().getCodeType())),
      kSteps(llvm::divideCeil(a.dimK, 16)),
      rowSlots(side == Rows::InM ? rows / 8 : rows / 4),
      channelSlots(llvm::divideCeil(a.dimV, 16) * (side == Rows::InM ? 4 : 2)),
      normalised(formK != Form::BF16 && a.k.dtype.isBF16()),
      twice(a.body.scaledV && a.k.dtype.isF16()) {
  raw = !a.body.softcap && !a.body.scaledK && !normalised && a.body.scale > 0 &&
        a.body.scale <= 1;
}

std::string MmaMath::refuse() {
  TargetAttr target =
      a.k.op->getParentOfType<ModuleOp>()->getAttrOfType<TargetAttr>(
          "kvc.target");
  for (Operand *operand : {&a.body.k, &a.body.v})
    if (!target.hasDot(operand->codec().getCodeType(), a.k.dtype))
      return "there are no exact products on tensor cores of this codec in a "
             "model of this type: set `dot` to false";
  return "";
}

void MmaMath::beginItem(const Item &) {
  g = kit.div(a.lane, 4);
  t = kit.rem(a.lane, 4);
  q.clear();
  rowFactor.clear();
  positions.clear();
  for (int64_t row = 0; row < rowSlots; ++row)
    positions.push_back(a.position(rowOf(row)));
  loadQuery();
}

Value MmaMath::rowOf(int64_t slot) {
  if (side == Rows::InN)
    return placeInN(slot);
  return kit.add(placeInM(slot), a.firstRow());
}

ArrayRef<int64_t> MmaMath::tokenLanes() const {
  static constexpr int64_t kInM[] = {4, 8, 16}, kInN[] = {1, 2};
  return side == Rows::InM ? ArrayRef<int64_t>(kInN) : ArrayRef<int64_t>(kInM);
}

//===----------------------------------------------------------------------===//
// State
//===----------------------------------------------------------------------===//

MmaMath::State MmaMath::unpack(ValueRange values) const {
  State state;
  auto take = [&](size_t n) {
    Values part(values.take_front(n));
    values = values.drop_front(n);
    return part;
  };
  state.m = take(rowSlots);
  state.base = take(rowSlots);
  state.l = take(rowSlots);
  if (a.body.scaledV)
    state.unit = take(rowSlots);
  state.o = take(values.size());
  return state;
}

Values MmaMath::pack(const State &state) const {
  Values values;
  for (const Values *part :
       {&state.m, &state.base, &state.l, &state.unit, &state.o})
    values.append(*part);
  return values;
}

Values MmaMath::initialState() {
  State state;
  state.m.assign(rowSlots, kit.f32(-INFINITY));
  state.base.assign(rowSlots, kit.f32(0));
  state.l.assign(rowSlots, kit.f32(0));
  if (a.body.scaledV)
    state.unit.assign(rowSlots, kit.f32(-126));
  state.o.assign(rowSlots * channelSlots, kit.f32(0));
  return pack(state);
}

//===----------------------------------------------------------------------===//
// A step
//===----------------------------------------------------------------------===//

Values MmaMath::step(const Step &step, ValueRange values) {
  tokenSlots = side == Rows::InM ? step.tokens / 4 : step.tokens / 8;
  State state = unpack(values);
  Values s = transformed(step, scores(step));
  if (step.full)
    s = kit.choose(
        step.full, [&] { return s; }, [&] { return masked(step, s); });
  rescale(s, state);
  Values p = probabilities(s, state);
  if (formV == Form::I8)
    p = scaleV(step, p, state);
  if (formV == Form::I8 || !step.full) {
    accumulate(step, p, state, nullptr);
    return pack(state);
  }
  state.o = kit.choose(
      step.full,
      [&] {
        State whole = state;
        accumulate(step, p, whole, nullptr);
        return whole.o;
      },
      [&] {
        State partly = state;
        accumulateCarefully(step, p, partly);
        return partly.o;
      });
  return pack(state);
}

Value MmaMath::laneScale(ArrayRef<Value> scales, int64_t token) {
  Value from = tokenOf(token);
  int64_t which = 0;
  if (scales.size() > 1) {
    // Slots are in order of the tokens that they have across lanes.
    which = token * int64_t(scales.size()) / tokenSlots;
    from = kit.add(from, -which * kWarpLanes);
  }
  return kit.bits(kit.op1(Ptx::ShflIdx, {scales[which], from}), kit.f32());
}

Value MmaMath::sees(const Step &step, int64_t row, int64_t token) {
  return a.visible(kit.add(step.first, tokenOf(token)), positions[row]);
}

/// Logits in powers of two, unless they are `raw`.
Values MmaMath::transformed(const Step &step, Values s) {
  if (raw)
    return s;
  for (int64_t token = 0; token < tokenSlots; ++token) {
    Value scale;
    if (a.body.scaledK)
      scale = laneScale(step.scaleK, token);
    for (int64_t row = 0; row < rowSlots; ++row) {
      Value &x = s[atToken(row, token)];
      if (normalised)
        x = kit.fmul(x, rowFactor[row]);
      x = a.transform(x, scale);
    }
  }
  return s;
}

Values MmaMath::masked(const Step &step, Values s) {
  for (int64_t row = 0; row < rowSlots; ++row)
    for (int64_t token = 0; token < tokenSlots; ++token) {
      Value &x = s[atToken(row, token)];
      x = kit.select(sees(step, row, token), x, kit.f32(-INFINITY));
    }
  return s;
}

/// A row's value from those of the lanes that have its other tokens.
Value MmaMath::overLanes(Value x,
                         llvm::function_ref<Value(Value, Value)> join) {
  for (int64_t mask : tokenLanes())
    x = join(x, kit.shflXor(x, mask));
  return x;
}

/// Of the step's tokens, for each row slot.
Values MmaMath::rowMax(const Values &s) {
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

/// Moves the references of rows whose logits have grown. What it does to a row
/// depends on that row alone, whatever makes the warp do it.
void MmaMath::rescale(const Values &s, State &state) {
  double slack = raw ? kSlack / a.body.scale : kSlack;
  Values largest = rowMax(s), grown;
  Value any;
  for (auto [x, m] : llvm::zip(largest, state.m)) {
    grown.push_back(
        kit.fcmp(CmpFPredicate::OGT, x, kit.fadd(m, kit.f32(slack))));
    any = any ? kit.or_(any, grown.back()) : grown.back();
  }
  Value word = arith::ExtUIOp::create(kit.b, kit.kernel, kit.i32(), any);
  Value move =
      kit.cmp(CmpIPredicate::ne, kit.op1(Ptx::VoteAny, word), kit.i32(0));
  auto moved = [&] {
    State next = state;
    for (int64_t row = 0; row < rowSlots; ++row) {
      Value &m = next.m[row], &base = next.base[row];
      Value first =
          kit.fcmp(CmpFPredicate::OEQ, state.m[row], kit.f32(-INFINITY));
      m = kit.select(grown[row], largest[row], m);
      Value scaled = raw ? kit.fmul(m, kit.f32(a.body.scale)) : m;
      base = kit.select(grown[row], scaled, base);
      // Nothing was seen: l and O are 0, and stay so.
      Value alpha = kit.ex2(kit.fsub(state.base[row], base));
      alpha = kit.select(first, kit.f32(0), alpha);
      alpha = kit.select(grown[row], alpha, kit.f32(1));
      next.l[row] = kit.fmul(next.l[row], alpha);
      for (int64_t channel = 0; channel < channelSlots; ++channel) {
        Value &o = next.o[atChannel(row, channel)];
        o = kit.fmul(o, alpha);
      }
    }
    return pack(next);
  };
  Values values = kit.choose(move, moved, [&] { return pack(state); });
  state = unpack(values);
}

/// p = 2^(s - base), and l.
Values MmaMath::probabilities(const Values &s, State &state) {
  Values p(s.size());
  for (int64_t row = 0; row < rowSlots; ++row) {
    Value base = state.base[row];
    Value minus = LLVM::FNegOp::create(kit.b, kit.kernel, base);
    for (int64_t token = 0; token < tokenSlots; ++token) {
      size_t index = atToken(row, token);
      Value exponent = raw ? kit.fma(s[index], kit.f32(a.body.scale), minus)
                           : kit.fsub(s[index], base);
      p[index] = kit.ex2(exponent);
      state.l[row] = kit.fadd(state.l[row], p[index]);
    }
  }
  return p;
}

//===----------------------------------------------------------------------===//
// Scales of V
//===----------------------------------------------------------------------===//

/// Floor of log2 of a finite scale's bits; that of what is no number (its rows
/// are lost) is as low as any.
static Value exponentOf(Kit &kit, Value bits) {
  Value finite = kit.less(bits, kit.i32(0x7f800000));
  Value exponent = kit.sub(kit.shr(bits, 23), kit.i32(127));
  exponent = kit.select(finite, exponent, kit.i32(-126));
  Value x = arith::SIToFPOp::create(kit.b, kit.kernel, kit.f32(), exponent);
  return kit.fmax(x, kit.f32(-126));
}

/// p times the token's scale, in units of a power of two that keeps the largest
/// scale that the row has seen below 2: f16 has few exponents. Which unit a row
/// has depends on the tokens that it sees alone.
Values MmaMath::scaleV(const Step &step, const Values &p, State &state) {
  Values scales;
  for (int64_t token = 0; token < tokenSlots; ++token)
    scales.push_back(laneScale(step.scaleV, token));
  auto larger = [&](Value x, Value y) { return kit.max(x, y); };
  // Per row: largest scale of the tokens that it sees, as bits.
  auto whole = [&] {
    Value largest = finiteBits(step.scaleV.front());
    for (Value scale : ArrayRef(step.scaleV).drop_front())
      largest = larger(largest, finiteBits(scale));
    largest = kit.op1(Ptx::ReduxMaxU32, largest);
    return Values(rowSlots, exponentOf(kit, largest));
  };
  auto partly = [&] {
    Values exponents;
    for (int64_t row = 0; row < rowSlots; ++row) {
      Value largest;
      for (int64_t token = 0; token < tokenSlots; ++token) {
        Value bits = kit.select(sees(step, row, token),
                                finiteBits(scales[token]), kit.i32(0));
        largest = largest ? larger(largest, bits) : bits;
      }
      exponents.push_back(exponentOf(kit, overLanes(largest, larger)));
    }
    return exponents;
  };
  Values exponents = step.full ? kit.choose(step.full, whole, partly) : whole();
  growUnits(exponents, state);

  Values scaled = p;
  for (int64_t row = 0; row < rowSlots; ++row) {
    Value minus = LLVM::FNegOp::create(kit.b, kit.kernel, state.unit[row]);
    Value inverse = kit.ex2(minus);
    for (int64_t token = 0; token < tokenSlots; ++token) {
      Value &x = scaled[atToken(row, token)];
      Value hidden = kit.fcmp(CmpFPredicate::OEQ, x, kit.f32(0));
      Value scale = kit.fmul(scales[token], inverse);
      // What nobody sees may have any scale.
      x = kit.select(hidden, kit.f32(0), kit.fmul(x, scale));
    }
  }
  return scaled;
}

/// The bits of a scale, 0 for those that are no number.
Value MmaMath::finiteBits(Value scale) {
  Value bits = kit.bits(scale, kit.i32());
  Value finite = kit.cmp(CmpIPredicate::ult, bits, kit.i32(0x7f800000));
  return kit.select(finite, bits, kit.i32(0));
}

void MmaMath::growUnits(const Values &exponents, State &state) {
  Value any;
  Values grown;
  for (auto [x, unit] : llvm::zip(exponents, state.unit)) {
    grown.push_back(kit.fcmp(CmpFPredicate::OGT, x, unit));
    any = any ? kit.or_(any, grown.back()) : grown.back();
  }
  Value word = arith::ExtUIOp::create(kit.b, kit.kernel, kit.i32(), any);
  Value move =
      kit.cmp(CmpIPredicate::ne, kit.op1(Ptx::VoteAny, word), kit.i32(0));
  auto moved = [&] {
    State next = state;
    for (int64_t row = 0; row < rowSlots; ++row) {
      Value &unit = next.unit[row];
      Value before = unit;
      unit = kit.select(grown[row], exponents[row], unit);
      Value factor = kit.ex2(kit.fsub(before, unit)); // exact
      for (int64_t channel = 0; channel < channelSlots; ++channel) {
        Value &o = next.o[atChannel(row, channel)];
        o = kit.fmul(o, factor);
      }
    }
    return pack(next);
  };
  state = unpack(kit.choose(move, moved, [&] { return pack(state); }));
}

//===----------------------------------------------------------------------===//
// The end
//===----------------------------------------------------------------------===//

void MmaMath::finish(ValueRange values, Shared stats, Shared sums) {
  State state = unpack(values);
  auto sum = [&](Value x, Value y) { return kit.fadd(x, y); };
  Value token = side == Rows::InM ? t : g;
  Value first = kit.cmp(CmpIPredicate::eq, token, kit.i32(0));
  for (int64_t slot = 0; slot < rowSlots; ++slot) {
    Value l = overLanes(state.l[slot], sum);
    Value none =
        kit.fcmp(CmpFPredicate::OEQ, state.m[slot], kit.f32(-INFINITY));
    Value m = kit.select(none, kit.f32(-INFINITY), state.base[slot]);
    Value row = rowOf(slot);
    Value at = kit.add(stats.base, kit.mul(row, 8));
    kit.when(first, [&] {
      kit.storeShared(m, {at, stats.offset});
      kit.storeShared(l, {at, stats.offset + 4});
    });
    Value unit;
    if (formV == Form::I8)
      unit = kit.ex2(state.unit[slot]);
    Value to = kit.add(sums.base, kit.mul(row, a.sumStride));
    for (int64_t i = 0; i < channelSlots; ++i) {
      int64_t chunk = chunkOf(i);
      Value channel = channelInChunk(i);
      Value o = state.o[atChannel(slot, i)];
      if (unit)
        o = kit.fmul(o, unit);
      auto store = [&] {
        kit.storeShared(
            o, {kit.add(to, kit.mul(channel, 4)), sums.offset + chunk * 64});
      };
      // The last chunk may be half of one.
      if ((chunk + 1) * 16 <= a.dimV)
        store();
      else
        kit.when(kit.less(channel, kit.i32(a.dimV - chunk * 16)), store);
    }
  }
}
