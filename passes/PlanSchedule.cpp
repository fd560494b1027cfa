//===- PlanSchedule.cpp - which kernels there are, and how each runs ------===//
//
// Tiles themselves are chosen by the target's backend, through the interface
// that it attaches to its kind of schedule. Every choice is a field of the
// schedule attribute, so it can be read, overridden and tuned.
//
//===----------------------------------------------------------------------===//
#include "passes/Passes.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/GlobPattern.h"

namespace kvc {
#define GEN_PASS_DEF_PLANSCHEDULE
#include "passes/Passes.h.inc"
} // namespace kvc

using namespace mlir;
using namespace kvc;

namespace {

struct PlanSchedule : kvc::impl::PlanScheduleBase<PlanSchedule> {
  using PlanScheduleBase::PlanScheduleBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    auto target = module->getAttrOfType<TargetAttr>("kvc.target");
    if (!target) {
      module.emitError("no `kvc.target`: a backend must say what it runs on");
      return signalPassFailure();
    }
    if (failed(parseOverrides(module)))
      return signalPassFailure();
    SmallVector<AttendOp> attends;
    module.walk([&](AttendOp op) {
      if (!op.getSchedule())
        attends.push_back(op);
    });
    for (AttendOp op : attends)
      if (failed(plan(op, target)))
        return signalPassFailure();
    for (const Override &override : parsed)
      if (!override.used) {
        emitError(placeOf(override, module.getLoc()), "schedule override `")
            << override.text << "` matches no kernel that has a schedule"
            << plannedNames();
        return signalPassFailure();
      }
  }

  /// Replaces the function around `op` by its decode, prefill and merge.
  LogicalResult plan(AttendOp op, TargetAttr target) {
    auto function = dyn_cast<func::FuncOp>(op->getParentOp());
    if (!function || getOnlyOp(function) != op || op.getSplits())
      return op.emitError(
          "cannot plan an attend unless it is whole and alone in a function");
    auto store =
        SymbolTable::lookupNearestSymbolFrom<StoreOp>(op, op.getStoreAttr());
    std::string prefix = function.getSymName().str();
    // Every result has the sink once, not every split.
    Region sink;
    sink.takeBody(op.getSink());
    Type dtype = cast<RankedTensorType>(op.getQ().getType()).getElementType();
    Workload workload = Workload::of(store, dtype, target);
    if (failed(emitVariant(function, prefix + ".decode", workload,
                           AttendKind::Decode)) ||
        failed(emitVariant(function, prefix + ".prefill", workload,
                           AttendKind::Prefill)))
      return failure();
    emitMerge(function, op, store, sink);
    function.erase();
    return success();
  }

  /// A copy of the function in which attend makes splits as its schedule says.
  LogicalResult emitVariant(func::FuncOp function, const std::string &name,
                            const Workload &workload, AttendKind kind) {
    OpBuilder b(function);
    auto variant = cast<func::FuncOp>(b.clone(*function));
    variant.setSymName(name);
    auto attend = cast<AttendOp>(getOnlyOp(variant));
    auto schedule = chooseSchedule(attend, name, workload, kind);
    if (!schedule)
      return failure();
    attend.setSplits(schedule.getSplit() ? schedule.getSplit() : INT64_MAX);
    attend.setScheduleAttr(schedule);
    for (Value result : attend.getResults())
      result.setType(partial(result));
    variant.setFunctionType(
        b.getFunctionType(variant.getArgumentTypes(), attend.getResultTypes()));
    return success();
  }

  void emitMerge(func::FuncOp function, AttendOp attend, StoreOp store,
                 Region &sink) {
    OpBuilder b(function);
    Location loc = function.getLoc();
    RankedTensorType o = partial(attend.getO()), lse = partial(attend.getLse());
    auto type = b.getFunctionType({o, lse}, attend.getResultTypes());
    std::string name = (store.getSymName() + ".merge").str();
    auto merge = func::FuncOp::create(b, loc, name, type);
    b.setInsertionPointToStart(merge.addEntryBlock());
    auto op = MergeOp::create(b, attend.getLoc(), attend.getResultTypes(),
                              attend.getStoreAttr(), merge.getArgument(0),
                              merge.getArgument(1));
    op.getSink().takeBody(sink);
    func::ReturnOp::create(b, loc, op.getResults());
  }

