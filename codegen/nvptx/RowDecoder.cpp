//===- RowDecoder.cpp - a cached row, an element at a time ----------------===//
#include "codegen/nvptx/RowDecoder.h"

#include "codegen/Convert.h"

#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace kvc;
using namespace kvc::nvptx;

static RankedTensorType tensor(Value value) {
  return cast<RankedTensorType>(value.getType());
}

Value RowDecoder::element(Value x, const Column &column) {
  return llvm::TypeSwitch<Operation *, Value>(x.getDefiningOp())
      .Case(
          [&](tile::LoadOp) { return loaded(x, column, /*isUnsigned=*/false); })
      .Case([&](tile::ConvertOp op) {
        return loaded(op.getCodes(), column, op.getIsUnsigned());
      })
      .Case([&](tile::ScaleOp op) {
        return kit.fmul(element(op.getX(), column),
                        boxElement(op.getX(), op.getBoxes(), column));
      })
      .Case([&](tile::OffsetOp op) {
        return kit.fadd(element(op.getX(), column),
                        boxElement(op.getX(), op.getBoxes(), column));
      })
      .Case([&](tile::SliceOp op) {
        Column wider = column;
        wider.offset += int64_t(op.getBegin());
        return element(op.getX(), wider);
      })
      .Case([&](tile::MapOp op) {
        SmallVector<Value> operands;
        for (Value operand : op.getOperands())
          operands.push_back(element(
              operand, tensor(operand).getDimSize(1) == 1 ? Column() : column));
        return emitElementRegion(kit.b, kit.kernel, op.getBody(), operands,
                                 functions);
      });
}

Value RowDecoder::boxElement(Value x, Value boxes, const Column &column) {
  int64_t channels = tensor(x).getDimSize(1) / tensor(boxes).getDimSize(1);
  if (tensor(boxes).getDimSize(1) == 1)
    return element(boxes, Column());
  return element(boxes, boxOf(column, channels));
}

/// Of boxes of so many channels, that of a column.
Column RowDecoder::boxOf(const Column &column, int64_t channels) {
  if (channels == 1)
    return column;
  if (!column.base)
    return {Value(), column.offset / channels};
  // Where boxes begin and end with units, or within them, the offset is told
  // apart from the base, which all elements share.
  bool within = column.isAligned && kUnit % channels == 0;
  int64_t added = within ? 0
                  : column.isAligned && channels % kUnit == 0
                      ? column.offset / kUnit * kUnit
                      : column.offset;
  Value &base = bases[{column.base.getAsOpaquePointer(), nullptr,
                       added * kMaxStreamDim + channels}];
  if (!base)
    base = kit.div(kit.add(column.base, added), channels);
  return {base, within ? column.offset / channels : 0, /*isAligned=*/false};
}

/// An element of a plane as f32.
Value RowDecoder::loaded(Value value, const Column &column, bool isUnsigned) {
  auto load = value.getDefiningOp<tile::LoadOp>();
  unsigned index = k.cache.planeIndex(load.getStream()) + *load.planeOf(value);
  const PlaneGeometry &plane = planes[index];
  Value &row = rows[index];
  if (!row)
    row = rowOf(index);
  bool fillsBytes = plane.type.getIntOrFloatBitWidth() >= 8;
  return fillsBytes && isa<FloatType>(plane.type)
             ? loadFloat(row, plane.type, column)
             : loadCode(row, plane, column, isUnsigned);
}

Value RowDecoder::loadFloat(Value row, Type type, const Column &column) {
  Value &x = floats[{row.getAsOpaquePointer(), column.base.getAsOpaquePointer(),
                     column.offset}];
  if (x)
    return x;
  int64_t size = type.getIntOrFloatBitWidth() / 8;
  Value at = column.base ? kit.ptr(row, kit.mul(column.base, size)) : row;
  at = kit.ptr(at, column.offset * size);
  if (size == 1) {
    auto load = [&](int64_t, VectorType one) {
      return kit.loadReadOnly(one, at, 1);
    };
    CodeConversion conversion{type, /*lanes=*/1};
    return x = kit.extract(conversion.emit(kit.b, kit.kernel, load, 1).front(),
                           0);
  }
  x = kit.loadReadOnly(type, at, size);
  if (!type.isF32())
    x = arith::ExtFOp::create(kit.b, kit.kernel, kit.f32(), x);
  return x;
}

/// Byte `base` + `offset` of a row, as i32 from 0 to 255.
Value RowDecoder::byteOf(Value row, Value base, int64_t offset) {
  Value &byte =
      bytes[{row.getAsOpaquePointer(), base.getAsOpaquePointer(), offset}];
  if (byte)
    return byte;
  Value at = base ? kit.ptr(row, base) : row;
  byte = kit.loadReadOnly(kit.b.getI8Type(), kit.ptr(at, offset), 1);
  byte = arith::ExtUIOp::create(kit.b, kit.kernel, kit.i32(), byte);
  return byte;
}

/// Codes are packed from the lowest bits of each byte on (unpackCode).
Value RowDecoder::loadCode(Value row, const PlaneGeometry &plane,
                           const Column &column, bool isUnsigned) {
  int64_t bits = plane.type.getIntOrFloatBitWidth();
  Value word, top; // the code ends at bit `top`, i32
  if (column.isAligned) {
    int64_t bit = column.offset * bits, within = bit % 8;
    Value base;
    if (column.base) {
      Value &first = bases[{column.base.getAsOpaquePointer(), this, bits}];
      if (!first)
        first = kit.mul(kit.div(column.base, kUnit), bits);
      base = first;
    }
    word = byteOf(row, base, bit / 8);
    if (within + bits > 8)
      word = kit.or_(word, kit.shl(byteOf(row, base, bit / 8 + 1), 8));
    top = kit.i32(within + bits);
  } else {
    Value bit = kit.mul(kit.add(column.base, column.offset), bits);
    Value byte = kit.div(bit, 8), within = kit.rem(bit, 8);
    // The last code may end with its row.
    Value behind = kit.min(kit.add(byte, 1), kit.i32(plane.rowBytes - 1));
    word = kit.or_(byteOf(row, byte, 0), kit.shl(byteOf(row, behind, 0), 8));
    top = kit.add(within, bits);
  }
  // To the top of the word and down again: the sign comes along.
  Value up =
      arith::ShLIOp::create(kit.b, kit.kernel, word, kit.sub(kit.i32(32), top));
  Value down = kit.i32(32 - bits);
  Value code =
      isUnsigned
          ? arith::ShRUIOp::create(kit.b, kit.kernel, up, down).getResult()
          : arith::ShRSIOp::create(kit.b, kit.kernel, up, down).getResult();
  return convertWords(kit.b, kit.kernel, plane.type, code);
}
