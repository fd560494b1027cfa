//===- AttendMmaOperands.cpp - products on tensor cores: operands ---------===//
//
// Codes of 16 bits are operands as they are. Of int8, one load of 16-bit units
// brings two neighbouring codes where one 16-bit code would be: channels (K) or
// rows of the output (V) then come in another order, which q and the stores
// follow, so that no element moves between lanes.
//
//===----------------------------------------------------------------------===//
#include "codegen/nvptx/AttendMma.h"

#include "dialect/KvcDialect.h"

#include <cmath>

using namespace mlir;
using namespace kvc;
using namespace kvc::nvptx;
using arith::CmpFPredicate;
using arith::CmpIPredicate;

//===----------------------------------------------------------------------===//
// The query
//===----------------------------------------------------------------------===//

void MmaMath::beginItem(const Item &) {
  g = kit.div(a.lane, 4);
  t = kit.rem(a.lane, 4);
  q.clear();
  rowFactor.clear();
  positions.clear();
  for (int64_t n = 0; n < nTiles; ++n) {
    for (int64_t j = 0; j < 2; ++j)
      positions.push_back(a.position(kit.add(kit.mul(t, 2), 8 * n + j)));
    loadQueryTile(n);
  }
}

/// Two neighbouring elements of a query row: those that meet the codes of
/// operand registers a0 (half 0) and a2 (half 1) in a product. 0 beyond the
/// row.
Value MmaMath::queryWord(Value row, int64_t kStep, int64_t half) {
  int64_t first = 16 * kStep;
  Value channel = formK == Form::I8 ? kit.add(kit.mul(t, 4), 2 * half)
                                    : kit.add(kit.mul(t, 2), 8 * half);
  Type pair = kit.vec(2, a.k.dtype);
  auto load = [&](Value channel) {
    Value at = kit.ptr(kit.ptr(row, kit.mul(channel, 2)), 2 * first);
    return kit.bits(kit.loadConst(pair, at, 4), kit.i32());
  };
  if (first + 16 <= a.dimK)
    return load(channel);
  Value there = kit.less(channel, kit.i32(a.dimK - first));
  Value word = load(kit.select(there, channel, kit.i32(0)));
  return kit.select(there, word, kit.i32(0));
}

void MmaMath::loadQueryTile(int64_t n) {
  Value row = a.queryRow(kit.add(g, 8 * n));
  Values words;
  for (int64_t kStep = 0; kStep < kSteps; ++kStep)
    for (int64_t half = 0; half < 2; ++half)
      words.push_back(queryWord(row, kStep, half));
  if (normalised)
    normaliseQuery(n, words);
  q.append(words);
}

/// bf16 to f16 by a power of two for each row that brings its largest element
/// below 2: of the others only those 2^24 times smaller are lost. An element
/// that is no number stays one, and its row is lost anyway.
void MmaMath::normaliseQuery(int64_t, MutableArrayRef<Value> words) {
  auto halves = [&](Value word) {
    // bf16 is the upper half of an f32.
    Value low = kit.bits(kit.shl(word, 16), kit.f32());
    Value high = kit.bits(kit.and_(word, -65536), kit.f32());
    return std::pair(low, high);
  };
  Value largest = kit.f32(0);
  for (Value word : words) {
    auto [low, high] = halves(word);
    for (Value x : {low, high})
      largest = kit.fmax(largest, LLVM::FAbsOp::create(kit.b, kit.kernel, x));
  }
  for (int64_t mask : {1, 2})
    largest = kit.fmax(largest, kit.shflXor(largest, mask));
  Value exponent =
      kit.sub(kit.shr(kit.bits(largest, kit.i32()), 23), kit.i32(127));
  exponent = kit.max(kit.min(exponent, kit.i32(126)), kit.i32(-126));
  auto power = [&](Value exponent) {
    return kit.bits(kit.shl(kit.add(exponent, 127), 23), kit.f32());
  };
  Value down = power(kit.sub(kit.i32(0), exponent));
  for (Value &word : words) {
    auto [low, high] = halves(word);
    word = kit.op1(Ptx::CvtF16x2, {kit.fmul(high, down), kit.fmul(low, down)});
  }
  // Rows stand in lanes 4 g here, and in columns 2t and 2t+1 of products.
  Value up = power(exponent);
  for (int64_t j = 0; j < 2; ++j) {
    Value from = kit.add(kit.mul(t, 8), 4 * j);
    rowFactor.push_back(kit.bits(kit.op1(Ptx::ShflIdx, {up, from}), kit.f32()));
  }
}

