//===- KernelTrial.cpp - one drawn kernel on all executors ----------------===//
#include "test/unit/Tile/KernelTrial.h"

#include "lib/driver/Reference/TileInterpreter.h"
#include "passes/Passes.h"
#include "test/unit/Tile/Executors.h"
#include "test/unit/Tile/KernelBounds.h"
#include "test/unit/Tile/KernelModule.h"

#include "mlir/Dialect/ControlFlow/IR/ControlFlow.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/Verifier.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Transforms/Passes.h"
#include "llvm/Support/FormatVariadic.h"

#include <cmath>
#include <cstring>

using namespace kvc;
using namespace kvc::fuzz;
using reference::AttendResult;
using Attended = reference::TileInterpreter::Attended;

namespace {

/// Tokens of a split: of the only one, or none because splits were combined.
constexpr int64_t kAll = INT32_MAX, kCombined = int64_t(1) << 40;

/// Compares numbers with what they must be.
struct Verdict {
  std::string disagreement;
  double worst = 0;

  void judge(double found, double wanted, double bound,
             llvm::function_ref<std::string()> where) {
    bool same = found == wanted || (std::isnan(found) && std::isnan(wanted));
    double error = same ? 0 : std::fabs(found - wanted);
    if (!same && bound > 0 && std::isfinite(error))
      worst = std::max(worst, error / bound);
    if (same || error <= bound || !disagreement.empty())
      return;
    disagreement = llvm::formatv("{0}: expected {1:e} +- {2:e}, found {3:e}",
                                 where(), wanted, bound, found)
                       .str();
  }
};

/// A kernel for one machine, in all that it becomes.
struct Instance {
  mlir::OwningOpRef<mlir::ModuleOp> module;
  std::unique_ptr<Executor> executor;
  bool gpu;
};

class Trial {
public:
  Trial(uint64_t seed, uint64_t index,
        const std::vector<cpu::CpuTarget> &levels);
  Outcome run();

private:
  void build();
  Instance instance(TargetAttr target, ScheduleAttrInterface schedule,
                    bool gpu);
  bool runOn(mlir::ModuleOp module,
             std::initializer_list<std::unique_ptr<mlir::Pass> (*)()>);
  std::optional<Attended> runPasses(Instance &instance);
  void compile(Instance &instance);
  void runInstance(Instance &instance);
  void plant(Instance &instance, const AttendResult &found,
             const Attended &right);

  std::nullopt_t fail(const Instance &instance, const std::string &what) {
    if (outcome.disagreement.empty()) {
      outcome.disagreement = what;
      llvm::raw_string_ostream(outcome.ir) << **instance.module;
    }
    return std::nullopt;
  }

  // By kind of kernel: what the interpreter makes of a module, and whether two
  // results agree.
  std::optional<Attended> interpret(mlir::ModuleOp module);
  AttendResult execute(Executor &executor);
  Verdict compare(const AttendResult &found, const AttendResult &wanted,
                  Precision precision, int64_t split) const;
  /// What the interpreter made of two modules.
  Verdict comparePass(const Attended &found, const Attended &wanted,
                      int64_t split) const;
  Verdict compareAttend(const AttendResult &found, const AttendResult &wanted,
                        Precision precision, int64_t split) const;
  Verdict compareMerge(const AttendResult &found, const AttendResult &wanted,
                       Precision precision) const;
  Verdict compareAppend(const AttendResult &found,
                        const AttendResult &wanted) const;
  Expected gathered(llvm::StringRef name, int64_t slot, int64_t head, int64_t c,
                    Precision precision) const;
  AttendResult gatheredByFormula() const;
  Verdict compareGather(const AttendResult &found, const AttendResult &wanted,
                        Precision precision) const;
  /// What an executor found, against what the interpreter did.
  Verdict judge(const Instance &instance, const AttendResult &found,
                const Attended &wanted) const;
  /// Tokens of an instance's splits.
  static int64_t splitOf(const Instance &instance) {
    auto schedule = kernelOf(*instance.module).getSchedule();
    return schedule && schedule->getSplit() ? schedule->getSplit() : kAll;
  }
  void checkFormula(const Instance &instance, const Attended &result);
  void checkWhole(const Instance &instance, const AttendResult &whole,
                  bool sink);

