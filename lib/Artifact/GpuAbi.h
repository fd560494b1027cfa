/*===- GpuAbi.h - how the runtime launches a generated GPU kernel -*- C -*-===//
 *
 * The contract between codegen/nvptx, which emits loads at these offsets, and
 * runtime/devices/Gpu, which fills the structs. A kernel takes one of these
 * structs by value as its only parameter; all pointers are the device's.
 * A change of any offset or meaning is a new KVC_GPU_ABI.
 *
 * An attend call is, on one stream: plan, then each attend kernel that some
 * sequence uses, with as many CTAs as there may be items or as fit the GPU at
 * once. Nothing of it depends on values in device memory, so that it can be
 * captured in a graph and replayed with other lengths.
 *
 *===----------------------------------------------------------------------===*/
#ifndef KVC_LIB_ARTIFACT_GPUABI_H
#define KVC_LIB_ARTIFACT_GPUABI_H

#include "lib/Artifact/KernelAbi.h"

#define KVC_GPU_ABI 1
#define KVC_MAX_VARIANTS 4

/* Work of one CTA: rows [row_begin, row_end) of one sequence and kv head
 * against the cached tokens [begin, end). Row r is query token r / group of the
 * sequence, q head r % group of the kv head. */
typedef struct KvcGpuItem {
  int32_t sequence;
  int32_t head; /* kv head, from the store's first */
  int32_t begin, end;
  int32_t part;  /* which of `parts` parts of these rows it makes */
  int32_t parts; /* 1: the CTA writes out itself */
  int32_t row_begin, row_end;
} KvcGpuItem;

/* Items of one attend kernel of a store. */
typedef struct KvcGpuItems {
  KvcGpuItem *items;  /* [capacity] */
  int32_t *count;     /* [1]: how many the plan made */
  uint32_t *arrivals; /* [capacity]: CTAs of a row block that are done; zeroed
                         by the plan; indexed by the item of the block's part
                         0 */
  int32_t capacity;
  int32_t reserved;
} KvcGpuItems;

/* plan: one CTA; writes the items of all attend kernels of a store, in order of
 * sequence, part, kv head, row block (fastest), and part_row. A sequence with n
 * query tokens uses the kernel with the largest minQueries <= n. Lengths are
 * cut to max_kv_len, and items and part rows that find no room are left out:
 * nothing is written out of bounds whatever the lengths are. */
typedef struct KvcGpuPlanParams {
  const int32_t *cu_q;   /* [batch + 1] */
  const int32_t *kv_len; /* [batch] */
  int64_t *part_row;     /* [batch] */
  int32_t batch;
  int32_t max_kv_len;
  int64_t part_rows; /* rows of partial_o */
  KvcGpuItems variants[KVC_MAX_VARIANTS];
} KvcGpuPlanParams;

/* attend: as KvcAttendArgs says, for items of `work`; CTA c takes the items c,
 * c + gridDim, c + 2 gridDim ... Of a row block with several parts, the CTA
 * that arrives last joins them in order of part. */
typedef struct KvcGpuAttendParams {
  KvcAttendArgs args;
  KvcGpuItems work;
} KvcGpuAttendParams;

/* append: warp w of the grid encodes row w / kv heads of the batch for kv head
 * w % kv heads (of the store), K and V; `slot` as in KvcAppendArgs. */
typedef struct KvcGpuAppendParams {
  KvcAppendArgs args;
  int32_t rows;
  int32_t reserved;
} KvcGpuAppendParams;

/* merge, for engines with parts of their own: warp w of the grid joins the
 * `parts` parts of row w / q heads (of the store) of q and q head w % q heads.
 * Part p of query token i of sequence b is where KvcAttendArgs says, with
 * part_row and cu_q of this batch. */
typedef struct KvcGpuMergeParams {
  KvcAttendArgs args;
  int32_t batch;
  int32_t parts; /* of every sequence */
} KvcGpuMergeParams;

#endif /* KVC_LIB_ARTIFACT_GPUABI_H */
