//===- Cache.cpp - sequences, steps and their pages -----------------------===//
#include "runtime/Cache.h"

#include "runtime/Arguments.h"

#include <algorithm>
#include <cstdio>
#include <utility>

using namespace kvc;
using namespace kvc::rt;

//===----------------------------------------------------------------------===//
// Creation
//===----------------------------------------------------------------------===//

static kvc_status noMemory(const char *what) {
  return fail(KVC_OUT_OF_MEMORY, 502, "not enough memory for %s", what);
}

static kvc_status checkOptions(const Program &program,
                               const kvc_cache_options &options) {
  if (kvc_status s = checkBounds(program.manifest(), options); !isOk(s))
    return s;
  if (options.flags & ~uint32_t(KVC_SINGLE_OWNER | KVC_SCRUB))
    return fail(KVC_INVALID_ARGUMENT, 504,
                "`flags`: expected any of KVC_SINGLE_OWNER and KVC_SCRUB, "
                "found %u",
                options.flags);
  if (uintptr_t(options.arena) % 64)
    return fail(KVC_INVALID_ARGUMENT, 505,
                "`arena`: expected 64-byte aligned memory, found %p",
                options.arena);
  return ok();
}

kvc_status Cache::create(Program &program, const kvc_cache_options &options,
                         Cache *&cache) {
  if (kvc_status s = checkOptions(program, options); !isOk(s))
    return s;
  std::unique_ptr<Cache> created(new Cache(program, options));
  if (kvc_status s = created->init(); !isOk(s))
    return s;
  cache = created.release();
  return ok();
}

kvc_status Cache::init() {
  options.max_batch = std::min(options.max_batch, options.max_sequences);
  options.max_rollback =
      std::min(options.max_rollback, options.max_tokens_per_seq);
  if (kvc_status s = initStores(); !isOk(s))
    return s;
  if (!sequences.allocate(options.max_sequences) ||
      !freeSequences.allocate(options.max_sequences))
    return noMemory("`max_sequences`");
  for (uint32_t slot = options.max_sequences; slot > 0; --slot)
    freeSequences[freeSequenceCount++] = slot - 1;
  for (Step &step : steps)
    if (!initStep(step))
      return noMemory("`max_batch` tables of `max_tokens_per_seq`");
  readSlots.reserve(readMemory,
                    std::min(kReadRows, options.max_tokens_per_seq));
  if (!readMemory.allocate(program->device(), 1))
    return noMemory("the slots of a read");
  if (kvc_status s = initPlans(); !isOk(s))
    return s;
  if (!ownsArena) {
    program->device().lend(arena, options.arena_bytes, /*writable=*/true);
    lent = true;
  }
  return ok();
}

/// The plans of a step, and the workspace for what attends make of them.
kvc_status Cache::initPlans() {
  const Executable &executable = program->executable();
  for (uint32_t i = 0; i < stores.size(); ++i) {
    uint32_t first = executable.planGroup(i);
    if (first == i) {
      stores[i]->plan = uint32_t(plans.size());
      plans.push_back({i, boundsOf(i), 0, 0});
      continue;
    }
    stores[i]->plan = stores[first]->plan;
    uint64_t &tokens = plans[stores[i]->plan].bounds.maxTokens;
    tokens = std::max(tokens, boundsOf(i).maxTokens);
  }
  for (Plan &plan : plans) {
    plan.bytes = executable.planBytes(plan.store, plan.bounds);
    if (plan.bytes == SIZE_MAX)
      return noMemory("the plan of a step");
    plan.offset = stepPlanBytes;
    stepPlanBytes += plan.bytes;
  }
  for (uint32_t i = 0; i < stores.size(); ++i) {
    const Plan &plan = plans[stores[i]->plan];
    size_t bytes = executable.attendWorkspace(i, plan.bounds) - plan.bytes;
    workspaceBytes = std::max(workspaceBytes, bytes);
  }
  Device &device = program->device();
  // Where nothing is split there are no partial results.
  workspaceBytes = std::max<size_t>(workspaceBytes, 64);
  workspace = device.allocate(workspaceBytes);
  if (!workspace)
    return noMemory("the workspace");
  if (!stepPlanBytes)
    return ok();
  planMemory =
      static_cast<uint8_t *>(device.allocate(kMaxSteps * stepPlanBytes));
  return planMemory ? ok() : noMemory("the plans of steps");
}

