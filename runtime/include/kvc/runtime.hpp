//===- kvc/runtime.hpp - C++20 over the C ABI -------------------*- C++ -*-===//
//
// Handles that release themselves, spans, and results instead of exceptions.
// Header-only over kvc/runtime.h, which says what each call means.
//
//   auto device = kvc::Device::cpu();
//   auto program = kvc::Program::loadFile(*device, "model.kvca");
//   if (!program)
//     return report(program.status().code(), program.status().text());
//   auto cache = kvc::Cache::create(*program, options);
//   kvc_seq sequence = *cache->open();
//   kvc_slot_request request = {sequence, 1};
//   auto step = cache->reserve({&request, 1});
//   for (layer ...) {
//     cache->append(*step, layer, k, v);
//     cache->attend(*step, layer, q, out);
//   }
//   cache->commit(*step);
//
// A handle that was moved from holds nothing: assign to it or let it die.
// Thread rules are those of the C calls.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_RUNTIME_HPP
#define KVC_RUNTIME_HPP

#include "kvc/runtime.h"

#include <cassert>
#include <cstddef>
#include <memory>
#include <span>
#include <utility>

namespace kvc {

/// What a call returned.
class [[nodiscard]] Status {
public:
  Status() = default;
  Status(const kvc_status &status) : value(status) {}

  bool ok() const { return value.code == KVC_OK; }
  explicit operator bool() const { return ok(); }
  kvc_code code() const { return kvc_code(value.code); }
  const char *name() const { return kvc_code_name(value.code); }
  /// Why it failed; valid until the next failure on this thread.
  const char *text() const { return ok() ? "" : kvc_error_text(); }
  /// Pages asked for, free, and so on; the number of the check.
  const kvc_status &raw() const { return value; }

private:
  kvc_status value = {};
};

/// A value, or the status that says why there is none.
template <class T> class [[nodiscard]] Result {
public:
  Result(T value) : value(std::move(value)) {}
  Result(Status failure) : failure(failure) { assert(!failure.ok()); }

  bool ok() const { return failure.ok(); }
  explicit operator bool() const { return ok(); }
  const Status &status() const { return failure; }
  /// Only if ok().
  T &operator*() {
    assert(ok());
    return value;
  }
  T *operator->() { return &**this; }

private:
  T value = {};
  Status failure;
};

/// What programs run on. They keep it alive.
class Device {
public:
  Device() = default;
  /// `threads` of an own pool; 0: as many as the process may run on. A JIT
  /// gives kvc_orc_code_loader() of kvc/compiler.h as `loader`; null: the
  /// runtime's.
  static Result<Device> cpu(uint32_t threads = 0,
                            const kvc_code_loader *loader = nullptr) {
    kvc_cpu_options options = {};
    options.size = sizeof(options);
    options.threads = threads;
    options.code_loader = loader;
    return cpu(options);
  }
  /// Runs on the engine's own threads.
  static Result<Device> cpu(const kvc_parallel &parallel) {
    kvc_cpu_options options = {};
    options.size = sizeof(options);
    options.parallel = &parallel;
    return cpu(options);
  }
  static Result<Device> cpu(const kvc_cpu_options &options) {
    kvc_device *device = nullptr;
    Status s = kvc_device_create_cpu(&options, &device);
    return made(s, device);
  }
  /// A CUDA GPU, in its primary context.
  static Result<Device> cuda(int32_t ordinal = 0) {
    kvc_cuda_options options = {};
    options.size = sizeof(options);
    options.ordinal = ordinal;
    return cuda(options);
  }
  static Result<Device> cuda(const kvc_cuda_options &options) {
    kvc_device *device = nullptr;
    Status s = kvc_device_create_cuda(&options, &device);
    return made(s, device);
  }
  /// An emulated GPU or CPU: "sm_90" runs what was compiled for `sim:sm_90`,
  /// "x86-64-v4-amx" what was compiled for that level.
  static Result<Device> sim(const char *target) {
    kvc_sim_options options = {};
    options.size = sizeof(options);
    options.target = target;
    return sim(options);
  }
  static Result<Device> sim(const kvc_sim_options &options) {
    kvc_device *device = nullptr;
    Status s = kvc_device_create_sim(&options, &device);
    return made(s, device);
  }
  kvc_device *get() const { return handle.get(); }

private:
  static Result<Device> made(Status status, kvc_device *device) {
    if (!status)
      return status;
    Device made;
    made.handle.reset(device);
    return made;
  }
  struct Release {
    void operator()(kvc_device *device) const { kvc_device_release(device); }
  };
  std::unique_ptr<kvc_device, Release> handle;
};

/// A loaded artifact. Caches keep it alive.
class Program {
public:
  Program() = default;
  /// `bytes` are not needed afterwards.
  static Result<Program> load(const Device &device,
                              std::span<const std::byte> bytes) {
    kvc_program *program = nullptr;
    Status s =
        kvc_program_load(device.get(), bytes.data(), bytes.size(), &program);
    return made(s, program);
  }
  static Result<Program> loadFile(const Device &device, const char *path) {
    kvc_program *program = nullptr;
    Status s = kvc_program_load_file(device.get(), path, &program);
    return made(s, program);
  }

