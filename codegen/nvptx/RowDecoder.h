//===- RowDecoder.h - a cached row, an element at a time --------*- C++ -*-===//
//
// An element is what its ops say of it: asked for one, an op asks its operands
// for theirs, down to the planes. Nothing stands in memory between.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_CODEGEN_NVPTX_ROWDECODER_H
#define KVC_CODEGEN_NVPTX_ROWDECODER_H

#include "codegen/nvptx/KitFunctions.h"

#include <functional>
#include <map>

namespace kvc::nvptx {

/// Channels that a lane decodes at a time.
inline constexpr int64_t kUnit = 8;

/// Column `base` + `offset` of a tile.
struct Column {
  mlir::Value base; ///< i32; null: 0
  int64_t offset = 0;
  /// `base` is a multiple of kUnit: its codes begin at a byte.
  bool isAligned = true;
};

/// What element-wise ops make of one token's loaded rows.
class RowDecoder {
public:
  /// Gives the address of the row that has the token, of plane `plane` of the
  /// cache.
  using RowFn = std::function<mlir::Value(unsigned plane)>;

  /// `sequence` (i32) is whose constants are read, of those that each has.
  RowDecoder(Kernel &kernel, RowFn rowOf, mlir::Value sequence = {})
      : k(kernel), kit(kernel.kit), functions(kernel, sequence),
        rowOf(std::move(rowOf)), planes(kernel.cache.planes()) {}

  /// Of a tile, in the token's row or in the box that it is part of; f32.
  mlir::Value element(mlir::Value x, const Column &column);

private:
  mlir::Value loaded(mlir::Value plane, const Column &column, bool isUnsigned);
  mlir::Value loadFloat(mlir::Value row, mlir::Type type, const Column &column);
  mlir::Value loadCode(mlir::Value row, const PlaneGeometry &plane,
                       const Column &column, bool isUnsigned);
  mlir::Value byteOf(mlir::Value row, mlir::Value base, int64_t offset);
  Column boxOf(const Column &column, int64_t channels);
  mlir::Value boxElement(mlir::Value x, mlir::Value boxes,
                         const Column &column);

  Kernel &k;
  Kit &kit;
  KitFunctions functions;
  RowFn rowOf;
  llvm::SmallVector<PlaneGeometry, 4> planes;
  // What the elements of a unit have in common is emitted once.
  std::map<unsigned, mlir::Value> rows; ///< by plane
  std::map<std::tuple<void *, void *, int64_t>, mlir::Value> bytes, floats,
      bases;
};

} // namespace kvc::nvptx

#endif // KVC_CODEGEN_NVPTX_ROWDECODER_H
