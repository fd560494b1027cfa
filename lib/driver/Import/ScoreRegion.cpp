//===- ScoreRegion.cpp - an expression of a spec as ops -------------------===//
#include "lib/driver/Import/ScoreRegion.h"
#include "dialect/KvcDialect.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"

using namespace mlir;
using namespace kvc;
using spec::Expr;
using spec::ExprOp;
using spec::ExprType;

namespace {

class RegionBuilder {
public:
  RegionBuilder(Region &region, ScoreRegionKind kind, Location loc)
      : region(region), loc(loc), b(loc.getContext()) {
    b.setInsertionPointToEnd(&addScoreBlock(region, kind, loc));
  }

  Value build(const Expr &expr);
  Value f32(double value) {
    return arith::ConstantOp::create(b, loc, b.getF32FloatAttr(value));
  }
  template <typename OpT, typename... Args> Value make(Args... args) {
    return OpT::create(b, loc, args...);
  }
  void yield(Value value) { ScoreYieldOp::create(b, loc, value); }

private:
  Value leaf(const Expr &expr);
  Value element(const Expr &expr);
  Value pick(ArrayRef<Value> values, Value index, int64_t first);
  Value ofFloats(ExprOp op, ArrayRef<Value> x);
  Value ofInts(ExprOp op, ArrayRef<Value> x);
  Value compare(ExprOp op, ExprType type, Value x, Value y);
  Value negated(Value x) { return make<arith::XOrIOp>(x, boolean(true)); }

  Value i32(int64_t value) {
    return arith::ConstantOp::create(b, loc, b.getI32IntegerAttr(value));
  }
  Value boolean(bool value) {
    return arith::ConstantOp::create(b, loc, b.getBoolAttr(value));
  }

  Region &region;
  Location loc;
  OpBuilder b;
};

} // namespace

Value RegionBuilder::leaf(const Expr &expr) {
  switch (expr.op) {
  case ExprOp::Score:
    return argumentOf(region, ScoreInput::Score);
  case ExprOp::QueryPosition:
    return argumentOf(region, ScoreInput::QueryPosition);
  case ExprOp::TokenPosition:
    return argumentOf(region, ScoreInput::TokenPosition);
  case ExprOp::Context:
    return argumentOf(region, ScoreInput::Context);
  case ExprOp::QueryHead:
    return argumentOf(region, ScoreInput::QueryHead);
  case ExprOp::KvHead:
    return argumentOf(region, ScoreInput::KvHead);
  default:
    break;
  }
  switch (expr.type) {
  case ExprType::Bool:
    return boolean(expr.number != 0);
  case ExprType::Int:
    return i32(int64_t(expr.number));
  case ExprType::Float:
    return f32(expr.number);
  }
  llvm_unreachable("no such type");
}

/// values[index - first] by halving: a few selects, which leave every loop over
/// tokens where the index is a head.
Value RegionBuilder::pick(ArrayRef<Value> values, Value index, int64_t first) {
  if (values.size() == 1)
    return values.front();
  size_t half = values.size() / 2;
  Value below = make<arith::CmpIOp>(arith::CmpIPredicate::slt, index,
                                    i32(first + int64_t(half)));
  Value low = pick(values.take_front(half), index, first);
  Value high = pick(values.drop_front(half), index, first + int64_t(half));
  return make<arith::SelectOp>(below, low, high);
}

Value RegionBuilder::element(const Expr &expr) {
  bool isInt = expr.type == ExprType::Int;
  auto literal = [&](double value) {
    return isInt ? i32(int64_t(value)) : f32(value);
  };
  if (expr.operands.empty())
    return literal(expr.values.front());
  const Expr &index = expr.operands.front();
  if (expr.given)
    return kvc::ConstantOp::create(
        b, loc, isInt ? Type(b.getI32Type()) : Type(b.getF32Type()),
        expr.constant, build(index), int64_t(expr.given), expr.perSequence);
  SmallVector<Value> values;
  for (int64_t i = index.low; i <= index.high; ++i)
    values.push_back(literal(expr.values[size_t(i)]));
  return pick(values, build(index), index.low);
}

Value RegionBuilder::compare(ExprOp op, ExprType type, Value x, Value y) {
  using F = arith::CmpFPredicate;
  using I = arith::CmpIPredicate;
  struct Row {
    ExprOp op;
    F f;
    I i;
  };
  static constexpr Row kRows[] = {
      {ExprOp::Lt, F::OLT, I::slt}, {ExprOp::Le, F::OLE, I::sle},
      {ExprOp::Gt, F::OGT, I::sgt}, {ExprOp::Ge, F::OGE, I::sge},
      {ExprOp::Eq, F::OEQ, I::eq},  {ExprOp::Ne, F::UNE, I::ne}};
  for (const Row &row : kRows)
    if (row.op == op)
      return type == ExprType::Float ? make<arith::CmpFOp>(row.f, x, y)
                                     : make<arith::CmpIOp>(row.i, x, y);
  llvm_unreachable("no comparison");
}

