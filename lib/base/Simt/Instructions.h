//===- Instructions.h - what each row of Ops.def does -----------*- C++ -*-===//
#ifndef KVC_LIB_BASE_SIMT_INSTRUCTIONS_H
#define KVC_LIB_BASE_SIMT_INSTRUCTIONS_H

#include "lib/base/Simt/Cta.h"

#include <bit>

namespace kvc::simt {

/// Executes instructions of one thread, or of a warp at its last lane's
/// arrival. Every row of Ops.def has a function of its name here.
struct Instructions {
  Cta &cta;
  Thread &thread;

  /// The instruction that `thread` has come to.
  void execute();
  /// The collective that all `lanes` (32 threads) wait in.
  void executeWarp(Thread *lanes);

  uint32_t u32(unsigned i) const { return uint32_t(thread.abi.in[i]); }
  uint64_t u64(unsigned i) const { return thread.abi.in[i]; }
  float f32(unsigned i) const { return std::bit_cast<float>(u32(i)); }
  void result(uint32_t x, unsigned i = 0) { thread.abi.out[i] = x; }
  void result(float x, unsigned i = 0) {
    thread.abi.out[i] = std::bit_cast<uint32_t>(x);
  }

  template <unsigned Op> void one();
  template <unsigned Op> void warp(Thread *lanes);

  void loadShared(uint32_t bytes, unsigned words);
  void storeShared(uint32_t bytes, unsigned words);
  void copyBulk();
  void copyAsync(uint32_t bytes, uint32_t fromMemory, unsigned offsets);
  void loadMatrices(Thread *lanes, unsigned count, bool transposed);
  template <typename Convert> void multiply(Thread *lanes, Convert convert);
  template <typename B> void multiplyBytes(Thread *lanes);
};

/// As an offset; an address below the first byte becomes one that is refused.
inline uint32_t offsetOf(uint32_t address) { return address - kSharedBase; }

/// NaN becomes 0x7fff; rounds to nearest even.
uint16_t toF16(float x);
uint16_t toBF16(float x);
float fromF16(uint16_t bits);
inline float fromBF16(uint16_t bits) {
  return std::bit_cast<float>(uint32_t(bits) << 16);
}

} // namespace kvc::simt

// Heads of the functions of rows: of one thread, of a warp.
#define KVC_SIMT_ONE(NAME)                                                     \
  template <> void kvc::simt::Instructions::one<KVC_OP_##NAME>()
#define KVC_SIMT_WARP(NAME)                                                    \
  template <>                                                                  \
  void kvc::simt::Instructions::warp<KVC_OP_##NAME>([[maybe_unused]] Thread *  \
                                                    lanes)

#endif // KVC_LIB_BASE_SIMT_INSTRUCTIONS_H
