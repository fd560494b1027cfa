/*===- kvc/cache.h - caches that manage their pages ---------------*- C -*-===//
 *
 * Sequences, their pages, and steps of attention over them. Included by
 * kvc/runtime.h, whose rules hold here.
 *
 *===----------------------------------------------------------------------===*/
#ifndef KVC_CACHE_H
#define KVC_CACHE_H

#include "runtime.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kvc_cache kvc_cache;

/* Values, not pointers: using a released one gives KVC_STALE. */
typedef struct kvc_seq {
  uint32_t slot, generation;
} kvc_seq;
typedef struct kvc_step {
  uint32_t slot, generation;
} kvc_step;

enum {
  KVC_SINGLE_OWNER = 1,
  /* Zeroes pages and slots when they are given back, in all layers and in the
   * order of the work, before another sequence can have them: for sequences
   * of users who must not see each other's bytes by any means. Costs a write of
   * every byte. Destroying a cache in a lent arena zeroes what is still held.
   */
  KVC_SCRUB = 2
};

typedef struct kvc_cache_options {
  size_t size;
  void *arena;        /* 64-byte aligned memory of the caller, or null: own */
  size_t arena_bytes; /* split over the stores in proportion to bytes/token;
                         kvc_cache_arena_bytes says how many tokens take */
  uint32_t max_sequences;
  uint32_t max_batch;       /* sequences of one step */
  uint32_t max_step_tokens; /* new tokens of one step */
  uint32_t max_tokens_per_seq;
  uint32_t flags;        /* KVC_SINGLE_OWNER, KVC_SCRUB */
  uint32_t max_rollback; /* committed tokens that kvc_cache_truncate can take
                            back where a store has a window, whose pages wait so
                            long; elsewhere it takes any number */
} kvc_cache_options;

/* Creates a cache of `program` in the arena (of a GPU: in its memory). Page 0
 * of every paged store is a page of zeros that is never written, page 1 takes
 * writes that nobody reads.
 */
KVC_API kvc_status kvc_cache_create(kvc_program *program,
                                    const kvc_cache_options *options,
                                    kvc_cache **cache);
KVC_API void kvc_cache_destroy(kvc_cache *cache);

/* The smallest arena_bytes with which a cache of these options holds `tokens`
 * cached tokens, new ones of open steps included, however its sequences share
 * them, and whatever steps are open (where a store has a window, fewer bytes
 * may do for some steps); sentinels and the part-filled last page of every
 * sequence are in it. A contiguous store has max_sequences slots of
 * max_tokens_per_seq whatever `tokens` is. options->arena and arena_bytes are
 * not read. Work memory, which a cache takes beside its arena, is not in it.
 * KVC_INVALID_ARGUMENT if tokens is 0 or more than max_sequences *
 * max_tokens_per_seq. */
KVC_API kvc_status kvc_cache_arena_bytes(const kvc_program *program,
                                         const kvc_cache_options *options,
                                         uint64_t tokens, uint64_t *bytes);

/* The inverse: the most `tokens` for which kvc_cache_arena_bytes asks for no
 * more than options->arena_bytes; 0 if there are none. */
KVC_API kvc_status kvc_cache_tokens_that_fit(const kvc_program *program,
                                             const kvc_cache_options *options,
                                             uint64_t *tokens);

/* A new, empty sequence. */
KVC_API kvc_status kvc_cache_open(kvc_cache *cache, kvc_seq *seq);
/* A new sequence with the committed tokens of another. Paged, the two share
 * pages, and it costs no page until one of them writes: kvc_cache_reserve then
 * copies the one page that is partly filled, if others hold it too. A
 * contiguous store copies the tokens at once. KVC_BUSY while the parent is in
 * an open step, KVC_OUT_OF_SEQUENCES. */
KVC_API kvc_status kvc_cache_fork(kvc_cache *cache, kvc_seq parent,
                                  kvc_seq *child);
/* Keeps the first `tokens` committed tokens of a sequence. Under a window that
 * is at most max_rollback fewer than it ever had, or none:
 * KVC_INVALID_ARGUMENT if the pages of tokens that a query there sees were
 * given back. KVC_BUSY while it is in an open step. */
KVC_API kvc_status kvc_cache_truncate(kvc_cache *cache, kvc_seq seq,
                                      uint32_t tokens);
