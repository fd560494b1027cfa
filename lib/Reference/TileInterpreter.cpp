//===- TileInterpreter.cpp - the meaning of the tile ops ------------------===//
#include "lib/Reference/TileInterpreter.h"
#include "dialect/codecs/HostFloat.h"
#include "lib/Reference/Sequence.h"

#include "llvm/ADT/TypeSwitch.h"

#include <cmath>
#include <cstring>
#include <functional>

using namespace mlir;
using namespace kvc;
using namespace kvc::reference;

static constexpr double kInf = std::numeric_limits<double>::infinity();

namespace {

//===----------------------------------------------------------------------===//
// Values
//===----------------------------------------------------------------------===//

/// f32 tensors: [rows, columns], or one row.
struct Matrix {
  Matrix(int64_t rows, int64_t columns)
      : rows(rows), columns(columns), data(rows * columns) {}
  double &at(int64_t row, int64_t column) {
    return data[row * columns + column];
  }
  double at(int64_t row, int64_t column) const {
    return data[row * columns + column];
  }

  int64_t rows, columns;
  std::vector<double> data;
  /// Scores that a mask hid, and what became of them; empty: none.
  std::vector<bool> hidden;
};

/// Rows of a plane as the cache holds them.
struct Bytes {
  explicit Bytes(RankedTensorType type)
      : type(type.getElementType()), columns(type.getShape().back()),
        rowBytes(columns * this->type.getIntOrFloatBitWidth() / 8),
        data(type.getNumElements() / columns * rowBytes) {}
  int64_t rows() const { return data.size() / rowBytes; }
  uint8_t *row(int64_t index) { return &data[index * rowBytes]; }
  const uint8_t *row(int64_t index) const { return &data[index * rowBytes]; }
  /// One element, exactly.
  double at(int64_t row, int64_t column, bool isSigned = true) const;

  Type type;
  int64_t columns, rowBytes;
  std::vector<uint8_t> data;
};

/// The tokens of a tile from this one on; in append, the row at hand.
struct Tokens {
  int64_t first;
};

/// m in powers of two.
struct State {
  State(int64_t rows, int64_t dim)
      : largest(rows, -kInf), total(rows, 0), sums(rows, dim) {}
  std::vector<double> largest, total;
  Matrix sums;
};

using TileValue = std::variant<Matrix, Bytes, Tokens, State, int64_t>;

double Bytes::at(int64_t row, int64_t column, bool isSigned) const {
  const uint8_t *bytes = this->row(row);
  if (type.isInteger())
    return unpackCode(bytes, column, type.getIntOrFloatBitWidth(), isSigned);
  if (type.isF32()) {
    float x;
    std::memcpy(&x, bytes + column * sizeof(x), sizeof(x));
    return x;
  }
  uint16_t bits;
  std::memcpy(&bits, bytes + column * sizeof(bits), sizeof(bits));
  return type.isF16() ? fromF16(bits) : fromBF16(bits);
}

RankedTensorType tensor(mlir::Value value) {
  return cast<RankedTensorType>(value.getType());
}

//===----------------------------------------------------------------------===//
// Work tiles
//===----------------------------------------------------------------------===//

/// What ops of one work tile reach outside of it. Each kind of kernel has its
/// own; an op of another kind finds its part missing.
struct WorkTile {
  int64_t rows = 0; ///< of queries, or of a merge

  // attend
  const AttendProblem *problem = nullptr;
  const HostBatch *batch = nullptr;
  const HostCache *from = nullptr;
  Rows q;
  int64_t sequence = 0, head = 0;
  Span tokens; ///< of the split
  int64_t queryRow(int64_t row) const {
    return batch->cuQ[sequence] + row / problem->group;
  }
  int64_t queryHead(int64_t row) const {
    return (problem->firstHead + head) * problem->group + row % problem->group;
  }
  int64_t position(int64_t row) const {
    return batch->kvLen[sequence] - batch->queries(sequence) +
           row / problem->group;
  }

  ScorePlace place(int64_t row, int64_t token) const {
    return problem->place(batch->place(sequence, row / problem->group),
                          queryHead(row), token);
  }

  // merge, and the last split of an attend kernel
  const Tensor *partialO = nullptr, *partialLse = nullptr;
  bool isLast = false;
  /// Where a row stands in each split of the partial results.
  std::function<int64_t(int64_t row)> partialRow;
  /// Q and kv head of a row; positions are of no account.
  std::function<ScorePlace(int64_t row)> headOf;

