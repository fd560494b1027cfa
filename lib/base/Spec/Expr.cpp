//===- Expr.cpp - expressions inside a spec -------------------------------===//
#include "lib/base/Spec/ExprParser.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/SmallVector.h"

#include <charconv>
#include <cmath>

using namespace kvc;
using namespace kvc::spec;
using llvm::SmallVector;
using llvm::StringRef;

/// Deeper than any formula; keeps recursion off the stack's end.
static constexpr unsigned kMaxDepth = 64;

const char *spec::describe(ExprType type) {
  switch (type) {
  case ExprType::Bool:
    return "a boolean";
  case ExprType::Int:
    return "an integer";
  case ExprType::Float:
    return "a float";
  }
  return "";
}

/// Bytes of the string are bytes of the file: it has no escapes.
SourceLoc ExprParser::place(Span span) {
  SourceLoc loc = context.document.loc(node);
  loc.column += 1 + span.begin;
  loc.length = std::max<uint32_t>(1, span.end - span.begin);
  return loc;
}

std::optional<Expr> ExprParser::parse() {
  Result result = parseSelect();
  if (!result)
    return result;
  skipSpace();
  if (at < text.size())
    return unexpected("an operator or the end");
  if (wanted == ExprType::Float && result->type == ExprType::Int)
    return toFloat(std::move(*result));
  if (result->type == wanted)
    return result;
  error("E-EXPR-TYPE", result->span,
        std::string("expected ") + describe(wanted) + ", but " +
            described(*result));
  return std::nullopt;
}

const Operator *ExprParser::peekOperator() {
  skipSpace();
  for (const Operator &op : kOperators)
    if (text.substr(at).starts_with(op.text))
      return &op;
  return nullptr;
}

//===----------------------------------------------------------------------===//
// Grammar
//===----------------------------------------------------------------------===//

ExprParser::Result ExprParser::parseSelect() {
  if (++depth > kMaxDepth) {
    error("E-EXPR", here(), "an expression nests at most 64 deep");
    return std::nullopt;
  }
  Result condition = parseBinary(LevelOr);
  if (condition && consume("?")) {
    Result yes = parseSelect();
    if (!yes)
      return yes;
    if (!consume(":"))
      return unexpected("`:` and the other value");
    Result no = parseSelect();
    if (!no)
      return no;
    condition = select(std::move(*condition), std::move(*yes), std::move(*no));
  }
  --depth;
  return condition;
}

ExprParser::Result ExprParser::parseBinary(unsigned level) {
  if (level == LevelUnary)
    return parseUnary();
  Result left = parseBinary(level + 1);
  Span last = left ? left->span : Span();
  for (unsigned count = 0; left; ++count) {
    const Operator *op = peekOperator();
    if (!op || op->level != level)
      return left;
    if (text.substr(at).starts_with("**"))
      return power(last);
    Span symbol{uint32_t(at), uint32_t(at + op->text.size())};
    if (level == LevelCompare && count) {
      Context::addHelp(error("E-EXPR", symbol, "a comparison has two sides"),
                       "write `a < b && b < c`");
      return std::nullopt;
    }
    at += op->text.size();
    Result right = parseBinary(level + 1);
    if (!right)
      return right;
    last = right->span;
    left = binary(op->op, std::move(*left), std::move(*right), symbol);
  }
  return left;
}

ExprParser::Result ExprParser::parseUnary() {
  skipSpace();
  size_t begin = at;
  bool negative = consume("-");
  if (!negative && (text.substr(at).starts_with("!=") || !consume("!")))
    return parsePrimary();
  if (++depth > kMaxDepth) {
    error("E-EXPR", here(), "an expression nests at most 64 deep");
    return std::nullopt;
  }
  Result operand = parseUnary();
  --depth;
  if (!operand)
    return operand;
  return unary(negative ? ExprOp::Neg : ExprOp::Not, std::move(*operand),
               begin);
}

