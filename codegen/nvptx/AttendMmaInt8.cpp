//===- AttendMmaInt8.cpp - operands of int8 codes as f16 ------------------===//
//
// f16 holds int8 exactly. One load of 16-bit units brings two neighbouring
// codes where one 16-bit code would be: channels (K) or rows of the output (V)
// then come in another order, which q and the stores follow, so that no element
// moves between lanes.
//
//===----------------------------------------------------------------------===//
#include "codegen/nvptx/AttendMmaHalves.h"

using namespace mlir;
using namespace kvc;
using namespace kvc::nvptx;

/// What biased elements are larger by.
static constexpr double kBias = 1024 + 128;

/// Two codes of a word as f16, kBias more: x + 128 are the low bits of 1024 +
/// 128 + x.
static Value biasedHalves(Kit &kit, Value codes, int64_t selector) {
  Value shifted = kit.xor_(codes, kit.i32(int32_t(0x80808080)));
  return kit.op1(Ptx::Prmt, {shifted, kit.i32(0x64646464), kit.i32(selector)});
}

static Value exactHalves(Kit &kit, Value codes, int64_t selector) {
  return kit.op1(Ptx::SubF16x2,
                 {biasedHalves(kit, codes, selector), kit.i32(0x64806480)});
}

static Type int8Type(MLIRContext *context) {
  return IntegerType::get(context, 8);
}

/// Five instructions make two words of one.
static constexpr double kInstructionsPerWord = 2.5;

namespace {

//===----------------------------------------------------------------------===//
// K
//===----------------------------------------------------------------------===//

class Int8K : public HalvesK {
public:
  explicit Int8K(AttendKernel &a) : HalvesK(a, kF16Halves) {}

  /// Of more, registers do not hold the bytes and what becomes of them.
  int64_t tilesAtATime() const override { return 2; }

protected:
  Value elements(Value codes, int64_t part) override {
    return exactHalves(kit, codes, part ? 0x4342 : 0x4140);
  }
  Value channelOf(int64_t half, Value threadInGroup) override {
    return kit.add(kit.mul(threadInGroup, 4), 2 * half);
  }
};

//===----------------------------------------------------------------------===//
// V
//===----------------------------------------------------------------------===//

class Int8V : public HalvesV {
public:
  explicit Int8V(AttendKernel &a)
      : HalvesV(a, kF16Halves), splitPHiLo(a.body.scalesV && a.k.dtype.isF16()),
        biased(!a.warpsSplitQ && !splitPHiLo) {}

  Value channelInM(int64_t slot, Value groupId) override {
    return kit.add(kit.mul(groupId, 2), slot % 2);
  }
  /// Of 16, even ones before odd ones.
  Value channelInN(int64_t slot, Value threadInGroup) override {
    return kit.add(kit.mul(threadInGroup, 4), 2 * (slot % 2) + slot / 2 % 2);
  }
  ArrayRef<int64_t> neighboursInM() const override {
    static constexpr int64_t kTwo[] = {0, 1};
    return kTwo;
  }
  ArrayRef<int64_t> neighboursInN() const override {
    static constexpr int64_t kFour[] = {0, 2, 1, 3};
    return kFour;
  }
  int64_t partsP() const override { return splitPHiLo ? 2 : 1; }
  SmallVector<Fragment, 2> loadInM(const Step &step, int64_t block,
                                   int64_t load) override;
  Values loadInN(const Step &step, int64_t block, int64_t chunk) override;
  std::optional<Bias> bias() const override {
    return biased ? std::optional<Bias>({kBias, format.ones}) : std::nullopt;
  }
  int64_t nonFiniteBits() const override { return 0; }

private:
  /// Of a word with two channels of token 2t and the same two of token 2t + 1,
  /// both tokens' elements of one channel.
  Value elements(Value codes, int64_t channel) {
    int64_t selector = channel ? 0x4341 : 0x4240;
    return biased ? biasedHalves(kit, codes, selector)
                  : exactHalves(kit, codes, selector);
  }

  /// P times the scales of V is given as the sum of two f16: one would round
  /// more than an f16 model's own arithmetic.
  const bool splitPHiLo;
  /// Codes are multiplied with the bias that made them f16, which is then taken
  /// from the sum of a step: exact enough for a bf16 model, and worth it for
  /// few rows.
  const bool biased;
};

} // namespace

SmallVector<Fragment, 2> Int8V::loadInM(const Step &step, int64_t block,
                                        int64_t load) {
  // Matrices: tokens 0-7 and 8-15 of 16 bytes, then of the next 16.
  int64_t offset =
      step.v.offset + block * 16 * a.strideV + load * kLoadBytesInM;
  Value own = kit.add(kit.mul(kit.rem(a.lane, 16), a.strideV),
                      kit.mul(kit.div(a.lane, 16), 16));
  Values r = kit.op(Ptx::LdMatrixX4Trans, kit.add(step.v.base, own), offset);
  SmallVector<Fragment, 2> fragments;
  for (int64_t tile = 0; tile < 2 && (2 * load + tile) * 16 < a.dimV; ++tile) {
    Value early = r[2 * tile], late = r[2 * tile + 1];
    fragments.push_back({elements(early, 0), elements(early, 1),
                         elements(late, 0), elements(late, 1)});
  }
  return fragments;
}

Values Int8V::loadInN(const Step &step, int64_t block, int64_t chunk) {
  // Matrices: tokens 0-7 and 8-15.
  Value own = kit.mul(kit.rem(a.lane, 16), a.strideV);
  Values r = kit.op(Ptx::LdMatrixX2Trans, kit.add(step.v.base, own),
                    step.v.offset + block * 16 * a.strideV + chunk * 16);
  return {elements(r[0], 0), elements(r[1], 0), elements(r[0], 1),
          elements(r[1], 1)};
}

const OperandEntry<OperandSourceK> kvc::nvptx::kInt8K{
    int8Type, /*takes=*/nullptr,
    [](const Workload &) -> OperandCost {
      return {.instructionsPerWord = kInstructionsPerWord};
    },
    [](AttendKernel &a) -> std::unique_ptr<OperandSourceK> {
      return std::make_unique<Int8K>(a);
    }};
const OperandEntry<OperandSourceV> kvc::nvptx::kInt8V{
    int8Type, /*takes=*/nullptr,
    [](const Workload &workload) -> OperandCost {
      // Probabilities of an f16 model are sums of two.
      return {.productsPerTile = workload.dtype.isF16() ? 2.0 : 1.0,
              .instructionsPerWord = kInstructionsPerWord};
    },
    [](AttendKernel &a) -> std::unique_ptr<OperandSourceV> {
      return std::make_unique<Int8V>(a);
    }};
