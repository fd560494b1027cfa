//===- Attend.cpp - the frame of an attend kernel -------------------------===//
#include "codegen/cpu/Attend.h"

#include "codegen/cpu/KitFunctions.h"
#include "codegen/cpu/Schedules.h"
#include "lib/base/Artifact/KernelAbi.h"

#include "mlir/Dialect/Math/IR/Math.h"
#include "llvm/ADT/SetVector.h"
#include "llvm/Support/MathExtras.h"

#include <cmath>
#include <cstddef>

using namespace mlir;
using namespace kvc;
using namespace kvc::cpu;
using Pred = arith::CmpIPredicate;

AttendKernel::AttendKernel(Kernel &kernel, tile::AttendGraph graph,
                           const CoreSchedule &schedule)
    : AttendWorkTile(kernel, graph.k.dim(), graph.v.dim()), graph(graph),
      schedule(schedule), tileTokens(schedule.tokens), planK(kernel, graph.k),
      planV(kernel, graph.v) {
  int64_t page = kernel.cache.layout().getPageTokens();
  even = page % tileTokens == 0; // a contiguous sequence has page 0
}

/// Says what makes this kernel slower than it could be.
void AttendKernel::remarkSlowPaths() {
  LayoutAttrInterface layout = k.cache.layout();
  auto remark = [&] {
    return k.op.emitRemark("`") << k.op.getSymName() << "`: ";
  };
  if (!even && !schedule.pack) // a small part of many rows' work
    remark() << "tiles of " << tileTokens << " tokens straddle pages of "
             << layout.getPageTokens()
             << ": rows are found one by one [R-ROW-TABLE]";
  if (layout.getOrderName() == "NHD" && k.cache.getHeads() > 1)
    remark() << "order NHD puts the rows of a head "
             << rowStride(planK.codesPlane())
             << " bytes apart; HND reads them in one stream [R-NHD]";
  llvm::SmallSetVector<Type, 2> codes;
  codes.insert(planK.element);
  codes.insert(planV.element);
  for (Type code : codes) {
    TargetAttr target = k.target();
    bool known = llvm::is_contained(target.getDot(), code);
    bool taken = target.hasDot(code, k.dtype);
    if (schedule.pack) {
      known |= llvm::is_contained(target.getMatrix(), code);
      taken |= target.hasMatrix(code, k.dtype);
    }
    if (known && !taken)
      remark() << "codes of " << code << " are decoded to f32: the target's "
               << "products of them would round a model of " << k.dtype
               << " [R-DECODED]";
  }
}

void AttendKernel::emit() {
  remarkSlowPaths();
  mainloop =
      schedule.pack ? makePackedMainloop(*this) : makeDirectMainloop(*this);
  stepTokens = even ? mainloop->stepTokens(tileTokens) : tileTokens;
  mainloop->plan();
  buffers = k.scratch.reserve(2 * mainloop->bufferBytes());
  if (!even)
    rowTable = k.scratch.reserve(planes.size() * tileTokens * 8);
  SmallVector<Region *, 1> visible;
  if (Region &region = graph.mask().getVisible(); !region.empty())
    visible.push_back(&region);
  load(graph.read().isCausal(), visible);
  Value last = kit.max(kit.add(tokensEnd, -1), kit.i64(0));
  lastTile = kit.mul(kit.div(last, tileTokens), tileTokens);
  lastStep = kit.mul(kit.div(last, stepTokens), stepTokens);
  locatePlanes();
  mainloop->loadQuery(
      tile::LoadQueryOp(graph.query).getScale().convertToDouble());
  mainloop->initState();
  emitLoop();
  mainloop->storePartial();
}

void AttendKernel::prefetchBytes(Value address, int64_t bytes) {
  for (int64_t byte = 0; byte < bytes; byte += 64)
    kit.prefetch(kit.anywhere(address, kit.i64(byte)), schedule.level);
}

//===----------------------------------------------------------------------===//
// Tiles
//===----------------------------------------------------------------------===//

Value TileRows::row(unsigned plane, Value index) const {
  Kit &kit = kernel->kit;
  if (!table.empty())
    return kit.loadPtr(kit.at(table[plane], kit.mul(index, 8)), 0);
  return kit.at(base[plane], kit.mul(index, kernel->rowStride(plane)));
}

