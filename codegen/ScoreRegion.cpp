//===- ScoreRegion.cpp - a score's region inside a kernel -----------------===//
#include "codegen/ScoreRegion.h"

#include "dialect/KvcDialect.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/SmallPtrSet.h"
#include "llvm/ADT/TypeSwitch.h"
#include "llvm/Support/MathExtras.h"

#include <cmath>

using namespace mlir;
using namespace kvc;
using arith::CmpIPredicate;

namespace {

/// What element-wise ops on scalars and vectors have in common.
class Emitter {
public:
  Emitter(OpBuilder &b, Location loc) : b(b), loc(loc) {}

  template <typename OpT, typename... Args> Value make(Args... args) {
    return OpT::create(b, loc, args...);
  }
  /// A constant like `like`: a scalar, or all elements of a vector.
  Value constant(TypedAttr value, Type like) {
    if (auto vector = dyn_cast_or_null<VectorType>(like))
      value = DenseElementsAttr::get(
          VectorType::get(vector.getShape(), value.getType()), value);
    return arith::ConstantOp::create(b, loc, value);
  }
  Value f32(double value, Type like) {
    return constant(b.getF32FloatAttr(value), like);
  }
  Value i32(int64_t value, Type like) {
    return constant(b.getI32IntegerAttr(value), like);
  }
  Value cmp(CmpIPredicate predicate, Value x, Value y) {
    return make<arith::CmpIOp>(predicate, x, y);
  }
  /// floor(x / n): division rounds towards zero, a shift downwards.
  Value floorDiv(Value x, int64_t n) {
    Type type = x.getType();
    if (llvm::isPowerOf2_64(n))
      return make<arith::ShRSIOp>(x, i32(llvm::Log2_64(n), type));
    Value quotient = make<arith::DivSIOp>(x, i32(n, type));
    Value rest =
        make<arith::SubIOp>(x, make<arith::MulIOp>(quotient, i32(n, type)));
    Value below = cmp(CmpIPredicate::slt, rest, i32(0, type));
    Value less = make<arith::SubIOp>(quotient, i32(1, type));
    return make<arith::SelectOp>(below, less, quotient);
  }

  /// An index is within the row for every position that a batch can have. A
  /// GPU's lengths nobody checks: wrong ones must not read what stands beside
  /// it.
  Value held(kvc::ConstantOp constant, Value index) {
    Value last = i32(int64_t(constant.getSize()) - 1, index.getType());
    return make<arith::MinUIOp>(index, last);
  }

  OpBuilder &b;
  Location loc;
};

int64_t integerOf(Value constant) {
  auto op = constant.getDefiningOp<arith::ConstantOp>();
  return cast<IntegerAttr>(op.getValue()).getValue().getSExtValue();
}

/// n, if `op` is x - floor(x / n) * n, as a remainder is written; else 0.
int64_t remainderBy(arith::SubIOp op) {
  auto product = op.getRhs().getDefiningOp<arith::MulIOp>();
  if (!product || !product.getRhs().getDefiningOp<arith::ConstantOp>())
    return 0;
  auto quotient = product.getLhs().getDefiningOp<arith::FloorDivSIOp>();
  if (!quotient || quotient.getLhs() != op.getLhs())
    return 0;
  int64_t n = integerOf(quotient.getRhs());
  return n == integerOf(product.getRhs()) ? n : 0;
}

/// The type of an op's result, with as many elements as `like` has.
Type typeLike(Type scalar, Type like) {
  auto vector = dyn_cast_or_null<VectorType>(like);
  return vector ? Type(VectorType::get(vector.getShape(), scalar)) : scalar;
}

//===----------------------------------------------------------------------===//
// Element by element
//===----------------------------------------------------------------------===//

class RegionEmitter : Emitter {
public:
  RegionEmitter(OpBuilder &b, Location loc, Type like,
                ScoreFunctions &functions)
      : Emitter(b, loc), like(like), functions(functions) {}

  Value emit(Region &region, const ScoreInputs &inputs);
  Value emit(Region &region, ValueRange arguments);

private:
  /// A value, and an integer constant that is still to be added.
  struct Sum {
    Value value;
    int64_t offset = 0;
  };

