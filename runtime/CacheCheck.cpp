//===- CacheCheck.cpp - the cache's invariants ----------------------------===//
//
// What the numbers in brackets of the texts mean:
//   [1] free pages + live pages = all pages, at every return
//   [2] a page has as many holders as tables of open sequences have it
//   [3] a page is in the free list iff it is not live, and once
//   [5] committed <= committed + reserved <= capacity
//   [6] a step counts the layers that were written in it
//   [7] a step's tables are those of its sequences
//   [8] sentinels are in no table's used part and page 0 is zero
//   [9] pages that no later query sees are given back
//   [10] one sequence holds a page that a step writes to
//
//===----------------------------------------------------------------------===//
#include "runtime/Cache.h"

#include <algorithm>

using namespace kvc;
using namespace kvc::rt;

kvc_cache_stats Cache::stats() const {
  Guard guard(shared(stateLock));
  kvc_cache_stats stats = {};
  uint32_t open = options.max_sequences - freeSequenceCount;
  for (const auto &store : stores) {
    if (store->layout.paged()) {
      stats.pages_total += store->pool.total();
      stats.pages_free += store->pool.free();
      stats.pages_live += store->pool.live();
      stats.pages_shared += store->pool.shared();
    }
    stats.bytes +=
        store->used(open) * store->layout.pageBytes * store->layout.layers();
  }
  stats.sequences = open;
  for (const Step &step : steps)
    stats.steps += step.isOpen();
  stats.refused = refused;
  stats.pages_copied = copied;
  return stats;
}

kvc_status Cache::stats(kvc_seq seq, kvc_seq_stats &stats) const {
  Guard guard(shared(stateLock));
  if (kvc_status s = usable(); !isOk(s))
    return s;
  if (kvc_status s = find(seq); !isOk(s))
    return s;
  const Sequence &sequence = sequences[seq.slot];
  stats = {};
  stats.tokens = sequence.length;
  stats.new_tokens = sequence.reserved;
  for (const auto &store : stores) {
    const StoreLayout &layout = store->layout;
    uint64_t pages = 1;
    if (layout.paged()) {
      pages = layout.held(sequence.floor, sequence.tokens());
      stats.pages += pages;
      for (uint32_t i = 0; i < layout.pagesFor(sequence.tokens()); ++i)
        stats.pages_shared +=
            store->pool.holdersOf(store->table(seq.slot)[i]) > 1;
    }
    stats.bytes += pages * layout.pageBytes * layout.layers();
  }
  return ok();
}

kvc_status Cache::layerBytes(uint32_t layer, uint64_t &bytes) const {
  Guard guard(shared(stateLock));
  if (kvc_status s = usable(); !isOk(s))
    return s;
  if (kvc_status s = checkLayer(layer); !isOk(s))
    return s;
  bytes = 0;
  for (LayerTable::Entry kept : program->layers().of(layer)) {
    const Store &store = *stores[kept.store];
    bytes += store.used(options.max_sequences - freeSequenceCount) *
             store.layout.pageBytes;
  }
  return ok();
}

kvc_status Cache::check(uint32_t level) {
  Guard guard(shared(stateLock));
  if (level > 2)
    return fail(KVC_INVALID_ARGUMENT, 551, "`level`: expected 0 to 2, found %u",
                level);
  if (kvc_status s = audit(level); !isOk(s))
    poison(s);
  return usable();
}

kvc_status Cache::audit(uint32_t level) const {
  for (const auto &store : stores)
    if (store->layout.paged() && !store->pool.isConserved())
      return fail(KVC_POISONED, 561,
                  "[1] `%s`: %u free and %u live pages are not its %u",
                  store->name(), store->pool.free(), store->pool.live(),
                  store->pool.total());
  if (level < 2)
    return ok();
  if (kvc_status s = auditSequences(); !isOk(s))
    return s;
  if (kvc_status s = auditSteps(); !isOk(s))
    return s;
  for (const auto &store : stores)
    if (store->layout.paged())
      if (kvc_status s = auditStore(*store); !isOk(s))
        return s;
  for (const Step &step : steps)
    if (kvc_status s = auditStepTables(step); !isOk(s))
      return s;
  return ok();
}

