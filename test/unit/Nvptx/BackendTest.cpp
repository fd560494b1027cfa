//===- BackendTest.cpp - PTX, assemblers and emulated kernels -------------===//
#include "test/unit/Nvptx/KitModule.h"

#include "codegen/cpu/Backend.h"
#include "lib/base/Artifact/ElfImage.h"
#include "lib/base/Simt/Machine.h"

#include "llvm/IR/LLVMContext.h"
#include "llvm/IR/Module.h"

#include "gmock/gmock.h"

#include <bit>
#include <cmath>

using namespace kvc;
using namespace kvc::nvptx;
using mlir::Value;
using mlir::ValueRange;
using testing::HasSubstr;
using testing::Not;

namespace {

SmTarget sm90() { return *findSmTarget("sm_90"); }

std::string ptxOf(KitModule::Body body, LaunchInfo launch = {96, 0}) {
  KitModule module;
  module.kernel("k", body, launch);
  module.lower();
  std::string ptx = emitPtx(*module.module, sm90(), module.launches);
  EXPECT_EQ(module.errors, "");
  return ptx;
}

Value own(Kit &kit, Value memory) {
  return kit.ptr(memory, kit.mul(kit.threadId(), 4));
}

//===----------------------------------------------------------------------===//
// PTX
//===----------------------------------------------------------------------===//

TEST(Ptx, DeclaresKernelsAsTheyAreLaunched) {
  std::string ptx = ptxOf([](Kit &kit, Value memory, Value number) {
    kit.store(number, memory, 8);
  });
  EXPECT_THAT(ptx, HasSubstr(".version 8.0\n"));
  EXPECT_THAT(ptx, HasSubstr(".target sm_90\n"));
  EXPECT_THAT(ptx, HasSubstr(".visible .entry kvc_k("));
  EXPECT_THAT(ptx, HasSubstr(".reqntid 96, 1, 1\n"));
  // Declared, not defined: its size is the launch's.
  EXPECT_THAT(ptx, HasSubstr(".extern .shared .align 1024 .b8 kvc_smem[];\n"));
  // Parameters are read where they are.
  EXPECT_THAT(ptx, HasSubstr(".param .align 8 .b8 kvc_k_param_0[16]\n"));
  EXPECT_THAT(ptx, HasSubstr("[kvc_k_param_0+8];"));
  EXPECT_THAT(ptx, Not(HasSubstr(".local")));
  EXPECT_THAT(ptx, Not(HasSubstr("cvta")));
}

TEST(Ptx, DoesAsManyRoundingsAsItIsTold) {
  std::string ptx = ptxOf([](Kit &kit, Value memory, Value) {
    Value at = own(kit, memory);
    auto load = [&](int64_t offset) {
      return kit.load(kit.f32(), kit.ptr(at, offset), 4);
    };
    Value product = kit.fmul(load(0), load(1024));
    Value difference = kit.fsub(product, load(2048));
    kit.store(kit.fadd(product, load(4096)), at, 4);
    kit.store(
        mlir::arith::DivFOp::create(kit.b, kit.kernel, difference, load(8192)),
        kit.ptr(at, 1024), 4);
    Value wide = kit.load(kit.vec(4, kit.f32()), memory, 16);
    kit.store(kit.fadd(kit.fmul(wide, wide), wide), kit.ptr(memory, 4096), 16);
  });
  EXPECT_THAT(ptx, HasSubstr("mul.rn.f32"));
  EXPECT_THAT(ptx, HasSubstr("add.rn.f32"));
  EXPECT_THAT(ptx, HasSubstr("sub.rn.f32"));
  EXPECT_THAT(ptx, HasSubstr("div.rn.f32"));
  EXPECT_THAT(ptx, Not(HasSubstr("fma")));
  // Without .rn the assembler would be free to fuse.
  for (const char *free : {"mul.f32", "add.f32", "sub.f32", ".ftz", ".approx"})
    EXPECT_THAT(ptx, Not(HasSubstr(free)));
  EXPECT_THAT(ptxOf([](Kit &kit, Value memory, Value) {
                Value x = kit.load(kit.f32(), memory, 4);
                kit.store(kit.fma(x, x, x), memory, 4);
              }),
              HasSubstr("fma.rn.f32"));
}

TEST(Ptx, RefusesCallsAndForeignAssembly) {
  KitModule calls;
  calls.kernel("k", [](Kit &kit, Value memory, Value) {
    auto type = mlir::LLVM::LLVMFunctionType::get(
        mlir::LLVM::LLVMVoidType::get(kit.b.getContext()), {kit.global()});
    mlir::OpBuilder::InsertionGuard guard(kit.b);
    auto module = memory.getParentRegion()->getParentOfType<mlir::ModuleOp>();
    kit.b.setInsertionPointToStart(module.getBody());
    auto callee =
        mlir::LLVM::LLVMFuncOp::create(kit.b, kit.kernel, "elsewhere", type);
    kit.b.setInsertionPointAfterValue(memory);
    mlir::LLVM::CallOp::create(kit.b, kit.kernel, callee, memory);
  });
  calls.lower();
  EXPECT_EQ(emitPtx(*calls.module, sm90(), calls.launches), "");
  EXPECT_EQ(calls.errors, "a GPU kernel calls a function");

  KitModule foreign;
  foreign.kernel("k", [](Kit &kit, Value memory, Value) {
    Value x = kit.op1(Ptx::Ex2, kit.load(kit.f32(), memory, 4));
    x.getDefiningOp()->setAttr("kvc.op", kit.b.getStringAttr("Ex3"));
  });
  foreign.lower();
  EXPECT_EQ(emitPtx(*foreign.module, sm90(), foreign.launches), "");
  EXPECT_EQ(foreign.errors, "assembly that is no row of lib/base/Simt/Ops.def");
}

//===----------------------------------------------------------------------===//
// Assemblers
//===----------------------------------------------------------------------===//

class ByAssembler : public testing::TestWithParam<Assembler> {
protected:
  std::optional<Cubin> assemble(const std::string &ptx) {
    error.clear();
    return nvptx::assemble(ptx, target, error, GetParam());
  }
  void SetUp() override {
    auto cubin = assemble(ptxOf([](Kit &, Value, Value) {}));
    if (!cubin) {
      EXPECT_THAT(error, HasSubstr("there is no assembler here"));
      EXPECT_THAT(assemblerName(),
                  Not(HasSubstr(GetParam() == Assembler::Ptxas ? "ptxas"
                                                               : "nvJitLink")));
      GTEST_SKIP() << error;
    }
  }
  SmTarget target = sm90();
  std::string error;
};

TEST_P(ByAssembler, SaysWhatDoesNotFitIntoRegisters) {
  std::string ptx = ptxOf([](Kit &kit, Value memory, Value) {
    Kit::Values loaded;
    for (int64_t i = 0; i < 64; ++i)
      loaded.push_back(kit.load(kit.i32(), kit.ptr(memory, 4 * i), 4));
    // Perhaps to where the next value is loaded from.
    Value to = kit.load(kit.global(), memory, 8);
    for (int64_t i = 0; i < 64; ++i)
      kit.store(loaded[63 - i], kit.ptr(to, 4 * i), 4);
  });
  std::optional<Cubin> roomy = assemble(ptx);
  ASSERT_TRUE(roomy) << error;
  AssemblerReport report = roomy->kernels.lookup("kvc_k");
  EXPECT_GT(report.registers, 64u);
  EXPECT_EQ(report.spillStores + report.spillLoads + report.stack, 0u);

  std::string launch = ".reqntid 96, 1, 1";
  ptx.replace(ptx.find(launch), launch.size(), launch + "\n.maxnreg 24");
  std::optional<Cubin> tight = assemble(ptx);
  ASSERT_TRUE(tight) << error;
  report = tight->kernels.lookup("kvc_k");
  EXPECT_LE(report.registers, 24u);
  EXPECT_GT(report.spillStores, 100u);
  EXPECT_GT(report.spillLoads, 100u);
  EXPECT_GT(report.stack, 100u);
}

TEST_P(ByAssembler, SaysWhyItRefuses) {
  std::string ptx = ptxOf([](Kit &kit, Value memory, Value) {
    kit.store(kit.op1(Ptx::TidX, {}), memory, 4);
  });
  ptx.replace(ptx.find("%tid.x"), 6, "%tid.q");
  EXPECT_FALSE(assemble(ptx));
  EXPECT_THAT(error, HasSubstr("refuses the PTX"));
  EXPECT_THAT(error, HasSubstr("'q'"));
}

// Lanes 0 to 6 jump over what the whole warpgroup does, which is of those
// instructions that need the letter.
TEST_P(ByAssembler, RefusesWhatCouldNotBeOverlapped) {
  target.name = "sm_90a";
  std::string multiply = "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 "
                         "{%f1, %f2, %f3, %f4}, %rd2, %rd2, 1, 1, 1, 0, 0;\n";
  auto kernel = [&](const std::string &jump) {
    return ".version 8.0\n.target sm_90a\n.address_size 64\n"
           ".visible .entry k(.param .u64 p)\n.reqntid 128, 1, 1\n{\n"
           ".reg .pred %p;\n.reg .b32 %r1;\n.reg .b64 %rd<3>;\n"
           ".reg .f32 %f<5>;\n"
           "ld.param.u64 %rd1, [p];\nld.global.b64 %rd2, [%rd1];\n"
           "mov.f32 %f1, 0f00000000;\nmov.f32 %f2, 0f00000000;\n"
           "mov.f32 %f3, 0f00000000;\nmov.f32 %f4, 0f00000000;\n"
           "mov.u32 %r1, %tid.x;\nsetp.lt.u32 %p, %r1, 7;\n" +
           jump + "wgmma.fence.sync.aligned;\n" + multiply +
           "L:\nwgmma.commit_group.sync.aligned;\n"
           "wgmma.wait_group.sync.aligned 0;\n"
           "st.global.f32 [%rd1], %f1;\nret;\n}\n";
  };
  EXPECT_TRUE(assemble(kernel(""))) << error;
  EXPECT_FALSE(assemble(kernel("@%p bra L;\n")));
  EXPECT_THAT(error, HasSubstr("serialized"));
}

TEST_P(ByAssembler, RefusesGpusThatItDoesNotKnow) {
  std::string ptx = ptxOf([](Kit &, Value, Value) {});
  SmTarget none = sm90();
  none.name = "sm_93";
  EXPECT_FALSE(nvptx::assemble(ptx, none, error, GetParam()));
  EXPECT_NE(error, "");
}

INSTANTIATE_TEST_SUITE_P(Both, ByAssembler,
                         testing::Values(Assembler::JitLink, Assembler::Ptxas),
                         [](const testing::TestParamInfo<Assembler> &info) {
                           return info.param == Assembler::JitLink ? "JitLink"
                                                                   : "Ptxas";
                         });

//===----------------------------------------------------------------------===//
// Emulated kernels
//===----------------------------------------------------------------------===//

/// A kernel `k` for the emulator.
struct Emulated {
  Emulated(KitModule::Body body, LaunchInfo info) {
    launch.threads = uint32_t(info.threads), launch.shared = info.shared;
    module.kernel("k", body, info);
    module.lower();
    load();
  }
  void load() {
    std::string error = module.errors;
    std::vector<uint8_t> object;
    llvm::LLVMContext context;
    auto cpu = cpu::findCpuTarget("x86-64-v3");
    if (succeeded(lowerGpuToSim(*module.module, sites)))
      if (auto code = cpu::emitLlvm(*module.module, *cpu, context))
        object = cpu::emitObject(*code, *cpu, error);
    // It takes no object with undefined symbols.
    image = artifact::ElfImage::load(object, error);
    ASSERT_TRUE(image) << error << module.errors;
    launch.kernel = reinterpret_cast<simt::Kernel>(image->symbol("kvc_k"));
    launch.sites = sites;
    launch.name = "k";
  }
  /// The finding, "" if there is none.
  std::string run(std::vector<uint32_t> &memory, uint32_t grid = 1) {
    simt::Machine machine(1);
    machine.allow(memory.data(), memory.size() * 4, /*writable=*/true);
    KitParams params{memory.data(), int64_t(memory.size())};
    launch.params = &params, launch.grid = grid;
    std::string finding;
    EXPECT_EQ(machine.launch(launch, finding), finding.empty());
    return finding;
  }
  KitModule module;
  std::vector<std::string> sites;
  std::unique_ptr<artifact::ElfImage> image;
  simt::Launch launch;
};

TEST(Sim, EveryRowCompiles) {
  KitModule module;
#define KVC_PTX_OP(NAME, SM, KIND, CONSTRAINTS, ASM) Ptx::NAME,
  for (Ptx row : {
#include "lib/base/Simt/Ops.def"
       })
#undef KVC_PTX_OP
    module.kernel(infoOf(row).name, [&](Kit &kit, Value memory, Value) {
      Kit::Values operands;
      llvm::SmallVector<int64_t> constants;
      llvm::SmallVector<llvm::StringRef> constraints;
      infoOf(row).constraints.split(constraints, ',', -1, false);
      for (llvm::StringRef constraint : constraints)
        if (constraint == "n")
          constants.push_back(1);
        else if (!constraint.starts_with("="))
          operands.push_back(constraint == "l"   ? memory
                             : constraint == "f" ? kit.f32(1)
                                                 : kit.i32(0));
      for (Value result : kit.op(row, operands, constants))
        kit.store(result, memory, 4);
    });
  module.lower();
  std::vector<std::string> sites;
  ASSERT_TRUE(succeeded(lowerGpuToSim(*module.module, sites)));
  llvm::LLVMContext context;
  auto cpu = cpu::findCpuTarget("x86-64-v3");
  auto code = cpu::emitLlvm(*module.module, *cpu, context);
  ASSERT_TRUE(code) << module.errors;
  std::string error;
  auto image =
      artifact::ElfImage::load(cpu::emitObject(*code, *cpu, error), error);
  ASSERT_TRUE(image) << error;
#define KVC_PTX_OP(NAME, SM, KIND, CONSTRAINTS, ASM)                           \
  EXPECT_TRUE(image->symbol("kvc_" #NAME));                                    \
  EXPECT_THAT(sites, testing::Contains(testing::MatchesRegex(                  \
                         #NAME " BackendTest\\.cpp:[0-9]+")));
#include "lib/base/Simt/Ops.def"
#undef KVC_PTX_OP
}

/// As a softcap needs it: logits far below the cap must keep their digits.
TEST(Sim, TanhKeepsItsDigits) {
  constexpr uint32_t kThreads = 32;
  Emulated kernel(
      [](Kit &kit, Value memory, Value number) {
        Value count = kit.div(kit.truncI32(number), kThreads);
        kit.loop(kit.i32(0), count, kit.i32(1), [&](Value round) {
          Value index = kit.add(kit.mul(round, kThreads), kit.threadId());
          Value at = kit.ptr(memory, kit.mul(index, 4));
          kit.store(kit.tanh(kit.load(kit.f32(), at, 4)), at, 4);
        });
      },
      {kThreads, 0});
  // Every exponent and sign, and of its significands every 2^17th.
  std::vector<uint32_t> memory;
  for (uint32_t bits = 0; bits < 0x80000000; bits += 0x1ffff)
    for (uint32_t sign : {0u, 0x80000000u})
      memory.push_back(bits | sign);
  memory.resize(memory.size() / kThreads * kThreads);
  std::vector<uint32_t> given = memory;
  ASSERT_EQ(kernel.run(memory), "");
  for (size_t i = 0; i < memory.size(); ++i) {
    float x = std::bit_cast<float>(given[i]);
    float found = std::bit_cast<float>(memory[i]);
    double expected = std::tanh(double(x));
    if (std::isnan(x))
      ASSERT_TRUE(std::isnan(found)) << given[i];
    else
      ASSERT_NEAR(found, expected,
                  std::max(0x1p-22 * std::fabs(expected), 0x1p-150))
          << given[i];
    ASSERT_TRUE(found * x >= 0 || std::isnan(x)) << given[i];
  }
}

TEST(Sim, OperandsAndResultsFindTheirPlaces) {
  constexpr uint32_t kThreads = 64;
  Emulated kernel(
      [](Kit &kit, Value memory, Value) {
        Value thread = kit.threadId(), at = own(kit, memory);
        Value x = kit.load(kit.i32(), at, 4);
        auto put = [&](int64_t row, Value value) {
          kit.store(value, kit.ptr(at, row * kThreads * 4), 4);
        };
        put(1, kit.op1(Ptx::ShflBfly, x, 5));
        put(2, kit.op1(Ptx::ShflIdx, {x, kit.rem(thread, 7)}));
        put(3, kit.op1(Ptx::Prmt, {x, thread, kit.i32(0x4012)}));
        put(4, kit.op1(Ptx::Ballot, kit.and_(x, 1)));
        put(5, kit.op1(Ptx::CvtF16x2, {kit.f32(1), kit.f32(-2)}));
        // Words change places between the warps.
        Shared to{kit.add(kit.op1(Ptx::SmemBase, {}), kit.mul(thread, 16)), 32};
        kit.op(Ptx::Sts128, {to.base, x, thread, kit.i32(7), kit.i32(9)}, 32);
        kit.op(Ptx::BarSync, {}, {0, kThreads});
        Value other = kit.mul(kit.xor_(thread, kit.i32(32)), 16);
        Kit::Values words =
            kit.op(Ptx::Lds128, kit.add(kit.op1(Ptx::SmemBase, {}), other), 32);
        for (auto [i, word] : llvm::enumerate(words))
          put(6 + i, word);
        put(10, kit.op1(Ptx::AtomAddAcqRel,
                        {kit.ptr(memory, 11 * kThreads * 4), kit.i32(3)}));
        kit.op(Ptx::BarSync, {}, {0, kThreads});
        // All 64 bits of a pointer count.
        kit.op(Ptx::CpAsync4, {to.base, at}, {32, 0});
        kit.op(Ptx::CpAsyncCommit, {});
        kit.op(Ptx::CpAsyncWait, {}, 0);
        put(12, kit.loadShared(kit.i32(), to));
      },
      {kThreads, 32 + 16 * kThreads});
  std::vector<uint32_t> memory(13 * kThreads);
  for (uint32_t i = 0; i < kThreads; ++i)
    memory[i] = 0x9e3779b9 * (i + 1);
  std::vector<uint32_t> x(memory.begin(), memory.begin() + kThreads);
  ASSERT_EQ(kernel.run(memory), "");
  std::vector<uint32_t> olds;
  for (uint32_t t = 0; t < kThreads; ++t) {
    SCOPED_TRACE(t);
    auto got = [&](uint32_t row) { return memory[row * kThreads + t]; };
    uint32_t ballot = 0;
    for (uint32_t lane = 0; lane < 32; ++lane)
      ballot |= (x[t / 32 * 32 + lane] & 1) << lane;
    EXPECT_EQ(got(1), x[t ^ 5]);
    EXPECT_EQ(got(2), x[t / 32 * 32 + t % 7]);
    EXPECT_EQ(got(3), (t & 0xff) << 24 | (x[t] & 0xff) << 16 | (x[t] & 0xff00) |
                          (x[t] >> 16 & 0xff));
    EXPECT_EQ(got(4), ballot);
    EXPECT_EQ(got(5), 0x3c00c000u);
    EXPECT_EQ(got(6), x[t ^ 32]);
    EXPECT_EQ(got(7), t ^ 32);
    EXPECT_EQ(got(8), 7u);
    EXPECT_EQ(got(9), 9u);
    EXPECT_EQ(got(12), x[t]);
    olds.push_back(got(10));
  }
  std::sort(olds.begin(), olds.end());
  for (uint32_t t = 0; t < kThreads; ++t)
    EXPECT_EQ(olds[t], 3 * t);
}

// The host has an instruction for x * y + z; a GPU kernel that does not ask for
// it must not get it there either.
TEST(Sim, RoundsAsPtxDoes) {
  Emulated kernel(
      [](Kit &kit, Value memory, Value) {
        auto load = [&](int64_t i) {
          return kit.load(kit.f32(), kit.ptr(memory, 4 * i), 4);
        };
        Value x = load(0), y = load(1), z = load(2);
        Value first =
            kit.cmp(mlir::arith::CmpIPredicate::eq, kit.threadId(), kit.i32(0));
        kit.when(first, [&] {
          kit.store(kit.fadd(kit.fmul(x, y), z), kit.ptr(memory, 12), 4);
          kit.store(kit.fma(x, y, z), kit.ptr(memory, 16), 4);
        });
      },
      {32, 0});
  float x = 1 + 0x1p-12f, z = -1 - 0x1p-11f;
  std::vector<uint32_t> memory{std::bit_cast<uint32_t>(x),
                               std::bit_cast<uint32_t>(x),
                               std::bit_cast<uint32_t>(z), 1, 1};
  ASSERT_EQ(kernel.run(memory), "");
  EXPECT_EQ(std::bit_cast<float>(memory[3]), 0);
  EXPECT_EQ(std::bit_cast<float>(memory[4]), 0x1p-24f);
}

TEST(Sim, FindingsNameTheLine) {
  unsigned line = 0;
  Emulated kernel(
      [&](Kit &kit, Value memory, Value number) {
        Value beyond = kit.ptr(memory, kit.mul(number, 4));
        line = __LINE__ + 1;
        kit.store(kit.i32(1), beyond, 4);
      },
      {32, 0});
  std::vector<uint32_t> memory(64);
  EXPECT_THAT(kernel.run(memory),
              HasSubstr("store BackendTest.cpp:" + std::to_string(line)));
}

TEST(Sim, LoadsAndStoresAreCheckedInFull) {
  for (unsigned vectorWords : {1, 2, 4})
    for (bool isStore : {false, true}) {
      Emulated kernel(
          [&](Kit &kit, Value memory, Value number) {
            auto type = kit.vec(vectorWords, kit.i32());
            // The last word is beyond.
            Value at = kit.ptr(memory, kit.mul(number, 4));
            at = kit.ptr(at, -4 * (int64_t(vectorWords) - 1));
            if (isStore)
              kit.store(kit.splat(kit.i32(0), vectorWords), at, 4);
            else
              kit.store(kit.extract(kit.load(type, at, 4), 0), memory, 4);
          },
          {32, 0});
      std::vector<uint32_t> memory(64);
      EXPECT_THAT(kernel.run(memory),
                  HasSubstr(isStore ? "store BackendTest.cpp:"
                                    : "load BackendTest.cpp:"));
    }
}

TEST(Sim, RefusesWhatItCannotEmulate) {
  auto errorsOf = [](llvm::function_ref<void(Kit &, Value)> body) {
    KitModule module;
    module.kernel("k",
                  [&](Kit &kit, Value memory, Value) { body(kit, memory); });
    module.lower();
    std::vector<std::string> sites;
    EXPECT_TRUE(failed(lowerGpuToSim(*module.module, sites)));
    return module.errors;
  };
  EXPECT_EQ(
      errorsOf([](Kit &kit, Value) {
        Value x = kit.op1(Ptx::TidX, {});
        x.getDefiningOp()->removeAttr("kvc.op");
      }),
      "assembly that is no row of lib/base/Simt/Ops.def cannot be emulated");
  std::string other =
      "cannot be emulated: it is no row of lib/base/Simt/Ops.def";
  EXPECT_EQ(errorsOf([](Kit &kit, Value memory) {
              mlir::LLVM::AtomicRMWOp::create(
                  kit.b, kit.kernel, mlir::LLVM::AtomicBinOp::add, memory,
                  kit.i32(1), mlir::LLVM::AtomicOrdering::monotonic);
            }),
            other);
  EXPECT_EQ(errorsOf([](Kit &kit, Value) {
              mlir::LLVM::FenceOp::create(kit.b, kit.kernel,
                                          mlir::LLVM::AtomicOrdering::seq_cst);
            }),
            other);
  EXPECT_EQ(errorsOf([](Kit &kit, Value) {
              mlir::LLVM::CallIntrinsicOp::create(
                  kit.b, kit.kernel, kit.i32(),
                  kit.b.getStringAttr("llvm.nvvm.read.ptx.sreg.laneid"),
                  ValueRange());
            }),
            other);
}

} // namespace
