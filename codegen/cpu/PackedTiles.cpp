//===- PackedTiles.cpp - many query rows: products in matrix registers ----===//
//
// A matrix register holds 16 rows of 64 bytes: 16 x 16 f32 of a sum, or of an
// operand 16 x 16 words of two bf16, which count as 16 rows of 32 (left) or as
// 32 rows of 16, two of them in a row of words (right). So
//
//   sT  [token][row]  +=  kRows [token][words]  *  qT [words][row]
//   acc [row][dim v]  +=  p [row][words]        *  vPairs [words][dim v]
//
// where only p must be turned: the softmax leaves a row of weights per token.
// Sums are 2 x 2 registers, the two halves of a block of rows times 32 tokens
// or channels, so that each register loaded is multiplied twice.
//
//===----------------------------------------------------------------------===//
#include "codegen/cpu/PackedMainloop.h"

using namespace mlir;
using namespace kvc;
using namespace kvc::cpu;

/// Registers: sum [left half][right half], then the operands' halves.
static int64_t sumTile(int64_t left, int64_t right) { return 2 * left + right; }
static int64_t leftTile(int64_t half) { return 4 + half; }
static int64_t rightTile(int64_t half) { return 6 + half; }

/// All eight registers with 16 rows of 64 bytes (palette 1).
void PackedMainloop::configureTiles() {
  SmallVector<int32_t> words(16, 0);
  words[0] = 1;                                   // palette, first row
  std::fill(&words[4], &words[8], 64 << 16 | 64); // bytes per row, 16 bits each
  std::fill(&words[12], &words[14], 0x10101010);  // rows, 8 bits each
  kit.store(kit.i32s(words), k.scratchAt(config));
  kit.configureTiles(k.scratchAt(config));
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

} // namespace

/// Scores of a block against all tokens of the tile.
void PackedMainloop::scoreTiles(Value block) {
  Value columns = element(qT, kit.mul(block, limbsQ * queryWords()));
  int64_t rowBytes = wordsK * 4, blockBytes = blockRows * 4;
  auto products = [&](Value token, Value word) {
    Value key = element(kRows, kit.add(kit.mul(token, wordsK), word));
    Value query = kit.at(columns, kit.mul(word, blockBytes));
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
            kit.at(query, limb * queryWords() * 4 + half * kTileSide * 4),
            blockBytes);
    };
    LimbProducts::emit(kit, limbsK, limbsQ, 2, loadKey, loadQuery);
  };
  forTokens(2 * kTileSide, [&](Value token) {
    for (int64_t tile = 0; tile < 4; ++tile)
      kit.zeroTile(tile);
    kit.loop(0, wordsK, kTileSide, [&](Value word) { products(token, word); });
    for (int64_t x : {0, 1})
      for (int64_t y : {0, 1})
        kit.storeTile(sumTile(x, y),
                      kit.at(score(block, kit.add(token, x * kTileSide)),
                             y * kTileSide * 4),
                      blockBytes);
  });
}

/// acc = alpha * acc, unless all of the block's largest scores stayed.
void PackedMainloop::rescale(Value block) {
  Value factors = kit.load(kit.vec(blockRows), perRow(alpha, block));
  Value moved = kit.fcmp(arith::CmpFPredicate::UNE, factors,
                         kit.constant(1, factors.getType()));
  Value any = vector::ReductionOp::create(kit.b, kit.loc,
                                          vector::CombiningKind::OR, moved);
  kit.when(any, [&] {
    kit.loop(0, blockRows, 1, [&](Value row) {
      Value factor =
          kit.load(kit.f32(), kit.at(perRow(alpha, block), kit.mul(row, 4)));
      Value wide = kit.splat(factor, kit.lanes);
      kit.loop(0, widthV, kit.lanes, [&](Value channel) {
        Value at = accumulator(block, row, channel);
        kit.store(kit.fmul(kit.load(wide.getType(), at), wide), at);
      });
    });
  });
}

/// Stores 16 vectors of 16 words turned: word j of vector i becomes word i of
/// row j at `to`. Two levels of shuffles bring four rows' words together, the
/// stores do the rest: shuffles are what there is least of.
static void storeTransposed(Kit &kit, ArrayRef<Value> vectors, Value to,
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

/// p [limb][row][token / 2] of 16 rows of a block and 32 tokens.
void PackedMainloop::transposeWeights(Value block, Value half, Value group) {
  Value first = kit.mul(group, 2 * kTileSide), row = kit.mul(half, kTileSide);
  SmallVector<Values> limbs(limbsP);
  for (int64_t pair = 0; pair < kTileSide; ++pair) {
    Value x[2];
    for (int64_t i : {0, 1}) {
      Value token = kit.add(first, 2 * pair + i);
      x[i] = weight(kit.at(score(block, token), kit.mul(row, 4)), token,
                    kTileSide);
    }
    for (auto [limb, words] : llvm::enumerate(pairWeights(x[0], x[1], limbsP)))
      limbs[limb].push_back(words);
  }
  int64_t rowWords = a.tileTokens / 2;
  Value to =
      element(p, kit.add(kit.mul(row, rowWords), kit.mul(group, kTileSide)));
  for (auto [limb, vectors] : llvm::enumerate(limbs))
    storeTransposed(kit, vectors,
                    kit.at(to, int64_t(limb) * blockRows * rowWords * 4),
                    rowWords * 4);
}

void PackedMainloop::accumulateTiles(Value block) {
  rescale(block);
  kit.loop(0, a.tileTokens / 2 / kTileSide, 1, [&](Value group) {
    kit.loop(0, 2, 1,
             [&](Value half) { transposeWeights(block, half, group); });
  });
  int64_t wide = 2 * kTileSide, done = widthV / wide * wide;
  kit.loop(0, done, wide,
           [&](Value channel) { outputTiles(block, channel, 2); });
  if (done < widthV)
    outputTiles(block, kit.i64(done), 1);
}

/// acc += p * v for all rows of the block and `columns` registers of channels.
void PackedMainloop::outputTiles(Value block, Value channel, int64_t columns) {
  int64_t rowBytes = a.tileTokens / 2 * 4, widthBytes = widthV * 4;
  auto forSums = [&](auto body) {
    for (int64_t x : {0, 1})
      for (int64_t y = 0; y < columns; ++y)
        body(sumTile(x, y),
             kit.at(accumulator(block, kit.i64(x * kTileSide), channel),
                    y * kTileSide * 4));
  };
  forSums([&](int64_t tile, Value at) { kit.loadTile(tile, at, widthBytes); });
  kit.loop(0, a.tileTokens / 2, kTileSide, [&](Value word) {
    auto loadWeights = [&](int64_t limb) {
      for (int64_t half : {0, 1})
        kit.loadTile(leftTile(half),
                     kit.at(element(p, word),
                            (limb * blockRows + half * kTileSide) * rowBytes),
                     rowBytes);
    };
    auto loadValues = [&](int64_t limb) {
      Value from = element(vPairs, kit.add(kit.mul(word, widthV), channel));
      for (int64_t y = 0; y < columns; ++y)
        kit.loadTile(rightTile(y),
                     kit.at(from, limb * valueWords() * 4 + y * kTileSide * 4),
                     widthBytes);
    };
    LimbProducts::emit(kit, limbsP, limbsV, columns, loadWeights, loadValues);
  });
  forSums([&](int64_t tile, Value at) { kit.storeTile(tile, at, widthBytes); });
}
