/*===- kvc/runtime.h - C ABI of the kvc runtime ------------------*- C -*-===//
 *
 * Loads a compiled artifact (.kvca) and runs its kernels, on the caller's own
 * buffers (kvc_append, kvc_attend, ...) or through a cache that manages pages
 * (kvc_cache_*, in kvc/cache.h, which this includes). Plain C, no LLVM.
 *
 *   kvc_device *device;  kvc_program *program;  kvc_cache *cache;
 *   kvc_device_create_cpu(NULL, &device);
 *   kvc_program_load_file(device, "model.kvca", &program);
 *   kvc_cache_create(program, &options, &cache);
 *   kvc_cache_open(cache, &sequence);
 *   each step: kvc_cache_reserve; per layer kvc_cache_append, kvc_cache_attend;
 *              kvc_cache_commit
 *   kvc_cache_release(cache, sequence);
 *
 * Rules that hold everywhere
 * - Every function that can fail returns kvc_status. Any code but KVC_OK,
 *   KVC_DEVICE_ERROR and KVC_POISONED leaves all state as it was before the
 *   call. kvc_error_text() explains the last failure on this thread.
 * - Running out of memory is KVC_OUT_OF_MEMORY, never the end of the process:
 *   the call may be made again. An emulator needs memory in append, gather and
 *   attend too, which may then have written some of the rows they were to
 *   write.
 * - Structs that may grow start with `size`; set it to sizeof(the struct).
 *   Fields beyond the caller's size read as 0. A size that ends inside a field
 *   is KVC_INVALID_ARGUMENT.
 * - A kvc_append, kvc_gather or kvc_attend without rows does nothing and needs
 *   no buffers; a step of a cache has at least one.
 * - Handles do not survive fork(). In the child those of the parent can only be
 *   released (kvc_device_release, kvc_program_release, kvc_cache_destroy);
 *   every other call is KVC_STALE. The child makes its own, also while the
 *   parent was in a call. What the parent had on a GPU is left as it is.
 * - Strides are in bytes. Rows of q, k, v and out have all heads of the model,
 *   [heads][dim] of its dtype; a store touches its own only. A head's elements
 *   are dense. A head stride of 0 says that the heads of a row are, too;
 *   otherwise it is below 2^31.
 * - Query head h reads kv head h / (q_heads / kv_heads).
 * - K comes as it is cached: a model that rotates positions (RoPE) rotates k
 *   and q before these calls. q comes unscaled: kernels multiply logits by the
 *   model's softmax_scale.
 * - On a GPU, what holds rows, pages or a batch is device memory: every pointer
 *   in kvc_append_args, kvc_gather_args and kvc_attend_args but `planes` and
 *   `constants` (what that points at is), what kvc_cache_append,
 *   kvc_cache_attend and kvc_cache_read take, what kvc_cache_set_constants
 *   points at, the arena, and what kvc_cache_view gives. Requests, accepted
 *   counts, options and results of other calls are host memory.
 * - kvc_device and kvc_program may be used from any thread. A kvc_cache is
 *   locked inside, unless created with KVC_SINGLE_OWNER.
 * - After create, no call below allocates heap memory, but for load and create
 *   themselves, and what runs on an emulated GPU.
 *
 *===----------------------------------------------------------------------===*/
#ifndef KVC_RUNTIME_H
#define KVC_RUNTIME_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define KVC_API
#else
#define KVC_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Changes when a struct or a meaning changes; kvc_runtime_abi() returns the
 * library's. */
#define KVC_RUNTIME_ABI 4
KVC_API uint32_t kvc_runtime_abi(void);

/*===--- status -----------------------------------------------------------===*/

