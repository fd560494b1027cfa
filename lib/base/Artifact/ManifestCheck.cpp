//===- ManifestCheck.cpp - whether a manifest adds up ---------------------===//
#include "lib/base/Artifact/ManifestCheck.h"

#include "lib/base/Artifact/KernelKey.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <set>
#include <tuple>

using namespace kvc::artifact;

static constexpr uint64_t kPlaneAlignment = 64;
static constexpr uint32_t kWarpLanes = 32;
/// Of one token in a store, by its rows of every plane and kv head.
static constexpr uint64_t kMaxTokenBytes = 1u << 26;

static std::string expected(const std::string &at, const std::string &what,
                            uint64_t wanted, uint64_t found) {
  return at + ": expected " + what + std::to_string(wanted) + ", found " +
         std::to_string(found);
}

/// Of "bf16", "f8E5M2" or "i4": the first number in the name.
static unsigned typeBits(const std::string &type) {
  size_t digits = type.find_first_of("123456789");
  return digits == type.npos ? 0 : unsigned(std::atoi(&type[digits]));
}

/// Strides and place of one plane; `end` is where the planes before it end, and
/// moves on. In a contiguous store only the runtime knows the capacity, so all
/// that depends on it must be 0.
static std::string checkPlane(const StoreInfo &store, const PlaneInfo &plane,
                              const std::string &at, uint64_t &end) {
  uint64_t heads = store.headEnd - store.headBegin;
  bool hnd = store.order == "HND";
  // Elements are at most 65536, heads 4096, a page 256 tokens: no product here
  // leaves 64 bits.
  uint64_t bits = uint64_t(plane.elements) * typeBits(plane.type);
  if (bits % 8)
    return at + "/elements: expected a row of whole bytes, found " +
           std::to_string(bits) + " bits";
  if (store.page % plane.rowTokens)
    return at + "/row_tokens: expected a divisor of a page's tokens, " +
           std::to_string(store.page) + ", found " +
           std::to_string(plane.rowTokens);
  uint64_t rowBytes = bits / 8, pageRows = store.page / plane.rowTokens;
  uint64_t rowStride = hnd ? rowBytes : heads * rowBytes;
  uint64_t headStride = !store.paged ? 0 : hnd ? pageRows * rowBytes : rowBytes;
  if (plane.rowBytes != rowBytes)
    return expected(at + "/row_bytes", "", rowBytes, plane.rowBytes);
  if (plane.rowStride != rowStride)
    return expected(at + "/row_stride", "", rowStride, plane.rowStride);
  if (plane.headStride != headStride)
    return expected(at + "/head_stride", "", headStride, plane.headStride);
  if (!store.paged)
    return plane.pageOffset == 0
               ? ""
               : expected(at + "/page_offset", "", 0, plane.pageOffset);
  if (plane.pageOffset % kPlaneAlignment)
    return expected(at + "/page_offset", "a multiple of ", kPlaneAlignment,
                    plane.pageOffset);
  if (plane.pageOffset < end)
    return expected(at + "/page_offset", "no overlap, so at least ", end,
                    plane.pageOffset);
  end = plane.pageOffset + heads * pageRows * rowBytes;
  return end <= store.pageBytes
             ? ""
             : expected(at + "/page_offset", "the plane to end by page_bytes ",
                        store.pageBytes, end);
}

