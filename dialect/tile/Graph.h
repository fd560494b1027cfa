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

/// An operand of a product: f32 rows of a tile's tokens.
struct StreamOperand {
  mlir::Value x; ///< [t, d]
  /// Where `x` is codes of a stream, each as f32: of them it is made. Null
  /// where it is decoded, by other element-wise ops on what is loaded.
  LoadOp load;
  ConvertOp convert;

  bool isDecoded() const { return !convert; }
  /// Null if decoded.
  llvm::StringRef stream() const {
    return load ? LoadOp(load).getStream() : llvm::StringRef();
  }
  /// Type of a code, or of an element that was decoded.
  mlir::Type code() const {
    mlir::Value of = load ? LoadOp(load).getCodes() : x;
    return mlir::cast<mlir::RankedTensorType>(of.getType()).getElementType();
  }
  int64_t codeBytes() const { return code().getIntOrFloatBitWidth() / 8; }
  /// Channels of a row.
  int64_t dim() const {
    return mlir::cast<mlir::RankedTensorType>(x.getType()).getDimSize(1);
  }
  int64_t rowBytes() const { return dim() * codeBytes(); }
  /// Whether `scales` stand beside the codes.
  bool hasScales(mlir::Value scales) const {
    return load && LoadOp(load).planeOf(scales).value_or(0) != 0;
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
/// where <q, k> is a `tile.dot`, or a `tile.contract` of K alone, with
/// element-wise ops in both chains, the last one before the softmax a mask by
/// the loop's own read. Backends refuse what of this their loops lack.
struct AttendGraph {
  /// Fails with an error on the op that is in the way.
  static mlir::FailureOr<AttendGraph> of(KernelOp kernel);
  /// The same without an error: none, and why.
  static std::optional<AttendGraph> match(KernelOp kernel,
                                          GraphMismatch &mismatch);

  LoadQueryOp query;
  ForTokensOp loop;
  DotOp dot;           ///< or
  ContractOp contract; ///< the other is null
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

  /// Channels of a row.
  int64_t dim() const {
    return mlir::cast<SoftmaxType>(SoftmaxInitOp(init).getState().getType())
        .getDim();
  }

  SoftmaxInitOp init;
};

/// A row on its way into the cache.
struct StoredRow {
  LoadRowOp load;
  QuantizeOp quantize;
  StoreRowOp store;

  /// Channels of the row.
  int64_t dim() const {
    return mlir::cast<mlir::RankedTensorType>(LoadRowOp(load).getX().getType())
        .getDimSize(0);
  }
  /// Whether its codec keeps anything beside the codes.
  bool hasBoxes() const { return QuantizeOp(quantize).getPlanes().size() > 1; }
  /// Boxes of equal size that its codec cuts the row into, each with elements
  /// of its own in the planes beside the codes.
  int64_t boxes() const {
    mlir::ValueRange planes = QuantizeOp(quantize).getPlanes();
    return !hasBoxes() ? 1
                       : mlir::cast<mlir::RankedTensorType>(planes[1].getType())
                             .getDimSize(0);
  }
};

/// The rows that an append kernel stores, in order.
mlir::FailureOr<llvm::SmallVector<StoredRow, 2>> storedRows(KernelOp kernel);

/// The rows that a gather kernel stores, in order: what element-wise ops make
/// of loaded ones.
mlir::FailureOr<llvm::SmallVector<StoreDecodedOp, 2>>
decodedRows(KernelOp kernel);

/// Fails, with an error on the kernel, if it is of a kind that backends do not
/// lower yet.
mlir::LogicalResult checkLowered(KernelOp kernel);
/// The same if its store's cache lacks a stream `k` or `v` of a row per token.
mlir::LogicalResult checkAttentionStreams(KernelOp kernel);

} // namespace kvc::tile

#endif // KVC_DIALECT_TILE_GRAPH_H
