//===- Kit.cpp - the small vocabulary of CPU kernels ----------------------===//
#include "codegen/cpu/Kit.h"

#include "codegen/Convert.h"
#include "dialect/KvcDialect.h"

#include "mlir/Dialect/Math/IR/Math.h"

#include "llvm/Support/MathExtras.h"

#include <bit>

using namespace mlir;
using namespace kvc::cpu;

//===----------------------------------------------------------------------===//
// Integers
//===----------------------------------------------------------------------===//

Value Kit::i64(int64_t value) {
  return arith::ConstantOp::create(b, loc, b.getI64IntegerAttr(value));
}
Value Kit::add(Value x, Value y) { return arith::AddIOp::create(b, loc, x, y); }
Value Kit::add(Value x, int64_t y) { return y ? add(x, i64(y)) : x; }
Value Kit::sub(Value x, Value y) { return arith::SubIOp::create(b, loc, x, y); }
Value Kit::mul(Value x, Value y) { return arith::MulIOp::create(b, loc, x, y); }
Value Kit::mul(Value x, int64_t y) { return y == 1 ? x : mul(x, i64(y)); }
Value Kit::div(Value x, int64_t y) {
  return y == 1 ? x : arith::DivUIOp::create(b, loc, x, i64(y)).getResult();
}
Value Kit::rem(Value x, int64_t y) {
  return y == 1 ? i64(0)
                : arith::RemUIOp::create(b, loc, x, i64(y)).getResult();
}
Value Kit::ceilDiv(Value x, int64_t y) { return div(add(x, y - 1), y); }
Value Kit::min(Value x, Value y) {
  return arith::MinSIOp::create(b, loc, x, y);
}
Value Kit::max(Value x, Value y) {
  return arith::MaxSIOp::create(b, loc, x, y);
}
Value Kit::i32s(int64_t n, int32_t value) {
  return i32s(SmallVector<int32_t>(n, value));
}
Value Kit::i32s(ArrayRef<int32_t> values) {
  auto type = VectorType::get(values.size(), b.getI32Type());
  return arith::ConstantOp::create(b, loc,
                                   DenseElementsAttr::get(type, values));
}
Value Kit::truncI32(Value x) {
  return arith::TruncIOp::create(b, loc, b.getI32Type(), x);
}
Value Kit::splatI32(Value x, int64_t n) {
  return splat(arith::TruncIOp::create(b, loc, b.getI32Type(), x), n);
}
Value Kit::cmp(arith::CmpIPredicate p, Value x, Value y) {
  return arith::CmpIOp::create(b, loc, p, x, y);
}
Value Kit::both(Value x, Value y) {
  return arith::AndIOp::create(b, loc, x, y);
}
Value Kit::either(Value x, Value y) {
  return arith::OrIOp::create(b, loc, x, y);
}
Value Kit::negate(Value x) {
  Value one = arith::ConstantOp::create(b, loc, b.getBoolAttr(true));
  return arith::XOrIOp::create(b, loc, x, one);
}
Value Kit::select(Value c, Value x, Value y) {
  return arith::SelectOp::create(b, loc, c, x, y);
}
Value Kit::any(Value conditions) {
  return vector::ReductionOp::create(b, loc, vector::CombiningKind::OR,
                                     conditions);
}

//===----------------------------------------------------------------------===//
// Control
//===----------------------------------------------------------------------===//

void Kit::loop(Value low, Value high, int64_t step, Body body) {
  auto op = scf::ForOp::create(b, loc, low, high, i64(step));
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(op.getBody());
  body(op.getInductionVar());
}

void Kit::loop(int64_t low, int64_t high, int64_t step, Body body) {
  if (low + step >= high) {
    if (low < high)
      body(i64(low));
    return;
  }
  loop(i64(low), i64(high), step, body);
}

SmallVector<Value> Kit::loop(Value low, Value high, int64_t step,
                             ValueRange init, CarryBody body) {
  auto op = scf::ForOp::create(b, loc, low, high, i64(step), init);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(op.getBody());
  SmallVector<Value> next = body(op.getInductionVar(), op.getRegionIterArgs());
  if (!next.empty()) // else it is there already
    scf::YieldOp::create(b, loc, next);
  return op.getResults();
}

