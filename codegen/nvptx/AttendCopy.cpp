//===- AttendCopy.cpp - where rows are, copied by who reads them ----------===//
//
// Those who share an smem pipeline fill it, 16 bytes a lane where rows are
// multiples of 16, several whole rows with one instruction. Rows stand a
// multiple of 16 bytes plus 16 apart in shared memory, so that eight rows at
// one offset (what ldmatrix reads at a time) lie in eight different groups of
// banks, and every address is the lane's own plus a constant.
//
//===----------------------------------------------------------------------===//
#include "codegen/nvptx/Attend.h"

#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace kvc;
using namespace kvc::nvptx;
using arith::CmpIPredicate;

//===----------------------------------------------------------------------===//
// Pages
//===----------------------------------------------------------------------===//

AttendKernel::CopyShape AttendKernel::shapeOf(int64_t rowBytes) const {
  CopyShape shape;
  shape.rowBytes = rowBytes;
  shape.unit = rowBytes % 16 == 0 ? 16 : 8; // dims are multiples of 8
  int64_t units = rowBytes / shape.unit;
  shape.lanesPerRow = std::min(kWarpLanes, units & -units);
  // With fewer rows than that leaves lanes for, some have nothing to do.
  shape.rowsAtOnce = std::min(smemPipelineLanes() / shape.lanesPerRow, tokens);
  shape.unitsPerLane = units / shape.lanesPerRow;
  return shape;
}

/// Id of a token's page.
Value AttendKernel::pageOf(Value token) {
  if (!pageTokens)
    return kit.i32(0);
  Value index = kit.div(clampToken(token), pageTokens);
  return kit.loadReadOnly(kit.i32(),
                          kit.ptr(table, kit.mul(kit.extI64(index), 4)), 4);
}

/// Ids of the pages of a step that begins at `first`; none where each row has
/// to be looked up.
Values AttendKernel::pagesOf(Value first) {
  Values pages;
  for (int64_t i = 0; i < pagesPerStep; ++i)
    pages.push_back(pageOf(kit.add(first, i * pageTokens)));
  return pages;
}

/// Of them, that of row `row` of the step.
Value AttendKernel::pageAmong(ValueRange pages, Value row) {
  Value found = pages[0];
  for (int64_t i = 1; i < pagesPerStep; ++i)
    found = kit.select(kit.less(row, kit.i32(i * pageTokens)), found, pages[i]);
  return found;
}

int64_t AttendKernel::rowsAtOnce() {
  return std::max(shapeOf(body.k.rowBytes()).rowsAtOnce,
                  shapeOf(body.v.rowBytes()).rowsAtOnce);
}

/// The nearest token that is there: whatever is read of it is not used, but
/// reading it is allowed.
Value AttendKernel::clampToken(Value token) {
  return kit.max(kit.min(token, kit.add(current.end, -1)), kit.i32(0));
}

/// Where a token's row stands in a plane, given its page's id.
Value AttendKernel::rowAddress(unsigned plane, Value page, Value token) {
  Value base = origin[plane], within = token;
  if (pageTokens) {
    base = kit.ptr(base, kit.mul(kit.extI64(page), pageStride[plane]));
    within = kit.rem(token, pageTokens);
  }
  if (planes[plane].tokens > 1) // of a row
    within = kit.div(within, planes[plane].tokens);
  return kit.ptr(base, kit.mul(kit.extI64(within), planes[plane].rowStride));
}

/// The f32 scales of tokens first + 32 i + lane % tokens.
Values AttendKernel::loadScale(Value loaded, Value first, ValueRange pages) {
  auto load = loaded.getDefiningOp<tile::LoadOp>();
  unsigned plane = k.cache.planeIndex(load.getStream()) + *load.planeOf(loaded);
  Type type = planes[plane].type;
  Values scales;
  for (int64_t i = 0; i < scaleWords(); ++i) {
    Value own = kit.add(kit.rem(lane, tokens), i * kWarpLanes);
    Value token = clampToken(kit.add(first, own));
    Value id =
        pagesPerStep ? pageAmong(pages, kit.sub(token, first)) : pageOf(token);
    Value address = rowAddress(plane, id, token);
    Value scale =
        kit.loadReadOnly(type, address, type.getIntOrFloatBitWidth() / 8);
    if (!type.isF32())
      scale = arith::ExtFOp::create(kit.b, kit.kernel, kit.f32(), scale);
    scales.push_back(scale);
  }
  return scales;
}

