//===- Rows.h - rows of a call and of the cache -----------------*- C++ -*-===//
//-*-===//
#ifndef KVC_CODEGEN_CPU_ROWS_H
#define KVC_CODEGEN_CPU_ROWS_H

#include "codegen/cpu/Kernel.h"

namespace kvc::cpu {

/// A row of the call at one kv head, and the token of the cache that its slot
/// says. All i64.
struct SlotRow {
  Kernel &k;
  mlir::Value row, head;    ///< of the store
  mlir::Value outer, token; ///< page or slot, and the token in it

  /// The row that has the token, of plane `plane` of the cache.
  mlir::Value address(unsigned plane) const;
  /// The row in the call's array `k` or `v`.
  mlir::Value modelRow(llvm::StringRef name) const;
};

/// Emits `body` in a loop over the work tile's rows, but those of negative
/// slots, and the store's kv heads.
void forSlots(Kernel &k, llvm::function_ref<void(const SlotRow &)> body);

} // namespace kvc::cpu

#endif // KVC_CODEGEN_CPU_ROWS_H
