/*===- kvc/compiler.h - C ABI of the kvc compiler ----------------*- C -*-===//
 *
 * Compiles a spec (JSON text) into an artifact (.kvca), in memory. Link
 * libkvc-compiler, or load it on demand: a JIT is dlopen of this library,
 * kvc_compile, and then kvc_program_load of kvc/runtime.h on what it gave, on a
 * device whose kernels debuggers and profilers know by name.
 *
 *   kvc_cpu_options cpu = {sizeof cpu};
 *   cpu.code_loader = kvc_orc_code_loader(0);
 *   kvc_device_create_cpu(&cpu, &device);
 *
 *   void *artifact, *messages;  size_t artifact_bytes, message_bytes;
 *   kvc_compile_options options = {sizeof options};
 *   options.use_cache = 1;
 *   if (kvc_compile(spec, spec_bytes, &options, &artifact, &artifact_bytes,
 *                   &messages, &message_bytes) == KVC_COMPILE_OK)
 *     kvc_program_load(device, artifact, artifact_bytes, &program);
 *   kvc_compile_free(artifact);
 *   kvc_compile_free(messages);
 *
 * LLVM ends the process when memory runs out: a host that must not end compiles
 * in another process, or ahead of time, and loads with kvc/runtime.h, which
 * reports it. A kvc_orc_code_loader() is LLVM, too.
 *
 * All functions may be called from any thread, at the same time. The library
 * writes to nothing but, if asked to, the kernel cache under $KVC_CACHE_DIR
 * (default: kvc in the user's cache directory) and the file that
 * KVC_ORC_JITDUMP names.
 *
 *===----------------------------------------------------------------------===*/
#ifndef KVC_COMPILER_H
#define KVC_COMPILER_H

#include <stddef.h>
#include <stdint.h>

#ifndef KVC_API
#if defined(_WIN32)
#define KVC_API
#else
#define KVC_API __attribute__((visibility("default")))
#endif
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Changes when a struct or a meaning changes; kvc_compiler_abi() returns the
 * library's. */
#define KVC_COMPILER_ABI 1
KVC_API uint32_t kvc_compiler_abi(void);
/* "kvc 0.1.0, LLVM 22.1.8". */
KVC_API const char *kvc_compiler_version(void);

typedef enum kvc_compile_code {
  KVC_COMPILE_OK = 0,
  KVC_COMPILE_FAILED = 1,           /* the messages say why */
  KVC_COMPILE_INVALID_ARGUMENT = 2, /* a null pointer where none may be, or
                                       options whose size ends inside a field */
  KVC_COMPILE_BUG = 3               /* kvc's own fault; the messages say more */
} kvc_compile_code;

/* Set `size` to sizeof(kvc_compile_options); fields beyond the caller's size
 * read as 0, and all zeros are the defaults. Everything here that changes code
 * is part of the cache's key. */
typedef struct kvc_compile_options {
  size_t size;
  const char *name;           /* of the spec in messages; null: "<spec>" */
  const char *const *targets; /* "x86-64-v3", ...; none: "native" */
  size_t target_count;
  const char *const *schedule; /* "KERNEL.FIELD=VALUE", KERNEL a glob */
  size_t schedule_count;
  uint32_t use_cache; /* 1: look into the kernel cache, and store in it */
} kvc_compile_options;

/* Compiles. `spec` need not end in a null. `options` may be null.
 *
 * On KVC_COMPILE_OK `*artifact` holds `*artifact_bytes` bytes, otherwise null
 * and 0. Unless it is KVC_COMPILE_INVALID_ARGUMENT, which leaves null and 0 in
 * all of them, `*messages` holds the diagnostics: one JSON object per line
 * (severity, code, file, line, column, pointer, message, notes, fix), with
 * remarks on what was folded and on slower paths, followed by a null that
 * `*message_bytes` does not count. Free both with kvc_compile_free. `messages`
 * and `message_bytes` may be null. */
KVC_API uint32_t kvc_compile(const char *spec, size_t spec_bytes,
                             const kvc_compile_options *options,
                             void **artifact, size_t *artifact_bytes,
                             void **messages, size_t *message_bytes);

/* A decode step: one new token of each sequence. Set `size` to
 * sizeof(kvc_explain_options); zeros are the defaults. */
typedef struct kvc_explain_options {
  size_t size;
  uint32_t context;      /* cached tokens per sequence; 0: 8192 */
  uint32_t batch;        /* sequences; 0: 1 */
  double bandwidth_gb_s; /* of memory; 0: not known */
  double tflop_s;        /* arithmetic; 0: not known */
} kvc_explain_options;

/* Compiles, and says what the spec costs: bytes per token, what a decode step
 * reads and computes, the kernels with their schedules, and the remarks. On
 * KVC_COMPILE_OK `*json` holds the object that `kvc explain --json` prints,
 * followed by a null that `*json_bytes` does not count. `explain` may be null;
 * rates must be finite and not negative. The rest is as of kvc_compile. */
KVC_API uint32_t kvc_explain(const char *spec, size_t spec_bytes,
                             const kvc_compile_options *options,
                             const kvc_explain_options *explain, void **json,
                             size_t *json_bytes, void **messages,
                             size_t *message_bytes);

/* Frees what kvc_compile or kvc_explain gave; null is fine. */
KVC_API void kvc_compile_free(void *pointer);

/* Also tells perf: what is loaded is written to jit-PID.dump, in a new folder
 * below $JITDUMPDIR/.debug/jit ($HOME if unset), which `perf inject --jit`
 * reads after `perf record -k 1`. */
enum { KVC_ORC_JITDUMP = 1 };

struct kvc_code_loader; /* kvc/runtime.h */

/* The code_loader of kvc_cpu_options that is LLVM's JIT (ORC). As long as a
 * program lives, its kernels have symbols in GDB and LLDB (the GDB JIT
 * interface) and stack frames in unwinders of the process. It refuses what the
 * runtime's own loader refuses, but trusts unwind tables: it is for what this
 * process compiled, and files are for the runtime's.
 *
 * Any thread may load and release at any time. Valid for the life of the
 * process; the library must stay loaded as long as a program lives, and a
 * program must be released before exit() runs destructors. Null: a flag is
 * unknown, or the file of KVC_ORC_JITDUMP cannot be created. If it cannot be
 * written later, loading fails and says so. */
KVC_API const struct kvc_code_loader *kvc_orc_code_loader(uint32_t flags);

#ifdef __cplusplus
}
#endif

#endif /* KVC_COMPILER_H */
