//===- Tiles.cpp - the tile registers of one thread -----------------------===//
#include "lib/base/Amx/Tiles.h"

#include <bit>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <utility>

using namespace kvc::amx;

namespace {

/// Of a configuration in memory.
constexpr unsigned kBytesOf = 16, kRowsOf = 48, kConfiguration = 64;

uint32_t wordAt(const uint8_t *at) {
  uint32_t word;
  std::memcpy(&word, at, 4);
  return word;
}

/// One row of C += A * B in pairs of bf16, the manual's order: the even and the
/// odd elements are summed apart, and both sums are added before C is. No
/// inlining: the compiler does not know that MXCSR matters here.
[[gnu::noinline, gnu::target("avx2,fma")]] void
multiplyBF16(uint8_t *row, const uint8_t *a, const uint8_t (*b)[64],
             unsigned depth) {
  float even[16] = {}, odd[16] = {};
  for (unsigned k = 0; k < depth; ++k) {
    uint32_t pair = wordAt(a + 4 * k);
    float a0 = std::bit_cast<float>(pair << 16);
    float a1 = std::bit_cast<float>(pair & 0xffff0000);
    uint32_t pairs[16];
    std::memcpy(pairs, b[k], sizeof(pairs));
    for (unsigned n = 0; n < 16; ++n) {
      even[n] =
          __builtin_fmaf(a0, std::bit_cast<float>(pairs[n] << 16), even[n]);
      odd[n] = __builtin_fmaf(a1, std::bit_cast<float>(pairs[n] & 0xffff0000),
                              odd[n]);
    }
  }
  float c[16];
  std::memcpy(c, row, sizeof(c));
  for (unsigned n = 0; n < 16; ++n)
    c[n] += even[n] + odd[n];
  std::memcpy(row, c, sizeof(c));
}

/// The same in groups of four bytes; sums wrap around.
template <typename A, typename B>
void multiplyBytes(uint8_t *row, const uint8_t *a, const uint8_t (*b)[64],
                   unsigned depth) {
  uint32_t c[16];
  std::memcpy(c, row, sizeof(c));
  for (unsigned k = 0; k < depth; ++k)
    for (unsigned n = 0; n < 16; ++n)
      for (unsigned i = 0; i < 4; ++i)
        c[n] += uint32_t(A(a[4 * k + i]) * B(b[k][4 * n + i]));
  std::memcpy(row, c, sizeof(c));
}

} // namespace

void Tiles::find(const char *format, ...) {
  std::memset(data, 0xff, sizeof(data));
  if (std::exchange(found, true))
    return;
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof(text), format, arguments);
  va_end(arguments);
}

std::string_view Tiles::take() {
  return std::exchange(found, false) ? text : "";
}

void Tiles::release() {
  palette = 0;
  for (Shape &shape : shapes)
    shape = {};
  std::memset(data, 0, sizeof(data));
}

void Tiles::configure(const uint8_t *from) {
  release();
  if (from[0] == 0)
    return;
  if (from[0] != 1)
    return find("ldtilecfg: expected palette 0 or 1, found %u", from[0]);
  Shape next[8];
  for (unsigned i = 0; i < 8; ++i) {
    std::memcpy(&next[i].bytes, from + kBytesOf + 2 * i, 2);
    next[i].rows = from[kRowsOf + i];
    if (next[i].bytes > 64 || next[i].rows > 16)
      return find("ldtilecfg: tmm%u: expected at most 16 rows of 64 bytes, "
                  "found %u of %u",
                  i, next[i].rows, next[i].bytes);
    if (!next[i].bytes != !next[i].rows)
      return find("ldtilecfg: tmm%u: expected rows and bytes, or neither, "
                  "found %u rows of %u bytes",
                  i, next[i].rows, next[i].bytes);
  }
  // A CPU takes a first row for loads to go on with: no kernel wants that.
  for (unsigned i = 1; i < kConfiguration; ++i)
    if (from[i] &&
        (i < kBytesOf || (i >= kBytesOf + 16 && i < kRowsOf) || i >= 56))
      return find("ldtilecfg: expected 0 in byte %u, found %u", i, from[i]);
  palette = 1;
  std::memcpy(shapes, next, sizeof(shapes));
}

