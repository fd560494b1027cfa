//===- ScoreProgram.cpp - a score's region, run on the host ---------------===//
#include "lib/driver/Reference/ScoreProgram.h"
#include "dialect/KvcDialect.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/TypeSwitch.h"

#include <cfloat>
#include <cmath>

using namespace mlir;
using namespace kvc;
using namespace kvc::reference;

namespace {

enum Opcode : unsigned {
  Constant,
  Element,
  Add,
  Sub,
  Mul,
  Div,
  Neg,
  Max,
  Min,
  FloorDiv,
  And,
  Or,
  Xor,
  Select,
  Lt,
  Le,
  Gt,
  Ge,
  Eq,
  Ne,
  ToFloat,
  Abs,
  Exp,
  Exp2,
  Log,
  Log2,
  Tanh,
  Sqrt,
  AddInt,
  SubInt,
  MulInt,
  MaxInt,
  MinInt
};

/// Half a unit in the last place of f32, relative.
constexpr double kUnit = 0x1p-24;
/// What one operation may lose: its own rounding, and that of a constant which
/// a compiler folded into it.
constexpr double kStep = 2 * kUnit;
/// The same of a function that is approximated.
constexpr double kFunction = 8 * kUnit;
/// What a logarithm may be off near 1, where it is small (the machine's lg2).
constexpr double kNearOne = 0x1p-21;
/// Below the least normal number results may be taken for 0.
constexpr double kLeast = 0x1p-126;

Opcode compareOf(arith::CmpIPredicate predicate) {
  using P = arith::CmpIPredicate;
  switch (predicate) {
  case P::eq:
    return Eq;
  case P::ne:
    return Ne;
  case P::slt:
    return Lt;
  case P::sle:
    return Le;
  case P::sgt:
    return Gt;
  default:
    return Ge;
  }
}

Opcode compareOf(arith::CmpFPredicate predicate) {
  using P = arith::CmpFPredicate;
  switch (predicate) {
  case P::OEQ:
  case P::UEQ:
    return Eq;
  case P::OLT:
  case P::ULT:
    return Lt;
  case P::OLE:
  case P::ULE:
    return Le;
  case P::OGT:
  case P::UGT:
    return Gt;
  case P::OGE:
  case P::UGE:
    return Ge;
  default:
    return Ne;
  }
}

Opcode opOf(Operation &op) {
  return llvm::TypeSwitch<Operation *, Opcode>(&op)
      .Case([](arith::ConstantOp) { return Constant; })
      .Case([](kvc::ConstantOp) { return Element; })
      .Case([](arith::AddFOp) { return Add; })
      .Case([](arith::SubFOp) { return Sub; })
      .Case([](arith::MulFOp) { return Mul; })
      .Case([](arith::DivFOp) { return Div; })
      .Case([](arith::NegFOp) { return Neg; })
      .Case([](arith::MaximumFOp) { return Max; })
      .Case([](arith::MinimumFOp) { return Min; })
      .Case([](arith::AddIOp) { return AddInt; })
      .Case([](arith::SubIOp) { return SubInt; })
      .Case([](arith::MulIOp) { return MulInt; })
      .Case([](arith::MaxSIOp) { return MaxInt; })
      .Case([](arith::MinSIOp) { return MinInt; })
      .Case([](arith::FloorDivSIOp) { return FloorDiv; })
      .Case([](arith::AndIOp) { return And; })
      .Case([](arith::OrIOp) { return Or; })
      .Case([](arith::XOrIOp) { return Xor; })
      .Case([](arith::SelectOp) { return Select; })
      .Case([](arith::CmpIOp op) { return compareOf(op.getPredicate()); })
      .Case([](arith::CmpFOp op) { return compareOf(op.getPredicate()); })
      .Case([](arith::SIToFPOp) { return ToFloat; })
      .Case([](math::AbsFOp) { return Abs; })
      .Case([](math::ExpOp) { return Exp; })
      .Case([](math::Exp2Op) { return Exp2; })
      .Case([](math::LogOp) { return Log; })
      .Case([](math::Log2Op) { return Log2; })
      .Case([](math::TanhOp) { return Tanh; })
      .Case([](math::SqrtOp) { return Sqrt; });
}

double constantOf(arith::ConstantOp op) {
  if (auto real = dyn_cast<FloatAttr>(op.getValue()))
    return real.getValueAsDouble();
  APInt value = cast<IntegerAttr>(op.getValue()).getValue();
  return value.getBitWidth() == 1 ? double(value.getZExtValue())
                                  : double(value.getSExtValue());
}

//===----------------------------------------------------------------------===//
// Numbers
//===----------------------------------------------------------------------===//

/// NaN if either is.
double larger(double x, double y) { return std::isnan(x) || x >= y ? x : y; }
double smaller(double x, double y) { return std::isnan(x) || x <= y ? x : y; }

double unary(Opcode op, double x) {
  switch (op) {
  case Neg:
    return -x;
  case Abs:
    return std::fabs(x);
  case Exp:
    return std::exp(x);
  case Exp2:
    return std::exp2(x);
  case Log:
    return std::log(x);
  case Log2:
    return std::log2(x);
  case Tanh:
    return std::tanh(x);
  case Sqrt:
    return std::sqrt(x);
  default: // ToFloat
    return x;
  }
}

double binary(Opcode op, double x, double y) {
  switch (op) {
  case Add:
  case AddInt:
    return x + y;
  case Sub:
  case SubInt:
    return x - y;
  case Mul:
  case MulInt:
    return x * y;
  case Div:
    return x / y;
  case Max:
  case MaxInt:
    return larger(x, y);
  case Min:
  case MinInt:
    return smaller(x, y);
  case FloorDiv:
    return std::floor(x / y);
  case And:
    return double(x != 0 && y != 0);
  case Or:
    return double(x != 0 || y != 0);
  case Xor:
    return double((x != 0) != (y != 0));
  case Lt:
    return x < y;
  case Le:
    return x <= y;
  case Gt:
    return x > y;
  case Ge:
    return x >= y;
  case Eq:
    return x == y;
  default: // Ne
    return x != y;
  }
}

bool isExact(Opcode op) {
  return op >= AddInt || (op >= FloorDiv && op <= Xor);
}

Approx unary(Opcode op, Approx x) {
  Approx y{unary(op, x.value), x.error};
  // f32 has every integer up to 2^24: sqrt(p - t) is defined where p = t.
  bool isExact = op == ToFloat && std::fabs(x.value) <= 0x1p24;
  if (op == Neg || op == Abs || isExact)
    return y;
  bool rounded = op == ToFloat || op == Sqrt;
  if (x.error > 0) {
    double low = unary(op, x.value - x.error);
    double high = unary(op, x.value + x.error);
    y.error = std::fmax(std::fabs(high - y.value), std::fabs(low - y.value));
    if (std::isnan(low) || std::isnan(high)) // left of what it is defined on
      y.error = std::numeric_limits<double>::infinity();
  }
  if (op == Log || op == Log2)
    y.error += kNearOne;
  // exp(x) is 2^(x log2 e), whose product rounds.
  if (op == Exp)
    y.error += 2 * kStep * std::fabs(x.value * y.value);
  y.error += (rounded ? kStep : kFunction) * std::fabs(y.value) + kLeast;
  return y;
}

Approx binary(Opcode op, Approx x, Approx y) {
  Approx z{binary(op, x.value, y.value), 0};
  if (isExact(op))
    return z;
  double ax = std::fabs(x.value), ay = std::fabs(y.value);
  switch (op) {
  case Add:
  case Sub:
    z.error = x.error + y.error;
    // A compiler may add in another order.
    z.error += kUnit * (ax + ay);
    break;
  case Mul:
    z.error = ax * y.error + ay * x.error + x.error * y.error;
    break;
  case Div: {
    double least = ay - y.error;
    z.error = least > 0 ? (x.error + std::fabs(z.value) * y.error) / least
                        : std::numeric_limits<double>::infinity();
    break;
  }
  case Max:
  case Min:
    z.error = std::fmax(x.error, y.error);
    return z;
  default: { // a comparison: 1 where it may go either way
    bool unsure = std::fabs(x.value - y.value) <= x.error + y.error;
    z.error = x.error + y.error > 0 && unsure ? 1 : 0;
    return z;
  }
  }
  // 0 times something is no small number that became 0.
  bool isZero = z.error == 0 &&
                ((op == Mul && (ax == 0 || ay == 0)) || (op == Div && ax == 0));
  if (!isZero)
    z.error += kStep * std::fabs(z.value) + kLeast;
  return z;
}

double choose(double condition, double x, double y) {
  return condition != 0 ? x : y;
}

Approx choose(Approx condition, Approx x, Approx y) {
  Approx z = condition.value != 0 ? x : y;
  if (condition.error > 0)
    z.error = std::fmax(x.error, y.error) + std::fabs(x.value - y.value);
  return z;
}

/// What f32 cannot hold may be anything, and so may be 0 times that.
void limit(double &) {}
void limit(Approx &number) {
  if (std::isnan(number.error))
    number.error = std::numeric_limits<double>::infinity();
  if (std::fabs(number.value) + number.error > FLT_MAX &&
      std::isfinite(number.value))
    number.error = std::numeric_limits<double>::infinity();
}

double indexOf(double number) { return number; }
double indexOf(const Approx &number) { return number.value; }
void set(double &number, double value) { number = value; }
void set(Approx &number, double value) { number = {value, 0}; }

} // namespace

