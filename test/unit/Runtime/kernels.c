/*===- kernels.c - plain kernels that keep the kernel ABI ---------*- C -*-===//
 *
 * What a compiled artifact would hold, written by hand for the three stores of
 * Fixture.cpp: the runtime is tested without the compiler. f32, no calls, no
 * variables. Attend uses its scratch, so that sharing one is seen.
 *
 *===----------------------------------------------------------------------===*/
#include "test/unit/Runtime/blocks.h"
#include "test/unit/Runtime/kernel_math.h"

typedef struct {
  int heads, head_begin;
  int64_t page; /* 0: contiguous */
  int64_t stride_k, stride_v;
  int64_t sink, recent; /* recent 0: sees all */
} Store;

static const float *row(const AttendBlock *args, const KvcWorkTile *tile,
                        const Store *s, int plane, int64_t token) {
  const int32_t *table = args->table + tile->sequence * args->table_stride;
  int64_t page = s->page ? table[token / s->page] : table[0];
  int64_t inside = s->page ? token % s->page : token;
  const PlaneWords *p = &args->planes[plane];
  return (const float *)(p->base + page * p->page_stride +
                         tile->head * p->head_stride +
                         inside * (plane ? s->stride_v : s->stride_k));
}

static int sees(const Store *s, int64_t position, int64_t token) {
  return token <= position &&
         (s->recent == 0 || token < s->sink || token > position - s->recent);
}

static double score(const float *q, const float *k) {
  double sum = 0;
  for (int c = 0; c < DimK; ++c)
    sum += (double)q[c] * k[c];
  return sum * 0.5; /* softmax scale */
}

static int64_t split_row(const KvcWorkTile *tile, const Store *s, int split_idx,
                         int query, int g) {
  int64_t row = (int64_t)split_idx * tile->split_queries + query;
  return tile->split_row + row * (s->heads * Group) + tile->head * Group + g;
}

static void attend_row(const AttendBlock *args, const KvcWorkTile *tile,
                       const Store *s, int query, int g) {
  int b = tile->sequence, n = args->cu_q[b + 1] - args->cu_q[b];
  int64_t position = args->kv_len[b] - n + query;
  const float *q =
      (const float *)((const char *)args->q +
                      (args->cu_q[b] + query) * args->q_row_stride +
                      ((s->head_begin + tile->head) * Group + g) *
                          args->q_head_stride);
  double *sum = tile->scratch, total = 0, largest = 0;
  int any = 0;
  for (int64_t t = tile->begin; t < tile->end; ++t) {
    if (!sees(s, position, t))
      continue;
    double x = score(q, row(args, tile, s, 0, t));
    if (!any || x > largest)
      largest = x;
    any = 1;
  }
  for (int c = 0; c < DimV; ++c)
    sum[c] = 0;
  for (int64_t t = tile->begin; t < tile->end; ++t) {
    if (!sees(s, position, t))
      continue;
    double p = exponential(score(q, row(args, tile, s, 0, t)) - largest);
    const float *v = row(args, tile, s, 1, t);
    total += p;
    for (int c = 0; c < DimV; ++c)
      sum[c] += p * v[c];
  }
  int64_t to = split_row(tile, s, tile->split_idx, query, g);
  for (int c = 0; c < DimV; ++c)
    args->partial_o[to * DimV + c] = any ? (float)(sum[c] / total) : 0;
  args->partial_lse[to] =
      any ? (float)(largest + logarithm(total)) : -__builtin_inff();
}

static void attend(const AttendBlock *args, const KvcWorkTile *tile,
                   const Store *s) {
  for (int query = tile->row_begin; query < tile->row_end; ++query)
    for (int g = 0; g < Group; ++g)
      attend_row(args, tile, s, query, g);
}

static void merge_row(const AttendBlock *args, const KvcWorkTile *tile,
                      const Store *s, int query, int g) {
  int64_t at = args->cu_q[tile->sequence] + query;
  int q_head = (s->head_begin + tile->head) * Group + g;
  double sum[DimV], total = 0;
  float largest = -__builtin_inff();
  for (int split_idx = 0; split_idx < tile->split_idx; ++split_idx) {
    float lse = args->partial_lse[split_row(tile, s, split_idx, query, g)];
    if (lse > largest)
      largest = lse;
  }
  for (int c = 0; c < DimV; ++c)
    sum[c] = 0;
  for (int split_idx = 0; split_idx < tile->split_idx; ++split_idx) {
    int64_t from = split_row(tile, s, split_idx, query, g);
    float lse = args->partial_lse[from];
    double weight =
        lse == -__builtin_inff() ? 0 : exponential((double)lse - largest);
    total += weight;
    for (int c = 0; c < DimV; ++c)
      sum[c] += weight * args->partial_o[from * DimV + c];
  }
  float *out = (float *)((char *)args->out + at * args->out_row_stride +
                         q_head * args->out_head_stride);
  for (int c = 0; c < DimV; ++c)
    out[c] = total > 0 ? (float)(sum[c] / total) : 0;
  if (args->lse)
    *(float *)((char *)args->lse + at * args->lse_row_stride +
               q_head * args->lse_head_stride) =
        total > 0 ? (float)(largest + logarithm(total)) : -__builtin_inff();
}