kvc_status Cache::auditSequences() const {
  uint32_t open = 0;
  for (uint32_t slot = 0; slot < options.max_sequences; ++slot) {
    const Sequence &sequence = sequences[slot];
    open += sequence.isOpen();
    if (!sequence.isOpen() && (sequence.tokens() || sequence.step))
      return fail(KVC_POISONED, 562, "[5] sequence %u is closed but has tokens",
                  slot);
    if (uint64_t(sequence.length) + sequence.reserved >
        options.max_tokens_per_seq)
      return fail(KVC_POISONED, 563,
                  "[5] sequence %u is longer than its capacity", slot);
    if ((sequence.step != 0) != (sequence.reserved != 0))
      return fail(KVC_POISONED, 564,
                  "[5] sequence %u has reserved tokens without a step", slot);
  }
  if (open + freeSequenceCount != options.max_sequences)
    return fail(KVC_POISONED, 565,
                "[3] %u open and %u free sequences are not all %u", open,
                freeSequenceCount, options.max_sequences);
  for (uint32_t i = 0; i < freeSequenceCount; ++i)
    if (sequences[freeSequences[i]].isOpen())
      return fail(KVC_POISONED, 566, "[3] sequence %u is open and free",
                  freeSequences[i]);
  return ok();
}

kvc_status Cache::auditSteps() const {
  for (uint32_t i = 0; i < kMaxSteps; ++i) {
    const Step &step = steps[i];
    for (uint32_t row = 0; row < step.batch; ++row)
      if (!step.isOpen() || sequences[step.sequences[row]].step != i + 1)
        return fail(KVC_POISONED, 567, "[5] step %u and sequence %u disagree",
                    i, step.sequences[row]);
    uint32_t written = 0;
    for (uint32_t layer = 0; layer < step.writtenIn.size(); ++layer)
      written += step.isWritten(layer);
    if (step.isOpen() && written != step.written)
      return fail(KVC_POISONED, 572,
                  "[6] step %u has %u layers written, but counts %u", i,
                  written, step.written);
  }
  return ok();
}

kvc_status Cache::auditStepTables(const Step &step) const {
  for (uint32_t i = 0; i < stores.size(); ++i)
    for (uint32_t row = 0; row < step.batch; ++row) {
      const StoreLayout &layout = stores[i]->layout;
      auto slot = int32_t(step.sequences[row]);
      const int32_t *held =
          layout.paged() ? stores[i]->table(uint32_t(slot)) : &slot;
      const int32_t *shown =
          step.tables[i].table.data() + size_t(row) * layout.tableWidth;
      if (!std::equal(held, held + layout.tableWidth, shown))
        return fail(KVC_POISONED, 573,
                    "[7] `%s`: row %u of a step is not the table of its "
                    "sequence %d",
                    stores[i]->name(), row, slot);
    }
  return ok();
}

/// One sequence's table; marks its pages.
kvc_status Cache::auditTable(const Store &store, uint32_t slot) const {
  const int32_t *table = store.table(slot);
  const Sequence &sequence = sequences[slot];
  uint32_t held = store.layout.pagesFor(sequence.tokens());
  uint32_t writes =
      sequence.reserved ? sequence.length / store.layout.pageTokens : held;
  PageRange unseen = store.layout.unseen(sequence.floor);
  for (uint32_t i = 0; i < store.layout.tableWidth; ++i) {
    const char *wrong = nullptr;
    if (i >= held)
      wrong = table[i] == kZeroPage ? nullptr : "[8] beyond its tokens";
    else if (unseen.holds(i))
      wrong = table[i] == kZeroPage ? nullptr : "[9] seen by no query";
    else if (table[i] < kFirstPage)
      wrong = "[8] a sentinel";
    else if (!store.pool.isLive(table[i]))
      wrong = "[2] not live";
    else if (++store.marks[table[i]] > store.pool.holdersOf(table[i]))
      wrong = "[2] of more tables than it has holders";
    else if (i >= writes && store.pool.holdersOf(table[i]) > 1)
      wrong = "[10] written to while others hold it";
    if (wrong)
      return fail(KVC_POISONED, 568,
                  "`%s`: entry %u of sequence %u, page %d: %s", store.name(), i,
                  slot, table[i], wrong);
  }
  return ok();
}

