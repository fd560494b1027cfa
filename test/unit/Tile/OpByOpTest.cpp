//===- OpByOpTest.cpp - kernels that no loop was written for, run ---------===//
//
// Compiles the kernels of test/codegen/cpu/op-by-op-kernels.mlir for this
// machine, runs them on ragged batches over scattered pages, and holds what
// they give against the tile interpreter. Rows that no token has are NaN.
//
//===----------------------------------------------------------------------===//
#include "codegen/cpu/Backend.h"
#include "dialect/codecs/HostFloat.h"
#include "lib/base/Artifact/ElfImage.h"
#include "lib/base/Artifact/KernelAbi.h"
#include "lib/driver/Reference/TileInterpreter.h"
#include "test/support/KernelWords.h"

#include "mlir/IR/Diagnostics.h"
#include "mlir/Parser/Parser.h"
#include "llvm/IR/LLVMContext.h"
#include "llvm/IR/Module.h"

#include <numeric>
#include <random>

using namespace kvc;
using namespace kvc::reference;
using artifact::Word;

namespace {

/// Rows of q as a model of this type has them.
struct Queries {
  Queries(mlir::Type dtype, int64_t rows, int64_t heads, int64_t dim,
          std::mt19937 &random)
      : wide(rows * heads * dim), view{wide, rows, heads, dim} {
    std::normal_distribution<float> normal;
    auto codec = FloatCodecAttr::get(dtype.getContext(), dtype);
    bytes.resize(wide.size() * dtype.getIntOrFloatBitWidth() / 8);
    for (float &x : wide)
      x = normal(random);
    codec.quantizeRows(wide, 1, bytes.data());
    codec.dequantizeRow(static_cast<const uint8_t *>(bytes.data()), wide);
  }
  std::vector<float> wide;
  std::vector<uint8_t> bytes;
  Rows view;
};

class OpByOp : public testing::TestWithParam<const char *> {
protected:
  OpByOp() {
    context.loadDialect<KvcDialect, tile::TileDialect,
                        mlir::arith::ArithDialect, mlir::math::MathDialect>();
  }
  /// The kernel of a store, alone, in a module of its own.
  mlir::OwningOpRef<mlir::ModuleOp> parse(llvm::StringRef name);
  void compile(mlir::ModuleOp module, const cpu::CpuTarget &target);
  void fill(HostCache &cache, const HostBatch &batch);
  AttendResult execute(const Queries &q, const HostBatch &batch,
                       const HostCache &cache);

  mlir::MLIRContext context{mlir::MLIRContext::Threading::DISABLED};
  std::mt19937 random{7};
  tile::KernelOp kernel;
  StoreOp store;
  ScheduleAttrInterface schedule;
  int64_t dim = 0;
  std::string symbol;
  cpu::KernelNeeds needs;
  std::unique_ptr<artifact::ElfImage> image;
};

} // namespace

mlir::OwningOpRef<mlir::ModuleOp> OpByOp::parse(llvm::StringRef name) {
  auto module = mlir::parseSourceFile<mlir::ModuleOp>(
      std::string(KVC_SOURCE_DIR) + "/test/codegen/cpu/op-by-op-kernels.mlir",
      &context);
  for (mlir::Operation &op : llvm::make_early_inc_range(*module->getBody())) {
    auto symbol = op.getAttrOfType<mlir::StringAttr>("sym_name").getValue();
    if (symbol.split('.').first != name)
      op.erase();
  }
  kernel = *module->getOps<tile::KernelOp>().begin();
  store = *module->getOps<StoreOp>().begin();
  schedule = *kernel.getSchedule();
  for (auto stored : kernel.getBody().getOps<tile::StorePartialOp>())
    dim = stored.getState().getType().getDim();
  return module;
}

