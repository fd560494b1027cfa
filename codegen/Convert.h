//===- Convert.h - codes as vectors of f32 ----------------------*- C++ -*-===//
//
// How a machine's vectors become f32 from codes of each type: what tile.convert
// lowers to, in every backend.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_CODEGEN_CONVERT_H
#define KVC_CODEGEN_CONVERT_H

#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinTypes.h"

namespace kvc {

/// Gives a vector of `type` at `byte` bytes from the first code.
using LoadFn =
    llvm::function_ref<mlir::Value(int64_t byte, mlir::VectorType type)>;
/// Gives of each word, a vector of i32 of which the low four bits count, that
/// of sixteen f32 which they number. Null, or a null value: the machine does
/// not look up so many at once.
using LookUpFn = llvm::function_ref<mlir::Value(mlir::Value words,
                                                llvm::ArrayRef<float> table)>;

/// Codes of one type, converted `lanes` or more at a time: floats, which scales
/// of a byte are too, and integers of 1 to 8 bits; those of less than a byte
/// packed from the lowest bits of each byte on.
struct CodeConversion {
  mlir::Type code;
  int64_t lanes; ///< f32 of one vector
  bool isUnsigned = false;

  /// How many it likes to take at once.
  int64_t preferredChannels() const {
    return lanes * std::max<int64_t>(2, codesPerByte());
  }
  /// Where `channels` consecutive channels of a row come out: element i of all
  /// vectors is channel order[i]. Who multiplies permutes the other operand
  /// once, instead of every cached element.
  llvm::SmallVector<int64_t> channelOrder(int64_t channels) const;
  /// `channels` (a multiple of `lanes`) from a multiple of 8 on as
  /// `channels / lanes` vectors.
  llvm::SmallVector<mlir::Value> emit(mlir::OpBuilder &b, mlir::Location loc,
                                      LoadFn load, int64_t channels,
                                      LookUpFn lookUp = nullptr) const;

private:
  /// Where codes of 2 or 4 bits fill bytes; else 1.
  int64_t codesPerByte() const;
  /// How many vectors are made of each vector of words, by parts of the words:
  /// pairs of bf16, and codes that share a byte. 1: none.
  int64_t parts(int64_t channels) const;
  /// Codes of fewer than 8 bits in natural order.
  mlir::Value unpack(mlir::OpBuilder &b, mlir::Location loc, LoadFn load,
                     int64_t first, LookUpFn lookUp) const;
};

/// Codes of fewer than 8 bits, each in the low bits of an i32 or of a vector of
/// them, as f32; integers are extended already, floats have anything above.
mlir::Value convertWords(mlir::OpBuilder &b, mlir::Location loc,
                         mlir::Type code, mlir::Value words,
                         LookUpFn lookUp = nullptr);

/// Packs eight codes, the low `bits` bits of a vector of i8 each, from the
/// lowest bits of each byte on, and stores the `bits` bytes that they are: each
/// piece, an integer of `pieceBytes(bits)` bytes, at its byte.
void storePacked(
    mlir::OpBuilder &b, mlir::Location loc, mlir::Value codes, int64_t bits,
    llvm::function_ref<void(mlir::Value piece, int64_t byte)> store);
/// The largest power of two that divides `bits`: rows of eights of codes of so
/// many bits are aligned to as many bytes.
inline int64_t pieceBytes(int64_t bits) { return bits & -bits; }

} // namespace kvc

#endif // KVC_CODEGEN_CONVERT_H
