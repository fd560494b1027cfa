//===- Arguments.cpp - callers' buffers, checked --------------------------===//
#include "runtime/Arguments.h"

#include "lib/base/Artifact/KernelAbi.h"

#include <algorithm>

using namespace kvc;
using namespace kvc::rt;
using artifact::ModelInfo;
using artifact::StoreInfo;

kvc_status kvc::rt::checkSize(size_t size, const char *name,
                              std::span<const Field> fields, size_t whole) {
  if (size < fields.front().end || size > (1u << 20))
    return fail(KVC_INVALID_ARGUMENT, 102,
                "%s: expected `size` to be %zu, found %zu", name, whole, size);
  for (const Field &field : fields)
    if (size < field.begin || (size > field.begin && size < field.end))
      return fail(KVC_INVALID_ARGUMENT, 105,
                  "%s: `size` %zu ends inside `%s`, which is at %zu to %zu of "
                  "%zu",
                  name, size, field.name, field.begin, field.end, whole);
    else if (size <= field.end)
      break;
  return ok();
}

size_t kvc::rt::elementBytes(const ModelInfo &model) {
  return model.dtype == "f32" ? 4 : 2;
}

namespace {
/// An array of rows of heads, as a call gives it.
struct RowArray {
  const char *name;
  const void *data;
  int64_t rowStride, headStride;
  uint64_t heads, dim;
  size_t element;
  bool optional = false;
};
} // namespace

/// Whether it is there, aligned, and its `rows` rows do not overlap.
static kvc_status checkRows(const RowArray &array, uint64_t rows) {
  if (!array.data && array.optional)
    return ok();
  if (!array.data)
    return fail(KVC_INVALID_ARGUMENT, 111,
                "`%s`: expected a buffer, found null", array.name);
  auto element = int64_t(array.element);
  if (uintptr_t(array.data) % array.element || array.rowStride % element ||
      array.headStride % element)
    return fail(KVC_INVALID_ARGUMENT, 112,
                "`%s`: expected address and strides to be multiples of %zu",
                array.name, array.element);
  auto head = int64_t(array.dim * array.element);
  // Kernels of GPUs multiply it as 32 bits.
  if (array.headStride < head || array.headStride > INT32_MAX)
    return fail(KVC_INVALID_ARGUMENT, 126,
                "`%s_head_stride`: expected 0, or %lld to 2^31 - 1 bytes, "
                "found %lld",
                array.name, (long long)head, (long long)array.headStride);
  // Heads lie within the stride of a row, or rows within that of a head.
  using Wide = __int128;
  Wide row = Wide(array.heads - 1) * array.headStride + head;
  if (array.rowStride < row &&
      (array.rowStride < head ||
       Wide(rows - 1) * array.rowStride + head > array.headStride))
    return fail(KVC_INVALID_ARGUMENT, 113,
                "`%s_row_stride`: expected at least %lld bytes, found %lld",
                array.name, (long long)std::min<Wide>(row, INT64_MAX),
                (long long)array.rowStride);
  return ok();
}

static kvc_status checkPlanes(const StoreInfo &store, const kvc_plane *planes,
                              uint32_t count) {
  if (count != store.planes.size())
    return fail(KVC_INVALID_ARGUMENT, 117,
                "`plane_count`: expected the %zu planes of `%s`, found %u",
                store.planes.size(), store.name.c_str(), count);
  if (!planes)
    return fail(KVC_INVALID_ARGUMENT, 118,
                "`planes`: expected an array, found null");
  for (size_t i = 0; i < store.planes.size(); ++i) {
    const artifact::PlaneInfo &plane = store.planes[i];
    // Codes under a byte share one.
    size_t element = std::max<size_t>(1, plane.rowBytes / plane.elements);
    if (!planes[i].base)
      return fail(KVC_INVALID_ARGUMENT, 114,
                  "`planes[%zu]` (%s %s of `%s`): expected a base, found null",
                  i, plane.stream.c_str(), plane.role.c_str(),
                  store.name.c_str());
    if (uintptr_t(planes[i].base) % element ||
        planes[i].page_stride % int64_t(element) ||
        planes[i].head_stride % int64_t(element))
      return fail(KVC_INVALID_ARGUMENT, 115,
                  "`planes[%zu]`: expected base and strides to be multiples of "
                  "%zu",
                  i, element);
  }
  return ok();
}

