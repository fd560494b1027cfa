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
    fail(user, "expected an operand made by `" + OpT::getOperationName() + "`" +
                   foundText(value.getDefiningOp()));
    return op;
  }
  /// ", found `OP`"; null: "".
  static std::string foundText(Operation *op) {
    return op ? (", found `" + op->getName().getStringRef() + "`").str() : "";
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

  void takeScales(ScaleTokensOp op, Value tokens);
  /// The element-wise ops between `from` and the operand `to` of `user`.
  SmallVector<Operation *> chain(Operation *user, Value to, Value from,
                                 Value tokens, bool takesMaps);
  StreamOperand operand(Operation *user, Value x, Value tokens);
  void takeDecoded(Operation *user, Value x, Value tokens);

  KernelOp kernel;
  bool failed = false;
  GraphMismatch mismatch;

private:
  bool takeCodes(Value tokens, StreamOperand &operand);

  llvm::DenseSet<Operation *> known;
};

} // namespace

static CacheType cacheOf(KernelOp kernel) {
  auto store = SymbolTable::lookupNearestSymbolFrom<StoreOp>(
      kernel, kernel.getStoreAttr());
  return cast<CacheType>(store.getCache());
}

static StreamAttr streamOf(LoadOp load) {
  return cacheOf(load->getParentOfType<KernelOp>())
      .findStream(load.getStream());
}

/// Scales of any stream that has a row for each token.
void GraphReader::takeScales(ScaleTokensOp op, Value tokens) {
  Operation *made = op.getScales().getDefiningOp();
  auto load = dyn_cast_or_null<LoadOp>(made);
  if (!load)
    return fail(op, "expected scales of tokens as they are loaded" +
                        foundText(made));
  expect(load.getTokens() == tokens, load,
         "expected the tokens of the loop's round");
  expect(streamOf(load).getTokens() == 1, load,
         "expected a stream that has one row for each token");
  known.insert(load);
}

SmallVector<Operation *> GraphReader::chain(Operation *user, Value to,
                                            Value from, Value tokens,
                                            bool takesMaps) {
  SmallVector<Operation *> ops;
  while (to != from) {
    Operation *op = to.getDefiningOp();
    auto map = dyn_cast_if_present<MapOp>(op);
    bool takesMap = map && map.getNumOperands() == 1 && takesMaps;
    if (!takesMap && !isa_and_nonnull<ScaleTokensOp, LogitsOp, MaskOp>(op)) {
      fail(op ? op : user,
           "expected `tile.scale_tokens`, `tile.logits`, `tile.mask`" +
               Twine(takesMaps ? " or a `tile.map` of one operand" : "") +
               " between `" + from.getDefiningOp()->getName().getStringRef() +
               "` and `" + user->getName().getStringRef() + "`" +
               foundText(op));
      return ops;
    }
    known.insert(op);
    if (auto scale = dyn_cast<ScaleTokensOp>(op))
      takeScales(scale, tokens);
    ops.push_back(op);
    user = op;
    to = op->getOperand(0);
  }
  std::reverse(ops.begin(), ops.end());
  return ops;
}

/// Makes `operand` one of codes, if they are floats, or integers of 8 bits with
/// a sign, and stand one row per token.
bool GraphReader::takeCodes(Value tokens, StreamOperand &operand) {
  auto convert = operand.x.getDefiningOp<ConvertOp>();
  auto load = convert ? convert.getCodes().getDefiningOp<LoadOp>() : LoadOp();
  if (!load || convert.getCodes() != load.getCodes() ||
      load.getTokens() != tokens || streamOf(load).getTokens() != 1 ||
      convert.getIsUnsigned())
    return false;
  auto type = cast<RankedTensorType>(load.getCodes().getType());
  if (type.getElementType().getIntOrFloatBitWidth() < 8)
    return false;
  operand.load = load;
  operand.convert = convert;
  known.insert(load);
  known.insert(convert);
  return true;
}

/// Remembers the element-wise ops that make operand `x` of `user` of what is
/// loaded.
void GraphReader::takeDecoded(Operation *user, Value x, Value tokens) {
  Operation *op = x.getDefiningOp();
  if (!isa_and_nonnull<LoadOp, ConvertOp, ScaleOp, OffsetOp, SliceOp, MapOp>(
          op))
    return fail(
        op ? op : user,
        "expected an operand that element-wise ops make of loaded rows");
  if (!known.insert(op).second)
    return;
  if (auto load = dyn_cast<LoadOp>(op))
    return expect(load.getTokens() == tokens, load,
                  "expected the tokens of the loop's round");
  for (Value operand : op->getOperands())
    takeDecoded(op, operand, tokens);
}

