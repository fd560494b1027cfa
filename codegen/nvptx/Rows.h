//===- Rows.h - rows of a call and of the cache -----------------*- C++ -*-===//
//-*-===//
//
// One warp per (row, kv head).
//
//===----------------------------------------------------------------------===//
#ifndef KVC_CODEGEN_NVPTX_ROWS_H
#define KVC_CODEGEN_NVPTX_ROWS_H

#include "codegen/nvptx/Kernel.h"

namespace kvc::nvptx {

/// Threads of a CTA of kernels of rows.
inline constexpr int64_t kRowThreads = 128;

/// The warp's row of the call at its kv head, and the token of the cache that
/// the row's slot says.
struct SlotRow {
  Kernel &k;
  mlir::Value row, head;    ///< i32, of the store
  mlir::Value outer, token; ///< i64: page or slot, and the token in it

  /// The row that has the token, of plane `plane` of the cache.
  mlir::Value address(unsigned plane) const;
  /// The row in the call's array `k` or `v`.
  mlir::Value modelRow(llvm::StringRef name) const;
};

/// Emits `body` for the warp's row, if there is one and its slot is not
/// negative.
void atSlot(Kernel &k, llvm::function_ref<void(const SlotRow &)> body);

} // namespace kvc::nvptx

#endif // KVC_CODEGEN_NVPTX_ROWS_H
