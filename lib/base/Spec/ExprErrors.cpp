//===- ExprErrors.cpp - what is said of an expression that does not fit ---===//
//
// Of each error the place, what was expected and found, and what to write in
// its stead: so that what is advised is legal where it is advised.
//
//===----------------------------------------------------------------------===//
#include "lib/base/Spec/ExprParser.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/Support/ConvertUTF.h"
#include "llvm/Support/FormatVariadic.h"

using namespace kvc;
using namespace kvc::spec;
using llvm::formatv;
using llvm::StringLiteral;
using llvm::StringRef;

static constexpr StringLiteral kCondition = "condition ? a : b";

/// What others write, and what it is here.
static constexpr std::pair<StringLiteral, StringLiteral> kOtherSpellings[] = {
    {"and", "&&"},
    {"or", "||"},
    {"not", "!"},
    {"q_idx", "p"},
    {"kv_idx", "t"},
    {"q_pos", "p"},
    {"score", "s"},
    {"head", "h"},
    {"kv_head", "g"},
    {"q", "p"},
    {"k", "t"},
    {"maximum", "max"},
    {"minimum", "min"},
    {"fabs", "abs"},
    {"expf", "exp"},
    {"tanhf", "tanh"},
    {"ln", "log"},
    {"int", "//"},
    {"floor", "//"},
    {"mod", "%"},
    {"pow", "exp2"},
    {"context", "c"},
    {"context_len", "c"},
    {"if", kCondition},
    {"else", kCondition},
    {"where", kCondition},
    {"select", kCondition},
    {"\u2212", "-"},
    {"\u2013", "-"},
    {"\u2014", "-"},
    {"\u00d7", "*"},
    {"\u00b7", "*"},
    {"\u2217", "*"},
    {"\u00f7", "/"},
    {"\u2264", "<="},
    {"\u2265", ">="},
    {"\u2260", "!="},
    {"\u2227", "&&"},
    {"\u2228", "||"},
    {"\u00ac", "!"}};

/// Whether another spelling of ours is `word`; says so.
static bool addSpelling(Diagnostic &diagnostic, StringRef word) {
  for (auto [other, ours] : kOtherSpellings)
    if (word == other) {
      Context::addHelp(diagnostic, "use " + quote(ours));
      return true;
    }
  return false;
}

//===----------------------------------------------------------------------===//
// Grammar
//===----------------------------------------------------------------------===//

/// The word or the character at `begin`; of UTF-8, which the document is, the
/// whole of it.
Span ExprParser::symbolAt(size_t begin) {
  Span span{uint32_t(begin), uint32_t(begin + 1)};
  auto continues = [&](char c) {
    return isWord(text[begin]) ? isWord(c) : (c & 0xc0) == 0x80;
  };
  while (span.end < text.size() && continues(text[span.end]))
    ++span.end;
  return span;
}

/// `text` as it is quoted, and the number of a character that may look like
/// another.
static std::string shown(StringRef text) {
  std::string quoted = quote(text);
  if (llvm::isASCII(text))
    return quoted;
  const auto *begin = reinterpret_cast<const llvm::UTF8 *>(text.begin());
  llvm::UTF32 code = 0;
  llvm::convertUTF8Sequence(&begin, begin + text.size(), &code,
                            llvm::strictConversion);
  return quoted + formatv(" (U+{0:X-4})", code).str();
}

ExprParser::Result ExprParser::unexpected(const std::string &expected) {
  skipSpace();
  if (at >= text.size()) {
    error("E-EXPR", here(),
          "expected " + expected + ", found the end of the expression");
    return std::nullopt;
  }
  Span span = symbolAt(at);
  StringRef found = text.slice(span.begin, span.end);
  Diagnostic &diagnostic =
      error("E-EXPR", span, "expected " + expected + ", found " + shown(found));
  if (found == "=")
    Context::addHelp(diagnostic, "use `==` to compare");
  else if (found == "&" || found == "|")
    Context::addHelp(diagnostic, "use `&&` or `||`");
  else if (found == "\u00a0")
    Context::addHelp(diagnostic, "use a plain space");
  else
    addSpelling(diagnostic, found);
  return std::nullopt;
}

/// The operand that begins at `begin`, as far as brackets tell: a name or a
/// number with a sign, and what is in brackets behind it.
static StringRef operandAt(StringRef text, size_t begin) {
  text = text.drop_front(begin).ltrim();
  size_t end = text.starts_with("-");
  while (end < text.size() && (isWord(text[end]) || text[end] == '.'))
    ++end;
  for (unsigned depth = 0; end < text.size(); ++end) {
    char c = text[end];
    if (c == '(' || c == '[')
      ++depth;
    else if (!depth)
      break;
    else if ((c == ')' || c == ']') && !--depth)
      return text.take_front(end + 1);
  }
  return text.take_front(end);
}

