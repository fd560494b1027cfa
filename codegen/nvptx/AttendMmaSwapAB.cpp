//===- AttendMmaSwapAB.cpp - tensor cores for few query rows --------------===//
//
// Few query rows against many cached tokens: tokens take the 16 rows of a
// matrix product and query rows its 8 columns (S = K Q^T, O = V^T P^T), so that
// a GQA group of 8 fills it, and a group of 16 twice. Nothing leaves registers
// between the two products: P goes from accumulator to operand by one transpose
// of 8x8 (movmatrix).
//
//===----------------------------------------------------------------------===//
#include "codegen/nvptx/AttendMma.h"

using namespace mlir;
using namespace kvc;
using namespace kvc::nvptx;

namespace {

class MmaSwapAB : public MmaMainloop {
public:
  explicit MmaSwapAB(AttendKernel &a)
      : MmaMainloop(a, Rows::InN, a.rows), nTiles(a.rows / 8),
        mTiles(channelSlots / 2) {}

private:
  void loadQuery() override;
  Shared smemQueryOf(int64_t n, int64_t kStep);
  Values queryOfStep(int64_t n, int64_t part, int64_t kStep);
  Values scores(const Step &step) override;
  void accumulate(const Step &step, const Values &p, State &state,
                  llvm::function_ref<void(Value &)> clean) override;
  Value channelInChunk(int64_t slot) override {
    return operandV->channelInM(slot, groupId);
  }
  ArrayRef<int64_t> neighbours() const override {
    return operandV->neighboursInM();
  }

  Values operandsP(const Values &p, int64_t part);
  void takeBias(OperandSourceV::Bias bias, const Values &p, State &state);

  int64_t nTiles; ///< of rows
  int64_t mTiles; ///< of channels of V
};

} // namespace

/// Where a lane keeps its words of a k-step: nobody else reads them.
Shared MmaSwapAB::smemQueryOf(int64_t n, int64_t kStep) {
  constexpr int64_t kLaneBytes = 8, kStepBytes = kWarpLanes * kLaneBytes;
  return {kit.add(a.smemPipelineBase, kit.mul(a.lane, kLaneBytes)),
          a.layout.smemQuery + (n * kSteps + kStep) * kStepBytes};
}

/// [2].
Values MmaSwapAB::queryOfStep(int64_t n, int64_t part, int64_t kStep) {
  if (!a.schedule.queryShared) {
    int64_t word = ((n * operandK->parts() + part) * kSteps + kStep) * 2;
    return Values(ArrayRef(q).slice(word, 2));
  }
  Value words = kit.loadShared(kit.vec(2, kit.i32()), smemQueryOf(n, kStep));
  return {kit.extract(words, 0), kit.extract(words, 1)};
}

/// [nTiles] times the words of a Query.
void MmaSwapAB::loadQuery() {
  for (int64_t n = 0; n < nTiles; ++n) {
    OperandSourceK::Query query = queryOf(kit.add(groupId, 8 * n));
    if (a.schedule.queryShared)
      for (int64_t kStep = 0; kStep < kSteps; ++kStep)
        kit.storeShared(kit.concat(ArrayRef(query.words).slice(2 * kStep, 2)),
                        smemQueryOf(n, kStep));
    else
      q.append(query.words);
    if (!query.factor)
      continue;
    // Rows stand in lanes 4 g here, and in columns 2t and 2t+1 of products.
    for (int64_t j = 0; j < 2; ++j) {
      Value from = kit.add(kit.mul(threadInGroup, 8), 4 * j);
      rowFactor.push_back(
          kit.bitcast(kit.op1(Ptx::ShflIdx, {query.factor, from}), kit.f32()));
    }
  }
}

