//===- TileOps.cpp - ops that reach the cache, and those on elements ------===//
#include "dialect/codecs/HostFloat.h"
#include "lib/driver/Reference/TileRun.h"

#include <cmath>
#include <cstring>

using namespace mlir;
using namespace kvc;
using namespace kvc::reference;

double Bytes::at(int64_t row, int64_t column, bool isSigned) const {
  const uint8_t *bytes = this->row(row);
  if (type.isInteger())
    return unpackCode(bytes, column, type.getIntOrFloatBitWidth(), isSigned);
  if (type.isF32()) {
    float x;
    std::memcpy(&x, bytes + column * sizeof(x), sizeof(x));
    return x;
  }
  if (isa<Float8E4M3FNType>(type))
    return fromE4M3(bytes[column]);
  if (isa<Float8E5M2Type>(type))
    return fromE5M2(bytes[column]);
  if (isa<Float8E8M0FNUType>(type))
    return fromE8M0(bytes[column]);
  if (isa<Float4E2M1FNType>(type))
    return fromE2M1(uint8_t(unpackCode(bytes, column, 4, /*isSigned=*/false)));
  uint16_t bits;
  std::memcpy(&bits, bytes + column * sizeof(bits), sizeof(bits));
  return type.isF16() ? fromF16(bits) : fromBF16(bits);
}

//===----------------------------------------------------------------------===//
// Spaces and loops
//===----------------------------------------------------------------------===//

LogicalResult TileRun::run(tile::SpanOp op) {
  if (failed(expectSequence(op)))
    return failure();
  Span all{0, workTile.length()};
  for (Attribute name : op.getStreams()) {
    auto spans = workTile.inputs->spans.find(cast<StringAttr>(name).getValue());
    if (spans == workTile.inputs->spans.end())
      continue; // it has every token
    Span has = spans->second[workTile.sequence];
    all.begin = std::max(all.begin, has.begin);
    all.end = std::min(all.end, has.end);
  }
  all.end -= op.getExceptLast();
  all = {std::max(all.begin, workTile.tokens.begin),
         std::min(all.end, workTile.tokens.end)};
  set(op.getSpace(), Space{{all}});
  return success();
}

LogicalResult TileRun::run(tile::ListedOp op) {
  if (failed(expectSequence(op)))
    return failure();
  auto list = workTile.inputs->lists.find(op.getList());
  if (list == workTile.inputs->lists.end())
    return op.emitOpError("finds no list `") << op.getList() << "`";
  int64_t tokens = op.getTokens();
  Space space;
  space.isBoxes = true;
  for (int64_t box : list->second[workTile.sequenceHead()])
    space.runs.push_back({box * tokens, (box + 1) * tokens});
  set(op.getSpace(), std::move(space));
  return success();
}

std::vector<TileValue> TileRun::tilesOf(const Space &space,
                                        int64_t tile) const {
  std::vector<TileValue> tiles;
  auto add = [&](int64_t token, bool present) {
    Tokens &last = std::get<Tokens>(tiles.back());
    last.at.push_back(token);
    last.present.push_back(present);
  };
  for (Span run : space.runs) {
    if (space.isBoxes) {
      if (tiles.empty() || std::get<Tokens>(tiles.back()).size() == tile)
        tiles.push_back(Tokens());
      for (int64_t token = run.begin; token < run.end; ++token)
        add(token, token < workTile.length());
      continue;
    }
    for (int64_t first = run.begin / tile * tile; first < run.end;
         first += tile) {
      tiles.push_back(Tokens());
      for (int64_t token = first; token < first + tile; ++token)
        add(token, token >= run.begin && token < run.end);
    }
  }
  // Boxes may end before their last tile does.
  while (!tiles.empty() && std::get<Tokens>(tiles.back()).size() < tile)
    add(0, false);
  return tiles;
}

AttendProblem TileRun::readBy(Attribute attribute) const {
  auto read = cast<ReadAttrInterface>(attribute);
  AttendProblem problem = *workTile.problem;
  problem.sink = read.getSinkTokens();
  problem.recent = read.getRecentTokens();
  problem.causal = read.isCausal();
  return problem;
}

std::vector<bool> TileRun::reached(const Tokens &tokens,
                                   const AttendProblem &problem) const {
  Visible seen =
      visibleTo(problem, workTile.position(0),
                workTile.position(workTile.rows - 1), workTile.length());
  std::vector<bool> reached(tokens.present);
  for (int64_t t = 0; t < tokens.size(); ++t)
    reached[t] = reached[t] && seen.contains(tokens.at[t]);
  return reached;
}