//===----------------------------------------------------------------------===//
// K and V
//===----------------------------------------------------------------------===//

/// Two codes of a word as f16: x + 128 are the low bits of 1024 + 128 + x.
Value MmaMath::fromI8(Value bytes, int64_t selector) {
  Value biased = kit.xor_(bytes, kit.i32(int32_t(0x80808080)));
  Value halves =
      kit.op1(Ptx::Prmt, {biased, kit.i32(0x64646464), kit.i32(selector)});
  return kit.op1(Ptx::SubF16x2, {halves, kit.i32(0x64806480)});
}

/// The operands of one (16-bit) or two (int8) steps over channels.
SmallVector<MmaMath::Fragment, 2> MmaMath::loadK(const Step &step, int64_t sub,
                                                 int64_t pair) {
  // Matrices: tokens 0-7 and 8-15 of 16 bytes, then of the next 16.
  Value own = kit.add(kit.mul(kit.rem(a.lane, 16), a.strideK),
                      kit.mul(kit.div(a.lane, 16), 16));
  Values r = kit.op(Ptx::LdMatrixX4, kit.add(step.k.base, own),
                    step.k.offset + sub * 16 * a.strideK + pair * 32);
  if (formK != Form::I8)
    return {{r[0], r[1], r[2], r[3]}};
  SmallVector<Fragment, 2> fragments;
  for (int64_t chunk = 0; chunk < 2; ++chunk) {
    if (2 * pair + chunk >= kSteps)
      break;
    Value upper = r[2 * chunk], lower = r[2 * chunk + 1];
    fragments.push_back({fromI8(upper, 0x4140), fromI8(lower, 0x4140),
                         fromI8(upper, 0x4342), fromI8(lower, 0x4342)});
  }
  return fragments;
}

/// The transposed operands of one (16-bit) or two (int8) m tiles.
SmallVector<MmaMath::Fragment, 2> MmaMath::loadV(const Step &step, int64_t sub,
                                                 int64_t pair) {
  int64_t offset = step.v.offset + sub * 16 * a.strideV + pair * 32;
  if (formV != Form::I8) {
    // Matrices: 16 bytes of tokens 0-7, the next 16, both of tokens 8-15.
    Value token = kit.add(kit.rem(a.lane, 8), kit.mul(kit.div(a.lane, 16), 8));
    Value chunk = kit.rem(kit.div(a.lane, 8), 2);
    Value own = kit.add(kit.mul(token, a.strideV), kit.mul(chunk, 16));
    Values r = kit.op(Ptx::LdMatrixX4Trans, kit.add(step.v.base, own), offset);
    return {{r[0], r[1], r[2], r[3]}};
  }
  Value own = kit.add(kit.mul(kit.rem(a.lane, 16), a.strideV),
                      kit.mul(kit.div(a.lane, 16), 16));
  Values r = kit.op(Ptx::LdMatrixX4Trans, kit.add(step.v.base, own), offset);
  SmallVector<Fragment, 2> fragments;
  for (int64_t chunk = 0; chunk < 2; ++chunk) {
    if (2 * pair + chunk >= mTiles)
      break;
    // A word: two channels of token 2t, the same two of token 2t + 1.
    Value early = r[2 * chunk], late = r[2 * chunk + 1];
    fragments.push_back({fromI8(early, 0x4240), fromI8(early, 0x4341),
                         fromI8(late, 0x4240), fromI8(late, 0x4341)});
  }
  return fragments;
}

Value MmaMath::channelOf(int64_t half) {
  if (formV == Form::I8)
    return kit.add(kit.mul(g, 2), half);
  return kit.add(g, 8 * half);
}

