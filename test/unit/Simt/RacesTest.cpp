//===- RacesTest.cpp - accesses that nothing orders -----------------------===//
//
// Beside most kernels that race is the one that does not.
//
//===----------------------------------------------------------------------===//
#include "test/unit/Simt/Fixture.h"

using namespace kvc::simt;
using testing::AnyOf;
using testing::HasSubstr;

namespace {

//===----------------------------------------------------------------------===//
// Races in shared memory
//===----------------------------------------------------------------------===//

class SharedRaceTest : public SimtTest {};

TEST_F(SharedRaceTest, BetweenWarps) {
  // Lane i of every warp uses word i.
  enum Kind { WriteRead, ReadWrite, WriteWrite };
  struct Race {
    Kind kind;
    bool barrier;
  };
  auto kernel = [](Gpu gpu, Race &r) {
    uint32_t at = 4 * gpu.lane();
    bool first = gpu.warp() == 0;
    if (first)
      gpu.sts(at, 1, Site::C);
    gpu.barrier(64);
    auto access = [&](bool write) {
      if (write)
        gpu.sts(at, 1, first ? Site::A : Site::B);
      else
        gpu.lds(at, first ? Site::A : Site::B);
    };
    if (first)
      access(r.kind != ReadWrite);
    if (r.barrier)
      gpu.barrier(64);
    if (!first)
      access(r.kind != WriteRead);
  };
  for (Kind kind : {WriteRead, ReadWrite, WriteWrite}) {
    Race race = {kind, false};
    // Whichever comes second is told.
    EXPECT_THAT(
        run<Race>(kernel, race, 64),
        testing::ContainsRegex("in `[AB]`: race: (reads|writes) shared memory "
                               "at [0-9]+, (read|written) by warp [01] lane "
                               "[0-9]+ in `[AB]`, without a barrier between"));
    race.barrier = true;
    EXPECT_EQ(run<Race>(kernel, race, 64), "");
  }
}

TEST_F(SharedRaceTest, WithinAWarp) {
  struct Meeting {
    uint32_t op;
    bool orders;
  };
  auto kernel = [](Gpu gpu, Meeting &m) {
    uint32_t lane = gpu.lane();
    gpu.sts(4 * lane, 1, Site::A);
    if (m.op == KVC_OP_BarSync)
      gpu.barrier(32);
    else
      gpu.op(m.op, {0, 0});
    gpu.lds(4 * (lane ^ 1), Site::B);
  };
  for (Meeting meeting :
       {Meeting{KVC_OP_WarpSync, true}, Meeting{KVC_OP_BarSync, true},
        Meeting{KVC_OP_ShflBfly, false}, Meeting{KVC_OP_VoteAny, false},
        Meeting{KVC_OP_MovMatrix, false}}) {
    std::string finding = run<Meeting>(kernel, meeting);
    if (meeting.orders)
      EXPECT_EQ(finding, "");
    else
      EXPECT_THAT(finding, HasSubstr("in `B`: race: reads shared memory at"));
  }
}

TEST_F(SharedRaceTest, LanesWriteTheSameWord) {
  EXPECT_THAT(run([](Gpu gpu, int &) { gpu.sts(64, 1, Site::A); }),
              HasSubstr("lane 1 in `A`: race: writes shared memory at 64, "
                        "written by warp 0 lane 0 in `A`"));
}

TEST_F(SharedRaceTest, LanesMayWriteHalvesOfAWord) {
  EXPECT_EQ(run([](Gpu gpu, int &) {
              uint32_t at = kBase + 2 * gpu.lane();
              for (unsigned i = 0; i < 3; ++i) {
                gpu.op(KVC_OP_StsU16, {at, 1, 0});
                gpu.op(KVC_OP_LdsU16, {at, 0});
              }
            }),
            "");
  EXPECT_THAT(run([](Gpu gpu, int &) {
                gpu.op(KVC_OP_StsU16, {kBase + 2 * gpu.lane(), 1, 0}, Site::A);
                if (gpu.lane() == 31)
                  gpu.op(KVC_OP_LdsU16, {kBase + 60, 0});
              }),
              HasSubstr("reads shared memory at 60, written by warp 0 lane 30 "
                        "in `A`"));
}

TEST_F(SharedRaceTest, EveryReaderCounts) {
  // All lanes of all warps read a word; one of them is not waited for.
  struct Late {
    uint32_t lane, warp;
  };
  auto kernel = [](Gpu gpu, Late &late) {
    bool isLate = gpu.warp() == late.warp;
    if (gpu.tid() == 0)
      gpu.sts(0, 1);
    gpu.barrier(128);
    if (!isLate)
      gpu.lds(0, Site::B);
    else if (gpu.lane() == late.lane)
      gpu.lds(0, Site::A);
    // All but the late warp meet here.
    if (isLate)
      return;
    gpu.op(KVC_OP_BarSync, {1, 96});
    if (gpu.tid() == (late.warp == 0 ? 32 : 0))
      gpu.sts(0, 2, Site::C);
  };
  for (uint32_t warp = 0; warp < 4; ++warp) {
    Late late = {7 * warp, warp};
    EXPECT_THAT(run<Late>(kernel, late, 128),
                AnyOf(HasSubstr("in `C`: race: writes shared memory at 0, read "
                                "by warp " +
                                std::to_string(warp) + " lane " +
                                std::to_string(7 * warp) + " in `A`"),
                      HasSubstr("in `A`: race: reads shared memory at 0, "
                                "written by")));
  }
}

TEST_F(SharedRaceTest, MatricesReadWhatTheWarpHasSeen) {
  struct Meeting {
    bool before, after;
  };
  auto kernel = [](Gpu gpu, Meeting &m) {
    uint32_t at = kBase + 16 * gpu.lane();
    gpu.op(KVC_OP_Sts128, {at, 1, 2, 3, 4, 0}, Site::A);
    if (m.before)
      gpu.warpSync();
    // Each lane names the row that it wrote, but others get it.
    gpu.op(KVC_OP_LdMatrixX4, {at, 0}, Site::B);
    if (m.after)
      gpu.warpSync();
    gpu.op(KVC_OP_Sts128, {at, 1, 2, 3, 4, 0}, Site::C);
  };
  Meeting meeting = {true, true};
  EXPECT_EQ(run<Meeting>(kernel, meeting), "");
  meeting = {false, true};
  EXPECT_THAT(run<Meeting>(kernel, meeting),
              HasSubstr("in `B`: race: reads shared memory at 0, written by "
                        "warp 0 lane 0 in `A`"));
  meeting = {true, false};
  EXPECT_THAT(
      run<Meeting>(kernel, meeting),
      testing::ContainsRegex("in `C`: race: writes shared memory at "
                             "[0-9]+, read by warp 0 lane [0-9]+ in `B`"));
}

TEST_F(SharedRaceTest, ABarrierOrdersOnlyThoseAtIt) {
  EXPECT_THAT(run(
                  [](Gpu gpu, int &) {
                    uint32_t pair = gpu.warp() / 2;
                    if (gpu.warp() == 0)
                      gpu.sts(4 * gpu.lane(), 1, Site::A);
                    gpu.op(KVC_OP_BarSync, {pair, 64});
                    if (gpu.warp() == 2)
                      gpu.sts(4 * gpu.lane(), 1, Site::B);
                  },
                  128),
              HasSubstr("race: writes shared memory at"));
}

TEST_F(SharedRaceTest, OrderIsTransitive) {
  EXPECT_EQ(run(
                [](Gpu gpu, int &) {
                  uint32_t warp = gpu.warp();
                  if (warp == 0)
                    gpu.sts(4 * gpu.lane(), 1);
                  if (warp < 2)
                    gpu.op(KVC_OP_BarSync, {1, 64});
                  if (warp > 0)
                    gpu.op(KVC_OP_BarSync, {2, 64});
                  if (warp == 2)
                    gpu.lds(4 * (31 - gpu.lane()));
                },
                96),
            "");
}

TEST_F(SharedRaceTest, ArrivingTellsButDoesNotLearn) {
  struct Which {
    bool back;
  };
  auto kernel = [](Gpu gpu, Which &w) {
    uint32_t at = 4 * gpu.lane();
    if (gpu.warp() == 0) {
      gpu.sts(at, 1, Site::A);
      gpu.op(KVC_OP_BarArrive, {1, 64});
      if (w.back)
        gpu.lds(128 + at, Site::C);
    } else {
      gpu.sts(128 + at, 1, Site::B);
      gpu.op(KVC_OP_BarSync, {1, 64});
      gpu.lds(124 - at);
    }
  };
  Which which = {false};
  EXPECT_EQ(run<Which>(kernel, which, 64), "");
  which.back = true;
  EXPECT_THAT(run<Which>(kernel, which, 64),
              AnyOf(HasSubstr("written by warp 1 lane 0 in `B`"),
                    HasSubstr("which nothing has written"),
                    HasSubstr("read by warp 0")));
}

//===----------------------------------------------------------------------===//
// Races in global memory
//===----------------------------------------------------------------------===//

class GlobalRaceTest : public SimtTest {
protected:
  struct Memory {
    alignas(16) uint32_t words[64] = {};
    alignas(16) uint8_t bytes[64] = {};
    uint32_t counter = 0, turn = 0;
    bool ordered = true;
  };
  std::string runMemory(void (*kernel)(Gpu, Memory &), uint32_t threads,
                        uint32_t grid) {
    memory = Memory{{}, {}, 0, 0, memory.ordered};
    return run<Memory>(kernel, memory, threads, 64, grid);
  }
  Memory memory;
};

TEST_F(GlobalRaceTest, BetweenCtas) {
  EXPECT_THAT(runMemory(
                  [](Gpu gpu, Memory &m) {
                    if (gpu.tid() == 3)
                      gpu.store(&m.words[5], gpu.cta(), Site::A);
                  },
                  32, 2),
              testing::ContainsRegex(
                  "warp 0 lane 3 in `A`: race: writes global memory at "
                  "0x[0-9a-f]+, written by CTA [01] warp 0 lane 3 in `A`, "
                  "without synchronisation between"));
  EXPECT_THAT(runMemory(
                  [](Gpu gpu, Memory &m) {
                    if (gpu.tid() != 0)
                      return;
                    if (gpu.cta() == 0)
                      gpu.store(&m.words[5], 1u, Site::A);
                    else
                      gpu.load(&m.words[5], Site::B);
                  },
                  32, 2),
              AnyOf(HasSubstr("in `A`: race: writes global memory"),
                    HasSubstr("in `B`: race: reads global memory")));
}

TEST_F(GlobalRaceTest, EveryReaderCounts) {
  // Two CTAs read; whichever of the three runs last, it races.
  for (unsigned seed = 0; seed < 10; ++seed) {
    machine = std::make_unique<Machine>(seed);
    EXPECT_THAT(runMemory(
                    [](Gpu gpu, Memory &m) {
                      if (gpu.cta() < 2)
                        gpu.load(&m.words[gpu.lane()]);
                      else
                        gpu.store(&m.words[gpu.lane()], 1u);
                    },
                    32, 3),
                HasSubstr("race: "));
  }
}

TEST_F(GlobalRaceTest, BetweenWarpsAndLanes) {
  auto kernel = [](Gpu gpu, Memory &m) {
    gpu.store(&m.words[gpu.tid()], 1u, Site::A);
    if (m.ordered)
      gpu.barrier(64);
    gpu.load(&m.words[gpu.tid() ^ 33], Site::B);
  };
  EXPECT_EQ(runMemory(kernel, 64, 1), "");
  memory.ordered = false;
  EXPECT_THAT(runMemory(kernel, 64, 1), HasSubstr("race: "));
}

TEST_F(GlobalRaceTest, BytesAreApart) {
  auto kernel = [](Gpu gpu, Memory &m) {
    uint32_t at = gpu.cta() * 32 + gpu.lane();
    gpu.store(&m.bytes[at], uint8_t(1));
    gpu.load(&m.bytes[at]);
    gpu.store(&m.bytes[at], uint8_t(2));
    if (!m.ordered)
      gpu.load(reinterpret_cast<uint16_t *>(&m.bytes[at & ~1]));
  };
  EXPECT_EQ(runMemory(kernel, 32, 2), "");
  memory.ordered = false;
  EXPECT_THAT(runMemory(kernel, 32, 2), HasSubstr("race: "));
}

TEST_F(GlobalRaceTest, AnAtomicHandsOver) {
  // All CTAs write, the last reads all: as splits of rows are combined.
  auto join = [](Gpu gpu, Memory &m) {
    uint32_t thread = gpu.tid(), cta = gpu.cta();
    if (thread < 8)
      gpu.store(&m.words[cta * 8 + thread], cta + 1, Site::A);
    if (m.ordered)
      gpu.barrier(64);
    if (thread == 0)
      gpu.sts(0, gpu.op(KVC_OP_AtomAddAcqRel, {&m.counter, 1}));
    gpu.barrier(64);
    if (gpu.lds(0) == 7)
      gpu.load(&m.words[thread], Site::B);
  };
  EXPECT_EQ(runMemory(join, 64, 8), "");
  EXPECT_EQ(memory.counter, 8u);
  // Without the barrier other threads' stores are not handed over.
  memory.ordered = false;
  EXPECT_THAT(runMemory(join, 64, 8),
              HasSubstr("in `B`: race: reads global memory at"));
}

TEST_F(GlobalRaceTest, OnlyWhoAcquiredKnows) {
  EXPECT_THAT(runMemory(
                  [](Gpu gpu, Memory &m) {
                    uint32_t old = 0;
                    if (gpu.lane() == 0) {
                      gpu.store(&m.words[gpu.cta()], 1u, Site::A);
                      old = gpu.op(KVC_OP_AtomAddAcqRel, {&m.counter, 1});
                    }
                    // Values move, order does not.
                    if (gpu.op(KVC_OP_ShflIdx, {old, 0}) == 1 &&
                        gpu.lane() == 1)
                      gpu.load(&m.words[1 - gpu.cta()], Site::B);
                  },
                  32, 2),
              testing::ContainsRegex("lane 1 in `B`: race: reads global memory "
                                     "at 0x[0-9a-f]+, written by CTA"));
}

TEST_F(GlobalRaceTest, AtomicsHandOnWhatTheyWereHanded) {
  EXPECT_EQ(runMemory(
                [](Gpu gpu, Memory &m) {
                  if (gpu.tid() != 0)
                    return;
                  // By the order in which CTAs happen to run.
                  switch (m.turn++) {
                  case 0:
                    gpu.store(&m.words[0], 1u);
                    gpu.op(KVC_OP_AtomAddAcqRel, {&m.words[8], 1});
                    break;
                  case 1:
                    gpu.op(KVC_OP_AtomAddAcqRel, {&m.words[8], 1});
                    gpu.op(KVC_OP_AtomAddAcqRel, {&m.words[9], 1});
                    break;
                  case 2:
                    gpu.op(KVC_OP_AtomAddAcqRel, {&m.words[9], 1});
                    gpu.load(&m.words[0]);
                  }
                },
                32, 3),
            "");
}

TEST_F(GlobalRaceTest, AnotherAtomicHandsNothingOver) {
  EXPECT_THAT(runMemory(
                  [](Gpu gpu, Memory &m) {
                    if (gpu.tid() != 0)
                      return;
                    uint32_t cta = gpu.cta();
                    gpu.store(&m.words[0], cta, Site::A);
                    gpu.op(KVC_OP_AtomAddAcqRel, {&m.words[8 + cta], 1});
                  },
                  32, 2),
              HasSubstr("race: writes global memory"));
}

TEST_F(GlobalRaceTest, AtomicsOrderWithinACta) {
  EXPECT_EQ(runMemory(
                [](Gpu gpu, Memory &m) {
                  if (gpu.lane() != 0)
                    return;
                  gpu.store(&m.words[gpu.warp()], 1u);
                  if (gpu.op(KVC_OP_AtomAddAcqRel, {&m.counter, 1}) == 1) {
                    gpu.load(&m.words[0]);
                    gpu.load(&m.words[1]);
                  }
                },
                64, 1),
            "");
}

TEST_F(GlobalRaceTest, ALaunchEndsThemAll) {
  auto kernel = [](Gpu gpu, Memory &m) { gpu.store(&m.words[gpu.tid()], 1u); };
  EXPECT_EQ(runMemory(kernel, 32, 1), "");
  EXPECT_EQ(runMemory(kernel, 32, 1), "");
}

} // namespace