  /// f32 with a leading axis of splits.
  static RankedTensorType partial(Value value) {
    auto type = cast<RankedTensorType>(value.getType());
    SmallVector<int64_t> shape(type.getShape());
    shape.insert(shape.begin(), ShapedType::kDynamic);
    return RankedTensorType::get(shape, Float32Type::get(type.getContext()));
  }

  struct Override {
    int64_t index; ///< among all, in the order that they were given in
    std::string text;
    llvm::GlobPattern kernel;
    std::string field;
    int64_t value;
    bool used = false;
  };

  /// `loc`, with the override's index for whoever gave it.
  static Location placeOf(const Override &override, Location loc) {
    Builder b(loc.getContext());
    return FusedLoc::get({loc}, b.getI64IntegerAttr(override.index),
                         loc.getContext());
  }

  LogicalResult parseOverrides(ModuleOp module) {
    parsed.clear();
    planned.clear();
    for (auto [index, text] : llvm::enumerate(overrides)) {
      if (text.empty())
        continue;
      auto [path, valueText] = StringRef(text).split('=');
      auto [glob, field] = path.rsplit('.');
      auto place = FusedLoc::get({module.getLoc()},
                                 Builder(module).getI64IntegerAttr(index),
                                 module.getContext());
      int64_t value;
      if (field.empty() || valueText.getAsInteger(10, value))
        return mlir::emitError(place, "schedule override `")
               << text << "` is not KERNEL.FIELD=VALUE";
      auto kernel = llvm::GlobPattern::create(glob);
      if (!kernel)
        return mlir::emitError(place, "schedule override `")
               << text << "`: " << llvm::toString(kernel.takeError());
      parsed.push_back(
          {int64_t(index), text, std::move(*kernel), field.str(), value});
    }
    return success();
  }

  /// "; those are `a` and `b`", or nothing if none was planned.
  std::string plannedNames() const {
    constexpr size_t kMost = 8;
    std::string text;
    size_t shown = std::min(planned.size(), kMost);
    for (size_t i = 0; i < shown; ++i)
      text += (i == 0                    ? "; those are `"
               : i + 1 == planned.size() ? " and `"
                                         : ", `") +
              planned[i] + "`";
    if (shown < planned.size())
      text += " and " + std::to_string(planned.size() - shown) + " more";
    return text;
  }

  /// The backend's choice with the overrides that name this kernel; null after
  /// an error. From then on the op is placed at the last of them.
  ScheduleAttrInterface chooseSchedule(AttendOp op, StringRef kernel,
                                       const Workload &workload,
                                       AttendKind kind) {
    auto scheduler =
        dyn_cast<SchedulerAttrInterface>(workload.target.defaultSchedule());
    if (!scheduler) {
      op.emitError("no backend here plans for ") << workload.target;
      return {};
    }
    planned.push_back(kernel.str());
    ScheduleAttrInterface choice = scheduler.plan(workload, kind);
    Location place = op.getLoc();
    SmallVector<FieldValue> fields;
    SmallVector<StringRef> texts;
    for (Override &override : parsed) {
      if (!override.kernel.match(kernel))
        continue;
      override.used = true;
      fields.push_back({override.field, override.value});
      texts.push_back(override.text);
      op->setLoc(placeOf(override, place));
    }
    auto refuse = [&] {
      return emitError(op.getLoc())
             << "schedule override `" << llvm::join(texts, "`, `") << "` of `"
             << kernel << "`: ";
    };
    ScheduleAttrInterface schedule = choice.with(refuse, fields);
    if (!schedule)
      return {};
    Legality legality = cast<SchedulerAttrInterface>(schedule).legal(workload);
    if (legality)
      return schedule;
    if (fields.empty()) {
      op.emitError("no schedule of this store is known to be legal on `")
          << workload.target.getName() << "`: " << legality.why;
      return {};
    }
    // At the last of those that the broken rule is about, if it is about one.
    for (const Override &override : parsed)
      if (override.kernel.match(kernel) &&
          StringRef(legality.why).contains("`" + override.field + "`"))
        op->setLoc(placeOf(override, place));
    refuse() << legality.why;
    return {};
  }

  SmallVector<Override, 0> parsed;
  SmallVector<std::string, 0> planned; ///< names of kernels
};

} // namespace
