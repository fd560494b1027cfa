//===- OpMutationTest.cpp - no op of a kernel may be ignored --------------===//
//
// Every op of every kernel is changed, one change at a time (OpMutations.h).
// Then the verifier or the backend refuses the kernel, or the code is another
// and so is the result, as the tile interpreter has it.
//
//===----------------------------------------------------------------------===//
#include "codegen/cpu/Backend.h"
#include "codegen/nvptx/Backend.h"
#include "lib/base/Spec/Fields.h"
#include "lib/driver/Import/SpecToKvc.h"
#include "lib/driver/Reference/TileInterpreter.h"
#include "passes/Pipeline.h"
#include "test/unit/Tile/OpMutations.h"

#include "mlir/Dialect/ControlFlow/IR/ControlFlow.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/Verifier.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/PassManager.h"
#include "llvm/Support/FormatVariadic.h"
#include "gmock/gmock.h"

#include <functional>
#include <numeric>
#include <random>

using namespace mlir;
using namespace kvc;
using namespace kvc::test;

namespace {

/// A backend, and what it makes of a module; nullopt: it refused.
struct Target {
  std::string name;
  std::function<TargetAttr(MLIRContext *)> facts;
  std::function<LogicalResult(ModuleOp)> lower;
};

Target cpuTarget(const char *name) {
  auto target = cpu::findCpuTarget(name);
  return {
      name,
      [=](MLIRContext *context) { return cpu::targetAttr(context, *target); },
      [=](ModuleOp module) {
        cpu::KernelNeedsMap needs;
        return cpu::lowerTileToCpu(module, *target, needs);
      }};
}

Target gpuTarget(const char *name) {
  auto target = nvptx::findSmTarget(name);
  return {
      name,
      [=](MLIRContext *context) { return nvptx::targetAttr(context, *target); },
      [=](ModuleOp module) {
        nvptx::LaunchInfos launch;
        return nvptx::lowerTileToGpu(module, *target, launch);
      }};
}

spec::Spec specOf(spec::DType dtype, spec::Codec k, spec::Codec v,
                  unsigned dimV, std::optional<double> softcap, bool window) {
  spec::Spec spec;
  spec.name = spec.file = "mutated";
  spec.model.layers = 1, spec.model.qHeads = 8, spec.model.kvHeads = 2;
  spec.model.headDimK = 64, spec.model.headDimV = dimV;
  spec.model.dtype = dtype, spec.model.softmaxScale = 0.125;
  spec.model.logitSoftcap = softcap;
  spec::Store store;
  store.name = "s";
  store.scope.layers = {0}, store.scope.headEnd = 2;
  store.k.dim = 64, store.k.codec = k;
  store.v.dim = dimV, store.v.codec = v;
  if (window)
    store.read.window = spec::Read::Window{4, 60};
  spec.stores = {store};
  return spec;
}

/// `spec` with what becomes of a score, which tokens are seen, and a sink.
spec::Spec withAttend(spec::Spec spec, const char *logits, const char *visible,
                      const char *sink) {
  spec::Attend &attend = spec.stores[0].attend;
  auto read = [&](const char *text, spec::ExprType type) {
    Diagnostics diagnostics;
    std::string json = llvm::formatv("[\"{0}\"]", text);
    auto document = spec::Document::parse(json, "mutated", diagnostics);
    spec::Context context(*document, diagnostics);
    spec::ExprScope scope{type == spec::ExprType::Float, /*positions=*/true,
                          spec.model.qHeads, spec.model.kvHeads,
                          attend.constants};
    auto expr =
        readExpr(context, *document->root().children.front(), scope, type);
    EXPECT_TRUE(expr) << text;
    return expr;
  };
  attend.logits = read(logits, spec::ExprType::Float);
  attend.visible = read(visible, spec::ExprType::Bool);
  attend.sink = read(sink, spec::ExprType::Float);
  return spec;
}

/// A sequence of 150 tokens in a cache of page 16, its last 3 with queries;
/// what kernels of its store give, as numbers.
class Sequence {
public:
  explicit Sequence(StoreOp store)
      : store(store), cache(cast<CacheType>(store.getCache())),
        arena(cache, 10) {
    int64_t kvHeads = store.getQHeads() / store.getGroup();
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    auto draw = [&](std::vector<float> &data, int64_t count) {
      data.resize(count);
      for (float &x : data)
        x = normal(random);
    };
    draw(k, kTokens * kvHeads * cache.getDimK());
    draw(v, kTokens * kvHeads * cache.getDimV());
    draw(q, kQueries * store.getQHeads() * cache.getDimK());
    slots.resize(kTokens);
    std::iota(slots.begin(), slots.end(), 0);
    std::iota(std::begin(table), std::end(table), 0);
    llvm::cantFail(reference::append(store.getHeadBegin(), rowsOf(k, kvHeads),
                                     rowsOf(v, kvHeads), slots, arena.cache()));
    partialO = reference::Tensor({3, kQueries, 8, cache.getDimV()}, 0);
    partialLse = reference::Tensor({3, kQueries, 8}, 0);
    for (auto *partial : {&partialO, &partialLse})
      for (double &x : partial->data)
        x = normal(random);
  }

