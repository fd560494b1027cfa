//===- Instructions.h - what each row of Ops.def does -----------*- C++ -*-===//
#ifndef KVC_LIB_SIMT_INSTRUCTIONS_H
#define KVC_LIB_SIMT_INSTRUCTIONS_H

#include "lib/Simt/Cta.h"

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
  float f32(unsigned i) const { return std::bit_cast<float>(u32(i)); }
  void result(uint32_t x, unsigned i = 0) { thread.abi.out[i] = x; }
  void result(float x, unsigned i = 0) {
    thread.abi.out[i] = std::bit_cast<uint32_t>(x);
  }

  template <unsigned Op> void one();
  template <unsigned Op> void warp(Thread *lanes);

  void loadShared(unsigned bytes, uint32_t address, unsigned words);
  void storeShared(unsigned bytes, uint32_t address, const uint32_t *words);
  void copyAsync(uint32_t bytes, uint32_t fromMemory, uint32_t toOffset,
                 uint32_t fromOffset);
  void loadMatrices(Thread *lanes, unsigned count, bool transposed,
                    unsigned addressOperand);
  template <typename Convert> void multiply(Thread *lanes, Convert convert);
};

} // namespace kvc::simt

#endif // KVC_LIB_SIMT_INSTRUCTIONS_H
