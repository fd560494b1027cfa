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

Value KitFunctions::element(StringRef constant, Value index) {
  Value base = k.argPtr(Word::ConstantValues, constant);
  auto type = cast<VectorType>(index.getType());
  Value elements = kit.constant(0, kit.vec(type.getNumElements()));
  for (int64_t lane = 0; lane < type.getNumElements(); ++lane) {
    Value at = vector::ExtractOp::create(kit.b, kit.loc, index, lane);
    Value wide = arith::ExtSIOp::create(kit.b, kit.loc, kit.b.getI64Type(), at);
    Value x = LLVM::LoadOp::create(
        kit.b, kit.loc, kit.f32(), kit.at(base, kit.mul(wide, 4)), 4,
        /*isVolatile=*/false, /*isNonTemporal=*/false, /*isInvariant=*/true);
    elements = vector::InsertOp::create(kit.b, kit.loc, x, elements, lane);
  }
  return elements;
}
