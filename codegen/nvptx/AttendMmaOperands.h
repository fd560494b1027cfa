//===- AttendMmaOperands.h - operands of tensor cores -----------*- C++ -*-===//
//
// An operand source supplies what a product needs of one stream, K's of S = q K
// and V's of O = P V, from codes in shared memory: which instruction
// multiplies, how bytes become the words of a fragment, in which order a lane
// has channels, and what q or P has to be for it. Mainloops are skeletons that
// ask for these and know no type of codes.
//
// Each is chosen once for a kernel, from AttendMmaOperands.def. A new type of
// codes is a class for K and one for V, each with its OperandEntry beside it,
// and a row there for each.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_CODEGEN_NVPTX_ATTENDMMAOPERANDS_H
#define KVC_CODEGEN_NVPTX_ATTENDMMAOPERANDS_H

#include "codegen/nvptx/Attend.h"

namespace kvc::nvptx {

/// A lane's words of one operand: four of the left one, which has 16 rows, two
/// of the right one, which has 8 columns.
using Fragment = llvm::SmallVector<mlir::Value, 4>;

/// Bytes of a token's codes that one load brings, where tokens are in M and
/// where they are in N.
inline constexpr int64_t kLoadBytesInM = 32, kLoadBytesInN = 64;

/// K, by q: tokens and rows are M and N, channels are summed.
class OperandSourceK {
public:
  using Value = mlir::Value;
  explicit OperandSourceK(AttendKernel &a) : a(a), kit(a.kit) {}
  virtual ~OperandSourceK() = default;

  //===--- the product ------------------------------------------------------//
  /// Channels of one.
  virtual int64_t productChannels() const = 0;
  /// Products for all channels of K.
  int64_t kSteps() const { return llvm::divideCeil(a.dimK, productChannels()); }
  /// Of them, those of `bytes` of a token's codes.
  int64_t kStepsOf(int64_t bytes) const {
    return bytes * 8 / a.body.k.code().getIntOrFloatBitWidth() /
           productChannels();
  }
  /// Parts of q, each multiplied by itself into sums of its own. More than one
  /// only where tokens are in M.
  virtual int64_t parts() const { return 1; }
  virtual Ptx product(int64_t part) const = 0;
  /// What a sum starts from.
  virtual Value zero() = 0;
  /// f32 scores, less the factor of their row, from as many sums of each part.
  virtual Values joined(const Values &sums) { return sums; }

  //===--- q ----------------------------------------------------------------//
  /// What a lane holds of a query row's operands.
  struct Query {
    Values words; ///< [parts][kSteps][2]
    Value factor; ///< f32: what products are times, if anything
  };
  /// Of the row at `row` (a global pointer). Lanes of the same `threadInGroup`
  /// (i32) hold the same channels.
  virtual Query query(Value row, Value threadInGroup) = 0;
  /// Whether that brings q into the range of its operands, row by row.
  virtual bool scalesQuery() const = 0;

  //===--- K ----------------------------------------------------------------//
  /// Left operands: tokens 16 * `tile` on of the step, and of their codes bytes
  /// kLoadBytesInM * `load` on. One for each product; at the end of a row those
  /// that it has.
  virtual llvm::SmallVector<Fragment, 2> loadInM(const Step &step, int64_t tile,
                                                 int64_t load) = 0;
  /// Right operands, one after the other: tokens 8 * `tile` on, bytes
  /// kLoadBytesInN * `load` on.
  virtual Values loadInN(const Step &step, int64_t tile, int64_t load) = 0;
  /// How many tiles of tokens in N may be on their way from shared memory at a
  /// time, so that registers suffice; 0: all.
  virtual int64_t tilesAtATime() const { return 0; }

protected:
  /// Matrices of 8 tokens and 16 bytes as a lane has them. In M: tokens 0-7 and
  /// 8-15 of 16 bytes, then of the next 16; in N: 16 bytes of 8 tokens, the
  /// next 16, and so on to the end of the row.
  Values loadMatricesInM(const Step &step, int64_t tile, int64_t load);
  Values loadMatricesInN(const Step &step, int64_t tile, int64_t load);
  /// Two neighbouring elements of a query row as a word, from channel `first` +
  /// `channel` (i32, less than 16) on. 0 beyond the row.
  Value queryPair(Value row, Value channel, int64_t first);