kvc_status Cache::auditStore(const Store &store) const {
  std::fill_n(store.marks.data(), store.marks.size(), 0u);
  uint64_t held = 0;
  for (uint32_t slot = 0; slot < options.max_sequences; ++slot) {
    const Sequence &sequence = sequences[slot];
    held += store.layout.held(sequence.floor, sequence.tokens());
    if (kvc_status s = auditTable(store, slot); !isOk(s))
      return s;
  }
  uint64_t holders = 0, live = 0;
  for (uint32_t page = kFirstPage; page < store.pool.pages(); ++page) {
    holders += store.pool.holdersOf(int32_t(page));
    live += store.pool.isLive(int32_t(page));
  }
  if (held != holders || live != store.pool.live())
    return fail(KVC_POISONED, 569,
                "[2] `%s`: %llu of %u live pages have %llu holders, and tables "
                "hold %llu",
                store.name(), (unsigned long long)live, store.pool.live(),
                (unsigned long long)holders, (unsigned long long)held);
  for (uint32_t i = 0; i < store.pool.free(); ++i) {
    int32_t page = store.pool.freeList()[i];
    if (page < kFirstPage || uint32_t(page) >= store.pool.pages() ||
        store.pool.isLive(page) || store.marks[page]++)
      return fail(KVC_POISONED, 570,
                  "[3] `%s`: page %d is wrongly in the free list", store.name(),
                  page);
  }
  return auditZeroPage(store);
}

kvc_status Cache::auditZeroPage(const Store &store) const {
  const StoreLayout &layout = store.layout;
  uint8_t bytes[4096];
  for (uint32_t layer = 0; layer < layout.layers(); ++layer) {
    const uint8_t *page = arena + layout.offset + layer * layout.layerBytes +
                          kZeroPage * layout.pageBytes;
    for (uint64_t at = 0; at < layout.pageBytes; at += sizeof(bytes)) {
      size_t count = std::min<uint64_t>(sizeof(bytes), layout.pageBytes - at);
      if (kvc_status s = program->device().download(bytes, page + at, count);
          !isOk(s))
        return s;
      if (std::any_of(bytes, bytes + count, [](uint8_t byte) { return byte; }))
        return fail(KVC_POISONED, 571, "[8] `%s`: page 0 was written",
                    store.name());
    }
  }
  return ok();
}

uint64_t Cache::digest() const {
  Guard guard(shared(stateLock));
  uint64_t hash = 0xcbf29ce484222325; // FNV-1a, by words
  auto add = [&](uint64_t value) { hash = (hash ^ value) * 0x100000001b3; };
  for (uint32_t slot = 0; slot < options.max_sequences; ++slot) {
    const Sequence &s = sequences[slot];
    for (uint32_t value : {s.generation, s.length, s.reserved, s.floor, s.step})
      add(value);
  }
  for (uint32_t i = 0; i < freeSequenceCount; ++i)
    add(freeSequences[i]);
  for (const auto &store : stores) {
    for (uint32_t i = 0; i < store->pool.free(); ++i)
      add(uint32_t(store->pool.freeList()[i]));
    for (size_t i = 0; i < store->tables.size(); ++i)
      add(uint32_t(store->tables[i]));
  }
  for (const Step &step : steps) {
    for (uint32_t value :
         {step.generation, step.batch, step.rows, step.running})
      add(value);
    for (uint32_t layer = 0; layer < step.writtenIn.size(); ++layer)
      add(step.isOpen() && step.isWritten(layer));
    for (uint32_t row = 0; row < step.batch; ++row)
      add(step.sequences[row]);
    for (size_t store = 0; store < stores.size(); ++store) {
      for (uint32_t row = 0; row < step.rows; ++row)
        add(uint64_t(step.tables[store].slots[row]));
      uint32_t entries = step.batch * stores[store]->layout.tableWidth;
      for (uint32_t i = 0; i < entries; ++i)
        add(uint32_t(step.tables[store].table[i]));
    }
  }
  add(poisoned.code);
  return hash;
}
