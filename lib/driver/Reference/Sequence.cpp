//===- Sequence.cpp - one sequence and kv head, dequantized ---------------===//
#include "lib/driver/Reference/Sequence.h"

#include "llvm/Support/FormatVariadic.h"

using namespace kvc;
using namespace kvc::reference;

namespace {

template <typename... Args>
llvm::Error error(const char *format, Args &&...args) {
  return llvm::createStringError(
      llvm::formatv(format, std::forward<Args>(args)...).str());
}

Span intersect(Span a, Span b) {
  int64_t begin = std::max(a.begin, b.begin);
  return {begin, std::max(begin, std::min(a.end, b.end))};
}

} // namespace

Visible Visible::within(Span span) const {
  return {intersect(sink, span), intersect(recent, span)};
}

Visible reference::visibleTo(const AttendProblem &problem, int64_t first,
                             int64_t last, int64_t length) {
  int64_t end = problem.causal ? std::max<int64_t>(0, last + 1) : length;
  int64_t sink = std::min(problem.sink, end);
  int64_t begin = first < problem.recent ? 0 : first - problem.recent + 1;
  begin = std::clamp(begin, sink, end);
  return {{0, sink}, {begin, end}};
}

static llvm::Error checkTable(const HostCache &cache, const HostBatch &batch) {
  if (batch.sequences() == 0)
    return llvm::Error::success();
  if (!cache.type.layout().getPageTokens() && batch.tableStride != 1)
    return error("a sequence in one piece has one table entry, found {0}",
                 batch.tableStride);
  if (batch.tableStride < 1 ||
      int64_t(batch.table.size()) < batch.sequences() * batch.tableStride)
    return error("the table has {0} entries, {1} sequences need {2} each",
                 batch.table.size(), batch.sequences(), batch.tableStride);
  for (auto [b, length] : llvm::enumerate(batch.kvLen))
    if (length < 0 || length > batch.tableStride * cache.outerTokens)
      return error("sequence {0}: a length of {1} does not fit {2} tokens", b,
                   length, batch.tableStride * cache.outerTokens);
  return llvm::Error::success();
}

llvm::Error reference::check(const AttendProblem &problem, Rows q,
                             const HostCache &cache, const HostBatch &batch) {
  if (cache.type != problem.cache)
    return error("the cache is of another type than the store's");
  StreamAttr k = problem.cache.findStream(kStreamK);
  int64_t dim = k ? k.getDim() : q.dim;
  if (q.heads != problem.qHeads || q.dim != dim ||
      int64_t(q.data.size()) != q.rows * q.heads * q.dim)
    return error("q is [{0}, {1}, {2}] in {3} elements, expected [{0}, {4}, "
                 "{5}]",
                 q.rows, q.heads, q.dim, q.data.size(), problem.qHeads, dim);
  if (batch.cuQ.size() != batch.kvLen.size() + 1 || batch.cuQ.front() < 0 ||
      batch.cuQ.back() > q.rows || !llvm::is_sorted(batch.cuQ))
    return error("query offsets must rise from 0 to at most {0}, one more than "
                 "the {1} sequences",
                 q.rows, batch.sequences());
  return checkTable(cache, batch);
}

Sequence::Sequence(const AttendProblem &problem, const HostCache &cache,
                   const HostBatch &batch)
    : problem(problem), cache(cache), batch(batch), kStream(cache, kStreamK),
      vStream(cache, kStreamV) {}

Visible Sequence::visible(int64_t begin, int64_t end) const {
  int64_t firstPosition = tokens - queries;
  return visibleTo(problem, firstPosition + begin / problem.group,
                   firstPosition + (end - 1) / problem.group, tokens);
}

llvm::Error Sequence::load(int64_t b, int64_t newHead) {
  number = b;
  head = newHead;
  queries = batch.queries(b);
  tokens = batch.kvLen[b];
  firstRow = batch.cuQ[b];
  if (!queries)
    return llvm::Error::success();
  // Grown, never shrunk: tokens that nobody sees are not even cleared.
  if (int64_t(decodedK.size()) < tokens * kStream.dim())
    decodedK.resize(tokens * kStream.dim());
  if (int64_t(decodedV.size()) < tokens * vStream.dim())
    decodedV.resize(tokens * vStream.dim());
  int64_t badToken = -1;
  visible(0, rows()).forEach([&](int64_t t) {
    int64_t entry = b * batch.tableStride + t / cache.outerTokens;
    int64_t outer = batch.table[entry];
    if (outer < 0 || outer >= cache.outers) {
      badToken = badToken < 0 ? t : badToken;
      return;
    }
    int64_t token = t % cache.outerTokens;
    kStream.dequantize(outer, head, token, {k(t), size_t(kStream.dim())});
    vStream.dequantize(outer, head, token, {v(t), size_t(vStream.dim())});
  });
  if (badToken >= 0)
    return error(
        "sequence {0}: token {1} is on page {2}, the cache has {3}", b,
        badToken,
        batch.table[b * batch.tableStride + badToken / cache.outerTokens],
        cache.outers);
  return llvm::Error::success();
}