  std::vector<double> run(tile::KernelOp kernel) {
    reference::TileInterpreter interpreter(kernel);
    if (kernel.getKind() == "gather")
      return gather(interpreter);
    if (kernel.getKind() == "append") {
      int64_t kvHeads = store.getQHeads() / store.getGroup();
      reference::HostArena to(cache, 10);
      EXPECT_TRUE(succeeded(interpreter.append(
          rowsOf(k, kvHeads), rowsOf(v, kvHeads), slots, to.cache())));
      return {to.bytes().begin(), to.bytes().end()};
    }
    reference::HostBatch batch{kCuQ, kLengths, table, 10};
    std::vector<double> numbers;
    auto add = [&](const reference::AttendResult &result) {
      llvm::append_range(numbers, result.o.data);
      llvm::append_range(numbers, result.lse.data);
    };
    if (kernel.getKind() == "merge") {
      auto result = interpreter.merge(partialO, partialLse);
      EXPECT_TRUE(succeeded(result));
      if (succeeded(result))
        add(*result);
      return numbers;
    }
    auto result =
        interpreter.attend(rowsOf(q, store.getQHeads()), arena.cache(), batch);
    EXPECT_TRUE(succeeded(result));
    if (succeeded(result))
      add(*result);
    if (succeeded(result) && result->combined)
      add(*result->combined);
    return numbers;
  }

private:
  std::vector<double> gather(const reference::TileInterpreter &interpreter) {
    auto rows = interpreter.gather(slots, arena.cache());
    EXPECT_TRUE(succeeded(rows));
    if (failed(rows))
      return {};
    std::vector<double> numbers = std::move(rows->k.data);
    llvm::append_range(numbers, rows->v.data);
    return numbers;
  }

  static constexpr int64_t kTokens = 150, kQueries = 3;
  static constexpr int32_t kCuQ[] = {0, kQueries}, kLengths[] = {kTokens};

  reference::Rows rowsOf(const std::vector<float> &data, int64_t heads) const {
    int64_t rows = &data == &q ? kQueries : kTokens;
    return {data, rows, heads, int64_t(data.size()) / (rows * heads)};
  }

  StoreOp store;
  CacheType cache;
  reference::HostArena arena;
  std::vector<float> k, v, q;
  std::vector<int64_t> slots;
  int32_t table[10];
  reference::Tensor partialO, partialLse;
};

/// Whether they are further apart than orders of summation are.
bool differ(const std::vector<double> &a, const std::vector<double> &b) {
  if (a.size() != b.size())
    return true;
  for (auto [x, y] : llvm::zip(a, b))
    if (!(x == y) && !(std::fabs(x - y) <= 1e-9))
      return true;
  return false;
}

class OpMutation : public testing::Test {
protected:
  OpMutation() : context(MLIRContext::Threading::DISABLED) {
    DialectRegistry registry;
    cpu::registerScheduler(registry);
    nvptx::registerScheduler(registry);
    context.appendDialectRegistry(registry);
    context.loadDialect<KvcDialect, tile::TileDialect, arith::ArithDialect,
                        cf::ControlFlowDialect, func::FuncDialect,
                        LLVM::LLVMDialect, math::MathDialect, scf::SCFDialect,
                        vector::VectorDialect>();
    context.getDiagEngine().registerHandler([&](mlir::Diagnostic &diagnostic) {
      errors += diagnostic.getSeverity() == DiagnosticSeverity::Error;
    });
  }