typedef enum kvc_code {
  KVC_OK = 0,
  KVC_WOULD_BLOCK = 1,  /* enough pages exist, but work in flight reads them */
  KVC_OUT_OF_PAGES = 2, /* release something; kvc_error_text() says which store
                           is short, and if its pages can never suffice */
  KVC_OUT_OF_SEQUENCES = 3, /* the table of sequences or steps is full */
  KVC_STALE = 4,            /* the handle names something released, or made
                               before fork() */
  KVC_BUSY = 5,             /* the sequence is in an open step or being read, or
                               an append or attend of the step is under way */
  KVC_INVALID_ARGUMENT = 6,
  KVC_UNSUPPORTED = 7,   /* no variant of the artifact runs here, or it has no
                            kernel for this */
  KVC_OUT_OF_MEMORY = 8, /* the host, or the device, has no more memory or
                            threads to give now */
  KVC_IO_ERROR = 9,      /* a file could not be read */
  KVC_CORRUPT = 10,      /* an artifact that is damaged or hostile */
  KVC_DEVICE_ERROR = 11,
  KVC_POISONED = 12,      /* an invariant broke earlier; only stats, check and
                             destroy still work */
  KVC_SEQUENCE_FULL = 13, /* more tokens than max_tokens_per_seq: this sequence
                             can never have them */
  KVC_NOT_APPENDED = 14   /* the step's rows of a layer are not written */
} kvc_code;

typedef struct kvc_status {
  uint32_t code;  /* kvc_code */
  uint32_t where; /* stable number of the check that failed, 0 if ok */
  /* OUT_OF_PAGES, WOULD_BLOCK: pages asked for, free now, and free once nothing
   * is in flight. */
  uint64_t need, have, have_later;
} kvc_status;

/* "out of pages", for any code. */
KVC_API const char *kvc_code_name(uint32_t code);
/* The last failure on this thread, in one line; valid until the next call that
 * fails. "" if none. */
KVC_API const char *kvc_error_text(void);

/*===--- devices ----------------------------------------------------------===*/

typedef struct kvc_device kvc_device;

/* The engine's own parallel for. `run` must call task(arg, index, worker) once
 * for every index in [0, tasks), on any thread, at most one call at a time per
 * worker in [0, workers), and return when all have returned. */
typedef struct kvc_parallel {
  void *context;
  uint32_t workers;
  void (*run)(void *context, uint32_t tasks,
              void (*task)(void *arg, uint32_t index, uint32_t worker),
              void *arg);
} kvc_parallel;

/* What makes code that runs of the objects in an artifact. The runtime has one
 * of its own, which links no LLVM and tells debuggers and profilers nothing;
 * kvc_orc_code_loader() of kvc/compiler.h gives another, for programs that this
 * process compiles. The functions are called from any thread, several at once;
 * they and `context` must outlive the device and its programs. */
typedef struct kvc_code_loader {
  size_t size;
  void *context;
  /* Loads one x86-64 relocatable ELF object, which needs no symbol from
   * elsewhere; its bytes are the caller's again on return. Gives a handle, or
   * null with errno EACCES or EPERM if a policy of the system refuses code that
   * is made at run time, or any other if the object is at fault; after writing
   * a line that says why into error[0 .. error_bytes), its null included; an
   * empty one if memory ran out. */
  void *(*load)(void *context, const void *object, size_t object_bytes,
                char *error, size_t error_bytes);
  /* The address of a global function, valid until release; null if there is
   * none of that name. */
  void *(*symbol)(void *context, void *code, const char *name);
  /* Called once for each handle: when its program dies, or could not be loaded
   * whole. Not in a child of fork(), where the loader's locks may be held. */
  void (*release)(void *context, void *code);
} kvc_code_loader;

typedef struct kvc_cpu_options {
  size_t size;
  uint32_t threads;             /* of an own pool, at most 8,192; 0: as many as
                                   keep busy the CPUs that the threads of the
                                   process may run on, within the quota of its
                                   control groups */
  const kvc_parallel *parallel; /* instead of an own pool; copied */
  const kvc_code_loader *code_loader; /* for all programs of the device, instead
                                         of the runtime's own; copied */
} kvc_cpu_options;

/* A CPU device; null options are all defaults. Calls on one device from several
 * threads are run one after the other. */