  // append
  Rows k, v;
  HostCache *to = nullptr;
  int64_t row = 0, modelHead = 0, slot = 0;

  // What attend and merge store.
  using Store =
      std::function<void(int64_t row, double lse, llvm::ArrayRef<double> o)>;
  Store storePartial, storeOutput;
};

/// The values of one work tile.
class Run {
public:
  Run(tile::KernelOp kernel, const WorkTile &workTile)
      : kernel(kernel), workTile(workTile) {}
  LogicalResult run(Block &block);

private:
  LogicalResult run(tile::LoadQueryOp op);
  LogicalResult run(tile::SoftmaxInitOp op);
  LogicalResult run(tile::ForTokensOp op);
  LogicalResult run(tile::LoadOp op);
  LogicalResult run(tile::ConvertOp op);
  LogicalResult run(tile::ScaleOp op);
  LogicalResult run(tile::OffsetOp op);
  LogicalResult run(tile::DotOp op);
  LogicalResult run(tile::ScaleTokensOp op);
  LogicalResult run(tile::LogitsOp op);
  LogicalResult run(tile::MaskOp op);
  LogicalResult run(tile::SoftmaxStepOp op);
  LogicalResult run(tile::AccumulateOp op);
  LogicalResult run(tile::StorePartialOp op);
  LogicalResult run(tile::ForSplitsOp op);
  LogicalResult run(tile::MergeStepOp op);
  LogicalResult run(tile::StoreOutputOp op);
  LogicalResult run(tile::ForRowsOp op) {
    return round(op, {Tokens{workTile.row}});
  }
  LogicalResult run(tile::LoadRowOp op);
  LogicalResult run(tile::QuantizeOp op);
  LogicalResult run(tile::StoreRowOp op);
  LogicalResult run(tile::YieldOp) { return success(); }

  void store(const State &state, const WorkTile::Store &to);
  /// Runs the body of `loop` once.
  LogicalResult round(Operation *loop, std::vector<TileValue> arguments);
  /// What the body of `loop` yields first.
  const TileValue &yielded(Operation *loop) {
    return values.find(loop->getRegion(0).front().back().getOperand(0))->second;
  }

  template <typename T> const T &get(mlir::Value value) {
    return std::get<T>(values.find(value)->second);
  }
  /// An element of a tile, be it computed or as the cache holds it.
  double element(mlir::Value value, int64_t row, int64_t column) {
    const TileValue &bound = values.find(value)->second;
    if (const auto *bytes = std::get_if<Bytes>(&bound))
      return bytes->at(row, column);
    return std::get<Matrix>(bound).at(row, column);
  }
  /// Joins each element of `x` with that of its box.
  void forBoxes(mlir::Value result, mlir::Value x, mlir::Value boxes,
                llvm::function_ref<double(double, double)> join);
  void set(mlir::Value value, TileValue bound) {
    values.insert_or_assign(value, std::move(bound));
  }

  tile::KernelOp kernel;
  const WorkTile &workTile;
  llvm::DenseMap<mlir::Value, TileValue> values;
};

} // namespace

LogicalResult Run::run(Block &block) {
  for (Operation &op : block) {
    LogicalResult result =
        llvm::TypeSwitch<Operation *, LogicalResult>(&op)
            .Case<tile::LoadQueryOp, tile::SoftmaxInitOp, tile::ForTokensOp,
                  tile::LoadOp, tile::ConvertOp, tile::ScaleOp, tile::OffsetOp,
                  tile::DotOp, tile::ScaleTokensOp, tile::LogitsOp,
                  tile::MaskOp, tile::SoftmaxStepOp, tile::AccumulateOp,
                  tile::StorePartialOp, tile::ForSplitsOp, tile::MergeStepOp,
                  tile::StoreOutputOp, tile::ForRowsOp, tile::LoadRowOp,
                  tile::QuantizeOp, tile::StoreRowOp, tile::YieldOp>(
                [&](auto op) { return run(op); })
            .Default([](Operation *op) {
              return op->emitOpError("has no meaning to the tile interpreter");
            });
    if (failed(result))
      return failure();
  }
  return success();
}

LogicalResult Run::round(Operation *loop, std::vector<TileValue> arguments) {
  Block &body = loop->getRegion(0).front();
  for (auto [argument, value] : llvm::zip(body.getArguments(), arguments))
    set(argument, std::move(value));
  return run(body);
}

