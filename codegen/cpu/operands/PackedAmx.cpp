//===- PackedAmx.cpp - many query rows: products in matrix registers ------===//
//
// A matrix register holds 16 rows of 64 bytes: 16 x 16 f32 of a sum, or of an
// operand 16 x 16 words of two bf16, which count as 16 rows of 32 (left) or as
// 32 rows of 16, two of them in a row of words (right). So
//
//   sT  [token][row]  +=  k [token][words]      *  qT [words][row]
//   acc [row][dim v]  +=  weights [row][words]  *  v [words][dim v]
//
// where only the weights must be turned: the softmax leaves a row of them per
// token. Sums are 2 x 2 registers, the two halves of a block of rows times 32
// tokens or channels, so that each register loaded is multiplied twice.
//
//===----------------------------------------------------------------------===//
#include "codegen/cpu/operands/PackedLimbs.h"
#include "codegen/cpu/operands/PackedSources.h"

using namespace mlir;
using namespace kvc;
using namespace kvc::cpu;
using Pred = arith::CmpFPredicate;

/// Rows of a matrix register, and words in each.
static constexpr int64_t kTileSide = 16;

static bool isMatrix(const Operand &operand) {
  return operand.dot && operand.target.hasMatrix(operand.code, operand.dtype);
}

static OperandCost cost(const Operand &) {
  return {.f32PerProduct = 16, .inMatrixRegisters = true};
}

/// bf16 that a code is the sum of.
static int64_t limbsOf(Type code) { return code.isF16() ? 2 : 1; }

//===----------------------------------------------------------------------===//
// Registers
//===----------------------------------------------------------------------===//

/// Registers: sum [left half][right half], then the operands' halves.
static int64_t sumTile(int64_t left, int64_t right) { return 2 * left + right; }
static int64_t leftTile(int64_t half) { return 4 + half; }
static int64_t rightTile(int64_t half) { return 6 + half; }

void MatrixRegisters::configure() {
  if (!taken)
    return;
  SmallVector<int32_t> words(16, 0);
  words[0] = 1;                                   // palette, first row
  std::fill(&words[4], &words[8], 64 << 16 | 64); // bytes per row, 16 bits each
  std::fill(&words[12], &words[14], 0x10101010);  // rows, 8 bits each
  k.kit.store(k.kit.i32s(words), k.scratchAt(config));
  k.kit.configureTiles(k.scratchAt(config));
}

void MatrixRegisters::release() {
  if (taken)
    k.kit.releaseTiles();
}

namespace {

/// A product of sums of bf16: every pair of limbs but that of the two least.
/// Loads an operand's registers only where the limb is another than before.
class LimbProducts {
public:
  /// Loads both halves of an operand's limb.
  using Load = llvm::function_ref<void(int64_t limb)>;

  static void emit(Kit &kit, int64_t limbsLeft, int64_t limbsRight,
                   int64_t rights, Load loadLeft, Load loadRight) {
    int64_t left = -1, right = -1;
    for (int64_t i = 0; i < limbsLeft; ++i)
      for (int64_t j = 0; j < limbsRight; ++j) {
        if (i && j)
          continue;
        if (left != i)
          loadLeft(left = i);
        if (right != j)
          loadRight(right = j);
        for (int64_t x : {0, 1})
          for (int64_t y = 0; y < rights; ++y)
            kit.dotTiles(sumTile(x, y), leftTile(x), rightTile(y));
      }
  }
};

//===----------------------------------------------------------------------===//
// K
//===----------------------------------------------------------------------===//

class AmxKeys : public PackedKeys {
public:
  explicit AmxKeys(PackedBlocks &blocks)
      : PackedKeys(blocks, llvm::alignTo<kTileSide>(blocks.a.dimK / 2),
                   blocks.k.dtype.isBF16() ? 1 : 2),
        limbs(limbsOf(blocks.a.planK.element)) {
    blocks.registers.take();
  }
  static bool fits(const Operand &operand) { return isMatrix(operand); }

  int64_t packedBytes() const override { return limbs * keyWords() * 4; }
  void loadQueryRow(Value from, StoreFn store) override;
  void initState() override;
  void dot(const TileRows &rows) override;
  /// q that needs no other form keeps its own, unscaled.
  double scoreScale() const override { return queryLimbs > 1 ? 1 : scale; }

private:
  /// Packs the rows of K that exist. Where q is a sum of two, a part of it
  /// times an infinity need not have the sign of the whole: infinities and NaNs
  /// then count as 0, to be added later. Returns whether there is none, null if
  /// all are multiplied as they are.
  Value pack(const TileRows &rows);
  void scoreTiles(Value block);
  void addNonFinite(const TileRows &rows);

