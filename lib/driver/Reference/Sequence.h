//===- Sequence.h - one sequence and kv head, dequantized -------*- C++ -*-===//
//
// What the float64 reference and the plain implementation share: which tokens
// a query sees, and the rows of K and V that it then needs.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_LIB_DRIVER_REFERENCE_SEQUENCE_H
#define KVC_LIB_DRIVER_REFERENCE_SEQUENCE_H

#include "lib/driver/Reference/Attend.h"

namespace kvc::reference {

/// The tokens that one query token, or a run of them, sees: the union of two
/// spans in order, either of them possibly empty.
struct Visible {
  Span sink, recent;

  bool contains(int64_t t) const {
    return (t >= sink.begin && t < sink.end) ||
           (t >= recent.begin && t < recent.end);
  }
  /// Only the tokens in `span`.
  Visible within(Span span) const;
  /// Calls `fn(token)` in order.
  template <typename Fn> void forEach(Fn fn) const {
    for (Span span : {sink, recent})
      for (int64_t t = span.begin; t < span.end; ++t)
        fn(t);
  }
};

/// What the read shows to queries at the positions [first, last] of a sequence
/// of `length` tokens together; the problem's `shown` may hide some of it.
Visible visibleTo(const AttendProblem &problem, int64_t first, int64_t last,
                  int64_t length);
inline Visible visibleTo(const AttendProblem &problem,
                         const QueryPlace &query) {
  return visibleTo(problem, query.position, query.position, query.length);
}

/// Calls `fn(token)` for every token that a query token and q head `qHead` see,
/// in order.
template <typename Fn>
void forEachSeen(const AttendProblem &problem, const QueryPlace &query,
                 int64_t qHead, Fn fn) {
  visibleTo(problem, query).forEach([&](int64_t t) {
    if (problem.shown.visible(problem.place(query, qHead, t)))
      fn(t);
  });
}

/// Checks shapes, offsets and lengths; page ids are checked as they are read.
llvm::Error check(const AttendProblem &problem, Rows q, const HostCache &cache,
                  const HostBatch &batch);

/// One sequence at one kv head of the store. Row r stands for query token
/// r / group and q head r % group of the kv head.
class Sequence {
public:
  Sequence(const AttendProblem &problem, const HostCache &cache,
           const HostBatch &batch);

  /// Moves to sequence `b` and kv head `head` (from the store's first), and
  /// dequantizes what its queries see. Fails on a page id that is not in the
  /// cache.
  llvm::Error load(int64_t b, int64_t head);

  int64_t rows() const { return queries * problem.group; }
  int64_t length() const { return tokens; }
  /// The row of q, and of o without its splits.
  int64_t queryRow(int64_t r) const { return firstRow + r / problem.group; }
  int64_t queryHead(int64_t r) const {
    return (problem.firstHead + head) * problem.group + r % problem.group;
  }
  /// What the read shows to the rows [begin, end) together.
  Visible visible(int64_t begin, int64_t end) const;
  /// Where row `r` meets token `t`.
  ScorePlace place(int64_t r, int64_t t) const {
    return problem.place(batch.place(number, r / problem.group), queryHead(r),
                         t);
  }
  /// Dequantized rows, to be read only where some row sees the token.
  const float *k(int64_t t) const { return &decodedK[t * kStream.dim()]; }
  const float *v(int64_t t) const { return &decodedV[t * vStream.dim()]; }
  float *k(int64_t t) { return &decodedK[t * kStream.dim()]; }
  float *v(int64_t t) { return &decodedV[t * vStream.dim()]; }

private:
  const AttendProblem &problem;
  const HostCache &cache;
  const HostBatch &batch;
  HostStream kStream, vStream;
  std::vector<float> decodedK, decodedV;
  int64_t number = 0, head = 0, queries = 0, tokens = 0, firstRow = 0;
};

} // namespace kvc::reference

#endif // KVC_LIB_DRIVER_REFERENCE_SEQUENCE_H
