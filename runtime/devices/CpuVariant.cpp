//===- CpuVariant.cpp - one level's kernels of an artifact, loaded --------===//
#include "runtime/devices/CpuVariant.h"

#include "lib/base/Amx/Emulator.h"
#include "runtime/devices/CpuFeatures.h"

#include <algorithm>
#include <set>

using namespace kvc;
using namespace kvc::rt;
using artifact::KernelInfo;
using artifact::Manifest;

namespace {

/// A target that the manifest has kernels for.
struct Candidate {
  std::string target;
  std::set<std::string> features;
  std::string missing; ///< "avx512f, avx512bw"
};

/// On a CPU with tiles all of AMX is the CPU's: it would not see ours.
bool emulated(const std::string &feature) {
  return amx::emulates(feature) && !cpuHasFeature("amx-tile");
}

std::vector<Candidate> candidates(const Manifest &manifest,
                                  const std::string &level) {
  std::vector<Candidate> list;
  for (const KernelInfo &kernel : manifest.kernels) {
    if (kernel.device != "cpu" || (!level.empty() && kernel.target != level))
      continue;
    auto found = std::find_if(list.begin(), list.end(), [&](auto &candidate) {
      return candidate.target == kernel.target;
    });
    if (found == list.end())
      found = list.insert(list.end(), {kernel.target, {}, {}});
    found->features.insert(kernel.features.begin(), kernel.features.end());
  }
  for (Candidate &candidate : list)
    for (const std::string &feature : candidate.features)
      if (!cpuHasFeature(feature) && (level.empty() || !emulated(feature)))
        candidate.missing += (candidate.missing.empty() ? "" : ", ") + feature;
  return list;
}

/// The most capable target that runs here; null and a status if there is none.
const Candidate *choose(const std::vector<Candidate> &list,
                        const Manifest &manifest, const std::string &level,
                        kvc_status &status) {
  const Candidate *best = nullptr;
  std::string reasons;
  for (const Candidate &candidate : list) {
    if (!candidate.missing.empty())
      reasons += (reasons.empty() ? "`" : "; `") + candidate.target +
                 "` lacks " + candidate.missing;
    else if (!best || candidate.features.size() >= best->features.size())
      best = &candidate;
  }
  if (reasons.empty())
    reasons = "there are no kernels for " +
              (level.empty() ? "CPUs" : "`" + level + "`");
  std::string here =
      level.empty() ? "this CPU" : "this CPU as an emulated `" + level + "`";
  if (!best)
    status = fail(KVC_UNSUPPORTED, 311, "no variant of `%s` runs on %s: %s",
                  manifest.specName.c_str(), here.c_str(), reasons.c_str());
  return best;
}

/// Loads kernels into a variant; each blob once.
class Loader {
public:
  Loader(const Manifest &manifest, const artifact::Bundle &bundle,
         const kvc_code_loader &loader, CpuVariant &variant)
      : manifest(manifest), bundle(bundle), loader(loader), variant(variant) {}

  /// Of a kind that no CPU launches: nothing.
  kvc_status load(const KernelInfo &kernel);
  kvc_status check() const;

private:
  kvc_status symbol(const KernelInfo &kernel, CpuKernel &function);

