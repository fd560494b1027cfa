//===- PackedMainloop.h - many query rows -----------------------*- C++ -*-===//
//
// A tile of K and of V is packed into scratch as the product wants it, or read
// where it stands. In which form, and by which instructions two matrices are
// multiplied, is known to the operand sources.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_CODEGEN_CPU_PACKEDMAINLOOP_H
#define KVC_CODEGEN_CPU_PACKEDMAINLOOP_H

#include "codegen/cpu/operands/PackedSources.h"

namespace kvc::cpu {

class PackedMainloop : public Mainloop {
public:
  explicit PackedMainloop(AttendKernel &a);

  void plan() override;
  /// Tiles do not overlap: no buffer.
  int64_t bufferBytes() override { return 0; }
  /// Products in vectors take so long that a mask is little beside them.
  bool masksAll() override { return !blocks.registers.areTaken(); }
  void loadQuery(double scale) override;
  void initState() override;
  void dot(const TileRows &rows) override;
  void softmaxStep(const TileRows &rows,
                   llvm::ArrayRef<mlir::Operation *> transforms) override;
  void prepare(const TileRows &rows,
               llvm::ArrayRef<mlir::Operation *> transforms) override;
  void accumulate(const TileRows &rows) override;
  void storePartial() override;

private:
  using Value = mlir::Value;

  void addNonFinite(const TileRows &rows);
  Value apply(Value x, llvm::ArrayRef<mlir::Operation *> transforms,
              const TileRows &rows, Value block, Value token);

  AttendKernel &a;
  Kit &kit;
  Kernel &k;
  PackedBlocks blocks;
  int64_t blockRows;
  std::unique_ptr<PackedKeys> keys;
  std::unique_ptr<PackedValues> values;
  Value finite; ///< whether the tile's V is; null: it must be
};

} // namespace kvc::cpu

#endif // KVC_CODEGEN_CPU_PACKEDMAINLOOP_H
