/*===- gpu_kernels.c - plain kernels that keep the GPU ABI --------*- C -*-===//
 *
 * What an artifact for an emulated GPU would hold, written by hand for the
 * three stores of Fixture.h: the runtime is tested without the compiler. A
 * store's warps and lanes share its rows as generated kernels do, so that
 * splits are combined by whoever arrives last.
 *
 *===----------------------------------------------------------------------===*/
#include "lib/base/Simt/SimAbi.h"
#include "test/unit/Runtime/blocks.h"
#include "test/unit/Runtime/kernel_math.h"

enum { Lanes = 32 };
/* Lines of the artifact's sites (GpuFixture.cpp). */
enum { SiteWhere, SiteRead, SiteWrite, SiteJoin };

typedef KvcSimThread Thread;

typedef struct {
  int min_queries, rows, split;
} Variant;

typedef struct {
  int heads, head_begin;
  int64_t page; /* 0: contiguous */
  int64_t stride_k, stride_v;
  int64_t sink, recent; /* recent 0: sees all */
  int variants;
  Variant variant[2];
} Store;

/*===--- what a GPU has and C has not -------------------------------------===*/

static uint32_t op(Thread *t, uint32_t op, uint32_t site) {
  t->op(t, op, site);
  return (uint32_t)t->out[0];
}
static int where(Thread *t, uint32_t which) {
  return (int)op(t, which, SiteWhere);
}
static uint32_t from_lane0(Thread *t, uint32_t x) {
  t->in[0] = x;
  t->in[1] = 0;
  return op(t, KVC_OP_ShflIdx, SiteJoin);
}
static uint32_t arrive(Thread *t, uint32_t *counter) {
  t->in[0] = (uintptr_t)counter;
  t->in[1] = 1;
  return op(t, KVC_OP_AtomAddAcqRel, SiteJoin);
}

/* Accesses to global memory, as the emulator wants to see them. */
#define READ(address)                                                          \
  (t->access(t, (address), sizeof(*(address)), 0, SiteRead), *(address))
#define WRITE(address, value)                                                  \
  (t->access(t, (address), sizeof(*(address)), KVC_SIM_WRITE, SiteWrite),      \
   *(address) = (value))

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t most(int64_t a, int64_t b) { return a < b ? b : a; }
static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/*===--- plan -------------------------------------------------------------===*/

/* Splits [0, sink_end) and [recent_begin, recent_end). */
typedef struct {
  int64_t sink_end, recent_begin, recent_end;
} Splits;

static Splits splits_of(const Store *s, int split, int64_t n, int64_t length) {
  Splits splits = {0, 0, split ? ceil_div(length, split) : length != 0};
  if (s->recent && split && length) {
    int64_t oldest = most(0, length - n - s->recent + 1);
    splits.sink_end = ceil_div(least(s->sink, length), split);
    splits.recent_begin = most(oldest / split, splits.sink_end);
    splits.recent_end = most(splits.recent_end, splits.recent_begin);
  }
  return splits;
}

static void plan_sequence(Thread *t, const WorkWords *to, const Store *s,
                          const Variant *v, KvcGpuWorkTile tile, int64_t n,
                          int64_t length) {
  Splits splits = splits_of(s, v->split, n, length);
  int32_t count = READ(to->count);
  for (tile.split_idx = 0; tile.split_idx < tile.num_splits; ++tile.split_idx)
    for (tile.head = 0; tile.head < s->heads; ++tile.head)
      for (int64_t row = 0; row < n * Group; row += v->rows) {
        int64_t split =
            tile.split_idx < splits.sink_end
                ? tile.split_idx
                : splits.recent_begin + tile.split_idx - splits.sink_end;
        tile.begin = (int32_t)(split * v->split);
        tile.end =
            (int32_t)(v->split ? least(tile.begin + v->split, length) : length);
        tile.row_begin = (int32_t)row;
        tile.row_end = (int32_t)least(row + v->rows, n * Group);
        if (count == to->capacity)
          return;
        WRITE(&to->work_tiles[count], tile);
        WRITE(&to->split_counters[count], 0);
        WRITE(to->count, ++count);
      }
}

static void plan(Thread *t, const PlanBlock *p, const Store *s) {
  if (where(t, KVC_OP_TidX))
    return;
  int64_t split_rows = 0;
  for (int v = 0; v < s->variants; ++v)
    WRITE(p->attends[v].count, 0);
  for (int32_t b = 0; b < p->batch; ++b) {
    int64_t n = READ(&p->cu_q[b + 1]) - READ(&p->cu_q[b]);
    int64_t length = least(READ(&p->kv_len[b]), p->max_kv_len);
    int v = s->variants - 1;
    while (v >= 0 && s->variant[v].min_queries > n)
      --v;
    WRITE(&p->split_row[b], split_rows);
    if (v < 0)
      continue;
    Splits splits = splits_of(s, s->variant[v].split, n, length);
    KvcGpuWorkTile tile = {0};
    tile.sequence = b;
    tile.num_splits = (int32_t)most(1, splits.sink_end + splits.recent_end -
                                           splits.recent_begin);
    if (tile.num_splits > 1)
      split_rows += tile.num_splits * n * s->heads * Group;
    if (tile.num_splits == 1 || split_rows <= p->split_rows)
      plan_sequence(t, &p->attends[v], s, &s->variant[v], tile, n, length);
  }
}

