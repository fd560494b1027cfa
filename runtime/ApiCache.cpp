//===- ApiCache.cpp - the C functions of caches ---------------------------===//
#include "runtime/Api.h"
#include "runtime/Arguments.h"
#include "runtime/Cache.h"

using namespace kvc::rt;

static Cache *unwrap(kvc_cache *cache) {
  return reinterpret_cast<Cache *>(cache);
}
static const Cache *unwrap(const kvc_cache *cache) {
  return reinterpret_cast<const Cache *>(cache);
}

static kvc_status checkHandle(const kvc_cache *cache) {
  if (!cache)
    return noHandle("cache");
  return unwrap(cache)->isParents() ? madeByParent("cache") : ok();
}

kvc_status kvc_cache_create(kvc_program *program,
                            const kvc_cache_options *options,
                            kvc_cache **cache) try {
  if (kvc_status s = checkHandle(program); !isOk(s))
    return s;
  if (!cache)
    return noOutput("cache");
  kvc_cache_options known;
  if (kvc_status s = readStruct(options, "kvc_cache_options", known); !isOk(s))
    return s;
  Cache *created = nullptr;
  if (kvc_status s = Cache::create(*unwrap(program), known, created); !isOk(s))
    return s;
  *cache = reinterpret_cast<kvc_cache *>(created);
  return ok();
} catch (...) {
  return caught();
}

kvc_status kvc_cache_arena_bytes(const kvc_program *program,
                                 const kvc_cache_options *options,
                                 uint64_t tokens, uint64_t *bytes) try {
  if (!program)
    return noHandle("program");
  if (!bytes)
    return noOutput("bytes");
  kvc_cache_options known;
  if (kvc_status s = readStruct(options, "kvc_cache_options", known); !isOk(s))
    return s;
  return arenaBytes(unwrap(program)->manifest(), known, tokens, *bytes);
} catch (...) {
  return caught();
}

kvc_status kvc_cache_tokens_that_fit(const kvc_program *program,
                                     const kvc_cache_options *options,
                                     uint64_t *tokens) try {
  if (!program)
    return noHandle("program");
  if (!tokens)
    return noOutput("tokens");
  kvc_cache_options known;
  if (kvc_status s = readStruct(options, "kvc_cache_options", known); !isOk(s))
    return s;
  return tokensInArena(unwrap(program)->manifest(), known, *tokens);
} catch (...) {
  return caught();
}

void kvc_cache_destroy(kvc_cache *cache) {
  if (cache && !unwrap(cache)->isLeft())
    delete unwrap(cache);
}

kvc_status kvc_cache_open(kvc_cache *cache, kvc_seq *seq) try {
  if (kvc_status s = checkHandle(cache); !isOk(s))
    return s;
  if (!seq)
    return noOutput("seq");
  return unwrap(cache)->open(*seq);
} catch (...) {
  return caught();
}

kvc_status kvc_cache_release(kvc_cache *cache, kvc_seq seq) try {
  if (kvc_status s = checkHandle(cache); !isOk(s))
    return s;
  return unwrap(cache)->release(seq);
} catch (...) {
  return caught();
}

kvc_status kvc_cache_fork(kvc_cache *cache, kvc_seq parent,
                          kvc_seq *child) try {
  if (kvc_status s = checkHandle(cache); !isOk(s))
    return s;
  if (!child)
    return noOutput("child");
  return unwrap(cache)->fork(parent, *child);
} catch (...) {
  return caught();
}

kvc_status kvc_cache_truncate(kvc_cache *cache, kvc_seq seq,
                              uint32_t tokens) try {
  if (kvc_status s = checkHandle(cache); !isOk(s))
    return s;
  return unwrap(cache)->truncate(seq, tokens);
} catch (...) {
  return caught();
}

kvc_status kvc_cache_length(const kvc_cache *cache, kvc_seq seq,
                            uint32_t *tokens) try {
  if (kvc_status s = checkHandle(cache); !isOk(s))
    return s;
  if (!tokens)
    return noOutput("tokens");
  return unwrap(cache)->length(seq, *tokens);
} catch (...) {
  return caught();
}

kvc_status kvc_cache_read(kvc_cache *cache, kvc_seq seq, uint32_t layer,
                          uint32_t begin, uint32_t count, void *k,
                          kvc_stride k_stride, void *v, kvc_stride v_stride,
                          void *stream) try {
  if (kvc_status s = checkHandle(cache); !isOk(s))
    return s;
  return unwrap(cache)->read(seq, layer, begin, count, k, k_stride, v, v_stride,
                             stream);
} catch (...) {
  return caught();
}

kvc_status kvc_cache_reserve(kvc_cache *cache, const kvc_slot_request *requests,
                             uint32_t count, void *stream, kvc_step *step) try {
  if (kvc_status s = checkHandle(cache); !isOk(s))
    return s;
  if (!step)
    return noOutput("step");
  return unwrap(cache)->reserve(requests, count, stream, *step);
} catch (...) {
  return caught();
}

