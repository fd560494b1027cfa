//===- CacheCheck.h - kernels through a kvc_cache ---------------*- C++ -*-===//
#ifndef KVC_LIB_DRIVER_VERIFY_CACHECHECK_H
#define KVC_LIB_DRIVER_VERIFY_CACHECHECK_H

#include "lib/driver/Verify/BoundCheck.h"
#include "lib/driver/Verify/ConstantArrays.h"

namespace kvc::verify {

/// A kvc_cache in an arena of the harness, whose bytes were all poison.
class ArenaCache {
public:
  struct Limits {
    uint32_t sequences = 1, stepTokens = 1, tokens = 1; ///< tokens: of each
    bool tight = false;    ///< no pages beyond those, as they are many
    uint32_t rollback = 0; ///< tokens that are there to be truncated
  };
  /// The cache of a compiled spec's program on `device`, with pages for all
  /// that `limits` allow; null, and "setup" reported, if it could not be made.
  static std::unique_ptr<ArenaCache> create(const CompiledSpec &compiledSpec,
                                            unsigned device,
                                            const Limits &limits,
                                            Random &random, Report &report);
  ~ArenaCache() {
    if (cache)
      kvc_cache_destroy(cache);
  }

  /// Whether `status` is fine; otherwise reports what `call` did.
  static bool ok(kvc_status status, const char *call, Report &report);

  /// For a step of sequences that have these rows of constants.
  void setConstantRows(llvm::ArrayRef<int64_t> rows, Lent &lent);

  kvc_cache *cache = nullptr;

private:
  ArenaCache() = default;
  Buffer arena;
  std::vector<ConstantArrays> constants; ///< by store
};

/// The rows that kvc_cache_attend wrote for one store and one sequence:
/// [first, first + sequence.queries) of `o` and `lse`, dense over all heads.
SequenceOutput outputOf(const CompiledStore &store,
                        const TestSequence &sequence, int64_t first,
                        llvm::ArrayRef<uint8_t> o, llvm::ArrayRef<float> lse);

/// Random steps of several sequences: chunks, drafts that are partly accepted,
/// steps that are abandoned, sequences that end and others that take their
/// pages. Every attend is judged against float64 and must be, bit for bit, what
/// kvc_attend gives on the harness's own pages. In some cases one sequence
/// begins with as many tokens, appended and not attended over, as bring it next
/// to a split or a window of some store; of kShares cases of a spec, two do.
Report checkCache(const CompiledSpec &compiledSpec, uint64_t seed,
                  uint64_t index, Visits visits);

} // namespace kvc::verify

#endif // KVC_LIB_DRIVER_VERIFY_CACHECHECK_H