template <typename LoopOp>
LogicalResult TileRun::runLoop(LoopOp loop, std::vector<TileValue> counters) {
  std::vector<TileValue> states;
  for (mlir::Value init : loop.getInits())
    states.push_back(values.find(init)->second);
  Block &body = loop.getBody().front();
  for (TileValue &counter : counters) {
    set(body.getArgument(0), std::move(counter));
    for (auto [index, state] : llvm::enumerate(states))
      set(body.getArgument(index + 1), std::move(state));
    if (failed(run(body)))
      return failure();
    for (auto [state, value] :
         llvm::zip_equal(states, body.getTerminator()->getOperands())) {
      state = values.find(value)->second;
      if (auto *matrix = std::get_if<Matrix>(&state))
        matrix->hidden.clear();
    }
  }
  for (auto [result, state] : llvm::zip_equal(loop.getResults(), states))
    set(result, std::move(state));
  return success();
}

LogicalResult TileRun::run(tile::ForTokensOp op) {
  if (failed(expectSequence(op)))
    return failure();
  Space space{{workTile.tokens}};
  if (op.getSpace())
    space = get<Space>(op.getSpace());
  int64_t tile = kernel.getSchedule()->getTokens();
  if (space.isBoxes)
    for (Span run : space.runs)
      if (tile % (run.end - run.begin))
        return op.emitOpError("tiles of ")
               << tile << " tokens are not whole boxes of "
               << run.end - run.begin;
  AttendProblem problem = readBy(op.getReadAttr());
  std::vector<TileValue> tiles = tilesOf(space, tile);
  llvm::erase_if(tiles, [&](const TileValue &tokens) {
    return llvm::none_of(reached(std::get<Tokens>(tokens), problem),
                         [](bool seen) { return seen; });
  });
  return runLoop(op, std::move(tiles));
}

LogicalResult TileRun::run(tile::ForSplitsOp op) {
  if (!workTile.partialO)
    return op.emitOpError("needs the work tile of a merge kernel, or the last "
                          "split of an attend kernel");
  std::vector<TileValue> splits;
  for (int64_t i = 0; i < workTile.partialLse->shape.front(); ++i)
    splits.push_back(i);
  return runLoop(op, std::move(splits));
}

LogicalResult TileRun::run(tile::ForRowsOp op) {
  std::vector<TileValue> rows;
  if (!workTile.problem)
    rows.push_back(Tokens{{workTile.row}, {true}});
  else
    for (int64_t row :
         llvm::seq<int64_t>(workTile.batch->cuQ[workTile.sequence],
                            workTile.batch->cuQ[workTile.sequence + 1]))
      rows.push_back(Tokens{{row}, {true}});
  return runLoop(op, std::move(rows));
}

//===----------------------------------------------------------------------===//
// Rows of the cache
//===----------------------------------------------------------------------===//

LogicalResult TileRun::run(tile::LoadOp op) {
  bool isGather = workTile.decoded;
  if (!isGather && failed(expectSequence(op)))
    return failure();
  HostStream stream(*workTile.cache, op.getStream());
  const Tokens &tokens = get<Tokens>(op.getTokens());
  std::vector<bool> wanted =
      isGather ? tokens.present : reached(tokens, *workTile.problem);
  for (auto [plane, value] : llvm::enumerate(op.getPlanes())) {
    Bytes rows(tensor(value));
    int64_t each = stream.plane(plane).tokens;
    if (isGather && each)
      each = 1; // one token of a box has the box's row
    if (!each || rows.rows() * each != tokens.size())
      return op.emitOpError("loads ")
             << rows.rows() << " rows of " << each << " tokens each for "
             << tokens.size() << " tokens";
    for (int64_t t = 0; t < tokens.size(); ++t)
      if (wanted[t])
        std::memcpy(rows.row(t / each),
                    workTile.cachedRow(stream, plane, tokens.at[t]),
                    rows.rowBytes);
    if (!rows.type.isF32()) {
      set(value, std::move(rows));
      continue;
    }
    // Need not be converted to be used.
    Matrix x(rows.rows(), rows.columns);
    for (int64_t row = 0; row < x.rows; ++row)
      for (int64_t column = 0; column < x.columns; ++column)
        x.at(row, column) = rows.at(row, column);
    set(value, std::move(x));
  }
  return success();
}