bool Cache::Store::placePlanes(uint8_t *arena) {
  if (!planes.allocate(layout.layers() * layout.planeCount()))
    return false;
  kvc_plane *to = planes.data();
  for (uint32_t layer = 0; layer < layout.layers(); ++layer)
    for (size_t plane = 0; plane < layout.planeCount(); ++plane)
      *to++ = layout.planeOf(arena, layer, plane);
  return true;
}

kvc_status Cache::initStores() {
  std::vector<StoreLayout> layouts;
  if (kvc_status s = layOut(program->manifest(), options, layouts); !isOk(s))
    return s;
  arena = static_cast<uint8_t *>(options.arena);
  if (!arena) {
    arena =
        static_cast<uint8_t *>(program->device().allocate(options.arena_bytes));
    ownsArena = true;
  }
  if (!arena)
    return noMemory("`arena_bytes`");
  for (const StoreLayout &layout : layouts) {
    Store &store = *stores.emplace_back(std::make_unique<Store>());
    store.layout = layout;
    if (!store.placePlanes(arena))
      return noMemory("planes of layers");
    if (!store.constants.allocate(layout.layers() *
                                  layout.info->constants.size()))
      return noMemory("constants of layers");
    if (!layout.paged())
      continue;
    size_t entries = size_t(options.max_sequences) * layout.tableWidth;
    if (!store.pool.create(layout.pages) || !store.tables.allocate(entries) ||
        !store.marks.allocate(layout.pages))
      return noMemory("page tables");
    for (uint32_t layer = 0; !ownsArena && layer < layout.layers(); ++layer)
      program->device().zero(arena + layout.offset + layer * layout.layerBytes,
                             layout.pageBytes);
  }
  return ok();
}

bool Cache::initStep(Step &step) {
  size_t batch = options.max_batch;
  Device &device = program->device();
  if (!step.sequences.allocate(batch) || !step.owners.allocate(batch) ||
      !step.writtenIn.allocate(program->manifest().model.layers) ||
      !step.plannedIn.allocate(stores.size()))
    return false;
  step.tables = std::vector<StepTable>(stores.size());
  // What changes in every step lies side by side, and long tables behind it.
  step.cuQ.reserve(step.memory, batch + 1);
  step.kvLen.reserve(step.memory, batch);
  for (StepTable &table : step.tables)
    table.slots.reserve(step.memory, options.max_step_tokens);
  for (uint32_t i = 0; i < stores.size(); ++i) {
    StepTable &table = step.tables[i];
    table.table.reserve(step.memory, batch * stores[i]->layout.tableWidth);
    if (!table.filled.allocate(batch))
      return false;
  }
  // cuQ and kvLen; the slots of each store, and of each row of its table what
  // is gone and what is new.
  return step.memory.allocate(device, (2 * batch + 1) * stores.size() + 2);
}

Cache::~Cache() {
  Device &device = program->device();
  // An arena of its own goes back to the system, which shows it to nobody. One
  // that is shared with the parent is the parent's to zero.
  if (lent && options.flags & KVC_SCRUB && !isParents())
    for (uint32_t slot = 0; slot < options.max_sequences; ++slot)
      if (sequences[slot].isOpen())
        empty(slot);
  // Not what the caller has lent itself.
  if (lent)
    device.takeBack(arena);
  if (ownsArena && arena)
    device.deallocate(arena, options.arena_bytes);
  if (workspace)
    device.deallocate(workspace, workspaceBytes);
  if (planMemory)
    device.deallocate(planMemory, kMaxSteps * stepPlanBytes);
}

