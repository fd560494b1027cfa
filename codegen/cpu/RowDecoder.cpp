//===- RowDecoder.cpp - a cached row, a vector at a time ------------------===//
#include "codegen/cpu/RowDecoder.h"

#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace kvc;
using namespace kvc::cpu;

static int64_t columnsOf(Value x) {
  return cast<RankedTensorType>(x.getType()).getDimSize(1);
}

static Value word(Kit &kit, int64_t value) {
  return arith::ConstantOp::create(kit.b, kit.loc,
                                   kit.b.getI32IntegerAttr(int32_t(value)));
}

static Value loadByte(Kit &kit, Value address) {
  return arith::ExtUIOp::create(kit.b, kit.loc, kit.b.getI32Type(),
                                kit.load(kit.b.getI8Type(), address, 1));
}

/// The code whose first bit is the `32 - up - bits` th of a word: to the top of
/// the word and down again, so that the sign comes along.
static Value codeIn(Kit &kit, Value x, Value up, int64_t bits,
                    bool isUnsigned) {
  x = arith::ShLIOp::create(kit.b, kit.loc, x, up);
  Value down = word(kit, 32 - bits);
  x = isUnsigned ? arith::ShRUIOp::create(kit.b, kit.loc, x, down).getResult()
                 : arith::ShRSIOp::create(kit.b, kit.loc, x, down).getResult();
  return arith::SIToFPOp::create(kit.b, kit.loc, kit.f32(), x);
}

/// With the next byte above it.
static Value withNext(Kit &kit, Value byte, Value next) {
  next = arith::ShLIOp::create(kit.b, kit.loc, next, word(kit, 8));
  return arith::OrIOp::create(kit.b, kit.loc, byte, next);
}

SmallVector<Value> kvc::cpu::unpackCodes(Kit &kit, Type code, bool isUnsigned,
                                         Value address, int64_t count) {
  int64_t bits = code.getIntOrFloatBitWidth();
  SmallVector<Value> bytes, codes;
  for (int64_t byte = 0; byte * 8 < count * bits; ++byte)
    bytes.push_back(loadByte(kit, kit.at(address, byte)));
  for (int64_t i = 0; i < count; ++i) {
    int64_t bit = i * bits, byte = bit / 8;
    Value x = bytes[byte];
    if (bit + bits > byte * 8 + 8)
      x = withNext(kit, x, bytes[byte + 1]);
    codes.push_back(
        codeIn(kit, x, word(kit, 32 - bits - bit % 8), bits, isUnsigned));
  }
  return codes;
}

Value RowDecoder::decode(Value x, const Columns &columns) {
  return llvm::TypeSwitch<Operation *, Value>(x.getDefiningOp())
      .Case([&](tile::LoadOp) {
        return loaded(x, columns, /*isUnsigned=*/false);
      })
      .Case([&](tile::ConvertOp op) {
        return loaded(op.getCodes(), columns, op.getIsUnsigned());
      })
      .Case([&](tile::ScaleOp op) {
        return kit.fmul(decode(op.getX(), columns),
                        boxesOf(op.getX(), op.getBoxes(), columns));
      })
      .Case([&](tile::OffsetOp op) {
        return kit.fadd(decode(op.getX(), columns),
                        boxesOf(op.getX(), op.getBoxes(), columns));
      })
      .Case([&](tile::SliceOp op) {
        Columns wider = columns;
        wider.offset += int64_t(op.getBegin());
        return decode(op.getX(), wider);
      })
      .Case([&](tile::MapOp op) {
        SmallVector<Value> operands;
        for (Value operand : op.getOperands())
          operands.push_back(columnsOf(operand) == 1
                                 ? repeated(operand, columns.width)
                                 : decode(operand, columns));
        return emitElementRegion(kit.b, kit.loc, op.getBody(), operands,
                                 functions);
      });
}

Value RowDecoder::concat(int64_t width,
                         llvm::function_ref<Value(int64_t)> lane) {
  SmallVector<Value> lanes;
  for (int64_t i = 0; i < width; ++i)
    lanes.push_back(lane(i));
  return vector::FromElementsOp::create(kit.b, kit.loc, kit.vec(width), lanes);
}

Value RowDecoder::boxesOf(Value x, Value boxes, const Columns &columns) {
  int64_t count = columnsOf(boxes), channels = columnsOf(x) / count;
  if (count == 1)
    return repeated(boxes, columns.width);
  if (channels == 1)
    return decode(boxes, columns);
  auto boxAt = [&](int64_t offset) {
    return kit.div(kit.add(columns.base, columns.offset + offset), channels);
  };
  bool areOne =
      channels % columns.width == 0 && columns.offset % columns.width == 0;
  if (areOne)
    return splat(boxes, boxAt(0), columns.width);
  return concat(columns.width, [&](int64_t i) {
    return kit.extract(decode(boxes, {boxAt(i), 0, 1}), 0);
  });
}

Value RowDecoder::loaded(Value value, const Columns &columns, bool isUnsigned) {
  auto load = value.getDefiningOp<tile::LoadOp>();
  unsigned index = cache.planeIndex(load.getStream()) + *load.planeOf(value);
  PlaneGeometry plane = cache.planes()[index];
  int64_t bits = plane.type.getIntOrFloatBitWidth();
  Value row = rowOf(index);
  if (plane.type.isInteger() && (bits < 8 || isUnsigned))
    return loadPacked(row, plane, columns, isUnsigned);
  Value from =
      kit.at(row, kit.mul(kit.add(columns.base, columns.offset), bits / 8));
  auto loadCodes = [&](int64_t byte, VectorType type) {
    return kit.load(type, kit.at(from, byte));
  };
  return CodeConversion{plane.type, columns.width}
      .emit(kit.b, kit.loc, loadCodes, columns.width)
      .front();
}

Value RowDecoder::loadPacked(Value row, const PlaneGeometry &plane,
                             const Columns &columns, bool isUnsigned) {
  int64_t bits = plane.type.getIntOrFloatBitWidth();
  // Eight codes are as many bytes as a code has bits.
  if (columns.width == 8 && columns.offset % 8 == 0) {
    Value octet = kit.div(kit.add(columns.base, columns.offset), 8);
    auto codes = unpackCodes(kit, plane.type, isUnsigned,
                             kit.at(row, kit.mul(octet, bits)), 8);
    return concat(8, [&](int64_t i) { return codes[i]; });
  }
  return concat(columns.width, [&](int64_t i) {
    Value bit = kit.mul(kit.add(columns.base, columns.offset + i), bits);
    Value byte = kit.div(bit, 8);
    // The last code may end with its row.
    Value next = kit.min(kit.add(byte, 1), kit.i64(plane.rowBytes - 1));
    Value x = withNext(kit, loadByte(kit, kit.at(row, byte)),
                       loadByte(kit, kit.at(row, next)));
    Value up = kit.truncI32(kit.sub(kit.i64(32 - bits), kit.rem(bit, 8)));
    return codeIn(kit, x, up, bits, isUnsigned);
  });
}
