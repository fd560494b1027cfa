//===- KernelModule.cpp - the IR of a drawn kernel ------------------------===//
#include "test/unit/Tile/KernelModule.h"

#include "dialect/Score.h"

using namespace mlir;
using namespace kvc;
using namespace kvc::fuzz;

namespace {

/// Builds the one kernel of a module.
class KernelBuilder {
public:
  KernelBuilder(const fuzz::Kernel &kernel, OpBuilder &b, StoreOp store,
                bool combinesSplits)
      : kernel(kernel), b(b), loc(b.getUnknownLoc()), store(store),
        cache(cast<CacheType>(store.getCache())),
        combinesSplits(combinesSplits) {}

  void build(ScheduleAttrInterface schedule);

private:
  struct Tile {
    Value tokens, codes, scales;
  };

  void attend(int64_t tokens);
  void attendRound(Value q, Value tile, Value state, int64_t tokens);
  void merge();
  void emitSink(Region &region);
  void rows();
  void append(Value row);
  void appendRow(Value row, StringRef from, StringRef to);

  RankedTensorType tensor(ArrayRef<int64_t> shape, Type element) {
    return RankedTensorType::get(shape, element);
  }
  Type f32() { return b.getF32Type(); }
  template <typename LoopOp, typename... Args>
  LoopOp openLoop(TypeRange arguments, Args &&...args) {
    auto loop = LoopOp::create(b, loc, std::forward<Args>(args)...);
    SmallVector<Location> locs(arguments.size(), loc);
    b.createBlock(&loop.getBody(), {}, arguments, locs);
    return loop;
  }
  Tile load(Value tile, StringRef stream, int64_t tokens);
  Value dequantize(const Tile &tile, bool scaled);
  /// Each gives what it is given, or what a dot would.
  Value slice(Value x, int64_t first, int64_t channels);
  Value identity(Value x);
  Value contract(Type type, Value q, Value k);
  Value logits(Value x, const Expr &expr, Value tokens);
  Value apply(Value x, ArrayRef<ChainStep> chain, const Tile &keys,
              const Tile &values);

  const fuzz::Kernel &kernel;
  OpBuilder &b;
  Location loc;
  StoreOp store;
  CacheType cache;
  const bool combinesSplits; ///< attend kernels, in their last split
};

} // namespace

void KernelBuilder::build(ScheduleAttrInterface schedule) {
  const char *kind = kernel.isAttend()             ? "attend"
                     : kernel.kind == Kind::Merge  ? "merge"
                     : kernel.kind == Kind::Gather ? "gather"
                                                   : "append";
  auto op =
      tile::KernelOp::create(b, loc, "s.kernel", store.getSymName(), kind,
                             floatType(b.getContext(), kernel.dtype), schedule);
  b.createBlock(&op.getBody());
  if (kernel.isAttend())
    attend(schedule.getTokens());
  else if (kernel.kind == Kind::Merge)
    merge();
  else
    rows();
}

KernelBuilder::Tile KernelBuilder::load(Value tile, StringRef stream,
                                        int64_t tokens) {
  SmallVector<Type> types;
  for (const CodecPlane &plane : cache.stream(stream).planes())
    types.push_back(
        tensor({tokens / plane.tokens, plane.elements}, plane.type));
  auto op = LoadOp::create(b, loc, types, tile, stream);
  return {tile, op.getCodes(), types.size() > 1 ? op.getPlanes()[1] : Value()};
}

Value KernelBuilder::dequantize(const Tile &tile, bool scaled) {
  auto load = tile.codes.getDefiningOp<LoadOp>();
  if (kernel.codec(load.getStream()).boxes)
    return cache.stream(load.getStream())
        .codec.buildDequantize(b, loc, load.getPlanes());
  Value x = ConvertOp::create(b, loc, tile.codes);
  return scaled ? ScaleOp::create(b, loc, x.getType(), x, tile.scales) : x;
}

