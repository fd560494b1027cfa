//===- Attend.h - attention in float64 --------------------------*- C++ -*-===//
//
// What kvc.attend and kvc.merge mean. Judged against the dequantised cache: a
// codec's loss is no error of a kernel.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_LIB_DRIVER_REFERENCE_ATTEND_H
#define KVC_LIB_DRIVER_REFERENCE_ATTEND_H

#include "lib/driver/Reference/Host.h"
#include "lib/driver/Reference/ScoreProgram.h"

#include "llvm/Support/Error.h"

namespace kvc::reference {

/// Everything that a kvc.attend says, without IR.
struct AttendProblem {
  CacheType cache;
  mlir::Type dtype;      ///< of q and o
  int64_t firstHead = 0; ///< kv head of the model where the store begins
  int64_t group = 1;     ///< q heads per kv head
  int64_t qHeads = 1;    ///< of the model
  double scale = 1;
  ScoreProgram logits, shown, sinks;    ///< regions of the op
  std::optional<int64_t> splitTokens;   ///< tokens per split
  int64_t sink = 0, recent = INT64_MAX; ///< the read rule
  bool causal = true;                   ///< likewise

  /// `given` has the constants that a call gives, if any.
  static AttendProblem
  of(AttendOp op, std::shared_ptr<const GivenConstants> given = nullptr);

  /// Where a query token and q head `qHead` meet `token`.
  ScorePlace place(const QueryPlace &query, int64_t qHead,
                   int64_t token) const {
    return {query.position, token,         query.context,
            qHead,          qHead / group, query.constantRow};
  }
  /// The logit of a row that no token has; -inf: none.
  double sinkOf(int64_t qHead) const { return sinks.sink(place({}, qHead, 0)); }
};

/// o [rows, q heads, dim v] and lse [rows, q heads], with a leading axis of
/// splits if the problem has them (at least one, empty ones filled like rows
/// that see nothing). Rows that see nothing hold o = 0 and their sink as lse,
/// or -inf; q heads of other stores o = 0 and lse = -inf.
struct AttendResult {
  Tensor o, lse;
  Tensor largest; ///< attend(): each row's largest logit of a token, like lse
  /// attend(), if it was told of errors in scores: how far they may take a
  /// row's logits, like lse.
  Tensor f32Error, logitError;

  /// All rows empty; with a leading axis of `numSplits` if given.
  static AttendResult empty(const AttendProblem &problem, int64_t rows,
                            std::optional<int64_t> numSplits = std::nullopt);
};

/// How far a program may be off in the scores of a row of q and q head: in f32,
/// and with all else that it may do.
struct ScoreError {
  double f32 = 0, all = 0;
};
using ScoreErrorFn = llvm::function_ref<ScoreError(int64_t row, int64_t qHead)>;

/// The reference: every step in float64 over the dequantized cache. Hidden
/// tokens contribute nothing, whatever their bytes. A row whose visible logits
/// and sink are all -inf counts as empty; a NaN or +inf logit makes its row
/// NaN. Fails, naming the entry, on a batch that does not fit q or the cache.
llvm::Expected<AttendResult> attend(const AttendProblem &problem, Rows q,
                                    const HostCache &cache,
                                    const HostBatch &batch,
                                    ScoreErrorFn errors = nullptr);

/// Combines partial results [splits, ...] along their first axis, in order.
/// `sinkOf` gives the sink of a column of lse; null: there is none.
AttendResult merge(const Tensor &partialO, const Tensor &partialLse,
                   llvm::function_ref<double(int64_t column)> sinkOf = nullptr);

} // namespace kvc::reference

#endif // KVC_LIB_DRIVER_REFERENCE_ATTEND_H
