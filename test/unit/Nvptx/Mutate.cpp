//===- Mutate.cpp - kernels with one bug planted --------------------------===//
#include "test/unit/Nvptx/Mutate.h"

#include "codegen/nvptx/Kit.h"

#include "mlir/IR/Matchers.h"
#include "llvm/ADT/StringMap.h"

using namespace mlir;
using namespace kvc;
using namespace kvc::nvptx;

//===----------------------------------------------------------------------===//
// Places
//===----------------------------------------------------------------------===//

static bool isOneOf(Operation *op, ArrayRef<Ptx> rows) {
  auto assembly = dyn_cast<LLVM::InlineAsmOp>(op);
  std::optional<Ptx> ptx = assembly ? ptxOf(assembly) : std::nullopt;
  return ptx && llvm::is_contained(rows, *ptx);
}

template <Ptx... rows> static bool is(Operation *op) {
  return isOneOf(op, {rows...});
}
template <typename Op> static bool isA(Operation *op) { return isa<Op>(op); }

/// A score that is hidden from a row.
static bool isMask(Operation *op) {
  auto select = dyn_cast<arith::SelectOp>(op);
  APFloat x(0.0f);
  return select && matchPattern(select.getFalseValue(), m_ConstantFloat(&x)) &&
         x.isInfinity() && x.isNegative();
}

/// Of P times a scale of V: sees ? x : 0
static bool isScaleMask(Operation *op) {
  auto select = dyn_cast<arith::SelectOp>(op);
  return select && select.getType().isF32() &&
         matchPattern(select.getFalseValue(), m_PosZeroFloat()) &&
         isa_and_nonnull<LLVM::FMulOp, arith::MulFOp>(
             select.getTrueValue().getDefiningOp());
}

/// next == end ? 0 : next
static bool isWrap(Operation *op) {
  auto select = dyn_cast<arith::SelectOp>(op);
  if (!select || !matchPattern(select.getTrueValue(), m_Zero()))
    return false;
  auto compare = select.getCondition().getDefiningOp<arith::CmpIOp>();
  return compare && compare.getPredicate() == arith::CmpIPredicate::eq &&
         compare.getLhs() == select.getFalseValue();
}

static bool contains(Region &region, bool (*fits)(Operation *)) {
  return region
      .walk([&](Operation *op) {
        return fits(op) ? WalkResult::interrupt() : WalkResult::advance();
      })
      .wasInterrupted();
}

/// Whole rows where all are there, else each by itself.
static bool isCarefulCopy(Operation *op) {
  auto branch = dyn_cast<scf::IfOp>(op);
  return branch &&
         contains(branch.getThenRegion(),
                  is<Ptx::CpAsync16, Ptx::CpAsync8, Ptx::CpAsync4,
                     Ptx::BulkCopy, Ptx::BulkCopyCta>) &&
         contains(branch.getElseRegion(),
                  is<Ptx::CpAsync16Zfill, Ptx::CpAsync8Zfill,
                     Ptx::CpAsync4Zfill, Ptx::BulkCopy, Ptx::BulkCopyCta>);
}

/// Scores as they are where every row sees all, else masked.
static bool isMasking(Operation *op) {
  auto branch = dyn_cast<scf::IfOp>(op);
  return branch && branch.getNumResults() &&
         !contains(branch.getThenRegion(), isMask) &&
         contains(branch.getElseRegion(), isMask) &&
         !contains(branch.getElseRegion(), is<Ptx::WarpSync>);
}

/// Loops that load, store or multiply; not those that clear padding.
static bool isLoop(Operation *op) {
  auto loop = dyn_cast<scf::ForOp>(op);
  return loop && contains(loop.getRegion(), [](Operation *inner) {
           return !isa<LLVM::InlineAsmOp>(inner)
                      ? isa<LLVM::LoadOp, LLVM::StoreOp>(inner)
                      : !is<Ptx::SmemBase, Ptx::Sts64>(inner);
         });
}