//===----------------------------------------------------------------------===//
// Attend
//===----------------------------------------------------------------------===//

LogicalResult Run::run(tile::LoadQueryOp op) {
  if (!workTile.problem)
    return op.emitOpError("needs the work tile of an attend kernel");
  double scale = op.getScale().convertToDouble();
  Matrix q(workTile.rows, workTile.q.dim);
  for (int64_t row = 0; row < workTile.rows; ++row)
    for (auto [c, x] : llvm::enumerate(
             workTile.q.row(workTile.queryRow(row), workTile.queryHead(row))))
      q.at(row, c) = scale * x;
  set(op.getQ(), std::move(q));
  return success();
}

LogicalResult Run::run(tile::SoftmaxInitOp op) {
  State state(workTile.rows, op.getState().getType().getDim());
  if (!op.getSink().empty() && !workTile.headOf)
    return op.emitOpError("needs rows of q heads");
  ScoreProgram sinks(op.getSink());
  for (int64_t row = 0; row < workTile.rows && !sinks.isEmpty(); ++row) {
    state.largest[row] = M_LOG2E * sinks.sink(workTile.headOf(row));
    state.total[row] = state.largest[row] == -kInf ? 0 : 1;
  }
  set(op.getState(), std::move(state));
  return success();
}

LogicalResult Run::run(tile::ForTokensOp op) {
  if (!workTile.problem)
    return op.emitOpError("needs the work tile of an attend kernel");
  int64_t tile = kernel.getSchedule().getTokens();
  TileValue state = get<State>(op.getInit());
  for (int64_t first = workTile.tokens.begin / tile * tile;
       first < workTile.tokens.end; first += tile) {
    if (failed(round(op, {Tokens{first}, std::move(state)})))
      return failure();
    state = yielded(op);
  }
  set(op.getResult(), std::move(state));
  return success();
}

LogicalResult Run::run(tile::LoadOp op) {
  if (!workTile.problem)
    return op.emitOpError("needs the work tile of an attend kernel");
  HostStream stream(*workTile.from, op.getStream());
  int64_t count = tensor(op.getCodes()).getDimSize(0);
  int64_t first = get<Tokens>(op.getTokens()).first;
  int64_t outerTokens = workTile.from->outerTokens;
  Visible seen = visibleTo(*workTile.problem, workTile.position(0),
                           workTile.position(workTile.rows - 1),
                           workTile.batch->kvLen[workTile.sequence])
                     .within({first, first + count});
  for (auto [plane, value] : llvm::enumerate(op.getPlanes())) {
    Bytes rows(tensor(value));
    seen.forEach([&](int64_t t) {
      int64_t outer =
          workTile.batch
              ->table[workTile.sequence * workTile.batch->tableStride +
                      t / outerTokens];
      std::memcpy(rows.row((t - first) / stream.plane(plane).tokens),
                  stream.row(plane, outer, workTile.head, t % outerTokens),
                  rows.rowBytes);
    });
    set(value, std::move(rows));
  }
  return success();
}

LogicalResult Run::run(tile::ConvertOp op) {
  const Bytes &codes = get<Bytes>(op.getCodes());
  Matrix x(codes.rows(), codes.columns);
  for (int64_t row = 0; row < x.rows; ++row)
    for (int64_t column = 0; column < x.columns; ++column)
      x.at(row, column) = codes.at(row, column, !op.getIsUnsigned());
  set(op.getX(), std::move(x));
  return success();
}

void Run::forBoxes(mlir::Value result, mlir::Value x, mlir::Value boxes,
                   llvm::function_ref<double(double, double)> join) {
  Matrix joined = get<Matrix>(x);
  int64_t rows = tensor(boxes).getDimSize(0);
  int64_t columns = tensor(boxes).getDimSize(1);
  for (int64_t row = 0; row < joined.rows; ++row)
    for (int64_t column = 0; column < joined.columns; ++column)
      joined.at(row, column) = join(joined.at(row, column),
                                    element(boxes, row * rows / joined.rows,
                                            column * columns / joined.columns));
  set(result, std::move(joined));
}

LogicalResult Run::run(tile::ScaleOp op) {
  forBoxes(op.getResult(), op.getX(), op.getBoxes(), std::multiplies<double>());
  return success();
}

LogicalResult Run::run(tile::OffsetOp op) {
  forBoxes(op.getResult(), op.getX(), op.getBoxes(), std::plus<double>());
  return success();
}

