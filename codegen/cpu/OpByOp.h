//===- OpByOp.h - attend kernels for which there is no loop -----*- C++ -*-===//
//
// The loops of AttendKernel know one sequence of ops. Any other attend kernel
// is lowered here op by op: each tile stands in scratch as f32 [rows][columns],
// and each op is a loop nest over it. Slow, by a factor that a remark owns up
// to, and right for whatever the ops say.
//
// OpByOp.cpp has the frame and what is read, OpByOpScores.cpp what is computed.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_CODEGEN_CPU_OPBYOP_H
#define KVC_CODEGEN_CPU_OPBYOP_H

#include "codegen/cpu/AttendWorkTile.h"

#include <optional>

namespace kvc::cpu {

/// f32 elements in scratch.
struct ScratchTile {
  mlir::Value rows; ///< i64
  int64_t most = 0; ///< of them
  int64_t columns = 0, stride = 0;
  int64_t at = 0; ///< in scratch
  /// Likewise, of bytes: 1 where a mask shows the token; none: everywhere.
  std::optional<int64_t> shown;
  bool oneRow = false;
};

/// m and l of each row, and its sums.
struct ScratchState {
  int64_t m = 0, l = 0, sums = 0, dim = 0;
};

/// The tokens of a tile.
struct TileTokens {
  mlir::Value first;
  mlir::Value count; ///< that exist
};

/// Rows of a plane, not yet read.
struct PlaneRows {
  unsigned plane;
  TileTokens tokens;
};

class OpByOpKernel : public AttendWorkTile {
public:
  using AttendWorkTile::AttendWorkTile;
  mlir::LogicalResult emit();

private:
  static constexpr int64_t kWidth = 8;

  mlir::LogicalResult emitBlock(mlir::Block &block);
  /// A round of a loop over tokens, and what it hands on.
  mlir::LogicalResult emitRound(mlir::Block &body);
  mlir::LogicalResult emit(tile::LoadQueryOp op);
  mlir::LogicalResult emit(tile::SoftmaxInitOp op);
  mlir::LogicalResult emit(tile::ForTokensOp op);
  mlir::LogicalResult emit(tile::LoadOp op);
  mlir::LogicalResult emit(tile::ConvertOp op);
  mlir::LogicalResult emit(tile::ScaleOp op);
  mlir::LogicalResult emit(tile::OffsetOp op);
  mlir::LogicalResult emit(tile::DotOp op);
  mlir::LogicalResult emit(tile::ScaleTokensOp op);
  mlir::LogicalResult emit(tile::LogitsOp op);
  mlir::LogicalResult emit(tile::MaskOp op);
  mlir::LogicalResult emit(tile::SoftmaxStepOp op);
  mlir::LogicalResult emit(tile::AccumulateOp op);
  mlir::LogicalResult emit(tile::SliceOp op);
  mlir::LogicalResult emit(tile::MapOp op);
  mlir::LogicalResult emit(tile::ContractOp op);
  mlir::LogicalResult emit(tile::ReduceOp op);
  mlir::LogicalResult emit(tile::StorePartialOp op);
  mlir::LogicalResult emit(tile::YieldOp) { return mlir::success(); }

  /// A tile in scratch of a tensor's type: `?` rows are those of queries.
  ScratchTile reserve(mlir::Value value);
  mlir::Value address(const ScratchTile &x, mlir::Value row,
                      mlir::Value column) {
    mlir::Value index = kit.add(kit.mul(row, x.stride), column);
    return kit.at(k.scratchAt(x.at), kit.mul(index, 4));
  }
  using AttendWorkTile::address;
  mlir::Value load(const ScratchTile &x, mlir::Value row, mlir::Value column,
                   int64_t width) {
    return kit.load(kit.vec(width), address(x, row, column));
  }
  void store(mlir::Value value, const ScratchTile &x, mlir::Value row,
             mlir::Value column) {
    kit.store(value, address(x, row, column));
  }
  /// An element, in as many lanes.
  mlir::Value splat(const ScratchTile &x, mlir::Value row, mlir::Value column,
                    int64_t width) {
    return kit.splat(kit.load(kit.f32(), address(x, row, column)), width);
  }
  /// Elements of an operand that repeats to a larger tile.
  mlir::Value repeated(const ScratchTile &x, mlir::Value row,
                       mlir::Value column, int64_t width) {
    if (x.oneRow)
      row = kit.i64(0);
    return x.columns == 1 ? splat(x, row, kit.i64(0), width)
                          : load(x, row, column, width);
  }
  mlir::Value shownAt(const ScratchTile &x, mlir::Value row,
                      mlir::Value column) {
    mlir::Value index = kit.add(kit.mul(row, x.columns), column);
    return kit.at(k.scratchAt(*x.shown), index);
  }
  mlir::Value isShown(const ScratchTile &x, mlir::Value row,
                      mlir::Value column);
  mlir::Value column(const ScratchTile &x, mlir::Value row, int64_t width);
  void forRows(const ScratchTile &x, Kit::Body body) {
    kit.loop(kit.i64(0), x.rows, 1, body);
  }
  /// Columns from first to last, `body` told how many at a time: a vector of
  /// them, or one.
  void forColumns(int64_t columns,
                  llvm::function_ref<void(mlir::Value, int64_t)> body) {
    int64_t whole = columns / kWidth * kWidth;
    kit.loop(0, whole, kWidth, [&](mlir::Value c) { body(c, kWidth); });
    kit.loop(whole, columns, 1, [&](mlir::Value c) { body(c, 1); });
  }
  /// The sum over columns of what `term` makes of them: a vector of one lane.
  mlir::Value
  sumColumns(int64_t columns,
             llvm::function_ref<mlir::Value(mlir::Value, int64_t)> term);
  void forBoxes(mlir::Value result, mlir::Value x, mlir::Value boxes,
                llvm::function_ref<mlir::Value(mlir::Value, mlir::Value)> join);
  /// A tile that is computed, or of floats that are loaded.
  const ScratchTile &matrix(mlir::Value value);
  /// Rows of a plane as `x`, what is loaded or converted, has them.
  void read(mlir::Value x, const PlaneRows &from, const ScratchTile &to);
  ScoreInputs inputsOf(const TileTokens &tokens, mlir::Value row,
                       mlir::Value column, int64_t width);
  mlir::Value stat(int64_t offset, mlir::Value row) {
    return kit.at(k.scratchAt(offset), kit.mul(row, 4));
  }
  void copy(const ScratchTile &from, const ScratchTile &to);
  ScratchTile sumsOf(const ScratchState &state) {
    ScratchTile sums;
    sums.rows = rows;
    sums.columns = sums.stride = state.dim;
    sums.at = state.sums;
    return sums;
  }

  int64_t maxRows = 0;
  llvm::DenseMap<mlir::Value, ScratchTile> matrices;
  llvm::DenseMap<mlir::Value, ScratchState> states;
  llvm::DenseMap<mlir::Value, PlaneRows> loaded;
  llvm::DenseMap<mlir::Value, TileTokens> tiles;
};

} // namespace kvc::cpu

#endif // KVC_CODEGEN_CPU_OPBYOP_H
