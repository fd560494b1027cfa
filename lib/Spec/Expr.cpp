//===- Expr.cpp - expressions inside a spec -------------------------------===//
#include "lib/Spec/Expr.h"
#include "lib/Spec/Fields.h"

#include "lib/Support/Words.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/raw_ostream.h"

#include <charconv>
#include <cmath>

using namespace kvc;
using namespace kvc::spec;
using llvm::SmallVector;
using llvm::StringRef;

/// Positions are below this, as kernels count (lib/Artifact/KernelAbi.h).
static constexpr int64_t kLastPosition = INT32_MAX - 257;
/// Deeper than any formula; keeps recursion off the stack's end.
static constexpr unsigned kMaxDepth = 64;
/// Values of constants that one expression may pick among: what compiles in
/// seconds.
static constexpr int64_t kMostByHead = 1024, kMostByPosition = 256;

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

namespace {

struct Name {
  StringRef name;
  ExprOp op;
};
constexpr Name kVariables[] = {
    {"s", ExprOp::Score},         {"p", ExprOp::QueryPosition},
    {"t", ExprOp::TokenPosition}, {"c", ExprOp::Context},
    {"h", ExprOp::QueryHead},     {"g", ExprOp::KvHead}};

struct Function {
  StringRef name;
  ExprOp op;
  unsigned arguments;
};
constexpr Function kFunctions[] = {
    {"abs", ExprOp::Abs, 1},      {"exp", ExprOp::Exp, 1},
    {"exp2", ExprOp::Exp2, 1},    {"log", ExprOp::Log, 1},
    {"log2", ExprOp::Log2, 1},    {"tanh", ExprOp::Tanh, 1},
    {"sqrt", ExprOp::Sqrt, 1},    {"sigmoid", ExprOp::Sigmoid, 1},
    {"min", ExprOp::Min, 2},      {"max", ExprOp::Max, 2},
    {"float", ExprOp::ToFloat, 1}};

/// A binary operator and how tightly it binds.
struct Operator {
  StringRef text;
  ExprOp op;
  unsigned level;
};
enum Level : unsigned {
  LevelOr,
  LevelAnd,
  LevelCompare,
  LevelSum,
  LevelProduct,
  LevelUnary
};
/// Longer ones stand before those that they begin with.
constexpr Operator kOperators[] = {
    {"||", ExprOp::Or, LevelOr},      {"&&", ExprOp::And, LevelAnd},
    {"<=", ExprOp::Le, LevelCompare}, {"<", ExprOp::Lt, LevelCompare},
    {">=", ExprOp::Ge, LevelCompare}, {">", ExprOp::Gt, LevelCompare},
    {"==", ExprOp::Eq, LevelCompare}, {"!=", ExprOp::Ne, LevelCompare},
    {"+", ExprOp::Add, LevelSum},     {"-", ExprOp::Sub, LevelSum},
    {"*", ExprOp::Mul, LevelProduct}, {"//", ExprOp::FloorDiv, LevelProduct},
    {"/", ExprOp::Div, LevelProduct}, {"%", ExprOp::Mod, LevelProduct}};

/// What others write, and what it is here.
constexpr std::pair<StringRef, StringRef> kOtherSpellings[] = {
    {"and", "&&"},       {"or", "||"},    {"not", "!"},    {"q_idx", "p"},
    {"kv_idx", "t"},     {"q_pos", "p"},  {"score", "s"},  {"head", "h"},
    {"kv_head", "g"},    {"q", "p"},      {"k", "t"},      {"maximum", "max"},
    {"minimum", "min"},  {"fabs", "abs"}, {"expf", "exp"}, {"tanhf", "tanh"},
    {"int", "//"},       {"floor", "//"}, {"pow", "exp2"}, {"context", "c"},
    {"context_len", "c"}};

bool isWord(char c) { return llvm::isAlnum(c) || c == '_'; }

/// Reads one expression by recursive descent; the first error ends it.
class Parser {
public:
  Parser(Context &context, const Node &node, const ExprScope &scope)
      : context(context), node(node), scope(scope), text(node.string) {}