RowFn TileRows::at(Value index) const {
  return [this, index](unsigned plane) -> PlaneRow {
    Kit &kit = kernel->kit;
    const PlaneGeometry &geometry = kernel->plane(plane);
    if (wide.empty() || !wide[plane])
      return {row(plane, index), geometry.type};
    Value bytes = kit.mul(index, geometry.elements * 4);
    return {kit.at(wide[plane], bytes), kit.f32()};
  };
}

TileRows AttendKernel::locate(Value first, bool masked) {
  TileRows rows;
  rows.kernel = this;
  rows.first = first;
  rows.masked = masked;
  rows.buffer = k.scratchAt(buffers);
  if (masked)
    rows.count = kit.min(kit.sub(tokensEnd, first), kit.i64(tileTokens));
  if (!even) {
    fillTable(rows);
    return rows;
  }
  for (unsigned plane = 0; plane < planes.size(); ++plane)
    rows.base.push_back(address(plane, kit.min(first, lastTile)));
  return rows;
}

/// A step of a full tile, from index `from` on. Of the rows of `codes` that it
/// multiplies, those `prefetch` tokens later are prefetched, and again when
/// they are nearer: a core drops what it has no room to wait for.
TileRows AttendKernel::step(const TileRows &rows, unsigned codes, Value from) {
  TileRows step = rows;
  step.from = from;
  if (int64_t prefetch = schedule.prefetch)
    for (int64_t quarters : {4, 3, 2, 1}) {
      Value later = kit.add(kit.add(rows.first, from), prefetch * quarters / 4);
      step.ahead.push_back(address(codes, kit.min(later, lastStep)));
    }
  return step;
}

/// Rows that stand anywhere: their addresses are looked up once per tile. The
/// same rows of the next tile are prefetched on the way.
void AttendKernel::fillTable(TileRows &rows) {
  for (unsigned plane = 0; plane < planes.size(); ++plane)
    rows.table.push_back(k.scratchAt(rowTable + plane * tileTokens * 8));
  Value count = existingRows(rows);
  kit.loop(kit.i64(0), count, 1, [&](Value index) {
    Value token = kit.add(rows.first, index);
    for (unsigned plane = 0; plane < planes.size(); ++plane)
      kit.store(address(plane, token),
                kit.at(rows.table[plane], kit.mul(index, 8)), 8);
    if (!schedule.prefetch || rows.masked)
      return;
    Value ahead = kit.min(kit.add(token, tileTokens), kit.add(tokensEnd, -1));
    for (unsigned plane : {planK.codesPlane(), planV.codesPlane()})
      prefetchBytes(address(plane, ahead), rowBytes(plane));
  });
}

AttendKernel::BlockMask AttendKernel::blockMask(Value first) {
  ReadTest test = readTest(graph.read());
  Value behind = kit.add(first, tileTokens);
  BlockMask mask;
  mask.isFullBlock = test.showsAll(first, behind, posFirst, posLast);
  if (!graph.read().isAll())
    mask.anyRowVisible = test.showsSome(first, behind, posFirst, posLast);
  Region &visible = graph.mask().getVisible();
  if (visible.empty())
    return mask;
  Value last = kit.add(kit.min(kit.add(first, tileTokens), tokensEnd), -1);
  ScoreBlock block = rowBlock();
  block.token = {kit.truncI32(first), kit.truncI32(kit.max(last, first))};
  BlockVisibility seen =
      emitBlockVisibility(kit.b, kit.loc, visible, block, constants);
  mask.isFullBlock = kit.both(mask.isFullBlock, seen.full);
  Value some = kit.negate(seen.empty);
  mask.anyRowVisible =
      mask.anyRowVisible ? kit.both(mask.anyRowVisible, some) : some;
  return mask;
}

/// The op that reads what an operand's rows are made of but stands for several
/// tokens; null: none does.
static Operation *loadOfBoxes(CacheType cache, Value x) {
  Operation *op = x.getDefiningOp();
  if (auto load = dyn_cast<tile::LoadOp>(op)) {
    unsigned plane = cache.planeIndex(load.getStream()) + *load.planeOf(x);
    return cache.planes()[plane].tokens == 1 ? nullptr : op;
  }
  for (Value operand : op->getOperands())
    if (Operation *found = loadOfBoxes(cache, operand))
      return found;
  return nullptr;
}

