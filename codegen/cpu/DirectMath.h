//===- DirectMath.h - few query rows: multiply as the tile is read *- C++ -*-=//
//
// A loaded K or V vector is decoded in registers and used by `rows` query rows
// at once. Scores of a block of rows are laid out [token][row], rows padded to
// a power of two, so that the softmax of all rows of the block runs side by
// side.
//
//   block of rows:  q [rows][dim k]   permuted as the product wants it
//                   s [token][padded]  acc [rows][dim v]  m, l, alpha [padded]
//
// Each product has a form for f32 multiply-adds on decoded vectors and, where
// the schedule says `dot`, forms for products on the codes as they are.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_CODEGEN_CPU_DIRECTMATH_H
#define KVC_CODEGEN_CPU_DIRECTMATH_H

#include "codegen/cpu/Attend.h"

#include "llvm/Support/MathExtras.h"

namespace kvc::cpu {

/// How codes are multiplied: decoded to f32, as pairs of bf16, or as integers.
enum class Form { F32, BF16, I8 };

class DirectMath : public TileMath {
public:
  explicit DirectMath(AttendKernel &kernel);

  void plan() override;
  int64_t bufferBytes() override { return buffer.bytes(); }
  void loadQuery(double scale) override;
  void initState() override;
  void dot(const TileRows &rows) override;
  void softmaxStep(const TileRows &rows,
                   llvm::ArrayRef<Transform> transforms) override;
  void prepare(const TileRows &rows,
               llvm::ArrayRef<Transform> transforms) override;
  void accumulate(const TileRows &rows) override;
  void storePartial() override;

private:
  using Value = mlir::Value;
  using Values = llvm::SmallVector<mlir::Value>;

  void forBlocks(Kit::Body body) { kit.loop(kit.i64(0), blocks, 1, body); }
  /// Brings in what `bytes` from `offset` on of the rows at `indices` will be
  /// `prefetch` tokens later. Every block of rows does: a branch for the first
  /// alone costs more than it saves.
  void prefetchAhead(const TileRows &rows, unsigned plane,
                     llvm::ArrayRef<Value> indices, Value offset,
                     int64_t bytes);
  /// Address of a per-block array.
  Value blockAt(int64_t offset, Value block, int64_t bytesPerBlock) {
    return kit.at(k.scratchAt(offset), kit.mul(block, bytesPerBlock));
  }
  Value stats(int64_t offset, Value block) {
    return blockAt(offset, block, padded * 4);
  }
  /// Arrays of a tile's buffer, per block.
  Value inBuffer(const TileRows &rows, int64_t offset, Value block,
                 int64_t bytesPerBlock) {
    return kit.at(kit.at(rows.buffer, offset), kit.mul(block, bytesPerBlock));
  }
  Value scores(const TileRows &rows, Value block) {
    return inBuffer(rows, s, block, a.tileTokens * padded * 4);
  }
  Value probabilities(const TileRows &rows, Value block) {
    return inBuffer(rows, p, block, a.tileTokens * padded * 2);
  }
  Value tileStats(const TileRows &rows, int64_t offset, Value block) {
    return inBuffer(rows, offset, block, padded * 4);
  }

  //===--- q . k (DirectDot.cpp) --------------------------------------------//
  void loadQueryF32(Value row, double scale);
  void loadQueryBF16(Value row);
  void loadQueryI8(Value row, double scale);
  void storeLimbs(Value x, Value row, Value c);
  Values queryWords(Value block);
  Value loadWord(Value block, int64_t index);
  void dotGroup(const TileRows &rows, Value block, llvm::ArrayRef<Value> words,
                Value first, int64_t keys);
  /// Address of a key's row; the key comes into use with the call.
  using KeyRowFn = llvm::function_ref<Value(int64_t key)>;
  /// A vector of q's words: a chunk, or one of its two limbs.
  using WordFn = llvm::function_ref<Value(int64_t index)>;
  /// Each gives the scores of `keys` against a block, [key][padded row].
  Value dotF32(int64_t keys, KeyRowFn keyRow, Value block);
  Value dotBF16(int64_t keys, KeyRowFn keyRow, WordFn word);
  Value dotI8(int64_t keys, KeyRowFn keyRow, WordFn word, Value block);
  Values dotChannels(const ChannelBlock &shape, Value channel,
                     llvm::ArrayRef<Value> keyRows, Value query,
                     llvm::ArrayRef<Value> sums);
  Value wordsOf(Value row, int64_t chunk);
  Value queryWord(Value row, Value word);

