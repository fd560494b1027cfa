//===- OpByOpScores.cpp - attend kernels without a loop: arithmetic -------===//
#include "codegen/cpu/KitFunctions.h"
#include "codegen/cpu/OpByOp.h"

#include <cmath>

using namespace mlir;
using namespace kvc;
using namespace kvc::cpu;

//===----------------------------------------------------------------------===//
// Elements
//===----------------------------------------------------------------------===//

/// The same elements, from another column on.
LogicalResult OpByOpKernel::emit(tile::SliceOp op) {
  ScratchTile part = matrix(op.getX());
  part.at += int64_t(op.getBegin()) * 4;
  part.columns = op.getEnd() - op.getBegin();
  part.shown.reset();
  matrices[op.getResult()] = part;
  return success();
}

LogicalResult OpByOpKernel::emit(tile::MapOp op) {
  SmallVector<ScratchTile> operands;
  for (Value operand : op.getOperands())
    operands.push_back(matrix(operand));
  ScratchTile to = reserve(op.getResult());
  KitFunctions functions(k, sequence);
  forRows(to, [&](Value row) {
    forColumns(to.columns, [&](Value c, int64_t width) {
      SmallVector<Value> x;
      for (const ScratchTile &operand : operands)
        x.push_back(repeated(operand, row, c, width));
      store(emitElementRegion(kit.b, kit.loc, op.getBody(), x, functions), to,
            row, c);
    });
  });
  return success();
}

LogicalResult OpByOpKernel::emit(tile::ContractOp op) {
  ScratchTile q = matrix(op.getQ());
  SmallVector<ScratchTile> others;
  for (Value other : op.getOthers())
    others.push_back(matrix(other));
  ScratchTile to = reserve(op.getResult());
  KitFunctions functions(k, sequence);
  forRows(to, [&](Value row) {
    kit.loop(0, to.columns, 1, [&](Value t) {
      Value sum = sumColumns(q.columns, [&](Value c, int64_t width) {
        SmallVector<Value> x{load(q, row, c, width)};
        for (const ScratchTile &other : others)
          x.push_back(load(other, t, c, width));
        return emitElementRegion(kit.b, kit.loc, op.getBody(), x, functions);
      });
      store(sum, to, row, t);
    });
  });
  return success();
}

LogicalResult OpByOpKernel::emit(tile::ReduceOp op) {
  ScratchTile x = matrix(op.getX()), to = reserve(op.getResult());
  bool isSum = op.getKind() == tile::ReduceKind::sum;
  auto join = [&](Value a, Value b) {
    return isSum ? kit.fadd(a, b)
                 : arith::MaximumFOp::create(kit.b, kit.loc, a, b).getResult();
  };
  Value none = kit.constant(isSum ? 0 : -INFINITY, kit.vec(1));
  auto reduce = [&](Value count, llvm::function_ref<Value(Value)> element) {
    return kit.loop(kit.i64(0), count, 1, ValueRange{none},
                    [&](Value i, ValueRange carried) {
                      return SmallVector<Value>{join(carried[0], element(i))};
                    })[0];
  };
  bool overRows = op.getAxis() == tile::Axis::rows;
  forRows(to, [&](Value kept) {
    Value found =
        overRows ? reduce(x.rows, [&](Value i) { return load(x, i, kept, 1); })
                 : reduce(kit.i64(x.columns),
                          [&](Value i) { return load(x, kept, i, 1); });
    store(found, to, kept, kit.i64(0));
  });
  return success();
}

//===----------------------------------------------------------------------===//
// Scores
//===----------------------------------------------------------------------===//

LogicalResult OpByOpKernel::emit(tile::DotOp op) {
  ScratchTile q = matrix(op.getQ()), x = matrix(op.getK());
  ScratchTile to = reserve(op.getScores());
  forRows(to, [&](Value row) {
    kit.loop(0, to.columns, 1, [&](Value t) {
      store(sumColumns(q.columns,
                       [&](Value c, int64_t width) {
                         return kit.fmul(load(q, row, c, width),
                                         load(x, t, c, width));
                       }),
            to, row, t);
    });
  });
  return success();
}

