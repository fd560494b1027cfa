//===- BoundCheckTest.cpp - every bound is stood next to ------------------===//
#include "lib/driver/Verify/BoundCheck.h"
#include "lib/driver/Jit/OrcLoader.h"
#include "lib/driver/Verify/CacheCheck.h"
#include "lib/driver/Verify/Verify.h"
#include "test/support/Compile.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace kvc;
using namespace kvc::verify;
using testing::HasSubstr;
using testing::IsSupersetOf;

namespace {

/// A model as large as those of 7B, or with its head sizes a small one.
spec::Spec specOf(const std::string &reads, bool large) {
  std::string text =
      R"({"kvc": "0.1", "name": "bounds", "model": {"layers": 2, )" +
      std::string(large ? R"("q_heads": 32, "kv_heads": 8, "head_dim": 128,)"
                        : R"("q_heads": 2, "kv_heads": 1, "head_dim": 32,)") +
      R"( "dtype": "bf16"}, "layout": {"kind": "paged", "page": 16}, "reads": )" +
      reads + "}";
  return test::specOf(text);
}

std::string window(int64_t sink, int64_t recent) {
  return R"({"kind": "window", "sink": )" + std::to_string(sink) +
         R"(, "recent": )" + std::to_string(recent) + "}";
}

/// A spec loaded, and what it is loaded on.
struct Loaded {
  std::unique_ptr<Devices> devices;
  std::unique_ptr<CompiledSpec> compiledSpec;

  Loaded(const spec::Spec &spec, int64_t split) {
    CompileOptions options;
    options.schedule = {{"*.decode", "split", split}};
    Diagnostics diagnostics;
    auto output = compile(spec, options, diagnostics);
    std::string error;
    devices = Devices::create(options.targets, orcCodeLoader(), error);
    if (output && devices)
      compiledSpec = CompiledSpec::create(spec, spec, output->artifact,
                                          *devices, Fault::None, error);
    EXPECT_TRUE(compiledSpec) << error;
  }
};

std::set<std::pair<int64_t, int64_t>> visitsOf(const CompiledStore &store) {
  std::set<std::pair<int64_t, int64_t>> visits;
  for (const Visit &visit : boundsOf(store).visits)
    visits.emplace(visit.tokens, visit.queries);
  return visits;
}

} // namespace

TEST(Bounds, AreThoseOfSpecAndManifest) {
  Loaded loaded(specOf(window(4, 9999), false), 512);
  const CompiledStore &store = loaded.compiledSpec->stores[0];
  ASSERT_EQ(store.variants.size(), 2u);
  EXPECT_EQ(store.variants[0].split, 512);
  std::set<std::pair<int64_t, int64_t>> expected;
  for (int64_t at : {16, 32, 512, 1024, 4, 9999, 10003})
    for (int64_t near : {-1, 0, 1})
      expected.emplace(at + near, 1);
  expected.emplace(10003 + 2 * 512 + 1, 1);
  EXPECT_THAT(visitsOf(store), IsSupersetOf(expected));
  // The other kernel starts behind the query tokens that the first takes.
  std::set<int64_t> queries;
  for (auto [tokens, count] : visitsOf(store))
    queries.insert(count);
  int64_t most = store.variants[0].maxQueries;
  EXPECT_THAT(queries, IsSupersetOf({most - 1, most, most + 1, most + 2}));
}

TEST(Bounds, AreAllVisitedOverASpecsCases) {
  Loaded loaded(specOf(window(4, 4096), false), 512);
  const CompiledStore &store = loaded.compiledSpec->stores[0];
  Report all;
  for (uint64_t index = 0; index < kShares; ++index)
    all.add(checkBounds(*loaded.compiledSpec, store, 1, index, Visits::Share));
  EXPECT_FALSE(all.failed()) << all.failures[0].detail;
  EXPECT_EQ(all.visited.size(), boundsOf(store).visits.size());
  EXPECT_GT(all.longest, 4100 + 2 * 512);
}

// A window of one token more or less, at every size, whatever the split.
TEST(Bounds, TellWindowsThatDifferByAToken) {
  for (int64_t recent : {1, 22, 100, 1024, 4096, 9999})
    for (int64_t split : {128, 2048, 0})
      for (int64_t other : {recent - 1, recent + 1}) {
        if (!other)
          continue;
        spec::Spec spec = specOf(window(4, recent), false);
        Options options;
        options.compile.schedule = {{"*.decode", "split", split}};
        options.impostor = specOf(window(4, other), false);
        options.jobs = 1;
        options.cases = 1;
        options.allBounds = true;
        EXPECT_EQ(verifySpec(spec, {}, options).failed, 1u)
            << recent << " taken for " << other << ", split " << split;
      }
}

TEST(Bounds, AreReachedByCachesOfLargeModels) {
  Loaded loaded(specOf("\"all\"", true), 2048);
  Report report = checkCache(*loaded.compiledSpec, 1, 0, Visits::Share);
  EXPECT_FALSE(report.failed()) << report.failures[0].detail;
  EXPECT_GE(report.splits, 2);
  Loaded windowed(specOf(window(0, 4096), true), 2048);
  report = checkCache(*windowed.compiledSpec, 1, 2, Visits::Share);
  EXPECT_FALSE(report.failed()) << report.failures[0].detail;
  EXPECT_GT(report.longest, 4096);
}

TEST(Bounds, ThatTooFewCasesLeaveOutAreNamed) {
  Options options;
  options.jobs = options.cases = 1;
  Summary summary = verifySpec(specOf(window(4, 100), false), {}, options);
  EXPECT_EQ(summary.failed, 0u);
  ASSERT_FALSE(summary.unreached.empty());
  EXPECT_THAT(summary.unreached[0].bound, HasSubstr(" of attend.decode"));
}
