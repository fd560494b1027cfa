//===- CacheTest.cpp - geometry, schedules, channel orders ----------------===//
#include "test/unit/Dialect/Codecs.h"

#include "mlir/AsmParser/AsmParser.h"
#include "mlir/IR/Diagnostics.h"
#include "gmock/gmock.h"

using namespace kvc;
using testing::ElementsAre;
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

/// "k.codes: 576 i8 per 1 token, row 576 (stride 576), head 9216, at 0".
std::string text(const PlaneGeometry &plane) {
  std::string text;
  llvm::raw_string_ostream(text)
      << plane.name() << ": " << plane.elements << " " << plane.type << " per "
      << plane.tokens << ", row " << plane.rowBytes << " stride "
      << plane.rowStride << ", head " << plane.headStride << ", at "
      << plane.pageOffset;
  return text;
}

std::vector<std::string> planesOf(CacheType cache) {
  std::vector<std::string> texts;
  for (const PlaneGeometry &plane : cache.planes())
    texts.push_back(text(plane));
  return texts;
}

TEST_F(CacheTest, PlanesOfHeadMajorPages) {
  CacheType type = cache(PagedAttr::get(&context, 16, PageOrder::HND));
  EXPECT_THAT(
      planesOf(type),
      ElementsAre(
          "k.codes: 576 i8 per 1, row 576 stride 576, head 9216, at 0",
          "k.scales: 1 f16 per 1, row 2 stride 2, head 32, at 27648",
          "v.codes: 64 bf16 per 1, row 128 stride 128, head 2048, at 27776"));
  EXPECT_EQ(type.pageBytes(), 27776 + 3 * 16 * 128);
}

TEST_F(CacheTest, PlanesOfTokenMajorPages) {
  EXPECT_THAT(
      planesOf(cache(PagedAttr::get(&context, 16, PageOrder::NHD))),
      ElementsAre(
          "k.codes: 576 i8 per 1, row 576 stride 1728, head 576, at 0",
          "k.scales: 1 f16 per 1, row 2 stride 6, head 2, at 27648",
          "v.codes: 64 bf16 per 1, row 128 stride 384, head 128, at 27776"));
}

TEST_F(CacheTest, PlanesInOnePiece) {
  // Only the runtime knows a sequence's capacity, so the stride of heads that
  // stand one after another, and where planes begin.
  CacheType hnd = cache(ContiguousAttr::get(&context, PageOrder::HND));
  EXPECT_EQ(planesOf(hnd)[0],
            "k.codes: 576 i8 per 1, row 576 stride 576, head 0, at 0");
  EXPECT_EQ(hnd.pageBytes(), 0);
  CacheType nhd = cache(ContiguousAttr::get(&context, PageOrder::NHD));
  EXPECT_EQ(planesOf(nhd)[2],
            "v.codes: 64 bf16 per 1, row 128 stride 384, head 128, at 0");
}

TEST_F(CacheTest, PlanesOfBoxes) {
  mlir::Attribute two =
      IntCodecAttr::get(&context, 2, f16(), f16(), /*tokens=*/32,
                        /*channels=*/1);
  auto type = CacheType::get(
      &context, 2,
      {StreamAttr::get(&context, kStreamK, 64, two),
       StreamAttr::get(&context, "mean", 64, floatCodec(bf16()), 16),
       StreamAttr::get(&context, "state", 100, floatCodec(f32()), 0)},
      PagedAttr::get(&context, 64, PageOrder::HND));
  EXPECT_THAT(
      planesOf(type),
      ElementsAre(
          "k.codes: 64 i2 per 1, row 16 stride 16, head 1024, at 0",
          "k.scales: 64 f16 per 32, row 128 stride 128, head 256, at 2048",
          "k.zeros: 64 f16 per 32, row 128 stride 128, head 256, at 2560",
          "mean.codes: 64 bf16 per 16, row 128 stride 128, head 512, at 3072",
          "state.codes: 100 f32 per 0, row 400 stride 400, head 400, at 4096"));
  EXPECT_EQ(type.pageBytes(), 4096 + 832);
}

