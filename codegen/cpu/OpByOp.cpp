//===- OpByOp.cpp - attend kernels for which there is no loop -------------===//
//
// The loops of AttendKernel know one sequence of ops. Any other attend kernel
// is lowered here op by op: each tile stands in scratch as f32 [rows][columns],
// and each op is a loop nest over it. Slow, by a factor that a remark owns up
// to, and right for whatever the ops say.
//
//===----------------------------------------------------------------------===//
#include "codegen/cpu/AttendWorkTile.h"
#include "codegen/cpu/KitFunctions.h"

#include "llvm/ADT/TypeSwitch.h"

#include <cmath>

using namespace mlir;
using namespace kvc;
using namespace kvc::cpu;

namespace {

/// f32 elements in scratch.
struct Matrix {
  Value rows;       ///< i64
  int64_t most = 0; ///< of them
  int64_t columns = 0, stride = 0;
  int64_t at = 0; ///< in scratch
  /// Likewise, of bytes: 1 where a mask shows the token; none: everywhere.
  std::optional<int64_t> shown;
  bool oneRow = false;
};

/// m and l of each row, and its sums.
struct State {
  int64_t m = 0, l = 0, sums = 0, dim = 0;
};

/// The tokens of a tile.
struct TileTokens {
  Value first;
  Value count; ///< that exist
};

/// Rows of a plane, not yet read.
struct PlaneRows {
  unsigned plane;
  TileTokens tokens;
};

class OpByOpKernel : public AttendWorkTile {
public:
  using AttendWorkTile::AttendWorkTile;
  LogicalResult emit();

private:
  static constexpr int64_t kWidth = 8;

  LogicalResult emitBlock(Block &block);
  /// A round of a loop over tokens, and what it hands on.
  LogicalResult emitRound(Block &body);
  Value anyRowVisible(ReadAttrInterface read, const TileTokens &tokens);
  LogicalResult emit(tile::LoadQueryOp op);
  LogicalResult emit(tile::SoftmaxInitOp op);
  LogicalResult emit(tile::ForTokensOp op);
  LogicalResult emit(tile::LoadOp op);
  LogicalResult emit(tile::ConvertOp op);
  LogicalResult emit(tile::ScaleOp op);
  LogicalResult emit(tile::OffsetOp op);
  LogicalResult emit(tile::DotOp op);
  LogicalResult emit(tile::ScaleTokensOp op);
  LogicalResult emit(tile::LogitsOp op);
  LogicalResult emit(tile::MaskOp op);
  LogicalResult emit(tile::SoftmaxStepOp op);
  LogicalResult emit(tile::AccumulateOp op);
  LogicalResult emit(tile::SliceOp op);
  LogicalResult emit(tile::MapOp op);
  LogicalResult emit(tile::ContractOp op);
  LogicalResult emit(tile::ReduceOp op);
  LogicalResult emit(tile::StorePartialOp op);
  LogicalResult emit(tile::YieldOp) { return success(); }

