//===- AttendMmaInt8InBytes.cpp - int8 K by q in bytes --------------------===//
//
// int8 K as it is, with q in fixed point of three bytes: for few rows more
// products cost less than converting K.
//
//===----------------------------------------------------------------------===//
#include "codegen/nvptx/AttendMmaHalves.h"

#include <cmath>

using namespace mlir;
using namespace kvc;
using namespace kvc::nvptx;

/// Bytes of an element of q.
static constexpr int64_t kQueryParts = 3;

/// Bits of q in fixed point, the sign apart. Products of the upper two bytes
/// and codes, summed over up to 1024 channels, fit 32 bits. Fewer bits would
/// not do for a row with an element that is a thousand times the others.
static constexpr int64_t kQueryBits = 22;

/// Channels for whose q in bytes there are registers.
static constexpr int64_t kMaxChannels = 192;

namespace {

class Int8InBytesK : public OperandSourceK {
public:
  using OperandSourceK::OperandSourceK;

  int64_t productChannels() const override { return 32; }
  int64_t parts() const override { return kQueryParts; }
  Ptx product(int64_t part) const override {
    return part ? Ptx::MmaS8U8 : Ptx::MmaS8S8;
  }
  Value zero() override { return kit.i32(0); }
  Values joined(const Values &sums) override;
  Query query(Value row, Value threadInGroup) override;
  bool scalesQuery() const override { return true; }
  SmallVector<Fragment, 2> loadInM(const Step &step, int64_t tile,
                                   int64_t load) override {
    Values r = loadMatricesInM(step, tile, load);
    return {{r[0], r[1], r[2], r[3]}};
  }
  Values loadInN(const Step &, int64_t, int64_t) override {
    llvm_unreachable("sums of several parts are for tokens in M");
  }
};

} // namespace

Values Int8InBytesK::joined(const Values &sums) {
  auto convert = [&](Value x) -> Value {
    return arith::SIToFPOp::create(kit.b, kit.kernel, kit.f32(), x);
  };
  Values scores;
  size_t count = sums.size() / kQueryParts;
  for (size_t i = 0; i < count; ++i) {
    Value upper = convert(kit.add(kit.shl(sums[i], 8), sums[count + i]));
    Value lower = convert(sums[2 * count + i]);
    scores.push_back(kit.fma(upper, kit.f32(256), lower));
  }
  return scores;
}

/// In fixed point, by a power of two for each row, in bytes: the upper one with
/// a sign, then those without. A word holds four channels, those that meet the
/// codes of the first (half 0) or second 16 channels of a product's 32. A row
/// with an element that is no number becomes NaN by its factor.
OperandSourceK::Query Int8InBytesK::query(Value row, Value threadInGroup) {
  int64_t words = 2 * kSteps(); // of a part
  Values pairs;                 // [words][2]
  for (int64_t first = 0; first < 16 * words; first += 16)
    for (int64_t pair = 0; pair < 2; ++pair)
      pairs.push_back(
          queryPair(row, kit.add(kit.mul(threadInGroup, 4), 2 * pair), first));
  Value largest = largestSize(kit, pairs, a.k.dtype);
  Value exponent = kit.sub(kit.shr(largest, 23), kit.i32(126));
  // So that 2^bits / 2^exponent is a number: smaller rows have fewer bits.
  exponent = kit.max(kit.min(exponent, kit.i32(128)), kit.i32(-100));
  Value up = powerOfTwo(kit, kit.sub(kit.i32(kQueryBits), exponent));
  Query query;
  query.words.resize(kQueryParts * words);
  for (int64_t i = 0; i < words; ++i) {
    Values x = unpackHalves(kit, pairs[2 * i], a.k.dtype);
    x.append(unpackHalves(kit, pairs[2 * i + 1], a.k.dtype));
    // Adding 1.5 * 2^23 rounds to integers.
    for (Value &element : x)
      element = kit.sub(
          kit.bitcast(kit.fma(element, up, kit.f32(0x1.8p23)), kit.i32()),
          kit.i32(0x4b400000));
    for (int64_t part = 0; part < kQueryParts; ++part) {
      int64_t byte = kQueryParts - 1 - part;
      Value selector = kit.i32((4 + byte) << 4 | byte);
      Value low = kit.op1(Ptx::Prmt, {x[0], x[1], selector});
      Value high = kit.op1(Ptx::Prmt, {x[2], x[3], selector});
      query.words[part * words + i] =
          kit.op1(Ptx::Prmt, {low, high, kit.i32(0x5410)});
    }
  }
  Value down = powerOfTwo(kit, kit.sub(exponent, kit.i32(kQueryBits)));
  Value finite = kit.less(largest, kit.i32(0x7f800000));
  query.factor = kit.select(finite, down, kit.f32(NAN));
  return query;
}

const OperandEntry<OperandSourceK> kvc::nvptx::kInt8InBytesK{
    [](MLIRContext *context) -> Type { return IntegerType::get(context, 8); },
    [](const Workload &workload, const WarpSchedule &schedule) {
      return schedule.queryBytes && !schedule.warpsSplitQ &&
             workload.k.dim <= kMaxChannels;
    },
    [](const Workload &) -> OperandCost {
      // A product takes 32 channels. Sums become a score by four instructions.
      return {.productsPerTile = kQueryParts / 2.0,
              .wordsPerTile = 2,
              .instructionsPerScore = 4,
              .queryElementBytes = kQueryParts};
    },
    [](AttendKernel &a) -> std::unique_ptr<OperandSourceK> {
      return std::make_unique<Int8InBytesK>(a);
    }};
