//===- RandomSchedule.cpp - how a drawn kernel runs -----------------------===//
#include "codegen/cpu/Schedules.h"
#include "codegen/nvptx/Schedules.h"
#include "test/unit/Tile/RandomKernel.h"

#include "mlir/IR/Diagnostics.h"

using namespace kvc;
using namespace kvc::fuzz;

/// Half of the time, another legal schedule near `schedule`: a rule that lets
/// pass what the loops cannot do shows as wrong results.
template <class Attr, class IsLegal>
static Attr vary(const Kernel &kernel, TargetAttr target, Attr schedule,
                 uint64_t purpose, IsLegal isLegal) {
  Random random = kernel.random(purpose);
  if (random.percent(50))
    return schedule;
  mlir::MLIRContext *context = target.getContext();
  mlir::ScopedDiagnosticHandler quiet(context, [](mlir::Diagnostic &) {});
  auto refuse = [&] { return mlir::emitError(mlir::UnknownLoc::get(context)); };
  auto codec = [&](llvm::StringRef stream) {
    return mlir::cast<CodecAttrInterface>(
        kernel.codec(stream).attribute(context));
  };
  Workload workload{{kernel.dim(kernel.keys), codec(kernel.keys)},
                    {kernel.dims[1], codec(kernel.values)},
                    kernel.page,
                    kernel.group,
                    floatType(context, kernel.dtype),
                    target};
  auto fields = schedule.getFields();
  for (int64_t attempt = 0; attempt < 20; ++attempt) {
    llvm::SmallVector<FieldValue> changes;
    // What most depends on, with splits that suit any number of warps.
    if (random.percent(50)) {
      int64_t tokens = random.pick({1, 2, 4, 8, 16, 24, 32, 48, 64, 128});
      changes = {{"tokens", tokens},
                 {"split", tokens * 8 * random.pick({0, 0, 1, 2})}};
    }
    for (int64_t change = random.range(0, 2); change; --change) {
      const ScheduleField &field = fields[random.below(fields.size())];
      if (field.name == "queries" || field.name == "registers")
        continue;
      int64_t value = random.pick({1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64});
      if (field.name == "split")
        value *= random.pick({0, 8, 16, 32});
      if (field.isFlag)
        value = !field.value;
      changes.push_back({field.name, value});
    }
    auto varied = mlir::dyn_cast_or_null<Attr>(schedule.with(refuse, changes));
    if (varied && varied.getValue().tokens % kernel.boxTokens() == 0 &&
        isLegal(workload, varied))
      return varied;
  }
  return schedule;
}

CoreScheduleAttr fuzz::drawCoreSchedule(const Kernel &kernel,
                                        TargetAttr target) {
  Random random = kernel.random('C');
  // Many rows are packed, but either way is legal for either kind.
  bool pack = random.percent(kernel.kind == Kind::Prefill ? 85 : 15);
  bool dot = random.percent(70);
  int64_t tokens, rows, keys = 1, queries, prefetch = 0;
  if (pack) {
    bool matrix = dot && !target.getMatrix().empty();
    tokens = matrix ? random.pick({32, 64, 96})
                    : random.pick({8, 16, 24, 32, 48, 64});
    do
      rows = random.pick({1, 2, 4, 8});
    while (tokens % rows);
    queries = random.pick({1, 3, 7, 16, 33});
  } else {
    tokens = random.pick({4, 8, 16, 16, 32, 64});
    rows = random.pick({1, 2, 3, 4, 4, 5, 8});
    keys = std::min<int64_t>(tokens, random.pick({1, 2, 4, 8}));
    queries = random.pick({1, 2, 3, 5, 16});
    prefetch = random.percent(30) ? 0 : random.range(0, 3 * tokens);
  }
  int64_t split = tokens * random.pick({0, 1, 2, 3, 8});
  auto schedule =
      CoreScheduleAttr::get(target.getContext(), {.tokens = tokens,
                                                  .rows = rows,
                                                  .keys = keys,
                                                  .queries = queries,
                                                  .split = split,
                                                  .prefetch = prefetch,
                                                  .level = random.pick({1, 2}),
                                                  .pack = pack,
                                                  .dot = dot});
  return vary(kernel, target, schedule, 'c',
              [](const Workload &workload, CoreScheduleAttr varied) {
                return bool(cpu::checkSchedule(workload, varied).legality);
              });
}

