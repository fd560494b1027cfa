//===- OpMutations.cpp - the changes that an op can undergo ---------------===//
#include "test/unit/Tile/OpMutations.h"
#include "dialect/tile/TileDialect.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/IR/Dominance.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;
using namespace kvc;
using namespace kvc::test;

bool test::mayBeHarmless(Operation *op, const Mutation &mutation) {
  // A loop's read says which tiles are skipped; the mask hides the rest.
  if (isa<tile::ForTokensOp>(op) &&
      StringRef(mutation.name).starts_with("read"))
    return true;
  // What is hidden weighs next to nothing under a cap as well.
  if (isa<tile::LogitsOp>(op) && mutation.name == "behind its user")
    return true;
  return mutation.name == "twice"; // and nobody uses the other
}

bool test::isOfScore(Operation *op) {
  return isa<tile::LogitsOp, tile::MaskOp>(op->getParentOp());
}

static bool isSameConstant(Value x, Value y) {
  auto a = x.getDefiningOp<arith::ConstantOp>();
  auto b = y.getDefiningOp<arith::ConstantOp>();
  return a && b && a.getValue() == b.getValue();
}

/// The same inside of a score's region: some of those that there are.
static std::vector<Value> othersInRegion(OpOperand &operand) {
  constexpr size_t kMost = 2;
  Operation *user = operand.getOwner();
  std::vector<Value> others;
  auto note = [&](Value value) {
    if (value != operand.get() && value.getType() == operand.get().getType() &&
        !isSameConstant(value, operand.get()))
      others.push_back(value);
  };
  llvm::for_each(user->getBlock()->getArguments(), note);
  for (Operation &op : *user->getBlock()) {
    if (&op == user)
      break;
    note(op.getResult(0));
  }
  if (others.size() > kMost) // the last ones are the likeliest to be confused
    others.erase(others.begin() + 1, others.end() - (kMost - 1));
  return others;
}

/// Another value that may stand for `operand`: of its type, and there before.
static std::vector<Value> othersFor(OpOperand &operand) {
  Operation *user = operand.getOwner();
  if (isOfScore(user))
    return othersInRegion(operand);
  auto kernel = user->getParentOfType<tile::KernelOp>();
  DominanceInfo dominance(kernel);
  std::vector<Value> others;
  auto note = [&](Value value) {
    if (value != operand.get() && value.getType() == operand.get().getType() &&
        dominance.properlyDominates(value, user))
      others.push_back(value);
  };
  kernel.getBody().walk([&](Operation *op) {
    llvm::for_each(op->getResults(), note);
    for (Region &region : op->getRegions())
      for (Block &block : region)
        llvm::for_each(block.getArguments(), note);
  });
  return others;
}

static void noteAttributes(Operation *op, std::vector<Mutation> &mutations) {
  MLIRContext *context = op->getContext();
  Builder b(context);
  auto set = [&](StringAttr name, Attribute to) {
    mutations.push_back({llvm::formatv("{0} = {1}", name.getValue(), to),
                         [=](Operation *op) { op->setAttr(name, to); }});
  };
  for (NamedAttribute attribute : op->getAttrs()) {
    StringAttr name = attribute.getName();
    Attribute value = attribute.getValue();
    if (auto number = dyn_cast<FloatAttr>(value)) {
      double x = number.getValueAsDouble();
      set(name, FloatAttr::get(number.getType(), x != 0 ? x * 1.25 : 1));
    } else if (name == "stream" ||
               (name == "name" &&
                isa<tile::LoadRowOp, tile::StoreDecodedOp>(op))) {
      bool isK = cast<StringAttr>(value).getValue() == kStreamK;
      set(name, StringAttr::get(context, isK ? kStreamV : kStreamK));
    } else if (auto read = dyn_cast<ReadAttrInterface>(value)) {
      set(name, SlidingWindowAttr::get(context, 5, 77, read.isCausal()));
      set(name, ReadAllAttr::get(context, !read.isCausal()));
      if (!read.isAll())
        set(name, ReadAllAttr::get(context, read.isCausal()));
    } else if (isa<CodecAttrInterface>(value)) {
      for (Type type : {Type(b.getF16Type()), Type(b.getBF16Type())})
        if (Attribute other = FloatCodecAttr::get(context, type);
            other != value)
          set(name, other);
      for (Type scale : {Type(b.getF16Type()), Type(b.getF32Type())})
        if (Attribute other = IntCodecAttr::get(context, 8, scale);
            other != value)
          set(name, other);
    }
  }
}

/// Other integers of constants, and other predicates.
static void notePredicate(Operation *op, std::vector<Mutation> &mutations) {
  auto compares = [&](arith::CmpIPredicate to) {
    mutations.push_back(
        {llvm::formatv("{0}", arith::stringifyCmpIPredicate(to)),
         [=](Operation *op) { cast<arith::CmpIOp>(op).setPredicate(to); }});
  };
  if (auto compare = dyn_cast<arith::CmpIOp>(op)) {
    using P = arith::CmpIPredicate;
    for (P to : {P::eq, P::ne, P::slt, P::sle, P::sgt, P::sge, P::ult})
      if (to != compare.getPredicate())
        compares(to);
  }
  // That two reals are equal happens too seldom to tell < from <=.
  if (auto compare = dyn_cast<arith::CmpFOp>(op)) {
    using P = arith::CmpFPredicate;
    bool less = compare.getPredicate() == P::OLT;
    mutations.push_back({"opposite", [=](Operation *op) {
                           cast<arith::CmpFOp>(op).setPredicate(less ? P::OGT
                                                                     : P::OLT);
                         }});
  }
  auto constant = dyn_cast<arith::ConstantOp>(op);
  auto integer =
      constant ? dyn_cast<IntegerAttr>(constant.getValue()) : IntegerAttr();
  if (!integer)
    return;
  bool isBoolean = integer.getType().isInteger(1);
  for (int step : {1, -1}) {
    APInt to = integer.getValue() + step;
    mutations.push_back(
        {step > 0 ? "one more" : "one less", [=](Operation *op) {
           cast<arith::ConstantOp>(op).setValueAttr(
               IntegerAttr::get(integer.getType(), to));
         }});
    if (isBoolean)
      break;
  }
}

