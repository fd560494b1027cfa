//===- Tiles.h - the tile registers of one thread ---------------*- C++ -*-===//
#ifndef KVC_LIB_BASE_AMX_TILES_H
#define KVC_LIB_BASE_AMX_TILES_H

#include "lib/base/Amx/Decode.h"

#include <string_view>

namespace kvc::amx {

/// TILECFG and TILEDATA of palette 1, and what Intel's manual says instructions
/// do with them. What a CPU would refuse becomes a finding: the first one is
/// kept, tiles become NaNs, and the kernel goes on.
class Tiles {
public:
  /// Products want SSE's denormals off and its default rounding, as AMX has it
  /// whatever MXCSR says: the caller sees to it. Returns how many bytes went
  /// between a tile and memory.
  size_t execute(const Instruction &in);

  bool configured() const { return palette; }
  void release();
  /// The first finding since the last call, valid until the next finding; "" if
  /// there is none.
  std::string_view take();
  [[gnu::format(printf, 2, 3)]] void find(const char *format, ...);

private:
  using Tile = uint8_t[16][64];
  struct Shape {
    uint8_t rows = 0;
    uint16_t bytes = 0; ///< of a row
  };

  void configure(const uint8_t *from);
  void store(uint8_t *to) const;
  /// Whether a tile may be used; otherwise that is the finding.
  bool usable(const Instruction &in, unsigned tile);
  /// Between a tile and memory; returns the bytes.
  size_t move(const Instruction &in);
  void multiply(const Instruction &in);

  uint8_t palette = 0;
  Shape shapes[8];
  alignas(64) Tile data[8] = {};
  bool found = false;
  char text[192] = {};
};

} // namespace kvc::amx

#endif // KVC_LIB_BASE_AMX_TILES_H
