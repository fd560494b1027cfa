//===- TileAttend.cpp - the ops of attention and of merges ----------------===//
#include "lib/driver/Reference/TileRun.h"

#include <cmath>

using namespace mlir;
using namespace kvc;
using namespace kvc::reference;

//===----------------------------------------------------------------------===//
// Scores
//===----------------------------------------------------------------------===//

LogicalResult TileRun::run(tile::LoadQueryOp op) {
  if (failed(expectSequence(op)))
    return failure();
  double scale = op.getScale().convertToDouble();
  Matrix q(workTile.rows, workTile.q.dim);
  for (int64_t row = 0; row < workTile.rows; ++row)
    for (auto [c, x] : llvm::enumerate(
             workTile.q.row(workTile.queryRow(row), workTile.queryHead(row))))
      q.at(row, c) = scale * x;
  set(op.getQ(), std::move(q));
  return success();
}

LogicalResult TileRun::run(tile::SoftmaxInitOp op) {
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

LogicalResult TileRun::run(tile::DotOp op) {
  const Matrix &q = get<Matrix>(op.getQ()), &k = get<Matrix>(op.getK());
  Matrix scores(q.rows, k.rows);
  for (int64_t row = 0; row < q.rows; ++row)
    for (int64_t t = 0; t < k.rows; ++t)
      for (int64_t c = 0; c < q.columns; ++c)
        scores.at(row, t) += q.at(row, c) * k.at(t, c);
  set(op.getScores(), std::move(scores));
  return success();
}

LogicalResult TileRun::run(tile::ScaleTokensOp op) {
  Matrix x = get<Matrix>(op.getX());
  for (int64_t row = 0; row < x.rows; ++row)
    for (int64_t t = 0; t < x.columns; ++t)
      x.at(row, t) *= element(op.getScales(), t, 0);
  set(op.getResult(), std::move(x));
  return success();
}

LogicalResult TileRun::run(tile::LogitsOp op) {
  if (failed(expectSequence(op)))
    return failure();
  Matrix x = get<Matrix>(op.getX());
  ScoreProgram program(op.getLogits());
  if (failed(expectTile(op, x, op.getTokens())))
    return failure();
  const Tokens &tokens = get<Tokens>(op.getTokens());
  for (int64_t row = 0; row < x.rows; ++row)
    for (int64_t t = 0; t < x.columns; ++t)
      x.at(row, t) =
          program.logit(x.at(row, t), workTile.place(row, tokens.at[t]));
  set(op.getResult(), std::move(x));
  return success();
}

LogicalResult TileRun::run(tile::MaskOp op) {
  if (failed(expectSequence(op)))
    return failure();
  Matrix x = get<Matrix>(op.getX());
  AttendProblem problem = readBy(op.getReadAttr());
  const Tokens &tokens = get<Tokens>(op.getTokens());
  ScoreProgram shown(op.getVisible());
  if (failed(expectTile(op, x, op.getTokens())))
    return failure();
  x.hidden.resize(x.data.size());
  for (int64_t row = 0; row < x.rows; ++row) {
    int64_t position = workTile.position(row);
    Visible seen = visibleTo(problem, position, position, workTile.length());
    for (int64_t t = 0; t < x.columns; ++t) {
      int64_t token = tokens.at[t];
      if (tokens.present[t] && seen.contains(token) &&
          shown.visible(workTile.place(row, token)))
        continue;
      x.at(row, t) = -kInf;
      x.hidden[row * x.columns + t] = true;
    }
  }
  set(op.getResult(), std::move(x));
  return success();
}

//===----------------------------------------------------------------------===//
// Softmax
//===----------------------------------------------------------------------===//

LogicalResult TileRun::run(tile::SoftmaxStepOp op) {
  Matrix p = get<Matrix>(op.getScores());
  State state = get<State>(op.getState());
  if (p.rows != workTile.rows)
    return op.emitOpError("has ") << p.rows << " rows of scores for "
                                  << workTile.rows << " of queries";
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

LogicalResult TileRun::run(tile::AccumulateOp op) {
  const Matrix &p = get<Matrix>(op.getP()), &v = get<Matrix>(op.getV());
  State state = get<State>(op.getState());
  if (p.rows != workTile.rows || p.columns != v.rows)
    return op.emitOpError("has probabilities [")
           << p.rows << ", " << p.columns << "] for " << workTile.rows
           << " rows of queries and " << v.rows << " tokens";
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

void TileRun::store(const State &state, const WorkTile::Store &to) {
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

LogicalResult TileRun::run(tile::StorePartialOp op) {
  if (!workTile.storePartial)
    return op.emitOpError("needs the work tile of an attend kernel");
  store(get<State>(op.getState()), workTile.storePartial);
  if (op.getLast().empty() || !workTile.isLast)
    return success();
  return run(op.getLast().front());
}

LogicalResult TileRun::run(tile::StoreOutputOp op) {
  if (!workTile.storeOutput)
    return op.emitOpError("needs the work tile of a merge kernel");
  store(get<State>(op.getState()), workTile.storeOutput);
  return success();
}

LogicalResult TileRun::run(tile::MergeStepOp op) {
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