/// What only ops of scores' regions undergo. That they are there twice, or in
/// another order, may mean the same.
static void noteOfScore(Operation *op, std::vector<Mutation> &mutations) {
  notePredicate(op, mutations);
  if (op->hasTrait<OpTrait::IsTerminator>())
    return;
  unsigned operands = op->getNumOperands();
  auto compare = dyn_cast<arith::CmpIOp>(op);
  bool commutes =
      op->hasTrait<OpTrait::IsCommutative>() ||
      (compare && (compare.getPredicate() == arith::CmpIPredicate::eq ||
                   compare.getPredicate() == arith::CmpIPredicate::ne));
  if (operands >= 2 && !commutes)
    mutations.push_back({"exchanged operands", [=](Operation *op) {
                           Value last = op->getOperand(operands - 1);
                           op->setOperand(operands - 1,
                                          op->getOperand(operands - 2));
                           op->setOperand(operands - 2, last);
                         }});
  for (unsigned i = 0; i < operands; ++i)
    if (op->getOperand(i).getType() == op->getResult(0).getType())
      mutations.push_back(
          {llvm::formatv("deleted for operand {0}", i), [=](Operation *op) {
             op->getResult(0).replaceAllUsesWith(op->getOperand(i));
             op->erase();
           }});
}

/// Logits get the region of visible tokens, and these that of logits.
static void noteRegions(Operation *op, std::vector<Mutation> &mutations) {
  if (auto logits = dyn_cast<tile::LogitsOp>(op))
    mutations.push_back({"exchanged regions", [](Operation *op) {
                           auto logits = cast<tile::LogitsOp>(op);
                           Region kept;
                           for (Operation &other : *op->getBlock())
                             if (auto mask = dyn_cast<tile::MaskOp>(other)) {
                               kept.takeBody(logits.getLogits());
                               logits.getLogits().takeBody(mask.getVisible());
                               mask.getVisible().takeBody(kept);
                             }
                         }});
  auto mask = dyn_cast<tile::MaskOp>(op);
  auto init = dyn_cast<tile::SoftmaxInitOp>(op);
  if ((mask && !mask.getVisible().empty()) || (init && !init.getSink().empty()))
    mutations.push_back({"without its region", [](Operation *op) {
                           op->getRegion(0).getBlocks().clear();
                         }});
}

std::vector<Mutation> test::mutationsOf(Operation *op) {
  std::vector<Mutation> mutations;
  noteAttributes(op, mutations);
  noteRegions(op, mutations);
  for (OpOperand &operand : op->getOpOperands())
    for (size_t i = 0; i < othersFor(operand).size(); ++i)
      mutations.push_back({llvm::formatv("operand {0}, other {1}",
                                         operand.getOperandNumber(), i),
                           [=, n = operand.getOperandNumber()](Operation *op) {
                             op->setOperand(n,
                                            othersFor(op->getOpOperand(n))[i]);
                           }});
  if (isOfScore(op))
    noteOfScore(op, mutations);
  if (isOfScore(op) || op->hasTrait<OpTrait::IsTerminator>())
    return mutations;
  // Without the op, an operand of the type stands for each of its results.
  bool deletable = llvm::all_of(op->getResults(), [&](Value result) {
    return result.use_empty() ||
           llvm::is_contained(op->getOperandTypes(), result.getType());
  });
  if (deletable)
    mutations.push_back({"deleted", [](Operation *op) {
                           for (Value result : op->getResults())
                             for (Value operand : op->getOperands())
                               if (operand.getType() == result.getType())
                                 result.replaceAllUsesWith(operand);
                           op->erase();
                         }});
  // Others store the same again.
  if (!isa<tile::StoreRowOp, tile::StoreDecodedOp>(op))
    mutations.push_back(
        {"twice", [](Operation *op) {
           Operation *copy = op->clone();
           op->getBlock()->getOperations().insertAfter(op->getIterator(), copy);
           // In a chain, the copy comes behind; elsewhere it is idle.
           for (auto [result, again] :
                llvm::zip(op->getResults(), copy->getResults()))
             if (op->getNumOperands() &&
                 op->getOperand(0).getType() == result.getType()) {
               result.replaceAllUsesExcept(again, copy);
               copy->setOperand(0, result);
             }
         }});
  // A chain's neighbour: x -> op -> user becomes x -> user -> op.
  if (op->getNumResults() == 1 && op->getResult(0).hasOneUse() &&
      op->getNumOperands() &&
      op->getOperand(0).getType() == op->getResult(0).getType()) {
    Operation *user = *op->getResult(0).user_begin();
    if (user->getNumResults() == 1 && user->getBlock() == op->getBlock() &&
        user->getOperand(0) == op->getResult(0) &&
        user->getResult(0).getType() == op->getResult(0).getType())
      mutations.push_back({"behind its user", [](Operation *op) {
                             Operation *user = *op->getResult(0).user_begin();
                             user->getResult(0).replaceAllUsesWith(
                                 op->getResult(0));
                             user->setOperand(0, op->getOperand(0));
                             op->setOperand(0, user->getResult(0));
                             op->moveAfter(user);
                           }});
  }
  return mutations;
}
