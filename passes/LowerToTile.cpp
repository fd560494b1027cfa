//===- LowerToTile.cpp - each kvc op becomes one tile.kernel --------------===//
#include "passes/LogitScale.h"
#include "passes/Passes.h"

#include "mlir/IR/IRMapping.h"

#include <cmath>

namespace kvc {
#define GEN_PASS_DEF_LOWERTOTILE
#include "passes/Passes.h.inc"
} // namespace kvc

using namespace mlir;
using namespace kvc;

Operation *kvc::getOnlyOp(func::FuncOp function) {
  if (!llvm::hasSingleElement(function.getBody()) ||
      !llvm::hasNItems(function.getBody().front(), 2))
    return nullptr;
  Operation *op = &function.getBody().front().front();
  auto end = dyn_cast<func::ReturnOp>(op->getNextNode());
  return end && end.getOperands() == op->getResults() ? op : nullptr;
}

namespace {

/// Builds the kernels of one store.
class KernelBuilder {
public:
  KernelBuilder(OpBuilder &b, Operation *op, StoreOp store)
      : b(b), loc(op->getLoc()), store(store),
        cache(cast<CacheType>(store.getCache())) {}

  void attend(StringRef name, AttendOp op);
  void merge(StringRef name, MergeOp op);
  void append(StringRef name, AppendOp op);
  void gather(StringRef name, GatherOp op);

private:
  RankedTensorType tensor(ArrayRef<int64_t> shape, Type element) {
    return RankedTensorType::get(shape, element);
  }
  Type f32() { return b.getF32Type(); }

  static void cloneInto(Region &from, Region &to) {
    IRMapping mapping;
    from.cloneInto(&to, mapping);
  }

  /// Opens a kernel; the builder then stands in its body.
  void open(StringRef name, StringRef kind, Type dtype,
            ScheduleAttrInterface schedule = {}) {
    auto kernel = tile::KernelOp::create(b, loc, name, store.getSymName(), kind,
                                         dtype, schedule);
    b.createBlock(&kernel.getBody());
  }

  /// Opens a loop over tiles, splits or rows.
  template <typename LoopOp, typename... Args>
  LoopOp openLoop(TypeRange arguments, Args &&...args) {
    auto loop = LoopOp::create(b, loc, std::forward<Args>(args)...);
    SmallVector<Location> locs(arguments.size(), loc);
    b.createBlock(&loop.getBody(), {}, arguments, locs);
    return loop;
  }

  /// Loads and dequantizes a tile of a stream, scale and all.
  Value loadTile(Value tokens, StringRef stream, int64_t count) {
    StreamInfo info = cache.stream(stream);
    SmallVector<Type> types;
    for (const CodecPlane &plane : info.planes())
      types.push_back(tensor(
          {int64_t(llvm::divideCeil(count, plane.tokens)), plane.elements},
          plane.type));
    auto load = tile::LoadOp::create(b, loc, types, tokens, stream);
    return info.codec.buildDequantize(b, loc, load.getPlanes());
  }

