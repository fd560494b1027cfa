/*===- KernelAbi.h - how the runtime calls a generated CPU kernel -*- C -*-===//
 *
 * The contract between codegen/cpu and runtime/devices/Cpu, beside the words of
 * a kernel's block (Params.h). Plain C, fixed layout, little endian, 64-bit
 * pointers. A change of any offset or meaning, a word's too, is a new
 * KVC_CPU_ABI, which the manifest carries and the runtime checks.
 *
 * A kernel is `void kernel(const uint64_t *block, const KvcWorkTile
 * *work_tile)`. It touches only what its block and `work_tile->scratch` reach,
 * calls nothing, and may run for different work tiles on different threads at
 * once. Results do not depend on which thread runs which work tile, nor on
 * their order.
 *
 *===----------------------------------------------------------------------===*/
#ifndef KVC_LIB_BASE_ARTIFACT_KERNELABI_H
#define KVC_LIB_BASE_ARTIFACT_KERNELABI_H

#include <stdint.h>

#define KVC_CPU_ABI 4
/* Most cached tokens of a sequence: kernels count in 32 bits, up to a tile
 * (256) beyond the last. */
#define KVC_MAX_TOKENS (INT32_MAX - 256)

/* Which part of the work a call does. */
typedef struct KvcWorkTile {
  int32_t sequence;  /* of the batch */
  int32_t head;      /* kv head, from the store's first (attend, merge) */
  int32_t begin;     /* attend: first token of the split; append, gather: first
                        row */
  int32_t end;       /* attend: end of the split; append, gather: end row */
  int32_t split_idx; /* attend: index of this split among the sequence's active
                        ones; merge: how many there are */
  int32_t row_begin; /* attend: first query token of the sequence that this work
                        tile handles, from 0; merge: the same */
  int32_t row_end;   /* end of them */
  int32_t split_queries; /* attend, merge: query tokens of the sequence for
                            which each of its splits has room */
  int64_t split_row; /* attend, merge: the row of the partial results that query
                        token 0 of split 0 would have: below 0 perhaps, where
                        only later ones have room */
  void *scratch;     /* KernelInfo::scratchBytes bytes, 64-byte aligned, this
                        thread's own; contents never matter */
} KvcWorkTile;

/* Kinds, and what a work tile is to each:
 *
 * attend: partial results of the query tokens [row_begin, row_end) of one
 * sequence against the cached tokens [begin, end).
 * merge: combines the splits of each query row by log-sum-exp, in order of
 * split, and writes out and lse.
 * append: encodes rows [begin, end) of k and v into the cache for all kv heads
 * of the store.
 * gather, which a store may lack: the other way. For each row of [begin, end)
 * with a slot and all kv heads of the store, writes to k and v what the cache's
 * codes there decode to, in the model's dtype, computed in f32 and rounded
 * once. Where k or v is null nothing is written; rows without a slot and heads
 * of other stores stay as they are. Rows may share a slot.
 */

#endif /* KVC_LIB_BASE_ARTIFACT_KERNELABI_H */