/// Bytes between the end of a row and where a product stops reading it.
void AttendKernel::zeroPadding() {
  auto pad = [&](Operand &operand, int64_t offset, int64_t stride) {
    int64_t bytes = operand.rowBytes();
    int64_t end = llvm::alignTo(bytes, 32);
    if (end == bytes)
      return;
    Value zero = kit.constant(0, kit.vec(2, kit.f32()));
    for (int64_t stage = 0; stage < stages; ++stage)
      kit.loop(smemPipelineLane(), kit.i32(tokens),
               kit.i32(smemPipelineLanes()), [&](Value row) {
                 Value at = kit.add(smemPipelineBase, kit.mul(row, stride));
                 for (int64_t byte = bytes; byte < end; byte += 8)
                   kit.storeShared(zero,
                                   {at, stage * stageBytes + offset + byte});
               });
  };
  pad(body.k, 0, strideK);
  // Behind the beginning of a row of K is the rest of it.
  if (layout.offsetV)
    pad(body.v, layout.offsetV, strideV);
}

//===----------------------------------------------------------------------===//
// Copies
//===----------------------------------------------------------------------===//

namespace {

class CpAsyncLoader : public StagedLoader {
public:
  using StagedLoader::StagedLoader;
  Values beginKernel() override;
  void drain() override { kit.op(Ptx::CpAsyncWait, {}, 0); }

private:
  /// Lane constants of a stream.
  struct LaneCopy {
    Value global; ///< i64: byte offset of the lane's first unit in a page
    Value shared; ///< i32: the same in a stage
    Value row;    ///< i32: row of it
    Value unit;   ///< i32: byte of it in the row
    Value active; ///< i1, null: all lanes take part
  };

  void copyStep(const PrefetchStep &step, bool interior, Value stage) override;
  void commit() override { kit.op(Ptx::CpAsyncCommit, {}); }
  void waitForOldest() override {
    kit.op(Ptx::CpAsyncWait, {}, prefetchDistance() - 1);
  }
  void copyUnmasked(StringRef stream, const PrefetchStep &step, Shared to);
  void copyPredicated(StringRef stream, const PrefetchStep &step, bool interior,
                      Shared to);

  /// One stream's rows in a stage.
  struct Rows {
    unsigned plane;
    AttendKernel::CopyShape shape;
    int64_t stride, rowStride;
  };
  Rows rowsOf(StringRef stream);
  const LaneCopy &laneOf(StringRef stream) const {
    return stream == kStreamK ? copyK : copyV;
  }

  LaneCopy copyK, copyV;
};

} // namespace

//===--- stages in turn ---------------------------------------------------===//

StagedLoader::StagedLoader(AttendKernel &kernel) : a(kernel), kit(kernel.kit) {}

int64_t StagedLoader::prefetchDistance() const { return a.stages - 1; }

Values StagedLoader::begin() {
  return {kit.i32(0), kit.i32(prefetchDistance() * a.stageBytes)};
}

void StagedLoader::prologue() {
  kit.loopNoUnroll(prefetchDistance(), {}, [&](Value tile, ValueRange) {
    PrefetchStep step{tile, a.firstOf(tile), {}};
    step.pages = a.pagesOf(step.first);
    Value stage = kit.add(a.smemPipelineBase, kit.mul(tile, a.stageBytes));
    kit.when(kit.less(tile, a.tiles), [&] {
      kit.when(
          a.isShownInFull(step.first, a.tokens),
          [&] { copyStep(step, /*interior=*/true, stage); },
          [&] { copyStep(step, /*interior=*/false, stage); });
    });
    commit();
    return Values();
  });
}

Value StagedLoader::consumerWait(ValueRange carried, const PrefetchStep &later,
                                 bool interior, Values &next) {
  auto advance = [&](Value stage) {
    Value next = kit.add(stage, a.stageBytes);
    Value end =
        kit.cmp(CmpIPredicate::eq, next, kit.i32(a.stages * a.stageBytes));
    return kit.select(end, kit.i32(0), next);
  };
  Value read = carried[0], write = carried[1];
  waitForOldest();
  // Every lane's copies are there, and the stage that was read last is free.
  a.syncSmemPipeline();
  Value to = kit.add(a.smemPipelineBase, write);
  if (interior)
    copyStep(later, interior, to);
  else
    kit.when(kit.less(later.tile, a.tiles),
             [&] { copyStep(later, interior, to); });
  commit();
  next.append({advance(read), advance(write)});
  return kit.add(a.smemPipelineBase, read);
}

//===--- copies by cp.async -----------------------------------------------===//

/// What each lane copies does not depend on the step.
Values CpAsyncLoader::beginKernel() {
  auto plan = [&](Operand &operand, unsigned plane, int64_t stride) {
    AttendKernel::CopyShape shape = a.shapeOf(operand.rowBytes());
    LaneCopy copy;
    Value lane = a.smemPipelineLane();
    copy.row = kit.div(lane, shape.lanesPerRow);
    copy.unit = kit.mul(kit.rem(lane, shape.lanesPerRow), shape.unit);
    copy.global = kit.extI64(
        kit.add(kit.mul(copy.row, a.planes[plane].rowStride), copy.unit));
    copy.shared = kit.add(kit.mul(copy.row, stride), copy.unit);
    if (shape.rowsAtOnce * shape.lanesPerRow < a.smemPipelineLanes())
      copy.active = kit.less(copy.row, kit.i32(shape.rowsAtOnce));
    return copy;
  };
  copyK = plan(a.body.k, a.codesK, a.strideK);
  copyV = plan(a.body.v, a.codesV, a.strideV);
  return {};
}

