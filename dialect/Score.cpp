//===- Score.cpp - regions that say what becomes of a score ---------------===//
#include "dialect/Score.h"
#include "dialect/KvcDialect.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"

using namespace mlir;
using namespace kvc;

/// What a region is told, of all inputs: the last few.
static unsigned firstInput(ScoreRegionKind kind) {
  switch (kind) {
  case ScoreRegionKind::Logits:
    return unsigned(ScoreInput::Score);
  case ScoreRegionKind::Visible:
    return unsigned(ScoreInput::QueryPosition);
  case ScoreRegionKind::Sink:
    return unsigned(ScoreInput::QueryHead);
  }
  llvm_unreachable("no such kind");
}

ScoreInput kvc::inputOf(Region &region, unsigned index) {
  return ScoreInput(index + kScoreInputs - region.getNumArguments());
}

BlockArgument kvc::argumentOf(Region &region, ScoreInput input) {
  unsigned first = kScoreInputs - region.getNumArguments();
  return unsigned(input) < first ? BlockArgument()
                                 : region.getArgument(unsigned(input) - first);
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

static SmallVector<Type> argumentTypes(MLIRContext *context,
                                       ScoreRegionKind kind) {
  SmallVector<Type> types(kScoreInputs, IntegerType::get(context, 32));
  types.front() = Float32Type::get(context);
  types.erase(types.begin(), types.begin() + firstInput(kind));
  return types;
}

Block &kvc::addScoreBlock(Region &region, ScoreRegionKind kind, Location loc) {
  Block &block = region.emplaceBlock();
  for (Type type : argumentTypes(loc.getContext(), kind))
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
             math::LogOp, math::Log2Op, math::TanhOp, math::SqrtOp, ConstantOp>(
      op);
}

static bool isScoreType(Type type) {
  return type.isF32() || type.isInteger(32) || type.isInteger(1);
}

static StringRef nameOf(ScoreRegionKind kind) {
  static constexpr StringLiteral kNames[] = {"logits", "visible", "sink"};
  return kNames[unsigned(kind)];
}

static LogicalResult verifyOp(Operation *owner, Operation &op, StringRef name,
                              bool floats) {
  if (!isScoreOp(op))
    return owner->emitOpError("regions are element-wise and have no `")
           << op.getName() << "`";
  if (op.use_empty())
    return op.emitOpError("has no part in what its region yields");
  for (Value value : llvm::concat<Value>(op.getOperands(), op.getResults()))
    if (!isScoreType(value.getType()) || (!floats && value.getType().isF32()))
      return op.emitOpError("expected ")
             << (floats ? "f32, i32 and i1" : "i32 and i1") << " in a " << name
             << " region, found " << value.getType();
  bool bits = isa<arith::AndIOp, arith::OrIOp, arith::XOrIOp>(op);
  if (bits && !op.getResult(0).getType().isInteger(1))
    return op.emitOpError("combines booleans in a score's region");
  // True is 1 or -1, as one looks at it.
  bool numbers =
      isa<arith::AddIOp, arith::SubIOp, arith::MulIOp, arith::FloorDivSIOp,
          arith::MaxSIOp, arith::MinSIOp, arith::CmpIOp, arith::SIToFPOp>(op);
  if (numbers && op.getOperand(0).getType().isInteger(1))
    return op.emitOpError(
        "is of integers of 32 bits in a score's region, found "
        "booleans, which andi, ori, xori and select combine");
  if (isa<arith::FloorDivSIOp>(op)) {
    auto divisor = op.getOperand(1).getDefiningOp<arith::ConstantOp>();
    if (!divisor || cast<IntegerAttr>(divisor.getValue()).getInt() < 1)
      return op.emitOpError("expected a positive constant divisor");
  }
  if (auto compare = dyn_cast<arith::CmpFOp>(op)) {
    using P = arith::CmpFPredicate;
    if (!llvm::is_contained({P::OEQ, P::OLT, P::OLE, P::OGT, P::OGE, P::UNE},
                            compare.getPredicate()))
      return op.emitOpError("expected one of oeq, olt, ole, ogt, oge and une, "
                            "as the operators of "
                            "a spec's expressions");
  }
  if (auto compare = dyn_cast<arith::CmpIOp>(op))
    if (compare.getPredicate() > arith::CmpIPredicate::sge)
      return op.emitOpError("expected a signed comparison");
  return success();
}

/// Checks a region, called `name`, that takes `arguments` and yields `result`.
static LogicalResult verifyRegion(Operation *op, Region &region, StringRef name,
                                  TypeRange arguments, Type result) {
  if (region.getArgumentTypes() != arguments)
    return op->emitOpError(name) << " region must take " << arguments
                                 << ", takes " << region.getArgumentTypes();
  Block &block = region.front();
  auto yield =
      block.empty() ? ScoreYieldOp() : dyn_cast<ScoreYieldOp>(block.back());
  if (!yield || yield.getResult().getType() != result)
    return op->emitOpError(name)
           << " region must end in a `kvc.yield` of " << result;
  for (Operation &inside : block.without_terminator())
    if (failed(verifyOp(op, inside, name, result.isF32())))
      return failure();
  return success();
}

LogicalResult kvc::verifyScoreRegion(Operation *op, Region &region,
                                     ScoreRegionKind kind) {
  if (region.empty())
    return success();
  Type result = Float32Type::get(op->getContext());
  if (kind == ScoreRegionKind::Visible)
    result = IntegerType::get(op->getContext(), 1);
  return verifyRegion(op, region, nameOf(kind),
                      argumentTypes(op->getContext(), kind), result);
}

LogicalResult kvc::verifyElementRegion(Operation *op, Region &region,
                                       unsigned arguments) {
  if (arguments < 1 || arguments > kScoreInputs)
    return op->emitOpError("expected 1 to ")
           << kScoreInputs << " operands, found " << arguments;
  Type f32 = Float32Type::get(op->getContext());
  return verifyRegion(op, region, "element", SmallVector<Type>(arguments, f32),
                      f32);
}