KVC_API kvc_status kvc_device_create_cpu(const kvc_cpu_options *options,
                                         kvc_device **device);
typedef struct kvc_cuda_options {
  size_t size;
  int32_t ordinal; /* of the GPU */
  void *context;   /* a CUcontext of that GPU, or null: its primary context */
} kvc_cuda_options;

/* A CUDA GPU, by the driver's libcuda.so.1, which is loaded here: nothing of
 * CUDA is needed otherwise. Null options are all defaults. KVC_DEVICE_ERROR if
 * there is no driver or no such GPU.
 *
 * On a GPU every pointer of kvc_append_args, kvc_gather_args and
 * kvc_attend_args but `planes` is device memory, the caller vouches for what it
 * holds, and q, k, v and out have addresses and strides that are multiples of
 * 16 bytes; those of a plane are of the largest power of two up to 16 that
 * divides a head's token. kvc_append, kvc_gather and kvc_attend launch on
 * `stream` and return; they may be captured in a CUDA graph, and replayed with
 * other lengths within the bounds that they were given.
 */
KVC_API kvc_status kvc_device_create_cuda(const kvc_cuda_options *options,
                                          kvc_device **device);

typedef struct kvc_sim_options {
  size_t size;
  const char *target; /* "sm_90": runs an artifact's kernels for
                         `sim:sm_90`; "x86-64-v4-amx": those for that level */
  uint64_t seed;      /* of a GPU: in which order warps and CTAs run */
  uint32_t flags;     /* of a GPU: KVC_SIM_COUNT */
  uint32_t threads;   /* of a CPU: as in kvc_cpu_options */
} kvc_sim_options;
enum { KVC_SIM_COUNT = 1 }; /* count wavefronts and sectors */

/* An emulated GPU that runs kernels thread by thread in the memory of this
 * process and checks them: races, copies that are not waited for, accesses out
 * of bounds, deadlocks. What it finds is a KVC_DEVICE_ERROR that
 * kvc_error_text() explains. Calls on one device are run one after the other.
 *
 * With a level of x86-64 as its target: a CPU device that runs the kernels of
 * this level and no others, and AMX instructions on machines that have none.
 * All else must be there. It takes SIGILL, which such instructions raise, in
 * every call; other illegal instructions go to whoever had the signal before.
 * On threads of the caller SIGILL must not be blocked. Instructions that a CPU
 * would refuse, and tiles still configured when a kernel returns, are a
 * KVC_DEVICE_ERROR. On a machine with AMX the same kernels run as they do on
 * the CPU device, and nothing is checked or counted.
 */
KVC_API kvc_status kvc_device_create_sim(const kvc_sim_options *options,
                                         kvc_device **device);
/* Memory that kernels on an emulated GPU may read, and write if `writable`;
 * once anything was allowed, all else is out of bounds. A cache allows its own.
 * Ranges may overlap; forget takes one that begins at `base` back. */
KVC_API kvc_status kvc_sim_allow(kvc_device *device, const void *base,
                                 size_t bytes, int writable);
KVC_API kvc_status kvc_sim_forget(kvc_device *device, const void *base);

/* What the kernels of an emulated GPU did so far, summed over their warps. On
 * an emulated CPU: AMX instructions of the whole process, those of them that
 * multiply, and the bytes of rows of tiles that were loaded and stored. */
typedef struct kvc_sim_counters {
  size_t size;
  uint64_t launches, ctas;
  uint64_t instructions;              /* of those that the emulator executes */
  uint64_t mma;                       /* of them, matrix products */
  uint64_t bytes_read, bytes_written; /* of global memory, by threads */
  uint64_t wavefronts, wavefronts_best; /* passes over shared memory's banks,
                                           and the fewest that would do */
  uint64_t sectors, sectors_best; /* 32-byte sectors of global memory, and the
                                     fewest that hold the bytes */
  uint64_t sectors_distinct; /* that a launch touches at all: what memory must
                                give where a cache holds the rest */
  uint64_t most_in_flight;   /* bytes of copies under way in a CTA, at most */
} kvc_sim_counters;
KVC_API kvc_status kvc_sim_get_counters(const kvc_device *device,
                                        kvc_sim_counters *counters);

