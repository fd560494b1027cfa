//===- AttendMma.h - products on tensor cores, tokens times rows -*- C++
//-*-===//
//
// Few query rows against many cached tokens: tokens take the 16 rows of a
// matrix product and query rows its 8 columns (S = K Q^T, O = V^T P^T), so that
// a GQA group of 8 fills it, and a group of 16 twice. Nothing leaves registers
// between the two products: P goes from accumulator to operand by one transpose
// of 8x8 (movmatrix).
//
// In a 16x8 accumulator, lane 4 g + t holds (g, 2t), (g, 2t+1), (g+8, 2t) and
// (g+8, 2t+1).
//
//===----------------------------------------------------------------------===//
#ifndef KVC_CODEGEN_NVPTX_ATTENDMMA_H
#define KVC_CODEGEN_NVPTX_ATTENDMMA_H

#include "codegen/nvptx/Attend.h"

namespace kvc::nvptx {

/// How the codes of a stream become operands of a product.
enum class Form : uint8_t {
  BF16, ///< as they are
  F16,  ///< as they are
  I8,   ///< to f16, exactly
};

class MmaMath : public TileMath {
public:
  explicit MmaMath(AttendKernel &a);
  std::string refuse() override;
  void beginItem(const Item &item) override;
  Values initialState() override;
  int64_t partTokens() override { return 16; }
  Values step(const Step &step, mlir::ValueRange state) override;
  void finish(mlir::ValueRange state, Shared stats, Shared sums) override;

private:
  using Value = mlir::Value;
  /// Carried from step to step. m and l are per row of this lane: columns 2t
  /// and 2t+1 of each of `nTiles`.
  struct State {
    Values m;    ///< the reference: all logits were at most 2^kSlack above it
    Values base; ///< the same as what exponents are relative to; 0 for m = -inf
    Values l;    ///< of this lane's tokens
    Values unit; ///< O is in units of 2^unit (V with scales)
    Values o;    ///< [nTiles][mTiles][4]
  };
  State unpack(mlir::ValueRange values) const;
  Values pack(const State &state) const;

  // Of one step; [tokens / 16][nTiles][4], flat.
  Values scores(const Step &step);
  Values transformed(const Step &step, Values scores);
  Values masked(const Step &step, Values scores);
  void rescale(const Values &scores, State &state);
  Values probabilities(const Values &scores, State &state);
  Values scaleV(const Step &step, const Values &p, State &state);
  Value finiteBits(Value scale);
  void growUnits(const Values &exponents, State &state);
  Values operandsP(const Values &p, bool rest);
  void accumulate(const Step &step, const Values &p, State &state);
  void accumulateCarefully(const Step &step, const Values &p, State &state);
  void addNonFinite(const Step &step, const Values &p, State &state);

  Values columnMax(const Values &scores);
  using Fragment = std::array<Value, 4>; ///< 16x16 of 16 bits
  llvm::SmallVector<Fragment, 2> loadK(const Step &step, int64_t sub,
                                       int64_t pair);
  llvm::SmallVector<Fragment, 2> loadV(const Step &step, int64_t sub,
                                       int64_t pair);
  Value fromI8(Value bytes, int64_t selector);
  Value packHalves(Value low, Value high, bool f16);
  void multiply(Form form, const Fragment &x, Value y0, Value y1,
                llvm::MutableArrayRef<Value> sum);
  Value clean(Value halves, Value &bad);
  Value laneScale(Value scale, int64_t sub, int64_t half);
  /// i32: token of accumulator rows g (half 0) or g + 8.
  Value tokenOf(const Step &step, int64_t sub, int64_t half);
  /// Channel of accumulator rows g (half 0) or g + 8 of an m tile, less its 16
  /// times mt.
  Value channelOf(int64_t half);
  void loadQueryTile(int64_t n);
  void normaliseQuery(int64_t n, llvm::MutableArrayRef<Value> words);
  Value queryWord(Value row, int64_t kStep, int64_t half);

  size_t at(int64_t sub, int64_t n, int64_t i) const {
    return (sub * nTiles + n) * 4 + i;
  }

  AttendKernel &a;
  Kit &kit;
  Form formK, formV;
  int64_t subs = 1; ///< tokens / 16 of the step at hand
  int64_t nTiles;   ///< rows / 8
  int64_t kSteps;   ///< dimK / 16, rounded up
  int64_t mTiles;   ///< dimV / 16, rounded up
  /// Exponents are fma(score, scale, -base): the scores need nothing else.
  bool raw;
  /// P times the scales of V is given as the sum of two f16: one would round
  /// more than an f16 model's own arithmetic.
  bool twice;
  bool normalised; ///< q was brought into f16's range, row by row
  Value g, t;      ///< lane / 4, lane % 4
  // Of the item.
  Values q;         ///< [nTiles][kSteps][2], two 16-bit values each
  Values rowFactor; ///< [nTiles][2]: what products of the row are times
  Values positions; ///< [nTiles][2]
};

} // namespace kvc::nvptx

#endif // KVC_CODEGEN_NVPTX_ATTENDMMA_H