/*===--- attend -----------------------------------------------------------===*/

static int sees(const Store *s, int64_t position, int64_t token) {
  return token <= position &&
         (s->recent == 0 || token < s->sink || token > position - s->recent);
}

static const float *cached(Thread *t, const AttendBlock *a,
                           const KvcGpuWorkTile *tile, const Store *s,
                           int plane, int64_t token) {
  const int32_t *table = a->table + tile->sequence * a->table_stride;
  int64_t page = s->page ? READ(&table[token / s->page]) : READ(table);
  int64_t inside = s->page ? token % s->page : token;
  const PlaneWords *p = &a->planes[plane];
  return (const float *)(p->base + page * p->page_stride +
                         tile->head * p->head_stride +
                         inside * (plane ? s->stride_v : s->stride_k));
}

/* One query row and what is known of it. */
typedef struct {
  int64_t row, position; /* in the batch; in the sequence */
  int q_head;            /* q head of the model */
  int64_t split_row, split_stride;
} Row;

static Row row_of(Thread *t, const AttendBlock *a, const KvcGpuWorkTile *tile,
                  const Store *s, int r) {
  int b = tile->sequence, query = r / Group, g = r % Group;
  int32_t first = READ(&a->cu_q[b]), n = READ(&a->cu_q[b + 1]) - first;
  Row row;
  row.row = first + query;
  row.position = READ(&a->kv_len[b]) - n + query;
  row.q_head = (s->head_begin + tile->head) * Group + g;
  int heads = s->heads * Group;
  row.split_stride = (int64_t)n * heads;
  row.split_row =
      READ(&a->split_row[b]) + query * heads + tile->head * Group + g;
  return row;
}

static double score(Thread *t, const AttendBlock *a, const KvcGpuWorkTile *tile,
                    const Store *s, const Row *row, int64_t token) {
  const float *q =
      (const float *)((const char *)a->q + row->row * a->q_row_stride +
                      row->q_head * a->q_head_stride);
  const float *k = cached(t, a, tile, s, 0, token);
  double sum = 0;
  for (int c = 0; c < DimK; ++c)
    sum += (double)READ(&q[c]) * READ(&k[c]);
  return sum * 0.5; /* softmax scale */
}

static void write_row(Thread *t, const AttendBlock *a, const Row *row,
                      const double *sum, double total, double largest) {
  float *out = (float *)((char *)a->out + row->row * a->out_row_stride +
                         row->q_head * a->out_head_stride);
  for (int c = 0; c < DimV; ++c)
    WRITE(&out[c], total > 0 ? (float)(sum[c] / total) : 0);
  if (!a->lse)
    return;
  float *lse = (float *)((char *)a->lse + row->row * a->lse_row_stride +
                         row->q_head * a->lse_head_stride);
  WRITE(lse,
        total > 0 ? (float)(largest + logarithm(total)) : -__builtin_inff());
}

static void attend_row(Thread *t, const AttendBlock *a,
                       const KvcGpuWorkTile *tile, const Store *s, int r) {
  Row row = row_of(t, a, tile, s, r);
  double sum[DimV], total = 0, largest = 0;
  int any = 0;
  for (int64_t token = tile->begin; token < tile->end; ++token) {
    if (!sees(s, row.position, token))
      continue;
    double x = score(t, a, tile, s, &row, token);
    if (!any || x > largest)
      largest = x;
    any = 1;
  }
  for (int c = 0; c < DimV; ++c)
    sum[c] = 0;
  for (int64_t token = tile->begin; token < tile->end; ++token) {
    if (!sees(s, row.position, token))
      continue;
    double p = exponential(score(t, a, tile, s, &row, token) - largest);
    const float *v = cached(t, a, tile, s, 1, token);
    total += p;
    for (int c = 0; c < DimV; ++c)
      sum[c] += p * READ(&v[c]);
  }
  if (tile->num_splits == 1) {
    write_row(t, a, &row, sum, total, largest);
    return;
  }
  int64_t to = row.split_row + tile->split_idx * row.split_stride;
  for (int c = 0; c < DimV; ++c)
    WRITE(&a->partial_o[to * DimV + c], any ? (float)(sum[c] / total) : 0);
  WRITE(&a->partial_lse[to],
        any ? (float)(largest + logarithm(total)) : -__builtin_inff());
}

static void combine_row(Thread *t, const AttendBlock *a,
                        const KvcGpuWorkTile *tile, const Store *s, int r) {
  Row row = row_of(t, a, tile, s, r);
  double sum[DimV], total = 0;
  float largest = -__builtin_inff();
  for (int split_idx = 0; split_idx < tile->num_splits; ++split_idx) {
    int64_t from = row.split_row + split_idx * row.split_stride;
    float lse = READ(&a->partial_lse[from]);
    if (lse > largest)
      largest = lse;
  }
  for (int c = 0; c < DimV; ++c)
    sum[c] = 0;
  for (int split_idx = 0; split_idx < tile->num_splits; ++split_idx) {
    int64_t from = row.split_row + split_idx * row.split_stride;
    float lse = READ(&a->partial_lse[from]);
    double weight =
        lse == -__builtin_inff() ? 0 : exponential((double)lse - largest);
    total += weight;
    for (int c = 0; c < DimV; ++c)
      sum[c] += weight * READ(&a->partial_o[from * DimV + c]);
  }
  write_row(t, a, &row, sum, total, largest);
}