  Kernel kernel;
  mlir::MLIRContext context;
  cpu::CpuTarget level;
  nvptx::SmTarget sm;
  std::vector<Instance> instances;
  std::unique_ptr<AttendInputs> attends;
  std::unique_ptr<Formula> formula;
  std::unique_ptr<AppendInputs> appends;
  std::unique_ptr<GatherInputs> gathers;
  std::unique_ptr<MergeInputs> merges;
  Outcome outcome;
};

} // namespace

Trial::Trial(uint64_t seed, uint64_t index,
             const std::vector<cpu::CpuTarget> &levels)
    : kernel(drawKernel(seed, index)),
      context(mlir::MLIRContext::Threading::DISABLED) {
  context.loadDialect<KvcDialect, tile::TileDialect, mlir::arith::ArithDialect,
                      mlir::cf::ControlFlowDialect, mlir::func::FuncDialect,
                      mlir::LLVM::LLVMDialect, mlir::math::MathDialect,
                      mlir::scf::SCFDialect, mlir::vector::VectorDialect>();
  context.getDiagEngine().registerHandler(
      [](mlir::Diagnostic &) { return mlir::success(); });
  Random random = kernel.random('T');
  level = levels[random.below(levels.size())];
  sm = *nvptx::findSmTarget(random.percent(50) ? "sm_80" : "sm_90");
}

//===----------------------------------------------------------------------===//
// Modules
//===----------------------------------------------------------------------===//

Instance Trial::instance(TargetAttr target, ScheduleAttrInterface schedule,
                         bool gpu) {
  Instance result{buildModule(kernel, target, schedule), nullptr, gpu};
  if (failed(mlir::verify(*result.module)))
    fail(result, "the generator made IR that does not verify");
  return result;
}

void Trial::build() {
  TargetAttr core = cpu::targetAttr(&context, level);
  TargetAttr warps = nvptx::targetAttr(&context, sm);
  CoreScheduleAttr onCore; // of attend kernels alone
  WarpScheduleAttr onWarps;
  outcome.traits = kernel.traits();
  auto &traits = outcome.traits;
  traits.push_back("CPU: " + level.name);
  traits.push_back("GPU: " + sm.name);
  if (kernel.isAttend()) {
    onCore = drawCoreSchedule(kernel, core);
    onWarps = drawWarpSchedule(kernel, warps, sm.version >= 90);
    const CoreSchedule &coreFields = onCore.getValue();
    traits.push_back(std::string("CPU rows: ") +
                     (coreFields.pack ? "packed" : "direct") +
                     (coreFields.dot ? ", products of codes" : ""));
    const WarpSchedule &warpFields = onWarps.getValue();
    traits.push_back(std::string("GPU rows: ") +
                     (!warpFields.dot          ? "multiply-adds"
                      : warpFields.warpsSplitQ ? "in M"
                                               : "in N") +
                     (warpFields.queryBytes ? ", q in bytes" : "") +
                     (warpFields.queryShared ? ", q in shared memory" : "") +
                     (warpFields.bulk ? ", bulk copies" : ""));
  }
  instances.push_back(instance(core, onCore, /*gpu=*/false));
  instances.push_back(instance(warps, onWarps, /*gpu=*/true));
  auto cache = mlir::cast<CacheType>(storeOf(*instances[0].module).getCache());
  if (kernel.isAttend()) {
    attends = std::make_unique<AttendInputs>(
        kernel, cache, llvm::ArrayRef<ScheduleAttrInterface>{onCore, onWarps});
    formula = std::make_unique<Formula>(kernel, *attends);
  } else if (kernel.kind == Kind::Append) {
    appends = std::make_unique<AppendInputs>(kernel, cache);
  } else if (kernel.kind == Kind::Gather) {
    gathers = std::make_unique<GatherInputs>(kernel, cache);
  } else {
    merges = std::make_unique<MergeInputs>(kernel);
  }
}

