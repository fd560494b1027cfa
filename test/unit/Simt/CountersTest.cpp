//===- CountersTest.cpp - what a machine counts, and in what order it runs ===//
#include "test/unit/Simt/Fixture.h"

#include <algorithm>
#include <set>

using namespace kvc::simt;

namespace {

//===----------------------------------------------------------------------===//
// Counters
//===----------------------------------------------------------------------===//

class CountersTest : public SimtTest {
protected:
  CountersTest() { machine->countSites(true); }
};

/// Passes that a warp's access takes beyond the fewest.
uint64_t conflicts(const SiteCounters &site) {
  return site.wavefronts - site.idealWavefronts;
}

struct Stride {
  uint32_t bytes; ///< from lane to lane
  uint32_t op = KVC_OP_Sts32;
};

void storeWithStride(Gpu gpu, Stride &s) {
  uint32_t at = kBase + s.bytes * gpu.lane();
  gpu.op(s.op, {at, 0, 0, 0, 0, 0}, Site::A);
  gpu.warpSync();
}

TEST_F(CountersTest, BankConflicts) {
  struct {
    Stride stride;
    uint64_t passes, fewest;
  } cases[] = {
      {{4, KVC_OP_Sts32}, 1, 1},    {{8, KVC_OP_Sts32}, 2, 1},
      {{12, KVC_OP_Sts32}, 1, 1},   {{16, KVC_OP_Sts32}, 4, 1},
      {{128, KVC_OP_Sts32}, 32, 1}, {{132, KVC_OP_Sts32}, 1, 1},
      {{8, KVC_OP_Sts64}, 2, 2},    {{16, KVC_OP_Sts64}, 4, 2},
      {{16, KVC_OP_Sts128}, 4, 4},  {{32, KVC_OP_Sts128}, 8, 4},
      {{144, KVC_OP_Sts128}, 4, 4}, {{128, KVC_OP_Sts128}, 32, 4},
      {{2, KVC_OP_StsU16}, 1, 1},   {{4, KVC_OP_StsU16}, 1, 1},
      {{8, KVC_OP_StsU16}, 2, 1},
  };
  for (auto &c : cases) {
    machine->resetCounters();
    ASSERT_EQ(run<Stride>(storeWithStride, c.stride, 32, 8192), "");
    SiteCounters site = at(Site::A);
    SCOPED_TRACE(c.stride.bytes);
    EXPECT_EQ(site.executions, 1u);
    EXPECT_EQ(site.wavefronts, c.passes);
    EXPECT_EQ(site.idealWavefronts, c.fewest);
  }
}

TEST_F(CountersTest, AWordForAllIsOnePass) {
  ASSERT_EQ(run([](Gpu gpu, int &) {
              gpu.sts(4 * gpu.lane(), 1);
              gpu.warpSync();
              gpu.lds(64, Site::A);
              gpu.lds(gpu.lane() / 16 * 4, Site::B);
            }),
            "");
  EXPECT_EQ(conflicts(at(Site::A)), 0u);
  EXPECT_EQ(conflicts(at(Site::B)), 0u);
}

TEST_F(CountersTest, MatricesAreOnePassEach) {
  struct Row {
    uint32_t bytes;
  };
  auto kernel = [](Gpu gpu, Row &r) {
    for (unsigned i = 0; i < 32; ++i)
      gpu.op(KVC_OP_Sts128, {kBase + gpu.lane() * 16 + i * 512, 0, 0, 0, 0, 0});
    gpu.warpSync();
    gpu.op(KVC_OP_LdMatrixX4, {kBase + gpu.lane() * r.bytes, 0}, Site::A);
  };
  for (auto [bytes, passes] :
       {std::pair<uint32_t, uint64_t>{16, 4}, {144, 4}, {256, 32}, {32, 8}}) {
    machine->resetCounters();
    Row row = {bytes};
    ASSERT_EQ(run<Row>(kernel, row, 32, 16384), "");
    EXPECT_EQ(at(Site::A).executions, 1u);
    EXPECT_EQ(at(Site::A).wavefronts, passes);
    EXPECT_EQ(at(Site::A).idealWavefronts, 4u);
  }
}

TEST_F(CountersTest, SectorsOfGlobalMemory) {
  struct Memory {
    alignas(128) uint32_t words[32 * 16];
    uint32_t stride, first, shuffle;
  } memory = {};
  auto kernel = [](Gpu gpu, Memory &m) {
    uint32_t lane = gpu.lane() * m.shuffle % 32;
    gpu.load(&m.words[m.first + m.stride * lane], Site::A);
  };
  struct {
    uint32_t stride, first;
    uint64_t sectors;
  } cases[] = {{1, 0, 4},  {1, 4, 5},   {2, 0, 8},
               {8, 0, 32}, {15, 0, 32}, {0, 3, 1}};
  for (auto c : cases) {
    memory.stride = c.stride;
    memory.first = c.first;
    for (uint32_t shuffle : {1, 5, 31}) {
      memory.shuffle = shuffle;
      machine->resetCounters();
      ASSERT_EQ(run<Memory>(kernel, memory), "");
      SiteCounters site = at(Site::A);
      EXPECT_EQ(site.executions, 1u);
      EXPECT_EQ(site.sectors, c.sectors) << c.stride;
      EXPECT_EQ(site.idealSectors, 4u);
      EXPECT_EQ(counters().bytesRead, 128u);
      EXPECT_EQ(counters().distinctSectors, c.sectors);
    }
  }
}

TEST_F(CountersTest, SomeLanesAndSeveralRounds) {
  struct Memory {
    alignas(128) uint32_t words[256];
  } memory = {};
  ASSERT_EQ(run<Memory>(
                [](Gpu gpu, Memory &m) {
                  uint32_t lane = gpu.lane();
                  if (lane % 2)
                    return;
                  for (unsigned i = 0; i < 8; ++i)
                    gpu.store(&m.words[32 * i + lane], 1u, Site::A);
                },
                memory),
            "");
  EXPECT_EQ(at(Site::A).executions, 8u);
  EXPECT_EQ(at(Site::A).sectors, 32u);
  EXPECT_EQ(at(Site::A).idealSectors, 16u);
  EXPECT_EQ(counters().bytesWritten, 512u);
}

TEST_F(CountersTest, CopiesCountOnBothSides) {
  struct Memory {
    alignas(128) uint32_t words[32 * 64];
  } memory = {};
  ASSERT_EQ(run<Memory>(
                [](Gpu gpu, Memory &m) {
                  uint32_t lane = gpu.lane();
                  gpu.op(KVC_OP_CpAsync16,
                         {kBase + 128 * lane, &m.words[64 * lane], 0, 0},
                         Site::A);
                  gpu.op(KVC_OP_CpAsync8Zfill,
                         {kBase + 8 * lane, &m.words[2 * lane],
                          lane < 16 ? 8 : 0, 4096, 0},
                         Site::B);
                  gpu.op(KVC_OP_CpAsyncCommit);
                  gpu.op(KVC_OP_CpAsyncWait, {0});
                },
                memory, 32, 8192),
            "");
  EXPECT_EQ(at(Site::A).executions, 1u);
  EXPECT_EQ(at(Site::A).sectors, 32u);
  EXPECT_EQ(at(Site::A).idealSectors, 16u);
  EXPECT_EQ(at(Site::A).wavefronts, 32u);
  EXPECT_EQ(at(Site::A).idealWavefronts, 4u);
  EXPECT_EQ(at(Site::B).sectors, 4u);
  EXPECT_EQ(at(Site::B).wavefronts, 2u);
  EXPECT_EQ(counters().bytesRead, 512u + 128);
  EXPECT_EQ(counters().mostInFlight, 512u + 256);
}

TEST_F(CountersTest, InstructionsAndLaunches) {
  auto kernel = [](Gpu gpu, int &) {
    uint32_t thread = gpu.tid();
    gpu.op(KVC_OP_MovMatrix, {0});
    if (thread == 33) // one lane counts as its warp
      gpu.op(KVC_OP_Prmt, {0, 0, 0});
    if (thread < 32)
      for (unsigned i = 0; i < 3; ++i)
        gpu.op(KVC_OP_VoteAny, {0});
    gpu.op(KVC_OP_BarSync, {0, 64});
  };
  ASSERT_EQ(run(kernel, 64, 0, 5), "");
  EXPECT_EQ(counters().launches, 1u);
  EXPECT_EQ(counters().ctas, 5u);
  EXPECT_EQ(counters().ops[KVC_OP_TidX], 10u);
  EXPECT_EQ(counters().ops[KVC_OP_MovMatrix], 10u);
  EXPECT_EQ(counters().ops[KVC_OP_Prmt], 5u);
  EXPECT_EQ(counters().ops[KVC_OP_VoteAny], 15u);
  EXPECT_EQ(counters().ops[KVC_OP_BarSync], 10u);
  machine->resetCounters();
  EXPECT_EQ(counters().ctas, 0u);
  EXPECT_EQ(counters().ops[KVC_OP_TidX], 0u);
}

TEST_F(CountersTest, SitesOnlyIfWanted) {
  machine->countSites(false);
  Stride stride = {8};
  ASSERT_EQ(run<Stride>(storeWithStride, stride), "");
  EXPECT_TRUE(counters().sites.empty());
}

//===----------------------------------------------------------------------===//
// Order
//===----------------------------------------------------------------------===//

struct Trace {
  uint32_t next = 0;
  uint32_t entries[1024];
};

void record(Gpu gpu, Trace &t) {
  uint32_t thread = gpu.tid(), cta = gpu.cta();
  for (unsigned i = 0; i < 2; ++i) {
    if (thread % 32 == 0)
      t.entries[t.next++] = cta * 100 + thread / 32;
    gpu.barrier(128);
  }
}

class OrderTest : public SimtTest {
protected:
  std::vector<uint32_t> trace(uint64_t seed) {
    machine = std::make_unique<Machine>(seed);
    Trace trace;
    EXPECT_EQ(run<Trace>(record, trace, 128, 0, 6), "");
    return {trace.entries, trace.entries + trace.next};
  }
};

TEST_F(OrderTest, ASeedDecides) {
  EXPECT_EQ(trace(5), trace(5));
  std::set<std::vector<uint32_t>> all, ctas, warps;
  for (uint64_t seed = 0; seed < 50; ++seed) {
    std::vector<uint32_t> found = trace(seed);
    all.insert(found);
    std::vector<uint32_t> order, first;
    for (size_t i = 0; i < found.size(); i += 8)
      order.push_back(found[i] / 100);
    for (size_t i = 0; i < 4; ++i)
      first.push_back(found[i] % 100);
    ctas.insert(order);
    warps.insert(first);
    // All of them run, CTA by CTA.
    std::sort(order.begin(), order.end());
    EXPECT_EQ(order, (std::vector<uint32_t>{0, 1, 2, 3, 4, 5}));
    std::sort(first.begin(), first.end());
    EXPECT_EQ(first, (std::vector<uint32_t>{0, 1, 2, 3}));
  }
  EXPECT_GE(all.size(), 49u);
  EXPECT_GE(ctas.size(), 40u);
  EXPECT_GE(warps.size(), 12u);
}

TEST_F(OrderTest, FindingsAreTheSameForASeed) {
  auto kernel = [](Gpu gpu, int &) {
    gpu.op(KVC_OP_Sts32, {kBase + gpu.lane() * 4, 1, 0}, Site::A);
  };
  std::set<std::string> all;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    machine = std::make_unique<Machine>(seed);
    std::string first = run(kernel, 128, 4096, 4);
    machine = std::make_unique<Machine>(seed);
    EXPECT_EQ(run(kernel, 128, 4096, 4), first);
    EXPECT_NE(first, "");
    all.insert(first);
  }
  EXPECT_GE(all.size(), 5u);
}

} // namespace
