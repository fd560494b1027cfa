//===- Rows.h - rows of a call and of the cache -----------------*- C++ -*-===//
//-*-===//
//
// One warp per (row, kv head). A lane has whole chunks of 8 channels: lane,
// lane + 32, ...
//
//===----------------------------------------------------------------------===//
#ifndef KVC_CODEGEN_NVPTX_ROWS_H
#define KVC_CODEGEN_NVPTX_ROWS_H

#include "codegen/nvptx/Kernel.h"

namespace kvc::nvptx {

/// Threads of a CTA of kernels of rows.
inline constexpr int64_t kRowThreads = 128;
/// Channels of a chunk; dims are multiples of it.
inline constexpr int64_t kChunk = 8;

/// The warp's row of the call at its kv head, and the token of the cache that
/// the row's slot says.
struct SlotRow {
  Kernel &k;
  mlir::Value row, head;    ///< i32, of the store
  mlir::Value outer, token; ///< i64: page or slot, and the token in it

  /// The row that has the token, of plane `plane` of the cache.
  mlir::Value address(unsigned plane) const;
  /// The row in one of the call's arrays.
  mlir::Value modelRow(const artifact::RowWords &words) const;
};

/// Emits `body` for the warp's row, if there is one and its slot is not
/// negative.
void atSlot(Kernel &k, llvm::function_ref<void(const SlotRow &)> body);

} // namespace kvc::nvptx

#endif // KVC_CODEGEN_NVPTX_ROWS_H
