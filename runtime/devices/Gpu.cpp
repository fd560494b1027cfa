//===- Gpu.cpp - a GPU as a device ----------------------------------------===//
#include "runtime/devices/Gpu.h"

#include <algorithm>

using namespace kvc;
using namespace kvc::rt;
using artifact::KernelInfo;
using artifact::Manifest;

//===----------------------------------------------------------------------===//
// The workspace
//===----------------------------------------------------------------------===//

/// Products of untrusted sizes.
using Wide = unsigned __int128;

/// Of one kernel. Kernels count work tiles in 32 bits and step beyond the last
/// by a grid.
static constexpr Wide kMostWorkTiles = 1u << 30;

namespace {

/// What one attend kernel is given at most.
struct Demand {
  Wide workTiles = 0, splitRows = 0;
};

/// Of kernel `v`, which serves sequences of up to `most` query tokens. The
/// names are those of GpuWorkspace's formulas.
Demand demandOf(const GpuStore &store, size_t v, uint64_t most,
                const AttendBounds &bounds) {
  const AttendVariant &variant = store.shape.variants[v];
  Wide q = most, s = variant.split;
  Wide n =
      std::min(bounds.batch, bounds.rows / std::max(1u, variant.minQueries));
  Wide P =
      Wide(std::max<int64_t>(1, mostSplits(store.shape, variant.split,
                                           int64_t(most), bounds.maxKvLen)));
  Wide T = bounds.maxTokens, A = n * P, M = A, m = n;
  if (P == 1) {
    M = 0;
  } else if (!store.shape.window) {
    m = std::min(n, T / (s + 1));
    A = std::min(A, T / s + n);
    M = std::min(m * P, T / s + m);
  }
  Demand demand;
  Wide R = bounds.rows;
  demand.splitRows =
      store.shape.queryHeads * std::min(std::min(R, m * q) * P, q * M);
  // A sequence has ceil(rows / block) blocks, of each split.
  Wide block = store.attend[v].function.info->rows, group = store.group;
  Wide rows = group * std::min(std::min(R, n * q) * P, q * A);
  Wide blocks = std::min((rows + (block - 1) * A) / block,
                         (q * group + block - 1) / block * A);
  demand.workTiles = store.shape.kvHeads * blocks;
  return demand;
}

} // namespace

bool GpuWorkspace::plan(const GpuStore &store, const AttendBounds &bounds) {
  *this = GpuWorkspace();
  size_t at = 0;
  auto take = [&](size_t bytes) {
    size_t offset = at;
    at = align(at + bytes);
    return offset;
  };
  splitRow = take(size_t(bounds.batch) * sizeof(int64_t));
  for (size_t v = 0; v < store.attend.size(); ++v) {
    Variant &to = variants[v];
    to.count = take(sizeof(int32_t));
    if (store.shape.variants[v].minQueries > bounds.maxQueries)
      continue;
    // Sequences whose query tokens are within this kernel's range.
    uint64_t most = bounds.maxQueries;
    if (v + 1 < store.attend.size())
      most =
          std::min<uint64_t>(most, store.shape.variants[v + 1].minQueries - 1);
    Demand demand = demandOf(store, v, most, bounds);
    if (demand.workTiles > kMostWorkTiles)
      return false;
    to.capacity = uint32_t(demand.workTiles);
    to.splitCounters = take(size_t(to.capacity) * sizeof(uint32_t));
    to.workTiles = take(size_t(to.capacity) * sizeof(KvcGpuWorkTile));
    splitRows += int64_t(demand.splitRows);
  }
  planBytes = at;
  lse = take(size_t(splitRows) * sizeof(float));
  o = take(size_t(splitRows) * store.shape.dimV * sizeof(float));
  bytes = at;
  return true;
}

//===----------------------------------------------------------------------===//
// Launches
//===----------------------------------------------------------------------===//

namespace {

/// What the kernels of a target are in, each entry loaded when the first of its
/// kernels is asked for.
class GpuModules {
public:
  GpuModules(GpuDriver &driver, const artifact::Bundle &bundle)
      : driver(driver), bundle(bundle) {}
  kvc_status find(const KernelInfo &info, GpuFunction &function);
  std::vector<std::unique_ptr<GpuModule>> take() { return std::move(modules); }

