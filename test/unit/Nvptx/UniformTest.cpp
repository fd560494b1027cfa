//===- UniformTest.cpp - what may stand under which condition -------------===//
#include "test/unit/Nvptx/KitModule.h"

using namespace kvc;
using namespace kvc::nvptx;
using mlir::Value;
using mlir::ValueRange;
using mlir::arith::CmpIPredicate;

namespace {

/// Where a value may differ.
enum class Divergence { Uniform, WarpUniform, Divergent };

/// What a case's value is made from.
struct Inputs {
  Kit &kit;
  Value memory;
  Value number; ///< i32, the same for all

  Value thread() const { return kit.threadId(); }
  Value lane() const { return kit.and_(thread(), 31); }
  Value warp() const { return kit.shr(thread(), 5); }
  Value isZero(Value x) const {
    return kit.cmp(CmpIPredicate::eq, x, kit.i32(0));
  }
  Value word(Value index) const { return kit.ptr(memory, kit.mul(index, 4)); }
  Value shuffle(Value x, Value from) const {
    return kit.op1(Ptx::ShflIdx, {x, from});
  }
  Value row(Ptx row, llvm::ArrayRef<Value> operands) const {
    return kit.op1(row, operands);
  }
  /// How often a loop of these bounds is gone through.
  Value iterations(Value low, Value high) const {
    return kit.loop(low, high, kit.i32(1), kit.i32(0),
                    [&](Value, ValueRange carried) {
                      return Kit::Values{kit.add(carried[0], 1)};
                    })[0];
  }
  /// 1 or 2.
  Value choose(Value condition) const {
    return kit.choose(
        condition, [&] { return Kit::Values{kit.i32(1)}; },
        [&] { return Kit::Values{kit.i32(2)}; })[0];
  }
};

struct Case {
  const char *name;
  Divergence divergence;
  Value (*value)(const Inputs &in); ///< an i32
};

using In = const Inputs &;

const Case kOfCta[] = {
    {"constant", Divergence::Uniform, [](In in) { return in.kit.i32(3); }},
    {"parameter", Divergence::Uniform, [](In in) { return in.number; }},
    {"cta", Divergence::Uniform, [](In in) { return in.row(Ptx::CtaidX, {}); }},
    {"grid", Divergence::Uniform,
     [](In in) { return in.row(Ptx::NctaidX, {}); }},
    {"shared", Divergence::Uniform,
     [](In in) { return in.row(Ptx::SmemBase, {}); }},
    {"arithmetic", Divergence::Uniform,
     [](In in) { return in.kit.min(in.number, in.kit.div(in.number, 3)); }},
    {"pureRow", Divergence::Uniform,
     [](In in) {
       return in.row(Ptx::Prmt, {in.number, in.number, in.number});
     }},
    {"vector", Divergence::Uniform,
     [](In in) {
       Value x = in.kit.splat(in.number, 4);
       return in.kit.extract(in.kit.add(x, x), 1);
     }},
    {"loadOfWhatNobodyWrites", Divergence::Uniform,
     [](In in) {
       return in.kit.loadReadOnly(in.kit.i32(), in.word(in.number), 4);
     }},
    {"shuffleOfOneValue", Divergence::Uniform,
     [](In in) { return in.kit.op1(Ptx::ShflBfly, in.number, 1); }},
    {"someLaneOfOneValue", Divergence::Uniform,
     [](In in) { return in.shuffle(in.number, in.lane()); }},
    {"ballotOfOneValue", Divergence::Uniform,
     [](In in) { return in.row(Ptx::Ballot, in.number); }},
    {"iterations", Divergence::Uniform,
     [](In in) { return in.iterations(in.kit.i32(0), in.number); }},
    {"chosen", Divergence::Uniform,
     [](In in) { return in.choose(in.isZero(in.number)); }},
};

const Case kOfWarp[] = {
    {"warpByShift", Divergence::WarpUniform, [](In in) { return in.warp(); }},
    {"warpgroup", Divergence::WarpUniform,
     [](In in) { return in.kit.shr(in.thread(), 7); }},
    {"warpByDivision", Divergence::WarpUniform,
     [](In in) { return in.kit.div(in.thread(), in.kit.i32(96)); }},
    {"warpByMask", Divergence::WarpUniform,
     [](In in) { return in.kit.and_(in.thread(), ~31); }},
    {"lane0", Divergence::WarpUniform,
     [](In in) { return in.shuffle(in.lane(), in.kit.i32(0)); }},
    {"laneOfWarp", Divergence::WarpUniform,
     [](In in) { return in.shuffle(in.lane(), in.warp()); }},
    {"anyLane", Divergence::WarpUniform,
     [](In in) { return in.row(Ptx::VoteAny, in.lane()); }},
    {"ballot", Divergence::WarpUniform,
     [](In in) { return in.row(Ptx::Ballot, in.lane()); }},
    {"largest", Divergence::WarpUniform,
     [](In in) { return in.row(Ptx::ReduxMaxU32, in.lane()); }},
    {"shuffleOfWarp", Divergence::WarpUniform,
     [](In in) { return in.kit.op1(Ptx::ShflUp, in.warp(), 1); }},
    // Another warp may load it before, or after, someone writes.
    {"load", Divergence::WarpUniform,
     [](In in) { return in.kit.load(in.kit.i32(), in.word(in.number), 4); }},
    {"loadByWarp", Divergence::WarpUniform,
     [](In in) {
       return in.kit.loadReadOnly(in.kit.i32(), in.word(in.warp()), 4);
     }},
    {"iterationsFromWarp", Divergence::WarpUniform,
     [](In in) { return in.iterations(in.warp(), in.number); }},
};

const Case kOfLane[] = {
    {"thread", Divergence::Divergent, [](In in) { return in.thread(); }},
    {"lane", Divergence::Divergent, [](In in) { return in.lane(); }},
    {"elected", Divergence::Divergent,
     [](In in) { return in.row(Ptx::ElectOne, {}); }},
    {"halfWarpByShift", Divergence::Divergent,
     [](In in) { return in.kit.shr(in.thread(), 4); }},
    {"halfWarpByDivision", Divergence::Divergent,
     [](In in) { return in.kit.div(in.thread(), in.kit.i32(48)); }},
    {"halfWarpByMask", Divergence::Divergent,
     [](In in) { return in.kit.and_(in.thread(), ~15); }},
    {"sumWithTheThread", Divergence::Divergent,
     [](In in) { return in.kit.shr(in.kit.add(in.thread(), 1), 5); }},
    {"otherValueThanTheThread", Divergence::Divergent,
     [](In in) { return in.kit.shr(in.row(Ptx::MovMatrix, in.number), 5); }},
    {"shuffle", Divergence::Divergent,
     [](In in) { return in.kit.op1(Ptx::ShflBfly, in.lane(), 1); }},
    {"laneOfLane", Divergence::Divergent,
     [](In in) { return in.shuffle(in.lane(), in.lane()); }},
    {"loadByLane", Divergence::Divergent,
     [](In in) {
       return in.kit.loadReadOnly(in.kit.i32(), in.word(in.lane()), 4);
     }},
    // It is the same word, but who wrote it when is not known here.
    {"sharedLoad", Divergence::Divergent,
     [](In in) {
       return in.kit.loadShared(in.kit.i32(), {in.row(Ptx::SmemBase, {}), 0});
     }},
    {"atomic", Divergence::Divergent,
     [](In in) { return in.row(Ptx::AtomAddAcqRel, {in.memory, in.number}); }},
    {"matrix", Divergence::Divergent,
     [](In in) { return in.row(Ptx::MovMatrix, in.number); }},
    {"pureRowOfLane", Divergence::Divergent,
     [](In in) {
       return in.row(Ptx::Prmt, {in.number, in.number, in.lane()});
     }},
    {"chosenByLane", Divergence::Divergent,
     [](In in) { return in.choose(in.isZero(in.lane())); }},
    {"selectedByLane", Divergence::Divergent,
     [](In in) {
       return in.kit.select(in.isZero(in.lane()), in.number, in.kit.i32(1));
     }},
    // Lanes are through after different numbers of iterations.
    {"iterationsToLane", Divergence::Divergent,
     [](In in) { return in.iterations(in.kit.i32(0), in.lane()); }},
    // Known only after as many walks as there are values.
    {"carriedRoundAbout", Divergence::Divergent,
     [](In in) {
       Kit::Values start(4, in.number);
       return in.kit.loop(in.kit.i32(0), in.number, in.kit.i32(1), start,
                          [&](Value, ValueRange c) {
                            return Kit::Values{c[1], c[2], c[3], in.lane()};
                          })[0];
     }},
    {"foreignAssembly", Divergence::Divergent,
     [](In in) -> Value {
       auto assembly = mlir::LLVM::InlineAsmOp::create(
           in.kit.b, in.kit.kernel, in.kit.i32(), ValueRange(),
           "mov.u32 $0, %laneid;", "=r", false, false,
           mlir::LLVM::TailCallKind::None, mlir::LLVM::AsmDialectAttr(),
           mlir::ArrayAttr());
       return assembly.getResult(0);
     }},
    {"foreignIntrinsic", Divergence::Divergent,
     [](In in) -> Value {
       auto call = mlir::LLVM::CallIntrinsicOp::create(
           in.kit.b, in.kit.kernel, in.kit.i32(),
           in.kit.b.getStringAttr("llvm.nvvm.read.ptx.sreg.laneid"),
           ValueRange());
       return call.getResult(0);
     }},
};

Value lane(Kit &kit) { return kit.and_(kit.threadId(), 31); }
Value isZero(Kit &kit, Value x) {
  return kit.cmp(CmpIPredicate::eq, x, kit.i32(0));
}

/// The errors of a kernel; `body` gets an i32 that is the same for all.
std::string errorsOf(KitModule::Body body) {
  KitModule module;
  module.kernel("k", [&](Kit &kit, Value memory, Value number) {
    body(kit, memory, kit.truncI32(number));
  });
  EXPECT_TRUE(succeeded(mlir::verify(*module.module))) << module.errors;
  EXPECT_EQ(succeeded(verifyUniform(*module.module)), module.errors.empty());
  return module.errors;
}

std::string refusal(const char *row, Divergence divergence) {
  std::string scope = divergence == Divergence::Divergent ? "warp" : "CTA";
  return scope + "-collective `" + row +
         "` under a condition that may differ " + "between " +
         (divergence == Divergence::Divergent ? "lanes" : "warps");
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
    std::string wanted = allowed ? "" : refusal(name, GetParam().divergence);
    for (int form = 0; form < 5; ++form) {
      SCOPED_TRACE(testing::Message() << name << " in form " << form);
      expect(errorsOf([&](Kit &kit, Value memory, Value number) {
               Value x = GetParam().value({kit, memory, number});
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
  bool warps = GetParam().divergence != Divergence::Divergent;
  bool all = GetParam().divergence == Divergence::Uniform;
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

std::string nameOf(const testing::TestParamInfo<Case> &info) {
  return info.param.name;
}
INSTANTIATE_TEST_SUITE_P(Cta, UnderCondition, testing::ValuesIn(kOfCta),
                         nameOf);
INSTANTIATE_TEST_SUITE_P(Warp, UnderCondition, testing::ValuesIn(kOfWarp),
                         nameOf);
INSTANTIATE_TEST_SUITE_P(Lane, UnderCondition, testing::ValuesIn(kOfLane),
                         nameOf);

//===----------------------------------------------------------------------===//
// Where
//===----------------------------------------------------------------------===//

TEST(Uniform, EveryCollectiveRowIsHeldToIt) {
#define KVC_PTX_OP(NAME, SM, KIND, CONSTRAINTS, ASM) Ptx::NAME,
  for (Ptx row : {
#include "lib/base/Simt/Ops.def"
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
    expect(errors, collective
                       ? refusal(infoOf(row).name.data(), Divergence::Divergent)
                       : "");
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
         refusal("WarpSync", Divergence::Divergent));
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
         refusal("WarpSync", Divergence::Divergent));
}

/// A loop of `before` and `next` until the value that it carries is `stop`.
Value loopUntil(Kit &kit, Value start, Value stop,
                llvm::function_ref<void()> before,
                llvm::function_ref<Value(Value)> next) {
  return mlir::scf::WhileOp::create(
             kit.b, kit.kernel, mlir::TypeRange(kit.i32()), ValueRange(start),
             [&](mlir::OpBuilder &, mlir::Location loc, ValueRange carried) {
               before();
               Value more = kit.cmp(CmpIPredicate::ne, carried[0], stop);
               mlir::scf::ConditionOp::create(kit.b, loc, more, carried);
             },
             [&](mlir::OpBuilder &, mlir::Location loc, ValueRange carried) {
               mlir::scf::YieldOp::create(kit.b, loc, next(carried[0]));
             })
      .getResult(0);
}

TEST(Uniform, WhileLoops) {
  auto sync = [](Kit &kit) { kit.op(Ptx::WarpSync, {}); };
  auto errors = [&](bool inBefore, bool startsByLane, bool goesOnByLane) {
    return errorsOf([&](Kit &kit, Value, Value number) {
      Value own = lane(kit);
      loopUntil(
          kit, startsByLane ? own : number, kit.i32(0),
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
    std::string refused = refusal("WarpSync", Divergence::Divergent);
    expect(errors(inBefore, true, false), refused);
    expect(errors(inBefore, false, true), refused);
  }
}

TEST(Uniform, WhatTheSecondRegionOfAWhileLoopGets) {
  auto errors = [&](bool ofLane) {
    return errorsOf([&](Kit &kit, Value, Value number) {
      Value handed = ofLane ? lane(kit) : number;
      mlir::scf::WhileOp::create(
          kit.b, kit.kernel, mlir::TypeRange(kit.i32()), ValueRange(number),
          [&](mlir::OpBuilder &, mlir::Location loc, ValueRange carried) {
            mlir::scf::ConditionOp::create(kit.b, loc, isZero(kit, carried[0]),
                                           ValueRange(handed));
          },
          [&](mlir::OpBuilder &, mlir::Location loc, ValueRange got) {
            kit.when(isZero(kit, got[0]), [&] { kit.op(Ptx::WarpSync, {}); });
            mlir::scf::YieldOp::create(kit.b, loc, number);
          });
    });
  };
  expect(errors(false), "");
  expect(errors(true), refusal("WarpSync", Divergence::Divergent));
}

// What it carries differs by nothing but when a lane is through.
TEST(Uniform, WhatAWhileLoopEndsWith) {
  auto errors = [&](bool byLane) {
    return errorsOf([&](Kit &kit, Value, Value number) {
      Value stop = byLane ? lane(kit) : number;
      Value left = loopUntil(
          kit, kit.i32(0), stop, [] {}, [&](Value x) { return kit.add(x, 1); });
      kit.when(isZero(kit, left), [&] { kit.op(Ptx::WarpSync, {}); });
    });
  };
  expect(errors(false), "");
  expect(errors(true), refusal("WarpSync", Divergence::Divergent));
}

//===----------------------------------------------------------------------===//
// Messages
//===----------------------------------------------------------------------===//

TEST(Uniform, TheErrorNamesWhatTheConditionDependsOn) {
  EXPECT_EQ(errorsOf([](Kit &kit, Value, Value number) {
              Value x = kit.add(kit.mul(lane(kit), number), 3);
              kit.when(isZero(kit, x), [&] { kit.op(Ptx::WarpSync, {}); });
            }),
            refusal("WarpSync", Divergence::Divergent) +
                "\nit depends on this `TidX`");
  EXPECT_EQ(errorsOf([](Kit &kit, Value memory, Value) {
              Value x = kit.load(kit.i32(), memory, 4);
              kit.when(isZero(kit, x),
                       [&] { kit.op(Ptx::BarSync, {}, {0, 128}); });
            }),
            refusal("BarSync", Divergence::WarpUniform) +
                "\nit depends on this load");
  // Not what only passes it on.
  EXPECT_EQ(errorsOf([](Kit &kit, Value, Value) {
              Value x = kit.op1(Ptx::ShflBfly, lane(kit), 1);
              kit.when(isZero(kit, x), [&] { kit.op(Ptx::WarpSync, {}); });
            }),
            refusal("WarpSync", Divergence::Divergent) +
                "\nit depends on this `TidX`");
  // Through what a loop carries.
  EXPECT_EQ(errorsOf([](Kit &kit, Value, Value number) {
              Value x = kit.loop(kit.i32(0), number, kit.i32(1), {number},
                                 [&](Value, ValueRange carried) {
                                   Value y = kit.op1(Ptx::MovMatrix, number);
                                   return Kit::Values{kit.add(carried[0], y)};
                                 })[0];
              kit.when(isZero(kit, x), [&] { kit.op(Ptx::WarpSync, {}); });
            }),
            refusal("WarpSync", Divergence::Divergent) +
                "\nit depends on this `MovMatrix`");
}

TEST(Uniform, BranchesAreRefused) {
  KitModule module;
  module.kernel("k", [](Kit &kit, Value, Value number) {
    kit.when(isZero(kit, kit.truncI32(number)),
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
    Value x = kit.loadReadOnly(kit.i32(), memory, 4);
    kit.when(isZero(kit, x), [&] { kit.op(Ptx::WarpSync, {}); });
  });
  for (auto function : module.module->getOps<mlir::LLVM::LLVMFuncOp>())
    function->removeAttr("kvc.kernel");
  EXPECT_TRUE(failed(verifyUniform(*module.module)));
  expect(module.errors, refusal("WarpSync", Divergence::Divergent));
}

} // namespace