/// Rows from `row` on of the first column, as a vector.
Value OpByOpKernel::column(const ScratchTile &x, Value row, int64_t width) {
  if (x.stride == 1)
    return kit.load(kit.vec(width), address(x, row, kit.i64(0)));
  SmallVector<Value> lanes;
  for (int64_t lane = 0; lane < width; ++lane)
    lanes.push_back(load(x, kit.add(row, lane), kit.i64(0), 1));
  return kit.concat(lanes);
}

LogicalResult OpByOpKernel::emit(tile::ScaleTokensOp op) {
  ScratchTile x = matrix(op.getX()), scales = matrix(op.getScales());
  ScratchTile to = reserve(op.getResult());
  matrices[op.getResult()].shown = x.shown;
  forRows(to, [&](Value row) {
    forColumns(to.columns, [&](Value t, int64_t width) {
      Value scale = column(scales, t, width);
      store(kit.fmul(load(x, row, t, width), scale), to, row, t);
    });
  });
  return success();
}

ScoreInputs OpByOpKernel::inputsOf(const TileTokens &tokens, Value row,
                                   Value column, int64_t width) {
  Value at = kit.splatI32(kit.add(tokens.first, column), width);
  SmallVector<int32_t> steps;
  for (int64_t lane = 0; lane < width; ++lane)
    steps.push_back(int32_t(lane));
  return scoreInputs(kit.add(at, kit.i32s(steps)), kit.splatI32(row, width));
}

LogicalResult OpByOpKernel::emit(tile::LogitsOp op) {
  ScratchTile x = matrix(op.getX()), to = reserve(op.getResult());
  matrices[op.getResult()].shown = x.shown;
  TileTokens tokens = tiles.lookup(op.getTokens());
  forRows(to, [&](Value row) {
    forColumns(to.columns, [&](Value t, int64_t width) {
      store(logits(load(x, row, t, width), op, inputsOf(tokens, row, t, width)),
            to, row, t);
    });
  });
  return success();
}

/// Whether a mask shows a token to a row, a vector of one lane.
Value OpByOpKernel::isShown(const ScratchTile &x, Value row, Value column) {
  auto bytes = VectorType::get(1, kit.b.getI8Type());
  Value byte = kit.load(bytes, shownAt(x, row, column), 1);
  Value zero =
      arith::ConstantOp::create(kit.b, kit.loc, kit.b.getZeroAttr(bytes));
  return arith::CmpIOp::create(kit.b, kit.loc, arith::CmpIPredicate::ne, byte,
                               zero);
}

LogicalResult OpByOpKernel::emit(tile::MaskOp op) {
  ScratchTile x = matrix(op.getX()), to = reserve(op.getResult());
  to.shown = k.scratch.reserve(maxRows * to.columns);
  matrices[op.getResult()] = to;
  TileTokens tokens = tiles.lookup(op.getTokens());
  forRows(to, [&](Value row) {
    // One by one, for each has a byte that says whether it is seen.
    kit.loop(0, to.columns, 1, [&](Value t) {
      Value seen = visible(op, inputsOf(tokens, row, t, 1));
      if (x.shown) // by a mask before
        seen = kit.both(seen, isShown(x, row, t));
      Value score = load(x, row, t, 1);
      store(kit.select(seen, score, kit.constant(-INFINITY, kit.vec(1))), to,
            row, t);
      auto bytes = VectorType::get(1, kit.b.getI8Type());
      kit.store(arith::ExtUIOp::create(kit.b, kit.loc, bytes, seen),
                shownAt(to, row, t), 1);
    });
  });
  return success();
}

//===----------------------------------------------------------------------===//
// Softmax
//===----------------------------------------------------------------------===//

LogicalResult OpByOpKernel::emit(tile::SoftmaxInitOp op) {
  if (!op.getSink().empty())
    return op.emitError("expected the sink where splits are merged");
  ScratchState state;
  state.dim = op.getState().getType().getDim();
  for (int64_t *offset : {&state.m, &state.l})
    *offset = k.scratch.reserve(maxRows * 4);
  state.sums = k.scratch.reserve(maxRows * state.dim * 4);
  kit.loop(kit.i64(0), rows, 1, [&](Value row) {
    kit.store(kit.constant(-INFINITY, kit.vec(1)), stat(state.m, row));
    kit.store(kit.constant(0, kit.vec(1)), stat(state.l, row));
    ScratchTile sums = sumsOf(state);
    forColumns(state.dim, [&](Value c, int64_t width) {
      store(kit.constant(0, kit.vec(width)), sums, row, c);
    });
  });
  states[op.getState()] = state;
  return success();
}

