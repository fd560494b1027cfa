//===- Expr.h - expressions inside a spec -----------------------*- C++ -*-===//
//
// What a query does with a score, and which tokens it sees, is written as an
// expression: "s - exp2(-8.0 * (h + 1) / 32) * (p - t)". This is the typed tree
// of one. It is parsed and checked in place, so that an error's caret stands
// inside the JSON string.
//
//   select   a ? b : c
//   or       a || b
//   and      a && b
//   compare  < <= > >= == !=
//   sum      a + b, a - b
//   product  a * b, a / b, a // n, a % n
//   unary    -a, !a
//   primary  1, 0.5, name, f(a), (a)
//
// Integers turn into floats where a float stands beside them; `/` is the
// quotient of reals, `//` and `%` round towards minus infinity and take a
// positive integer literal on the right.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_LIB_BASE_SPEC_EXPR_H
#define KVC_LIB_BASE_SPEC_EXPR_H

#include "lib/base/Spec/LocatedJson.h"
#include "lib/base/Support/Diagnostics.h"

#include "llvm/ADT/ArrayRef.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace kvc::spec {

class Context;

enum class ExprType : uint8_t { Bool, Int, Float };
/// "a boolean", "an integer" or "a float".
const char *describe(ExprType type);

enum class ExprOp : uint8_t {
  Literal,
  Score,         ///< s: softmax_scale * <q, k>, a float
  QueryPosition, ///< p
  TokenPosition, ///< t
  Context,       ///< c: tokens of the sequence that the step found cached
  QueryHead,     ///< h, of the model
  KvHead,        ///< g, of the model
  Element,       ///< of a constant: `constant[operand]`, or the whole of one
  // Of one operand.
  Neg,
  Not,
  ToFloat,
  Abs,
  Exp,
  Exp2,
  Log,
  Log2,
  Tanh,
  Sigmoid,
  Sqrt,
  // Of two.
  Add,
  Sub,
  Mul,
  Div,
  FloorDiv,
  Mod,
  Min,
  Max,
  Lt,
  Le,
  Gt,
  Ge,
  Eq,
  Ne,
  And,
  Or,
  // Of three: a condition and two values.
  Select,
};

/// A checked expression. Operands of an arithmetic op have its type; those of
/// a comparison have one type.
struct Expr {
  ExprOp op = ExprOp::Literal;
  ExprType type = ExprType::Float;
  double number = 0; ///< of a literal; a boolean is 0 or 1
  /// Of an element: the constant's name, and its values or, if each call gives
  /// them, how many there are.
  std::string constant;
  std::vector<double> values;
  unsigned given = 0;
  bool perSequence = false; ///< if given
  std::vector<Expr> operands;
  /// Int: what it may be, for all positions and heads. Within 32 bits.
  int64_t low = 0, high = 0;
  Span span;              ///< bytes of the string
  bool converted = false; ///< an integer that became a float unasked

  bool isLiteral() const { return op == ExprOp::Literal; }
  /// The first part of the text that is a float by itself; null if none is.
  const Expr *findFloat() const;
  /// One text for one meaning, with no more parentheses than needed.
  std::string text() const;
};

/// cap * tanh(s / cap): the logits of a model with a softcap.
Expr softcapOf(double cap);

/// A named value of `attend.constants`: a number, or a row of them, or a row
/// that each call gives.
struct Constant {
  std::string name;
  std::vector<double> values;
  bool scalar = false; ///< written without an index
  SourceLoc loc;
  unsigned given = 0; ///< values that a call gives; 0: they are in the spec
  bool perSequence = false;        ///< it gives as many for each sequence
  ExprType type = ExprType::Float; ///< or Int, of 32 bits
  bool unread = false; ///< it could not be read, which has been reported

  size_t size() const { return given ? given : values.size(); }
};

/// What the names in an expression may be.
struct ExprScope {
  bool score = false;     ///< `s` is known
  bool positions = false; ///< `p`, `t`, `c` and what is of a sequence are
  unsigned qHeads = 1, kvHeads = 1;
  llvm::ArrayRef<Constant> constants;
};

/// Whether a constant may have this name: a word that nothing else has.
bool isExprName(llvm::StringRef name);

/// Parses the string at `node` as an expression of type `type` (an integer is
/// converted where a float is wanted). Reports what is wrong (E-EXPR,
/// E-EXPR-TYPE, E-EXPR-NAME, E-EXPR-RANGE) where it stands.
std::optional<Expr> readExpr(Context &context, const Node &node,
                             const ExprScope &scope, ExprType type);

} // namespace kvc::spec

#endif // KVC_LIB_BASE_SPEC_EXPR_H
