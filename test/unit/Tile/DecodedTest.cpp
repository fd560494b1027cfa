//===- DecodedTest.cpp - operands and scores made in any way, run ---------===//
//
// The kernels of test/codegen/nvptx/decoded-kernels.mlir, on ragged
// batches over scattered pages: on the emulated GPU and op by op on the CPU,
// against the tile interpreter. tile-random draws such kernels from fewer
// parts.
//
//===----------------------------------------------------------------------===//
#include "lib/driver/Reference/TileInterpreter.h"
#include "test/support/Files.h"
#include "test/unit/Tile/Executors.h"
#include "test/unit/Tile/KernelModule.h"

#include "mlir/Dialect/ControlFlow/IR/ControlFlow.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Parser/Parser.h"

#include "gtest/gtest.h"

#include <cmath>

using namespace kvc;
using namespace kvc::fuzz;
using reference::AttendResult;

namespace {

class Decoded : public testing::Test {
protected:
  Decoded() {
    context
        .loadDialect<KvcDialect, tile::TileDialect, mlir::arith::ArithDialect,
                     mlir::cf::ControlFlowDialect, mlir::func::FuncDialect,
                     mlir::LLVM::LLVMDialect, mlir::math::MathDialect,
                     mlir::scf::SCFDialect, mlir::vector::VectorDialect>();
    mlir::DialectRegistry registry;
    cpu::registerScheduler(registry);
    nvptx::registerScheduler(registry);
    context.appendDialectRegistry(registry);
    context.getDiagEngine().registerHandler([&](mlir::Diagnostic &diagnostic) {
      said += diagnostic.str() + "\n";
      return mlir::success();
    });
  }

  void run(mlir::ModuleOp written, uint64_t trial);
  void runOnGpu(const fuzz::Kernel &kernel, mlir::ModuleOp module,
                const AttendInputs &inputs);
  void runOnCpu(const fuzz::Kernel &kernel, mlir::ModuleOp module,
                const AttendInputs &inputs);

  mlir::MLIRContext context{mlir::MLIRContext::Threading::DISABLED};
  std::string said;
};

/// What the inputs of a kernel depend on.
fuzz::Kernel describe(mlir::ModuleOp module, uint64_t trial) {
  tile::KernelOp op = kernelOf(module);
  StoreOp store = storeOf(module);
  auto cache = mlir::cast<CacheType>(store.getCache());
  fuzz::Kernel kernel;
  kernel.isWritten = true;
  kernel.index = trial;
  kernel.dtype = 'f';
  kernel.heads = cache.getHeads();
  kernel.firstHead = store.getHeadBegin();
  kernel.group = store.getGroup();
  kernel.kvHeads = store.getQHeads() / kernel.group;
  kernel.page = cache.layout().getPageTokens();
  for (auto query : op.getBody().getOps<tile::LoadQueryOp>())
    kernel.dims[0] = mlir::cast<mlir::RankedTensorType>(query.getQ().getType())
                         .getDimSize(1);
  for (auto partial : op.getBody().getOps<tile::StorePartialOp>())
    kernel.dims[1] = partial.getState().getType().getDim();
  return kernel;
}

AttendResult interpret(mlir::ModuleOp module, const AttendInputs &inputs) {
  mlir::FailureOr<reference::TileAttended> result =
      reference::TileInterpreter(kernelOf(module))
          .attend(inputs.q.view(), inputs.arena->cache(), inputs.batch());
  if (failed(result)) {
    ADD_FAILURE() << "the interpreter fails";
    return {};
  }
  return result->combined ? *result->combined
                          : reference::merge(result->o, result->lse);
}

void expectSame(const AttendResult &got, const AttendResult &want,
                const std::string &where) {
  ASSERT_EQ(got.o.data.size(), want.o.data.size()) << where;
  double worst = 0;
  for (auto [x, y] : llvm::zip_equal(got.o.data, want.o.data))
    if (!(std::isnan(x) && std::isnan(y)) && x != y)
      worst = std::max(worst, std::isnan(x - y)
                                  ? double(INFINITY)
                                  : std::fabs(x - y) / (1 + std::fabs(y)));
  EXPECT_LT(worst, 1e-3) << where;
}

} // namespace

void Decoded::runOnGpu(const fuzz::Kernel &kernel, mlir::ModuleOp module,
                       const AttendInputs &inputs) {
  nvptx::SmTarget target = *nvptx::findSmTarget("sm_90");
  module->setAttr("kvc.target", nvptx::targetAttr(&context, target));
  AttendResult want = interpret(module, inputs);
  auto gpu = makeGpuExecutor(kernel, module, target);
  ASSERT_TRUE(gpu->accepted()) << gpu->refusal << gpu->fault;
  AttendResult got = gpu->attend(inputs);
  EXPECT_EQ(gpu->fault, "");
  expectSame(got, want, "GPU");
}

void Decoded::runOnCpu(const fuzz::Kernel &kernel, mlir::ModuleOp module,
                       const AttendInputs &inputs) {
  cpu::CpuTarget target = *cpu::findCpuTarget("x86-64-v3");
  module->setAttr("kvc.target", cpu::targetAttr(&context, target));
  tile::KernelOp op = kernelOf(module);
  for (auto partial : op.getBody().getOps<tile::StorePartialOp>()) {
    partial.getLast().dropAllReferences();
    partial.getLast().getBlocks().clear();
  }
  auto warp = mlir::cast<WarpScheduleAttr>(*op.getSchedule()).getValue();
  op.setScheduleAttr(CoreScheduleAttr::get(
      &context,
      {.tokens = warp.tokens, .queries = warp.queries, .split = warp.split}));
  AttendResult want = interpret(module, inputs);
  auto cpu = makeCpuExecutor(kernel, module, target);
  ASSERT_TRUE(cpu->accepted()) << cpu->refusal << cpu->fault;
  AttendResult got = cpu->attend(inputs);
  EXPECT_EQ(cpu->fault, "");
  expectSame(reference::merge(got.o, got.lse), want, "CPU");
}

void Decoded::run(mlir::ModuleOp written, uint64_t trial) {
  fuzz::Kernel kernel = describe(written, trial);
  auto cache = mlir::cast<CacheType>(storeOf(written).getCache());
  AttendInputs inputs(kernel, cache, {*kernelOf(written).getSchedule()});
  mlir::OwningOpRef<mlir::ModuleOp> forGpu = written.clone();
  runOnGpu(kernel, *forGpu, inputs);
  mlir::OwningOpRef<mlir::ModuleOp> forCpu = written.clone();
  runOnCpu(kernel, *forCpu, inputs);
}

TEST_F(Decoded, AsTheInterpreter) {
  std::string text =
      test::readFile(KVC_SOURCE_DIR "/test/codegen/nvptx/decoded-kernels.mlir");
  llvm::SmallVector<llvm::StringRef> parts;
  llvm::StringRef(text).split(parts, "// -----");
  EXPECT_GE(parts.size(), 10u);
  for (llvm::StringRef part : parts)
    for (uint64_t trial = 0; trial < 3; ++trial) {
      SCOPED_TRACE(part.trim().str());
      SCOPED_TRACE(trial);
      said.clear();
      auto module = mlir::parseSourceString<mlir::ModuleOp>(part, &context);
      ASSERT_TRUE(module) << said;
      run(*module, trial);
    }
}