LogicalResult TileRun::run(tile::StoreTokensOp op) {
  if (failed(expectSequence(op)))
    return failure();
  HostStream stream(*workTile.cache, op.getStream());
  const Tokens &tokens = get<Tokens>(op.getTokens());
  const Matrix &x = get<Matrix>(op.getX());
  int64_t each = stream.plane(0).tokens;
  if (!each || x.rows * each != tokens.size())
    return op.emitOpError("stores ")
           << x.rows << " rows of " << each << " tokens each for "
           << tokens.size() << " tokens";
  std::vector<bool> wanted = reached(tokens, *workTile.problem);
  std::vector<float> row(x.columns);
  for (int64_t t = 0; t < tokens.size(); ++t) {
    if (!wanted[t])
      continue;
    llvm::copy(llvm::ArrayRef(&x.data[t / each * x.columns], x.columns),
               row.begin());
    llvm::SmallVector<uint8_t *, 3> to;
    for (size_t plane = 0; plane < stream.planes(); ++plane)
      to.push_back(workTile.cachedRow(stream, plane, tokens.at[t]));
    stream.codec().quantizeRows(row, 1, to);
  }
  return success();
}

/// The row of a stream that the sequence has stands in its slot, or its first
/// page.
LogicalResult TileRun::run(tile::LoadStateOp op) {
  if (failed(expectSequence(op)))
    return failure();
  HostStream stream(*workTile.cache, op.getStream());
  std::vector<float> row(stream.dim());
  stream.dequantize(workTile.outer(0), workTile.head, 0, row);
  Matrix x(tensor(op.getX()).getDimSize(0),
           stream.dim() / tensor(op.getX()).getDimSize(0));
  llvm::copy(row, x.data.begin());
  set(op.getX(), std::move(x));
  return success();
}

LogicalResult TileRun::run(tile::StoreStateOp op) {
  if (failed(expectSequence(op)))
    return failure();
  const Matrix &x = get<Matrix>(op.getX());
  std::vector<float> row(x.data.begin(), x.data.end());
  HostStream(*workTile.cache, op.getStream())
      .quantize(workTile.outer(0), workTile.head, 0, row);
  return success();
}

//===----------------------------------------------------------------------===//
// Rows of a call
//===----------------------------------------------------------------------===//

LogicalResult TileRun::run(tile::LoadRowOp op) {
  auto found = workTile.inputs ? workTile.inputs->rows.find(op.getName())
                               : llvm::StringMap<Rows>::const_iterator();
  if (!workTile.inputs || found == workTile.inputs->rows.end())
    return op.emitOpError("finds no rows `") << op.getName() << "`";
  const Rows &rows = found->second;
  int64_t row = get<Tokens>(op.getRow()).at[0];
  int64_t first = workTile.modelHead, count = 1;
  if (workTile.problem) {
    first = workTile.problem->firstHead + workTile.head;
    if (tensor(op.getX()).getRank() == 2) {
      count = workTile.problem->group;
      first *= count;
    }
  }
  Matrix x(count, rows.dim);
  for (int64_t head = 0; head < count; ++head)
    llvm::copy(rows.row(row, first + head), &x.at(head, 0));
  set(op.getX(), std::move(x));
  return success();
}