/* Gives a sequence's pages back, those that no other holds. KVC_BUSY while it
 * is in an open step. */
KVC_API kvc_status kvc_cache_release(kvc_cache *cache, kvc_seq seq);
/* Committed tokens. */
KVC_API kvc_status kvc_cache_length(const kvc_cache *cache, kvc_seq seq,
                                    uint32_t *tokens);

/* From one row to the next and from one head to the next, in bytes; 0: dense,
 * or for a row as many as its heads take. */
typedef struct kvc_stride {
  int64_t row, head;
} kvc_stride;
/* Writes the K and V of committed tokens [begin, begin + count) of one layer,
 * as they are cached: [count][kv_heads][head_dim] of the model's dtype, decoded
 * by all stores that cover the layer. k or v may be null: not wanted. The
 * sequence may be in an open step; steps that are opened meanwhile with it, its
 * release, truncation and commits are KVC_BUSY until this returns.
 *
 * KVC_INVALID_ARGUMENT for tokens beyond the committed ones, and for those
 * whose pages a window gave back: kvc_error_text() says which are there.
 * KVC_UNSUPPORTED as of kvc_gather.
 *
 * On a GPU it launches on `stream`, a CUstream, after all that the cache has
 * launched before, and returns; null is the default stream. The stream must
 * live until the cache launches on another, or its end. It copies slots to the
 * GPU, so it has no place in a captured graph. */
KVC_API kvc_status kvc_cache_read(kvc_cache *cache, kvc_seq seq, uint32_t layer,
                                  uint32_t begin, uint32_t count, void *k,
                                  kvc_stride k_stride, void *v,
                                  kvc_stride v_stride, void *stream);

typedef struct kvc_slot_request {
  kvc_seq seq;
  uint32_t new_tokens; /* >= 1 */
} kvc_slot_request;

/* Opens a step: room for the new tokens of every sequence, all or nothing.
 * KVC_OUT_OF_PAGES if pages are short now, those of copies of shared ones among
 * them, KVC_SEQUENCE_FULL if a sequence would pass max_tokens_per_seq. The
 * step's rows are the new tokens of its sequences, in the order of `requests`.
 * A sequence is in one step at a time; at most four steps are open at once.
 *
 * On a GPU, all that the step does is in the order of `stream`, a CUstream;
 * null is the default stream. Steps may have streams of their own: whatever a
 * cache launches waits for what it launched before, on whichever stream, so the
 * stream of a step must live until a later step, or the cache's end. This call
 * copies tables to the GPU and plans the step's attends, so it has no place in
 * a captured graph; append and attend have. */
KVC_API kvc_status kvc_cache_reserve(kvc_cache *cache,
                                     const kvc_slot_request *requests,
                                     uint32_t count, void *stream,
                                     kvc_step *step);

/* What a step's kernels read, per store, in the device's memory; fixed
 * addresses for the life of the cache, contents for the life of the step. For
 * engines that bring kernels of their own. */
typedef struct kvc_batch_view {
  size_t size;
  uint32_t batch, rows;
  const int32_t *cu_q;   /* [batch + 1] */
  const int32_t *kv_len; /* [batch], new tokens included */
  const int32_t *table;  /* as in kvc_attend_args; unused entries are 0, also
                            those of pages that were given back because no
                            query sees them any more */
  int64_t table_stride;
  const int64_t *write_slot; /* [rows] */
  int64_t page_count, slot_tokens;
  uint32_t plane_count;
  const kvc_plane *planes; /* [plane_count] of the layer that was asked for, in
                              host memory; live as long as the cache */
} kvc_batch_view;
KVC_API kvc_status kvc_cache_view(const kvc_cache *cache, kvc_step step,
                                  uint32_t store, uint32_t layer,
                                  kvc_batch_view *view);

/* Encodes the step's rows of one layer into every store that covers it; `v` is
 * null if none of them has planes of "v". May be called again before the step
 * ends, which writes the rows again. */
KVC_API kvc_status kvc_cache_append(kvc_cache *cache, kvc_step step,
                                    uint32_t layer, const void *k,
                                    const void *v);
/* The same with rows and heads that are apart: of tensors [heads][tokens][dim],
 * say. */
