//===- CacheSequences.cpp - sequences and the pages that they hold --------===//
#include "runtime/Cache.h"

#include <algorithm>

using namespace kvc;
using namespace kvc::rt;

/// Whether one more sequence can be opened.
kvc_status Cache::checkRoom() const {
  if (freeSequenceCount)
    return ok();
  return fail(KVC_OUT_OF_SEQUENCES, 514, "all %u sequences are open",
              options.max_sequences);
}

kvc_status Cache::open(kvc_seq &seq) {
  Guard guard(shared(stateLock));
  if (kvc_status s = usable(); !isOk(s))
    return s;
  if (kvc_status s = checkRoom(); !isOk(s))
    return s;
  uint32_t slot = freeSequences[--freeSequenceCount];
  sequences[slot].generation += 1;
  seq = {slot, sequences[slot].generation};
  return ok();
}

/// Copies a slot's tokens, in all layers.
kvc_status Cache::copySlot(const StoreLayout &store, uint32_t from, uint32_t to,
                           uint32_t tokens) {
  Device &device = program->device();
  Guard order(orderOfStreams());
  for (uint32_t layer = 0; layer < store.layers(); ++layer)
    for (size_t plane = 0; plane < store.planeCount(); ++plane) {
      kvc_plane at = store.planeOf(arena, layer, plane);
      auto *base = static_cast<uint8_t *>(at.base);
      StoreLayout::Runs runs = store.runsOf(plane, tokens);
      for (uint32_t run = 0; run < runs.count; ++run) {
        uint8_t *first = base + run * at.head_stride;
        if (kvc_status s =
                device.copy(first + int64_t(to) * at.page_stride,
                            first + int64_t(from) * at.page_stride, runs.bytes,
                            lastStream.value_or(nullptr));
            !isOk(s))
          return s;
      }
    }
  return ok();
}

kvc_status Cache::fork(kvc_seq parent, kvc_seq &child) {
  Guard guard(shared(stateLock));
  if (kvc_status s = findIdle(parent); !isOk(s))
    return s;
  if (kvc_status s = checkRoom(); !isOk(s))
    return s;
  const Sequence &from = sequences[parent.slot];
  uint32_t slot = freeSequences[freeSequenceCount - 1];
  for (auto &store : stores)
    if (!store->layout.paged())
      if (kvc_status s =
              copySlot(store->layout, parent.slot, slot, from.length);
          !isOk(s))
        return poison(s);
  freeSequenceCount -= 1;
  Sequence &to = sequences[slot];
  to.generation += 1;
  to.length = from.length;
  to.floor = from.floor;
  for (auto &store : stores) {
    if (!store->layout.paged())
      continue;
    const int32_t *held = store->table(parent.slot);
    int32_t *table = store->table(slot);
    for (uint32_t i = 0; i < store->layout.pagesFor(from.length); ++i) {
      table[i] = held[i];
      if (held[i] != kZeroPage)
        store->pool.share(held[i]);
    }
  }
  child = {slot, to.generation};
  return ok();
}

kvc_status Cache::truncate(kvc_seq seq, uint32_t tokens) {
  Guard guard(shared(stateLock));
  if (kvc_status s = findIdle(seq); !isOk(s))
    return s;
  if (kvc_status s = checkUnread(seq.slot); !isOk(s))
    return s;
  Sequence &sequence = sequences[seq.slot];
  if (tokens > sequence.length)
    return fail(KVC_INVALID_ARGUMENT, 517,
                "`tokens`: expected at most the sequence's %u, found %u",
                sequence.length, tokens);
  // Of an empty sequence no query sees anything.
  for (auto &store : stores)
    if (tokens && store->layout.unseen(sequence.floor).end >
                      store->layout.unseen(tokens).end)
      return fail(KVC_INVALID_ARGUMENT, 518,
                  "`tokens`: expected 0, or at least %u, found %u: `%s` gave "
                  "back the pages of tokens that a query there sees; see "
                  "`max_rollback`",
                  sequence.floor, tokens, store->name());
  if (!tokens) {
    empty(seq.slot);
    sequence.floor = 0;
  } else {
    shrink(seq.slot, sequence.length, tokens);
  }
  sequence.length = tokens;
  return usable();
}

