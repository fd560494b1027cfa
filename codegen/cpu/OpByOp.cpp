//===- OpByOp.cpp - attend kernels without a loop: frame, what is read ----===//
#include "codegen/cpu/OpByOp.h"
#include "codegen/cpu/RowDecoder.h"

#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace kvc;
using namespace kvc::cpu;

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

/// A state stays where it is, so that what has used it has changed it.
static bool isUsedOnce(Value state) {
  return state.hasOneUse() &&
         state.use_begin()->getOwner()->getBlock() == state.getParentBlock();
}

/// What these loop nests ask of an op's operands and results: matrices whose
/// columns are known, and rows of queries where an op is told of them.
static LogicalResult checkShapes(Operation &op) {
  for (Value value : llvm::concat<Value>(op.getOperands(), op.getResults()))
    if (auto type = dyn_cast<RankedTensorType>(value.getType());
        type && (type.getRank() != 2 || type.isDynamicDim(1)))
      return op.emitError(
                 "the CPU target lowers tiles of known columns, found ")
             << type;
  auto isOfQueries = [&](Value x) { return tensor(x).isDynamicDim(0); };
  bool fits =
      llvm::TypeSwitch<Operation *, bool>(&op)
          .Case([&](tile::LoadQueryOp op) { return isOfQueries(op.getQ()); })
          .Case([&](tile::LogitsOp op) { return isOfQueries(op.getX()); })
          .Case([&](tile::MaskOp op) { return isOfQueries(op.getX()); })
          .Case([&](tile::SoftmaxStepOp op) {
            return isOfQueries(op.getScores());
          })
          .Case([&](tile::AccumulateOp op) { return isOfQueries(op.getP()); })
          .Default(true);
  if (!fits)
    return op.emitError("expected `?` rows: those of the work tile's queries");
  return success();
}

LogicalResult OpByOpKernel::emitBlock(Block &block) {
  for (Operation &op : block) {
    if (failed(checkShapes(op)))
      return failure();
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
    for (Value value : op.getResults())
      if (isa<tile::SoftmaxType>(value.getType()) && !isUsedOnce(value))
        return op.emitError("the CPU target lowers states that are used once");
  }
  return success();
}

ScratchTile OpByOpKernel::reserve(Value value) {
  RankedTensorType type = tensor(value);
  ScratchTile x;
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
  for (auto mask : body.getOps<tile::MaskOp>())
    if (mask.getReadAttr() != op.getReadAttr())
      return mask.emitError("expected the loop's read");
  // States stay where they are; other tiles that are carried have a place of
  // their own, to which each round's are copied.
  for (auto [init, argument, result] : llvm::zip_equal(
           op.getInits(), body.getArguments().drop_front(), op.getResults())) {
    if (isa<tile::SoftmaxType>(init.getType())) {
      states[argument] = states[result] = states.lookup(init);
      if (!isUsedOnce(argument))
        return op.emitError("the CPU target lowers states that are used once");
    } else if (auto type = dyn_cast<RankedTensorType>(init.getType());
               type && type.getElementType().isF32()) {
      ScratchTile carried = reserve(argument);
      copy(matrix(init), carried);
      matrices[result] = carried;
    } else {
      return op.emitError("the CPU target does not carry a ")
             << init.getType() << " yet";
    }
  }
  auto read = cast<ReadAttrInterface>(op.getReadAttr());
  LogicalResult emitted = success();
  kit.loop(tokensBegin, tokensEnd, tile, [&](Value first) {
    TileTokens tokens{first, kit.min(kit.sub(tokensEnd, first), kit.i64(tile))};
    tiles[body.getArgument(0)] = tokens;
    Value some = readTest(read).showsSome(first, kit.add(first, tokens.count),
                                          posFirst, posLast);
    kit.when(some, [&] { emitted = emitRound(body); });
  });
  return emitted;
}

