//===- AppendTest.cpp - where rows go -------------------------------------===//
#include "test/unit/Reference/Fixture.h"

using namespace kvc;
using namespace kvc::reference;

namespace {

/// The f32 at a byte of the arena.
float floatAt(Scene &scene, int64_t byte) {
  float x;
  memcpy(&x, &scene.arena->bytes()[byte], 4);
  return x;
}

Shape oneToken() {
  Shape shape;
  shape.kvHeads = 5, shape.firstHead = 1, shape.heads = 3;
  shape.lengths = {1}, shape.queries = {1};
  return shape;
}

/// Checks every element of K and V of token 0, moved to (outer, token).
void expectPlaced(Scene &scene, int64_t vPlane, int64_t kHead, int64_t kToken,
                  int64_t vHead, int64_t vToken, int64_t outer, int64_t token) {
  int64_t outerBytes = scene.arena->outerBytes();
  for (int64_t head = 0; head < 3; ++head) {
    // Heads of the cache count from the store's first, those of k from the
    // model's.
    for (int64_t j = 0; j < scene.shape.dimK; ++j)
      ASSERT_EQ(floatAt(scene, outer * outerBytes + head * kHead +
                                   token * kToken + j * 4),
                scene.k().row(0, head + 1)[j]);
    for (int64_t j = 0; j < scene.shape.dimV; ++j)
      ASSERT_EQ(floatAt(scene, outer * outerBytes + vPlane + head * vHead +
                                   token * vToken + j * 4),
                scene.v().row(0, head + 1)[j]);
  }
}

void append(Scene &scene, int64_t slot) {
  scene.run("append",
            {scene.k(), scene.v(), Slots(slot), &scene.arena->cache()});
}

// Bytes written out: K rows of 16 f32 are 64 bytes, V rows of 8 are 32.
TEST(Append, HeadMajorPages) {
  Scene scene(oneToken());
  append(scene, 2 * 4 + 3);
  expectPlaced(scene, /*vPlane=*/3 * 4 * 64, /*kHead=*/4 * 64, /*kToken=*/64,
               /*vHead=*/4 * 32, /*vToken=*/32, /*outer=*/2, /*token=*/3);
}

TEST(Append, TokenMajorPages) {
  Shape shape = oneToken();
  shape.order = "NHD";
  Scene scene(shape);
  append(scene, 1 * 4 + 2);
  expectPlaced(scene, 3 * 4 * 64, 64, 3 * 64, 32, 3 * 32, 1, 2);
}

TEST(Append, OnePiece) {
  Shape shape = oneToken();
  shape.page = 0; // a slot holds 4 tokens
  Scene scene(shape);
  ASSERT_EQ(scene.arena->cache().outerTokens, 4);
  append(scene, 1 * 4 + 3);
  expectPlaced(scene, 3 * 4 * 64, 4 * 64, 64, 4 * 32, 32, 1, 3);
}

TEST(Append, PlanesAndOutersAreAligned) {
  Shape shape = oneToken();
  shape.page = 1, shape.heads = 1, shape.dimK = 8;
  shape.codecK = "#kvc.int<8, scale = f16>";
  Scene scene(shape);
  // 8 bytes of codes, 2 of scale, 32 of V: each on 64 bytes of its own.
  EXPECT_EQ(scene.arena->outerBytes(), 192);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(scene.arena->bytes().data()) % 64, 0u);
  auto &planes = scene.arena->cache().planes;
  ASSERT_EQ(planes.size(), 3u);
  EXPECT_EQ(planes[1].base - planes[0].base, 64);
  EXPECT_EQ(planes[2].base - planes[0].base, 128);
}

TEST(Append, NegativeSlotsSkipAndNothingElseIsTouched) {
  Scene scene(oneToken(), /*fill=*/0xab);
  std::vector<uint8_t> before(scene.arena->bytes().begin(),
                              scene.arena->bytes().end());
  append(scene, -1);
  EXPECT_TRUE(llvm::equal(scene.arena->bytes(), before));
  append(scene, 2 * 4 + 3);
  int64_t changed = 0;
  for (auto [x, y] : llvm::zip(scene.arena->bytes(), before))
    changed += x != y;
  EXPECT_GT(changed, 3 * (64 + 32) * 9 / 10);
  EXPECT_LE(changed, 3 * (64 + 32));
}

TEST(Append, EncodesWithEachStreamsCodec) {
  Shape shape = oneToken();
  shape.codecK = "#kvc.float<bf16>";
  shape.codecV = "#kvc.int<8, scale = f32>";
  Scene scene(shape);
  for (auto [row, dim] : {std::pair(&scene.kData, shape.dimK),
                          std::pair(&scene.vData, shape.dimV)})
    std::fill_n(row->begin() + dim, dim, 0.5f); // model head 1, the store's 0
  append(scene, 0);
  auto bytes = scene.arena->bytes();
  EXPECT_EQ(bytes[0] | bytes[1] << 8, 0x3f00); // 0.5 in bf16
  int64_t vCodes = 3 * 4 * 32;                 // after K's 2-byte rows
  EXPECT_EQ(bytes[vCodes], 127);
  EXPECT_FLOAT_EQ(floatAt(scene, vCodes + 128), 0.5f / 127); // 96, aligned
}

} // namespace
