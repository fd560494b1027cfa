//===- KernelInputs.h - what drawn kernels run on ---------------*- C++ -*-===//
#ifndef KVC_TEST_UNIT_TILE_KERNELINPUTS_H
#define KVC_TEST_UNIT_TILE_KERNELINPUTS_H

#include "test/support/AlignedBytes.h"
#include "test/unit/Tile/RandomKernel.h"

#include "lib/driver/Reference/Interpreter.h"

namespace kvc::fuzz {

using test::AlignedBytes;

/// Rows [rows][heads][dim] of the model's type; rows, or heads as well, are
/// some bytes apart.
struct ModelRows {
  int64_t rows = 0, heads = 0, dim = 0, stride = 0, headStride = 0;
  std::vector<float> wide;
  AlignedBytes bytes;

  reference::Rows view() const { return {wide, rows, heads, dim}; }
};
/// Rounds `wide` to the type of the rows.
ModelRows packRows(char dtype, int64_t rows, int64_t heads, int64_t dim,
                   std::vector<float> wide, Random &random);
float loadAs(char type, const uint8_t *bytes);
inline int64_t widthOf(char type) {
  return type == 'f' ? 4 : type == 'h' || type == 'b' ? 2 : 1;
}

/// A ragged batch of an attend kernel.
struct AttendInputs {
  AttendInputs(const Kernel &kernel, CacheType cache,
               llvm::ArrayRef<ScheduleAttrInterface> schedules);

  std::vector<int32_t> cuQ = {0}, kvLen, table;
  int64_t tableStride = 1;
  ModelRows q;
  std::unique_ptr<reference::HostArena> arena;

  int64_t queries(size_t b) const { return cuQ[b + 1] - cuQ[b]; }
  reference::HostBatch batch() const {
    return {cuQ, kvLen, table, tableStride};
  }

private:
  void drawLengths(const Kernel &kernel,
                   llvm::ArrayRef<ScheduleAttrInterface> schedules,
                   Random &random);
  void place(const Kernel &kernel, CacheType cache, Random &random);
  void fill(const Kernel &kernel, llvm::StringRef name, Random &random);
  bool isSeen(const Kernel &kernel, size_t b, int64_t token,
              int64_t head) const;
  void hide(const Kernel &kernel);
  std::vector<int64_t> slots; ///< of all sequences' tokens
};

/// Rows on their way into a cache.
struct AppendInputs {
  AppendInputs(const Kernel &kernel, CacheType cache);
  reference::HostArena makeArena() const;

  CacheType cache;
  int64_t outers, outerTokens;
  ModelRows k, v;
  std::vector<int64_t> slots;
};

/// Slots of a cache in which no more than these have rows.
struct GatherInputs {
  GatherInputs(const Kernel &kernel, CacheType cache);

  std::unique_ptr<reference::HostArena> arena;
  std::vector<int64_t> slots;
};

/// Partial results.
struct MergeInputs {
  explicit MergeInputs(const Kernel &kernel);

  std::vector<int32_t> cuQ = {0};
  std::vector<int64_t> splitRow;
  AlignedBytes o, lse;              ///< where Words.def says
  reference::Tensor wideO, wideLse; ///< [splits][rows][q heads of the store]
};

} // namespace kvc::fuzz

#endif // KVC_TEST_UNIT_TILE_KERNELINPUTS_H