void Kit::when(Value condition, llvm::function_ref<void()> then,
               llvm::function_ref<void()> otherwise) {
  auto op = scf::IfOp::create(b, loc, condition, bool(otherwise));
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(op.thenBlock());
  then();
  if (otherwise) {
    b.setInsertionPointToStart(op.elseBlock());
    otherwise();
  }
}

//===----------------------------------------------------------------------===//
// Memory
//===----------------------------------------------------------------------===//

Value Kit::at(Value base, Value bytes) {
  return LLVM::GEPOp::create(b, loc, ptr(), b.getI8Type(), base,
                             ArrayRef<LLVM::GEPArg>{bytes},
                             LLVM::GEPNoWrapFlags::inbounds);
}
Value Kit::at(Value base, int64_t bytes) {
  if (!bytes)
    return base;
  if (!llvm::isInt<32>(bytes)) // more than a constant index can say
    return at(base, i64(bytes));
  return LLVM::GEPOp::create(b, loc, ptr(), b.getI8Type(), base,
                             ArrayRef<LLVM::GEPArg>{int32_t(bytes)},
                             LLVM::GEPNoWrapFlags::inbounds);
}
Value Kit::anywhere(Value base, Value bytes) {
  return LLVM::GEPOp::create(b, loc, ptr(), b.getI8Type(), base,
                             ArrayRef<LLVM::GEPArg>{bytes});
}
Value Kit::load(Type type, Value address, unsigned align) {
  if (!align)
    align = 1;
  return LLVM::LoadOp::create(b, loc, type, address, align);
}
void Kit::store(Value value, Value address, unsigned align) {
  LLVM::StoreOp::create(b, loc, value, address, align ? align : 1);
}
Value Kit::loadI32(Value base, int64_t bytes) {
  Value word = load(b.getI32Type(), at(base, bytes), 4);
  return arith::ExtSIOp::create(b, loc, b.getI64Type(), word);
}
Value Kit::loadI64(Value base, int64_t bytes) {
  return load(b.getI64Type(), at(base, bytes), 8);
}
Value Kit::loadPtr(Value base, int64_t bytes) {
  return load(ptr(), at(base, bytes), 8);
}
Value Kit::isNotNull(Value address) {
  Value null = LLVM::ZeroOp::create(b, loc, ptr());
  return LLVM::ICmpOp::create(b, loc, LLVM::ICmpPredicate::ne, address, null);
}
void Kit::prefetch(Value address, int64_t level) {
  LLVM::Prefetch::create(b, loc, address, /*rw=*/0, /*hint=*/4 - level,
                         /*cache=*/1);
}

//===----------------------------------------------------------------------===//
// Floats
//===----------------------------------------------------------------------===//

Value Kit::constant(double value, Type type) {
  Attribute attr = b.getF32FloatAttr(float(value));
  if (auto vector = dyn_cast<VectorType>(type))
    attr = DenseElementsAttr::get(vector, attr);
  return arith::ConstantOp::create(b, loc, cast<TypedAttr>(attr));
}
Value Kit::splat(Value scalar, int64_t n) {
  return vector::BroadcastOp::create(
      b, loc, VectorType::get(n, scalar.getType()), scalar);
}
Value Kit::fadd(Value x, Value y) {
  return arith::AddFOp::create(b, loc, x, y);
}
Value Kit::fsub(Value x, Value y) {
  return arith::SubFOp::create(b, loc, x, y);
}
Value Kit::fmul(Value x, Value y) {
  return arith::MulFOp::create(b, loc, x, y);
}
Value Kit::fdiv(Value x, Value y) {
  return arith::DivFOp::create(b, loc, x, y);
}
Value Kit::fma(Value x, Value y, Value z) {
  return LLVM::FMAOp::create(b, loc, x, y, z);
}
Value Kit::toF32(Value x) {
  auto shape = cast<VectorType>(x.getType()).getShape();
  return arith::SIToFPOp::create(b, loc, VectorType::get(shape, f32()), x);
}
Value Kit::roundToI32(Value x, double scale) {
  // Adding 1.5 * 2^23 rounds, and leaves the integer in the low bits.
  auto shape = cast<VectorType>(x.getType()).getShape();
  constexpr float magic = 12582912;
  Value from = constant(magic, x.getType());
  Value sum =
      scale == 1 ? fadd(x, from) : fma(x, constant(scale, x.getType()), from);
  Value bits = arith::BitcastOp::create(
      b, loc, VectorType::get(shape, b.getI32Type()), sum);
  return sub(bits, i32s(shape[0], std::bit_cast<int32_t>(magic)));
}
Value Kit::fcmp(arith::CmpFPredicate p, Value x, Value y) {
  return arith::CmpFOp::create(b, loc, p, x, y);
}
Value Kit::fmaxKeepNaN(Value x, Value y) {
  return select(fcmp(arith::CmpFPredicate::OGT, x, y), x, y);
}

