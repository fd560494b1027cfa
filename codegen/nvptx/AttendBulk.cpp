//===- AttendBulk.cpp - K and V loaded by a producer warp -----------------===//
//
// One warp more than multiply, the producer, walks the work tile's tiles and
// copies whole rows, by bulk copies: those that multiply find no pages and
// compute no addresses. Two mbarriers per stage pass it from one side to the
// other, the stages of all smem pipelines at once: `full` when its bytes are
// there, `empty` when each warp has read its share.
//
// One lane does all of it, and the assembler knows that it is alone: a bulk
// copy has its addresses in registers of the warp, so that those of several
// lanes are a loop around it.
//
// Phases go on from work tile to work tile. So does the order of the smem
// pipelines' other use: results stand in them at the end of a work tile, which
// those who wrote them fence for the copies of the next.
//
//===----------------------------------------------------------------------===//
#include "codegen/nvptx/Attend.h"

#include <iterator>
#include <numeric>

using namespace mlir;
using namespace kvc;
using namespace kvc::nvptx;
using arith::CmpIPredicate;

namespace {

/// Rows of a page that are copied by straight code.
constexpr int64_t kMostRows = 16;
constexpr int64_t kEmpty = 8; ///< of them, where the second is

class BulkCopyLoader : public KvLoader {
public:
  explicit BulkCopyLoader(AttendKernel &a)
      : a(a), kit(a.kit), copy(a.k.sm.version < infoOf(Ptx::BulkCopyCta).minSm
                                   ? Ptx::BulkCopy
                                   : Ptx::BulkCopyCta),
        run(std::gcd(std::gcd(a.pageTokens, a.tokens), kMostRows)) {}

  void plan() override {
    barriers = a.k.shared.reserve(a.stages * kStageBarrierBytes);
  }
  int64_t producerWarps() const override { return 1; }
  Values beginKernel() override;
  Values emitWorkTile(ValueRange carried,
                      llvm::function_ref<void()> multiply) override;
  Values begin() override;
  Value consumerWait(ValueRange carried, const PrefetchStep &, bool,
                     Values &next) override;
  void consumerRelease() override;

private:
  /// A stage and how often the smem pipelines went round before: all i32.
  struct Place {
    Value stage;  ///< byte of an smem pipeline
    Value full;   ///< address of its barriers
    Value parity; ///< of their phase
  };
  static Place placeOf(ValueRange values) {
    return {values[0], values[1], values[2]};
  }
  Values next(const Place &at);
  void copyWorkTile();
  void copyTile(Value tile, const Place &at);
  void copyRun(Value token, Value page, Value stage, Value index, Value full);

  AttendKernel &a;
  Kit &kit;
  const Ptx copy;
  const int64_t run; ///< tokens in a row of a step that one page holds
  int64_t barriers;  ///< in shared memory
  /// Of the work tile: stages filled before it, modulo twice their number.
  Value before;
  Value held; ///< barriers of the stage that was waited for last
};

} // namespace

Values BulkCopyLoader::beginKernel() {
  kit.when(kit.cmp(CmpIPredicate::eq, a.thread, kit.i32(0)), [&] {
    for (int64_t stage = 0; stage < a.stages; ++stage) {
      Value full =
          kit.add(a.k.at(0).base, barriers + stage * kStageBarrierBytes);
      kit.op(Ptx::MbarInit, full, 1);
      kit.op(Ptx::MbarInit, kit.add(full, kEmpty), a.warps);
    }
    kit.op(Ptx::MbarFenceInit, {});
  });
  a.barrier();
  return {kit.i32(0)};
}

Values BulkCopyLoader::emitWorkTile(ValueRange carried,
                                    llvm::function_ref<void()> multiply) {
  before = carried[0];
  kit.when(
      kit.less(a.warp, kit.i32(a.warps)),
      [&] {
        multiply();
        kit.op(Ptx::FenceProxyAsync, {});
      },
      [&] { copyWorkTile(); });
  return {kit.rem(kit.add(before, a.tiles), 2 * a.stages)};
}

//===----------------------------------------------------------------------===//
// Stages
//===----------------------------------------------------------------------===//

/// Both sides begin a work tile where the last one ended.
Values BulkCopyLoader::begin() {
  Value again = kit.cmp(CmpIPredicate::sge, before, kit.i32(a.stages));
  Value index =
      kit.sub(before, kit.select(again, kit.i32(a.stages), kit.i32(0)));
  Value full =
      kit.add(a.k.at(0, kit.mul(index, kStageBarrierBytes)).base, barriers);
  return {kit.mul(index, a.stageBytes), full,
          kit.select(again, kit.i32(1), kit.i32(0))};
}

Values BulkCopyLoader::next(const Place &at) {
  Value stage = kit.add(at.stage, a.stageBytes);
  Value around =
      kit.cmp(CmpIPredicate::eq, stage, kit.i32(a.stages * a.stageBytes));
  Value back = kit.add(at.full, (1 - a.stages) * kStageBarrierBytes);
  return {kit.select(around, kit.i32(0), stage),
          kit.select(around, back, kit.add(at.full, kStageBarrierBytes)),
          kit.select(around, kit.xor_(at.parity, kit.i32(1)), at.parity)};
}