  OpBuilder &b;
  Location loc;
  StoreOp store;
  CacheType cache;
};

void KernelBuilder::attend(StringRef name, AttendOp op) {
  OpBuilder::InsertionGuard guard(b);
  Type dtype = cast<RankedTensorType>(op.getQ().getType()).getElementType();
  ScheduleAttrInterface schedule = *op.getSchedule();
  open(name, "attend", dtype, schedule);

  int64_t any = ShapedType::kDynamic, tokens = schedule.getTokens();
  // Logits in powers of two make each probability one exp2.
  Region logits;
  double scale = op.getScale().convertToDouble();
  if (op.getLogits().empty()) {
    scale *= M_LOG2E;
  } else {
    cloneInto(op.getLogits(), logits);
    scale *= scaleLogits(logits);
  }
  Value q = tile::LoadQueryOp::create(
      b, loc, tensor({any, cache.getDimK()}, f32()), b.getF64FloatAttr(scale));
  auto state = tile::SoftmaxType::get(b.getContext(), cache.getDimV());
  auto tokensType = tile::TokensType::get(b.getContext());
  Value init = tile::SoftmaxInitOp::create(b, loc, state);
  auto loop = openLoop<tile::ForTokensOp>({tokensType, state}, state, Value(),
                                          init, store.getReadAttr());
  Value tile = loop.getBody().getArgument(0);
  Value carried = loop.getBody().getArgument(1);
  auto scoresType = tensor({any, tokens}, f32());
  Value scores = tile::DotOp::create(b, loc, scoresType, q,
                                     loadTile(tile, kStreamK, tokens));
  if (!logits.empty()) {
    auto apply = tile::LogitsOp::create(b, loc, scoresType, scores, tile);
    apply.getLogits().takeBody(logits);
    scores = apply.getResult();
  }
  auto mask = tile::MaskOp::create(b, loc, scoresType, scores, tile,
                                   store.getReadAttr());
  cloneInto(op.getVisible(), mask.getVisible());
  auto step = tile::SoftmaxStepOp::create(b, loc, scoresType, state,
                                          mask.getResult(), carried);
  Value next = tile::AccumulateOp::create(b, loc, state, step.getP(),
                                          loadTile(tile, kStreamV, tokens),
                                          step.getNext());
  tile::YieldOp::create(b, loc, next);
  b.setInsertionPointAfter(loop);
  tile::StorePartialOp::create(b, loc, loop.getResult(0));
}

void KernelBuilder::merge(StringRef name, MergeOp op) {
  OpBuilder::InsertionGuard guard(b);
  Type dtype = cast<RankedTensorType>(op.getO().getType()).getElementType();
  open(name, "merge", dtype);
  auto state = tile::SoftmaxType::get(b.getContext(), cache.getDimV());
  auto init = tile::SoftmaxInitOp::create(b, loc, state);
  cloneInto(op.getSink(), init.getSink());
  auto loop = openLoop<tile::ForSplitsOp>({b.getIndexType(), state}, state,
                                          init.getState());
  Block &body = loop.getBody().front();
  Value next = tile::MergeStepOp::create(b, loc, state, body.getArgument(0),
                                         body.getArgument(1));
  tile::YieldOp::create(b, loc, next);
  b.setInsertionPointAfter(loop);
  tile::StoreOutputOp::create(b, loc, loop.getResult(0));
}

void KernelBuilder::append(StringRef name, AppendOp op) {
  OpBuilder::InsertionGuard guard(b);
  Type dtype = cast<RankedTensorType>(op.getK().getType()).getElementType();
  open(name, "append", dtype);
  auto loop = openLoop<tile::ForRowsOp>({tile::TokensType::get(b.getContext())},
                                        TypeRange(), ValueRange());
  Value row = loop.getBody().getArgument(0);
  for (StringRef stream : {kStreamK, kStreamV}) {
    if (stream == kStreamV && !op.getV())
      continue;
    StreamInfo info = cache.stream(stream);
    Value x =
        tile::LoadRowOp::create(b, loc, tensor({info.dim}, f32()), row, stream);
    SmallVector<Type> types;
    for (const CodecPlane &plane : info.planes())
      types.push_back(tensor(plane.elements, plane.type));
    auto quantize = tile::QuantizeOp::create(b, loc, types, x, info.codec);
    tile::StoreRowOp::create(b, loc, row, stream, quantize.getPlanes());
  }
  tile::YieldOp::create(b, loc, ValueRange());
}

void KernelBuilder::gather(StringRef name, GatherOp op) {
  OpBuilder::InsertionGuard guard(b);
  Type dtype = cast<RankedTensorType>(op.getK().getType()).getElementType();
  open(name, "gather", dtype);
  auto loop = openLoop<tile::ForRowsOp>({tile::TokensType::get(b.getContext())},
                                        TypeRange(), ValueRange());
  Value row = loop.getBody().getArgument(0);
  for (StringRef stream : {kStreamK, kStreamV})
    tile::StoreDecodedOp::create(b, loc, row, stream,
                                 loadTile(row, stream, /*count=*/1));
  tile::YieldOp::create(b, loc, ValueRange());
}

struct LowerToTile : kvc::impl::LowerToTileBase<LowerToTile> {
  void runOnOperation() override {
    for (auto function :
         llvm::make_early_inc_range(getOperation().getOps<func::FuncOp>()))
      if (failed(lower(function)))
        return signalPassFailure();
  }

  /// A function that holds one kvc op and its return becomes a kernel.
  LogicalResult lower(func::FuncOp function) {
    OpBuilder b(function);
    Operation *op = getOnlyOp(function);
    if (!isa_and_nonnull<AppendOp, GatherOp, AttendOp, MergeOp>(op))
      return function.emitError("expected one kvc op and a return");
    auto name = op->getAttrOfType<FlatSymbolRefAttr>("store");
    auto store = SymbolTable::lookupNearestSymbolFrom<StoreOp>(op, name);
    KernelBuilder kernels(b, op, store);
    StringRef symbol = function.getSymName();
    if (auto attend = dyn_cast<AttendOp>(op)) {
      if (!attend.getSchedule() || !attend.getSplits())
        return op->emitError(
            "has no schedule or no splits: run kvc-plan-schedule first");
      kernels.attend(symbol, attend);
    } else if (auto merge = dyn_cast<MergeOp>(op)) {
      kernels.merge(symbol, merge);
    } else if (auto gather = dyn_cast<GatherOp>(op)) {
      kernels.gather(symbol, gather);
    } else {
      kernels.append(symbol, cast<AppendOp>(op));
    }
    function.erase();
    return success();
  }
};

} // namespace