  AttendKernel &a;
  Kit &kit;
};

/// V, by P: channels and rows are M and N, tokens are summed, 16 a product.
///
/// Channels along an axis are in order from chunk to chunk; within one they may
/// stand in any order, which O follows.
class OperandSourceV {
public:
  using Value = mlir::Value;
  explicit OperandSourceV(AttendKernel &a) : a(a), kit(a.kit) {}
  virtual ~OperandSourceV() = default;

  virtual Ptx product() const = 0;

  //===--- the order of channels --------------------------------------------//
  /// Of a chunk: a multiple of 16.
  virtual int64_t chunkChannels() const { return 16; }
  /// i32: channel of a slot (AttendMma.h), less the first of its chunk.
  virtual Value channelInM(int64_t slot, Value groupId) = 0;
  virtual Value channelInN(int64_t slot, Value threadInGroup) = 0;
  /// Slots, from one on, that hold one channel after the other: they are stored
  /// at once.
  virtual llvm::ArrayRef<int64_t> neighboursInM() const = 0;
  virtual llvm::ArrayRef<int64_t> neighboursInN() const = 0;

  //===--- P ----------------------------------------------------------------//
  /// Parts that P is the sum of, each multiplied by itself.
  virtual int64_t partsP() const { return 1; }
  /// One part of two f32 of P as a word.
  virtual Value packP(Value low, Value high, int64_t part) = 0;

  //===--- V ----------------------------------------------------------------//
  /// Tiles of 16 channels in `bytes` of a token's codes.
  int64_t tilesOf(int64_t bytes) const {
    return bytes * 8 / a.body.v.code().getIntOrFloatBitWidth() / 16;
  }
  /// Left operands, one for each tile of 16 channels: tokens 16 * `block` on of
  /// the step, and of their codes bytes kLoadBytesInM * `load` on. At the end
  /// of a row those that it has.
  virtual llvm::SmallVector<Fragment, 2>
  loadInM(const Step &step, int64_t block, int64_t load) = 0;
  /// Right operands of a chunk, one after the other, for each 8 channels.
  virtual Values loadInN(const Step &step, int64_t block, int64_t chunk) = 0;

  /// What elements of left operands are larger by than V's. It is taken from O
  /// step by step.
  struct Bias {
    double value;
    int64_t ones; ///< two elements of 1, as a word
  };
  virtual std::optional<Bias> bias() const { return std::nullopt; }

  //===--- elements that are no numbers -------------------------------------//
  /// Bits of an element in a fragment that are all set where it is infinite or
  /// NaN; 0: it never is.
  virtual int64_t nonFiniteBits() const { return 0; }
  /// f32: V's element of channel `first` + `channel` (i32) of the token whose
  /// row is at `row`.
  virtual Value element(Shared row, Value channel, int64_t first) = 0;

protected:
  AttendKernel &a;
  Kit &kit;
};

/// What sources differ by in a schedule's cost. By default, as codes of 16 bits
/// that are operands as they are.
struct OperandCost {
  double productsPerTile = 1;      ///< of 16 x 16 codes with 8 rows
  double wordsPerTile = 4;         ///< of 16 x 16 codes as products take them
  double instructionsPerWord = 0;  ///< that make such a word of codes
  double instructionsPerScore = 0; ///< more than any score takes
  double queryElementBytes = 2;    ///< of q in registers
};

/// An operand source that there is. It stands beside its class. Schedules ask
/// it as well, before there is a kernel.
template <class Source> struct OperandEntry {
  mlir::Type (*code)(mlir::MLIRContext *context); ///< that it is for
  /// Whether it is for such codes in this workload and schedule. Null: always.
  bool (*takes)(const Workload &workload, const WarpSchedule &schedule);
  /// Null: as by default.
  OperandCost (*cost)(const Workload &workload);
  std::unique_ptr<Source> (*make)(AttendKernel &a);
};

#define KVC_MMA_OPERAND(STREAM, NAME)                                          \
  extern const OperandEntry<OperandSource##STREAM> k##NAME##STREAM;
#include "codegen/nvptx/AttendMmaOperands.def"

/// The first entry that is for a kernel; null: none, of which no schedule of
/// tensor cores is legal.
const OperandEntry<OperandSourceK> *operandOfK(const Workload &workload,
                                               const WarpSchedule &schedule);
const OperandEntry<OperandSourceV> *operandOfV(const Workload &workload,
                                               const WarpSchedule &schedule);
/// Types of codes that have a source for K and one for V.
llvm::SmallVector<mlir::Type> operandCodes(mlir::MLIRContext *context);

} // namespace kvc::nvptx

#endif // KVC_CODEGEN_NVPTX_ATTENDMMAOPERANDS_H
