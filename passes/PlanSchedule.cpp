//===- PlanSchedule.cpp - which kernels there are, and how each runs ------===//
//
// The one place where tiles are chosen. Every choice is a field of the schedule
// attribute, so it can be read, overridden and tuned.
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

/// Up to this many query tokens a sequence is decoding (with drafts); above, it
/// is prefilling.
constexpr int64_t kDecodeQueries = 16;
/// Cached tokens per work item. A prefill has items enough from its queries,
/// and every part costs room for as many partial rows.
constexpr int64_t kDecodeSplit = 2048, kPrefillSplit = 16384;

/// Query rows per register tile: as many as share a loaded K element while
/// accumulators stay in registers, with the fewest padded rows.
int64_t chooseRows(int64_t group, int64_t registers, bool dot) {
  if (registers >= 32 && group % 8 == 0)
    return 8;
  // Products have a power of two of rows in a register.
  SmallVector<int64_t> candidates{4, 3, 5, 2};
  if (dot)
    candidates = {4, 2};
  for (int64_t rows : candidates)
    if (group % rows == 0)
      return rows;
  return group == 1 ? 1 : 4;
}

int64_t rowBytes(StreamInfo stream) {
  return stream.dim * stream.codec.getCodeType().getIntOrFloatBitWidth() / 8;
}
/// Of the longer of a token's two rows.
int64_t rowBytes(CacheType cache) {
  return std::max(rowBytes(cache.stream(StreamKind::K)),
                  rowBytes(cache.stream(StreamKind::V)));
}

/// Tokens per tile: 4 KiB of each stream, which one tile's arithmetic covers
/// the latency of; or fewer if pages then hold whole tiles, whose rows stand
/// evenly.
int64_t chooseTokens(CacheType cache) {
  int64_t page = cache.layout().getPageTokens();
  int64_t wanted = std::clamp<int64_t>(4096 / rowBytes(cache), 16, 64);
  for (int64_t tokens : {64, 32, 16, 8, 4})
    if (tokens <= wanted && page % tokens == 0)
      return tokens;
  return 16;
}

/// Tokens ahead to prefetch: 8 KiB of each stream, in whole tiles.
int64_t choosePrefetch(CacheType cache, int64_t tokens) {
  return std::clamp<int64_t>(8192 / rowBytes(cache) / tokens, 1, 3) * tokens;
}

ScheduleAttr decodeSchedule(StoreOp store, Type dtype, TargetAttr target) {
  auto cache = cast<CacheType>(store.getCache());
  StreamInfo k = cache.stream(StreamKind::K), v = cache.stream(StreamKind::V);
  bool dotK = target.hasDot(k.codec.getCodeType(), dtype);
  bool dot = dotK || target.hasDot(v.codec.getCodeType(), dtype);
  int64_t rows = chooseRows(store.getGroup(), target.getRegisters(), dot);
  int64_t tokens = chooseTokens(cache);
  // Enough independent accumulators to cover the multiply-add's latency; of
  // products, a key has one for all rows, and long rows are work enough.
  int64_t vectors = llvm::divideCeil(rowBytes(k), 64) * rows;
  int64_t keys =
      dotK ? std::clamp<int64_t>(128 / vectors, 2,
                                 std::max<int64_t>(8, target.getLanes() / rows))
           : std::clamp<int64_t>(target.getRegisters() / 2 / rows, 1, 8);
  keys = llvm::bit_floor(uint64_t(keys));
  return ScheduleAttr::get(store.getContext(), tokens, rows,
                           std::min(keys, tokens), kDecodeQueries, kDecodeSplit,
                           choosePrefetch(cache, tokens), /*level=*/2,
                           /*pack=*/false, dot);
}