  Value emitOps(Region &region);
  Sum emit(Operation &op);
  Value emitPlain(Operation &op);
  Value function(Operation &op, Value x);
  Value divide(arith::DivFOp op);
  /// The score times `factor`.
  Value scaledScore(double factor);
  Sum toFloat(const Sum &x);
  /// The same op on what its operands have become.
  Value clone(Operation &op);
  /// A scalar, in every element.
  Value spread(Value x) {
    Type type = typeLike(x.getType(), like);
    return type == x.getType() ? x : make<vector::BroadcastOp>(type, x);
  }
  Value at(Value value) {
    if (value == score && scale != 1)
      return scaledScore(1);
    Sum sum = values.lookup(value);
    if (!sum.offset)
      return sum.value;
    return make<arith::AddIOp>(sum.value, i32(sum.offset, like));
  }

  Type like;
  const ConstantRanges *constants = nullptr;
  ScoreFunctions &functions;
  llvm::DenseMap<Value, Sum> values;
  Value score; ///< the region's argument; null: there is none
  double scale = 1;
};

std::optional<double> realConstant(Value value) {
  auto op = value.getDefiningOp<arith::ConstantOp>();
  auto real = op ? dyn_cast<FloatAttr>(op.getValue()) : FloatAttr();
  return real ? std::optional(real.getValueAsDouble()) : std::nullopt;
}

/// The constant that an op multiplies the score with, if it does nothing else.
std::optional<double> factorOfScore(Operation &op) {
  auto isScore = [](Value value) {
    auto argument = dyn_cast<BlockArgument>(value);
    return argument && argument.getType().isF32();
  };
  if (auto divide = dyn_cast<arith::DivFOp>(op)) {
    std::optional<double> by = realConstant(divide.getRhs());
    if (!isScore(divide.getLhs()) || !by || !std::isnormal(float(1 / *by)))
      return std::nullopt;
    return 1 / *by;
  }
  if (auto multiply = dyn_cast<arith::MulFOp>(op))
    for (auto [x, y] : {std::pair(multiply.getLhs(), multiply.getRhs()),
                        std::pair(multiply.getRhs(), multiply.getLhs())})
      if (isScore(x))
        return realConstant(y);
  return std::nullopt;
}

} // namespace

/// A quotient by a constant is a product.
Value RegionEmitter::divide(arith::DivFOp op) {
  auto divisor = op.getRhs().getDefiningOp<arith::ConstantOp>();
  if (!divisor)
    return clone(*op);
  double value = cast<FloatAttr>(divisor.getValue()).getValueAsDouble();
  double inverse = 1 / value;
  if (!std::isnormal(float(inverse)))
    return clone(*op);
  return make<arith::MulFOp>(at(op.getLhs()), f32(inverse, like));
}

Value RegionEmitter::function(Operation &op, Value x) {
  return llvm::TypeSwitch<Operation *, Value>(&op)
      .Case([&](math::AbsFOp) { return make<LLVM::FAbsOp>(x); })
      .Case([&](math::SqrtOp) { return make<LLVM::SqrtOp>(x); })
      .Case([&](math::Exp2Op) { return functions.exp2(x); })
      .Case([&](math::ExpOp) {
        return functions.exp2(make<arith::MulFOp>(x, f32(M_LOG2E, like)));
      })
      .Case([&](math::Log2Op) { return functions.log2(x); })
      .Case([&](math::LogOp) {
        return make<arith::MulFOp>(functions.log2(x), f32(M_LN2, like));
      })
      .Case([&](math::TanhOp) { return functions.tanh(x); });
}

Value RegionEmitter::clone(Operation &op) {
  OperationState state(loc, op.getName());
  for (Value operand : op.getOperands())
    state.operands.push_back(at(operand));
  state.addTypes(typeLike(op.getResult(0).getType(), like));
  state.addAttributes(op.getAttrs());
  state.propertiesAttr = op.getPropertiesAsAttribute();
  Operation *made = b.create(state);
  // A product and a sum may be one instruction, which rounds once.
  if (auto math = dyn_cast<arith::ArithFastMathInterface>(made))
    made->setAttr(math.getFastMathAttrName(),
                  arith::FastMathFlagsAttr::get(
                      b.getContext(), arith::FastMathFlags::contract));
  return made->getResult(0);
}

Value RegionEmitter::scaledScore(double factor) {
  Value x = values.lookup(score).value;
  auto op = arith::MulFOp::create(b, loc, x, f32(scale * factor, like));
  op.setFastmath(arith::FastMathFlags::contract);
  return op;
}