bool Trial::runOn(
    mlir::ModuleOp module,
    std::initializer_list<std::unique_ptr<mlir::Pass> (*)()> passes) {
  mlir::PassManager pm(&context);
  for (auto create : passes)
    pm.addPass(create());
  return succeeded(pm.run(module));
}

void Trial::compile(Instance &instance) {
  mlir::OwningOpRef<mlir::ModuleOp> copy(instance.module->clone());
  instance.executor = instance.gpu ? makeGpuExecutor(kernel, *copy, sm)
                                   : makeCpuExecutor(kernel, *copy, level);
  const Executor &executor = *instance.executor;
  if (!executor.fault.empty())
    fail(instance, executor.fault);
  if (executor.refusal.empty())
    return;
  std::string why;
  for (char c : executor.refusal)
    if (!llvm::isDigit(c))
      why += c;
    else if (why.empty() || why.back() != '#')
      why += '#';
  outcome.refusals.push_back({instance.gpu ? "GPU" : "CPU", why});
}

//===----------------------------------------------------------------------===//
// Results
//===----------------------------------------------------------------------===//

/// The bytes of an append are numbers like any others.
static AttendResult resultOf(reference::HostArena &arena) {
  AttendResult result;
  auto bytes = arena.bytes();
  result.o = reference::Tensor({int64_t(bytes.size())}, 0);
  llvm::copy(bytes, result.o.data.begin());
  return result;
}

/// Rows of a gather, of which the call wants some.
static AttendResult resultOf(const Kernel &kernel,
                             const reference::Gathered &rows) {
  AttendResult result;
  auto add = [&](llvm::StringRef name, const reference::Tensor &x) {
    if (kernel.wants(name))
      llvm::append_range(result.o.data, x.data);
    else
      result.o.data.resize(result.o.data.size() + x.data.size());
  };
  add(kStreamK, rows.k);
  add(kStreamV, rows.v);
  return result;
}

std::optional<Attended> Trial::interpret(mlir::ModuleOp module) {
  reference::TileInterpreter interpreter(kernelOf(module));
  if (kernel.isAttend()) {
    auto result = interpreter.attend(attends->q.view(), attends->arena->cache(),
                                     attends->batch());
    return succeeded(result) ? std::optional(std::move(*result)) : std::nullopt;
  }
  if (kernel.kind == Kind::Merge) {
    auto result = interpreter.merge(merges->wideO, merges->wideLse);
    if (failed(result))
      return std::nullopt;
    return Attended{std::move(*result), {}};
  }
  if (kernel.kind == Kind::Gather) {
    auto rows = interpreter.gather(gathers->slots, gathers->arena->cache());
    if (failed(rows))
      return std::nullopt;
    return Attended{resultOf(kernel, *rows), {}};
  }
  reference::HostArena arena = appends->makeArena();
  if (failed(interpreter.append(appends->k.view(), appends->v.view(),
                                appends->slots, arena.cache())))
    return std::nullopt;
  return Attended{resultOf(arena), {}};
}

AttendResult Trial::execute(Executor &executor) {
  if (kernel.isAttend())
    return executor.attend(*attends);
  if (kernel.kind == Kind::Merge)
    return executor.merge(*merges);
  if (kernel.kind == Kind::Gather)
    return executor.gather(*gathers);
  reference::HostArena arena = appends->makeArena();
  executor.append(*appends, arena.cache());
  return resultOf(arena);
}

static void compareRow(Verdict &verdict, const ExpectedRow &expected,
                       const AttendResult &found, int64_t foundAt,
                       const AttendResult &wanted, int64_t wantedAt,
                       llvm::function_ref<std::string()> where) {
  int64_t dim = expected.o.size();
  for (int64_t c = 0; c < dim; ++c)
    verdict.judge(
        found.o.data[foundAt * dim + c], wanted.o.data[wantedAt * dim + c],
        expected.empty ? 0 : expected.o[c].bound,
        [&] { return llvm::formatv("{0}, o[{1}]", where(), c).str(); });
  if (!found.lse.data.empty())
    verdict.judge(found.lse.data[foundAt], wanted.lse.data[wantedAt],
                  expected.empty ? 0 : expected.lse.bound,
                  [&] { return where() + ", lse"; });
}