//===----------------------------------------------------------------------===//
// Handles
//===----------------------------------------------------------------------===//

kvc_status Cache::usable() const {
  if (isOk(poisoned))
    return ok();
  return fail(KVC_POISONED, poisoned.where, "the cache is poisoned: %s",
              poisonText);
}

/// Keeps the first cause. Returns `status`.
kvc_status Cache::poison(const kvc_status &status) {
  if (isOk(poisoned)) {
    poisoned = status;
    std::snprintf(poisonText, sizeof(poisonText), "%s", errorText());
  }
  return status;
}

kvc_status Cache::find(kvc_seq seq) const {
  if (seq.slot < options.max_sequences && seq.generation & 1 &&
      sequences[seq.slot].generation == seq.generation)
    return ok();
  return fail(KVC_STALE, 511, "sequence {%u, %u} is not open", seq.slot,
              seq.generation);
}

kvc_status Cache::find(kvc_step step) const {
  if (step.slot < kMaxSteps && step.generation & 1 &&
      steps[step.slot].generation == step.generation)
    return ok();
  return fail(KVC_STALE, 512, "step {%u, %u} is not open", step.slot,
              step.generation);
}

/// Kernels of a step may read its pages until they return.
kvc_status Cache::findIdle(kvc_step step) const {
  if (kvc_status s = find(step); !isOk(s))
    return s;
  if (steps[step.slot].running)
    return fail(KVC_BUSY, 513,
                "step {%u, %u}: an append or attend is under way", step.slot,
                step.generation);
  return ok();
}

//===----------------------------------------------------------------------===//
// Steps
//===----------------------------------------------------------------------===//

kvc_status Cache::checkRequest(const kvc_slot_request &request, uint32_t index,
                               uint64_t &rows) const {
  if (kvc_status s = find(request.seq); !isOk(s))
    return s;
  const Sequence &sequence = sequences[request.seq.slot];
  if (sequence.step)
    return fail(KVC_BUSY, 521, "`requests[%u]`: sequence {%u, %u} is in a step",
                index, request.seq.slot, request.seq.generation);
  if (kvc_status s = checkUnread(request.seq.slot); !isOk(s))
    return s;
  uint64_t room = options.max_tokens_per_seq - sequence.length;
  if (request.new_tokens < 1)
    return fail(KVC_INVALID_ARGUMENT, 522,
                "`requests[%u].new_tokens`: expected at least 1, found 0",
                index);
  if (request.new_tokens > room)
    return fail(KVC_SEQUENCE_FULL, 527,
                "`requests[%u].new_tokens`: the sequence has %u of at most %u "
                "tokens, so expected at most %llu, found %u",
                index, sequence.length, options.max_tokens_per_seq,
                (unsigned long long)room, request.new_tokens);
  rows += request.new_tokens;
  if (rows > options.max_step_tokens)
    return fail(KVC_INVALID_ARGUMENT, 523,
                "`requests`: expected at most %u new tokens in a step",
                options.max_step_tokens);
  return ok();
}

/// Checks all requests. Sequences are marked meanwhile, so that one that is
/// there twice is found.
kvc_status Cache::checkRequests(const kvc_slot_request *requests,
                                uint32_t count) {
  if (!requests || count < 1 || count > options.max_batch)
    return fail(KVC_INVALID_ARGUMENT, 524,
                "`count`: expected 1 to %u requests, found %u",
                options.max_batch, count);
  kvc_status status = ok();
  uint64_t rows = 0;
  uint32_t marked = 0;
  for (; marked < count && isOk(status); ++marked) {
    status = checkRequest(requests[marked], marked, rows);
    if (!isOk(status))
      break;
    sequences[requests[marked].seq.slot].step = UINT32_MAX;
  }
  for (uint32_t i = 0; i < marked; ++i)
    sequences[requests[i].seq.slot].step = 0;
  return status;
}

