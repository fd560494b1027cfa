//===- Convert.cpp - codes as vectors of f32 ------------------------------===//
#include "codegen/Convert.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace kvc;

int64_t CodeConversion::codesPerByte() const {
  int64_t bits = code.getIntOrFloatBitWidth();
  return bits == 2 || bits == 4 ? 8 / bits : 1;
}

int64_t CodeConversion::parts(int64_t channels) const {
  int64_t parts = code.isBF16() ? 2 : codesPerByte();
  return channels == parts * lanes ? parts : 1;
}

SmallVector<int64_t> CodeConversion::channelOrder(int64_t channels) const {
  int64_t parts = this->parts(channels);
  SmallVector<int64_t> order;
  for (int64_t first = 0; first < parts; ++first)
    for (int64_t channel = first; channel < channels; channel += parts)
      order.push_back(channel);
  return order;
}

namespace {
/// Arithmetic on vectors of 32-bit words.
struct Words {
  OpBuilder &b;
  Location loc;
  VectorType type;

  Value constant(ArrayRef<int32_t> values) {
    return arith::ConstantOp::create(b, loc,
                                     DenseElementsAttr::get(type, values));
  }
  Value left(Value x, ArrayRef<int32_t> bits) {
    return arith::ShLIOp::create(b, loc, x, constant(bits));
  }
  Value right(Value x, ArrayRef<int32_t> bits, bool isUnsigned) {
    if (isUnsigned)
      return arith::ShRUIOp::create(b, loc, x, constant(bits));
    return arith::ShRSIOp::create(b, loc, x, constant(bits));
  }
  Value mask(Value x, uint32_t bits) {
    return arith::AndIOp::create(b, loc, x, constant(int32_t(bits)));
  }
  /// Of bytes.
  Value widen(Value x, bool isUnsigned) {
    if (isUnsigned)
      return arith::ExtUIOp::create(b, loc, type, x);
    return arith::ExtSIOp::create(b, loc, type, x);
  }
};
} // namespace

/// f4E2M1FN by way of f16, of which its fields are the upper ones but for the
/// exponent's bias: all machines convert f16, subnormals too and whatever else
/// they flush.
static Value convertF4(OpBuilder &b, Location loc, Value words, Type f32) {
  auto like = [&](Type element) -> Type {
    if (auto vector = dyn_cast<VectorType>(words.getType()))
      return VectorType::get(vector.getShape(), element);
    return element;
  };
  auto constant = [&](Type type, Attribute attr) -> Value {
    if (auto vector = dyn_cast<VectorType>(type))
      attr = DenseElementsAttr::get(vector, attr);
    return arith::ConstantOp::create(b, loc, cast<TypedAttr>(attr));
  };
  auto word = [&](int32_t value) {
    return constant(words.getType(), b.getI32IntegerAttr(value));
  };
  auto field = [&](int32_t mask, int32_t up) -> Value {
    Value x = arith::AndIOp::create(b, loc, words, word(mask));
    return arith::ShLIOp::create(b, loc, x, word(up));
  };
  Value x = arith::OrIOp::create(b, loc, field(8, 12), field(7, 9));
  x = arith::TruncIOp::create(b, loc, like(b.getI16Type()), x);
  x = arith::BitcastOp::create(b, loc, like(b.getF16Type()), x);
  x = arith::ExtFOp::create(b, loc, f32, x);
  Value bias = constant(f32, b.getF32FloatAttr(16384));
  return arith::MulFOp::create(b, loc, x, bias);
}

static constexpr float kE2M1[] = {0.f,  0.5f, 1.f,  1.5f,  2.f,  3.f,
                                  4.f,  6.f,  -0.f, -0.5f, -1.f, -1.5f,
                                  -2.f, -3.f, -4.f, -6.f};

Value kvc::convertWords(OpBuilder &b, Location loc, Type code, Value words,
                        LookUpFn lookUp) {
  Type f32 = b.getF32Type();
  if (auto vector = dyn_cast<VectorType>(words.getType()))
    f32 = VectorType::get(vector.getShape(), f32);
  if (isa<FloatType>(code)) {
    Value found = lookUp ? lookUp(words, kE2M1) : Value();
    return found ? found : convertF4(b, loc, words, f32);
  }
  return arith::SIToFPOp::create(b, loc, f32, words);
}

