//===- AttendMmaOperands.cpp - attention on tensor cores: operands --------===//
//
// Codes of 16 bits are operands as they are. Of int8 that becomes f16, one load
// of 16-bit units brings two neighbouring codes where one 16-bit code would be:
// channels (K) or rows of the output (V) then come in another order, which q
// and the stores follow, so that no element moves between lanes.
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

/// Two 16-bit elements of a model as f32, the lower one first.
static Values unpackPair(Kit &kit, Value word, Type dtype) {
  // bf16 is the upper half of an f32.
  if (dtype.isBF16())
    return {kit.bitcast(kit.shl(word, 16), kit.f32()),
            kit.bitcast(kit.and_(word, -65536), kit.f32())};
  Value pair = kit.bitcast(word, kit.vec(2, dtype));
  Values elements;
  for (int64_t i : {0, 1})
    elements.push_back(arith::ExtFOp::create(kit.b, kit.kernel, kit.f32(),
                                             kit.extract(pair, i)));
  return elements;
}

//===----------------------------------------------------------------------===//
// The query
//===----------------------------------------------------------------------===//

/// Two neighbouring elements of a query row, from channel `first` + `channel`
/// (i32, less than 16) on. 0 beyond the row.
Value MmaMainloop::queryPair(Value row, Value channel, int64_t first) {
  Type pair = kit.vec(2, a.k.dtype);
  auto load = [&](Value channel) {
    Value at = kit.ptr(kit.ptr(row, kit.mul(channel, 2)), 2 * first);
    return kit.bitcast(kit.loadReadOnly(pair, at, 4), kit.i32());
  };
  if (first + 16 <= a.dimK)
    return load(channel);
  Value there = kit.less(channel, kit.i32(a.dimK - first));
  Value safe = kit.select(there, channel, kit.i32(-first));
  return kit.select(there, load(safe), kit.i32(0));
}

MmaMainloop::Query MmaMainloop::queryOf(Value row) {
  Value from = a.queryRow(row);
  Query query = bytesK ? fixedQuery(from) : halvesOfQuery(from);
  if (query.factor && deferScale)
    query.factor = kit.fmul(query.factor, kit.f32(a.body.scale));
  return query;
}

/// The largest |x| of words of two elements, over the lanes that share a row,
/// as bits of f32; more than those of any number if one is none.
static Value largestSize(Kit &kit, const Values &words, Type dtype) {
  Value largest = kit.i32(0);
  for (Value word : words)
    for (Value bits : {word, kit.shr(word, 16)})
      largest = kit.max(largest, kit.and_(bits, 0x7fff));
  for (int64_t mask : {1, 2})
    largest = kit.max(largest, kit.shflXor(largest, mask));
  return kit.bitcast(unpackPair(kit, largest, dtype).front(), kit.i32());
}

static Value powerOfTwo(Kit &kit, Value exponent) {
  return kit.bitcast(kit.shl(kit.add(exponent, 127), 23), kit.f32());
}

/// Those that meet the codes of the first (half 0) or second 8 channels of a
/// product's 16. bf16 becomes f16, where codes do, by a power of two for each
/// row that brings its largest element below 2: of the others only those 2^24
/// times smaller are lost. An element that is no number stays one, and its row
/// is lost anyway.
MmaMainloop::Query MmaMainloop::halvesOfQuery(Value row) {
  Query query;
  for (int64_t kStep = 0; kStep < kSteps; ++kStep)
    for (int64_t half = 0; half < 2; ++half) {
      Value channel = formK == Form::I8
                          ? kit.add(kit.mul(threadInGroup, 4), 2 * half)
                          : kit.add(kit.mul(threadInGroup, 2), 8 * half);
      query.words.push_back(queryPair(row, channel, 16 * kStep));
    }
  if (!scalesQuery())
    return query;
  Value largest = largestSize(kit, query.words, a.k.dtype);
  Value exponent = kit.sub(kit.shr(largest, 23), kit.i32(127));
  exponent = kit.max(kit.min(exponent, kit.i32(126)), kit.i32(-126));
  Value down = powerOfTwo(kit, kit.sub(kit.i32(0), exponent));
  for (Value &word : query.words) {
    Values pair = unpackPair(kit, word, a.k.dtype);
    word = kit.op1(Ptx::CvtF16x2,
                   {kit.fmul(pair[1], down), kit.fmul(pair[0], down)});
  }
  query.factor = powerOfTwo(kit, exponent);
  return query;
}

/// Bits of q in fixed point, the sign apart. Products of the upper two bytes
/// and codes, summed over up to 1024 channels, fit 32 bits. Fewer bits would
/// not do for a row with an element that is a thousand times the others.
static constexpr int64_t kQueryBits = 22;

