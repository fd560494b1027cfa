//===- SpecToKvc.h - a checked spec as kvc IR -------------------*- C++ -*-===//
//
// The one place that knows both the spec and the IR. Everything after it sees
// only IR, everything before it only plain data.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_LIB_DRIVER_IMPORT_SPECTOKVC_H
#define KVC_LIB_DRIVER_IMPORT_SPECTOKVC_H

#include "lib/base/Spec/Spec.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"

namespace kvc {

/// Of a kvc.store: the canonical JSON text of its `attend`, if it has one.
inline constexpr llvm::StringLiteral kAttendAttr = "attend";
/// On a kvc.store, the constants that each call gives: {sinks =
/// tensor<64xf32>}, with a leading axis `?` if each sequence has a row.
inline constexpr llvm::StringLiteral kConstantsAttr = "constants";

/// Builds the module of `spec`: attribute `kvc.spec` holds its name, and for
/// every store there are
///
///   kvc.store @S ...
///   func.func @S.append(%k, %v, %slot, %cache)          one kvc.append
///   func.func @S.attend(%q, %cache, %batch) -> (o, lse) one kvc.attend
///
/// in the order of the spec. q, k, v and o have the model's dtype and all of
/// its heads, lse is f32; a store touches only the heads it covers. Every op
/// carries the place of its store in the JSON text, the module that of
/// `model`, so that a pass that fails points at the user's line. Loads the
/// dialects it needs into `context`. Cannot fail on a spec that the reader
/// accepted.
mlir::OwningOpRef<mlir::ModuleOp> importSpec(mlir::MLIRContext &context,
                                             const spec::Spec &spec);

} // namespace kvc

#endif // KVC_LIB_DRIVER_IMPORT_SPECTOKVC_H
