//===- KvcDialect.h - the kvc dialect ---------------------------*- C++ -*-===//
//
// Caches are types; codecs, layouts and reads are attributes; ops are verbs.
// Everything a pass needs of the dialect comes through this one header.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_DIALECT_KVCDIALECT_H
#define KVC_DIALECT_KVCDIALECT_H

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

/// Gives a codec's dequantizer a vector of `type` at `byte` bytes from the
/// codes of the first channel it dequantizes.
using LoadFn =
    llvm::function_ref<mlir::Value(int64_t byte, mlir::VectorType type)>;

/// What a codec's quantizer makes of a row's largest absolute value.
struct QuantizeScale {
  mlir::Value stored; ///< of the codec's scale type
  mlir::Value factor; ///< f32: elements are multiplied with it, then rounded
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
};

/// One plane of a cache, with strides in bytes. `headStride` is 0 where only
/// the runtime knows it.
struct PlaneGeometry {
  llvm::StringRef stream;
  bool scales; ///< the plane of scales, otherwise of codes
  mlir::Type type;
  int64_t elements; ///< per (token, head)
  int64_t tokenStride;
  int64_t headStride;

  llvm::StringRef role() const { return scales ? "scales" : "codes"; }
  /// "k.codes"; no other plane of the store has it.
  std::string name() const;
};

/// Whether a model may compute in `type`: f32, f16 or bf16.
bool isDtype(mlir::Type type);

/// Rounds a vector of f32 to `type` (f32, f16 or bf16), to nearest even,
/// keeping the upper bits of a NaN. bf16 by integer arithmetic: most machines
/// have no instruction for it, and LLVM would call a library.
mlir::Value emitRound(mlir::OpBuilder &b, mlir::Location loc, mlir::Value x,
                      mlir::Type type);

/// The fields of a #kvc.schedule, by name; KvcAttrs.td says what each means.
struct ScheduleFields {
  int64_t tokens = 16, rows = 1, keys = 1, queries = 1;
  int64_t split = 0, prefetch = 0, level = 2;
  bool pack = false, dot = false;
  int64_t warps = 0, stages = 0;
  bool warpsSplitQ = false, bulk = false;
};

} // namespace kvc

#include "dialect/KvcDialect.h.inc"

#define GET_ATTRDEF_CLASSES
#include "dialect/KvcAttrs.h.inc"
#define GET_TYPEDEF_CLASSES
#include "dialect/KvcTypes.h.inc"
#define GET_OP_CLASSES
#include "dialect/KvcOps.h.inc"

#endif // KVC_DIALECT_KVCDIALECT_H