WarpScheduleAttr fuzz::drawWarpSchedule(const Kernel &kernel, TargetAttr target,
                                        bool hasBulkCopies) {
  Random random = kernel.random('W');
  mlir::Type dtype = floatType(target.getContext(), kernel.dtype);
  bool dot = random.percent(85), bulk = hasBulkCopies && random.percent(40);
  unsigned detour = kernel.choice[Detour];
  if (detour != detour::None && detour != detour::MapOfScores)
    dot = bulk = false; // operands are decoded, or contracted
  // Mostly, what tensor cores' loops do not know is left to multiply-adds.
  auto isUsual = [](unsigned choice) {
    return choice <= scale::OnProduct || choice == scale::Late;
  };
  if (!isUsual(kernel.choice[KeyScale]) ||
      !isUsual(kernel.choice[ValueScale]) || kernel.scores.size() > 2 ||
      kernel.choice[KeyScale] == scale::Late ||
      kernel.probabilities.size() > 1 || detour == detour::MapOfScores)
    dot &= random.percent(20);
  for (llvm::StringRef stream : {kernel.keys, kernel.values}) {
    StreamInfo info{kernel.dim(stream),
                    mlir::cast<CodecAttrInterface>(
                        kernel.codec(stream).attribute(target.getContext()))};
    dot &= target.hasDot(info.codeType(), dtype);
    bulk &= info.codeBytes() % 16 == 0;
  }
  int64_t dim = std::max(kernel.dims[0], kernel.dims[1]);
  bool warpsSplitQ =
      dot && dim <= 256 && kernel.kind == Kind::Prefill && random.percent(85);
  int64_t warps = random.pick({1, 2, 2, 4}), stages = random.pick({2, 2, 3, 4});
  int64_t tokens = dim > 128 ? 16 : random.pick({16, 16, 32, 64});
  if (dim > 256)
    warps = random.pick({1, 2}), stages = 2;
  int64_t rows = warpsSplitQ ? 16 * warps
                 : dot       ? dim > 128 ? 8 : random.pick({8, 8, 16})
                             : random.pick({1, 3, 4, 8});
  if (!dot)
    tokens = dim > 128 ? 8 : random.pick({8, 16, 32});
  int64_t split =
      tokens * (warpsSplitQ ? 1 : warps) * random.pick({0, 0, 1, 1, 2, 3});
  StreamInfo keys{
      kernel.dim(kernel.keys),
      mlir::cast<CodecAttrInterface>(
          kernel.codec(kernel.keys).attribute(target.getContext()))};
  bool queryBytes = dot && keys.codeType().isInteger(8) &&
                    kernel.dim(kernel.keys) <= 192 && random.percent(70);
  bool queryShared = dot && !queryBytes && random.percent(40);
  auto schedule =
      WarpScheduleAttr::get(target.getContext(), {.tokens = tokens,
                                                  .rows = rows,
                                                  .queries = 1024,
                                                  .split = split,
                                                  .dot = dot,
                                                  .warps = warps,
                                                  .stages = stages,
                                                  .warpsSplitQ = warpsSplitQ,
                                                  .queryBytes = queryBytes,
                                                  .queryShared = queryShared,
                                                  .bulk = bulk});
  return vary(kernel, target, schedule, 'n',
              [](const Workload &workload, WarpScheduleAttr varied) {
                return bool(nvptx::checkSchedule(workload, varied).legality);
              });
}
