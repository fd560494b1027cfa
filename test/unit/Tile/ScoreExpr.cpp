//===- ScoreExpr.cpp - a score's region as a description ------------------===//
#include "test/unit/Tile/ScoreExpr.h"

#include "dialect/KvcDialect.h"

#include <algorithm>
#include <cmath>

using namespace kvc;
using namespace kvc::fuzz;
using Ref = Expr::Ref;

//===----------------------------------------------------------------------===//
// Building
//===----------------------------------------------------------------------===//

/// Scores are of this size, usually.
static constexpr double kScore = 30;

Expr::Expr(bool logits) : logits(logits), nodes(kScoreInputs) {
  for (ScoreInput which : {ScoreInput::QueryPosition, ScoreInput::TokenPosition,
                           ScoreInput::Context})
    nodes[unsigned(which)].high = kPositions;
  for (ScoreInput which : {ScoreInput::QueryHead, ScoreInput::KvHead})
    nodes[unsigned(which)].high = kHeads;
  Node &score = nodes[unsigned(ScoreInput::Score)];
  score.type = ExprType::Real;
  score.low = -kScore, score.high = kScore, score.slope = 1;
}

Ref Expr::add(Node node) {
  if (node.op != ExprOp::Constant)
    bound(node);
  nodes.push_back(node);
  return Ref(nodes.size() - 1);
}

/// The generator is wrong.
[[noreturn]] static void fail(const char *what) {
  fprintf(stderr, "ScoreExpr: %s\n", what);
  abort();
}

Ref Expr::real(double value) {
  Node node{ExprOp::Constant, ExprType::Real};
  node.constant = node.low = node.high = double(float(value));
  return add(node);
}

Ref Expr::integer(int64_t value) {
  Node node{ExprOp::Constant, ExprType::Integer};
  node.constant = node.low = node.high = double(value);
  return add(node);
}

Ref Expr::boolean(bool value) {
  Node node{ExprOp::Constant, ExprType::Boolean};
  node.constant = node.low = node.high = value;
  return add(node);
}

Ref Expr::make(ExprOp op, Ref x) {
  Node node{op, ExprType::Real};
  node.count = 1, node.operands[0] = x;
  return add(node);
}

Ref Expr::make(ExprOp op, Ref x, Ref y) {
  if (typeOf(x) != typeOf(y))
    fail("operands of two types");
  Node node{op, typeOf(x)};
  node.count = 2, node.operands[0] = x, node.operands[1] = y;
  return add(node);
}

Ref Expr::compare(Relation relation, Ref x, Ref y) {
  if (typeOf(x) != typeOf(y))
    fail("a comparison of two types");
  Node node{ExprOp::Compare, ExprType::Boolean, relation};
  node.count = 2, node.operands[0] = x, node.operands[1] = y;
  return add(node);
}

Ref Expr::select(Ref condition, Ref x, Ref y) {
  if (typeOf(x) != typeOf(y))
    fail("a choice of two types");
  Node node{ExprOp::Select, typeOf(x)};
  node.count = 3;
  node.operands[0] = condition, node.operands[1] = x, node.operands[2] = y;
  return add(node);
}

Ref Expr::rest(Ref x, int64_t n) {
  Ref quotient = make(ExprOp::Div, x, integer(n));
  return make(ExprOp::Sub, x, make(ExprOp::Mul, quotient, integer(n)));
}

Ref Expr::clamp(Ref x, double low, double high) {
  return make(ExprOp::Min, make(ExprOp::Max, x, real(low)), real(high));
}

void Expr::finish(Ref result) {
  if (result < kScoreInputs)
    fail("an input is no step");
  std::vector<bool> needed(nodes.size());
  needed[result] = true;
  for (Ref at = result; at >= kScoreInputs; --at)
    for (unsigned i = 0; needed[at] && i < nodes[at].count; ++i)
      needed[nodes[at].operands[i]] = true;
  std::vector<Node> kept(nodes.begin(), nodes.begin() + kScoreInputs);
  std::vector<Ref> place(nodes.size());
  for (Ref at = 0; at <= result; ++at) {
    place[at] = at < kScoreInputs ? at : Ref(kept.size());
    if (at < kScoreInputs || !needed[at])
      continue;
    Node node = nodes[at];
    for (unsigned i = 0; i < node.count; ++i)
      node.operands[i] = place[node.operands[i]];
    kept.push_back(node);
  }
  nodes = std::move(kept);
}

