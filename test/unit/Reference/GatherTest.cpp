//===- GatherTest.cpp - what rows come out as -----------------------------===//
#include "test/unit/Reference/Fixture.h"

using namespace kvc;
using namespace kvc::reference;

namespace {

/// Kv heads 1 and 2 of 4, two tokens on a page; K of 8 elements, V of 16.
Shape twoHeads() {
  Shape shape;
  shape.kvHeads = 4, shape.firstHead = 1, shape.heads = 2;
  shape.dimK = 8, shape.dimV = 16, shape.page = 2;
  shape.lengths = {5}, shape.queries = {1};
  return shape;
}

/// Element `c` of a row at a kv head of the model.
double at(const Tensor &x, int64_t row, int64_t head, int64_t c) {
  return x.data[(row * x.shape[1] + head) * x.shape[2] + c];
}

TEST(Gather, GivesWhatWasAppended) {
  Scene scene(twoHeads());
  std::vector<int64_t> slots = {scene.slots[4], scene.slots[0], scene.slots[4]};
  Gathered rows = scene.gather(slots);
  EXPECT_EQ(rows.k.shape, (llvm::SmallVector<int64_t, 4>{3, 4, 8}));
  EXPECT_EQ(rows.v.shape, (llvm::SmallVector<int64_t, 4>{3, 4, 16}));
  for (auto [row, token] : {std::pair(0, 4), {1, 0}, {2, 4}})
    for (int64_t head = 0; head < 4; ++head) {
      // Other stores have the first and the last head.
      bool own = head == 1 || head == 2;
      for (int64_t c = 0; c < 8; ++c)
        ASSERT_EQ(at(rows.k, row, head, c),
                  own ? scene.k().row(token, head)[c] : 0);
      for (int64_t c = 0; c < 16; ++c)
        ASSERT_EQ(at(rows.v, row, head, c),
                  own ? scene.v().row(token, head)[c] : 0);
    }
}

TEST(Gather, RowsOfNegativeSlotsAreZero) {
  Scene scene(twoHeads());
  std::vector<int64_t> slots = {-1, scene.slots[2], INT64_MIN};
  Gathered rows = scene.gather(slots);
  for (int64_t row : {0, 2})
    for (int64_t head = 0; head < 4; ++head) {
      for (int64_t c = 0; c < 8; ++c)
        ASSERT_EQ(at(rows.k, row, head, c), 0);
      for (int64_t c = 0; c < 16; ++c)
        ASSERT_EQ(at(rows.v, row, head, c), 0);
    }
  EXPECT_EQ(at(rows.k, 1, 2, 7), scene.k().row(2, 2)[7]);
  EXPECT_EQ(scene.gather({}).k.data.size(), 0u);
}

/// Planes of a page written out: rows that no quantizer made.
TEST(Gather, DecodesTheBytesOfAPage) {
  Shape shape = twoHeads();
  shape.heads = 1, shape.kvHeads = 3;
  shape.dimK = 16;
  shape.lengths = {0}, shape.queries = {0}; // appends are of single tokens
  // Boxes of 2 tokens by 8 channels: two scales and zeros for a page.
  shape.codecK = "#kvc.int<4, scale = f32 zero = f32 tokens = 2 channels = 8>";
  shape.codecV = "#kvc.int<8, scale = f16>";
  Scene scene(shape);
  HostCache &cache = scene.arena->cache();
  HostStream k(cache, kStreamK), v(cache, kStreamV);
  ASSERT_EQ(k.planes(), 3u);
  auto store = [](uint8_t *to, std::initializer_list<float> values) {
    memcpy(to, values.begin(), values.size() * sizeof(float));
  };
  int64_t page = 3;
  for (int64_t token : {0, 1})
    for (int64_t byte = 0; byte < 8; ++byte) // codes 0x0 .. 0xf, then 0xf .. 0
      k.row(0, page, 0, token)[byte] =
          uint8_t(token ? 0xef - 0x22 * byte : 0x10 + 0x22 * byte);
  store(k.row(1, page, 0, 0), {0.5f, -2.f});
  store(k.row(2, page, 0, 0), {-3.f, 100.f});
  for (int64_t c = 0; c < 16; ++c)
    v.row(0, page, 0, 1)[c] = uint8_t(c - 8);
  v.row(1, page, 0, 1)[0] = 0x00; // 1.5 in f16
  v.row(1, page, 0, 1)[1] = 0x3e;
  std::vector<int64_t> slots = {page * 2, page * 2 + 1};
  Gathered rows = scene.gather(slots);
  for (int64_t c = 0; c < 16; ++c) {
    double scale = c < 8 ? 0.5 : -2, zero = c < 8 ? -3 : 100;
    EXPECT_EQ(at(rows.k, 0, 1, c), double(c) * scale + zero);
    EXPECT_EQ(at(rows.k, 1, 1, c), double(15 - c) * scale + zero);
    EXPECT_EQ(at(rows.v, 1, 1, c), double(c - 8) * 1.5);
  }
}

TEST(Gather, TheSameWithoutIr) {
  for (int64_t page : {0, 3})
    for (const char *order : {"HND", "NHD"}) {
      Shape shape = twoHeads();
      shape.page = page, shape.order = order;
      shape.codecK = "#kvc.float<f16>",
      shape.codecV = "#kvc.int<8, scale = f32>";
      Scene scene(shape);
      auto rows = gather(/*firstHead=*/1, /*kvHeads=*/4, scene.slots,
                         scene.arena->cache());
      ASSERT_TRUE(bool(rows));
      expectSame(scene.gather(scene.slots), *rows);
      for (int64_t c = 0; c < 16; ++c)
        EXPECT_NEAR(at(rows->v, 4, 1, c), scene.v().row(4, 1)[c], 0.03);
    }
}

} // namespace
