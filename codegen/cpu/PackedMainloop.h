//===- PackedMainloop.h - many query rows -----------------------*- C++ -*-===//
#ifndef KVC_CODEGEN_CPU_PACKEDMAINLOOP_H
#define KVC_CODEGEN_CPU_PACKEDMAINLOOP_H

#include "codegen/cpu/Attend.h"

namespace kvc::cpu {

/// Rows of a matrix register, and words in each.
inline constexpr int64_t kTileSide = 16;

/// Query rows come in blocks of two vectors, tiles are packed into scratch.
/// Arrays are f32, or words of two bf16 where products are of pairs.
class PackedMainloop : public Mainloop {
public:
  explicit PackedMainloop(AttendKernel &a);

  void plan() override;
  /// Tiles do not overlap: no buffer.
  int64_t bufferBytes() override { return 0; }
  bool masksAll() override {
    return formK != Form::Tiles && formV != Form::Tiles;
  }
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
  using Values = llvm::SmallVector<Value>;

  /// How operands of a product are multiplied.
  enum class Form {
    F32,
    Pairs, ///< vectors of pairs of bf16
    Tiles, ///< matrix registers of pairs of bf16
  };
  Form chooseForm(mlir::Type code);

  void forBlocks(Kit::Body body) { kit.loop(kit.i64(0), blocks, 1, body); }
  void forTokens(int64_t step, Kit::Body body) {
    kit.loop(kit.i64(0), kit.i64(a.tileTokens), step, body);
  }
  /// Element `index` of an array of 32-bit elements in scratch.
  Value element(int64_t offset, Value index) {
    return kit.at(k.scratchAt(offset), kit.mul(index, 4));
  }
  Value perRow(int64_t offset, Value block) {
    return element(offset, kit.mul(block, blockRows));
  }
  Value score(Value block, Value token) {
    Value row = kit.add(kit.mul(block, a.tileTokens), token);
    return element(s, kit.mul(row, blockRows));
  }
  Value accumulator(Value block, Value row, Value channel) {
    Value first = kit.add(kit.mul(block, blockRows), row);
    return element(acc, kit.add(kit.mul(first, widthV), channel));
  }
  int64_t maxRows() const { return maxBlocks * blockRows; }
  /// Words of one limb of a block of qT, of packed K, of packed V.
  int64_t queryWords() const { return wordsK * blockRows; }
  int64_t keyWords() const { return wordsK * a.tileTokens; }
  int64_t valueWords() const { return widthV * a.tileTokens / 2; }

  //===--- PackedOperands.cpp -----------------------------------------------//
  void loadQueryRow(Value row);
  Value packK(const TileRows &rows);
  Value packV(const TileRows &rows);
  Value packPairsV(const TileRows &rows);
  void packPair(const TileRows &rows, Value token);
  Values loadLimbs(const ChannelPlan &plan, const ChannelBlock &block,
                   Value row, Value channel, int64_t limbs);
  Values splitLimbs(Value x, int64_t limbs);
  Value pairUp(Value x, Value y);
  Value zeros(mlir::Type type);
  /// Flags of elements that were hidden, where V's scales will be.
  Value flags() { return k.scratchAt(scaleV); }
  void clearFlags();
  Value noFlags();
  void hideNonFinite(Values &limbs);

  //===--- AttendPacked.cpp -------------------------------------------------//
  Value weight(Value at, Value token, int64_t lanes);
  Values pairWeights(Value x, Value y, int64_t limbs);
  void scaleAndPair(Value block);
  Value keyRow(const TileRows &rows, Value token);
  Value multiply(Form form, Value sum, Value x, Value y) {
    return form == Form::Pairs ? kit.dotBF16(sum, x, y) : kit.fma(x, y, sum);
  }
  void scoreTile(llvm::ArrayRef<Value> keys, Value block, Value token);
  void outputTile(Value block, Value row, Value channel, int64_t vectors,
                  int64_t lanes);
  void accumulateBlock(Value block);
  void addNonFinite(const TileRows &rows);
  void addNonFiniteScores(const TileRows &rows);
  Value apply(Value x, llvm::ArrayRef<mlir::Operation *> transforms,
              const TileRows &rows, Value block, Value token);

  //===--- PackedTiles.cpp --------------------------------------------------//
  void configureTiles();
  void scoreTiles(Value block);
  void rescale(Value block);
  void transposeWeights(Value block, Value half, Value group);
  void accumulateTiles(Value block);
  void outputTiles(Value block, Value channel, int64_t columns);

  AttendKernel &a;
  Kit &kit;
  Kernel &k;
  Form formK = Form::F32, formV = Form::F32;
  bool direct = false; ///< K's codes are the pairs: read where they stand
  /// bf16 that an element is the sum of, in products of tiles.
  int64_t limbsQ = 1, limbsK = 1, limbsP = 1, limbsV = 1;
  int64_t blockRows; ///< rows of a block
  int64_t tileRows;  ///< tokens or rows of a register tile
  int64_t wordsK;    ///< 32-bit elements of a row of q or K
  int64_t widthV;    ///< of a row of V or of an accumulator
  int64_t maxBlocks;
  double scale = 1;      ///< of scores
  double queryScale = 1; ///< the same, if q does not have it
  Value blocks;          ///< of this work tile
  Value finite;          ///< whether the tile's V is; null: it must be
  bool scaled = false;   ///< V has scales
  int64_t qT = 0, s = 0, kRows = 0, v = 0, vPairs = 0, p = 0, acc = 0;
  int64_t m = 0, l = 0, alpha = 0, scaleK = 0, scaleV = 0, config = 0;
};

} // namespace kvc::cpu

#endif // KVC_CODEGEN_CPU_PACKEDMAINLOOP_H