double Expr::sizeOf(Ref x) const {
  return std::max(std::fabs(nodes[x].low), std::fabs(nodes[x].high));
}

//===----------------------------------------------------------------------===//
// Bounds
//===----------------------------------------------------------------------===//

/// Of a product or a quotient: at the corners of what its operands may be.
void Expr::boundProduct(Node &node) const {
  const Node &x = nodes[node.operands[0]], &y = nodes[node.operands[1]];
  bool divides = node.op == ExprOp::Div;
  double corners[4];
  unsigned count = 0;
  for (double a : {x.low, x.high})
    for (double b : {y.low, y.high})
      corners[count++] = divides ? a / b : a * b;
  node.low = *std::min_element(corners, corners + 4);
  node.high = *std::max_element(corners, corners + 4);
  if (divides && node.type == ExprType::Integer)
    node.low = std::floor(node.low), node.high = std::floor(node.high);
  double sizeX = std::max(-x.low, x.high), sizeY = std::max(-y.low, y.high);
  double least = std::min(std::fabs(y.low), std::fabs(y.high));
  node.slope = divides ? (x.slope + sizeX / least * y.slope) / least
                       : x.slope * sizeY + y.slope * sizeX;
}

void Expr::boundFunction(Node &node) const {
  const Node &x = nodes[node.operands[0]];
  node.low = x.low, node.high = x.high, node.slope = x.slope;
  auto set = [&](double low, double high, double steepest) {
    node.low = low, node.high = high, node.slope *= steepest;
  };
  switch (node.op) {
  case ExprOp::Neg:
    return set(-x.high, -x.low, 1);
  case ExprOp::Abs:
    return set(x.low <= 0 && x.high >= 0
                   ? 0
                   : std::min(std::fabs(x.low), std::fabs(x.high)),
               std::max(-x.low, x.high), 1);
  case ExprOp::Exp:
    return set(std::exp(x.low), std::exp(x.high), std::exp(x.high));
  case ExprOp::Exp2:
    return set(std::exp2(x.low), std::exp2(x.high), std::exp2(x.high));
  case ExprOp::Log:
    return set(std::log(x.low), std::log(x.high), 1 / x.low);
  case ExprOp::Log2:
    return set(std::log2(x.low), std::log2(x.high), M_LOG2E / x.low);
  case ExprOp::Tanh:
    return set(std::tanh(x.low), std::tanh(x.high), 1);
  case ExprOp::Sqrt:
    // Where nothing depends on the score, 0 is as good as any.
    return set(std::sqrt(x.low), std::sqrt(x.high),
               x.slope ? 0.5 / std::sqrt(x.low) : 1);
  default: // ToReal
    return;
  }
}

void Expr::bound(Node &node) const {
  const Node &x = nodes[node.operands[0]], &y = nodes[node.operands[1]];
  if (node.type == ExprType::Boolean) {
    node.high = 1;
    return;
  }
  auto set = [&](double low, double high, double slope) {
    node.low = low, node.high = high, node.slope = slope;
  };
  double steeper = std::max(x.slope, y.slope);
  switch (node.op) {
  case ExprOp::Add:
    return set(x.low + y.low, x.high + y.high, x.slope + y.slope);
  case ExprOp::Sub:
    return set(x.low - y.high, x.high - y.low, x.slope + y.slope);
  case ExprOp::Max:
    return set(std::max(x.low, y.low), std::max(x.high, y.high), steeper);
  case ExprOp::Min:
    return set(std::min(x.low, y.low), std::min(x.high, y.high), steeper);
  case ExprOp::Mul:
  case ExprOp::Div:
    return boundProduct(node);
  case ExprOp::Select: {
    const Node &z = nodes[node.operands[2]];
    return set(std::min(y.low, z.low), std::max(y.high, z.high),
               std::max(y.slope, z.slope));
  }
  default:
    return boundFunction(node);
  }
}

