//===- KernelFixture.cpp - stores compiled for the emulator ---------------===//
#include "test/unit/Nvptx/KernelFixture.h"

#include "codegen/cpu/Backend.h"
#include "dialect/codecs/HostFloat.h"
#include "lib/base/Simt/Machine.h"
#include "lib/driver/Import/SpecToKvc.h"
#include "passes/Pipeline.h"

#include "mlir/Dialect/ControlFlow/IR/ControlFlow.h"
#include "mlir/IR/Verifier.h"
#include "llvm/IR/LLVMContext.h"
#include "llvm/IR/Module.h"

#include <bit>
#include <cstring>

using namespace mlir;
using namespace kvc;
using namespace kvc::nvptx;

//===----------------------------------------------------------------------===//
// Data
//===----------------------------------------------------------------------===//

float kvc::nvptx::storeRounded(uint8_t *to, spec::DType type, float x) {
  if (type == spec::DType::F32) {
    memcpy(to, &x, 4);
    return x;
  }
  uint16_t half = type == spec::DType::F16 ? toF16(x) : toBF16(x);
  memcpy(to, &half, 2);
  return loadWide(to, type);
}

float kvc::nvptx::loadWide(const uint8_t *from, spec::DType type) {
  if (type == spec::DType::F32) {
    float x;
    memcpy(&x, from, 4);
    return x;
  }
  uint16_t half;
  memcpy(&half, from, 2);
  return type == spec::DType::F16 ? fromF16(half) : fromBF16(half);
}

static spec::Codec randomCodec(Random &random) {
  using spec::DType;
  switch (random.pick(0, 4)) {
  case 0:
    return spec::FloatCodec{DType::F32};
  case 1:
    return spec::FloatCodec{DType::F16};
  case 2:
    return spec::FloatCodec{DType::BF16};
  case 3:
    return spec::IntCodec{8, spec::ParameterType::F16};
  default:
    return spec::IntCodec{8, spec::ParameterType::F32};
  }
}

spec::Spec kvc::nvptx::randomSpec(Random &random) {
  using spec::DType;
  spec::Spec spec;
  spec.name = spec.file = "random";
  spec::Model &model = spec.model;
  model.layers = 1, model.kvHeads = random.pick(1, 4);
  model.qHeads = model.kvHeads * random.pick(1, 5);
  auto dim = [&] { return 8 * random.pick(1, random.pick(0, 1) ? 72 : 16); };
  model.headDimK = dim(), model.headDimV = dim();
  DType types[] = {DType::F32, DType::F16, DType::BF16};
  model.dtype = types[random.pick(0, 2)];
  model.softmaxScale = 0.125;
  spec::Store store;
  store.name = "s";
  store.scope.layers = {0};
  store.scope.headBegin = random.pick(0, model.kvHeads - 1);
  store.scope.headEnd = random.pick(store.scope.headBegin + 1, model.kvHeads);
  store.k.dim = model.headDimK, store.k.codec = randomCodec(random);
  store.v.dim = model.headDimV, store.v.codec = randomCodec(random);
  store.layout.paged = random.pick(0, 2);
  store.layout.page = random.pick(1, 20);
  store.layout.order =
      random.pick(0, 1) ? spec::PageOrder::HND : spec::PageOrder::NHD;
  if (random.pick(0, 1))
    store.read.window = spec::Read::Window{unsigned(random.pick(0, 100)),
                                           unsigned(random.pick(1, 300))};
  spec.stores = {store};
  return spec;
}

//===----------------------------------------------------------------------===//
// Kernels
//===----------------------------------------------------------------------===//

