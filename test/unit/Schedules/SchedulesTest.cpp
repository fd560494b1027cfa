//===- SchedulesTest.cpp - what backends say of schedules is so -----------===//
//
// Of every example spec's stores on every kind of target, and of two stores
// that examples have not the like of: what is planned is legal and near the
// best of the space by cost; what legal() says of a schedule is what the
// lowering does with it, to the word.
//
//===----------------------------------------------------------------------===//
#include "codegen/cpu/Schedules.h"
#include "codegen/nvptx/Schedules.h"
#include "lib/base/Spec/Reader.h"
#include "lib/driver/Compiler/Target.h"
#include "lib/driver/Import/SpecToKvc.h"
#include "passes/Passes.h"

#include "mlir/IR/Diagnostics.h"
#include "mlir/Pass/PassManager.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/Support/FileSystem.h"

#include "gmock/gmock.h"

#include <random>

using namespace kvc;
using namespace mlir;

namespace {

constexpr const char *kTargets[] = {
    "x86-64-v3", "x86-64-v4-bf16", "x86-64-v4-amx", "sm_80", "sm_90", "sm_120"};

/// No product on tensor cores is exact for the first; rows of the second are no
/// multiple of 16 bytes.
constexpr const char *kOtherSpecs[] = {
    R"({"kvc": "0.1", "name": "wide", "model": {"layers": 1, "q_heads": 8,
        "kv_heads": 2, "head_dim": 128, "dtype": "f32"},
        "layout": {"kind": "paged", "page": 16}})",
    R"({"kvc": "0.1", "name": "odd", "model": {"layers": 1, "q_heads": 6,
        "kv_heads": 2, "head_dim": 72, "dtype": "bf16"},
        "streams": {"k": {"codec": "int8"}, "v": {"codec": "int8"}},
        "layout": {"kind": "paged", "page": 24}})"};

enum class Specs : uint8_t { Examples, All };

std::vector<spec::Spec> read(Specs which) {
  std::vector<std::string> files;
  std::error_code error;
  for (llvm::sys::fs::directory_iterator
           at(KVC_SOURCE_DIR "/specs/examples", error),
       end;
       at != end && !error; at.increment(error))
    if (StringRef(at->path()).ends_with(".json"))
      files.push_back(at->path());
  llvm::sort(files);
  std::vector<spec::Spec> specs;
  Diagnostics diagnostics;
  for (const std::string &file : files)
    specs.push_back(spec::readFile(file, diagnostics).value());
  for (const char *text :
       which == Specs::All ? ArrayRef(kOtherSpecs) : ArrayRef<const char *>())
    specs.push_back(spec::read(text, "test", diagnostics).value());
  return specs;
}

/// A spec's attends, planned for a target.
class Planned {
public:
  Planned(const spec::Spec &spec, const Target &target)
      : context(MLIRContext::Threading::DISABLED), target(target),
        quiet(&context, [](mlir::Diagnostic &) {}) {
    DialectRegistry registry;
    cpu::registerScheduler(registry);
    nvptx::registerScheduler(registry);
    context.appendDialectRegistry(registry);
    context.loadDialect<KvcDialect, tile::TileDialect>();
    module = importSpec(context, spec);
    (*module)->setAttr("kvc.target", target.facts(&context));
    PassManager pm(&context);
    pm.addPass(createInferReads());
    pm.addPass(createPlanSchedule());
    EXPECT_TRUE(succeeded(pm.run(*module))) << spec.name << " " << target.name;
    module->walk([&](AttendOp op) { attends.push_back(op); });
  }

  Workload workloadOf(AttendOp op) {
    auto store =
        SymbolTable::lookupNearestSymbolFrom<StoreOp>(op, op.getStoreAttr());
    return Workload::of(
        store, cast<RankedTensorType>(op.getQ().getType()).getElementType(),
        target.facts(&context));
  }

