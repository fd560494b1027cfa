//===- Attend.h - the frame of an attend kernel -----------------*- C++ -*-===//
//
// One CTA works on one item at a time: some query rows of one sequence and kv
// head against the tokens of one split, in steps of `tokens` cached tokens. A
// ring of `stages` steps is in shared memory. Its warps share the work in one
// of two ways:
// - by tokens (decode): they take turns with steps, each warp with a ring that
//   it reads alone, so that the loop has no barrier between warps; at the end
//   the warps' results are joined;
// - by rows (prefill): all take part in every step, each with 16 rows of its
//   own; one ring is read by all.
// Those of the CTAs of one row block are joined by whichever arrives last.
//
// This class finds the tokens and joins results; how a step is multiplied is a
// TileMath, how codes come into the rings a RingFill.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_CODEGEN_NVPTX_ATTEND_H
#define KVC_CODEGEN_NVPTX_ATTEND_H

#include "codegen/nvptx/Kernel.h"
#include "dialect/tile/Graph.h"

#include <memory>

namespace kvc::nvptx {

class AttendKernel;
using Values = Kit::Values;

/// An operand of a product, as it lies in memory.
struct Operand : tile::StreamOperand {
  unsigned rowBytes() const { return dim() * codeBytes(); }
  unsigned codeBytes() const {
    return codec().getCodeType().getIntOrFloatBitWidth() / 8;
  }
};

/// What an attend kernel computes: of all that a graph may say, scores times
/// their token's scale, then a softcap, and probabilities times a scale.
struct AttendBody {
  /// Fails, with an error on the op, where the graph says anything else.
  static mlir::FailureOr<AttendBody> of(tile::KernelOp kernel);

  Operand k, v;
  ReadAttrInterface read;
  double scale = 1; ///< of the scores; log2(e) in it unless there is a softcap
  tile::SoftcapOp softcap;
  bool scaledK = false, scaledV = false; ///< a scale per token
};

/// The item at hand. All i32.
struct Item {
  mlir::Value sequence, head, part, parts, index;
  mlir::Value begin;             ///< first token of the split
  mlir::Value end;               ///< end of what any row sees in it
  mlir::Value rowBegin;          ///< first row, of the sequence's
  mlir::Value rowEnd;            ///< and behind the last
  mlir::Value queries;           ///< query tokens of the sequence
  mlir::Value firstQuery;        ///< row of q of the sequence's first
  mlir::Value posFirst, posLast; ///< positions of the first and last row
  /// The same of the rows that this warp has.
  mlir::Value ownFirst, ownLast;
  /// Position of query token 0 of the sequence.
  mlir::Value posZero;
};

/// A step of a warp: its tokens' codes are in shared memory.
struct Step {
  int64_t tokens;
  Shared k, v;       ///< row 0 of each stream; AttendKernel::stride apart
  mlir::Value first; ///< token of row 0
  /// i1, the same for the warp: every row sees all tokens. Null: it does.
  mlir::Value full;
  /// f32 scales: element i is that of token first + 32 i + lane % `tokens`.
  /// Empty if the codec has none. Of tokens that no row sees they are any bits.
  Values scaleK, scaleV;
};

/// The state is a list of values carried through the loop over steps.
class TileMath {
public:
  virtual ~TileMath() = default;
  /// What it cannot do, for the kernel's error; "" if nothing.
  virtual std::string refuse() { return ""; }
  /// Reserves shared memory; called once, before anything is emitted.
  virtual void plan() {}
  /// Loads the item's query rows. CTA-uniform control flow; may use barriers.
  virtual void beginItem(const Item &item) = 0;
  virtual Values initialState() = 0;
  /// Tokens of a step that need not be full: there is more to do then, for
  /// which registers must suffice. Divides the schedule's `tokens`.
  virtual int64_t partTokens() = 0;
  virtual Values step(const Step &step, mlir::ValueRange state) = 0;
  /// Writes this warp's rows: for row r of the item, m (largest logit, in
  /// powers of two; -inf: saw nothing) and l at stats + 8 r, and sum_t 2^(s -
  /// m) v at sums + r * sumStride. Rows beyond the item's are of no account.
  virtual void finish(mlir::ValueRange state, Shared stats, Shared sums) = 0;
};

std::unique_ptr<TileMath> makeFmaMath(AttendKernel &kernel);

/// A step that a warp will come to.
struct Later {
  mlir::Value tile;  ///< i32, need not be there
  mlir::Value first; ///< token of row 0
  Values pages;      ///< AttendKernel::pagesOf(first), if wanted
};

/// Brings the codes of an item's tiles into the stages of the rings, in turn.
/// The warps that multiply ask for one step after the other.
class RingFill {
public:
  virtual ~RingFill() = default;
  /// What it cannot do, for the kernel's error; "" if nothing.
  virtual std::string refuse() { return ""; }
  /// Reserves shared memory; called once, before anything is emitted.
  virtual void plan() {}
  /// Warps that only copy, behind those that multiply.
  virtual int64_t extraWarps() const { return 0; }
  /// How many steps ahead those that multiply copy; 0: they do not.
  virtual int64_t copiesAhead() const { return 0; }

