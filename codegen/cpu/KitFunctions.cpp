//===- KitFunctions.cpp - functions of scores on vectors ------------------===//
#include "codegen/cpu/KitFunctions.h"

#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace kvc;
using namespace kvc::cpu;

Value KitFunctions::exp2(Value x) {
  auto f = [&](double value) { return kit.constant(value, x.getType()); };
  Value cut = arith::MinimumFOp::create(kit.b, kit.loc,
                                        kit.fmaxKeepNaN(f(-300), x), f(260));
  Value root = kit.exp2(kit.fmul(cut, f(0.5)));
  return kit.fmul(root, root);
}

Value KitFunctions::log2(Value x) {
  return math::Log2Op::create(kit.b, kit.loc, x);
}

Value KitFunctions::baseOf(ConstantOp constant) {
  Value base = k.argPtr(Word::ConstantValues, constant.getName());
  if (!constant.getPerSequence())
    return base;
  return kit.at(base, kit.mul(sequence, int64_t(constant.getSize()) * 4));
}

Value KitFunctions::load(Type type, Value base, Value index) {
  Value wide =
      arith::ExtSIOp::create(kit.b, kit.loc, kit.b.getI64Type(), index);
  return LLVM::LoadOp::create(
      kit.b, kit.loc, type, kit.at(base, kit.mul(wide, 4)), 4,
      /*isVolatile=*/false, /*isNonTemporal=*/false, /*isInvariant=*/true);
}

Value KitFunctions::element(ConstantOp constant, Value index) {
  Value base = baseOf(constant);
  auto lanes = cast<VectorType>(index.getType());
  Type type = constant.getType();
  Value elements = LLVM::PoisonOp::create(
      kit.b, kit.loc, VectorType::get(lanes.getShape(), type));
  for (int64_t lane = 0; lane < lanes.getNumElements(); ++lane) {
    Value at = vector::ExtractOp::create(kit.b, kit.loc, index, lane);
    elements = vector::InsertOp::create(kit.b, kit.loc, load(type, base, at),
                                        elements, lane);
  }
  return elements;
}

std::pair<Value, Value> KitFunctions::range(ConstantOp constant, Value first,
                                            Value last) {
  auto i32 = [&](int64_t value) {
    return arith::ConstantOp::create(kit.b, kit.loc,
                                     kit.b.getI32IntegerAttr(value))
        .getResult();
  };
  auto wide = [&](Value x) -> Value {
    return arith::ExtSIOp::create(kit.b, kit.loc, kit.b.getI64Type(), x);
  };
  Value base = baseOf(constant), begin = wide(first);
  if (first == last) {
    Value only = load(constant.getType(), base, first);
    return {only, only};
  }
  Value end = kit.add(wide(last), 1);
  Value few = kit.cmp(arith::CmpIPredicate::sle, kit.sub(end, begin),
                      kit.i64(kMostRanged));
  SmallVector<Value> found = kit.loop(
      begin, kit.select(few, end, begin), 1,
      ValueRange{i32(INT32_MAX), i32(INT32_MIN)},
      [&](Value index, ValueRange carried) {
        Value x = load(constant.getType(), base, kit.truncI32(index));
        Value least = arith::MinSIOp::create(kit.b, kit.loc, carried[0], x);
        Value most = arith::MaxSIOp::create(kit.b, kit.loc, carried[1], x);
        return SmallVector<Value>{least, most};
      });
  return {kit.select(few, found[0], i32(INT32_MIN)),
          kit.select(few, found[1], i32(INT32_MAX))};
}