/* Programs keep their device alive. */
KVC_API void kvc_device_release(kvc_device *device);

/*===--- programs ---------------------------------------------------------===*/

typedef struct kvc_program kvc_program;

typedef struct kvc_model_info {
  size_t size;
  uint32_t layers, q_heads, kv_heads, head_dim_k, head_dim_v;
  const char *dtype; /* "f32", "f16" or "bf16" */
  double softmax_scale;
} kvc_model_info;

typedef struct kvc_plane_info {
  const char *stream;  /* "k" or "v" */
  const char *role;    /* "codes", or what is kept beside them: "scales" */
  const char *type;    /* "bf16", "i8", "f8E4M3FN", "f32", ... */
  uint32_t elements;   /* of a row */
  uint32_t row_tokens; /* tokens that a row, at one head, stands for */
  uint32_t row_stride;
  uint32_t head_stride; /* 0 if contiguous and HND: rows * row_stride */
  uint64_t page_offset; /* of the plane in a page */
} kvc_plane_info;

/* A constant of a store's expressions that each call gives. */
typedef struct kvc_constant_info {
  const char *name;      /* "sinks" */
  uint32_t size;         /* values */
  const char *type;      /* "f32" or "i32" */
  uint32_t per_sequence; /* whether each sequence of the batch has as many:
                            [batch][size] */
} kvc_constant_info;

typedef struct kvc_store_info {
  size_t size;
  const char *name;
  const uint32_t *layers; /* ascending */
  uint32_t layer_count;
  uint32_t head_begin, head_end; /* kv heads */
  uint32_t page_tokens;          /* 0: contiguous */
  uint64_t page_bytes;           /* of one layer; contiguous: 0 */
  uint32_t plane_count;
  uint32_t
      plan_group; /* stores of one group can share a plan (kvc_attend_plan) */
  const kvc_plane_info *planes; /* [plane_count]; live as long as the program */
  uint32_t constant_count;
  const kvc_constant_info *constants; /* [constant_count], by name; likewise */
} kvc_store_info;

/* An artifact is machine code: to load one from a stranger is to run his
 * program. Loading is safe for any bytes, and refuses (KVC_CORRUPT) what is
 * damaged, does not add up, or whose code was compiled for something else than
 * its manifest says: page, heads, dims, codecs, window, scale, scratch, threads
 * and the rest are in a key that each kernel's symbol ends in. That is against
 * mistakes and damage. It is no signature, and what the code does is not looked
 * at: SECURITY.md. */

/* Loads an artifact from memory (copied) or a file and picks, of the variants
 * that this device can run, the best. KVC_UNSUPPORTED: kvc_error_text() lists
 * every variant and what it lacks. */
KVC_API kvc_status kvc_program_load(kvc_device *device, const void *bytes,
                                    size_t size, kvc_program **program);
KVC_API kvc_status kvc_program_load_file(kvc_device *device, const char *path,
                                         kvc_program **program);
/* Caches keep their program alive. */
KVC_API void kvc_program_release(kvc_program *program);

KVC_API const char *kvc_program_name(const kvc_program *program);
/* The variant that was picked: "x86-64-v4". */
KVC_API const char *kvc_program_target(const kvc_program *program);
/* What a user should know of how it was loaded, one remark a line: a variant or
 * a binary that the GPU's driver refused, PTX that it compiled instead. "" if
 * all went the fastest way. */
KVC_API const char *kvc_program_remarks(const kvc_program *program);
KVC_API kvc_status kvc_program_get_model(const kvc_program *program,
                                         kvc_model_info *info);
KVC_API uint32_t kvc_program_store_count(const kvc_program *program);
/* Strings and layers live as long as the program. */
KVC_API kvc_status kvc_program_get_store(const kvc_program *program,
                                         uint32_t store, kvc_store_info *info);