/// float(x + n) as float(x) + n, which rounds twice where one of them has more
/// than 24 bits.
RegionEmitter::Sum RegionEmitter::toFloat(const Sum &x) {
  Value real = make<arith::SIToFPOp>(typeLike(b.getF32Type(), like), x.value);
  if (x.offset)
    real = make<arith::AddFOp>(real, f32(double(x.offset), like));
  return {real};
}

RegionEmitter::Sum RegionEmitter::emit(Operation &op) {
  auto sum = [&](unsigned i) { return values.lookup(op.getOperand(i)); };
  if (isa<arith::AddIOp>(op))
    return {make<arith::AddIOp>(sum(0).value, sum(1).value),
            sum(0).offset + sum(1).offset};
  if (isa<arith::SubIOp>(op))
    return {make<arith::SubIOp>(sum(0).value, sum(1).value),
            sum(0).offset - sum(1).offset};
  if (isa<arith::SIToFPOp>(op))
    return toFloat(sum(0));
  return {emitPlain(op)};
}

Value RegionEmitter::emitPlain(Operation &op) {
  // Two factors are one where f32 holds their product.
  if (std::optional<double> factor = score ? factorOfScore(op) : std::nullopt)
    if (std::isnormal(float(scale * *factor)))
      return scaledScore(*factor);
  if (auto literal = dyn_cast<arith::ConstantOp>(op))
    return constant(literal.getValue(), like);
  if (auto divide = dyn_cast<arith::DivFOp>(op))
    return this->divide(divide);
  if (auto divide = dyn_cast<arith::FloorDivSIOp>(op))
    return floorDiv(at(divide.getLhs()), integerOf(divide.getRhs()));
  if (auto given = dyn_cast<kvc::ConstantOp>(op)) {
    if (constants)
      if (auto [first, last] = constants->lookup(&op); first && first == last)
        return spread(first);
    return functions.element(given, held(given, at(given.getIndex())));
  }
  if (isa<math::MathDialect>(op.getDialect()))
    return function(op, at(op.getOperand(0)));
  return clone(op);
}

Value RegionEmitter::emit(Region &region, const ScoreInputs &inputs) {
  Value given[] = {inputs.score,   inputs.query, inputs.token,
                   inputs.context, inputs.qHead, inputs.kvHead};
  for (BlockArgument argument : region.getArguments()) {
    ScoreInput input = inputOf(region, argument.getArgNumber());
    bool token = input == ScoreInput::TokenPosition;
    values[argument] = {given[unsigned(input)], token ? inputs.offset : 0};
  }
  constants = inputs.constants;
  score = argumentOf(region, ScoreInput::Score);
  scale = inputs.scale;
  return emitOps(region);
}

Value RegionEmitter::emit(Region &region, ValueRange arguments) {
  for (auto [argument, given] :
       llvm::zip_equal(region.getArguments(), arguments))
    values[argument] = {given};
  return emitOps(region);
}

Value RegionEmitter::emitOps(Region &region) {
  for (Operation &op : region.front().without_terminator())
    values[op.getResult(0)] = emit(op);
  return at(yieldedBy(region));
}

Value kvc::emitScoreRegion(OpBuilder &b, Location loc, Region &region,
                           const ScoreInputs &inputs,
                           ScoreFunctions &functions) {
  RegionEmitter emitter(b, loc, inputs.qHead.getType(), functions);
  return emitter.emit(region, inputs);
}

Value kvc::emitElementRegion(OpBuilder &b, Location loc, Region &region,
                             ValueRange x, ScoreFunctions &functions) {
  return RegionEmitter(b, loc, x[0].getType(), functions).emit(region, x);
}

std::optional<double> kvc::tanhFactor(Region &logits) {
  std::optional<double> largest;
  for (auto tanh : logits.getOps<math::TanhOp>()) {
    Operation *op = tanh.getOperand().getDefiningOp();
    std::optional<double> factor = op ? factorOfScore(*op) : std::nullopt;
    if (!factor)
      return std::nullopt;
    largest = std::max(largest.value_or(0), std::fabs(*factor));
  }
  return largest;
}

//===----------------------------------------------------------------------===//
// Block by block
//===----------------------------------------------------------------------===//

namespace {

class IntervalEmitter : Emitter {
public:
  using Emitter::Emitter;