/// What of the graph these loops have no way with, if anything.
static std::optional<tile::GraphMismatch>
mismatchOf(const tile::AttendGraph &graph, CacheType cache) {
  if (tile::ContractOp contract = graph.contract)
    return tile::GraphMismatch{contract, "scores are products of q and K"};
  for (const tile::StreamOperand *operand : {&graph.k, &graph.v})
    if (Operation *load = loadOfBoxes(cache, operand->x))
      return tile::GraphMismatch{
          load, "rows of K and V are decoded from planes of a row per token"};
  for (ArrayRef<Operation *> chain :
       {ArrayRef(graph.scores), ArrayRef(graph.probabilities)}) {
    bool scaled = false;
    for (Operation *op : chain) {
      if (isa<tile::MapOp>(op))
        return tile::GraphMismatch{op,
                                   "scores are scaled, made logits and masked"};
      auto scale = dyn_cast<tile::ScaleTokensOp>(op);
      if (scale && scaled)
        return tile::GraphMismatch{op, "a chain scales once"};
      scaled |= bool(scale);
    }
  }
  for (Operation *op : graph.probabilities)
    if (!isa<tile::ScaleTokensOp>(op))
      return tile::GraphMismatch{op, "probabilities are only scaled"};
  return std::nullopt;
}

/// Tile after tile.
void AttendKernel::emitLoop() {
  if (even && !schedule.pack)
    return emitPipelined();
  kit.loop(tokensBegin, tokensEnd, tileTokens, [&](Value first) {
    auto tile = [&](bool masked) { emitTile(locate(first, masked)); };
    BlockMask mask = this->blockMask(first);
    auto masked = [&] {
      mask.anyRowVisible ? kit.when(mask.anyRowVisible, [&] { tile(true); })
                         : tile(true);
    };
    if (mainloop->masksAll())
      masked();
    else
      kit.when(mask.isFullBlock, [&] { tile(false); }, masked);
  });
}

/// A tile's softmax is a long chain that everything after it waits for, and a
/// core looks only a few hundred instructions ahead. So the scores of the next
/// full tile come before the output of this one, in the other of two buffers.
/// Both products and the exponentials between them take turns in steps, none so
/// long that the streams of K and V wait for it.
void AttendKernel::emitPipelined() {
  Value never =
      arith::ConstantOp::create(kit.b, kit.loc, kit.b.getBoolAttr(false));
  auto planesV = llvm::to_vector(planV.planes);
  if (Value scales = scaledBy(graph.probabilities))
    planesV.push_back(planeOf(scales));
  SmallVector<Value> init{never, kit.i64(0)};
  for (unsigned plane : planesV)
    init.push_back(planeOrigin[plane]);
  // One round more than there are tiles, for the output of the last.
  kit.loop(tokensBegin, kit.add(tokensEnd, tileTokens), tileTokens, init,
           [&](Value first, ValueRange carried) {
             BlockMask mask = this->blockMask(first);
             Value exists = kit.cmp(Pred::slt, first, tokensEnd);
             TileRows rows = locate(first, /*masked=*/false);
             rows.buffer = kit.at(rows.buffer, carried[1]);
             TileRows before = rows; // of it, only V's rows and the buffer
             before.first = kit.add(first, -tileTokens);
             Value other =
                 kit.sub(kit.i64(mainloop->bufferBytes()), carried[1]);
             before.buffer = kit.at(k.scratchAt(buffers), other);
             SmallVector<Value> next{mask.isFullBlock, other};
             for (auto [i, plane] : llvm::enumerate(planesV)) {
               before.base[plane] = carried[2 + i];
               next.push_back(rows.base[plane]);
             }
             kit.loop(0, tileTokens, stepTokens, [&](Value from) {
               kit.when(carried[0], [&] {
                 mainloop->prepare(step(before, planV.codesPlane(), from),
                                   graph.probabilities);
               });
               kit.when(mask.isFullBlock, [&] {
                 mainloop->dot(step(rows, planK.codesPlane(), from));
               });
               kit.when(carried[0], [&] {
                 mainloop->accumulate(step(before, planV.codesPlane(), from));
               });
             });
             kit.when(mask.isFullBlock,
                      [&] { mainloop->softmaxStep(rows, graph.scores); });

             Value partly = kit.both(exists, kit.negate(mask.isFullBlock));
             if (mask.anyRowVisible)
               partly = kit.both(partly, mask.anyRowVisible);
             kit.when(partly, [&] {
               TileRows masked = locate(first, /*masked=*/true);
               masked.buffer = rows.buffer;
               emitTile(masked);
             });
             return next;
           });
}