/*===--- kernels on the caller's buffers ----------------------------------===*/

/* One plane of one layer: address of (page, head, row) =
 * base + page * page_stride + head * head_stride + row * row_stride, with
 * the row stride of kvc_plane_info. Where the layout is contiguous, a
 * sequence's slot is its one page; `head` counts from the store's first kv
 * head. Arrays of planes are host memory on every device, and are read during
 * the call. */
typedef struct kvc_plane {
  void *base;
  int64_t page_stride, head_stride; /* bytes */
} kvc_plane;

typedef struct kvc_append_args {
  size_t size;
  uint32_t rows;
  const void *k; /* [rows][kv_heads][head_dim_k] */
  int64_t k_row_stride, k_head_stride;
  const void *v; /* [rows][kv_heads][head_dim_v]; null where the store has no
                    planes of "v": V is the first elements of K's rows */
  int64_t v_row_stride, v_head_stride;
  const int64_t *slot;     /* [rows]: page * its tokens + token; < 0: skip */
  int64_t slot_tokens;     /* contiguous: capacity of a slot; paged: ignored */
  int64_t page_count;      /* pages must be below it; 0: the caller vouches */
  const kvc_plane *planes; /* [plane_count] in the order of kvc_store_info */
  uint32_t plane_count;
  void *stream; /* GPU: a CUstream, null: the default stream */
} kvc_append_args;

/* Encodes rows of K and V into the cache of `store`. Rows of one call must go
 * to different slots. */
KVC_API kvc_status kvc_append(const kvc_program *program, uint32_t store,
                              const kvc_append_args *args);

typedef struct kvc_gather_args {
  size_t size;
  uint32_t rows;
  void *k; /* [rows][kv_heads][head_dim_k]; null: not wanted */
  int64_t k_row_stride, k_head_stride;
  void *v; /* [rows][kv_heads][head_dim_v]; null: not wanted */
  int64_t v_row_stride, v_head_stride;
  const int64_t *slot;     /* [rows]: page * its tokens + token; < 0: skip */
  int64_t slot_tokens;     /* contiguous: capacity of a slot; paged: ignored */
  int64_t page_count;      /* pages must be below it; 0: the caller vouches */
  const kvc_plane *planes; /* [plane_count] in the order of kvc_store_info */
  uint32_t plane_count;
  void *stream; /* GPU: a CUstream, null: the default stream */
} kvc_gather_args;

/* The other way: writes to rows of K and V, or to one of them, what `store`
 * decodes in their slots, in the model's dtype. Rows of negative slots and
 * heads of other stores stay as they are. Several rows may be of one slot.
 * KVC_UNSUPPORTED if the artifact is of a version that had no kernels for
 * this: kvc_error_text() names the store. */
KVC_API kvc_status kvc_gather(const kvc_program *program, uint32_t store,
                              const kvc_gather_args *args);

