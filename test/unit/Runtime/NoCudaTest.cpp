//===- NoCudaTest.cpp - machines without a driver, or with an old one -----===//
//
// The driver is opened once per process: ctest runs this once for each, with
// the text to expect in KVC_TEST_CUDA_ERROR.
//
//===----------------------------------------------------------------------===//
#include "runtime/include/kvc/runtime.h"
#include "test/unit/Runtime/FakeCuda.h"

#include <cstdlib>
#include <gtest/gtest.h>

TEST(NoCuda, IsAnErrorThatSaysWhy) {
  const char *expected = std::getenv("KVC_TEST_CUDA_ERROR");
  if (!expected)
    GTEST_SKIP() << "ctest says which driver there is";
  if (!kvc::test::fakeCuda() && dlopen("libcuda.so.1", RTLD_NOW))
    GTEST_SKIP() << "this machine has a driver";
  kvc_device *device = nullptr;
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(kvc_device_create_cuda(nullptr, &device).code, KVC_DEVICE_ERROR);
    EXPECT_STREQ(kvc_error_text(), expected);
    EXPECT_EQ(device, nullptr);
  }
}