LogicalResult Run::run(tile::DotOp op) {
  const Matrix &q = get<Matrix>(op.getQ()), &k = get<Matrix>(op.getK());
  Matrix scores(q.rows, k.rows);
  for (int64_t row = 0; row < q.rows; ++row)
    for (int64_t t = 0; t < k.rows; ++t)
      for (int64_t c = 0; c < q.columns; ++c)
        scores.at(row, t) += q.at(row, c) * k.at(t, c);
  set(op.getScores(), std::move(scores));
  return success();
}

LogicalResult Run::run(tile::ScaleTokensOp op) {
  Matrix x = get<Matrix>(op.getX());
  for (int64_t row = 0; row < x.rows; ++row)
    for (int64_t t = 0; t < x.columns; ++t)
      x.at(row, t) *= element(op.getScales(), t, 0);
  set(op.getResult(), std::move(x));
  return success();
}

LogicalResult Run::run(tile::LogitsOp op) {
  if (!workTile.problem)
    return op.emitOpError("needs the tile of an attend kernel");
  Matrix x = get<Matrix>(op.getX());
  ScoreProgram program(op.getLogits());
  int64_t first = get<Tokens>(op.getTokens()).first;
  for (int64_t row = 0; row < x.rows; ++row)
    for (int64_t t = 0; t < x.columns; ++t)
      x.at(row, t) =
          program.logit(x.at(row, t), workTile.place(row, first + t));
  set(op.getResult(), std::move(x));
  return success();
}

LogicalResult Run::run(tile::MaskOp op) {
  if (!workTile.problem)
    return op.emitOpError("needs the work tile of an attend kernel");
  Matrix x = get<Matrix>(op.getX());
  auto read = cast<ReadAttrInterface>(op.getReadAttr());
  AttendProblem problem = *workTile.problem;
  problem.sink = read.getSinkTokens();
  problem.recent = read.getRecentTokens();
  problem.causal = read.isCausal();
  int64_t first = get<Tokens>(op.getTokens()).first;
  ScoreProgram shown(op.getVisible());
  x.hidden.resize(x.data.size());
  for (int64_t row = 0; row < x.rows; ++row) {
    int64_t position = workTile.position(row);
    Visible seen = visibleTo(problem, position, position,
                             workTile.batch->kvLen[workTile.sequence]);
    for (int64_t t = 0; t < x.columns; ++t)
      if (!seen.contains(first + t) ||
          !shown.visible(workTile.place(row, first + t))) {
        x.at(row, t) = -kInf;
        x.hidden[row * x.columns + t] = true;
      }
  }
  set(op.getResult(), std::move(x));
  return success();
}

LogicalResult Run::run(tile::SoftmaxStepOp op) {
  Matrix p = get<Matrix>(op.getScores());
  State state = get<State>(op.getState());
  for (int64_t row = 0; row < p.rows; ++row) {
    double before = state.largest[row], largest = before;
    for (int64_t t = 0; t < p.columns; ++t)
      if (!(p.at(row, t) <= largest)) // NaN stays
        largest = std::isnan(largest) ? largest : p.at(row, t);
    // Nothing seen yet: any finite origin will do, -inf would make NaN.
    double origin = largest == -kInf ? 0 : largest;
    double factor = std::exp2(before - origin);
    state.largest[row] = largest;
    state.total[row] *= factor;
    for (int64_t c = 0; c < state.sums.columns; ++c)
      state.sums.at(row, c) *= factor;
    for (int64_t t = 0; t < p.columns; ++t) {
      p.at(row, t) = std::exp2(p.at(row, t) - origin);
      state.total[row] += p.at(row, t);
    }
  }
  set(op.getP(), std::move(p));
  set(op.getNext(), std::move(state));
  return success();
}

LogicalResult Run::run(tile::AccumulateOp op) {
  const Matrix &p = get<Matrix>(op.getP()), &v = get<Matrix>(op.getV());
  State state = get<State>(op.getState());
  for (int64_t row = 0; row < p.rows; ++row)
    for (int64_t t = 0; t < p.columns; ++t) {
      if (!p.hidden.empty() && p.hidden[row * p.columns + t])
        continue;
      for (int64_t c = 0; c < v.columns; ++c)
        state.sums.at(row, c) += p.at(row, t) * v.at(t, c);
    }
  set(op.getNext(), std::move(state));
  return success();
}