Value KernelBuilder::slice(Value x, int64_t first, int64_t channels) {
  int64_t tokens = cast<RankedTensorType>(x.getType()).getDimSize(0);
  return tile::SliceOp::create(b, loc, tensor({tokens, channels}, f32()), x,
                               first, first + channels);
}

/// A block of arguments, one for each operand of `op`.
static Block &elementBlock(OpBuilder &b, Location loc, Operation *op) {
  Block &block = op->getRegion(0).emplaceBlock();
  for (unsigned i = 0; i < op->getNumOperands(); ++i)
    block.addArgument(b.getF32Type(), loc);
  b.setInsertionPointToEnd(&block);
  return block;
}

Value KernelBuilder::identity(Value x) {
  auto op = tile::MapOp::create(b, loc, x.getType(), x);
  OpBuilder::InsertionGuard guard(b);
  Block &block = elementBlock(b, loc, op);
  ScoreYieldOp::create(b, loc, block.getArgument(0));
  return op.getResult();
}

Value KernelBuilder::contract(Type type, Value q, Value k) {
  auto op = tile::ContractOp::create(b, loc, type, q, k);
  OpBuilder::InsertionGuard guard(b);
  Block &block = elementBlock(b, loc, op);
  Value product =
      arith::MulFOp::create(b, loc, block.getArgument(0), block.getArgument(1));
  ScoreYieldOp::create(b, loc, product);
  return op.getResult();
}

Value KernelBuilder::logits(Value x, const Expr &expr, Value tokens) {
  auto op = tile::LogitsOp::create(b, loc, x.getType(), x, tokens);
  expr.emit(op.getLogits(), loc);
  return op.getResult();
}

Value KernelBuilder::apply(Value x, ArrayRef<ChainStep> chain, const Tile &keys,
                           const Tile &values) {
  for (const ChainStep &step : chain) {
    if (step.what == ChainStep::Apply)
      x = logits(x, step.logits, keys.tokens);
    else
      x = tile::ScaleTokensOp::create(
          b, loc, x.getType(), x,
          step.scales == kernel.keys ? keys.scales : values.scales);
  }
  return x;
}

void KernelBuilder::attend(int64_t tokens) {
  OpBuilder::InsertionGuard guard(b);
  int64_t any = ShapedType::kDynamic;
  Value q =
      tile::LoadQueryOp::create(b, loc, tensor({any, cache.getDimK()}, f32()),
                                b.getF64FloatAttr(kernel.queryScale));
  auto state = tile::SoftmaxType::get(b.getContext(), kernel.dims[1]);
  auto tokensType = tile::TokensType::get(b.getContext());
  Value init = tile::SoftmaxInitOp::create(b, loc, state);
  auto loop = openLoop<tile::ForTokensOp>({tokensType, state}, state, Value(),
                                          init, store.getReadAttr());
  attendRound(q, loop.getBody().getArgument(0), loop.getBody().getArgument(1),
              tokens);
  b.setInsertionPointAfter(loop);
  auto partial = tile::StorePartialOp::create(b, loc, loop.getResult(0));
  if (!combinesSplits)
    return;
  b.createBlock(&partial.getLast());
  merge();
}