/// Stream by stream, the codes first. What attention reads is among them, a row
/// for each token.
static std::string checkPlanes(const ModelInfo &model, const StoreInfo &store,
                               const std::string &at) {
  uint64_t end = 0, tokenBytes = 0;
  std::set<std::string> streams, roles;
  for (size_t i = 0; i < store.planes.size(); ++i) {
    const PlaneInfo &plane = store.planes[i];
    std::string place = at + "/planes/" + std::to_string(i);
    if (i == 0 || plane.stream != store.planes[i - 1].stream) {
      if (plane.role != "codes" || !streams.insert(plane.stream).second)
        return place + ": expected the codes of a stream, each stream once; " +
               "found " + plane.role + " of `" + plane.stream + "`";
      roles.clear();
    }
    if (!roles.insert(plane.role).second)
      return place + ": expected each role once in `" + plane.stream +
             "`, found " + plane.role + " again";
    if (std::string error = checkPlane(store, plane, place, end);
        !error.empty())
      return error;
    // A runtime multiplies them with tokens, layers and sequences.
    tokenBytes += uint64_t(store.headEnd - store.headBegin) * plane.rowBytes;
    if (tokenBytes > kMaxTokenBytes)
      return expected(place + "/row_bytes",
                      "rows of all heads and planes of at most ",
                      kMaxTokenBytes, tokenBytes);
    bool isK = plane.stream == "k", isV = plane.stream == "v";
    if (plane.role != "codes" || (!isK && !isV))
      continue;
    uint32_t dim = isK ? model.headDimK : model.headDimV;
    if (plane.elements != dim)
      return expected(place + "/elements", "the head dim ", dim,
                      plane.elements);
    if (plane.rowTokens != 1)
      return expected(place + "/row_tokens", "", 1, plane.rowTokens);
  }
  if (!streams.count("k"))
    return at + "/planes: expected a stream `k`";
  // Without a stream of its own V is the beginnings of K's rows.
  if (!streams.count("v") && model.headDimV > model.headDimK)
    return at + "/planes: expected a stream `v`, whose rows are longer than "
                "those of `k`";
  return "";
}

static std::string checkRange(const std::string &at, uint32_t begin,
                              uint32_t end, uint32_t limit) {
  if (begin < end && end <= limit)
    return "";
  return at + ": expected a range within 0 to " + std::to_string(limit) +
         " that is not empty, found " + std::to_string(begin) + " to " +
         std::to_string(end);
}

static std::string checkLayers(const ModelInfo &model, const StoreInfo &store,
                               const std::string &at) {
  for (size_t i = 0; i < store.layers.size(); ++i) {
    uint32_t least = i ? store.layers[i - 1] + 1 : 0, layer = store.layers[i];
    if (layer < least || layer >= model.layers)
      return at + "/" + std::to_string(i) +
             ": expected layers in ascending order below " +
             std::to_string(model.layers) + ", found " + std::to_string(layer) +
             (i ? " after " + std::to_string(least - 1) : "");
  }
  return "";
}

static std::string checkStore(const ModelInfo &model, const StoreInfo &store,
                              const std::string &at) {
  std::string error = checkLayers(model, store, at + "/layers");
  if (error.empty())
    error = checkRange(at + "/kv_heads", store.headBegin, store.headEnd,
                       model.kvHeads);
  if (!error.empty())
    return error;
  if (store.pageBytes % kPlaneAlignment)
    return expected(at + "/page_bytes", "a multiple of ", kPlaneAlignment,
                    store.pageBytes);
  for (size_t i = 1; i < store.constants.size(); ++i)
    if (store.constants[i].name <= store.constants[i - 1].name)
      return at + "/constants/" + std::to_string(i) +
             "/name: expected constants by name, each once, found `" +
             store.constants[i].name + "` after `" +
             store.constants[i - 1].name + "`";
  return checkPlanes(model, store, at);
}

/// Every kv head of a layer must be in exactly one of `stores`, which have it.
static std::string checkLayer(const Manifest &manifest, uint32_t layer,
                              std::vector<uint32_t> stores) {
  auto info = [&](uint32_t store) -> const StoreInfo & {
    return manifest.stores[store];
  };
  std::sort(stores.begin(), stores.end(), [&](uint32_t a, uint32_t b) {
    return std::pair(info(a).headBegin, a) < std::pair(info(b).headBegin, b);
  });
  auto pair = [&](uint32_t head) {
    return "(layer " + std::to_string(layer) + ", kv head " +
           std::to_string(head) + ")";
  };
  uint32_t next = 0;
  for (size_t i = 0; i < stores.size(); ++i) {
    uint32_t begin = info(stores[i]).headBegin;
    if (begin < next)
      return "/stores/" + std::to_string(std::max(stores[i - 1], stores[i])) +
             ": expected a scope of its own, found " + pair(begin) + " in `" +
             info(std::min(stores[i - 1], stores[i])).name + "`";
    if (begin > next)
      break;
    next = info(stores[i]).headEnd;
  }
  if (next < manifest.model.kvHeads)
    return "/stores: expected each (layer, kv head) in a store, found " +
           pair(next) + " in none";
  return "";
}

