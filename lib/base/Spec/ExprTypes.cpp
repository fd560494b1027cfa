//===- ExprTypes.cpp - types of expressions, and what integers may be -----===//
#include "lib/base/Spec/ExprParser.h"

#include "llvm/ADT/STLExtras.h"

#include <cmath>

using namespace kvc;
using namespace kvc::spec;
using llvm::SmallVector;
using llvm::StringRef;

/// Positions are below this, as kernels count (lib/base/Artifact/KernelAbi.h).
static constexpr int64_t kLastPosition = INT32_MAX - 257;

//===----------------------------------------------------------------------===//
// Types
//===----------------------------------------------------------------------===//

Expr ExprParser::toFloat(Expr operand) {
  if (operand.type == ExprType::Float)
    return operand;
  Expr made;
  made.span = operand.span;
  made.converted = true;
  if (operand.isLiteral()) {
    made.number = operand.number;
    return made;
  }
  made.op = ExprOp::ToFloat;
  made.operands.push_back(std::move(operand));
  return made;
}

ExprParser::Result ExprParser::unary(ExprOp op, Expr operand, size_t begin) {
  Span span{uint32_t(begin), uint32_t(at)};
  bool wantsBool = op == ExprOp::Not;
  if ((operand.type == ExprType::Bool) != wantsBool) {
    error("E-EXPR-TYPE", operand.span,
          std::string(wantsBool ? "`!` takes a boolean" : "expected a number") +
              ", but " + described(operand));
    return std::nullopt;
  }
  if (op == ExprOp::ToFloat) {
    operand = toFloat(std::move(operand));
    operand.span = span;
    operand.converted = false;
    return operand;
  }
  bool keepsType = op == ExprOp::Neg || op == ExprOp::Abs || op == ExprOp::Not;
  if (!keepsType)
    operand = toFloat(std::move(operand));
  Expr made;
  made.op = op;
  made.type = operand.type;
  made.span = span;
  if (op == ExprOp::Neg && operand.isLiteral()) {
    made.op = ExprOp::Literal;
    made.number = -operand.number;
  } else {
    made.operands.push_back(std::move(operand));
  }
  return ranged(std::move(made));
}

bool ExprParser::unify(Expr &left, Expr &right, Span symbol) {
  if ((left.type == ExprType::Bool) != (right.type == ExprType::Bool)) {
    error("E-EXPR-TYPE", symbol,
          "both sides are numbers or both booleans, but " + described(left) +
              " and " + described(right));
    return false;
  }
  if (left.type != right.type) {
    left = toFloat(std::move(left));
    right = toFloat(std::move(right));
  }
  return true;
}

ExprParser::Result ExprParser::binary(ExprOp op, Expr left, Expr right,
                                      Span symbol) {
  bool wantsBool = op == ExprOp::And || op == ExprOp::Or;
  bool equality = op == ExprOp::Eq || op == ExprOp::Ne;
  for (const Expr *side : {&left, &right}) {
    bool isBool = side->type == ExprType::Bool;
    if (equality || isBool == wantsBool)
      continue;
    Diagnostic &diagnostic = error(
        "E-EXPR-TYPE", symbol,
        quote(text.slice(symbol.begin, symbol.end)) + " takes " +
            (wantsBool ? "booleans" : "numbers") + ", but " + described(*side));
    if (isBool)
      Context::addHelp(
          diagnostic,
          "a boolean chooses among numbers: " +
              quote((text.slice(side->span.begin, side->span.end) + " ? 1 : 0")
                        .str()));
    return std::nullopt;
  }
  if (!unify(left, right, symbol))
    return std::nullopt;
  Expr made;
  made.op = op;
  made.type = left.type;
  made.span = {left.span.begin, right.span.end};
  made.operands.push_back(std::move(left));
  made.operands.push_back(std::move(right));
  if (op >= ExprOp::Lt && op <= ExprOp::Ne) {
    made.type = ExprType::Bool;
    return made;
  }
  return wantsBool ? std::move(made) : arithmetic(std::move(made), symbol);
}

ExprParser::Result ExprParser::arithmetic(Expr made, Span symbol) {
  if (made.op == ExprOp::FloorDiv || made.op == ExprOp::Mod)
    return roundedDivision(std::move(made), symbol);
  if (made.op == ExprOp::Div && made.type == ExprType::Int) {
    made.type = ExprType::Float;
    for (Expr &operand : made.operands)
      operand = toFloat(std::move(operand));
  }
  if (made.op == ExprOp::Div)
    return division(std::move(made));
  return ranged(std::move(made));
}

static bool isZero(const Expr &expr) {
  if (expr.op == ExprOp::ToFloat)
    return isZero(expr.operands.front());
  if (expr.type == ExprType::Int)
    return !expr.low && !expr.high;
  return expr.isLiteral() && expr.number == 0;
}

