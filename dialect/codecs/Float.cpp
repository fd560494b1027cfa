//===- Float.cpp - #kvc.float: f32, f16, bf16, f8 and f4 with scales ------===//
#include "dialect/codecs/Boxes.h"
#include "dialect/codecs/HostFloat.h"
#include "dialect/tile/TileDialect.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "llvm/Support/Endian.h"

#include <cfloat>

using namespace mlir;
using namespace kvc;

LogicalResult
FloatCodecAttr::verify(function_ref<InFlightDiagnostic()> emitError, Type type,
                       Type scale, int64_t channels) {
  if (!isCodeFloat(type))
    return emitError() << "expected f32, f16, bf16, f8E4M3FN, f8E5M2 or "
                          "f4E2M1FN, found "
                       << type;
  if (scale && isDtype(type))
    return emitError() << "codes of f8E4M3FN, f8E5M2 and f4E2M1FN have scales, "
                          "found "
                       << type << " with one";
  if (scale && !isParameterType(scale) && !isByteScale(scale))
    return emitError()
           << "expected a scale of f32, f16, f8E4M3FN or f8E8M0FNU, found "
           << scale;
  if (channels && !scale)
    return emitError() << "boxes of channels have a scale, found none for "
                       << channels;
  if (channels < 0)
    return emitError() << "expected a box of at least one channel, found "
                       << channels;
  return success();
}

SmallVector<CodecPlane, 3> FloatCodecAttr::getPlanes(int64_t dim) const {
  SmallVector<CodecPlane, 3> planes = {{kPlaneCodes, getType(), dim}};
  if (getScale()) {
    int64_t channels = getChannels() ? getChannels() : dim;
    // A box that does not divide a row has no elements, which no stream may
    // have.
    planes.push_back(
        {kPlaneScales, getScale(), dim % channels ? 0 : dim / channels, 1});
  }
  return planes;
}

/// Stores `convert` of each element, in little endian.
template <typename Code, typename Convert>
static void quantize(ArrayRef<float> row, uint8_t *codes, Convert convert) {
  for (auto [i, x] : llvm::enumerate(row))
    llvm::support::endian::write<Code, llvm::endianness::little>(
        codes + i * sizeof(Code), convert(x));
}

template <typename Code, typename Convert>
static void dequantize(const uint8_t *codes, MutableArrayRef<float> row,
                       Convert convert) {
  for (auto [i, x] : llvm::enumerate(row))
    x = convert(llvm::support::endian::read<Code, llvm::endianness::little>(
        codes + i * sizeof(Code)));
}

static void quantizeAs(Type type, ArrayRef<float> row, uint8_t *codes) {
  if (type.isF32())
    return quantize<uint32_t>(row, codes, std::bit_cast<uint32_t, float>);
  if (type.isBF16())
    return quantize<uint16_t>(row, codes, toBF16);
  if (type.isF16())
    return quantize<uint16_t>(row, codes, toF16);
  if (isa<Float8E4M3FNType>(type))
    return quantize<uint8_t>(row, codes, toE4M3);
  if (isa<Float8E5M2Type>(type))
    return quantize<uint8_t>(row, codes, toE5M2);
  for (size_t i = 0; i < row.size(); i += 2)
    codes[i / 2] = uint8_t(toE2M1(row[i]) | toE2M1(row[i + 1]) << 4);
}

static void dequantizeAs(Type type, const uint8_t *codes,
                         MutableArrayRef<float> row) {
  if (type.isF32())
    return dequantize<uint32_t>(codes, row, std::bit_cast<float, uint32_t>);
  if (type.isBF16())
    return dequantize<uint16_t>(codes, row, fromBF16);
  if (type.isF16())
    return dequantize<uint16_t>(codes, row, fromF16);
  if (isa<Float8E4M3FNType>(type))
    return dequantize<uint8_t>(codes, row, fromE4M3);
  if (isa<Float8E5M2Type>(type))
    return dequantize<uint8_t>(codes, row, fromE5M2);
  for (auto [i, x] : llvm::enumerate(row))
    x = fromE2M1(uint8_t(unpackCode(codes, i, 4, /*isSigned=*/false)));
}

