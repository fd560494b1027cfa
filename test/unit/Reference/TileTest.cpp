//===- TileTest.cpp - the tile level means what the kvc level does --------===//
#include "lib/driver/Reference/TileInterpreter.h"
#include "passes/Passes.h"
#include "test/unit/Reference/Fixture.h"

#include "mlir/AsmParser/AsmParser.h"
#include "mlir/IR/Verifier.h"
#include "mlir/Pass/PassManager.h"

using namespace kvc;
using namespace kvc::reference;

namespace {

/// The kernels of a scene.
class TileScene {
public:
  /// Tiles of `tokens`, splits of `shape.splitTokens`.
  TileScene(const Shape &shape, int64_t tokens, bool appends = true)
      : scene(shape) {
    scene.context.loadDialect<tile::TileDialect>();
    module = scene.module->clone();
    for (const char *name : {"attend", "attend_and_merge"})
      module->lookupSymbol<mlir::func::FuncOp>(name).erase();
    if (!appends)
      module->lookupSymbol<mlir::func::FuncOp>("append").erase();
    auto schedule = CoreScheduleAttr::get(
        &scene.context, {.tokens = tokens, .split = shape.splitTokens});
    module->walk([&](AttendOp op) { op.setScheduleAttr(schedule); });
    run(createLowerToTile());
  }

  void run(std::unique_ptr<mlir::Pass> pass) {
    mlir::PassManager pm(&scene.context);
    pm.addPass(std::move(pass));
    ASSERT_TRUE(mlir::succeeded(pm.run(*module)));
  }

  TileInterpreter kernel(llvm::StringRef name) {
    return TileInterpreter(module->lookupSymbol<tile::KernelOp>(name));
  }
  AttendResult partials() {
    auto result = kernel("attend_splits")
                      .attend(scene.q(), scene.arena->cache(), scene.batch());
    EXPECT_TRUE(mlir::succeeded(result));
    return mlir::succeeded(result) ? *result : AttendResult();
  }