  const char *name() const { return kvc_program_name(get()); }
  const char *target() const { return kvc_program_target(get()); }
  const char *remarks() const { return kvc_program_remarks(get()); }
  kvc_model_info model() const {
    kvc_model_info info = {};
    info.size = sizeof(info);
    kvc_program_get_model(get(), &info);
    return info;
  }
  uint32_t storeCount() const { return kvc_program_store_count(get()); }
  Result<kvc_store_info> store(uint32_t index) const {
    kvc_store_info info = {};
    info.size = sizeof(info);
    if (Status s = kvc_program_get_store(get(), index, &info); !s)
      return s;
    return info;
  }
  /// Those of a store, ascending. They live as long as the program.
  Result<std::span<const uint32_t>> layers(uint32_t index) const {
    Result<kvc_store_info> info = store(index);
    if (!info)
      return info.status();
    return std::span(info->layers, info->layer_count);
  }

  Status append(uint32_t store, const kvc_append_args &args) const {
    return kvc_append(get(), store, &args);
  }
  Status gather(uint32_t store, const kvc_gather_args &args) const {
    return kvc_gather(get(), store, &args);
  }
  Result<size_t> attendWorkspace(uint32_t store, uint32_t batch, uint32_t rows,
                                 uint32_t kvLen) const {
    size_t bytes = 0;
    if (Status s =
            kvc_attend_workspace(get(), store, batch, rows, kvLen, &bytes);
        !s)
      return s;
    return bytes;
  }
  /// For calls within the bounds of `args`.
  Result<size_t> attendWorkspace(uint32_t store,
                                 const kvc_attend_args &args) const {
    size_t bytes = 0;
    if (Status s = kvc_attend_workspace_of(get(), store, &args, &bytes); !s)
      return s;
    return bytes;
  }
  Status attend(uint32_t store, const kvc_attend_args &args) const {
    return kvc_attend(get(), store, &args);
  }
  /// Of a plan for many attends, see kvc_attend_plan.
  Result<size_t> attendPlanBytes(uint32_t store,
                                 const kvc_attend_args &args) const {
    size_t bytes = 0;
    if (Status s = kvc_attend_plan_bytes(get(), store, &args, &bytes); !s)
      return s;
    return bytes;
  }
  Status attendPlan(uint32_t store, const kvc_attend_args &args) const {
    return kvc_attend_plan(get(), store, &args);
  }
  /// The arena for so many cached tokens, see kvc_cache_arena_bytes.
  Result<uint64_t> arenaBytes(const kvc_cache_options &options,
                              uint64_t tokens) const {
    uint64_t bytes = 0;
    if (Status s = kvc_cache_arena_bytes(get(), &options, tokens, &bytes); !s)
      return s;
    return bytes;
  }
  /// The cached tokens for which options.arena_bytes suffice.
  Result<uint64_t> tokensThatFit(const kvc_cache_options &options) const {
    uint64_t tokens = 0;
    if (Status s = kvc_cache_tokens_that_fit(get(), &options, &tokens); !s)
      return s;
    return tokens;
  }
  kvc_program *get() const { return handle.get(); }

private:
  static Result<Program> made(Status status, kvc_program *program) {
    if (!status)
      return status;
    Program made;
    made.handle.reset(program);
    return made;
  }
  struct Release {
    void operator()(kvc_program *program) const {
      kvc_program_release(program);
    }
  };
  std::unique_ptr<kvc_program, Release> handle;
};

/// A cache and all its sequences.
class Cache {
public:
  Cache() = default;
  static Result<Cache> create(const Program &program,
                              const kvc_cache_options &options) {
    kvc_cache *cache = nullptr;
    if (Status s = kvc_cache_create(program.get(), &options, &cache); !s)
      return s;
    Cache made;
    made.handle.reset(cache);
    return made;
  }

