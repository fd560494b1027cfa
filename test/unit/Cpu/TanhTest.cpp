//===- TanhTest.cpp - what CPU kernels take for tanh ----------------------===//
#include "codegen/cpu/Backend.h"
#include "codegen/cpu/Kit.h"
#include "lib/base/Artifact/ElfImage.h"

#include "mlir/Dialect/ControlFlow/IR/ControlFlow.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "llvm/IR/LLVMContext.h"
#include "llvm/IR/Module.h"

#include "gtest/gtest.h"

#include <bit>
#include <cmath>

using namespace kvc;
using namespace kvc::cpu;

namespace {

/// A kernel that replaces `count` f32, a multiple of 16, by their tanh.
std::unique_ptr<artifact::ElfImage> tanhKernel(const CpuTarget &target) {
  mlir::MLIRContext context(mlir::MLIRContext::Threading::DISABLED);
  context.loadDialect<mlir::arith::ArithDialect, mlir::func::FuncDialect,
                      mlir::LLVM::LLVMDialect, mlir::math::MathDialect,
                      mlir::scf::SCFDialect, mlir::vector::VectorDialect,
                      mlir::cf::ControlFlowDialect>();
  mlir::OpBuilder b(&context);
  mlir::Location loc = b.getUnknownLoc();
  mlir::OwningOpRef<mlir::ModuleOp> module = mlir::ModuleOp::create(loc);
  b.setInsertionPointToEnd(module->getBody());
  Kit kit(b, loc, target.lanes);
  auto function = mlir::func::FuncOp::create(
      b, loc, "k", b.getFunctionType({kit.ptr(), b.getI64Type()}, {}));
  b.setInsertionPointToStart(function.addEntryBlock());
  kit.loop(kit.i64(0), function.getArgument(1), target.lanes,
           [&](mlir::Value index) {
             mlir::Value at =
                 kit.at(function.getArgument(0), kit.mul(index, 4));
             kit.store(kit.tanh(kit.load(kit.vec(target.lanes), at)), at);
           });
  mlir::func::ReturnOp::create(b, loc);
  llvm::LLVMContext llvmContext;
  std::string error = "lowering failed";
  std::vector<uint8_t> object;
  if (succeeded(lowerCpuToLlvm(*module)))
    if (auto code = emitLlvm(*module, target, llvmContext))
      object = emitObject(*code, target, error);
  auto image = artifact::ElfImage::load(object, error);
  EXPECT_TRUE(image) << error;
  return image;
}

/// Every exponent and sign, and of its significands every 2^11th or so.
std::vector<uint32_t> manyFloats() {
  std::vector<uint32_t> all;
  for (uint32_t bits = 0; bits < 0x80000000; bits += 0x7ff)
    for (uint32_t sign : {0u, 0x80000000u})
      all.push_back(bits | sign);
  all.resize(all.size() / 16 * 16);
  return all;
}

// As a softcap needs it: logits far below the cap must keep their digits.
TEST(CpuKit, TanhKeepsItsDigits) {
  for (const CpuTarget &target : cpuTargets()) {
    if (!missingFeatures(target).empty() || !target.matrix.empty())
      continue;
    SCOPED_TRACE(target.name);
    auto image = tanhKernel(target);
    ASSERT_TRUE(image);
    std::vector<uint32_t> given = manyFloats(), memory = given;
    reinterpret_cast<void (*)(uint32_t *, int64_t)>(image->symbol("k"))(
        memory.data(), int64_t(memory.size()));
    for (size_t i = 0; i < memory.size(); ++i) {
      float x = std::bit_cast<float>(given[i]);
      float found = std::bit_cast<float>(memory[i]);
      double expected = std::tanh(double(x));
      if (std::isnan(x)) {
        ASSERT_TRUE(std::isnan(found)) << given[i];
        continue;
      }
      ASSERT_NEAR(found, expected, 0x1p-21 * std::fabs(expected)) << given[i];
      ASSERT_EQ(std::signbit(found), std::signbit(x)) << given[i];
    }
  }
}

} // namespace
