//===- Attend.cpp - the frame of an attend kernel -------------------------===//
#include "codegen/nvptx/AttendMma.h"
#include "codegen/nvptx/KitFunctions.h"

#include "llvm/Support/MathExtras.h"

#include <cmath>
#include <cstddef>

using namespace mlir;
using namespace kvc;
using namespace kvc::nvptx;
using arith::CmpIPredicate;

//===----------------------------------------------------------------------===//
// What the kernel computes
//===----------------------------------------------------------------------===//

/// The op that scales a chain's first element by what is loaded with `operand`,
/// or, where that is decoded, with anything.
static tile::ScaleTokensOp firstScale(ArrayRef<Operation *> chain,
                                      const Operand &operand) {
  auto scale = chain.empty() ? tile::ScaleTokensOp()
                             : dyn_cast<tile::ScaleTokensOp>(chain.front());
  if (!scale)
    return {};
  bool takes = operand.isDecoded() || operand.hasScales(scale.getScales());
  return takes ? scale : tile::ScaleTokensOp();
}

/// Takes the chains that tensor cores' loops know: scales of K's rows, then
/// logits, each once at most; scales of V's rows. What else there is, if
/// anything.
tile::GraphMismatch AttendBody::takeUsual(ArrayRef<Operation *> scores,
                                          ArrayRef<Operation *> probabilities) {
  if (auto scale = firstScale(scores, k)) {
    scalesK = scale.getScales();
    scores = scores.drop_front();
  }
  if (!scores.empty())
    logits = dyn_cast<tile::LogitsOp>(scores.front());
  if (logits)
    scores = scores.drop_front();
  if (!scores.empty())
    return {scores.front(),
            "scores are multiplied by the scales of K's rows, then made "
            "logits, then masked, each once at most and in this order"};
  if (auto scale = firstScale(probabilities, v)) {
    scalesV = scale.getScales();
    probabilities = probabilities.drop_front();
  }
  if (!probabilities.empty())
    return {probabilities.front(), "probabilities are multiplied by the scales "
                                   "of V's rows, once at most"};
  for (auto [operand, scaled] :
       {std::pair(&k, scalesK), std::pair(&v, scalesV)})
    if (!operand->isDecoded() &&
        operand->load.getPlanes().size() != (scaled ? 2 : 1))
      return {operand->load, "all scales that are loaded are multiplied by"};
  return {};
}

FailureOr<AttendBody> AttendBody::of(tile::KernelOp kernel) {
  FailureOr<tile::AttendGraph> graph = tile::AttendGraph::of(kernel);
  if (failed(graph))
    return failure();
  AttendBody body;
  body.k = graph->k;
  body.v = graph->v;
  body.read = graph->read();
  body.scale = graph->query.getScale().convertToDouble();
  FailureOr<tile::MergeGraph> merge =
      tile::MergeGraph::of(kernel, graph->store);
  if (failed(merge))
    return failure();
  body.merge = *merge;
  body.mask = graph->mask();
  ArrayRef<Operation *> scores(graph->scores);
  scores = scores.drop_back(); // the mask
  body.unusual = body.takeUsual(scores, graph->probabilities);
  if ((body.contract = graph->contract))
    body.unusual = {body.contract, "scores are products of q and K"};
  if (body.unusual.op) {
    body.logits = {};
    body.scalesK = body.scalesV = {};
    body.scores.assign(scores.begin(), scores.end());
    body.probabilities = graph->probabilities;
  }
  body.isDecoded = body.k.isDecoded() || body.v.isDecoded();
  if (body.isDecoded) // then both are, for one loader brings both
    for (Operand *operand : {&body.k, &body.v})
      operand->load = {}, operand->convert = {};
  return body;
}

