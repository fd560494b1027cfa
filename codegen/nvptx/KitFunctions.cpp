//===- KitFunctions.cpp - functions of scores in a thread -----------------===//
#include "codegen/nvptx/KitFunctions.h"

using namespace mlir;
using namespace kvc;
using namespace kvc::nvptx;

Value KitFunctions::element(ConstantOp constant, Value index) {
  Value from = k.paramPtr(Word::ConstantValues, constant.getName());
  if (constant.getPerSequence())
    from = kit.ptr(
        from, kit.mul(kit.extI64(sequence), int64_t(constant.getSize()) * 4));
  return kit.loadReadOnly(constant.getType(),
                          kit.ptr(from, kit.mul(kit.extI64(index), 4)), 4);
}

std::pair<Value, Value> KitFunctions::range(ConstantOp constant, Value first,
                                            Value last) {
  if (first == last) {
    Value only = element(constant, first);
    return {only, only};
  }
  // Signed numbers in the order of unsigned ones.
  auto ordered = [&](Value x) { return kit.xor_(x, kit.i32(INT32_MIN)); };
  auto opposite = [&](Value x) { return kit.xor_(x, kit.i32(-1)); };
  Value lowest = kit.i32(INT32_MIN), highest = kit.i32(INT32_MAX);
  Value few = kit.less(kit.sub(last, first), kit.i32(kMostRanged));
  Value end = kit.select(few, kit.add(last, 1), first);
  Kit::Values found = kit.loop(
      kit.add(first, k.lane()), end, kit.i32(kWarpLanes),
      ValueRange{highest, lowest}, [&](Value index, ValueRange carried) {
        Value x = element(constant, index);
        return Kit::Values{kit.min(carried[0], x), kit.max(carried[1], x)};
      });
  auto largest = [&](Value x) {
    return ordered(kit.op1(Ptx::ReduxMaxU32, ordered(x)));
  };
  Value least = opposite(largest(opposite(found[0])));
  Value most = largest(found[1]);
  return {kit.select(few, least, lowest), kit.select(few, most, highest)};
}
