//===- AttendMma.cpp - products on tensor cores: softmax and state --------===//
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

MmaMath::MmaMath(AttendKernel &a)
    : a(a), kit(a.kit), formK(formOf(a.body.k.codec().getCodeType())),
      formV(formOf(a.body.v.codec().getCodeType())), nTiles(a.rows / 8),
      kSteps(llvm::divideCeil(a.dimK, 16)),
      mTiles(llvm::divideCeil(a.dimV, 16)),
      twice(a.body.scaledV && a.k.dtype.isF16()),
      normalised(formK != Form::BF16 && a.k.dtype.isBF16()) {
  raw = !a.body.softcap && !a.body.scaledK && !normalised && a.body.scale > 0 &&
        a.body.scale <= 1;
}

std::string MmaMath::refuse() {
  if (a.tokens % 16 || a.tokens > 32 || a.rows % 8)
    return "products on tensor cores take `tokens` of 16 or 32 and `rows` that "
           "are multiples of 8";
  TargetAttr target =
      a.k.op->getParentOfType<ModuleOp>()->getAttrOfType<TargetAttr>(
          "kvc.target");
  for (Operand *operand : {&a.body.k, &a.body.v})
    if (!target.hasDot(operand->codec().getCodeType(), a.k.dtype))
      return "there are no exact products on tensor cores of this codec in a "
             "model of this type: set `dot` to false";
  return "";
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
  state.m = take(2 * nTiles);
  state.base = take(2 * nTiles);
  state.l = take(2 * nTiles);
  if (a.body.scaledV)
    state.unit = take(2 * nTiles);
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
  state.m.assign(2 * nTiles, kit.f32(-INFINITY));
  state.base.assign(2 * nTiles, kit.f32(0));
  state.l.assign(2 * nTiles, kit.f32(0));
  if (a.body.scaledV)
    state.unit.assign(2 * nTiles, kit.f32(-126));
  state.o.assign(4 * nTiles * mTiles, kit.f32(0));
  return pack(state);
}

//===----------------------------------------------------------------------===//
// A step
//===----------------------------------------------------------------------===//

Values MmaMath::step(const Step &step, ValueRange values) {
  subs = step.tokens / 16;
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
    accumulate(step, p, state);
    return pack(state);
  }
  state.o = kit.choose(
      step.full,
      [&] {
        State whole = state;
        accumulate(step, p, whole);
        return whole.o;
      },
      [&] {
        State partly = state;
        accumulateCarefully(step, p, partly);
        return partly.o;
      });
  return pack(state);
}

Value MmaMath::laneScale(Value scale, int64_t sub, int64_t half) {
  Value from = kit.add(g, sub * 16 + half * 8);
  return kit.bits(kit.op1(Ptx::ShflIdx, {scale, from}), kit.f32());
}

Value MmaMath::tokenOf(const Step &step, int64_t sub, int64_t half) {
  return kit.add(kit.add(step.first, g), sub * 16 + half * 8);
}

/// Logits in powers of two, unless they are `raw`.
Values MmaMath::transformed(const Step &step, Values s) {
  if (raw)
    return s;
  for (int64_t sub = 0; sub < subs; ++sub) {
    Value scales[2] = {};
    if (a.body.scaledK)
      for (int64_t half = 0; half < 2; ++half)
        scales[half] = laneScale(step.scaleK, sub, half);
    for (int64_t n = 0; n < nTiles; ++n)
      for (int64_t i = 0; i < 4; ++i) {
        Value &x = s[at(sub, n, i)];
        if (normalised)
          x = kit.fmul(x, rowFactor[2 * n + i % 2]);
        x = a.transform(x, scales[i / 2]);
      }
  }
  return s;
}

Values MmaMath::masked(const Step &step, Values s) {
  for (int64_t sub = 0; sub < subs; ++sub)
    for (int64_t n = 0; n < nTiles; ++n)
      for (int64_t i = 0; i < 4; ++i) {
        Value seen =
            a.visible(tokenOf(step, sub, i / 2), positions[2 * n + i % 2]);
        Value &x = s[at(sub, n, i)];
        x = kit.select(seen, x, kit.f32(-INFINITY));
      }
  return s;
}

