//===- Score.cpp - regions that say what becomes of a score ---------------===//
#include "dialect/Score.h"
#include "dialect/KvcDialect.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"

using namespace mlir;
using namespace kvc;

bool kvc::isLogits(Region &region) {
  return region.getNumArguments() == kScoreInputs;
}

ScoreInput kvc::inputOf(Region &region, unsigned index) {
  return ScoreInput(index + (isLogits(region) ? 0 : 1));
}

BlockArgument kvc::argumentOf(Region &region, ScoreInput input) {
  unsigned index = unsigned(input);
  if (isLogits(region))
    return region.getArgument(index);
  return input == ScoreInput::Score ? BlockArgument()
                                    : region.getArgument(index - 1);
}

Value kvc::yieldedBy(Region &region) {
  return cast<ScoreYieldOp>(region.front().back()).getResult();
}

bool kvc::dependsOn(Value value, ScoreInput input) {
  if (auto argument = dyn_cast<BlockArgument>(value))
    return inputOf(*argument.getOwner()->getParent(),
                   argument.getArgNumber()) == input;
  return llvm::any_of(value.getDefiningOp()->getOperands(),
                      [&](Value operand) { return dependsOn(operand, input); });
}

static SmallVector<Type> argumentTypes(MLIRContext *context, bool logits) {
  SmallVector<Type> types;
  if (logits)
    types.push_back(Float32Type::get(context));
  types.append(kScoreInputs - 1, IntegerType::get(context, 32));
  return types;
}

Block &kvc::addScoreBlock(Region &region, bool logits, Location loc) {
  Block &block = region.emplaceBlock();
  for (Type type : argumentTypes(loc.getContext(), logits))
    block.addArgument(type, loc);
  return block;
}

/// Ops that every executor has, on scalars here and on vectors in a kernel.
static bool isScoreOp(Operation &op) {
  return isa<arith::ConstantOp, arith::AddFOp, arith::SubFOp, arith::MulFOp,
             arith::DivFOp, arith::NegFOp, arith::MaximumFOp, arith::MinimumFOp,
             arith::CmpFOp, arith::AddIOp, arith::SubIOp, arith::MulIOp,
             arith::FloorDivSIOp, arith::MaxSIOp, arith::MinSIOp, arith::CmpIOp,
             arith::AndIOp, arith::OrIOp, arith::XOrIOp, arith::SelectOp,
             arith::SIToFPOp, math::AbsFOp, math::ExpOp, math::Exp2Op,
             math::LogOp, math::Log2Op, math::TanhOp, math::SqrtOp>(op);
}

static bool isScoreType(Type type) {
  return type.isF32() || type.isInteger(32) || type.isInteger(1);
}

static LogicalResult verifyOp(Operation *owner, Operation &op, bool logits) {
  if (!isScoreOp(op))
    return owner->emitOpError("regions are element-wise and have no `")
           << op.getName() << "`";
  if (op.use_empty())
    return op.emitOpError("has no part in what its region yields");
  for (Value value : llvm::concat<Value>(op.getOperands(), op.getResults()))
    if (!isScoreType(value.getType()) || (!logits && value.getType().isF32()))
      return op.emitOpError("expected ")
             << (logits ? "f32, i32 and i1 in a logits"
                        : "i32 and i1 in a visible")
             << " region, found " << value.getType();
  bool bits = isa<arith::AndIOp, arith::OrIOp, arith::XOrIOp>(op);
  if (bits && !op.getResult(0).getType().isInteger(1))
    return op.emitOpError("combines booleans in a score's region");
  if (isa<arith::FloorDivSIOp>(op)) {
    auto divisor = op.getOperand(1).getDefiningOp<arith::ConstantOp>();
    if (!divisor || cast<IntegerAttr>(divisor.getValue()).getInt() < 1)
      return op.emitOpError("expected a positive constant divisor");
  }
  if (auto compare = dyn_cast<arith::CmpIOp>(op))
    if (compare.getPredicate() > arith::CmpIPredicate::sge)
      return op.emitOpError("expected a signed comparison");
  return success();
}

LogicalResult kvc::verifyScoreRegion(Operation *op, Region &region,
                                     bool logits) {
  if (region.empty())
    return success();
  StringRef what = logits ? "logits" : "visible";
  SmallVector<Type> types = argumentTypes(op->getContext(), logits);
  if (region.getArgumentTypes() != TypeRange(types))
    return op->emitOpError(what) << " region must take " << TypeRange(types)
                                 << ", takes " << region.getArgumentTypes();
  Block &block = region.front();
  auto yield =
      block.empty() ? ScoreYieldOp() : dyn_cast<ScoreYieldOp>(block.back());
  Type result = types.back();
  result = logits ? types.front() : IntegerType::get(op->getContext(), 1);
  if (!yield || yield.getResult().getType() != result)
    return op->emitOpError(what)
           << " region must end in a `kvc.yield` of " << result;
  for (Operation &inside : block.without_terminator())
    if (failed(verifyOp(op, inside, logits)))
      return failure();
  return success();
}
