//===- Races.h - who read and wrote memory ----------------------*- C++ -*-===//
#ifndef KVC_LIB_BASE_SIMT_RACES_H
#define KVC_LIB_BASE_SIMT_RACES_H

#include "lib/base/Simt/Knowledge.h"

#include <cstddef>
#include <unordered_map>

namespace kvc::simt {

/// Two accesses that nothing orders.
struct Race {
  uintptr_t at;
  Access other;
  bool written; ///< by `other`; else read
};

/// The last write and all reads since then of every byte. Blocks of 16 bytes
/// are kept as one until something smaller is accessed nearby.
class Races {
public:
  /// Forgets all. Addresses below `dense` are found fastest.
  void reset(size_t dense);

  /// Notes a read or write as that of `as`, which the accessor itself is or has
  /// begun; false with `race` set if an earlier one is not over for the
  /// accessor.
  bool read(uintptr_t at, uint32_t bytes, const Accessor &accessor,
            const Access &as, Race &race);
  bool write(uintptr_t at, uint32_t bytes, const Accessor &accessor,
             const Access &as, Race &race);
  /// Who wrote these bytes last.
  Access writer(uintptr_t at);

private:
  static constexpr unsigned kPageBits = 10, kCellBits = 4;
  static constexpr size_t kMostPages = 1 << 14;
  static constexpr uint32_t kNone = ~0u;
  struct Cell {
    Access writer;
    Access reader;         ///< any of them
    uint32_t more = kNone; ///< further ones, an index in `nodes`
  };
  struct Node {
    Access reader;
    uint32_t next;
  };
  struct Page {
    uint64_t era = 0;
    unsigned shift = kCellBits; ///< a cell is 1 << shift bytes
    std::vector<Cell> cells;
  };

  Page &page(uintptr_t number);
  void refine(Page &page, unsigned shift);
  void addReader(Cell &cell, const Accessor &accessor, const Access &as);
  bool checkWrite(Cell &cell, uintptr_t at, const Accessor &accessor,
                  Race &race);
  uint32_t newNode(const Access &reader, uint32_t next);
  template <typename Visit>
  bool visit(uintptr_t at, uint32_t bytes, Visit visit);

  uint64_t era = 0;
  std::vector<Page> dense;
  std::unordered_map<uintptr_t, Page> sparse;
  uintptr_t lastNumber = ~uintptr_t(0); ///< of `sparse`
  Page *last = nullptr;
  std::vector<Node> nodes;
  uint32_t freeNodes = kNone;
};

} // namespace kvc::simt

#endif // KVC_LIB_BASE_SIMT_RACES_H