  /// A tile in scratch of a tensor's type: `?` rows are those of queries.
  Matrix reserve(Value value);
  Value address(const Matrix &x, Value row, Value column) {
    Value index = kit.add(kit.mul(row, x.stride), column);
    return kit.at(k.scratchAt(x.at), kit.mul(index, 4));
  }
  using AttendWorkTile::address;
  Value load(const Matrix &x, Value row, Value column, int64_t width) {
    return kit.load(kit.vec(width), address(x, row, column));
  }
  void store(Value value, const Matrix &x, Value row, Value column) {
    kit.store(value, address(x, row, column));
  }
  /// An element, in as many lanes.
  Value splat(const Matrix &x, Value row, Value column, int64_t width) {
    return kit.splat(kit.load(kit.f32(), address(x, row, column)), width);
  }
  /// Elements of an operand that repeats to a larger tile.
  Value repeated(const Matrix &x, Value row, Value column, int64_t width) {
    if (x.oneRow)
      row = kit.i64(0);
    return x.columns == 1 ? splat(x, row, kit.i64(0), width)
                          : load(x, row, column, width);
  }
  Value shownAt(const Matrix &x, Value row, Value column) {
    Value index = kit.add(kit.mul(row, x.columns), column);
    return kit.at(k.scratchAt(*x.shown), index);
  }
  void forRows(const Matrix &x, Kit::Body body) {
    kit.loop(kit.i64(0), x.rows, 1, body);
  }
  /// Columns from first to last, `body` told how many at a time: a vector of
  /// them, or one.
  void forColumns(int64_t columns,
                  llvm::function_ref<void(Value, int64_t)> body) {
    int64_t whole = columns / kWidth * kWidth;
    kit.loop(0, whole, kWidth, [&](Value c) { body(c, kWidth); });
    kit.loop(whole, columns, 1, [&](Value c) { body(c, 1); });
  }
  /// The sum over columns of what `term` makes of them: a vector of one lane.
  Value sumColumns(int64_t columns,
                   llvm::function_ref<Value(Value, int64_t)> term);
  void forBoxes(Value result, Value x, Value boxes,
                llvm::function_ref<Value(Value, Value)> join);
  /// A tile that is computed, or of floats that are loaded.
  const Matrix &matrix(Value value);
  void convert(const PlaneRows &from, const Matrix &to, bool isUnsigned);
  void convertPacked(Value row, Value index, const Matrix &to, Type code,
                     bool isUnsigned);
  ScoreInputs inputsOf(const TileTokens &tokens, Value row, Value column,
                       int64_t width);
  Value stat(int64_t offset, Value row) {
    return kit.at(k.scratchAt(offset), kit.mul(row, 4));
  }
  void copy(const Matrix &from, const Matrix &to);
  Matrix sumsOf(const State &state) {
    Matrix sums;
    sums.rows = rows;
    sums.columns = sums.stride = state.dim;
    sums.at = state.sums;
    return sums;
  }

  int64_t maxRows = 0;
  llvm::DenseMap<Value, Matrix> matrices;
  llvm::DenseMap<Value, State> states;
  llvm::DenseMap<Value, PlaneRows> loaded;
  llvm::DenseMap<Value, TileTokens> tiles;
};

} // namespace

static RankedTensorType tensor(Value value) {
  return cast<RankedTensorType>(value.getType());
}

//===----------------------------------------------------------------------===//
// The frame
//===----------------------------------------------------------------------===//

LogicalResult OpByOpKernel::emit() {
  SmallVector<Region *> visible;
  bool isCausal = true;
  k.op.walk([&](tile::MaskOp op) {
    if (!op.getVisible().empty())
      visible.push_back(&op.getVisible());
  });
  // Tokens behind every query are left out only where no loop reads them.
  k.op.walk([&](tile::ForTokensOp op) {
    isCausal &= cast<ReadAttrInterface>(op.getReadAttr()).isCausal();
  });
  AttendWorkTile::load(isCausal, visible);
  locatePlanes();
  maxRows = k.op.getSchedule()->getQueries() * group;
  return emitBlock(k.op.getBody().front());
}

LogicalResult OpByOpKernel::emitBlock(Block &block) {
  for (Operation &op : block) {
    LogicalResult result =
        llvm::TypeSwitch<Operation *, LogicalResult>(&op)
            .Case<tile::LoadQueryOp, tile::SoftmaxInitOp, tile::ForTokensOp,
                  tile::LoadOp, tile::ConvertOp, tile::ScaleOp, tile::OffsetOp,
                  tile::DotOp, tile::ScaleTokensOp, tile::LogitsOp,
                  tile::MaskOp, tile::SoftmaxStepOp, tile::AccumulateOp,
                  tile::SliceOp, tile::MapOp, tile::ContractOp, tile::ReduceOp,
                  tile::StorePartialOp, tile::YieldOp>(
                [&](auto op) { return emit(op); })
            .Default([](Operation *op) {
              return op->emitError("the CPU target does not lower `")
                     << op->getName() << "` yet";
            });
    if (failed(result))
      return failure();
    // A state is where it was, so that what has used it has changed it.
    for (Value value : op.getResults())
      if (isa<tile::SoftmaxType>(value.getType()) && !value.hasOneUse())
        return op.emitError("the CPU target lowers states that are used once");
  }
  return success();
}