/// There is none; `base` is what stands on its left.
ExprParser::Result ExprParser::power(Span base) {
  StringRef left = text.slice(base.begin, base.end).ltrim("- ");
  StringRef right = operandAt(text, at + 2);
  Diagnostic &diagnostic =
      error("E-EXPR", {uint32_t(at), uint32_t(at + 2)},
            "expected an operator or the end, found `**`, which is none");
  constexpr size_t longest = 48;
  std::string use;
  if (right == "2")
    use = (left + " * " + left).str();
  else if (right == "3")
    use = (left + " * " + left + " * " + left).str();
  else if (wanted == ExprType::Bool)
    use = "";
  else if (left == "2" || left == "2.0")
    use = ("exp2(" + right + ")").str();
  else
    use = ("exp2(" + right + " * log2(" + left + "))").str();
  if (use.size() > longest || (!use.empty() && right.empty()))
    use = "exp2(y * log2(x))";
  Context::addHelp(diagnostic,
                   use.empty() ? "write the product out: what is visible is "
                                 "decided by integers"
                               : "use " + quote(use));
  return std::nullopt;
}

/// `function` has had all its arguments, and there is no `)`.
ExprParser::Result ExprParser::unclosed(const Function &function) {
  std::string name = quote(function.name);
  skipSpace();
  if (!text.substr(at).starts_with(","))
    return unexpected("`)`");
  bool two = function.arguments == 2;
  Diagnostic &diagnostic =
      error("E-EXPR", here(),
            "expected `)`, for " + name + " takes " +
                (two ? "two arguments" : "one argument") + ", found `,`");
  if (two)
    Context::addHelp(diagnostic, formatv("for three write `{0}(a, {0}(b, c))`",
                                         function.name));
  return std::nullopt;
}

//===----------------------------------------------------------------------===//
// Names
//===----------------------------------------------------------------------===//

/// How a constant of the name `word`, which an index follows or not, would be
/// declared.
std::string ExprParser::declarationOf(StringRef word, bool indexed) {
  std::string name = word.str();
  if (wanted == ExprType::Bool)
    return "declare it in `attend.constants`, as in `\"" + name +
           "\": {\"type\": \"int\", \"values\": [64]}`" +
           (indexed ? "" : ", and read `" + name + "[0]`");
  return "declare it in `attend.constants`, as in `\"" + name +
         (indexed ? "\": [0.5, 0.25]`" : "\": 0.5`");
}

ExprParser::Result ExprParser::unknownFunction(StringRef word, Span span) {
  llvm::SmallVector<StringRef> known;
  for (const Function &function : kFunctions)
    known.push_back(function.name);
  Diagnostic &diagnostic =
      error("E-EXPR-NAME", span,
            "expected a function, one of " + quoteAll(known) + ", found " +
                quote(word));
  StringRef near = nearestName(word, known);
  if (!addSpelling(diagnostic, word) && !near.empty())
    Context::addHelp(diagnostic, "did you mean " + quote(near) + "?");
  return std::nullopt;
}

ExprParser::Result ExprParser::unknownName(StringRef word, Span span) {
  skipSpace();
  char next = at < text.size() ? text[at] : '\0';
  if (next == '(')
    return unknownFunction(word, span);
  llvm::SmallVector<StringRef> known;
  for (const Name &name : kVariables)
    if (isKnown(name.op))
      known.push_back(name.name);
  for (const Constant &constant : scope.constants)
    known.push_back(constant.name);
  Diagnostic &diagnostic =
      error("E-EXPR-NAME", span,
            "expected one of " + quoteAll(known) + ", found " + quote(word));
  for (const Name &name : kVariables)
    if (name.name == word) {
      Context::addHelp(diagnostic,
                       quote(word) + (name.op == ExprOp::Score
                                          ? " is known in `logits` only"
                                          : " is not known in `sink`, which "
                                            "is of a head and not of a "
                                            "token"));
      return std::nullopt;
    }
  if (addSpelling(diagnostic, word))
    return std::nullopt;
  for (const Function &function : kFunctions)
    known.push_back(function.name);
  StringRef near = nearestName(word, known);
  if (!near.empty())
    Context::addHelp(diagnostic, "did you mean " + quote(near) + "?");
  if (isExprName(word))
    Context::addHelp(diagnostic, (near.empty() ? "" : "or ") +
                                     declarationOf(word, next == '['));
  return std::nullopt;
}