void KernelBuilder::attendRound(Value q, Value tile, Value state,
                                int64_t tokens) {
  auto scoresType = tensor({ShapedType::kDynamic, tokens}, f32());
  auto mask = [&](Value x) -> Value {
    auto op =
        tile::MaskOp::create(b, loc, scoresType, x, tile, store.getReadAttr());
    if (!kernel.visible.isEmpty())
      kernel.visible.emit(op.getVisible(), loc);
    return op.getResult();
  };
  Tile keys = load(tile, kernel.keys, tokens), values;
  // Scales must be there before what they scale.
  bool early = kernel.choice[OpOrder] == order::LoadsFirst ||
               (kernel.keys != kernel.values &&
                kernel.choice[KeyScale] == scale::OfOther);
  unsigned detour = kernel.choice[Detour];
  if (early && detour != detour::ValuesOfKeys)
    values = load(tile, kernel.values, tokens);
  Value k = dequantize(keys, kernel.scaledInDequantize(kernel.keys, KeyScale));
  if (detour == detour::SliceOfKeys)
    k = slice(k, 0, kernel.dims[0]);
  Value scores = detour == detour::Contraction
                     ? contract(scoresType, q, k)
                     : tile::DotOp::create(b, loc, scoresType, q, k);
  if (detour == detour::MapOfScores)
    scores = identity(scores);
  if (kernel.choice[MaskPlace])
    scores = mask(scores);
  scores = apply(scores, kernel.scores, keys, values);
  if (!kernel.choice[MaskPlace])
    scores = mask(scores);
  auto step = tile::SoftmaxStepOp::create(b, loc, scoresType, state.getType(),
                                          scores, state);
  Value v = k;
  if (detour == detour::ValuesOfKeys) {
    values = keys;
  } else {
    if (!early)
      values = load(tile, kernel.values, tokens);
    v = dequantize(values,
                   kernel.scaledInDequantize(kernel.values, ValueScale));
  }
  if (detour == detour::SliceOfValues || detour == detour::ValuesOfKeys)
    v = slice(v, kernel.firstValue, kernel.dims[1]);
  // With one stream for both, the scales of values are those of the second
  // load: a chain takes those that stand beside what it multiplies.
  Value p = apply(step.getP(), kernel.probabilities,
                  kernel.keys == kernel.values ? values : keys, values);
  Value next =
      tile::AccumulateOp::create(b, loc, state.getType(), p, v, step.getNext());
  tile::YieldOp::create(b, loc, next);
}

void KernelBuilder::emitSink(Region &region) {
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToEnd(&addScoreBlock(region, ScoreRegionKind::Sink, loc));
  auto real = [&](double value) -> Value {
    return arith::ConstantOp::create(b, loc, b.getF32FloatAttr(float(value)));
  };
  auto times = [&](ScoreInput head, double factor) -> Value {
    Value x = arith::SIToFPOp::create(b, loc, f32(), argumentOf(region, head));
    return arith::MulFOp::create(b, loc, x, real(factor));
  };
  Value x = arith::AddFOp::create(
      b, loc, real(kernel.sink->base),
      times(ScoreInput::QueryHead, kernel.sink->perQHead));
  x = arith::SubFOp::create(b, loc, x,
                            times(ScoreInput::KvHead, kernel.sink->perKvHead));
  ScoreYieldOp::create(b, loc, x);
}

void KernelBuilder::merge() {
  OpBuilder::InsertionGuard guard(b);
  auto state = tile::SoftmaxType::get(b.getContext(), kernel.dims[1]);
  auto init = tile::SoftmaxInitOp::create(b, loc, state);
  if (kernel.sink)
    emitSink(init.getSink());
  auto loop =
      openLoop<ForSplitsOp>({b.getIndexType(), state}, state, init.getState());
  Block &body = loop.getBody().front();
  Value next = tile::MergeStepOp::create(b, loc, state, body.getArgument(0),
                                         body.getArgument(1));
  tile::YieldOp::create(b, loc, next);
  b.setInsertionPointAfter(loop);
  tile::StoreOutputOp::create(b, loc, loop.getResult(0));
}

void KernelBuilder::rows() {
  OpBuilder::InsertionGuard guard(b);
  auto loop = openLoop<tile::ForRowsOp>({tile::TokensType::get(b.getContext())},
                                        TypeRange(), ValueRange());
  Value row = loop.getBody().getArgument(0);
  if (kernel.kind == Kind::Gather)
    buildGathered(kernel, b, cache, row);
  else
    append(row);
  tile::YieldOp::create(b, loc, ValueRange());
}

void KernelBuilder::append(Value row) {
  unsigned which = kernel.choice[StoredRows];
  if (which == stored::Exchanged) {
    appendRow(row, kStreamV, kStreamK);
    appendRow(row, kStreamK, kStreamV);
  }
  if (which == stored::KThenV || which == stored::OnlyK)
    appendRow(row, kStreamK, kStreamK);
  if (which == stored::KThenV || which == stored::OnlyV ||
      which == stored::VThenK)
    appendRow(row, kStreamV, kStreamV);
  if (which == stored::VThenK)
    appendRow(row, kStreamK, kStreamK);
}

