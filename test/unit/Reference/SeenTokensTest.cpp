//===- SeenTokensTest.cpp - counts against a loop over everything ---------===//
#include "lib/driver/Reference/SeenTokens.h"
#include "test/unit/Reference/Fixture.h"

using namespace kvc;
using namespace kvc::reference;

namespace {

/// Counts again, from the predicates that the shape has by hand.
void expectCounts(const Shape &shape, int64_t length, int64_t queries) {
  Scene scene(shape);
  AttendProblem problem = AttendProblem::of(scene.attendOp("attend"));
  auto sees = [&](int64_t p, int64_t t, int64_t h) {
    bool inWindow = shape.recent < 0 || t < shape.sink || p - t < shape.recent;
    return t <= p && inWindow && (!shape.isVisible || shape.isVisible(p, t, h));
  };
  double cached = 0, scores = 0;
  int64_t longest = 0;
  for (int64_t head = 0; head < shape.heads; ++head) {
    int64_t tokens = 0;
    for (int64_t t = 0; t < length; ++t) {
      bool any = false;
      for (int64_t p = length - queries; p < length; ++p)
        for (int64_t g = 0; g < shape.group; ++g) {
          int64_t h = (shape.firstHead + head) * shape.group + g;
          scores += sees(p, t, h);
          any |= sees(p, t, h);
        }
      tokens += any;
    }
    cached += double(tokens);
    longest = std::max(longest, tokens);
  }
  SeenTokens seen = countSeen(problem, length, queries);
  EXPECT_EQ(seen.cached, cached);
  EXPECT_EQ(seen.scores, scores);
  EXPECT_EQ(seen.longest, longest);
}

TEST(SeenTokens, ReadsAndRegions) {
  Shape shape;
  shape.kvHeads = 4, shape.firstHead = 0, shape.heads = 3;
  for (bool chunks : {false, true}) {
    if (chunks) // q head 1 sees all: heads differ
      shape.visible = chunksRegion(), shape.isVisible = inChunk;
    for (auto [sink, recent] : {std::pair(-1, -1), {0, 4}, {2, 6}}) {
      shape.sink = sink, shape.recent = recent;
      expectCounts(shape, 23, 1);
      expectCounts(shape, 23, 9);
      expectCounts(shape, 1, 1);
    }
  }
}

TEST(SeenTokens, HeadsThatAreAlikeAreCountedOnce) {
  Shape shape;
  shape.visible = R"(
    %n = arith.constant 5 : i32
    %x = arith.floordivsi %p, %n : i32
    %y = arith.floordivsi %t, %n : i32
    %b = arith.cmpi eq, %x, %y : i32
    kvc.yield %b : i1)";
  shape.isVisible = [](int64_t p, int64_t t, int64_t) {
    return p / 5 == t / 5;
  };
  expectCounts(shape, 23, 1);
  expectCounts(shape, 23, 9);
  Scene scene(shape);
  AttendProblem problem = AttendProblem::of(scene.attendOp("attend"));
  EXPECT_EQ(placesOf(problem, 100, 2), 200);
  shape.visible = chunksRegion();
  Scene differing(shape);
  problem = AttendProblem::of(differing.attendOp("attend"));
  EXPECT_EQ(placesOf(problem, 100, 2), 200 * 6);
}

TEST(SeenTokens, SpansOfAnyLength) {
  Scene scene({});
  AttendProblem problem = AttendProblem::of(scene.attendOp("attend"));
  SeenTokens seen = countSeen(problem, int64_t(1) << 40, 1);
  EXPECT_EQ(seen.cached, 3 * 0x1p40);
  EXPECT_EQ(seen.scores, 6 * 0x1p40);
  EXPECT_EQ(placesOf(problem, int64_t(1) << 40, 1), 0);
}

} // namespace