// The rows of the other stream, of which it has the beginnings.
TEST_F(CacheTest, AStreamOfAnother) {
  auto codec = IntCodecAttr::get(&context, 8, f16());
  auto of = mlir::StringAttr::get(&context, kStreamK);
  CacheType type =
      CacheType::get(&context, 1,
                     {StreamAttr::get(&context, kStreamK, 576, codec),
                      StreamAttr::get(&context, kStreamV, 512, codec, 1, of),
                      StreamAttr::get(&context, "w", 64, codec)},
                     PagedAttr::get(&context, 64, PageOrder::HND));
  EXPECT_TRUE(type.isVOfK());
  EXPECT_FALSE(cache(PagedAttr::get(&context, 16, PageOrder::HND)).isVOfK());
  EXPECT_THAT(planesOf(type),
              ElementsAre(HasSubstr("k.codes: 576"), HasSubstr("k.scales"),
                          HasSubstr("w.codes: 64"), HasSubstr("w.scales")));
  EXPECT_EQ(type.planeIndex(kStreamV), 0u);
  EXPECT_EQ(type.planeIndex("w"), 2u);
  EXPECT_EQ(type.stream(kStreamV).dim, 512);
}

TEST_F(CacheTest, PlaneIndices) {
  CacheType type = cache(PagedAttr::get(&context, 16, PageOrder::HND));
  EXPECT_EQ(type.planeIndex(kStreamK), 0u);
  EXPECT_EQ(type.planeIndex(kStreamV), 2u);
}

TEST_F(CacheTest, ScheduleWithOneFieldChanged) {
  ScheduleAttrInterface schedule =
      CoreScheduleAttr::get(&context, {.tokens = 16,
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
  EXPECT_FALSE(schedule.with(refuse, {{"pack", 7}}));
  EXPECT_EQ(text, "schedule field `pack` is a flag, so 0 or 1; found 7");
  EXPECT_EQ(schedule.with(refuse, {{"pack", 1}}).str(),
            "tokens = 16, rows = 3, keys = 2, queries = 16, split = 2048, "
            "prefetch = 8, level = 2, pack = true, dot = true");
  // Legal together, whatever their order.
  EXPECT_TRUE(schedule.with(refuse, {{"tokens", 24}, {"split", 2400}}));
  EXPECT_FALSE(schedule.with(refuse, {{"tokens", 24}}));
  EXPECT_EQ(text, "`tokens` divides `split`; found tokens = 24, split = 2048");
  EXPECT_FALSE(schedule.with(refuse, {{"rows", 17}}));
  EXPECT_EQ(text, "schedule field `rows` must be in [1, 16], found 17");
  EXPECT_FALSE(schedule.with(refuse, {{"row", 1}}));
  EXPECT_THAT(text, HasSubstr("has no field `row`; it has tokens, rows, keys"));
  EXPECT_FALSE(schedule.with(refuse, {{"warps", 2}}));
  EXPECT_THAT(text, HasSubstr("a schedule for CPUs has no field `warps`"));
}

/// Each field, changed alone, is in the text, in what getFields() says and in
/// the attribute that is parsed from the text.
TEST_F(CacheTest, SchedulesAreWhatTheirFieldsSay) {
  mlir::ScopedDiagnosticHandler quiet(&context, [](mlir::Diagnostic &) {});
  auto refuse = [&] {
    return mlir::emitError(mlir::UnknownLoc::get(&context));
  };
  for (ScheduleAttrInterface plain :
       {ScheduleAttrInterface(CoreScheduleAttr::get(&context, {})),
        ScheduleAttrInterface(WarpScheduleAttr::get(&context, {}))})
    for (const ScheduleField &field : plain.getFields()) {
      EXPECT_EQ(field.value, field.initial);
      EXPECT_TRUE(field.doc.ends_with("."));
      int64_t value = field.initial == field.most ? field.least : field.most;
      ScheduleAttrInterface changed = plain.with(refuse, {{field.name, value}});
      ASSERT_TRUE(changed) << field.name.str();
      EXPECT_NE(changed, plain);
      for (const ScheduleField &now : changed.getFields())
        EXPECT_EQ(now.value, now.name == field.name ? value : now.initial);
      std::string text;
      llvm::raw_string_ostream(text) << changed;
      EXPECT_EQ(mlir::parseAttribute(text, &context), changed);
      if (!field.isFlag)
        EXPECT_FALSE(plain.with(refuse, {{field.name, field.most + 1}}));
    }
}

TEST_F(CacheTest, RoundsOfWarps) {
  auto round = [&](const WarpSchedule &fields) {
    ScheduleAttrInterface schedule = WarpScheduleAttr::get(&context, fields);
    return schedule.getRoundTokens();
  };
  EXPECT_EQ(round({.tokens = 32, .warps = 4}), 128);
  EXPECT_EQ(round({.tokens = 32, .rows = 64, .warps = 4, .warpsSplitQ = true}),
            32);
  ScheduleAttrInterface core = CoreScheduleAttr::get(&context, {.tokens = 8});
  EXPECT_EQ(core.getRoundTokens(), 8);
}

} // namespace
