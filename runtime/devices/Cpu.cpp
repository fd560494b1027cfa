//===- Cpu.cpp - the CPU as a device --------------------------------------===//
#include "runtime/devices/Cpu.h"

#include "lib/base/Amx/Emulator.h"
#include "runtime/Arguments.h"
#include "runtime/AttendPlan.h"
#include "runtime/devices/CpuCount.h"
#include "runtime/devices/CpuFeatures.h"
#include "runtime/devices/CpuVariant.h"
#include "runtime/devices/ThreadPool.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <sys/mman.h>
#include <xmmintrin.h>

using namespace kvc;
using namespace kvc::rt;

namespace {

constexpr uint32_t kMaxWorkers = 8192;
/// Rows of one work tile of append and gather: some 100 KB of a usual model,
/// and a decode step of a few sequences stays on the calling thread.
constexpr uint32_t kTileRows = 16;
/// Workers' scratch does not share cache lines, nor lines fetched in pairs.
constexpr size_t kScratchGap = 128;

/// Default rounding and denormals for as long as it lives, whatever the thread
/// had: results do not depend on who runs them.
class FloatMode {
public:
  FloatMode() : saved(_mm_getcsr()) { _mm_setcsr(0x1f80); }
  ~FloatMode() { _mm_setcsr(saved); }

private:
  unsigned saved;
};

class CpuDevice : public Device {
public:
  CpuDevice(uint32_t threads, const kvc_parallel *parallel,
            const kvc_code_loader &loader, const char *level)
      : loader(loader), level(level) {
    if (parallel)
      external = *parallel;
    else
      pool = std::make_unique<ThreadPool>(threads);
  }

  uint32_t workers() const { return pool ? pool->workers() : external.workers; }
  /// The caller holds `lock`.
  void run(uint32_t tasks, ThreadPool::Task task, void *arg) {
    if (emulates())
      amx::install(); // somebody may have taken the signal since
    if (pool)
      pool->run(tasks, task, arg);
    else if (tasks == 1)
      task(arg, 0, 0);
    else if (tasks)
      external.run(external.context, tasks, task, arg);
  }

  /// Whether it stands for a CPU that this one may not be.
  bool emulates() const { return !level.empty(); }

  kvc_status load(const artifact::Manifest &manifest,
                  const artifact::Bundle &bundle,
                  std::unique_ptr<Executable> &executable) override;
  bool count(kvc_sim_counters &counters) const override;
  void *allocate(size_t bytes) override;
  void deallocate(void *memory, size_t bytes) override {
    munmap(memory, bytes);
  }
  kvc_status upload(void *to, const void *from, size_t bytes, void *) override {
    std::memcpy(to, from, bytes);
    return ok();
  }
  kvc_status copy(void *to, const void *from, size_t bytes, void *) override {
    std::memcpy(to, from, bytes);
    return ok();
  }
  kvc_status download(void *to, const void *from, size_t bytes) override {
    std::memcpy(to, from, bytes);
    return ok();
  }
  void zero(void *memory, size_t bytes) override {
    std::memset(memory, 0, bytes);
  }
  kvc_status scrub(void *memory, size_t bytes, void *) override {
    zero(memory, bytes);
    return ok();
  }

  std::mutex lock;

private:
  const kvc_code_loader loader;
  const std::string level; ///< the only one that it runs; "": any
  kvc_parallel external = {};
  std::unique_ptr<ThreadPool> pool;
};

/// What the workers of one run share.
struct Job {
  Job(CpuDevice &device, const CpuStore &store)
      : store(&store), workers(device.workers()), emulates(device.emulates()) {}

  const CpuStore *store;
  /// Of the attend kernels in their order, then of merge; or of append or
  /// gather.
  const uint64_t *const *blocks = nullptr;
  const Wave *wave = nullptr;
  const RowCall *call = nullptr; ///< append, gather
  uint8_t *scratch = nullptr;
  size_t scratchStride = 0;
  uint32_t workers;
  bool emulates;
  /// The caller's parallel for gave a worker that does not exist.
  std::atomic<bool> misused = false;
  std::mutex lock;
  char finding[256] = ""; ///< the emulator's first; guarded by `lock`