void Tiles::store(uint8_t *to) const {
  std::memset(to, 0, kConfiguration);
  to[0] = palette;
  for (unsigned i = 0; i < 8; ++i) {
    std::memcpy(to + kBytesOf + 2 * i, &shapes[i].bytes, 2);
    to[kRowsOf + i] = shapes[i].rows;
  }
}

bool Tiles::usable(const Instruction &in, unsigned tile) {
  const char *name = kNames[size_t(in.op)];
  if (!configured())
    find("%s: tmm%u: no tile is configured", name, tile);
  else if (!shapes[tile].rows)
    find("%s: tmm%u is not configured", name, tile);
  else if (shapes[tile].bytes % 4)
    find("%s: tmm%u: expected rows of a multiple of 4 bytes, found %u", name,
         tile, shapes[tile].bytes);
  else
    return true;
  return false;
}

size_t Tiles::move(const Instruction &in) {
  Tile &tile = data[in.tiles[0]];
  const Shape &shape = shapes[in.tiles[0]];
  if (in.op == Op::tilestored) {
    for (unsigned row = 0; row < shape.rows; ++row)
      std::memcpy(in.row(row), tile[row], shape.bytes);
  } else {
    std::memset(tile, 0, sizeof(tile));
    for (unsigned row = 0; row < shape.rows; ++row)
      std::memcpy(tile[row], in.row(row), shape.bytes);
  }
  return size_t(shape.rows) * shape.bytes;
}

void Tiles::multiply(const Instruction &in) {
  unsigned to = in.tiles[0], left = in.tiles[1], right = in.tiles[2];
  Shape c = shapes[to], a = shapes[left], b = shapes[right];
  if (to == left || to == right || left == right)
    return find("%s: expected three different tiles, found tmm%u, tmm%u, tmm%u",
                kNames[size_t(in.op)], to, left, right);
  if (c.rows != a.rows || c.bytes != b.bytes || a.bytes / 4 != b.rows)
    return find("%s: shapes do not fit: tmm%u has %u rows of %u bytes, tmm%u "
                "%u of %u, tmm%u %u of %u",
                kNames[size_t(in.op)], to, c.rows, c.bytes, left, a.rows,
                a.bytes, right, b.rows, b.bytes);
  auto *multiplyRow = in.op == Op::tdpbf16ps ? multiplyBF16
                      : in.op == Op::tdpbssd ? multiplyBytes<int8_t, int8_t>
                      : in.op == Op::tdpbsud ? multiplyBytes<int8_t, uint8_t>
                      : in.op == Op::tdpbusd ? multiplyBytes<uint8_t, int8_t>
                                             : multiplyBytes<uint8_t, uint8_t>;
  for (unsigned m = 0; m < c.rows; ++m) {
    multiplyRow(data[to][m], data[left][m], data[right], b.rows);
    std::memset(data[to][m] + c.bytes, 0, 64 - c.bytes);
  }
  std::memset(data[to] + c.rows, 0, (16 - c.rows) * 64);
}

size_t Tiles::execute(const Instruction &in) {
  switch (in.op) {
  case Op::ldtilecfg:
    configure(in.row(0));
    break;
  case Op::sttilecfg:
    store(in.row(0));
    break;
  case Op::tilerelease:
    release();
    break;
  case Op::tilezero:
    if (usable(in, in.tiles[0]))
      std::memset(data[in.tiles[0]], 0, sizeof(Tile));
    break;
  case Op::tileloadd:
  case Op::tileloaddt1:
  case Op::tilestored:
    return usable(in, in.tiles[0]) ? move(in) : 0;
  default:
    if (usable(in, in.tiles[0]) && usable(in, in.tiles[1]) &&
        usable(in, in.tiles[2]))
      multiply(in);
  }
  return 0;
}
