//===- ScoreRegion.h - an expression of a spec as ops -----------*- C++ -*-===//
#ifndef KVC_LIB_DRIVER_IMPORT_SCOREREGION_H
#define KVC_LIB_DRIVER_IMPORT_SCOREREGION_H

#include "dialect/Score.h"
#include "lib/base/Spec/Expr.h"

namespace kvc {

/// Fills `region` with what `expr` says.
void importExpr(mlir::Region &region, ScoreRegionKind kind,
                const spec::Expr &expr, mlir::Location loc);

} // namespace kvc

#endif // KVC_LIB_DRIVER_IMPORT_SCOREREGION_H