/// An open sequence, in no step.
kvc_status Cache::findIdle(kvc_seq seq) const {
  if (kvc_status s = usable(); !isOk(s))
    return s;
  if (kvc_status s = find(seq); !isOk(s))
    return s;
  if (sequences[seq.slot].step)
    return fail(KVC_BUSY, 515,
                "sequence {%u, %u} is in an open step; commit or abandon it "
                "first",
                seq.slot, seq.generation);
  return ok();
}

/// The pages of a sequence that is read must stay what they are.
kvc_status Cache::checkUnread(uint32_t slot) const {
  if (!sequences[slot].readers)
    return ok();
  return fail(KVC_BUSY, 519, "sequence {%u, %u} is being read", slot,
              sequences[slot].generation);
}

kvc_status Cache::release(kvc_seq seq) {
  Guard guard(shared(stateLock));
  if (kvc_status s = findIdle(seq); !isOk(s))
    return s;
  if (kvc_status s = checkUnread(seq.slot); !isOk(s))
    return s;
  Sequence &sequence = sequences[seq.slot];
  empty(seq.slot);
  sequence.length = sequence.floor = 0;
  sequence.generation += 1;
  freeSequences[freeSequenceCount++] = seq.slot;
  return usable();
}

kvc_status Cache::length(kvc_seq seq, uint32_t &tokens) const {
  Guard guard(shared(stateLock));
  if (kvc_status s = usable(); !isOk(s))
    return s;
  if (kvc_status s = find(seq); !isOk(s))
    return s;
  tokens = sequences[seq.slot].length;
  return ok();
}

/// Zeroes a page or slot in every layer, if the cache does that.
void Cache::scrub(const StoreLayout &store, uint32_t page) {
  if (!(options.flags & KVC_SCRUB))
    return;
  Guard order(orderOfStreams());
  for (uint32_t layer = 0; layer < store.layers(); ++layer)
    if (kvc_status s = program->device().scrub(
            arena + store.offset + layer * store.layerBytes +
                page * store.pageBytes,
            store.pageBytes, lastStream.value_or(nullptr));
        !isOk(s))
      poison(s);
}

/// Takes a page from a sequence's table. It is free if no other holds it.
void Cache::giveBack(Store &store, int32_t &entry) {
  switch (store.pool.give(entry)) {
  case PagePool::Given::Freed:
    scrub(store.layout, uint32_t(entry));
    break;
  case PagePool::Given::Held:
    break;
  case PagePool::Given::NotLive:
    poison(fail(KVC_POISONED, 516,
                "page %d of `%s` was given back but is not live", entry,
                store.name()));
  }
  entry = kZeroPage;
}

/// Gives back the pages that `from` tokens need and `to` do not.
void Cache::shrink(uint32_t sequence, uint32_t from, uint32_t to) {
  for (Remembered &remembered : sequences[sequence].remembered)
    remembered.intact = std::min(remembered.intact, to);
  for (auto &store : stores) {
    const StoreLayout &layout = store->layout;
    if (!layout.paged())
      continue;
    int32_t *table = store->table(sequence);
    PageRange gone = layout.unseen(sequences[sequence].floor);
    uint32_t keep = layout.pagesFor(to);
    for (uint32_t i = layout.pagesFor(from); i > keep; --i)
      if (!gone.holds(i - 1))
        giveBack(*store, table[i - 1]);
  }
}

/// Gives back all that a sequence holds.
void Cache::empty(uint32_t sequence) {
  shrink(sequence, sequences[sequence].tokens(), 0);
  for (auto &store : stores)
    if (!store->layout.paged())
      scrub(store->layout, sequence);
}

/// Gives back the pages that nobody sees any more when a sequence has `length`
/// committed tokens.
void Cache::slide(uint32_t slot, uint32_t length) {
  Sequence &sequence = sequences[slot];
  uint32_t from = sequence.floor;
  // Truncated ones have been given back to before.
  sequence.floor =
      std::max(from, length - std::min(length, options.max_rollback));
  for (auto &store : stores) {
    uint32_t end = store->layout.unseen(sequence.floor).end;
    for (uint32_t i = store->layout.unseen(from).end; i < end; ++i)
      giveBack(*store, store->table(slot)[i]);
  }
}