Matrix OpByOpKernel::reserve(Value value) {
  RankedTensorType type = tensor(value);
  Matrix x;
  bool ofQueries = type.isDynamicDim(0);
  int64_t most = ofQueries ? maxRows : type.getDimSize(0);
  x.most = most;
  x.rows = ofQueries ? rows : kit.i64(most);
  x.oneRow = !ofQueries && most == 1;
  x.columns = x.stride = type.getDimSize(1);
  x.at = k.scratch.reserve(most * x.columns * 4);
  matrices[value] = x;
  return x;
}

Value OpByOpKernel::sumColumns(int64_t columns,
                               llvm::function_ref<Value(Value, int64_t)> term) {
  Value sum = kit.constant(0, kit.vec(1));
  int64_t whole = columns / kWidth * kWidth;
  auto add = [&](int64_t width) {
    return [&, width](Value c, ValueRange carried) {
      return SmallVector<Value>{kit.fadd(carried[0], term(c, width))};
    };
  };
  if (whole) {
    Value zero = kit.constant(0, kit.vec(kWidth));
    sum = kit.reduceAdd(kit.loop(kit.i64(0), kit.i64(whole), kWidth,
                                 ValueRange{zero}, add(kWidth))[0]);
  }
  return kit.loop(kit.i64(whole), kit.i64(columns), 1, ValueRange{sum},
                  add(1))[0];
}

LogicalResult OpByOpKernel::emit(tile::ForTokensOp op) {
  if (op.getSpace())
    return op.emitError("the CPU target does not lower loops over a space yet");
  int64_t tile = k.op.getSchedule()->getTokens();
  Block &body = op.getBody().front();
  // States stay where they are; other tiles that are carried have a place of
  // their own, to which each round's are copied.
  for (auto [init, argument, result] : llvm::zip_equal(
           op.getInits(), body.getArguments().drop_front(), op.getResults())) {
    if (isa<tile::SoftmaxType>(init.getType())) {
      states[argument] = states[result] = states.lookup(init);
      if (!argument.hasOneUse())
        return op.emitError("the CPU target lowers states that are used once");
    } else if (isa<RankedTensorType>(init.getType())) {
      Matrix carried = reserve(argument);
      copy(matrix(init), carried);
      matrices[result] = carried;
    } else {
      return op.emitError("the CPU target does not carry a ")
             << init.getType() << " yet";
    }
  }
  LogicalResult emitted = success();
  kit.loop(tokensBegin, tokensEnd, tile, [&](Value first) {
    TileTokens tokens{first, kit.min(kit.sub(tokensEnd, first), kit.i64(tile))};
    tiles[body.getArgument(0)] = tokens;
    kit.when(anyRowVisible(cast<ReadAttrInterface>(op.getReadAttr()), tokens),
             [&] { emitted = emitRound(body); });
  });
  return emitted;
}

/// Whether the read shows some of a tile to some row.
Value OpByOpKernel::anyRowVisible(ReadAttrInterface read,
                                  const TileTokens &tokens) {
  using Pred = arith::CmpIPredicate;
  Value visible = kit.cmp(Pred::sgt, tokens.count, kit.i64(0));
  if (read.isCausal())
    visible = kit.both(visible, kit.cmp(Pred::sle, tokens.first, posLast));
  if (read.isAll())
    return visible;
  Value behind = kit.add(tokens.first, tokens.count);
  Value oldest = kit.add(posFirst, -read.getRecentTokens() + 1);
  Value sink = kit.i64(read.getSinkTokens());
  return kit.both(visible, kit.either(kit.cmp(Pred::slt, tokens.first, sink),
                                      kit.cmp(Pred::sgt, behind, oldest)));
}