Value Kit::fminKeepNaN(Value x, Value y) {
  return select(fcmp(arith::CmpFPredicate::OLT, x, y), x, y);
}

/// 2^f for f in [-1/2, 1/2]: minimax polynomial of Cephes' exp2f.
static Value exp2Fraction(Kit &kit, Value f) {
  static constexpr double coefficients[] = {1.535336188319500e-4,
                                            1.339887440266574e-3,
                                            9.618437357674640e-3,
                                            5.550332471162809e-2,
                                            2.402264791363012e-1,
                                            6.931472028550421e-1,
                                            1.0};
  Value p = kit.constant(coefficients[0], f.getType());
  for (double c : ArrayRef(coefficients).drop_front())
    p = kit.fma(p, f, kit.constant(c, f.getType()));
  return p;
}

/// x * 2^n of one register (avx512f, avx512vl), n without a fraction or a NaN.
static Value scaleByPower(Kit &kit, Value x, Value n) {
  OpBuilder &b = kit.b;
  auto type = cast<VectorType>(x.getType());
  int64_t lanes = type.getNumElements();
  Type mask = b.getIntegerType(std::max<int64_t>(8, lanes));
  auto integer = [&](IntegerAttr value) -> Value {
    return arith::ConstantOp::create(b, kit.loc, value);
  };
  SmallVector<Value> operands{x, n, x, integer(b.getIntegerAttr(mask, -1))};
  constexpr int32_t currentRounding = 4;
  if (lanes == 16) // only the widest says how to round
    operands.push_back(integer(b.getI32IntegerAttr(currentRounding)));
  auto name = "llvm.x86.avx512.mask.scalef.ps." + Twine(32 * lanes);
  return LLVM::CallIntrinsicOp::create(b, kit.loc, type, b.getStringAttr(name),
                                       operands)
      .getResults();
}

Value Kit::exp2(Value x) {
  Type type = x.getType();
  int64_t n = cast<VectorType>(type).getNumElements();
  if (n > lanes && n % lanes == 0) {
    SmallVector<Value> parts;
    for (int64_t i = 0; i < n; i += lanes)
      parts.push_back(
          exp2(shuffle(x, x, llvm::to_vector(llvm::seq(i, i + lanes)))));
    return concat(parts);
  }
  if (lanes == 16 && n >= 4) {
    // A fraction of -inf is NaN, and NaN times 2^-inf is 0.
    Value whole = LLVM::RoundEvenOp::create(b, loc, x);
    return scaleByPower(*this, exp2Fraction(*this, fsub(x, whole)), whole);
  }
  auto ints = VectorType::get(n, b.getI32Type());
  x = fmaxKeepNaN(constant(-127, type), x);
  // Adding 1.5 * 2^23 rounds to an integer n and leaves n in the low bits, here
  // with the bias of an exponent on it.
  Value magic = constant(12582912 + 127, type);
  Value rounded = fadd(x, magic);
  Value p = exp2Fraction(*this, fsub(x, fsub(rounded, magic)));
  // 2^n by its exponent field; n = -127 gives 0.
  Value bits = arith::BitcastOp::create(b, loc, ints, rounded);
  bits = arith::ShLIOp::create(b, loc, bits, i32s(n, 23));
  return fmul(p, arith::BitcastOp::create(b, loc, type, bits));
}

Value Kit::tanh(Value x) { return math::TanhOp::create(b, loc, x); }

/// Calls the product of that name; x and y are vectors of `element`.
static Value product(Kit &kit, StringRef name, Type element, Value sum, Value x,
                     Value y) {
  auto type = cast<VectorType>(sum.getType());
  int64_t bits = 32 * type.getNumElements();
  auto operand =
      VectorType::get(bits / element.getIntOrFloatBitWidth(), element);
  auto as = [&](Value v) -> Value {
    if (v.getType() == operand)
      return v;
    return vector::BitCastOp::create(kit.b, kit.loc, operand, v);
  };
  std::string intrinsic = (name + "." + Twine(bits)).str();
  return LLVM::CallIntrinsicOp::create(kit.b, kit.loc, type,
                                       kit.b.getStringAttr(intrinsic),
                                       ValueRange{sum, as(x), as(y)})
      .getResults();
}

