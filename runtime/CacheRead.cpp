//===- CacheRead.cpp - rows read back -------------------------------------===//
//
// A sequence is marked while it is read, and what would give pages of its
// committed tokens back, or have others write to them, is KVC_BUSY meanwhile:
// release, truncate and commit, and reserve, which may leave a page to the
// others that hold it. All else may go on. A step that is open writes behind
// the committed tokens, and abandon gives back no more than those took; forks
// hold pages more, and whoever shares one copies it before a write.
//
// A lock on the state would do as well, but for an engine whose parallel for
// runs the kernels on threads that wait for it: kernels run without it here as
// they do in steps. Of a GPU, the mark need not outlast the launches: whatever
// the cache launches later is after them.
//
//===----------------------------------------------------------------------===//
#include "runtime/Arguments.h"
#include "runtime/Cache.h"

#include <algorithm>
#include <cstdio>

using namespace kvc;
using namespace kvc::rt;

/// Whether tokens [begin, begin + count) of a sequence are committed, and no
/// window gave their pages back.
kvc_status Cache::checkThere(const Sequence &sequence, uint32_t layer,
                             uint32_t begin, uint32_t count) const {
  uint64_t end = uint64_t(begin) + count;
  if (end > sequence.length)
    return fail(KVC_INVALID_ARGUMENT, 548,
                "`begin` and `count`: expected some of the sequence's %u "
                "committed tokens, found %u to %llu",
                sequence.length, begin, (unsigned long long)end);
  for (LayerTable::Entry kept : program->layers().of(layer)) {
    const StoreLayout &layout = stores[kept.store]->layout;
    PageRange gone = layout.unseen(sequence.floor);
    if (!count || begin / layout.pageTokens >= gone.end ||
        layout.pagesFor(uint32_t(end)) <= gone.begin || !gone.count())
      continue;
    char sinks[40] = "";
    if (gone.begin)
      std::snprintf(sinks, sizeof(sinks), "the first %u and ",
                    gone.begin * layout.pageTokens);
    return fail(KVC_INVALID_ARGUMENT, 549,
                "`begin` and `count`: expected tokens whose pages `%s` has not "
                "given back, %sthose from %u on, found %u to %llu",
                stores[kept.store]->name(), sinks, gone.end * layout.pageTokens,
                begin, (unsigned long long)end);
  }
  return ok();
}

/// Checks all of a read and marks the sequence.
kvc_status Cache::beginRead(kvc_seq seq, uint32_t layer, uint32_t begin,
                            const RowCall &whole) {
  Guard guard(shared(stateLock));
  if (kvc_status s = usable(); !isOk(s))
    return s;
  if (kvc_status s = find(seq); !isOk(s))
    return s;
  if (kvc_status s = checkLayer(layer); !isOk(s))
    return s;
  for (LayerTable::Entry kept : program->layers().of(layer))
    if (kvc_status s = program->checkGathers(kept.store); !isOk(s))
      return s;
  Sequence &sequence = sequences[seq.slot];
  if (kvc_status s = checkThere(sequence, layer, begin, whole.rows); !isOk(s))
    return s;
  // All rows at once: strides that are wrong may do for those of one launch.
  const artifact::ModelInfo &model = program->manifest().model;
  if (whole.rows)
    if (kvc_status s = checkRowBuffers(model, withHeadStrides(model, whole),
                                       /*needsV=*/false);
        !isOk(s))
      return s;
  sequence.readers += 1;
  return ok();
}

/// Launches for the tokens from `first` on, which are no more than readSlots
/// has room for.
kvc_status Cache::readRows(uint32_t slot, uint32_t storeIndex, uint32_t first,
                           const RowCall &call) {
  const Store &store = *stores[storeIndex];
  int64_t tokens = store.layout.pageTokens;
  Guard order(shared(launchLock));
  for (uint32_t i = 0; i < call.rows; ++i) {
    int64_t token = first + i;
    int64_t page =
        store.layout.paged() ? store.table(slot)[token / tokens] : slot;
    readSlots[i] = page * tokens + token % tokens;
  }
  readSlots.change(0, call.rows);
  kvc_status status = follow(call.stream);
  if (isOk(status))
    status = readMemory.upload(call.stream);
  return isOk(status) ? program->move(storeIndex, call) : status;
}

/// `rows` rows on; null stays null.
static const void *advance(const void *at, uint32_t rows, int64_t stride) {
  return at ? static_cast<const uint8_t *>(at) + rows * stride : nullptr;
}

kvc_status Cache::read(kvc_seq seq, uint32_t layer, uint32_t begin,
                       uint32_t count, void *k, kvc_stride kStride, void *v,
                       kvc_stride vStride, void *stream) {
  RowCall whole = callOf(RowKernel::Gather, k, kStride, v, vStride);
  whole.rows = count;
  whole.slot = readSlots.ofKernels();
  whole.stream = stream;
  if (kvc_status s = beginRead(seq, layer, begin, whole); !isOk(s))
    return s;
  kvc_status status = ok();
  for (LayerTable::Entry kept : program->layers().of(layer)) {
    RowCall call = over(whole, kept);
    for (uint32_t done = 0; done < count && isOk(status); done += call.rows) {
      call.rows = std::min(count - done, kReadRows);
      status = readRows(seq.slot, kept.store, begin + done, call);
      call.k = advance(call.k, call.rows, call.kRowStride);
      call.v = advance(call.v, call.rows, call.vRowStride);
    }
  }
  Guard guard(shared(stateLock));
  sequences[seq.slot].readers -= 1;
  if (status.code == KVC_DEVICE_ERROR)
    poison(status);
  return status;
}