  BlockVisibility emit(Region &region, const ScoreBlock &block,
                       const ConstantRanges &constants);
  ConstantRanges emitConstants(Region &region, const ScoreBlock &rows,
                               ScoreFunctions &functions);

private:
  void begin(Region &region, const ScoreBlock &block);
  Interval emit(Operation &op);
  Interval compare(arith::CmpIOp op);
  Interval product(Interval x, Interval y);
  Interval difference(arith::SubIOp op);
  Interval choose(Interval condition, Interval x, Interval y);
  Interval exclusive(Interval x, Interval y);
  Interval at(Value value) { return values.lookup(value); }

  Value both(Value x, Value y) { return make<arith::AndIOp>(x, y); }
  Value either(Value x, Value y) { return make<arith::OrIOp>(x, y); }
  Value negate(Value x) { return make<arith::XOrIOp>(x, boolean(true)); }
  Value boolean(bool value) { return constant(b.getBoolAttr(value), {}); }
  Value min(Value x, Value y) { return make<arith::MinSIOp>(x, y); }
  Value max(Value x, Value y) { return make<arith::MaxSIOp>(x, y); }

  llvm::DenseMap<Value, Interval> values;
};

} // namespace

Interval IntervalEmitter::compare(arith::CmpIOp op) {
  using P = CmpIPredicate;
  Interval x = at(op.getLhs()), y = at(op.getRhs());
  auto ordered = [&](P p, Interval x, Interval y) {
    return Interval(cmp(p, x.second, y.first), cmp(p, x.first, y.second));
  };
  switch (op.getPredicate()) {
  case P::slt:
  case P::sle:
    return ordered(op.getPredicate(), x, y);
  case P::sgt:
    return ordered(P::slt, y, x);
  case P::sge:
    return ordered(P::sle, y, x);
  default:
    break;
  }
  Interval below = ordered(P::sle, x, y), above = ordered(P::sle, y, x);
  Interval equal(both(below.first, above.first),
                 both(below.second, above.second));
  if (op.getPredicate() == P::eq)
    return equal;
  return {negate(equal.second), negate(equal.first)};
}

Interval IntervalEmitter::product(Interval x, Interval y) {
  auto times = [&](Value x, Value y) { return make<arith::MulIOp>(x, y); };
  Value a = times(x.first, y.first), b = times(x.first, y.second);
  Value c = times(x.second, y.first), d = times(x.second, y.second);
  return {min(min(a, b), min(c, d)), max(max(a, b), max(c, d))};
}

Interval IntervalEmitter::difference(arith::SubIOp op) {
  auto minus = [&](Value x, Value y) { return make<arith::SubIOp>(x, y); };
  Interval x = at(op.getLhs()), y = at(op.getRhs());
  int64_t n = remainderBy(op);
  if (!n)
    return {minus(x.first, y.second), minus(x.second, y.first)};
  // The two sides go together. Taken apart they may differ by more than 32 bits
  // hold.
  Value quotient = floorDiv(x.first, n);
  Value oneQuotient = cmp(CmpIPredicate::eq, quotient, floorDiv(x.second, n));
  Value multiple = make<arith::MulIOp>(quotient, i32(n, {}));
  auto rest = [&](Value x, int64_t otherwise) {
    return make<arith::SelectOp>(oneQuotient, minus(x, multiple),
                                 i32(otherwise, {}));
  };
  return {rest(x.first, 0), rest(x.second, n - 1)};
}

Interval IntervalEmitter::choose(Interval condition, Interval x, Interval y) {
  auto pick = [&](Value x, Value y, Value unsure) {
    Value other = make<arith::SelectOp>(condition.second, unsure, y);
    return make<arith::SelectOp>(condition.first, x, other);
  };
  bool booleans = x.first.getType().isInteger(1);
  Value low = booleans ? both(x.first, y.first) : min(x.first, y.first);
  Value high = booleans ? either(x.second, y.second) : max(x.second, y.second);
  return {pick(x.first, y.first, low), pick(x.second, y.second, high)};
}

Interval IntervalEmitter::exclusive(Interval x, Interval y) {
  // Surely different, surely equal.
  Value differ =
      either(both(x.first, negate(y.second)), both(negate(x.second), y.first));
  Value equal =
      either(both(x.first, y.first), both(negate(x.second), negate(y.second)));
  return {differ, negate(equal)};
}