/* The work tile of split 0 of a work tile's rows. */
static int64_t block_of(Thread *t, const AttendBlock *a,
                        const KvcGpuWorkTile *tile, const Store *s,
                        const Variant *v, int64_t index) {
  int b = tile->sequence;
  int64_t n = READ(&a->cu_q[b + 1]) - READ(&a->cu_q[b]);
  return index - tile->split_idx * s->heads * ceil_div(n * Group, v->rows);
}

static void attend(Thread *t, const GpuAttendBlock *p, const Store *s,
                   const Variant *v) {
  int lane = where(t, KVC_OP_TidX), grid = where(t, KVC_OP_NctaidX);
  int32_t count = READ(p->work.count);
  for (int i = where(t, KVC_OP_CtaidX); i < count; i += grid) {
    KvcGpuWorkTile tile = READ(&p->work.work_tiles[i]);
    for (int r = tile.row_begin + lane; r < tile.row_end; r += Lanes)
      attend_row(t, &p->args, &tile, s, r);
    if (tile.num_splits == 1)
      continue;
    op(t, KVC_OP_WarpSync, SiteJoin);
    uint32_t before = 0;
    uint32_t *counter =
        &p->work.split_counters[block_of(t, &p->args, &tile, s, v, i)];
    if (lane == 0)
      before = arrive(t, counter);
    if (lane == 0 && before + 1 == (uint32_t)tile.num_splits)
      WRITE(counter, 0); /* for the attend after this one */
    before = from_lane0(t, before);
    /* Which hands a value over, but orders no memory. */
    op(t, KVC_OP_WarpSync, SiteJoin);
    if (before + 1 != (uint32_t)tile.num_splits)
      continue;
    for (int r = tile.row_begin + lane; r < tile.row_end; r += Lanes)
      combine_row(t, &p->args, &tile, s, r);
  }
}

/*===--- append, gather ---------------------------------------------------===*/

/* Two warps a CTA; the last may be one too many. */
static void move(Thread *t, const RowBlock *a, const Store *s, int gathers) {
  int thread = where(t, KVC_OP_TidX);
  int64_t warp = (int64_t)where(t, KVC_OP_CtaidX) * 2 + thread / Lanes;
  int64_t row = warp / s->heads, head = warp % s->heads;
  if (row >= a->rows)
    return;
  int64_t slot = READ(&a->slot[row]);
  if (slot < 0)
    return;
  for (int plane = 0; plane < 2; ++plane) {
    const PlaneWords *to = &a->planes[plane];
    int dim = plane ? DimV : DimK;
    char *rows = plane ? a->v : a->k;
    if (!rows)
      continue;
    int64_t stride = plane ? a->v_row_stride : a->k_row_stride;
    int64_t head_stride = plane ? a->v_head_stride : a->k_head_stride;
    float *given =
        (float *)(rows + row * stride + (s->head_begin + head) * head_stride);
    float *cached =
        (float *)(to->base + slot / a->slot_tokens * to->page_stride +
                  head * to->head_stride +
                  slot % a->slot_tokens * (plane ? s->stride_v : s->stride_k));
    const float *source = gathers ? cached : given;
    float *target = gathers ? given : cached;
    for (int c = thread % Lanes; c < dim; c += Lanes)
      WRITE(&target[c], READ(&source[c]));
  }
}

/*===--- kernels ----------------------------------------------------------===*/

#define STORE(name, ...)                                                       \
  static const Store name = {__VA_ARGS__};                                     \
  void name##_plan(Thread *t, const void *params) { plan(t, params, &name); }  \
  void name##_append(Thread *t, const void *params) {                          \
    move(t, params, &name, 0);                                                 \
  }                                                                            \
  void name##_gather(Thread *t, const void *params) {                          \
    move(t, params, &name, 1);                                                 \
  }
#define ATTEND(name, variant_index)                                            \
  void name##_attend##variant_index(Thread *t, const void *params) {           \
    attend(t, params, &name, &name.variant[variant_index]);                    \
  }

/* heads, first head, page, strides of K and V, sink, recent, variants:
 * query tokens from, rows per work tile, tokens per split */
STORE(paged, 2, 0, 4, 32, 64, 0, 0, 2, {{1, 6, 8}, {4, 10, 12}})
ATTEND(paged, 0)
ATTEND(paged, 1)
STORE(window, 1, 0, 8, 32, 64, 3, 6, 1, {{1, 4, 4}})
ATTEND(window, 0)
STORE(flat, 1, 1, 0, 32, 64, 0, 0, 1, {{1, 8, 0}})
ATTEND(flat, 0)
