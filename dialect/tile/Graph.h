//===- Graph.h - what a kernel's ops compute, as a graph --------*- C++ -*-===//
//
// A tile kernel is what its ops say, and backends write its loop nest by hand.
// So that none of them emits a loop that the ops do not say, each kernel is
// read once, here: from what it stores back to what it loads. An op that is not
// on the way, or an operand that comes from elsewhere, is an error on that op.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_DIALECT_TILE_GRAPH_H
#define KVC_DIALECT_TILE_GRAPH_H

#include "dialect/tile/TileDialect.h"

#include <optional>
#include <string>

namespace kvc::tile {

/// An operand of a product: codes of a stream, as f32.
struct StreamOperand {
  LoadOp load;
  ConvertOp convert;

  llvm::StringRef stream() const { return LoadOp(load).getStream(); }
  /// Type of a code.
  mlir::Type code() const { return codes().getElementType(); }
  int64_t codeBytes() const { return code().getIntOrFloatBitWidth() / 8; }
  /// Channels of a row.
  int64_t dim() const { return codes().getDimSize(1); }
  int64_t rowBytes() const { return dim() * codeBytes(); }
  /// Whether `scales` stand beside the codes.
  bool hasScales(mlir::Value scales) const {
    return LoadOp(load).planeOf(scales).value_or(0) != 0;
  }

private:
  mlir::RankedTensorType codes() const {
    return mlir::cast<mlir::RankedTensorType>(
        LoadOp(load).getCodes().getType());
  }
};

/// Why a kernel is not what was looked for: the op that is in the way.
struct GraphMismatch {
  mlir::Operation *op = nullptr;
  std::string why;
};

/// An attend kernel:
///
///   s = chain(<q, k>)   p, state' = softmax(s, state)   acc += chain(p) v
///
/// with element-wise ops in both chains, the last one before the softmax a mask
/// by the loop's own read.
struct AttendGraph {
  /// Fails with an error on the op that is in the way.
  static mlir::FailureOr<AttendGraph> of(KernelOp kernel);
  /// The same without an error: none, and why.
  static std::optional<AttendGraph> match(KernelOp kernel,
                                          GraphMismatch &mismatch);

  LoadQueryOp query;
  ForTokensOp loop;
  DotOp dot;
  SoftmaxStepOp softmax;
  AccumulateOp accumulate;
  StreamOperand k, v;
  StorePartialOp store;
  /// The chains, in the order of the data.
  llvm::SmallVector<mlir::Operation *> scores, probabilities;

  /// The last of `scores`.
  MaskOp mask() const { return mlir::cast<MaskOp>(scores.back()); }
  ReadAttrInterface read() const {
    return mlir::cast<ReadAttrInterface>(ForTokensOp(loop).getReadAttr());
  }
};

/// What adds every split to a state, in order, and stores it.
struct MergeGraph {
  static mlir::FailureOr<MergeGraph> of(KernelOp kernel);
  /// That of an attend kernel's last split.
  static mlir::FailureOr<MergeGraph> of(KernelOp kernel, StorePartialOp store);

  SoftmaxInitOp init;
};

/// A row on its way into the cache.
struct StoredRow {
  LoadRowOp load;
  QuantizeOp quantize;
  StoreRowOp store;
};

/// The rows that an append kernel stores, in order.
mlir::FailureOr<llvm::SmallVector<StoredRow, 2>> storedRows(KernelOp kernel);

/// Fails, with an error on the kernel, if it is of a kind that backends do not
/// lower yet.
mlir::LogicalResult checkLowered(KernelOp kernel);
/// The same if its store's cache lacks a stream `k` or `v` of a row per token.
mlir::LogicalResult checkAttentionStreams(KernelOp kernel);

} // namespace kvc::tile

#endif // KVC_DIALECT_TILE_GRAPH_H