AttendKernel::AttendKernel(Kernel &kernel, AttendBody body,
                           const Workload &workload,
                           const WarpSchedule &schedule)
    : k(kernel), kit(kernel.kit), body(body), workload(workload),
      schedule(schedule), layout(workload, schedule),
      registers(registerLimit(workload, schedule)), tokens(schedule.tokens),
      rows(schedule.rows), warps(schedule.warps), stages(schedule.stages),
      warpsSplitQ(schedule.warpsSplitQ), group(kernel.group()),
      dimK(this->body.k.dim()), dimV(this->body.v.dim()),
      strideK(layout.strideK), strideV(layout.strideV),
      sumStride(layout.sumStride), statBytes(layout.statBytes),
      stageBytes(layout.stageBytes),
      smemPipelineBytes(layout.smemPipelineBytes),
      planes(kernel.cache.planes()),
      codesK(body.isDecoded ? 0 : kernel.cache.planeIndex(body.k.stream())),
      codesV(body.isDecoded ? 0 : kernel.cache.planeIndex(body.v.stream())),
      pageTokens(kernel.cache.layout().getPageTokens()) {
  if (pageTokens % tokens == 0) // a contiguous sequence has page 0
    pagesPerStep = 1;
  else
    pagesPerStep = tokens % pageTokens == 0 && pageTokens >= rowsAtOnce()
                       ? tokens / pageTokens
                       : 0;
}

std::unique_ptr<Mainloop> AttendKernel::makeMainloop() {
  if (!schedule.dot)
    return makeFmaMainloop(*this);
  return warpsSplitQ ? makeMmaNoSwapAB(*this) : makeMmaSwapAB(*this);
}

/// Says what makes this kernel slower than it could be.
void AttendKernel::remarkSlowPaths() {
  auto remark = [&] {
    return k.op.emitRemark("`") << k.op.getSymName() << "`: ";
  };
  TargetAttr target = workload.target;
  bool hasDot = target.hasDot(body.k.code(), k.dtype) &&
                target.hasDot(body.v.code(), k.dtype);
  if (!pagesPerStep)
    remark() << "steps of " << tokens << " tokens straddle pages of "
             << k.cache.layout().getPageTokens()
             << ": rows are found one by one [R-ROW-TABLE]";
  if (body.isDecoded)
    remark()
        << "K and V are decoded into rows of f32 in shared memory, element "
        << "by element, and multiplied without tensor cores [R-DECODE]";
  else if (body.unusual.op)
    remark() << "f32 multiply-adds, no tensor cores: in their loops "
             << body.unusual.why << " [R-NO-MMA]";
  else if (!schedule.dot && hasDot)
    remark() << "f32 multiply-adds, no tensor cores: the schedule is without "
             << "`dot` [R-NO-MMA]";
  else if (!schedule.dot)
    remark() << "f32 multiply-adds, no tensor cores: they have no exact "
             << "product of K as " << body.k.code() << " and V as "
             << body.v.code() << " in a model of " << k.dtype << " [R-NO-MMA]";
}

void AttendKernel::emit(LaunchInfo &launch) {
  mainloop = makeMainloop();
  loader = body.isDecoded  ? makeDecodeLoader(*this)
           : schedule.bulk ? makeBulkCopyLoader(*this)
                           : makeCpAsyncLoader(*this);
  smemPipeline = k.shared.reserve(layout.smemPipelines * smemPipelineBytes);
  workTileWords = k.shared.reserve(kWorkTileBytes);
  mainloop->plan();
  loader->plan();
  assert(k.shared.bytes() == layout.total && "legal() knows what fits");
  remarkSlowPaths();
  launch.threads = allWarps() * kWarpLanes;
  launch.shared = k.shared.bytes();
  launch.registers = registers;

  thread = k.thread();
  lane = k.lane();
  warp = k.warp();
  smemPipelineBase =
      warpsSplitQ
          ? k.at(0, kit.i32(smemPipeline)).base
          : k.at(0, kit.add(kit.mul(warp, smemPipelineBytes), smemPipeline))
                .base;
  Values carried = loader->beginKernel();
  Value count = kit.loadReadOnly(kit.i32(), k.paramPtr(Word::WorkCount), 4);
  forWorkTiles(count, carried, [&](Value index, ValueRange carried) {
    return emitWorkTile(index, carried);
  });
}

