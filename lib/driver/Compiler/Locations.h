//===- Locations.h - MLIR's diagnostics at JSON locations -------*- C++ -*-===//
#ifndef KVC_LIB_DRIVER_COMPILER_LOCATIONS_H
#define KVC_LIB_DRIVER_COMPILER_LOCATIONS_H

#include "lib/driver/Compiler/Compiler.h"

#include "mlir/IR/Diagnostics.h"

namespace kvc {

/// The places of a spec and its schedule that the compiler's messages point at.
class SpecPlaces {
public:
  /// `schedule` must outlive it.
  explicit SpecPlaces(const spec::Spec &spec,
                      llvm::ArrayRef<ScheduleOverride> schedule = {});

  /// The place that stands there, with its JSON pointer; without one where the
  /// spec has none.
  SourceLoc at(mlir::Location loc) const;
  /// The override that `loc` names, or null.
  const ScheduleOverride *overrideAt(mlir::Location loc) const;
  /// The place of a pointer; only the pointer where the spec has none.
  SourceLoc at(const std::string &pointer) const;

private:
  std::string file;
  std::vector<SourceLoc> places;
  llvm::ArrayRef<ScheduleOverride> schedule;
};

/// While it lives, errors, warnings and remarks of the context become ours. A
/// message may end in its code: "... straddle pages [R-STRADDLE]". The same
/// message at the same place is reported once, whatever the target.
class DiagnosticBridge {
public:
  DiagnosticBridge(mlir::MLIRContext &context, const SpecPlaces &places,
                   Diagnostics &diagnostics);

private:
  void report(mlir::Diagnostic &diagnostic);

  const SpecPlaces &places;
  Diagnostics &diagnostics;
  mlir::ScopedDiagnosticHandler handler;
};

} // namespace kvc

#endif // KVC_LIB_DRIVER_COMPILER_LOCATIONS_H
