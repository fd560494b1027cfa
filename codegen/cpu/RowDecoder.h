//===- RowDecoder.h - a cached row, a vector at a time ----------*- C++ -*-===//
#ifndef KVC_CODEGEN_CPU_ROWDECODER_H
#define KVC_CODEGEN_CPU_ROWDECODER_H

#include "codegen/cpu/KitFunctions.h"

#include <functional>

namespace kvc::cpu {

/// The first `count` codes of those that begin at `address`, each as an f32:
/// integers of any width, packed from the lowest bits of each byte on.
llvm::SmallVector<mlir::Value> unpackCodes(Kit &kit, mlir::Type code,
                                           bool isUnsigned, mlir::Value address,
                                           int64_t count);

/// What element-wise ops make of one token's loaded rows. Asked for columns of
/// a result, an op asks its operands for theirs, down to the planes; nothing
/// stands in memory between.
class RowDecoder {
public:
  /// Gives the address of the row that has the token, of plane `plane` of the
  /// cache.
  using RowFn = std::function<mlir::Value(unsigned plane)>;

  /// Columns `base` + `offset` on. Where `width` is 8, `base` is a multiple
  /// of 8.
  struct Columns {
    mlir::Value base; ///< i64
    int64_t offset = 0, width = 8;
  };

  RowDecoder(Kernel &kernel, RowFn rowOf)
      : kit(kernel.kit), cache(kernel.cache), functions(kernel),
        rowOf(std::move(rowOf)) {}

  /// A vector of f32 of those columns of `x`, a tile of one row.
  mlir::Value decode(mlir::Value x, const Columns &columns);

private:
  mlir::Value loaded(mlir::Value x, const Columns &columns, bool isUnsigned);
  mlir::Value loadPacked(mlir::Value row, const PlaneGeometry &plane,
                         const Columns &columns, bool isUnsigned);
  mlir::Value boxesOf(mlir::Value x, mlir::Value boxes, const Columns &columns);
  /// The one column of a tile, in as many lanes.
  mlir::Value repeated(mlir::Value x, int64_t width) {
    return splat(x, kit.i64(0), width);
  }
  mlir::Value splat(mlir::Value x, mlir::Value column, int64_t width) {
    return kit.splat(kit.extract(decode(x, {column, 0, 1}), 0), width);
  }
  /// Lane by lane.
  mlir::Value concat(int64_t width,
                     llvm::function_ref<mlir::Value(int64_t)> lane);

  Kit &kit;
  CacheType cache;
  KitFunctions functions;
  RowFn rowOf;
};

} // namespace kvc::cpu

#endif // KVC_CODEGEN_CPU_ROWDECODER_H