Value BulkCopyLoader::consumerWait(ValueRange carried, const PrefetchStep &,
                                   bool, Values &nextCarried) {
  Place at = placeOf(carried);
  kit.op(Ptx::MbarWait, {at.full, at.parity});
  held = at.full;
  nextCarried.append(next(at));
  return kit.add(a.smemPipelineBase, at.stage);
}

/// One lane tells for the warp, whose reads are over then.
void BulkCopyLoader::consumerRelease() {
  kit.op(Ptx::WarpSync, {});
  kit.when(kit.cmp(CmpIPredicate::eq, a.lane, kit.i32(0)),
           [&] { kit.op(Ptx::MbarArrive, kit.add(held, kEmpty)); });
}

//===----------------------------------------------------------------------===//
// Copies
//===----------------------------------------------------------------------===//

void BulkCopyLoader::copyWorkTile() {
  Value alone = kit.op1(Ptx::ElectOne, {});
  kit.when(kit.cmp(CmpIPredicate::ne, alone, kit.i32(0)), [&] {
    kit.loop(kit.i32(0), a.tiles, kit.i32(1), begin(),
             [&](Value tile, ValueRange carried) {
               Place at = placeOf(carried);
               copyTile(tile, at);
               return next(at);
             });
  });
  // The lane that was elected comes back to the others: what follows is done
  // by all of them together.
  kit.op(Ptx::WarpSync, {});
}

/// Every row of a tile, page after page. Where a page ends is the same for all
/// tiles.
void BulkCopyLoader::copyTile(Value tile, const Place &at) {
  Value first = a.tileFirst(tile);
  Value page = a.pageOf(first);
  // The phase before this one: in the first round, none.
  kit.op(Ptx::MbarWait,
         {kit.add(at.full, kEmpty), kit.xor_(at.parity, kit.i32(1))});
  int64_t rowBytes = a.body.k.rowBytes();
  if (a.layout.offsetV)
    rowBytes += a.body.v.rowBytes();
  int64_t bytes = a.tileTokens() * rowBytes;
  kit.op(Ptx::MbarArriveExpectTx, {at.full, kit.i32(bytes)});
  Value base = kit.add(a.k.at(0, at.stage).base, a.smemPipeline);
  Values looked{page, first};
  kit.loopNoUnroll(
      a.layout.smemPipelines, looked, [&](Value pipeline, ValueRange carried) {
        Value stage = kit.add(base, kit.mul(pipeline, a.smemPipelineBytes));
        return kit.loopNoUnroll(
            a.tokens / run, carried, [&](Value index, ValueRange carried) {
              Value token = carried[1], later = kit.add(token, run);
              // Looked up before it is needed.
              Value page = a.pageOf(later);
              copyRun(token, carried[0], stage, index, at.full);
              return Values{page, later};
            });
      });
}

/// Rows `run` times `index` and so on of an smem pipeline's stage: `token` and
/// those behind it, of page `page`. Rows beyond the work tile's last are that
/// one again: nobody sees them, but they must be something.
void BulkCopyLoader::copyRun(Value token, Value page, Value stage, Value index,
                             Value full) {
  struct Rows {
    Value from, to;
    int64_t stride, rowStride, bytes;
  };
  Value there = a.clampToken(token);
  auto rowsOf = [&](Operand &operand, unsigned plane, int64_t offset,
                    int64_t stride) {
    Rows rows;
    rows.from = a.rowAddress(plane, page, there);
    rows.to = kit.add(kit.add(stage, offset), kit.mul(index, run * stride));
    rows.stride = stride;
    rows.rowStride = a.planes[plane].rowStride;
    rows.bytes = operand.rowBytes();
    return rows;
  };
  SmallVector<Rows, 2> streams = {rowsOf(a.body.k, a.codesK, 0, a.strideK)};
  if (int64_t offset = a.layout.offsetV)
    streams.push_back(rowsOf(a.body.v, a.codesV, offset, a.strideV));
  Value last = kit.add(a.workTile().end, -1);
  kit.when(
      kit.cmp(CmpIPredicate::sle, kit.add(token, run - 1), last),
      [&] {
        for (const Rows &rows : streams)
          for (int64_t row = 0; row < run; ++row)
            kit.op(copy, {kit.add(rows.to, row * rows.stride),
                          kit.ptr(rows.from, row * rows.rowStride),
                          kit.i32(rows.bytes), full});
      },
      [&] {
        Value most = kit.sub(last, there);
        kit.loopNoUnroll(run, {}, [&](Value row, ValueRange) {
          Value near = kit.extI64(kit.min(row, most));
          for (const Rows &rows : streams)
            kit.op(copy, {kit.add(rows.to, kit.mul(row, rows.stride)),
                          kit.ptr(rows.from, kit.mul(near, rows.rowStride)),
                          kit.i32(rows.bytes), full});
          return Values();
        });
      });
}

std::unique_ptr<KvLoader> kvc::nvptx::makeBulkCopyLoader(AttendKernel &kernel) {
  return std::make_unique<BulkCopyLoader>(kernel);
}