void OpByOp::compile(mlir::ModuleOp module, const cpu::CpuTarget &target) {
  std::string remark;
  mlir::ScopedDiagnosticHandler handler(&context,
                                        [&](mlir::Diagnostic &diagnostic) {
                                          remark += diagnostic.str();
                                          return mlir::success();
                                        });
  symbol = kernel.getSymName().str();
  mlir::OwningOpRef<mlir::ModuleOp> copy(module.clone());
  (*copy)->setAttr("kvc.target", cpu::targetAttr(&context, target));
  cpu::KernelNeedsMap all;
  ASSERT_TRUE(mlir::succeeded(cpu::lowerTileToCpu(*copy, target, all)))
      << remark;
  EXPECT_NE(remark.find("[R-OP-BY-OP]"), std::string::npos) << remark;
  needs = all.lookup(symbol);
  std::string error = "no LLVM IR";
  std::vector<uint8_t> object;
  llvm::LLVMContext llvmContext;
  if (mlir::succeeded(cpu::lowerCpuToLlvm(*copy)))
    if (auto code = cpu::emitLlvm(*copy, target, llvmContext))
      object = cpu::emitObject(*code, target, error);
  ASSERT_FALSE(object.empty()) << error;
  image = artifact::ElfImage::load(object, error);
  ASSERT_TRUE(image) << error;
}

/// Boxes that sequences have, wholly or in part. Everything else stays as it
/// is.
void OpByOp::fill(HostCache &cache, const HostBatch &batch) {
  std::normal_distribution<float> normal;
  for (StreamAttr stream : cache.type.getStreams()) {
    HostStream to(cache, stream.getName());
    int64_t step = 1;
    for (size_t plane = 0; plane < to.planes(); ++plane)
      step = std::max(step, to.plane(plane).tokens);
    for (int64_t b = 0; b < batch.sequences(); ++b)
      for (int64_t head = 0; head < cache.type.getHeads(); ++head)
        for (int64_t t = 0; t < batch.kvLen[b]; t += step) {
          std::vector<float> rows(step * to.dim());
          for (float &x : rows)
            x = normal(random);
          to.quantize(
              batch.table[b * batch.tableStride + t / cache.outerTokens], head,
              t % cache.outerTokens, rows);
        }
  }
}

AttendResult OpByOp::execute(const Queries &q, const HostBatch &batch,
                             const HostCache &cache) {
  int64_t columns = cache.type.getHeads() * store.getGroup();
  int64_t of = store.getQHeads(), rows = q.view.rows;
  int64_t first = store.getHeadBegin() * store.getGroup();
  int64_t longest = 1;
  for (int32_t length : batch.kvLen)
    longest = std::max<int64_t>(longest, length);
  int64_t split = schedule.getSplit() ? schedule.getSplit() : longest;
  int64_t numSplits = llvm::divideCeil(longest, split);
  AttendResult result;
  result.o = Tensor({numSplits, rows, of, dim}, 0);
  result.lse = Tensor({numSplits, rows, of}, -INFINITY);
  for (int64_t b = 0; b < batch.sequences(); ++b) {
    int64_t queries = batch.queries(b), length = batch.kvLen[b];
    std::vector<float> o(numSplits * queries * columns * dim, NAN);
    std::vector<float> lse(numSplits * queries * columns, NAN);
    test::KernelWords words;
    words.set(Word::Q, q.bytes.data());
    words.set(Word::QRowStride,
              int64_t(q.bytes.size() / std::max<int64_t>(rows, 1)));
    words.set(Word::QHeadStride, int64_t(q.bytes.size() * q.view.dim /
                                         std::max<size_t>(q.wide.size(), 1)));
    words.set(Word::CuQ, batch.cuQ.data());
    words.set(Word::KvLen, batch.kvLen.data());
    words.set(Word::Table, batch.table.data());
    words.set(Word::TableStride, batch.tableStride);
    words.set(Word::PartialO, o.data());
    words.set(Word::PartialLse, lse.data());
    words.setPlanes(cache);
    std::vector<uint64_t> block = words.block(needs.params);
    std::vector<uint8_t> scratch(needs.scratch + 128, 0xff);
    for (int64_t head = 0; head < cache.type.getHeads(); ++head)
      for (int64_t begin = 0; begin < length; begin += split)
        for (int64_t row = 0; row < queries; row += schedule.getQueries()) {
          KvcWorkTile tile = {};
          tile.sequence = int32_t(b), tile.head = int32_t(head);
          tile.begin = int32_t(begin);
          tile.end = int32_t(std::min(begin + split, length));
          tile.split_idx = int32_t(begin / split);
          tile.row_begin = int32_t(row);
          tile.row_end =
              int32_t(std::min<int64_t>(row + schedule.getQueries(), queries));
          tile.split_queries = int32_t(queries);
          tile.scratch = reinterpret_cast<void *>(
              llvm::alignAddr(scratch.data(), llvm::Align(64)));
          reinterpret_cast<void (*)(const void *, const KvcWorkTile *)>(
              image->symbol(cpu::symbolName(symbol)))(block.data(), &tile);
        }
    for (int64_t splitIdx = 0; splitIdx * split < length; ++splitIdx)
      for (int64_t i = 0; i < queries; ++i)
        for (int64_t column = 0; column < columns; ++column) {
          int64_t from = (splitIdx * queries + i) * columns + column;
          int64_t to =
              (splitIdx * rows + batch.cuQ[b] + i) * of + first + column;
          result.lse.data[to] = lse[from];
          std::copy_n(&o[from * dim], dim, &result.o.data[to * dim]);
        }
  }
  return result;
}