kvc_status kvc_cache_view(const kvc_cache *cache, kvc_step step, uint32_t store,
                          uint32_t layer, kvc_batch_view *view) try {
  if (kvc_status s = checkHandle(cache); !isOk(s))
    return s;
  kvc_batch_view out;
  if (kvc_status s = unwrap(cache)->view(step, store, layer, out); !isOk(s))
    return s;
  return writeStruct(out, "kvc_batch_view", view);
} catch (...) {
  return caught();
}

kvc_status kvc_cache_append(kvc_cache *cache, kvc_step step, uint32_t layer,
                            const void *k, const void *v) try {
  if (kvc_status s = checkHandle(cache); !isOk(s))
    return s;
  return unwrap(cache)->append(step, layer, k, {}, v, {});
} catch (...) {
  return caught();
}

kvc_status kvc_cache_append_strided(kvc_cache *cache, kvc_step step,
                                    uint32_t layer, const void *k,
                                    kvc_stride k_stride, const void *v,
                                    kvc_stride v_stride) try {
  if (kvc_status s = checkHandle(cache); !isOk(s))
    return s;
  return unwrap(cache)->append(step, layer, k, k_stride, v, v_stride);
} catch (...) {
  return caught();
}

kvc_status kvc_cache_set_constants(kvc_cache *cache, uint32_t store,
                                   uint32_t layer, const void *const *constants,
                                   uint32_t count) try {
  if (kvc_status s = checkHandle(cache); !isOk(s))
    return s;
  return unwrap(cache)->setConstants(store, layer, constants, count);
} catch (...) {
  return caught();
}

kvc_status kvc_cache_attend(kvc_cache *cache, kvc_step step, uint32_t layer,
                            const void *q, void *out, float *lse) try {
  if (kvc_status s = checkHandle(cache); !isOk(s))
    return s;
  return unwrap(cache)->attend(step, layer, q, {}, out, {}, lse, {});
} catch (...) {
  return caught();
}

kvc_status kvc_cache_attend_strided(kvc_cache *cache, kvc_step step,
                                    uint32_t layer, const void *q,
                                    kvc_stride q_stride, void *out,
                                    kvc_stride out_stride, float *lse,
                                    kvc_stride lse_stride) try {
  if (kvc_status s = checkHandle(cache); !isOk(s))
    return s;
  return unwrap(cache)->attend(step, layer, q, q_stride, out, out_stride, lse,
                               lse_stride);
} catch (...) {
  return caught();
}

kvc_status kvc_cache_mark_appended(kvc_cache *cache, kvc_step step,
                                   uint32_t layer) try {
  if (kvc_status s = checkHandle(cache); !isOk(s))
    return s;
  return unwrap(cache)->markAppended(step, layer);
} catch (...) {
  return caught();
}

kvc_status kvc_cache_commit(kvc_cache *cache, kvc_step step,
                            const uint32_t *accepted) try {
  if (kvc_status s = checkHandle(cache); !isOk(s))
    return s;
  return unwrap(cache)->commit(step, accepted);
} catch (...) {
  return caught();
}

kvc_status kvc_cache_abandon(kvc_cache *cache, kvc_step step) try {
  if (kvc_status s = checkHandle(cache); !isOk(s))
    return s;
  return unwrap(cache)->abandon(step);
} catch (...) {
  return caught();
}

kvc_status kvc_cache_get_stats(const kvc_cache *cache,
                               kvc_cache_stats *stats) try {
  if (kvc_status s = checkHandle(cache); !isOk(s))
    return s;
  return writeStruct(unwrap(cache)->stats(), "kvc_cache_stats", stats);
} catch (...) {
  return caught();
}

kvc_status kvc_cache_get_seq_stats(const kvc_cache *cache, kvc_seq seq,
                                   kvc_seq_stats *stats) try {
  if (kvc_status s = checkHandle(cache); !isOk(s))
    return s;
  kvc_seq_stats out;
  if (kvc_status s = unwrap(cache)->stats(seq, out); !isOk(s))
    return s;
  return writeStruct(out, "kvc_seq_stats", stats);
} catch (...) {
  return caught();
}

kvc_status kvc_cache_layer_bytes(const kvc_cache *cache, uint32_t layer,
                                 uint64_t *bytes) try {
  if (kvc_status s = checkHandle(cache); !isOk(s))
    return s;
  if (!bytes)
    return noOutput("bytes");
  return unwrap(cache)->layerBytes(layer, *bytes);
} catch (...) {
  return caught();
}

kvc_status kvc_cache_check(kvc_cache *cache, uint32_t level) try {
  if (kvc_status s = checkHandle(cache); !isOk(s))
    return s;
  return unwrap(cache)->check(level);
} catch (...) {
  return caught();
}
