//===- Graph.cpp - what a kernel's ops compute, as a graph ----------------===//
#include "dialect/tile/Graph.h"

#include "llvm/ADT/DenseSet.h"

using namespace mlir;
using namespace kvc;
using namespace kvc::tile;

namespace {

/// Reads a kernel, and remembers what it has read.
class GraphReader {
public:
  explicit GraphReader(KernelOp kernel) : kernel(kernel) {}

  /// The one op of this kind in `block`.
  template <typename OpT> OpT only(Block &block) {
    auto found = llvm::to_vector(block.getOps<OpT>());
    if (found.size() != 1) {
      fail(kernel, kernel.getKind() + " kernels have one `" +
                       OpT::getOperationName() + "`, found " +
                       Twine(found.size()));
      return OpT();
    }
    known.insert(found[0]);
    return found[0];
  }

  void note(Operation *op) { known.insert(op); }

  /// Remembers the first thing that is not as it must be.
  void fail(Operation *op, const Twine &why) {
    if (!failed)
      mismatch = {op, why.str()};
    failed = true;
  }

  /// The op of this kind that makes operand `value` of `user`.
  template <typename OpT> OpT madeBy(Operation *user, Value value) {
    auto op = value.getDefiningOp<OpT>();
    if (op) {
      known.insert(op);
      return op;
    }
    std::string why =
        ("expected an operand made by `" + OpT::getOperationName() + "`").str();
    if (Operation *found = value.getDefiningOp())
      why += (", found `" + found->getName().getStringRef() + "`").str();
    fail(user, why);
    return op;
  }

  void expect(bool holds, Operation *op, const Twine &what) {
    if (!holds)
      fail(op, what);
  }

  /// Every op of `block` must have been read.
  void expectKnown(Block &block) {
    for (Operation &op : block)
      expect(known.contains(&op), &op,
             "`" + op.getName().getStringRef() + "` has no part in what the " +
                 kernel.getKind() + " kernel stores");
  }

  /// Of the states that a loop carries, the one that attention and merges have:
  /// before the loop, in a round, at the round's end and after the loop. Nulls
  /// after an error.
  struct Carried {
    Value init, state, next, result;
  };
  template <typename LoopOp> Carried carried(LoopOp loop) {
    if (loop.getInits().size() != 1) {
      fail(loop, "expected a loop that carries one state, found " +
                     Twine(loop.getInits().size()));
      return {};
    }
    Block &round = loop.getBody().front();
    auto yield = cast<YieldOp>(round.getTerminator());
    known.insert(yield);
    return {loop.getInits()[0], round.getArgument(1), yield.getState()[0],
            loop.getResult(0)};
  }

  /// The element-wise ops between `from` and the operand `to` of `user`.
  SmallVector<Operation *> chain(Operation *user, Value to, Value from);
  StreamOperand operand(Operation *user, Value x, Value tokens);

  KernelOp kernel;
  bool failed = false;
  GraphMismatch mismatch;

private:
  llvm::DenseSet<Operation *> known;
};

} // namespace

SmallVector<Operation *> GraphReader::chain(Operation *user, Value to,
                                            Value from) {
  SmallVector<Operation *> ops;
  while (to != from) {
    Operation *op = to.getDefiningOp();
    if (!isa_and_nonnull<ScaleTokensOp, LogitsOp, MaskOp>(op)) {
      fail(op ? op : user, "expected element-wise ops between `" +
                               from.getDefiningOp()->getName().getStringRef() +
                               "` and `" + user->getName().getStringRef() +
                               "`");
      return ops;
    }
    known.insert(op);
    ops.push_back(op);
    user = op;
    to = op->getOperand(0);
  }
  std::reverse(ops.begin(), ops.end());
  return ops;
}

StreamOperand GraphReader::operand(Operation *user, Value x, Value tokens) {
  StreamOperand operand;
  if (auto scale = x.getDefiningOp<ScaleOp>()) {
    fail(scale, "scales must be folded first (kvc-fold-scales)");
    return operand;
  }
  operand.convert = madeBy<ConvertOp>(user, x);
  if (!operand.convert)
    return operand;
  operand.load = madeBy<LoadOp>(operand.convert, operand.convert.getCodes());
  if (!operand.load)
    return operand;
  expect(operand.convert.getCodes() == operand.load.getCodes(), operand.convert,
         "expected the codes that `tile.load` gives");
  expect(operand.load.getTokens() == tokens, operand.load,
         "expected the tokens of the loop's round");
  expect(operand.dim() % 8 == 0 && operand.dim() <= 576, operand.load,
         "expected rows of a multiple of 8 elements, at most 576");
  expect(operand.code().getIntOrFloatBitWidth() >= 8 &&
             !operand.convert.getIsUnsigned(),
         operand.convert,
         "expected codes of floats or of integers of 8 bits with a sign: no "
         "backend multiplies others yet");
  int64_t count =
      cast<RankedTensorType>(operand.load.getCodes().getType()).getDimSize(0);
  int64_t wanted = kernel.getSchedule()->getTokens();
  expect(count == wanted, operand.load,
         "tiles are of " + Twine(wanted) +
             " tokens, as the schedule says; found " + Twine(count));
  return operand;
}

