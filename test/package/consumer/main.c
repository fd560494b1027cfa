/* main.c - appends and attends on its own buffers, and checks with plain loops.
 *
 *   consumer ARTIFACT
 *
 * The artifact's model is f32; a stream is stored as f32 or as int8 with an f32
 * scale per token and head. Everything else is asked of the runtime.
 */
#include <kvc/runtime.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 3, QUERIES = 2, CAPACITY = 64 };

/* The last sequence is a padding row: nothing cached, one query. */
static const int32_t kv_len[BATCH] = {45, 16, 0};
static const int32_t cu_q[BATCH + 1] = {0, QUERIES, 2 * QUERIES,
                                        2 * QUERIES + 1};
enum { ROWS = 2 * QUERIES + 1 };

static int failures = 0;

static void check(int ok, const char *store, const char *what) {
  if (ok)
    return;
  fprintf(stderr, "%s: wrong: %s\n", store, what);
  ++failures;
}

static void must(kvc_status status, const char *what) {
  if (status.code == KVC_OK)
    return;
  fprintf(stderr, "%s: %s: %s\n", what, kvc_code_name(status.code),
          kvc_error_text());
  exit(1);
}

static float random_float(void) {
  static uint32_t state = 1;
  state = state * 1664525u + 1013904223u;
  return (float)(state >> 8) / (float)(1 << 23) - 1.0f;
}

static float *random_floats(size_t count) {
  float *array = malloc(count * sizeof(float));
  for (size_t i = 0; i < count; ++i)
    array[i] = random_float();
  return array;
}

/* One layer's cache, in the caller's memory. */
struct store {
  kvc_store_info info;
  kvc_model_info model;
  int64_t page; /* tokens of a page or slot */
  int64_t page_count, table_stride;
  int32_t *table;
  kvc_plane *planes;
};

/* All ones: NaN as f32, so that a byte that must not matter shows if it does.
 */
static char *poisoned(size_t bytes) {
  bytes = (bytes + 63) / 64 * 64;
  char *memory = aligned_alloc(64, bytes);
  memset(memory, 0xFF, bytes);
  return memory;
}

static void place_planes(struct store *s) {
  const kvc_store_info *info = &s->info;
  int64_t heads = info->head_end - info->head_begin;
  char *pages = NULL;
  if (info->page_tokens)
    pages = poisoned(s->page_count * info->page_bytes);
  s->planes = calloc(info->plane_count, sizeof(kvc_plane));
  for (uint32_t i = 0; i < info->plane_count; ++i) {
    const kvc_plane_info *from = &info->planes[i];
    kvc_plane *to = &s->planes[i];
    to->head_stride = from->head_stride;
    if (pages) {
      to->base = pages + from->page_offset;
      to->page_stride = (int64_t)info->page_bytes;
      continue;
    }
    int64_t slot = s->page * from->row_stride;
    if (!to->head_stride) {
      to->head_stride = slot;
      slot *= heads;
    }
    to->page_stride = slot;
    to->base = poisoned(s->page_count * slot);
  }
}

/* Pages in an order of no meaning; entries that no token needs are far out. */
static void open_store(struct store *s) {
  s->page = s->info.page_tokens ? s->info.page_tokens : CAPACITY;
  s->table_stride = s->info.page_tokens ? CAPACITY / s->page : 1;
  s->page_count = BATCH * s->table_stride + 1;
  s->table = malloc(BATCH * s->table_stride * sizeof(int32_t));
  for (int32_t b = 0; b < BATCH; ++b)
    for (int32_t i = 0; i < s->table_stride; ++i) {
      int32_t at = (int32_t)(b * s->table_stride + i);
      int needed = (int64_t)i * s->page < kv_len[b];
      s->table[at] = needed ? (int32_t)(s->page_count - 1 - at) : INT32_MAX;
    }
  place_planes(s);
}

static const char *address(const struct store *s, uint32_t plane, int sequence,
                           int head, int token) {
  const kvc_plane *p = &s->planes[plane];
  int64_t id = s->table[sequence * s->table_stride + token / s->page];
  return (const char *)p->base + id * p->page_stride + head * p->head_stride +
         token % s->page * s->info.planes[plane].row_stride;
}