void KernelBuilder::appendRow(Value row, StringRef from, StringRef to) {
  StreamInfo info = cache.stream(to);
  Value x =
      tile::LoadRowOp::create(b, loc, tensor({info.dim}, f32()), row, from);
  SmallVector<Type> types;
  for (const CodecPlane &plane : info.planes())
    types.push_back(tensor(plane.elements, plane.type));
  auto quantize = QuantizeOp::create(b, loc, types, x, info.codec);
  tile::StoreRowOp::create(b, loc, row, to, quantize.getPlanes());
}

/// Moves ops of a block to where they may stand as well: after what they use,
/// before what uses them.
static void reorder(Block &block, Random &random) {
  std::vector<Operation *> ops;
  for (Operation &op : block.without_terminator())
    ops.push_back(&op);
  for (size_t move = 0; move < 2 * ops.size(); ++move) {
    Operation *op = ops[random.below(ops.size())];
    Operation *after = nullptr, *before = block.getTerminator();
    for (Value operand : op->getOperands())
      if (Operation *made = operand.getDefiningOp();
          made && made->getBlock() == &block &&
          (!after || after->isBeforeInBlock(made)))
        after = made;
    for (Operation *user : op->getUsers())
      if (user->isBeforeInBlock(before))
        before = user;
    std::vector<Operation *> places;
    for (Operation *at = after ? after->getNextNode() : &block.front();
         at != before; at = at->getNextNode())
      places.push_back(at);
    places.push_back(before);
    if (Operation *to = places[random.below(places.size())]; to != op)
      op->moveBefore(to);
  }
}

OwningOpRef<ModuleOp> fuzz::buildModule(const fuzz::Kernel &kernel,
                                        TargetAttr target,
                                        ScheduleAttrInterface schedule) {
  MLIRContext *context = target.getContext();
  OpBuilder b(context);
  OwningOpRef<ModuleOp> module = ModuleOp::create(b, b.getUnknownLoc());
  (*module)->setAttr("kvc.target", target);
  b.setInsertionPointToStart(module->getBody());
  PageOrder order = kernel.nhd ? PageOrder::NHD : PageOrder::HND;
  Attribute layout = ContiguousAttr::get(context, order);
  if (kernel.page)
    layout = PagedAttr::get(context, kernel.page, order);
  Attribute read = ReadAllAttr::get(context, kernel.causal);
  if (kernel.window)
    read = SlidingWindowAttr::get(context, kernel.window->sink,
                                  kernel.window->recent, kernel.causal);
  auto stream = [&](StringRef name) {
    return StreamAttr::get(context, name, kernel.dim(name),
                           kernel.codec(name).attribute(context));
  };
  SmallVector<StreamAttr> streams = {stream(kStreamK), stream(kStreamV)};
  if (kernel.wide)
    streams.push_back(StreamAttr::get(context, kStreamWide, kernel.wide->dim,
                                      kernel.wide->codec.attribute(context),
                                      kernel.wide->tokens));
  auto cache = CacheType::get(context, kernel.heads, streams, layout);
  auto store =
      StoreOp::create(b, b.getUnknownLoc(), "s", ArrayRef<int64_t>{0},
                      kernel.firstHead, kernel.firstHead + kernel.heads,
                      kernel.kvHeads, kernel.qHeads(), read, cache);
  KernelBuilder(kernel, b, store, /*combinesSplits=*/target.getShared() != 0)
      .build(schedule);
  Random random = kernel.random('R');
  if (kernel.isAttend() && kernel.choice[OpOrder] == order::Anywhere)
    module->walk([&](tile::ForTokensOp loop) {
      reorder(loop.getBody().front(), random);
    });
  if (kernel.kind == Kind::Gather &&
      kernel.choice[GatheredLoads] == gathered::Anywhere)
    module->walk(
        [&](tile::ForRowsOp loop) { reorder(loop.getBody().front(), random); });
  return module;
}

