//===- DirectBlocks.h - few query rows, in blocks ---------------*- C++ -*-===//
//
// Where the arrays of a work tile stand that the loop of few query rows and its
// operand sources share. Scores of a block of rows are laid out [token][row],
// rows padded to a power of two, so that the softmax of all rows of the block
// runs side by side.
//
//   block of rows:  scores [token][padded]  acc [rows][dim v]  m, l [padded]
//
//===----------------------------------------------------------------------===//
#ifndef KVC_CODEGEN_CPU_DIRECTBLOCKS_H
#define KVC_CODEGEN_CPU_DIRECTBLOCKS_H

#include "codegen/cpu/Attend.h"

namespace kvc::cpu {

class DirectBlocks {
public:
  using Value = mlir::Value;
  using Values = llvm::SmallVector<mlir::Value>;

  explicit DirectBlocks(AttendKernel &kernel);

  AttendKernel &a;
  Kit &kit;
  Kernel &k;
  int64_t blockRows, padded;
  int64_t tokensPerVector; ///< tokens that a vector of scores spans
  int64_t maxRows;
  Value blocks; ///< blocks of rows of this work tile
  /// Scratch of each block, and of a tile's scales.
  int64_t acc = 0, m = 0, l = 0, scaleK = 0, scaleV = 0;

  int64_t maxBlocks() const { return maxRows / blockRows; }
  /// Lanes of a vector of scores.
  int64_t scoreLanes() const { return tokensPerVector * padded; }
  void forBlocks(Kit::Body body) { kit.loop(kit.i64(0), blocks, 1, body); }
  /// Indices of the first row to multiply and of the one after the last.
  std::pair<Value, Value> range(const TileRows &rows) {
    Value from = rows.from ? rows.from : kit.i64(0);
    return {from, rows.count ? rows.count : kit.add(from, a.countRows(rows))};
  }
  /// Address of a per-block array.
  Value blockAt(int64_t offset, Value block, int64_t bytesPerBlock) {
    return kit.at(k.scratchAt(offset), kit.mul(block, bytesPerBlock));
  }
  /// Address of an array of an f32 per row of a block.
  Value stats(int64_t offset, Value block) {
    return blockAt(offset, block, padded * 4);
  }
  /// Address of a block's accumulators.
  Value accumulators(Value block) {
    return blockAt(acc, block, blockRows * a.dimV * 4);
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
  /// Carries values over the vectors of scores of a block that `rows` holds,
  /// [token][padded], a few at a time: `body` gets the first one's index and
  /// how many there are.
  Values forScores(const TileRows &rows, Values init,
                   llvm::function_ref<Values(Value vector, int64_t count,
                                             mlir::ValueRange carried)>
                       body);
};

} // namespace kvc::cpu

#endif // KVC_CODEGEN_CPU_DIRECTBLOCKS_H