/* Reads element `index` of a cached row back; *step is the codec's half step.
 */
static float cached(const struct store *s, const char *stream, int sequence,
                    int head, int token, int index, float *half_step) {
  float scale = 0, value = 0;
  int8_t code = 0;
  int quantised = 0;
  for (uint32_t i = 0; i < s->info.plane_count; ++i) {
    const kvc_plane_info *info = &s->info.planes[i];
    if (strcmp(info->stream, stream))
      continue;
    const char *row = address(s, i, sequence, head, token);
    if (!strcmp(info->role, "scales"))
      memcpy(&scale, row, sizeof(scale));
    else if (!strcmp(info->type, "i8"))
      memcpy(&code, row + index, 1), quantised = 1;
    else
      memcpy(&value, row + 4 * index, 4);
  }
  *half_step = quantised ? scale * 0.501f : 0;
  return quantised ? (float)code * scale : value;
}

/* Appends every token of every sequence, and reads them back. */
static void append(const kvc_program *program, uint32_t index,
                   const struct store *s) {
  int rows = kv_len[0] + kv_len[1], row = 0;
  size_t k_row = s->model.kv_heads * s->model.head_dim_k;
  size_t v_row = s->model.kv_heads * s->model.head_dim_v;
  float *k = random_floats(rows * k_row), *v = random_floats(rows * v_row);
  int64_t *slot = malloc(rows * sizeof(int64_t));
  for (int b = 0; b < BATCH; ++b)
    for (int t = 0; t < kv_len[b]; ++t)
      slot[row++] =
          s->table[b * s->table_stride + t / s->page] * s->page + t % s->page;
  kvc_append_args args = {.size = sizeof(args),
                          .rows = (uint32_t)rows,
                          .k = k,
                          .k_row_stride = (int64_t)(k_row * sizeof(float)),
                          .v = v,
                          .v_row_stride = (int64_t)(v_row * sizeof(float)),
                          .slot = slot,
                          .slot_tokens = s->page,
                          .page_count = s->page_count};
  args.planes = s->planes;
  args.plane_count = s->info.plane_count;
  must(kvc_append(program, index, &args), "kvc_append");

  row = 0;
  int good = 1;
  for (int b = 0; b < BATCH; ++b)
    for (int t = 0; t < kv_len[b]; ++t, ++row)
      for (uint32_t h = 0; h < s->model.kv_heads; ++h) {
        float half;
        for (uint32_t i = 0; i < s->model.head_dim_k; ++i) {
          float got = cached(s, "k", b, (int)h, t, (int)i, &half);
          float want = k[row * k_row + h * s->model.head_dim_k + i];
          good &= fabsf(got - want) <= half;
        }
        for (uint32_t i = 0; i < s->model.head_dim_v; ++i) {
          float got = cached(s, "v", b, (int)h, t, (int)i, &half);
          float want = v[row * v_row + h * s->model.head_dim_v + i];
          good &= fabsf(got - want) <= half;
        }
      }
  check(good, s->info.name, "what append wrote");
  free(k), free(v), free(slot);
}

/* Attention of one query over the cached tokens [0, tokens), in plain loops. */
static double reference(const struct store *s, const float *q, int sequence,
                        int head, int tokens, double *out) {
  double max = -INFINITY, sum = 0, scores[CAPACITY];
  float half;
  for (int t = 0; t < tokens; ++t) {
    scores[t] = 0;
    for (uint32_t i = 0; i < s->model.head_dim_k; ++i)
      scores[t] +=
          (double)q[i] * cached(s, "k", sequence, head, t, (int)i, &half);
    scores[t] *= s->model.softmax_scale;
    max = fmax(max, scores[t]);
  }
  for (uint32_t i = 0; i < s->model.head_dim_v; ++i)
    out[i] = 0;
  for (int t = 0; t < tokens; ++t)
    sum += scores[t] = exp(scores[t] - max);
  for (int t = 0; t < tokens; ++t)
    for (uint32_t i = 0; i < s->model.head_dim_v; ++i)
      out[i] +=
          scores[t] / sum * cached(s, "v", sequence, head, t, (int)i, &half);
  return tokens ? max + log(sum) : -INFINITY;
}

