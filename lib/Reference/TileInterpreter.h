//===- TileInterpreter.h - the meaning of the tile ops ----------*- C++ -*-===//
//
// Runs a tile kernel on host memory, op by op, as the ops describe themselves:
// in float64 over the codes that the cache holds. It knows no order of ops, no
// fast path and no schedule but the size of tiles and splits, so that a pass is
// right when what a kernel gives is the same before it and after.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_LIB_REFERENCE_TILEINTERPRETER_H
#define KVC_LIB_REFERENCE_TILEINTERPRETER_H

#include "dialect/tile/TileDialect.h"
#include "lib/Reference/Interpreter.h"

namespace kvc::reference {

/// One kernel of a module that was verified, which must outlive it. An op that
/// has no meaning here is an error at its location.
class TileInterpreter {
public:
  explicit TileInterpreter(tile::KernelOp kernel) : kernel(kernel) {}

  /// The partial results of the splits that a kernel's schedule has, as
  /// reference::attend() gives them; and those combined, where its last split
  /// does that.
  struct Attended : AttendResult {
    std::optional<AttendResult> combined;
  };

  /// An attend kernel on every work tile. Tokens that the cache does
  /// not hold, or that no query of their sequence sees, are zeros to it. Fails,
  /// as attend() does, on a batch that does not fit q or the cache.
  mlir::FailureOr<Attended> attend(Rows q, const HostCache &cache,
                                   const HostBatch &batch) const;
  /// A merge kernel on all rows of partial results [splits, ...].
  mlir::FailureOr<AttendResult> merge(const Tensor &partialO,
                                      const Tensor &partialLse) const;
  /// An append kernel on rows whose slots are in the cache.
  mlir::LogicalResult append(Rows k, Rows v, Slots slot,
                             HostCache &cache) const;

private:
  tile::KernelOp kernel;
};

} // namespace kvc::reference

#endif // KVC_LIB_REFERENCE_TILEINTERPRETER_H