Value Kit::dotBF16(Value sum, Value x, Value y) {
  return product(*this, "llvm.x86.avx512bf16.dpbf16ps", b.getBF16Type(), sum, x,
                 y);
}
Value Kit::dotI16(Value sum, Value x, Value y) {
  return product(*this, "llvm.x86.avx512.vpdpwssd", b.getI16Type(), sum, x, y);
}

//===----------------------------------------------------------------------===//
// Matrix registers
//===----------------------------------------------------------------------===//

// The intrinsics that name registers: LLVM's others have it choose and
// configure them, and it then spills what a loop keeps.

/// Calls an intrinsic with register numbers and then other operands.
static void callTiles(Kit &kit, StringRef name, ArrayRef<int64_t> tiles,
                      ValueRange rest = {}) {
  SmallVector<Value> operands;
  for (int64_t tile : tiles)
    operands.push_back(arith::ConstantOp::create(
        kit.b, kit.loc, kit.b.getI8IntegerAttr(int8_t(tile))));
  llvm::append_range(operands, rest);
  LLVM::CallIntrinsicOp::create(kit.b, kit.loc, kit.b.getStringAttr(name),
                                operands);
}

void Kit::configureTiles(Value address) {
  callTiles(*this, "llvm.x86.ldtilecfg", {}, address);
}
void Kit::releaseTiles() { callTiles(*this, "llvm.x86.tilerelease", {}); }
void Kit::zeroTile(int64_t tile) {
  callTiles(*this, "llvm.x86.tilezero", tile);
}
void Kit::loadTile(int64_t tile, Value address, int64_t stride) {
  callTiles(*this, "llvm.x86.tileloadd64", tile, {address, i64(stride)});
}
void Kit::storeTile(int64_t tile, Value address, int64_t stride) {
  callTiles(*this, "llvm.x86.tilestored64", tile, {address, i64(stride)});
}
void Kit::dotTiles(int64_t sum, int64_t x, int64_t y) {
  callTiles(*this, "llvm.x86.tdpbf16ps", {sum, x, y});
}

//===----------------------------------------------------------------------===//
// Lanes
//===----------------------------------------------------------------------===//

static int64_t width(Value x) {
  return cast<VectorType>(x.getType()).getNumElements();
}

Value Kit::shuffle(Value x, Value y, ArrayRef<int64_t> lanes) {
  return vector::ShuffleOp::create(b, loc, x, y, lanes);
}
Value Kit::extract(Value x, int64_t lane) {
  return vector::ExtractOp::create(b, loc, x, lane);
}

Value Kit::concat(ArrayRef<Value> parts) {
  SmallVector<Value> level(parts);
  while (level.size() > 1) {
    SmallVector<Value> next;
    for (size_t i = 0; i + 1 < level.size(); i += 2) {
      auto lanes = llvm::to_vector(llvm::seq<int64_t>(0, 2 * width(level[i])));
      next.push_back(shuffle(level[i], level[i + 1], lanes));
    }
    level = next;
  }
  return level[0];
}

Value Kit::repeat(Value x, int64_t n) {
  int64_t w = width(x);
  if (w == n)
    return x;
  SmallVector<int64_t> lanes;
  for (int64_t i = 0; i < n; ++i)
    lanes.push_back(i % w);
  return shuffle(x, x, lanes);
}

namespace {
/// A vector of partial sums: lane i is a part of sum ids[i].
struct Partial {
  Value x;
  SmallVector<int64_t> ids;
};
} // namespace

static Value plus(Kit &kit, Value x, Value y) {
  bool isF32 = cast<VectorType>(x.getType()).getElementType().isF32();
  return isF32 ? kit.fadd(x, y) : kit.add(x, y);
}