/// The page that the next token of a sequence goes to, if it holds tokens
/// already; null if that begins a page.
int32_t *Cache::openPage(const Store &store, uint32_t slot) const {
  const StoreLayout &layout = store.layout;
  uint32_t length = sequences[slot].length;
  if (!layout.paged() || length % layout.pageTokens == 0)
    return nullptr;
  return store.table(slot) + length / layout.pageTokens;
}

/// Pages of copies that the requests' sequences write to instead of pages that
/// others hold too. Of those that hold a page, the last to copy need not.
uint64_t Cache::copiesFor(Store &store, const kvc_slot_request *requests,
                          uint32_t count) const {
  if (!store.pool.shared())
    return 0;
  for (uint32_t i = 0; i < count; ++i)
    if (const int32_t *page = openPage(store, requests[i].seq.slot))
      store.marks[size_t(*page)] = 0;
  uint64_t copies = 0;
  for (uint32_t i = 0; i < count; ++i)
    if (const int32_t *page = openPage(store, requests[i].seq.slot))
      copies += ++store.marks[size_t(*page)] < store.pool.holdersOf(*page);
  return copies;
}

/// Gives a sequence that is about to write a copy of its last page in every
/// store where others hold that too.
kvc_status Cache::unshare(uint32_t slot, void *stream) {
  for (auto &store : stores) {
    int32_t *entry = openPage(*store, slot);
    if (!entry || store->pool.holdersOf(*entry) == 1)
      continue;
    int32_t shared = *entry;
    *entry = store->pool.take();
    (void)store->pool.give(shared);
    copied += 1;
    Sequence &sequence = sequences[slot];
    uint32_t pageTokens = store->layout.pageTokens;
    uint32_t begin = sequence.length / pageTokens * pageTokens;
    for (Remembered &remembered : sequence.remembered)
      remembered.intact = std::min(remembered.intact, begin);
    if (kvc_status s = copyPage(store->layout, shared, *entry, stream);
        !isOk(s))
      return s;
  }
  return ok();
}

/// In all layers.
kvc_status Cache::copyPage(const StoreLayout &store, int32_t from, int32_t to,
                           void *stream) {
  for (uint32_t layer = 0; layer < store.layers(); ++layer) {
    uint8_t *pages = arena + store.offset + layer * store.layerBytes;
    if (kvc_status s = program->device().copy(
            pages + uint64_t(to) * store.pageBytes,
            pages + uint64_t(from) * store.pageBytes, store.pageBytes, stream);
        !isOk(s))
      return s;
  }
  return ok();
}

/// Whether every store has the pages for all of them.
kvc_status Cache::checkPages(const kvc_slot_request *requests, uint32_t count) {
  for (auto &store : stores) {
    if (!store->layout.paged())
      continue;
    uint64_t need = 0;
    for (uint32_t i = 0; i < count; ++i) {
      uint32_t length = sequences[requests[i].seq.slot].length;
      need += store->layout.pagesFor(length + requests[i].new_tokens) -
              store->layout.pagesFor(length);
    }
    need += copiesFor(*store, requests, count);
    uint32_t free = store->pool.free();
    if (need <= free)
      continue;
    refused += 1;
    kvc_status status =
        fail(KVC_OUT_OF_PAGES, 525,
             "`%s`: expected %llu free pages, found %u of %u%s", store->name(),
             (unsigned long long)need, free, store->pool.total(),
             need > store->pool.total() ? "; it can never be met" : "");
    status.need = need;
    // Kernels run in the order of the calls: nothing becomes free by waiting.
    status.have = status.have_later = free;
    return status;
  }
  return ok();
}

/// Makes what is launched next, on `stream`, wait for what was before. The
/// order is locked.
kvc_status Cache::follow(void *stream) {
  std::optional<void *> before = std::exchange(lastStream, stream);
  return !before || *before == stream ? ok()
                                      : program->device().wait(stream, *before);
}