/// A persistent tile scheduler: each CTA takes one work tile of every round of
/// as many as there are CTAs, every other round from the other end. Row blocks
/// stand in order in the plan, and causal ones take the longer the later they
/// are.
void AttendKernel::forWorkTiles(Value count, ValueRange init,
                                Kit::CarryBody body) {
  Value cta = kit.op1(Ptx::CtaidX, {}), ctas = kit.op1(Ptx::NctaidX, {});
  Value back = kit.sub(kit.add(ctas, -1), cta);
  auto placeIn = [&](Value round) {
    Value odd = kit.cmp(CmpIPredicate::ne, kit.and_(round, 1), kit.i32(0));
    return kit.select(odd, back, cta);
  };
  Value whole = kit.div(count, ctas);
  Value rest = kit.sub(count, kit.mul(whole, ctas));
  Value more =
      kit.select(kit.less(placeIn(whole), rest), kit.i32(1), kit.i32(0));
  kit.loop(kit.i32(0), kit.add(whole, more), kit.i32(1), init,
           [&](Value round, ValueRange carried) {
             return body(kit.add(kit.mul(round, ctas), placeIn(round)),
                         carried);
           });
}

//===----------------------------------------------------------------------===//
// Work tiles
//===----------------------------------------------------------------------===//

Values AttendKernel::emitWorkTile(Value index, ValueRange carried) {
  loadWorkTile(index);
  storeWorkTile();
  planTiles();
  Values next = loader->emitWorkTile(carried, [&] {
    zeroPadding();
    mainloop->beginWorkTile(current);
    syncSmemPipeline();
    Values state = runSteps();
    // Other lanes may still read the stages that results now take the place of.
    syncSmemPipeline();
    mainloop->epilogue(state, {smemPipelineBase, 0},
                       {smemPipelineBase, statBytes});
  });
  barrier();
  reloadWorkTile();
  mergeWarpStates();
  combineSplits();
  // The next work tile's tokens take the place of the results.
  barrier();
  return next;
}

void AttendKernel::syncSmemPipeline(Kit::CodeLoc here) {
  if (warpsSplitQ)
    barrierOfReaders(here);
  else
    kit.op(Ptx::WarpSync, {}, {}, here);
}

void AttendKernel::loadWorkTile(Value index) {
  Value from = kit.ptr(k.paramPtr(Word::WorkTiles),
                       kit.mul(kit.extI64(index), sizeof(KvcGpuWorkTile)));
  auto words = [&](int64_t offset) {
    return kit.loadReadOnly(kit.vec(4, kit.i32()), kit.ptr(from, offset), 16);
  };
  static_assert(offsetof(KvcGpuWorkTile, split_idx) == 16);
  Value where = words(0), what = words(16);
  current = WorkTile();
  current.index = index;
  current.sequence = kit.extract(where, 0);
  current.head = kit.extract(where, 1);
  current.begin = kit.extract(where, 2);
  current.splitIdx = kit.extract(what, 0);
  current.numSplits = kit.extract(what, 1);
  current.rowBegin = kit.extract(what, 2);
  current.rowEnd = kit.extract(what, 3);

  auto ofSequence = [&](Word word, int64_t entry) {
    Value at =
        kit.ptr(k.paramPtr(word), kit.mul(kit.extI64(current.sequence), 4));
    return kit.loadReadOnly(kit.i32(), kit.ptr(at, 4 * entry), 4);
  };
  current.firstQuery = ofSequence(Word::CuQ, 0);
  current.queries = kit.sub(ofSequence(Word::CuQ, 1), current.firstQuery);
  Value length = ofSequence(Word::KvLen, 0);
  current.posZero = kit.sub(length, current.queries);
  current.posFirst = position(kit.i32(0));
  auto lastBefore = [&](Value row) {
    return kit.add(current.posZero, kit.div(kit.add(row, -1), group));
  };
  current.posLast = lastBefore(current.rowEnd);
  current.ownFirst = current.posFirst;
  current.ownLast = current.posLast;
  if (warpsSplitQ) {
    Value own = firstRow(), behind = kit.add(own, rows / warps);
    current.ownFirst = position(own);
    current.ownLast =
        lastBefore(kit.min(kit.add(current.rowBegin, behind), current.rowEnd));
  }
  current.end = kit.extract(where, 3);
  if (body.read.isCausal())
    current.end = kit.min(current.end, kit.add(current.posLast, 1));

  if (hasVisible()) {
    KitFunctions functions(k, current.sequence);
    current.constants = emitConstantRanges(
        kit.b, kit.kernel, body.mask.getVisible(), rowBlock(), functions);
  }

  Value tableStride = k.paramI64(Word::TableStride);
  table =
      kit.ptr(k.paramPtr(Word::Table),
              kit.mul(kit.mul(kit.extI64(current.sequence), tableStride), 4));
  bool paged = pageTokens != 0;
  Value outer = paged ? Value() : kit.loadReadOnly(kit.i32(), table, 4);
  origin.clear();
  pageStride.clear();
  for (unsigned i = 0; i < planes.size(); ++i) {
    Kernel::Plane plane = k.plane(i);
    Value at = kit.ptr(plane.base,
                       kit.mul(kit.extI64(current.head), plane.headStride));
    if (!paged)
      at = kit.ptr(at, kit.mul(kit.extI64(outer), plane.pageStride));
    origin.push_back(at);
    pageStride.push_back(plane.pageStride);
  }
}

