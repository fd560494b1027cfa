/*===- KernelAbi.h - how the runtime calls a generated CPU kernel -*- C -*-===//
 *
 * The one contract between codegen/cpu, which emits loads at these offsets, and
 * runtime/devices/Cpu, which fills the structs. Plain C, fixed layout, little
 * endian, 64-bit pointers. A change of any offset or meaning is a new
 * KVC_CPU_ABI, which the manifest carries and the runtime checks.
 *
 * A kernel is `void kernel(const Args *args, const KvcWorkTile *work_tile)`. It
 * touches only what its arguments and `work_tile->scratch` reach, calls
 * nothing, and may run for different work tiles on different threads at once.
 * Results do not depend on which thread runs which work tile, nor on their
 * order.
 *
 *===----------------------------------------------------------------------===*/
#ifndef KVC_LIB_ARTIFACT_KERNELABI_H
#define KVC_LIB_ARTIFACT_KERNELABI_H

#include <stdint.h>

#define KVC_CPU_ABI 1
#define KVC_MAX_PLANES 8
/* Most cached tokens of a sequence: kernels count in 32 bits, up to a tile
 * (256) beyond the last. */
#define KVC_MAX_TOKENS (INT32_MAX - 256)

/* One plane (say the codes of K) of one layer's part of a store.
 * Address of (outer, head, token) =
 *   base + outer * outer_stride + head * head_stride + token * token_stride.
 * `outer` is a page (paged) or a sequence slot (contiguous); `head` counts from
 * the store's first kv head; `token` counts inside the page or sequence.
 * The token stride is compiled in (manifest: PlaneInfo::tokenStride). */
typedef struct KvcPlane {
  uint8_t *base;
  int64_t outer_stride; /* bytes */
  int64_t head_stride;  /* bytes */
} KvcPlane;

/* Which part of the work a call does. */
typedef struct KvcWorkTile {
  int32_t sequence;  /* row of the batch */
  int32_t head;      /* kv head, from the store's first (attend, merge) */
  int32_t begin;     /* attend: first token of the split; append: first row */
  int32_t end;       /* attend: end of the split; append: end row */
  int32_t split_idx; /* attend: index of this split among the sequence's active
                        ones; merge: how many there are */
  int32_t row_begin; /* attend: first query token of the sequence that this work
                        tile handles, from 0; merge: the same */
  int32_t row_end;   /* end of them */
  int32_t reserved;
  void *scratch; /* KernelInfo::scratchBytes bytes, 64-byte aligned, this
                    thread's own; contents never matter */
} KvcWorkTile;

/* attend: partial results of the query tokens [row_begin, row_end) of one
 * sequence against the cached tokens [begin, end).
 * merge: combines the splits of each query row by log-sum-exp, in order of
 * split, and writes out and lse.
 *
 * Query token i of sequence b is row cu_q[b] + i of q and stands at position
 * kv_len[b] - (cu_q[b+1] - cu_q[b]) + i; it sees tokens t <= its position, less
 * what the store's read rule hides. A row that sees nothing gives o = 0 and
 * lse = -inf.
 *
 * Split p of query token i, q head h of sequence b is row
 *   split_row[b] + (p * n_q + i) * heads_q + (h - first_q)
 * of partial_o [.., dim_v] (normalised) and partial_lse (natural log), with
 * n_q = cu_q[b+1] - cu_q[b], and heads_q, first_q = the q heads of this store.
 */
typedef struct KvcAttendArgs {
  const void *q;          /* [rows][q_heads][dim_k], model dtype */
  int64_t q_row_stride;   /* bytes between rows of q; heads are dense */
  void *out;              /* [rows][q_heads][dim_v], model dtype */
  int64_t out_row_stride; /* bytes */
  float *lse;             /* [rows][q_heads]; null: not wanted */
  int64_t lse_row_stride; /* bytes */
  const int32_t *cu_q;    /* [batch + 1] */
  const int32_t *kv_len;  /* [batch], the query tokens' own included */
  const int32_t *table; /* paged: [batch][table_stride] page ids, entries at or
                           beyond ceil(kv_len / page) are never read.
                           contiguous: [batch] outer index, table_stride 1 */
  int64_t table_stride; /* entries */
  const int64_t *split_row; /* [batch] */
  float *partial_o;
  float *partial_lse;
  KvcPlane planes[KVC_MAX_PLANES]; /* order: the store's manifest planes */
} KvcAttendArgs;

/* append: encodes rows [begin, end) of k and v into the cache for all kv heads
 * of the store. slot[i] = outer * slot_tokens + token says where row i goes;
 * a negative slot skips the row. */
typedef struct KvcAppendArgs {
  const void *k;        /* [rows][kv_heads][dim_k], model dtype */
  int64_t k_row_stride; /* bytes */
  const void *v;        /* [rows][kv_heads][dim_v], model dtype */
  int64_t v_row_stride; /* bytes */
  const int64_t *slot;  /* [rows] */
  int64_t slot_tokens;  /* tokens per outer: page size or sequence capacity */
  KvcPlane planes[KVC_MAX_PLANES];
} KvcAppendArgs;

#endif /* KVC_LIB_ARTIFACT_KERNELABI_H */