/// Whether an address to load from is computed from it. One of a copy that may
/// take no bytes is not: then nothing is read there.
static bool reachesLoad(Operation *op) {
  return llvm::any_of(op->getUsers(), [](Operation *user) {
    return isa<LLVM::LoadOp>(user) ||
           is<Ptx::BulkCopy, Ptx::BulkCopyCta>(user) ||
           (isa<arith::ArithDialect>(user->getDialect()) &&
            reachesLoad(user)) ||
           (isa<LLVM::GEPOp>(user) && reachesLoad(user));
  });
}
/// max(min(token, end - 1), 0)
static bool isLowerClamp(Operation *op) {
  auto max = dyn_cast<arith::MaxSIOp>(op);
  return max && matchPattern(max.getRhs(), m_Zero()) &&
         max.getLhs().getDefiningOp<arith::MinSIOp>() && reachesLoad(op);
}

static bool isUpperClamp(Operation *op) {
  return isa<arith::MinSIOp>(op) && llvm::any_of(op->getUsers(), isLowerClamp);
}

/// min(row, last), for the address of a bulk copy.
static bool isRowLimit(Operation *op) {
  return isa<arith::MinSIOp>(op) && reachesLoad(op) &&
         llvm::all_of(op->getUsers(), [](Operation *user) {
           return isa<arith::ExtSIOp>(user);
         });
}

/// min(row, end - 1), for an address of q.
static bool isRowClamp(Operation *op) {
  return isa<arith::MinSIOp>(op) &&
         llvm::any_of(op->getUsers(), [](Operation *user) {
           return isa<arith::RemUIOp>(user);
         });
}

static bool storesWords(Operation *op, unsigned words) {
  auto store = dyn_cast<LLVM::StoreOp>(op);
  if (!store)
    return false;
  Type type = store.getValue().getType();
  auto vector = dyn_cast<VectorType>(type);
  return vector ? vector.getNumElements() == words &&
                      vector.getElementType().isInteger(32)
                : words == 1 && type.isInteger();
}
template <unsigned words> static bool stores(Operation *op) {
  return storesWords(op, words);
}

//===----------------------------------------------------------------------===//
// Changes
//===----------------------------------------------------------------------===//

using Change = void (*)(Operation *op, Kit &kit);

static void drop(Operation *op, Kit &) { op->erase(); }

/// Whoever used the first result uses the operand.
template <unsigned operand> static void forward(Operation *op, Kit &) {
  op->getResult(0).replaceAllUsesWith(op->getOperand(operand));
  op->erase();
}

template <unsigned operand, int64_t value>
static void setConstant(Operation *op, Kit &kit) {
  op->setOperand(operand, kit.i32(value));
}

template <unsigned operand> static void addOne(Operation *op, Kit &kit) {
  op->setOperand(operand, kit.add(op->getOperand(operand), 1));
}

template <unsigned operand> static void makeTrue(Operation *op, Kit &kit) {
  op->setOperand(operand, arith::ConstantOp::create(kit.b, op->getLoc(),
                                                    kit.b.getBoolAttr(true)));
}

static void electAll(Operation *op, Kit &kit) {
  op->getResult(0).replaceAllUsesWith(kit.i32(1));
  op->erase();
}

static void startLate(Operation *op, Kit &kit) {
  auto loop = cast<scf::ForOp>(op);
  loop.setLowerBound(kit.add(loop.getLowerBound(), loop.getStep()));
}

/// Rows 16 bytes further apart than they are.
static void widenStride(Operation *op, Kit &kit) {
  Value row = kit.and_(kit.threadId(), 15);
  op->setOperand(0, kit.add(op->getOperand(0), kit.mul(row, 16)));
}

static void copyWhole(Operation *op, Kit &kit) {
  int64_t bytes = is<Ptx::CpAsync16Zfill>(op)  ? 16
                  : is<Ptx::CpAsync8Zfill>(op) ? 8
                                               : 4;
  op->setOperand(2, kit.i32(bytes));
}

