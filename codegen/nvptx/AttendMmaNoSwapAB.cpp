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
    if (formV == Form::I8) // of 16, even ones before odd ones
      return kit.add(kit.mul(threadInGroup, 4), 2 * (slot % 2) + slot / 2 % 2);
    return kit.add(kit.mul(threadInGroup, 2), 8 * (slot / 2 % 2) + slot % 2);
  }

  Values loadK(const Step &step, int64_t tile, int64_t pair);
  Values loadV(const Step &step, int64_t block, int64_t chunk);
  SmallVector<Fragment> operandsP(const Values &p, bool rest);
};

} // namespace

/// [kSteps][4], two 16-bit values each.
void MmaNoSwapAB::loadQuery() {
  Query upper = queryOf(rowOf(0)), lower = queryOf(rowOf(1));
  if (upper.factor)
    rowFactor = {upper.factor, lower.factor};
  for (auto [x, y] : llvm::zip(upper.words, lower.words))
    q.append({x, y});
}

/// Of 8 tokens, the right operands of two (16-bit) or four (int8) steps over
/// channels, two words each.
Values MmaNoSwapAB::loadK(const Step &step, int64_t tile, int64_t pair) {
  // Matrices: 8 tokens of 16 bytes, of the next 16, ...
  Value own = kit.add(kit.mul(kit.rem(a.lane, 8), a.strideK),
                      kit.mul(kit.div(a.lane, 8), 16));
  int64_t offset = step.k.offset + tile * 8 * a.strideK + pair * 64;
  // Rows end at multiples of 32 bytes.
  bool whole =
      (pair + 1) * 64 <= int64_t(llvm::alignTo(a.body.k.rowBytes(), 32));
  Values r = kit.op(whole ? Ptx::LdMatrixX4 : Ptx::LdMatrixX2,
                    kit.add(step.k.base, own), offset);
  if (formK != Form::I8)
    return r;
  Values words;
  for (Value x : r)
    words.append({fromI8(x, 0x4140), fromI8(x, 0x4342)});
  return words;
}

Values MmaNoSwapAB::scores(const Step &step) {
  Values s(rowSlots * tokenSlots, kit.f32(0));
  int64_t perLoad = formK == Form::I8 ? 4 : 2;
  for (int64_t pair = 0; pair * perLoad < kSteps; ++pair)
    for (int64_t tile = 0; tile < tokenSlots / 2; ++tile) {
      // Two of them at a time: registers do not suffice for bytes of more tiles
      // and what becomes of them.
      if (formK == Form::I8 && tile % 2 == 0)
        kit.op(Ptx::WarpSync, {});
      Values y = loadK(step, tile, pair);
      for (int64_t i = 0; i < perLoad && pair * perLoad + i < kSteps; ++i)
        multiply(productOf(formK),
                 ArrayRef(q).slice((pair * perLoad + i) * 4, 4),
                 ArrayRef(y).slice(2 * i, 2),
                 MutableArrayRef(s).slice(atToken(0, 2 * tile), 4));
    }
  return s;
}

/// Of 16 tokens, the transposed right operands of a chunk of 16 channels: two
/// tiles, two words each.
Values MmaNoSwapAB::loadV(const Step &step, int64_t block, int64_t chunk) {
  int64_t offset = step.v.offset + block * 16 * a.strideV;
  // Matrices: tokens 0-7 and 8-15 of 16 bytes, then of the next 16.
  Value token = kit.rem(a.lane, 16);
  Value own = kit.mul(token, a.strideV);
  if (formV != Form::I8) {
    own = kit.add(own, kit.mul(kit.div(a.lane, 16), 16));
    return kit.op(Ptx::LdMatrixX4Trans, kit.add(step.v.base, own),
                  offset + chunk * 32);
  }
  Values r = kit.op(Ptx::LdMatrixX2Trans, kit.add(step.v.base, own),
                    offset + chunk * 16);
  // A word: two channels of token 2t, the same two of token 2t + 1.
  return {fromI8(r[0], 0x4240), fromI8(r[1], 0x4240), fromI8(r[0], 0x4341),
          fromI8(r[1], 0x4341)};
}

/// [tokens / 16]: P as the left operand.
SmallVector<MmaNoSwapAB::Fragment> MmaNoSwapAB::operandsP(const Values &p,
                                                          bool rest) {
  SmallVector<Fragment> operands(tokenSlots / 4);
  for (int64_t tile = 0; tile < tokenSlots / 2; ++tile)
    for (int64_t row = 0; row < 2; ++row)
      operands[tile / 2].push_back(packP(p[atToken(row, 2 * tile)],
                                         p[atToken(row, 2 * tile + 1)], rest));
  return operands;
}

void MmaNoSwapAB::accumulate(const Step &step, const Values &p, State &state,
                             llvm::function_ref<void(Value &)> clean) {
  SmallVector<SmallVector<Fragment>, 2> operands{operandsP(p, /*rest=*/false)};
  if (splitPHiLo)
    operands.push_back(operandsP(p, /*rest=*/true));
  for (int64_t block = 0; block < step.tokens / 16; ++block)
    for (int64_t chunk = 0; chunk < channelSlots / 4; ++chunk) {
      Values y = loadV(step, block, chunk);
      if (clean)
        llvm::for_each(y, clean);
      for (int64_t tile = 0; tile < 2; ++tile)
        for (const SmallVector<Fragment> &x : operands)
          multiply(productOf(formV), x[block], ArrayRef(y).slice(2 * tile, 2),
                   MutableArrayRef(state.o).slice(
                       atChannel(0, 4 * chunk + 2 * tile), 4));
    }
}

std::unique_ptr<Mainloop> kvc::nvptx::makeMmaNoSwapAB(AttendKernel &kernel) {
  return std::make_unique<MmaNoSwapAB>(kernel);
}