/// What the end of a work tile reads of it, but for what barriers depend on.
/// The flag stands behind them.
static std::array<Value *, kLastCtaFlag / 4> endWords(WorkTile &tile) {
  return {&tile.index,    &tile.sequence, &tile.head,    &tile.splitIdx,
          &tile.rowBegin, &tile.rowEnd,   &tile.queries, &tile.firstQuery};
}

/// Registers are scarce in the loop over steps, which reads none of these: they
/// wait in shared memory.
void AttendKernel::storeWorkTile() {
  kit.when(kit.cmp(CmpIPredicate::eq, thread, kit.i32(0)), [&] {
    for (auto [i, word] : llvm::enumerate(endWords(current)))
      kit.storeShared(*word, k.at(workTileWords + 4 * int64_t(i)));
  });
}

void AttendKernel::reloadWorkTile() {
  auto words = endWords(current);
  Value which = kit.rem(lane, words.size());
  Value own = kit.loadShared(kit.i32(), k.at(workTileWords, kit.mul(which, 4)));
  for (auto [i, word] : llvm::enumerate(words))
    *word = kit.op1(Ptx::ShflIdx, {own, kit.i32(int64_t(i))});
}

Value AttendKernel::position(Value row) {
  Value query = kit.div(kit.add(current.rowBegin, row), group);
  return kit.add(current.posZero, query);
}

Value AttendKernel::queryRow(Value row) {
  Value own =
      kit.min(kit.add(current.rowBegin, row), kit.add(current.rowEnd, -1));
  Value query = kit.extI64(kit.add(current.firstQuery, kit.div(own, group)));
  Value head =
      kit.add(kit.add(kit.mul(current.head, group), kit.rem(own, group)),
              k.firstQueryHead());
  return k.rowHead(kWordsOfQ, query, head);
}

//===----------------------------------------------------------------------===//
// The loop over steps
//===----------------------------------------------------------------------===//

Values AttendKernel::runSteps() {
  Values init = mainloop->initialState();
  return kit.choose(
      kit.less(kit.i32(0), tiles), [&] { return emitSteps(init); },
      [&] { return init; });
}

int64_t AttendKernel::pagesCarried() const {
  bool wanted = loader->prefetchDistance() || body.scalesK || body.scalesV;
  return wanted ? pagesPerStep : 0;
}

Values AttendKernel::pagesAhead(Value first) {
  return pagesCarried() ? pagesOf(first) : Values();
}

void AttendKernel::loadScales(const PrefetchStep &step, Values &to) {
  if (body.scalesK)
    to.append(loadScale(body.scalesK, step.first, step.pages));
  if (body.scalesV)
    to.append(loadScale(body.scalesV, step.first, step.pages));
}

/// The tiles of which this warp's step, and the one that it may copy meanwhile,
/// are full: [first, second).
std::pair<Value, Value> AttendKernel::interiorTiles() {
  int64_t tile = tileTokens();
  Value own = ownTokens();
  Value begin = kit.i32(0), base = current.begin;
  if (!body.read.isAll()) {
    // Few tokens are in the sink: of the rest only.
    base = recentBase;
    Value hidden =
        kit.sub(kit.add(current.posLast, 1 - body.read.getRecentTokens()),
                kit.add(base, own));
    begin = kit.max(sinkTiles, kit.ceilDiv(kit.max(hidden, kit.i32(0)), tile));
    begin = kit.min(begin, tiles); // nothing of this split may be seen
  }
  Value limit = readTest().endFor(current.posFirst);
  Value room = kit.sub(kit.add(limit, tile - tokens), kit.add(base, own));
  Value end = kit.div(kit.max(room, kit.i32(0)), tile);
  end = kit.min(end, tiles);
  return {begin, kit.max(begin, kit.add(end, -loader->prefetchDistance()))};
}

