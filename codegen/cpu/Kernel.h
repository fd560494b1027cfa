//===- Kernel.h - what every CPU kernel starts from -------------*- C++ -*-===//
#ifndef KVC_CODEGEN_CPU_KERNEL_H
#define KVC_CODEGEN_CPU_KERNEL_H

#include "codegen/Convert.h"
#include "codegen/cpu/Kit.h"
#include "dialect/tile/Graph.h"
#include "lib/base/Artifact/Params.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

#include <functional>

namespace kvc::cpu {

using artifact::kWordsOfK;
using artifact::kWordsOfLse;
using artifact::kWordsOfOut;
using artifact::kWordsOfQ;
using artifact::kWordsOfV;
using artifact::Word;

/// Consecutive channels that are converted at once.
struct ChannelBlock {
  int64_t first;    ///< channel
  int64_t channels; ///< how many
  int64_t lanes;    ///< lanes of each vector of f32
};

/// Where a row of a plane stands, and as elements of which type: a kernel may
/// have widened them.
struct PlaneRow {
  mlir::Value at;
  mlir::Type type;
};
/// Gives the row that has a token, of a plane of the cache.
using RowFn = std::function<PlaneRow(unsigned plane)>;

class Kernel;

/// Cuts the channels of K or V into blocks as its codes are converted. All but
/// the last few are alike: `main` of them, the rest are a tail.
struct ChannelPlan {
  ChannelPlan(Kernel &kernel, const tile::StreamOperand &operand);

  Kernel &k;
  mlir::Value x;
  /// The planes that it is made of; the first has most bytes in a row.
  llvm::SmallVector<unsigned, 4> planes;
  /// Of an element as it is multiplied: a code, or f32 that other ops than a
  /// conversion make of codes.
  mlir::Type element;
  /// Of codes with a sign in the first plane; where others have a part, blocks
  /// and orders alone are its.
  CodeConversion conversion;
  bool isDecoded;
  llvm::SmallVector<ChannelBlock> blocks;
  int64_t main = 0;

  unsigned codesPlane() const { return planes.front(); }

  /// order[e]: the channel within the block at element e.
  llvm::SmallVector<int64_t> order(const ChannelBlock &block) const;
  /// Emits `body` for every block with its first channel: once in a loop over
  /// the main ones, and for each tail.
  void forBlocks(
      llvm::function_ref<void(const ChannelBlock &, mlir::Value)> body) const;
  /// Makes f32 of the block of a token's rows that begins at `channel`.
  llvm::SmallVector<mlir::Value> convert(const ChannelBlock &block,
                                         const RowFn &row,
                                         mlir::Value channel) const;
  /// The same as one vector, its channels in natural order.
  mlir::Value convertInOrder(const ChannelBlock &block, const RowFn &row,
                             mlir::Value channel) const;
  /// Bytes of as many channels in a row of codes.
  mlir::Value codeBytes(Kit &kit, mlir::Value channels) const {
    return kit.div(kit.mul(channels, codeBits()), 8);
  }
  int64_t codeBits() const { return conversion.code.getIntOrFloatBitWidth(); }
  /// Blocks to unroll inside one round of a loop over the main ones.
  int64_t unroll() const;
};

/// One scratch buffer, carved up as the kernel asks.
class Scratch {
public:
  /// Reserves `bytes`, 64-byte aligned; returns the offset.
  int64_t reserve(int64_t bytes) {
    int64_t offset = size;
    size += (bytes + 63) / 64 * 64;
    return offset;
  }
  int64_t bytes() const { return size; }

private:
  int64_t size = 0;
};

/// A tile.kernel being lowered: its function, its arguments, its store.
class Kernel {
public:
  Kernel(tile::KernelOp op, StoreOp store, Kit &kit)
      : op(op), store(store), kit(kit),
        cache(mlir::cast<CacheType>(store.getCache())), dtype(op.getDtype()) {}

  tile::KernelOp op;
  StoreOp store;
  Kit &kit;
  CacheType cache;
  mlir::Type dtype;
  Scratch scratch;
  artifact::ParamBlock params; ///< what the kernel has asked for
  mlir::Value args, workTile, scratchBase;

  TargetAttr target() {
    return op->getParentOfType<mlir::ModuleOp>()->getAttrOfType<TargetAttr>(
        "kvc.target");
  }
  int64_t dtypeBytes() const { return dtype.getIntOrFloatBitWidth() / 8; }
  int64_t group() { return store.getGroup(); }
  mlir::Value scratchAt(int64_t offset) { return kit.at(scratchBase, offset); }
  /// A field of KvcWorkTile, as i64.
  mlir::Value workTileField(int64_t offset) {
    return kit.loadI32(workTile, offset);
  }

  /// Index of a query row among the partial results (KernelAbi.h): query token
  /// `query` of the work tile's sequence, q head `qHead` of the store.
  mlir::Value partialRow(mlir::Value splitIdx, mlir::Value query,
                         mlir::Value qHead);

  /// A word of the parameter block, which has it from the first time on.
  mlir::Value argPtr(Word what, llvm::StringRef of = "");
  mlir::Value argI64(Word what, llvm::StringRef of = "");
  /// The address of head `head` of the model in row `row` (i64) of one of the
  /// caller's arrays.
  mlir::Value rowHead(const artifact::RowWords &words, mlir::Value row,
                      mlir::Value head);
  /// Those of plane `plane` of cache.planes().
  mlir::Value planeBase(unsigned plane);
  mlir::Value planePageStride(unsigned plane);
  mlir::Value planeHeadStride(unsigned plane);
};

/// Each lowers the body of one kind of kernel into the function that the
/// builder stands in. They may emit an error on the kernel.
mlir::LogicalResult emitAttend(Kernel &kernel);
/// An attend kernel that the loops of emitAttend() have no way with, for what
/// `why` says: each op by itself, its tile in memory.
mlir::LogicalResult emitOpByOp(Kernel &kernel, const tile::GraphMismatch &why);
mlir::LogicalResult emitMerge(Kernel &kernel);
mlir::LogicalResult emitAppend(Kernel &kernel);
mlir::LogicalResult emitGather(Kernel &kernel);

} // namespace kvc::cpu

#endif // KVC_CODEGEN_CPU_KERNEL_H