static int same(double got, double want) {
  return got == want || fabs(got - want) <= 2e-5;
}

static void check_rows(const struct store *s, const float *q, const float *out,
                       const float *lse) {
  uint32_t group = s->model.q_heads / s->model.kv_heads;
  double want[1024];
  for (int b = 0; b < BATCH; ++b)
    for (int row = cu_q[b]; row < cu_q[b + 1]; ++row)
      for (uint32_t h = 0; h < s->model.q_heads; ++h) {
        int tokens = kv_len[b] - (cu_q[b + 1] - 1 - row);
        size_t at = (size_t)row * s->model.q_heads + h;
        double want_lse =
            reference(s, q + at * s->model.head_dim_k, b, (int)(h / group),
                      tokens < 0 ? 0 : tokens, want);
        check(same(lse[at], want_lse), s->info.name, "log-sum-exp");
        int good = 1;
        for (uint32_t i = 0; i < s->model.head_dim_v; ++i)
          good &= same(out[at * s->model.head_dim_v + i], want[i]);
        check(good, s->info.name, "attention");
      }
}

static void attend(const kvc_program *program, uint32_t index,
                   const struct store *s) {
  size_t q_row = s->model.q_heads * s->model.head_dim_k;
  size_t out_row = s->model.q_heads * s->model.head_dim_v;
  float *q = random_floats(ROWS * q_row);
  float *out = (float *)poisoned(ROWS * out_row * sizeof(float));
  float *lse = (float *)poisoned(ROWS * s->model.q_heads * sizeof(float));
  size_t workspace = 0;
  must(kvc_attend_workspace(program, index, BATCH, ROWS, CAPACITY, &workspace),
       "kvc_attend_workspace");
  kvc_attend_args args = {.size = sizeof(args),
                          .batch = BATCH,
                          .q = q,
                          .q_row_stride = (int64_t)(q_row * sizeof(float)),
                          .out = out,
                          .out_row_stride = (int64_t)(out_row * sizeof(float)),
                          .lse = lse,
                          .lse_row_stride =
                              (int64_t)(s->model.q_heads * sizeof(float)),
                          .cu_q = cu_q,
                          .kv_len = kv_len,
                          .table = s->table,
                          .table_stride = s->table_stride,
                          .page_count = s->page_count,
                          .slot_tokens = s->page,
                          .workspace = poisoned(workspace ? workspace : 64),
                          .workspace_bytes = workspace};
  args.planes = s->planes;
  args.plane_count = s->info.plane_count;
  must(kvc_attend(program, index, &args), "kvc_attend");
  check_rows(s, q, out, lse);
  free(q), free(out), free(lse), free(args.workspace);
}

int main(int argc, char **argv) {
  if (argc != 2 || kvc_runtime_abi() != KVC_RUNTIME_ABI)
    return 2;
  kvc_device *device;
  kvc_program *program;
  must(kvc_device_create_cpu(NULL, &device), "kvc_device_create_cpu");
  must(kvc_program_load_file(device, argv[1], &program), argv[1]);
  uint32_t stores = kvc_program_store_count(program), layers = 0;
  for (uint32_t i = 0; i < stores; ++i) {
    struct store s = {.info = {.size = sizeof(s.info)},
                      .model = {.size = sizeof(s.model)}};
    must(kvc_program_get_model(program, &s.model), "kvc_program_get_model");
    must(kvc_program_get_store(program, i, &s.info), "kvc_program_get_store");
    for (uint32_t at = 0; at < s.info.layer_count; ++at)
      layers += s.info.layers[at] < s.model.layers;
    check(layers <= s.model.layers, s.info.name, "layers");
    open_store(&s);
    append(program, i, &s);
    attend(program, i, &s);
  }
  printf("%s for %s: %u stores, %d failures\n", kvc_program_name(program),
         kvc_program_target(program), stores, failures);
  kvc_program_release(program);
  kvc_device_release(device);
  return failures || !stores;
}
