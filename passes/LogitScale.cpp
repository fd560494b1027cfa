//===- LogitScale.cpp - logits in powers of two ---------------------------===//
#include "passes/LogitScale.h"
#include "dialect/KvcDialect.h"
#include "dialect/Score.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "llvm/ADT/TypeSwitch.h"

#include <cmath>

using namespace mlir;
using namespace kvc;

namespace {

class LogitScale {
public:
  explicit LogitScale(Region &region)
      : region(region), yield(cast<ScoreYieldOp>(region.front().back())),
        b(yield) {}

  double run();

private:
  bool readsScore(Value value) { return dependsOn(value, ScoreInput::Score); }
  /// The same for all tokens: what is done to it leaves the loop.
  bool isOfRow(Value value) {
    return !readsScore(value) && !dependsOn(value, ScoreInput::TokenPosition);
  }
  /// Whether `value` is the score and something more.
  bool addsToScore(Value value);
  /// Whether the factor costs nothing per token.
  bool isCheap(Value value);
  /// The operand of a product that takes the factor; null if none should.
  Value factorOf(arith::MulFOp op);
  /// `value` times log2(e), where the score is so already if `scoreIsScaled`.
  Value scaled(Value value);
  Value times(Value value) {
    Value factor = constant(M_LOG2E, value.getLoc());
    return arith::MulFOp::create(b, value.getLoc(), value, factor);
  }
  Value constant(double value, Location loc) {
    return arith::ConstantOp::create(b, loc, b.getF32FloatAttr(value));
  }

  Region &region;
  ScoreYieldOp yield;
  OpBuilder b;
  bool scoreIsScaled = false;
};

} // namespace

bool LogitScale::addsToScore(Value value) {
  if (value == argumentOf(region, ScoreInput::Score))
    return true;
  if (auto add = value.getDefiningOp<arith::AddFOp>())
    return readsScore(add.getLhs())
               ? addsToScore(add.getLhs()) && !readsScore(add.getRhs())
               : addsToScore(add.getRhs());
  if (auto sub = value.getDefiningOp<arith::SubFOp>())
    return addsToScore(sub.getLhs()) && !readsScore(sub.getRhs());
  if (auto select = value.getDefiningOp<arith::SelectOp>())
    return !readsScore(select.getCondition()) &&
           addsToScore(select.getTrueValue()) &&
           addsToScore(select.getFalseValue());
  return false;
}

Value LogitScale::factorOf(arith::MulFOp op) {
  for (Value operand : op.getOperands())
    if (operand.getDefiningOp<arith::ConstantOp>())
      return operand;
  for (Value operand : op.getOperands())
    if (isOfRow(operand) || isCheap(operand))
      return operand;
  return {};
}

bool LogitScale::isCheap(Value value) {
  if (scoreIsScaled && value == argumentOf(region, ScoreInput::Score))
    return true;
  Operation *op = value.getDefiningOp();
  if (!op)
    return false;
  return llvm::TypeSwitch<Operation *, bool>(op)
      .Case([](arith::ConstantOp) { return true; })
      .Case([&](arith::MulFOp op) { return bool(factorOf(op)); })
      .Case([&](arith::NegFOp op) { return isCheap(op.getOperand()); })
      .Case<arith::AddFOp, arith::SubFOp>([&](Operation *op) {
        return isCheap(op->getOperand(0)) && isCheap(op->getOperand(1));
      })
      .Case([&](arith::SelectOp op) {
        return isCheap(op.getTrueValue()) && isCheap(op.getFalseValue());
      })
      .Default([](Operation *) { return false; });
}

Value LogitScale::scaled(Value value) {
  bool isScore = value == argumentOf(region, ScoreInput::Score);
  if (scoreIsScaled && isScore)
    return value;
  Operation *op = value.getDefiningOp();
  bool distributes = op && isCheap(value);
  // The score has its factor: what stands beside it must get one of its own.
  distributes |= scoreIsScaled && op && readsScore(value);
  if (!distributes)
    return times(value);
  Location loc = op->getLoc();
  return llvm::TypeSwitch<Operation *, Value>(op)
      .Case([&](arith::ConstantOp op) {
        double x = cast<FloatAttr>(op.getValue()).getValueAsDouble();
        return constant(x * M_LOG2E, loc);
      })
      .Case([&](arith::MulFOp op) {
        Value factor = factorOf(op);
        Value other = op.getLhs() == factor ? op.getRhs() : op.getLhs();
        Value left = isCheap(factor) ? scaled(factor) : times(factor);
        return arith::MulFOp::create(b, loc, left, other).getResult();
      })
      .Case([&](arith::NegFOp op) {
        return arith::NegFOp::create(b, loc, scaled(op.getOperand()))
            .getResult();
      })
      .Case([&](arith::AddFOp op) {
        Value left = scaled(op.getLhs()), right = scaled(op.getRhs());
        return arith::AddFOp::create(b, loc, left, right).getResult();
      })
      .Case([&](arith::SubFOp op) {
        Value left = scaled(op.getLhs()), right = scaled(op.getRhs());
        return arith::SubFOp::create(b, loc, left, right).getResult();
      })
      .Case([&](arith::SelectOp op) {
        Value yes = scaled(op.getTrueValue()), no = scaled(op.getFalseValue());
        return arith::SelectOp::create(b, loc, op.getCondition(), yes, no)
            .getResult();
      });
}

double LogitScale::run() {
  Value logit = yieldedBy(region);
  scoreIsScaled = addsToScore(logit);
  yield.getResultMutable().assign(scaled(logit));
  for (Operation &op :
       llvm::make_early_inc_range(llvm::reverse(region.front())))
    if (!isa<ScoreYieldOp>(op) && op.use_empty())
      op.erase();
  return scoreIsScaled ? M_LOG2E : 1;
}

double kvc::scaleLogits(Region &region) { return LogitScale(region).run(); }
