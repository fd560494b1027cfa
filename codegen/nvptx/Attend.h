//===- Attend.h - the frame of an attend kernel -----------------*- C++ -*-===//
//
// One CTA works on one work tile at a time: some query rows of one sequence and
// kv head against the tokens of one split, in steps of `tokens` cached tokens.
// `stages` steps are in shared memory at a time, in an smem pipeline. Its warps
// share the work in one of two ways:
// - by tokens (decode): they take turns with steps, each warp with an smem
//   pipeline that it reads alone, so that the loop has no barrier between
//   warps; at the end the warps' states are merged;
// - by rows (prefill): all take part in every step, each with 16 rows of its
//   own; one smem pipeline is read by all.
// The splits of one row block are combined by whichever CTA arrives last.
//
// This class finds the tokens and combines results; how a step is multiplied is
// a Mainloop, how codes come into the smem pipelines a KvLoader.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_CODEGEN_NVPTX_ATTEND_H
#define KVC_CODEGEN_NVPTX_ATTEND_H

#include "codegen/Convert.h"
#include "codegen/ReadTest.h"
#include "codegen/ScoreRegion.h"
#include "codegen/nvptx/Kernel.h"
#include "codegen/nvptx/Schedules.h"
#include "dialect/tile/Graph.h"

#include <memory>

namespace kvc::nvptx {

class AttendKernel;
using Values = Kit::Values;

using Operand = tile::StreamOperand;

/// What an attend kernel computes. Usually scores are multiplied by their
/// token's scale, then a region makes logits of them, and probabilities are
/// multiplied by a scale.
struct AttendBody {
  /// Fails, with an error on the op, where the graph says anything else.
  static mlir::FailureOr<AttendBody> of(tile::KernelOp kernel);

  Operand k, v;
  ReadAttrInterface read;
  double scale = 1;      ///< of the scores
  tile::LogitsOp logits; ///< what is done to scaled scores, if anything
  tile::MaskOp mask;     ///< what hides tokens beside the read
  tile::MergeGraph merge;
  mlir::Value scalesK, scalesV; ///< of tokens, as loaded; null: none
  /// What is in the way of that, if anything: then `scores` and `probabilities`
  /// are all that is done to them, in order, and the three above are null.
  tile::GraphMismatch unusual;
  llvm::SmallVector<mlir::Operation *> scores, probabilities;
  tile::ContractOp contract; ///< what takes the place of products of q and K
  /// K and V are made by other ops than a conversion of codes: both come into
  /// shared memory as f32.
  bool isDecoded = false;

private:
  tile::GraphMismatch
  takeUsual(llvm::ArrayRef<mlir::Operation *> scores,
            llvm::ArrayRef<mlir::Operation *> probabilities);
};

/// The work tile at hand. All i32.
struct WorkTile {
  mlir::Value sequence, head, splitIdx, numSplits, index;
  mlir::Value begin;             ///< first token of the split
  mlir::Value end;               ///< end of what any row sees in it
  mlir::Value rowBegin;          ///< first row, of the sequence's
  mlir::Value rowEnd;            ///< and behind the last
  mlir::Value queries;           ///< query tokens of the sequence
  mlir::Value firstQuery;        ///< row of q of the sequence's first
  mlir::Value posFirst, posLast; ///< positions of the first and last row
  /// The same of the rows that this warp has.
  mlir::Value ownFirst, ownLast;
  /// Position of query token 0 of the sequence: as many tokens are before it.
  mlir::Value posZero;
  ConstantRanges constants; ///< of the mask's region, for this warp's rows
};

/// Where a query row stands. Both i32.
struct RowPlace {
  mlir::Value position;
  mlir::Value qHead; ///< of the model
};

/// A step of a warp: its tokens' codes are in shared memory.
struct Step {
  int64_t tokens;
  Shared k, v;       ///< row 0 of each stream; AttendKernel::stride apart
  mlir::Value first; ///< token of row 0
  /// i1, the same for the warp: every row sees all tokens. Null: it does.
  mlir::Value isFullBlock;
  /// f32 scales: element i is that of token first + 32 i + lane % `tokens`.
  /// Empty if the codec has none. Of tokens that no row sees they are any bits.
  Values scaleK, scaleV;
};

/// The state is a list of values carried through the loop over steps.
class Mainloop {
public:
  virtual ~Mainloop() = default;
  /// Reserves shared memory; called once, before anything is emitted.
  virtual void plan() {}
  /// Loads the work tile's query rows. CTA-uniform control flow; may use
  /// barriers.
  virtual void beginWorkTile(const WorkTile &workTile) = 0;
  virtual Values initialState() = 0;
  /// Tokens of a step that need not be full: there is more to do then, for
  /// which registers must suffice. Divides the schedule's `tokens`.
  virtual int64_t subStepTokens() = 0;
  virtual Values step(const Step &step, mlir::ValueRange state) = 0;
  /// Writes this warp's rows: for row r of the work tile, m (largest logit, in
  /// powers of two; -inf: saw nothing) and l at stats + 8 r, and sum_t 2^(s -
  /// m) v at sums + r * sumStride. Rows beyond the work tile's are of no
  /// account.
  virtual void epilogue(mlir::ValueRange state, Shared stats, Shared sums) = 0;
};

std::unique_ptr<Mainloop> makeFmaMainloop(AttendKernel &kernel);

/// A step that a warp will come to, whose codes are fetched ahead of it.
struct PrefetchStep {
  mlir::Value tile;  ///< i32, need not be there
  mlir::Value first; ///< token of row 0
  Values pages;      ///< AttendKernel::pagesOf(first), if wanted
};

/// Brings the codes of a work tile's tiles into the stages of the smem
/// pipelines, in turn.
/// The warps that multiply ask for one step after the other.
class KvLoader {
public:
  virtual ~KvLoader() = default;
  /// Reserves shared memory; called once, before anything is emitted.
  virtual void plan() {}
  /// Producer warps, which only copy: they stand behind those that multiply.
  virtual int64_t producerWarps() const { return 0; }
  /// How many steps ahead those that multiply fetch; 0: they do not.
  virtual int64_t prefetchDistance() const { return 0; }