  OwningOpRef<ModuleOp> tileModule(const spec::Spec &spec,
                                   const Target &target) {
    OwningOpRef<ModuleOp> module = importSpec(context, spec);
    (*module)->setAttr("kvc.target", target.facts(&context));
    PassManager pm(&context);
    buildTilePipeline(pm, {});
    EXPECT_TRUE(succeeded(pm.run(*module)));
    return module;
  }

  /// The code of a module; "" if the verifier or the backend refuses it, which
  /// must say why.
  std::string codeOf(ModuleOp module, const Target &target) {
    size_t before = errors;
    if (succeeded(verify(module)) && succeeded(target.lower(module))) {
      std::string text;
      llvm::raw_string_ostream(text) << module;
      return text;
    }
    EXPECT_GT(errors, before) << "refused without a word";
    return "";
  }

  /// The kernel of this name alone, with its store, in a copy of `module`.
  static tile::KernelOp alone(ModuleOp module, StringRef name) {
    tile::KernelOp wanted;
    for (auto kernel :
         llvm::make_early_inc_range(module.getOps<tile::KernelOp>()))
      if (kernel.getSymName() == name)
        wanted = kernel;
      else
        kernel.erase();
    return wanted;
  }

  static Operation *opAt(tile::KernelOp kernel, size_t place) {
    Operation *found = nullptr;
    kernel.getBody().walk([&](Operation *op) {
      if (!place--)
        found = op;
    });
    return found;
  }

  void mutateAll(const spec::Spec &spec, const Target &target) {
    OwningOpRef<ModuleOp> original = tileModule(spec, target);
    for (auto kernel : original->getOps<tile::KernelOp>()) {
      mutateKernel(*original, kernel.getSymName(), target);
      turn += kernel.getKind() == "attend";
    }
  }

  void mutateKernel(ModuleOp original, StringRef name, const Target &target);

