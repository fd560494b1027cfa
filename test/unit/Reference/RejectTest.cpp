//===- RejectTest.cpp - what the interpreter refuses ----------------------===//
#include "test/unit/Reference/Fixture.h"

#include "mlir/IR/Diagnostics.h"

using namespace kvc;
using namespace kvc::reference;
using testing::HasSubstr;

namespace {

class Reject : public testing::Test {
protected:
  /// Runs a function that must fail; returns what it said.
  std::string run(llvm::StringRef function,
                  llvm::ArrayRef<HostValue> arguments) {
    std::string text;
    mlir::ScopedDiagnosticHandler handler(
        &scene.context, [&](mlir::Diagnostic &diagnostic) {
          EXPECT_FALSE(mlir::isa<mlir::UnknownLoc>(diagnostic.getLocation()));
          text += diagnostic.str() + "\n";
        });
    auto result = Interpreter(*scene.module).run(function, arguments);
    EXPECT_TRUE(mlir::failed(result));
    return text;
  }
  std::string attend() {
    return run("attend", {scene.q(), &scene.arena->cache(), &batch});
  }
  HostCache &cache() { return scene.arena->cache(); }

  Scene scene{Shape()};
  HostBatch batch = scene.batch();
};

TEST_F(Reject, UnknownFunction) {
  EXPECT_THAT(run("atend", {}), HasSubstr("no function named `atend`"));
}

TEST_F(Reject, ArgumentsOfTheWrongNumberOrKind) {
  EXPECT_THAT(run("attend", {}), HasSubstr("takes 3 arguments, got 0"));
  EXPECT_THAT(run("attend", {scene.q(), &batch, &batch}),
              HasSubstr("argument 1 is not a '!kvc.cache<"));
  EXPECT_THAT(run("attend", {scene.q(), &cache(), &cache()}),
              HasSubstr("argument 2 is not a '!kvc.batch'"));
  EXPECT_THAT(run("attend", {scene.k(), &cache(), &batch}),
              HasSubstr("argument 0 is not a 'tensor<?x6x16xf32>'"));
  Rows torn = scene.q();
  torn.rows += 1;
  EXPECT_THAT(run("attend", {torn, &cache(), &batch}),
              HasSubstr("argument 0 is not a"));
  EXPECT_THAT(run("attend", {Tensor({9, 6, 16}, 0), &cache(), &batch}),
              HasSubstr("is given rows for a result"));
}

TEST_F(Reject, CacheOfAnotherType) {
  Shape shape;
  shape.order = "NHD";
  Scene other(shape);
  EXPECT_THAT(run("attend", {scene.q(), &other.arena->cache(), &batch}),
              HasSubstr("argument 1 is not a"));
  // The same without IR.
  AttendProblem problem = AttendProblem::of(scene.attendOp("attend"));
  auto result =
      reference::attend(problem, scene.q(), other.arena->cache(), batch);
  ASSERT_FALSE(bool(result));
  EXPECT_EQ(llvm::toString(result.takeError()),
            "the cache is of another type than the store's");
}

TEST_F(Reject, QueryOffsets) {
  std::vector<int32_t> bad[] = {
      {0, 2, 3, 7}, {0, 2, 3, 7, 9}, {0, 3, 2, 7, 8}, {-1, 2, 3, 7, 8}, {}};
  for (auto &cuQ : bad) {
    batch.cuQ = cuQ;
    EXPECT_THAT(attend(), HasSubstr("query offsets must rise from 0 to at most "
                                    "8, one more than the 4 sequences"));
  }
}

TEST_F(Reject, LengthsAndTables) {
  std::vector<int32_t> lengths = {9, 0, 17, 1};
  batch.kvLen = lengths;
  EXPECT_THAT(attend(),
              HasSubstr("sequence 2: a length of 17 does not fit 16 tokens"));
  lengths = {-1, 0, 4, 1};
  EXPECT_THAT(attend(), HasSubstr("sequence 0: a length of -1"));
  batch = scene.batch();
  batch.table = batch.table.drop_back();
  EXPECT_THAT(attend(), HasSubstr("the table has 15 entries, 4 sequences need "
                                  "4 each"));
  batch = scene.batch();
  batch.tableStride = 0;
  EXPECT_THAT(attend(), HasSubstr("the table has"));
}

TEST_F(Reject, PagesOutsideOfTheCache) {
  int64_t pages = cache().outers;
  for (int64_t page : {pages, int64_t(-1), int64_t(INT32_MIN)}) {
    scene.table[1] = int32_t(page);
    EXPECT_THAT(attend(),
                HasSubstr(llvm::formatv("sequence 0: token 4 is on page {0}, "
                                        "the cache has {1}",
                                        page, pages)
                              .str()));
  }
}

TEST_F(Reject, OneTableEntryPerSequenceInOnePiece) {
  Shape shape;
  shape.page = 0;
  Scene flat(shape);
  HostBatch wide = flat.batch();
  std::vector<int32_t> table(8, 0);
  wide.table = table, wide.tableStride = 2;
  auto result = reference::attend(AttendProblem::of(flat.attendOp("attend")),
                                  flat.q(), flat.arena->cache(), wide);
  ASSERT_FALSE(bool(result));
  EXPECT_THAT(llvm::toString(result.takeError()), HasSubstr("one table entry"));
}

TEST_F(Reject, SlotsOutsideOfTheCacheBeforeAnythingIsWritten) {
  std::vector<uint8_t> before(scene.arena->bytes().begin(),
                              scene.arena->bytes().end());
  std::vector<int64_t> slots(scene.slots.size(), 0);
  slots.back() = cache().outers * 4;
  EXPECT_THAT(run("append", {scene.k(), scene.v(), Slots(slots), &cache()}),
              HasSubstr(llvm::formatv("row 13 is at slot {0}, the cache has "
                                      "{0}",
                                      cache().outers * 4)
                            .str()));
  EXPECT_TRUE(llvm::equal(scene.arena->bytes(), before));
  slots.pop_back();
  EXPECT_THAT(run("append", {scene.k(), scene.v(), Slots(slots), &cache()}),
              HasSubstr("has 14 rows of k, 14 of v and 13 slots"));
}

TEST_F(Reject, GatheredSlotsOutsideOfTheCache) {
  int64_t tokens = cache().outers * 4;
  std::vector<int64_t> slots = {0, -1, tokens - 1, tokens, INT64_MAX};
  EXPECT_THAT(
      run("gather", {Slots(slots), &cache()}),
      HasSubstr(llvm::formatv("row 3 is at slot {0}, the cache has {0}", tokens)
                    .str()));
  auto result = reference::gather(0, 3, slots, cache());
  ASSERT_FALSE(bool(result));
  EXPECT_THAT(llvm::toString(result.takeError()), HasSubstr("row 3 is at"));
}

TEST_F(Reject, GatherOfOtherArguments) {
  std::vector<int64_t> slots = {0};
  EXPECT_THAT(run("gather", {Slots(slots)}),
              HasSubstr("takes 2 arguments, got 1"));
  EXPECT_THAT(run("gather", {scene.k(), &cache()}),
              HasSubstr("argument 0 is not a 'tensor<?xi64>'"));
  EXPECT_THAT(run("gather", {Slots(slots), &batch}),
              HasSubstr("argument 1 is not a '!kvc.cache<"));
  Shape shape;
  shape.codecV = "#kvc.float<bf16>";
  Scene other(shape);
  EXPECT_THAT(run("gather", {Slots(slots), &other.arena->cache()}),
              HasSubstr("argument 1 is not a '!kvc.cache<"));
}

TEST_F(Reject, PartialsThatDoNotBelongTogether) {
  EXPECT_THAT(run("merge", {Tensor({2, 8, 6, 8}, 0), Tensor({3, 8, 6}, 0)}),
              HasSubstr("partial o and lse differ in shape"));
}

TEST_F(Reject, OpsWithoutAMeaning) {
  scene.module = mlir::parseSourceString<mlir::ModuleOp>(
      "func.func @f() { func.call @g() : () -> () return }\n"
      "func.func private @g()",
      &scene.context);
  EXPECT_THAT(run("f", {}), HasSubstr("has no meaning to the interpreter"));
  EXPECT_THAT(run("g", {}), HasSubstr("takes 0 arguments"));
}

} // namespace