ExprParser::Result ExprParser::parsePrimary() {
  skipSpace();
  size_t begin = at;
  if (at < text.size() && (llvm::isDigit(text[at]) || text[at] == '.'))
    return parseNumber();
  if (at < text.size() && isWord(text[at]))
    return parseName();
  if (!consume("("))
    return unexpected("a number, a name or `(`");
  Result inside = parseSelect();
  if (!inside)
    return inside;
  if (!consume(")"))
    return unexpected("`)`");
  inside->span = {uint32_t(begin), uint32_t(at)};
  return inside;
}

ExprParser::Result ExprParser::parseNumber() {
  const char *begin = text.data() + at, *end = text.data() + text.size();
  Expr literal;
  auto [stop, failed] = std::from_chars(begin, end, literal.number);
  uint32_t from = uint32_t(at);
  at = stop - text.data();
  while (at < text.size() && (isWord(text[at]) || text[at] == '.'))
    ++at, failed = std::errc::invalid_argument;
  literal.span = {from, uint32_t(at)};
  StringRef spelling = text.slice(from, at);
  if (failed != std::errc()) {
    error("E-EXPR", literal.span,
          "expected a number, found " + quote(spelling));
    return std::nullopt;
  }
  bool integer = spelling.find_first_of(".eE") == StringRef::npos;
  if (integer && literal.number <= INT32_MAX) {
    literal.type = ExprType::Int;
    return ranged(std::move(literal));
  }
  float stored = float(literal.number);
  if (!integer && std::isfinite(stored) && (stored || !literal.number))
    return literal;
  error("E-EXPR-RANGE", literal.span,
        integer ? "an integer is below 2^31"
                : "a float has a magnitude of 1.2e-38 to 3.4e38, or is 0");
  return std::nullopt;
}

ExprParser::Result ExprParser::parseName() {
  size_t begin = at;
  while (at < text.size() && isWord(text[at]))
    ++at;
  StringRef word = text.slice(begin, at);
  if (word == "true" || word == "false") {
    Expr literal;
    literal.type = ExprType::Bool;
    literal.number = word == "true";
    literal.span = {uint32_t(begin), uint32_t(at)};
    return literal;
  }
  for (const Function &function : kFunctions)
    if (function.name == word)
      return parseCall(function, begin);
  for (const Constant &constant : scope.constants)
    if (constant.name == word)
      return parseConstant(constant, begin);
  return parseVariable(word, begin);
}

static bool isPosition(ExprOp op) {
  return op == ExprOp::QueryPosition || op == ExprOp::TokenPosition ||
         op == ExprOp::Context;
}

bool ExprParser::isKnown(ExprOp variable) const {
  if (variable == ExprOp::Score)
    return scope.score;
  return scope.positions || !isPosition(variable);
}

ExprParser::Result ExprParser::parseVariable(StringRef word, size_t begin) {
  Expr variable;
  variable.span = {uint32_t(begin), uint32_t(at)};
  for (const Name &name : kVariables) {
    if (name.name != word || !isKnown(name.op))
      continue;
    variable.op = name.op;
    if (name.op == ExprOp::Score)
      return variable;
    variable.type = ExprType::Int;
    return ranged(std::move(variable));
  }
  return unknownName(word, variable.span);
}

bool spec::readsPosition(const Expr &expr) {
  return isPosition(expr.op) || llvm::any_of(expr.operands, readsPosition);
}

/// Counts the values that an index may pick: each is a comparison in the
/// kernel, and by position one for every score.
bool ExprParser::takeValues(const Constant &constant, const Expr &index) {
  bool byPosition = readsPosition(index);
  int64_t &count = byPosition ? valuesByPosition : valuesByHead;
  int64_t most = byPosition ? kMostByPosition : kMostByHead;
  count += index.high - index.low + 1;
  return count <= most || tooManyValues(constant, index, most, count);
}