kvc_status Cache::reserve(const kvc_slot_request *requests, uint32_t count,
                          void *stream, kvc_step &handle) {
  Guard guard(shared(stateLock));
  if (kvc_status s = usable(); !isOk(s))
    return s;
  if (kvc_status s = checkRequests(requests, count); !isOk(s))
    return s;
  uint32_t index = 0;
  while (index < kMaxSteps && steps[index].isOpen())
    ++index;
  if (index == kMaxSteps)
    return fail(KVC_OUT_OF_SEQUENCES, 526, "all %u steps are open", kMaxSteps);
  if (kvc_status s = checkPages(requests, count); !isOk(s))
    return s;
  // Nothing below can fail, but for a device that does not work.
  Step &step = steps[index];
  step.generation += 1;
  step.written = 0;
  step.batch = count;
  step.stream = stream;
  for (uint32_t i = 0; i < count; ++i) {
    step.sequences[i] = requests[i].seq.slot;
    Sequence &sequence = sequences[requests[i].seq.slot];
    sequence.reserved = requests[i].new_tokens;
    sequence.step = index + 1;
  }
  Guard order(orderOfStreams());
  kvc_status status = follow(stream);
  if (isOk(status))
    status = fillStep(index);
  // An emulator that is short of memory has it later, maybe: attend tries
  // again.
  for (uint32_t plan = 0; plan < plans.size() && isOk(status); ++plan)
    if (kvc_status s = makePlan(step, plan); s.code != KVC_OUT_OF_MEMORY)
      status = s;
  if (!isOk(status))
    return poison(status);
  handle = {index, step.generation};
  return ok();
}

/// Takes the pages and writes what kernels read.
kvc_status Cache::fillStep(uint32_t index) {
  Step &step = steps[index];
  step.rows = step.maxQueries = 0;
  for (uint32_t row = 0; row < step.batch; ++row) {
    uint32_t slot = step.sequences[row];
    Sequence &sequence = sequences[slot];
    if (kvc_status s = unshare(slot, step.stream); !isOk(s))
      return s;
    Remembered &remembered = sequence.remembered[index];
    bool same = step.owners[row] == slot + 1 && remembered.row == row;
    step.cuQ[row] = int32_t(step.rows);
    step.kvLen[row] = int32_t(sequence.tokens());
    Remembered kept = same ? remembered : Remembered();
    for (uint32_t store = 0; store < stores.size(); ++store)
      fillTable(step, store, row, kept);
    step.owners[row] = slot + 1;
    remembered = {row, sequence.tokens(), sequence.floor};
    step.rows += sequence.reserved;
    step.maxQueries = std::max(step.maxQueries, sequence.reserved);
  }
  step.cuQ[step.batch] = int32_t(step.rows);
  for (StepTable &table : step.tables)
    table.slots.change(0, step.rows);
  step.kvLen.change(0, step.batch);
  step.cuQ.change(0, step.batch + 1);
  return step.memory.upload(step.stream);
}

