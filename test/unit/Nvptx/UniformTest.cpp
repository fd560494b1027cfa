//===- UniformTest.cpp - what may stand under which condition -------------===//
#include "test/unit/Nvptx/KitModule.h"

using namespace kvc;
using namespace kvc::nvptx;
using mlir::Value;
using mlir::ValueRange;
using mlir::arith::CmpIPredicate;

namespace {

/// Where a value may differ.
enum class Spread { Nowhere, Warps, Lanes };

struct Case {
  const char *name;
  Spread spread;
  /// An i32; the parameter is an i32 too, the same for all.
  Value (*value)(Kit &kit, Value memory, Value number);
};

Value lane(Kit &kit) { return kit.and_(kit.threadId(), 31); }
Value warp(Kit &kit) { return kit.shr(kit.threadId(), 5); }
Value isZero(Kit &kit, Value x) {
  return kit.cmp(CmpIPredicate::eq, x, kit.i32(0));
}
Value at(Kit &kit, Value memory, Value index) {
  return kit.ptr(memory, kit.mul(index, 4));
}

#define VALUE                                                                  \
  []([[maybe_unused]] Kit & kit, [[maybe_unused]] Value memory,                \
     [[maybe_unused]] Value number)                                            \
      ->Value
const Case kCases[] = {
    //===--- one value for the CTA ------------------------------------------//
    {"constant", Spread::Nowhere, VALUE{return kit.i32(3);
} // namespace
}
, {"parameter", Spread::Nowhere, VALUE{return number;
}
}
, {"cta", Spread::Nowhere, VALUE{return kit.op1(Ptx::CtaidX, {});
}
}
, {"grid", Spread::Nowhere, VALUE{return kit.op1(Ptx::NctaidX, {});
}
}
, {"shared", Spread::Nowhere, VALUE{return kit.op1(Ptx::SmemBase, {});
}
}
, {"arithmetic", Spread::Nowhere,
   VALUE{return kit.min(kit.add(number, 4), kit.div(number, 3));
}
}
, {"pureRow", Spread::Nowhere,
   VALUE{return kit.op1(Ptx::Prmt, {number, number, kit.i32(0x3210)});
}
}
, {"vector", Spread::Nowhere, VALUE{Value x = kit.splat(number, 4);
return kit.extract(kit.add(x, x), 1);
}
}
, {"loadOfWhatNobodyWrites", Spread::Nowhere,
   VALUE{return kit.loadConst(kit.i32(), at(kit, memory, number), 4);
}
}
, {"shuffleOfOneValue", Spread::Nowhere,
   VALUE{return kit.op1(Ptx::ShflBfly, number, 1);
}
}
, {"lane0OfOneValue", Spread::Nowhere,
   VALUE{return kit.op1(Ptx::ShflIdx, {number, lane(kit)});
}
}
, {"ballotOfOneValue", Spread::Nowhere,
   VALUE{return kit.op1(Ptx::Ballot, number);
}
}
, {"carried", Spread::Nowhere,
   VALUE{return kit.loop(kit.i32(0), number, kit.i32(2), number,
                         [&](Value i, ValueRange carried) {
                           return Kit::Values{kit.add(carried[0], i)};
                         })[0];
}
}
, {"chosen", Spread::Nowhere,
   VALUE{return kit.choose(
       isZero(kit, number), [&] { return Kit::Values{kit.i32(1)}; },
       [&] { return Kit::Values{number}; })[0];
}
}
,

    //===--- one value for a warp -------------------------------------------//
    {"warpByShift", Spread::Warps, VALUE{return warp(kit);
}
}
, {"warpgroup", Spread::Warps, VALUE{return kit.shr(kit.threadId(), 7);
}
}
, {"warpByDivision", Spread::Warps,
   VALUE{return kit.div(kit.threadId(), kit.i32(96));
}
}
, {"warpByMask", Spread::Warps, VALUE{return kit.and_(kit.threadId(), ~31);
}
}
, {"lane0", Spread::Warps,
   VALUE{return kit.op1(Ptx::ShflIdx, {lane(kit), kit.i32(0)});
}
}
, {"laneOfWarp", Spread::Warps,
   VALUE{return kit.op1(Ptx::ShflIdx, {lane(kit), warp(kit)});
}
}
, {"anyLane", Spread::Warps, VALUE{return kit.op1(Ptx::VoteAny, lane(kit));
}
}
, {"ballot", Spread::Warps, VALUE{return kit.op1(Ptx::Ballot, lane(kit));
}
}
, {"largest", Spread::Warps, VALUE{return kit.op1(Ptx::ReduxMaxU32, lane(kit));
}
}
, {"shuffleOfWarp", Spread::Warps,
   VALUE{return kit.op1(Ptx::ShflUp, warp(kit), 1);
}
}
,
    // Another warp may load it before, or after, someone writes.
    {"load", Spread::Warps,
     VALUE{return kit.load(kit.i32(), at(kit, memory, number), 4);
}
}
, {"loadByWarp", Spread::Warps,
   VALUE{return kit.loadConst(kit.i32(), at(kit, memory, warp(kit)), 4);
}
}
, {"loopFromWarp", Spread::Warps,
   VALUE{return kit.loop(warp(kit), number, kit.i32(4), kit.i32(0),
                         [&](Value, ValueRange carried) {
                           return Kit::Values{kit.add(carried[0], 1)};
                         })[0];
}
}
,

    //===--- values of lanes ------------------------------------------------//
    {"thread", Spread::Lanes, VALUE{return kit.threadId();
}
}
, {"lane", Spread::Lanes, VALUE{return lane(kit);
}
}
, {"halfWarpByShift", Spread::Lanes, VALUE{return kit.shr(kit.threadId(), 4);
}
}
, {"halfWarpByDivision", Spread::Lanes,
   VALUE{return kit.div(kit.threadId(), kit.i32(48));
}
}
, {"halfWarpByMask", Spread::Lanes, VALUE{return kit.and_(kit.threadId(), ~15);
}
}
, {"otherIndexThanTheThread", Spread::Lanes,
   VALUE{return kit.shr(kit.add(kit.threadId(), 1), 5);
}
}
, {"shuffle", Spread::Lanes, VALUE{return kit.op1(Ptx::ShflBfly, lane(kit), 1);
}
}
, {"laneOfLane", Spread::Lanes,
   VALUE{return kit.op1(Ptx::ShflIdx, {lane(kit), lane(kit)});
}
}
, {"loadByLane", Spread::Lanes,
   VALUE{return kit.loadConst(kit.i32(), at(kit, memory, lane(kit)), 4);
}
}
,
    // It is the same word, but who wrote it when is not known here.
    {"sharedLoad", Spread::Lanes,
     VALUE{return kit.loadShared(kit.i32(), {kit.op1(Ptx::SmemBase, {}), 0});
}
}
, {"atomic", Spread::Lanes,
   VALUE{return kit.op1(Ptx::AtomAddAcqRel, {memory, number});
}
}
, {"matrix", Spread::Lanes, VALUE{return kit.op1(Ptx::MovMatrix, number);
}
}
, {"pureRowOfLane", Spread::Lanes,
   VALUE{return kit.op1(Ptx::Prmt, {number, number, lane(kit)});
}
}
, {"chosenByLane", Spread::Lanes,
   VALUE{return kit.choose(
       isZero(kit, lane(kit)), [&] { return Kit::Values{kit.i32(1)}; },
       [&] { return Kit::Values{kit.i32(2)}; })[0];
}
}
, {"selectedByLane", Spread::Lanes,
   VALUE{return kit.select(isZero(kit, lane(kit)), number, kit.i32(1));
}
}
,
    // Lanes are through after different numbers of iterations.
    {"loopToLane", Spread::Lanes,
     VALUE{return kit.loop(kit.i32(0), lane(kit), kit.i32(1), kit.i32(0),
                           [&](Value, ValueRange carried) {
                             return Kit::Values{kit.add(carried[0], 1)};
                           })[0];
}
}
,
    // Known only after as many walks as there are values.
    {"carriedRoundAbout", Spread::Lanes,
     VALUE{return kit.loop(kit.i32(0), number, kit.i32(1),
                           {number, number, number, number},
                           [&](Value, ValueRange c) {
                             return Kit::Values{c[1], c[2], c[3], lane(kit)};
                           })[0];
}
}
, {"foreignAssembly", Spread::Lanes,
   VALUE{return mlir::LLVM::InlineAsmOp::create(
                    kit.b, kit.kernel, kit.i32(), ValueRange(),
                    "mov.u32 $0, %laneid;", "=r", false, false,
                    mlir::LLVM::TailCallKind::None,
                    mlir::LLVM::AsmDialectAttr(), mlir::ArrayAttr())
             .getResult(0);
}
}
, {"foreignIntrinsic", Spread::Lanes,
   VALUE{return mlir::LLVM::CallIntrinsicOp::create(
                    kit.b, kit.kernel, kit.i32(),
                    kit.b.getStringAttr("llvm.nvvm.read.ptx.sreg.laneid"),
                    ValueRange())
             .getResult(0);
}
}
,
}
;

/// The errors of a kernel; `body` gets an i32 that is the same for all.
std::string errorsOf(KitModule::Body body) {
  KitModule module;
  module.kernel("k", [&](Kit &kit, Value memory, Value number) {
    body(kit, memory, kit.narrow(number));
  });
  EXPECT_TRUE(succeeded(mlir::verify(*module.module))) << module.errors;
  EXPECT_EQ(succeeded(verifyUniform(*module.module)), module.errors.empty());
  return module.errors;
}

std::string refusal(const char *row, Spread spread) {
  std::string scope = spread == Spread::Lanes ? "warp" : "CTA";
  return scope + "-collective `" + row +
         "` under a condition that may differ " + "between " +
         (spread == Spread::Lanes ? "lanes" : "warps");
}

void expect(const std::string &errors, const std::string &wanted) {
  EXPECT_EQ(errors.substr(0, errors.find('\n')), wanted);
}

//===----------------------------------------------------------------------===//
// Values
//===----------------------------------------------------------------------===//

class UnderCondition : public testing::TestWithParam<Case> {
protected:
  /// Errors of `row` in a branch on the value, and in loops with it as a bound.
  void expectEverywhere(Ptx row, llvm::ArrayRef<int64_t> constants,
                        bool allowed) {
    const char *name = infoOf(row).name.data();
    std::string wanted = allowed ? "" : refusal(name, GetParam().spread);
    for (int form = 0; form < 5; ++form) {
      SCOPED_TRACE(testing::Message() << name << " in form " << form);
      expect(errorsOf([&](Kit &kit, Value memory, Value number) {
               Value x = GetParam().value(kit, memory, number);
               auto use = [&] {
                 Kit::Values operands;
                 if (row == Ptx::ShflBfly)
                   operands.push_back(number);
                 kit.op(row, operands, constants);
               };
               auto useIn = [&](Value) { use(); };
               Value zero = kit.i32(0);
               switch (form) {
               case 0:
                 return kit.when(isZero(kit, x), use);
               case 1:
                 return kit.when(isZero(kit, x), [] {}, use);
               case 2:
                 return kit.loop(zero, x, kit.i32(1), useIn);
               case 3:
                 return kit.loop(x, kit.i32(100), kit.i32(1), useIn);
               case 4:
                 return kit.loop(zero, kit.i32(100), x, [&](Value) {
                   kit.when(isZero(kit, number), use);
                 });
               }
             }),
             wanted);
    }
  }
};

TEST_P(UnderCondition, IsRefusedWhereSomeMayNotReachIt) {
  bool warps = GetParam().spread != Spread::Lanes;
  bool all = GetParam().spread == Spread::Nowhere;
  expectEverywhere(Ptx::ShflBfly, {1}, warps);
  expectEverywhere(Ptx::WarpSync, {}, warps);
  expectEverywhere(Ptx::BarSync, {0, 128}, all);
  expectEverywhere(Ptx::BarArrive, {0, 128}, all);
  // Some warps among themselves.
  expectEverywhere(Ptx::BarSync, {1, 64}, warps);
  expectEverywhere(Ptx::BarArrive, {7, 64}, warps);
  // What a lane does alone.
  expectEverywhere(Ptx::CpAsyncCommit, {}, true);
}

INSTANTIATE_TEST_SUITE_P(Uniform, UnderCondition, testing::ValuesIn(kCases),
                         [](const testing::TestParamInfo<Case> &info) {
                           return info.param.name;
                         });

//===----------------------------------------------------------------------===//
// Where
//===----------------------------------------------------------------------===//

TEST(Uniform, EveryCollectiveRowIsHeldToIt) {
#define KVC_PTX_OP(NAME, SM, KIND, CONSTRAINTS, ASM) Ptx::NAME,
  for (Ptx row : {
#include "lib/Simt/Ops.def"
       }) {
#undef KVC_PTX_OP
    std::string errors = errorsOf([&](Kit &kit, Value memory, Value) {
      Kit::Values operands;
      llvm::SmallVector<int64_t> constants;
      llvm::SmallVector<llvm::StringRef> constraints;
      infoOf(row).constraints.split(constraints, ',', -1, false);
      for (llvm::StringRef constraint : constraints)
        if (constraint == "n")
          constants.push_back(1);
        else if (constraint == "l")
          operands.push_back(memory);
        else if (constraint == "f")
          operands.push_back(kit.f32(1));
        else if (constraint == "r")
          operands.push_back(kit.i32(0));
      kit.when(isZero(kit, lane(kit)),
               [&] { kit.op(row, operands, constants); });
    });
    bool collective = infoOf(row).kind == OpKind::Collective;
    expect(errors,
           collective ? refusal(infoOf(row).name.data(), Spread::Lanes) : "");
  }
}

TEST(Uniform, OneLoopOutsideMakesAllInsideSuspect) {
  expect(errorsOf([](Kit &kit, Value, Value number) {
           kit.loop(kit.i32(0), lane(kit), kit.i32(1), [&](Value) {
             kit.when(isZero(kit, number), [&] {
               kit.loop(kit.i32(0), number, kit.i32(1),
                        [&](Value) { kit.op(Ptx::WarpSync, {}); });
             });
           });
         }),
         refusal("WarpSync", Spread::Lanes));
}

TEST(Uniform, ALaterIterationCounts) {
  expect(errorsOf([](Kit &kit, Value, Value number) {
           kit.loop(kit.i32(0), number, kit.i32(1), {number},
                    [&](Value, ValueRange carried) {
                      kit.when(isZero(kit, carried[0]),
                               [&] { kit.op(Ptx::WarpSync, {}); });
                      return Kit::Values{lane(kit)};
                    });
         }),
         refusal("WarpSync", Spread::Lanes));
}

/// A loop as long as `value` is not 0, of what `before` and `after` emit.
void loopWhile(Kit &kit, Value start, llvm::function_ref<void()> before,
               llvm::function_ref<Value(Value)> next) {
  mlir::scf::WhileOp::create(
      kit.b, kit.kernel, mlir::TypeRange(kit.i32()), ValueRange(start),
      [&](mlir::OpBuilder &, mlir::Location loc, ValueRange carried) {
        before();
        Value more = kit.cmp(CmpIPredicate::ne, carried[0], kit.i32(0));
        mlir::scf::ConditionOp::create(kit.b, loc, more, carried);
      },
      [&](mlir::OpBuilder &, mlir::Location loc, ValueRange carried) {
        mlir::scf::YieldOp::create(kit.b, loc, next(carried[0]));
      });
}

TEST(Uniform, WhileLoops) {
  auto sync = [](Kit &kit) { kit.op(Ptx::WarpSync, {}); };
  auto errors = [&](bool inBefore, bool startsByLane, bool goesOnByLane) {
    return errorsOf([&](Kit &kit, Value, Value number) {
      Value own = lane(kit);
      loopWhile(
          kit, startsByLane ? own : number,
          [&] {
            if (inBefore)
              sync(kit);
          },
          [&](Value x) {
            if (!inBefore)
              sync(kit);
            return goesOnByLane ? kit.sub(x, own) : kit.sub(x, kit.i32(1));
          });
    });
  };
  for (bool inBefore : {false, true}) {
    expect(errors(inBefore, false, false), "");
    std::string refused = refusal("WarpSync", Spread::Lanes);
    expect(errors(inBefore, true, false), refused);
    expect(errors(inBefore, false, true), refused);
  }
}

TEST(Uniform, WhatAWhileLoopEndsWith) {
  auto errors = [&](bool byLane) {
    return errorsOf([&](Kit &kit, Value, Value number) {
      Value start = byLane ? lane(kit) : number;
      loopWhile(
          kit, start, [] {}, [&](Value x) { return kit.sub(x, kit.i32(1)); });
      Value left = kit.b.getInsertionBlock()->back().getResult(0);
      kit.when(isZero(kit, left), [&] { kit.op(Ptx::WarpSync, {}); });
    });
  };
  expect(errors(false), "");
  expect(errors(true), refusal("WarpSync", Spread::Lanes));
}

//===----------------------------------------------------------------------===//
// Messages
//===----------------------------------------------------------------------===//

TEST(Uniform, TheErrorNamesWhatTheConditionDependsOn) {
  EXPECT_EQ(errorsOf([](Kit &kit, Value, Value number) {
              Value x = kit.add(kit.mul(lane(kit), number), 3);
              kit.when(isZero(kit, x), [&] { kit.op(Ptx::WarpSync, {}); });
            }),
            refusal("WarpSync", Spread::Lanes) + "\nit depends on this `TidX`");
  EXPECT_EQ(errorsOf([](Kit &kit, Value memory, Value) {
              Value x = kit.load(kit.i32(), memory, 4);
              kit.when(isZero(kit, x),
                       [&] { kit.op(Ptx::BarSync, {}, {0, 128}); });
            }),
            refusal("BarSync", Spread::Warps) + "\nit depends on this load");
  // Through what a loop carries.
  EXPECT_EQ(errorsOf([](Kit &kit, Value, Value number) {
              Value x = kit.loop(kit.i32(0), number, kit.i32(1), {number},
                                 [&](Value, ValueRange carried) {
                                   Value y = kit.op1(Ptx::MovMatrix, number);
                                   return Kit::Values{kit.add(carried[0], y)};
                                 })[0];
              kit.when(isZero(kit, x), [&] { kit.op(Ptx::WarpSync, {}); });
            }),
            refusal("WarpSync", Spread::Lanes) +
                "\nit depends on this `MovMatrix`");
}

TEST(Uniform, BranchesAreRefused) {
  KitModule module;
  module.kernel("k", [](Kit &kit, Value, Value number) {
    kit.when(isZero(kit, kit.narrow(number)),
             [&] { kit.op(Ptx::WarpSync, {}); });
  });
  module.lower();
  EXPECT_TRUE(failed(verifyUniform(*module.module)));
  EXPECT_EQ(module.errors, "uniformity is checked on structured control flow, "
                           "found branches");
}

TEST(Uniform, NothingIsKnownOfTheArgumentsOfOtherFunctions) {
  KitModule module;
  module.kernel("k", [](Kit &kit, Value memory, Value) {
    Value x = kit.loadConst(kit.i32(), memory, 4);
    kit.when(isZero(kit, x), [&] { kit.op(Ptx::WarpSync, {}); });
  });
  for (auto function : module.module->getOps<mlir::LLVM::LLVMFuncOp>())
    function->removeAttr("kvc.kernel");
  EXPECT_TRUE(failed(verifyUniform(*module.module)));
  expect(module.errors, refusal("WarpSync", Spread::Lanes));
}

} // namespace
