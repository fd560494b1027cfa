//===- ReadTest.cpp - what a read shows, inside a kernel ------------------===//
#include "codegen/ReadTest.h"

#include "mlir/Dialect/Arith/IR/Arith.h"

using namespace mlir;
using namespace kvc;
using Pred = arith::CmpIPredicate;

Value ReadTest::endFor(Value position) {
  return read.isCausal()
             ? arith::MinSIOp::create(b, loc, end, add(position, 1)).getResult()
             : end;
}

Value ReadTest::shows(Value token, Value position) {
  Value seen = isLess(token, end);
  if (read.isCausal())
    seen = both(isAtMost(token, position), seen);
  if (read.isAll())
    return seen;
  Value inSink = isLess(token, constant(read.getSinkTokens()));
  return both(seen, either(inSink, isRecent(token, position)));
}

Value ReadTest::showsAll(Value first, Value behind, Value low, Value high) {
  Value all = isAtMost(behind, endFor(low));
  if (read.isAll())
    return all;
  Value inSink = isAtMost(behind, constant(read.getSinkTokens()));
  return both(all, either(inSink, isRecent(first, high)));
}

Value ReadTest::showsSome(Value first, Value behind, Value low, Value high) {
  Value some = isLess(first, endFor(high));
  if (read.isAll())
    return some;
  Value inSink = isLess(first, constant(read.getSinkTokens()));
  return both(some, either(inSink, isRecent(add(behind, -1), low)));
}

Value ReadTest::isRecent(Value token, Value position) {
  return isLess(add(position, -read.getRecentTokens()), token);
}

Value ReadTest::constant(int64_t value) {
  TypedAttr attr = b.getIntegerAttr(getElementTypeOrSelf(end), value);
  if (auto vector = dyn_cast<VectorType>(end.getType()))
    attr = DenseElementsAttr::get(vector, attr);
  return arith::ConstantOp::create(b, loc, attr);
}

Value ReadTest::isLess(Value x, Value y) {
  return arith::CmpIOp::create(b, loc, Pred::slt, x, y);
}

Value ReadTest::isAtMost(Value x, Value y) {
  return arith::CmpIOp::create(b, loc, Pred::sle, x, y);
}

Value ReadTest::both(Value x, Value y) {
  return arith::AndIOp::create(b, loc, x, y);
}

Value ReadTest::either(Value x, Value y) {
  return arith::OrIOp::create(b, loc, x, y);
}

Value ReadTest::add(Value x, int64_t y) {
  return arith::AddIOp::create(b, loc, x, constant(y));
}