kvc_status kvc::rt::checkConstants(const StoreInfo &store,
                                   const void *const *constants,
                                   uint32_t count) {
  if (count != store.constants.size())
    return fail(KVC_INVALID_ARGUMENT, 119,
                "`constant_count`: expected the %zu constants of `%s`, found "
                "%u",
                store.constants.size(), store.name.c_str(), count);
  if (count && !constants)
    return fail(KVC_INVALID_ARGUMENT, 120,
                "`constants`: expected an array, found null");
  for (uint32_t i = 0; i < count; ++i)
    if (!constants[i] || uintptr_t(constants[i]) % 4)
      return fail(
          KVC_INVALID_ARGUMENT, 125,
          "`constants[%u]` (`%s` of `%s`): expected %u values of 4 bytes%s, "
          "found %p",
          i, store.constants[i].name.c_str(), store.name.c_str(),
          store.constants[i].size,
          store.constants[i].perSequence ? " for each sequence" : "",
          constants[i]);
  return ok();
}

/// A contiguous store's capacity is known to the caller only.
static kvc_status checkSlotTokens(const StoreInfo &store, int64_t slotTokens) {
  if (store.paged || (slotTokens >= 1 && slotTokens <= KVC_MAX_TOKENS))
    return ok();
  return fail(KVC_INVALID_ARGUMENT, 116,
              "`slot_tokens`: expected the capacity of a slot of `%s`, found "
              "%lld",
              store.name.c_str(), (long long)slotTokens);
}

/// Where heads of a row are dense.
static void setDense(int64_t &headStride, uint32_t dim, size_t element) {
  if (!headStride)
    headStride = int64_t(dim * element);
}

RowCall kvc::rt::withHeadStrides(const ModelInfo &model, RowCall call) {
  size_t element = elementBytes(model);
  setDense(call.kHeadStride, model.headDimK, element);
  setDense(call.vHeadStride, model.headDimV, element);
  return call;
}

kvc_attend_args kvc::rt::withHeadStrides(const ModelInfo &model,
                                         kvc_attend_args args) {
  size_t element = elementBytes(model);
  setDense(args.q_head_stride, model.headDimK, element);
  setDense(args.out_head_stride, model.headDimV, element);
  setDense(args.lse_head_stride, 1, sizeof(float));
  return args;
}

kvc_status kvc::rt::checkRowBuffers(const ModelInfo &model, const RowCall &call,
                                    bool needsV) {
  if (call.rows > INT32_MAX)
    return fail(KVC_INVALID_ARGUMENT, 121, "`rows`: expected below 2^31");
  bool gathers = call.kernel == RowKernel::Gather;
  if (gathers && !call.k && !call.v)
    return fail(KVC_INVALID_ARGUMENT, 127,
                "`k` and `v`: expected at least one buffer, found null");
  size_t element = elementBytes(model);
  for (const RowArray &array :
       {RowArray{"k", call.k, call.kRowStride, call.kHeadStride, model.kvHeads,
                 model.headDimK, element, /*optional=*/gathers},
        RowArray{"v", call.v, call.vRowStride, call.vHeadStride, model.kvHeads,
                 model.headDimV, element, /*optional=*/!needsV}})
    if (kvc_status s = checkRows(array, call.rows); !isOk(s))
      return s;
  return ok();
}