  /// Lowers the kernel of one attend with another schedule; "" or the error.
  std::string lower(AttendOp op, ScheduleAttrInterface schedule) {
    StringRef name = op->getParentOfType<func::FuncOp>().getSymName();
    OwningOpRef<ModuleOp> copy(module->clone());
    auto function = copy->lookupSymbol<func::FuncOp>(name);
    auto attend = cast<AttendOp>(getOnlyOp(function));
    attend.setScheduleAttr(schedule);
    attend.setSplits(schedule.getSplit() ? schedule.getSplit() : INT64_MAX);
    for (auto other : llvm::make_early_inc_range(copy->getOps<func::FuncOp>()))
      if (isa<AttendOp>(getOnlyOp(other)) && other != function)
        other.erase();
    std::string error;
    ScopedDiagnosticHandler handler(&context, [&](mlir::Diagnostic &found) {
      if (found.getSeverity() == DiagnosticSeverity::Error)
        error += found.str();
    });
    PassManager pm(&context);
    pm.addPass(createLowerToTile());
    pm.addPass(createCombineSplits());
    pm.addPass(createFoldScales());
    EXPECT_TRUE(succeeded(pm.run(*copy))) << error;
    for (auto kernel :
         llvm::make_early_inc_range(copy->getOps<tile::KernelOp>()))
      if (kernel.getKind() != "attend")
        kernel.erase();
    bool lowered;
    if (target.isGpu()) {
      nvptx::LaunchInfos launch;
      lowered = succeeded(nvptx::lowerTileToGpu(*copy, target.sm, launch));
      // It rests on legal() alone that this fits.
      if (lowered)
        EXPECT_LE(launch[name].shared, target.sm.sharedPerCta);
    } else {
      cpu::KernelNeedsMap needs;
      lowered = succeeded(cpu::lowerTileToCpu(*copy, target.cpu, needs));
    }
    EXPECT_EQ(lowered, error.empty()) << error;
    return error;
  }

  MLIRContext context;
  Target target;
  ScopedDiagnosticHandler quiet; ///< of fields that cannot have a value
  OwningOpRef<ModuleOp> module;
  std::vector<AttendOp> attends;
};

AttendKind kindOf(AttendOp op) {
  StringRef name = op->getParentOfType<func::FuncOp>().getSymName();
  return name.ends_with(".decode") ? AttendKind::Decode : AttendKind::Prefill;
}

std::string nameOf(const Workload &workload, ScheduleAttrInterface schedule) {
  std::string text;
  llvm::raw_string_ostream(text)
      << workload.target.getName() << " " << workload.k.dim << " by "
      << workload.k.codec << ", " << workload.v.dim << " by "
      << workload.v.codec << ", page " << workload.pageTokens << ", group "
      << workload.group << ", " << workload.dtype << ", " << schedule;
  return text;
}

SchedulerAttrInterface scheduler(ScheduleAttrInterface schedule) {
  return cast<SchedulerAttrInterface>(schedule);
}

/// `schedule` with fields changed; null if it cannot have the values.
ScheduleAttrInterface with(ScheduleAttrInterface schedule,
                           ArrayRef<FieldValue> changes) {
  return schedule.with(
      [&] { return emitError(UnknownLoc::get(schedule.getContext())); },
      changes);
}

/// All combinations of the values of `space`.
void forSpace(ScheduleAttrInterface schedule, ArrayRef<FieldValues> space,
              llvm::function_ref<void(ScheduleAttrInterface)> body) {
  SmallVector<FieldValue> changes;
  std::function<void(size_t)> descend = [&](size_t index) {
    if (index == space.size()) {
      if (ScheduleAttrInterface changed = with(schedule, changes))
        body(changed);
      return;
    }
    for (int64_t value : space[index].values) {
      changes.push_back({space[index].name, value});
      descend(index + 1);
      changes.pop_back();
    }
  };
  descend(0);
}

/// Runs `body` once for each different workload of the examples.
void forWorkloads(
    Specs which,
    llvm::function_ref<void(Planned &, AttendOp, const Workload &)> body) {
  llvm::StringSet<> seen;
  std::vector<spec::Spec> all = read(which);
  for (const char *name : kTargets)
    for (const spec::Spec &spec : all) {
      Planned planned(spec, *findTarget(name));
      for (AttendOp op : planned.attends) {
        Workload workload = planned.workloadOf(op);
        if (seen.insert(nameOf(workload, *op.getSchedule())).second)
          body(planned, op, workload);
      }
    }
  EXPECT_GT(seen.size(), 60u);
}

