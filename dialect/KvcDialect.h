//===- KvcDialect.h - the kvc dialect ---------------------------*- C++ -*-===//
//
// Caches are types; codecs, layouts and reads are attributes; ops are verbs.
// Everything a pass needs of the dialect comes through this one header.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_DIALECT_KVCDIALECT_H
#define KVC_DIALECT_KVCDIALECT_H

#include "dialect/Schedule.h"

#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

#include "llvm/ADT/STLFunctionalExtras.h"

namespace kvc {

/// Roles of planes.
inline constexpr llvm::StringLiteral kPlaneCodes = "codes",
                                     kPlaneScales = "scales",
                                     kPlaneZeros = "zeros";

/// A plane that a codec keeps of a stream: for each box of `tokens` tokens of a
/// kv head a row of `elements`, of `type`, packed without gaps.
struct CodecPlane {
  llvm::StringLiteral role; ///< "codes", "scales", "zeros"
  mlir::Type type;
  int64_t elements;
  int64_t tokens = 1;
};

/// The least and the largest of a box, or of some of its elements; f32.
struct QuantizeRange {
  mlir::Value least; ///< null: 0
  mlir::Value largest;
};

/// What a codec's quantizer makes of a box's range.
struct QuantizeBox {
  /// A scalar for each plane beside the codes, in their order and of their
  /// types.
  llvm::SmallVector<mlir::Value, 2> stored;
  /// f32: taken from each element, before or after it is multiplied; null: 0.
  mlir::Value origin;
  mlir::Value factor; ///< f32: then multiplied with, before rounding
};

/// Of ops some of whose regions say what becomes of a score (Score.h).
template <typename ConcreteOp>
class HasScoreRegions
    : public mlir::OpTrait::TraitBase<ConcreteOp, HasScoreRegions> {};

} // namespace kvc

#include "dialect/KvcAttrInterfaces.h.inc"
#include "dialect/KvcEnums.h.inc"

namespace kvc {

/// The streams whose rows q is multiplied with, and that probabilities weigh.
inline constexpr llvm::StringLiteral kStreamK = "k", kStreamV = "v";

/// One stream of a cache: elements per row, and how a row is stored.
struct StreamInfo {
  int64_t dim;
  CodecAttrInterface codec;

  /// Rows of f32, as they are.
  static StreamInfo ofF32(mlir::MLIRContext *context, int64_t dim);

  llvm::SmallVector<CodecPlane, 3> planes() const {
    return codec.getPlanes(dim);
  }
  mlir::Type codeType() const { return planes().front().type; }
  /// Whether products may take codes as they are: of whole bytes, with a scale
  /// for each row at most, which -kvc-fold-scales takes to the products.
  bool isMultipliedAsCodes() const;
  /// Of a row's codes.
  int64_t codeBytes() const {
    return dim * codeType().getIntOrFloatBitWidth() / 8;
  }
};

/// Planes and pages begin at multiples of this many bytes.
inline constexpr int64_t kPlaneAlignment = 64;
inline constexpr int64_t kMaxPageTokens = 256, kMaxStreamDim = 65536;

/// One plane of a cache, strides and sizes in bytes.
struct PlaneGeometry {
  llvm::StringRef stream;
  llvm::StringRef role; ///< CodecPlane::role
  mlir::Type type;
  int64_t elements = 0; ///< of a row
  int64_t tokens = 1;   ///< that a row stands for; 0: all of its sequence
  int64_t rowBytes = 0;
  int64_t rowStride = 0;           ///< between rows of a head
  int64_t headStride = 0;          ///< 0 where only the runtime knows it
  int64_t heads = 0, pageRows = 0; ///< rows of a head in a page
  int64_t pageOffset = 0;          ///< where a page has the plane

  /// "k.codes"; no other plane of the store has it.
  std::string name() const;
  /// Where the next plane begins in a page.
  int64_t pageEnd() const;
};

/// Whether a model may compute in `type`: f32, f16 or bf16.
bool isDtype(mlir::Type type);
/// Whether codes may be floats of this type: those, f8E4M3FN, f8E5M2 or
/// f4E2M1FN.
bool isCodeFloat(mlir::Type type);

/// Code `index` of a row of codes of 1 to 8 bits, packed from the lowest bits
/// of each byte on.
int unpackCode(const uint8_t *codes, int64_t index, unsigned bits,
               bool isSigned);

/// Rounds a vector of f32 to `type` (f32, f16 or bf16), to nearest even,
/// keeping the upper bits of a NaN. bf16 by integer arithmetic: most machines
/// have no instruction for it, and LLVM would call a library.
mlir::Value emitRound(mlir::OpBuilder &b, mlir::Location loc, mlir::Value x,
                      mlir::Type type);

} // namespace kvc

#include "dialect/KvcDialect.h.inc"

#define GET_ATTRDEF_CLASSES
#include "dialect/KvcAttrs.h.inc"
#define GET_TYPEDEF_CLASSES
#include "dialect/KvcTypes.h.inc"
#define GET_OP_CLASSES
#include "dialect/KvcOps.h.inc"

namespace kvc {

/// What an attend kernel's schedule depends on.
struct Workload {
  StreamInfo k, v;
  int64_t pageTokens; ///< 0: a sequence is one piece
  int64_t group;      ///< q heads of a kv head
  mlir::Type dtype;   ///< of the model
  TargetAttr target;
  /// Rows of V are the beginnings of rows of K.
  bool isVOfK = false;
  /// K and V are decoded before they are multiplied: `k` and `v` are what they
  /// are made into. A backend says so of its own.
  bool isDecoded = false;

  static Workload of(StoreOp store, mlir::Type dtype, TargetAttr target);
};

} // namespace kvc

#endif // KVC_DIALECT_KVCDIALECT_H
