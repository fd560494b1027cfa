//===- ExprParser.h - how expressions are read ------------------*- C++ -*-===//
//
// Words, operators and the parser. Expr.cpp has the grammar, ExprTypes.cpp what
// operands must be and what integers may be, ExprErrors.cpp what is said of
// what does not fit, ExprText.cpp the way back to text.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_LIB_BASE_SPEC_EXPRPARSER_H
#define KVC_LIB_BASE_SPEC_EXPRPARSER_H

#include "lib/base/Spec/Expr.h"
#include "lib/base/Spec/Fields.h"

#include "lib/base/Support/Words.h"

#include "llvm/ADT/StringExtras.h"

namespace kvc::spec {

struct Name {
  llvm::StringRef name;
  ExprOp op;
};
inline constexpr Name kVariables[] = {
    {"s", ExprOp::Score},         {"p", ExprOp::QueryPosition},
    {"t", ExprOp::TokenPosition}, {"c", ExprOp::Context},
    {"h", ExprOp::QueryHead},     {"g", ExprOp::KvHead}};

struct Function {
  llvm::StringRef name;
  ExprOp op;
  unsigned arguments;
};
inline constexpr Function kFunctions[] = {
    {"abs", ExprOp::Abs, 1},      {"exp", ExprOp::Exp, 1},
    {"exp2", ExprOp::Exp2, 1},    {"log", ExprOp::Log, 1},
    {"log2", ExprOp::Log2, 1},    {"tanh", ExprOp::Tanh, 1},
    {"sqrt", ExprOp::Sqrt, 1},    {"sigmoid", ExprOp::Sigmoid, 1},
    {"min", ExprOp::Min, 2},      {"max", ExprOp::Max, 2},
    {"float", ExprOp::ToFloat, 1}};

/// A binary operator and how tightly it binds.
struct Operator {
  llvm::StringRef text;
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
inline constexpr Operator kOperators[] = {
    {"||", ExprOp::Or, LevelOr},      {"&&", ExprOp::And, LevelAnd},
    {"<=", ExprOp::Le, LevelCompare}, {"<", ExprOp::Lt, LevelCompare},
    {">=", ExprOp::Ge, LevelCompare}, {">", ExprOp::Gt, LevelCompare},
    {"==", ExprOp::Eq, LevelCompare}, {"!=", ExprOp::Ne, LevelCompare},
    {"+", ExprOp::Add, LevelSum},     {"-", ExprOp::Sub, LevelSum},
    {"*", ExprOp::Mul, LevelProduct}, {"//", ExprOp::FloorDiv, LevelProduct},
    {"/", ExprOp::Div, LevelProduct}, {"%", ExprOp::Mod, LevelProduct}};

/// Values of constants that one expression may pick among: what compiles in
/// seconds.
inline constexpr int64_t kMostByHead = 1024, kMostByPosition = 256;

/// Whether its value differs from token to token, or from step to step.
bool readsPosition(const Expr &expr);

inline bool isWord(char c) { return llvm::isAlnum(c) || c == '_'; }

/// Reads one expression by recursive descent; the first error ends it.
class ExprParser {
public:
  ExprParser(Context &context, const Node &node, const ExprScope &scope,
             ExprType wanted)
      : context(context), node(node), scope(scope), wanted(wanted),
        text(node.string) {}

  std::optional<Expr> parse();
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
  Result parseVariable(llvm::StringRef word, size_t begin);
  Result parseConstant(const Constant &constant, size_t begin);
  bool takeValues(const Constant &constant, const Expr &index);
  /// Whether an expression of this scope has the variable.
  bool isKnown(ExprOp variable) const;

  Result unary(ExprOp op, Expr operand, size_t begin);
  Result binary(ExprOp op, Expr left, Expr right, Span symbol);
  Result arithmetic(Expr made, Span symbol);
  Result roundedDivision(Expr made, Span symbol);
  Result division(Expr made);
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
  bool consume(llvm::StringRef symbol) {
    skipSpace();
    if (!text.substr(at).starts_with(symbol))
      return false;
    at += symbol.size();
    return true;
  }
  const Operator *peekOperator();
  Span here() { return {uint32_t(at), uint32_t(at + 1)}; }

  // What does not fit: each reports it and fails.
  Result unexpected(const std::string &expected);
  Result power(Span base);
  Result unclosed(const Function &function);
  Result unknownName(llvm::StringRef word, Span span);
  Result unknownFunction(llvm::StringRef word, Span span);
  Result outOfRow(const Constant &constant, const Expr &index);
  Result tooManyValues(const Constant &constant, const Expr &index,
                       int64_t most, int64_t count);
  Result indexOfNumber(const Constant &constant);
  /// Says what to write in place of an integer of more than 32 bits.
  void addBound(Diagnostic &diagnostic, ExprOp op);
  Span symbolAt(size_t begin);
  std::string declarationOf(llvm::StringRef word, bool indexed);
  std::string boundedIndex(const Constant &constant, const Expr &index);

  Context &context;
  const Node &node;
  const ExprScope &scope;
  ExprType wanted; ///< of the whole
  llvm::StringRef text;
  size_t at = 0;
  unsigned depth = 0;
  unsigned indices = 0; ///< of constants, that enclose what is read
  int64_t valuesByHead = 0, valuesByPosition = 0; ///< of constants, so far
};

} // namespace kvc::spec

#endif // KVC_LIB_BASE_SPEC_EXPRPARSER_H
