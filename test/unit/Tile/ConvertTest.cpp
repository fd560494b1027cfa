//===- ConvertTest.cpp - the orders in which codes are converted ----------===//
#include "codegen/Convert.h"

#include "gtest/gtest.h"

using namespace mlir;
using namespace kvc;

namespace {

TEST(Convert, ChannelOrdersArePermutations) {
  MLIRContext context;
  Builder b(&context);
  SmallVector<Type> codes{b.getF32Type(),
                          b.getF16Type(),
                          b.getBF16Type(),
                          b.getType<Float8E4M3FNType>(),
                          b.getType<Float8E5M2Type>(),
                          b.getType<Float8E8M0FNUType>(),
                          b.getType<Float4E2M1FNType>()};
  for (unsigned bits = 1; bits <= 8; ++bits)
    codes.push_back(b.getIntegerType(bits));
  for (Type code : codes)
    for (int64_t lanes : {8, 16}) {
      CodeConversion conversion{code, lanes};
      int64_t preferred = conversion.preferredChannels();
      EXPECT_EQ(preferred % lanes, 0);
      for (int64_t channels : {lanes, preferred}) {
        auto order = conversion.channelOrder(channels);
        llvm::sort(order);
        EXPECT_EQ(order, llvm::to_vector(llvm::seq<int64_t>(0, channels)));
      }
    }
}

} // namespace
