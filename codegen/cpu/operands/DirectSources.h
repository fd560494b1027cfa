//===- DirectSources.h - operands of few query rows -------------*- C++ -*-===//
//
// The two interfaces that DirectMainloop multiplies through. A loaded vector of
// K or V is used by all rows of a block at once, so a source decides what a
// vector of codes becomes in registers and what each row multiplies it with.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_CODEGEN_CPU_OPERANDS_DIRECTSOURCES_H
#define KVC_CODEGEN_CPU_OPERANDS_DIRECTSOURCES_H

#include "codegen/cpu/DirectBlocks.h"
#include "codegen/cpu/operands/OperandSource.h"

namespace kvc::cpu {

/// What both sources know of the loop.
class DirectOperand {
protected:
  using Value = mlir::Value;
  using Values = llvm::SmallVector<mlir::Value>;

  explicit DirectOperand(DirectBlocks &blocks)
      : blocks(blocks), a(blocks.a), kit(blocks.kit), k(blocks.k),
        blockRows(blocks.blockRows), padded(blocks.padded) {}

  DirectBlocks &blocks;
  AttendKernel &a;
  Kit &kit;
  Kernel &k;
  int64_t blockRows, padded;
};

/// K's source: q as the codes are multiplied with it, and their products.
class DirectKeys : protected DirectOperand {
public:
  using Blocks = DirectBlocks;
  /// A key's rows; the key comes into use with the call.
  using KeyRowFn = llvm::function_ref<RowFn(int64_t key)>;

  explicit DirectKeys(DirectBlocks &blocks) : DirectOperand(blocks) {}
  virtual ~DirectKeys() = default;

  /// Bytes of a block of q.
  virtual int64_t queryBytes() const = 0;
  /// Writes the work tile's q. `scale` is that of the scores.
  void loadQuery(double scale);
  /// Vectors of a block of q that stay in registers for all of a step's keys.
  virtual Values holdQuery(Value) { return {}; }
  /// The scores of `keys` against a block, [key][padded row] f32. `held` is
  /// what holdQuery() gave.
  virtual Value scores(int64_t keys, KeyRowFn keyRow, Value block,
                       llvm::ArrayRef<Value> held) = 0;

  int64_t query = 0; ///< scratch: [block] queryBytes()
  int64_t rowFactor =
      0; ///< scratch: an f32 per row to be kept, [block][padded]

protected:
  virtual void loadQueryRow(Value row) = 0;

  double scale = 1;
};

/// Consecutive channel blocks that are accumulated together, and for which rows
/// of a block.
struct DirectStrip {
  /// Vectors of an accumulator.
  struct Slot {
    mlir::Value at;
    int64_t row, lanes;
  };

  mlir::Value channel; ///< the first
  llvm::ArrayRef<ChannelBlock> blocks;
  int64_t firstRow, rows;
  int64_t channels() const {
    return offset(blocks.back()) + blocks.back().channels;
  }
  /// Channel of a block, from the strip's first.
  int64_t offset(const ChannelBlock &block) const {
    return block.first - blocks.front().first;
  }
};

/// How the loop suits a source's speed.
struct DirectPace {
  /// Bytes of V that are multiplied before K has its turn again.
  int64_t stepBytes = 8192;
  /// How often each line of V is asked for.
  int64_t prefetches = 2;
  /// Operands are cheap to make twice: whole tokens are taken for some of the
  /// rows, so that memory is read in the order of its addresses, which is all
  /// that prefetchers of a core follow.
  bool wholeTokens = false;
};

/// V's source: the weights (probabilities, V's scales in them) as the codes are
/// multiplied with them, and the products' sums.
class DirectValues : protected DirectOperand {
public:
  using Blocks = DirectBlocks;
  /// Makes a vector of weights, of the `i`th of the vectors asked for.
  using WeightFn = llvm::function_ref<Value(int64_t i)>;

  explicit DirectValues(DirectBlocks &blocks) : DirectOperand(blocks) {}
  virtual ~DirectValues() = default;

  virtual DirectPace pace() const { return {}; }
  /// Tokens that one product takes.
  virtual int64_t productTokens() const = 0;
  /// order[e]: the channel within the block at element e of an accumulator.
  virtual llvm::SmallVector<int64_t> order(const ChannelBlock &block) const = 0;
  /// Stores `count` vectors of weights from score vector `vector` on.
  virtual void storeWeights(const TileRows &rows, Value block, Value vector,
                            int64_t count, WeightFn weight) = 0;
  /// Follows when all weights of `rows` are stored. The largest of each row are
  /// those of `largest`, [..][padded].
  virtual void finishWeights(const TileRows &, Value /*block*/,
                             Value /*largest*/) {}
  /// The sums of a strip in registers, a vector for each slot. By default they
  /// are the accumulators themselves.
  virtual Values beginSums(llvm::ArrayRef<DirectStrip::Slot> slots);
  /// Adds productTokens() tokens from `token` on.
  virtual Values addTokens(const TileRows &rows, Value block, Value token,
                           const DirectStrip &strip,
                           llvm::ArrayRef<Value> sums) = 0;
  virtual void endSums(Value block, llvm::ArrayRef<DirectStrip::Slot> slots,
                       llvm::ArrayRef<Value> sums);

  int64_t weights = 0; ///< scratch: 16 bits a weight of a step, [block]
  int64_t rowUnit = 0; ///< scratch: an f32 per row to be kept, [block][padded]
};

/// V's source of tiles with a mask, whose accumulators have the element order
/// of `like`. Codes are dequantized whatever they are, since a hidden token
/// must add nothing even where v is not finite.
std::unique_ptr<DirectValues> makeMaskedValues(DirectBlocks &blocks,
                                               const DirectValues &like);

} // namespace kvc::cpu

#endif // KVC_CODEGEN_CPU_OPERANDS_DIRECTSOURCES_H