static void addWithoutOrder(Operation *op, Kit &kit) {
  Value address = op->getOperand(0);
  Value before = kit.load(kit.i32(), address, 4);
  kit.store(kit.add(before, op->getOperand(1)), address, 4);
  op->getResult(0).replaceAllUsesWith(before);
  op->erase();
}

template <int64_t word> static void addOneToWord(Operation *op, Kit &kit) {
  Kit::Values words;
  for (int64_t i = 0; i < 4; ++i)
    words.push_back(kit.extract(op->getOperand(0), i));
  words[word] = kit.add(words[word], 1);
  op->setOperand(0, kit.concat(words));
}

//===----------------------------------------------------------------------===//
// Kinds
//===----------------------------------------------------------------------===//

namespace {
/// Which of the places that fit.
enum class Pick : uint8_t {
  Each,
  EachLine, ///< of those that one C++ line emitted in a row, the first
  First,
};

struct Kind {
  const char *name;
  bool (*fits)(Operation *op);
  Change change;
  unsigned suspects; ///< bits by Suspects
  Pick pick;
};
} // namespace

static constexpr unsigned kAttend = 1 << unsigned(Suspects::Attend),
                          kPlan = 1 << unsigned(Suspects::Plan),
                          kAppend = 1 << unsigned(Suspects::Append);

static const Kind kKinds[] = {
    {"NoBarSync", is<Ptx::BarSync>, drop, kAttend | kPlan, Pick::Each},
    {"NoWarpSync", is<Ptx::WarpSync>, drop, kAttend, Pick::Each},
    {"NoWait", is<Ptx::CpAsyncWait>, drop, kAttend, Pick::Each},
    {"NoCommit", is<Ptx::CpAsyncCommit>, drop, kAttend, Pick::Each},
    {"WaitsForOneLess", is<Ptx::CpAsyncWait>, addOne<0>, kAttend, Pick::Each},
    {"NoMbarWait", is<Ptx::MbarWait>, drop, kAttend, Pick::Each},
    {"OtherParity", is<Ptx::MbarWait>, addOne<1>, kAttend, Pick::Each},
    {"NoMbarArrive", is<Ptx::MbarArrive>, drop, kAttend, Pick::Each},
    {"OneArrivalMore", is<Ptx::MbarInit>, addOne<1>, kAttend, Pick::Each},
    {"NoMbarInit", is<Ptx::MbarInit>, drop, kAttend, Pick::Each},
    {"NoMbarFence", is<Ptx::MbarFenceInit>, drop, kAttend, Pick::Each},
    {"NoExpect", is<Ptx::MbarArriveExpectTx>, drop, kAttend, Pick::Each},
    {"ExpectsMore", is<Ptx::MbarArriveExpectTx>, addOne<1>, kAttend,
     Pick::Each},
    {"NoProxyFence", is<Ptx::FenceProxyAsync>, drop, kAttend, Pick::Each},
    {"NoBulkCopy", is<Ptx::BulkCopy, Ptx::BulkCopyCta>, drop, kAttend,
     Pick::EachLine},
    {"AllElected", is<Ptx::ElectOne>, electAll, kAttend, Pick::Each},
    {"PlainAdd", is<Ptx::AtomAddAcqRel>, addWithoutOrder, kAttend, Pick::Each},
    {"NoMask", isMask, makeTrue<0>, kAttend, Pick::Each},
    {"NoScaleMask", isScaleMask, makeTrue<0>, kAttend, Pick::Each},
    {"NoMasking", isMasking, makeTrue<0>, kAttend, Pick::Each},
    {"CopiesWholeSteps", isCarefulCopy, makeTrue<0>, kAttend, Pick::Each},
    {"NoUpperClamp", isUpperClamp, forward<0>, kAttend, Pick::Each},
    {"NoLowerClamp", isLowerClamp, forward<0>, kAttend, Pick::First},
    {"NoRowLimit", isRowLimit, forward<0>, kAttend, Pick::Each},
    {"NoRowClamp", isRowClamp, forward<0>, kAttend, Pick::Each},
    {"OneRoundMore", isLoop, addOne<1>, kAttend, Pick::Each},
    {"NoFirstRound", isLoop, startLate, kAttend, Pick::Each},
    {"AlwaysThen", isA<scf::IfOp>, makeTrue<0>, kAppend, Pick::Each},
    {"NoWrap", isWrap, forward<2>, kAttend, Pick::Each},
    {"WrongStride",
     is<Ptx::LdMatrixX1, Ptx::LdMatrixX2, Ptx::LdMatrixX4, Ptx::LdMatrixX2Trans,
        Ptx::LdMatrixX4Trans>,
     widenStride, kAttend, Pick::EachLine},
    {"NoZfill", is<Ptx::CpAsync16Zfill, Ptx::CpAsync8Zfill, Ptx::CpAsync4Zfill>,
     copyWhole, kAttend, Pick::EachLine},
    {"NoSharedStore", is<Ptx::StsU16, Ptx::Sts32, Ptx::Sts64, Ptx::Sts128>,
     drop, kAttend | kPlan, Pick::EachLine},
    {"NoTranspose", is<Ptx::MovMatrix>, forward<0>, kAttend, Pick::EachLine},
    {"OwnVote", is<Ptx::VoteAny>, forward<0>, kAttend, Pick::Each},
    {"NoStore", isA<LLVM::StoreOp>, drop, kPlan | kAppend, Pick::Each},
    {"StoresOneMore", stores<1>, addOne<0>, kPlan, Pick::Each},
    {"FirstFieldOneMore", stores<4>, addOneToWord<0>, kPlan, Pick::Each},
    {"SecondFieldOneMore", stores<4>, addOneToWord<1>, kPlan, Pick::Each},
    {"ThirdFieldOneMore", stores<4>, addOneToWord<2>, kPlan, Pick::Each},
    {"FourthFieldOneMore", stores<4>, addOneToWord<3>, kPlan, Pick::Each},
};