LogicalResult OpByOpKernel::emitRound(Block &body) {
  if (failed(emitBlock(body)))
    return failure();
  // All tiles are read before any is written.
  SmallVector<std::pair<Matrix, Matrix>> moves;
  Operation *yield = body.getTerminator();
  for (auto [yielded, argument] : llvm::zip_equal(
           yield->getOperands(), body.getArguments().drop_front())) {
    if (isa<tile::SoftmaxType>(yielded.getType())) {
      if (states.lookup(yielded).sums != states.lookup(argument).sums)
        return yield->emitError(
            "the CPU target hands each state on in its own place");
      continue;
    }
    Matrix to = matrices.lookup(argument), apart = to;
    apart.at = k.scratch.reserve(to.most * to.columns * 4);
    copy(matrix(yielded), apart);
    moves.push_back({apart, to});
  }
  for (auto &[from, to] : moves)
    copy(from, to);
  return success();
}

void OpByOpKernel::copy(const Matrix &from, const Matrix &to) {
  forRows(from, [&](Value row) {
    forColumns(from.columns, [&](Value c, int64_t width) {
      store(load(from, row, c, width), to, row, c);
    });
  });
}

//===----------------------------------------------------------------------===//
// What is read
//===----------------------------------------------------------------------===//

LogicalResult OpByOpKernel::emit(tile::LoadQueryOp op) {
  Matrix q = reserve(op.getQ());
  double scale = op.getScale().convertToDouble();
  forRows(q, [&](Value row) {
    Value from = queryRow(row);
    forColumns(q.columns, [&](Value c, int64_t width) {
      Value x = kit.loadAsF32(k.dtype, kit.at(from, kit.mul(c, k.dtypeBytes())),
                              width);
      store(kit.fmul(x, kit.constant(scale, x.getType())), q, row, c);
    });
  });
  return success();
}

LogicalResult OpByOpKernel::emit(tile::LoadOp op) {
  unsigned first = k.cache.planeIndex(op.getStream());
  TileTokens tokens = tiles.lookup(op.getTokens());
  for (auto [index, value] : llvm::enumerate(op.getPlanes())) {
    unsigned plane = first + index;
    int64_t each = planes[plane].tokens;
    if (!each || tensor(value).getDimSize(0) * each !=
                     int64_t(k.op.getSchedule()->getTokens()))
      return op.emitError("the CPU target loads tiles of as many tokens as the "
                          "schedule says");
    loaded[value] = {plane, tokens};
  }
  return success();
}

const Matrix &OpByOpKernel::matrix(Value value) {
  auto rows = loaded.find(value);
  if (rows == loaded.end() || matrices.contains(value))
    return matrices.find(value)->second;
  // Where it is first used: not in a loop that others are behind.
  Matrix to = reserve(value);
  convert(rows->second, to, /*isUnsigned=*/false);
  return matrices.find(value)->second;
}

LogicalResult OpByOpKernel::emit(tile::ConvertOp op) {
  Matrix x = reserve(op.getX());
  convert(loaded.lookup(op.getCodes()), x, op.getIsUnsigned());
  return success();
}

