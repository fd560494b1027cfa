//===- RowLayout.h - where a call's rows of heads are -----------*- C++ -*-===//
#ifndef KVC_LIB_DRIVER_VERIFY_ROWLAYOUT_H
#define KVC_LIB_DRIVER_VERIFY_ROWLAYOUT_H

#include "lib/driver/Verify/Random.h"

namespace kvc::verify {

/// Rows of heads in a buffer of q, k, v, out or lse; all in bytes.
struct RowLayout {
  int64_t rows = 0, heads = 0, headBytes = 0;
  int64_t rowStride = 0, headStride = 0;

  /// Dense, or if it shall be scattered with gaps behind rows or heads, or with
  /// all rows of a head side by side.
  static RowLayout draw(int64_t rows, int64_t heads, int64_t headBytes,
                        bool scatter, Random &random);

  int64_t at(int64_t row, int64_t head) const {
    return row * rowStride + head * headStride;
  }
  /// Up to the end of the last head of the last row.
  int64_t bytes() const {
    return rows ? at(rows - 1, heads - 1) + headBytes : 0;
  }
  /// What a call is given: 0 where it may be.
  int64_t givenHeadStride() const {
    return headStride == headBytes ? 0 : headStride;
  }
};

} // namespace kvc::verify

#endif // KVC_LIB_DRIVER_VERIFY_ROWLAYOUT_H
