//===- BenchHost.cpp ------------------------------------------------------===//

#include "tools/kvc/BenchHost.h"

#include "lib/base/Spec/Reader.h"
#include "lib/driver/Jit/OrcLoader.h"

#include "llvm/ADT/SmallString.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"

#include <cstdlib>
#include <list>

using namespace kvc;
using namespace kvc::bench;

//===----------------------------------------------------------------------===//
// Compile
//===----------------------------------------------------------------------===//

namespace {

/// $KVC_CACHE_DIR is an empty directory while this lives.
class OwnCacheDirectory {
public:
  OwnCacheDirectory() {
    llvm::SmallString<128> path;
    llvm::sys::path::system_temp_directory(/*ErasedOnReboot=*/true, path);
    llvm::sys::path::append(path, "kvc-bench-XXXXXX");
    directory = path.str().str();
    // Not createUniqueDirectory: the cache wants one that is ours alone.
    if (!mkdtemp(directory.data()))
      directory.clear();
    if (const char *old = std::getenv("KVC_CACHE_DIR"))
      before = old;
    setenv("KVC_CACHE_DIR", directory.c_str(), 1);
  }
  ~OwnCacheDirectory() {
    if (before)
      setenv("KVC_CACHE_DIR", before->c_str(), 1);
    else
      unsetenv("KVC_CACHE_DIR");
    if (!directory.empty())
      (void)llvm::sys::fs::remove_directories(directory);
  }

private:
  std::string directory;
  std::optional<std::string> before;
};

} // namespace

namespace {
struct CompileTime {
  double all = 0; ///< milliseconds
  std::vector<ObjectTime> objects;
};
} // namespace

/// Of one; nullopt after reporting if it failed, or if it did not come from
/// where it should.
static std::optional<CompileTime> timeOne(const spec::Spec &spec,
                                          const CompileOptions &options,
                                          bool fromCache,
                                          Diagnostics &diagnostics) {
  double start = now();
  std::optional<spec::Spec> read =
      spec::read(spec.canonical, spec.file, diagnostics);
  if (!read)
    return std::nullopt;
  std::optional<CompileOutput> output = compile(*read, options, diagnostics);
  if (!output)
    return std::nullopt;
  bool runs = llvm::all_of(options.targets, [](const std::string &target) {
    return deviceOf(target) == "cpu" &&
           !llvm::StringRef(target).starts_with("sim:");
  });
  Program program = runs ? load(output->artifact, 1, orcCodeLoader()) : nullptr;
  double seconds = now() - start;
  if (runs && !program) {
    diagnostics.error("E-LOAD", {}, kvc_error_text());
    return std::nullopt;
  }
  if (output->fromCache != fromCache) {
    diagnostics.error("E-CACHE", {},
                      fromCache ? "the disk cache did not keep the artifact"
                                : "the artifact came from the disk cache");
    return std::nullopt;
  }
  return CompileTime{seconds * 1e3, std::move(output->objectTimes)};
}

/// The objects that have PTX, over all repetitions.
static std::vector<CompileTimes::Object>
objectTimes(llvm::ArrayRef<CompileTime> times) {
  std::vector<CompileTimes::Object> objects;
  for (auto [i, object] : llvm::enumerate(times.front().objects)) {
    if (object.ptx == 0)
      continue;
    std::vector<double> ptx, cubin;
    for (const CompileTime &time : times) {
      ptx.push_back(time.objects[i].ptx);
      cubin.push_back(time.objects[i].object);
    }
    CompileTimes::Object &row = objects.emplace_back();
    row.kernels = object.kernels + " for " + object.target;
    row.ptx = spread(ptx);
    if (object.object != 0)
      row.cubin = spread(cubin);
  }
  return objects;
}

std::optional<CompileTimes> kvc::bench::timeCompile(const spec::Spec &spec,
                                                    CompileOptions options,
                                                    unsigned reps,
                                                    Diagnostics &diagnostics) {
  std::vector<double> cold, cached;
  std::vector<CompileTime> times;
  options.emitRemarks = false;
  options.useCache = false;
  for (unsigned rep = 0; rep < reps; ++rep) {
    auto time = timeOne(spec, options, false, diagnostics);
    if (!time)
      return std::nullopt;
    cold.push_back(time->all);
    times.push_back(std::move(*time));
  }
  OwnCacheDirectory directory;
  options.useCache = true;
  for (unsigned rep = 0; rep <= reps; ++rep) {
    auto time = timeOne(spec, options, rep > 0, diagnostics);
    if (!time)
      return std::nullopt;
    if (rep > 0)
      cached.push_back(time->all);
  }
  return CompileTimes{cold.front(), spread(cold), spread(cached),
                      objectTimes(times)};
}