StreamOperand GraphReader::operand(Operation *user, Value x, Value tokens) {
  StreamOperand operand;
  operand.x = x;
  if (!takeCodes(tokens, operand))
    takeDecoded(user, x, tokens);
  if (failed)
    return operand;
  Operation *made = operand.isDecoded() ? x.getDefiningOp() : operand.load;
  auto type = cast<RankedTensorType>(x.getType());
  expect(operand.dim() % 8 == 0 && operand.dim() <= 576, made,
         "expected rows of a multiple of 8 elements, at most 576; found " +
             Twine(operand.dim()));
  int64_t wanted = kernel.getSchedule()->getTokens();
  expect(type.getDimSize(0) == wanted, made,
         "tiles are of " + Twine(wanted) +
             " tokens, as the schedule says; found " +
             Twine(type.getDimSize(0)));
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
  bool contracts =
      round.getOps<DotOp>().empty() && !round.getOps<ContractOp>().empty();
  Value q, k, product;
  if (contracts) {
    graph.contract = reader.only<ContractOp>(round);
    if (graph.contract) {
      reader.expect(graph.contract.getOthers().size() == 1, graph.contract,
                    "expected one operand beside the query");
      q = graph.contract.getQ(), k = graph.contract.getOthers().front();
      product = graph.contract.getResult();
    }
  } else {
    graph.dot = reader.only<DotOp>(round);
    if (graph.dot)
      q = graph.dot.getQ(), k = graph.dot.getK(),
      product = graph.dot.getScores();
  }
  graph.softmax = reader.only<SoftmaxStepOp>(round);
  graph.accumulate = reader.only<AccumulateOp>(round);
  if (reader.failed)
    return std::nullopt;
  Value tokens = round.getArgument(0);
  Operation *multiply = product.getDefiningOp();
  reader.expect(q == graph.query.getQ(), multiply,
                "expected the query that `tile.load_query` gives");
  graph.k = reader.operand(multiply, k, tokens);
  graph.scores = reader.chain(graph.softmax, graph.softmax.getScores(), product,
                              tokens, /*takesMaps=*/true);
  reader.expect(graph.softmax.getState() == carried.state, graph.softmax,
                "expected the state that the loop carries");
  // What is hidden weighs nothing, whatever a map would make of a 0.
  graph.probabilities = reader.chain(graph.accumulate, graph.accumulate.getP(),
                                     graph.softmax.getP(), tokens,
                                     /*takesMaps=*/false);
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
  reader.expect(
      bool(mask), graph.softmax,
      "expected scores that come from a `tile.mask`" +
          GraphReader::foundText(graph.softmax.getScores().getDefiningOp()));
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
  reader.expect(
      graph.dim() % 8 == 0 && graph.dim() <= 576, graph.init,
      "expected rows of a multiple of 8 elements, at most 576; found " +
          Twine(graph.dim()));
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

/// The round of the one loop over rows that a kernel is; null after an error.
static Block *roundOfRows(KernelOp kernel, GraphReader &reader) {
  Block &body = kernel.getBody().front();
  auto loop = reader.only<ForRowsOp>(body);
  if (!loop)
    return nullptr;
  reader.expectKnown(body);
  reader.expect(loop.getInits().empty(), loop,
                "no backend lowers rows with a state yet");
  Block &round = loop.getBody().front();
  reader.note(round.getTerminator());
  return reader.failed ? nullptr : &round;
}

FailureOr<SmallVector<StoredRow, 2>> tile::storedRows(KernelOp kernel) {
  GraphReader reader(kernel);
  auto refuse = [&] {
    return reader.mismatch.op->emitError(reader.mismatch.why);
  };
  Block *rounds = roundOfRows(kernel, reader);
  if (!rounds)
    return refuse();
  Block &round = *rounds;
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
    row.load = reader.madeBy<LoadRowOp>(row.quantize, row.quantize.getX());
    if (!row.load)
      return refuse();
    int64_t channels = row.dim() / row.boxes();
    reader.expect(row.boxes() == 1 || (llvm::isPowerOf2_64(channels) &&
                                       channels >= 8 && channels <= 256),
                  row.quantize,
                  "expected boxes of whole rows, or of a power of two of 8 to "
                  "256 channels, found " +
                      Twine(channels));
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

/// Reads what `store` stores of the cache's token `token`.
static void readDecoded(StoreDecodedOp store, Value token,
                        GraphReader &reader) {
  StringRef name = store.getName();
  reader.note(store);
  reader.takeDecoded(store, store.getX(), token);
  reader.expect(store.getRow() == token, store,
                "expected the row of the loop's round");
  reader.expect(name == kStreamK || name == kStreamV, store,
                "gather gives rows `k` and `v`, found others");
  reader.expect(bool(cacheOf(reader.kernel).findStream(name)), store,
                "expected a cache with a stream `" + name + "`");
  reader.expect(store.getDim() % 8 == 0, store,
                "expected a row of a multiple of 8 elements, found " +
                    Twine(store.getDim()));
}

FailureOr<SmallVector<StoreDecodedOp, 2>> tile::decodedRows(KernelOp kernel) {
  GraphReader reader(kernel);
  SmallVector<StoreDecodedOp, 2> rows;
  if (Block *round = roundOfRows(kernel, reader)) {
    for (auto store : round->getOps<StoreDecodedOp>()) {
      readDecoded(store, round->getArgument(0), reader);
      rows.push_back(store);
    }
    for (auto load : round->getOps<LoadOp>())
      reader.expect(streamOf(load).getTokens() != 0, load,
                    "expected a stream that has rows of tokens");
    round->walk([&](kvc::ConstantOp constant) {
      reader.fail(constant, "gather is given no constants");
    });
    reader.expectKnown(*round);
  }
  if (reader.failed)
    return reader.mismatch.op->emitError(reader.mismatch.why);
  return rows;
}

LogicalResult tile::checkLowered(KernelOp kernel) {
  if (!llvm::is_contained({"attend", "merge", "append", "gather"},
                          kernel.getKind()))
    return kernel.emitError("no backend lowers kernels of kind \"")
           << kernel.getKind() << "\" yet";
  return success();
}

LogicalResult tile::checkAttentionStreams(KernelOp kernel) {
  CacheType cache = cacheOf(kernel);
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