void Run::store(const State &state, const WorkTile::Store &to) {
  for (int64_t row = 0; row < workTile.rows; ++row) {
    double total = state.total[row];
    llvm::SmallVector<double> o(state.sums.columns, 0);
    if (total != 0)
      for (auto [c, x] : llvm::enumerate(o))
        x = state.sums.at(row, c) / total;
    to(row,
       total == 0 ? -kInf : M_LN2 * (state.largest[row] + std::log2(total)), o);
  }
}

LogicalResult Run::run(tile::StorePartialOp op) {
  if (!workTile.storePartial)
    return op.emitOpError("needs the work tile of an attend kernel");
  store(get<State>(op.getState()), workTile.storePartial);
  if (op.getLast().empty() || !workTile.isLast)
    return success();
  return run(op.getLast().front());
}

LogicalResult Run::run(tile::StoreOutputOp op) {
  if (!workTile.storeOutput)
    return op.emitOpError("needs the work tile of a merge kernel");
  store(get<State>(op.getState()), workTile.storeOutput);
  return success();
}

FailureOr<TileInterpreter::Attended>
TileInterpreter::attend(Rows q, const HostCache &cache,
                        const HostBatch &batch) const {
  tile::KernelOp op = kernel;
  auto store =
      SymbolTable::lookupNearestSymbolFrom<StoreOp>(op, op.getStoreAttr());
  AttendProblem problem;
  problem.cache = cast<CacheType>(store.getCache());
  problem.dtype = op.getDtype();
  problem.firstHead = store.getHeadBegin();
  problem.group = store.getGroup();
  problem.qHeads = store.getQHeads();
  problem.sink = store.read().getSinkTokens();
  problem.recent = store.read().getRecentTokens();
  problem.causal = store.read().isCausal();
  if (llvm::Error error = check(problem, q, cache, batch))
    return op.emitOpError() << llvm::toString(std::move(error));
  int64_t longest = 1;
  for (int32_t length : batch.kvLen)
    longest = std::max<int64_t>(longest, length);
  int64_t split = op.getSchedule().getSplit();
  if (!split)
    split = longest;
  Attended result{
      AttendResult::empty(problem, q.rows, (longest - 1) / split + 1), {}};
  for (auto store : op.getBody().getOps<tile::StorePartialOp>())
    if (!store.getLast().empty())
      result.combined = AttendResult::empty(problem, q.rows);
  WorkTile workTile;
  workTile.problem = &problem;
  workTile.batch = &batch;
  workTile.from = &cache;
  workTile.q = q;
  int64_t dim = problem.cache.getDimV(), splitIdx = 0;
  workTile.partialO = &result.o;
  workTile.partialLse = &result.lse;
  workTile.partialRow = [&](int64_t row) {
    return workTile.queryRow(row) * problem.qHeads + workTile.queryHead(row);
  };
  workTile.headOf = [&](int64_t row) { return workTile.place(row, 0); };
  workTile.storePartial = [&](int64_t row, double lse,
                              llvm::ArrayRef<double> o) {
    int64_t at = splitIdx * q.rows * problem.qHeads + workTile.partialRow(row);
    result.lse.data[at] = lse;
    llvm::copy(o, &result.o.data[at * dim]);
  };
  workTile.storeOutput = [&](int64_t row, double lse,
                             llvm::ArrayRef<double> o) {
    int64_t at = workTile.partialRow(row);
    result.combined->lse.data[at] = lse;
    llvm::copy(o, &result.combined->o.data[at * dim]);
  };
  for (workTile.sequence = 0; workTile.sequence < batch.sequences();
       ++workTile.sequence) {
    workTile.rows = batch.queries(workTile.sequence) * problem.group;
    int64_t length = batch.kvLen[workTile.sequence];
    for (workTile.head = 0;
         workTile.rows && workTile.head < problem.cache.getHeads();
         ++workTile.head)
      // A sequence without tokens has one split, which may have a sink.
      for (splitIdx = 0; splitIdx == 0 || splitIdx * split < length;
           ++splitIdx) {
        workTile.tokens = {splitIdx * split,
                           std::min((splitIdx + 1) * split, length)};
        workTile.isLast = (splitIdx + 1) * split >= length;
        if (failed(Run(op, workTile).run(op.getBody().front())))
          return failure();
      }
  }
  return result;
}

//===----------------------------------------------------------------------===//
// Merge
//===----------------------------------------------------------------------===//