  /// In all threads, once; gives what is carried from item to item.
  virtual Values beginKernel() = 0;
  /// In all threads: emits `multiply` for the warps that do it. The item's
  /// results may then be in the rings.
  virtual Values emitItem(mlir::ValueRange carried,
                          llvm::function_ref<void()> multiply) = 0;

  // In warps that multiply.
  /// Before the first step: copies those ahead.
  virtual void start() {}
  /// What is carried from step to step.
  virtual Values begin() = 0;
  /// The stage (i32 address) of the next step, whose codes all lanes may read
  /// then. `next` gets what is carried on. `later` is copiesAhead() steps
  /// ahead; `plain`: it is full.
  virtual mlir::Value acquire(mlir::ValueRange carried, const Later &later,
                              bool plain, Values &next) = 0;
  /// The stage was read.
  virtual void release() {}
  virtual void end() {}
};

std::unique_ptr<RingFill> makeAsyncFill(AttendKernel &kernel);
std::unique_ptr<RingFill> makeBulkFill(AttendKernel &kernel);

class AttendKernel {
public:
  AttendKernel(Kernel &kernel, AttendBody body);
  mlir::LogicalResult emit(LaunchInfo &launch);

  Kernel &k;
  Kit &kit;
  AttendBody body;
  ScheduleAttr schedule;
  const int64_t tokens; ///< per step of a warp
  const int64_t rows;   ///< of an item
  const int64_t warps, stages;
  const bool warpsSplitQ; ///< warps share rows, see above
  const int64_t group;
  const int64_t dimK, dimV;
  int64_t strideK, strideV; ///< bytes between rows in shared memory
  int64_t sumStride; ///< bytes between rows of sums: their lanes in other banks
  int64_t statBytes; ///< of the m and l of all rows

  mlir::Value thread, lane, warp; ///< warp is the same for all its lanes
  const Item &item() const { return current; }

  /// Whether a row at `position` sees `token`, by the read rule and the item's
  /// bounds. i1.
  mlir::Value visible(mlir::Value token, mlir::Value position);
  /// Whether some row of the item may.
  mlir::Value seenByAny(mlir::Value token);
  /// The warp's first row where warps share rows, i32.
  mlir::Value firstRow() { return kit.mul(warp, 16); }
  /// Position of row `row` (i32) of the item.
  mlir::Value position(mlir::Value row);
  /// Address in q of row `row` of the item; that of its last row for rows
  /// beyond them.
  mlir::Value queryRow(mlir::Value row);
  /// Scores in powers of two from products of q and K's codes: times `scale`
  /// and a token's scale (may be null), softcap.
  mlir::Value transform(mlir::Value score, mlir::Value tokenScale);

  //===--- barriers ---------------------------------------------------------//
  /// Of all threads.
  void barrier(Kit::Here here = Kit::Here::current()) {
    kit.op(Ptx::BarSync, {}, {0, allWarps() * kWarpLanes}, here);
  }
  /// Of the warps that multiply.
  void barrierOfReaders(Kit::Here here = Kit::Here::current()) {
    kit.op(Ptx::BarSync, {}, {1, warps * kWarpLanes}, here);
  }
  /// Of those who read a ring.
  void syncRing(Kit::Here here = Kit::Here::current());

