//===- AttendMmaHalves.cpp - operands of 16-bit elements ------------------===//
#include "codegen/nvptx/AttendMmaHalves.h"

using namespace mlir;
using namespace kvc;
using namespace kvc::nvptx;

const HalfFormat kvc::nvptx::kBF16Halves{
    [](MLIRContext *context) -> Type { return BFloat16Type::get(context); },
    Ptx::MmaBF16, Ptx::CvtBF16x2, 0x7f80, 0x3f803f80};
const HalfFormat kvc::nvptx::kF16Halves{
    [](MLIRContext *context) -> Type { return Float16Type::get(context); },
    Ptx::MmaF16, Ptx::CvtF16x2, 0x7c00, 0x3c003c00};

//===----------------------------------------------------------------------===//
// K
//===----------------------------------------------------------------------===//

Values kvc::nvptx::unpackHalves(Kit &kit, Value word, Type type) {
  // bf16 is the upper half of an f32.
  if (type.isBF16())
    return {kit.bitcast(kit.shl(word, 16), kit.f32()),
            kit.bitcast(kit.and_(word, -65536), kit.f32())};
  Value pair = kit.bitcast(word, kit.vec(2, type));
  Values elements;
  for (int64_t i : {0, 1})
    elements.push_back(arith::ExtFOp::create(kit.b, kit.kernel, kit.f32(),
                                             kit.extract(pair, i)));
  return elements;
}

Value kvc::nvptx::largestSize(Kit &kit, const Values &words, Type type) {
  Value largest = kit.i32(0);
  for (Value word : words)
    for (Value bits : {word, kit.shr(word, 16)})
      largest = kit.max(largest, kit.and_(bits, 0x7fff));
  for (int64_t mask : {1, 2})
    largest = kit.max(largest, kit.shflXor(largest, mask));
  return kit.bitcast(unpackHalves(kit, largest, type).front(), kit.i32());
}

Value kvc::nvptx::powerOfTwo(Kit &kit, Value exponent) {
  return kit.bitcast(kit.shl(kit.add(exponent, 127), 23), kit.f32());
}

Value HalvesK::channelOf(int64_t half, Value threadInGroup) {
  return kit.add(kit.mul(threadInGroup, 2), 8 * half);
}

/// bf16 becomes f16, where codes do, by a power of two for each row that brings
/// its largest element below 2: of the others only those 2^24 times smaller are
/// lost. An element that is no number stays one, and its row is lost anyway.
OperandSourceK::Query HalvesK::query(Value row, Value threadInGroup) {
  Query query;
  for (int64_t kStep = 0; kStep < kSteps(); ++kStep)
    for (int64_t half = 0; half < 2; ++half)
      query.words.push_back(
          queryPair(row, channelOf(half, threadInGroup), 16 * kStep));
  if (!scalesQuery())
    return query;
  Value largest = largestSize(kit, query.words, a.k.dtype);
  Value exponent = kit.sub(kit.shr(largest, 23), kit.i32(127));
  exponent = kit.max(kit.min(exponent, kit.i32(126)), kit.i32(-126));
  Value down = powerOfTwo(kit, kit.sub(kit.i32(0), exponent));
  for (Value &word : query.words) {
    Values pair = unpackHalves(kit, word, a.k.dtype);
    word = kit.op1(format.convert,
                   {kit.fmul(pair[1], down), kit.fmul(pair[0], down)});
  }
  query.factor = powerOfTwo(kit, exponent);
  return query;
}

SmallVector<Fragment, 2> HalvesK::loadInM(const Step &step, int64_t tile,
                                          int64_t load) {
  Values r = loadMatricesInM(step, tile, load);
  int64_t parts = partsOfWord(), perLoad = kStepsOf(kLoadBytesInM);
  SmallVector<Fragment, 2> fragments;
  for (int64_t i = 0; i < perLoad && load * perLoad + i < kSteps(); ++i) {
    Fragment &words = fragments.emplace_back();
    for (int64_t part : {2 * i, 2 * i + 1}) // of 16 bytes, then of the next
      for (int64_t tokens : {0, 1})
        words.push_back(elements(r[part / parts * 2 + tokens], part % parts));
  }
  return fragments;
}

Values HalvesK::loadInN(const Step &step, int64_t tile, int64_t load) {
  Values words;
  for (Value codes : loadMatricesInN(step, tile, load))
    for (int64_t part = 0; part < partsOfWord(); ++part)
      words.push_back(elements(codes, part));
  return words;
}

//===----------------------------------------------------------------------===//
// V
//===----------------------------------------------------------------------===//