LogicalResult Run::run(tile::ForSplitsOp op) {
  if (!workTile.partialO)
    return op.emitOpError("needs the work tile of a merge kernel, or the last "
                          "split of an attend kernel");
  TileValue state = get<State>(op.getInit());
  for (int64_t splitIdx = 0; splitIdx < workTile.partialLse->shape.front();
       ++splitIdx) {
    if (failed(round(op, {splitIdx, std::move(state)})))
      return failure();
    state = yielded(op);
  }
  set(op.getResult(), std::move(state));
  return success();
}

LogicalResult Run::run(tile::MergeStepOp op) {
  if (!workTile.partialO)
    return op.emitOpError("needs the work tile of a merge kernel");
  State state = get<State>(op.getState());
  int64_t splitIdx = get<int64_t>(op.getSplitIdx()), dim = state.sums.columns;
  int64_t numRows = int64_t(workTile.partialLse->data.size()) /
                    workTile.partialLse->shape.front();
  for (int64_t row = 0; row < workTile.rows; ++row) {
    int64_t at = splitIdx * numRows + workTile.partialRow(row);
    double lse = workTile.partialLse->data[at];
    if (lse == -kInf) // its o never matters, be it NaN
      continue;
    const double *o = &workTile.partialO->data[at * dim];
    double logit = lse * M_LOG2E, before = state.largest[row];
    double largest = logit <= before ? before : logit;
    double factor = std::exp2(before - largest), p = std::exp2(logit - largest);
    state.largest[row] = largest;
    state.total[row] = state.total[row] * factor + p;
    for (int64_t c = 0; c < dim; ++c)
      state.sums.at(row, c) = state.sums.at(row, c) * factor + p * o[c];
  }
  set(op.getNext(), std::move(state));
  return success();
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
  if (failed(Run(op, workTile).run(op.getBody().front())))
    return failure();
  return result;
}

//===----------------------------------------------------------------------===//
// Append
//===----------------------------------------------------------------------===//

LogicalResult Run::run(tile::LoadRowOp op) {
  if (!workTile.to)
    return op.emitOpError("needs the work tile of an append kernel");
  Rows rows = op.getStream() == kStreamK ? workTile.k : workTile.v;
  Matrix x(1, rows.dim);
  llvm::copy(rows.row(get<Tokens>(op.getRow()).first, workTile.modelHead),
             x.data.begin());
  set(op.getX(), std::move(x));
  return success();
}

LogicalResult Run::run(tile::QuantizeOp op) {
  auto codec = cast<CodecAttrInterface>(op.getCodecAttr());
  const Matrix &x = get<Matrix>(op.getX());
  std::vector<float> row(x.data.begin(), x.data.end());
  llvm::SmallVector<Bytes, 3> planes;
  llvm::SmallVector<uint8_t *, 3> to;
  for (mlir::Value plane : op.getPlanes())
    planes.emplace_back(tensor(plane));
  for (Bytes &plane : planes)
    to.push_back(plane.row(0));
  codec.quantizeRows(row, 1, to);
  for (auto [value, plane] : llvm::zip_equal(op.getPlanes(), planes))
    set(value, std::move(plane));
  return success();
}

LogicalResult Run::run(tile::StoreRowOp op) {
  if (!workTile.to)
    return op.emitOpError("needs the work tile of an append kernel");
  HostStream stream(*workTile.to, op.getStream());
  int64_t tokens = workTile.to->outerTokens;
  for (auto [plane, value] : llvm::enumerate(op.getPlanes())) {
    const Bytes &row = get<Bytes>(value);
    std::memcpy(stream.row(plane, workTile.slot / tokens, workTile.head,
                           workTile.slot % tokens),
                row.row(0), row.rowBytes);
  }
  return success();
}

LogicalResult TileInterpreter::append(Rows k, Rows v, Slots slot,
                                      HostCache &cache) const {
  tile::KernelOp op = kernel;
  auto store =
      SymbolTable::lookupNearestSymbolFrom<StoreOp>(op, op.getStoreAttr());
  WorkTile workTile;
  workTile.k = k;
  workTile.v = v;
  workTile.to = &cache;
  for (auto [row, at] : llvm::enumerate(slot)) {
    if (at < 0)
      continue;
    workTile.row = row;
    workTile.slot = at;
    for (workTile.head = 0; workTile.head < cache.type.getHeads();
         ++workTile.head) {
      workTile.modelHead = store.getHeadBegin() + workTile.head;
      if (failed(Run(op, workTile).run(op.getBody().front())))
        return failure();
    }
  }
  return success();
}