  const Manifest &manifest;
  const artifact::Bundle &bundle;
  const kvc_code_loader &loader;
  CpuVariant &variant;
  std::vector<std::string> loaded; ///< names of variant.code
};

/// What a CPU sets beside a call's own words.
const WordSet &waveWords() {
  static const WordSet words =
      attendWords() | setOf({Word::PartialO, Word::PartialLse});
  return words;
}

kvc_status Loader::symbol(const KernelInfo &kernel, CpuKernel &function) {
  size_t index =
      std::find(loaded.begin(), loaded.end(), kernel.blob) - loaded.begin();
  if (index == loaded.size()) {
    auto bytes = bundle.find(kernel.blob);
    if (!bytes)
      return fail(KVC_CORRUPT, 321, "the artifact has no `%s`",
                  kernel.blob.c_str());
    std::string error;
    bool refused = false;
    std::optional<CpuCode> code = CpuCode::load(loader, *bytes, error, refused);
    if (!code && refused)
      return fail(KVC_DEVICE_ERROR, 327, "`%s`: %s", kernel.blob.c_str(),
                  error.c_str());
    if (!code)
      return fail(KVC_CORRUPT, 322, "`%s`: %s", kernel.blob.c_str(),
                  error.c_str());
    loaded.push_back(kernel.blob);
    variant.code.push_back(std::move(*code));
  }
  void *address = variant.code[index].symbol(kernel.symbol);
  if (!address)
    return fail(KVC_CORRUPT, 323, "`%s` has no function `%s`",
                kernel.blob.c_str(), kernel.symbol.c_str());
  function.function = reinterpret_cast<decltype(function.function)>(address);
  return ok();
}

kvc_status Loader::load(const KernelInfo &kernel) {
  bool moves = kernel.kind == "append" || kernel.kind == "gather";
  if (!moves && kernel.kind != "merge" && kernel.kind != "attend")
    return ok();
  CpuKernel function;
  if (kvc_status s = symbol(kernel, function); !isOk(s))
    return s;
  size_t index = 0;
  while (index < manifest.stores.size() &&
         manifest.stores[index].name != kernel.store)
    ++index;
  if (index == manifest.stores.size())
    return fail(KVC_CORRUPT, 324, "`%s`: there is no store `%s`",
                kernel.name.c_str(), kernel.store.c_str());
  if (kvc_status s = KernelBlock::resolve(kernel, manifest.stores[index],
                                          moves ? rowWords() : waveWords(),
                                          /*attend=*/0, function.block);
      !isOk(s))
    return s;
  CpuStore &store = variant.stores[index];
  store.blockBytes += moves ? 0 : align(function.block.bytes());
  size_t &scratch = moves ? store.rowScratch : store.attendScratch;
  scratch = std::max<size_t>(scratch, kernel.scratchBytes);
  if (moves) {
    (kernel.kind == "append" ? store.append : store.gather) = function;
  } else if (kernel.kind == "merge") {
    store.merge = function;
  } else {
    std::vector<AttendVariant> &list = store.shape.variants;
    auto at = std::upper_bound(
        list.begin(), list.end(), kernel.minQueries,
        [](uint32_t n, const AttendVariant &v) { return n < v.minQueries; });
    store.attend.insert(store.attend.begin() + (at - list.begin()), function);
    list.insert(at, {kernel.minQueries,
                     std::min<uint32_t>(kernel.maxQueries, INT32_MAX),
                     kernel.split});
  }
  return ok();
}

/// Every store can be appended to and attended over, whatever the batch.
kvc_status Loader::check() const {
  for (size_t i = 0; i < variant.stores.size(); ++i) {
    const CpuStore &store = variant.stores[i];
    const char *missing = !store.append.function  ? "append"
                          : !store.merge.function ? "merge"
                          : store.attend.empty()  ? "attend"
                                                  : nullptr;
    if (missing)
      return fail(KVC_CORRUPT, 325, "`%s` has no %s kernel for `%s`",
                  manifest.stores[i].name.c_str(), missing,
                  variant.target.c_str());
    if (store.shape.variants.front().minQueries > 1)
      return fail(KVC_CORRUPT, 326,
                  "`%s` has no attend kernel for one query token",
                  manifest.stores[i].name.c_str());
  }
  return ok();
}

} // namespace

kvc_status kvc::rt::loadCpuVariant(const Manifest &manifest,
                                   const artifact::Bundle &bundle,
                                   const kvc_code_loader &codeLoader,
                                   const std::string &level,
                                   CpuVariant &variant) {
  if (manifest.cpuAbi != KVC_CPU_ABI)
    return fail(KVC_UNSUPPORTED, 312,
                "the kernels of `%s` have CPU ABI %u, this runtime calls %u",
                manifest.specName.c_str(), manifest.cpuAbi, KVC_CPU_ABI);
  std::vector<Candidate> list = candidates(manifest, level);
  kvc_status status = ok();
  const Candidate *chosen = choose(list, manifest, level, status);
  if (!chosen)
    return status;
  variant.target = chosen->target;
  uint32_t group = manifest.model.qHeads / manifest.model.kvHeads;
  for (const artifact::StoreInfo &info : manifest.stores) {
    CpuStore &store = variant.stores.emplace_back();
    store.shape.kvHeads = info.headEnd - info.headBegin;
    store.shape.queryHeads = store.shape.kvHeads * group;
    store.shape.dimV = manifest.model.headDimV;
    store.shape.window = info.window;
    store.shape.sink = info.sink;
    store.shape.recent = info.recent;
    store.shape.causal = info.causal;
    store.pageTokens = info.paged ? info.page : 0;
  }
  Loader loader(manifest, bundle, codeLoader, variant);
  for (const KernelInfo &kernel : manifest.kernels)
    if (kernel.device == "cpu" && kernel.target == variant.target)
      if (kvc_status s = loader.load(kernel); !isOk(s))
        return s;
  return loader.check();
}
