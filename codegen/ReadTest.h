//===- ReadTest.h - what a read shows, inside a kernel ----------*- C++ -*-===//
//
// Whether a read shows a token to a query, and what it shows of a block of
// tokens to a block of queries, as arithmetic on positions. Every test of
// either backend is one of these. The interpreters of lib/driver/Reference have
// their own, and notice if these are wrong.
//
// A visible region says more than a read, and is tested by ScoreRegion.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_CODEGEN_READTEST_H
#define KVC_CODEGEN_READTEST_H

#include "dialect/KvcDialect.h"

#include "mlir/IR/Builders.h"

namespace kvc {

/// All values are signless integers, or vectors of them, of one type.
class ReadTest {
public:
  /// \p end    behind the last token that exists.
  ReadTest(mlir::OpBuilder &b, mlir::Location loc, ReadAttrInterface read,
           mlir::Value end)
      : b(b), loc(loc), read(read), end(end) {}

  /// Behind the last token that is shown to a query at `position`.
  mlir::Value endFor(mlir::Value position);
  /// Whether a token exists and is shown to the query at `position`.
  mlir::Value shows(mlir::Value token, mlir::Value position);
  /// Whether all tokens from `first` to before `behind` exist and are shown to
  /// every query from position `low` to `high`.
  mlir::Value showsAll(mlir::Value first, mlir::Value behind, mlir::Value low,
                       mlir::Value high);
  /// Whether one of them, at least, may be shown to one of the queries.
  mlir::Value showsSome(mlir::Value first, mlir::Value behind, mlir::Value low,
                        mlir::Value high);

private:
  mlir::Value constant(int64_t value);
  /// Whether the window reaches from a query at `position` to behind `token`.
  mlir::Value isRecent(mlir::Value token, mlir::Value position);
  mlir::Value isLess(mlir::Value x, mlir::Value y);
  mlir::Value isAtMost(mlir::Value x, mlir::Value y);
  mlir::Value both(mlir::Value x, mlir::Value y);
  mlir::Value either(mlir::Value x, mlir::Value y);
  mlir::Value add(mlir::Value x, int64_t y);

  mlir::OpBuilder &b;
  mlir::Location loc;
  ReadAttrInterface read;
  mlir::Value end;
};

} // namespace kvc

#endif // KVC_CODEGEN_READTEST_H