ScheduleAttr prefillSchedule(StoreOp store, Type dtype, TargetAttr target) {
  auto cache = cast<CacheType>(store.getCache());
  // Query rows, accumulators and packed tiles of an item share the L2 cache:
  // 256 rows of 128 elements take 400 KB of its 512 or more.
  int64_t dim = std::max(cache.getDimK(), cache.getDimV());
  int64_t rows = std::max<int64_t>(1, 256 * 128 / dim);
  int64_t queries = std::clamp<int64_t>(rows / store.getGroup(), 1, 256);
  Type bf16 = BFloat16Type::get(store.getContext());
  return ScheduleAttr::get(store.getContext(), /*tokens=*/64,
                           /*rows=*/target.getRegisters() >= 32 ? 8 : 4,
                           /*keys=*/1, queries, kPrefillSplit, /*prefetch=*/0,
                           /*level=*/2, /*pack=*/true,
                           /*dot=*/target.hasDot(bf16, dtype));
}

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
        module.emitError("schedule override `")
            << override.text << "` matches no kernel that has a schedule";
        return signalPassFailure();
      }
  }

  /// Replaces the function around `op` by its decode, prefill and merge.
  LogicalResult plan(AttendOp op, TargetAttr target) {
    auto function = dyn_cast<func::FuncOp>(op->getParentOp());
    if (!function || getOnlyOp(function) != op || op.getParts())
      return op.emitError(
          "cannot plan an attend unless it is whole and alone in a function");
    auto store =
        SymbolTable::lookupNearestSymbolFrom<StoreOp>(op, op.getStoreAttr());
    std::string prefix = function.getSymName().str();
    Type dtype = cast<RankedTensorType>(op.getQ().getType()).getElementType();
    if (failed(emitVariant(function, prefix + ".decode",
                           decodeSchedule(store, dtype, target))) ||
        failed(emitVariant(function, prefix + ".prefill",
                           prefillSchedule(store, dtype, target))))
      return failure();
    emitMerge(function, op, store);
    function.erase();
    return success();
  }

  /// A copy of the function in which attend makes parts as `schedule` says.
  LogicalResult emitVariant(func::FuncOp function, const std::string &name,
                            ScheduleAttr schedule) {
    schedule = applyOverrides(function.getLoc(), name, schedule);
    if (!schedule)
      return failure();
    OpBuilder b(function);
    auto variant = cast<func::FuncOp>(b.clone(*function));
    variant.setSymName(name);
    auto attend = cast<AttendOp>(getOnlyOp(variant));
    attend.setParts(schedule.getSplit() ? schedule.getSplit() : INT64_MAX);
    attend.setScheduleAttr(schedule);
    for (Value result : attend.getResults())
      result.setType(parts(result));
    variant.setFunctionType(
        b.getFunctionType(variant.getArgumentTypes(), attend.getResultTypes()));
    return success();
  }

  void emitMerge(func::FuncOp function, AttendOp attend, StoreOp store) {
    OpBuilder b(function);
    Location loc = function.getLoc();
    RankedTensorType o = parts(attend.getO()), lse = parts(attend.getLse());
    auto type = b.getFunctionType({o, lse}, attend.getResultTypes());
    std::string name = (store.getSymName() + ".merge").str();
    auto merge = func::FuncOp::create(b, loc, name, type);
    b.setInsertionPointToStart(merge.addEntryBlock());
    auto op = MergeOp::create(b, attend.getLoc(), attend.getResultTypes(),
                              attend.getStoreAttr(), merge.getArgument(0),
                              merge.getArgument(1));
    func::ReturnOp::create(b, loc, op.getResults());
  }

  /// f32 with a leading axis of parts.
  static RankedTensorType parts(Value value) {
    auto type = cast<RankedTensorType>(value.getType());
    SmallVector<int64_t> shape(type.getShape());
    shape.insert(shape.begin(), ShapedType::kDynamic);
    return RankedTensorType::get(shape, Float32Type::get(type.getContext()));
  }

  struct Override {
    std::string text;
    llvm::GlobPattern kernel;
    std::string field;
    int64_t value;
    bool used = false;
  };

  LogicalResult parseOverrides(ModuleOp module) {
    parsed.clear();
    for (const std::string &text : overrides) {
      auto [path, valueText] = StringRef(text).split('=');
      auto [glob, field] = path.rsplit('.');
      auto kernel = llvm::GlobPattern::create(glob);
      int64_t value;
      if (!kernel || field.empty() || valueText.getAsInteger(10, value)) {
        llvm::consumeError(kernel.takeError());
        return module.emitError("schedule override `")
               << text << "` is not KERNEL.FIELD=VALUE";
      }
      parsed.push_back({text, std::move(*kernel), field.str(), value});
    }
    return success();
  }

  /// Applies the overrides that name this kernel; null after an error.
  ScheduleAttr applyOverrides(Location loc, StringRef kernel,
                              ScheduleAttr schedule) {
    SmallVector<ScheduleAttr::Field> fields;
    SmallVector<StringRef> texts;
    for (Override &override : parsed) {
      if (!override.kernel.match(kernel))
        continue;
      override.used = true;
      fields.push_back({override.field, override.value});
      texts.push_back(override.text);
    }
    auto refuse = [&] {
      return emitError(loc)
             << "schedule override `" << llvm::join(texts, "`, `") << "` of "
             << schedule << ": ";
    };
    return schedule.with(refuse, fields);
  }

  SmallVector<Override, 0> parsed;
};

} // namespace