/// `wanted` is the interpreter's, of all q heads of the model; `found` is that
/// too, or has the store's alone.
Verdict Trial::compareAttend(const AttendResult &found,
                             const AttendResult &wanted, Precision precision,
                             int64_t split) const {
  Verdict verdict;
  int64_t columns = kernel.heads * kernel.group, rows = attends->q.rows;
  int64_t first = kernel.firstHead * kernel.group, of = kernel.qHeads();
  bool allHeads = found.o.shape[found.o.shape.size() - 2] == of;
  int64_t foundOf = allHeads ? of : columns, foundFirst = allHeads ? first : 0;
  int64_t numSplits = split == kCombined ? 1 : wanted.lse.shape.front();
  for (size_t b = 0; b < attends->kvLen.size(); ++b)
    for (int64_t i = 0; i < attends->queries(b); ++i)
      for (int64_t column = 0; column < columns; ++column)
        for (int64_t splitIdx = 0; splitIdx < numSplits; ++splitIdx) {
          int64_t row = splitIdx * rows + attends->cuQ[b] + i;
          ExpectedRow expected = formula->row(b, i, column, splitIdx * split,
                                              (splitIdx + 1) * split, precision,
                                              /*sink=*/split == kCombined);
          compareRow(
              verdict, expected, found, row * foundOf + foundFirst + column,
              wanted, row * of + first + column, [&] {
                return llvm::formatv("sequence {0} ({1} tokens, {2} queries), "
                                     "query {3}, q head {4}, split {5}",
                                     b, attends->kvLen[b], attends->queries(b),
                                     i, first + column, splitIdx)
                    .str();
              });
        }
  return verdict;
}

Verdict Trial::compareMerge(const AttendResult &found,
                            const AttendResult &wanted,
                            Precision precision) const {
  Verdict verdict;
  for (int64_t row = 0; row < int64_t(wanted.lse.data.size()); ++row)
    compareRow(verdict, mergedRow(kernel, *merges, row, precision), found, row,
               wanted, row,
               [&] { return llvm::formatv("row {0}", row).str(); });
  return verdict;
}

Verdict Trial::compareAppend(const AttendResult &found,
                             const AttendResult &wanted) const {
  Verdict verdict;
  for (size_t i = 0; i < wanted.o.data.size(); ++i)
    verdict.judge(found.o.data[i], wanted.o.data[i], 0, [&] {
      return llvm::formatv("byte {0} of the cache", i).str();
    });
  return verdict;
}

/// An element of a call's rows `name`; 0 where nothing is stored.
Expected Trial::gathered(llvm::StringRef name, int64_t slot, int64_t head,
                         int64_t c, Precision precision) const {
  int64_t own = head - kernel.firstHead; // of the store
  if (!kernel.gathers(name) || slot < 0 || own < 0 || own >= kernel.heads)
    return {};
  auto row = llvm::find_if(
      kernel.gathered, [&](const GatheredRow &row) { return row.to == name; });
  return gatheredElement(kernel, *gathers, *row, slot, own, c, precision);
}

Verdict Trial::compareGather(const AttendResult &found,
                             const AttendResult &wanted,
                             Precision precision) const {
  Verdict verdict;
  size_t at = 0;
  for (llvm::StringRef name : {kStreamK, kStreamV}) {
    for (auto [i, slot] : llvm::enumerate(gathers->slots))
      for (int64_t head = 0; head < kernel.kvHeads; ++head)
        for (int64_t c = 0; c < kernel.dim(name); ++c, ++at) {
          double bound = gathered(name, slot, head, c, precision).bound;
          verdict.judge(found.o.data[at], wanted.o.data[at], bound, [&] {
            return llvm::formatv("{0} of row {1} (slot {2}), kv head {3}, "
                                 "element {4}",
                                 name, i, slot, head, c)
                .str();
          });
        }
  }
  return verdict;
}

