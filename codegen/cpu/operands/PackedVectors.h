//===- PackedVectors.h - many query rows: products in vectors ---*- C++ -*-===//
//
// Register tiles of vector products: a word of one matrix is broadcast and
// multiplied with vectors of words of the other. What sources of f32 and of
// pairs of bf16 have in common; they differ in what a word is.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_CODEGEN_CPU_OPERANDS_PACKEDVECTORS_H
#define KVC_CODEGEN_CPU_OPERANDS_PACKEDVECTORS_H

#include "codegen/cpu/operands/PackedSources.h"

namespace kvc::cpu {

class PackedVectorKeys : public PackedKeys {
public:
  void dot(const TileRows &rows) override;

protected:
  using PackedKeys::PackedKeys;

  virtual void pack(const TileRows &rows) = 0;
  /// Row `token` of K as the product reads it.
  virtual Value keyRow(const TileRows &rows, Value token);
  /// sum + the products of words of K and of qT.
  virtual Value multiply(Value sum, Value key, Value queries) = 0;
  /// What sums are multiplied with to be scores.
  virtual double sumScale() const { return 1; }

private:
  void scoreTile(llvm::ArrayRef<Value> rows, Value block, Value token);
};

class PackedVectorValues : public PackedValues {
public:
  int64_t packedBytes() const override {
    return a.tileTokens / wordTokens * a.dimV * 4;
  }
  void accumulate(Value block) override;

protected:
  /// A word has an element each of `wordTokens` tokens.
  PackedVectorValues(PackedBlocks &blocks, int64_t wordTokens)
      : PackedValues(blocks), wordTokens(wordTokens) {}

  /// Makes weights of the block's probabilities.
  virtual void makeWeights(Value block) = 0;
  /// Address of a block's weights, [token / wordTokens][row].
  virtual Value weightsOf(Value block) = 0;
  /// sum + the products of words of the weights and of V.
  virtual Value multiply(Value sum, Value weight, Value values) = 0;
  /// Applies V's scales, if there are any, to a token's probabilities where
  /// they stand, and returns the weights.
  Value applyScale(Value block, Value token);

private:
  void outputTile(Value block, Value row, Value channel, int64_t vectors,
                  int64_t lanes);

  int64_t wordTokens;
};

} // namespace kvc::cpu

#endif // KVC_CODEGEN_CPU_OPERANDS_PACKEDVECTORS_H
