//===- ScoreRegionTest.cpp - what is made of drawn regions ----------------===//
//
// Passes and backends say things about a score's region without running it: a
// window that it implies, a block that it shows or hides, its product with
// log2(e). Each is held against the meaning of drawn regions.
//
//===----------------------------------------------------------------------===//
#include "codegen/ScoreRegion.h"
#include "lib/driver/Import/SpecToKvc.h"
#include "passes/LogitScale.h"
#include "passes/Passes.h"
#include "test/unit/Tile/RandomExpr.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/IR/Verifier.h"
#include "mlir/Pass/PassManager.h"
#include "gtest/gtest.h"

#include <cmath>

using namespace mlir;
using namespace kvc;
using namespace kvc::fuzz;

namespace {

constexpr uint64_t kSeed = 1;
constexpr unsigned kQHeads = 8, kGroup = 4;

class ScoreRegion : public testing::Test {
protected:
  ScoreRegion() : context(MLIRContext::Threading::DISABLED) {
    context.loadDialect<KvcDialect, LLVM::LLVMDialect>();
  }

  static std::string textOf(Region &region) {
    std::string text;
    llvm::raw_string_ostream stream(text);
    for (Operation &op : region.front())
      stream << op << "\n";
    return text;
  }

  MLIRContext context;
  Location loc = UnknownLoc::get(&context);
};

/// All kinds in turn.
Expr visibleOf(uint64_t index) {
  Random random(kSeed, index, 'V');
  return drawVisible(unsigned(shown::Window + index % shown::Booleans), random);
}

//===----------------------------------------------------------------------===//
// kvc-infer-reads
//===----------------------------------------------------------------------===//

class InferReads : public ScoreRegion {
protected:
  InferReads() {
    spec::Spec spec;
    spec.name = spec.file = "drawn";
    spec.model.layers = 1, spec.model.qHeads = kQHeads;
    spec.model.kvHeads = kQHeads / kGroup;
    spec.model.headDimK = spec.model.headDimV = 64;
    spec.model.softmaxScale = 0.125;
    spec::Store store;
    store.name = "s";
    store.scope.layers = {0}, store.scope.headEnd = spec.model.kvHeads;
    store.k.dim = store.v.dim = 64;
    spec.stores = {store};
    module = importSpec(context, spec);
  }

  static AttendOp attendOf(ModuleOp module) {
    AttendOp found;
    module.walk([&](AttendOp op) { found = op; });
    return found;
  }

  void check(uint64_t index);

  OwningOpRef<ModuleOp> module;
  unsigned windows = 0, dropped = 0;
};

/// The window shows all that the region shows; where nothing else is left of
/// the region, no more than that.
void InferReads::check(uint64_t index) {
  constexpr int64_t kTokens = 200;
  Expr expr = visibleOf(index);
  OwningOpRef<ModuleOp> copy(module->clone());
  AttendOp attend = attendOf(*copy);
  expr.emit(attend.getVisible(), loc);
  std::string text = textOf(attend.getVisible());
  PassManager pm(&context);
  pm.addPass(createInferReads());
  ASSERT_TRUE(succeeded(mlir::verify(*copy)) && succeeded(pm.run(*copy)))
      << text;
  ReadAttrInterface read = (*copy->getOps<StoreOp>().begin()).read();
  bool isDropped = attend.getVisible().empty();
  windows += !read.isAll(), dropped += isDropped;
  for (int64_t p = 0; p < kTokens; ++p)
    for (int64_t t = 0; t <= p; ++t)
      for (int64_t h : {0u, 1u, kQHeads - 1}) {
        bool shows = expr.holds({p, t, h, h / kGroup});
        bool within = read.isAll() || t < read.getSinkTokens() ||
                      t > p - read.getRecentTokens();
        ASSERT_TRUE(isDropped ? shows == within : !shows || within)
            << "region " << index << ": p = " << p << ", t = " << t
            << ", h = " << h << ", sink " << read.getSinkTokens() << ", recent "
            << read.getRecentTokens() << "\n"
            << text;
      }
}

TEST_F(InferReads, ShowWhatRegionsShow) {
  for (uint64_t index = 0; index < 800 && !HasFatalFailure(); ++index)
    check(index);
  printf("%u windows, %u regions dropped\n", windows, dropped);
  EXPECT_GT(windows, 100u);
  EXPECT_GT(dropped, 50u);
}

//===----------------------------------------------------------------------===//
// emitBlockVisibility
//===----------------------------------------------------------------------===//

/// First and last of a block.
struct Span {
  int64_t first, last;
};

class BlockVisibilityTest : public ScoreRegion {
protected:
  Span draw(int64_t below, std::initializer_list<int> lengths) {
    Span span{int64_t(random.below(uint64_t(below))), 0};
    span.last = std::min<int64_t>(span.first + random.pick(lengths), below) - 1;
    return span;
  }
  /// What an op between constants gives.
  static bool truth(Value value, Block &block);
  void check(uint64_t index, const Expr &expr, Region &region);