static std::optional<AttendGraph> matchAttend(KernelOp kernel,
                                              GraphReader &reader) {
  AttendGraph graph;
  Block &body = kernel.getBody().front();
  graph.query = reader.only<LoadQueryOp>(body);
  auto init = reader.only<SoftmaxInitOp>(body);
  graph.loop = reader.only<ForTokensOp>(body);
  graph.store = reader.only<StorePartialOp>(body);
  if (reader.failed)
    return std::nullopt;
  auto carried = reader.carried(graph.loop);
  if (reader.failed)
    return std::nullopt;
  reader.expect(!graph.loop.getSpace(), graph.loop,
                "no backend lowers loops over a space yet");
  reader.expect(carried.init == init.getState(), graph.loop,
                "expected to begin with `tile.softmax_init`");
  reader.expect(init.getSink().empty(), init,
                "expected the sink where splits are merged");
  reader.expect(graph.store.getState() == carried.result, graph.store,
                "expected the state that the loop ends with");
  reader.expect(
      cast<RankedTensorType>(graph.query.getQ().getType()).isDynamicDim(0),
      graph.query, "expected `?` rows: an item has as many as it has");
  reader.expectKnown(body);

  Block &round = graph.loop.getBody().front();
  graph.dot = reader.only<DotOp>(round);
  graph.softmax = reader.only<SoftmaxStepOp>(round);
  graph.accumulate = reader.only<AccumulateOp>(round);
  if (reader.failed)
    return std::nullopt;
  Value tokens = round.getArgument(0);
  reader.expect(graph.dot.getQ() == graph.query.getQ(), graph.dot,
                "expected the query that `tile.load_query` gives");
  graph.k = reader.operand(graph.dot, graph.dot.getK(), tokens);
  graph.scores = reader.chain(graph.softmax, graph.softmax.getScores(),
                              graph.dot.getScores());
  reader.expect(graph.softmax.getState() == carried.state, graph.softmax,
                "expected the state that the loop carries");
  graph.probabilities = reader.chain(graph.accumulate, graph.accumulate.getP(),
                                     graph.softmax.getP());
  graph.v = reader.operand(graph.accumulate, graph.accumulate.getV(), tokens);
  reader.expect(graph.accumulate.getState() == graph.softmax.getNext(),
                graph.accumulate,
                "expected the state after `tile.softmax_step`");
  reader.expect(carried.next == graph.accumulate.getNext(),
                round.getTerminator(),
                "expected the state after `tile.accumulate`");
  if (reader.failed)
    return std::nullopt;
  // A hidden token weighs nothing only if nothing comes between its mask and
  // the softmax, and tiles are skipped by the loop's read alone.
  auto mask =
      graph.scores.empty() ? MaskOp() : dyn_cast<MaskOp>(graph.scores.back());
  reader.expect(bool(mask), graph.softmax,
                "expected scores that come from a `tile.mask`");
  if (mask)
    reader.expect(mask.getReadAttr() == graph.loop.getReadAttr(), mask,
                  "expected the loop's read");
  for (ArrayRef<Operation *> chain :
       {ArrayRef(graph.scores), ArrayRef(graph.probabilities)})
    for (Operation *op : chain)
      reader.expect(op == mask.getOperation() || !isa<MaskOp>(op), op,
                    "expected one mask, right before the softmax");
  reader.expectKnown(round);
  if (reader.failed)
    return std::nullopt;
  return graph;
}

FailureOr<AttendGraph> AttendGraph::of(KernelOp kernel) {
  GraphMismatch mismatch;
  std::optional<AttendGraph> graph = match(kernel, mismatch);
  if (graph)
    return *graph;
  return mismatch.op->emitError(mismatch.why);
}

std::optional<AttendGraph> AttendGraph::match(KernelOp kernel,
                                              GraphMismatch &mismatch) {
  GraphReader reader(kernel);
  std::optional<AttendGraph> graph = matchAttend(kernel, reader);
  mismatch = reader.mismatch;
  return graph;
}