  bool begin(uint32_t worker, KvcWorkTile &workTile) {
    if (worker >= workers) {
      misused.store(true, std::memory_order_relaxed);
      return false;
    }
    workTile.scratch = scratch + worker * scratchStride;
    return true;
  }
  /// A kernel has returned, on this thread.
  void end(const char *kernel) {
    amx::Finding found;
    if (emulates)
      found = amx::finish();
    if (found.empty())
      return;
    std::lock_guard guard(lock);
    if (!*finding)
      snprintf(finding, sizeof(finding), "%s: %s", kernel, found.text);
  }
  kvc_status status() const {
    if (misused.load(std::memory_order_relaxed))
      return fail(
          KVC_DEVICE_ERROR, 401,
          "the caller's parallel for gave a worker beyond its %u workers",
          workers);
    if (*finding)
      return fail(KVC_DEVICE_ERROR, 404, "%s", finding);
    return ok();
  }
};

// Tasks run on threads that nobody catches anything for: they throw nothing.

void attendTask(void *arg, uint32_t index, uint32_t worker) noexcept {
  auto &job = *static_cast<Job *>(arg);
  KvcWorkTile workTile = {};
  if (!job.begin(worker, workTile))
    return;
  FloatMode mode;
  uint32_t variant =
      AttendPlan::workTile(job.store->shape, *job.wave, index, workTile);
  job.store->attend[variant].function(job.blocks[variant], &workTile);
  job.end("attend");
}

void mergeTask(void *arg, uint32_t index, uint32_t worker) noexcept {
  auto &job = *static_cast<Job *>(arg);
  KvcWorkTile workTile = {};
  if (!job.begin(worker, workTile))
    return;
  FloatMode mode;
  AttendPlan::merge(job.store->shape, *job.wave, index, workTile);
  const uint64_t *block = job.blocks[job.store->attend.size()];
  job.store->merge.function(block, &workTile);
  job.end("merge");
}

void rowTask(void *arg, uint32_t index, uint32_t worker) noexcept {
  auto &job = *static_cast<Job *>(arg);
  KvcWorkTile workTile = {};
  if (!job.begin(worker, workTile))
    return;
  FloatMode mode;
  uint32_t begin = index * kTileRows;
  workTile.begin = int32_t(begin);
  workTile.end = int32_t(begin + std::min(job.call->rows - begin, kTileRows));
  job.store->of(job.call->kernel).function(*job.blocks, &workTile);
  job.end(job.call->kind());
}

class CpuExecutable : public Executable {
public:
  explicit CpuExecutable(CpuDevice &device) : device(device) {}
  ~CpuExecutable() override {
    if (rowScratch)
      device.deallocate(rowScratch, rowScratchBytes);
  }

  /// Takes the variant and prepares what runs need.
  kvc_status init(CpuVariant &&loaded) {
    variant = std::move(loaded);
    size_t most = 0;
    for (const CpuStore &store : variant.stores)
      most = std::max(most, store.rowScratch);
    rowStride = stride(most);
    rowScratchBytes = rowStride * device.workers();
    if (rowScratchBytes == 0)
      return ok();
    rowScratch = device.allocate(rowScratchBytes);
    return rowScratch
               ? ok()
               : fail(KVC_OUT_OF_MEMORY, 402,
                      "no memory for %zu bytes of scratch", rowScratchBytes);
  }

  const std::string &target() const override { return variant.target; }
  kvc_status move(uint32_t store, const RowCall &call) override;
  bool gathers(uint32_t store) const override {
    return variant.stores[store].gather.function;
  }
  size_t attendWorkspace(uint32_t store,
                         const AttendBounds &bounds) const override {
    const CpuStore &s = variant.stores[store];
    return AttendPlan::workspaceBytes(s.shape, s.blockBytes + scratchBytes(s),
                                      bounds.batch, bounds.rows,
                                      bounds.maxKvLen);
  }
  kvc_status attend(uint32_t store, const kvc_attend_args &args,
                    const AttendBounds &) override;

private:
  static size_t stride(size_t scratch) {
    return scratch ? align(scratch + kScratchGap) : 0;
  }
  /// Of all workers, for attend and merge.
  size_t scratchBytes(const CpuStore &store) const {
    return stride(store.attendScratch) * device.workers();
  }

