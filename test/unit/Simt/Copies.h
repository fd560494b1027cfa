//===- Copies.h - what tests of copies share --------------------*- C++ -*-===//
#ifndef KVC_TEST_UNIT_SIMT_COPIES_H
#define KVC_TEST_UNIT_SIMT_COPIES_H

#include "test/unit/Simt/Fixture.h"

namespace kvc::simt {

/// What is copied, and what came of it.
struct Data {
  alignas(16) uint32_t from[256];
  uint32_t out[256] = {};

  Data() {
    for (unsigned i = 0; i < 256; ++i)
      from[i] = 0x01010101 * (i + 1 & 0x7f);
  }
};

class CopyTest : public SimtTest {
protected:
  std::string runData(void (*kernel)(Gpu, Data &), uint32_t threads = 32) {
    return run<Data>(kernel, data, threads);
  }
  Data data;
};

} // namespace kvc::simt

#endif // KVC_TEST_UNIT_SIMT_COPIES_H