  std::string remarks; ///< of the entries, a line each

private:
  GpuDriver &driver;
  const artifact::Bundle &bundle;
  std::vector<const KernelInfo *> first; ///< of each module
  std::vector<std::unique_ptr<GpuModule>> modules;
};

class GpuExecutable : public Executable {
public:
  GpuExecutable(GpuDriver &driver,
                std::vector<std::unique_ptr<GpuModule>> modules,
                const std::string &target, std::string remarks,
                std::vector<GpuStore> stores)
      : driver(driver), modules(std::move(modules)), name(target),
        said(std::move(remarks)), stores(std::move(stores)) {}

  const std::string &target() const override { return name; }
  const char *remarks() const override { return said.c_str(); }
  kvc_status move(uint32_t store, const RowCall &call) override;
  bool gathers(uint32_t store) const override {
    return stores[store].gather.function.handle;
  }
  size_t attendWorkspace(uint32_t store,
                         const AttendBounds &bounds) const override {
    GpuWorkspace workspace;
    return workspace.plan(stores[store], bounds) ? workspace.bytes : SIZE_MAX;
  }
  kvc_status attend(uint32_t store, const kvc_attend_args &args,
                    const AttendBounds &bounds) override;
  uint32_t planGroup(uint32_t store) const override {
    return stores[store].planGroup;
  }
  size_t planBytes(uint32_t store, const AttendBounds &bounds) const override {
    GpuWorkspace workspace;
    return workspace.plan(stores[store], bounds) ? workspace.planBytes
                                                 : SIZE_MAX;
  }
  kvc_status plan(uint32_t store, const kvc_attend_args &args,
                  const AttendBounds &bounds) override;

private:
  /// Every launch: gathers the kernel's block from a call's words.
  kvc_status launch(const GpuKernel &kernel, uint64_t grid,
                    const Environment &words, void *stream);
  kvc_status launchAttend(const GpuStore &store, const kvc_attend_args &args,
                          const GpuWorkspace &workspace);