KVC_API kvc_status kvc_cache_append_strided(kvc_cache *cache, kvc_step step,
                                            uint32_t layer, const void *k,
                                            kvc_stride k_stride, const void *v,
                                            kvc_stride v_stride);
/* Says that the step's rows of a layer, or of KVC_ALL_LAYERS, are written by
 * other means than kvc_cache_append, in the order of the stream: by kernels of
 * the engine's own on a view, or by a graph that is replayed. */
#define KVC_ALL_LAYERS UINT32_MAX
KVC_API kvc_status kvc_cache_mark_appended(kvc_cache *cache, kvc_step step,
                                           uint32_t layer);
/* The constants of a store's expressions that calls give, for one of its layers
 * or KVC_ALL_LAYERS: [count] in the order of kvc_store_info. The array is
 * copied; the values stay the caller's, and are read by each attend that
 * follows: those of a sequence in the order of that step's sequences. */
KVC_API kvc_status kvc_cache_set_constants(kvc_cache *cache, uint32_t store,
                                           uint32_t layer,
                                           const void *const *constants,
                                           uint32_t count);
/* Attends the step's rows over one layer. KVC_NOT_APPENDED if they are not
 * appended: their places hold what others left there. lse may be null.
 * Everything is dense: [rows][q_heads][dim]. A call that was captured in a
 * graph may be replayed for later steps in the same slot with the same batch
 * and rows, none of whose sequences has more new tokens than the longest of the
 * step that was captured. */
KVC_API kvc_status kvc_cache_attend(kvc_cache *cache, kvc_step step,
                                    uint32_t layer, const void *q, void *out,
                                    float *lse);
KVC_API kvc_status kvc_cache_attend_strided(kvc_cache *cache, kvc_step step,
                                            uint32_t layer, const void *q,
                                            kvc_stride q_stride, void *out,
                                            kvc_stride out_stride, float *lse,
                                            kvc_stride lse_stride);

/* Ends the step: sequence i keeps its first accepted[i] new tokens (null: all).
 * KVC_NOT_APPENDED if a token is kept whose rows are not appended in every
 * layer. Pages that this leaves empty are free again, and under a window those
 * that no later query sees. */
KVC_API kvc_status kvc_cache_commit(kvc_cache *cache, kvc_step step,
                                    const uint32_t *accepted);
/* Ends the step as if it had not been, but for copies that it made of shared
 * pages, which stay. */
KVC_API kvc_status kvc_cache_abandon(kvc_cache *cache, kvc_step step);

typedef struct kvc_cache_stats {
  size_t size;
  uint64_t pages_total, pages_free, pages_live; /* over all stores; sentinels
                                                   not counted */
  uint64_t sequences, steps;                    /* open ones */
  uint64_t bytes;        /* of the arena in use as pages */
  uint64_t refused;      /* reserves that found no pages */
  uint64_t pages_shared; /* live ones that several sequences hold */
  uint64_t pages_copied; /* before a write, because others held them; ever */
} kvc_cache_stats;
KVC_API kvc_status kvc_cache_get_stats(const kvc_cache *cache,
                                       kvc_cache_stats *stats);
/* What one sequence holds, with the new tokens of its open step. */
typedef struct kvc_seq_stats {
  size_t size;
  uint32_t tokens, new_tokens;  /* committed, and of its open step */
  uint64_t pages, pages_shared; /* over all stores; of them, with others */
  uint64_t bytes; /* of the arena, shared pages whole; a slot of a contiguous
                     store is whole from the start */
} kvc_seq_stats;
KVC_API kvc_status kvc_cache_get_seq_stats(const kvc_cache *cache, kvc_seq seq,
                                           kvc_seq_stats *stats);
/* Bytes of the arena in use as pages of one layer. */
KVC_API kvc_status kvc_cache_layer_bytes(const kvc_cache *cache, uint32_t layer,
                                         uint64_t *bytes);
/* Audits the invariants: 0 and 1 conservation of pages, O(stores); 2 every page
 * and table, which waits for a GPU. KVC_POISONED if one is broken. */
KVC_API kvc_status kvc_cache_check(kvc_cache *cache, uint32_t level);

#ifdef __cplusplus
}
#endif

#endif /* KVC_CACHE_H */