tile::KernelOp fuzz::kernelOf(ModuleOp module) {
  return *module.getOps<tile::KernelOp>().begin();
}
StoreOp fuzz::storeOf(ModuleOp module) {
  return *module.getOps<StoreOp>().begin();
}

//===----------------------------------------------------------------------===//
// Planted bugs
//===----------------------------------------------------------------------===//

template <typename OpT> static OpT first(tile::KernelOp kernel) {
  OpT found;
  kernel.walk([&](OpT op) { found = found ? found : op; });
  return found;
}

static bool growScale(tile::KernelOp kernel) {
  auto op = first<tile::LoadQueryOp>(kernel);
  if (!op || op.getScale().isZero())
    return false;
  Builder b(kernel.getContext());
  op.setScaleAttr(b.getF64FloatAttr(op.getScale().convertToDouble() * 1.25));
  return true;
}

/// Other numbers in a region: half of each, or one more than each.
static bool alterConstants(Region &region) {
  bool altered = false;
  Builder b(region.getContext());
  region.walk([&](arith::ConstantOp op) {
    if (auto real = dyn_cast<FloatAttr>(op.getValue()))
      op.setValueAttr(b.getF32FloatAttr(real.getValueAsDouble() / 2));
    else if (op.getType().isInteger(32))
      op.setValueAttr(b.getI32IntegerAttr(
          int(cast<IntegerAttr>(op.getValue()).getInt()) + 1));
    altered |= !op.getType().isInteger(1);
  });
  return altered;
}

static bool alterLogits(tile::KernelOp kernel) {
  auto op = first<tile::LogitsOp>(kernel);
  return op && alterConstants(op.getLogits());
}

static bool alterVisible(tile::KernelOp kernel) {
  auto op = first<tile::MaskOp>(kernel);
  return op && alterConstants(op.getVisible());
}

static bool showAll(tile::KernelOp kernel) {
  auto op = first<tile::MaskOp>(kernel);
  if (!op || op.getVisible().empty())
    return false;
  op.getVisible().getBlocks().clear();
  return true;
}

static bool showOthers(tile::KernelOp kernel) {
  auto op = first<tile::MaskOp>(kernel);
  if (!op || op.getVisible().empty())
    return false;
  auto yield = cast<ScoreYieldOp>(op.getVisible().front().back());
  OpBuilder b(yield);
  Value one = arith::ConstantOp::create(b, yield.getLoc(), b.getBoolAttr(true));
  Value other =
      arith::XOrIOp::create(b, yield.getLoc(), yield.getResult(), one);
  yield.getResultMutable().assign(other);
  return true;
}

template <typename OpT> static bool removeFrom(tile::KernelOp kernel) {
  auto op = first<OpT>(kernel);
  if (!op)
    return false;
  op->getResult(0).replaceAllUsesWith(op->getOperand(0));
  op.erase();
  return true;
}

static bool shrinkWindow(tile::KernelOp kernel) {
  auto op = first<tile::MaskOp>(kernel);
  auto window = op ? dyn_cast<SlidingWindowAttr>(op.getReadAttr()) : nullptr;
  // A window beyond most lengths hides nothing.
  if (!window || window.getRecent() < 2 || window.getRecent() > 32)
    return false;
  op.setReadAttr(SlidingWindowAttr::get(kernel.getContext(), window.getSink(),
                                        window.getRecent() - 1,
                                        window.getCausal()));
  return true;
}

/// Another scale of the same type than the one that an op multiplies with.
static bool exchangeScales(tile::KernelOp kernel) {
  auto op = first<tile::ScaleTokensOp>(kernel);
  if (!op)
    return false;
  bool done = false;
  kernel.walk([&](LoadOp load) {
    Value scales = load.getPlanes().size() > 1 ? load.getPlanes()[1] : Value();
    auto own = op.getScales().getDefiningOp<LoadOp>();
    if (done || !scales || load.getStream() == own.getStream() ||
        scales.getType() != op.getScales().getType() ||
        load->getBlock() != op->getBlock())
      return;
    load->moveAfter(own);
    op->setOperand(1, scales);
    done = true;
  });
  return done;
}

