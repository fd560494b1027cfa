//===- Attend.h - the frame of an attend kernel -----------------*- C++ -*-===//
//
// One work tile: the query rows of one sequence and kv head against the tokens
// of one split. This class finds the tiles and where their rows stand, and puts
// what the kernel's graph says in order; how a tile is multiplied is a
// Mainloop: in registers as it is dequantized (few query rows), or as small
// matrix products (many).
//
//===----------------------------------------------------------------------===//
#ifndef KVC_CODEGEN_CPU_ATTEND_H
#define KVC_CODEGEN_CPU_ATTEND_H

#include "codegen/cpu/AttendWorkTile.h"
#include "dialect/tile/Graph.h"

#include <memory>
#include <optional>

namespace kvc::cpu {

class AttendKernel;

/// The rows of one tile, plane by plane.
class TileRows {
public:
  /// Address of row `index` of the tile in a plane.
  mlir::Value row(unsigned plane, mlir::Value index) const;
  /// The same for each plane, or what it was widened to; for as long as these
  /// rows are there.
  RowFn at(mlir::Value index) const;

  AttendKernel *kernel = nullptr;
  mlir::Value first;  ///< token of row 0
  mlir::Value count;  ///< rows that exist; null: all of the tile
  mlir::Value from;   ///< index of a step's first row; null: all are one step
  mlir::Value buffer; ///< where its scores are (Mainloop::bufferBytes)
  bool masked = false;
  /// Evenly spaced rows: the first addresses of this tile. Otherwise a table of
  /// addresses in scratch.
  llvm::SmallVector<mlir::Value, 4> base, table;
  /// Rows of f32 that a plane was widened to, dense; null where it was not.
  llvm::SmallVector<mlir::Value, 4> wide;
  /// Rows that are prefetched as these are multiplied: the addresses of those
  /// that stand ahead of row `from`, at four distances, the largest first.
  llvm::SmallVector<mlir::Value, 4> ahead;
};

/// The scales that one of a chain's ops multiplies with; null if there are
/// none.
mlir::Value scaledBy(llvm::ArrayRef<mlir::Operation *> chain);

/// How a tile is multiplied and where scores and accumulators live.
///
/// Per tile: dot, softmaxStep, prepare, accumulate, in this order; all but
/// softmaxStep may be done step by step. A tile's scores are in its buffer, so
/// that the next tile may have its dot before this one has its last two.
class Mainloop {
public:
  virtual ~Mainloop() = default;
  /// Reserves scratch; called once, before anything is emitted.
  virtual void plan() = 0;
  /// Bytes that a tile's buffer takes.
  virtual int64_t bufferBytes() = 0;
  /// Whether a mask costs so little beside the products that tiles of which
  /// every query sees every token have one as well.
  virtual bool masksAll() { return false; }
  /// Tokens of a step, of a tile of `tile` whose rows stand evenly.
  virtual int64_t stepTokens(int64_t tile) { return tile; }
  /// `scale`: of the scores, log2(e) in it where they are powers of two.
  virtual void loadQuery(double scale) = 0;
  virtual void initState() = 0;
  virtual void dot(const TileRows &rows) = 0;
  virtual void softmaxStep(const TileRows &rows,
                           llvm::ArrayRef<mlir::Operation *> transforms) = 0;
  /// Makes probabilities for accumulate, with `transforms` applied.
  virtual void prepare(const TileRows &rows,
                       llvm::ArrayRef<mlir::Operation *> transforms) = 0;
  virtual void accumulate(const TileRows &rows) = 0;
  virtual void storePartial() = 0;
};

std::unique_ptr<Mainloop> makeDirectMainloop(AttendKernel &kernel);
std::unique_ptr<Mainloop> makePackedMainloop(AttendKernel &kernel);

class AttendKernel : public AttendWorkTile {
public:
  /// `schedule` is legal.
  AttendKernel(Kernel &kernel, tile::AttendGraph graph,
               const CoreSchedule &schedule);
  void emit();

  const tile::AttendGraph graph;
  const CoreSchedule schedule;
  int64_t tileTokens;
  int64_t stepTokens; ///< of a full tile, before the other product has its turn
  ChannelPlan planK, planV;
  /// Tiles have evenly spaced rows: none straddles a page.
  bool even;

  /// The plane that a value was loaded from.
  unsigned planeOf(mlir::Value loaded) {
    auto load = loaded.getDefiningOp<tile::LoadOp>();
    return k.cache.planeIndex(load.getStream()) + *load.planeOf(loaded);
  }
  /// Rows of a tile or step, whether they exist or not.
  int64_t countRows(const TileRows &rows) {
    return rows.from ? stepTokens : tileTokens;
  }
  /// Writes the rows' `scales` as f32 into `scratch` [tile tokens].
  void gatherScales(const TileRows &rows, mlir::Value scales, int64_t scratch) {
    widen(rows, planeOf(scales), scratch);
  }
  /// Writes rows of a plane of floats as f32 into `scratch` [tile tokens]
  /// [elements].
  void widen(const TileRows &rows, unsigned plane, int64_t scratch);
  /// p * scale; 0 for a hidden token (p = 0), whatever its scale is.
  mlir::Value scaleProbability(mlir::Value p, mlir::Value scale);
  void prefetchBytes(mlir::Value address, int64_t bytes);
  /// Rows of a tile that exist.
  mlir::Value existingRows(const TileRows &rows) {
    return rows.count ? rows.count : kit.i64(tileTokens);
  }

private:
  void remarkSlowPaths();
  /// What to do with a tile, from what it holds for the work tile's queries.
  struct BlockMask {
    /// Every query sees every token: no mask, no bounds.
    mlir::Value isFullBlock;
    /// Some query sees some token; null: always.
    mlir::Value anyRowVisible;
  };
  BlockMask blockMask(mlir::Value first);
  void emitLoop();
  void emitPipelined();
  void emitTile(const TileRows &rows);
  TileRows locate(mlir::Value first, bool masked);
  TileRows step(const TileRows &rows, unsigned codes, mlir::Value from);
  void fillTable(TileRows &rows);

  std::unique_ptr<Mainloop> mainloop;
  mlir::Value lastTile; ///< first token of the work tile's last tile
  mlir::Value lastStep; ///< and of its last step
  int64_t rowTable = 0; ///< scratch: addresses [plane][tile tokens]
  int64_t buffers = 0;  ///< scratch: two of them
};

} // namespace kvc::cpu

#endif // KVC_CODEGEN_CPU_ATTEND_H