/// By 0 nothing comes of it but infinity or NaN, the one or the other for each
/// score. A number by 0 is infinity on purpose: there is no literal of it.
ExprParser::Result ExprParser::division(Expr made) {
  const Expr &dividend = made.operands.front(), &divisor = made.operands.back();
  if (!isZero(divisor) || (dividend.isLiteral() && !isZero(dividend)))
    return made;
  StringRef found = text.slice(divisor.span.begin, divisor.span.end);
  error("E-EXPR-RANGE", divisor.span,
        divisor.isLiteral()
            ? "expected a divisor other than 0, found " + quote(found)
            : "expected a divisor other than 0, but " + quote(found) +
                  " is always 0");
  return std::nullopt;
}

/// A positive literal on the right has one meaning and costs no division.
ExprParser::Result ExprParser::roundedDivision(Expr made, Span symbol) {
  const Expr &divisor = made.operands.back();
  if (made.type != ExprType::Int) {
    error("E-EXPR-TYPE", symbol,
          quote(text.slice(symbol.begin, symbol.end)) +
              " takes integers; `/` is the quotient of floats");
    return std::nullopt;
  }
  if (!divisor.isLiteral() || divisor.number < 1) {
    error("E-EXPR-RANGE", divisor.span,
          "expected a positive integer literal on the right of " +
              quote(text.slice(symbol.begin, symbol.end)));
    return std::nullopt;
  }
  return ranged(std::move(made));
}

ExprParser::Result ExprParser::select(Expr condition, Expr yes, Expr no) {
  if (condition.type != ExprType::Bool) {
    error("E-EXPR-TYPE", condition.span,
          "a condition is a boolean, but " + described(condition));
    return std::nullopt;
  }
  Span whole{condition.span.begin, no.span.end};
  if (!unify(yes, no, whole))
    return std::nullopt;
  Expr made;
  made.op = ExprOp::Select;
  made.type = yes.type;
  made.span = whole;
  for (Expr *operand : {&condition, &yes, &no})
    made.operands.push_back(std::move(*operand));
  return ranged(std::move(made));
}

//===----------------------------------------------------------------------===//
// Ranges
//===----------------------------------------------------------------------===//

static int64_t floorDiv(int64_t a, int64_t b) {
  return a / b - (a % b < 0 ? 1 : 0);
}

/// The range of an integer from those of its operands, each within 32 bits.
static std::pair<int64_t, int64_t> integersOf(const Expr &made,
                                              const ExprScope &scope) {
  auto low = [&](size_t i) { return made.operands[i].low; };
  auto high = [&](size_t i) { return made.operands[i].high; };
  switch (made.op) {
  case ExprOp::Literal:
    return {int64_t(made.number), int64_t(made.number)};
  case ExprOp::QueryPosition:
  case ExprOp::TokenPosition:
  case ExprOp::Context:
    return {0, kLastPosition};
  case ExprOp::Element: {
    if (made.given)
      return {INT32_MIN, INT32_MAX};
    auto [least, most] =
        std::minmax_element(made.values.begin(), made.values.end());
    return {int64_t(*least), int64_t(*most)};
  }
  case ExprOp::QueryHead:
    return {0, int64_t(scope.qHeads) - 1};
  case ExprOp::KvHead:
    return {0, int64_t(scope.kvHeads) - 1};
  case ExprOp::Neg:
    return {-high(0), -low(0)};
  case ExprOp::Abs:
    return {low(0) <= 0 && high(0) >= 0
                ? 0
                : std::min(std::abs(low(0)), std::abs(high(0))),
            std::max(std::abs(low(0)), std::abs(high(0)))};
  case ExprOp::Add:
    return {low(0) + low(1), high(0) + high(1)};
  case ExprOp::Sub:
    // The step's own tokens are numbered from 0.
    if (made.operands[0].op == ExprOp::QueryPosition &&
        made.operands[1].op == ExprOp::Context)
      return {0, kLastPosition};
    return {low(0) - high(1), high(0) - low(1)};
  case ExprOp::Mul: {
    auto corners = {low(0) * low(1), low(0) * high(1), high(0) * low(1),
                    high(0) * high(1)};
    return {std::min(corners), std::max(corners)};
  }
  case ExprOp::FloorDiv:
    return {floorDiv(low(0), low(1)), floorDiv(high(0), low(1))};
  case ExprOp::Mod:
    return {0, low(1) - 1};
  case ExprOp::Min:
    return {std::min(low(0), low(1)), std::min(high(0), high(1))};
  case ExprOp::Max:
    return {std::max(low(0), low(1)), std::max(high(0), high(1))};
  case ExprOp::Select:
    return {std::min(low(1), low(2)), std::max(high(1), high(2))};
  default:
    return {0, 0};
  }
}

ExprParser::Result ExprParser::ranged(Expr made) {
  if (made.type != ExprType::Int)
    return made;
  std::tie(made.low, made.high) = integersOf(made, scope);
  if (made.low >= INT32_MIN && made.high <= INT32_MAX)
    return made;
  Diagnostic &diagnostic =
      error("E-EXPR-RANGE", made.span,
            quote(text.slice(made.span.begin, made.span.end)) + " may be " +
                std::to_string(made.low) + " to " + std::to_string(made.high) +
                ", more than an integer of 32 bits holds");
  addBound(diagnostic, made.op);
  return std::nullopt;
}
