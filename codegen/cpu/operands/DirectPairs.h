//===- DirectPairs.h - few query rows: products of 16-bit pairs -*- C++ -*-===//
//
// Products that sum over two neighbours of 16 bits each: what sources of bf16
// and of integers have in common. They differ in how codes become 16 bits, in
// the instruction, and in how q and the weights are rounded.
//
// K: q is [chunk][row] vectors of pairs of channels. A chunk of a key's codes
// is loaded once for all rows.
//
// V: two tokens' codes are interleaved, which takes one shuffle a vector, and
// multiplied by their pairs of weights. Interleaving within 128 bits is the
// cheap one, so accumulators have their channels in that order.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_CODEGEN_CPU_OPERANDS_DIRECTPAIRS_H
#define KVC_CODEGEN_CPU_OPERANDS_DIRECTPAIRS_H

#include "codegen/cpu/operands/DirectSources.h"

#include "llvm/Support/MathExtras.h"

namespace kvc::cpu {

class DirectPairKeys : public DirectKeys {
public:
  using DirectKeys::DirectKeys;

  int64_t queryBytes() const override {
    return chunks() * blockRows * kit.lanes * 4;
  }
  Values holdQuery(Value block) override;
  Value scores(int64_t keys, KeyRowFn keyRow, Value block,
               llvm::ArrayRef<Value> held) override;

protected:
  /// `channels` codes of a row from channel `first` on, as i16 or bf16 in i16.
  virtual Value loadHalves(Value row, int64_t first, int64_t channels) = 0;
  /// An element of a vector of sums.
  virtual mlir::Type sumType() = 0;
  /// sum + the products of a chunk of codes with a vector of q.
  virtual Value multiply(Value sum, Value codes, Value queries) = 0;
  /// Sums over all channels, [key][padded row], as scores.
  virtual Value scoresOf(Value sums, Value block, int64_t keys) = 0;
  /// Where 16-bit elements from `channel` on, a multiple of 8, of query row
  /// `row` stand.
  Value queryAt(Value row, Value channel);

private:
  /// A vector of q: a chunk of a row.
  using QueryFn = llvm::function_ref<Value(int64_t index)>;

  /// Channels that a product takes from a row, and how often it does.
  int64_t chunkChannels() const { return 2 * kit.lanes; }
  int64_t chunks() const { return llvm::divideCeil(a.dimK, chunkChannels()); }
  /// Whether a block of q stays in registers while codes are multiplied.
  bool inRegisters() const { return chunks() * blockRows <= 16; }
  Value loadQueryVector(Value block, int64_t index);
  Value loadChunk(Value row, int64_t chunk);
  Values dotTogether(llvm::ArrayRef<Value> keyRows, QueryFn queries);
};

class DirectPairValues : public DirectValues {
public:
  using DirectValues::DirectValues;

  int64_t productTokens() const override { return 2; }
  llvm::SmallVector<int64_t> order(const ChannelBlock &block) const override;
  Values addTokens(const TileRows &rows, Value block, Value token,
                   const DirectStrip &strip,
                   llvm::ArrayRef<Value> sums) override;

protected:
  /// The codes of a block of channels in 16 bits each.
  virtual Value loadHalves(Value row, Value channel,
                           const ChannelBlock &block) = 0;
  /// sum + the products of pairs of codes with pairs of weights.
  virtual Value multiply(Value sum, Value pairs, Value weights) = 0;
  /// Stores vectors of weights from score vector `vector` on, each element made
  /// one of 16 bits by `narrow`, in pairs of tokens: [pair][padded][2].
  void storePairs(llvm::ArrayRef<Value> x, const TileRows &rows, Value block,
                  Value vector, llvm::function_ref<Value(Value)> narrow);

private:
  /// Address of the pair that has token `tokenInStep`.
  Value pairsAt(Value block, Value tokenInStep);
};

} // namespace kvc::cpu

#endif // KVC_CODEGEN_CPU_OPERANDS_DIRECTPAIRS_H