static std::vector<Operation *> opsOf(LLVM::LLVMFuncOp kernel) {
  std::vector<Operation *> ops;
  kernel.walk<WalkOrder::PreOrder>([&](Operation *op) { ops.push_back(op); });
  return ops;
}

/// "Attend.cpp:120", of the first instruction from ops[place] on.
static std::string nextLine(ArrayRef<Operation *> ops, size_t place) {
  for (Operation *op : ops.drop_front(place))
    if (auto line = dyn_cast<FileLineColLoc>(op->getLoc());
        line && isa<LLVM::InlineAsmOp>(op))
      return line.getFilename().str() + ":" + std::to_string(line.getLine());
  return "the end";
}

std::vector<Mutation> kvc::nvptx::mutationsOf(LLVM::LLVMFuncOp kernel,
                                              Suspects suspects) {
  std::vector<Operation *> ops = opsOf(kernel);
  std::vector<Mutation> mutations;
  for (auto [kind, what] : llvm::enumerate(kKinds)) {
    if (!(what.suspects >> unsigned(suspects) & 1))
      continue;
    llvm::StringMap<unsigned> counts; // by file
    Location last = UnknownLoc::get(kernel.getContext());
    for (auto [place, op] : llvm::enumerate(ops)) {
      bool again = what.pick == Pick::EachLine && op->getLoc() == last;
      if (again || !what.fits(op))
        continue;
      last = op->getLoc();
      std::string name = what.name;
      auto line = dyn_cast<FileLineColLoc>(op->getLoc());
      if (isa<LLVM::InlineAsmOp>(op) && line)
        name += "_" + line.getFilename().getValue().split('.').first.str();
      name += "_" + std::to_string(++counts[name]);
      mutations.push_back(
          {name, unsigned(kind), unsigned(place), nextLine(ops, place)});
      if (what.pick == Pick::First)
        break;
    }
  }
  return mutations;
}

void kvc::nvptx::mutate(LLVM::LLVMFuncOp kernel, const Mutation &mutation) {
  Operation *op = opsOf(kernel)[mutation.place];
  OpBuilder b(op);
  Kit kit(b, op->getLoc());
  kKinds[mutation.kind].change(op, kit);
}
