//===- Append.cpp - rows quantized into the cache -------------------------===//
#include "codegen/cpu/Kernel.h"

#include "dialect/tile/Graph.h"
#include "lib/base/Artifact/KernelAbi.h"

#include <cstddef>

using namespace mlir;
using namespace kvc;
using namespace kvc::cpu;

namespace {

class AppendKernel {
public:
  explicit AppendKernel(Kernel &k) : k(k), kit(k.kit) {}
  void emit(ArrayRef<tile::StoredRow> rows);

private:
  void emitRow(tile::StoredRow stored, Value row, Value head);
  Value source(StringRef stream, Value row, Value head);
  Value target(unsigned plane, Value head);
  Value absmax(Value from, int64_t dim);

  Kernel &k;
  Kit &kit;
  Value outer, token;
};

void AppendKernel::emit(ArrayRef<tile::StoredRow> rows) {
  Value begin = k.workTileField(offsetof(KvcWorkTile, begin));
  Value end = k.workTileField(offsetof(KvcWorkTile, end));
  Value slots = k.argPtr(Word::Slot);
  int64_t page = k.cache.layout().getPageTokens();
  Value slotTokens = page ? kit.i64(page) : k.argI64(Word::SlotTokens);
  kit.loop(begin, end, 1, [&](Value row) {
    Value slot = kit.loadI64(kit.at(slots, kit.mul(row, 8)), 0);
    Value wanted = kit.cmp(arith::CmpIPredicate::sge, slot, kit.i64(0));
    kit.when(wanted, [&] {
      outer = page ? kit.div(slot, page)
                   : arith::DivUIOp::create(kit.b, kit.loc, slot, slotTokens)
                         .getResult();
      token = kit.sub(slot, kit.mul(outer, slotTokens));
      kit.loop(0, k.cache.getHeads(), 1, [&](Value head) {
        for (const tile::StoredRow &stored : rows)
          emitRow(stored, row, head);
      });
    });
  });
}

Value AppendKernel::source(StringRef stream, Value row, Value head) {
  bool isK = stream == kStreamK;
  return k.rowHead(isK ? kWordsOfK : kWordsOfV, row,
                   kit.add(head, int64_t(k.store.getHeadBegin())));
}

Value AppendKernel::target(unsigned plane, Value head) {
  Value at =
      kit.at(k.planeBase(plane), kit.mul(outer, k.planePageStride(plane)));
  at = kit.at(at, kit.mul(head, k.planeHeadStride(plane)));
  return kit.at(at, kit.mul(token, k.cache.planes()[plane].rowStride));
}

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

void AppendKernel::emitRow(tile::StoredRow stored, Value row, Value head) {
  auto codec = cast<CodecAttrInterface>(stored.quantize.getCodecAttr());
  StringRef stream = stored.store.getStream();
  int64_t dim = k.cache.stream(stream).dim;
  Value from = source(stored.load.getName(), row, head);
  Value factor;
  unsigned codes = k.cache.planeIndex(stream);
  if (stored.quantize.getPlanes().size() > 1) {
    QuantizeScale scale = codec.emitScale(kit.b, kit.loc, absmax(from, dim));
    kit.store(scale.stored, target(codes + 1, head));
    factor = scale.factor;
  }
  Value to = target(codes, head);
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
  AppendKernel(kernel).emit(*rows);
  return success();
}
