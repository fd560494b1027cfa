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
        mTiles(channelSlots / 2), biased(formV == Form::I8 && !splitPHiLo) {}

private:
  void loadQuery() override;
  Values scores(const Step &step) override;
  Values joined(const Values &sums);
  void accumulate(const Step &step, const Values &p, State &state,
                  llvm::function_ref<void(Value &)> clean) override;
  Value channelInChunk(int64_t slot) override {
    if (formV == Form::I8)
      return kit.add(kit.mul(groupId, 2), slot % 2);
    return kit.add(groupId, 8 * (slot % 2));
  }

  SmallVector<Fragment, 2> loadK(const Step &step, int64_t sub, int64_t pair);
  SmallVector<Fragment, 2> loadV(const Step &step, int64_t sub, int64_t pair);
  Values operandsP(const Values &p, bool rest);
  void takeBias(const Values &p, State &state);

  int64_t nTiles; ///< of rows
  int64_t mTiles; ///< of channels of V
  /// Codes of V are multiplied with the bias that made them f16, which is then
  /// taken from the sum of a step: exact enough for a bf16 model.
  bool biased;
};

} // namespace

/// [nTiles] times the words of a Query.
void MmaSwapAB::loadQuery() {
  for (int64_t n = 0; n < nTiles; ++n) {
    Query query = queryOf(kit.add(groupId, 8 * n));
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

/// The operands of one step over channels, or of two (int8 as f16).
SmallVector<MmaSwapAB::Fragment, 2>
MmaSwapAB::loadK(const Step &step, int64_t sub, int64_t pair) {
  // Matrices: tokens 0-7 and 8-15 of 16 bytes, then of the next 16.
  Value own = kit.add(kit.mul(kit.rem(a.lane, 16), a.strideK),
                      kit.mul(kit.div(a.lane, 16), 16));
  Values r = kit.op(Ptx::LdMatrixX4, kit.add(step.k.base, own),
                    step.k.offset + sub * 16 * a.strideK + pair * 32);
  if (formK != Form::I8 || bytesK)
    return {{r[0], r[1], r[2], r[3]}};
  SmallVector<Fragment, 2> fragments;
  for (int64_t chunk = 0; chunk < 2; ++chunk) {
    if (2 * pair + chunk >= kSteps)
      break;
    Value upper = r[2 * chunk], lower = r[2 * chunk + 1];
    fragments.push_back({fromI8(upper, 0x4140), fromI8(lower, 0x4140),
                         fromI8(upper, 0x4342), fromI8(lower, 0x4342)});
  }
  return fragments;
}

/// The transposed operands of one (16-bit) or two (int8) m tiles.
SmallVector<MmaSwapAB::Fragment, 2>
MmaSwapAB::loadV(const Step &step, int64_t sub, int64_t pair) {
  int64_t offset = step.v.offset + sub * 16 * a.strideV + pair * 32;
  if (formV != Form::I8) {
    // Matrices: 16 bytes of tokens 0-7, the next 16, both of tokens 8-15.
    Value token = kit.add(kit.rem(a.lane, 8), kit.mul(kit.div(a.lane, 16), 8));
    Value chunk = kit.rem(kit.div(a.lane, 8), 2);
    Value own = kit.add(kit.mul(token, a.strideV), kit.mul(chunk, 16));
    Values r = kit.op(Ptx::LdMatrixX4Trans, kit.add(step.v.base, own), offset);
    return {{r[0], r[1], r[2], r[3]}};
  }
  Value own = kit.add(kit.mul(kit.rem(a.lane, 16), a.strideV),
                      kit.mul(kit.div(a.lane, 16), 16));
  Values r = kit.op(Ptx::LdMatrixX4Trans, kit.add(step.v.base, own), offset);
  SmallVector<Fragment, 2> fragments;
  for (int64_t chunk = 0; chunk < 2; ++chunk) {
    if (2 * pair + chunk >= mTiles)
      break;
    // A word: two channels of token 2t, the same two of token 2t + 1.
    Value early = r[2 * chunk], late = r[2 * chunk + 1];
    fragments.push_back(
        {fromI8(early, 0x4240, biased), fromI8(early, 0x4341, biased),
         fromI8(late, 0x4240, biased), fromI8(late, 0x4341, biased)});
  }
  return fragments;
}

Values MmaSwapAB::scores(const Step &step) {
  int64_t parts = bytesK ? kQueryParts : 1, count = rowSlots * tokenSlots;
  // Of each part, as at() says.
  Values sums(parts * count, bytesK ? kit.i32(0) : kit.f32(0));
  auto product = [&](int64_t part) {
    if (!bytesK)
      return productOf(formK);
    return part ? Ptx::MmaS8U8 : Ptx::MmaS8S8;
  };
  int64_t perLoad = formK == Form::I8 && !bytesK ? 2 : 1;
  for (int64_t pair = 0; pair * perLoad < kSteps; ++pair)
    for (int64_t sub = 0; sub < tokenSlots / 2; ++sub)
      for (auto [i, x] : llvm::enumerate(loadK(step, sub, pair)))
        for (int64_t n = 0; n < nTiles; ++n)
          for (int64_t part = 0; part < parts; ++part) {
            int64_t word =
                ((n * parts + part) * kSteps + pair * perLoad + i) * 2;
            multiply(product(part), x, ArrayRef(q).slice(word, 2),
                     MutableArrayRef(sums).slice(
                         part * count + atToken(2 * n, 2 * sub), 4));
          }
  return bytesK ? joined(sums) : sums;
}

/// Scores from sums of products with each byte of q.
Values MmaSwapAB::joined(const Values &sums) {
  auto convert = [&](Value x) -> Value {
    return arith::SIToFPOp::create(kit.b, kit.kernel, kit.f32(), x);
  };
  Values scores;
  int64_t count = rowSlots * tokenSlots;
  for (int64_t i = 0; i < count; ++i) {
    Value upper = convert(kit.add(kit.shl(sums[i], 8), sums[count + i]));
    Value lower = convert(sums[2 * count + i]);
    scores.push_back(kit.fma(upper, kit.f32(256), lower));
  }
  return scores;
}

/// [nTiles][tokens / 16][2]: P as the right operand.
Values MmaSwapAB::operandsP(const Values &p, bool rest) {
  Values operands;
  for (int64_t n = 0; n < nTiles; ++n)
    for (int64_t token = 0; token < tokenSlots; ++token) {
      Value word =
          packP(p[atToken(2 * n, token)], p[atToken(2 * n + 1, token)], rest);
      operands.push_back(kit.op1(Ptx::MovMatrix, word));
    }
  return operands;
}

/// Takes from O what the step's codes of V are too large by.
void MmaSwapAB::takeBias(const Values &p, State &state) {
  Fragment ones(4, kit.i32(0x3c003c00)); // of f16
  for (int64_t n = 0; n < nTiles; ++n) {
    // All 16 rows are sums over the tokens.
    Values sums(4, kit.f32(0));
    for (int64_t sub = 0; sub < tokenSlots / 2; ++sub)
      multiply(Ptx::MmaF16, ones,
               ArrayRef(p).slice(n * tokenSlots + 2 * sub, 2), sums);
    for (int64_t row = 0; row < 2; ++row)
      for (int64_t channel = 0; channel < channelSlots; ++channel) {
        Value &o = state.o[atChannel(2 * n + row, channel)];
        o = kit.fma(sums[row], kit.f32(-kBias), o);
      }
  }
}

void MmaSwapAB::accumulate(const Step &step, const Values &p, State &state,
                           llvm::function_ref<void(Value &)> clean) {
  SmallVector<Values, 2> operands{operandsP(p, /*rest=*/false)};
  if (splitPHiLo)
    operands.push_back(operandsP(p, /*rest=*/true));
  if (biased)
    takeBias(operands[0], state);
  int64_t perLoad = formV == Form::I8 ? 2 : 1;
  for (int64_t sub = 0; sub < tokenSlots / 2; ++sub)
    for (int64_t pair = 0; pair * perLoad < mTiles; ++pair)
      for (auto [i, x] : llvm::enumerate(loadV(step, sub, pair))) {
        if (clean)
          llvm::for_each(x, clean);
        int64_t channel = 2 * (pair * perLoad + i);
        for (int64_t n = 0; n < nTiles; ++n)
          for (const Values &y : operands)
            multiply(
                productOf(formV), x,
                ArrayRef(y).slice(n * tokenSlots + 2 * sub, 2),
                MutableArrayRef(state.o).slice(atChannel(2 * n, channel), 4));
      }
}

std::unique_ptr<Mainloop> kvc::nvptx::makeMmaSwapAB(AttendKernel &kernel) {
  return std::make_unique<MmaSwapAB>(kernel);
}