//===----------------------------------------------------------------------===//
// Meaning
//===----------------------------------------------------------------------===//

static bool stands(Relation relation, double x, double y) {
  switch (relation) {
  case Relation::Eq:
    return x == y;
  case Relation::Ne:
    return x != y;
  case Relation::Lt:
    return x < y;
  case Relation::Le:
    return x <= y;
  case Relation::Gt:
    return x > y;
  case Relation::Ge:
    return x >= y;
  }
}

static double functionOf(ExprOp op, double x) {
  switch (op) {
  case ExprOp::Neg:
    return -x;
  case ExprOp::Abs:
    return std::fabs(x);
  case ExprOp::Exp:
    return std::exp(x);
  case ExprOp::Exp2:
    return std::exp2(x);
  case ExprOp::Log:
    return std::log(x);
  case ExprOp::Log2:
    return std::log2(x);
  case ExprOp::Tanh:
    return std::tanh(x);
  case ExprOp::Sqrt:
    return std::sqrt(x);
  default: // ToReal
    return x;
  }
}

static double valueOf(ExprOp op, bool integers, double x, double y) {
  switch (op) {
  case ExprOp::Add:
    return x + y;
  case ExprOp::Sub:
    return x - y;
  case ExprOp::Mul:
    return x * y;
  case ExprOp::Max:
    return std::max(x, y);
  case ExprOp::Min:
    return std::min(x, y);
  case ExprOp::Div:
    return integers ? std::floor(x / y) : x / y;
  case ExprOp::And:
    return x * y;
  case ExprOp::Or:
    return std::max(x, y);
  case ExprOp::Xor:
    return x != y;
  default:
    return functionOf(op, x);
  }
}

double Expr::evaluate(double score, const ScorePlace &place,
                      double *largest) const {
  static thread_local std::vector<double> values;
  values.assign({score, double(place.query), double(place.token),
                 double(place.context), double(place.qHead),
                 double(place.kvHead)});
  double most = std::fabs(score);
  for (const Node &node : llvm::drop_begin(nodes, kScoreInputs)) {
    auto at = [&](unsigned i) { return values[node.operands[i]]; };
    double value;
    if (node.op == ExprOp::Constant)
      value = node.constant;
    else if (node.op == ExprOp::Compare)
      value = stands(node.relation, at(0), at(1));
    else if (node.op == ExprOp::Select)
      value = at(0) != 0 ? at(1) : at(2);
    else
      value = valueOf(node.op, node.type == ExprType::Integer, at(0), at(1));
    if (node.type == ExprType::Real)
      most = std::max(most, std::fabs(value));
    values.push_back(value);
  }
  if (largest)
    *largest = most;
  return values.back();
}

//===----------------------------------------------------------------------===//
// IR
//===----------------------------------------------------------------------===//

namespace {

/// Makes the ops of nodes.
class ExprBuilder {
public:
  ExprBuilder(mlir::OpBuilder &b, mlir::Location loc) : b(b), loc(loc) {}

  mlir::Value constant(ExprType type, double value) {
    if (type == ExprType::Real)
      return make<mlir::arith::ConstantOp>(b.getF32FloatAttr(float(value)));
    if (type == ExprType::Integer)
      return make<mlir::arith::ConstantOp>(b.getI32IntegerAttr(int(value)));
    return make<mlir::arith::ConstantOp>(b.getBoolAttr(value != 0));
  }
  mlir::Value compare(Relation relation, mlir::Value x, mlir::Value y);
  mlir::Value reals(ExprOp op, mlir::Value x, mlir::Value y);
  mlir::Value others(ExprOp op, mlir::Value x, mlir::Value y);
  template <typename OpT, typename... Args> mlir::Value make(Args... args) {
    return OpT::create(b, loc, args...);
  }

private:
  mlir::OpBuilder &b;
  mlir::Location loc;
};

} // namespace