/// Every (layer, kv head) pair must be in exactly one store.
static std::string checkScopes(const Manifest &manifest) {
  std::vector<std::vector<uint32_t>> byLayer(manifest.model.layers);
  for (uint32_t i = 0; i < manifest.stores.size(); ++i)
    for (uint32_t layer : manifest.stores[i].layers)
      byLayer[layer].push_back(i);
  for (uint32_t layer = 0; layer < byLayer.size(); ++layer)
    if (std::string error =
            checkLayer(manifest, layer, std::move(byLayer[layer]));
        !error.empty())
      return error;
  return "";
}

/// Kinds that some device launches; of others nothing is known but their form.
static bool isLaunched(const std::string &kind) {
  return kind == "attend" || kind == "merge" || kind == "append" ||
         kind == "plan" || kind == "gather";
}

namespace {
/// What a kernel's words may be of.
struct WordsOf {
  const StoreInfo &store;
  uint32_t attends; ///< kernels of the store for the kernel's target
};
} // namespace

static std::string wrongOf(const std::string &at, const std::string &wanted,
                           const ParamInfo &param) {
  return at + "/of: `" + param.what + "` is expected of " + wanted +
         ", found `" + param.of + "`";
}

/// Whether a word of a kernel that is launched is one that there is.
static std::string checkWord(const WordsOf &of, const KernelInfo &kernel,
                             const ParamInfo &param, const std::string &at) {
  const WordInfo *word = findWord(param.what);
  if (!word)
    return at + "/what: expected a word that this version knows, found `" +
           param.what + "`";
  if (word->scope == WordScope::Plane) {
    for (const PlaneInfo &plane : of.store.planes)
      if (param.of == plane.stream + "." + plane.role)
        return "";
    return wrongOf(at, "a plane of `" + of.store.name + "`", param);
  }
  if (word->scope == WordScope::Constant) {
    for (const ConstantInfo &constant : of.store.constants)
      if (param.of == constant.name)
        return "";
    return wrongOf(at, "a constant of `" + of.store.name + "`", param);
  }
  // What a call has once, and what an attend kernel has of its own.
  if (word->scope == WordScope::Call || kernel.kind == "attend")
    return param.of.empty() ? "" : wrongOf(at, "nothing", param);
  std::optional<uint32_t> index = attendOf(param.of);
  if (index && *index < of.attends)
    return "";
  return wrongOf(at,
                 "one of the " + std::to_string(of.attends) +
                     " attend kernels, the first `attend.0`",
                 param);
}

/// The words of a block: whole, in their order, within it, each once.
static std::string checkParams(const WordsOf &of, const KernelInfo &kernel,
                               const std::string &kernelAt) {
  if (kernel.paramBytes % kWordBytes)
    return expected(kernelAt + "/param_bytes", "a multiple of ", kWordBytes,
                    kernel.paramBytes);
  uint32_t free = 0;
  std::set<std::pair<std::string, std::string>> known;
  for (size_t i = 0; i < kernel.params.size(); ++i) {
    const ParamInfo &param = kernel.params[i];
    std::string at = kernelAt + "/params/" + std::to_string(i);
    if (param.offset % kWordBytes)
      return expected(at + "/offset", "a multiple of ", kWordBytes,
                      param.offset);
    if (param.offset < free)
      return expected(at + "/offset", "ascending offsets, so at least ", free,
                      param.offset);
    free = param.offset + kWordBytes;
    if (free > kernel.paramBytes)
      return expected(at + "/offset", "the word to end by param_bytes ",
                      kernel.paramBytes, free);
    if (!known.insert({param.what, param.of}).second)
      return at + ": `" + param.what + "` is there twice";
    if (!isLaunched(kernel.kind))
      continue;
    if (std::string error = checkWord(of, kernel, param, at); !error.empty())
      return error;
  }
  return "";
}

