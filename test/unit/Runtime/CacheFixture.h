//===- CacheFixture.h - a small cache on the CPU ----------------*- C++ -*-===//
#ifndef KVC_TEST_UNIT_RUNTIME_CACHEFIXTURE_H
#define KVC_TEST_UNIT_RUNTIME_CACHEFIXTURE_H

#include "test/unit/Runtime/CachePeer.h"
#include "test/unit/Runtime/Fixture.h"

#include <gtest/gtest.h>
#include <vector>

namespace kvc::test {

using Peer = rt::CacheTestPeer;

inline kvc::rt::Cache &inside(kvc_cache *cache) {
  return *reinterpret_cast<kvc::rt::Cache *>(cache);
}

inline constexpr uint32_t kSlotTokens = 64;
/// One contiguous slot of `flat`, and one page of `paged` and `window`.
inline constexpr size_t kSlotBytes = kSlotTokens * 32 + kSlotTokens * 64;
inline constexpr size_t kPageBytes = 768, kWindowPageBytes = 768;

struct Caches : testing::Test {
  Loaded loaded{2};
  kvc_cache *cache = nullptr;

  kvc_cache_options options(uint32_t pages = 20, uint32_t windowPages = 10) {
    kvc_cache_options o = {};
    o.size = sizeof(o);
    o.max_sequences = 4;
    o.max_batch = 3;
    o.max_step_tokens = 60;
    o.max_tokens_per_seq = kSlotTokens;
    o.arena_bytes = 4 * kSlotBytes + (pages + 2) * kPageBytes +
                    (windowPages + 2) * kWindowPageBytes;
    return o;
  }
  void create(const kvc_cache_options &o) {
    ASSERT_EQ(kvc_cache_create(loaded.program, &o, &cache).code, KVC_OK)
        << kvc_error_text();
  }
  ~Caches() override { kvc_cache_destroy(cache); }
  kvc_seq open() {
    kvc_seq seq = {};
    EXPECT_EQ(kvc_cache_open(cache, &seq).code, KVC_OK);
    return seq;
  }
  kvc_step reserve(std::vector<kvc_slot_request> requests) {
    kvc_step step = {};
    EXPECT_EQ(kvc_cache_reserve(cache, requests.data(),
                                uint32_t(requests.size()), nullptr, &step)
                  .code,
              KVC_OK)
        << kvc_error_text();
    return step;
  }
  /// Of a step whose rows nobody reads.
  kvc_status commit(kvc_step step, const uint32_t *accepted = nullptr) {
    EXPECT_EQ(kvc_cache_mark_appended(cache, step, KVC_ALL_LAYERS).code,
              KVC_OK);
    return kvc_cache_commit(cache, step, accepted);
  }
  uint32_t length(kvc_seq seq) {
    uint32_t tokens = UINT32_MAX;
    EXPECT_EQ(kvc_cache_length(cache, seq, &tokens).code, KVC_OK);
    return tokens;
  }
  kvc_cache_stats stats() {
    kvc_cache_stats s = {};
    s.size = sizeof(s);
    EXPECT_EQ(kvc_cache_get_stats(cache, &s).code, KVC_OK);
    return s;
  }
  kvc_batch_view view(kvc_step step, uint32_t store, uint32_t layer) {
    kvc_batch_view v = {};
    v.size = sizeof(v);
    EXPECT_EQ(kvc_cache_view(cache, step, store, layer, &v).code, KVC_OK)
        << kvc_error_text();
    return v;
  }
};

} // namespace kvc::test

#endif // KVC_TEST_UNIT_RUNTIME_CACHEFIXTURE_H
