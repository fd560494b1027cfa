//===- LoopsTest.cpp - loops of PTX and SASS, and occupancy ---------------===//
#include "codegen/nvptx/Loops.h"
#include "codegen/nvptx/Backend.h"
#include "codegen/nvptx/Report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace kvc;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

namespace {

/// As LLVM prints it: an outer loop, in it a loop that multiplies and one that
/// waits, and a kernel beside it.
constexpr const char *kPtx = R"(
.visible .entry other(
	.param .align 8 .b8 other_param_0[8]
)
{
$L__BB0_1:
	add.s32 	%r1, %r1, 1;
	bra.uni 	$L__BB0_1;
}
.visible .entry kernel(
	.param .align 8 .b8 kernel_param_0[8]
)
.reqntid 128, 1, 1
{
	.reg .pred 	%p<3>;
	mov.b32 	%r1, 0;
$L__BB1_1:
	ld.global.nc.v4.b32 	{%r2, %r3, %r4, %r5}, [%rd1];
$L__BB1_2:
	// begin inline asm
	mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%r1, %r2, %r3, %r4}, {%r5, %r6, %r7, %r8}, {%r9, %r10}, {%r1, %r2, %r3, %r4};
	// end inline asm
	{ .reg .b16 h; cvt.u16.u32 h, %r1; st.shared.b16 [%r0+16], h; }
	mul.rn.f32 	%r2, %r2, %r3; // a comment; with a semicolon
	ex2.approx.ftz.f32 	%r2, %r2;
	mov.b32 	%r3, %r2;
	cp.async.wait_group 1;
	@%p1 bra 	$L__BB1_2;
	{ .reg .pred p; L$5: mbarrier.try_wait.parity.shared.b64 p, [%r0], %r1; @!p bra L$5; }
	@%p2 bra 	$L__BB1_1;
	ret;
}
)";

TEST(PtxLoops, CountsWhatEachLoopIssues) {
  std::vector<Loop> loops = ptxLoops(kPtx, "kernel");
  ASSERT_THAT(loops, SizeIs(3));
  EXPECT_EQ(loops[0].place, "$L__BB1_1..L$5");
  EXPECT_EQ(loops[1].place, "$L__BB1_2");
  // mma, smem, gmem, shfl, ex2, cvt, fp, int, control, mov.
  EXPECT_THAT(loops[1].counts, ElementsAre(1, 1, 0, 0, 1, 1, 1, 0, 2, 1));
  EXPECT_EQ(loops[1].instructions(), 7u) << "copies are not counted";
  EXPECT_THAT(loops[0].counts, ElementsAre(1, 1, 1, 0, 1, 1, 1, 0, 5, 1));
  EXPECT_THAT(loops[2].counts, ElementsAre(0, 0, 0, 0, 0, 0, 0, 0, 2, 0));
}

TEST(PtxLoops, TheMainLoopMultiplies) {
  std::vector<Loop> loops = ptxLoops(kPtx, "kernel");
  EXPECT_EQ(mainLoop(loops), &loops[1]);
  std::vector<Loop> other = ptxLoops(kPtx, "other");
  ASSERT_THAT(other, SizeIs(1));
  EXPECT_EQ(mainLoop(other), &other[0]);
  EXPECT_EQ(mainLoop({}), nullptr);
  EXPECT_THAT(ptxLoops(kPtx, "kern"), IsEmpty());
  EXPECT_THAT(ptxLoops("", "kernel"), IsEmpty());
}

TEST(PtxLoops, WithoutProductsTheLongestInnerLoopIsTheMainOne) {
  auto loop = [](size_t first, size_t last, unsigned work) {
    Loop result;
    result.first = first;
    result.last = last;
    result.counts[size_t(Work::Float)] = work;
    return result;
  };
  // Around one that works; around one that only waits; short.
  std::vector<Loop> loops{loop(0, 99, 99), loop(10, 40, 30), loop(50, 90, 40),
                          loop(60, 63, 3)};
  loops[0].hasLoops = true;
  EXPECT_EQ(mainLoop(loops), &loops[2]);
  // Around the first, a round has exponentials of what other lanes made; so has
  // one around all, and a merge behind them no shuffle.
  Loop softmax = loop(5, 45, 40), all = loop(0, 200, 150),
       merge = loop(100, 190, 90);
  softmax.counts[size_t(Work::Special)] = 8;
  softmax.counts[size_t(Work::Shuffle)] = 4;
  merge.counts[size_t(Work::Special)] = 8;
  all.counts[size_t(Work::Special)] = 16;
  all.counts[size_t(Work::Shuffle)] = 4;
  loops = {all, softmax, loop(10, 40, 30), merge};
  EXPECT_EQ(mainLoop(loops), &loops[1]);
}

constexpr const char *kSass = R"(
	.target	sm_90a