Values MmaSwapAB::scores(const Step &step) {
  int64_t parts = operandK->parts(), count = rowSlots * tokenSlots;
  // Of each part, as at() says.
  Values sums(parts * count, operandK->zero());
  int64_t perLoad = operandK->kStepsOf(kLoadBytesInM);
  for (int64_t load = 0; load * perLoad < kSteps; ++load) {
    // [perLoad][nTiles][parts]
    SmallVector<Values> words;
    int64_t end = std::min((load + 1) * perLoad, kSteps);
    for (int64_t kStep = load * perLoad; kStep < end; ++kStep)
      for (int64_t n = 0; n < nTiles; ++n)
        for (int64_t part = 0; part < parts; ++part)
          words.push_back(queryOfStep(n, part, kStep));
    for (int64_t sub = 0; sub < tokenSlots / 2; ++sub)
      for (auto [i, x] : llvm::enumerate(operandK->loadInM(step, sub, load)))
        for (int64_t n = 0; n < nTiles; ++n)
          for (int64_t part = 0; part < parts; ++part)
            multiply(operandK->product(part), x,
                     words[(i * nTiles + n) * parts + part],
                     MutableArrayRef(sums).slice(
                         part * count + atToken(2 * n, 2 * sub), 4));
  }
  return operandK->joined(sums);
}

/// [nTiles][tokens / 16][2]: P as the right operand.
Values MmaSwapAB::operandsP(const Values &p, int64_t part) {
  Values operands;
  for (int64_t n = 0; n < nTiles; ++n)
    for (int64_t token = 0; token < tokenSlots; ++token) {
      Value word = operandV->packP(p[atToken(2 * n, token)],
                                   p[atToken(2 * n + 1, token)], part);
      operands.push_back(kit.op1(Ptx::MovMatrix, word));
    }
  return operands;
}

/// Takes from O what the step's elements of V are too large by.
void MmaSwapAB::takeBias(OperandSourceV::Bias bias, const Values &p,
                         State &state) {
  Fragment ones(4, kit.i32(bias.ones));
  for (int64_t n = 0; n < nTiles; ++n) {
    // All 16 rows are sums over the tokens.
    Values sums(4, kit.f32(0));
    for (int64_t sub = 0; sub < tokenSlots / 2; ++sub)
      multiply(operandV->product(), ones,
               ArrayRef(p).slice(n * tokenSlots + 2 * sub, 2), sums);
    for (int64_t row = 0; row < 2; ++row)
      for (int64_t channel = 0; channel < channelSlots; ++channel) {
        Value &o = state.o[atChannel(2 * n + row, channel)];
        o = kit.fma(sums[row], kit.f32(-bias.value), o);
      }
  }
}

void MmaSwapAB::accumulate(const Step &step, const Values &p, State &state,
                           llvm::function_ref<void(Value &)> clean) {
  SmallVector<Values, 2> operands;
  for (int64_t part = 0; part < operandV->partsP(); ++part)
    operands.push_back(operandsP(p, part));
  if (std::optional<OperandSourceV::Bias> bias = operandV->bias())
    takeBias(*bias, operands[0], state);
  int64_t perLoad = operandV->tilesOf(kLoadBytesInM);
  for (int64_t sub = 0; sub < tokenSlots / 2; ++sub)
    for (int64_t load = 0; load * perLoad < mTiles; ++load)
      for (auto [i, x] : llvm::enumerate(operandV->loadInM(step, sub, load))) {
        if (clean)
          llvm::for_each(x, clean);
        int64_t channel = 2 * (load * perLoad + i);
        for (int64_t n = 0; n < nTiles; ++n)
          for (const Values &y : operands)
            multiply(
                operandV->product(), x,
                ArrayRef(y).slice(n * tokenSlots + 2 * sub, 2),
                MutableArrayRef(state.o).slice(atChannel(2 * n, channel), 4));
      }
}

std::unique_ptr<Mainloop> kvc::nvptx::makeMmaSwapAB(AttendKernel &kernel) {
  return std::make_unique<MmaSwapAB>(kernel);
}