static FailureOr<MergeGraph> readMerge(KernelOp kernel, Block &body) {
  GraphReader reader(kernel);
  auto refuse = [&] {
    return reader.mismatch.op->emitError(reader.mismatch.why);
  };
  MergeGraph graph;
  graph.init = reader.only<SoftmaxInitOp>(body);
  auto loop = reader.only<ForSplitsOp>(body);
  auto store = reader.only<StoreOutputOp>(body);
  if (reader.failed)
    return refuse();
  auto carried = reader.carried(loop);
  if (reader.failed)
    return refuse();
  reader.expect(carried.init == graph.init.getState(), loop,
                "expected to begin with `tile.softmax_init`");
  reader.expect(store.getState() == carried.result, store,
                "expected the state that the loop ends with");
  reader.expectKnown(body);
  Block &round = loop.getBody().front();
  auto step = reader.only<MergeStepOp>(round);
  if (reader.failed)
    return refuse();
  reader.expect(step.getSplitIdx() == round.getArgument(0) &&
                    step.getState() == carried.state,
                step, "expected the loop's split and state");
  reader.expect(carried.next == step.getNext(), round.getTerminator(),
                "expected the state after `tile.merge_step`");
  reader.expectKnown(round);
  if (reader.failed)
    return refuse();
  return graph;
}

FailureOr<MergeGraph> MergeGraph::of(KernelOp kernel) {
  return readMerge(kernel, kernel.getBody().front());
}

FailureOr<MergeGraph> MergeGraph::of(KernelOp kernel, StorePartialOp store) {
  if (store.getLast().empty())
    return store.emitError("expected `last`: splits run side by side, and the "
                           "last of them merges all");
  return readMerge(kernel, store.getLast().front());
}

FailureOr<SmallVector<StoredRow, 2>> tile::storedRows(KernelOp kernel) {
  GraphReader reader(kernel);
  auto refuse = [&] {
    return reader.mismatch.op->emitError(reader.mismatch.why);
  };
  Block &body = kernel.getBody().front();
  auto loop = reader.only<ForRowsOp>(body);
  if (!loop)
    return refuse();
  reader.expectKnown(body);
  if (!loop.getInits().empty())
    return loop.emitError("no backend lowers rows with a state yet");
  Block &round = loop.getBody().front();
  reader.note(round.getTerminator());
  SmallVector<StoredRow, 2> rows;
  for (auto store : round.getOps<StoreRowOp>()) {
    reader.note(store);
    StoredRow row;
    row.store = store;
    row.quantize = reader.madeBy<QuantizeOp>(store, store.getPlanes().front());
    if (!row.quantize)
      return refuse();
    reader.expect(llvm::equal(store.getPlanes(), row.quantize.getPlanes()),
                  store, "expected all that was quantized, and in its order");
    reader.expect(
        cast<CodecAttrInterface>(row.quantize.getCodec()).canEmitQuantize(),
        row.quantize, "no backend quantizes with this codec yet");
    row.load = reader.madeBy<LoadRowOp>(row.quantize, row.quantize.getX());
    if (!row.load)
      return refuse();
    StringRef given = row.load.getName();
    reader.expect(given == kStreamK || given == kStreamV, row.load,
                  "append is given rows `k` and `v`, found others");
    reader.expect(cast<RankedTensorType>(row.load.getX().getType()).getRank() ==
                      1,
                  row.load, "expected the row of one kv head");
    reader.expect(row.load.getRow() == round.getArgument(0) &&
                      store.getRow() == round.getArgument(0),
                  store, "expected the row of the loop's round");
    rows.push_back(row);
  }
  reader.expectKnown(round);
  if (reader.failed)
    return refuse();
  return rows;
}

LogicalResult tile::checkLowered(KernelOp kernel) {
  if (!llvm::is_contained({"attend", "merge", "append"}, kernel.getKind()))
    return kernel.emitError("no backend lowers kernels of kind \"")
           << kernel.getKind() << "\" yet";
  return success();
}

LogicalResult tile::checkAttentionStreams(KernelOp kernel) {
  auto store = SymbolTable::lookupNearestSymbolFrom<StoreOp>(
      kernel, kernel.getStoreAttr());
  auto cache = cast<CacheType>(store.getCache());
  for (StringRef name : {kStreamK, kStreamV}) {
    StreamAttr stream = cache.findStream(name);
    if (!stream)
      return kernel.emitError("no backend lowers a kernel of a cache without a "
                              "stream `")
             << name << "` yet";
    if (stream.getDim() % 8 || stream.getDim() > 576 || stream.getTokens() != 1)
      return kernel.emitError("no backend lowers a kernel of a cache whose "
                              "stream `")
             << name << "` has other rows than one for each token, of a "
             << "multiple of 8 elements, at most 576";
  }
  return success();
}
