//===- CacheRun.cpp - a step's kernels ------------------------------------===//
//
// The state is locked only to look the step up: kernels take milliseconds.
// A step that runs is marked, so that it cannot end meanwhile.
//
//===----------------------------------------------------------------------===//
#include "runtime/Arguments.h"
#include "runtime/Cache.h"

using namespace kvc;
using namespace kvc::rt;

kvc_batch_view Cache::viewOf(const Step &step, LayerTable::Entry kept) const {
  const StoreLayout &layout = stores[kept.store]->layout;
  kvc_batch_view view = {};
  view.size = sizeof(view);
  view.batch = step.batch;
  view.rows = step.rows;
  view.cu_q = step.cuQ.ofKernels();
  view.kv_len = step.kvLen.ofKernels();
  view.table = step.tables[kept.store].table.ofKernels();
  view.table_stride = layout.tableWidth;
  view.write_slot = step.tables[kept.store].slots.ofKernels();
  view.page_count = layout.pages;
  view.slot_tokens = layout.pageTokens;
  view.planes = stores[kept.store]->planesOf(kept.layer);
  view.plane_count = uint32_t(layout.planeCount());
  return view;
}

kvc_status Cache::view(kvc_step handle, uint32_t store, uint32_t layer,
                       kvc_batch_view &view) const {
  Guard guard(shared(stateLock));
  if (kvc_status s = usable(); !isOk(s))
    return s;
  if (kvc_status s = find(handle); !isOk(s))
    return s;
  const LayerTable::Entry *kept = program->layers().find(store, layer);
  if (!kept)
    return fail(KVC_INVALID_ARGUMENT, 541,
                "store %u of %zu does not cover layer %u", store, stores.size(),
                layer);
  view = viewOf(steps[handle.slot], *kept);
  return ok();
}

kvc_status Cache::checkLayer(uint32_t layer) const {
  uint32_t layers = program->manifest().model.layers;
  if (layer < layers)
    return ok();
  return fail(KVC_INVALID_ARGUMENT, 542, "`layer`: expected below %u, found %u",
              layers, layer);
}

/// Checks what append and attend have in common and marks the step.
kvc_status Cache::begin(kvc_step handle, uint32_t layer, bool pointers,
                        bool reads) {
  Guard guard(shared(stateLock));
  if (kvc_status s = usable(); !isOk(s))
    return s;
  if (kvc_status s = find(handle); !isOk(s))
    return s;
  if (kvc_status s = checkLayer(layer); !isOk(s))
    return s;
  if (!pointers)
    return fail(KVC_INVALID_ARGUMENT, 543,
                "expected buffers of rows, found null");
  // The new tokens' places hold what others left there.
  if (reads && !steps[handle.slot].isWritten(layer))
    return fail(KVC_NOT_APPENDED, 544,
                "the step's rows of layer %u are not appended", layer);
  if (kvc_status s = reads ? checkConstantsOf(layer) : ok(); !isOk(s))
    return s;
  steps[handle.slot].running += 1;
  return ok();
}

/// Ends a call; `wrote` is the layer whose rows it has written, if it could.
void Cache::finish(kvc_step handle, const kvc_status &status,
                   std::optional<uint32_t> wrote) {
  Guard guard(shared(stateLock));
  Step &step = steps[handle.slot];
  step.running -= 1;
  if (wrote && isOk(status))
    step.setWritten(*wrote);
  if (status.code == KVC_DEVICE_ERROR)
    poison(status);
}

kvc_status Cache::markAppended(kvc_step handle, uint32_t layer) {
  Guard guard(shared(stateLock));
  if (kvc_status s = usable(); !isOk(s))
    return s;
  if (kvc_status s = find(handle); !isOk(s))
    return s;
  Step &step = steps[handle.slot];
  if (layer == KVC_ALL_LAYERS) {
    for (uint32_t i = 0; i < step.writtenIn.size(); ++i)
      step.setWritten(i);
    return ok();
  }
  if (kvc_status s = checkLayer(layer); !isOk(s))
    return s;
  step.setWritten(layer);
  return ok();
}