void CpAsyncLoader::copyStep(const PrefetchStep &step, bool interior,
                             Value stage) {
  for (StringRef stream : {kStreamK, kStreamV}) {
    Shared to{stage, stream == kStreamK ? 0 : a.layout.offsetV};
    if (stream == kStreamV && !to.offset)
      break; // it is there
    if (interior && a.pagesPerStep)
      copyUnmasked(stream, step, to);
    else
      copyPredicated(stream, step, interior, to);
  }
}

CpAsyncLoader::Rows CpAsyncLoader::rowsOf(StringRef stream) {
  bool isK = stream == kStreamK;
  unsigned plane = isK ? a.codesK : a.codesV;
  return {plane, a.shapeOf((isK ? a.body.k : a.body.v).rowBytes()),
          isK ? a.strideK : a.strideV, a.planes[plane].rowStride};
}

/// Page after page, each row where the one before it ends.
void CpAsyncLoader::copyUnmasked(StringRef stream, const PrefetchStep &step,
                                 Shared to) {
  const LaneCopy &copy = laneOf(stream);
  Rows rows = rowsOf(stream);
  int64_t page = a.tokens / a.pagesPerStep;
  Values from;
  for (int64_t i = 0; i < a.pagesPerStep; ++i)
    from.push_back(kit.ptr(
        a.rowAddress(rows.plane, step.pages[i], kit.add(step.first, i * page)),
        copy.global));
  Ptx op = rows.shape.unit == 16 ? Ptx::CpAsync16 : Ptx::CpAsync8;
  Value own = kit.add(to.base, copy.shared);
  auto all = [&] {
    for (int64_t row = 0; row < a.tokens; row += rows.shape.rowsAtOnce)
      for (int64_t i = 0; i < rows.shape.unitsPerLane; ++i) {
        int64_t unit = i * rows.shape.lanesPerRow * rows.shape.unit;
        kit.op(op, {own, from[row / page]},
               {to.offset + row * rows.stride + unit,
                row % page * rows.rowStride + unit});
      }
  };
  copy.active ? kit.when(copy.active, all) : all();
}

/// Each row by itself: where it is and whether anybody sees it. Rows that
/// nobody sees are zeros and are not read: what multiplies them is 0, but their
/// bytes may be anything. In a loop, unless it is what most steps are.
void CpAsyncLoader::copyPredicated(StringRef stream, const PrefetchStep &step,
                                   bool interior, Shared to) {
  const LaneCopy &copy = laneOf(stream);
  Rows rows = rowsOf(stream);
  Ptx op = rows.shape.unit == 16 ? Ptx::CpAsync16Zfill : Ptx::CpAsync8Zfill;
  Value own = kit.add(to.base, copy.shared);
  auto copyRow = [&](Value row) {
    Value token = kit.add(kit.add(step.first, copy.row), row);
    Value seen = a.anyRowVisible(token);
    Value there = a.clampToken(token);
    Value id = a.pagesPerStep
                   ? a.pageAmong(step.pages, kit.sub(there, step.first))
                   : a.pageOf(token);
    Value from = kit.ptr(a.rowAddress(rows.plane, id, there), copy.unit);
    Value bytes = kit.select(seen, kit.i32(rows.shape.unit), kit.i32(0));
    Value at = kit.add(own, kit.mul(row, rows.stride));
    for (int64_t i = 0; i < rows.shape.unitsPerLane; ++i) {
      int64_t unit = i * rows.shape.lanesPerRow * rows.shape.unit;
      kit.op(op, {at, from, bytes}, {to.offset + unit, unit});
    }
  };
  int64_t count = a.tokens / rows.shape.rowsAtOnce;
  auto all = [&] {
    if (interior)
      kit.unroll(count, [&](int64_t i) {
        copyRow(kit.i32(i * rows.shape.rowsAtOnce));
      });
    else
      kit.loopNoUnroll(count, {}, [&](Value i, ValueRange) {
        copyRow(kit.mul(i, rows.shape.rowsAtOnce));
        return Values();
      });
  };
  copy.active ? kit.when(copy.active, all) : all();
}

std::unique_ptr<KvLoader> kvc::nvptx::makeCpAsyncLoader(AttendKernel &kernel) {
  return std::make_unique<CpAsyncLoader>(kernel);
}