typedef struct kvc_attend_args {
  size_t size;
  uint32_t batch;
  const void *q; /* [rows][q_heads][head_dim_k] */
  int64_t q_row_stride, q_head_stride;
  void *out; /* [rows][q_heads][head_dim_v] */
  int64_t out_row_stride, out_head_stride;
  float *lse; /* [rows][q_heads], natural log; may be null */
  int64_t lse_row_stride, lse_head_stride;
  const int32_t *cu_q;   /* [batch + 1] offsets into rows, from 0, ascending */
  const int32_t *kv_len; /* [batch] cached tokens, the queries' own included; 0
                            for padding rows, which give o = 0 and lse = -inf,
                            or the sink of their head if the spec has one */
  const int32_t *table;  /* paged: [batch][table_stride] page ids; entries past
                            ceil(kv_len / page) are never read. contiguous:
                            [batch] slots, table_stride 1 */
  int64_t table_stride;  /* entries */
  int64_t page_count;    /* table entries must be below it; 0: caller vouches */
  int64_t slot_tokens;   /* contiguous: capacity of a slot; paged: ignored */
  void *workspace;       /* 64-byte aligned; contents never matter */
  size_t workspace_bytes;
  const kvc_plane *planes; /* [plane_count] in the order of kvc_store_info */
  uint32_t plane_count;
  void *stream; /* GPU: a CUstream, null: the default stream */
  /* GPU: bounds of what cu_q and kv_len hold; the CPU reads those instead. */
  uint32_t rows;          /* of q, in all; 0: nothing is done */
  uint32_t max_queries;   /* query tokens of a sequence; 0: as many as rows */
  uint32_t max_kv_len;    /* longer sequences are cut to it; 0: all are empty */
  uint64_t max_kv_tokens; /* cached tokens of all sequences together: a pool's,
                             where no two share a page; 0: batch * max_kv_len.
                             It keeps the workspace small, where it is not of a
                             store with a window. */
  void *plan; /* GPU: what kvc_attend_plan made for this batch; null: the call
                 makes a plan of its own, in the workspace */
  uint32_t constant_count;
  /* [constant_count] in the order of kvc_store_info, each [size] or
   * [batch][size] of its type, of the layer that is attended; on a GPU the
   * arrays are device memory. */
  const void *const *constants;
} kvc_attend_args;

/* Bytes of workspace that suffice for any kvc_attend of `store` with at most
 * that many sequences, rows of q in all, and cached tokens per sequence. Rows
 * whose partial results do not fit at once are done one group after the other:
 * the size is bounded, and changes no result. On a GPU all rows are done at
 * once, in a workspace that is theirs until the stream is past them; SIZE_MAX:
 * such a batch cannot be planned. */
KVC_API kvc_status kvc_attend_workspace(const kvc_program *program,
                                        uint32_t store, uint32_t batch,
                                        uint32_t rows, uint32_t kv_len,
                                        size_t *bytes);
/* The same for calls within the bounds of `args`: batch, rows and the fields
 * that begin with max_. Nothing else of it is read. */
KVC_API kvc_status kvc_attend_workspace_of(const kvc_program *program,
                                           uint32_t store,
                                           const kvc_attend_args *args,
                                           size_t *bytes);
/* On a GPU a kernel cuts a batch into work, since only it knows the lengths.
 * They are those of a step, so one plan serves the attends of all its layers,
 * over all stores of one plan_group: kvc_attend_plan writes it to args->plan,
 * 64-byte aligned memory of kvc_attend_plan_bytes, and each kvc_attend of the
 * step is given it. Of args, batch, cu_q, kv_len, rows and what begins with
 * max_ are read, and the stream.
 *
 * The caller vouches that between them no byte of the plan, cu_q or kv_len
 * changes, that all are given the same rows, batch and bounds, and that attends
 * with one plan run one after the other. A plan must be made again after an
 * attend that failed. A captured graph may hold a plan and its attends, or
 * attends alone, before which a plan within the same bounds is made for each
 * replay. The workspace of an attend with a plan may be smaller by the plan's
 * bytes. On a CPU there is nothing to plan ahead: 0 bytes, and nothing is done.
 */
KVC_API kvc_status kvc_attend_plan_bytes(const kvc_program *program,
                                         uint32_t store,
                                         const kvc_attend_args *args,
                                         size_t *bytes);
KVC_API kvc_status kvc_attend_plan(const kvc_program *program, uint32_t store,
                                   const kvc_attend_args *args);
/* Attention of a ragged batch. Query token i of sequence b stands at position
 * kv_len[b] - n + i, n its query tokens, and sees the cached tokens up to its
 * own that the store's read rule shows. The result of a row does not depend on
 * its batch, threads or page ids, bit for bit. */
KVC_API kvc_status kvc_attend(const kvc_program *program, uint32_t store,
                              const kvc_attend_args *args);

#ifdef __cplusplus
}
#endif

#include "cache.h"

#endif /* KVC_RUNTIME_H */
