//===- TileInterpreter.cpp - the meaning of the tile ops ------------------===//
#include "lib/driver/Reference/TileInterpreter.h"
#include "lib/driver/Reference/TileRun.h"

#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace kvc;
using namespace kvc::reference;

LogicalResult TileRun::run(Block &block) {
  for (Operation &op : block) {
    LogicalResult result =
        llvm::TypeSwitch<Operation *, LogicalResult>(&op)
#define KVC_TILE_OP(Op) .Case([&](tile::Op op) { return run(op); })
            KVC_TILE_OPS(KVC_TILE_OP)
#undef KVC_TILE_OP
                .Case([&](tile::YieldOp op) { return run(op); })
                .Default([](Operation *op) {
                  return op->emitOpError(
                      "has no meaning to the tile interpreter");
                });
    if (failed(result))
      return failure();
  }
  return success();
}

/// What a kernel attends to, without IR.
static AttendProblem problemOf(tile::KernelOp kernel) {
  auto store = SymbolTable::lookupNearestSymbolFrom<StoreOp>(
      kernel, kernel.getStoreAttr());
  AttendProblem problem;
  problem.cache = cast<CacheType>(store.getCache());
  problem.dtype = kernel.getDtype();
  problem.firstHead = store.getHeadBegin();
  problem.group = store.getGroup();
  problem.qHeads = store.getQHeads();
  problem.sink = store.read().getSinkTokens();
  problem.recent = store.read().getRecentTokens();
  problem.causal = store.read().isCausal();
  return problem;
}

/// Rows that see nothing, with values of `dim` elements.
static AttendResult emptyResult(llvm::SmallVector<int64_t, 4> shape,
                                int64_t dim) {
  AttendResult result;
  result.lse = Tensor(shape, -kInf);
  shape.push_back(dim);
  result.o = Tensor(shape, 0);
  return result;
}

FailureOr<TileOutputs> TileInterpreter::run(const TileInputs &inputs,
                                            const HostCache &cache,
                                            const HostBatch &batch) const {
  tile::KernelOp op = kernel;
  AttendProblem problem = problemOf(op);
  if (llvm::Error error = check(problem, inputs.q, cache, batch))
    return op.emitOpError() << llvm::toString(std::move(error));
  int64_t longest = 1;
  for (int32_t length : batch.kvLen)
    longest = std::max<int64_t>(longest, length);
  auto schedule = op.getSchedule();
  int64_t split = schedule ? schedule->getSplit() : 0;
  if (!split)
    split = longest;

  TileOutputs outputs;
  int64_t splitIdx = 0, rows = inputs.q.rows, dim = 0;
  for (auto stored : op.getBody().getOps<tile::StorePartialOp>()) {
    dim = stored.getState().getType().getDim();
    static_cast<AttendResult &>(outputs) =
        emptyResult({(longest - 1) / split + 1, rows, problem.qHeads}, dim);
    if (!stored.getLast().empty())
      outputs.combined = emptyResult({rows, problem.qHeads}, dim);
  }
  WorkTile workTile;
  workTile.problem = &problem;
  workTile.batch = &batch;
  workTile.cache = &cache;
  workTile.inputs = &inputs;
  workTile.outputs = &outputs;
  workTile.q = inputs.q;
  workTile.partialO = &outputs.o;
  workTile.partialLse = &outputs.lse;
  workTile.partialRow = [&](int64_t row) {
    return workTile.queryRow(row) * problem.qHeads + workTile.queryHead(row);
  };
  workTile.headOf = [&](int64_t row) { return workTile.place(row, 0); };
  workTile.storePartial = [&](int64_t row, double lse,
                              llvm::ArrayRef<double> o) {
    int64_t at = splitIdx * rows * problem.qHeads + workTile.partialRow(row);
    outputs.lse.data[at] = lse;
    llvm::copy(o, &outputs.o.data[at * dim]);
  };
  workTile.storeOutput = [&](int64_t row, double lse,
                             llvm::ArrayRef<double> o) {
    int64_t at = workTile.partialRow(row);
    outputs.combined->lse.data[at] = lse;
    llvm::copy(o, &outputs.combined->o.data[at * dim]);
  };
  for (workTile.sequence = 0; workTile.sequence < batch.sequences();
       ++workTile.sequence) {
    workTile.rows = batch.queries(workTile.sequence) * problem.group;
    int64_t length = workTile.length();
    for (workTile.head = 0;
         workTile.rows && workTile.head < problem.cache.getHeads();
         ++workTile.head)
      // A sequence without tokens has one split, which may have a sink.
      for (splitIdx = 0; splitIdx == 0 || splitIdx * split < length;
           ++splitIdx) {
        workTile.tokens = {splitIdx * split,
                           std::min((splitIdx + 1) * split, length)};
        workTile.isLast = (splitIdx + 1) * split >= length;
        if (failed(TileRun(op, workTile).run(op.getBody().front())))
          return failure();
      }
  }
  return outputs;
}

