//===- AttendMma.h - attention on tensor cores ------------------*- C++ -*-===//
//
// What tensor-core kernels have in common: a state per query row, a softmax on
// accumulators, scales. Which operand is on which side of the products is a
// subclass: tokens take their 16 rows where there are few query rows
// (AttendMmaSwapAB.cpp), query rows where there are many
// (AttendMmaNoSwapAB.cpp). What codes become and by what they are multiplied is
// for an operand source to say (AttendMmaOperands.h): nothing here asks for
// their type.
//
// In a 16x8 accumulator, lane 4 g + t (g: groupId, t: threadInGroup) holds
// (g, 2t), (g, 2t+1), (g+8, 2t) and (g+8, 2t+1): along either axis, two of each
// tile. Those of all tiles along an axis are the lane's slots of it, numbered 2
// * tile + (0 or 1).
//
//===----------------------------------------------------------------------===//
#ifndef KVC_CODEGEN_NVPTX_ATTENDMMA_H
#define KVC_CODEGEN_NVPTX_ATTENDMMA_H

#include "codegen/nvptx/AttendMmaOperands.h"

namespace kvc::nvptx {

class MmaMainloop : public Mainloop {
public:
  void beginWorkTile(const WorkTile &workTile) override;
  Values initialState() override;
  int64_t subStepTokens() override { return 16; }
  Values step(const Step &step, mlir::ValueRange state) override;
  void epilogue(mlir::ValueRange state, Shared stats, Shared sums) override;

protected:
  using Value = mlir::Value;
  /// Which side of the products query rows are on.
  enum class Rows : uint8_t { InM, InN };
  /// `rows` of them are one warp's.
  MmaMainloop(AttendKernel &a, Rows side, int64_t rows);

  /// Carried from step to step; all but `o` are per row slot.
  struct State {
    Values base; ///< what exponents are relative to: no logit of the row was
                 ///< more than kRescaleThreshold above it
    Values l;    ///< of this lane's tokens
    Values unit; ///< bits of a power of two that O is in units of (scaled V)
    Values o;    ///< by rows and channels, see at()
  };

  //===--- what a subclass does ---------------------------------------------//
  /// Loads the operands of q, and row slots' factors if there are any.
  virtual void loadQuery() = 0;
  /// Products of the step's tokens and the rows, see at().
  virtual Values scores(const Step &step) = 0;
  /// Adds P times V. `clean`, where there is one, may replace the words that
  /// hold V.
  virtual void accumulate(const Step &step, const Values &p, State &state,
                          llvm::function_ref<void(Value &)> clean) = 0;
  /// OperandSourceV's, along the axis that channels are on.
  virtual Value channelInChunk(int64_t slot) = 0;
  virtual llvm::ArrayRef<int64_t> neighbours() const = 0;

  //===--- accumulators -----------------------------------------------------//
  /// Where (row slot, other slot) stands in a list of accumulators: by tile of
  /// rows, then by the `others` / 2 tiles of the other axis, then as the
  /// machine has it.
  size_t at(int64_t row, int64_t other, int64_t others) const {
    int64_t tile = row / 2 * (others / 2) + other / 2;
    int64_t down = side == Rows::InM ? row : other,
            across = side == Rows::InM ? other : row;
    return tile * 4 + 2 * (down % 2) + across % 2;
  }
  size_t atToken(int64_t row, int64_t token) const {
    return at(row, token, tokenSlots);
  }
  size_t atChannel(int64_t row, int64_t channel) const {
    return at(row, channel, channelSlots);
  }
  /// First channel of the chunk (OperandSourceV) that a channel slot is of.
  int64_t chunkOf(int64_t channel) const {
    int64_t slots = side == Rows::InM ? 4 : 2; // of 16 channels
    return channel / slots * 16 / chunkChannels * chunkChannels;
  }
  /// i32: place of a slot along the tiles' M or N axis.
  Value placeInM(int64_t slot) { return kit.add(groupId, afterInM(slot)); }
  Value placeInN(int64_t slot) {
    return kit.add(kit.mul(threadInGroup, 2), afterInN(slot));
  }
  /// The place less that of slot 0: the same for all lanes.
  static int64_t afterInM(int64_t slot) {
    return 16 * (slot / 2) + 8 * (slot % 2);
  }
  static int64_t afterInN(int64_t slot) { return 8 * (slot / 2) + slot % 2; }
  /// i32: row of the work tile.
  Value rowOf(int64_t slot);
  /// i32: token of the step.
  Value tokenOf(int64_t slot) {
    return side == Rows::InM ? placeInN(slot) : placeInM(slot);
  }
  /// tokenOf(slot) less tokenOf(0).
  int64_t tokenAfter(int64_t slot) const {
    return side == Rows::InM ? afterInN(slot) : afterInM(slot);
  }
  /// Lanes that have other tokens of the same rows.
  llvm::ArrayRef<int64_t> tokenLanes() const;

