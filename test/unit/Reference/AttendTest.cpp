//===- AttendTest.cpp - attention against the formula ---------------------===//
#include "lib/driver/Reference/Plain.h"
#include "test/unit/Reference/Fixture.h"

using namespace kvc;
using namespace kvc::reference;

namespace {

constexpr double kTolerance = 1e-12; // both in float64, orders differ

void expectMatchesNaive(const Shape &shape) {
  Scene scene(shape);
  AttendResult want = scene.naive();
  // Not vacuous: something was seen, and not the same everywhere.
  EXPECT_NE(want.o.data.front(), want.o.data.back());
  expectNear(scene.attend("attend"), want, kTolerance);
  expectNear(scene.attend("attend_and_merge"), want, kTolerance);
}

TEST(Attend, DecodeAndPrefillOfSeveralSequences) { expectMatchesNaive({}); }

TEST(Attend, Layouts) {
  Shape shape;
  for (int64_t page : {0, 1, 3, 16})
    for (const char *order : {"HND", "NHD"}) {
      shape.page = page, shape.order = order;
      expectMatchesNaive(shape);
    }
}

TEST(Attend, Groups) {
  Shape shape;
  for (int64_t group : {1, 3, 9}) {
    shape.group = group;
    expectMatchesNaive(shape);
  }
}

TEST(Attend, DimensionsOfKAndVDiffer) {
  Shape shape;
  shape.dimK = 24, shape.dimV = 40;
  expectMatchesNaive(shape);
  std::swap(shape.dimK, shape.dimV);
  expectMatchesNaive(shape);
}

TEST(Attend, Windows) {
  Shape shape;
  shape.lengths = {20, 7}, shape.queries = {9, 2};
  for (auto [sink, recent] :
       {std::pair(0, 1), {0, 5}, {2, 3}, {4, 100}, {100, 1}, {15, 10}}) {
    shape.sink = sink, shape.recent = recent;
    expectMatchesNaive(shape);
  }
}

TEST(Attend, Softcap) {
  Shape shape;
  shape.scale = 2, shape.softcap = 1.5;
  expectMatchesNaive(shape);
}

TEST(Attend, LogitsAsTheyAreWritten) {
  Shape shape;
  shape.logits = alibiRegion(), shape.logitOf = alibi;
  expectMatchesNaive(shape);
}

TEST(Attend, SinksAreInTheSumAndHaveNoValue) {
  Shape shape; // some rows see nothing: their sum is the sink
  shape.sinkLogit = sinkRegion();
  shape.sinkOf = [&](int64_t h) { return 0.5 * h - 2 * (h / shape.group); };
  expectMatchesNaive(shape);
  shape.lengths = {70, 33}, shape.queries = {50, 33}, shape.splitTokens = 7;
  expectMatchesNaive(shape);
}

TEST(Attend, OnlyWhatIsVisible) {
  Shape shape;
  shape.lengths = {20, 7}, shape.queries = {9, 2};
  shape.visible = chunksRegion(), shape.isVisible = inChunk;
  expectMatchesNaive(shape);
  // Beside a window, what both show.
  shape.sink = 1, shape.recent = 6;
  expectMatchesNaive(shape);
}

TEST(Attend, ManyRowsAndSplits) {
  Shape shape;
  shape.lengths = {70, 33}, shape.queries = {50, 33};
  for (int64_t splitTokens : {1, 7, 32, 1000}) {
    shape.splitTokens = splitTokens;
    expectMatchesNaive(shape);
  }
}

TEST(Attend, HeadsOfOtherStoresStayEmpty) {
  Shape shape;
  shape.kvHeads = 4, shape.firstHead = 1, shape.heads = 2;
  Scene scene(shape);
  AttendResult got = scene.attend();
  expectNear(got, scene.naive(), kTolerance);
  for (int64_t h : {0, 1, 6, 7}) {
    EXPECT_EQ(got.lse.data[h], -INFINITY);
    EXPECT_EQ(got.o.data[h * shape.dimV], 0);
  }
}

TEST(Attend, NothingVisibleGivesZeroAndMinusInfinity) {
  Shape shape;
  // No tokens at all; and queries that stand before the first token.
  shape.lengths = {0, 2}, shape.queries = {2, 4};
  Scene scene(shape);
  AttendResult got = scene.attend();
  expectNear(got, scene.naive(), kTolerance);
  int64_t heads = scene.qHeads();
  for (int64_t row = 0; row < 4; ++row)
    for (int64_t h = 0; h < heads; ++h) {
      EXPECT_EQ(got.lse.data[row * heads + h], -INFINITY);
      for (int64_t j = 0; j < shape.dimV; ++j)
        EXPECT_EQ(got.o.data[(row * heads + h) * shape.dimV + j], 0);
    }
  EXPECT_GT(got.lse.data[4 * heads], -INFINITY);
  // A batch of nothing.
  HostBatch none{llvm::ArrayRef<int32_t>(scene.cuQ).take_front(), {}, {}, 0};
  auto results = scene.run("attend", {scene.q(), &scene.arena->cache(), &none});
  for (double lse : std::get<Tensor>(results[1]).data)
    EXPECT_EQ(lse, -INFINITY);
}

TEST(Attend, SplitsStandAtAbsoluteMultiples) {
  Shape shape;
  shape.lengths = {7}, shape.queries = {1};
  shape.splitTokens = 3;
  Scene scene(shape);
  AttendResult got = scene.attend("attend_splits");
  ASSERT_EQ(got.lse.shape, (llvm::ArrayRef<int64_t>{3, 1, 6}));
  ASSERT_EQ(got.o.shape, (llvm::ArrayRef<int64_t>{3, 1, 6, 8}));
  // The last split holds one token, so o is its value.
  for (int64_t j = 0; j < shape.dimV; ++j)
    EXPECT_DOUBLE_EQ(got.o.data[2 * 6 * 8 + j], scene.v().row(6, 0)[j]);
}

TEST(Attend, BytesThatARowDoesNotSeeNeverMatter) {
  Shape shape;
  shape.lengths = {20, 7}, shape.queries = {1, 2};
  shape.sink = 2, shape.recent = 3;
  Scene clean(shape), poisoned(shape, /*fill=*/0xff); // NaN
  // Tokens of sequence 0 outside of its window, as NaN.
  std::vector<int64_t> slot(poisoned.slots.size(), -1);
  for (int64_t t = 2; t < 17; ++t)
    slot[t] = poisoned.slots[t];
  std::vector<float> k(poisoned.kData.size(), NAN),
      v(poisoned.vData.size(), NAN);
  poisoned.run("append", {poisoned.rows(k, 3, shape.dimK),
                          poisoned.rows(v, 3, shape.dimV), Slots(slot),
                          &poisoned.arena->cache()});
  AttendResult want = clean.attend(), got = poisoned.attend();
  EXPECT_EQ(got.o.data, want.o.data);
  EXPECT_EQ(got.lse.data, want.lse.data);
  // But one bit of one that is seen does.
  HostStream stream(poisoned.arena->cache(), kStreamV);
  *stream.row(/*plane=*/0, poisoned.table[0], 0, 0) ^= 1;
  EXPECT_NE(poisoned.attend().o.data, want.o.data);
}

TEST(Attend, NonFiniteLogitsStayInTheirRow) {
  Shape shape;
  shape.lengths = {3, 3}, shape.queries = {3, 1};
  Scene scene(shape);
  int64_t rowElements = scene.qHeads() * shape.dimK;
  scene.qData[rowElements] = NAN; // row 1, head 0
  AttendResult want = scene.naive(), got = scene.attend();
  EXPECT_TRUE(std::isnan(got.o.data[scene.qHeads() * shape.dimV]));
  EXPECT_TRUE(std::isnan(got.lse.data[scene.qHeads()]));
  expectNear(got, want, kTolerance);
  expectNear(scene.attend("attend_and_merge"), want, kTolerance);
}

TEST(Attend, LogitsOfMinusInfinityCountAsHidden) {
  Shape shape;
  shape.kvHeads = shape.heads = shape.group = 1;
  shape.lengths = {2}, shape.queries = {2};
  Scene scene(shape);
  // k of token 0 gives -inf, so row 0 sees nothing and row 1 only token 1.
  std::fill(scene.qData.begin(), scene.qData.end(), 1.0f);
  std::fill_n(scene.kData.begin(), shape.dimK, -INFINITY);
  scene.run("append",
            {scene.k(), scene.v(), Slots(scene.slots), &scene.arena->cache()});
  for (const char *function : {"attend", "attend_and_merge"}) {
    AttendResult got = scene.attend(function);
    EXPECT_EQ(got.lse.data[0], -INFINITY);
    EXPECT_EQ(got.o.data[0], 0);
    EXPECT_DOUBLE_EQ(got.o.data[shape.dimV], scene.v().row(1, 0)[0]);
  }
}

TEST(Attend, LargeLogitsDoNotOverflow) {
  Shape shape;
  shape.scale = 1e4;
  Scene scene(shape);
  AttendResult got = scene.attend();
  for (double o : got.o.data)
    EXPECT_TRUE(std::isfinite(o));
  EXPECT_GT(*llvm::max_element(got.lse.data), 1e4);
}

TEST(Attend, SeesTheDecodedCache) {
  Shape shape;
  shape.codecK = "#kvc.int<8, scale = f16>", shape.codecV = "#kvc.float<bf16>";
  Scene scene(shape);
  AttendResult loss = scene.naive(), got = scene.attend();
  // Replace what the model gave by what the codecs made of it.
  auto dequantize = [&](llvm::StringRef kind, std::vector<float> &data,
                        int64_t dim) {
    HostStream stream(scene.arena->cache(), kind);
    int64_t row = 0;
    for (int64_t slot : scene.slots) {
      for (int64_t head = 0; head < shape.heads; ++head) {
        stream.dequantize(slot / shape.page, head, slot % shape.page,
                          llvm::MutableArrayRef<float>(data).slice(
                              (row * shape.kvHeads + head) * dim, dim));
      }
      ++row;
    }
  };
  dequantize(kStreamK, scene.kData, shape.dimK);
  dequantize(kStreamV, scene.vData, shape.dimV);
  expectNear(got, scene.naive(), kTolerance);
  double worst = 0;
  for (auto [x, y] : llvm::zip(got.o.data, loss.o.data))
    worst = std::max(worst, std::abs(x - y));
  EXPECT_GT(worst, 1e-5); // the codecs did lose something
  EXPECT_LT(worst, 0.05);
}

TEST(Merge, ByHand) {
  Tensor o({3, 2, 1}, 0), lse({3, 2}, -INFINITY);
  // Row 0: weights 1 and 3 on the values 1 and 3, and an empty split whose
  // value is NaN. Row 1: all empty.
  lse.data = {std::log(1.0), -INFINITY,     -INFINITY,
              -INFINITY,     std::log(3.0), -INFINITY};
  o.data = {1, NAN, NAN, NAN, 3, NAN};
  AttendResult got = merge(o, lse);
  EXPECT_EQ(got.o.shape, (llvm::ArrayRef<int64_t>{2, 1}));
  EXPECT_DOUBLE_EQ(got.o.data[0], 2.5);
  EXPECT_DOUBLE_EQ(got.lse.data[0], std::log(4.0));
  EXPECT_EQ(got.o.data[1], 0);
  EXPECT_EQ(got.lse.data[1], -INFINITY);
}

TEST(Merge, SinksByHand) {
  Tensor o({2, 1, 2, 1}, 1), lse({2, 1, 2}, -INFINITY);
  // Column 0 has weights 1 and 1, and a sink of 2; column 1 has a sink alone.
  lse.data = {0, -INFINITY, 0, -INFINITY};
  AttendResult got = merge(
      o, lse, [](int64_t column) { return std::log(2.) + double(column); });
  EXPECT_DOUBLE_EQ(got.o.data[0], 0.5);
  EXPECT_DOUBLE_EQ(got.lse.data[0], std::log(4.));
  EXPECT_EQ(got.o.data[1], 0);
  EXPECT_DOUBLE_EQ(got.lse.data[1], std::log(2.) + 1);
}

/// Largest |plain - reference| of o, in a dtype.
double plainError(Scene &scene, mlir::Type dtype) {
  AttendProblem problem = AttendProblem::of(scene.attendOp("attend"));
  problem.dtype = dtype;
  auto plain =
      plainAttend(problem, scene.q(), scene.arena->cache(), scene.batch());
  EXPECT_TRUE(bool(plain));
  AttendResult want = scene.attend();
  EXPECT_EQ(plain->o.shape, want.o.shape);
  double worst = 0;
  for (auto [x, y] : llvm::zip(plain->o.data, want.o.data)) {
    EXPECT_EQ(float(x), roundTo(dtype, float(x)));
    worst = std::max(worst, std::abs(x - y));
  }
  for (auto [x, y] : llvm::zip(plain->lse.data, want.lse.data))
    EXPECT_EQ(std::isinf(x), std::isinf(y));
  return worst;
}

TEST(Plain, ErrorsAreOfTheDtypesSize) {
  Shape shape;
  shape.lengths = {40, 0, 17}, shape.queries = {3, 1, 17};
  shape.sink = 2, shape.recent = 20, shape.softcap = 20;
  Scene scene(shape, /*fill=*/0xff);
  double f32 = plainError(scene, mlir::Float32Type::get(&scene.context));
  double f16 = plainError(scene, mlir::Float16Type::get(&scene.context));
  double bf16 = plainError(scene, mlir::BFloat16Type::get(&scene.context));
  EXPECT_GT(f32, 1e-9);
  EXPECT_LT(f32, 1e-5);
  EXPECT_GT(f16, 1e-4);
  EXPECT_LT(f16, 1e-2);
  EXPECT_GT(bf16, 2 * f16);
  EXPECT_LT(bf16, 0.1);
}

} // namespace