/// A lane takes the byte in which its code begins, and the next where it ends
/// there; then the code goes to the top of the word and down again, so that its
/// sign comes along.
Value CodeConversion::unpack(OpBuilder &b, Location loc, LoadFn load,
                             int64_t first, LookUpFn lookUp) const {
  int64_t bits = code.getIntOrFloatBitWidth(), bytes = lanes * bits / 8;
  Words words{b, loc, VectorType::get(lanes, b.getI32Type())};
  Value from = load(first * bits / 8, VectorType::get(bytes, b.getI8Type()));
  SmallVector<int64_t> low, high;
  SmallVector<int32_t> up;
  bool straddles = false;
  for (int64_t i = 0; i < lanes; ++i) {
    int64_t bit = i * bits;
    low.push_back(bit / 8);
    high.push_back(std::min(bit / 8 + 1, bytes - 1));
    up.push_back(int32_t(32 - bits - bit % 8));
    straddles |= bit % 8 + bits > 8;
  }
  auto bytesOf = [&](ArrayRef<int64_t> lanes) {
    Value x = vector::ShuffleOp::create(b, loc, from, from, lanes);
    return words.widen(x, /*isUnsigned=*/true);
  };
  Value x = bytesOf(low);
  if (straddles)
    x = arith::OrIOp::create(b, loc, x, words.left(bytesOf(high), 8));
  x = words.left(x, up);
  x = words.right(x, int32_t(32 - bits), isUnsigned);
  return convertWords(b, loc, code, x, lookUp);
}

/// Part `part` of words of bytes, each of which `parts` codes fill.
static Value partOf(Words words, Value x, int64_t part, int64_t parts,
                    bool isUnsigned) {
  int64_t bits = 8 / parts;
  if (part + 1 == parts)
    return words.right(x, int32_t(part * bits), isUnsigned);
  if (!isUnsigned)
    return words.right(words.left(x, int32_t(32 - bits - part * bits)),
                       int32_t(32 - bits), isUnsigned);
  if (part)
    x = words.right(x, int32_t(part * bits), isUnsigned);
  return words.mask(x, (1u << bits) - 1);
}

/// Codes of f8 by way of f16, to which they are exact: f8E5M2 is the upper half
/// of one, and of f8E4M3FN the fields stand right but for the exponent's bias.
/// All machines convert f16, subnormals too and whatever else they flush. The
/// words of two vectors are made together, where they fill a register.
static SmallVector<Value> emitF8(OpBuilder &b, Location loc, LoadFn load,
                                 Type code, int64_t channels, int64_t lanes) {
  bool isE4M3 = isa<Float8E4M3FNType>(code);
  int64_t width = channels % (2 * lanes) ? lanes : 2 * lanes;
  auto words = VectorType::get(width, b.getI16Type());
  auto f32s = VectorType::get(lanes, b.getF32Type());
  auto constant = [&](int16_t value) -> Value {
    return arith::ConstantOp::create(
        b, loc, DenseElementsAttr::get(words, b.getI16IntegerAttr(value)));
  };
  Value bias = arith::ConstantOp::create(
      b, loc, DenseElementsAttr::get(f32s, b.getF32FloatAttr(256)));
  SmallVector<Value> out;
  for (int64_t first = 0; first < channels; first += width) {
    Value x = load(first, VectorType::get(width, b.getI8Type()));
    // The sign twice, above the exponent.
    x = arith::ExtSIOp::create(b, loc, words, x);
    x = arith::ShLIOp::create(b, loc, x, constant(isE4M3 ? 7 : 8));
    if (isE4M3) {
      // Of the two signs one stays: the upper bit of f16's exponent is 0, but
      // of a NaN, all ones, which the sum carries through.
      Value carried = arith::AddIOp::create(b, loc, x, constant(0x80));
      carried = arith::AndIOp::create(b, loc, carried, constant(0x4000));
      x = arith::XOrIOp::create(b, loc, x, carried);
    }
    for (int64_t part = 0; part < width; part += lanes) {
      Value half = x;
      if (width > lanes)
        half = vector::ShuffleOp::create(
            b, loc, x, x,
            llvm::to_vector(llvm::seq<int64_t>(part, part + lanes)));
      half = arith::BitcastOp::create(
          b, loc, VectorType::get(lanes, b.getF16Type()), half);
      Value wide = arith::ExtFOp::create(b, loc, f32s, half);
      out.push_back(isE4M3
                        ? arith::MulFOp::create(b, loc, wide, bias).getResult()
                        : wide);
    }
  }
  return out;
}

/// The exponent of an f32: 0 is a power of two too, and 255 a NaN.
static Value convertE8M0(Words words, Value codes) {
  Value x = words.widen(codes, /*isUnsigned=*/true);
  Value isNaN = arith::CmpIOp::create(
      words.b, words.loc, arith::CmpIPredicate::eq, x, words.constant(0xff));
  x = arith::MaxSIOp::create(words.b, words.loc, words.left(x, 23),
                             words.constant(1 << 22));
  x = arith::SelectOp::create(words.b, words.loc, isNaN,
                              words.constant(0x7fc00000), x);
  return vector::BitCastOp::create(
      words.b, words.loc,
      VectorType::get(words.type.getShape(), words.b.getF32Type()), x);
}