namespace {

TEST_P(OpByOp, GivesWhatTheInterpreterGives) {
  auto module = parse(GetParam());
  const cpu::CpuTarget *target = nullptr;
  for (const cpu::CpuTarget &level : cpu::cpuTargets())
    if (cpu::missingFeatures(level).empty())
      target = &level; // the last is the richest
  ASSERT_TRUE(target);
  compile(*module, *target);
  if (HasFatalFailure())
    return;
  std::vector<int32_t> lengths{70, 1, 35}, cuQ{0, 5, 6, 13}, table;
  auto type = mlir::cast<CacheType>(store.getCache());
  int64_t page = type.layout().getPageTokens();
  int64_t stride = page ? llvm::divideCeil(70, page) : 1, pages = 3 * stride;
  for (int64_t i = 0; i < pages; ++i)
    table.push_back(int32_t((i * 7 + 3) % pages));
  // NaN, and codes that would be seen.
  HostArena arena(type, pages, page ? page : 75, /*fill=*/0xff);
  HostBatch batch{cuQ, lengths, table, stride};
  fill(arena.cache(), batch);
  // A token that most rows do not see, of all that they add up.
  if (llvm::any_of(type.getStreams(),
                   [](StreamAttr stream) { return stream.getName() == "v"; })) {
    HostStream v(arena.cache(), "v");
    int64_t outer = arena.cache().outerTokens;
    for (size_t plane = 0; plane < v.planes(); ++plane)
      for (int64_t head = 0; head < type.getHeads(); ++head)
        std::memset(v.row(plane, table[69 / outer], head, 69 % outer), 0xff,
                    v.plane(plane).rowBytes);
  }
  int64_t dimQ = 0;
  for (auto query : kernel.getBody().getOps<tile::LoadQueryOp>())
    dimQ = mlir::cast<mlir::RankedTensorType>(query.getQ().getType())
               .getDimSize(1);
  Queries q(kernel.getDtype(), cuQ.back(), store.getQHeads(), dimQ, random);
  auto want = TileInterpreter(kernel).attend(q.view, arena.cache(), batch);
  ASSERT_TRUE(mlir::succeeded(want));
  AttendResult got = execute(q, batch, arena.cache());
  ASSERT_EQ(got.o.shape, want->o.shape);
  int64_t size = 0;
  for (auto [x, y] : llvm::zip_equal(got.lse.data, want->lse.data)) {
    size += std::isfinite(y);
    if (x != y) // -inf
      ASSERT_NEAR(x, y, 1e-4 * (1 + std::fabs(y)));
  }
  EXPECT_GE(size, 20);
  for (auto [x, y] : llvm::zip_equal(got.o.data, want->o.data))
    if (!std::isnan(x) || !std::isnan(y)) // of the row that sees it
      ASSERT_NEAR(x, y, 1e-4);
}

INSTANTIATE_TEST_SUITE_P(Kernels, OpByOp,
                         testing::Values("two", "odd", "latent", "other",
                                         "twice", "along", "masks",
                                         "notnumber"),
                         [](const auto &info) {
                           return std::string(info.param);
                         });

} // namespace