/// The stride of rows of `heads` heads; `given` if it is not 0.
static int64_t rowStride(kvc_stride given, uint64_t heads, uint64_t headBytes) {
  return given.row ? given.row : int64_t(heads * headBytes);
}

RowCall Cache::callOf(RowKernel kernel, const void *k, kvc_stride kStride,
                      const void *v, kvc_stride vStride) const {
  const artifact::ModelInfo &model = program->manifest().model;
  size_t element = elementBytes(model);
  RowCall call;
  call.kernel = kernel;
  call.k = k;
  call.kRowStride = rowStride(kStride, model.kvHeads, model.headDimK * element);
  call.kHeadStride = kStride.head;
  call.v = v;
  call.vRowStride = rowStride(vStride, model.kvHeads, model.headDimV * element);
  call.vHeadStride = vStride.head;
  return call;
}

RowCall Cache::over(RowCall call, LayerTable::Entry kept) const {
  const StoreLayout &layout = stores[kept.store]->layout;
  call.slotTokens = layout.pageTokens;
  call.pageCount = layout.pages;
  call.planes = stores[kept.store]->planesOf(kept.layer);
  call.planeCount = uint32_t(layout.planeCount());
  return call;
}

bool Cache::storesV(uint32_t layer) const {
  const artifact::Manifest &manifest = program->manifest();
  if (layer >= manifest.model.layers)
    return false; // which begin() refuses
  for (LayerTable::Entry kept : program->layers().of(layer))
    if (manifest.stores[kept.store].storesV())
      return true;
  return false;
}

kvc_status Cache::append(kvc_step handle, uint32_t layer, const void *k,
                         kvc_stride kStride, const void *v,
                         kvc_stride vStride) {
  // Its kernels say what they make of a V that they do not need.
  bool hasV = v || !storesV(layer);
  if (kvc_status s = begin(handle, layer, k && hasV, /*reads=*/false); !isOk(s))
    return s;
  const Step &step = steps[handle.slot];
  RowCall whole = callOf(RowKernel::Append, k, kStride, v, vStride);
  whole.rows = step.rows;
  whole.stream = step.stream;
  kvc_status status = ok();
  for (LayerTable::Entry kept : program->layers().of(layer)) {
    RowCall call = over(whole, kept);
    // V of a layer may be for some of its heads alone.
    if (storesV(layer) && !program->manifest().stores[kept.store].storesV())
      call.v = nullptr;
    call.slot = step.tables[kept.store].slots.ofKernels();
    Guard order(orderOfStreams());
    status = follow(call.stream);
    if (isOk(status))
      status = program->move(kept.store, call);
    if (!isOk(status))
      break;
  }
  finish(handle, status, layer);
  return status;
}

AttendBounds Cache::boundsOf(uint32_t store) const {
  const StoreLayout &layout = stores[store]->layout;
  AttendBounds bounds = {};
  bounds.batch = options.max_batch;
  bounds.rows = bounds.maxQueries = options.max_step_tokens;
  bounds.maxKvLen = options.max_tokens_per_seq;
  // Whatever sequences there are, their tokens are in these pages; not under a
  // window, whose kernels are bounded by it instead.
  bounds.maxTokens =
      std::min(uint64_t(layout.pages) * uint64_t(layout.pageTokens),
               uint64_t(bounds.batch) * bounds.maxKvLen);
  return bounds;
}

/// All but the store's own arrays.
kvc_attend_args Cache::planArgs(const Step &step, uint32_t plan) const {
  kvc_attend_args args = {};
  args.size = sizeof(args);
  args.batch = step.batch;
  args.rows = step.rows;
  // Not the rows of all: kernels for longer queries have nothing to do.
  args.max_queries = step.maxQueries;
  args.max_kv_len = options.max_tokens_per_seq;
  args.cu_q = step.cuQ.ofKernels();
  args.kv_len = step.kvLen.ofKernels();
  args.stream = step.stream;
  if (plans[plan].bytes)
    args.plan =
        planMemory + size_t(&step - steps) * stepPlanBytes + plans[plan].offset;
  return args;
}