Verdict Trial::compare(const AttendResult &found, const AttendResult &wanted,
                       Precision precision, int64_t split) const {
  if (kernel.kind == Kind::Append)
    return compareAppend(found, wanted);
  if (kernel.kind == Kind::Gather)
    return compareGather(found, wanted, precision);
  if (kernel.kind == Kind::Merge)
    return compareMerge(found, wanted, precision);
  return compareAttend(found, wanted, precision, split);
}

Verdict Trial::comparePass(const Attended &found, const Attended &wanted,
                           int64_t split) const {
  Verdict verdict = compare(found, wanted, Precision::Float64, split);
  if (!verdict.disagreement.empty() || !wanted.combined)
    return verdict;
  return compare(*found.combined, *wanted.combined, Precision::Float64,
                 kCombined);
}

Verdict Trial::judge(const Instance &instance, const AttendResult &found,
                     const Attended &wanted) const {
  if (wanted.combined)
    return compare(found, *wanted.combined, Precision::Output, kCombined);
  return compare(found, wanted,
                 kernel.isAttend() ? Precision::Partial : Precision::Output,
                 splitOf(instance));
}

//===----------------------------------------------------------------------===//
// The trial
//===----------------------------------------------------------------------===//

AttendResult Trial::gatheredByFormula() const {
  AttendResult result;
  for (llvm::StringRef name : {kStreamK, kStreamV})
    for (int64_t slot : gathers->slots)
      for (int64_t head = 0; head < kernel.kvHeads; ++head)
        for (int64_t c = 0; c < kernel.dim(name); ++c)
          result.o.data.push_back(
              gathered(name, slot, head, c, Precision::Float64).value);
  return result;
}

/// The bounds are as good as the formula that they come from.
void Trial::checkFormula(const Instance &instance, const Attended &result) {
  if (kernel.kind == Kind::Gather) {
    Verdict verdict =
        compareGather(gatheredByFormula(), result, Precision::Float64);
    if (!verdict.disagreement.empty())
      fail(instance, "formula against interpreter: " + verdict.disagreement);
  }
  if (!kernel.isAttend())
    return;
  checkWhole(instance, reference::merge(result.o, result.lse), /*sink=*/false);
  if (result.combined)
    checkWhole(instance, *result.combined, /*sink=*/true);
}

void Trial::checkWhole(const Instance &instance, const AttendResult &whole,
                       bool sink) {
  int64_t columns = kernel.heads * kernel.group;
  Verdict verdict;
  for (size_t b = 0; b < attends->kvLen.size(); ++b)
    for (int64_t i = 0; i < attends->queries(b); ++i)
      for (int64_t column = 0; column < columns; ++column) {
        ExpectedRow expected =
            formula->row(b, i, column, 0, INT32_MAX, Precision::Float64, sink);
        int64_t row = (attends->cuQ[b] + i) * kernel.qHeads() +
                      kernel.firstHead * kernel.group + column;
        auto where = [&] {
          return llvm::formatv("interpreter against formula: sequence {0}, "
                               "query {1}, column {2}",
                               b, i, column)
              .str();
        };
        int64_t dim = expected.o.size();
        for (int64_t c = 0; c < dim; ++c)
          verdict.judge(whole.o.data[row * dim + c], expected.o[c].value,
                        expected.o[c].bound, where);
        verdict.judge(whole.lse.data[row], expected.lse.value,
                      expected.lse.bound, where);
      }
  if (!verdict.disagreement.empty())
    fail(instance, verdict.disagreement);
}

