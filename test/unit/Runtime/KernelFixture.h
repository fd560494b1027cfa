//===- KernelFixture.h - append and attend on the caller's buffers -*- C++
//-*-===//
#ifndef KVC_TEST_UNIT_RUNTIME_KERNELFIXTURE_H
#define KVC_TEST_UNIT_RUNTIME_KERNELFIXTURE_H

#include "test/support/AlignedBytes.h"
#include "test/unit/Runtime/Fixture.h"

#include <cstdlib>
#include <functional>
#include <memory>
#include <random>

namespace kvc::test {

/// Pages or slots of Buffers, and tokens of a slot.
inline constexpr int64_t kPages = 64, kCapacity = 96;

/// The planes of a call that a fixture made, whose own they are.
inline kvc_plane *planesOf(kvc_attend_args &args) {
  return const_cast<kvc_plane *>(args.planes);
}
inline kvc_plane *planesOf(kvc_append_args &args) {
  return const_cast<kvc_plane *>(args.planes);
}

/// A store's memory in the caller's hands, with sequences written into it.
class Buffers {
public:
  Buffers(Loaded &loaded, uint32_t store, uint8_t fill = 0);

  int64_t tokensPerPage() const {
    return info.page_tokens ? info.page_tokens : kCapacity;
  }
  /// Appends a sequence of `length` random tokens at `pages`.
  History write(const std::vector<int32_t> &pages, uint32_t length,
                uint32_t seed);

  Loaded &loaded;
  uint32_t store;
  kvc_store_info info = {};
  size_t bytes = 0;
  AlignedBytes memory;
  kvc_plane planes[2] = {};
};

struct Sequence {
  int32_t queries, length;
  std::vector<int32_t> pages;
  History history;
  Rows q{0, kQueryHeads, kDimK};
};

struct Result {
  std::vector<float> out, lse;
  kvc_status status = {};
};

/// A batch over one store; every sequence has its own pages and contents.
struct Batch {
  Batch(Buffers &buffers, uint32_t seed);

  void add(int32_t queries, int32_t length, uint32_t seed);

  using Change = std::function<void(kvc_attend_args &)>;
  /// Elements that no kernel writes are 7.
  Result attend(const Change &change = [](kvc_attend_args &) {});

  Buffers &buffers;
  std::mt19937 random;
  std::vector<int32_t> freePages;
  std::vector<Sequence> sequences;
  int poison = 0xff; ///< NaN, of the workspace
};

/// The store's own heads against the reference.
void expectRight(const Batch &batch, const Result &result);

/// Sequences with and without cached tokens, of one and of several blocks.
void addMixed(Batch &batch);

} // namespace kvc::test

#endif // KVC_TEST_UNIT_RUNTIME_KERNELFIXTURE_H
