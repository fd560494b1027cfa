//===- TileRun.h - the values of one work tile ------------------*- C++ -*-===//
//
// What the tile interpreter computes on. The ops of attention and of merges are
// in TileAttend.cpp; those that reach the cache, rows and other kernels, and
// those that work element by element, in TileOps.cpp.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_LIB_DRIVER_REFERENCE_TILERUN_H
#define KVC_LIB_DRIVER_REFERENCE_TILERUN_H

#include "lib/driver/Reference/Sequence.h"
#include "lib/driver/Reference/TileInterpreter.h"

#include <functional>
#include <optional>
#include <variant>

namespace kvc::reference {

inline constexpr double kInf = std::numeric_limits<double>::infinity();

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
  /// The same where an axis of size 1 is repeated.
  double repeated(int64_t row, int64_t column) const {
    return at(rows == 1 ? 0 : row, columns == 1 ? 0 : column);
  }

  int64_t rows, columns;
  std::vector<double> data;
  /// Scores that a mask hid, and what became of them; empty: none.
  std::vector<bool> hidden;
};

/// Rows of a plane as the cache holds them.
struct Bytes {
  explicit Bytes(mlir::RankedTensorType type)
      : type(type.getElementType()), columns(type.getShape().back()),
        rowBytes(columns * this->type.getIntOrFloatBitWidth() / 8),
        data(type.getNumElements() / columns * rowBytes) {}
  int64_t rows() const { return data.size() / rowBytes; }
  uint8_t *row(int64_t index) { return &data[index * rowBytes]; }
  const uint8_t *row(int64_t index) const { return &data[index * rowBytes]; }
  /// One element, exactly.
  double at(int64_t row, int64_t column, bool isSigned = true) const;

  mlir::Type type;
  int64_t columns, rowBytes;
  std::vector<uint8_t> data;
};

/// The tokens of a tile; in loops over rows, the row at hand.
struct Tokens {
  std::vector<int64_t> at;
  /// Whether each is in the loop's space.
  std::vector<bool> present;

  int64_t size() const { return at.size(); }
};

/// m in powers of two.
struct State {
  State(int64_t rows, int64_t dim)
      : largest(rows, -kInf), total(rows, 0), sums(rows, dim) {}
  std::vector<double> largest, total;
  Matrix sums;
};

/// Boxes with their scores, the best first.
struct TopK {
  std::vector<std::pair<double, int64_t>> best;
};

/// Runs of tokens that a loop goes over, in order. Boxes: each fills a part of
/// a tile; otherwise tiles stand at absolute multiples.
struct Space {
  std::vector<Span> runs;
  bool isBoxes = false;
};

using TileValue =
    std::variant<Matrix, Bytes, Tokens, State, TopK, Space, int64_t>;

inline mlir::RankedTensorType tensor(mlir::Value value) {
  return mlir::cast<mlir::RankedTensorType>(value.getType());
}

/// What ops of one work tile reach outside of it. Each kind of kernel has its
/// own; an op of another kind finds its part missing.
struct WorkTile {
  int64_t rows = 0; ///< of queries, or of a merge

  // One sequence and kv head.
  const AttendProblem *problem = nullptr;
  const HostBatch *batch = nullptr;
  const HostCache *cache = nullptr;
  const TileInputs *inputs = nullptr;
  TileOutputs *outputs = nullptr;
  Rows q;
  int64_t sequence = 0, head = 0;
  Span tokens; ///< of the split
  int64_t length() const { return batch->kvLen[sequence]; }
  int64_t queryRow(int64_t row) const {
    return batch->cuQ[sequence] + row / problem->group;
  }
  int64_t queryHead(int64_t row) const {
    return (problem->firstHead + head) * problem->group + row % problem->group;
  }
  int64_t position(int64_t row) const {
    return length() - batch->queries(sequence) + row / problem->group;
  }
  ScorePlace place(int64_t row, int64_t token) const {
    return problem->place(batch->place(sequence, row / problem->group),
                          queryHead(row), token);
  }
  /// The page or slot that has a cached token of the sequence.
  int64_t outer(int64_t token) const {
    return batch
        ->table[sequence * batch->tableStride + token / cache->outerTokens];
  }
  /// The row of a plane that has it; the token of a gather is at its slot.
  uint8_t *cachedRow(const HostStream &stream, size_t plane,
                     int64_t token) const {
    return decoded ? slotRow(stream, plane)
                   : stream.row(plane, outer(token), head,
                                token % cache->outerTokens);
  }
  uint8_t *slotRow(const HostStream &stream, size_t plane) const {
    return stream.row(plane, slot / cache->outerTokens, head,
                      slot % cache->outerTokens);
  }
  /// Where what kernels of a sequence and kv head hand on has its entry.
  size_t sequenceHead() const {
    return sequence * problem->cache.getHeads() + head;
  }

