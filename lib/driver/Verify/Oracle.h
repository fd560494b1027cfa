//===- Oracle.h - what a batch must give, and how nearly --------*- C++ -*-===//
//
// The numerics contract:
//
//   N1  max |o - ref| <= max(max |plain - ref|, C W) + half an ulp at max |ref|
//       + F, over all rows of a sequence; f16 and bf16. C is N2's term of A,
//       which counts only where logits are so large that f32 cannot tell them
//       apart: a plain program is then right or wrong by luck
//   N2  |o_j - ref_j| <= (e^(4 (L + 2u sqrt(n) + 17u)) - 1 + 2 u_T) W_j
//       + 1 ulp of ref_j + F, for every element; n tokens seen.
//       u = 2^-24, u_T = 2^-8 (bf16), 2^-11 (f16) or 0 (f32).
//       W_j = sum_i p_i |v_ij|. In 16-bit models with integer codes of V, and
//       in all whose codes of V have a zero, the largest that codes of row i
//       can say in the group of j, with its scale and zero, stands for |v_ij|:
//       the codec itself moves each element by half a step, of 8 bits 1/254 of
//       that, so kernels may take probabilities in fixed point, and add a
//       zero to a product that nearly cancels it before or after they round. A
//       channel that is small beside the rest of its rows is then right to a
//       fraction of its codec's step, and else to as many digits as any other.
//       L = 2u sqrt(d) A + 2^-16 A (16-bit models: q in fixed point or as two
//       bf16); d = dim k, A = the largest possible |score|. Where logits are an
//       expression of scores (a softcap is one), 4 L is carried through its
//       steps, each of which adds its own rounding (ScoreProgram.cpp: 2u of the
//       result, 8u for functions); L is then a quarter of the largest error
//       over the tokens seen. No cap is large enough to hide one.
//       4: the statistical bound of f32 sums is never exceeded but by a bug.
//   F   what small numbers may lose by becoming 0: 2^-126 n max |v|, as
//       probabilities that are denormal in f32; bf16 2^-125 more, as in the
//       machine's dot products; 16-bit models whose V is f16 or integers
//       4 2^-25 sqrt(n) max p max |v| more, for probabilities in f16
//   N7  an element that tokens with infinities or NaN in V take part in is what
//       they make it, as in float64; any, where their weight is one that F says
//       may become 0 (0 times infinity is NaN, or what a kernel skips)
//   lse |lse - ref| <= 4 (L + 2u sqrt(n) + 17u + 2u |ref|): logits are off by
//       the first term, their sum by the next two, and the result is rounded
//   N6  a row that sees nothing has o = 0 and lse = -inf
//
// ref is float64 over the dequantized cache (N4).
//
//===----------------------------------------------------------------------===//
#ifndef KVC_LIB_DRIVER_VERIFY_ORACLE_H
#define KVC_LIB_DRIVER_VERIFY_ORACLE_H

#include "lib/driver/Verify/Launch.h"

namespace kvc::verify {

class Oracle {
public:
  /// Computes the references of a batch; the sequences must outlive it.
  Oracle(const CompiledStore &store,
         llvm::ArrayRef<const TestSequence *> sequences, Report &report);

  /// Judges every sequence's rows.
  void judge(const Output &output, Report &report) const;
  /// Why the reference says nothing, where no two of its numbers differ: those
  /// that are NaN or infinite count for none. "" if it says something.
  std::string vacuous() const;

  /// N4: how far the codecs move o, over the largest |o|: float64 over the
  /// dequantized cache against float64 over K and V as they were given. 0, for
  /// nothing, where the codecs hold the model's dtype.
  double quantisationLoss(Report &report) const;

private:
  struct Bounds;    ///< of one row
  struct Judgement; ///< of one sequence
  /// Of any score of a row: see L.
  reference::ScoreError scoreError(size_t sequence, int64_t query,
                                   int64_t head) const;
  Bounds boundsOf(size_t sequence, int64_t query, int64_t head) const;
  /// Computes `spoilt` if the cache holds any V that is no number.
  void findSpoilt(BatchImage &image, Report &report);
  /// Float64 over K as it is and V of each sequence, [head][token][dim].
  llvm::Expected<reference::AttendResult>
  attendOverValues(llvm::ArrayRef<std::vector<float>> values) const;
  /// Whether every element of a plain program's result is a number.
  bool plainIsFinite(size_t sequence) const;
  void judgeSequence(size_t sequence, const SequenceOutput &output,
                     Report &report) const;
  void judgeRow(size_t sequence, int64_t query, int64_t head,
                llvm::ArrayRef<float> o, Judgement &judgement) const;
  void conclude(size_t sequence, const Judgement &judgement,
                Report &report) const;
  void judgeLse(size_t sequence, int64_t query, int64_t head, float found,
                Report &report) const;
  bool judgeEmpty(size_t sequence, int64_t query, int64_t head,
                  llvm::ArrayRef<float> o, Report &report) const;
  std::string where(size_t sequence, int64_t query, int64_t head) const;
  int64_t rowIndex(size_t sequence, int64_t query, int64_t head) const {
    return (firstRow[sequence] + query) * store.problem.qHeads + head;
  }

  const CompiledStore &store;
  bool valid = false; ///< the references could be computed
  std::vector<const TestSequence *> sequences;
  std::vector<int32_t> firstRow;
  /// Per sequence and kv head of the store: the largest norm of a key.
  std::vector<llvm::SmallVector<double>> keyNorms;
  std::vector<double> values; ///< per sequence: the largest |V|
  reference::AttendResult ref, plain, weights; ///< weights: W of N2
  /// Of each element the weight of tokens whose V is no number there; empty if
  /// there are none.
  reference::AttendResult spoilt;
};

} // namespace kvc::verify

#endif // KVC_LIB_DRIVER_VERIFY_ORACLE_H