  GpuDriver &driver; ///< the program keeps its device alive
  std::vector<std::unique_ptr<GpuModule>> modules;
  std::string name, said;
  std::vector<GpuStore> stores;
};

kvc_status GpuModules::find(const KernelInfo &info, GpuFunction &function) {
  auto known =
      std::find_if(first.begin(), first.end(), [&](const KernelInfo *other) {
        return other->blob == info.blob && other->ptx == info.ptx &&
               other->sites == info.sites;
      });
  size_t index = size_t(known - first.begin());
  if (index == modules.size()) {
    std::unique_ptr<GpuModule> module;
    std::string remark;
    if (kvc_status status = driver.load(info, bundle, module, remark);
        !isOk(status))
      return status;
    if (!remark.empty())
      remarks += remark + "\n";
    first.push_back(&info);
    modules.push_back(std::move(module));
  }
  return modules[index]->find(info, function);
}

/// Rows that kernels access 16 bytes at a time; null are none.
kvc_status checkAligned(const char *field, const void *rows, int64_t rowStride,
                        int64_t headStride) {
  if (!rows || (uintptr_t(rows) % 16 == 0 && rowStride % 16 == 0 &&
                headStride % 16 == 0))
    return ok();
  return fail(KVC_INVALID_ARGUMENT, 411,
              "`%s`: a GPU expects address, row stride and head stride to be "
              "multiples of 16, found %p, %lld and %lld",
              field, rows, (long long)rowStride, (long long)headStride);
}

kvc_status checkPlanes(const artifact::StoreInfo &store,
                       const kvc_plane *planes) {
  for (size_t i = 0; i < store.planes.size(); ++i) {
    uint32_t bytes = store.planes[i].rowBytes;
    // The largest power of two that divides a row, at most 16.
    int64_t alignment = std::min<int64_t>(16, bytes & (~bytes + 1));
    if (uintptr_t(planes[i].base) % uint64_t(alignment) ||
        planes[i].page_stride % alignment || planes[i].head_stride % alignment)
      return fail(KVC_INVALID_ARGUMENT, 412,
                  "`planes[%zu]`: a GPU expects base and strides to be "
                  "multiples of %lld",
                  i, (long long)alignment);
  }
  return ok();
}

/// What a plan and its attend kernels are given beside the call's own words.
const WordSet &planWords() {
  static const WordSet words =
      setOf({Word::Batch, Word::CuQ, Word::KvLen, Word::MaxKvLen,
             Word::SplitRow, Word::SplitRows, Word::WorkTiles, Word::WorkCount,
             Word::WorkCounters, Word::WorkCapacity});
  return words;
}
const WordSet &plannedWords() {
  static const WordSet words =
      attendWords() | planWords() | setOf({Word::PartialO, Word::PartialLse});
  return words;
}

kvc_status GpuExecutable::launch(const GpuKernel &kernel, uint64_t grid,
                                 const Environment &words, void *stream) {
  uint64_t block[artifact::kMaxParamBytes / artifact::kWordBytes];
  kernel.block.gather(words, block);
  return driver.launch(kernel.function, uint32_t(grid), block,
                       kernel.block.bytes(), stream);
}

kvc_status GpuExecutable::move(uint32_t store, const RowCall &call) {
  const GpuStore &s = stores[store];
  const GpuKernel &kernel = s.of(call.kernel);
  if (kvc_status status =
          checkAligned("k", call.k, call.kRowStride, call.kHeadStride);
      !isOk(status))
    return status;
  if (kvc_status status =
          checkAligned("v", call.v, call.vRowStride, call.vHeadStride);
      !isOk(status))
    return status;
  if (kvc_status status = checkPlanes(*s.info, call.planes); !isOk(status))
    return status;
  uint64_t warps = uint64_t(call.rows) * s.shape.kvHeads;
  uint64_t perCta = kernel.function.info->threads / 32;
  uint64_t grid = (warps + perCta - 1) / perCta;
  if (grid > INT32_MAX)
    return fail(KVC_INVALID_ARGUMENT, 413,
                "`rows`: expected rows times kv heads below 2^31, found %u "
                "rows",
                call.rows);
  Environment words(call, s.pageTokens ? s.pageTokens : call.slotTokens);
  return launch(kernel, grid, words, call.stream);
}

/// Bounds that kernels can count within, and what is where within them.
kvc_status layOut(const GpuStore &s, const AttendBounds &bounds,
                  GpuWorkspace &workspace) {
  // Rows of a kv head are counted in 32 bits.
  if (bounds.rows > INT32_MAX / s.group)
    return fail(KVC_INVALID_ARGUMENT, 414,
                "`rows`: a GPU expects the number of rows of q, at most %u, "
                "found %u",
                INT32_MAX / s.group, bounds.rows);
  if (bounds.maxKvLen > KVC_MAX_TOKENS)
    return fail(KVC_INVALID_ARGUMENT, 415,
                "`max_kv_len`: a GPU expects the most cached tokens of a "
                "sequence, at most %d, found %u",
                KVC_MAX_TOKENS, bounds.maxKvLen);
  if (!workspace.plan(s, bounds))
    return fail(KVC_INVALID_ARGUMENT, 416,
                "`rows` (%u), `batch` (%u) and `max_kv_len` (%u) allow for "
                "more than 2^30 work tiles",
                bounds.rows, bounds.batch, bounds.maxKvLen);
  return ok();
}

/// What a plan is at, for the kernel that makes it and those that follow it.
void setPlan(const GpuStore &s, const GpuWorkspace &workspace, uint8_t *plan,
             Environment &words) {
  words.set(Word::SplitRow, plan + workspace.splitRow);
  words.set(Word::SplitRows, workspace.splitRows);
  for (uint32_t v = 0; v < s.attend.size(); ++v) {
    const GpuWorkspace::Variant &at = workspace.variants[v];
    words.setOf(v, Word::WorkTiles, plan + at.workTiles);
    words.setOf(v, Word::WorkCount, plan + at.count);
    words.setOf(v, Word::WorkCounters, plan + at.splitCounters);
    words.setOf(v, Word::WorkCapacity, int64_t(at.capacity));
  }
}

kvc_status GpuExecutable::plan(uint32_t store, const kvc_attend_args &args,
                               const AttendBounds &bounds) {
  const GpuStore &s = stores[store];
  GpuWorkspace workspace;
  if (kvc_status status = layOut(s, bounds, workspace); !isOk(status))
    return status;
  Environment words = Environment::ofBatch(args);
  setPlan(s, workspace, static_cast<uint8_t *>(args.plan), words);
  return launch(s.plan, 1, words, args.stream);
}

kvc_status GpuExecutable::attend(uint32_t store, const kvc_attend_args &args,
                                 const AttendBounds &bounds) {
  const GpuStore &s = stores[store];
  if (args.rows == 0)
    return ok();
  GpuWorkspace workspace;
  if (kvc_status status = layOut(s, bounds, workspace); !isOk(status))
    return status;
  if (kvc_status status =
          checkAligned("q", args.q, args.q_row_stride, args.q_head_stride);
      !isOk(status))
    return status;
  if (kvc_status status = checkAligned("out", args.out, args.out_row_stride,
                                       args.out_head_stride);
      !isOk(status))
    return status;
  if (kvc_status status = checkPlanes(*s.info, args.planes); !isOk(status))
    return status;
  size_t needed = workspace.bytes - (args.plan ? workspace.planBytes : 0);
  if (args.workspace_bytes < needed)
    return fail(KVC_INVALID_ARGUMENT, 417,
                "`workspace_bytes`: expected at least %zu, found %zu", needed,
                args.workspace_bytes);
  return launchAttend(s, args, workspace);
}

kvc_status GpuExecutable::launchAttend(const GpuStore &s,
                                       const kvc_attend_args &args,
                                       const GpuWorkspace &workspace) {
  auto *partials = static_cast<uint8_t *>(args.workspace);
  auto *plan = static_cast<uint8_t *>(args.plan);
  Environment words(args);
  setPlan(s, workspace, plan ? plan : partials, words);
  kvc_status status = ok();
  if (!plan) {
    partials += workspace.planBytes;
    status = launch(s.plan, 1, words, args.stream);
  }
  words.set(Word::PartialLse, partials + workspace.lse - workspace.planBytes);
  words.set(Word::PartialO, partials + workspace.o - workspace.planBytes);
  uint32_t maxQueries = AttendBounds::of(args).maxQueries;
  for (size_t v = 0; v < s.attend.size() && isOk(status); ++v) {
    if (s.shape.variants[v].minQueries > maxQueries)
      continue;
    uint32_t grid = std::min(workspace.variants[v].capacity,
                             std::max(1u, s.attend[v].function.resident));
    status = launch(s.attend[v], grid, words, args.stream);
  }
  return status;
}

//===----------------------------------------------------------------------===//
// Loading
//===----------------------------------------------------------------------===//

/// Kernels of one target.
struct Candidate {
  const KernelInfo *first; ///< names it
  uint32_t fit;
};

bool isOf(const KernelInfo &kernel, const KernelInfo &first) {
  return kernel.device == first.device && kernel.target == first.target;
}

/// Why a target's kernels do not run at all; "" if they may.
std::string whyNot(const GpuDriver &driver, const Manifest &manifest,
                   const KernelInfo &first, uint32_t &fit) {
  std::string why;
  if (first.device != driver.kind())
    return "is for a device of kind `" + first.device + "`";
  fit = driver.fit(first, why);
  if (fit == 0)
    return why;
  for (const KernelInfo &kernel : manifest.kernels)
    if (isOf(kernel, first) && kernel.sharedBytes > driver.sharedPerCta())
      return "needs " + std::to_string(kernel.sharedBytes) +
             " bytes of shared memory for a CTA of `" + kernel.name +
             "`, this GPU (" + driver.name() + ") has " +
             std::to_string(driver.sharedPerCta());
  return "";
}

void addReason(std::string &reasons, const KernelInfo &first,
               const std::string &why) {
  reasons += (reasons.empty() ? "`" : "; `") + first.target + "` " + why;
}

/// The targets that may run here, the best first; `reasons` says why the others
/// do not.
std::vector<Candidate> rank(const GpuDriver &driver, const Manifest &manifest,
                            std::string &reasons) {
  std::vector<Candidate> ranked;
  std::vector<const KernelInfo *> seen;
  for (const KernelInfo &kernel : manifest.kernels) {
    if (std::any_of(seen.begin(), seen.end(), [&](const KernelInfo *other) {
          return isOf(kernel, *other);
        }))
      continue;
    seen.push_back(&kernel);
    uint32_t fit = 0;
    std::string why = whyNot(driver, manifest, kernel, fit);
    if (!why.empty()) {
      addReason(reasons, kernel, why);
      continue;
    }
    auto at = std::upper_bound(
        ranked.begin(), ranked.end(), fit,
        [](uint32_t fit, const Candidate &other) { return fit > other.fit; });
    ranked.insert(at, {&kernel, fit});
  }
  return ranked;
}

/// Puts a kernel where its store has it.
kvc_status place(const Manifest &manifest, const KernelInfo &kernel,
                 const GpuFunction &function, std::vector<GpuStore> &stores) {
  size_t index = 0;
  while (index < stores.size() && manifest.stores[index].name != kernel.store)
    ++index;
  if (index == stores.size())
    return fail(KVC_CORRUPT, 333, "`%s`: there is no store `%s`",
                kernel.name.c_str(), kernel.store.c_str());
  GpuStore &store = stores[index];
  if (kernel.kind == "append") {
    store.append.function = function;
  } else if (kernel.kind == "gather") {
    store.gather.function = function;
  } else if (kernel.kind == "plan") {
    store.plan.function = function;
  } else if (kernel.kind == "attend") {
    std::vector<AttendVariant> &list = store.shape.variants;
    auto at = std::upper_bound(
        list.begin(), list.end(), kernel.minQueries,
        [](uint32_t n, const AttendVariant &v) { return n < v.minQueries; });
    store.attend.insert(store.attend.begin() + (at - list.begin()),
                        GpuKernel{function, {}});
    list.insert(at, {kernel.minQueries, kernel.maxQueries, kernel.split});
  }
  return ok();
}

kvc_status check(const Manifest &manifest, const std::string &target,
                 const std::vector<GpuStore> &stores) {
  for (size_t i = 0; i < stores.size(); ++i) {
    const GpuStore &store = stores[i];
    const char *missing = !store.append.function.handle ? "append"
                          : !store.plan.function.handle ? "plan"
                          : store.attend.empty()        ? "attend"
                                                        : nullptr;
    if (missing)
      return fail(KVC_CORRUPT, 334, "`%s` has no %s kernel for `%s`",
                  manifest.stores[i].name.c_str(), missing, target.c_str());
    if (store.shape.variants.front().minQueries > 1)
      return fail(KVC_CORRUPT, 335,
                  "`%s` has no attend kernel for one query token",
                  manifest.stores[i].name.c_str());
  }
  return ok();
}

/// Whether the plan kernels of two stores do the same.
bool cutAlike(const GpuStore &a, const GpuStore &b) {
  auto alike = [](const AttendVariant &x, const AttendVariant &y) {
    return x.minQueries == y.minQueries && x.maxQueries == y.maxQueries &&
           x.split == y.split;
  };
  auto sameRows = [](const GpuKernel &x, const GpuKernel &y) {
    return x.function.info->rows == y.function.info->rows;
  };
  const AttendShape &x = a.shape, &y = b.shape;
  return a.group == b.group && x.kvHeads == y.kvHeads && x.window == y.window &&
         x.sink == y.sink && x.recent == y.recent &&
         std::equal(x.variants.begin(), x.variants.end(), y.variants.begin(),
                    y.variants.end(), alike) &&
         std::equal(a.attend.begin(), a.attend.end(), b.attend.begin(),
                    b.attend.end(), sameRows);
}

void findPlanGroups(std::vector<GpuStore> &stores) {
  for (GpuStore &store : stores) {
    auto first =
        std::find_if(stores.begin(), stores.end(), [&](const GpuStore &other) {
          return cutAlike(store, other);
        });
    store.planGroup = uint32_t(first - stores.begin());
  }
}

/// Finds the words of all kernels, now that the attend kernels are in order.
kvc_status resolve(std::vector<GpuStore> &stores) {
  for (GpuStore &store : stores) {
    auto find = [&](GpuKernel &kernel, const WordSet &given, uint32_t attend) {
      return KernelBlock::resolve(*kernel.function.info, *store.info, given,
                                  attend, kernel.block);
    };
    kvc_status status = find(store.append, rowWords(), 0);
    if (isOk(status) && store.gather.function.handle)
      status = find(store.gather, rowWords(), 0);
    if (isOk(status))
      status = find(store.plan, planWords(), 0);
    for (uint32_t v = 0; v < store.attend.size() && isOk(status); ++v)
      status = find(store.attend[v], plannedWords(), v);
    if (!isOk(status))
      return status;
  }
  return ok();
}

std::vector<GpuStore> storesOf(const Manifest &manifest) {
  std::vector<GpuStore> stores;
  for (const artifact::StoreInfo &info : manifest.stores) {
    GpuStore &store = stores.emplace_back();
    store.info = &info;
    store.group = manifest.model.qHeads / manifest.model.kvHeads;
    store.shape.kvHeads = info.headEnd - info.headBegin;
    store.shape.queryHeads = store.shape.kvHeads * store.group;
    store.shape.dimV = manifest.model.headDimV;
    store.shape.window = info.window;
    store.shape.sink = info.sink;
    store.shape.recent = info.recent;
    store.pageTokens = info.paged ? info.page : 0;
  }
  return stores;
}

/// The kernels of one target.
kvc_status loadTarget(GpuDriver &driver, const Manifest &manifest,
                      const artifact::Bundle &bundle, const KernelInfo &first,
                      std::string remarks,
                      std::unique_ptr<Executable> &executable) {
  std::vector<GpuStore> stores = storesOf(manifest);
  GpuModules modules(driver, bundle);
  for (const KernelInfo &kernel : manifest.kernels) {
    // What is never launched need not be there.
    if (!isOf(kernel, first) ||
        (kernel.kind != "append" && kernel.kind != "gather" &&
         kernel.kind != "plan" && kernel.kind != "attend"))
      continue;
    GpuFunction function;
    if (kvc_status s = modules.find(kernel, function); !isOk(s))
      return s;
    if (kvc_status s = place(manifest, kernel, function, stores); !isOk(s))
      return s;
  }
  if (kvc_status s = check(manifest, first.target, stores); !isOk(s))
    return s;
  if (kvc_status s = resolve(stores); !isOk(s))
    return s;
  findPlanGroups(stores);
  remarks += modules.remarks;
  if (!remarks.empty())
    remarks.pop_back(); // the last line's end
  executable =
      std::make_unique<GpuExecutable>(driver, modules.take(), first.target,
                                      std::move(remarks), std::move(stores));
  return ok();
}

} // namespace