//===----------------------------------------------------------------------===//
// Runtime
//===----------------------------------------------------------------------===//

static constexpr unsigned kSteps = 256;

using Cache = std::unique_ptr<kvc_cache, Release>;

/// A cache with room for kSteps tokens of each sequence.
static Cache makeCache(const Subject &subject, kvc_program *program,
                       unsigned sequences) {
  size_t bytes = 0;
  for (const artifact::StoreInfo &store : subject.manifest.stores) {
    size_t tokenBytes = 0, layers = store.layers.size();
    for (const artifact::PlaneInfo &plane : store.planes)
      tokenBytes += plane.rowStride * (store.headEnd - store.headBegin);
    size_t pages = store.paged ? (kSteps + store.page - 1) / store.page : 1;
    size_t one = store.paged ? store.pageBytes : kSteps * (tokenBytes + 64);
    // One more for each sequence, and two sentinels.
    bytes += layers * one * ((pages + 1) * sequences + 2);
  }
  kvc_cache_options options = {};
  options.size = sizeof(options);
  // Stores share the arena by bytes per token, which pages of different sizes
  // do not follow exactly.
  options.arena_bytes = 2 * bytes;
  options.max_sequences = options.max_batch = options.max_step_tokens =
      sequences;
  options.max_tokens_per_seq = kSteps;
  options.flags = KVC_SINGLE_OWNER;
  kvc_cache *cache = nullptr;
  if (kvc_cache_create(program, &options, &cache).code != KVC_OK)
    return nullptr;
  Cache made(cache);
  // Kernels are not measured here: any values will do.
  size_t most = 1;
  for (const artifact::StoreInfo &store : subject.manifest.stores)
    for (const artifact::ConstantInfo &constant : store.constants)
      most = std::max(most, size_t(constant.size) *
                                (constant.perSequence ? sequences : 1));
  static std::list<std::vector<float>> kept; // a cache does not copy them
  const void *values = kept.emplace_back(most).data();
  std::vector<const void *> constants(artifact::kMaxConstants, values);
  for (uint32_t i = 0; i < subject.manifest.stores.size(); ++i)
    if (kvc_cache_set_constants(
            cache, i, KVC_ALL_LAYERS, constants.data(),
            uint32_t(subject.manifest.stores[i].constants.size()))
            .code != KVC_OK)
      return nullptr;
  return made;
}

/// Seconds of all steps, from empty sequences to kSteps tokens in each.
static std::optional<double> runSteps(kvc_cache *cache, unsigned sequences) {
  std::vector<kvc_slot_request> requests(sequences);
  for (kvc_slot_request &request : requests) {
    request.new_tokens = 1;
    if (kvc_cache_open(cache, &request.seq).code != KVC_OK)
      return std::nullopt;
  }
  double start = now();
  for (unsigned i = 0; i < kSteps; ++i) {
    kvc_step step;
    if (kvc_cache_reserve(cache, requests.data(), sequences, nullptr, &step)
                .code != KVC_OK ||
        kvc_cache_mark_appended(cache, step, KVC_ALL_LAYERS).code != KVC_OK ||
        kvc_cache_commit(cache, step, nullptr).code != KVC_OK)
      return std::nullopt;
  }
  double seconds = now() - start;
  for (const kvc_slot_request &request : requests)
    if (kvc_cache_release(cache, request.seq).code != KVC_OK)
      return std::nullopt;
  return seconds;
}

std::optional<Spread> kvc::bench::timeSteps(Subject &subject,
                                            unsigned sequences, unsigned reps) {
  Program &program = subject.programs[1];
  if (!program)
    program = load(subject.artifact, 1, subject.loader);
  if (!program)
    return std::nullopt;
  Cache cache = makeCache(subject, program.get(), sequences);
  if (!cache)
    return std::nullopt;
  std::vector<double> samples;
  for (unsigned rep = 0; rep <= reps; ++rep) {
    std::optional<double> seconds = runSteps(cache.get(), sequences);
    if (!seconds)
      return std::nullopt;
    if (rep > 0) // the first touches the tables for the first time
      samples.push_back(*seconds * 1e6 / (double(kSteps) * sequences));
  }
  return spread(samples);
}