void MmaMath::multiply(Form form, const Fragment &x, Value y0, Value y1,
                       MutableArrayRef<Value> sum) {
  Ptx mma = form == Form::BF16 ? Ptx::MmaBF16 : Ptx::MmaF16;
  Values next = kit.op(
      mma, {x[0], x[1], x[2], x[3], y0, y1, sum[0], sum[1], sum[2], sum[3]});
  llvm::copy(next, sum.begin());
}

Values MmaMath::scores(const Step &step) {
  Values s(subs * nTiles * 4, kit.f32(0));
  int64_t perLoad = formK == Form::I8 ? 2 : 1;
  for (int64_t pair = 0; pair * perLoad < kSteps; ++pair)
    for (int64_t sub = 0; sub < subs; ++sub)
      for (auto [i, x] : llvm::enumerate(loadK(step, sub, pair)))
        for (int64_t n = 0; n < nTiles; ++n) {
          int64_t at = (n * kSteps + pair * perLoad + i) * 2;
          multiply(formK, x, q[at], q[at + 1],
                   MutableArrayRef(s).slice(this->at(sub, n, 0), 4));
        }
  return s;
}

//===----------------------------------------------------------------------===//
// P times V
//===----------------------------------------------------------------------===//

Value MmaMath::packHalves(Value low, Value high, bool f16) {
  return kit.op1(f16 ? Ptx::CvtF16x2 : Ptx::CvtBF16x2, {high, low});
}

/// [subs][nTiles][2]: P as the right operand, or what rounding took from it.
Values MmaMath::operandsP(const Values &p, bool rest) {
  Values operands;
  bool f16 = formV != Form::BF16;
  for (int64_t sub = 0; sub < subs; ++sub)
    for (int64_t n = 0; n < nTiles; ++n)
      for (int64_t half = 0; half < 2; ++half) {
        Value low = p[at(sub, n, 2 * half)], high = p[at(sub, n, 2 * half + 1)];
        Value word = packHalves(low, high, f16);
        if (rest) {
          Value halves = kit.bits(word, kit.vec(2, kit.b.getF16Type()));
          auto lost = [&](Value x, int64_t i) {
            Value kept = arith::ExtFOp::create(kit.b, kit.kernel, kit.f32(),
                                               kit.extract(halves, i));
            return kit.fsub(x, kept);
          };
          word = packHalves(lost(low, 0), lost(high, 1), f16);
        }
        operands.push_back(kit.op1(Ptx::MovMatrix, word));
      }
  return operands;
}

void MmaMath::accumulate(const Step &step, const Values &p, State &state) {
  SmallVector<Values, 2> operands{operandsP(p, /*rest=*/false)};
  if (twice)
    operands.push_back(operandsP(p, /*rest=*/true));
  int64_t perLoad = formV == Form::I8 ? 2 : 1;
  for (int64_t sub = 0; sub < subs; ++sub)
    for (int64_t pair = 0; pair * perLoad < mTiles; ++pair)
      for (auto [i, x] : llvm::enumerate(loadV(step, sub, pair)))
        for (int64_t n = 0; n < nTiles; ++n)
          for (const Values &y : operands) {
            int64_t at = (sub * nTiles + n) * 2;
            int64_t o = (n * mTiles + pair * perLoad + i) * 4;
            multiply(formV, x, y[at], y[at + 1],
                     MutableArrayRef(state.o).slice(o, 4));
          }
}

/// The word with halves that are infinite or NaN replaced by 0; `bad` collects
/// those halves.
Value MmaMath::clean(Value word, Value &bad) {
  int64_t exponent = formV == Form::BF16 ? 0x7f80 : 0x7c00;
  Value kept = word, lost;
  for (int64_t shift : {0, 16}) {
    Value field = kit.and_(word, int32_t(exponent << shift));
    Value special =
        kit.cmp(CmpIPredicate::eq, field, kit.i32(int32_t(exponent << shift)));
    Value without = kit.and_(kept, int32_t(shift ? 0xffff : 0xffff0000));
    kept = kit.select(special, without, kept);
    lost = lost ? kit.or_(lost, special) : special;
  }
  bad = bad ? kit.or_(bad, lost) : lost;
  return kept;
}

