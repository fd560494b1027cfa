//===- Kernel.h - what every GPU kernel starts from -------------*- C++ -*-===//
//
// Kernels rely on this of their buffers, which the runtime checks: addresses
// and row strides of q, k, v and out are multiples of 16 bytes, those of lse of
// 4; addresses of work tiles and partial_o are multiples of 16; planes of
// codes, and their outer and head strides, are multiples of the largest power
// of two up to 16 that divides a row's bytes, those of scales of one scale's
// bytes.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_CODEGEN_NVPTX_KERNEL_H
#define KVC_CODEGEN_NVPTX_KERNEL_H

#include "codegen/nvptx/Backend.h"
#include "codegen/nvptx/Kit.h"
#include "dialect/tile/Graph.h"

#include "lib/base/Artifact/GpuAbi.h"

namespace kvc::nvptx {

using artifact::kWordsOfK;
using artifact::kWordsOfLse;
using artifact::kWordsOfOut;
using artifact::kWordsOfQ;
using artifact::kWordsOfV;
using artifact::Word;

constexpr int64_t kWarpLanes = 32;

/// The CTA's dynamic shared memory, carved up as the kernel asks.
class SharedSpace {
public:
  /// Reserves `bytes`; returns the offset from the first byte.
  int64_t reserve(int64_t bytes, int64_t align = 16) {
    int64_t offset = llvm::alignTo(size, align);
    size = offset + bytes;
    return offset;
  }
  int64_t bytes() const { return size; }

private:
  int64_t size = 0;
};

/// A kernel being lowered: its parameters, its store, its thread.
///
/// Values are emitted where the builder stands; LLVM shares what is asked for
/// twice.
class Kernel {
public:
  /// `op` is null for kernels that no tile op describes (plan).
  Kernel(tile::KernelOp op, StoreOp store, const SmTarget &sm, Kit &kit,
         mlir::Value params)
      : op(op), store(store), sm(sm), kit(kit),
        cache(mlir::cast<CacheType>(store.getCache())),
        dtype(op ? op.getDtype() : mlir::Type()), params(params) {}

  tile::KernelOp op;
  StoreOp store;
  const SmTarget &sm;
  Kit &kit;
  CacheType cache;
  mlir::Type dtype;           ///< of the model; null if there is no op
  mlir::Value params;         ///< the block
  artifact::ParamBlock block; ///< what the kernel has asked for
  SharedSpace shared;

  int64_t dtypeBytes() const { return dtype.getIntOrFloatBitWidth() / 8; }
  int64_t group() { return store.getGroup(); }
  int64_t kvHeads() { return cache.getHeads(); }
  /// Of the store; the first is q head `firstQueryHead()` of the model.
  int64_t queryHeads() { return kvHeads() * group(); }
  int64_t firstQueryHead() { return int64_t(store.getHeadBegin()) * group(); }

  //===--- parameters -------------------------------------------------------//
  // Words of the parameter block, which has them from the first time on.
  /// The low half of a word.
  mlir::Value paramI32(Word what, llvm::StringRef of = "");
  mlir::Value paramI64(Word what, llvm::StringRef of = "");
  /// A pointer to global memory.
  mlir::Value paramPtr(Word what, llvm::StringRef of = "");

  /// The address of q head or kv head `head` (i32, of the model) in row `row`
  /// (i64) of one of the caller's arrays.
  mlir::Value rowHead(const artifact::RowWords &words, mlir::Value row,
                      mlir::Value head);

  struct Plane {
    mlir::Value base, pageStride, headStride; ///< pointer, i64, i64
  };
  /// Plane `index` of cache.planes().
  Plane plane(unsigned index);

  //===--- threads ----------------------------------------------------------//
  mlir::Value thread() { return kit.threadId(); }
  mlir::Value lane() { return kit.and_(thread(), kWarpLanes - 1); }
  /// Of the CTA; one value for the warp, not only equal ones: what depends on
  /// it alone is uniform control flow.
  mlir::Value warp();
  /// Of the grid, where a CTA has `warps`. At most 2^32, unsigned.
  mlir::Value gridWarp(int64_t warps);

  //===--- memory -----------------------------------------------------------//
  /// A place in shared memory that shared.reserve() gave.
  Shared at(int64_t offset) { return {kit.op1(Ptx::SmemBase, {}), offset}; }
  /// The same, `bytes` (i32) further.
  Shared at(int64_t offset, mlir::Value bytes) {
    return {kit.add(kit.op1(Ptx::SmemBase, {}), bytes), offset};
  }

  /// Index (i64) of a query row among the partial results (Words.def):
  /// `query` of the sequence's `queries` query tokens, q head `qHead` of the
  /// store. All but the result are i32.
  mlir::Value partialRow(mlir::Value sequence, mlir::Value splitIdx,
                         mlir::Value queries, mlir::Value query,
                         mlir::Value qHead);

private:
  mlir::Value paramAt(Word what, llvm::StringRef of);
};

/// The splits of one query row.
struct SplitsOfRow {
  mlir::Value first; ///< i64: index of its split 0 among the partial results
  mlir::Value step;  ///< i64: from split to split: query tokens times q heads
  mlir::Value numSplits; ///< i32, at least 1
  mlir::Value row;       ///< i32: of q and out
  mlir::Value qHead;     ///< i32: q head of the store
};
/// Combines the splits of a row by log-sum-exp, in order of split, and writes
/// out and, if asked for, lse. One warp does it, all lanes together; the result
/// does not depend on which kernel it stands in.
void emitMergeRow(Kernel &kernel, const tile::MergeGraph &graph,
                  const SplitsOfRow &row);
/// The logit (f32, natural) that a row of q head `qHead` of the store has seen
/// before its first token; null: none.
mlir::Value emitSink(Kernel &kernel, const tile::MergeGraph &graph,
                     mlir::Value qHead);

/// An attend kernel of a store, as the plan sees it.
struct PlanVariant {
  int64_t minQueries; ///< query tokens of a sequence from which it is used
  int64_t rows;       ///< query rows per work tile
  int64_t split;      ///< cached tokens per work tile; 0: all
};

/// Each lowers the body of one kind of kernel into the function that the
/// builder stands in, and says how to launch it. They may emit an error on the
/// kernel.
mlir::LogicalResult emitAttend(Kernel &kernel, LaunchInfo &launch);
mlir::LogicalResult emitMerge(Kernel &kernel, LaunchInfo &launch);
mlir::LogicalResult emitAppend(Kernel &kernel, LaunchInfo &launch);
mlir::LogicalResult emitGather(Kernel &kernel, LaunchInfo &launch);
/// `variants` by minQueries, ascending, at most artifact::kMaxAttends.
void emitPlan(Kernel &kernel, llvm::ArrayRef<PlanVariant> variants,
              LaunchInfo &launch);

} // namespace kvc::nvptx

#endif // KVC_CODEGEN_NVPTX_KERNEL_H