  Scene scene;
  mlir::OwningOpRef<mlir::ModuleOp> module;
};

/// Lowered, then folded, kernels give what the kvc ops give.
void expectSame(const Shape &shape, int64_t tokens, double tolerance = 1e-11) {
  TileScene tiles(shape, tokens);
  Scene &scene = tiles.scene;
  AttendResult want = scene.attend("attend_splits");
  expectNear(tiles.partials(), want, tolerance);
  auto merged = tiles.kernel("merge").merge(want.o, want.lse);
  ASSERT_TRUE(mlir::succeeded(merged));
  expectNear(*merged, scene.attend("attend_and_merge"), tolerance);
  tiles.run(createFoldScales());
  expectNear(tiles.partials(), want, tolerance);

  HostCache &cache = scene.arena->cache();
  HostArena arena(cache.type, cache.outers, cache.outerTokens);
  ASSERT_TRUE(mlir::succeeded(tiles.kernel("append").append(
      scene.k(), scene.v(), scene.slots, arena.cache())));
  EXPECT_EQ(arena.bytes(), scene.arena->bytes());

  // In another order, with tokens that are asked for twice or not at all.
  std::vector<int64_t> slots(scene.slots.rbegin(), scene.slots.rend());
  slots.insert(slots.begin() + 1, {-1, slots.back(), -77});
  auto gathered = tiles.kernel("gather").gather(slots, cache);
  ASSERT_TRUE(mlir::succeeded(gathered));
  Gathered rows = scene.gather(slots);
  for (auto part : {&Gathered::k, &Gathered::v}) {
    const Tensor &x = (*gathered).*part, &y = rows.*part;
    ASSERT_EQ(x.shape, y.shape);
    // What the kvc level gives is rounded to f32.
    for (auto [a, b] : llvm::zip_equal(x.data, y.data))
      ASSERT_NEAR(a, b, 1e-6 * std::fabs(b));
  }
}

TEST(Tile, MeansWhatKvcMeans) { expectSame({.splitTokens = 4}, 2); }

TEST(Tile, TilesAndSplits) {
  for (auto [tokens, splitTokens] :
       {std::pair(1, 1), {1, 3}, {3, 3}, {2, 8}, {16, 16}, {16, 1024}}) {
    Shape shape;
    shape.splitTokens = splitTokens;
    expectSame(shape, tokens);
  }
}

TEST(Tile, Layouts) {
  for (int64_t page : {0, 1, 3, 16})
    for (const char *order : {"HND", "NHD"}) {
      Shape shape;
      shape.page = page, shape.order = order, shape.splitTokens = 4;
      expectSame(shape, 4);
    }
}

TEST(Tile, StoresOfSomeHeads) {
  Shape shape;
  shape.kvHeads = 4, shape.firstHead = 1, shape.heads = 2, shape.group = 3;
  shape.dimK = 24, shape.dimV = 40, shape.splitTokens = 4;
  expectSame(shape, 2);
}

TEST(Tile, WindowsAndSoftcaps) {
  for (auto [sink, recent] :
       {std::pair(0, 1), {0, 5}, {2, 3}, {4, 100}, {100, 1}, {15, 10}})
    for (double softcap : {0., 1.5}) {
      Shape shape;
      shape.lengths = {20, 7}, shape.queries = {9, 2};
      shape.sink = sink, shape.recent = recent, shape.softcap = softcap;
      shape.scale = softcap ? 2 : 0.25, shape.splitTokens = 8;
      // A cap times log2(e) is rounded to f32.
      expectSame(shape, 4, softcap ? 1e-6 : 1e-12);
    }
}

TEST(Tile, RegionsOfScores) {
  Shape shape;
  shape.lengths = {20, 7}, shape.queries = {9, 2}, shape.splitTokens = 8;
  shape.logits = alibiRegion();
  expectSame(shape, 4, 1e-6); // the slope times log2(e) is rounded to f32
  shape.visible = chunksRegion();
  expectSame(shape, 4, 1e-6);
  shape.sink = 1, shape.recent = 6;
  expectSame(shape, 4, 1e-6);
}

TEST(Tile, SinksAndLastSplits) {
  Shape shape;
  shape.lengths = {20, 7, 1}, shape.queries = {9, 2, 3}, shape.splitTokens = 8;
  shape.kvHeads = 4, shape.firstHead = 1, shape.heads = 2;
  shape.sinkLogit = sinkRegion();
  expectSame(shape, 4);
  // What the last split of each row merges is the whole.
  TileScene tiles(shape, 4);
  (*tiles.module)
      ->setAttr("kvc.target",
                mlir::parseAttribute("#kvc.target<\"sm_90\", lanes = 32, "
                                     "registers = 255 shared = 232448>",
                                     &tiles.scene.context));
  tiles.run(createCombineSplits());
  auto result = tiles.kernel("attend_splits")
                    .attend(tiles.scene.q(), tiles.scene.arena->cache(),
                            tiles.scene.batch());
  ASSERT_TRUE(mlir::succeeded(result));
  ASSERT_TRUE(result->combined);
  AttendResult want = tiles.scene.attend("attend_and_merge");
  int64_t heads = tiles.scene.qHeads(), dim = shape.dimV;
  for (size_t row = 0; row < result->combined->lse.data.size(); ++row) {
    int64_t kvHead = int64_t(row) % heads / shape.group;
    if (kvHead < 1 || kvHead > 2)
      continue; // of other stores
    EXPECT_NEAR(result->combined->lse.data[row], want.lse.data[row], 1e-11);
    for (int64_t c = 0; c < dim; ++c)
      EXPECT_NEAR(result->combined->o.data[row * dim + c],
                  want.o.data[row * dim + c], 1e-11);
  }
}

// Dequantizing rounds code times scale to f32; folded, nothing does.
TEST(Tile, ScalesBeforeAndAfterTheyAreFolded) {
  for (const char *k : {"#kvc.int<8, scale = f32>", "#kvc.float<bf16>"})
    for (const char *v : {"#kvc.int<8, scale = f16>", "#kvc.float<f16>"}) {
      Shape shape;
      shape.codecK = k, shape.codecV = v, shape.splitTokens = 4;
      shape.softcap = 3;
      expectSame(shape, 2, 1e-6);
    }
}

// A pass that folded the scales of the wrong stream would be seen.
TEST(Tile, ScalesOfAnotherStreamShow) {
  Shape shape;
  shape.codecK = shape.codecV = "#kvc.int<8, scale = f32>";
  shape.dimK = shape.dimV = 16, shape.splitTokens = 4;
  TileScene tiles(shape, 2);
  AttendResult want = tiles.scene.attend("attend_splits");
  tiles.run(createFoldScales());
  tile::ScaleTokensOp last;
  tile::LoadOp first;
  auto attend = tiles.module->lookupSymbol<tile::KernelOp>("attend_splits");
  attend.walk([&](tile::ScaleTokensOp op) { last = op; });
  attend.walk([&](tile::LoadOp op) { first = first ? first : op; });
  last->setOperand(1, first.getPlanes()[1]);
  ASSERT_TRUE(mlir::succeeded(mlir::verify(*tiles.module)));
  AttendResult got = tiles.partials();
  double furthest = 0;
  for (auto [a, b] : llvm::zip(got.o.data, want.o.data))
    furthest = std::max(furthest, std::fabs(a - b));
  EXPECT_GT(furthest, 1e-3);
}

TEST(Tile, RefusesOpsOfOtherKernels) {
  TileScene tiles({.splitTokens = 4}, 2);
  std::string error;
  mlir::ScopedDiagnosticHandler handler(
      &tiles.scene.context,
      [&](mlir::Diagnostic &diagnostic) { error = diagnostic.str(); });
  EXPECT_TRUE(mlir::failed(tiles.kernel("append").attend(
      tiles.scene.q(), tiles.scene.arena->cache(), tiles.scene.batch())));
  EXPECT_THAT(error, testing::HasSubstr("finds no rows `k`"));
  HostCache &cache = tiles.scene.arena->cache();
  Slots slots(tiles.scene.slots);
  EXPECT_TRUE(mlir::failed(tiles.kernel("append").gather(slots, cache)));
  EXPECT_TRUE(mlir::failed(tiles.kernel("gather").append(
      tiles.scene.k(), tiles.scene.v(), slots, cache)));
  EXPECT_THAT(error, testing::HasSubstr("needs the work tile"));
}

// One kind's work tile may have what another kind's op asks for.
TEST(Tile, GatherStoresNothingInTheCache) {
  TileScene tiles({.splitTokens = 4}, 2);
  auto append = tiles.module->lookupSymbol<tile::KernelOp>("append");
  auto gather = tiles.module->lookupSymbol<tile::KernelOp>("gather");
  auto loop = *gather.getOps<tile::ForRowsOp>().begin();
  tile::StoreRowOp store;
  append.walk([&](tile::StoreRowOp op) { store = op; });
  tile::LoadOp load;
  gather.walk([&](tile::LoadOp op) { load = op; });
  ASSERT_EQ(load.getStream(), store.getStream());
  mlir::OpBuilder b(loop.getBody().front().getTerminator());
  tile::StoreRowOp::create(b, load.getLoc(), loop.getBody().getArgument(0),
                           load.getStream(), load.getPlanes());
  std::string error;
  mlir::ScopedDiagnosticHandler handler(
      &tiles.scene.context,
      [&](mlir::Diagnostic &diagnostic) { error = diagnostic.str(); });
  EXPECT_TRUE(mlir::failed(tiles.kernel("gather").gather(
      tiles.scene.slots, tiles.scene.arena->cache())));
  EXPECT_THAT(error, testing::HasSubstr("needs the work tile of an append"));
}

TEST(Tile, GathersBoxesOfTokens) {
  Shape shape;
  shape.codecK = "#kvc.int<3, scale = f32 zero = f16 tokens = 2 channels = 8>";
  shape.codecV = "#kvc.int<5, scale = f16 tokens = 4>";
  shape.lengths = {0}, shape.queries = {0}; // appends are of single tokens
  shape.splitTokens = 4;
  TileScene tiles(shape, 4, /*appends=*/false);
  HostCache &cache = tiles.scene.arena->cache();
  auto bytes = tiles.scene.arena->bytes();
  for (auto [i, byte] : llvm::enumerate(bytes))
    byte = uint8_t(i * 7 % 61); // a scale or zero of any sort, but finite
  std::vector<int64_t> slots = {9, 2, -1, 3, 0, 17, 2};
  auto rows = tiles.kernel("gather").gather(slots, cache);
  ASSERT_TRUE(mlir::succeeded(rows));
  Gathered want = tiles.scene.gather(slots);
  double largest = 0;
  for (auto part : {&Gathered::k, &Gathered::v})
    for (auto [a, b] :
         llvm::zip_equal(((*rows).*part).data, (want.*part).data)) {
      ASSERT_NEAR(a, b, 1e-6 * std::fabs(b) + 1e-30);
      largest = std::max(largest, std::fabs(b));
    }
  EXPECT_GT(largest, 0);
}

} // namespace
