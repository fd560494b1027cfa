//===- RowDecoder.cpp - a cached row, a vector at a time ------------------===//
#include "codegen/cpu/RowDecoder.h"

#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace kvc;
using namespace kvc::cpu;

static int64_t columnsOf(Value x) {
  return cast<RankedTensorType>(x.getType()).getDimSize(1);
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
      .Case([&](tile::OffsetOp op) { return offsetBy(op, columns); })
      .Case([&](tile::SliceOp op) {
        Columns wider = columns;
        wider.offset += int64_t(op.getBegin());
        return decode(op.getX(), wider);
      })
      .Case([&](tile::MapOp op) {
        SmallVector<Value> operands;
        for (Value operand : op.getOperands())
          operands.push_back(columnsOf(operand) == 1
                                 ? repeated(operand, columns.width())
                                 : decode(operand, columns));
        return emitElementRegion(kit.b, kit.loc, op.getBody(), operands,
                                 functions);
      });
}

Value RowDecoder::offsetBy(tile::OffsetOp op, const Columns &columns) {
  Value zeros = boxesOf(op.getX(), op.getBoxes(), columns);
  auto scale = op.getX().getDefiningOp<tile::ScaleOp>();
  if (!scale || rounding == Rounding::Twice)
    return kit.fadd(decode(op.getX(), columns), zeros);
  return kit.fma(decode(scale.getX(), columns),
                 boxesOf(scale.getX(), scale.getBoxes(), columns), zeros);
}

Value RowDecoder::lanes(const Columns &columns,
                        llvm::function_ref<Value(Value)> lane) {
  SmallVector<Value> lanes;
  for (int64_t channel : columns.order)
    lanes.push_back(lane(kit.add(columns.base, columns.offset + channel)));
  return vector::FromElementsOp::create(kit.b, kit.loc,
                                        kit.vec(columns.width()), lanes);
}

Value RowDecoder::boxesOf(Value x, Value boxes, const Columns &columns) {
  int64_t count = columnsOf(boxes), channels = columnsOf(x) / count;
  int64_t width = columns.width(), offset = columns.offset;
  if (count == 1)
    return repeated(boxes, width);
  if (channels == 1)
    return decode(boxes, columns);
  if (channels % width == 0 && offset % width == 0)
    return splat(boxes, kit.div(kit.add(columns.base, offset), channels),
                 width);
  bool areWhole = width % channels == 0 && offset % channels == 0;
  if (!areWhole)
    return lanes(columns, [&](Value column) {
      return element(boxes, kit.div(column, channels));
    });
  Value some =
      decode(boxes, Columns::from(kit.div(columns.base, channels),
                                  width / channels, offset / channels));
  SmallVector<int64_t> boxOf;
  for (int64_t channel : columns.order)
    boxOf.push_back(channel / channels);
  return kit.shuffle(some, some, boxOf);
}

Value RowDecoder::loaded(Value value, const Columns &columns, bool isUnsigned) {
  auto load = value.getDefiningOp<tile::LoadOp>();
  unsigned index = cache.planeIndex(load.getStream()) + *load.planeOf(value);
  PlaneGeometry plane = cache.planes()[index];
  auto [row, type] = rowOf(index);
  int64_t bits = type.getIntOrFloatBitWidth(), width = columns.width();
  bool areOctets = width % 8 == 0 && columns.offset % 8 == 0;
  if (bits < 8 && !areOctets)
    return lanes(columns, [&, row = row](Value column) {
      return loadPackedCode(row, plane, column, isUnsigned);
    });
  // Eight codes are as many bytes as a code has bits.
  Value first = kit.add(columns.base, columns.offset);
  Value from = kit.at(row, bits < 8 ? kit.mul(kit.div(first, 8), bits)
                                    : kit.mul(first, bits / 8));
  auto loadCodes = [&](int64_t byte, VectorType type) {
    return kit.load(type, kit.at(from, byte));
  };
  CodeConversion conversion{type, std::min(width, kit.lanes), isUnsigned};
  auto lookUp = [&](Value words, ArrayRef<float> table) {
    return kit.lookUp(words, table);
  };
  Value x =
      kit.concat(conversion.emit(kit.b, kit.loc, loadCodes, width, lookUp));
  SmallVector<int64_t> order = conversion.channelOrder(width), lanes(width);
  if (order == columns.order)
    return x;
  SmallVector<int64_t> laneOf(width);
  for (auto [lane, channel] : llvm::enumerate(order))
    laneOf[channel] = lane;
  for (auto [lane, channel] : llvm::enumerate(columns.order))
    lanes[lane] = laneOf[channel];
  return kit.shuffle(x, x, lanes);
}

/// From its byte and the next, to the top of a word and down again, so that its
/// sign comes along.
Value RowDecoder::loadPackedCode(Value row, const PlaneGeometry &plane,
                                 Value column, bool isUnsigned) {
  int64_t bits = plane.type.getIntOrFloatBitWidth();
  auto word = [&](int64_t value) -> Value {
    return arith::ConstantOp::create(kit.b, kit.loc,
                                     kit.b.getI32IntegerAttr(int32_t(value)));
  };
  auto byteAt = [&](Value byte) -> Value {
    return arith::ExtUIOp::create(
        kit.b, kit.loc, kit.b.getI32Type(),
        kit.load(kit.b.getI8Type(), kit.at(row, byte), 1));
  };
  Value bit = kit.mul(column, bits), byte = kit.div(bit, 8);
  // The last code may end with its row.
  Value next = kit.min(kit.add(byte, 1), kit.i64(plane.rowBytes - 1));
  Value high = arith::ShLIOp::create(kit.b, kit.loc, byteAt(next), word(8));
  Value x = arith::OrIOp::create(kit.b, kit.loc, byteAt(byte), high);
  Value up = kit.truncI32(kit.sub(kit.i64(32 - bits), kit.rem(bit, 8)));
  x = arith::ShLIOp::create(kit.b, kit.loc, x, up);
  Value down = word(32 - bits);
  x = isUnsigned ? arith::ShRUIOp::create(kit.b, kit.loc, x, down).getResult()
                 : arith::ShRSIOp::create(kit.b, kit.loc, x, down).getResult();
  return convertWords(kit.b, kit.loc, plane.type, x);
}
