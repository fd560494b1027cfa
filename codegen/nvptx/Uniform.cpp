//===- Uniform.cpp - that no lane misses what a warp does together --------===//
//
// A forward dataflow of where a value may differ: between the lanes of a warp,
// between the warps of a CTA, or nowhere. Control flow is structured, so it is
// one walk, repeated while loops carry more than was known.
//
// Not MLIR's sparse dataflow: what an scf op gives is, for that, a join of what
// its regions yield, and it does not count who chose between them.
//
//===----------------------------------------------------------------------===//
#include "codegen/nvptx/Backend.h"
#include "codegen/nvptx/Kit.h"

#include "mlir/IR/Matchers.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

using namespace mlir;
using namespace kvc;
using namespace kvc::nvptx;

namespace {

/// Where a value may differ, from best to worst.
enum class Divergence : uint8_t {
  Uniform,     ///< one value for the CTA
  WarpUniform, ///< one value for each warp
  Divergent,
};

class Uniformity {
public:
  explicit Uniformity(LLVM::LLVMFuncOp function) : function(function) {}
  LogicalResult verify();

private:
  void visit(Operation *op);
  void visitIf(scf::IfOp op);
  void visitFor(scf::ForOp op);
  void visitWhile(scf::WhileOp op);
  Divergence instruction(LLVM::InlineAsmOp op);
  Divergence result(Operation *op);
  LogicalResult check(LLVM::InlineAsmOp op);

  Divergence of(Value value) { return divergences.lookup(value); }
  Divergence ofAll(ValueRange values) {
    Divergence most = Divergence::Uniform;
    for (Value value : values)
      most = std::max(most, of(value));
    return most;
  }
  /// Of what decides whether the regions of `op` are executed.
  Divergence control(Operation *op);
  void raise(Value value, Divergence divergence) {
    Divergence &known = divergences[value];
    changed |= known < divergence;
    known = std::max(known, divergence);
  }
  void raise(ValueRange values, ValueRange from, Divergence atLeast) {
    for (auto [value, source] : llvm::zip_equal(values, from))
      raise(value, std::max(of(source), atLeast));
  }
  /// What the value differs by, as far as that is an instruction or a load.
  Operation *sourceOf(ValueRange values);

