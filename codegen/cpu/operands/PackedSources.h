//===- PackedSources.h - operands of many query rows ------------*- C++ -*-===//
//
// The two interfaces that PackedMainloop multiplies through: small matrix
// products of all query rows of the work tile with a tile of tokens.
//
//   scores [token][row]   =  k [token][words]  *  qT [words][row]    per block
//   acc [row][dim v]      =  alpha * acc  +  weights  *  v [tokens][dim v]
//
// A word is an f32, or two bf16: of two channels of q and K, of two tokens of
// the weights and V.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_CODEGEN_CPU_OPERANDS_PACKEDSOURCES_H
#define KVC_CODEGEN_CPU_OPERANDS_PACKEDSOURCES_H

#include "codegen/cpu/PackedBlocks.h"
#include "codegen/cpu/operands/OperandSource.h"

namespace kvc::cpu {

/// What both sources know of the loop.
class PackedOperand {
protected:
  using Value = mlir::Value;
  using Values = llvm::SmallVector<mlir::Value>;

  explicit PackedOperand(PackedBlocks &blocks)
      : blocks(blocks), a(blocks.a), kit(blocks.kit), k(blocks.k),
        blockRows(blocks.blockRows) {}

  PackedBlocks &blocks;
  AttendKernel &a;
  Kit &kit;
  Kernel &k;
  int64_t blockRows;
};

/// K's source: q and K as they are multiplied, and their products.
class PackedKeys : protected PackedOperand {
public:
  using Blocks = PackedBlocks;

  virtual ~PackedKeys() = default;

  /// Bytes of a block of qT.
  int64_t queryBytes() const { return queryLimbs * queryWords() * 4; }
  /// Bytes of a packed tile of K.
  virtual int64_t packedBytes() const { return keyWords() * 4; }
  /// Writes the work tile's qT. `scale` is that of the scores.
  void loadQuery(double scale);
  virtual void initState() {}
  /// The scores of all blocks against all tokens of a tile. Those of tokens
  /// that do not exist may be anything, the mask hides them.
  virtual void dot(const TileRows &rows) = 0;
  /// What the scores are still to be multiplied with.
  virtual double scoreScale() const { return 1; }

  int64_t query = 0;  ///< scratch: [block][limb][word][row]
  int64_t packed = 0; ///< scratch: packedBytes()

protected:
  /// Stores a word of a row's column of qT.
  using StoreFn = llvm::function_ref<void(Value x, Value word, int64_t limb)>;
  /// Packs a block of channels of a token into the packed row at `to`.
  using PackFn = llvm::function_ref<void(
      const ChannelBlock &block, const RowFn &row, Value channel, Value to)>;

  /// Rows of q and K have `words` words; of q, each is the sum of `queryLimbs`.
  PackedKeys(PackedBlocks &blocks, int64_t words, int64_t queryLimbs = 1)
      : PackedOperand(blocks), words(words), queryLimbs(queryLimbs) {}

  /// Stores the query row at `from`.
  virtual void loadQueryRow(Value from, StoreFn store) = 0;
  /// Packs the rows of K that exist.
  void packRows(const TileRows &rows, PackFn pack);
  /// Words of one limb of a block of qT, and of a packed tile of K.
  int64_t queryWords() const { return words * blockRows; }
  int64_t keyWords() const { return words * a.tileTokens; }

  int64_t words, queryLimbs;
  double scale = 1;
};

/// V's source: the weights (probabilities, V's scales in them) and V as they
/// are multiplied, and their products.
class PackedValues : protected PackedOperand {
public:
  using Blocks = PackedBlocks;

  explicit PackedValues(PackedBlocks &blocks) : PackedOperand(blocks) {}
  virtual ~PackedValues() = default;

  /// Elements of a row of packed V, and of an accumulator.
  virtual int64_t width() const { return a.dimV; }
  /// Bytes of a packed tile of V, and of a block's weights if they do not stay
  /// where the scores were.
  virtual int64_t packedBytes() const = 0;
  virtual int64_t weightBytes() const = 0;
  /// Packs V, zeros where there is no token. An infinity or NaN counts as 0
  /// too, since a weight of 0 must hide it; the loop adds it to the rows that
  /// see its token. Returns whether there is none, null if the codes cannot be
  /// one.
  virtual Value pack(const TileRows &rows) = 0;
  /// acc = alpha * acc + weights * v of a block.
  virtual void accumulate(Value block) = 0;

  int64_t packed = 0;  ///< scratch: packedBytes()
  int64_t weights = 0; ///< scratch: weightBytes()
};

} // namespace kvc::cpu

#endif // KVC_CODEGEN_CPU_OPERANDS_PACKEDSOURCES_H