  //===--- operands ---------------------------------------------------------//
  /// sum += x times y; x has 16 rows, y 8 columns.
  void multiply(Ptx mma, llvm::ArrayRef<Value> x, llvm::ArrayRef<Value> y,
                llvm::MutableArrayRef<Value> sum);
  /// Of query row `row` (i32, of the work tile).
  OperandSourceK::Query queryOf(Value row);

  AttendKernel &a;
  Kit &kit;
  const Rows side;
  const std::unique_ptr<OperandSourceK> operandK;
  const std::unique_ptr<OperandSourceV> operandV;
  const int64_t kSteps;        ///< products for all channels of K
  const int64_t chunkChannels; ///< of V
  int64_t rowSlots, channelSlots;
  int64_t tokenSlots = 0;       ///< of the step at hand
  Value groupId, threadInGroup; ///< lane / 4, lane % 4
  // Of the work tile.
  Values q; ///< the subclass's
  /// By row slot: what products of the row are times, the scale of scores
  /// included where `deferScale`. Empty: nothing, or that scale alone.
  Values rowFactor;
  llvm::SmallVector<RowPlace> places; ///< by row slot

private:
  State unpack(mlir::ValueRange values) const;
  Values pack(const State &state) const;

  // Of one step.
  Values transformed(const Step &step, Values scores);
  /// What the region of logits makes of them.
  Values logits(const Step &step, Values s, bool near);
  Value anyLane(Value condition);
  Values masked(const Step &step, Values scores);
  void rescale(const Values &scores, const Values &units, State &state);
  Values probabilities(const Values &scores, State &state);
  Values unitsOf(const Step &step);
  Values scaleV(const Step &step, const Values &p, const State &state);
  void accumulateMasked(const Step &step, const Values &p, State &state);
  void addNonFinite(const Step &step, const Values &p, State &state);
  Value weightOf(Value token, int64_t row, const Values &p);
  Value clean(Value halves, Value &bad);
  Values rowMax(const Values &scores);
  Value overLanes(Value x, llvm::function_ref<Value(Value, Value)> join);
  Value laneScale(llvm::ArrayRef<Value> scales, int64_t token);
  /// Whether a row slot sees a token slot.
  Value sees(const Step &step, int64_t row, int64_t token);

  Value factorOf(int64_t row);
  Value exponentOf(Value score, int64_t row, const State &state);

  /// Exponents are fma(score, factor of the row, -base).
  bool deferScale;
};

/// Few rows: tokens in M, query rows in N.
std::unique_ptr<Mainloop> makeMmaSwapAB(AttendKernel &kernel);
/// Many rows, 16 of each warp: query rows in M, tokens in N.
std::unique_ptr<Mainloop> makeMmaNoSwapAB(AttendKernel &kernel);

} // namespace kvc::nvptx

#endif // KVC_CODEGEN_NVPTX_ATTENDMMA_H