  int64_t limbs; ///< of an element of K
};

void AmxKeys::loadQueryRow(Value from, StoreFn store) {
  Type word = kit.b.getI32Type();
  if (queryLimbs == 1)
    return kit.loop(0, a.dimK / 2, 1, [&](Value c) {
      store(kit.load(word, kit.at(from, kit.mul(c, 4))), c, 0);
    });
  kit.loop(0, a.dimK / 2, 1, [&](Value c) {
    Value x = kit.loadAsF32(k.dtype, kit.at(from, kit.mul(c, 4)), 2);
    x = kit.fmul(x, kit.constant(scale, x.getType()));
    for (auto [limb, part] : llvm::enumerate(splitLimbs(kit, x, queryLimbs)))
      store(vector::BitCastOp::create(kit.b, kit.loc, VectorType::get(1, word),
                                      part),
            c, limb);
  });
}

/// Channels that only fill up count as zeros.
void AmxKeys::initState() {
  if (words == a.dimK / 2)
    return;
  Value zero = kit.constant(0, kit.vec(8));
  kit.loop(kit.i64(0), kit.i64(limbs * keyWords()), 8,
           [&](Value i) { kit.store(zero, blocks.element(packed, i)); });
}

Value AmxKeys::pack(const TileRows &rows) {
  NonFiniteFlags flags(blocks);
  bool hide = queryLimbs > 1 && isa<FloatType>(a.planK.element);
  if (hide)
    flags.clear();
  packRows(rows, [&](const ChannelBlock &block, const RowFn &row, Value channel,
                     Value to) {
    Values parts = loadLimbs(kit, a.planK, block, row, channel, limbs);
    if (hide)
      flags.hide(parts);
    Value at = kit.at(to, kit.mul(channel, 2));
    for (auto [limb, x] : llvm::enumerate(parts))
      kit.store(x, kit.at(at, limb * keyWords() * 4));
  });
  return hide ? flags.none() : Value();
}

void AmxKeys::dot(const TileRows &rows) {
  Value finite = pack(rows);
  blocks.forBlocks([&](Value block) { scoreTiles(block); });
  if (finite)
    kit.when(finite, [] {}, [&] { addNonFinite(rows); });
}

/// Scores of a block against all tokens of the tile.
void AmxKeys::scoreTiles(Value block) {
  Value columns =
      blocks.element(query, kit.mul(block, queryLimbs * queryWords()));
  int64_t rowBytes = words * 4, blockBytes = blockRows * 4;
  auto products = [&](Value token, Value word) {
    Value key = blocks.element(packed, kit.add(kit.mul(token, words), word));
    Value column = kit.at(columns, kit.mul(word, blockBytes));
    auto loadKey = [&](int64_t limb) {
      for (int64_t half : {0, 1})
        kit.loadTile(
            leftTile(half),
            kit.at(key, limb * keyWords() * 4 + half * kTileSide * rowBytes),
            rowBytes);
    };
    auto loadQuery = [&](int64_t limb) {
      for (int64_t half : {0, 1})
        kit.loadTile(
            rightTile(half),
            kit.at(column, limb * queryWords() * 4 + half * kTileSide * 4),
            blockBytes);
    };
    LimbProducts::emit(kit, limbs, queryLimbs, 2, loadKey, loadQuery);
  };
  blocks.forTokens(2 * kTileSide, [&](Value token) {
    for (int64_t tile = 0; tile < 4; ++tile)
      kit.zeroTile(tile);
    kit.loop(0, words, kTileSide, [&](Value word) { products(token, word); });
    for (int64_t x : {0, 1})
      for (int64_t y : {0, 1})
        kit.storeTile(sumTile(x, y),
                      kit.at(blocks.score(block, kit.add(token, x * kTileSide)),
                             y * kTileSide * 4),
                      blockBytes);
  });
}

/// Adds q * k for the infinities and NaNs of K, which were packed as 0.
void AmxKeys::addNonFinite(const TileRows &rows) {
  auto add = [&](Value row, Value token, const ChannelBlock &block,
                 Value channel) {
    Value x = a.planK.convertInOrder(block, rows.at(token), channel);
    Value zero = kit.fsub(x, x);
    Value from = kit.at(a.queryRow(row), kit.mul(channel, k.dtypeBytes()));
    Value query = kit.loadAsF32(k.dtype, from, block.channels);
    query = kit.fmul(query, kit.constant(scale, query.getType()));
    Value terms = kit.select(kit.fcmp(Pred::UNO, zero, zero),
                             kit.fmul(query, x), kit.constant(0, x.getType()));
    Value at = kit.at(blocks.score(kit.div(row, blockRows), token),
                      kit.mul(kit.rem(row, blockRows), 4));
    auto plus = [&](Value x, Value y) { return kit.fadd(x, y); };
    kit.store(plus(kit.load(kit.vec(1), at), kit.fold(terms, 1, plus)), at);
  };
  kit.loop(kit.i64(0), a.rows, 1, [&](Value row) {
    kit.loop(kit.i64(0), a.existingRows(rows), 1, [&](Value token) {
      a.planK.forBlocks([&](const ChannelBlock &block, Value channel) {
        add(row, token, block, channel);
      });
    });
  });
}

//===----------------------------------------------------------------------===//
// V
//===----------------------------------------------------------------------===//

class AmxValues : public PackedValues {
public:
  explicit AmxValues(PackedBlocks &blocks)
      : PackedValues(blocks), limbs(limbsOf(a.planV.element)),
        weightLimbs(k.dtype.isBF16() && a.planV.element.isBF16() ? 1 : 2) {
    blocks.registers.take();
  }
  static bool fits(const Operand &operand) { return isMatrix(operand); }

