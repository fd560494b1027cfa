//===- Kit.cpp - the small vocabulary of GPU kernels ----------------------===//
#include "codegen/nvptx/Kit.h"

#include "dialect/KvcDialect.h"

#include "llvm/ADT/StringSwitch.h"
#include "llvm/Support/Path.h"

#include <cmath>

using namespace mlir;
using namespace kvc;
using namespace kvc::nvptx;
using arith::CmpFPredicate;
using arith::CmpIPredicate;

//===----------------------------------------------------------------------===//
// Instructions
//===----------------------------------------------------------------------===//

static constexpr OpInfo kOps[] = {
#define KVC_PTX_OP(NAME, SM, KIND, CONSTRAINTS, ASM)                           \
  {#NAME, SM, OpKind::KIND, CONSTRAINTS, ASM},
#include "lib/base/Simt/Ops.def"
#undef KVC_PTX_OP
};

const OpInfo &kvc::nvptx::infoOf(Ptx op) { return kOps[unsigned(op)]; }

std::optional<Ptx> kvc::nvptx::ptxOf(LLVM::InlineAsmOp op) {
  auto name = op->getAttrOfType<StringAttr>("kvc.op");
  if (!name)
    return std::nullopt;
  static const llvm::StringMap<Ptx> byName = [] {
    llvm::StringMap<Ptx> map;
    for (unsigned i = 0; i < std::size(kOps); ++i)
      map[kOps[i].name] = Ptx(i);
    return map;
  }();
  auto found = byName.find(name.getValue());
  if (found == byName.end())
    return std::nullopt;
  return found->second;
}

Location Kit::at(const CodeLoc &here) {
  StringRef file = llvm::sys::path::filename(here.file_name());
  return FileLineColLoc::get(b.getContext(), file, here.line(), here.column());
}

/// The type of a result or operand by its constraint.
static Type typeOf(Kit &kit, char constraint) {
  switch (constraint) {
  case 'f':
    return kit.f32();
  case 'l':
    return kit.b.getI64Type();
  case 'h':
    return kit.b.getI16Type();
  default:
    return kit.i32();
  }
}

/// `x` as an operand of that constraint.
static Value fit(Kit &kit, Location loc, Value x, char constraint) {
  if (isa<LLVM::LLVMPointerType>(x.getType()) && constraint == 'l')
    return x;
  Type wanted = typeOf(kit, constraint);
  if (x.getType() == wanted)
    return x;
  if (isa<VectorType>(x.getType()))
    return LLVM::BitcastOp::create(kit.b, loc, wanted, x);
  return arith::BitcastOp::create(kit.b, loc, wanted, x);
}

Kit::Values Kit::op(Ptx op, ValueRange operands, ArrayRef<int64_t> constants,
                    CodeLoc here) {
  const OpInfo &info = infoOf(op);
  Location loc = at(here);
  SmallVector<StringRef> letters;
  info.constraints.split(letters, ',', -1, /*KeepEmpty=*/false);
  SmallVector<Type> results;
  Values arguments;
  auto nextOperand = operands.begin();
  auto nextConstant = constants.begin();
  for (StringRef letter : letters) {
    if (letter.consume_front("="))
      results.push_back(typeOf(*this, letter.front()));
    else if (letter == "n")
      arguments.push_back(LLVM::ConstantOp::create(
          b, loc, i32(), b.getI32IntegerAttr(int32_t(*nextConstant++))));
    else
      arguments.push_back(fit(*this, loc, *nextOperand++, letter.front()));
  }
  assert(nextOperand == operands.end() && nextConstant == constants.end() &&
         "operands as in Ops.def");
  Type result;
  if (results.size() == 1)
    result = results.front();
  else if (!results.empty())
    result = LLVM::LLVMStructType::getLiteral(b.getContext(), results);
  bool effect = info.kind != OpKind::Pure;
  std::string constraintText = info.constraints.str();
  if (effect)
    constraintText += constraintText.empty() ? "~{memory}" : ",~{memory}";
  auto assembly = LLVM::InlineAsmOp::create(
      b, loc, result ? TypeRange(result) : TypeRange(), arguments, info.text,
      constraintText, effect, /*is_align_stack=*/false,
      LLVM::TailCallKind::None, LLVM::AsmDialectAttr(), ArrayAttr());
  assembly->setAttr("kvc.op", b.getStringAttr(info.name));
  if (results.empty())
    return {};
  if (results.size() == 1)
    return {assembly.getResult(0)};
  Values values;
  for (int64_t i = 0; i < int64_t(results.size()); ++i)
    values.push_back(
        LLVM::ExtractValueOp::create(b, loc, assembly.getResult(0), i));
  return values;
}

Value Kit::op1(Ptx op, ValueRange operands, ArrayRef<int64_t> constants,
               CodeLoc here) {
  return this->op(op, operands, constants, here).front();
}

Value Kit::threadId(CodeLoc here) { return op1(Ptx::TidX, {}, {}, here); }

Value Kit::shflXor(Value x, int64_t mask, CodeLoc here) {
  Value other = op1(Ptx::ShflBfly, x, mask, here);
  return bitcast(other, x.getType());
}

//===----------------------------------------------------------------------===//
// Integers
//===----------------------------------------------------------------------===//

Value Kit::i32(int64_t value) {
  return arith::ConstantOp::create(b, kernel,
                                   b.getI32IntegerAttr(int32_t(value)));
}
Value Kit::i64(int64_t value) {
  return arith::ConstantOp::create(b, kernel, b.getI64IntegerAttr(value));
}
Value Kit::extI64(Value x) {
  if (x.getType().isInteger(64))
    return x;
  return arith::ExtSIOp::create(b, kernel, b.getI64Type(), x);
}
Value Kit::truncI32(Value x) {
  if (x.getType().isInteger(32))
    return x;
  return arith::TruncIOp::create(b, kernel, i32(), x);
}

/// A constant of the integer type of `like`.
static Value constantLike(Kit &kit, int64_t value, Value like) {
  return arith::ConstantOp::create(kit.b, kit.kernel,
                                   kit.b.getIntegerAttr(like.getType(), value));
}

Value Kit::add(Value x, Value y) {
  return arith::AddIOp::create(b, kernel, x, y);
}
Value Kit::add(Value x, int64_t y) {
  return y ? add(x, constantLike(*this, y, x)) : x;
}
Value Kit::sub(Value x, Value y) {
  return arith::SubIOp::create(b, kernel, x, y);
}
Value Kit::mul(Value x, Value y) {
  return arith::MulIOp::create(b, kernel, x, y);
}
Value Kit::mul(Value x, int64_t y) {
  if (y == 1)
    return x;
  if (y > 0 && llvm::isPowerOf2_64(y))
    return shl(x, llvm::Log2_64(y));
  return mul(x, constantLike(*this, y, x));
}
Value Kit::div(Value x, int64_t y) {
  return y == 1 ? x : div(x, constantLike(*this, y, x));
}
Value Kit::rem(Value x, int64_t y) { return rem(x, constantLike(*this, y, x)); }
Value Kit::div(Value x, Value y) {
  return arith::DivUIOp::create(b, kernel, x, y);
}
Value Kit::rem(Value x, Value y) {
  return arith::RemUIOp::create(b, kernel, x, y);
}
Value Kit::ceilDiv(Value x, int64_t y) { return div(add(x, y - 1), y); }
Value Kit::min(Value x, Value y) {
  return arith::MinSIOp::create(b, kernel, x, y);
}
Value Kit::max(Value x, Value y) {
  return arith::MaxSIOp::create(b, kernel, x, y);
}
Value Kit::and_(Value x, int64_t mask) {
  return and_(x, constantLike(*this, mask, x));
}
Value Kit::and_(Value x, Value y) {
  return arith::AndIOp::create(b, kernel, x, y);
}
Value Kit::or_(Value x, Value y) {
  return arith::OrIOp::create(b, kernel, x, y);
}
Value Kit::xor_(Value x, Value y) {
  return arith::XOrIOp::create(b, kernel, x, y);
}
Value Kit::shl(Value x, int64_t bits) {
  return bits
             ? arith::ShLIOp::create(b, kernel, x, constantLike(*this, bits, x))
                   .getResult()
             : x;
}
Value Kit::shr(Value x, int64_t bits) {
  return bits ? arith::ShRUIOp::create(b, kernel, x,
                                       constantLike(*this, bits, x))
                    .getResult()
              : x;
}
Value Kit::not_(Value condition) {
  Value yes = arith::ConstantOp::create(b, kernel, b.getBoolAttr(true));
  return xor_(condition, yes);
}
Value Kit::cmp(CmpIPredicate p, Value x, Value y) {
  return arith::CmpIOp::create(b, kernel, p, x, y);
}
Value Kit::less(Value x, Value y) { return cmp(CmpIPredicate::slt, x, y); }
Value Kit::select(Value c, Value x, Value y) {
  return arith::SelectOp::create(b, kernel, c, x, y);
}
Value Kit::bitcast(Value x, Type type) {
  if (x.getType() == type)
    return x;
  if (isa<VectorType>(x.getType()) != isa<VectorType>(type))
    return LLVM::BitcastOp::create(b, kernel, type, x);
  if (isa<VectorType>(type))
    return vector::BitCastOp::create(b, kernel, cast<VectorType>(type), x);
  return arith::BitcastOp::create(b, kernel, type, x);
}

//===----------------------------------------------------------------------===//
// f32
//===----------------------------------------------------------------------===//

Value Kit::f32(double value) { return constant(value, f32()); }
Value Kit::constant(double value, Type type) {
  Attribute attr = b.getF32FloatAttr(float(value));
  if (auto vector = dyn_cast<VectorType>(type))
    attr = DenseElementsAttr::get(vector, attr);
  return arith::ConstantOp::create(b, kernel, cast<TypedAttr>(attr));
}
Value Kit::fadd(Value x, Value y) {
  return arith::AddFOp::create(b, kernel, x, y);
}
Value Kit::fsub(Value x, Value y) {
  return arith::SubFOp::create(b, kernel, x, y);
}
Value Kit::fmul(Value x, Value y) {
  return arith::MulFOp::create(b, kernel, x, y);
}
Value Kit::fma(Value x, Value y, Value z) {
  return LLVM::FMAOp::create(b, kernel, x, y, z);
}
Value Kit::fmax(Value x, Value y) {
  return LLVM::MaxNumOp::create(b, kernel, x, y);
}
Value Kit::fmin(Value x, Value y) {
  return LLVM::MinNumOp::create(b, kernel, x, y);
}
Value Kit::fcmp(CmpFPredicate p, Value x, Value y) {
  return arith::CmpFOp::create(b, kernel, p, x, y);
}
Value Kit::ex2(Value x, CodeLoc here) { return op1(Ptx::Ex2, x, {}, here); }
Value Kit::lg2(Value x, CodeLoc here) { return op1(Ptx::Lg2, x, {}, here); }
Value Kit::rcp(Value x, CodeLoc here) { return op1(Ptx::Rcp, x, {}, here); }

/// x + x^3 p(x^2), p minimax of relative error 2^-24.6.
Value Kit::tanhNear(Value x) {
  static constexpr double coefficients[] = {1.645876281e-02, -5.268414691e-02,
                                            1.332094222e-01, -3.333295882e-01};
  Value square = fmul(x, x), p = f32(coefficients[0]);
  for (double c : ArrayRef(coefficients).drop_front())
    p = fma(p, square, f32(c));
  return fma(fmul(p, square), x, x);
}

Value Kit::tanh(Value x, CodeLoc here) {
  // 1 - 2 / (1 + e^2|x|), with the sign of x; e^2|x| = inf gives 1, NaN stays.
  // Near 0 the difference cancels: its error is that of the 1.
  Value size = LLVM::FAbsOp::create(b, kernel, x);
  Value power = ex2(fmul(size, f32(2 * M_LOG2E)), here);
  Value ratio = rcp(fadd(power, f32(1)), here);
  Value far = fma(ratio, f32(-2), f32(1));
  far = LLVM::CopySignOp::create(b, kernel, far, x);
  return select(fcmp(CmpFPredicate::OLT, size, f32(kTanhNear)), tanhNear(x),
                far);
}

//===----------------------------------------------------------------------===//
// Control
//===----------------------------------------------------------------------===//

void Kit::loop(Value low, Value high, Value step, Body body) {
  loop(low, high, step, ValueRange(), [&](Value iv, ValueRange) {
    body(iv);
    return Values();
  });
}

Kit::Values Kit::loop(Value low, Value high, Value step, ValueRange init,
                      CarryBody body) {
  auto loop = scf::ForOp::create(
      b, kernel, low, high, step, init,
      [&](OpBuilder &, Location, Value iv, ValueRange carried) {
        Values next = body(iv, carried);
        scf::YieldOp::create(b, kernel, next);
      });
  b.setInsertionPointAfter(loop);
  return Values(loop.getResults());
}

Kit::Values Kit::loopNoUnroll(int64_t n, ValueRange init, CarryBody body) {
  Values results = loop(i32(0), i32(n), i32(1), init, body);
  MLIRContext *context = b.getContext();
  auto unroll = LLVM::LoopUnrollAttr::get(
      context, /*disable=*/b.getBoolAttr(true), {}, {}, {}, {}, {}, {});
  auto annotation = LLVM::LoopAnnotationAttr::get(
      context, {}, {}, {}, unroll, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {});
  std::prev(b.getInsertionPoint())->setAttr("loop_annotation", annotation);
  return results;
}

void Kit::when(Value condition, llvm::function_ref<void()> then,
               llvm::function_ref<void()> otherwise) {
  auto branch = scf::IfOp::create(b, kernel, condition, bool(otherwise));
  b.setInsertionPointToStart(branch.thenBlock());
  then();
  if (otherwise) {
    b.setInsertionPointToStart(branch.elseBlock());
    otherwise();
  }
  b.setInsertionPointAfter(branch);
}

Kit::Values Kit::choose(Value condition, llvm::function_ref<Values()> then,
                        llvm::function_ref<Values()> otherwise) {
  // The types are known only once a side is emitted.
  Block *here = b.getInsertionBlock();
  auto point = b.getInsertionPoint();
  auto emit = [&](llvm::function_ref<Values()> body, Region &region,
                  SmallVector<Type> *types) {
    b.createBlock(&region);
    Values values = body();
    if (types)
      *types = llvm::to_vector(ValueRange(values).getTypes());
    scf::YieldOp::create(b, kernel, values);
  };
  Region thenRegion, elseRegion;
  SmallVector<Type> types;
  emit(then, thenRegion, &types);
  emit(otherwise, elseRegion, nullptr);
  b.setInsertionPoint(here, point);
  OperationState state(kernel, scf::IfOp::getOperationName());
  state.addOperands(condition);
  state.addTypes(types);
  state.addRegion()->takeBody(thenRegion);
  state.addRegion()->takeBody(elseRegion);
  Operation *branch = b.create(state);
  b.setInsertionPointAfter(branch);
  return Values(branch->getResults());
}

//===----------------------------------------------------------------------===//
// Memory
//===----------------------------------------------------------------------===//

Value Kit::ptr(Value base, Value bytes) {
  return LLVM::GEPOp::create(b, kernel, base.getType(), b.getI8Type(), base,
                             ArrayRef<LLVM::GEPArg>{extI64(bytes)});
}
Value Kit::ptr(Value base, int64_t bytes) {
  if (bytes == 0)
    return base;
  return LLVM::GEPOp::create(b, kernel, base.getType(), b.getI8Type(), base,
                             ArrayRef<LLVM::GEPArg>{int32_t(bytes)});
}
Value Kit::load(Type type, Value address, unsigned align, CodeLoc here) {
  return LLVM::LoadOp::create(b, at(here), type, address, align);
}
Value Kit::loadReadOnly(Type type, Value address, unsigned align,
                        CodeLoc here) {
  return LLVM::LoadOp::create(b, at(here), type, address, align,
                              /*isVolatile=*/false, /*isNonTemporal=*/false,
                              /*isInvariant=*/true);
}
void Kit::store(Value value, Value address, unsigned align, CodeLoc here) {
  LLVM::StoreOp::create(b, at(here), value, address, align);
}

static Value toF32(Kit &kit, Value x, int64_t n) {
  auto wide = kit.vec(n, kit.f32());
  if (x.getType() == wide)
    return x;
  if (!cast<VectorType>(x.getType()).getElementType().isBF16())
    return arith::ExtFOp::create(kit.b, kit.kernel, wide, x);
  // By integers: LLVM would move what is done in f32 before the conversion, and
  // hosts have no arithmetic on bf16.
  Value halves = kit.bitcast(x, kit.vec(n, kit.b.getI16Type()));
  auto words = kit.vec(n, kit.i32());
  Value word = arith::ExtUIOp::create(kit.b, kit.kernel, words, halves);
  Value sixteen = arith::ConstantOp::create(
      kit.b, kit.kernel,
      DenseElementsAttr::get(words, kit.b.getI32IntegerAttr(16)));
  return kit.bitcast(arith::ShLIOp::create(kit.b, kit.kernel, word, sixteen),
                     wide);
}

Value Kit::loadAsF32(Type type, Value address, int64_t n, CodeLoc here) {
  unsigned align = std::min<unsigned>(16, n * type.getIntOrFloatBitWidth() / 8);
  return toF32(*this, loadReadOnly(vec(n, type), address, align, here), n);
}
void Kit::storeFromF32(Value x, Type type, Value address, CodeLoc here) {
  int64_t n = cast<VectorType>(x.getType()).getNumElements();
  unsigned align = std::min<unsigned>(16, n * type.getIntOrFloatBitWidth() / 8);
  store(emitRound(b, kernel, x, type), address, align, here);
}

static int64_t bytesOf(Type type) {
  if (auto vector = dyn_cast<VectorType>(type))
    return vector.getNumElements() * vector.getElementTypeBitWidth() / 8;
  return type.getIntOrFloatBitWidth() / 8;
}

Value Kit::loadShared(Type type, Shared from, CodeLoc here) {
  int64_t bytes = bytesOf(type);
  Ptx load = bytes == 1   ? Ptx::LdsU8
             : bytes == 2 ? Ptx::LdsU16
             : bytes == 4 ? Ptx::Lds32
             : bytes == 8 ? Ptx::Lds64
                          : Ptx::Lds128;
  Values words = op(load, from.base, from.offset, here);
  if (words.size() > 1)
    return bitcast(concat(words), type);
  if (bytes == 4)
    return bitcast(words[0], type);
  return words[0];
}

void Kit::storeShared(Value value, Shared to, CodeLoc here) {
  int64_t bytes = bytesOf(value.getType());
  Ptx store = bytes == 2   ? Ptx::StsU16
              : bytes == 4 ? Ptx::Sts32
              : bytes == 8 ? Ptx::Sts64
                           : Ptx::Sts128;
  Values operands{to.base};
  if (bytes == 2) {
    Value half = bitcast(value, b.getI16Type());
    operands.push_back(arith::ExtUIOp::create(b, kernel, i32(), half));
  } else if (bytes == 4) {
    operands.push_back(bitcast(value, i32()));
  } else {
    Value words = bitcast(value, vec(bytes / 4, i32()));
    for (int64_t i = 0; i < bytes / 4; ++i)
      operands.push_back(extract(words, i));
  }
  op(store, operands, to.offset, here);
}

//===----------------------------------------------------------------------===//
// Vectors
//===----------------------------------------------------------------------===//

Value Kit::splat(Value scalar, int64_t n) {
  return vector::BroadcastOp::create(b, kernel, vec(n, scalar.getType()),
                                     scalar);
}
Value Kit::extract(Value x, int64_t lane) {
  return vector::ExtractOp::create(b, kernel, x, lane);
}
Value Kit::concat(ArrayRef<Value> scalars) {
  return vector::FromElementsOp::create(
      b, kernel, vec(scalars.size(), scalars[0].getType()), scalars);
}
