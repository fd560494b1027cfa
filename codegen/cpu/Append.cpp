//===- Append.cpp - rows quantized into the cache -------------------------===//
#include "codegen/cpu/Rows.h"

#include "dialect/tile/Graph.h"

using namespace mlir;
using namespace kvc;
using namespace kvc::cpu;

namespace {

class AppendKernel {
public:
  explicit AppendKernel(Kernel &k) : k(k), kit(k.kit) {}
  void emitRow(tile::StoredRow stored, const SlotRow &slot);

private:
  Value absmax(Value from, int64_t dim);

  Kernel &k;
  Kit &kit;
};

/// Largest |x| of a row; NaN elements do not count.
Value AppendKernel::absmax(Value from, int64_t dim) {
  Type type = kit.vec(8);
  auto larger = [&](Value x, Value y) {
    return kit.select(kit.fcmp(arith::CmpFPredicate::OGT, x, y), x, y);
  };
  auto body = [&](Value c, ValueRange carried) {
    Value x =
        kit.loadAsF32(k.dtype, kit.at(from, kit.mul(c, k.dtypeBytes())), 8);
    Value size = LLVM::FAbsOp::create(kit.b, kit.loc, x);
    // A NaN in `size` loses: the comparison is false.
    return SmallVector<Value>{larger(size, carried[0])};
  };
  Value most = kit.loop(kit.i64(0), kit.i64(dim), 8,
                        ValueRange{kit.constant(0, type)}, body)[0];
  return kit.extract(kit.fold(most, 1, larger), 0);
}

void AppendKernel::emitRow(tile::StoredRow stored, const SlotRow &slot) {
  auto codec = cast<CodecAttrInterface>(stored.quantize.getCodecAttr());
  StringRef stream = stored.store.getStream();
  int64_t dim = k.cache.stream(stream).dim;
  bool isK = stored.load.getName() == kStreamK;
  Value from = slot.modelRow(isK ? kWordsOfK : kWordsOfV);
  Value factor;
  unsigned codes = k.cache.planeIndex(stream);
  if (stored.quantize.getPlanes().size() > 1) {
    QuantizeScale scale = codec.emitScale(kit.b, kit.loc, absmax(from, dim));
    kit.store(scale.stored, slot.address(codes + 1));
    factor = scale.factor;
  }
  Value to = slot.address(codes);
  int64_t codeBytes = k.cache.planes()[codes].type.getIntOrFloatBitWidth() / 8;
  kit.loop(0, dim, 8, [&](Value c) {
    Value x =
        kit.loadAsF32(k.dtype, kit.at(from, kit.mul(c, k.dtypeBytes())), 8);
    kit.store(codec.emitQuantize(kit.b, kit.loc, x, factor),
              kit.at(to, kit.mul(c, codeBytes)));
  });
}

} // namespace

LogicalResult kvc::cpu::emitAppend(Kernel &kernel) {
  auto rows = tile::storedRows(kernel.op);
  if (failed(rows))
    return failure();
  forSlots(kernel, [&](const SlotRow &slot) {
    for (const tile::StoredRow &stored : *rows)
      AppendKernel(kernel).emitRow(stored, slot);
  });
  return success();
}