ScoreProgram::ScoreProgram(Region &region,
                           std::shared_ptr<const GivenConstants> constants)
    : given(std::move(constants)) {
  if (region.empty())
    return;
  llvm::DenseMap<mlir::Value, unsigned> index;
  for (BlockArgument argument : region.getArguments())
    index[argument] = unsigned(inputOf(region, argument.getArgNumber()));
  for (Operation &op : region.front().without_terminator()) {
    Step step;
    step.op = opOf(op);
    for (auto [i, operand] : llvm::enumerate(op.getOperands()))
      step.operands[i] = index.at(operand);
    if (auto constant = dyn_cast<arith::ConstantOp>(op))
      step.constant = constantOf(constant);
    if (auto element = dyn_cast<kvc::ConstantOp>(op)) {
      step.rowSize = element.getPerSequence() ? int64_t(element.getSize()) : 0;
      if (given)
        if (auto found = given->find(element.getName()); found != given->end())
          step.elements = &found->second;
    }
    index[op.getResult(0)] = kScoreInputs + unsigned(steps.size());
    steps.push_back(step);
  }
  result = index.at(yieldedBy(region));
  // `s` alone is a region of no steps, and not an empty one.
  if (steps.empty())
    steps.push_back({});
}

static double elementOf(const std::vector<double> *elements, double index) {
  bool isThere = elements && index >= 0 && index < double(elements->size());
  return isThere ? (*elements)[size_t(index)] : NAN;
}

