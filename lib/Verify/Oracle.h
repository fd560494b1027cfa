//===- Oracle.h - what a batch must give, and how nearly --------*- C++ -*-===//
//
// The numerics contract:
//
//   N1  max |o - ref| <= max |plain - ref| + half an ulp at max |ref|, over all
//       rows of a sequence; f16 and bf16
//   N2  |o_j - ref_j| <= 4 (2u sqrt(n) + 17u + 2u sqrt(d) A) W_j for every
//       element, u = 2^-24, n tokens seen, d = dim k, A = the largest possible
//       |logit|, W_j = sum_i p_i |v_ij|; f32, where a plain program's error is
//       luck. Half of it would be met nearly always; 4 is never exceeded but by
//       a bug.
//   both: 2^-126 n max |v| more, as probabilities that are denormal in f32 may
//       become 0; bf16 2^-125 more, as in the machine's dot products
//   lse |lse - ref| <= 4 (2u sqrt(d) A + 2u sqrt(n) + 17u + 2u |ref|), from the
//       same: logits are off by the first term, their sum by the next two, and
//       the result is rounded. f16 and bf16: 2 u_T A / sqrt(d) more, for a
//       query that was rounded once more to the type
//   N6  a row that sees nothing has o = 0 and lse = -inf
//
// ref is float64 over the decoded cache (N4).
//
//===----------------------------------------------------------------------===//
#ifndef KVC_LIB_VERIFY_ORACLE_H
#define KVC_LIB_VERIFY_ORACLE_H

#include "lib/Verify/Launch.h"

namespace kvc::verify {

class Oracle {
public:
  /// Computes the references of a batch; the members must outlive it.
  Oracle(const StoreSubject &store, llvm::ArrayRef<const Member *> members,
         Report &report);

  /// Judges every member's rows.
  void judge(const Output &output, Report &report) const;
  /// Whether the reference says anything: it is not all zeros, and two of its
  /// elements differ.
  bool vacuous() const;

  /// N4: how far the codecs move o, over the largest |o|: float64 over the
  /// decoded cache against float64 over K and V as they were given. 0, for
  /// nothing, where the codecs hold the model's dtype.
  double quantisationLoss(Report &report) const;

private:
  struct Bounds;    ///< of one row
  struct Judgement; ///< of one member
  Bounds boundsOf(size_t member, int64_t query, int64_t head) const;
  /// Whether every element of a plain program's result is a number.
  bool plainIsFinite(size_t member) const;
  void judgeMember(size_t member, const MemberOutput &output,
                   Report &report) const;
  void judgeRow(size_t member, int64_t query, int64_t head,
                llvm::ArrayRef<float> o, Judgement &judgement) const;
  void conclude(size_t member, const Judgement &judgement,
                Report &report) const;
  void judgeLse(size_t member, int64_t query, int64_t head, float found,
                Report &report) const;
  bool judgeEmpty(size_t member, int64_t query, int64_t head,
                  llvm::ArrayRef<float> o, Report &report) const;
  std::string where(size_t member, int64_t query, int64_t head) const;
  int64_t rowIndex(size_t member, int64_t query, int64_t head) const {
    return (firstRow[member] + query) * store.problem.qHeads + head;
  }

  const StoreSubject &store;
  bool valid = false; ///< the references could be computed
  std::vector<const Member *> members;
  std::vector<int32_t> firstRow;
  /// Per member and kv head of the store: the largest norm of a key.
  std::vector<llvm::SmallVector<double>> keyNorms;
  reference::AttendResult ref, plain, weights; ///< weights: over |V|
};

} // namespace kvc::verify

#endif // KVC_LIB_VERIFY_ORACLE_H