/// Where some rows do not see some tokens: p is 0 there, but 0 times an
/// infinity or a NaN is a NaN. So elements of V that are no numbers stay out of
/// the product, and are added to the rows that do see them.
void MmaMath::accumulateCarefully(const Step &step, const Values &p,
                                  State &state) {
  Values operands = operandsP(p, /*rest=*/false);
  Value bad;
  for (int64_t sub = 0; sub < subs; ++sub)
    for (int64_t tile = 0; tile < mTiles; ++tile) {
      Fragment x = loadV(step, sub, tile).front();
      for (Value &word : x)
        word = clean(word, bad);
      for (int64_t n = 0; n < nTiles; ++n) {
        int64_t y = (sub * nTiles + n) * 2;
        multiply(formV, x, operands[y], operands[y + 1],
                 MutableArrayRef(state.o).slice((n * mTiles + tile) * 4, 4));
      }
    }
  Value word = arith::ExtUIOp::create(kit.b, kit.kernel, kit.i32(), bad);
  Value any =
      kit.cmp(CmpIPredicate::ne, kit.op1(Ptx::VoteAny, word), kit.i32(0));
  state.o = kit.choose(
      any,
      [&] {
        State next = state;
        addNonFinite(step, p, next);
        return next.o;
      },
      [&] { return state.o; });
}

void MmaMath::addNonFinite(const Step &step, const Values &p, State &state) {
  Type code = a.body.v.codec().getCodeType();
  // One token after the other.
  auto round = [&](Value token, ValueRange carried) {
    Values o(carried);
    // Lane 4 (token % 8) + t holds this lane's rows of p.
    Value from = kit.add(kit.mul(kit.rem(token, 8), 4), t);
    Value index = kit.div(token, 8); // (sub, half)
    Value position = kit.add(step.first, token);
    Value row = kit.add(step.v.base, kit.mul(token, a.strideV));
    for (int64_t column = 0; column < 2 * nTiles; ++column) {
      Value mine;
      for (int64_t sub = 0; sub < subs; ++sub)
        for (int64_t half = 0; half < 2; ++half) {
          Value x = p[at(sub, column / 2, 2 * half + column % 2)];
          Value here =
              kit.cmp(CmpIPredicate::eq, index, kit.i32(2 * sub + half));
          mine = mine ? kit.select(here, x, mine) : x;
        }
      Value weight = kit.bits(kit.op1(Ptx::ShflIdx, {mine, from}), kit.f32());
      // Lanes whose own value is another token's shuffle all the same.
      Value seen = a.visible(position, positions[column]);
      for (int64_t tile = 0; tile < mTiles; ++tile)
        for (int64_t half = 0; half < 2; ++half) {
          if (tile * 16 + half * 8 >= a.dimV)
            continue;
          Value at = kit.add(row, kit.mul(channelOf(half), 2));
          Value bits = kit.loadShared(kit.b.getI16Type(),
                                      {at, step.v.offset + tile * 32});
          Value x = LLVM::BitcastOp::create(
              kit.b, kit.kernel, code,
              arith::TruncIOp::create(kit.b, kit.kernel, kit.b.getI16Type(),
                                      bits));
          x = arith::ExtFOp::create(kit.b, kit.kernel, kit.f32(), x);
          Value size = LLVM::FAbsOp::create(kit.b, kit.kernel, x);
          Value special =
              kit.not_(kit.fcmp(CmpFPredicate::OLT, size, kit.f32(INFINITY)));
          Value &sum =
              o[((column / 2) * mTiles + tile) * 4 + 2 * half + column % 2];
          sum =
              kit.select(kit.and_(seen, special), kit.fma(weight, x, sum), sum);
        }
    }
    return o;
  };
  state.o =
      kit.loop(kit.i32(0), kit.i32(step.tokens), kit.i32(1), state.o, round);
}
