//===- CopiesTest.cpp - cp.async ------------------------------------------===//
#include "test/unit/Simt/Copies.h"

using namespace kvc::simt;
using testing::HasSubstr;

namespace {

class CpAsyncTest : public CopyTest {};

void commit(Gpu gpu) { gpu.op(KVC_OP_CpAsyncCommit); }
void wait(Gpu gpu, uint32_t keep) { gpu.op(KVC_OP_CpAsyncWait, {keep}); }

TEST_F(CpAsyncTest, CopiesEverySizeFromAndToOffsets) {
  ASSERT_EQ(runData([](Gpu gpu, Data &d) {
              if (gpu.tid() != 0)
                return;
              gpu.op(KVC_OP_CpAsync16, {kBase, d.from, 0, 64});
              gpu.op(KVC_OP_CpAsync8, {kBase, d.from + 6, 16, -16});
              gpu.op(KVC_OP_CpAsync4, {kBase + 28, d.from, -4, 12});
              commit(gpu);
              wait(gpu, 0);
              for (unsigned i = 0; i < 7; ++i)
                d.out[i] = gpu.lds(4 * i);
            }),
            "");
  uint32_t expected[] = {16, 17, 18, 19, 2, 3, 3};
  for (unsigned i = 0; i < 7; ++i)
    EXPECT_EQ(data.out[i], data.from[expected[i]]) << i;
}

TEST_F(CpAsyncTest, FillsWithZeros) {
  ASSERT_EQ(runData([](Gpu gpu, Data &d) {
              if (gpu.tid() != 0)
                return;
              gpu.op(KVC_OP_CpAsync16Zfill, {kBase, d.from, 12, 0, 0});
              gpu.op(KVC_OP_CpAsync16Zfill, {kBase, d.from, 5, 16, 0});
              gpu.op(KVC_OP_CpAsync8Zfill, {kBase, d.from, 8, 32, 0});
              gpu.op(KVC_OP_CpAsync4Zfill, {kBase, d.from, 2, 40, 4});
              commit(gpu);
              wait(gpu, 0);
              for (unsigned i = 0; i < 11; ++i)
                d.out[i] = gpu.lds(4 * i);
            }),
            "");
  const uint32_t *from = data.from;
  uint32_t expected[] = {from[0],         from[1], from[2], 0,       from[0],
                         from[1] & 255,   0,       0,       from[0], from[1],
                         from[1] & 0xffff};
  for (unsigned i = 0; i < 11; ++i)
    EXPECT_EQ(data.out[i], expected[i]) << i;
}

TEST_F(CpAsyncTest, OfNoBytesReadsNothing) {
  machine->allow(&data.out, sizeof(data.out), true);
  EXPECT_EQ(runData([](Gpu gpu, Data &d) {
              uint32_t at = kBase + gpu.lane() * 16;
              gpu.op(KVC_OP_CpAsync16Zfill, {at, nullptr, 0, 0, 0});
              gpu.op(KVC_OP_CpAsync8Zfill,
                     {at, uint64_t(0xdead0000dead0000), 0, 512, 0});
              commit(gpu);
              wait(gpu, 0);
              d.out[gpu.lane()] = gpu.op(KVC_OP_Lds32, {at, 12}) |
                                  gpu.op(KVC_OP_Lds32, {at, 512 + 4});
            }),
            "");
  for (unsigned lane = 0; lane < 32; ++lane)
    EXPECT_EQ(data.out[lane], 0u);
}

TEST_F(CpAsyncTest, GroupsEndInOrder) {
  EXPECT_EQ(runData([](Gpu gpu, Data &d) {
              uint32_t lane = gpu.lane(), at = lane * 16;
              for (unsigned i = 0; i < 4; ++i) {
                gpu.op(KVC_OP_CpAsync4,
                       {kBase + at + 4 * i, &d.from[4 * lane + i], 0, 0});
                commit(gpu);
                if (i == 2) { // the group before the last is there
                  wait(gpu, 1);
                  d.out[lane] = gpu.lds(at + 4);
                }
              }
              wait(gpu, 0);
              d.out[32 + lane] = gpu.lds(at + 12);
            }),
            "");
  for (unsigned lane = 0; lane < 32; ++lane) {
    EXPECT_EQ(data.out[lane], data.from[4 * lane + 1]);
    EXPECT_EQ(data.out[32 + lane], data.from[4 * lane + 3]);
  }
}

void copy(Gpu gpu, Data &d, Site site = Site::A) {
  uint32_t lane = gpu.lane();
  gpu.op(KVC_OP_CpAsync16, {kBase + 16 * lane, d.from + 4 * lane, 0, 0}, site);
}

TEST_F(CpAsyncTest, ReadWithoutAWait) {
  EXPECT_THAT(runData([](Gpu gpu, Data &d) {
                copy(gpu, d);
                commit(gpu);
                gpu.lds(16 * gpu.lane(), Site::B);
                wait(gpu, 0);
              }),
              HasSubstr("in `B`: reads shared memory at 0 while a copy to it "
                        "from `A` is under way"));
}

TEST_F(CpAsyncTest, WaitForOneGroupTooFew) {
  EXPECT_THAT(runData([](Gpu gpu, Data &d) {
                copy(gpu, d);
                commit(gpu);
                wait(gpu, 1);
                gpu.lds(16 * gpu.lane());
              }),
              HasSubstr("while a copy to it from `A` is under way"));
}

TEST_F(CpAsyncTest, WaitForCopiesThatAreInNoGroup) {
  EXPECT_THAT(runData([](Gpu gpu, Data &d) {
                copy(gpu, d);
                wait(gpu, 0);
                gpu.lds(16 * gpu.lane());
              }),
              HasSubstr("while a copy to it from `A` is under way"));
}

TEST_F(CpAsyncTest, WriteDuringACopy) {
  EXPECT_THAT(runData([](Gpu gpu, Data &d) {
                copy(gpu, d);
                commit(gpu);
                gpu.op(KVC_OP_StsU16, {kBase + 16 * gpu.lane(), 1, 6});
                wait(gpu, 0);
              }),
              HasSubstr("writes shared memory at 6 while a copy to it"));
}

TEST_F(CpAsyncTest, EndsDuringACopy) {
  EXPECT_THAT(runData([](Gpu gpu, Data &d) {
                copy(gpu, d);
                commit(gpu);
              }),
              HasSubstr("ends while its copy from `A` is under way"));
}

TEST_F(CpAsyncTest, OtherLanesReadAfterABarrierOnly) {
  EXPECT_THAT(runData([](Gpu gpu, Data &d) {
                copy(gpu, d);
                commit(gpu);
                wait(gpu, 0);
                gpu.op(KVC_OP_ShflBfly, {1, 1}); // meets, orders nothing
                gpu.lds(16 * gpu.lane() ^ 16, Site::B);
              }),
              HasSubstr("lane 31 in `B`: race: reads shared memory at 480, "
                        "written by warp 0 lane 30 in `A`"));
  EXPECT_EQ(runData([](Gpu gpu, Data &d) {
              copy(gpu, d);
              commit(gpu);
              wait(gpu, 0);
              gpu.warpSync();
              d.out[gpu.lane()] = gpu.lds(16 * gpu.lane() ^ 16);
            }),
            "");
  EXPECT_EQ(data.out[4], data.from[4 * 5]);
}

TEST_F(CpAsyncTest, ABarrierBeforeTheWaitOrdersNothing) {
  // Warp 1 reads before or after warp 0 waits.
  auto kernel = [](Gpu gpu, Data &d) {
    if (gpu.warp() == 0) {
      copy(gpu, d);
      commit(gpu);
    }
    gpu.barrier(64);
    wait(gpu, 0);
    if (gpu.warp() == 1)
      gpu.lds(16 * gpu.lane());
    gpu.barrier(64);
  };
  unsigned before = 0, after = 0;
  for (unsigned seed = 0; seed < 20; ++seed) {
    machine = std::make_unique<Machine>(seed);
    std::string finding = runData(kernel, 64);
    before += finding.find("while a copy to it from `A`") != finding.npos;
    after += finding.find("written by warp 0 lane 0 in `A`") != finding.npos;
  }
  EXPECT_EQ(before + after, 20u);
  EXPECT_GT(before, 2u);
  EXPECT_GT(after, 2u);
}

TEST_F(CpAsyncTest, BeginsWhileOthersRead) {
  EXPECT_THAT(runData(
                  [](Gpu gpu, Data &d) {
                    if (gpu.warp() == 0)
                      gpu.sts(16 * gpu.lane(), 1);
                    gpu.barrier(64);
                    if (gpu.warp() == 0)
                      gpu.lds(16 * gpu.lane(), Site::B);
                    gpu.barrier(32); // for itself only
                    if (gpu.warp() == 1) {
                      copy(gpu, d);
                      commit(gpu);
                      wait(gpu, 0);
                    } else {
                      gpu.lds(16 * gpu.lane(), Site::B);
                    }
                  },
                  64),
              testing::AnyOf(HasSubstr("race: writes shared memory at 0, read "
                                       "by warp 0 lane 0 in `B`"),
                             HasSubstr("race: reads shared memory at 0, "
                                       "written by warp 1 lane 0 in `A`"),
                             HasSubstr("reads shared memory at 0 while")));
}

TEST_F(CpAsyncTest, SourceWrittenDuringACopy) {
  EXPECT_THAT(runData([](Gpu gpu, Data &d) {
                copy(gpu, d);
                commit(gpu);
                gpu.store(&d.from[4 * gpu.lane()], 0u);
                wait(gpu, 0);
              }),
              HasSubstr("the source of the copy from `A` was written while the "
                        "copy was under way"));
}

TEST_F(CpAsyncTest, OutOfBounds) {
  machine->allow(data.from, 512, false);
  EXPECT_THAT(runData([](Gpu gpu, Data &d) {
                gpu.op(KVC_OP_CpAsync16, {kBase, d.from, 0, 504}, Site::A);
              }),
              HasSubstr("not aligned"));
  EXPECT_THAT(runData([](Gpu gpu, Data &d) {
                gpu.op(KVC_OP_CpAsync16, {kBase, d.from, 0, 512}, Site::A);
              }),
              HasSubstr("lane 0 in `A`: reads 16 bytes of global memory at"));
  EXPECT_THAT(runData([](Gpu gpu, Data &d) {
                gpu.op(KVC_OP_CpAsync16Zfill, {kBase, d.from, 8, 4096, 0});
              }),
              HasSubstr("writes 16 bytes of shared memory at 4096: beyond its "
                        "4096 bytes"));
  EXPECT_THAT(runData([](Gpu gpu, Data &d) {
                gpu.op(KVC_OP_CpAsync16, {kBase + 8, d.from, 0, 0});
              }),
              HasSubstr("writes 16 bytes of shared memory at 8: not aligned"));
  EXPECT_THAT(runData([](Gpu gpu, Data &d) {
                gpu.op(KVC_OP_CpAsync8Zfill, {kBase, d.from, 9, 0, 0});
              }),
              HasSubstr("a copy of 8 bytes takes 9 from memory"));
}

} // namespace