ExprParser::Result ExprParser::parseConstant(const Constant &constant,
                                             size_t begin) {
  // What is wrong with it has been said, and this would only follow from it.
  if (constant.unread)
    return std::nullopt;
  Expr element;
  element.op = ExprOp::Element;
  element.constant = constant.name;
  element.values = constant.values;
  element.given = constant.given;
  element.perSequence = constant.perSequence;
  element.type = constant.type;
  element.span = {uint32_t(begin), uint32_t(at)};
  if (constant.perSequence && !scope.positions) {
    Diagnostic &diagnostic =
        error("E-EXPR-TYPE", element.span,
              "expected what a head has, but " + quote(constant.name) +
                  " is of a sequence");
    Context::addNote(diagnostic, constant.loc, "the constant is here");
    return std::nullopt;
  }
  skipSpace();
  if (constant.scalar)
    return text.substr(at).starts_with("[") ? indexOfNumber(constant)
                                            : ranged(std::move(element));
  if (!consume("["))
    return unexpected("`[` and an index, for the constant is a list");
  ++indices;
  Result index = parseSelect();
  --indices;
  if (!index)
    return index;
  if (!consume("]"))
    return unexpected("`]`");
  element.span.end = uint32_t(at);
  if (index->type != ExprType::Int) {
    error("E-EXPR-TYPE", index->span,
          "an index is an integer, but " + described(*index));
    return std::nullopt;
  }
  if (index->low < 0 || index->high >= int64_t(constant.size()))
    return outOfRow(constant, *index);
  // What a call gives is loaded and not picked.
  if (!constant.given && !takeValues(constant, *index))
    return std::nullopt;
  element.operands.push_back(std::move(*index));
  return ranged(std::move(element));
}

ExprParser::Result ExprParser::parseCall(const Function &function,
                                         size_t begin) {
  if (!consume("("))
    return unexpected("`(` after the name of a function");
  SmallVector<Expr, 2> arguments;
  for (unsigned i = 0; i < function.arguments; ++i) {
    if (i && !consume(","))
      return unexpected("`,` and another argument, for " +
                        quote(function.name) + " takes two");
    Result argument = parseSelect();
    if (!argument)
      return argument;
    arguments.push_back(std::move(*argument));
  }
  if (!consume(")"))
    return unclosed(function);
  Span whole{uint32_t(begin), uint32_t(at)};
  if (function.arguments == 2) {
    Result result = binary(function.op, std::move(arguments[0]),
                           std::move(arguments[1]), whole);
    if (result)
      result->span = whole;
    return result;
  }
  return unary(function.op, std::move(arguments[0]), begin);
}

bool spec::isExprName(StringRef name) {
  auto isNamed = [&](const auto &entry) { return entry.name == name; };
  return !name.empty() && name.size() <= 64 && llvm::isAlpha(name.front()) &&
         llvm::all_of(name, isWord) && name != "true" && name != "false" &&
         llvm::none_of(kVariables, isNamed) &&
         llvm::none_of(kFunctions, isNamed);
}

std::optional<Expr> spec::readExpr(Context &context, const Node &node,
                                   const ExprScope &scope, ExprType type) {
  if (node.kind != Node::Kind::String) {
    StringRef found = context.document.text(node);
    Diagnostic &diagnostic = context.error(
        "E-TYPE", context.document.loc(node),
        "expected an expression in a string, found " + quote(found));
    if (node.kind != Node::Kind::Array && node.kind != Node::Kind::Object)
      Context::addHelp(diagnostic, "write " + quote("\"" + found.str() + "\""));
    return std::nullopt;
  }
  if (context.document.text(node).contains('\\')) {
    context.error("E-EXPR", context.document.loc(node),
                  "an expression has no escapes");
    return std::nullopt;
  }
  ExprParser parser(context, node, scope, type);
  std::optional<Expr> expr = parser.parse();
  const Expr *real =
      expr && type == ExprType::Bool ? expr->findFloat() : nullptr;
  if (!real)
    return expr;
  parser.error("E-EXPR-TYPE", real->span,
               "what is visible is decided by integers, so that every kernel "
               "agrees; " +
                   parser.described(*real));
  return std::nullopt;
}

Expr spec::softcapOf(double cap) {
  auto of = [](ExprOp op, std::vector<Expr> operands) {
    Expr expr;
    expr.op = op;
    expr.operands = std::move(operands);
    return expr;
  };
  Expr limit;
  limit.number = cap;
  Expr part = of(ExprOp::Div, {of(ExprOp::Score, {}), limit});
  return of(ExprOp::Mul, {limit, of(ExprOp::Tanh, {part})});
}
