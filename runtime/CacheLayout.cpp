//===- CacheLayout.cpp - where everything is in a cache's arena -----------===//
#include "runtime/CacheLayout.h"

#include "runtime/PagePool.h"

#include <algorithm>

using namespace kvc;
using namespace kvc::rt;

/// Products of untrusted sizes.
using Wide = unsigned __int128;

static uint64_t align(uint64_t bytes) { return (bytes + 63) & ~uint64_t(63); }

kvc_status kvc::rt::checkBounds(const artifact::Manifest &manifest,
                                const kvc_cache_options &options) {
  struct {
    const char *name;
    uint64_t value, most;
  } limits[] = {
      {"max_sequences", options.max_sequences, 1u << 24},
      {"max_batch", options.max_batch, 1u << 24},
      // Work tiles are numbered by 32 bits.
      {"max_step_tokens", options.max_step_tokens,
       INT32_MAX / manifest.model.kvHeads},
      {"max_tokens_per_seq", options.max_tokens_per_seq, KVC_MAX_TOKENS}};
  for (const auto &limit : limits)
    if (limit.value < 1 || limit.value > limit.most)
      return fail(KVC_INVALID_ARGUMENT, 503,
                  "`%s`: expected 1 to %llu, found %llu", limit.name,
                  (unsigned long long)limit.most,
                  (unsigned long long)limit.value);
  return ok();
}

kvc_plane StoreLayout::planeOf(uint8_t *arena, uint32_t layer,
                               size_t plane) const {
  uint8_t *base = arena + offset + layer * layerBytes;
  return {base + planeOffset[plane], int64_t(pageBytes), headStride[plane]};
}

StoreLayout::Runs StoreLayout::runsOf(size_t plane, uint32_t tokens) const {
  const artifact::PlaneInfo &is = info->planes[plane];
  uint64_t rows = (uint64_t(tokens) + is.rowTokens - 1) / is.rowTokens;
  bool hnd = info->order == "HND";
  return {hnd ? info->headEnd - info->headBegin : 1, rows * is.rowStride};
}

/// All but the number of pages and the place in the arena.
static StoreLayout describe(const artifact::StoreInfo &info,
                            const kvc_cache_options &options) {
  StoreLayout store;
  store.info = &info;
  uint64_t capacity = options.max_tokens_per_seq;
  store.pageTokens = info.paged ? info.page : uint32_t(capacity);
  store.tableWidth = store.pagesFor(options.max_tokens_per_seq);
  uint64_t heads = info.headEnd - info.headBegin;
  for (const artifact::PlaneInfo &plane : info.planes) {
    if (info.paged) {
      store.planeOffset.push_back(plane.pageOffset);
      store.headStride.push_back(plane.headStride);
      continue;
    }
    // HND: each head's rows are one run. NHD: each row's heads are.
    bool hnd = info.order == "HND";
    uint64_t rows = (capacity + plane.rowTokens - 1) / plane.rowTokens;
    uint64_t run = rows * plane.rowStride;
    store.planeOffset.push_back(store.pageBytes);
    store.headStride.push_back(hnd ? int64_t(run) : plane.rowBytes);
    store.pageBytes += align(hnd ? heads * run : run);
  }
  if (info.paged)
    store.pageBytes = info.pageBytes;
  else
    store.pages = options.max_sequences;
  return store;
}

static Wide bytesPerPage(const StoreLayout &store) {
  return Wide(store.pageBytes) * store.layers();
}

PageRange StoreLayout::unseen(uint32_t settled) const {
  if (!paged() || !info->window)
    return {};
  // The query at position p sees the tokens from p - recent + 1 on, and a token
  // to be written is not seen before but needs its page.
  uint64_t before = std::max<uint32_t>(info->recent, 1) - 1;
  uint64_t oldest = settled - std::min<uint64_t>(settled, before);
  uint32_t begin = pagesFor(info->sink);
  return {begin, std::max(begin, uint32_t(oldest / pageTokens))};
}

/// Pages that all sequences together can hold, whatever steps are open.
static uint64_t mostPages(const StoreLayout &store,
                          const kvc_cache_options &options) {
  uint64_t whole = uint64_t(options.max_sequences) * store.tableWidth;
  if (!store.info->window)
    return whole;
  // Of each sequence the sink, and a window that begins within a page, before
  // the tokens that may be truncated; of the steps their new tokens, each
  // sequence's from within a page.
  uint64_t page = store.pageTokens;
  uint64_t recent = std::max<uint32_t>(store.info->recent, 1) +
                    uint64_t(options.max_rollback);
  uint64_t window = (recent + 2 * page - 3) / page;
  uint64_t settled =
      options.max_sequences * (store.pagesFor(store.info->sink) + window);
  uint64_t stepping = std::min<uint64_t>(
      options.max_sequences, kMaxSteps * uint64_t(options.max_batch));
  uint64_t reserved =
      (kMaxSteps * uint64_t(options.max_step_tokens)) / page + stepping;
  return std::min(whole, settled + reserved);
}

