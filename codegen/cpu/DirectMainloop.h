//===- DirectMainloop.h - few query rows, multiplied as read ----*- C++ -*-===//
//
// A loaded K or V vector is dequantized in registers and used by `rows` query
// rows at once. Scores of a block of rows are laid out [token][row], rows
// padded to a power of two, so that the softmax of all rows of the block runs
// side by side.
//
//   block of rows:  q [rows][dim k]   permuted as the product wants it
//                   scores [token][padded]  acc [rows][dim v]  m, l [padded]
//
// Each product has a form for f32 multiply-adds on dequantized vectors and,
// where the schedule says `dot`, forms for products on the codes as they are.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_CODEGEN_CPU_DIRECTMAINLOOP_H
#define KVC_CODEGEN_CPU_DIRECTMAINLOOP_H

#include "codegen/cpu/Attend.h"

#include "llvm/Support/MathExtras.h"

namespace kvc::cpu {

/// How codes are multiplied: dequantized to f32, as pairs of bf16, or as pairs
/// of 16-bit integers.
enum class Form { F32, BF16, I8 };

class DirectMainloop : public Mainloop {
public:
  explicit DirectMainloop(AttendKernel &kernel);

  void plan() override;
  int64_t bufferBytes() override {
    return maxBlocks() * a.tileTokens * padded * 4;
  }
  int64_t stepTokens(int64_t tile) override;
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
  using Values = llvm::SmallVector<mlir::Value>;

  void forBlocks(Kit::Body body) { kit.loop(kit.i64(0), blocks, 1, body); }
  /// Asks for `bytes` from `offset` on of the rows that stand ahead of `count`
  /// rows from `index` on, that many `times`. Every block of rows does: a
  /// branch for the first alone costs more than it saves.
  void prefetchAhead(const TileRows &rows, unsigned plane, Value index,
                     int64_t count, int64_t times, Value offset, int64_t bytes);
  /// Indices of the first row to multiply and of the one after the last.
  std::pair<Value, Value> range(const TileRows &rows) {
    Value from = rows.from ? rows.from : kit.i64(0);
    return {from, rows.count ? rows.count : kit.add(from, a.countRows(rows))};
  }
  /// Address of a per-block array.
  Value blockAt(int64_t offset, Value block, int64_t bytesPerBlock) {
    return kit.at(k.scratchAt(offset), kit.mul(block, bytesPerBlock));
  }
  Value stats(int64_t offset, Value block) {
    return blockAt(offset, block, padded * 4);
  }
  /// Scores of a tile, which are its buffer, from token `token` on.
  Value scores(const TileRows &rows, Value block, Value token) {
    int64_t bytes = padded * 4; // of a token
    Value base = kit.mul(block, a.tileTokens * bytes);
    return kit.at(kit.at(rows.buffer, base), kit.mul(token, bytes));
  }
  /// Of score vector `vector`.
  Value scoresOf(const TileRows &rows, Value block, Value vector) {
    return scores(rows, block, kit.mul(vector, tokensPerVector));
  }
  /// Of a step's probabilities in pairs.
  Value pairsAt(Value block, Value tokenInStep) {
    int64_t bytes = padded * 2;
    return kit.at(blockAt(p, block, a.stepTokens * bytes),
                  kit.mul(tokenInStep, bytes));
  }

  //===--- q . k (DirectDot.cpp) --------------------------------------------//
  void loadQueryF32(Value row, double scale);
  void loadQueryBF16(Value row);
  void loadQueryI8(Value row, double scale);
  Value queryAt(Value row, Value channel);
  Values queryWords(Value block);
  Value loadWord(Value block, int64_t index);
  void dotGroup(const TileRows &rows, Value block, llvm::ArrayRef<Value> words,
                Value first, int64_t keys);
  /// Address of a key's row; the key comes into use with the call.
  using KeyRowFn = llvm::function_ref<Value(int64_t key)>;
  /// A vector of q: a chunk of a row.
  using WordFn = llvm::function_ref<Value(int64_t index)>;
  /// Each gives the scores of `keys` against a block, [key][padded row].
  Value dotF32(int64_t keys, KeyRowFn keyRow, Value block);
  Value dotCodes(int64_t keys, KeyRowFn keyRow, WordFn word, Value block);
  Values dotTogether(llvm::ArrayRef<Value> keyRows, WordFn word);
  Values dotChannels(const ChannelBlock &shape, Value channel,
                     llvm::ArrayRef<Value> keyRows, Value query,
                     llvm::ArrayRef<Value> sums);
  Value codesOf(Value row, int64_t chunk);

  //===--- softmax ----------------------------------------------------------//
  Value applyAll(Value x, llvm::ArrayRef<mlir::Operation *> transforms,
                 const TileRows &rows, Value block, Value vector);
  Value tokenScales(int64_t scratch, Value vector);
  ScoreInputs inputsOf(const TileRows &rows, Value block, Value vector);
  Values forScores(const TileRows &rows, Values init,
                   llvm::function_ref<Values(Value vector, int64_t count,
                                             mlir::ValueRange carried)>
                       body);
  Value originOf(Value largest);
  void rescale(Value block, Value factor);

  //===--- p . v (DirectAccumulate.cpp) -------------------------------------//
  /// Consecutive channel blocks that are accumulated together, and for which
  /// rows of a block.
  struct Strip {
    Value channel; ///< the first
    llvm::ArrayRef<ChannelBlock> blocks;
    int64_t firstRow, rows;
    int64_t channels() const;
    /// Channel of a block, from the strip's first.
    int64_t offset(const ChannelBlock &block) const {
      return block.first - blocks.front().first;
    }
  };
  void storePairs(llvm::ArrayRef<Value> x, const TileRows &rows, Value block,
                  Value vector, llvm::function_ref<Value(Value)> narrow);
  void packI16(const TileRows &rows, Value block, Value largest);
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
  void prefetchStrip(const TileRows &rows, const Strip &strip, Value token,
                     int64_t count);
  Values dequantizeV(Value row, Value channel, const ChannelBlock &block);
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
  Value blocks;          ///< blocks of rows of this work tile
  int64_t q = 0, acc = 0, m = 0, l = 0;
  int64_t queryFactor = 0; ///< of integer scores, [block][padded]
  int64_t scaleK = 0, scaleV = 0;
  /// Probabilities of a step in pairs of tokens, [block][pair][padded] words,
  /// and if they are integers the value of 1, [block][padded].
  int64_t p = 0, pUnit = 0;

  int64_t maxBlocks() const { return maxRows / blockRows; }
  /// Channels that a product of codes takes from a row, and how often it does.
  int64_t chunkChannels() const { return 2 * kit.lanes; }
  int64_t chunks() const { return llvm::divideCeil(a.dimK, chunkChannels()); }
  /// Whether a block of q stays in registers while codes are multiplied.
  bool inRegisters() const { return chunks() * blockRows <= 16; }
  int64_t queryBytes() const { ///< of a block
    return formK == Form::F32 ? blockRows * a.dimK * 4
                              : chunks() * blockRows * kit.lanes * 4;
  }
};

} // namespace kvc::cpu

#endif // KVC_CODEGEN_CPU_DIRECTMAINLOOP_H
