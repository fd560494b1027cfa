//===- Codecs.h - what the codec tests share --------------------*- C++ -*-===//
#ifndef KVC_TEST_UNIT_DIALECT_CODECS_H
#define KVC_TEST_UNIT_DIALECT_CODECS_H

#include "dialect/KvcDialect.h"

#include "llvm/ADT/APFloat.h"
#include "gtest/gtest.h"

#include <bit>
#include <vector>

namespace kvc {

class CodecTest : public testing::Test {
protected:
  CodecTest() { context.loadDialect<KvcDialect>(); }
  CodecAttrInterface floatCodec(mlir::Type type) {
    return FloatCodecAttr::get(&context, type);
  }
  mlir::Type f32() { return mlir::Float32Type::get(&context); }
  mlir::Type f16() { return mlir::Float16Type::get(&context); }
  mlir::Type bf16() { return mlir::BFloat16Type::get(&context); }

  mlir::MLIRContext context;
};

/// LLVM's software floats: nothing in common with the code under test.
inline uint16_t narrow(float x, const llvm::fltSemantics &semantics) {
  llvm::APFloat value(x);
  bool exact;
  value.convert(semantics, llvm::APFloat::rmNearestTiesToEven, &exact);
  return uint16_t(value.bitcastToAPInt().getZExtValue());
}

inline float widen(uint16_t bits, const llvm::fltSemantics &semantics) {
  llvm::APFloat value(semantics, llvm::APInt(16, bits));
  bool exact;
  value.convert(llvm::APFloat::IEEEsingle(), llvm::APFloat::rmNearestTiesToEven,
                &exact);
  return std::bit_cast<float>(uint32_t(value.bitcastToAPInt().getZExtValue()));
}

} // namespace kvc

#endif // KVC_TEST_UNIT_DIALECT_CODECS_H
