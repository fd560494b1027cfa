//===- Interpreter.cpp - the meaning of the kvc ops -----------------------===//
#include "lib/driver/Reference/Interpreter.h"

#include "llvm/ADT/TypeSwitch.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;
using namespace kvc;
using namespace kvc::reference;

//===----------------------------------------------------------------------===//
// append
//===----------------------------------------------------------------------===//

static void appendStream(const HostStream &stream, int64_t firstHead,
                         int64_t heads, Rows rows, Slots slot,
                         int64_t outerTokens) {
  for (auto [i, at] : llvm::enumerate(slot)) {
    if (at < 0)
      continue;
    for (int64_t head = 0; head < heads; ++head)
      stream.quantize(at / outerTokens, head, at % outerTokens,
                      rows.row(i, firstHead + head));
  }
}

static llvm::Error checkSlots(Slots slot, const HostCache &cache) {
  for (auto [i, at] : llvm::enumerate(slot))
    if (at >= cache.outers * cache.outerTokens)
      return llvm::createStringError(
          llvm::formatv("row {0} is at slot {1}, the cache has {2}", i, at,
                        cache.outers * cache.outerTokens)
              .str());
  return llvm::Error::success();
}

llvm::Error reference::append(int64_t firstHead, Rows k, Rows v, Slots slot,
                              HostCache &cache) {
  if (llvm::Error error = checkSlots(slot, cache))
    return error;
  int64_t heads = cache.type.getHeads();
  appendStream({cache, kStreamK}, firstHead, heads, k, slot, cache.outerTokens);
  if (!cache.type.isVOfK())
    appendStream({cache, kStreamV}, firstHead, heads, v, slot,
                 cache.outerTokens);
  return llvm::Error::success();
}

//===----------------------------------------------------------------------===//
// gather
//===----------------------------------------------------------------------===//

static Tensor gatherStream(const HostStream &stream, int64_t firstHead,
                           int64_t kvHeads, Slots slot,
                           const HostCache &cache) {
  Tensor rows({int64_t(slot.size()), kvHeads, stream.dim()}, 0);
  std::vector<float> row(stream.dim());
  for (auto [i, at] : llvm::enumerate(slot)) {
    if (at < 0)
      continue;
    for (int64_t head = 0; head < cache.type.getHeads(); ++head) {
      stream.dequantize(at / cache.outerTokens, head, at % cache.outerTokens,
                        row);
      llvm::copy(
          row,
          &rows.data[(int64_t(i) * kvHeads + firstHead + head) * stream.dim()]);
    }
  }
  return rows;
}

llvm::Expected<Gathered> reference::gather(int64_t firstHead, int64_t kvHeads,
                                           Slots slot, const HostCache &cache) {
  if (llvm::Error error = checkSlots(slot, cache))
    return std::move(error);
  return Gathered{
      gatherStream({cache, kStreamK}, firstHead, kvHeads, slot, cache),
      gatherStream({cache, kStreamV}, firstHead, kvHeads, slot, cache)};
}

//===----------------------------------------------------------------------===//
// Running a function
//===----------------------------------------------------------------------===//

namespace {

/// Whether `value` can stand for a value of `type`: the right kind, and the
/// type's static sizes.
bool matches(const HostValue &value, Type type) {
  if (auto cache = dyn_cast<CacheType>(type)) {
    auto *const *bound = std::get_if<HostCache *>(&value);
    return bound && (*bound)->type == cache;
  }
  if (isa<BatchType>(type))
    return std::holds_alternative<const HostBatch *>(value);
  auto tensor = dyn_cast<RankedTensorType>(type);
  if (!tensor)
    return false;
  auto fits = [&](ArrayRef<int64_t> shape) {
    return shape.size() == tensor.getShape().size() &&
           llvm::all_of(llvm::zip(shape, tensor.getShape()), [](auto pair) {
             auto [size, wanted] = pair;
             return ShapedType::isDynamic(wanted) || size == wanted;
           });
  };
  if (tensor.getElementType().isInteger(64)) {
    const Slots *slots = std::get_if<Slots>(&value);
    return slots && fits(int64_t(slots->size()));
  }
  if (const Rows *rows = std::get_if<Rows>(&value))
    return fits({rows->rows, rows->heads, rows->dim}) &&
           int64_t(rows->data.size()) == rows->rows * rows->heads * rows->dim;
  const Tensor *dense = std::get_if<Tensor>(&value);
  return dense && fits(dense->shape);
}

/// The values of one call.
class Frame {
public:
  LogicalResult bind(func::FuncOp function, ArrayRef<HostValue> arguments);
  /// Runs the ops up to the return; leaves what it returns in `results`.
  LogicalResult run(Block &block);
  SmallVector<HostValue> results;

private:
  LogicalResult run(AppendOp op);
  LogicalResult run(GatherOp op);
  LogicalResult run(AttendOp op);
  LogicalResult run(MergeOp op);
  LogicalResult run(func::ReturnOp op);

  /// The operand as a T. Types leave one doubt: whether a tensor is rows that
  /// were given or one that was computed.
  template <typename T> const T *get(Operation *op, mlir::Value value) {
    const T *bound = std::get_if<T>(&values.find(value)->second);
    if (!bound)
      op->emitOpError("is given rows for a result, or a result for rows");
    return bound;
  }
  void set(mlir::Value value, HostValue bound) {
    values.insert_or_assign(value, std::move(bound));
  }