.text.kernel:
        .type           kernel,@function
.L_x_1:
        /*0000*/                   LDG.E.128 R4, desc[UR4][R2.64] ;
.L_x_2:
        /*0010*/                   HMMA.16816.F32.BF16 R4, R8, R12, R4 ;
        /*0020*/              @!P0 MUFU.EX2 R4, R4 ;
        /*0030*/              @!UP0 UMOV UR4, UR5 ;
        /*0040*/               @P0 BRA `(.L_x_2) ;
        /*0050*/                   LDGDEPBAR ;
        /*0060*/               @P1 BRA `(.L_x_1) ;
        /*0070*/                   EXIT ;
.L_x_3:
        /*0080*/                   BRA `(.L_x_3);
.text.other:
        /*0000*/                   EXIT ;
)";

TEST(SassLoops, CountsWhatEachLoopIssues) {
  auto all = sassLoops(kSass);
  ASSERT_EQ(all.size(), 2u);
  EXPECT_THAT(all["other"], IsEmpty());
  std::vector<Loop> loops = all["kernel"];
  ASSERT_THAT(loops, SizeIs(2)) << "what fills the end is no loop";
  EXPECT_EQ(loops[0].place, "0x0..0x60");
  EXPECT_EQ(loops[1].place, "0x10..0x40");
  EXPECT_THAT(loops[0].counts, ElementsAre(1, 0, 1, 0, 1, 0, 0, 1, 3, 0));
  EXPECT_THAT(loops[1].counts, ElementsAre(1, 0, 0, 0, 1, 0, 0, 1, 1, 0));
  EXPECT_EQ(mainLoop(loops), &loops[1]);
}

//===----------------------------------------------------------------------===//
// Occupancy
//===----------------------------------------------------------------------===//

artifact::KernelInfo kernelOf(uint32_t registers, uint32_t threads,
                              uint32_t shared) {
  artifact::KernelInfo kernel;
  kernel.target = "sm_80";
  kernel.registers = registers;
  kernel.threads = threads;
  kernel.sharedBytes = shared;
  return kernel;
}

void expectOccupancy(const artifact::KernelInfo &kernel, unsigned ctas,
                     const std::string &limit) {
  std::optional<Occupancy> held = occupancyOf(kernel);
  ASSERT_TRUE(held);
  EXPECT_EQ(held->ctas, ctas);
  EXPECT_EQ(held->limit, limit);
}

TEST(Occupancy, IsWhatRunsOutFirst) {
  expectOccupancy(kernelOf(128, 128, 0), 4, "registers");
  expectOccupancy(kernelOf(129, 128, 0), 3, "registers");
  expectOccupancy(kernelOf(81, 64, 0), 11, "registers"); // taken by eight
  // 164 KB of an SM, of which every CTA takes 1 KB more than it asks for.
  expectOccupancy(kernelOf(32, 128, 81 * 1024), 2, "shared memory");
  expectOccupancy(kernelOf(32, 128, 81 * 1024 + 1), 1, "shared memory");
  expectOccupancy(kernelOf(32, 1024, 0), 2, "registers");
  expectOccupancy(kernelOf(16, 1024, 0), 2, "threads");
  expectOccupancy(kernelOf(16, 32, 0), 32, "CTAs");
  artifact::KernelInfo ada = kernelOf(16, 1024, 0);
  ada.target = "sm_89";
  expectOccupancy(ada, 1, "threads");
}

TEST(Occupancy, IsNotGuessed) {
  EXPECT_FALSE(occupancyOf(kernelOf(0, 128, 0)));
  EXPECT_FALSE(occupancyOf(kernelOf(32, 0, 0)));
  artifact::KernelInfo unknown = kernelOf(32, 128, 0);
  unknown.target = "sm_42";
  EXPECT_FALSE(occupancyOf(unknown));
}

TEST(Spills, AreWhatTheRemarksSay) {
  artifact::KernelInfo kernel = kernelOf(255, 128, 0);
  kernel.name = "main.attend.decode";
  Spills spills{4, 12, 8};
  std::vector<std::string> remarks{spillRemark(kernel, spills)};
  EXPECT_THAT(remarks[0],
              HasSubstr("4 bytes of spill stores, 12 bytes of spill loads"));
  EXPECT_EQ(spillsOf(kernel, remarks), spills);
  EXPECT_EQ(spillsOf(kernel, {}), Spills());
  artifact::KernelInfo other = kernel;
  other.target = "sm_90a";
  EXPECT_EQ(spillsOf(other, remarks), Spills());
}

TEST(Assembler, SaysItsVersion) {
  // Part of the cache's key.
  EXPECT_THAT(nvptx::assemblerName(),
              testing::MatchesRegex("|ptxas V[0-9.]+|nvJitLink [0-9.]+"));
}

} // namespace