  //===--- softmax ----------------------------------------------------------//
  Value applyAll(Value x, llvm::ArrayRef<Transform> transforms,
                 const TileRows &rows, Value block, int64_t vector);
  Value tokenScales(int64_t scratch, int64_t vector);
  Value mask(Value x, const TileRows &rows, Value block, int64_t vector,
             tile::MaskOp op);

  //===--- p . v (DirectAccumulate.cpp) -------------------------------------//
  /// Consecutive channel blocks that are accumulated together.
  struct Strip {
    Value channel; ///< the first
    llvm::ArrayRef<ChannelBlock> blocks;
    int64_t channels() const;
    /// Channel of a block, from the strip's first.
    int64_t offset(const ChannelBlock &block) const {
      return block.first - blocks.front().first;
    }
  };
  void scaleProbabilities(const TileRows &rows);
  void packBF16(const TileRows &rows, Value block);
  void packI16(const TileRows &rows, Value block);
  void forStrips(llvm::function_ref<void(const Strip &)> body);
  void accumulateStrip(const TileRows &rows, Value block, const Strip &strip);
  Values stripTokens(const TileRows &rows, Value block, const Strip &strip,
                     Values sums);
  Values stripPairs(const TileRows &rows, Value block, const Strip &strip,
                    Values sums);
  Values addToken(const TileRows &rows, Value block, Value token,
                  const Strip &strip, llvm::ArrayRef<Value> sums,
                  bool skipZero);
  Values addPair(const TileRows &rows, Value block, Value token,
                 const Strip &strip, llvm::ArrayRef<Value> sums);
  Value loadHalves(Value row, Value channel, const ChannelBlock &block);
  void prefetchStrip(const TileRows &rows, const Strip &strip, Value token);
  Values decodeV(Value row, Value channel, const ChannelBlock &block);
  /// order[e]: the channel within the block at element e of an accumulator.
  llvm::SmallVector<int64_t> accOrder(const ChannelBlock &block) const;
  void storeRow(Value row, Value inverse);

  AttendKernel &a;
  Kit &kit;
  Kernel &k;
  int64_t blockRows, padded;
  int64_t tokensPerVector; ///< tokens that a vector of scores spans
  int64_t maxRows;
  Form formK = Form::F32, formV = Form::F32;
  double queryScale = 1; ///< of scores of bf16 pairs
  Value blocks;          ///< blocks of rows of this item
  int64_t q = 0, acc = 0, m = 0, l = 0;
  int64_t queryFactor = 0,
          queryBias = 0; ///< of integer scores, [block][padded]
  int64_t scaleK = 0, scaleV = 0;
  Scratch buffer; ///< of a tile, with these arrays:
  int64_t s = 0, alpha = 0;
  /// Probabilities in pairs of tokens, [block][pair][padded] words, and if they
  /// are integers the value of 1, [block][padded].
  int64_t p = 0, pUnit = 0;

  int64_t maxBlocks() const { return maxRows / blockRows; }
  // Only where codes are multiplied as they are (formK is not F32):
  /// i32 words of codes that one row has in a chunk of a product.
  int64_t segment() const { return kit.lanes / padded; }
  int64_t wordChannels() const { return formK == Form::BF16 ? 2 : 4; }
  int64_t chunks() const {
    return llvm::divideCeil(a.dimK / wordChannels(), segment());
  }
  int64_t queryBytes() const { ///< of a block
    if (formK == Form::F32)
      return blockRows * a.dimK * 4;
    int64_t limbs = formK == Form::I8 ? 2 : 1;
    return limbs * chunks() * kit.lanes * 4;
  }
};

} // namespace kvc::cpu

#endif // KVC_CODEGEN_CPU_DIRECTMATH_H
