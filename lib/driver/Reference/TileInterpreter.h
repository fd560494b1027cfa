//===- TileInterpreter.h - the meaning of the tile ops ----------*- C++ -*-===//
//
// Runs a tile kernel on host memory, op by op, as the ops describe themselves:
// in float64 over the codes that the cache holds. It knows no order of ops, no
// fast path and no schedule but the size of tiles and splits, so that a pass is
// right when what a kernel gives is the same before it and after.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_LIB_DRIVER_REFERENCE_TILEINTERPRETER_H
#define KVC_LIB_DRIVER_REFERENCE_TILEINTERPRETER_H

#include "dialect/tile/TileDialect.h"
#include "lib/driver/Reference/Interpreter.h"

#include "llvm/ADT/StringMap.h"

namespace kvc::reference {

/// Boxes of tokens, by number, of each [sequence][kv head of the store].
using BoxLists = llvm::StringMap<std::vector<std::vector<int64_t>>>;

/// What a kernel is given beside the cache and the batch; each part may be
/// missing, and an op that needs it then fails.
struct TileInputs {
  Rows q;
  llvm::StringMap<Rows> rows; ///< for tile.load_row
  /// Of each sequence, the tokens that a stream has; of a stream that is not
  /// here, all.
  llvm::StringMap<std::vector<Span>> spans;
  BoxLists lists;              ///< for tile.listed
  const Tensor *lse = nullptr; ///< [rows, q heads], for tile.load_lse
};

/// Partial results, and those combined, where the last split does that.
struct TileAttended : AttendResult {
  std::optional<AttendResult> combined;
};

/// What a kernel stores outside of the cache.
struct TileOutputs : TileAttended {
  BoxLists lists;
  /// Tokens of each [sequence][kv head] after tile.move_tokens.
  std::vector<int64_t> lengths;
  Tensor rows; ///< tile.store_row_output: [rows, q heads, d]
};

/// One kernel of a module that was verified, which must outlive it. An op that
/// has no meaning here is an error at its location.
class TileInterpreter {
public:
  explicit TileInterpreter(tile::KernelOp kernel) : kernel(kernel) {}

  using Attended = TileAttended;

  /// A kernel whose work tiles are sequences and kv heads: attention, of which
  /// the result has the splits of the kernel's schedule as reference::attend()
  /// gives them, and any other but merges and appends. Tokens that no query of
  /// their sequence sees are zeros to it. Fails, as reference::attend() does,
  /// on a batch that does not fit q or the cache.
  mlir::FailureOr<TileOutputs> run(const TileInputs &inputs,
                                   const HostCache &cache,
                                   const HostBatch &batch) const;
  mlir::FailureOr<Attended> attend(Rows q, const HostCache &cache,
                                   const HostBatch &batch) const;
  /// A merge kernel on all rows of partial results [splits, ...].
  mlir::FailureOr<AttendResult> merge(const Tensor &partialO,
                                      const Tensor &partialLse) const;
  /// An append kernel on rows whose slots are in the cache.
  mlir::LogicalResult append(Rows k, Rows v, Slots slot,
                             HostCache &cache) const;
  /// A gather kernel on slots that are in the cache.
  mlir::FailureOr<Gathered> gather(Slots slot, const HostCache &cache) const;

private:
  tile::KernelOp kernel;
};

} // namespace kvc::reference

#endif // KVC_LIB_DRIVER_REFERENCE_TILEINTERPRETER_H