static bool sameBits(const Attended &x, const Attended &y) {
  if (x.combined && !sameBits({*x.combined, {}}, {*y.combined, {}}))
    return false;
  auto same = [](const std::vector<double> &a, const std::vector<double> &b) {
    return a.size() == b.size() &&
           !memcmp(a.data(), b.data(), a.size() * sizeof(double));
  };
  return same(x.o.data, y.o.data) && same(x.lse.data, y.lse.data);
}

/// What the interpreter makes of the kernel before and after each pass; leaves
/// the module folded.
std::optional<Attended> Trial::runPasses(Instance &instance) {
  mlir::ModuleOp module = *instance.module;
  std::optional<Attended> before = interpret(module);
  if (!before)
    return fail(instance, "the interpreter refused a kernel");
  checkFormula(instance, *before);
  if (!runOn(module, {createFoldScales}))
    return fail(instance, "kvc-fold-scales failed");
  std::optional<Attended> after = interpret(module);
  if (!after)
    return fail(instance, "kvc-fold-scales made IR without a meaning");
  Verdict folded = comparePass(*after, *before, splitOf(instance));
  if (!folded.disagreement.empty())
    return fail(instance, "kvc-fold-scales: " + folded.disagreement);
  mlir::OwningOpRef<mlir::ModuleOp> tidy(module.clone());
  runOn(*tidy, {mlir::createCanonicalizerPass, mlir::createCSEPass});
  std::optional<Attended> tidied = interpret(*tidy);
  if (!tidied || !sameBits(*tidied, *after))
    return fail(instance, "canonicalize and cse changed the result");
  return after;
}

void Trial::runInstance(Instance &instance) {
  std::optional<Attended> wanted = runPasses(instance);
  if (!wanted)
    return;
  compile(instance);
  Executor &executor = *instance.executor;
  if (!executor.accepted())
    return;
  AttendResult found = execute(executor);
  const char *name = instance.gpu ? "GPU: " : "CPU: ";
  if (!executor.fault.empty()) {
    fail(instance, name + executor.fault);
    return;
  }
  Verdict verdict = judge(instance, found, *wanted);
  if (!verdict.disagreement.empty()) {
    fail(instance, name + verdict.disagreement);
    return;
  }
  (instance.gpu ? outcome.worstGpu : outcome.worstCpu) = verdict.worst;
  (instance.gpu ? outcome.onGpu : outcome.onCpu) = true;
  if (!outcome.plant && instance.gpu == bool(kernel.index % 2))
    plant(instance, found, *wanted);
}

/// Gives the interpreter a kernel with a bug, which looks like one in what ran
/// the kernel without, and like one of a pass that made it.
void Trial::plant(Instance &instance, const AttendResult &found,
                  const Attended &right) {
  mlir::OwningOpRef<mlir::ModuleOp> bad;
  for (size_t i = 0; i < plants().size(); ++i) {
    const Plant &plant = plants()[(kernel.index / 2 + i) % plants().size()];
    bad = instance.module->clone();
    if (!plant.apply(kernelOf(*bad)) || failed(mlir::verify(*bad)))
      continue;
    std::optional<Attended> wrong = interpret(*bad);
    if (!wrong)
      continue;
    outcome.plant = plant.name;
    outcome.caught = !judge(instance, found, *wrong).disagreement.empty();
    outcome.caughtAsPass =
        !comparePass(*wrong, right, splitOf(instance)).disagreement.empty();
    return;
  }
}

Outcome Trial::run() {
  build();
  for (Instance &instance : instances) {
    if (!outcome.disagreement.empty())
      break;
    if (!kernel.mustBeRefused()) {
      runInstance(instance);
      continue;
    }
    // Cores lower it op by op: what is hidden then counts in l, of which the
    // bounds here know nothing.
    if (!instance.gpu)
      continue;
    runOn(*instance.module, {createFoldScales});
    compile(instance);
    if (instance.executor->accepted())
      fail(instance,
           "a mask before the rest of the scores' chain was accepted");
  }
  return outcome;
}

Outcome fuzz::tryKernel(uint64_t seed, uint64_t index,
                        const std::vector<cpu::CpuTarget> &levels) {
  return Trial(seed, index, levels).run();
}