OwningOpRef<ModuleOp> kvc::nvptx::planned(MLIRContext &context,
                                          const spec::Spec &spec,
                                          std::vector<std::string> overrides,
                                          const SmTarget &sm) {
  DialectRegistry registry;
  registerScheduler(registry);
  context.appendDialectRegistry(registry);
  context.loadDialect<KvcDialect, tile::TileDialect>();
  OwningOpRef<ModuleOp> module = importSpec(context, spec);
  (*module)->setAttr("kvc.target", targetAttr(&context, sm));
  PassManager pm(&context);
  buildTilePipeline(pm, overrides);
  if (failed(pm.run(*module)))
    llvm::report_fatal_error("planning failed");
  return module;
}

Compiled::Compiled(const spec::Spec &spec, std::vector<std::string> overrides,
                   Attends attends, const SmTarget &sm)
    : context(MLIRContext::Threading::DISABLED), sm(sm) {
  module = planned(context, spec, overrides, sm);
  for (StoreOp store : module->getOps<StoreOp>())
    type = cast<CacheType>(store.getCache());
  SmallVector<std::string> symbols;
  for (auto op : llvm::make_early_inc_range(module->getOps<tile::KernelOp>()))
    if (op.getKind() == "attend") {
      symbols.push_back(symbolName(op.getSymName()));
      if (attends == Attends::Dropped)
        op.erase();
    }
  bool ok = succeeded(lowerTileToGpu(*module, sm, launches));
  for (const std::string &symbol : symbols)
    if (auto function = module->lookupSymbol<LLVM::LLVMFuncOp>(symbol))
      function.erase();
  if (!ok || failed(verify(*module)) || failed(verifyUniform(*module)) ||
      failed(lowerGpuToLlvm(*module)))
    llvm::report_fatal_error("lowering failed");
}

void Compiled::emulate() {
  // From here on the module is the emulator's.
  std::string error = "lowering failed";
  std::vector<uint8_t> object;
  llvm::LLVMContext llvmContext;
  auto cpu = cpu::findCpuTarget("x86-64-v3");
  if (succeeded(lowerGpuToSim(*module, sites)))
    if (auto code = cpu::emitLlvm(*module, *cpu, llvmContext))
      object = cpu::emitObject(*code, *cpu, error);
  image = artifact::ElfImage::load(object, error);
  if (!image)
    llvm::report_fatal_error(error.c_str());
}

void Compiled::run(const std::string &kernel, const KernelWords &words,
                   int64_t ctas, const Memory &memory) {
  if (!image)
    emulate();
  if (ctas == 0)
    return;
  simt::Machine machine(++runs);
  for (const Memory::Range &range : memory.ranges)
    machine.allow(range.base, range.bytes, range.writable);
  simt::Launch launch;
  launch.kernel =
      reinterpret_cast<simt::Kernel>(image->symbol(symbolName(kernel)));
  launch.grid = uint32_t(ctas);
  launch.threads = uint32_t(launches[kernel].threads);
  launch.shared = size_t(launches[kernel].shared);
  std::vector<uint64_t> block = words.block(launches[kernel].params);
  launch.params = block.data();
  launch.sites = sites;
  launch.name = kernel;
  std::string finding;
  ASSERT_TRUE(machine.launch(launch, finding)) << finding;
}

void Compiled::expectAssembles(ArrayRef<std::string> kernels) {
  std::string error;
  std::string ptx = emitPtx(*module, sm, launches);
  std::optional<Cubin> cubin = assemble(ptx, sm, error);
  ASSERT_TRUE(cubin) << error;
  // What lanes hold together they load and store together.
  for (const char *slow : {"ld.global.b8", "ld.global.nc.b8", "st.global.b8"})
    EXPECT_EQ(ptx.find(slow), std::string::npos) << slow;
  for (const std::string &kernel : kernels) {
    SCOPED_TRACE(kernel);
    auto report = cubin->kernels.find(symbolName(kernel));
    ASSERT_NE(report, cubin->kernels.end());
    EXPECT_EQ(report->second.spillStores, 0u);
    EXPECT_EQ(report->second.spillLoads, 0u);
    EXPECT_EQ(report->second.stack, 0u);
    EXPECT_GT(report->second.registers, 0u);
  }
}
