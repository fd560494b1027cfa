//===- RowLayout.cpp - where a call's rows of heads are -------------------===//
#include "lib/driver/Verify/RowLayout.h"

using namespace kvc::verify;

RowLayout RowLayout::draw(int64_t rows, int64_t heads, int64_t headBytes,
                          bool scatter, Random &random) {
  RowLayout layout = {rows, heads, headBytes, heads * headBytes, headBytes};
  if (!scatter)
    return layout;
  // Where a GPU asks for 16 bytes, a gap keeps them.
  auto gap = [&] { return 16 * random.range(0, 4); };
  switch (random.range(0, 2)) {
  case 0:
    layout.rowStride += gap();
    break;
  case 1:
    layout.headStride += gap();
    layout.rowStride = heads * layout.headStride + gap();
    break;
  default:
    layout.rowStride = headBytes + gap();
    layout.headStride = std::max<int64_t>(rows, 1) * layout.rowStride + gap();
  }
  return layout;
}