kvc_status kvc::rt::checkRowCall(const ModelInfo &model, const StoreInfo &store,
                                 const RowCall &call, bool ifHost) {
  bool appends = call.kernel == RowKernel::Append, storesV = store.storesV();
  if (appends && !storesV && call.v)
    return fail(KVC_INVALID_ARGUMENT, 128,
                "`v`: expected null, for V of `%s` is the first %u channels of "
                "its K; found %p",
                store.name.c_str(), model.headDimV, call.v);
  if (kvc_status s = checkRowBuffers(model, call, appends && storesV); !isOk(s))
    return s;
  if (kvc_status s = checkPlanes(store, call.planes, call.planeCount); !isOk(s))
    return s;
  if (kvc_status s = checkSlotTokens(store, call.slotTokens); !isOk(s))
    return s;
  if (!call.slot)
    return fail(KVC_INVALID_ARGUMENT, 122,
                "`slot`: expected an array, found null");
  if (call.pageCount < 0)
    return fail(KVC_INVALID_ARGUMENT, 123,
                "`page_count`: expected 0 or more, found %lld",
                (long long)call.pageCount);
  if (call.pageCount == 0 || !ifHost)
    return ok();
  int64_t tokens = store.paged ? store.page : call.slotTokens;
  for (uint32_t row = 0; row < call.rows; ++row)
    if (call.slot[row] >= 0 && call.slot[row] / tokens >= call.pageCount)
      return fail(KVC_INVALID_ARGUMENT, 124,
                  "`slot[%u]`: expected below %lld * %lld, found %lld", row,
                  (long long)call.pageCount, (long long)tokens,
                  (long long)call.slot[row]);
  return ok();
}

static kvc_status checkTable(const StoreInfo &store,
                             const kvc_attend_args &args, uint32_t b) {
  int64_t length = args.kv_len[b];
  int64_t entries =
      store.paged ? (length + store.page - 1) / store.page : length != 0;
  if (entries > args.table_stride)
    return fail(KVC_INVALID_ARGUMENT, 131,
                "`table_stride`: sequence %u has %lld tokens, so expected at "
                "least %lld entries, found %lld",
                b, (long long)length, (long long)entries,
                (long long)args.table_stride);
  if (args.page_count == 0)
    return ok();
  const int32_t *row = args.table + b * args.table_stride;
  for (int64_t i = 0; i < entries; ++i)
    if (row[i] < 0 || row[i] >= args.page_count)
      return fail(
          KVC_INVALID_ARGUMENT, 132,
          "`table`: entry %lld of sequence %u: expected 0 to %lld, found "
          "%d",
          (long long)i, b, (long long)args.page_count - 1, row[i]);
  return ok();
}

static kvc_status checkSequence(const StoreInfo &store,
                                const kvc_attend_args &args, uint32_t b) {
  int64_t n = int64_t(args.cu_q[b + 1]) - args.cu_q[b];
  int64_t length = args.kv_len[b];
  if (n < 0)
    return fail(KVC_INVALID_ARGUMENT, 133,
                "`cu_q`: expected ascending offsets, found %d after %d",
                args.cu_q[b + 1], args.cu_q[b]);
  if (length < 0 || (length != 0 && length < n))
    return fail(KVC_INVALID_ARGUMENT, 134,
                "`kv_len[%u]`: expected 0, or at least its %lld query tokens, "
                "found %lld",
                b, (long long)n, (long long)length);
  if (length > KVC_MAX_TOKENS)
    return fail(KVC_INVALID_ARGUMENT, 136,
                "`kv_len[%u]`: expected at most %d tokens, found %lld", b,
                KVC_MAX_TOKENS, (long long)length);
  // Nothing of a sequence without queries is read.
  if (n == 0)
    return ok();
  if (!store.paged && length > args.slot_tokens)
    return fail(KVC_INVALID_ARGUMENT, 135,
                "`kv_len[%u]`: expected at most the slot's %lld tokens, found "
                "%lld",
                b, (long long)args.slot_tokens, (long long)length);
  return checkTable(store, args, b);
}

static kvc_status checkCount(uint32_t batch) {
  if (batch <= INT32_MAX)
    return ok();
  return fail(KVC_INVALID_ARGUMENT, 142, "`batch`: expected below 2^31");
}