  /// In all threads, once; gives what is carried from work tile to work tile.
  virtual Values beginKernel() = 0;
  /// In all threads: emits `multiply` for the warps that do it. The work
  /// tile's results may then be in the smem pipelines.
  virtual Values emitWorkTile(mlir::ValueRange carried,
                              llvm::function_ref<void()> multiply) = 0;

  // In warps that multiply.
  /// Before the first step: copies those ahead.
  virtual void prologue() {}
  /// What is carried from step to step.
  virtual Values begin() = 0;
  /// The stage (i32 address) of the next step, whose codes all lanes may read
  /// then. `next` gets what is carried on. `later` is prefetchDistance() steps
  /// ahead; `interior`: every row sees all its tokens.
  virtual mlir::Value consumerWait(mlir::ValueRange carried,
                                   const PrefetchStep &later, bool interior,
                                   Values &next) = 0;
  /// The stage was read.
  virtual void consumerRelease() {}
  virtual void drain() {}
};

/// Steps stages - 1 ahead are brought by those who read them, into the stage
/// that was read last.
class StagedLoader : public KvLoader {
public:
  explicit StagedLoader(AttendKernel &kernel);

  int64_t prefetchDistance() const override;
  Values beginKernel() override { return {}; }
  Values emitWorkTile(mlir::ValueRange,
                      llvm::function_ref<void()> multiply) override {
    multiply();
    return {};
  }
  void prologue() override;
  /// The stages to read and to write.
  Values begin() override;
  mlir::Value consumerWait(mlir::ValueRange carried, const PrefetchStep &later,
                           bool interior, Values &next) override;

protected:
  /// `interior`: every row sees all its tokens.
  virtual void copyStep(const PrefetchStep &step, bool interior,
                        mlir::Value stage) = 0;
  /// Of copies that run by themselves: those of a step are under way; the
  /// oldest step's are done.
  virtual void commit() {}
  virtual void waitForOldest() {}

  AttendKernel &a;
  Kit &kit;
};

std::unique_ptr<KvLoader> makeDecodeLoader(AttendKernel &kernel);
std::unique_ptr<KvLoader> makeCpAsyncLoader(AttendKernel &kernel);
std::unique_ptr<KvLoader> makeBulkCopyLoader(AttendKernel &kernel);

class AttendKernel {
public:
  /// `schedule` is legal.
  AttendKernel(Kernel &kernel, AttendBody body, const Workload &workload,
               const WarpSchedule &schedule);
  void emit(LaunchInfo &launch);