/// In fixed point, by a power of two for each row, in bytes: the upper one with
/// a sign, then those without. A word holds four channels, those that meet the
/// codes of the first (half 0) or second 16 channels of a product's 32. A row
/// with an element that is no number becomes NaN by its factor.
MmaMainloop::Query MmaMainloop::fixedQuery(Value row) {
  Values pairs; // [kSteps][2][2]
  for (int64_t first = 0; first < 32 * kSteps; first += 16)
    for (int64_t pair = 0; pair < 2; ++pair)
      pairs.push_back(
          queryPair(row, kit.add(kit.mul(threadInGroup, 4), 2 * pair), first));
  Value largest = largestSize(kit, pairs, a.k.dtype);
  Value exponent = kit.sub(kit.shr(largest, 23), kit.i32(126));
  // So that 2^bits / 2^exponent is a number: smaller rows have fewer bits.
  exponent = kit.max(kit.min(exponent, kit.i32(128)), kit.i32(-100));
  Value up = powerOfTwo(kit, kit.sub(kit.i32(kQueryBits), exponent));
  Query query;
  query.words.resize(kQueryParts * 2 * kSteps);
  for (int64_t i = 0; i < 2 * kSteps; ++i) {
    Values x = unpackPair(kit, pairs[2 * i], a.k.dtype);
    x.append(unpackPair(kit, pairs[2 * i + 1], a.k.dtype));
    // Adding 1.5 * 2^23 rounds to integers.
    for (Value &element : x)
      element = kit.sub(
          kit.bitcast(kit.fma(element, up, kit.f32(0x1.8p23)), kit.i32()),
          kit.i32(0x4b400000));
    for (int64_t part = 0; part < kQueryParts; ++part) {
      int64_t byte = kQueryParts - 1 - part;
      Value selector = kit.i32((4 + byte) << 4 | byte);
      Value low = kit.op1(Ptx::Prmt, {x[0], x[1], selector});
      Value high = kit.op1(Ptx::Prmt, {x[2], x[3], selector});
      query.words[part * 2 * kSteps + i] =
          kit.op1(Ptx::Prmt, {low, high, kit.i32(0x5410)});
    }
  }
  Value down = powerOfTwo(kit, kit.sub(exponent, kit.i32(kQueryBits)));
  Value finite = kit.less(largest, kit.i32(0x7f800000));
  query.factor = kit.select(finite, down, kit.f32(NAN));
  return query;
}

//===----------------------------------------------------------------------===//
// K, V and P
//===----------------------------------------------------------------------===//

/// x + 128 are the low bits of 1024 + 128 + x.
Value MmaMainloop::fromI8(Value bytes, int64_t selector, bool biased) {
  Value shifted = kit.xor_(bytes, kit.i32(int32_t(0x80808080)));
  Value halves =
      kit.op1(Ptx::Prmt, {shifted, kit.i32(0x64646464), kit.i32(selector)});
  if (biased)
    return halves;
  return kit.op1(Ptx::SubF16x2, {halves, kit.i32(0x64806480)});
}

Value MmaMainloop::packP(Value low, Value high, bool rest) {
  Ptx convert = formV == Form::BF16 ? Ptx::CvtBF16x2 : Ptx::CvtF16x2;
  Value word = kit.op1(convert, {high, low});
  if (!rest)
    return word;
  Value halves = kit.bitcast(word, kit.vec(2, kit.b.getF16Type()));
  auto lost = [&](Value x, int64_t i) {
    Value kept = arith::ExtFOp::create(kit.b, kit.kernel, kit.f32(),
                                       kit.extract(halves, i));
    return kit.fsub(x, kept);
  };
  return kit.op1(convert, {lost(high, 1), lost(low, 0)});
}

void MmaMainloop::multiply(Ptx mma, ArrayRef<Value> x, ArrayRef<Value> y,
                           MutableArrayRef<Value> sum) {
  Values next = kit.op(mma, {x[0], x[1], x[2], x[3], y[0], y[1], sum[0], sum[1],
                             sum[2], sum[3]});
  llvm::copy(next, sum.begin());
}

//===----------------------------------------------------------------------===//
// V that is no number
//===----------------------------------------------------------------------===//

/// The word with halves that are infinite or NaN replaced by 0; `bad` collects
/// the bits of those halves. Not whether there are any: of each pair of so many
/// comparisons LLVM asks what one says of the other, which takes most of the
/// compile time that it has for a kernel.
Value MmaMainloop::clean(Value word, Value &bad) {
  int64_t exponent = formV == Form::BF16 ? 0x7f80 : 0x7c00;
  Value kept = word;
  for (int64_t shift : {0, 16}) {
    Value field = kit.and_(word, int32_t(exponent << shift));
    Value special =
        kit.cmp(CmpIPredicate::eq, field, kit.i32(int32_t(exponent << shift)));
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
  Type code = a.body.v.code();
  auto element = [&](Value from, int64_t offset) -> Value {
    Value bits =
        kit.loadShared(kit.b.getI16Type(), {from, step.v.offset + offset});
    bits = arith::TruncIOp::create(kit.b, kit.kernel, kit.b.getI16Type(), bits);
    Value x = LLVM::BitcastOp::create(kit.b, kit.kernel, code, bits);
    return arith::ExtFOp::create(kit.b, kit.kernel, kit.f32(), x);
  };
  // One token after the other.
  auto round = [&](Value token, ValueRange carried) {
    Values o(carried), weights, seen;
    Value from = kit.add(step.v.base, kit.mul(token, a.strideV));
    for (int64_t row = 0; row < rowSlots; ++row) {
      weights.push_back(weightOf(token, row, p));
      seen.push_back(a.visible(kit.add(step.first, token), places[row]));
    }
    for (int64_t channel = 0; channel < channelSlots; ++channel) {
      Value at = kit.add(from, kit.mul(channelInChunk(channel), 2));
      Value x = element(at, chunkOf(channel) * 32);
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