  int64_t width() const override { return llvm::alignTo<kTileSide>(a.dimV); }
  int64_t packedBytes() const override { return limbs * valueWords() * 4; }
  int64_t weightBytes() const override {
    return weightLimbs * a.tileTokens / 2 * blockRows * 4;
  }
  Value pack(const TileRows &rows) override {
    return packTokenPairs(blocks, rows, packed, limbs);
  }
  void accumulate(Value block) override;

private:
  /// Words of one limb of packed V.
  int64_t valueWords() const { return width() * a.tileTokens / 2; }
  void rescale(Value block);
  void transposeWeights(Value block, Value half, Value group);
  void outputTiles(Value block, Value channel, int64_t columns);

  int64_t limbs;       ///< of an element of V
  int64_t weightLimbs; ///< of a weight; V's scales need two, as f16 does
};

void AmxValues::accumulate(Value block) {
  rescale(block);
  kit.loop(0, a.tileTokens / 2 / kTileSide, 1, [&](Value group) {
    kit.loop(0, 2, 1,
             [&](Value half) { transposeWeights(block, half, group); });
  });
  int64_t wide = 2 * kTileSide, done = blocks.widthV / wide * wide;
  kit.loop(0, done, wide,
           [&](Value channel) { outputTiles(block, channel, 2); });
  if (done < blocks.widthV)
    outputTiles(block, kit.i64(done), 1);
}

/// acc = alpha * acc, unless all of the block's largest scores stayed.
void AmxValues::rescale(Value block) {
  Value factors =
      kit.load(kit.vec(blockRows), blocks.perRow(blocks.alpha, block));
  Value moved = kit.fcmp(arith::CmpFPredicate::UNE, factors,
                         kit.constant(1, factors.getType()));
  Value any = vector::ReductionOp::create(kit.b, kit.loc,
                                          vector::CombiningKind::OR, moved);
  kit.when(any, [&] {
    kit.loop(0, blockRows, 1, [&](Value row) {
      Value factor =
          kit.load(kit.f32(),
                   kit.at(blocks.perRow(blocks.alpha, block), kit.mul(row, 4)));
      Value wide = kit.splat(factor, kit.lanes);
      kit.loop(0, blocks.widthV, kit.lanes, [&](Value channel) {
        Value at = blocks.accumulator(block, row, channel);
        kit.store(kit.fmul(kit.load(wide.getType(), at), wide), at);
      });
    });
  });
}

/// Stores 16 vectors of 16 words turned: word j of vector i becomes word i of
/// row j at `to`. Two levels of shuffles bring four rows' words together, the
/// stores do the rest: shuffles are what there is least of.
void storeTransposed(Kit &kit, ArrayRef<Value> vectors, Value to,
                     int64_t rowBytes) {
  // Within 128 bits, words or pairs of words of two vectors interleave.
  auto interleave = [&](Value x, Value y, int64_t words, int64_t high) {
    SmallVector<int64_t> lanes;
    for (int64_t block = 0; block < 16; block += 4)
      for (int64_t unit = 0; unit < 4 / words; ++unit)
        for (int64_t word = 0; word < words; ++word)
          lanes.push_back(unit % 2 * 16 + block + high * 2 + unit / 2 * words +
                          word);
    return kit.shuffle(x, y, lanes);
  };
  for (int64_t g = 0; g < 16; g += 4)
    for (int64_t high : {0, 1}) {
      Value x = interleave(vectors[g], vectors[g + 1], 1, high);
      Value y = interleave(vectors[g + 2], vectors[g + 3], 1, high);
      for (int64_t odd : {0, 1}) {
        // Block b: word 4 b + 2 high + odd of the four vectors.
        Value turned = interleave(x, y, 2, odd);
        for (int64_t b = 0; b < 4; ++b) {
          auto lanes = llvm::to_vector(llvm::seq(4 * b, 4 * b + 4));
          kit.store(kit.shuffle(turned, turned, lanes),
                    kit.at(to, (4 * b + 2 * high + odd) * rowBytes + g * 4));
        }
      }
    }
}

/// Weights [limb][row][token / 2] of 16 rows of a block and 32 tokens.
void AmxValues::transposeWeights(Value block, Value half, Value group) {
  Value first = kit.mul(group, 2 * kTileSide), row = kit.mul(half, kTileSide);
  SmallVector<Values> turned(weightLimbs);
  for (int64_t pair = 0; pair < kTileSide; ++pair) {
    Value x[2];
    for (int64_t i : {0, 1}) {
      Value token = kit.add(first, 2 * pair + i);
      x[i] = blocks.weight(kit.at(blocks.score(block, token), kit.mul(row, 4)),
                           token, kTileSide);
    }
    for (auto [limb, words] :
         llvm::enumerate(pairWeights(kit, x[0], x[1], weightLimbs)))
      turned[limb].push_back(words);
  }
  int64_t rowWords = a.tileTokens / 2;
  Value to = blocks.element(
      weights, kit.add(kit.mul(row, rowWords), kit.mul(group, kTileSide)));
  for (auto [limb, vectors] : llvm::enumerate(turned))
    storeTransposed(kit, vectors,
                    kit.at(to, int64_t(limb) * blockRows * rowWords * 4),
                    rowWords * 4);
}

/// acc += weights * v for all rows of the block and `columns` registers of
/// channels.
void AmxValues::outputTiles(Value block, Value channel, int64_t columns) {
  int64_t rowBytes = a.tileTokens / 2 * 4, widthBytes = blocks.widthV * 4;
  auto forSums = [&](auto body) {
    for (int64_t x : {0, 1})
      for (int64_t y = 0; y < columns; ++y)
        body(sumTile(x, y),
             kit.at(blocks.accumulator(block, kit.i64(x * kTileSide), channel),
                    y * kTileSide * 4));
  };
  forSums([&](int64_t tile, Value at) { kit.loadTile(tile, at, widthBytes); });
  kit.loop(0, a.tileTokens / 2, kTileSide, [&](Value word) {
    auto loadWeights = [&](int64_t limb) {
      for (int64_t half : {0, 1})
        kit.loadTile(leftTile(half),
                     kit.at(blocks.element(weights, word),
                            (limb * blockRows + half * kTileSide) * rowBytes),
                     rowBytes);
    };
    auto loadValues = [&](int64_t limb) {
      Value from = blocks.element(
          packed, kit.add(kit.mul(word, blocks.widthV), channel));
      for (int64_t y = 0; y < columns; ++y)
        kit.loadTile(rightTile(y),
                     kit.at(from, limb * valueWords() * 4 + y * kTileSide * 4),
                     widthBytes);
    };
    LimbProducts::emit(kit, weightLimbs, limbs, columns, loadWeights,
                       loadValues);
  });
  forSums([&](int64_t tile, Value at) { kit.storeTile(tile, at, widthBytes); });
}

} // namespace

const OperandSource<PackedKeys> kvc::cpu::packedAmxKeys =
    operandSource<PackedKeys, AmxKeys>(cost);
const OperandSource<PackedValues> kvc::cpu::packedAmxValues =
    operandSource<PackedValues, AmxValues>(cost);