static void merge(const AttendBlock *args, const KvcWorkTile *tile,
                  const Store *s) {
  for (int query = tile->row_begin; query < tile->row_end; ++query)
    for (int g = 0; g < Group; ++g)
      merge_row(args, tile, s, query, g);
}

/* Append, or gather: the other way. */
static void move(const RowBlock *args, const KvcWorkTile *tile, const Store *s,
                 int gathers) {
  for (int64_t i = tile->begin; i < tile->end; ++i) {
    if (args->slot[i] < 0)
      continue;
    int64_t page = args->slot[i] / args->slot_tokens;
    int64_t token = args->slot[i] % args->slot_tokens;
    for (int plane = 0; plane < 2; ++plane)
      for (int head = 0; head < s->heads; ++head) {
        const PlaneWords *p = &args->planes[plane];
        int dim = plane ? DimV : DimK;
        char *rows = plane ? args->v : args->k;
        if (!rows)
          continue;
        float *row =
            (float *)(rows +
                      i * (plane ? args->v_row_stride : args->k_row_stride) +
                      (s->head_begin + head) *
                          (plane ? args->v_head_stride : args->k_head_stride));
        float *cached =
            (float *)(p->base + page * p->page_stride + head * p->head_stride +
                      token * (plane ? s->stride_v : s->stride_k));
        for (int c = 0; c < dim; ++c)
          *(gathers ? &row[c] : &cached[c]) = gathers ? cached[c] : row[c];
      }
  }
}

#define KERNELS(name, ...)                                                     \
  void name##_attend(const AttendBlock *args, const KvcWorkTile *tile) {       \
    Store store = {__VA_ARGS__};                                               \
    attend(args, tile, &store);                                                \
  }                                                                            \
  void name##_merge(const AttendBlock *args, const KvcWorkTile *tile) {        \
    Store store = {__VA_ARGS__};                                               \
    merge(args, tile, &store);                                                 \
  }                                                                            \
  void name##_append(const RowBlock *args, const KvcWorkTile *tile) {          \
    Store store = {__VA_ARGS__};                                               \
    move(args, tile, &store, 0);                                               \
  }                                                                            \
  void name##_gather(const RowBlock *args, const KvcWorkTile *tile) {          \
    Store store = {__VA_ARGS__};                                               \
    move(args, tile, &store, 1);                                               \
  }

/* heads, first head, page, strides of K and V, sink, recent */
KERNELS(paged, 2, 0, 4, 32, 64, 0, 0)
KERNELS(window, 1, 0, 8, 32, 64, 3, 6)
KERNELS(flat, 1, 1, 0, 32, 64, 0, 0)

/* `paged` on a CPU with AMX: one product of tiles of 4 bytes, then the work. */
static void multiply_tiles(void) {
  uint8_t config[64] = {1};
  for (int tile = 0; tile < 3; ++tile) {
    config[16 + 2 * tile] = 4;
    config[48 + tile] = 1;
  }
  __asm__ volatile("ldtilecfg %0\n\t"
                   "tilezero %%tmm0\n\t"
                   "tilezero %%tmm1\n\t"
                   "tilezero %%tmm2\n\t"
                   "tdpbf16ps %%tmm2, %%tmm1, %%tmm0"
                   :
                   : "m"(config));
}
void tiles_append(const RowBlock *args, const KvcWorkTile *tile) {
  multiply_tiles();
  __asm__ volatile("tilerelease");
  paged_append(args, tile);
}
/* These forget to release their tiles. */
#define TILES_KEPT(kind, Args)                                                 \
  void tiles_kept_##kind(const Args *args, const KvcWorkTile *tile) {          \
    multiply_tiles();                                                          \
    paged_##kind(args, tile);                                                  \
  }
TILES_KEPT(append, RowBlock)
TILES_KEPT(gather, RowBlock)
TILES_KEPT(attend, AttendBlock)
TILES_KEPT(merge, AttendBlock)