  std::optional<Expr> parse(ExprType wanted);
  Diagnostic &error(const char *code, Span span, const std::string &message) {
    return context.error(code, place(span), message);
  }
  std::string described(const Expr &expr) {
    return quote(text.slice(expr.span.begin, expr.span.end)) + " is " +
           describe(expr.type);
  }

private:
  using Result = std::optional<Expr>;

  Result parseSelect();
  Result parseBinary(unsigned level);
  Result parseUnary();
  Result parsePrimary();
  Result parseNumber();
  Result parseName();
  Result parseCall(const Function &function, size_t begin);
  Result parseVariable(StringRef word, size_t begin);
  Result parseConstant(const Constant &constant, size_t begin);
  bool takeValues(const Expr &index);

  Result unary(ExprOp op, Expr operand, size_t begin);
  Result binary(ExprOp op, Expr left, Expr right, Span symbol);
  Result arithmetic(Expr made, Span symbol);
  Result roundedDivision(Expr made, Span symbol);
  Result compare(Expr made, Span symbol);
  Result select(Expr condition, Expr yes, Expr no);
  /// Makes the operands of one type: floats where one is a float.
  bool unify(Expr &left, Expr &right, Span symbol);
  static Expr toFloat(Expr operand);
  /// Sets what an integer may be; fails if that is more than 32 bits hold.
  Result ranged(Expr made);

  SourceLoc place(Span span);
  void skipSpace() {
    while (at < text.size() && llvm::isSpace(text[at]))
      ++at;
  }
  bool consume(StringRef symbol) {
    skipSpace();
    if (!text.substr(at).starts_with(symbol))
      return false;
    at += symbol.size();
    return true;
  }
  const Operator *peekOperator();
  Span here() { return {uint32_t(at), uint32_t(at + 1)}; }
  Result unexpected(const char *expected);

  Context &context;
  const Node &node;
  const ExprScope &scope;
  StringRef text;
  size_t at = 0;
  unsigned depth = 0;
  int64_t valuesByHead = 0, valuesByPosition = 0; ///< of constants, so far
};

} // namespace

/// Bytes of the string are bytes of the file: it has no escapes.
SourceLoc Parser::place(Span span) {
  SourceLoc loc = context.document.loc(node);
  loc.column += 1 + span.begin;
  loc.length = std::max<uint32_t>(1, span.end - span.begin);
  return loc;
}

Parser::Result Parser::unexpected(const char *expected) {
  skipSpace();
  std::string found = "the end of the expression";
  Span span{uint32_t(at), uint32_t(at + 1)};
  if (at < text.size()) {
    while (span.end < text.size() && isWord(text[at]) && isWord(text[span.end]))
      ++span.end;
    found = quote(text.slice(span.begin, span.end));
  }
  Diagnostic &diagnostic = error(
      "E-EXPR", span, std::string("expected ") + expected + ", found " + found);
  StringRef rest = text.substr(at);
  if (rest.starts_with("="))
    Context::addHelp(diagnostic, "use `==` to compare");
  else if (rest.starts_with("&") || rest.starts_with("|"))
    Context::addHelp(diagnostic, "use `&&` or `||`");
  for (auto [other, ours] : kOtherSpellings)
    if (text.slice(span.begin, span.end) == other)
      Context::addHelp(diagnostic, "use " + quote(ours));
  return std::nullopt;
}