void FloatCodecAttr::quantizeRows(ArrayRef<float> rows, int64_t tokens,
                                  ArrayRef<uint8_t *> planes) const {
  if (!getScale())
    return quantizeAs(getType(), rows, planes[0]);
  int64_t channels = getChannels() ? getChannels() : rows.size() / tokens;
  int64_t scaleBytes = getScale().getIntOrFloatBitWidth() / 8;
  SmallVector<float> scaled(rows);
  for (int64_t box = 0; box * channels < int64_t(rows.size()); ++box) {
    ArrayRef<float> elements = rows.slice(box * channels, channels);
    float absmax = 0;
    for (float x : elements)
      absmax = std::max(absmax, std::fabs(countedAs(x)));
    float factor = factorOf(storeScale(getScale(), absmax, largestOf(getType()),
                                       planes[1] + box * scaleBytes));
    for (float &x : MutableArrayRef(scaled).slice(box * channels, channels))
      x *= factor;
  }
  quantizeAs(getType(), scaled, planes[0]);
}

void FloatCodecAttr::dequantizeRow(ArrayRef<const uint8_t *> planes,
                                   MutableArrayRef<float> row) const {
  dequantizeAs(getType(), planes[0], row);
  if (!getScale())
    return;
  int64_t channels = getChannels() ? getChannels() : row.size();
  for (int64_t box = 0; box * channels < int64_t(row.size()); ++box) {
    float scale = loadParameter(getScale(), planes[1], box);
    for (float &x : row.slice(box * channels, channels))
      x *= scale;
  }
}

Value FloatCodecAttr::buildDequantize(OpBuilder &b, Location loc,
                                      ValueRange planes) const {
  Value x = tile::ConvertOp::create(b, loc, planes[0]);
  if (getScale())
    x = tile::ScaleOp::create(b, loc, x.getType(), x, planes[1]);
  return x;
}

bool FloatCodecAttr::hasSignedScales() const { return false; }

bool FloatCodecAttr::rangeHasLeast() const { return false; }

Value FloatCodecAttr::emitInRange(OpBuilder &b, Location loc, Value x) const {
  return emitAbs({b, loc, x.getType()}, x);
}

QuantizeBox FloatCodecAttr::emitBox(OpBuilder &b, Location loc,
                                    QuantizeRange range) const {
  F32Builder f{b, loc, b.getF32Type()};
  EmittedScale scale = emitScale(
      f, getScale(), f.smaller(range.largest, FLT_MAX), largestOf(getType()));
  QuantizeBox box;
  box.factor = scale.factor;
  box.stored.push_back(scale.stored);
  return box;
}

Value FloatCodecAttr::emitQuantize(OpBuilder &b, Location loc, Value x,
                                   const QuantizeBox &box) const {
  if (isDtype(getType()))
    return emitRound(b, loc, x, getType());
  if (getScale()) {
    Value factor = vector::BroadcastOp::create(b, loc, x.getType(), box.factor);
    x = arith::MulFOp::create(b, loc, x, factor);
  }
  auto type = cast<VectorType>(x.getType());
  Value code =
      emitMinifloat({b, loc, type}, x, cast<FloatType>(getType())).code;
  return arith::TruncIOp::create(
      b, loc, VectorType::get(type.getShape(), b.getI8Type()), code);
}

Value kvc::emitRound(OpBuilder &b, Location loc, Value x, Type type) {
  if (type.isF32())
    return x;
  auto shape = cast<VectorType>(x.getType()).getShape();
  auto narrow = VectorType::get(shape, type);
  if (!type.isBF16())
    return arith::TruncFOp::create(b, loc, narrow, x);
  auto words = VectorType::get(shape, b.getI32Type());
  auto constant = [&](int32_t value) -> Value {
    return arith::ConstantOp::create(
        b, loc, DenseElementsAttr::get(words, b.getI32IntegerAttr(value)));
  };
  Value bits = arith::BitcastOp::create(b, loc, words, x);
  Value upper = arith::ShRUIOp::create(b, loc, bits, constant(16));
  Value odd = arith::AndIOp::create(b, loc, upper, constant(1));
  Value bias = arith::AddIOp::create(b, loc, odd, constant(0x7fff));
  Value rounded = arith::ShRUIOp::create(
      b, loc, arith::AddIOp::create(b, loc, bits, bias), constant(16));
  Value quiet = arith::OrIOp::create(b, loc, upper, constant(0x40));
  Value isNaN = arith::CmpFOp::create(b, loc, arith::CmpFPredicate::UNO, x, x);
  Value half = arith::TruncIOp::create(
      b, loc, VectorType::get(shape, b.getI16Type()),
      arith::SelectOp::create(b, loc, isNaN, quiet, rounded));
  return arith::BitcastOp::create(b, loc, narrow, half);
}