TEST(Schedules, PlansAreNearTheBestOfTheirSpace) {
  // What the models are trusted for: to put the planner's choice near the top.
  constexpr double kFactor = 1.25;
  forWorkloads(
      Specs::Examples, [&](Planned &, AttendOp op, const Workload &workload) {
        ScheduleAttrInterface plan = *op.getSchedule();
        AttendKind kind = kindOf(op);
        double cost = scheduler(plan).cost(workload, kind), best = cost,
               worst = cost;
        ScheduleAttrInterface bestSchedule = plan;
        EXPECT_TRUE(bool(scheduler(plan).legal(workload)));
        EXPECT_TRUE(std::isfinite(cost) && cost > 0);
        size_t legal = 0, all = 0, better = 0;
        forSpace(plan, scheduler(plan).space(workload, kind),
                 [&](ScheduleAttrInterface schedule) {
                   ++all;
                   if (!scheduler(schedule).legal(workload))
                     return;
                   ++legal;
                   double other = scheduler(schedule).cost(workload, kind);
                   worst = std::max(worst, other);
                   better += other < cost;
                   if (other < best)
                     best = other, bestSchedule = schedule;
                 });
        // The space has the plan, and something to choose from; the model tells
        // good from bad.
        EXPECT_GE(legal, 50u) << nameOf(workload, plan);
        EXPECT_GT(all, legal);
        EXPECT_GE(worst, 2 * best) << nameOf(workload, plan);
        // Of heads so wide the accumulators of 8 rows are all that registers
        // hold. The model would rather spill those of more than read the tokens
        // again; what is planned never spills.
        if (workload.target.getShared() && workload.v.dim > 256)
          return;
        EXPECT_LE(cost, kFactor * best)
            << nameOf(workload, plan) << "\n costs " << cost << ", best is "
            << best << " of " << bestSchedule.str();
        // Few are better.
        EXPECT_LE(better, legal / 8) << nameOf(workload, plan) << " " << legal;
      });
}

TEST(Schedules, LegalIsWhatTheLoweringDoes) {
  constexpr size_t kSamples = 6; // of each kind
  std::mt19937 random(1);
  llvm::StringSet<> reasons;
  forWorkloads(Specs::All, [&](Planned &planned, AttendOp op,
                               const Workload &workload) {
    ScheduleAttrInterface plan = *op.getSchedule();
    AttendKind kind = kindOf(op);
    SmallVector<FieldValues> space = scheduler(plan).space(workload, kind);
    size_t legal = 0, illegal = 0;
    for (size_t draw = 0; draw < 4000; ++draw) {
      if (legal == kSamples && illegal == kSamples)
        break;
      // Near the plan, so that every rule is the one to be broken; some fields
      // at their bounds or anywhere, which the space leaves out.
      SmallVector<FieldValue> changes;
      for (const FieldValues &field : space)
        if (random() % 3 == 0)
          changes.push_back(
              {field.name, field.values[random() % field.values.size()]});
      for (const ScheduleField &field : plan.getFields())
        if (random() % 16 == 0 && field.name != "queries")
          changes.push_back(
              {field.name, std::array{field.least, field.most, int64_t(3),
                                      int64_t(24), int64_t(48)}[random() % 5]});
      ScheduleAttrInterface schedule = with(plan, changes);
      if (!schedule)
        continue;
      Legality legality = scheduler(schedule).legal(workload);
      size_t &count = legality ? legal : illegal;
      bool isNew =
          !legality &&
          reasons.insert(StringRef(legality.why).split(';').first).second;
      if (count == kSamples && !isNew)
        continue;
      count = std::min(count + 1, kSamples);
      EXPECT_EQ(planned.lower(op, schedule), legality.why)
          << nameOf(workload, schedule);
    }
    EXPECT_EQ(legal, kSamples) << nameOf(workload, plan);
    EXPECT_EQ(illegal, kSamples) << nameOf(workload, plan);
  });
  // Each rule has been broken, and refused by the lowering.
  for (const auto &rules : {cpu::scheduleRules(), nvptx::scheduleRules()})
    for (StringRef rule : ArrayRef(rules).drop_front()) // not kSplitRule
      EXPECT_TRUE(reasons.contains(rule)) << rule.str();
}

TEST(Schedules, OfTheOtherKindAreRefusedByName) {
  for (const char *name : {"x86-64-v4", "sm_90"}) {
    Planned planned(read(Specs::Examples).front(), *findTarget(name));
    ScheduleAttrInterface other =
        WarpScheduleAttr::get(&planned.context, {.tokens = 16});
    if (planned.target.isGpu())
      other = CoreScheduleAttr::get(&planned.context, {.tokens = 16});
    EXPECT_THAT(planned.lower(planned.attends.front(), other),
                testing::HasSubstr(planned.target.isGpu()
                                       ? "run a #kvc.warp_schedule; found "
                                         "#kvc.core_schedule<>"
                                       : "run a #kvc.core_schedule; found "
                                         "#kvc.warp_schedule<>"));
  }
}

} // namespace