/// For inputs and the results of steps, the same from call to call.
template <typename Number> static std::vector<Number> &room(size_t count) {
  static thread_local std::vector<Number> values;
  values.resize(count);
  return values;
}

/// `finish` takes a step's op and result, and may change the result.
template <typename Number, typename Finish>
Number ScoreProgram::run(Number score, const ScorePlace &place,
                         Finish finish) const {
  std::vector<Number> &values = room<Number>(kScoreInputs + steps.size());
  values[unsigned(ScoreInput::Score)] = score;
  auto input = [&](ScoreInput which, int64_t value) {
    set(values[unsigned(which)], double(value));
  };
  input(ScoreInput::QueryPosition, place.query);
  input(ScoreInput::TokenPosition, place.token);
  input(ScoreInput::Context, place.context);
  input(ScoreInput::QueryHead, place.qHead);
  input(ScoreInput::KvHead, place.kvHead);
  return runSteps(values, place.constantRow, finish);
}

template <typename Number, typename Finish>
Number ScoreProgram::runSteps(std::vector<Number> &values, int64_t constantRow,
                              Finish finish) const {
  Number *next = &values[kScoreInputs];
  for (const Step &step : steps) {
    auto operand = [&](unsigned i) { return values[step.operands[i]]; };
    Opcode op = Opcode(step.op);
    if (op == Constant)
      set(*next, step.constant);
    else if (op == Element)
      set(*next,
          elementOf(step.elements, double(step.rowSize) * double(constantRow) +
                                       indexOf(operand(0))));
    else if (op == Select)
      *next = choose(operand(0), operand(1), operand(2));
    else if (op == Neg || (op >= ToFloat && op <= Sqrt))
      *next = unary(op, operand(0));
    else
      *next = binary(op, operand(0), operand(1));
    limit(*next);
    finish(op, *next);
    ++next;
  }
  return values[result];
}

/// A step that has fewer operands names the score, which is no head.
bool ScoreProgram::dependsOnHeads() const {
  return llvm::any_of(steps, [](const Step &step) {
    return llvm::any_of(step.operands, [](unsigned operand) {
      return operand == unsigned(ScoreInput::QueryHead) ||
             operand == unsigned(ScoreInput::KvHead);
    });
  });
}

static constexpr auto kAsIs = [](Opcode, auto &) {};

double ScoreProgram::logit(double score, const ScorePlace &place) const {
  return isEmpty() ? score : run(score, place, kAsIs);
}

double ScoreProgram::logit(double score, const ScorePlace &place,
                           llvm::function_ref<double(double)> round) const {
  if (isEmpty())
    return score;
  return run(score, place, [&](Opcode op, double &x) {
    bool rounds = op == Add || op == Sub || op == Mul || op == Div ||
                  (op >= Exp && op <= Sqrt);
    if (rounds)
      x = round(x);
  });
}

Approx ScoreProgram::logit(Approx score, const ScorePlace &place) const {
  return isEmpty() ? score : run(score, place, kAsIs);
}

double ScoreProgram::sink(const ScorePlace &place) const {
  return isEmpty() ? -INFINITY : logit(0.0, place);
}

Approx ScoreProgram::approxSink(const ScorePlace &place) const {
  return isEmpty() ? Approx{-INFINITY, 0} : logit(Approx(), place);
}

double ScoreProgram::apply(llvm::ArrayRef<double> arguments) const {
  std::vector<double> &values = room<double>(kScoreInputs + steps.size());
  llvm::copy(arguments, values.begin() + (kScoreInputs - arguments.size()));
  return runSteps(values, 0, kAsIs);
}

bool ScoreProgram::visible(const ScorePlace &place) const {
  return isEmpty() || run(0.0, place, kAsIs) != 0;
}
