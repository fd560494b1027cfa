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

/// Stores a finite number in 16 or 32 bits, within the type's finite values,
/// and gives what it has become.
float storeParameter(mlir::Type type, float x, uint8_t *to);
float loadParameter(mlir::Type type, const uint8_t *from, int64_t index);
/// Stores the scale of a box whose largest code stands for `range`: range /
/// `largestCode`, or 0 if that is no normal f32. Gives what it has become.
float storeScale(mlir::Type type, float range, float largestCode, uint8_t *to);
/// What elements are multiplied by.
inline float factorOf(float scale) { return scale == 0 ? 0 : 1 / scale; }
/// What an element counts as in the range of its box.
float countedAs(float x);

/// Short names for the scalar and vector f32 arithmetic of quantizers.
struct F32Builder {
  mlir::OpBuilder &b;
  mlir::Location loc;
  mlir::Type type; ///< f32 or a vector of it

  mlir::Value constant(float value);
  mlir::Value less(mlir::Value x, mlir::Value y);
  /// 0 instead of a NaN.
  mlir::Value number(mlir::Value x);
  mlir::Value select(mlir::Value condition, mlir::Value yes, mlir::Value no);
  mlir::Value smaller(mlir::Value x, float bound);
  mlir::Value larger(mlir::Value x, float bound);
};

/// A vector of f32 without its signs, a NaN's as well.
mlir::Value emitAbs(mlir::OpBuilder &b, mlir::Location loc, mlir::Value x);
/// Rounds a finite f32 to a parameter's type, within its finite values; the
/// wide one is what it has become.
struct EmittedParameter {
  mlir::Value stored, wide;
};
EmittedParameter emitParameter(F32Builder f, mlir::Type type, mlir::Value x);
/// The scale of a box as `storeScale` has it, and the factor.
struct EmittedScale {
  mlir::Value stored, factor;
};
EmittedScale emitScale(F32Builder f, mlir::Type type, mlir::Value range,
                       float largestCode);

} // namespace kvc

#endif // KVC_DIALECT_CODECS_BOXES_H