  Result<kvc_seq> open() {
    kvc_seq seq = {};
    if (Status s = kvc_cache_open(get(), &seq); !s)
      return s;
    return seq;
  }
  /// With the tokens of `parent`, sharing its pages.
  Result<kvc_seq> fork(kvc_seq parent) {
    kvc_seq seq = {};
    if (Status s = kvc_cache_fork(get(), parent, &seq); !s)
      return s;
    return seq;
  }
  Status truncate(kvc_seq seq, uint32_t tokens) {
    return kvc_cache_truncate(get(), seq, tokens);
  }
  Status release(kvc_seq seq) { return kvc_cache_release(get(), seq); }
  Result<uint32_t> length(kvc_seq seq) const {
    uint32_t tokens = 0;
    if (Status s = kvc_cache_length(get(), seq, &tokens); !s)
      return s;
    return tokens;
  }
  /// Committed tokens of one layer; k or v may be null. `stream`: of a GPU.
  Status read(kvc_seq seq, uint32_t layer, uint32_t begin, uint32_t count,
              void *k, void *v, void *stream = nullptr) {
    return read(seq, layer, begin, count, k, {}, v, {}, stream);
  }
  Status read(kvc_seq seq, uint32_t layer, uint32_t begin, uint32_t count,
              void *k, kvc_stride kStride, void *v, kvc_stride vStride,
              void *stream = nullptr) {
    return kvc_cache_read(get(), seq, layer, begin, count, k, kStride, v,
                          vStride, stream);
  }
  /// `stream`: of a GPU, the step's.
  Result<kvc_step> reserve(std::span<const kvc_slot_request> requests,
                           void *stream = nullptr) {
    kvc_step step = {};
    if (Status s = kvc_cache_reserve(get(), requests.data(),
                                     uint32_t(requests.size()), stream, &step);
        !s)
      return s;
    return step;
  }
  Result<kvc_batch_view> view(kvc_step step, uint32_t store,
                              uint32_t layer) const {
    kvc_batch_view view = {};
    view.size = sizeof(view);
    if (Status s = kvc_cache_view(get(), step, store, layer, &view); !s)
      return s;
    return view;
  }
  Status append(kvc_step step, uint32_t layer, const void *k, const void *v) {
    return kvc_cache_append(get(), step, layer, k, v);
  }
  Status append(kvc_step step, uint32_t layer, const void *k,
                kvc_stride kStride, const void *v, kvc_stride vStride) {
    return kvc_cache_append_strided(get(), step, layer, k, kStride, v, vStride);
  }
  Status markAppended(kvc_step step, uint32_t layer = KVC_ALL_LAYERS) {
    return kvc_cache_mark_appended(get(), step, layer);
  }
  Status setConstants(uint32_t store, uint32_t layer,
                      std::span<const void *const> constants) {
    return kvc_cache_set_constants(get(), store, layer, constants.data(),
                                   uint32_t(constants.size()));
  }
  Status attend(kvc_step step, uint32_t layer, const void *q, void *out,
                float *lse = nullptr) {
    return kvc_cache_attend(get(), step, layer, q, out, lse);
  }
  Status attend(kvc_step step, uint32_t layer, const void *q,
                kvc_stride qStride, void *out, kvc_stride outStride,
                float *lse = nullptr, kvc_stride lseStride = {}) {
    return kvc_cache_attend_strided(get(), step, layer, q, qStride, out,
                                    outStride, lse, lseStride);
  }
  /// All new tokens are kept.
  Status commit(kvc_step step) {
    return kvc_cache_commit(get(), step, nullptr);
  }
  /// `accepted` has one count per request of the step.
  Status commit(kvc_step step, std::span<const uint32_t> accepted) {
    return kvc_cache_commit(get(), step, accepted.data());
  }
  Status abandon(kvc_step step) { return kvc_cache_abandon(get(), step); }

  kvc_cache_stats stats() const {
    kvc_cache_stats stats = {};
    stats.size = sizeof(stats);
    kvc_cache_get_stats(get(), &stats);
    return stats;
  }
  Result<kvc_seq_stats> stats(kvc_seq seq) const {
    kvc_seq_stats stats = {};
    stats.size = sizeof(stats);
    if (Status s = kvc_cache_get_seq_stats(get(), seq, &stats); !s)
      return s;
    return stats;
  }
  Result<uint64_t> layerBytes(uint32_t layer) const {
    uint64_t bytes = 0;
    if (Status s = kvc_cache_layer_bytes(get(), layer, &bytes); !s)
      return s;
    return bytes;
  }
  Status check(uint32_t level) { return kvc_cache_check(get(), level); }
  kvc_cache *get() const { return handle.get(); }

private:
  struct Destroy {
    void operator()(kvc_cache *cache) const { kvc_cache_destroy(cache); }
  };
  std::unique_ptr<kvc_cache, Destroy> handle;
};

} // namespace kvc

#endif // KVC_RUNTIME_HPP
