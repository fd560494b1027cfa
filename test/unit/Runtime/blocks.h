/*===- blocks.h - the blocks of kernels written by hand -----------*- C -*-===//
 *
 * All words of a kind, in the order in which Blocks.cpp lists them for the
 * manifest. A compiler would choose another, and leave out what a kernel does
 * not ask for.
 *
 *===----------------------------------------------------------------------===*/
#ifndef KVC_TEST_UNIT_RUNTIME_BLOCKS_H
#define KVC_TEST_UNIT_RUNTIME_BLOCKS_H

#include "lib/base/Artifact/GpuAbi.h"

typedef struct PlaneWords {
  uint8_t *base;
  int64_t page_stride, head_stride;
} PlaneWords;

/* attend and merge of a CPU, where work tiles have the split row */
typedef struct AttendBlock {
  const void *q;
  int64_t q_row_stride, q_head_stride;
  void *out;
  int64_t out_row_stride, out_head_stride;
  float *lse;
  int64_t lse_row_stride, lse_head_stride;
  const int32_t *cu_q;
  const int32_t *kv_len;
  const int32_t *table;
  int64_t table_stride;
  const int64_t *split_row;
  float *partial_o;
  float *partial_lse;
  PlaneWords planes[2];
} AttendBlock;

/* append and gather of any device */
typedef struct RowBlock {
  int64_t nothing; /* a word that the manifest does not list */
  int64_t rows;
  PlaneWords planes[2];
  void *k; /* gather writes it */
  int64_t k_row_stride, k_head_stride;
  void *v;
  int64_t v_row_stride, v_head_stride;
  const int64_t *slot;
  int64_t slot_tokens;
} RowBlock;

typedef struct WorkWords {
  KvcGpuWorkTile *work_tiles;
  int32_t *count;
  uint32_t *split_counters;
  int64_t capacity;
} WorkWords;

/* plan; it ends after the last attend kernel that the store has */
typedef struct PlanBlock {
  const int32_t *cu_q;
  const int32_t *kv_len;
  int64_t *split_row;
  int64_t batch;
  int64_t max_kv_len;
  int64_t split_rows;
  WorkWords attends[2];
} PlanBlock;

/* attend of a GPU */
typedef struct GpuAttendBlock {
  AttendBlock args;
  WorkWords work;
} GpuAttendBlock;

#endif /* KVC_TEST_UNIT_RUNTIME_BLOCKS_H */