/// While a step is multiplied, those of the next stages - 1 tiles are under
/// way.
Values AttendKernel::emitSteps(ValueRange init) {
  int64_t ahead = stages - 1;
  Values scales; // of the steps ahead, K before V
  for (int64_t i = 0; i < ahead && (body.scalesK || body.scalesV); ++i) {
    PrefetchStep step{kit.i32(i), firstOf(kit.i32(i)), {}};
    step.pages = pagesOf(step.first);
    loadScales(step, scales);
  }
  loader->prologue();
  // Page ids come a step before the rows that they lead to.
  Values carried = loader->begin();
  loaderCarried = carried.size();
  carried.append(pagesAhead(firstOf(kit.i32(ahead))));
  carried.append(scales);
  size_t fixed = carried.size();
  carried.append(init.begin(), init.end());

  auto [begin, end] = interiorTiles();
  auto run = [&](Value from, Value to, ValueRange carried, bool interior) {
    return kit.loop(from, to, kit.i32(1), carried,
                    [&](Value tile, ValueRange carried) {
                      return emitTile(tile, carried, interior);
                    });
  };
  if (body.read.isAll()) {
    carried = run(begin, end, carried, /*interior=*/true);
    carried = run(end, tiles, carried, /*interior=*/false);
  } else {
    // Before and after the interior ones by the same code.
    carried = kit.loop(
        kit.i32(0), kit.i32(2), kit.i32(1), carried,
        [&](Value round, ValueRange carried) {
          Value before = kit.cmp(CmpIPredicate::eq, round, kit.i32(0));
          Values next = run(kit.select(before, kit.i32(0), end),
                            kit.select(before, begin, tiles), carried, false);
          return run(begin, kit.select(before, end, begin), next, true);
        });
  }
  loader->drain();
  carried.erase(carried.begin(), carried.begin() + fixed);
  return carried;
}

/// One round: multiplies a step, loads the scales of one stages - 1 tiles
/// later. Carried are the loader's values, the pages of that step, scales, and
/// the mainloop's state. `interior`: this step, and that which is copied, are
/// full.
Values AttendKernel::emitTile(Value tile, ValueRange carried, bool interior) {
  auto take = [&](size_t count) {
    ValueRange taken = carried.take_front(count);
    carried = carried.drop_front(count);
    return taken;
  };
  ValueRange filling = take(loaderCarried);
  PrefetchStep later{kit.add(tile, stages - 1), {}, {}};
  later.first = firstOf(later.tile);
  llvm::append_range(later.pages, take(pagesCarried()));
  Values next;
  Value stage = loader->consumerWait(filling, later, interior, next);
  next.append(pagesAhead(firstOf(kit.add(later.tile, 1))));
  Step step;
  size_t ofStream = scaleWords();
  if (body.scalesK)
    llvm::append_range(step.scaleK, take(ofStream));
  if (body.scalesV)
    llvm::append_range(step.scaleV, take(ofStream));
  size_t streams = size_t(bool(body.scalesK)) + size_t(bool(body.scalesV));
  llvm::append_range(next, take((stages - 2) * streams * ofStream));
  loadScales(later, next);
  step.tokens = tokens;
  step.first = firstOf(tile);
  step.k = {stage, 0};
  step.v = step.k + layout.offsetV;
  next.append(interior ? multiplyInterior(step, carried)
                       : multiply(step, carried));
  loader->consumerRelease();
  return next;
}

/// A step that the read shows in full.
Values AttendKernel::multiplyInterior(const Step &step, ValueRange state) {
  if (!hasVisible())
    return mainloop->step(step, state);
  return kit.choose(
      visibleBlock(step.first, tokens).full,
      [&] { return mainloop->step(step, state); },
      [&] { return multiply(step, state); });
}

