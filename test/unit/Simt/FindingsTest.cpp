//===- FindingsTest.cpp - what kernels must not do ------------------------===//
//
// Kernels here have the bug that their test is named after.
//
//===----------------------------------------------------------------------===//
#include "test/unit/Simt/Fixture.h"

using namespace kvc::simt;
using testing::AnyOf;
using testing::HasSubstr;

namespace {

//===----------------------------------------------------------------------===//
// Bounds
//===----------------------------------------------------------------------===//

class BoundsTest : public SimtTest {};

struct Place {
  uint32_t op, at;
  bool store;
};

void touch(Gpu gpu, Place &p) {
  if (gpu.tid() != 0)
    return;
  if (p.store)
    gpu.op(p.op, {kBase + p.at, 0, 0, 0, 0, 0}, Site::A);
  else
    gpu.op(p.op, {kBase + p.at, 0}, Site::A);
}

TEST_F(BoundsTest, SharedMemory) {
  struct {
    uint32_t op, bytes;
    bool store;
  } forms[] = {{KVC_OP_LdsU8, 1, false},   {KVC_OP_LdsU16, 2, false},
               {KVC_OP_Lds32, 4, false},   {KVC_OP_Lds64, 8, false},
               {KVC_OP_Lds128, 16, false}, {KVC_OP_StsU16, 2, true},
               {KVC_OP_Sts32, 4, true},    {KVC_OP_Sts64, 8, true},
               {KVC_OP_Sts128, 16, true}};
  for (auto form : forms) {
    std::string verb = (form.store ? "writes " : "reads ") +
                       std::to_string(form.bytes) + " bytes of shared memory";
    for (uint32_t at : {4096u, 8192u, 0u - form.bytes, 0u - kBase}) {
      Place place = {form.op, at, form.store};
      EXPECT_THAT(run<Place>(touch, place),
                  testing::AllOf(HasSubstr("in `A`: " + verb),
                                 HasSubstr("beyond its 4096 bytes")));
    }
    if (form.bytes == 1)
      continue;
    Place place = {form.op, form.bytes / 2, form.store};
    EXPECT_THAT(run<Place>(touch, place),
                testing::AllOf(HasSubstr(verb), HasSubstr("not aligned")));
    // The last bytes are there.
    place.at = 4096 - form.bytes;
    std::string finding = run<Place>(touch, place);
    if (form.store)
      EXPECT_EQ(finding, "");
    else
      EXPECT_THAT(finding, HasSubstr("which nothing has written"));
  }
  // Sizes need not be round.
  Place place = {KVC_OP_StsU16, 8, true};
  EXPECT_THAT(run<Place>(touch, place, 32, 9), HasSubstr("beyond its 9 bytes"));
}

TEST_F(BoundsTest, MatrixRowsAreAligned) {
  EXPECT_THAT(run([](Gpu gpu, int &) {
                for (unsigned i = 0; i < 8; ++i)
                  gpu.sts(gpu.lane() * 4 + i * 128, 1);
                gpu.warpSync();
                uint32_t off = gpu.lane() == 5 ? 8 : 0;
                gpu.op(KVC_OP_LdMatrixX1, {kBase + gpu.lane() * 16 + off, 0},
                       Site::A);
              }),
              HasSubstr("lane 5 in `A`: reads 16 bytes of shared memory at 88: "
                        "not aligned"));
}

TEST_F(BoundsTest, GlobalMemory) {
  struct Memory {
    alignas(16) uint32_t readable[8] = {};
    alignas(16) uint32_t writable[8] = {};
    uint32_t at = 0;
    bool store = false;
  } memory;
  auto kernel = [](Gpu gpu, Memory &m) {
    auto *at = reinterpret_cast<uint32_t *>(
        reinterpret_cast<uintptr_t>(m.readable) + m.at);
    if (gpu.tid() != 0)
      return;
    gpu.thread->access(gpu.thread, at, 4, m.store ? KVC_SIM_WRITE : 0, Site::A);
  };
  auto access = [&](uint32_t at, bool store) {
    memory.at = at;
    memory.store = store;
    return run<Memory>(kernel, memory);
  };
  // Before anything is allowed, everything is.
  EXPECT_EQ(access(4096, true), "");
  machine->allow(memory.readable, 32, false);
  machine->allow(memory.writable, 30, true);
  machine->allow(memory.readable + 1, 4, false); // a range within another
  EXPECT_EQ(access(0, false), "");
  EXPECT_EQ(access(28, false), "");
  EXPECT_EQ(access(32, false), "");
  EXPECT_EQ(access(56, true), "");
  EXPECT_EQ(access(0, false), "");
  EXPECT_THAT(access(0, true), HasSubstr("it may only be read"));
  EXPECT_THAT(access(28, true),
              HasSubstr("lane 0 in `A`: writes 4 bytes of global memory at"));
  EXPECT_THAT(access(60, true), HasSubstr("out of bounds"));
  EXPECT_THAT(access(60, false), HasSubstr("reads 4 bytes"));
  EXPECT_THAT(access(uint32_t(-4), false), HasSubstr("out of bounds"));
  EXPECT_THAT(access(2, false), HasSubstr("not aligned"));
  EXPECT_EQ(access(32, false), "");
  machine->forget(memory.writable);
  EXPECT_THAT(access(32, false), HasSubstr("out of bounds"));
}

TEST_F(BoundsTest, NothingHasWritten) {
  EXPECT_THAT(run([](Gpu gpu, int &) {
                gpu.op(KVC_OP_StsU16, {kBase, 7, 0});
                gpu.lds(0, Site::A);
              }),
              AnyOf(HasSubstr("in `A`: reads shared memory at 2, which nothing "
                              "has written"),
                    HasSubstr("race")));
  // What a CTA wrote is not there for the next.
  EXPECT_THAT(run(
                  [](Gpu gpu, int &) {
                    static int count;
                    if (gpu.tid() != 0)
                      return;
                    if (count++ == 0)
                      gpu.sts(64, 1);
                    gpu.lds(64);
                  },
                  32, 4096, 2),
              HasSubstr("reads shared memory at 64, which nothing has "
                        "written"));
}

//===----------------------------------------------------------------------===//
// Meeting
//===----------------------------------------------------------------------===//

class MeetingTest : public SimtTest {};

TEST_F(MeetingTest, LanesAreInDifferentPlaces) {
  EXPECT_EQ(run([](Gpu gpu, int &) {
              if (gpu.lane() < 3)
                gpu.op(KVC_OP_ShflBfly, {0, 1}, Site::A);
              else
                gpu.op(KVC_OP_ShflBfly, {0, 1}, Site::B);
            }),
            "kernel, CTA 0: warp 0 lane 3 in `B`: divergent: lane 0 of the "
            "warp waits in `A`");
}

TEST_F(MeetingTest, LanesExecuteDifferentInstructions) {
  EXPECT_THAT(run([](Gpu gpu, int &) {
                gpu.op(gpu.lane() ? KVC_OP_VoteAny : KVC_OP_Ballot, {0},
                       Site::A);
              }),
              HasSubstr("divergent: lane 0 of the warp waits in `A`"));
}

TEST_F(MeetingTest, ALaneHasEnded) {
  EXPECT_THAT(run([](Gpu gpu, int &) {
                if (gpu.lane() != 4)
                  gpu.op(KVC_OP_MovMatrix, {0}, Site::A);
              }),
              HasSubstr("warp 0 lane 4 in `line"));
  EXPECT_THAT(run([](Gpu gpu, int &) {
                if (gpu.lane() != 4)
                  gpu.op(KVC_OP_MovMatrix, {0}, Site::A);
              }),
              HasSubstr("ends while lane 0 of its warp waits in `A`"));
  EXPECT_THAT(run([](Gpu gpu, int &) {
                if (gpu.lane())
                  gpu.op(KVC_OP_MovMatrix, {0}, Site::A);
              }),
              HasSubstr("in `A`: divergent: lane 0 of the warp has ended"));
}

TEST_F(MeetingTest, ABarrierInADivergentPlace) {
  EXPECT_THAT(run(
                  [](Gpu gpu, int &) {
                    if (gpu.tid() < 48)
                      gpu.op(KVC_OP_BarSync, {0, 64}, Site::A);
                    else
                      gpu.op(KVC_OP_BarSync, {0, 64}, Site::B);
                  },
                  64),
              HasSubstr("warp 1 lane 16 in `B`: divergent: lane 0 of the warp "
                        "waits in `A`"));
}

TEST_F(MeetingTest, LanesAreAtDifferentBarriers) {
  EXPECT_THAT(run([](Gpu gpu, int &) {
                gpu.op(KVC_OP_BarSync, {gpu.lane() == 9, 32}, Site::A);
              }),
              HasSubstr("divergent: lane 9 of the warp is at barrier 1 of 32 "
                        "threads, not at 0 of 32"));
}

TEST_F(MeetingTest, AWarpNeverComes) {
  EXPECT_EQ(run(
                [](Gpu gpu, int &) {
                  if (gpu.warp() == 0)
                    gpu.op(KVC_OP_BarSync, {0, 128}, Site::A);
                  else if (gpu.warp() < 3)
                    gpu.op(KVC_OP_BarSync, {1, 96}, Site::B);
                },
                128),
            "kernel, CTA 0: deadlock: 32 threads wait in `A`, 64 threads wait "
            "in `B`, 32 have ended");
}

TEST_F(MeetingTest, ABarrierThatIsNone) {
  struct Barrier {
    uint32_t number, threads;
  };
  auto kernel = [](Gpu gpu, Barrier &b) {
    gpu.op(KVC_OP_BarSync, {b.number, b.threads}, Site::A);
  };
  for (Barrier barrier :
       {Barrier{16, 64}, Barrier{0, 0}, Barrier{0, 48}, Barrier{0, 96}})
    EXPECT_THAT(run<Barrier>(kernel, barrier, 64),
                HasSubstr("barrier " + std::to_string(barrier.number) + " of " +
                          std::to_string(barrier.threads) +
                          " threads in a CTA of 64"));
}

TEST_F(MeetingTest, WarpsDoNotAgreeOnABarrier) {
  EXPECT_THAT(run(
                  [](Gpu gpu, int &) {
                    gpu.op(KVC_OP_BarSync, {3, gpu.warp() ? 64 : 96}, Site::A);
                  },
                  96),
              testing::ContainsRegex("barrier 3 of (64|96) threads, others "
                                     "expect (64|96)"));
}

TEST_F(MeetingTest, ManyRoundsOfABarrier) {
  struct Count {
    uint32_t at[128] = {};
  } count;
  EXPECT_EQ(run<Count>(
                [](Gpu gpu, Count &c) {
                  uint32_t thread = gpu.tid();
                  for (uint32_t i = 0; i < 20; ++i) {
                    gpu.store(&c.at[(thread + i) % 128], i);
                    gpu.barrier(128);
                  }
                },
                count, 128),
            "");
}

TEST_F(MeetingTest, LaunchesOfNoWarps) {
  for (uint32_t threads : {0u, 16u, 1056u})
    EXPECT_EQ(run([](Gpu, int &) {}, threads),
              "kernel: " + std::to_string(threads) + " threads per CTA");
  EXPECT_EQ(run([](Gpu gpu, int &) { gpu.barrier(1024); }, 1024), "");
}

TEST_F(MeetingTest, SitesWithoutANameAreNumbers) {
  sites.clear();
  EXPECT_THAT(run([](Gpu gpu, int &) { gpu.lds(0, Site::C); }),
              HasSubstr("in `site 3`: reads"));
}

TEST_F(MeetingTest, AMachineGoesOnAfterAFinding) {
  EXPECT_NE(run([](Gpu gpu, int &) { gpu.lds(0); }), "");
  EXPECT_EQ(run([](Gpu gpu, int &) {
              gpu.sts(4 * gpu.lane(), 0);
              gpu.lds(4 * gpu.lane());
            }),
            "");
}

} // namespace