  LLVM::LLVMFuncOp function;
  DenseMap<Value, Divergence> divergences; ///< what is not in it: Uniform
  bool changed = false;
};

//===----------------------------------------------------------------------===//
// Values
//===----------------------------------------------------------------------===//

std::optional<uint64_t> constantOf(Value value) {
  APInt constant;
  if (matchPattern(value, m_ConstantInt(&constant)))
    return constant.getZExtValue();
  return std::nullopt;
}

/// Whether it is what the threads of a warp share of the thread's index: CTAs
/// are whole warps, in a row.
bool isWarpOfThread(Operation *op) {
  if (op->getNumOperands() != 2)
    return false;
  auto thread = op->getOperand(0).getDefiningOp<LLVM::InlineAsmOp>();
  std::optional<uint64_t> by = constantOf(op->getOperand(1));
  if (!thread || ptxOf(thread) != Ptx::TidX || !by)
    return false;
  return (isa<arith::ShRUIOp>(op) && *by >= 5) ||
         (isa<arith::DivUIOp>(op) && *by && *by % 32 == 0) ||
         (isa<arith::AndIOp>(op) && *by % 32 == 0);
}

Divergence Uniformity::instruction(LLVM::InlineAsmOp op) {
  std::optional<Ptx> ptx = ptxOf(op);
  if (!ptx)
    return Divergence::Divergent;
  Divergence operands = ofAll(op.getOperands());
  switch (*ptx) {
  case Ptx::TidX:
    return Divergence::Divergent;
  case Ptx::VoteAny:
  case Ptx::Ballot:
  case Ptx::ReduxMaxU32:
    return std::min(operands, Divergence::WarpUniform);
  case Ptx::ShflIdx: {
    // Whichever lane it is, or whatever that lane has.
    Divergence value = of(op.getOperand(0)), lane = of(op.getOperand(1));
    return std::min(value, std::max(lane, Divergence::WarpUniform));
  }
  case Ptx::ShflBfly:
  case Ptx::ShflUp:
    return of(op.getOperand(0));
  default:
    return infoOf(*ptx).kind == OpKind::Pure ? operands : Divergence::Divergent;
  }
}

/// Of the results of an op without regions.
Divergence Uniformity::result(Operation *op) {
  if (auto assembly = dyn_cast<LLVM::InlineAsmOp>(op))
    return instruction(assembly);
  if (auto load = dyn_cast<LLVM::LoadOp>(op)) {
    // Between two warps' loads someone may write.
    Divergence least =
        load.getInvariant() ? Divergence::Uniform : Divergence::WarpUniform;
    return std::max(of(load.getAddr()), least);
  }
  if (isWarpOfThread(op))
    return Divergence::WarpUniform;
  // Other dialects may read what differs by thread.
  bool plain =
      isa<arith::ArithDialect, vector::VectorDialect, LLVM::LLVMDialect>(
          op->getDialect()) &&
      isMemoryEffectFree(op);
  return plain ? ofAll(op->getOperands()) : Divergence::Divergent;
}

//===----------------------------------------------------------------------===//
// Control flow
//===----------------------------------------------------------------------===//

Divergence Uniformity::control(Operation *op) {
  if (auto branch = dyn_cast<scf::IfOp>(op))
    return of(branch.getCondition());
  if (auto loop = dyn_cast<scf::ForOp>(op))
    return ofAll({loop.getLowerBound(), loop.getUpperBound(), loop.getStep()});
  if (auto loop = dyn_cast<scf::WhileOp>(op))
    return of(loop.getConditionOp().getCondition());
  return Divergence::Divergent;
}

void Uniformity::visitIf(scf::IfOp op) {
  for (Region *region : op.getRegions())
    if (!region->empty())
      raise(op.getResults(), region->front().getTerminator()->getOperands(),
            control(op));
}

void Uniformity::visitFor(scf::ForOp op) {
  raise(op.getInductionVar(), ofAll({op.getLowerBound(), op.getStep()}));
  // Lanes in one iteration have done as many before it. Those that are through
  // have not.
  for (ValueRange from :
       {ValueRange(op.getInitArgs()), ValueRange(op.getYieldedValues())}) {
    raise(op.getRegionIterArgs(), from, Divergence::Uniform);
    raise(op.getResults(), from, control(op));
  }
}

void Uniformity::visitWhile(scf::WhileOp op) {
  ValueRange again = op.getYieldOp().getOperands(),
             on = op.getConditionOp().getArgs();
  raise(op.getBeforeArguments(), op.getInits(), Divergence::Uniform);
  raise(op.getBeforeArguments(), again, Divergence::Uniform);
  raise(op.getAfterArguments(), on, Divergence::Uniform);
  raise(op.getResults(), on, control(op));
}

void Uniformity::visit(Operation *op) {
  if (auto branch = dyn_cast<scf::IfOp>(op))
    return visitIf(branch);
  if (auto loop = dyn_cast<scf::ForOp>(op))
    return visitFor(loop);
  if (auto loop = dyn_cast<scf::WhileOp>(op))
    return visitWhile(loop);
  Divergence divergence =
      op->getNumRegions() ? Divergence::Divergent : result(op);
  for (Value value : op->getResults())
    raise(value, divergence);
}

//===----------------------------------------------------------------------===//
// What is refused
//===----------------------------------------------------------------------===//

Operation *Uniformity::sourceOf(ValueRange values) {
  SmallVector<Value> next(values);
  DenseSet<Operation *> seen;
  while (!next.empty()) {
    Value value = next.pop_back_val();
    if (of(value) == Divergence::Uniform)
      continue;
    Operation *op = value.getDefiningOp();
    if (!op)
      op = value.getParentBlock()->getParentOp();
    if (!seen.insert(op).second || op == function)
      continue;
    if (isa<LLVM::InlineAsmOp, LLVM::LoadOp>(op) &&
        ofAll(op->getOperands()) < of(value))
      return op;
    llvm::append_range(next, op->getOperands());
    for (Region &region : op->getRegions())
      for (Block &block : region)
        llvm::append_range(next, block.getTerminator()->getOperands());
  }
  return nullptr;
}

LogicalResult Uniformity::check(LLVM::InlineAsmOp op) {
  std::optional<Ptx> ptx = ptxOf(op);
  if (!ptx || infoOf(*ptx).kind != OpKind::Collective)
    return success();
  // Barriers other than 0 are for some of the warps.
  bool allWarps = (*ptx == Ptx::BarSync || *ptx == Ptx::BarArrive) &&
                  constantOf(op.getOperand(0)).value_or(0) == 0;
  Divergence allowed = allWarps ? Divergence::Uniform : Divergence::WarpUniform;
  for (Operation *at = op->getParentOp(); at != function;
       at = at->getParentOp()) {
    Divergence divergence = control(at);
    if (divergence <= allowed)
      continue;
    bool lanes = divergence == Divergence::Divergent;
    InFlightDiagnostic error = op.emitError()
                               << (lanes ? "warp" : "CTA") << "-collective `"
                               << infoOf(*ptx).name
                               << "` under a condition that may differ between "
                               << (lanes ? "lanes" : "warps");
    SmallVector<Value> by(at->getOperands());
    if (auto loop = dyn_cast<scf::WhileOp>(at))
      by.assign(1, loop.getConditionOp().getCondition());
    if (Operation *source = sourceOf(by)) {
      auto assembly = dyn_cast<LLVM::InlineAsmOp>(source);
      std::optional<Ptx> row;
      if (assembly)
        row = ptxOf(assembly);
      error.attachNote(source->getLoc())
          << "it depends on this "
          << (row ? ("`" + infoOf(*row).name + "`").str() : "load");
    }
    return error;
  }
  return success();
}

LogicalResult Uniformity::verify() {
  if (!function.getBody().hasOneBlock())
    return function.emitError("uniformity is checked on structured control "
                              "flow, found branches");
  if (!function->hasAttr("kvc.kernel"))
    for (Value argument : function.getArguments())
      raise(argument, Divergence::Divergent);
  do {
    changed = false;
    function.getBody().walk([&](Operation *op) { visit(op); });
  } while (changed);
  WalkResult result = function.getBody().walk([&](LLVM::InlineAsmOp op) {
    return failed(check(op)) ? WalkResult::interrupt() : WalkResult::advance();
  });
  return failure(result.wasInterrupted());
}

} // namespace

LogicalResult kvc::nvptx::verifyUniform(ModuleOp module) {
  for (auto function : module.getOps<LLVM::LLVMFuncOp>())
    if (!function.isExternal() && failed(Uniformity(function).verify()))
      return failure();
  return success();
}