/// How a kernel is launched, and how an attend kernel's work is cut.
static std::string checkShape(const KernelInfo &kernel, const std::string &at) {
  if (kernel.blob.empty() && kernel.device != "cuda")
    return at + "/blob: expected an entry's name, found none";
  if (kernel.threads % kWarpLanes)
    return expected(at + "/threads", "whole warps, so a multiple of ",
                    kWarpLanes, kernel.threads);
  if (kernel.tileTokens && kernel.split % kernel.tileTokens)
    return expected(at + "/split", "whole tiles, so a multiple of ",
                    kernel.tileTokens, kernel.split);
  return "";
}

/// Whether code and manifest belong together, as far as the manifest shows: an
/// entry has a function of a symbol, or it has not.
static std::string checkKeys(const Manifest &manifest) {
  KernelKeys keys(manifest);
  for (size_t i = 0; i < manifest.kernels.size(); ++i) {
    const KernelInfo &kernel = manifest.kernels[i];
    std::string key = keys.of(kernel);
    if (kernel.symbol != boundSymbol(unboundSymbol(kernel.symbol), key))
      return "/kernels/" + std::to_string(i) + "/symbol: expected the key " +
             key + " of what the manifest says of `" + kernel.name +
             "`, found `" + kernel.symbol +
             "`: its code was compiled for something else";
  }
  return "";
}

/// A kernel is found by (store, target, kind) and, for attend, the number of
/// query tokens: two that answer to the same would make the choice arbitrary.
static std::string checkKernels(const Manifest &manifest) {
  std::map<std::string, const StoreInfo *> stores;
  for (const StoreInfo &store : manifest.stores)
    stores[store.name] = &store;
  using Group = std::tuple<std::string, std::string, std::string>;
  auto groupOf = [](const KernelInfo &kernel) {
    return Group(kernel.store, kernel.device, kernel.target);
  };
  std::map<Group, uint32_t> attends;
  for (const KernelInfo &kernel : manifest.kernels)
    attends[groupOf(kernel)] += kernel.kind == "attend";
  std::set<std::tuple<std::string, std::string, std::string>> names;
  std::set<
      std::tuple<std::string, std::string, std::string, std::string, uint32_t>>
      uses;
  for (size_t i = 0; i < manifest.kernels.size(); ++i) {
    const KernelInfo &kernel = manifest.kernels[i];
    std::string at = "/kernels/" + std::to_string(i);
    auto store = stores.find(kernel.store);
    if (store == stores.end())
      return at + "/store: expected the name of a store, found `" +
             kernel.store + "`";
    if (std::string error = checkShape(kernel, at); !error.empty())
      return error;
    WordsOf of{*store->second, attends[groupOf(kernel)]};
    if (of.attends > kMaxAttends)
      return at + ": expected at most " + std::to_string(kMaxAttends) +
             " attend kernels of a store for a target, found " +
             std::to_string(of.attends);
    if (std::string error = checkParams(of, kernel, at); !error.empty())
      return error;
    if (!names.insert({kernel.device, kernel.target, kernel.name}).second)
      return at + "/name: `" + kernel.name + "` is there twice for `" +
             kernel.target + "`";
    if (isLaunched(kernel.kind) &&
        !uses.insert({kernel.store, kernel.device, kernel.target, kernel.kind,
                      kernel.minQueries})
             .second)
      return at + ": a second " + kernel.kind + " kernel of `" + kernel.store +
             "` for the same target and query tokens";
  }
  return "";
}

bool StoreInfo::storesV() const {
  return std::any_of(planes.begin(), planes.end(), [](const PlaneInfo &plane) {
    return plane.stream == "v";
  });
}

std::string kvc::artifact::check(const Manifest &manifest) {
  const ModelInfo &model = manifest.model;
  if (model.qHeads % model.kvHeads)
    return expected("/model/q_heads", "a multiple of ", model.kvHeads,
                    model.qHeads);
  std::set<std::string> names;
  for (size_t i = 0; i < manifest.stores.size(); ++i) {
    std::string at = "/stores/" + std::to_string(i);
    if (!names.insert(manifest.stores[i].name).second)
      return at + "/name: `" + manifest.stores[i].name + "` is there twice";
    if (std::string error = checkStore(model, manifest.stores[i], at);
        !error.empty())
      return error;
  }
  if (std::string error = checkScopes(manifest); !error.empty())
    return error;
  if (std::string error = checkKernels(manifest); !error.empty())
    return error;
  return checkKeys(manifest);
}
