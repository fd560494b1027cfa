//===- DirectMainloop.h - few query rows, multiplied as read ----*- C++ -*-===//
//
// A loaded K or V vector is used by all query rows of a block at once, and none
// is stored. What a vector of codes becomes, and what it is multiplied with, is
// known to the operand sources; the loop has the order of things.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_CODEGEN_CPU_DIRECTMAINLOOP_H
#define KVC_CODEGEN_CPU_DIRECTMAINLOOP_H

#include "codegen/cpu/operands/DirectSources.h"

namespace kvc::cpu {

class DirectMainloop : public Mainloop {
public:
  explicit DirectMainloop(AttendKernel &kernel);

  void plan() override;
  int64_t bufferBytes() override {
    return blocks.maxBlocks() * a.tileTokens * padded * 4;
  }
  int64_t stepTokens(int64_t tile) override;
  void loadQuery(double scale) override;
  void initState() override;
  void dot(const TileRows &narrow) override;
  void softmaxStep(const TileRows &rows,
                   llvm::ArrayRef<mlir::Operation *> transforms) override;
  void prepare(const TileRows &rows,
               llvm::ArrayRef<mlir::Operation *> transforms) override;
  void accumulate(const TileRows &narrow) override;
  void storePartial() override;

private:
  using Value = mlir::Value;
  using Values = llvm::SmallVector<mlir::Value>;

  /// Asks for `bytes` from `offset` on of the rows that stand ahead of `count`
  /// rows from `index` on, that many `times`. Every block of rows does: a
  /// branch for the first alone costs more than it saves.
  void prefetchAhead(const TileRows &rows, unsigned plane, Value index,
                     int64_t count, int64_t times, Value offset, int64_t bytes);
  void dotGroup(const TileRows &rows, Value block, llvm::ArrayRef<Value> held,
                Value first, int64_t count);

  /// Planes beside the codes that K or V is decoded from, widened once per
  /// tile: products load an f32 in all lanes at once, of half as many bits not.
  struct WidePlane {
    unsigned plane;
    int64_t rows; ///< scratch
  };
  void planWide(const ChannelPlan &plan);
  TileRows widen(const TileRows &rows, const ChannelPlan &plan);

  //===--- softmax ----------------------------------------------------------//
  Value applyAll(Value x, llvm::ArrayRef<mlir::Operation *> transforms,
                 const TileRows &rows, Value block, Value vector);
  Value tokenScales(int64_t scratch, Value vector);
  ScoreInputs inputsOf(const TileRows &rows, Value block, Value vector);
  Value originOf(Value largest);
  void rescale(Value block, Value factor);

  //===--- p . v (DirectAccumulate.cpp) -------------------------------------//
  DirectValues &valuesOf(const TileRows &rows) {
    return rows.masked ? *maskedValues : *values;
  }
  void forStrips(llvm::function_ref<void(const DirectStrip &)> body);
  void accumulateStrip(const TileRows &rows, Value block,
                       const DirectStrip &strip);
  void prefetchStrip(const TileRows &rows, const DirectStrip &strip,
                     Value token, int64_t count);
  void storeRow(Value row, Value inverse);

  AttendKernel &a;
  Kit &kit;
  Kernel &k;
  DirectBlocks blocks;
  int64_t blockRows, padded;
  llvm::SmallVector<WidePlane, 4> widePlanes;
  std::unique_ptr<DirectKeys> keys;
  std::unique_ptr<DirectValues> values;
  std::unique_ptr<DirectValues> maskedValues; ///< of tiles with a mask
};

} // namespace kvc::cpu

#endif // KVC_CODEGEN_CPU_DIRECTMAINLOOP_H