  //===--- rings ------------------------------------------------------------//
  int64_t stageBytes;
  int64_t ringBytes; ///< of a ring: its stages, later results
  int64_t ring;      ///< the first one, in shared memory
  int64_t rings() const { return warpsSplitQ ? 1 : warps; }
  mlir::Value ringBase; ///< this lane's, i32
  /// Those who read a ring, as they number themselves.
  int64_t ringLanes() const {
    return warpsSplitQ ? warps * kWarpLanes : kWarpLanes;
  }
  mlir::Value ringLane() { return warpsSplitQ ? thread : lane; }

  //===--- tiles ------------------------------------------------------------//
  mlir::Value tiles; ///< of the item
  /// Cached tokens of a round of all warps.
  int64_t tileTokens() const { return warpsSplitQ ? tokens : tokens * warps; }
  /// First token of a tile.
  mlir::Value tileFirst(mlir::Value tile);
  /// Whether every row sees all `count` tokens from `first` on.
  mlir::Value isFull(mlir::Value first, int64_t count) {
    return isFull(first, count, current.posFirst, current.posLast);
  }

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
  mlir::LogicalResult checkSchedule();
  void remarkSlowPaths();
  int64_t registerLimit() const;
  std::unique_ptr<TileMath> makeMath();
  int64_t allWarps() const { return warps + fill->extraWarps(); }
  /// First of the warp's tokens in a tile.
  mlir::Value ownTokens() {
    return warpsSplitQ ? kit.i32(0) : kit.mul(warp, tokens);
  }
  void forItems(mlir::Value count, mlir::ValueRange init, Kit::CarryBody body);
  Values emitItem(mlir::Value index, mlir::ValueRange carried);
  void loadItem(mlir::Value index);
  void planTiles();
  Values runSteps();
  Values emitSteps(mlir::ValueRange init);
  Values emitTile(mlir::Value tile, mlir::ValueRange carried, bool plain);
  Values multiply(const Step &step, mlir::ValueRange state);
  /// Of rows at positions from `low` to `high`: whether all of them see all
  /// tokens, whether none sees any.
  mlir::Value isFull(mlir::Value first, int64_t count, mlir::Value low,
                     mlir::Value high);
  mlir::Value isHidden(mlir::Value first, int64_t count, mlir::Value low,
                       mlir::Value high);
  Values multiplyPart(const Step &step, mlir::Value index,
                      mlir::ValueRange state);
  Values scalesOf(const Values &scales, mlir::Value index, int64_t size);
  std::pair<mlir::Value, mlir::Value> plainTiles();
  /// Page ids of a later step, if those that multiply want them.
  Values pagesAhead(mlir::Value first);
  int64_t pagesCarried() const; ///< how many those are
  Values loadScale(const Operand &operand, mlir::Value first,
                   mlir::ValueRange pages);
  void loadScales(const Later &step, Values &to);
  /// Words of a step's scales of one stream in a lane.
  int64_t scaleWords() const { return llvm::divideCeil(tokens, kWarpLanes); }
  void zeroPadding();

  // AttendJoin.cpp: the end of an item.
  void joinWarps();
  void joinRow(mlir::Value row);
  /// The weight of each warp's part of a row, the largest logit m of all and
  /// the sum of l.
  struct Joined {
    Values weights;
    mlir::Value m, l;
  };
  Joined joinStats(mlir::Value row);
  void joinParts();
  mlir::Value outputRow(mlir::Value row);
  mlir::Value column(mlir::Value row);

  std::unique_ptr<TileMath> math;
  std::unique_ptr<RingFill> fill;
  Item current;
  int64_t flag; ///< in shared memory
  // Of the item.
  llvm::SmallVector<mlir::Value, 4> origin, outerStride;
  mlir::Value table;
  mlir::Value sinkTiles, recentBase; ///< see planTiles()
  size_t fillCarried;                ///< values that `fill` carries
};

} // namespace kvc::nvptx

#endif // KVC_CODEGEN_NVPTX_ATTEND_H