  llvm::DenseMap<mlir::Value, HostValue> values;
};

} // namespace

LogicalResult Frame::bind(func::FuncOp function,
                          ArrayRef<HostValue> arguments) {
  if (function.isExternal() || arguments.size() != function.getNumArguments())
    return function.emitOpError("takes ")
           << function.getNumArguments() << " arguments, got "
           << arguments.size();
  for (auto [i, argument] : llvm::enumerate(arguments)) {
    if (!matches(argument, function.getArgument(i).getType()))
      return function.emitOpError("argument ")
             << i << " is not a " << function.getArgument(i).getType();
    set(function.getArgument(i), argument);
  }
  return success();
}

LogicalResult Frame::run(Block &block) {
  for (Operation &op : block) {
    LogicalResult result =
        llvm::TypeSwitch<Operation *, LogicalResult>(&op)
            .Case<AppendOp, GatherOp, AttendOp, MergeOp, func::ReturnOp>(
                [&](auto op) { return run(op); })
            .Default([](Operation *op) {
              return op->emitOpError("has no meaning to the interpreter");
            });
    if (failed(result))
      return failure();
  }
  return success();
}

LogicalResult Frame::run(AppendOp op) {
  auto store =
      SymbolTable::lookupNearestSymbolFrom<StoreOp>(op, op.getStoreAttr());
  const Rows none, *k = get<Rows>(op, op.getK()), *v = &none;
  if (op.getV())
    v = get<Rows>(op, op.getV());
  if (!k || !v)
    return failure();
  const Slots *slot = get<Slots>(op, op.getSlot());
  if (int64_t(slot->size()) != k->rows || (op.getV() && k->rows != v->rows))
    return op.emitOpError("has ") << k->rows << " rows of k, " << v->rows
                                  << " of v and " << slot->size() << " slots";
  HostCache *cache = *get<HostCache *>(op, op.getCache());
  if (llvm::Error error = append(store.getHeadBegin(), *k, *v, *slot, *cache))
    return op.emitOpError() << llvm::toString(std::move(error));
  return success();
}

LogicalResult Frame::run(GatherOp op) {
  auto store =
      SymbolTable::lookupNearestSymbolFrom<StoreOp>(op, op.getStoreAttr());
  const Slots *slot = get<Slots>(op, op.getSlot());
  const HostCache *cache = *get<HostCache *>(op, op.getCache());
  auto rows = gather(store.getHeadBegin(), store.getKvHeads(), *slot, *cache);
  if (!rows)
    return op.emitOpError() << llvm::toString(rows.takeError());
  set(op.getK(), std::move(rows->k));
  set(op.getV(), std::move(rows->v));
  return success();
}

LogicalResult Frame::run(AttendOp op) {
  const Rows *q = get<Rows>(op, op.getQ());
  if (!q)
    return failure();
  const HostCache *cache = *get<HostCache *>(op, op.getCache());
  const HostBatch *batch = *get<const HostBatch *>(op, op.getBatch());
  auto result = attend(AttendProblem::of(op), *q, *cache, *batch);
  if (!result)
    return op.emitOpError() << llvm::toString(result.takeError());
  set(op.getO(), std::move(result->o));
  set(op.getLse(), std::move(result->lse));
  return success();
}

LogicalResult Frame::run(MergeOp op) {
  const Tensor *o = get<Tensor>(op, op.getPartialO());
  const Tensor *lse = get<Tensor>(op, op.getPartialLse());
  if (!o || !lse)
    return failure();
  if (ArrayRef<int64_t>(o->shape).drop_back() != ArrayRef<int64_t>(lse->shape))
    return op.emitOpError("partial o and lse differ in shape");
  auto store =
      SymbolTable::lookupNearestSymbolFrom<StoreOp>(op, op.getStoreAttr());
  ScoreProgram sinks(op.getSink());
  int64_t group = store.getGroup();
  int64_t first = store.getHeadBegin() * group,
          end = store.getHeadEnd() * group;
  AttendResult result = merge(*o, *lse, [&](int64_t qHead) {
    bool isOwn = qHead >= first && qHead < end;
    ScorePlace place;
    place.qHead = qHead;
    place.kvHead = qHead / group;
    return isOwn ? sinks.sink(place) : -INFINITY;
  });
  set(op.getO(), std::move(result.o));
  set(op.getLse(), std::move(result.lse));
  return success();
}

LogicalResult Frame::run(func::ReturnOp op) {
  for (mlir::Value value : op.getOperands())
    results.push_back(values.find(value)->second);
  return success();
}

FailureOr<SmallVector<HostValue>>
Interpreter::run(StringRef name, ArrayRef<HostValue> arguments) const {
  ModuleOp root = module;
  auto function = root.lookupSymbol<func::FuncOp>(name);
  if (!function)
    return root.emitError("no function named `") << name << "`";
  Frame frame;
  if (failed(frame.bind(function, arguments)) ||
      failed(frame.run(function.getBody().front())))
    return failure();
  return std::move(frame.results);
}