LogicalResult TileRun::run(tile::QuantizeOp op) {
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

LogicalResult TileRun::run(tile::StoreRowOp op) {
  if (workTile.slot < 0 || workTile.decoded)
    return op.emitOpError("needs the work tile of an append kernel");
  HostStream stream(*workTile.cache, op.getStream());
  for (auto [plane, value] : llvm::enumerate(op.getPlanes())) {
    const Bytes &row = get<Bytes>(value);
    std::memcpy(workTile.slotRow(stream, plane), row.row(0), row.rowBytes);
  }
  return success();
}

LogicalResult TileRun::run(tile::StoreDecodedOp op) {
  if (!workTile.decoded)
    return op.emitOpError("needs the work tile of a gather kernel");
  auto to = workTile.decoded->find(op.getName());
  const Matrix &x = get<Matrix>(op.getX());
  if (to == workTile.decoded->end() || to->second.shape.back() != x.columns)
    return op.emitOpError("finds no rows `")
           << op.getName() << "` of " << x.columns << " elements";
  int64_t heads = to->second.shape[1];
  llvm::copy(x.data,
             &to->second.data[(workTile.row * heads + workTile.modelHead) *
                              x.columns]);
  return success();
}

LogicalResult TileRun::run(tile::StoreRowOutputOp op) {
  if (failed(expectSequence(op)))
    return failure();
  const Matrix &o = get<Matrix>(op.getO());
  int64_t row = get<Tokens>(op.getRow()).at[0];
  Tensor &to = workTile.outputs->rows;
  int64_t heads = workTile.problem->qHeads;
  if (to.data.empty())
    to = Tensor({workTile.batch->cuQ.back(), heads, o.columns}, 0);
  for (int64_t head = 0; head < o.rows; ++head)
    llvm::copy(llvm::ArrayRef(&o.data[head * o.columns], o.columns),
               &to.data[(row * heads + workTile.queryHead(head)) * o.columns]);
  return success();
}

LogicalResult TileRun::run(tile::LoadLseOp op) {
  if (failed(expectSequence(op)))
    return failure();
  const Tensor *lse = workTile.inputs->lse;
  if (!lse)
    return op.emitOpError("finds no log-sum-exp of an attend kernel");
  Matrix x(workTile.rows, 1);
  for (int64_t row = 0; row < workTile.rows; ++row)
    x.at(row, 0) = lse->data[workTile.queryRow(row) * workTile.problem->qHeads +
                             workTile.queryHead(row)];
  set(op.getLse(), std::move(x));
  return success();
}

//===----------------------------------------------------------------------===//
// Selection and eviction
//===----------------------------------------------------------------------===//

LogicalResult TileRun::run(tile::TopKInitOp op) {
  set(op.getState(), TopK());
  return success();
}

LogicalResult TileRun::run(tile::TopKStepOp op) {
  const Matrix &scores = get<Matrix>(op.getScores());
  const Tokens &tokens = get<Tokens>(op.getTokens());
  TopK state = get<TopK>(op.getState());
  if (tokens.size() % scores.rows)
    return op.emitOpError("scores ") << scores.rows << " boxes of a tile of "
                                     << tokens.size() << " tokens";
  int64_t box = tokens.size() / scores.rows;
  for (int64_t i = 0; i < scores.rows; ++i) {
    auto first = tokens.present.begin() + i * box;
    if (std::none_of(first, first + box, [](bool there) { return there; }))
      continue;
    double score = scores.at(i, 0);
    state.best.push_back(
        {std::isnan(score) ? -kInf : score, tokens.at[i * box] / box});
  }
  llvm::sort(state.best, [](const auto &a, const auto &b) {
    return a.first != b.first ? a.first > b.first : a.second < b.second;
  });
  size_t most = op.getState().getType().getK();
  if (state.best.size() > most)
    state.best.resize(most);
  set(op.getNext(), std::move(state));
  return success();
}

LogicalResult TileRun::run(tile::StoreListOp op) {
  if (failed(expectSequence(op)))
    return failure();
  std::vector<int64_t> boxes;
  for (auto [score, box] : get<TopK>(op.getState()).best)
    boxes.push_back(box);
  int64_t tokens = op.getTokens();
  for (int64_t i = 1; i <= int64_t(op.getLast()); ++i)
    if (int64_t box = llvm::divideCeil(workTile.length(), tokens) - i; box >= 0)
      boxes.push_back(box);
  llvm::sort(boxes);
  boxes.erase(llvm::unique(boxes), boxes.end());
  auto &lists = workTile.outputs->lists[op.getList()];
  lists.resize(workTile.batch->sequences() *
               workTile.problem->cache.getHeads());
  lists[workTile.sequenceHead()] = std::move(boxes);
  return success();
}

LogicalResult TileRun::run(tile::MoveTokensOp op) {
  if (failed(expectSequence(op)))
    return failure();
  std::vector<int64_t> chosen;
  for (auto [score, token] : get<TopK>(op.getState()).best)
    chosen.push_back(token);
  llvm::sort(chosen, std::greater<int64_t>());
  int64_t length = workTile.length();
  for (int64_t token : chosen) {
    --length;
    for (Attribute name : op.getStreams()) {
      HostStream stream(*workTile.cache, cast<StringAttr>(name).getValue());
      for (size_t plane = 0; plane < stream.planes(); ++plane) {
        if (stream.plane(plane).tokens != 1)
          return op.emitOpError("moves rows of one token, those of `")
                 << stream.plane(plane).name() << "` have more";
        std::memmove(workTile.cachedRow(stream, plane, token),
                     workTile.cachedRow(stream, plane, length),
                     stream.plane(plane).rowBytes);
      }
    }
  }
  auto &lengths = workTile.outputs->lengths;
  lengths.resize(workTile.batch->sequences() *
                 workTile.problem->cache.getHeads());
  lengths[workTile.sequenceHead()] = length;
  return success();
}

//===----------------------------------------------------------------------===//
// Elements
//===----------------------------------------------------------------------===//

LogicalResult TileRun::run(tile::ConvertOp op) {
  const TileValue &loaded = values.find(op.getCodes())->second;
  if (const auto *x = std::get_if<Matrix>(&loaded)) {
    set(op.getX(), Matrix(*x));
    return success();
  }
  const Bytes &codes = std::get<Bytes>(loaded);
  Matrix x(codes.rows(), codes.columns);
  for (int64_t row = 0; row < x.rows; ++row)
    for (int64_t column = 0; column < x.columns; ++column)
      x.at(row, column) = codes.at(row, column, !op.getIsUnsigned());
  set(op.getX(), std::move(x));
  return success();
}

void TileRun::forBoxes(mlir::Value result, mlir::Value x, mlir::Value boxes,
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

LogicalResult TileRun::run(tile::ScaleOp op) {
  forBoxes(op.getResult(), op.getX(), op.getBoxes(), std::multiplies<double>());
  return success();
}

LogicalResult TileRun::run(tile::OffsetOp op) {
  forBoxes(op.getResult(), op.getX(), op.getBoxes(), std::plus<double>());
  return success();
}

LogicalResult TileRun::run(tile::SliceOp op) {
  const Matrix &x = get<Matrix>(op.getX());
  int64_t begin = op.getBegin();
  Matrix part(x.rows, op.getEnd() - begin);
  for (int64_t row = 0; row < part.rows; ++row)
    for (int64_t column = 0; column < part.columns; ++column)
      part.at(row, column) = x.at(row, begin + column);
  set(op.getResult(), std::move(part));
  return success();
}

LogicalResult TileRun::run(tile::MapOp op) {
  ScoreProgram program(op.getBody());
  llvm::SmallVector<const Matrix *, 6> operands;
  for (mlir::Value operand : op.getOperands())
    operands.push_back(&get<Matrix>(operand));
  RankedTensorType type = tensor(op.getResult());
  Matrix result(type.isDynamicDim(0) ? workTile.rows : type.getDimSize(0),
                type.isDynamicDim(1) ? workTile.rows : type.getDimSize(1));
  llvm::SmallVector<double, 6> arguments(operands.size());
  for (int64_t row = 0; row < result.rows; ++row)
    for (int64_t column = 0; column < result.columns; ++column) {
      for (auto [argument, operand] : llvm::zip(arguments, operands))
        argument = operand->repeated(row, column);
      result.at(row, column) = program.apply(arguments);
    }
  set(op.getResult(), std::move(result));
  return success();
}

LogicalResult TileRun::run(tile::ContractOp op) {
  ScoreProgram program(op.getBody());
  const Matrix &q = get<Matrix>(op.getQ());
  llvm::SmallVector<const Matrix *, 6> others;
  for (mlir::Value other : op.getOthers())
    others.push_back(&get<Matrix>(other));
  Matrix result(q.rows, others.front()->rows);
  llvm::SmallVector<double, 6> arguments(others.size() + 1);
  for (int64_t row = 0; row < result.rows; ++row)
    for (int64_t t = 0; t < result.columns; ++t)
      for (int64_t c = 0; c < q.columns; ++c) {
        arguments[0] = q.at(row, c);
        for (auto [i, other] : llvm::enumerate(others))
          arguments[i + 1] = other->at(t, c);
        result.at(row, t) += program.apply(arguments);
      }
  set(op.getResult(), std::move(result));
  return success();
}

LogicalResult TileRun::run(tile::ReduceOp op) {
  const Matrix &x = get<Matrix>(op.getX());
  bool overRows = op.getAxis() == tile::Axis::rows;
  bool isSum = op.getKind() == tile::ReduceKind::sum;
  Matrix result(overRows ? x.columns : x.rows, 1);
  result.data.assign(result.data.size(), isSum ? 0 : -kInf);
  for (int64_t row = 0; row < x.rows; ++row)
    for (int64_t column = 0; column < x.columns; ++column) {
      double &to = result.at(overRows ? column : row, 0);
      double found = x.at(row, column);
      if (isSum)
        to += found;
      else if (!(found <= to)) // NaN stays
        to = std::isnan(to) ? to : found;
    }
  set(op.getResult(), std::move(result));
  return success();
}

LogicalResult TileRun::run(tile::OuterOp op) {
  const Matrix &x = get<Matrix>(op.getX()), &y = get<Matrix>(op.getY());
  Matrix result(x.columns, y.columns);
  for (int64_t i = 0; i < x.columns; ++i)
    for (int64_t j = 0; j < y.columns; ++j)
      result.at(i, j) = x.at(0, i) * y.at(0, j);
  set(op.getResult(), std::move(result));
  return success();
}
