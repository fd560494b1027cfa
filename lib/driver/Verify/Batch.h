//===- Batch.h - sequences drawn at random ----------------------*- C++ -*-===//
#ifndef KVC_LIB_DRIVER_VERIFY_BATCH_H
#define KVC_LIB_DRIVER_VERIFY_BATCH_H

#include "lib/driver/Verify/CompiledSpec.h"
#include "lib/driver/Verify/Random.h"

namespace kvc::verify {

/// Split of decode kernels that run emulated, where batches must be small.
inline constexpr int64_t kEmulatedSplit = 128;

/// What a sequence's numbers look like.
enum class DataKind : uint8_t {
  Normal,     ///< logits of variance about 1, or plain numbers
  Sharp,      ///< eight times that, or as large as a softcap
  Channels,   ///< a few strong channels in K, as models have them
  Uneven,     ///< small tokens and channels in V, small channels in q
  Equal,      ///< one key for all tokens
  Dominant,   ///< one token's logit far above the rest
  Decreasing, ///< logits that fall from -5e4
  Huge,       ///< logits of +-1e4
  Denormal,   ///< K and V of 1e-39 (f16: 1e-6)
  Zero,       ///< nothing but zeros
  InfiniteV,  ///< +inf in some elements of V
  InfiniteK,  ///< a logit of -inf
  Addresses,  ///< q picks one token; V holds its address (N5, ExactValues.h)
  Mean,       ///< q is 0, V are small integers: o is an exact mean (N5)
};
const char *name(DataKind kind);

/// One sequence: K and V of its cached tokens, q of its query tokens, over all
/// heads of the model, each a value of the model's dtype; and the same rows as
/// the reference quantizes them for one store.
struct TestSequence {
  DataKind kind = DataKind::Normal;
  int64_t length = 0, queries = 0;
  std::vector<float> k, v, q; ///< [tokens][heads][dim]
  /// Addresses: the token that each (query token, q head) picks; -1: none can
  /// be told from all others, or there is none. And the tokens' codes.
  std::vector<int32_t> picks, codes;
  /// Per plane of the store: [head][token][rowBytes].
  std::vector<std::vector<uint8_t>> planes;

  /// Position of query token i.
  int64_t position(int64_t i) const { return length - queries + i; }
  reference::QueryPlace place(int64_t i) const {
    return {position(i), length - queries, length,
            constantRowOf(length, queries)};
  }
};

/// Where V is of K: makes K of V, whose channels come again. For sequences
/// whose queries are 0.
void takeKOfV(const CompiledStore &store, TestSequence &sequence);
/// Quantizes k and v into `planes`; v that is of k is first made that.
void quantize(const CompiledStore &store, TestSequence &sequence);

/// A sequence of given size, with its data.
TestSequence makeSequence(const CompiledStore &store, DataKind kind,
                          int64_t length, int64_t queries, Random &random);

/// A batch of sizes that are likely to break something, within a budget that
/// keeps a case at some tens of milliseconds.
std::vector<TestSequence> randomBatch(const CompiledStore &store,
                                      Random &random);
/// The same sizes with data that has exact answers.
std::vector<TestSequence> exactBatch(const CompiledStore &store,
                                     Random &random);
/// Small sequences to stand beside those: NaN and infinities all over.
std::vector<TestSequence> randomNeighbours(const CompiledStore &store,
                                           Random &random);

} // namespace kvc::verify

#endif // KVC_LIB_DRIVER_VERIFY_BATCH_H