void AttendKernel::emitTile(const TileRows &rows) {
  mainloop->dot(rows);
  mainloop->softmaxStep(rows, graph.scores);
  mainloop->prepare(rows, graph.probabilities);
  mainloop->accumulate(rows);
}

//===----------------------------------------------------------------------===//
// Services for Mainloop
//===----------------------------------------------------------------------===//

Value kvc::cpu::scaledBy(ArrayRef<Operation *> chain) {
  for (Operation *op : chain)
    if (auto scale = dyn_cast<tile::ScaleTokensOp>(op))
      return scale.getScales();
  return {};
}

Value AttendKernel::scaleProbability(Value p, Value scale) {
  Value zero = kit.constant(0, p.getType());
  Value hidden = kit.fcmp(arith::CmpFPredicate::OEQ, p, zero);
  return kit.select(hidden, zero, kit.fmul(p, scale));
}

void AttendKernel::widen(const TileRows &rows, unsigned plane,
                         int64_t scratch) {
  Type type = planes[plane].type;
  int64_t elements = planes[plane].elements;
  int64_t bytes = type.getIntOrFloatBitWidth() / 8;
  int64_t tokens = countRows(rows);
  Value from = rows.from ? rows.from : kit.i64(0);
  auto to = [&](Value index) {
    return kit.at(k.scratchAt(scratch), kit.mul(index, elements * 4));
  };
  if (schedule.prefetch && even && !rows.masked) {
    Value next = kit.min(kit.add(rows.first, tileTokens), lastTile);
    Value address = this->address(plane, next);
    address = kit.anywhere(address, kit.mul(from, rowStride(plane)));
    prefetchBytes(address, tokens * rowStride(plane));
  }
  if (!rows.masked && even && rowStride(plane) == rowBytes(plane) &&
      tokens * elements % kit.lanes == 0) {
    Value at = rows.row(plane, from), wide = to(from);
    for (int64_t i = 0; i < tokens * elements; i += kit.lanes)
      kit.store(kit.loadAsF32(type, kit.at(at, i * bytes), kit.lanes),
                kit.at(wide, i * 4));
    return;
  }
  Value end = rows.count ? rows.count : kit.add(from, tokens);
  kit.loop(from, end, 1, [&](Value index) {
    Value at = rows.row(plane, index), wide = to(index);
    kit.loop(0, elements, 1, [&](Value i) {
      kit.store(kit.loadAsF32(type, kit.at(at, kit.mul(i, bytes)), 1),
                kit.at(wide, kit.mul(i, 4)));
    });
  });
}

LogicalResult kvc::cpu::emitAttend(Kernel &kernel) {
  for (auto store : kernel.op.getBody().getOps<tile::StorePartialOp>())
    if (!store.getLast().empty())
      return store.emitError("the CPU targets merge splits in a kernel of "
                             "its own: expected no `last`");
  tile::GraphMismatch mismatch;
  std::optional<tile::AttendGraph> graph =
      tile::AttendGraph::match(kernel.op, mismatch);
  if (graph)
    if (auto found = mismatchOf(*graph, kernel.cache)) {
      mismatch = *found;
      graph.reset();
    }
  if (!graph)
    return emitOpByOp(kernel, mismatch);
  // Its rows may be the beginnings of the stream's.
  auto streamOf = [&](const tile::StreamOperand &operand) {
    unsigned plane = ChannelPlan(kernel, operand).codesPlane();
    StreamInfo info = kernel.cache.stream(kernel.cache.planes()[plane].stream);
    info.dim = operand.dim();
    return info;
  };
  Workload workload{streamOf(graph->k),
                    streamOf(graph->v),
                    kernel.cache.layout().getPageTokens(),
                    kernel.group(),
                    kernel.dtype,
                    kernel.target()};
  CheckedSchedule checked = checkSchedule(workload, *kernel.op.getSchedule());
  if (!checked.legality)
    return kernel.op.emitError(checked.legality.why);
  AttendKernel(kernel, *graph, checked.fields).emit();
  return success();
}