SmallVector<Value> CodeConversion::emit(OpBuilder &b, Location loc, LoadFn load,
                                        int64_t channels,
                                        LookUpFn lookUp) const {
  auto f32s = VectorType::get(lanes, b.getF32Type());
  Words words{b, loc, VectorType::get(lanes, b.getI32Type())};
  int64_t parts = this->parts(channels);
  if (parts > 1 && code.isBF16()) {
    // Two bf16 in a 32-bit word: the upper is an f32 once the lower is masked
    // off, the lower is one after a shift. Cheaper than widening in order.
    Value word = load(0, words.type);
    Value even = words.left(word, 16), odd = words.mask(word, 0xffff0000);
    return {vector::BitCastOp::create(b, loc, f32s, even),
            vector::BitCastOp::create(b, loc, f32s, odd)};
  }
  SmallVector<Value> out;
  if (parts > 1) {
    Value bytes = load(0, VectorType::get(lanes, b.getI8Type()));
    bool isFloat = isa<FloatType>(code);
    bytes = words.widen(bytes, isUnsigned || isFloat);
    for (int64_t part = 0; part < parts; ++part) {
      Value x = bytes;
      if (!isFloat)
        x = partOf(words, bytes, part, parts, isUnsigned);
      else if (part) // what stands above a float is nothing to it
        x = words.right(bytes, int32_t(part * 8 / parts), /*isUnsigned=*/true);
      out.push_back(convertWords(b, loc, code, x, lookUp));
    }
    return out;
  }
  int64_t bits = code.getIntOrFloatBitWidth();
  if (isa<FloatType>(code) && bits == 8 && !isa<Float8E8M0FNUType>(code))
    return emitF8(b, loc, load, code, channels, lanes);
  for (int64_t first = 0; first < channels; first += lanes) {
    if (bits < 8) {
      out.push_back(unpack(b, loc, load, first, lookUp));
      continue;
    }
    Type loaded = isa<Float8E8M0FNUType>(code) ? b.getI8Type() : code;
    Value codes = load(first * bits / 8, VectorType::get(lanes, loaded));
    if (isa<Float8E8M0FNUType>(code))
      out.push_back(convertE8M0(words, codes));
    else if (code.isF32())
      out.push_back(codes);
    else if (isa<FloatType>(code))
      out.push_back(arith::ExtFOp::create(b, loc, f32s, codes));
    else
      out.push_back(convertWords(b, loc, code, words.widen(codes, isUnsigned)));
  }
  return out;
}

/// The low `bits` bytes of an i64.
static Value packCodes(OpBuilder &b, Location loc, Value codes, int64_t bits) {
  Type i64 = b.getI64Type();
  auto constant = [&](uint64_t value) {
    return arith::ConstantOp::create(b, loc,
                                     b.getI64IntegerAttr(int64_t(value)));
  };
  Value x = vector::BitCastOp::create(b, loc, VectorType::get(1, i64), codes);
  x = vector::ExtractOp::create(b, loc, x, 0);
  // `count` codes stand at the low end of every field of 8 * `count` bits:
  // those of each odd field move down to those of the even one before it.
  auto fields = [](int64_t width, int64_t every) {
    uint64_t mask = 0;
    for (int64_t at = 0; at < 64; at += every)
      mask |= ((uint64_t(1) << width) - 1) << at;
    return mask;
  };
  for (int64_t count = 1; count < 8; count *= 2) {
    int64_t width = bits * count, field = 8 * count;
    Value even =
        arith::AndIOp::create(b, loc, x, constant(fields(width, 2 * field)));
    Value odd = arith::ShRUIOp::create(b, loc, x, constant(field - width));
    odd = arith::AndIOp::create(b, loc, odd,
                                constant(fields(width, 2 * field) << width));
    x = arith::OrIOp::create(b, loc, even, odd);
  }
  return x;
}

void kvc::storePacked(OpBuilder &b, Location loc, Value codes, int64_t bits,
                      llvm::function_ref<void(Value, int64_t)> store) {
  Value packed = packCodes(b, loc, codes, bits);
  int64_t bytes = pieceBytes(bits);
  for (int64_t byte = 0; byte < bits; byte += bytes) {
    Value shift =
        arith::ConstantOp::create(b, loc, b.getI64IntegerAttr(byte * 8));
    Value piece = arith::ShRUIOp::create(b, loc, packed, shift);
    Type type = b.getIntegerType(unsigned(bytes * 8));
    if (bytes < 8)
      piece = arith::TruncIOp::create(b, loc, type, piece);
    store(piece, byte);
  }
}