/// Rows of tokens that do not exist are zeros.
void OpByOpKernel::convert(const PlaneRows &from, const Matrix &to,
                           bool isUnsigned) {
  const PlaneGeometry &plane = planes[from.plane];
  Type code = plane.type;
  int64_t bits = code.getIntOrFloatBitWidth();
  bool packed = code.isInteger() && (bits < 8 || isUnsigned);
  forRows(to, [&](Value row) {
    Value token = kit.mul(row, plane.tokens);
    Value exists = kit.cmp(arith::CmpIPredicate::slt, token, from.tokens.count);
    auto zeros = [&] {
      forColumns(to.columns, [&](Value c, int64_t width) {
        store(kit.constant(0, kit.vec(width)), to, row, c);
      });
    };
    auto read = [&] {
      Value codes = address(from.plane, kit.add(from.tokens.first, token));
      if (packed)
        return convertPacked(codes, row, to, code, isUnsigned);
      forColumns(to.columns, [&](Value c, int64_t width) {
        auto loadCodes = [&](int64_t byte, VectorType type) {
          return kit.load(type,
                          kit.at(kit.at(codes, kit.mul(c, bits / 8)), byte));
        };
        CodeConversion conversion{code, width};
        store(conversion.emit(kit.b, kit.loc, loadCodes, width).front(), to,
              row, c);
      });
    };
    kit.when(exists, read, zeros);
  });
}

/// Eight codes are as many bytes as a code has bits.
void OpByOpKernel::convertPacked(Value codes, Value row, const Matrix &to,
                                 Type code, bool isUnsigned) {
  int64_t bits = code.getIntOrFloatBitWidth();
  Type i32 = kit.b.getI32Type();
  auto word = [&](int64_t value) {
    return arith::ConstantOp::create(kit.b, kit.loc,
                                     kit.b.getI32IntegerAttr(int32_t(value)));
  };
  auto group = [&](Value from, Value column, int64_t count) {
    SmallVector<Value> bytes;
    for (int64_t byte = 0; byte * 8 < count * bits; ++byte)
      bytes.push_back(arith::ExtUIOp::create(
          kit.b, kit.loc, i32,
          kit.load(kit.b.getI8Type(), kit.at(from, byte), 1)));
    for (int64_t i = 0; i < count; ++i) {
      int64_t bit = i * bits, last = bit + bits;
      Value x = bytes[bit / 8];
      if (last > bit / 8 * 8 + 8)
        x = arith::OrIOp::create(
            kit.b, kit.loc, x,
            arith::ShLIOp::create(kit.b, kit.loc, bytes[bit / 8 + 1], word(8)));
      // To the top of the word and down again: the sign comes along.
      x = arith::ShLIOp::create(kit.b, kit.loc, x, word(32 - bits - bit % 8));
      x = isUnsigned
              ? arith::ShRUIOp::create(kit.b, kit.loc, x, word(32 - bits))
                    .getResult()
              : arith::ShRSIOp::create(kit.b, kit.loc, x, word(32 - bits))
                    .getResult();
      Value f = arith::SIToFPOp::create(kit.b, kit.loc, kit.f32(), x);
      kit.store(f, address(to, row, kit.add(column, i)));
    }
  };
  int64_t whole = to.columns / 8 * 8;
  kit.loop(0, whole, 8, [&](Value column) {
    group(kit.at(codes, kit.mul(kit.div(column, 8), bits)), column, 8);
  });
  if (whole < to.columns)
    group(kit.at(codes, whole / 8 * bits), kit.i64(whole), to.columns - whole);
}

void OpByOpKernel::forBoxes(Value result, Value from, Value boxes,
                            llvm::function_ref<Value(Value, Value)> join) {
  Matrix x = matrix(from), parts = matrix(boxes), to = reserve(result);
  int64_t boxRows = tensor(boxes).getDimSize(0);
  int64_t boxColumns = x.columns / parts.columns;
  forRows(x, [&](Value row) {
    Value box = boxRows == 1
                    ? kit.i64(0)
                    : kit.div(row, tensor(from).getDimSize(0) / boxRows);
    auto joined = [&](Value c, int64_t width, Value part) {
      store(join(load(x, row, c, width), part), to, row, c);
    };
    if (boxColumns == 1)
      return forColumns(x.columns, [&](Value c, int64_t width) {
        joined(c, width, load(parts, box, c, width));
      });
    kit.loop(0, parts.columns, 1, [&](Value part) {
      Value first = kit.mul(part, boxColumns);
      forColumns(boxColumns, [&](Value c, int64_t width) {
        joined(kit.add(first, c), width, splat(parts, box, part, width));
      });
    });
  });
}