mlir::Value ExprBuilder::compare(Relation relation, mlir::Value x,
                                 mlir::Value y) {
  using I = mlir::arith::CmpIPredicate;
  using F = mlir::arith::CmpFPredicate;
  static constexpr I kIntegers[] = {I::eq,  I::ne,  I::slt,
                                    I::sle, I::sgt, I::sge};
  static constexpr F kReals[] = {F::OEQ, F::UNE, F::OLT,
                                 F::OLE, F::OGT, F::OGE};
  if (x.getType().isF32())
    return make<mlir::arith::CmpFOp>(kReals[unsigned(relation)], x, y);
  return make<mlir::arith::CmpIOp>(kIntegers[unsigned(relation)], x, y);
}

mlir::Value ExprBuilder::reals(ExprOp op, mlir::Value x, mlir::Value y) {
  switch (op) {
  case ExprOp::Add:
    return make<mlir::arith::AddFOp>(x, y);
  case ExprOp::Sub:
    return make<mlir::arith::SubFOp>(x, y);
  case ExprOp::Mul:
    return make<mlir::arith::MulFOp>(x, y);
  case ExprOp::Max:
    return make<mlir::arith::MaximumFOp>(x, y);
  case ExprOp::Min:
    return make<mlir::arith::MinimumFOp>(x, y);
  case ExprOp::Div:
    return make<mlir::arith::DivFOp>(x, y);
  case ExprOp::ToReal:
    return make<mlir::arith::SIToFPOp>(b.getF32Type(), x);
  case ExprOp::Neg:
    return make<mlir::arith::NegFOp>(x);
  case ExprOp::Abs:
    return make<mlir::math::AbsFOp>(x);
  case ExprOp::Exp:
    return make<mlir::math::ExpOp>(x);
  case ExprOp::Exp2:
    return make<mlir::math::Exp2Op>(x);
  case ExprOp::Log:
    return make<mlir::math::LogOp>(x);
  case ExprOp::Log2:
    return make<mlir::math::Log2Op>(x);
  case ExprOp::Tanh:
    return make<mlir::math::TanhOp>(x);
  default:
    return make<mlir::math::SqrtOp>(x);
  }
}

mlir::Value ExprBuilder::others(ExprOp op, mlir::Value x, mlir::Value y) {
  switch (op) {
  case ExprOp::Add:
    return make<mlir::arith::AddIOp>(x, y);
  case ExprOp::Sub:
    return make<mlir::arith::SubIOp>(x, y);
  case ExprOp::Mul:
    return make<mlir::arith::MulIOp>(x, y);
  case ExprOp::Max:
    return make<mlir::arith::MaxSIOp>(x, y);
  case ExprOp::Min:
    return make<mlir::arith::MinSIOp>(x, y);
  case ExprOp::Div:
    return make<mlir::arith::FloorDivSIOp>(x, y);
  case ExprOp::And:
    return make<mlir::arith::AndIOp>(x, y);
  case ExprOp::Or:
    return make<mlir::arith::OrIOp>(x, y);
  default:
    return make<mlir::arith::XOrIOp>(x, y);
  }
}

void Expr::emit(mlir::Region &region, mlir::Location loc) const {
  mlir::OpBuilder b(loc.getContext());
  b.setInsertionPointToEnd(&addScoreBlock(
      region, logits ? ScoreRegionKind::Logits : ScoreRegionKind::Visible,
      loc));
  ExprBuilder builder(b, loc);
  llvm::SmallVector<mlir::Value> values;
  for (unsigned i = 0; i < kScoreInputs; ++i)
    values.push_back(argumentOf(region, ScoreInput(i)));
  for (const Node &node : llvm::drop_begin(nodes, kScoreInputs)) {
    mlir::Value operands[3];
    for (unsigned i = 0; i < node.count; ++i)
      operands[i] = values[node.operands[i]];
    auto [x, y, z] = operands;
    mlir::Value value;
    if (node.op == ExprOp::Constant)
      value = builder.constant(node.type, node.constant);
    else if (node.op == ExprOp::Compare)
      value = builder.compare(node.relation, x, y);
    else if (node.op == ExprOp::Select)
      value = builder.make<mlir::arith::SelectOp>(x, y, z);
    else
      value = node.type == ExprType::Real ? builder.reals(node.op, x, y)
                                          : builder.others(node.op, x, y);
    values.push_back(value);
  }
  ScoreYieldOp::create(b, loc, values.back());
}