/// Pages beside the sentinels if every paged store holds about `tokens`; no
/// more than all sequences can hold.
static uint64_t pagesFor(const StoreLayout &store, uint64_t tokens,
                         const kvc_cache_options &options) {
  return std::min({tokens / store.pageTokens, mostPages(store, options),
                   uint64_t(INT32_MAX - kFirstPage)});
}

static Wide bytesFor(const std::vector<StoreLayout> &stores, uint64_t tokens,
                     const kvc_cache_options &options) {
  Wide bytes = 0;
  for (const StoreLayout &store : stores)
    bytes += bytesPerPage(store) *
             (store.paged() ? kFirstPage + pagesFor(store, tokens, options)
                            : store.pages);
  return bytes;
}

/// The most tokens whose pages fit. Exact, so that an arena that was computed
/// from page_bytes holds the pages that it was computed for.
static uint64_t tokensThatFit(const std::vector<StoreLayout> &stores,
                              const kvc_cache_options &options) {
  uint64_t low = 0;
  uint64_t high = uint64_t(options.max_sequences) *
                  (uint64_t(options.max_tokens_per_seq) + 256);
  while (low < high) {
    uint64_t middle = low + (high - low + 1) / 2;
    if (bytesFor(stores, middle, options) <= options.arena_bytes)
      low = middle;
    else
      high = middle - 1;
  }
  return low;
}

/// Pages of `store` that hold `tokens` tokens however the sequences share them:
/// every sequence but the longest may end one token into a page.
static uint64_t pagesAtWorst(const StoreLayout &store, uint64_t tokens,
                             const kvc_cache_options &options) {
  uint64_t sequences = std::min<uint64_t>(options.max_sequences, tokens);
  return std::min(mostPages(store, options),
                  sequences + (tokens - sequences) / store.pageTokens);
}

kvc_status kvc::rt::arenaBytes(const artifact::Manifest &manifest,
                               const kvc_cache_options &options,
                               uint64_t tokens, uint64_t &bytes) {
  if (kvc_status s = checkBounds(manifest, options); !isOk(s))
    return s;
  uint64_t most = uint64_t(options.max_sequences) * options.max_tokens_per_seq;
  if (tokens < 1 || tokens > most)
    return fail(KVC_INVALID_ARGUMENT, 506,
                "`tokens`: expected 1 to %llu, which is `max_sequences` of "
                "`max_tokens_per_seq`, found %llu",
                (unsigned long long)most, (unsigned long long)tokens);
  std::vector<StoreLayout> stores;
  // Paged stores share the arena by tokens, and each needs whole pages.
  uint64_t shared = 0;
  for (const artifact::StoreInfo &info : manifest.stores) {
    const StoreLayout &store = stores.emplace_back(describe(info, options));
    if (store.paged())
      shared = std::max(
          shared, std::max<uint64_t>(1, pagesAtWorst(store, tokens, options)) *
                      store.pageTokens);
  }
  Wide needed = bytesFor(stores, shared, options);
  bool fits = needed <= INT64_MAX;
  for (const StoreLayout &store : stores)
    fits &= !store.paged() || pagesFor(store, shared, options) >=
                                  pagesAtWorst(store, tokens, options);
  if (!fits)
    return fail(KVC_INVALID_ARGUMENT, 507,
                "`tokens`: no arena can hold %llu tokens",
                (unsigned long long)tokens);
  bytes = uint64_t(needed);
  return ok();
}

kvc_status kvc::rt::tokensInArena(const artifact::Manifest &manifest,
                                  const kvc_cache_options &options,
                                  uint64_t &tokens) {
  if (kvc_status s = checkBounds(manifest, options); !isOk(s))
    return s;
  uint64_t low = 0;
  uint64_t high = uint64_t(options.max_sequences) * options.max_tokens_per_seq;
  while (low < high) {
    uint64_t middle = low + (high - low + 1) / 2, bytes = 0;
    if (isOk(arenaBytes(manifest, options, middle, bytes)) &&
        bytes <= options.arena_bytes)
      low = middle;
    else
      high = middle - 1;
  }
  tokens = low;
  return ok();
}

kvc_status kvc::rt::layOut(const artifact::Manifest &manifest,
                           const kvc_cache_options &options,
                           std::vector<StoreLayout> &stores) {
  uint64_t least = 0;
  for (const artifact::StoreInfo &info : manifest.stores) {
    stores.push_back(describe(info, options));
    if (info.paged)
      least = std::max<uint64_t>(least, info.page);
  }
  Wide needed = bytesFor(stores, least, options);
  if (needed > options.arena_bytes)
    return fail(
        KVC_INVALID_ARGUMENT, 501,
        "`arena_bytes`: expected at least %llu for these options, found "
        "%zu",
        (unsigned long long)std::min<Wide>(needed, UINT64_MAX),
        options.arena_bytes);
  uint64_t tokens = tokensThatFit(stores, options);
  uint64_t offset = 0;
  for (StoreLayout &store : stores) {
    if (store.paged())
      store.pages = uint32_t(kFirstPage + pagesFor(store, tokens, options));
    store.layerBytes = store.pages * store.pageBytes;
    store.offset = offset;
    offset += store.layerBytes * store.layers();
  }
  return ok();
}