  CpuDevice &device; ///< the program keeps it alive
  CpuVariant variant;
  void *rowScratch = nullptr;
  size_t rowStride = 0, rowScratchBytes = 0;
};

kvc_status CpuExecutable::move(uint32_t store, const RowCall &call) {
  const CpuStore &s = variant.stores[store];
  Environment words(call, s.pageTokens ? s.pageTokens : call.slotTokens);
  uint64_t block[artifact::kMaxParamBytes / artifact::kWordBytes];
  s.of(call.kernel).block.gather(words, block);
  const uint64_t *blocks = block;
  std::lock_guard guard(device.lock);
  Job job(device, s);
  job.blocks = &blocks;
  job.call = &call;
  job.scratch = static_cast<uint8_t *>(rowScratch);
  job.scratchStride = rowStride;
  device.run((call.rows + kTileRows - 1) / kTileRows, rowTask, &job);
  return job.status();
}

/// Gathers the blocks of a store's attend kernels and of merge from `to` on.
static void gatherBlocks(const CpuStore &store, const Environment &words,
                         uint8_t *to, const uint64_t **blocks) {
  auto gather = [&](const CpuKernel &kernel) {
    auto *block = reinterpret_cast<uint64_t *>(to);
    kernel.block.gather(words, block);
    *blocks++ = block;
    to += align(kernel.block.bytes());
  };
  for (const CpuKernel &kernel : store.attend)
    gather(kernel);
  gather(store.merge);
}

kvc_status CpuExecutable::attend(uint32_t store, const kvc_attend_args &args,
                                 const AttendBounds &) {
  const CpuStore &s = variant.stores[store];
  // Blocks, then the workers' scratch.
  AttendPlan plan(s.shape, args, s.blockBytes + scratchBytes(s));
  if (args.workspace_bytes < plan.required())
    return fail(KVC_INVALID_ARGUMENT, 403,
                "`workspace_bytes`: expected at least %zu, found %zu",
                plan.required(), args.workspace_bytes);
  std::lock_guard guard(device.lock);
  const uint64_t *blocks[artifact::kMaxAttends + 1];
  Job job(device, s);
  job.blocks = blocks;
  job.scratch = plan.scratch() + s.blockBytes;
  job.scratchStride = stride(s.attendScratch);
  Environment words(args);
  for (Wave wave; plan.next(wave, words);) {
    gatherBlocks(s, words, plan.scratch(), blocks);
    job.wave = &wave;
    device.run(wave.workTiles, attendTask, &job);
    device.run(wave.merges, mergeTask, &job);
  }
  return job.status();
}

//===----------------------------------------------------------------------===//
// The device
//===----------------------------------------------------------------------===//

kvc_status CpuDevice::load(const artifact::Manifest &manifest,
                           const artifact::Bundle &bundle,
                           std::unique_ptr<Executable> &executable) {
  CpuVariant variant;
  if (kvc_status s = loadCpuVariant(manifest, bundle, loader, level, variant);
      !isOk(s))
    return s;
  auto loaded = std::make_unique<CpuExecutable>(*this);
  if (kvc_status s = loaded->init(std::move(variant)); !isOk(s))
    return s;
  executable = std::move(loaded);
  return ok();
}

bool CpuDevice::count(kvc_sim_counters &counters) const {
  amx::Counters from = amx::counters();
  for (size_t op = 0; op < amx::kOps; ++op) {
    counters.instructions += from.ops[op];
    if (amx::Op(op) >= amx::Op::tdpbf16ps)
      counters.mma += from.ops[op];
  }
  counters.bytes_read = from.bytesLoaded;
  counters.bytes_written = from.bytesStored;
  return emulates();
}

void *CpuDevice::allocate(size_t bytes) {
  void *memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED)
    return nullptr;
  // Pages of a cache lie anywhere in it: fewer address translations. Advice
  // only, so a refusal is no failure.
  madvise(memory, bytes, MADV_HUGEPAGE);
  return memory;
}

} // namespace

kvc_status kvc::rt::createCpuDevice(const kvc_cpu_options &options,
                                    Device *&device, const char *level) {
  const kvc_parallel *parallel = options.parallel;
  uint32_t threads = parallel          ? 1
                     : options.threads ? options.threads
                                       : defaultThreads();
  if (parallel && (!parallel->run || parallel->workers == 0 ||
                   parallel->workers > kMaxWorkers))
    return fail(KVC_INVALID_ARGUMENT, 201,
                "`parallel`: expected a function and 1 to %u workers, found %u",
                kMaxWorkers, parallel->workers);
  if (!parallel && options.threads > kMaxWorkers)
    return fail(KVC_INVALID_ARGUMENT, 202,
                "`threads`: expected at most %u, found %u", kMaxWorkers,
                options.threads);
  kvc_code_loader loader = kElfLoader;
  if (options.code_loader) {
    if (kvc_status s =
            readStruct(options.code_loader, "kvc_code_loader", loader);
        !isOk(s))
      return s;
    if (!loader.load || !loader.symbol || !loader.release)
      return fail(KVC_INVALID_ARGUMENT, 204,
                  "`code_loader`: expected three functions, found null");
  }
  auto created = std::make_unique<CpuDevice>(std::min(threads, kMaxWorkers),
                                             parallel, loader, level);
  // Fewer than asked for would be a silent loss of speed.
  if (!parallel && created->workers() < std::min(threads, kMaxWorkers))
    return fail(KVC_OUT_OF_MEMORY, 203, "the system gave %u of %u threads",
                created->workers(), threads);
  device = created.release();
  return ok();
}