static kvc_status checkBatch(const StoreInfo &store,
                             const kvc_attend_args &args, bool ifHost) {
  if (!args.cu_q || !args.kv_len || !args.table)
    return fail(KVC_INVALID_ARGUMENT, 141,
                "`cu_q`, `kv_len` and `table`: expected arrays, found null");
  if (kvc_status s = checkCount(args.batch); !isOk(s))
    return s;
  if (args.table_stride < 0 || args.table_stride > INT32_MAX)
    return fail(KVC_INVALID_ARGUMENT, 143,
                "`table_stride`: expected 0 to 2^31 - 1, found %lld",
                (long long)args.table_stride);
  if (args.page_count < 0)
    return fail(KVC_INVALID_ARGUMENT, 144,
                "`page_count`: expected 0 or more, found %lld",
                (long long)args.page_count);
  if (!ifHost)
    return ok();
  if (args.cu_q[0] != 0)
    return fail(KVC_INVALID_ARGUMENT, 145, "`cu_q[0]`: expected 0, found %d",
                args.cu_q[0]);
  for (uint32_t b = 0; b < args.batch; ++b)
    if (kvc_status s = checkSequence(store, args, b); !isOk(s))
      return s;
  // Work tiles are numbered by 32 bits.
  uint64_t heads = store.headEnd - store.headBegin;
  if (uint64_t(args.cu_q[args.batch]) * heads > INT32_MAX)
    return fail(KVC_INVALID_ARGUMENT, 146,
                "`cu_q[batch]`: expected rows times kv heads below 2^31, found "
                "%d rows",
                args.cu_q[args.batch]);
  return ok();
}

static kvc_status checkPlanMemory(const void *plan) {
  if (plan && uintptr_t(plan) % 64 == 0)
    return ok();
  return fail(KVC_INVALID_ARGUMENT, 148,
              "`plan`: expected 64-byte aligned memory, found %p", plan);
}

kvc_status kvc::rt::checkPlan(const kvc_attend_args &args) {
  if (!args.cu_q || !args.kv_len)
    return fail(KVC_INVALID_ARGUMENT, 149,
                "`cu_q` and `kv_len`: expected arrays, found null");
  if (kvc_status s = checkCount(args.batch); !isOk(s))
    return s;
  return checkPlanMemory(args.plan);
}

kvc_status kvc::rt::checkAttend(const ModelInfo &model, const StoreInfo &store,
                                const kvc_attend_args &args, bool ifHost) {
  if (kvc_status s = checkSlotTokens(store, args.slot_tokens); !isOk(s))
    return s;
  if (kvc_status s = checkBatch(store, args, ifHost); !isOk(s))
    return s;
  // A batch without rows, for which there may be no buffers.
  uint32_t rows = ifHost ? uint32_t(args.cu_q[args.batch]) : args.rows;
  if (rows == 0)
    return ok();
  size_t element = elementBytes(model);
  for (const RowArray &array :
       {RowArray{"q", args.q, args.q_row_stride, args.q_head_stride,
                 model.qHeads, model.headDimK, element},
        RowArray{"out", args.out, args.out_row_stride, args.out_head_stride,
                 model.qHeads, model.headDimV, element},
        RowArray{"lse", args.lse, args.lse_row_stride, args.lse_head_stride,
                 model.qHeads, 1, sizeof(float), /*optional=*/true}})
    if (kvc_status s = checkRows(array, rows); !isOk(s))
      return s;
  if (kvc_status s = checkPlanes(store, args.planes, args.plane_count);
      !isOk(s))
    return s;
  if (kvc_status s = checkConstants(store, args.constants, args.constant_count);
      !isOk(s))
    return s;
  if (!args.workspace || uintptr_t(args.workspace) % 64)
    return fail(KVC_INVALID_ARGUMENT, 147,
                "`workspace`: expected 64-byte aligned memory, found %p",
                args.workspace);
  return args.plan ? checkPlanMemory(args.plan) : ok();
}
