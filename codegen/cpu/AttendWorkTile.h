//===- AttendWorkTile.h - one sequence, kv head and split -------*- C++ -*-===//
//
// What every kernel of attention starts from, however it multiplies: the work
// tile's query rows and tokens, where rows stand, what a score is told.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_CODEGEN_CPU_ATTENDWORKTILE_H
#define KVC_CODEGEN_CPU_ATTENDWORKTILE_H

#include "codegen/ReadTest.h"
#include "codegen/ScoreRegion.h"
#include "codegen/cpu/Kernel.h"

namespace kvc::cpu {

class AttendWorkTile {
public:
  /// Rows of q have `dimK` elements, those of the output `dimV`.
  AttendWorkTile(Kernel &kernel, int64_t dimK, int64_t dimV)
      : k(kernel), kit(kernel.kit), dimK(dimK), dimV(dimV),
        group(kernel.group()), planes(kernel.cache.planes()) {}

  Kernel &k;
  Kit &kit;
  int64_t dimK, dimV, group;

  /// Reads the work tile. `visible` are regions of masks.
  void load(bool isCausal, llvm::ArrayRef<mlir::Region *> visible);
  /// Then, where its rows stand.
  void locatePlanes();

  // Values of the work tile, all i64 but for the constants' ranges.
  ConstantRanges constants; ///< of the mask's region
  mlir::Value sequence, head, tokensBegin, tokensEnd;
  mlir::Value context;  ///< tokens of the sequence before its query tokens
  mlir::Value rowBegin; ///< first query token of the work tile
  mlir::Value rows; ///< query rows of the work tile: its query tokens x group
  mlir::Value posFirst; ///< position of the work tile's first query token
  mlir::Value posLast;  ///< position of its last

  /// Address in q of row `row` (query token row / group, head row % group).
  mlir::Value queryRow(mlir::Value row);
  /// Writes the natural log-sum-exp of a row (from the largest logit m and the
  /// sum l, both vectors of one lane, powers of two); returns 1 / l as a
  /// scalar, 0 for a row that saw nothing.
  mlir::Value storePartialLse(mlir::Value row, mlir::Value m, mlir::Value l);
  /// Where a row's partial output goes.
  mlir::Value partialOutput(mlir::Value row);
  /// What a score's region is told of scores at `tokens` and query rows `rows`
  /// of the work tile (i32 vectors of one length), but for the scores.
  ScoreInputs scoreInputs(mlir::Value tokens, mlir::Value rows);
  mlir::Value logits(mlir::Value x, tile::LogitsOp op, ScoreInputs at);
  /// Whether a mask shows tokens to rows.
  mlir::Value visible(tile::MaskOp op, const ScoreInputs &at);
  /// x where the token is seen, else -inf.
  mlir::Value mask(mlir::Value x, tile::MaskOp op, const ScoreInputs &at);
  const PlaneGeometry &plane(unsigned index) const { return planes[index]; }
  int64_t rowBytes(unsigned plane) { return planes[plane].rowBytes; }
  int64_t rowStride(unsigned plane) { return planes[plane].rowStride; }
  /// Address of the row of a plane that has a token.
  mlir::Value address(unsigned plane, mlir::Value token);

protected:
  /// What a region is told of the work tile's rows.
  ScoreBlock rowBlock();
  /// Index of row `row` among the partial results.
  mlir::Value partialRow(mlir::Value row);
  /// Tests by i64 positions which of the work tile's tokens a read shows.
  ReadTest readTest(ReadAttrInterface read) {
    return ReadTest(kit.b, kit.loc, read, tokensEnd);
  }

  llvm::SmallVector<PlaneGeometry, 4> planes;
  llvm::SmallVector<mlir::Value, 4> planeOrigin; ///< at the work tile's head
  llvm::SmallVector<mlir::Value, 4> planeOuter;
  mlir::Value table; ///< the sequence's page ids
};

} // namespace kvc::cpu

#endif // KVC_CODEGEN_CPU_ATTENDWORKTILE_H