/// Adds the lanes of x, and of y, whose numbers differ by `bit`. Shuffles
/// within 128 bits, the cheaper ones, go first, each as one instruction has
/// them.
static Partial foldPair(Kit &kit, const Partial &x, const Partial &y,
                        int64_t bit) {
  int64_t w = x.ids.size(), unit = bit < 4 ? 4 : w;
  SmallVector<int64_t> low, high;
  Partial out;
  for (int64_t base = 0; base < w; base += unit)
    for (const Partial *side : {&x, &y})
      for (int64_t lane = base; lane < base + unit; ++lane) {
        if (lane & bit)
          continue;
        low.push_back(lane + (side == &y ? w : 0));
        high.push_back(low.back() + bit);
        out.ids.push_back(side->ids[lane]);
      }
  out.x = plus(kit, kit.shuffle(x.x, y.x, low), kit.shuffle(x.x, y.x, high));
  return out;
}

Value Kit::reduceAdd(int64_t count, llvm::function_ref<Value(int64_t)> vector) {
  constexpr int64_t bits[] = {2, 1, 4, 4}; // of each level, if there are lanes
  SmallVector<Partial> done, waiting[std::size(bits)];
  int64_t w = 0;
  for (int64_t i = 0; i < count; ++i) {
    Value x = vector(i);
    w = width(x);
    Partial sum{x, SmallVector<int64_t>(w, i)};
    size_t level = 0, levels = llvm::Log2_64(w);
    for (; level < levels && !waiting[level].empty(); ++level)
      sum = foldPair(*this, waiting[level].pop_back_val(), sum, bits[level]);
    (level < levels ? waiting[level] : done).push_back(sum);
  }
  // Too few to fill a vector: the one that is left has several parts per sum.
  for (auto &level : waiting)
    for (Partial &sum : level) {
      for (int64_t bit = 1; bit < w; bit *= 2) {
        if (sum.ids[0] != sum.ids[bit])
          continue;
        SmallVector<int64_t> swap;
        for (int64_t lane = 0; lane < w; ++lane)
          swap.push_back(lane ^ bit);
        sum.x = plus(*this, sum.x, shuffle(sum.x, sum.x, swap));
      }
      done.push_back(sum);
    }
  SmallVector<int64_t> order(count, -1);
  SmallVector<Value> parts;
  for (auto [part, sum] : llvm::enumerate(done)) {
    parts.push_back(sum.x);
    for (auto [lane, id] : llvm::enumerate(sum.ids))
      if (order[id] < 0)
        order[id] = part * w + lane;
  }
  Value all = concat(parts);
  return shuffle(all, all, order);
}

Value Kit::fold(Value x, int64_t m,
                llvm::function_ref<Value(Value, Value)> combine) {
  for (int64_t n = width(x); n > m; n /= 2) {
    auto low = llvm::to_vector(llvm::seq<int64_t>(0, n / 2));
    auto high = llvm::to_vector(llvm::seq<int64_t>(n / 2, n));
    x = combine(shuffle(x, x, low), shuffle(x, x, high));
  }
  return x;
}

Value Kit::roundToBF16(Value x) {
  return arith::TruncFOp::create(b, loc,
                                 VectorType::get(width(x), b.getBF16Type()), x);
}

Value Kit::lookUp(Value words, ArrayRef<float> table) {
  int64_t n = cast<VectorType>(words.getType()).getNumElements();
  bool isAll = lanes == 16;
  if (n != lanes || (lanes != 8 && !isAll))
    return {};
  auto permute = [&](ArrayRef<float> of) -> Value {
    Value values = arith::ConstantOp::create(
        b, loc, DenseElementsAttr::get(cast<VectorType>(vec(n)), of));
    StringRef name =
        isAll ? "llvm.x86.avx512.permvar.sf.512" : "llvm.x86.avx2.permps";
    return LLVM::CallIntrinsicOp::create(b, loc, vec(n), b.getStringAttr(name),
                                         ValueRange{values, words})
        .getResults();
  };
  if (isAll)
    return permute(table);
  // Bit 3 tells the halves apart: as a sign it is what a blend goes by.
  Value isUpper = arith::CmpIOp::create(
      b, loc, arith::CmpIPredicate::slt,
      arith::ShLIOp::create(b, loc, words, i32s(n, 28)), i32s(n, 0));
  return select(isUpper, permute(table.take_back(8)),
                permute(table.take_front(8)));
}

Value Kit::loadAsF32(Type type, Value address, int64_t n) {
  auto from = [&](int64_t byte, VectorType type) {
    return load(type, at(address, byte));
  };
  return CodeConversion{type, n}.emit(b, loc, from, n).front();
}

void Kit::storeFromF32(Value x, Type type, Value address) {
  store(emitRound(b, loc, x, type), address);
}
