//===- Boxes.h - scales and zeros of boxes ----------------------*- C++ -*-===//
//
// What codecs that keep a parameter for each box of elements share: on the
// host, and built on scalars and vectors of f32, bit for bit the same.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_DIALECT_CODECS_BOXES_H
#define KVC_DIALECT_CODECS_BOXES_H

#include "dialect/KvcDialect.h"

namespace kvc {

/// Whether scales and zeros may be of this type.
inline bool isParameterType(mlir::Type type) {
  return type.isF32() || type.isF16();
}
/// Whether scales may be of this type, a byte each: f8E4M3FN or f8E8M0FNU.
inline bool isByteScale(mlir::Type type) {
  return mlir::isa<mlir::Float8E4M3FNType, mlir::Float8E8M0FNUType>(type);
}

/// Stores a finite number within the type's finite values, and gives what it
/// has become.
float storeParameter(mlir::Type type, float x, uint8_t *to);
float loadParameter(mlir::Type type, const uint8_t *from, int64_t index);
/// Stores the scale of a box of which a code stands for `x`: x / `code`, or of
/// f8E8M0FNU the power of two that has the exponents of both, which are
/// positive; 0 if that is no normal f32. Gives what it has become.
float storeScale(mlir::Type type, float x, float code, uint8_t *to);
/// What elements are multiplied by.
float factorOf(float scale);
/// What an element counts as in the range of its box.
float countedAs(float x);

/// Short names for the scalar and vector f32 arithmetic of quantizers.
struct F32Builder {
  mlir::OpBuilder &b;
  mlir::Location loc;
  mlir::Type type; ///< f32 or a vector of it

  mlir::Value constant(float value);
  /// As many i32.
  mlir::Type words();
  mlir::Value word(int32_t value);
  mlir::Value bitsOf(mlir::Value x);
  mlir::Value fromBits(mlir::Value words);
  mlir::Value less(mlir::Value x, mlir::Value y);
  /// 0 instead of a NaN.
  mlir::Value number(mlir::Value x);
  mlir::Value select(mlir::Value condition, mlir::Value yes, mlir::Value no);
  mlir::Value smaller(mlir::Value x, float bound);
  mlir::Value larger(mlir::Value x, float bound);
};

/// f32 without its sign, a NaN's as well.
mlir::Value emitAbs(F32Builder f, mlir::Value x);
/// f32 as a float of 8 or 4 bits, as HostFloat.h has it: the code, in the low
/// bits of i32, and of a number what it has become.
struct EmittedMinifloat {
  mlir::Value code, wide;
};
EmittedMinifloat emitMinifloat(F32Builder f, mlir::Value x,
                               mlir::FloatType type);
/// The largest finite value of a float type.
float largestOf(mlir::Type type);
/// Rounds a finite f32 to a parameter's type, within its finite values; the
/// wide one is what it has become.
struct EmittedParameter {
  mlir::Value stored, wide;
};
EmittedParameter emitParameter(F32Builder f, mlir::Type type, mlir::Value x);
/// The scale of a box as `storeScale` has it, and the factor, of it or,
/// `exact`, of what was rounded to it.
struct EmittedScale {
  mlir::Value stored, factor;
};
EmittedScale emitScale(F32Builder f, mlir::Type type, mlir::Value x, float code,
                       bool exact = false);

} // namespace kvc

#endif // KVC_DIALECT_CODECS_BOXES_H
