//===- SeenTokens.cpp - how much of a cache a step sees -------------------===//
#include "lib/driver/Reference/SeenTokens.h"
#include "lib/driver/Reference/Sequence.h"

using namespace kvc;
using namespace kvc::reference;

static int64_t sizeOf(const Visible &visible) {
  return (visible.sink.end - visible.sink.begin) +
         (visible.recent.end - visible.recent.begin);
}

/// Without a region spans are all there is, and positions may be of any size.
static SeenTokens countSpans(const AttendProblem &problem, int64_t length,
                             int64_t queries) {
  const int64_t first = length - queries;
  SeenTokens seen;
  seen.longest = sizeOf(visibleTo(problem, first, length - 1, length));
  for (int64_t i = first; i < length; ++i)
    seen.scores += double(sizeOf(visibleTo(problem, i, i, length)));
  seen.scores *= double(problem.cache.getHeads() * problem.group);
  seen.cached = double(seen.longest) * double(problem.cache.getHeads());
  return seen;
}

/// A region that asks for no head shows the same to all of them.
static int64_t headsThatDiffer(const AttendProblem &problem) {
  return problem.shown.dependsOnHeads()
             ? problem.cache.getHeads() * problem.group
             : 1;
}

double reference::placesOf(const AttendProblem &problem, int64_t length,
                           int64_t queries) {
  if (problem.shown.isEmpty())
    return 0;
  int64_t each = sizeOf(visibleTo(problem, length - 1, length - 1, length));
  return double(each) * double(queries) * double(headsThatDiffer(problem));
}

SeenTokens reference::countSeen(const AttendProblem &problem, int64_t length,
                                int64_t queries) {
  if (problem.shown.isEmpty())
    return countSpans(problem, length, queries);
  const int64_t heads = problem.cache.getHeads();
  const bool alike = headsThatDiffer(problem) == 1;
  const int64_t groups = alike ? 1 : problem.group;
  SeenTokens seen;
  for (int64_t head = 0; head < (alike ? 1 : heads); ++head) {
    std::vector<char> any(length);
    int64_t scores = 0;
    for (int64_t i = 0; i < queries; ++i)
      for (int64_t g = 0; g < groups; ++g) {
        QueryPlace query{length - queries + i, length - queries, length, 0};
        int64_t qHead = (problem.firstHead + head) * problem.group + g;
        forEachSeen(problem, query, qHead,
                    [&](int64_t t) { any[t] = 1, ++scores; });
      }
    int64_t tokens = llvm::count(any, 1);
    seen.cached += double(tokens);
    seen.scores += double(scores);
    seen.longest = std::max(seen.longest, tokens);
  }
  if (alike) {
    seen.cached *= double(heads);
    seen.scores *= double(heads * problem.group);
  }
  return seen;
}