  Random random{kSeed, 0, 'B'};
  unsigned full = 0, empty = 0, blocks = 0;
};

bool BlockVisibilityTest::truth(Value value, Block &block) {
  llvm::DenseMap<Value, Attribute> known;
  for (Operation &op : block) {
    SmallVector<Attribute> operands;
    for (Value operand : op.getOperands())
      operands.push_back(known.lookup(operand));
    SmallVector<OpFoldResult> folded;
    if (failed(op.fold(operands, folded)) || folded.size() != 1) {
      ADD_FAILURE() << "does not fold: " << op.getName().getStringRef().str();
      return false;
    }
    Attribute result = dyn_cast<Attribute>(folded[0]);
    known[op.getResult(0)] =
        result ? result : known.lookup(cast<Value>(folded[0]));
  }
  return cast<IntegerAttr>(known.lookup(value)).getValue().isOne();
}

void BlockVisibilityTest::check(uint64_t index, const Expr &expr,
                                Region &region) {
  Span p = draw(3000, {1, 1, 2, 8, 33}), t = draw(3000, {1, 8, 16, 64});
  if (random.percent(60)) // near the queries, as most of what is seen is
    t = {std::max<int64_t>(0, p.first - random.range(0, 100)), 0};
  t.last = std::max(t.last, t.first + random.range(0, 40));
  Span g = draw(kQHeads / kGroup, {1});
  Span h{g.first * kGroup, g.first * kGroup + kGroup - 1};
  Block block;
  OpBuilder b(&context);
  b.setInsertionPointToEnd(&block);
  auto pair = [&](Span span) {
    auto constant = [&](int64_t x) -> Value {
      return arith::ConstantOp::create(b, loc, b.getI32IntegerAttr(int(x)));
    };
    Value first = constant(span.first);
    return std::pair(first, constant(span.last));
  };
  int64_t context = random.range(0, p.first);
  ScoreBlock bounds{pair(p), pair(t), pair(h), pair(g),
                    pair({context, context}).first};
  BlockVisibility seen =
      emitBlockVisibility(b, loc, region, bounds, ConstantRanges());
  bool isFull = truth(seen.full, block), isEmpty = truth(seen.empty, block);
  ++blocks, full += isFull, empty += isEmpty;
  if (!isFull && !isEmpty)
    return;
  ASSERT_FALSE(isFull && isEmpty) << index << "\n" << textOf(region);
  for (int64_t query = p.first; query <= p.last; ++query)
    for (int64_t token = t.first; token <= t.last; ++token)
      for (int64_t head = h.first; head <= h.last; ++head)
        ASSERT_EQ(expr.holds({query, token, context, head, g.first}), isFull)
            << "region " << index << ": p = " << query << ", t = " << token
            << ", c = " << context << ", h = " << head << "\n"
            << textOf(region);
}

TEST_F(BlockVisibilityTest, IsThatOfEachPair) {
  for (uint64_t index = 0; index < 800 && !HasFatalFailure(); ++index) {
    Expr expr = visibleOf(index);
    Region region;
    expr.emit(region, loc);
    for (unsigned i = 0; i < 20 && !HasFatalFailure(); ++i)
      check(index, expr, region);
  }
  printf("%u blocks, %u full, %u empty\n", blocks, full, empty);
  EXPECT_GT(full, blocks / 20);
  EXPECT_GT(empty, blocks / 20);
}

//===----------------------------------------------------------------------===//
// scaleLogits
//===----------------------------------------------------------------------===//

TEST_F(ScoreRegion, ScaledLogitsArePowersOfTwo) {
  unsigned folded = 0;
  for (uint64_t index = 0; index < 3000; ++index) {
    Random random(kSeed, index, 'L');
    unsigned choice = unsigned(logits::Softcap + index % logits::NoScore);
    if (choice == logits::TwoSoftcaps)
      choice = logits::ScoreOnce;
    Expr expr = drawLogits(choice, kQHeads, random);
    Region region;
    expr.emit(region, loc);
    std::string text = textOf(region);
    double factor = scaleLogits(region);
    folded += factor != 1;
    reference::ScoreProgram scaled(region);
    for (unsigned i = 0; i < 30; ++i) {
      int64_t query = random.range(0, 300), head = random.range(0, kQHeads - 1);
      ScorePlace place{query, random.range(0, query), random.range(0, query),
                       head, head / kGroup};
      double s = random.pick({1, 5, 30}) * double(random.normal());
      double largest, wanted = M_LOG2E * expr.evaluate(s, place, &largest);
      // Constants are rounded to f32, and sums may cancel.
      ASSERT_NEAR(scaled.logit(s * factor, place), wanted,
                  1e-6 * (std::fabs(wanted) + 0.1 * largest))
          << "region " << index << ": s = " << s << ", p = " << place.query
          << ", t = " << place.token << ", h = " << head << "\n"
          << text << "becomes\n"
          << textOf(region);
    }
  }
  printf("%u of 3000 have log2(e) in the scale of q\n", folded);
  EXPECT_GT(folded, 300u);
}

} // namespace