/// A step that need not be full, sub-step after sub-step.
Values AttendKernel::multiply(const Step &step, ValueRange state) {
  int64_t size = mainloop->subStepTokens();
  return kit.loop(kit.i32(0), kit.i32(tokens / size), kit.i32(1), state,
                  [&](Value index, ValueRange state) {
                    Value first = kit.add(step.first, kit.mul(index, size));
                    return kit.choose(
                        isEmptyBlock(first, size),
                        [&] { return Values(state); },
                        [&] { return multiplySubStep(step, index, state); });
                  });
}

Values AttendKernel::multiplySubStep(const Step &step, Value index,
                                     ValueRange state) {
  int64_t size = mainloop->subStepTokens();
  Step subStep = step;
  subStep.tokens = size;
  subStep.first = kit.add(step.first, kit.mul(index, size));
  subStep.isFullBlock = isFullBlock(subStep.first, size);
  subStep.k.base = kit.add(step.k.base, kit.mul(index, size * strideK));
  subStep.v.base = kit.add(step.v.base, kit.mul(index, size * strideV));
  if (size < tokens)
    for (Values *scales : {&subStep.scaleK, &subStep.scaleV})
      *scales = scalesOf(*scales, index, size);
  return mainloop->step(subStep, state);
}

/// Of a step's scales, those of its sub-step `index` of `size` tokens.
Values AttendKernel::scalesOf(const Values &scales, Value index, int64_t size) {
  if (scales.empty())
    return {};
  assert(size <= kWarpLanes);
  Value first = kit.mul(index, size), word = scales[0];
  for (size_t i = 1; i < scales.size(); ++i)
    word =
        kit.select(kit.less(first, kit.i32(i * kWarpLanes)), word, scales[i]);
  Value from = kit.add(kit.rem(first, kWarpLanes), kit.rem(lane, size));
  return {kit.bitcast(kit.op1(Ptx::ShflIdx, {word, from}), kit.f32())};
}

/// Loops of decoded operands read any plane that has a row for some tokens of a
/// tile.
static LogicalResult checkDecoded(Kernel &kernel) {
  SmallVector<PlaneGeometry, 4> planes = kernel.cache.planes();
  int64_t tokens = kernel.op.getSchedule()->getTokens();
  LogicalResult result = success();
  kernel.op.walk([&](tile::LoadOp load) {
    const PlaneGeometry &codes =
        planes[kernel.cache.planeIndex(load.getStream())];
    auto type = cast<RankedTensorType>(load.getCodes().getType());
    if (codes.tokens && type.getDimSize(0) * codes.tokens == tokens)
      return;
    load.emitError("the GPU targets load rows of as many tokens as the "
                   "schedule says, ")
        << tokens << "; found " << type.getDimSize(0) << " rows that have "
        << codes.tokens << " each";
    result = failure();
  });
  return result;
}

LogicalResult kvc::nvptx::emitAttend(Kernel &kernel, LaunchInfo &launch) {
  FailureOr<AttendBody> body = AttendBody::of(kernel.op);
  if (failed(body) || (body->isDecoded && failed(checkDecoded(kernel))))
    return failure();
  auto shared = [&](const Operand &operand) {
    return operand.isDecoded()
               ? StreamInfo::ofF32(kernel.op.getContext(), operand.dim())
               : kernel.cache.stream(operand.stream());
  };
  Workload workload{
      shared(body->k),
      shared(body->v),
      kernel.cache.layout().getPageTokens(),
      kernel.group(),
      kernel.dtype,
      kernel.op->getParentOfType<ModuleOp>()->getAttrOfType<TargetAttr>(
          "kvc.target"),
      /*isVOfK=*/!body->isDecoded && body->v.dim() <= body->k.dim() &&
          kernel.cache.planeIndex(body->k.stream()) ==
              kernel.cache.planeIndex(body->v.stream()),
      body->isDecoded};
  CheckedSchedule checked = checkSchedule(workload, *kernel.op.getSchedule());
  if (!checked.legality)
    return kernel.op.emitError(checked.legality.why);
  if (body->unusual.op && checked.fields.dot)
    return body->unusual.op->emitError("with `dot`, ") << body->unusual.why;
  AttendKernel(kernel, *body, workload, checked.fields).emit(launch);
  return success();
}
