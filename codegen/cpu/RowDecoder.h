//===- RowDecoder.h - a cached row, a vector at a time ----------*- C++ -*-===//
#ifndef KVC_CODEGEN_CPU_ROWDECODER_H
#define KVC_CODEGEN_CPU_ROWDECODER_H

#include "codegen/cpu/KitFunctions.h"

namespace kvc::cpu {

/// What element-wise ops make of one token's loaded rows. Asked for columns of
/// a result, an op asks its operands for theirs, down to the planes; nothing
/// stands in memory between.
class RowDecoder {
public:
  /// Columns of a tile, `base` + `offset` + each of `order`: a permutation of
  /// the first `width()`, which are one or a power of two. `base` is a multiple
  /// of them.
  struct Columns {
    mlir::Value base; ///< i64
    llvm::SmallVector<int64_t> order;
    int64_t offset = 0;

    int64_t width() const { return order.size(); }
    /// In natural order.
    static Columns from(mlir::Value base, int64_t width, int64_t offset = 0) {
      return {base, llvm::to_vector(llvm::seq<int64_t>(0, width)), offset};
    }
  };
  /// Whether `x * scale + zero` is rounded once, which is the faster, or twice,
  /// as a codec says it.
  enum class Rounding : uint8_t { Once, Twice };

  RowDecoder(Kernel &kernel, RowFn rowOf, Rounding rounding = Rounding::Twice)
      : kit(kernel.kit), cache(kernel.cache), functions(kernel),
        rowOf(std::move(rowOf)), rounding(rounding) {}

  /// A vector of f32 of those columns of `x`, a tile of one row.
  mlir::Value decode(mlir::Value x, const Columns &columns);

private:
  mlir::Value offsetBy(tile::OffsetOp op, const Columns &columns);
  mlir::Value loaded(mlir::Value x, const Columns &columns, bool isUnsigned);
  mlir::Value loadPackedCode(mlir::Value row, const PlaneGeometry &plane,
                             mlir::Value column, bool isUnsigned);
  mlir::Value boxesOf(mlir::Value x, mlir::Value boxes, const Columns &columns);
  /// The one column of a tile, in as many lanes.
  mlir::Value repeated(mlir::Value x, int64_t width) {
    return splat(x, kit.i64(0), width);
  }
  mlir::Value splat(mlir::Value x, mlir::Value column, int64_t width) {
    return kit.splat(element(x, column), width);
  }
  mlir::Value element(mlir::Value x, mlir::Value column) {
    return kit.extract(decode(x, Columns::from(column, 1)), 0);
  }
  /// Lane by lane, each told which column it has.
  mlir::Value lanes(const Columns &columns,
                    llvm::function_ref<mlir::Value(mlir::Value column)> lane);

  Kit &kit;
  CacheType cache;
  KitFunctions functions;
  RowFn rowOf;
  Rounding rounding;
};

} // namespace kvc::cpu

#endif // KVC_CODEGEN_CPU_ROWDECODER_H