template <typename OpT> static bool exchangeStreams(tile::KernelOp kernel) {
  auto cache = cast<CacheType>(SymbolTable::lookupNearestSymbolFrom<StoreOp>(
                                   kernel, kernel.getStoreAttr())
                                   .getCache());
  StreamInfo k = cache.stream(kStreamK), v = cache.stream(kStreamV);
  // New rows are not quantized yet.
  constexpr bool isRow = std::is_same_v<OpT, tile::LoadRowOp>;
  bool sameType = isRow || k.codec == v.codec;
  auto op = first<OpT>(kernel);
  if (!op || k.dim != v.dim || !sameType)
    return false;
  StringRef attribute = isRow ? "name" : "stream";
  StringRef now = op->template getAttrOfType<StringAttr>(attribute).getValue();
  op->setAttr(attribute,
              Builder(op).getStringAttr(now == kStreamK ? kStreamV : kStreamK));
  return true;
}

static bool loseSink(tile::KernelOp kernel) {
  bool lost = false;
  kernel.walk([&](tile::SoftmaxInitOp op) {
    lost |= !op.getSink().empty();
    op.getSink().getBlocks().clear();
  });
  return lost;
}

static bool alterSink(tile::KernelOp kernel) {
  bool altered = false;
  kernel.walk(
      [&](tile::SoftmaxInitOp op) { altered |= alterConstants(op.getSink()); });
  return altered;
}

static bool loseRow(tile::KernelOp kernel) {
  Operation *op = first<tile::StoreRowOp>(kernel);
  if (!op)
    op = first<tile::StoreDecodedOp>(kernel);
  if (!op)
    return false;
  op->erase();
  return true;
}

/// Of those that give what they are given, none is missed.
static bool loseMap(tile::KernelOp kernel) {
  auto op = first<tile::MapOp>(kernel);
  return op && op.getBody().front().getOperations().size() > 1 &&
         removeFrom<tile::MapOp>(kernel);
}

static bool moveSlice(tile::KernelOp kernel) {
  auto op = first<tile::SliceOp>(kernel);
  if (!op || op.getBegin() == 0)
    return false;
  op.setBegin(op.getBegin() - 1);
  op.setEnd(op.getEnd() - 1);
  return true;
}

static bool mergeTwice(tile::KernelOp kernel) {
  auto op = first<tile::MergeStepOp>(kernel);
  if (!op)
    return false;
  auto again = cast<tile::MergeStepOp>(op->clone());
  op->getBlock()->getOperations().insertAfter(op->getIterator(), again);
  op.getNext().replaceAllUsesExcept(again.getNext(), again);
  again->setOperand(1, op.getNext());
  return true;
}

ArrayRef<Plant> fuzz::plants() {
  static const Plant kPlants[] = {
      {"a scale of q that is 5/4 of what it was", growScale},
      {"other numbers in logits", alterLogits},
      {"no logits", removeFrom<tile::LogitsOp>},
      {"other numbers in visible", alterVisible},
      {"no visible region", showAll},
      {"a visible region that shows the rest", showOthers},
      {"a window of one token less", shrinkWindow},
      {"no mask", removeFrom<tile::MaskOp>},
      {"no scale of tokens", removeFrom<tile::ScaleTokensOp>},
      {"scales of the other stream", exchangeScales},
      {"rows of the other stream", exchangeStreams<LoadOp>},
      {"new rows of the other stream", exchangeStreams<tile::LoadRowOp>},
      {"a row that is not stored", loseRow},
      {"no scale of boxes", removeFrom<tile::ScaleOp>},
      {"no offset of boxes", removeFrom<tile::OffsetOp>},
      {"no map", loseMap},
      {"a slice of other channels", moveSlice},
      {"every split merged twice", mergeTwice},
      {"no sink", loseSink},
      {"other numbers in a sink", alterSink},
  };
  return kPlants;
}