/// The table has what is `kept` of the sequence. Of a GPU's copy, only what
/// changes is written: in most rows of most steps, nothing.
void Cache::fillTable(Step &step, uint32_t storeIndex, uint32_t row,
                      const Remembered &kept) {
  Store &store = *stores[storeIndex];
  StepTable &to = step.tables[storeIndex];
  uint32_t slot = step.sequences[row];
  const Sequence &sequence = sequences[slot];
  int64_t *slots = to.slots.data() + step.rows;
  int64_t tokens = store.layout.pageTokens;
  if (!store.layout.paged()) {
    bool same = to.table[row] == int32_t(slot);
    to.table[row] = int32_t(slot);
    for (uint32_t i = 0; i < sequence.reserved; ++i)
      slots[i] = slot * tokens + sequence.length + i;
    if (!same)
      to.table.change(row, 1);
    return;
  }
  int32_t *table = store.table(slot);
  uint32_t pages = store.layout.pagesFor(sequence.tokens());
  for (uint32_t i = store.layout.pagesFor(sequence.length); i < pages; ++i)
    table[i] = store.pool.take();
  int32_t *entries = to.table.data() + size_t(row) * store.layout.tableWidth;
  uint32_t first = store.layout.pagesFor(kept.intact);
  std::copy(table + first, table + pages, entries + first);
  // Pages below that were given back since: they are somebody else's.
  uint32_t gone = store.layout.unseen(kept.floor).end;
  uint32_t goneEnd = std::min(first, store.layout.unseen(sequence.floor).end);
  if (gone < goneEnd) {
    std::fill(entries + gone, entries + goneEnd, kZeroPage);
    to.table.change(size_t(row) * store.layout.tableWidth + gone,
                    goneEnd - gone);
  }
  // Entries of the step that used this row before.
  uint32_t changed = std::max(to.filled[row], pages);
  std::fill(entries + pages, entries + changed, kZeroPage);
  to.filled[row] = pages;
  for (uint32_t i = 0; i < sequence.reserved; ++i) {
    uint32_t token = sequence.length + i;
    slots[i] = table[token / tokens] * tokens + token % tokens;
  }
  to.table.change(size_t(row) * store.layout.tableWidth + first,
                  changed - first);
}

/// The failure of a commit that would keep rows that nobody wrote.
static kvc_status unwritten(const Step &step) {
  uint32_t layer = 0;
  while (step.isWritten(layer))
    ++layer;
  return fail(KVC_NOT_APPENDED, 532,
              "%u of the step's %zu layers are appended, and layer %u is not",
              step.written, step.writtenIn.size(), layer);
}

/// Ends a step of whose new tokens row i keeps kept(i).
template <class Kept> void Cache::end(Step &step, Kept kept) {
  for (uint32_t row = 0; row < step.batch; ++row) {
    uint32_t slot = step.sequences[row];
    Sequence &sequence = sequences[slot];
    uint32_t after = sequence.length + kept(row);
    shrink(slot, sequence.tokens(), after);
    slide(slot, after);
    sequence.length = after;
    sequence.reserved = 0;
    sequence.step = 0;
  }
  step.generation += 1;
  step.batch = step.rows = 0;
}

kvc_status Cache::commit(kvc_step handle, const uint32_t *accepted) {
  Guard guard(shared(stateLock));
  if (kvc_status s = usable(); !isOk(s))
    return s;
  if (kvc_status s = findIdle(handle); !isOk(s))
    return s;
  Step &step = steps[handle.slot];
  for (uint32_t row = 0; row < step.batch; ++row)
    if (kvc_status s = checkUnread(step.sequences[row]); !isOk(s))
      return s;
  bool keeps = !accepted;
  for (uint32_t row = 0; accepted && row < step.batch; ++row) {
    uint32_t reserved = sequences[step.sequences[row]].reserved;
    if (accepted[row] > reserved)
      return fail(KVC_INVALID_ARGUMENT, 531,
                  "`accepted[%u]`: expected at most the %u new tokens, found "
                  "%u",
                  row, reserved, accepted[row]);
    keeps |= accepted[row] != 0;
  }
  if (keeps && step.written != step.writtenIn.size())
    return unwritten(step);
  end(step, [&](uint32_t row) {
    return accepted ? accepted[row] : sequences[step.sequences[row]].reserved;
  });
  return usable();
}

kvc_status Cache::abandon(kvc_step handle) {
  Guard guard(shared(stateLock));
  if (kvc_status s = usable(); !isOk(s))
    return s;
  if (kvc_status s = findIdle(handle); !isOk(s))
    return s;
  end(steps[handle.slot], [](uint32_t) { return 0; });
  return usable();
}