Value HalvesV::channelInM(int64_t slot, Value groupId) {
  return kit.add(groupId, 8 * (slot % 2));
}

Value HalvesV::channelInN(int64_t slot, Value threadInGroup) {
  return kit.add(kit.mul(threadInGroup, 2), 8 * (slot / 2 % 2) + slot % 2);
}

ArrayRef<int64_t> HalvesV::neighboursInM() const {
  static constexpr int64_t kOne[] = {0};
  return kOne;
}

ArrayRef<int64_t> HalvesV::neighboursInN() const {
  static constexpr int64_t kTwo[] = {0, 1};
  return kTwo;
}

/// Part 1 is what rounding took from part 0.
Value HalvesV::packP(Value low, Value high, int64_t part) {
  Value word = kit.op1(format.convert, {high, low});
  if (part == 0)
    return word;
  Type type = format.type(kit.b.getContext());
  Value halves = kit.bitcast(word, kit.vec(2, type));
  auto lost = [&](Value x, int64_t i) {
    Value kept = arith::ExtFOp::create(kit.b, kit.kernel, kit.f32(),
                                       kit.extract(halves, i));
    return kit.fsub(x, kept);
  };
  return kit.op1(format.convert, {lost(high, 1), lost(low, 0)});
}

SmallVector<Fragment, 2> HalvesV::loadInM(const Step &step, int64_t block,
                                          int64_t load) {
  // Matrices: 16 bytes of tokens 0-7, the next 16, both of tokens 8-15.
  int64_t offset =
      step.v.offset + block * 16 * a.strideV + load * kLoadBytesInM;
  Value token = kit.add(kit.rem(a.lane, 8), kit.mul(kit.div(a.lane, 16), 8));
  Value half = kit.rem(kit.div(a.lane, 8), 2);
  Value own = kit.add(kit.mul(token, a.strideV), kit.mul(half, 16));
  Values r = kit.op(Ptx::LdMatrixX4Trans, kit.add(step.v.base, own), offset);
  return {{r[0], r[1], r[2], r[3]}};
}

Values HalvesV::loadInN(const Step &step, int64_t block, int64_t chunk) {
  // Matrices: tokens 0-7 and 8-15 of 16 bytes, then of the next 16.
  Value own = kit.mul(kit.rem(a.lane, 16), a.strideV);
  own = kit.add(own, kit.mul(kit.div(a.lane, 16), 16));
  return kit.op(Ptx::LdMatrixX4Trans, kit.add(step.v.base, own),
                step.v.offset + block * 16 * a.strideV + chunk * 32);
}

Value HalvesV::element(Shared row, Value channel, int64_t first) {
  Value from = kit.add(row.base, kit.mul(channel, 2));
  Type i16 = kit.b.getI16Type();
  Value bits = kit.loadShared(i16, {from, row.offset + first * 2});
  bits = arith::TruncIOp::create(kit.b, kit.kernel, i16, bits);
  Type type = format.type(kit.b.getContext());
  Value x = LLVM::BitcastOp::create(kit.b, kit.kernel, type, bits);
  return arith::ExtFOp::create(kit.b, kit.kernel, kit.f32(), x);
}

//===----------------------------------------------------------------------===//
// Codes that are such elements
//===----------------------------------------------------------------------===//

const OperandEntry<OperandSourceK> kvc::nvptx::kBF16K{
    kBF16Halves.type, /*takes=*/nullptr, /*cost=*/nullptr,
    [](AttendKernel &a) -> std::unique_ptr<OperandSourceK> {
      return std::make_unique<HalvesK>(a, kBF16Halves);
    }};
const OperandEntry<OperandSourceK> kvc::nvptx::kF16K{
    kF16Halves.type, /*takes=*/nullptr, /*cost=*/nullptr,
    [](AttendKernel &a) -> std::unique_ptr<OperandSourceK> {
      return std::make_unique<HalvesK>(a, kF16Halves);
    }};
const OperandEntry<OperandSourceV> kvc::nvptx::kBF16V{
    kBF16Halves.type, /*takes=*/nullptr, /*cost=*/nullptr,
    [](AttendKernel &a) -> std::unique_ptr<OperandSourceV> {
      return std::make_unique<HalvesV>(a, kBF16Halves);
    }};
const OperandEntry<OperandSourceV> kvc::nvptx::kF16V{
    kF16Halves.type, /*takes=*/nullptr, /*cost=*/nullptr,
    [](AttendKernel &a) -> std::unique_ptr<OperandSourceV> {
      return std::make_unique<HalvesV>(a, kF16Halves);
    }};
