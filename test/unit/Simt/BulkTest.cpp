//===- BulkTest.cpp - bulk copies and mbarriers ---------------------------===//
#include "test/unit/Simt/Copies.h"

#include <array>

using namespace kvc::simt;
using testing::HasSubstr;

namespace {

constexpr uint32_t kFull = kBase + 1024, kEmpty = kBase + 1032;

class BulkTest : public CopyTest {};

void init(Gpu gpu, uint32_t barrier, uint32_t count) {
  gpu.op(KVC_OP_MbarInit, {barrier, count});
}
void arrive(Gpu gpu, uint32_t barrier) { gpu.op(KVC_OP_MbarArrive, {barrier}); }
void expect(Gpu gpu, uint32_t barrier, uint32_t bytes) {
  gpu.op(KVC_OP_MbarArriveExpectTx, {barrier, bytes});
}
void waitFor(Gpu gpu, uint32_t barrier, uint32_t parity,
             Site site = Site::Line::current()) {
  gpu.op(KVC_OP_MbarWait, {barrier, parity}, site);
}
void bulk(Gpu gpu, uint32_t to, const void *from, uint32_t bytes,
          Site site = Site::A) {
  gpu.op(KVC_OP_BulkCopy, {kBase + to, from, bytes, kFull}, site);
}

/// What every kernel begins with: two barriers, made by thread 0.
void begin(Gpu gpu, uint32_t threads, uint32_t consumers) {
  if (gpu.tid() == 0) {
    init(gpu, kFull, 1);
    init(gpu, kEmpty, consumers);
    gpu.op(KVC_OP_MbarFenceInit);
  }
  gpu.barrier(threads);
}

/// Warp 0 copies 8 tiles of 128 bytes through one place, warps 1 and 2 read.
void pipeline(Gpu gpu, Data &d) {
  begin(gpu, 96, 64);
  uint32_t thread = gpu.tid();
  if (thread == 0)
    for (uint32_t tile = 0; tile < 8; ++tile) {
      if (tile)
        waitFor(gpu, kEmpty, (tile - 1) % 2);
      expect(gpu, kFull, 128);
      bulk(gpu, 0, d.from + 32 * tile, 64);
      gpu.op(KVC_OP_BulkCopyCta,
             {kBase + 64, d.from + 32 * tile + 16, 64u, kFull});
    }
  if (thread >= 32)
    for (uint32_t tile = 0; tile < 8; ++tile) {
      waitFor(gpu, kFull, tile % 2);
      uint32_t x = gpu.lds(4 * gpu.lane());
      if (thread < 64)
        d.out[32 * tile + gpu.lane()] = x;
      arrive(gpu, kEmpty);
    }
}

TEST_F(BulkTest, PipelineThroughOnePlace) {
  for (unsigned seed = 0; seed < 20; ++seed) {
    data = Data();
    machine = std::make_unique<Machine>(seed);
    ASSERT_EQ(runData(pipeline, 96), "");
    for (unsigned i = 0; i < 256; ++i)
      ASSERT_EQ(data.out[i], data.from[i]);
  }
  EXPECT_EQ(counters().bytesRead, 1024u);
  EXPECT_EQ(counters().mostInFlight, 128u);
}

TEST_F(BulkTest, LaneWaitsForAllOfItsWarp) {
  EXPECT_EQ(runData(
                [](Gpu gpu, Data &d) {
                  begin(gpu, 64, 1);
                  if (gpu.tid() == 0) {
                    expect(gpu, kFull, 128);
                    bulk(gpu, 0, d.from, 128);
                  }
                  if (gpu.warp() == 1) {
                    // The other lanes wait at the warp's barrier meanwhile.
                    if (gpu.lane() == 0)
                      waitFor(gpu, kFull, 0);
                    gpu.warpSync();
                    d.out[gpu.lane()] = gpu.lds(4 * gpu.lane());
                  }
                },
                64),
            "");
  EXPECT_EQ(data.out[31], data.from[31]);
}

TEST_F(BulkTest, OtherLanesHaveNotWaited) {
  EXPECT_THAT(runData(
                  [](Gpu gpu, Data &d) {
                    begin(gpu, 64, 1);
                    if (gpu.tid() == 0) {
                      expect(gpu, kFull, 128);
                      bulk(gpu, 0, d.from, 128);
                    }
                    if (gpu.warp() == 1) {
                      if (gpu.lane() == 0)
                        waitFor(gpu, kFull, 0);
                      gpu.op(KVC_OP_VoteAny, {0});
                      gpu.lds(4 * gpu.lane(), Site::B);
                    }
                  },
                  64),
              HasSubstr("in `B`: race: reads shared memory at 4, written by "
                        "the bulk copy in `A`"));
}

TEST_F(BulkTest, OtherLanesHaveNotWaitedEither) {
  // For a phase that is long over.
  EXPECT_THAT(
      runData([](Gpu gpu, Data &d) {
        begin(gpu, 32, 1);
        if (gpu.lane() == 0) {
          expect(gpu, kFull, 16);
          bulk(gpu, 0, d.from, 16);
          waitFor(gpu, kFull, 0);
        }
        gpu.op(KVC_OP_VoteAny, {0});
        if (gpu.lane() == 1) {
          waitFor(gpu, kFull, 0);
          gpu.lds(0);
        }
        gpu.op(KVC_OP_VoteAny, {0});
        if (gpu.lane() == 2)
          gpu.lds(0, Site::B);
      }),
      HasSubstr("lane 2 in `B`: race: reads shared memory at 0, written "
                "by the bulk copy in `A`"));
}

TEST_F(BulkTest, ThePhaseBeforeIsNotThisOne) {
  EXPECT_THAT(runData([](Gpu gpu, Data &d) {
                begin(gpu, 32, 1);
                for (uint32_t phase = 0; phase < 2; ++phase) {
                  if (gpu.lane() == 0) {
                    expect(gpu, kFull, 16);
                    bulk(gpu, 16 * phase, d.from, 16);
                    waitFor(gpu, kFull, phase);
                  }
                  if (phase == 0)
                    gpu.warpSync();
                }
                gpu.op(KVC_OP_VoteAny, {0});
                if (gpu.lane() == 1) {
                  gpu.lds(0);
                  gpu.lds(16, Site::B);
                }
              }),
              HasSubstr("in `B`: race: reads shared memory at 16, written by "
                        "the bulk copy in `A`"));
}

TEST_F(BulkTest, ReadWithoutAWait) {
  EXPECT_THAT(runData([](Gpu gpu, Data &d) {
                begin(gpu, 32, 1);
                if (gpu.tid() == 0) {
                  expect(gpu, kFull, 128);
                  bulk(gpu, 0, d.from, 128);
                  gpu.lds(0);
                }
              }),
              HasSubstr("reads shared memory at 0 while a copy to it from `A` "
                        "is under way"));
}

TEST_F(BulkTest, EndsDuringACopy) {
  EXPECT_THAT(runData([](Gpu gpu, Data &d) {
                begin(gpu, 32, 1);
                if (gpu.tid() == 0) {
                  expect(gpu, kFull, 128);
                  bulk(gpu, 0, d.from, 128);
                }
              }),
              HasSubstr("ends while the bulk copy in `A` is under way"));
}

TEST_F(BulkTest, NobodyWaitsForACopy) {
  // Thread 32 waits for the copy in C alone, before or after which that in B
  // ends.
  auto kernel = [](Gpu gpu, Data &d) {
    begin(gpu, 64, 1);
    if (gpu.tid() == 0) {
      expect(gpu, kFull, 64);
      bulk(gpu, 128, d.from, 64, Site::B);
    }
    if (gpu.tid() == 32) {
      constexpr uint32_t kOther = kBase + 1040;
      init(gpu, kOther, 1);
      gpu.op(KVC_OP_MbarFenceInit);
      expect(gpu, kOther, 16);
      gpu.op(KVC_OP_BulkCopy, {kBase + 256, d.from, 16, kOther}, Site::C);
      waitFor(gpu, kOther, 0);
    }
  };
  unsigned before = 0, after = 0;
  for (unsigned seed = 0; seed < 20; ++seed) {
    machine = std::make_unique<Machine>(seed);
    std::string finding = runData(kernel, 64);
    before += finding == "kernel, CTA 0: ends and has not waited for the bulk "
                         "copy in `B`";
    after += finding == "kernel, CTA 0: ends while the bulk copy in `B` is "
                        "under way";
  }
  EXPECT_EQ(before + after, 20u);
  EXPECT_GT(before, 2u);
  EXPECT_GT(after, 2u);
}

TEST_F(BulkTest, OverwritesWhatIsStillRead) {
  // The consumers free the place before they read.
  EXPECT_THAT(runData(
                  [](Gpu gpu, Data &d) {
                    begin(gpu, 64, 32);
                    if (gpu.tid() == 0)
                      for (uint32_t tile = 0; tile < 2; ++tile) {
                        if (tile)
                          waitFor(gpu, kEmpty, 0);
                        expect(gpu, kFull, 128);
                        bulk(gpu, 0, d.from + 32 * tile, 128);
                      }
                    if (gpu.warp() == 1)
                      for (uint32_t tile = 0; tile < 2; ++tile) {
                        waitFor(gpu, kFull, tile);
                        arrive(gpu, kEmpty);
                        gpu.lds(4 * gpu.lane(), Site::B);
                      }
                  },
                  64),
              testing::AnyOf(HasSubstr("race: writes shared memory at 0, read "
                                       "by warp 1 lane"),
                             HasSubstr("while a copy to it from `A`")));
}

TEST_F(BulkTest, TheLastReaderCounts) {
  // As many arrivals as there are readers, less one: all but one are waited
  // for, whoever comes last.
  EXPECT_THAT(runData(
                  [](Gpu gpu, Data &d) {
                    begin(gpu, 64, 31);
                    if (gpu.tid() == 0)
                      for (uint32_t tile = 0; tile < 2; ++tile) {
                        if (tile)
                          waitFor(gpu, kEmpty, 0);
                        expect(gpu, kFull, 128);
                        bulk(gpu, 0, d.from + 32 * tile, 128);
                      }
                    if (gpu.warp() == 1) {
                      waitFor(gpu, kFull, 0);
                      gpu.lds(0, Site::B);
                      if (gpu.lane() != 7)
                        arrive(gpu, kEmpty);
                      waitFor(gpu, kFull, 1);
                    }
                  },
                  64),
              HasSubstr("race: writes shared memory at 0, read by warp 1 lane "
                        "7 in `B`"));
}

TEST_F(BulkTest, OverwritesWhatThreadsWroteWithoutAProxyFence) {
  struct Fences {
    Data data;
    bool writer, issuer;
  };
  auto kernel = [](Gpu gpu, Fences &f) {
    begin(gpu, 64, 1);
    if (gpu.warp() == 1) {
      gpu.sts(4 * gpu.lane(), 1, Site::B);
      if (f.writer)
        gpu.op(KVC_OP_FenceProxyAsync);
    }
    gpu.barrier(64);
    if (gpu.tid() == 0) {
      if (f.issuer)
        gpu.op(KVC_OP_FenceProxyAsync);
      expect(gpu, kFull, 128);
      bulk(gpu, 0, f.data.from, 128);
      waitFor(gpu, kFull, 0);
    }
  };
  Fences fences = {{}, true, false};
  EXPECT_EQ(run<Fences>(kernel, fences, 64), "");
  fences = {{}, false, true};
  EXPECT_EQ(run<Fences>(kernel, fences, 64), "");
  fences = {{}, false, false};
  EXPECT_THAT(run<Fences>(kernel, fences, 64),
              HasSubstr("in `A`: a bulk copy to shared memory at 0, written by "
                        "warp 1 lane 0 in `B`, without a proxy fence between"));
}

TEST_F(BulkTest, AFenceBeforeTheWriteDoesNotHelp) {
  EXPECT_THAT(runData([](Gpu gpu, Data &d) {
                begin(gpu, 32, 1);
                if (gpu.tid() == 0) {
                  gpu.op(KVC_OP_FenceProxyAsync);
                  gpu.sts(0, 1, Site::B);
                  expect(gpu, kFull, 16);
                  bulk(gpu, 0, d.from, 16);
                  waitFor(gpu, kFull, 0);
                }
              }),
              HasSubstr("without a proxy fence between"));
}

TEST_F(BulkTest, TheCopyTellsOnlyOfItself) {
  // What its thread does after it began is not over for who waits for it.
  EXPECT_THAT(runData(
                  [](Gpu gpu, Data &d) {
                    begin(gpu, 64, 1);
                    if (gpu.tid() == 0) {
                      expect(gpu, kFull, 16);
                      bulk(gpu, 0, d.from, 16);
                      gpu.sts(64, 1, Site::B);
                    }
                    if (gpu.tid() == 32) {
                      waitFor(gpu, kFull, 0);
                      gpu.lds(64, Site::C);
                    }
                  },
                  64),
              HasSubstr("in `C`: race: reads shared memory at 64, written by "
                        "warp 0 lane 0 in `B`"));
}

TEST_F(BulkTest, ReadersBeforeTheCopyAreOver) {
  // Warp 1 reads, which thread 0 waits for; warp 2 waits for the copy alone.
  EXPECT_EQ(runData(
                [](Gpu gpu, Data &d) {
                  if (gpu.warp() == 1) {
                    gpu.sts(4 * gpu.lane(), 1);
                    gpu.op(KVC_OP_FenceProxyAsync);
                  }
                  begin(gpu, 96, 32);
                  if (gpu.tid() == 0) {
                    expect(gpu, kFull, 128);
                    waitFor(gpu, kEmpty, 0);
                    bulk(gpu, 0, d.from, 128);
                  }
                  if (gpu.warp() == 1) {
                    gpu.lds(4 * gpu.lane());
                    arrive(gpu, kEmpty);
                  }
                  if (gpu.warp() == 2) {
                    waitFor(gpu, kFull, 0);
                    gpu.sts(4 * gpu.lane(), 1);
                  }
                },
                96),
            "");
}

TEST_F(BulkTest, ReadersOfTheSourceAreNotOver) {
  // Warp 1 reads, which thread 0 waits for; warp 2, which waits for the copy
  // alone, does not know of it.
  EXPECT_THAT(runData(
                  [](Gpu gpu, Data &d) {
                    begin(gpu, 96, 32);
                    if (gpu.tid() == 0) {
                      expect(gpu, kFull, 128);
                      waitFor(gpu, kEmpty, 0);
                      bulk(gpu, 0, d.from, 128);
                    }
                    if (gpu.warp() == 1) {
                      gpu.load(&d.from[gpu.lane()], Site::B);
                      arrive(gpu, kEmpty);
                    }
                    if (gpu.warp() == 2) {
                      waitFor(gpu, kFull, 0);
                      gpu.store(&d.from[gpu.lane()], 1u, Site::C);
                    }
                  },
                  96),
              testing::ContainsRegex("in `C`: race: writes global memory at "
                                     "0x[0-9a-f]+, read by warp 1 lane 0 in "
                                     "`B`"));
}

TEST_F(BulkTest, SourceWrittenDuringACopy) {
  EXPECT_THAT(runData([](Gpu gpu, Data &d) {
                begin(gpu, 32, 1);
                if (gpu.tid() == 0) {
                  expect(gpu, kFull, 16);
                  bulk(gpu, 0, d.from, 16);
                  gpu.store(&d.from[3], 0u, Site::B);
                  waitFor(gpu, kFull, 0);
                }
              }),
              HasSubstr("in `B`: race: writes global memory at"));
}

TEST_F(BulkTest, OutOfBoundsOrNotAligned) {
  machine->allow(data.from, 512, false);
  auto with = [&](uint32_t to, uint32_t from, uint32_t bytes) {
    struct Bulk {
      Data &data;
      uint32_t to, from, bytes;
    } params = {data, to, from, bytes};
    return run<Bulk>(
        [](Gpu gpu, Bulk &b) {
          begin(gpu, 32, 1);
          if (gpu.tid() != 0)
            return;
          gpu.op(KVC_OP_FenceProxyAsync);
          expect(gpu, kFull, b.bytes);
          bulk(gpu, b.to, b.data.from + b.from, b.bytes);
          waitFor(gpu, kFull, 0);
        },
        params);
  };
  EXPECT_EQ(with(4096 - 48, 4, 48), "");
  EXPECT_THAT(with(4096 - 48, 4, 64), HasSubstr("beyond its 4096 bytes"));
  EXPECT_THAT(with(8192, 4, 64), HasSubstr("beyond its 4096 bytes"));
  EXPECT_THAT(with(0, 124, 32), HasSubstr("out of bounds"));
  for (auto [to, from, bytes] :
       {std::array<uint32_t, 3>{8, 0, 16}, {0, 2, 16}, {0, 0, 24}, {0, 0, 0}})
    EXPECT_THAT(with(to, from, bytes), HasSubstr("not multiples of 16"));
  EXPECT_THAT(with(1024, 0, 16), HasSubstr("which is an mbarrier"));
}

//===----------------------------------------------------------------------===//
// mbarriers
//===----------------------------------------------------------------------===//

class MbarrierTest : public CopyTest {};

TEST_F(MbarrierTest, OrdersWhatArrivedBefore) {
  EXPECT_EQ(runData(
                [](Gpu gpu, Data &d) {
                  begin(gpu, 64, 32);
                  if (gpu.warp() == 0) {
                    gpu.sts(4 * gpu.lane(), gpu.lane());
                    arrive(gpu, kEmpty);
                  } else {
                    waitFor(gpu, kEmpty, 0);
                    d.out[gpu.lane()] = gpu.lds(4 * (31 - gpu.lane()));
                  }
                },
                64),
            "");
  EXPECT_EQ(data.out[3], 28u);
}

TEST_F(MbarrierTest, TellsOnlyOfTheLaneThatArrives) {
  // One lane arrives for all, which have not met.
  EXPECT_THAT(runData(
                  [](Gpu gpu, Data &) {
                    begin(gpu, 64, 1);
                    if (gpu.warp() == 0) {
                      gpu.sts(4 * gpu.lane(), 1, Site::A);
                      gpu.op(KVC_OP_VoteAny, {0});
                      if (gpu.lane() == 0)
                        arrive(gpu, kEmpty);
                    } else {
                      waitFor(gpu, kEmpty, 0);
                      gpu.lds(4 * gpu.lane(), Site::B);
                    }
                  },
                  64),
              HasSubstr("race: reads shared memory at 4, written by warp 0 "
                        "lane 1 in `A`"));
  EXPECT_EQ(runData(
                [](Gpu gpu, Data &) {
                  begin(gpu, 64, 1);
                  if (gpu.warp() == 0) {
                    gpu.sts(4 * gpu.lane(), 1);
                    gpu.warpSync();
                    if (gpu.lane() == 0)
                      arrive(gpu, kEmpty);
                  } else {
                    waitFor(gpu, kEmpty, 0);
                    gpu.lds(4 * gpu.lane());
                  }
                },
                64),
            "");
}

TEST_F(MbarrierTest, WhatComesAfterTheArrivalIsNotTold) {
  EXPECT_THAT(runData(
                  [](Gpu gpu, Data &) {
                    begin(gpu, 64, 1);
                    if (gpu.tid() == 0) {
                      arrive(gpu, kEmpty);
                      gpu.sts(0, 1, Site::A);
                    } else if (gpu.tid() == 32) {
                      waitFor(gpu, kEmpty, 0);
                      gpu.sts(0, 2, Site::B);
                    }
                  },
                  64),
              HasSubstr("race: writes shared memory at 0, written by warp"));
}

TEST_F(MbarrierTest, Misuse) {
  EXPECT_THAT(runData([](Gpu gpu, Data &) { arrive(gpu, kFull); }),
              HasSubstr("no mbarrier was initialised at 1024"));
  EXPECT_THAT(runData([](Gpu gpu, Data &) {
                if (gpu.tid() == 0) {
                  init(gpu, kFull, 1);
                  init(gpu, kFull, 1);
                }
              }),
              HasSubstr("initialises an mbarrier twice"));
  EXPECT_THAT(runData([](Gpu gpu, Data &) { init(gpu, kFull, 0); }),
              HasSubstr("an mbarrier that expects no arrival"));
  EXPECT_THAT(runData([](Gpu gpu, Data &) { init(gpu, kFull + 4, 1); }),
              HasSubstr("writes 8 bytes of shared memory at 1028: not "
                        "aligned"));
  EXPECT_THAT(runData([](Gpu gpu, Data &) {
                begin(gpu, 32, 1);
                gpu.lds(1028);
              }),
              HasSubstr("reads shared memory at 1028, which is an mbarrier"));
  EXPECT_THAT(runData([](Gpu gpu, Data &) {
                begin(gpu, 32, 1);
                gpu.op(KVC_OP_StsU16, {kBase + 1030, 1, 0});
              }),
              HasSubstr("writes shared memory at 1030, which is an mbarrier"));
  EXPECT_THAT(runData([](Gpu gpu, Data &) {
                if (gpu.tid() == 0)
                  for (unsigned i = 0; i < 33; ++i)
                    init(gpu, kFull + 8 * i, 1);
              }),
              HasSubstr("more than 32 mbarriers"));
}

TEST_F(MbarrierTest, MoreArrivalsThanExpected) {
  // Of the four arrivals at a barrier of three, with bytes still to come.
  EXPECT_THAT(runData([](Gpu gpu, Data &) {
                begin(gpu, 32, 3);
                if (gpu.lane() == 0)
                  expect(gpu, kEmpty, 16);
                gpu.warpSync();
                if (gpu.lane() < 3)
                  gpu.op(KVC_OP_MbarArrive, {kEmpty}, Site::A);
              }),
              HasSubstr("lane 2 in `A`: more arrivals at the mbarrier at 1032 "
                        "than its 3"));
}

TEST_F(MbarrierTest, UsedBeforeItsInitialisationIsSeen) {
  EXPECT_THAT(runData([](Gpu gpu, Data &) {
                if (gpu.lane() == 0)
                  gpu.op(KVC_OP_MbarInit, {kFull, 32}, Site::A);
                gpu.op(KVC_OP_VoteAny, {0});
                arrive(gpu, kFull);
              }),
              HasSubstr("race: uses the mbarrier at 1024, initialised by warp "
                        "0 lane 0 in `A`"));
}

TEST_F(MbarrierTest, CopiesNeedAFencedInitialisation) {
  EXPECT_THAT(runData([](Gpu gpu, Data &d) {
                if (gpu.tid() == 0)
                  init(gpu, kFull, 1);
                gpu.warpSync();
                if (gpu.tid() == 1) // who did not initialise it
                  gpu.op(KVC_OP_MbarFenceInit);
                gpu.warpSync();
                if (gpu.tid() == 0)
                  bulk(gpu, 0, d.from, 16);
              }),
              HasSubstr("completes on an mbarrier whose initialisation was not "
                        "fenced"));
}

TEST_F(MbarrierTest, Deadlocks) {
  // The wrong parity.
  EXPECT_THAT(runData([](Gpu gpu, Data &) {
                begin(gpu, 32, 1);
                if (gpu.tid() == 0) {
                  arrive(gpu, kEmpty);
                  waitFor(gpu, kEmpty, 0);
                  waitFor(gpu, kEmpty, 1, Site::A);
                }
              }),
              HasSubstr("deadlock: 1 threads wait in `A`, 31 have ended"));
  // More bytes announced than come.
  EXPECT_THAT(runData([](Gpu gpu, Data &d) {
                begin(gpu, 32, 1);
                if (gpu.tid() == 0) {
                  expect(gpu, kFull, 32);
                  bulk(gpu, 0, d.from, 16);
                }
                waitFor(gpu, kFull, 0, Site::A);
              }),
              HasSubstr("deadlock: 32 threads wait in `A`"));
}

} // namespace