//===----------------------------------------------------------------------===//
// Indices
//===----------------------------------------------------------------------===//

/// The index that stays in the row of `constant` whatever `index` is.
std::string ExprParser::boundedIndex(const Constant &constant,
                                     const Expr &index) {
  int64_t last = int64_t(constant.size()) - 1;
  std::string inside = text.slice(index.span.begin, index.span.end).str();
  if (inside.size() > 40)
    inside = "i";
  if (index.isLiteral() || last == 0)
    inside = std::to_string(index.high < 0 ? 0 : last);
  else if (index.low >= 0)
    inside = formatv("min({0}, {1})", inside, last);
  else if (index.high <= last)
    inside = formatv("max({0}, 0)", inside);
  else
    inside = formatv("max(0, min({0}, {1}))", inside, last);
  return "`" + constant.name + "[" + inside + "]`";
}

/// How each call gives a constant whose values the spec had.
static std::string givenForm(const Constant &constant) {
  return formatv("`\"{0}\": {{\"size\": {1}{2}}`", constant.name,
                 constant.size(),
                 constant.type == ExprType::Int ? ", \"type\": \"int\"" : "");
}

ExprParser::Result ExprParser::outOfRow(const Constant &constant,
                                        const Expr &index) {
  Diagnostic &diagnostic =
      error("E-EXPR-RANGE", index.span,
            "the index is " + std::to_string(index.low) + " to " +
                std::to_string(index.high) + ", but " + quote(constant.name) +
                " has " + std::to_string(constant.size()) + " values");
  Context::addNote(diagnostic, constant.loc, "the constant is here");
  std::string values = std::to_string(index.high + 1) + " values";
  std::string write = "write " + boundedIndex(constant, index);
  bool byPosition = readsPosition(index);
  if (index.op == ExprOp::QueryHead)
    Context::addHelp(diagnostic, "give it " + values + ", one per q head");
  else if (index.op == ExprOp::KvHead)
    Context::addHelp(diagnostic, "give it " + values + ", one per kv head");
  else if (index.isLiteral())
    Context::addHelp(diagnostic, write + ": indices count from 0");
  else if (!constant.given && byPosition &&
           int64_t(constant.size()) > kMostByPosition)
    Context::addHelp(
        diagnostic,
        write + ", and let each call give the values: " + givenForm(constant));
  else
    Context::addHelp(diagnostic, write);
  return std::nullopt;
}

ExprParser::Result ExprParser::tooManyValues(const Constant &constant,
                                             const Expr &index, int64_t most,
                                             int64_t count) {
  Diagnostic &diagnostic =
      error("E-EXPR-RANGE", index.span,
            "the values that an expression picks by " +
                std::string(readsPosition(index) ? "position" : "head") +
                " are at most " + std::to_string(most) + " in all, found " +
                std::to_string(count));
  Context::addHelp(diagnostic,
                   "let each call give the values: " + givenForm(constant));
  return std::nullopt;
}

ExprParser::Result ExprParser::indexOfNumber(const Constant &constant) {
  Diagnostic &diagnostic =
      error("E-EXPR-TYPE", here(),
            quote(constant.name) + " is one number and not a list, but has an "
                                   "index");
  Context::addNote(diagnostic, constant.loc, "the constant is here");
  Context::addHelp(diagnostic, "write " + quote(constant.name) +
                                   ", or make a list of it, as in `\"" +
                                   constant.name + "\": [0.5, 0.25]`");
  return std::nullopt;
}

//===----------------------------------------------------------------------===//
// Ranges
//===----------------------------------------------------------------------===//

/// The same comparison without the large integer; "" if there is none.
static std::string otherSide(ExprOp op) {
  switch (op) {
  case ExprOp::Mul:
    return ", or divide the other side, as in `t <= p // 8` for `8 * t <= p`";
  case ExprOp::Add:
    return ", or move a term to the other side, as in `p < 100 - t` for `p + t "
           "< 100`";
  case ExprOp::Sub:
    return ", or move a term to the other side, as in `p - 4 < first[0]` for "
           "`p - first[0] < 4`";
  default:
    return "";
  }
}

void ExprParser::addBound(Diagnostic &diagnostic, ExprOp op) {
  std::string name = scope.positions ? "t" : "h";
  std::string help = "bound an operand, as in `2 * min(" + name + ", 4096)`";
  // No float is an index or decides what is visible.
  if (!indices && wanted == ExprType::Float)
    help += ", or make a float of it, as in `2.0 * " + name + "`";
  else if (!indices)
    help += otherSide(op);
  Context::addHelp(diagnostic, help);
}
