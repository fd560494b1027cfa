//===- BenchCase.h - one kernel call on cold memory -------------*- C++ -*-===//
#ifndef KVC_TOOLS_KVC_BENCHCASE_H
#define KVC_TOOLS_KVC_BENCHCASE_H

#include "kvc/runtime.h"
#include "lib/base/Artifact/Manifest.h"
#include "lib/driver/Explain/TokenCounter.h"
#include "tools/kvc/BenchMemory.h"

#include <memory>
#include <string>

namespace kvc::bench {

struct Release {
  void operator()(kvc_device *device) const { kvc_device_release(device); }
  void operator()(kvc_program *program) const { kvc_program_release(program); }
  void operator()(kvc_cache *cache) const { kvc_cache_destroy(cache); }
};
using Program = std::unique_ptr<kvc_program, Release>;

/// Loads an artifact on a CPU device of its own, with the runtime's loader if
/// `loader` is null; null if the runtime refuses (kvc_error_text() says why).
Program load(const std::vector<uint8_t> &artifact, unsigned threads,
             const kvc_code_loader *loader);

enum class Op : uint8_t { Decode, Prefill, Append };

/// The sizes of a call.
struct Shape {
  unsigned context = 0; ///< cached tokens per sequence, the queries' included
  unsigned batch = 1;
  unsigned queries = 1; ///< new tokens per sequence
};

/// One op on one layer of one store, on the caller's buffers: each call takes
/// the next place of the arena, so its cache is cold. Pages stand in random
/// order.
class Case {
public:
  /// `store` indexes both the program's and the manifest's stores.
  Case(const kvc_program *program, const artifact::Manifest &manifest,
       const TokenCounter &counter, unsigned store, Op op, Shape shape);

  /// Bytes of arena that one call needs.
  size_t footprint() const { return placeBytes; }
  /// What one call must move: each visible cached byte once, scales included,
  /// and the rows of q and o (append: of k and v, and what it writes).
  double bytes() const { return movedBytes; }
  /// Multiplications and additions of one call over visible tokens.
  double flops() const { return flopCount; }
  /// False where the queries see no token: there is nothing to measure.
  bool seesTokens() const { return op == Op::Append || flopCount > 0; }

  /// Makes one call; false if the runtime refused or the result is no number.
  bool call(Arena &arena);

private:
  void placePlanes();
  void placeRows();
  void countWork(const TokenCounter &counter);
  bool plausible() const;
  bool append() const;
  bool attend();

  const kvc_program *program;
  const artifact::Manifest &manifest;
  const artifact::StoreInfo &store;
  const unsigned storeIndex;
  const Op op;
  const Shape shape;

  size_t placeBytes = 0;
  double movedBytes = 0, flopCount = 0;
  size_t pages = 0; ///< per sequence; 1 if contiguous
  /// Of a call that leaves most of its place unread: how much further into the
  /// places those of the next round through the arena begin, and how far they
  /// do. What a call reads was otherwise read a round ago, and is little enough
  /// to be still in a cache.
  size_t shiftStep = 0, shift = 0;
  const uint8_t *lastPlace = nullptr;
  std::vector<kvc_plane> planes;
  std::vector<size_t> offsets; ///< of their bases in a place

  std::vector<uint8_t> q, k, v, out, workspace;
  std::vector<float> zeros; ///< of each constant that a call gives
  std::vector<const void *> constants;
  std::vector<int32_t> cuQ, kvLen, table;
  std::vector<int64_t> slot;
  bool checked = false;
};

} // namespace kvc::bench

#endif // KVC_TOOLS_KVC_BENCHCASE_H
