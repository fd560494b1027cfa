//===- AttendMmaNoSwapAB.cpp - tensor cores for many query rows -----------===//
//
// Many query rows: 16 of each warp take the rows of a matrix product, tokens
// and then channels its columns (S = Q K^T, O = P V), and all warps multiply
// the same tokens. P is an operand as it is accumulated.
//
//===----------------------------------------------------------------------===//
#include "codegen/nvptx/AttendMma.h"

using namespace mlir;
using namespace kvc;
using namespace kvc::nvptx;

namespace {

class MmaNoSwapAB : public MmaMainloop {
public:
  explicit MmaNoSwapAB(AttendKernel &a) : MmaMainloop(a, Rows::InM, 16) {}

private:
  void loadQuery() override;
  Values scores(const Step &step) override;
  void accumulate(const Step &step, const Values &p, State &state,
                  llvm::function_ref<void(Value &)> clean) override;
  Value channelInChunk(int64_t slot) override {
    return operandV->channelInN(slot, threadInGroup);
  }
  ArrayRef<int64_t> neighbours() const override {
    return operandV->neighboursInN();
  }

  SmallVector<Fragment> operandsP(const Values &p, int64_t part);
  Shared smemQueryOf(int64_t kStep);
  Values queryOfStep(int64_t kStep);
};

} // namespace

/// Where a lane keeps its words of a k-step: nobody else reads them.
Shared MmaNoSwapAB::smemQueryOf(int64_t kStep) {
  constexpr int64_t kLaneBytes = 16, kStepBytes = kWarpLanes * kLaneBytes;
  Value own = kit.add(kit.mul(a.warp, kSteps * kStepBytes),
                      kit.mul(a.lane, kLaneBytes));
  return {kit.add(a.smemPipelineBase, own),
          a.layout.smemQuery + kStep * kStepBytes};
}

/// [4].
Values MmaNoSwapAB::queryOfStep(int64_t kStep) {
  if (!a.schedule.queryShared)
    return Values(ArrayRef(q).slice(kStep * 4, 4));
  Value words = kit.loadShared(kit.vec(4, kit.i32()), smemQueryOf(kStep));
  Values list;
  for (int64_t i = 0; i < 4; ++i)
    list.push_back(kit.extract(words, i));
  return list;
}

/// [kSteps][4].
void MmaNoSwapAB::loadQuery() {
  OperandSourceK::Query upper = queryOf(rowOf(0)), lower = queryOf(rowOf(1));
  if (upper.factor)
    rowFactor = {upper.factor, lower.factor};
  for (auto [x, y] : llvm::zip(upper.words, lower.words))
    q.append({x, y});
  if (!a.schedule.queryShared)
    return;
  for (int64_t kStep = 0; kStep < kSteps; ++kStep)
    kit.storeShared(kit.concat(ArrayRef(q).slice(kStep * 4, 4)),
                    smemQueryOf(kStep));
  q.clear();
}

Values MmaNoSwapAB::scores(const Step &step) {
  assert(operandK->parts() == 1);
  Values s(rowSlots * tokenSlots, operandK->zero());
  int64_t perLoad = operandK->kStepsOf(kLoadBytesInN),
          atATime = operandK->tilesAtATime();
  for (int64_t load = 0; load * perLoad < kSteps; ++load) {
    SmallVector<Values, 2> x;
    for (int64_t i = load * perLoad; i < std::min((load + 1) * perLoad, kSteps);
         ++i)
      x.push_back(queryOfStep(i));
    for (int64_t tile = 0; tile < tokenSlots / 2; ++tile) {
      if (atATime && tile % atATime == 0)
        kit.op(Ptx::WarpSync, {}); // no load moves up across it
      Values y = operandK->loadInN(step, tile, load);
      for (auto [i, words] : llvm::enumerate(x))
        multiply(operandK->product(0), words, ArrayRef(y).slice(2 * i, 2),
                 MutableArrayRef(s).slice(atToken(0, 2 * tile), 4));
    }
  }
  return operandK->joined(s);
}

/// [tokens / 16]: P as the left operand.
SmallVector<Fragment> MmaNoSwapAB::operandsP(const Values &p, int64_t part) {
  SmallVector<Fragment> operands(tokenSlots / 4);
  for (int64_t tile = 0; tile < tokenSlots / 2; ++tile)
    for (int64_t row = 0; row < 2; ++row)
      operands[tile / 2].push_back(operandV->packP(
          p[atToken(row, 2 * tile)], p[atToken(row, 2 * tile + 1)], part));
  return operands;
}

void MmaNoSwapAB::accumulate(const Step &step, const Values &p, State &state,
                             llvm::function_ref<void(Value &)> clean) {
  assert(!operandV->bias() && "only of left operands");
  SmallVector<SmallVector<Fragment>, 2> operands;
  for (int64_t part = 0; part < operandV->partsP(); ++part)
    operands.push_back(operandsP(p, part));
  int64_t tiles = chunkChannels / 8, chunks = channelSlots / 2 / tiles;
  for (int64_t block = 0; block < step.tokens / 16; ++block)
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      Values y = operandV->loadInN(step, block, chunk);
      if (clean)
        llvm::for_each(y, clean);
      for (int64_t tile = 0; tile < tiles; ++tile)
        for (const SmallVector<Fragment> &x : operands)
          multiply(operandV->product(), x[block],
                   ArrayRef(y).slice(2 * tile, 2),
                   MutableArrayRef(state.o).slice(
                       atChannel(0, 2 * (chunk * tiles + tile)), 4));
    }
}

std::unique_ptr<Mainloop> kvc::nvptx::makeMmaNoSwapAB(AttendKernel &kernel) {
  return std::make_unique<MmaNoSwapAB>(kernel);
}