  Kernel &k;
  Kit &kit;
  AttendBody body;
  const Workload workload;
  const WarpSchedule schedule;
  const SharedLayout layout;
  const int64_t registers; ///< of a thread, at most
  const int64_t tokens;    ///< per step of a warp
  const int64_t rows;      ///< of a work tile
  const int64_t warps, stages;
  const bool warpsSplitQ; ///< warps share rows, see above
  const int64_t group;
  const int64_t dimK, dimV;
  /// See SharedLayout.
  const int64_t strideK, strideV, sumStride, statBytes;

  mlir::Value thread, lane, warp; ///< warp is the same for all its lanes
  const WorkTile &workTile() const { return current; }

  /// Whether a row sees `token`, by the mask and the work tile's bounds. i1.
  mlir::Value visible(mlir::Value token, const RowPlace &row);
  /// Whether some row of the work tile may.
  mlir::Value anyRowVisible(mlir::Value token);
  /// The warp's first row where warps share rows, i32.
  mlir::Value firstRow() { return kit.mul(warp, 16); }
  /// Position of row `row` (i32) of the work tile.
  mlir::Value position(mlir::Value row);
  RowPlace place(mlir::Value row) { return {position(row), modelHead(row)}; }
  /// Address in q of row `row` of the work tile; that of its last row for rows
  /// beyond them.
  mlir::Value queryRow(mlir::Value row);
  /// Logits in powers of two from products of q and K's codes: times `scale`
  /// and a token's scale (may be null), then the region of logits.
  /// The token is `token` + `offset`.
  mlir::Value transform(mlir::Value score, mlir::Value tokenScale,
                        mlir::Value token, int64_t offset, const RowPlace &row,
                        bool near = false);
  /// Of an unusual body: `x` after all ops of a chain, `scales` those that its
  /// scale_tokens multiply by, in order.
  mlir::Value applyChain(mlir::Value x, llvm::ArrayRef<mlir::Operation *> chain,
                         mlir::ValueRange scales, mlir::Value token,
                         const RowPlace &row);
  /// Those scales, of a lane's token of a step of at most kWarpLanes.
  Values scalesOfChain(llvm::ArrayRef<mlir::Operation *> chain,
                       mlir::Value first);
  /// A size below which products, times K's scales, are so near 0 that
  /// transform() may be told so; none if that is worth nothing.
  std::optional<double> nearLimit();

  //===--- barriers ---------------------------------------------------------//
  /// Of all threads.
  void barrier(Kit::CodeLoc here = Kit::CodeLoc::current()) {
    kit.op(Ptx::BarSync, {}, {0, allWarps() * kWarpLanes}, here);
  }
  /// Of the warps that multiply.
  void barrierOfReaders(Kit::CodeLoc here = Kit::CodeLoc::current()) {
    kit.op(Ptx::BarSync, {}, {1, warps * kWarpLanes}, here);
  }
  /// Of those who read an smem pipeline.
  void syncSmemPipeline(Kit::CodeLoc here = Kit::CodeLoc::current());

  //===--- smem pipelines ---------------------------------------------------//
  const int64_t stageBytes, smemPipelineBytes; ///< see SharedLayout
  int64_t smemPipeline;         ///< the first one, in shared memory
  mlir::Value smemPipelineBase; ///< this lane's, i32
  /// Those who read an smem pipeline, as they number themselves.
  int64_t smemPipelineLanes() const {
    return warpsSplitQ ? warps * kWarpLanes : kWarpLanes;
  }
  mlir::Value smemPipelineLane() { return warpsSplitQ ? thread : lane; }

  //===--- tiles ------------------------------------------------------------//
  mlir::Value tiles; ///< of the work tile
  /// Cached tokens of a round of all warps.
  int64_t tileTokens() const { return warpsSplitQ ? tokens : tokens * warps; }
  /// First token of a tile.
  mlir::Value tileFirst(mlir::Value tile);
  /// Whether the read shows all `count` tokens from `first` on to every row:
  /// they all exist.
  mlir::Value isShownInFull(mlir::Value first, int64_t count);

  //===--- copies by lanes ---------------------------------------------------//
  struct CopyShape {
    int64_t rowBytes;     ///< of a token's codes
    int64_t unit;         ///< bytes of one copy: 16 or 8
    int64_t lanesPerRow;  ///< a power of two
    int64_t rowsAtOnce;   ///< rows that one instruction of all lanes covers
    int64_t unitsPerLane; ///< of a row
  };
  CopyShape shapeOf(int64_t rowBytes) const;
  int64_t rowsAtOnce(); ///< the larger of the two streams'

