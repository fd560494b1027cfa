//===- ExprText.cpp - expressions as text ---------------------------------===//
#include "lib/base/Spec/ExprParser.h"

#include <charconv>
#include <cmath>

using namespace kvc;
using namespace kvc::spec;

const Expr *Expr::findFloat() const {
  for (const Expr &operand : operands)
    if (const Expr *found = operand.findFloat())
      return found;
  return type == ExprType::Float && !converted ? this : nullptr;
}

static std::string numberText(const Expr &literal) {
  if (literal.type == ExprType::Bool)
    return literal.number ? "true" : "false";
  // The shortest text of 100000 is 1e+05, a float.
  if (literal.type == ExprType::Int)
    return std::to_string(int64_t(literal.number));
  char buffer[32];
  auto end = std::to_chars(buffer, buffer + sizeof(buffer), literal.number).ptr;
  std::string text(buffer, end);
  bool real = text.find_first_of(".e") != std::string::npos;
  return real ? text : text + ".0";
}

static unsigned levelOf(const Expr &expr) {
  if (expr.op == ExprOp::Select)
    return 0;
  for (const Operator &op : kOperators)
    if (op.op == expr.op)
      return op.level + 1;
  bool negative = expr.isLiteral() && std::signbit(expr.number);
  return expr.op == ExprOp::Neg || expr.op == ExprOp::Not || negative
             ? LevelUnary + 1
             : LevelUnary + 2;
}

/// In parentheses if it binds less tightly than `level`.
static std::string textAt(const Expr &expr, unsigned level) {
  std::string text = expr.text();
  return levelOf(expr) < level ? "(" + text + ")" : text;
}

std::string Expr::text() const {
  unsigned own = levelOf(*this);
  if (op == ExprOp::Literal)
    return numberText(*this);
  if (op == ExprOp::Element)
    return operands.empty() ? constant
                            : constant + "[" + operands[0].text() + "]";
  if (op == ExprOp::Neg || op == ExprOp::Not)
    return (op == ExprOp::Neg ? "-" : "!") + textAt(operands[0], own + 1);
  if (op == ExprOp::Select)
    return textAt(operands[0], 1) + " ? " + operands[1].text() + " : " +
           operands[2].text();
  for (const Name &name : kVariables)
    if (name.op == op)
      return name.name.str();
  for (const Operator &symbol : kOperators)
    if (symbol.op == op)
      return textAt(operands[0], own + (own == LevelCompare + 1)) + " " +
             symbol.text.str() + " " + textAt(operands[1], own + 1);
  for (const Function &function : kFunctions)
    if (function.op == op) {
      std::string text = function.name.str() + "(" + operands[0].text();
      return operands.size() == 2 ? text + ", " + operands[1].text() + ")"
                                  : text + ")";
    }
  return "";
}