kvc_attend_args Cache::attendArgs(const Step &step, uint32_t store,
                                  const kvc_batch_view &view) const {
  kvc_attend_args args = planArgs(step, stores[store]->plan);
  args.table = view.table;
  args.table_stride = view.table_stride;
  args.slot_tokens = view.slot_tokens;
  args.workspace = workspace;
  args.workspace_bytes = workspaceBytes;
  // page_count stays 0: the tables are our own.
  args.planes = view.planes;
  args.plane_count = view.plane_count;
  return args;
}

kvc_status Cache::makePlan(Step &step, uint32_t index) {
  if (!plans[index].bytes || step.plannedIn[index] == step.generation)
    return ok();
  const Plan &plan = plans[index];
  kvc_status status =
      program->plan(plan.store, planArgs(step, index), plan.bounds);
  if (isOk(status))
    step.plannedIn[index] = step.generation;
  return status;
}

kvc_status Cache::setConstants(uint32_t store, uint32_t layer,
                               const void *const *constants, uint32_t count) {
  Guard guard(shared(stateLock));
  if (kvc_status s = usable(); !isOk(s))
    return s;
  if (store >= stores.size())
    return fail(KVC_INVALID_ARGUMENT, 546,
                "`store`: expected below %zu, found %u", stores.size(), store);
  Store &to = *stores[store];
  const LayerTable::Entry *kept = program->layers().find(store, layer);
  if (layer != KVC_ALL_LAYERS && !kept)
    return fail(KVC_INVALID_ARGUMENT, 547,
                "store %u of %zu does not cover layer %u", store, stores.size(),
                layer);
  if (kvc_status s = checkConstants(*to.layout.info, constants, count);
      !isOk(s))
    return s;
  uint32_t first = kept ? kept->layer : 0;
  uint32_t end = kept ? first + 1 : to.layout.layers();
  for (uint32_t i = first; i < end; ++i)
    std::copy_n(constants, count, to.constants.data() + i * count);
  return ok();
}

/// The pointers of a layer's constants are all there, or none is.
kvc_status Cache::checkConstantsOf(uint32_t layer) const {
  for (LayerTable::Entry kept : program->layers().of(layer)) {
    const Store &store = *stores[kept.store];
    if (!store.layout.info->constants.empty() &&
        !store.constantsOf(kept.layer)[0])
      return fail(KVC_INVALID_ARGUMENT, 545,
                  "the constants of `%s` are not set for layer %u: see "
                  "kvc_cache_set_constants",
                  store.name(), layer);
  }
  return ok();
}

kvc_status Cache::attend(kvc_step handle, uint32_t layer, const void *q,
                         kvc_stride qStride, void *out, kvc_stride outStride,
                         float *lse, kvc_stride lseStride) {
  if (kvc_status s = begin(handle, layer, q && out, /*reads=*/true); !isOk(s))
    return s;
  const artifact::ModelInfo &model = program->manifest().model;
  size_t element = elementBytes(model);
  kvc_status status = ok();
  for (LayerTable::Entry kept : program->layers().of(layer)) {
    kvc_batch_view view = viewOf(steps[handle.slot], kept);
    kvc_attend_args args = attendArgs(steps[handle.slot], kept.store, view);
    args.q = q;
    args.q_row_stride =
        rowStride(qStride, model.qHeads, model.headDimK * element);
    args.q_head_stride = qStride.head;
    args.out = out;
    args.out_row_stride =
        rowStride(outStride, model.qHeads, model.headDimV * element);
    args.out_head_stride = outStride.head;
    args.lse = lse;
    args.lse_row_stride = rowStride(lseStride, model.qHeads, sizeof(float));
    args.lse_head_stride = lseStride.head;
    args.constants = stores[kept.store]->constantsOf(kept.layer);
    args.constant_count =
        uint32_t(stores[kept.store]->layout.info->constants.size());
    Guard guard(shared(launchLock));
    uint32_t plan = stores[kept.store]->plan;
    status = follow(args.stream);
    if (isOk(status))
      status = makePlan(steps[handle.slot], plan);
    if (isOk(status))
      status = program->attend(kept.store, args, plans[plan].bounds);
    if (isOk(status))
      continue;
    // It may have left split counters behind.
    steps[handle.slot].plannedIn[plan] = 0;
    break;
  }
  finish(handle, status);
  return status;
}
