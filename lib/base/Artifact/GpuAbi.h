/*===- GpuAbi.h - how the runtime launches a generated GPU kernel -*- C -*-===//
 *
 * The contract between codegen/nvptx and runtime/devices/Gpu, beside the words
 * of a kernel's block (Params.h), which a kernel takes by value as its only
 * parameter; all pointers are the device's. A change of any offset or meaning,
 * a word's too, is a new KVC_GPU_ABI.
 *
 * An attend call is, on one stream: plan, unless one was made for the step,
 * then each attend kernel that some sequence uses, with as many CTAs as there
 * may be work tiles or as fit the GPU at once. Nothing of it depends on values
 * in device memory, so that it can be captured in a graph and replayed with
 * other lengths.
 *
 *===----------------------------------------------------------------------===*/
#ifndef KVC_LIB_BASE_ARTIFACT_GPUABI_H
#define KVC_LIB_BASE_ARTIFACT_GPUABI_H

#include "lib/base/Artifact/KernelAbi.h"

#define KVC_GPU_ABI 3

/* What a CTA does at a time: rows [row_begin, row_end) of one sequence and kv
 * head against the cached tokens [begin, end). Row r is query token r / group
 * of the sequence, q head r % group of the kv head. */
typedef struct KvcGpuWorkTile {
  int32_t sequence;
  int32_t head; /* kv head, from the store's first */
  int32_t begin, end;
  int32_t split_idx;  /* which of `num_splits` splits of these rows it does */
  int32_t num_splits; /* 1: the CTA writes out itself */
  int32_t row_begin, row_end;
} KvcGpuWorkTile;

/* Kinds of kernels:
 *
 * plan: one CTA; writes the work tiles of all attend kernels of a store, in
 * order of sequence, split, kv head, row block (fastest), their counts, zeroed
 * split counters, and split_row. A sequence with n query tokens uses the kernel
 * with the largest minQueries <= n. Lengths are cut to max_kv_len, and work
 * tiles and split rows that find no room are left out: nothing is written out
 * of bounds whatever the lengths are.
 *
 * attend: CTA c takes the work tiles numbered c, c + gridDim, c + 2 gridDim ...
 * Of a row block with several splits, the CTA that arrives last combines them
 * in order of split, and zeroes the block's split counter again: a plan serves
 * any number of attends, one after the other.
 *
 * append: warp w of the grid encodes row w / kv heads of the batch for kv head
 * w % kv heads (of the store), K and V.
 *
 * gather, which a store may lack: warp w decodes row w / kv heads for kv head
 * w % kv heads into k and v, as a CPU's does (KernelAbi.h).
 *
 * merge, for engines with splits of their own: warp w of the grid combines the
 * num_splits splits of row w / q heads (of the store) of q and q head
 * w % q heads.
 */

#endif /* KVC_LIB_BASE_ARTIFACT_GPUABI_H */