  // A merge, and the last split of an attend kernel.
  const Tensor *partialO = nullptr, *partialLse = nullptr;
  bool isLast = false;
  /// Where a row stands in each split of the partial results.
  std::function<int64_t(int64_t row)> partialRow;
  /// Q and kv head of a row; positions are of no account.
  std::function<ScorePlace(int64_t row)> headOf;

  // Append and gather: the row at hand.
  int64_t row = 0, modelHead = 0, slot = -1;
  llvm::StringMap<Tensor> *decoded = nullptr; ///< gather: what it stores

  // What attend and merge store.
  using Store =
      std::function<void(int64_t row, double lse, llvm::ArrayRef<double> o)>;
  Store storePartial, storeOutput;
};

/// Runs the ops of one work tile.
class TileRun {
public:
  TileRun(tile::KernelOp kernel, const WorkTile &workTile)
      : kernel(kernel), workTile(workTile) {}
  mlir::LogicalResult run(mlir::Block &block);

private:
  // It would move a list without commas to the right, more each time.
  // clang-format off
#define KVC_TILE_OPS(X)                                                   \
  X(LoadQueryOp) X(SoftmaxInitOp) X(ForTokensOp) X(LoadOp) X(ConvertOp)   \
  X(ScaleOp) X(OffsetOp) X(DotOp) X(ScaleTokensOp) X(LogitsOp) X(MaskOp)  \
  X(SoftmaxStepOp) X(AccumulateOp) X(StorePartialOp) X(ForSplitsOp)       \
  X(MergeStepOp) X(StoreOutputOp) X(ForRowsOp) X(LoadRowOp) X(QuantizeOp) \
  X(StoreRowOp) X(StoreDecodedOp) X(SpanOp) X(ListedOp) X(SliceOp)        \
  X(MapOp) X(ContractOp) X(ReduceOp) X(OuterOp) X(LoadLseOp)              \
  X(StoreTokensOp) X(TopKInitOp) X(TopKStepOp) X(StoreListOp)             \
  X(MoveTokensOp) X(LoadStateOp) X(StoreStateOp) X(StoreRowOutputOp)
  // clang-format on
#define KVC_TILE_OP(Op) mlir::LogicalResult run(tile::Op op);
  KVC_TILE_OPS(KVC_TILE_OP)
#undef KVC_TILE_OP
  mlir::LogicalResult run(tile::YieldOp) { return mlir::success(); }

  /// Runs the body of `loop` once for each of `counters`, states in hand.
  template <typename LoopOp>
  mlir::LogicalResult runLoop(LoopOp loop, std::vector<TileValue> counters);
  /// The tiles of a space, `tile` tokens each.
  std::vector<TileValue> tilesOf(const Space &space, int64_t tile) const;
  /// The work tile's problem with the read of an op in place of the store's.
  AttendProblem readBy(mlir::Attribute read) const;
  /// The tokens of `tokens` that are there and that some row may see.
  std::vector<bool> reached(const Tokens &tokens,
                            const AttendProblem &problem) const;
  void store(const State &state, const WorkTile::Store &to);
  /// Fails unless the work tile is one sequence and kv head.
  mlir::LogicalResult expectSequence(mlir::Operation *op) const {
    if (workTile.problem)
      return mlir::success();
    return op->emitOpError("needs the work tile of a sequence and kv head");
  }

  /// Fails unless scores are of the work tile's rows and the tile's tokens.
  mlir::LogicalResult expectTile(mlir::Operation *op, const Matrix &scores,
                                 mlir::Value tokens) {
    int64_t count = get<Tokens>(tokens).size();
    if (scores.rows == workTile.rows && scores.columns == count)
      return mlir::success();
    return op->emitOpError("has scores [")
           << scores.rows << ", " << scores.columns << "] for " << workTile.rows
           << " rows of queries and " << count << " tokens";
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

} // namespace kvc::reference

#endif // KVC_LIB_DRIVER_REFERENCE_TILERUN_H