  MLIRContext context;
  size_t errors = 0, refused = 0, changed = 0;
  size_t turn = 0; ///< of a kernel that attends, over targets
};

void OpMutation::mutateKernel(ModuleOp original, StringRef name,
                              const Target &target) {
  OwningOpRef<ModuleOp> copy(original.clone());
  alone(*copy, name);
  std::string code = codeOf(*copy, target);
  ASSERT_FALSE(code.empty()) << name.str();
  OwningOpRef<ModuleOp> pattern(original.clone());
  tile::KernelOp kernel = alone(*pattern, name);
  Sequence sequence(*pattern->getOps<StoreOp>().begin());
  std::vector<double> result = sequence.run(kernel);
  ASSERT_FALSE(result.empty());
  size_t ops = 0;
  kernel.getBody().walk([&](Operation *) { ++ops; });
  size_t ofScores = 0;
  for (size_t place = 0; place < ops; ++place)
    for (const Mutation &mutation : mutationsOf(opAt(kernel, place))) {
      // Regions are the same in all kernels of a spec: of two kernels on four
      // targets, one on each kind of machine has a change.
      if (isOfScore(opAt(kernel, place)) && ++ofScores % 4 != turn % 4)
        continue;
      OwningOpRef<ModuleOp> mutant(pattern->clone());
      auto mutated = *mutant->getOps<tile::KernelOp>().begin();
      Operation *op = opAt(mutated, place);
      std::string what =
          llvm::formatv("{0}, {1}: `{2}` {3}", target.name, name,
                        op->getName().getStringRef(), mutation.name);
      mutation.apply(op);
      OwningOpRef<ModuleOp> lowered(mutant->clone());
      std::string found = codeOf(*lowered, target);
      EXPECT_TRUE(found != code) << "ignored: " << what;
      ++(found.empty() ? refused : changed);
      if (!found.empty() && !mayBeHarmless(opAt(kernel, place), mutation))
        EXPECT_TRUE(differ(sequence.run(mutated), result))
            << "other code for the same result: " << what;
    }
}

TEST_F(OpMutation, IsRefusedOrOtherCode) {
  using spec::DType;
  spec::FloatCodec bf16{DType::BF16}, f16{DType::F16};
  spec::IntCodec int8{8, spec::ParameterType::F16};
  const spec::Spec specs[] = {
      specOf(DType::BF16, bf16, f16, 32, std::nullopt, false),
      specOf(DType::F16, int8, int8, 64, 30., true),
      specOf(DType::BF16, bf16, bf16, 64, std::nullopt, true),
      specOf(DType::F32, f16, int8, 64, 50., false),
      withAttend(specOf(DType::F16, int8, int8, 64, std::nullopt, false),
                 "20.0 * tanh((s - exp2(-0.5 * (h + 1)) * (p - t)) / 20.0)",
                 "(p - t) % 3 == 1 || p - t < 5 * (h + 1) && t // 16 != 8",
                 "1.5 - 0.25 * h"),
      withAttend(
          specOf(DType::BF16, bf16, bf16, 64, std::nullopt, false),
          "s < 0.3 ? exp(max(s, -0.4)) - sqrt(2.0 + s * s)"
          " : s / (1.5 + abs(s * -2.0 + 0.6)) - log2(3.0 + t) * (g + 1)",
          "h // 3 == 1 ? (p // 2 - t) % 5 == 2 : t < 30 + 9 * h || p - t < 3",
          "g == 0 ? exp(0.125 * h) : log(1.0 + h)"),
  };
  const Target targets[] = {cpuTarget("x86-64-v3"), cpuTarget("x86-64-v4-amx"),
                            gpuTarget("sm_80"), gpuTarget("sm_90")};
  for (const spec::Spec &spec : specs) {
    turn = 0;
    for (const Target &target : targets)
      mutateAll(spec, target);
  }
  printf("%zu mutations refused, %zu give other code\n", refused, changed);
  EXPECT_GT(refused, 100u);
  EXPECT_GT(changed, 100u);
}

// Rows that no spec gathers: of boxes with zeros, and a part of another
// stream's.
TEST_F(OpMutation, OfGatheredRows) {
  constexpr const char *kText = R"(
    !c = !kvc.cache<heads = 2,
      k = 64 by #kvc.int<3, scale = f32 zero = f32 tokens = 1 channels = 8>,
      v = 40 by #kvc.int<4, scale = f16 tokens = 1 channels = 20>,
      layout = #kvc.paged<16, HND>>
    kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 8 read(#kvc.read_all) : !c
    tile.kernel @s.gather "gather" of @s dtype bf16 {
      tile.for_rows {
      ^bb0(%t: !tile.tokens):
        %kc, %ks, %kz = tile.load k %t : tensor<1x64xi3>, tensor<1x8xf32>, tensor<1x8xf32>
        %kx = tile.convert %kc unsigned : tensor<1x64xi3> -> tensor<1x64xf32>
        %ky = tile.scale %kx by %ks : tensor<1x64xf32>, tensor<1x8xf32>
        %k = tile.offset %ky by %kz : tensor<1x64xf32>, tensor<1x8xf32>
        tile.store_decoded k %t, %k : tensor<1x64xf32>
        %part = tile.slice %k[13 to 53] : tensor<1x64xf32> -> tensor<1x40xf32>
        %vc, %vs = tile.load v %t : tensor<1x40xi4>, tensor<1x2xf16>
        %vx = tile.convert %vc : tensor<1x40xi4> -> tensor<1x40xf32>
        %vy = tile.scale %vx by %vs : tensor<1x40xf32>, tensor<1x2xf16>
        %v = tile.map %vy, %part {
        ^bb0(%x: f32, %y: f32):
          %z = arith.subf %x, %y : f32
          kvc.yield %z : f32
        } : tensor<1x40xf32>, tensor<1x40xf32> -> tensor<1x40xf32>
        tile.store_decoded v %t, %v : tensor<1x40xf32>
        tile.yield
      }
    })";
  OwningOpRef<ModuleOp> module = parseSourceString<ModuleOp>(kText, &context);
  ASSERT_TRUE(module);
  for (const Target &target : {cpuTarget("x86-64-v3"), gpuTarget("sm_80")}) {
    (*module)->setAttr("kvc.target", target.facts(&context));
    mutateKernel(*module, "s.gather", target);
  }
  printf("%zu mutations refused, %zu give other code\n", refused, changed);
  EXPECT_GT(refused, 20u);
  EXPECT_GT(changed, 20u);
}

} // namespace