/// Whether a mask is among what makes `x`.
static bool isMasked(Value x) {
  Operation *op = x.getDefiningOp();
  return op &&
         (isa<tile::MaskOp>(op) || llvm::any_of(op->getOperands(), isMasked));
}

LogicalResult OpByOpKernel::emit(tile::SoftmaxStepOp op) {
  // A tile has tokens that are not there, or that no row may see.
  if (!isMasked(op.getScores()))
    return op.emitError("the CPU target lowers a softmax of scores that a "
                        "`tile.mask` has had");
  ScratchTile s = matrix(op.getScores()), p = reserve(op.getP());
  matrices[op.getP()].shown = s.shown;
  ScratchState state = states.lookup(op.getState());
  states[op.getNext()] = state;
  Type one = kit.vec(1);
  forRows(s, [&](Value row) {
    Value before = kit.load(one, stat(state.m, row));
    Value largest =
        kit.loop(kit.i64(0), kit.i64(s.columns), 1, ValueRange{before},
                 [&](Value t, ValueRange carried) {
                   return SmallVector<Value>{
                       kit.fmaxKeepNaN(load(s, row, t, 1), carried[0])};
                 })[0];
    kit.store(largest, stat(state.m, row));
    // Nothing seen yet: any finite origin will do, -inf would make NaN.
    Value none = kit.fcmp(arith::CmpFPredicate::OEQ, largest,
                          kit.constant(-INFINITY, one));
    Value origin = kit.select(none, kit.constant(0, one), largest);
    Value factor = kit.exp2(kit.fsub(before, origin));
    Value total = kit.loop(
        kit.i64(0), kit.i64(s.columns), 1, ValueRange{kit.constant(0, one)},
        [&](Value t, ValueRange carried) {
          Value x = kit.exp2(kit.fsub(load(s, row, t, 1), origin));
          store(x, p, row, t);
          return SmallVector<Value>{kit.fadd(carried[0], x)};
        })[0];
    Value l = kit.load(one, stat(state.l, row));
    kit.store(kit.fma(l, factor, total), stat(state.l, row));
    ScratchTile sums = sumsOf(state);
    Value scalar = kit.extract(factor, 0);
    forColumns(state.dim, [&](Value c, int64_t width) {
      Value x = load(sums, row, c, width);
      store(kit.fmul(x, kit.splat(scalar, width)), sums, row, c);
    });
  });
  return success();
}

LogicalResult OpByOpKernel::emit(tile::AccumulateOp op) {
  ScratchTile p = matrix(op.getP()), v = matrix(op.getV());
  ScratchState state = states.lookup(op.getState());
  states[op.getNext()] = state;
  ScratchTile sums = sumsOf(state);
  forRows(p, [&](Value row) {
    forColumns(state.dim, [&](Value c, int64_t width) {
      Value total = kit.loop(
          kit.i64(0), kit.i64(p.columns), 1,
          ValueRange{load(sums, row, c, width)},
          [&](Value t, ValueRange carried) {
            Value more = kit.fma(splat(p, row, t, width), load(v, t, c, width),
                                 carried[0]);
            if (!p.shown)
              return SmallVector<Value>{more};
            Value shown = kit.extract(isShown(p, row, t), 0);
            return SmallVector<Value>{kit.select(shown, more, carried[0])};
          })[0];
      store(total, sums, row, c);
    });
  });
  return success();
}

LogicalResult OpByOpKernel::emit(tile::StorePartialOp op) {
  ScratchState state = states.lookup(op.getState());
  ScratchTile sums = sumsOf(state);
  kit.loop(kit.i64(0), rows, 1, [&](Value row) {
    Value inverse =
        storePartialLse(row, kit.load(kit.vec(1), stat(state.m, row)),
                        kit.load(kit.vec(1), stat(state.l, row)));
    Value to = partialOutput(row);
    forColumns(state.dim, [&](Value c, int64_t width) {
      kit.store(kit.fmul(load(sums, row, c, width), kit.splat(inverse, width)),
                kit.at(to, kit.mul(c, 4)));
    });
  });
  return success();
}