/// Of the step's tokens, for each row of this lane.
Values MmaMath::columnMax(const Values &s) {
  Values largest;
  for (int64_t column = 0; column < 2 * nTiles; ++column) {
    Value x;
    for (int64_t sub = 0; sub < subs; ++sub)
      for (int64_t half = 0; half < 2; ++half) {
        Value y = s[at(sub, column / 2, 2 * half + column % 2)];
        x = x ? kit.fmax(x, y) : y;
      }
    for (int64_t mask : {4, 8, 16})
      x = kit.fmax(x, kit.shflXor(x, mask));
    largest.push_back(x);
  }
  return largest;
}

/// Moves the references of rows whose logits have grown. What it does to a row
/// depends on that row alone, whatever makes the warp do it.
void MmaMath::rescale(const Values &s, State &state) {
  double slack = raw ? kSlack / a.body.scale : kSlack;
  Values largest = columnMax(s), grown;
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
    for (int64_t column = 0; column < 2 * nTiles; ++column) {
      Value &m = next.m[column], &base = next.base[column];
      Value first =
          kit.fcmp(CmpFPredicate::OEQ, state.m[column], kit.f32(-INFINITY));
      m = kit.select(grown[column], largest[column], m);
      Value scaled = raw ? kit.fmul(m, kit.f32(a.body.scale)) : m;
      base = kit.select(grown[column], scaled, base);
      // Nothing was seen: l and O are 0, and stay so.
      Value alpha = kit.ex2(kit.fsub(state.base[column], base));
      alpha = kit.select(first, kit.f32(0), alpha);
      alpha = kit.select(grown[column], alpha, kit.f32(1));
      next.l[column] = kit.fmul(next.l[column], alpha);
      for (int64_t tile = 0; tile < mTiles; ++tile)
        for (int64_t half = 0; half < 2; ++half) {
          Value &o = next.o[((column / 2) * mTiles + tile) * 4 + 2 * half +
                            column % 2];
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
  for (int64_t column = 0; column < 2 * nTiles; ++column) {
    Value base = state.base[column];
    Value minus = LLVM::FNegOp::create(kit.b, kit.kernel, base);
    for (int64_t sub = 0; sub < subs; ++sub)
      for (int64_t half = 0; half < 2; ++half) {
        size_t index = at(sub, column / 2, 2 * half + column % 2);
        Value exponent = raw ? kit.fma(s[index], kit.f32(a.body.scale), minus)
                             : kit.fsub(s[index], base);
        p[index] = kit.ex2(exponent);
        state.l[column] = kit.fadd(state.l[column], p[index]);
      }
  }
  return p;
}

//===----------------------------------------------------------------------===//
// Scales of V
//===----------------------------------------------------------------------===//

/// p times the token's scale, in units of a power of two that keeps the largest
/// scale that the row has seen below 2: f16 has few exponents. Which unit a row
/// has depends on the tokens that it sees alone.
Values MmaMath::scaleV(const Step &step, const Values &p, State &state) {
  Values scales; // [subs][2]
  for (int64_t sub = 0; sub < subs; ++sub)
    for (int64_t half = 0; half < 2; ++half)
      scales.push_back(laneScale(step.scaleV, sub, half));
  auto exponentOf = [&](Value bits) {
    // Floor of log2; infinities and NaN (their rows are lost) count as none.
    Value finite = kit.less(bits, kit.i32(0x7f800000));
    Value exponent = kit.sub(kit.shr(bits, 23), kit.i32(127));
    exponent = kit.select(finite, exponent, kit.i32(-126));
    Value x = arith::SIToFPOp::create(kit.b, kit.kernel, kit.f32(), exponent);
    return kit.fmax(x, kit.f32(-126));
  };
  // Per column: largest scale of the tokens that it sees, as bits.
  auto whole = [&] {
    Value largest = kit.op1(Ptx::ReduxMaxU32, finiteBits(step.scaleV));
    return Values(2 * nTiles, exponentOf(largest));
  };
  auto partly = [&] {
    Values exponents;
    for (int64_t column = 0; column < 2 * nTiles; ++column) {
      Value largest;
      for (int64_t sub = 0; sub < subs; ++sub)
        for (int64_t half = 0; half < 2; ++half) {
          Value seen = a.visible(tokenOf(step, sub, half), positions[column]);
          Value bits =
              kit.select(seen, finiteBits(scales[2 * sub + half]), kit.i32(0));
          largest = largest ? kit.max(largest, bits) : bits;
        }
      for (int64_t mask : {4, 8, 16})
        largest = kit.max(largest, kit.shflXor(largest, mask));
      exponents.push_back(exponentOf(largest));
    }
    return exponents;
  };
  Values exponents = step.full ? kit.choose(step.full, whole, partly) : whole();
  growUnits(exponents, state);

  Values scaled = p;
  for (int64_t column = 0; column < 2 * nTiles; ++column) {
    Value minus = LLVM::FNegOp::create(kit.b, kit.kernel, state.unit[column]);
    Value inverse = kit.ex2(minus);
    for (int64_t sub = 0; sub < subs; ++sub)
      for (int64_t half = 0; half < 2; ++half) {
        Value &x = scaled[at(sub, column / 2, 2 * half + column % 2)];
        Value hidden = kit.fcmp(CmpFPredicate::OEQ, x, kit.f32(0));
        Value scale = kit.fmul(scales[2 * sub + half], inverse);
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
    for (int64_t column = 0; column < 2 * nTiles; ++column) {
      Value &unit = next.unit[column];
      Value before = unit;
      unit = kit.select(grown[column], exponents[column], unit);
      Value factor = kit.ex2(kit.fsub(before, unit)); // exact
      for (int64_t tile = 0; tile < mTiles; ++tile)
        for (int64_t half = 0; half < 2; ++half) {
          Value &o = next.o[((column / 2) * mTiles + tile) * 4 + 2 * half +
                            column % 2];
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
  Value first = kit.cmp(CmpIPredicate::eq, g, kit.i32(0));
  for (int64_t column = 0; column < 2 * nTiles; ++column) {
    Value l = state.l[column];
    for (int64_t mask : {4, 8, 16})
      l = kit.fadd(l, kit.shflXor(l, mask));
    Value none =
        kit.fcmp(CmpFPredicate::OEQ, state.m[column], kit.f32(-INFINITY));
    Value m = kit.select(none, kit.f32(-INFINITY), state.base[column]);
    Value row = kit.add(kit.mul(t, 2), (column / 2) * 8 + column % 2);
    Value at = kit.add(stats.base, kit.mul(row, 8));
    kit.when(first, [&] {
      kit.storeShared(m, {at, stats.offset});
      kit.storeShared(l, {at, stats.offset + 4});
    });
    Value unit;
    if (formV == Form::I8)
      unit = kit.ex2(state.unit[column]);
    Value to = kit.add(sums.base, kit.mul(row, a.sumStride));
    for (int64_t half = 0; half < 2; ++half) {
      Value channel = channelOf(half);
      Value address = kit.add(to, kit.mul(channel, 4));
      for (int64_t tile = 0; tile < mTiles; ++tile) {
        Value o =
            state.o[((column / 2) * mTiles + tile) * 4 + 2 * half + column % 2];
        if (unit)
          o = kit.fmul(o, unit);
        auto store = [&] {
          kit.storeShared(o, {address, sums.offset + tile * 64});
        };
        // The last tile may be half of one.
        if ((tile + 1) * 16 <= a.dimV)
          store();
        else
          kit.when(kit.less(channel, kit.i32(a.dimV - tile * 16)), store);
      }
    }
  }
}

std::unique_ptr<TileMath> kvc::nvptx::makeMmaMath(AttendKernel &kernel) {
  return std::make_unique<MmaMath>(kernel);
}