LogicalResult OpByOpKernel::emit(tile::ScaleOp op) {
  forBoxes(op.getResult(), op.getX(), op.getBoxes(),
           [&](Value x, Value box) { return kit.fmul(x, box); });
  return success();
}

LogicalResult OpByOpKernel::emit(tile::OffsetOp op) {
  forBoxes(op.getResult(), op.getX(), op.getBoxes(),
           [&](Value x, Value box) { return kit.fadd(x, box); });
  return success();
}

//===----------------------------------------------------------------------===//
// Elements
//===----------------------------------------------------------------------===//

/// The same elements, from another column on.
LogicalResult OpByOpKernel::emit(tile::SliceOp op) {
  Matrix part = matrix(op.getX());
  part.at += int64_t(op.getBegin()) * 4;
  part.columns = op.getEnd() - op.getBegin();
  part.shown.reset();
  matrices[op.getResult()] = part;
  return success();
}

LogicalResult OpByOpKernel::emit(tile::MapOp op) {
  SmallVector<Matrix> operands;
  for (Value operand : op.getOperands())
    operands.push_back(matrix(operand));
  Matrix to = reserve(op.getResult());
  KitFunctions functions(k, sequence);
  forRows(to, [&](Value row) {
    forColumns(to.columns, [&](Value c, int64_t width) {
      SmallVector<Value> x;
      for (const Matrix &operand : operands)
        x.push_back(repeated(operand, row, c, width));
      store(emitElementRegion(kit.b, kit.loc, op.getBody(), x, functions), to,
            row, c);
    });
  });
  return success();
}

LogicalResult OpByOpKernel::emit(tile::ContractOp op) {
  Matrix q = matrix(op.getQ());
  SmallVector<Matrix> others;
  for (Value other : op.getOthers())
    others.push_back(matrix(other));
  Matrix to = reserve(op.getResult());
  KitFunctions functions(k, sequence);
  forRows(to, [&](Value row) {
    kit.loop(0, to.columns, 1, [&](Value t) {
      Value sum = sumColumns(q.columns, [&](Value c, int64_t width) {
        SmallVector<Value> x{load(q, row, c, width)};
        for (const Matrix &other : others)
          x.push_back(load(other, t, c, width));
        return emitElementRegion(kit.b, kit.loc, op.getBody(), x, functions);
      });
      store(sum, to, row, t);
    });
  });
  return success();
}