LogicalResult OpByOpKernel::emitRound(Block &body) {
  if (failed(emitBlock(body)))
    return failure();
  // All tiles are read before any is written.
  SmallVector<std::pair<ScratchTile, ScratchTile>> moves;
  Operation *yield = body.getTerminator();
  for (auto [yielded, argument] : llvm::zip_equal(
           yield->getOperands(), body.getArguments().drop_front())) {
    if (isa<tile::SoftmaxType>(yielded.getType())) {
      if (states.lookup(yielded).sums != states.lookup(argument).sums)
        return yield->emitError(
            "the CPU target hands each state on in its own place");
      continue;
    }
    ScratchTile to = matrices.lookup(argument), apart = to;
    apart.at = k.scratch.reserve(to.most * to.columns * 4);
    copy(matrix(yielded), apart);
    moves.push_back({apart, to});
  }
  for (auto &[from, to] : moves)
    copy(from, to);
  return success();
}

void OpByOpKernel::copy(const ScratchTile &from, const ScratchTile &to) {
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
  ScratchTile q = reserve(op.getQ());
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

const ScratchTile &OpByOpKernel::matrix(Value value) {
  auto rows = loaded.find(value);
  if (rows == loaded.end() || matrices.contains(value))
    return matrices.find(value)->second;
  // Where it is first used: not in a loop that others are behind.
  ScratchTile to = reserve(value);
  read(value, rows->second, to);
  return matrices.find(value)->second;
}

LogicalResult OpByOpKernel::emit(tile::ConvertOp op) {
  if (!loaded.contains(op.getCodes()))
    return op.emitError("the CPU target converts what is loaded");
  ScratchTile x = reserve(op.getX());
  read(op.getX(), loaded.lookup(op.getCodes()), x);
  return success();
}

/// Rows of tokens that do not exist are zeros.
void OpByOpKernel::read(Value x, const PlaneRows &from, const ScratchTile &to) {
  forRows(to, [&](Value row) {
    Value token = kit.mul(row, planes[from.plane].tokens);
    Value exists = kit.cmp(arith::CmpIPredicate::slt, token, from.tokens.count);
    auto zeros = [&] {
      forColumns(to.columns, [&](Value c, int64_t width) {
        store(kit.constant(0, kit.vec(width)), to, row, c);
      });
    };
    auto read = [&] {
      Value codes = address(from.plane, kit.add(from.tokens.first, token));
      RowDecoder decoder(k, [&](unsigned plane) -> PlaneRow {
        return {codes, planes[plane].type};
      });
      forColumns(to.columns, [&](Value c, int64_t width) {
        store(decoder.decode(x, RowDecoder::Columns::from(c, width)), to, row,
              c);
      });
    };
    kit.when(exists, read, zeros);
  });
}

void OpByOpKernel::forBoxes(Value result, Value from, Value boxes,
                            llvm::function_ref<Value(Value, Value)> join) {
  ScratchTile x = matrix(from), parts = matrix(boxes), to = reserve(result);
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

LogicalResult kvc::cpu::emitOpByOp(Kernel &kernel,
                                   const tile::GraphMismatch &why) {
  if (!isa<CoreScheduleAttr>(*kernel.op.getSchedule()))
    return kernel.op.emitError(
               "the CPU targets run a #kvc.core_schedule; found ")
           << *kernel.op.getSchedule();
  std::optional<int64_t> dimK, dimV;
  for (auto query : kernel.op.getBody().getOps<tile::LoadQueryOp>()) {
    int64_t dim = tensor(query.getQ()).getDimSize(1);
    if (dimK.value_or(dim) != dim)
      return query.emitError("expected rows of q of ")
             << *dimK << " elements, as another op loads; found " << dim;
    dimK = dim;
  }
  for (auto store : kernel.op.getBody().getOps<tile::StorePartialOp>())
    dimV = store.getState().getType().getDim();
  if (!dimK || !dimV)
    return kernel.op.emitError("an attend kernel loads queries and stores "
                               "partial results");
  kernel.op.emitRemark("`")
      << kernel.op.getSymName()
      << "`: lowered op by op, every tile in memory: " << why.why
      << " [R-OP-BY-OP]";
  if (failed(OpByOpKernel(kernel, *dimK, *dimV).emit()))
    return failure();
  constexpr int64_t kMostScratch = 1 << 30; // as a manifest may say
  if (kernel.scratch.bytes() > kMostScratch)
    return kernel.op.emitError("tiles of ")
           << kernel.scratch.bytes() << " bytes in memory, of at most "
           << kMostScratch;
  return success();
}