std::optional<Expr> Parser::parse(ExprType wanted) {
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

const Operator *Parser::peekOperator() {
  skipSpace();
  for (const Operator &op : kOperators)
    if (text.substr(at).starts_with(op.text))
      return &op;
  return nullptr;
}

//===----------------------------------------------------------------------===//
// Grammar
//===----------------------------------------------------------------------===//

Parser::Result Parser::parseSelect() {
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

Parser::Result Parser::parseBinary(unsigned level) {
  if (level == LevelUnary)
    return parseUnary();
  Result left = parseBinary(level + 1);
  for (unsigned count = 0; left; ++count) {
    const Operator *op = peekOperator();
    if (!op || op->level != level)
      return left;
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
    left = binary(op->op, std::move(*left), std::move(*right), symbol);
  }
  return left;
}

Parser::Result Parser::parseUnary() {
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

Parser::Result Parser::parsePrimary() {
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

Parser::Result Parser::parseNumber() {
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

Parser::Result Parser::parseName() {
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

Parser::Result Parser::parseVariable(StringRef word, size_t begin) {
  Expr variable;
  variable.span = {uint32_t(begin), uint32_t(at)};
  SmallVector<StringRef> known;
  for (const Name &name : kVariables) {
    if ((name.op == ExprOp::Score && !scope.score) ||
        (isPosition(name.op) && !scope.positions))
      continue;
    known.push_back(name.name);
    if (name.name != word)
      continue;
    variable.op = name.op;
    if (name.op == ExprOp::Score)
      return variable;
    variable.type = ExprType::Int;
    return ranged(std::move(variable));
  }
  for (const Constant &constant : scope.constants)
    known.push_back(constant.name);
  Diagnostic &diagnostic =
      error("E-EXPR-NAME", variable.span,
            "expected one of " + quoteAll(known) + ", found " + quote(word));
  for (auto [other, ours] : kOtherSpellings)
    if (word == other) {
      Context::addHelp(diagnostic, "use " + quote(ours));
      return std::nullopt;
    }
  for (const Function &function : kFunctions)
    known.push_back(function.name);
  if (StringRef near = nearestName(word, known); !near.empty())
    Context::addHelp(diagnostic, "did you mean " + quote(near) + "?");
  return std::nullopt;
}

static bool readsPosition(const Expr &expr) {
  return isPosition(expr.op) || llvm::any_of(expr.operands, readsPosition);
}

/// Counts the values that an index may pick: each is a comparison in the
/// kernel, and by position one for every score.
bool Parser::takeValues(const Expr &index) {
  bool byPosition = readsPosition(index);
  int64_t &count = byPosition ? valuesByPosition : valuesByHead;
  int64_t most = byPosition ? kMostByPosition : kMostByHead;
  count += index.high - index.low + 1;
  if (count <= most)
    return true;
  error("E-EXPR-RANGE", index.span,
        "the values that an expression picks by " +
            std::string(byPosition ? "position" : "head") + " are at most " +
            std::to_string(most) + " in all, found " + std::to_string(count));
  return false;
}

Parser::Result Parser::parseConstant(const Constant &constant, size_t begin) {
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
  if (constant.scalar)
    return ranged(std::move(element));
  if (!consume("["))
    return unexpected("`[` and an index, for the constant is a list");
  Result index = parseSelect();
  if (!index)
    return index;
  if (!consume("]"))
    return unexpected("`]`");
  element.span.end = uint32_t(at);
  int64_t size = int64_t(constant.size());
  if (index->type != ExprType::Int) {
    error("E-EXPR-TYPE", index->span,
          "an index is an integer, but " + described(*index));
    return std::nullopt;
  }
  if (index->low < 0 || index->high >= size) {
    Diagnostic &diagnostic = error(
        "E-EXPR-RANGE", index->span,
        "the index is " + std::to_string(index->low) + " to " +
            std::to_string(index->high) + ", but " + quote(constant.name) +
            " has " + std::to_string(size) + " values");
    Context::addNote(diagnostic, constant.loc, "the constant is here");
    return std::nullopt;
  }
  // What a call gives is loaded and not picked.
  if (!constant.given && !takeValues(*index))
    return std::nullopt;
  element.operands.push_back(std::move(*index));
  return ranged(std::move(element));
}

Parser::Result Parser::parseCall(const Function &function, size_t begin) {
  if (!consume("("))
    return unexpected("`(` after the name of a function");
  SmallVector<Expr, 2> arguments;
  for (unsigned i = 0; i < function.arguments; ++i) {
    if (i && !consume(","))
      return unexpected("`,` and another argument");
    Result argument = parseSelect();
    if (!argument)
      return argument;
    arguments.push_back(std::move(*argument));
  }
  if (!consume(")"))
    return unexpected("`)`");
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

//===----------------------------------------------------------------------===//
// Types
//===----------------------------------------------------------------------===//

Expr Parser::toFloat(Expr operand) {
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

Parser::Result Parser::unary(ExprOp op, Expr operand, size_t begin) {
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

bool Parser::unify(Expr &left, Expr &right, Span symbol) {
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

Parser::Result Parser::binary(ExprOp op, Expr left, Expr right, Span symbol) {
  if (!unify(left, right, symbol))
    return std::nullopt;
  Expr made;
  made.op = op;
  made.type = left.type;
  made.span = {left.span.begin, right.span.end};
  made.operands.push_back(std::move(left));
  made.operands.push_back(std::move(right));
  bool booleans = made.type == ExprType::Bool;
  bool wantsBool = op == ExprOp::And || op == ExprOp::Or;
  bool equality = op == ExprOp::Eq || op == ExprOp::Ne;
  if (booleans != wantsBool && !(booleans && equality)) {
    const Expr &first = made.operands.front();
    error("E-EXPR-TYPE", symbol,
          quote(text.slice(symbol.begin, symbol.end)) + " takes " +
              (wantsBool ? "booleans" : "numbers") + ", but " +
              described(first));
    return std::nullopt;
  }
  if (op >= ExprOp::Lt && op <= ExprOp::Ne) {
    made.type = ExprType::Bool;
    return made;
  }
  return wantsBool ? std::move(made) : arithmetic(std::move(made), symbol);
}

Parser::Result Parser::arithmetic(Expr made, Span symbol) {
  if (made.op == ExprOp::FloorDiv || made.op == ExprOp::Mod)
    return roundedDivision(std::move(made), symbol);
  if (made.op == ExprOp::Div && made.type == ExprType::Int) {
    made.type = ExprType::Float;
    for (Expr &operand : made.operands)
      operand = toFloat(std::move(operand));
  }
  return ranged(std::move(made));
}

/// A positive literal on the right has one meaning and costs no division.
Parser::Result Parser::roundedDivision(Expr made, Span symbol) {
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

Parser::Result Parser::select(Expr condition, Expr yes, Expr no) {
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
static std::pair<int64_t, int64_t> rangeOf(const Expr &made,
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

Parser::Result Parser::ranged(Expr made) {
  if (made.type != ExprType::Int)
    return made;
  std::tie(made.low, made.high) = rangeOf(made, scope);
  if (made.low >= INT32_MIN && made.high <= INT32_MAX)
    return made;
  Diagnostic &diagnostic =
      error("E-EXPR-RANGE", made.span,
            quote(text.slice(made.span.begin, made.span.end)) + " may be " +
                std::to_string(made.low) + " to " + std::to_string(made.high) +
                ", more than an integer of 32 bits holds");
  Context::addHelp(
      diagnostic, "bound an operand, as in `2 * min(t, 4096)`, or make a float "
                  "of it, as in `2.0 * t`");
  return std::nullopt;
}

//===----------------------------------------------------------------------===//
// Text
//===----------------------------------------------------------------------===//

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
    context.error("E-TYPE", context.document.loc(node),
                  "expected an expression in a string, found " +
                      quote(context.document.text(node)));
    return std::nullopt;
  }
  if (context.document.text(node).contains('\\')) {
    context.error("E-EXPR", context.document.loc(node),
                  "an expression has no escapes");
    return std::nullopt;
  }
  Parser parser(context, node, scope);
  std::optional<Expr> expr = parser.parse(type);
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