Value RegionBuilder::ofInts(ExprOp op, ArrayRef<Value> x) {
  switch (op) {
  case ExprOp::Neg:
    return make<arith::SubIOp>(i32(0), x[0]);
  case ExprOp::Abs:
    return make<arith::MaxSIOp>(x[0], make<arith::SubIOp>(i32(0), x[0]));
  case ExprOp::Add:
    return make<arith::AddIOp>(x[0], x[1]);
  case ExprOp::Sub:
    return make<arith::SubIOp>(x[0], x[1]);
  case ExprOp::Mul:
    return make<arith::MulIOp>(x[0], x[1]);
  case ExprOp::FloorDiv:
    return make<arith::FloorDivSIOp>(x[0], x[1]);
  case ExprOp::Mod:
    return make<arith::SubIOp>(
        x[0], make<arith::MulIOp>(make<arith::FloorDivSIOp>(x[0], x[1]), x[1]));
  case ExprOp::Min:
    return make<arith::MinSIOp>(x[0], x[1]);
  case ExprOp::Max:
    return make<arith::MaxSIOp>(x[0], x[1]);
  default:
    llvm_unreachable("no op on integers");
  }
}

Value RegionBuilder::ofFloats(ExprOp op, ArrayRef<Value> x) {
  switch (op) {
  case ExprOp::Neg:
    return make<arith::NegFOp>(x[0]);
  case ExprOp::ToFloat:
    return make<arith::SIToFPOp>(b.getF32Type(), x[0]);
  case ExprOp::Abs:
    return make<math::AbsFOp>(x[0]);
  case ExprOp::Exp:
    return make<math::ExpOp>(x[0]);
  case ExprOp::Exp2:
    return make<math::Exp2Op>(x[0]);
  case ExprOp::Log:
    return make<math::LogOp>(x[0]);
  case ExprOp::Log2:
    return make<math::Log2Op>(x[0]);
  case ExprOp::Tanh:
    return make<math::TanhOp>(x[0]);
  case ExprOp::Sqrt:
    return make<math::SqrtOp>(x[0]);
  case ExprOp::Sigmoid: {
    // 1 / (1 + exp(-x)) = (1 + tanh(x / 2)) / 2, which is finite throughout.
    Value half = f32(0.5);
    Value tanh = make<math::TanhOp>(make<arith::MulFOp>(half, x[0]));
    return make<arith::AddFOp>(make<arith::MulFOp>(half, tanh), half);
  }
  case ExprOp::Add:
    return make<arith::AddFOp>(x[0], x[1]);
  case ExprOp::Sub:
    return make<arith::SubFOp>(x[0], x[1]);
  case ExprOp::Mul:
    return make<arith::MulFOp>(x[0], x[1]);
  case ExprOp::Div:
    return make<arith::DivFOp>(x[0], x[1]);
  case ExprOp::Min:
    return make<arith::MinimumFOp>(x[0], x[1]);
  case ExprOp::Max:
    return make<arith::MaximumFOp>(x[0], x[1]);
  default:
    llvm_unreachable("no op on floats");
  }
}

Value RegionBuilder::build(const Expr &expr) {
  if (expr.op == ExprOp::Element)
    return element(expr);
  if (expr.operands.empty())
    return leaf(expr);
  SmallVector<Value> x;
  for (const Expr &operand : expr.operands)
    x.push_back(build(operand));
  ExprType type = expr.operands.back().type;
  switch (expr.op) {
  case ExprOp::Select:
    return make<arith::SelectOp>(x[0], x[1], x[2]);
  case ExprOp::Not:
    return negated(x[0]);
  case ExprOp::And:
    return make<arith::AndIOp>(x[0], x[1]);
  case ExprOp::Or:
    return make<arith::OrIOp>(x[0], x[1]);
  default:
    break;
  }
  if (expr.type != ExprType::Bool)
    return expr.type == ExprType::Int ? ofInts(expr.op, x)
                                      : ofFloats(expr.op, x);
  if (type != ExprType::Bool)
    return compare(expr.op, type, x[0], x[1]);
  // Booleans are equal, or they are not.
  Value differ = make<arith::XOrIOp>(x[0], x[1]);
  return expr.op == ExprOp::Ne ? differ : negated(differ);
}

void kvc::importExpr(Region &region, ScoreRegionKind kind, const Expr &expr,
                     Location loc) {
  RegionBuilder builder(region, kind, loc);
  builder.yield(builder.build(expr));
}