Interval IntervalEmitter::emit(Operation &op) {
  auto x = [&] { return at(op.getOperand(0)); };
  auto y = [&] { return at(op.getOperand(1)); };
  auto pairwise = [&](auto f) {
    return Interval(f(x().first, y().first), f(x().second, y().second));
  };
  return llvm::TypeSwitch<Operation *, Interval>(&op)
      .Case([&](arith::ConstantOp literal) {
        Value value = constant(literal.getValue(), {});
        return Interval(value, value);
      })
      .Case([&](arith::AddIOp) {
        return pairwise(
            [&](Value x, Value y) { return make<arith::AddIOp>(x, y); });
      })
      .Case([&](arith::SubIOp op) { return difference(op); })
      .Case([&](arith::MulIOp) { return product(x(), y()); })
      .Case([&](arith::FloorDivSIOp) {
        int64_t n = integerOf(op.getOperand(1));
        return Interval(floorDiv(x().first, n), floorDiv(x().second, n));
      })
      .Case([&](arith::MinSIOp) {
        return pairwise([&](Value x, Value y) { return min(x, y); });
      })
      .Case([&](arith::MaxSIOp) {
        return pairwise([&](Value x, Value y) { return max(x, y); });
      })
      .Case([&](arith::AndIOp) {
        return pairwise([&](Value x, Value y) { return both(x, y); });
      })
      .Case([&](arith::OrIOp) {
        return pairwise([&](Value x, Value y) { return either(x, y); });
      })
      .Case([&](arith::XOrIOp) { return exclusive(x(), y()); })
      .Case([&](arith::CmpIOp compare) { return this->compare(compare); })
      .Case([&](arith::SelectOp) {
        return choose(x(), y(), at(op.getOperand(2)));
      });
}

void IntervalEmitter::begin(Region &region, const ScoreBlock &block) {
  Interval given[] = {{},          block.query,
                      block.token, {block.context, block.context},
                      block.qHead, block.kvHead};
  for (BlockArgument argument : region.getArguments())
    values[argument] =
        given[unsigned(inputOf(region, argument.getArgNumber()))];
}

ConstantRanges IntervalEmitter::emitConstants(Region &region,
                                              const ScoreBlock &rows,
                                              ScoreFunctions &functions) {
  // Such constants, and what their indices are made of.
  llvm::SmallPtrSet<Operation *, 8> wanted;
  for (Operation &op : llvm::reverse(region.front())) {
    if (isa<kvc::ConstantOp>(op) &&
        !dependsOn(op.getResult(0), ScoreInput::TokenPosition))
      wanted.insert(&op);
    if (wanted.contains(&op))
      for (Value operand : op.getOperands())
        if (Operation *source = operand.getDefiningOp())
          wanted.insert(source);
  }
  begin(region, rows);
  ConstantRanges ranges;
  for (Operation &op : region.front().without_terminator()) {
    if (!wanted.contains(&op))
      continue;
    auto constant = dyn_cast<kvc::ConstantOp>(op);
    if (constant) {
      auto [first, last] = at(constant.getIndex());
      Value begin = held(constant, first);
      Value end = first == last ? begin : held(constant, last);
      ranges[&op] = functions.range(constant, begin, end);
    }
    values[op.getResult(0)] = constant ? ranges[&op] : emit(op);
  }
  return ranges;
}

BlockVisibility IntervalEmitter::emit(Region &region, const ScoreBlock &block,
                                      const ConstantRanges &constants) {
  begin(region, block);
  Interval any(i32(INT32_MIN, {}), i32(INT32_MAX, {}));
  for (Operation &op : region.front().without_terminator()) {
    auto range = constants.find(&op);
    values[op.getResult(0)] = range != constants.end()   ? range->second
                              : isa<kvc::ConstantOp>(op) ? any
                                                         : emit(op);
  }
  Interval seen = at(yieldedBy(region));
  return {seen.first, negate(seen.second)};
}

BlockVisibility kvc::emitBlockVisibility(OpBuilder &b, Location loc,
                                         Region &visible,
                                         const ScoreBlock &block,
                                         const ConstantRanges &constants) {
  return IntervalEmitter(b, loc).emit(visible, block, constants);
}

ConstantRanges kvc::emitConstantRanges(OpBuilder &b, Location loc,
                                       Region &visible, const ScoreBlock &rows,
                                       ScoreFunctions &functions) {
  return IntervalEmitter(b, loc).emitConstants(visible, rows, functions);
}
