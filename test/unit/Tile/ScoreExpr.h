//===- ScoreExpr.h - a score's region as a description ----------*- C++ -*-===//
//
// A region of dialect/Score.h as a description. It can be made IR, and has a
// meaning of its own: so the one can be held against the other.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_TEST_UNIT_TILE_SCOREEXPR_H
#define KVC_TEST_UNIT_TILE_SCOREEXPR_H

#include "lib/driver/Reference/ScoreProgram.h"

namespace kvc::fuzz {

using reference::ScorePlace;

/// f32, i32 and i1.
enum class ExprType : uint8_t { Real, Integer, Boolean };

enum class ExprOp : uint8_t {
  Input,
  Constant,
  Add,
  Sub,
  Mul,
  Max,
  Min,
  Div, ///< of integers, rounded down
  Compare,
  Select,
  And,
  Or,
  Xor,
  ToReal,
  Neg,
  Abs,
  Exp,
  Exp2,
  Log,
  Log2,
  Tanh,
  Sqrt
};
enum class Relation : uint8_t { Eq, Ne, Lt, Le, Gt, Ge };

/// Steps on the inputs of a region, the last of which it yields. Integers are
/// of positions and heads below kPositions and kHeads.
class Expr {
public:
  using Ref = unsigned;
  static constexpr int64_t kPositions = 4096, kHeads = 64;

  explicit Expr(bool logits = false);

  // Building: what a node may be is known from the start.
  Ref input(ScoreInput which) const { return Ref(which); }
  Ref real(double value); ///< the nearest f32
  Ref integer(int64_t value);
  Ref boolean(bool value);
  Ref make(ExprOp op, Ref x);
  Ref make(ExprOp op, Ref x, Ref y);
  Ref compare(Relation relation, Ref x, Ref y);
  Ref select(Ref condition, Ref x, Ref y);
  /// x - floor(x / n) n
  Ref rest(Ref x, int64_t n);
  Ref no(Ref x) { return make(ExprOp::Xor, x, boolean(true)); }
  /// Between two constants.
  Ref clamp(Ref x, double low, double high);
  /// Makes `result` what is yielded, and drops what it does not need.
  void finish(Ref result);

  ExprType typeOf(Ref x) const { return nodes[x].type; }
  /// Largest |value|, and |change| as the score changes by 1.
  double sizeOf(Ref x) const;
  double slopeOf(Ref x) const { return nodes[x].slope; }

  bool isEmpty() const { return nodes.size() <= kScoreInputs; }
  /// The value; `largest`: the largest |value| of any step.
  double evaluate(double score, const ScorePlace &place,
                  double *largest = nullptr) const;
  bool holds(const ScorePlace &place) const {
    return isEmpty() || evaluate(0, place) != 0;
  }
  /// Fills an empty region.
  void emit(mlir::Region &region, mlir::Location loc) const;

private:
  struct Node {
    ExprOp op = ExprOp::Input;
    ExprType type = ExprType::Integer;
    Relation relation = Relation::Eq;
    unsigned count = 0; ///< of operands
    Ref operands[3] = {};
    double constant = 0;
    double low = 0, high = 0, slope = 0;
  };
  Ref add(Node node);
  void bound(Node &node) const;
  void boundProduct(Node &node) const;
  void boundFunction(Node &node) const;

  bool logits;
  std::vector<Node> nodes; ///< behind the inputs
};

} // namespace kvc::fuzz

#endif // KVC_TEST_UNIT_TILE_SCOREEXPR_H