  //===--- pages ------------------------------------------------------------//
  llvm::SmallVector<PlaneGeometry, 4> planes;
  unsigned codesK, codesV; ///< planes
  int64_t pageTokens;      ///< 0: a sequence is in one piece
  /// Pages that a step's tokens fill or, all in one, are part of; 0: they may
  /// begin and end anywhere.
  int64_t pagesPerStep;
  Values pagesOf(mlir::Value first);
  /// The first token of this warp's step of a tile.
  mlir::Value firstOf(mlir::Value tile);
  mlir::Value pageOf(mlir::Value token);
  mlir::Value pageAmong(mlir::ValueRange pages, mlir::Value row);
  mlir::Value rowAddress(unsigned plane, mlir::Value page, mlir::Value token);
  mlir::Value clampToken(mlir::Value token);

private:
  void remarkSlowPaths();
  std::unique_ptr<Mainloop> makeMainloop();
  int64_t allWarps() const { return warps + loader->producerWarps(); }
  /// First of the warp's tokens in a tile.
  mlir::Value ownTokens() {
    return warpsSplitQ ? kit.i32(0) : kit.mul(warp, tokens);
  }
  void forWorkTiles(mlir::Value count, mlir::ValueRange init,
                    Kit::CarryBody body);
  Values emitWorkTile(mlir::Value index, mlir::ValueRange carried);
  void loadWorkTile(mlir::Value index);
  void storeWorkTile();
  void reloadWorkTile();
  void planTiles();
  Values runSteps();
  Values emitSteps(mlir::ValueRange init);
  Values emitTile(mlir::Value tile, mlir::ValueRange carried, bool interior);
  Values multiply(const Step &step, mlir::ValueRange state);
  ReadTest readTest(); ///< of the work tile's tokens
  /// What a score's region is told, but for the score.
  ScoreInputs inputs(mlir::Value token, const RowPlace &row);
  /// What a region is told of this warp's rows.
  ScoreBlock rowBlock();
  /// What the mask's region shows of them to this warp's rows.
  BlockVisibility visibleBlock(mlir::Value first, int64_t count);
  bool hasVisible() { return !body.mask.getVisible().empty(); }
  /// Whether this warp's rows see all of the tokens, or none.
  mlir::Value isFullBlock(mlir::Value first, int64_t count);
  mlir::Value isEmptyBlock(mlir::Value first, int64_t count);
  Values multiplyInterior(const Step &step, mlir::ValueRange state);
  Values multiplySubStep(const Step &step, mlir::Value index,
                         mlir::ValueRange state);
  Values scalesOf(const Values &scales, mlir::Value index, int64_t size);
  std::pair<mlir::Value, mlir::Value> interiorTiles();
  /// Page ids of a later step, if those that multiply want them.
  Values pagesAhead(mlir::Value first);
  int64_t pagesCarried() const; ///< how many those are
  Values loadScale(mlir::Value scales, mlir::Value first,
                   mlir::ValueRange pages);
  void loadScales(const PrefetchStep &step, Values &to);
  /// Words of a step's scales of one stream in a lane.
  int64_t scaleWords() const { return llvm::divideCeil(tokens, kWarpLanes); }
  void zeroPadding();

  // AttendCombine.cpp: the end of a work tile.
  void mergeWarpStates();
  void mergeRow(mlir::Value row);
  /// The weight of each warp's state of a row, the largest logit m of all and
  /// the sum of l.
  struct Merged {
    Values weights;
    mlir::Value m, l;
  };
  /// `sink` in powers of two, or null.
  Merged mergeStats(mlir::Value row, mlir::Value sink);
  void combineSplits();
  mlir::Value outputRow(mlir::Value row);
  /// Q head of a row, of the store's and of the model's.
  mlir::Value qHead(mlir::Value row);
  mlir::Value modelHead(mlir::Value row) {
    return kit.add(qHead(row), k.firstQueryHead());
  }

  std::unique_ptr<Mainloop> mainloop;
  std::unique_ptr<KvLoader> loader;
  WorkTile current;
  int64_t workTileWords; ///< in shared memory
  // Of the work tile.
  llvm::SmallVector<mlir::Value, 4> origin, pageStride;
  mlir::Value table;
  mlir::Value sinkTiles, recentBase; ///< see planTiles()
  size_t loaderCarried;              ///< values that `loader` carries
};

} // namespace kvc::nvptx

#endif // KVC_CODEGEN_NVPTX_ATTEND_H