LogicalResult OpByOpKernel::emit(tile::ReduceOp op) {
  Matrix x = matrix(op.getX()), to = reserve(op.getResult());
  bool isSum = op.getKind() == tile::ReduceKind::sum;
  auto join = [&](Value a, Value b) {
    return isSum ? kit.fadd(a, b) : kit.fmaxKeepNaN(a, b);
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
  Matrix q = matrix(op.getQ()), x = matrix(op.getK());
  Matrix to = reserve(op.getScores());
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

LogicalResult OpByOpKernel::emit(tile::ScaleTokensOp op) {
  Matrix x = matrix(op.getX()), scales = matrix(op.getScales());
  Matrix to = reserve(op.getResult());
  matrices[op.getResult()].shown = x.shown;
  forRows(to, [&](Value row) {
    forColumns(to.columns, [&](Value t, int64_t width) {
      // A column of scales stands in a row.
      Value scale = load(scales, kit.i64(0), t, width);
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
  Matrix x = matrix(op.getX()), to = reserve(op.getResult());
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

LogicalResult OpByOpKernel::emit(tile::MaskOp op) {
  Matrix x = matrix(op.getX()), to = reserve(op.getResult());
  to.shown = k.scratch.reserve(maxRows * to.columns);
  matrices[op.getResult()] = to;
  TileTokens tokens = tiles.lookup(op.getTokens());
  forRows(to, [&](Value row) {
    // One by one, for each has a byte that says whether it is seen.
    kit.loop(0, to.columns, 1, [&](Value t) {
      Value seen = visible(op, inputsOf(tokens, row, t, 1));
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
  State state;
  state.dim = op.getState().getType().getDim();
  for (int64_t *offset : {&state.m, &state.l})
    *offset = k.scratch.reserve(maxRows * 4);
  state.sums = k.scratch.reserve(maxRows * state.dim * 4);
  kit.loop(kit.i64(0), rows, 1, [&](Value row) {
    kit.store(kit.constant(-INFINITY, kit.vec(1)), stat(state.m, row));
    kit.store(kit.constant(0, kit.vec(1)), stat(state.l, row));
    Matrix sums = sumsOf(state);
    forColumns(state.dim, [&](Value c, int64_t width) {
      store(kit.constant(0, kit.vec(width)), sums, row, c);
    });
  });
  states[op.getState()] = state;
  return success();
}

LogicalResult OpByOpKernel::emit(tile::SoftmaxStepOp op) {
  Matrix s = matrix(op.getScores()), p = reserve(op.getP());
  matrices[op.getP()].shown = s.shown;
  State state = states.lookup(op.getState());
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
    Matrix sums = sumsOf(state);
    Value scalar = kit.extract(factor, 0);
    forColumns(state.dim, [&](Value c, int64_t width) {
      Value x = load(sums, row, c, width);
      store(kit.fmul(x, kit.splat(scalar, width)), sums, row, c);
    });
  });
  return success();
}

LogicalResult OpByOpKernel::emit(tile::AccumulateOp op) {
  Matrix p = matrix(op.getP()), v = matrix(op.getV());
  State state = states.lookup(op.getState());
  states[op.getNext()] = state;
  Matrix sums = sumsOf(state);
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
            Value byte = kit.load(kit.b.getI8Type(), shownAt(p, row, t), 1);
            Value zero = arith::ConstantOp::create(kit.b, kit.loc,
                                                   kit.b.getI8IntegerAttr(0));
            Value shown = arith::CmpIOp::create(
                kit.b, kit.loc, arith::CmpIPredicate::ne, byte, zero);
            return SmallVector<Value>{kit.select(shown, more, carried[0])};
          })[0];
      store(total, sums, row, c);
    });
  });
  return success();
}

LogicalResult OpByOpKernel::emit(tile::StorePartialOp op) {
  State state = states.lookup(op.getState());
  Matrix sums = sumsOf(state);
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

LogicalResult kvc::cpu::emitOpByOp(Kernel &kernel,
                                   const tile::GraphMismatch &why) {
  if (!isa<CoreScheduleAttr>(*kernel.op.getSchedule()))
    return kernel.op.emitError(
               "the CPU targets run a #kvc.core_schedule; found ")
           << *kernel.op.getSchedule();
  std::optional<int64_t> dimK, dimV;
  for (auto query : kernel.op.getBody().getOps<tile::LoadQueryOp>())
    dimK = tensor(query.getQ()).getDimSize(1);
  for (auto store : kernel.op.getBody().getOps<tile::StorePartialOp>())
    dimV = store.getState().getType().getDim();
  if (!dimK || !dimV)
    return kernel.op.emitError("an attend kernel loads queries and stores "
                               "partial results");
  kernel.op.emitRemark("`")
      << kernel.op.getSymName()
      << "`: lowered op by op, every tile in memory: " << why.why
      << " [R-OP-BY-OP]";
  return OpByOpKernel(kernel, *dimK, *dimV).emit();
}