FailureOr<TileInterpreter::Attended>
TileInterpreter::attend(Rows q, const HostCache &cache,
                        const HostBatch &batch) const {
  TileInputs inputs;
  inputs.q = q;
  FailureOr<TileOutputs> outputs = run(inputs, cache, batch);
  if (failed(outputs))
    return failure();
  return Attended(std::move(*outputs));
}

FailureOr<AttendResult> TileInterpreter::merge(const Tensor &partialO,
                                               const Tensor &partialLse) const {
  tile::KernelOp op = kernel;
  llvm::ArrayRef<int64_t> oShape = partialO.shape, lseShape = partialLse.shape;
  AttendResult result;
  result.o = Tensor(oShape.drop_front(), 0);
  result.lse = Tensor(lseShape.drop_front(), -kInf);
  WorkTile workTile;
  workTile.rows = result.lse.data.size();
  workTile.partialO = &partialO;
  workTile.partialLse = &partialLse;
  auto store =
      SymbolTable::lookupNearestSymbolFrom<StoreOp>(op, op.getStoreAttr());
  // Columns are the q heads of the model, or those of the store alone.
  int64_t columns = lseShape.back(), group = store.getGroup();
  int64_t first =
      columns == int64_t(store.getQHeads()) ? 0 : store.getHeadBegin() * group;
  workTile.partialRow = [](int64_t row) { return row; };
  workTile.headOf = [=](int64_t row) {
    int64_t qHead = first + row % columns;
    ScorePlace place;
    place.qHead = qHead;
    place.kvHead = qHead / group;
    return place;
  };
  workTile.storeOutput = [&](int64_t row, double lse,
                             llvm::ArrayRef<double> o) {
    int64_t head = workTile.headOf(row).kvHead;
    if (head < int64_t(store.getHeadBegin()) ||
        head >= int64_t(store.getHeadEnd()))
      return;
    result.lse.data[row] = lse;
    llvm::copy(o, &result.o.data[row * oShape.back()]);
  };
  if (failed(TileRun(op, workTile).run(op.getBody().front())))
    return failure();
  return result;
}

/// Runs a kernel of rows for each row that has a slot, at each kv head.
static LogicalResult runRows(tile::KernelOp op, StoreOp store, Slots slot,
                             WorkTile &workTile) {
  for (auto [row, at] : llvm::enumerate(slot)) {
    if (at < 0)
      continue;
    workTile.row = row;
    workTile.slot = at;
    for (workTile.head = 0; workTile.head < workTile.cache->type.getHeads();
         ++workTile.head) {
      workTile.modelHead = store.getHeadBegin() + workTile.head;
      if (failed(TileRun(op, workTile).run(op.getBody().front())))
        return failure();
    }
  }
  return success();
}

LogicalResult TileInterpreter::append(Rows k, Rows v, Slots slot,
                                      HostCache &cache) const {
  tile::KernelOp op = kernel;
  auto store =
      SymbolTable::lookupNearestSymbolFrom<StoreOp>(op, op.getStoreAttr());
  WorkTile workTile;
  TileInputs inputs;
  inputs.rows["k"] = k;
  inputs.rows["v"] = v;
  workTile.inputs = &inputs;
  workTile.cache = &cache;
  return runRows(op, store, slot, workTile);
}

FailureOr<Gathered> TileInterpreter::gather(Slots slot,
                                            const HostCache &cache) const {
  tile::KernelOp op = kernel;
  auto store =
      SymbolTable::lookupNearestSymbolFrom<StoreOp>(op, op.getStoreAttr());
  llvm::StringMap<Tensor> decoded;
  for (StringRef name : {kStreamK, kStreamV})
    if (StreamAttr stream = cache.type.findStream(name))
      decoded[name] = Tensor(
          {int64_t(slot.size()), int64_t(store.getKvHeads()), stream.getDim()},
          0);
  WorkTile workTile;
  workTile.cache = &cache;
  workTile.decoded = &decoded;
  if (failed(runRows(op, store, slot, workTile)))
    return failure();
  return Gathered{std::move(decoded[kStreamK]), std::move(decoded[kStreamV])};
}
