//===- CacheTest.cpp - geometry, schedules, channel orders ----------------===//
#include "test/unit/Dialect/Codecs.h"

#include "mlir/IR/Diagnostics.h"
#include "gmock/gmock.h"

using namespace kvc;
using testing::ElementsAre;
using testing::FieldsAre;
using testing::HasSubstr;

namespace {

class CacheTest : public CodecTest {
protected:
  /// K int8 [576] with f16 scales, V bf16 [64].
  CacheType cache(mlir::Attribute layout, int64_t heads = 3) {
    return CacheType::get(
        &context, heads,
        {StreamAttr::get(&context, kStreamK, 576,
                         IntCodecAttr::get(&context, 8, f16())),
         StreamAttr::get(&context, kStreamV, 64, floatCodec(bf16()))},
        layout);
  }
  mlir::Type i8() { return mlir::IntegerType::get(&context, 8); }
};

// FieldsAre: stream, scales?, type, elements, token stride, head stride.
TEST_F(CacheTest, PlanesOfHeadMajorPages) {
  auto layout = PagedAttr::get(&context, 16, PageOrder::HND);
  EXPECT_THAT(
      cache(layout).planes(),
      ElementsAre(FieldsAre(kStreamK, false, i8(), 576, 576, 576 * 16),
                  FieldsAre(kStreamK, true, f16(), 1, 2, 2 * 16),
                  FieldsAre(kStreamV, false, bf16(), 64, 128, 128 * 16)));
}

TEST_F(CacheTest, PlanesOfTokenMajorPages) {
  auto layout = PagedAttr::get(&context, 16, PageOrder::NHD);
  EXPECT_THAT(
      cache(layout).planes(),
      ElementsAre(FieldsAre(kStreamK, false, i8(), 576, 576 * 3, 576),
                  FieldsAre(kStreamK, true, f16(), 1, 2 * 3, 2),
                  FieldsAre(kStreamV, false, bf16(), 64, 128 * 3, 128)));
}

TEST_F(CacheTest, PlanesInOnePiece) {
  // Only the runtime knows a sequence's capacity, so the stride of heads that
  // stand one after another.
  auto planes = cache(ContiguousAttr::get(&context, PageOrder::HND)).planes();
  EXPECT_THAT(planes[0], FieldsAre(kStreamK, false, i8(), 576, 576, 0));
  planes = cache(ContiguousAttr::get(&context, PageOrder::NHD)).planes();
  EXPECT_THAT(planes[0], FieldsAre(kStreamK, false, i8(), 576, 576 * 3, 576));
}

TEST_F(CacheTest, PlaneIndices) {
  CacheType type = cache(PagedAttr::get(&context, 16, PageOrder::HND));
  EXPECT_EQ(type.planeIndex(kStreamK, false), 0u);
  EXPECT_EQ(type.planeIndex(kStreamK, true), 1u);
  EXPECT_EQ(type.planeIndex(kStreamV, false), 2u);
}

TEST_F(CacheTest, ChannelOrdersArePermutations) {
  for (CodecAttrInterface codec :
       {floatCodec(f32()), floatCodec(f16()), floatCodec(bf16()),
        CodecAttrInterface(IntCodecAttr::get(&context, 8, f32()))})
    for (int64_t lanes : {8, 16}) {
      int64_t preferred = codec.getPreferredChannels(lanes);
      EXPECT_EQ(preferred % lanes, 0);
      for (int64_t channels : {lanes, preferred}) {
        auto order = codec.getChannelOrder(channels, lanes);
        llvm::sort(order);
        EXPECT_EQ(order, llvm::to_vector(llvm::seq<int64_t>(0, channels)));
      }
    }
}

TEST_F(CacheTest, ScheduleWithOneFieldChanged) {
  auto schedule = ScheduleAttr::of(&context, {.tokens = 16,
                                              .rows = 3,
                                              .keys = 2,
                                              .queries = 16,
                                              .split = 2048,
                                              .prefetch = 8,
                                              .dot = true});
  std::string text;
  mlir::ScopedDiagnosticHandler handler(
      &context, [&](mlir::Diagnostic &diagnostic) { text = diagnostic.str(); });
  auto refuse = [&] {
    return mlir::emitError(mlir::UnknownLoc::get(&context));
  };
  EXPECT_EQ(schedule.with(refuse, {}), schedule);
  EXPECT_EQ(schedule.with(refuse, {{"rows", 8}}).str(),
            "tokens = 16, rows = 8, keys = 2, queries = 16, split = 2048, "
            "prefetch = 8, level = 2, pack = false, dot = true");
  EXPECT_EQ(schedule.with(refuse, {{"pack", 1}}).str(),
            "tokens = 16, rows = 3, keys = 2, queries = 16, split = 2048, "
            "prefetch = 8, level = 2, pack = true, dot = true");
  for (auto field :
       {"tokens", "keys", "queries", "split", "prefetch", "level", "dot"})
    EXPECT_NE(
        schedule.with(refuse,
                      {{field, field[0] == 's' || field[0] == 'd' ? 0 : 1}}),
        schedule)
        << field;
  EXPECT_EQ(text, "schedule field `prefetch` must be in [0, 3], found 8");
  // Legal together, whatever their order.
  EXPECT_TRUE(schedule.with(refuse, {{"tokens", 24}, {"split", 2400}}));
  EXPECT_FALSE(schedule.with(refuse, {{"rows", 17}}));
  EXPECT_EQ(text, "schedule field `rows` must be in [1, 16], found 17");
  EXPECT_FALSE(schedule.with(refuse, {{"warpsSplitQ", 1}}));
  EXPECT_EQ(text,
            "schedule field `warpsSplitQ` is of work tiles that are done by "
            "warps");
  EXPECT_FALSE(schedule.with(refuse, {{"bulk", 1}}));
  EXPECT_EQ(text, "schedule field `bulk` is of work tiles that are done by "
                  "warps");
  auto warps = schedule.with(refuse, {{"warps", 2}, {"stages", 2}});
  ASSERT_TRUE(warps);
  EXPECT_TRUE(warps.str().ends_with("warpsSplitQ = false, bulk = false"));
  EXPECT_TRUE(warps.with(refuse, {{"bulk", 1}}).getBulk());
  EXPECT_FALSE(schedule.with(refuse, {{"row", 1}}));
  EXPECT_THAT(text, HasSubstr("no field `row`"));
}

} // namespace