kvc_status GpuDevice::load(const Manifest &manifest,
                           const artifact::Bundle &bundle,
                           std::unique_ptr<Executable> &executable) {
  std::string reasons, remarks;
  std::vector<Candidate> ranked = rank(*gpu, manifest, reasons);
  if (!ranked.empty() && manifest.gpuAbi != KVC_GPU_ABI)
    return fail(KVC_UNSUPPORTED, 332,
                "the kernels of `%s` have GPU ABI %u, this runtime calls %u",
                manifest.specName.c_str(), manifest.gpuAbi, KVC_GPU_ABI);
  for (const Candidate &candidate : ranked) {
    kvc_status status = loadTarget(*gpu, manifest, bundle, *candidate.first,
                                   remarks, executable);
    // What this GPU's driver refuses, another target's kernels need not be.
    if (status.code != KVC_UNSUPPORTED)
      return status;
    std::string why = errorText();
    addReason(reasons, *candidate.first, "is refused: " + why);
    remarks += "`" + candidate.first->target + "` is refused: " + why + "\n";
  }
  std::string here = std::string_view(gpu->kind()) == "sim"
                         ? "the emulated `" + gpu->name() + "`"
                         : "this GPU";
  return fail(KVC_UNSUPPORTED, 331, "no variant of `%s` runs on %s: %s",
              manifest.specName.c_str(), here.c_str(),
              reasons.empty() ? "there are no kernels" : reasons.c_str());
}
