//===- Arguments.h - callers' structs and buffers, checked ------*- C++ -*-===//
#ifndef KVC_RUNTIME_ARGUMENTS_H
#define KVC_RUNTIME_ARGUMENTS_H

#include "lib/base/Artifact/Manifest.h"
#include "runtime/Device.h"
#include "runtime/StructFields.h"

#include <algorithm>
#include <cstddef>
#include <cstring>

namespace kvc::rt {

/// Whether a caller's `size` ends where some field does; 1xx if not.
kvc_status checkSize(size_t size, const char *name,
                     std::span<const Field> fields, size_t whole);

/// Reads a struct that starts with `size`, of this version's length, an older's
/// or a newer's: fields beyond the caller's read as 0, fields that are not
/// known here must be 0.
template <class T>
kvc_status readStruct(const T *from, const char *name, T &to) {
  to = T();
  if (!from)
    return fail(KVC_INVALID_ARGUMENT, 101, "%s: expected a struct, found null",
                name);
  size_t size = from->size;
  if (kvc_status s = checkSize(size, name, fieldsOf<T>(), sizeof(T)); !isOk(s))
    return s;
  auto *bytes = reinterpret_cast<const unsigned char *>(from);
  for (size_t i = sizeof(T); i < size; ++i)
    if (bytes[i])
      return fail(KVC_INVALID_ARGUMENT, 103,
                  "%s: byte %zu is set, but this runtime knows only %zu bytes",
                  name, i, sizeof(T));
  std::memcpy(&to, from, std::min(sizeof(T), size));
  to.size = sizeof(T);
  return ok();
}

/// Writes as much of `from` as the caller's struct has room for.
template <class T>
kvc_status writeStruct(const T &from, const char *name, T *to) {
  if (!to)
    return fail(KVC_INVALID_ARGUMENT, 104, "%s: expected a struct, found null",
                name);
  size_t size = to->size;
  if (kvc_status s = checkSize(size, name, fieldsOf<T>(), sizeof(T)); !isOk(s))
    return s;
  std::memcpy(to, &from, std::min(sizeof(T), size));
  to->size = size;
  return ok();
}

/// Bytes of an element of the model's dtype.
size_t elementBytes(const artifact::ModelInfo &model);

/// With the strides of dense heads where a caller gives 0.
RowCall withHeadStrides(const artifact::ModelInfo &model, RowCall call);
kvc_attend_args withHeadStrides(const artifact::ModelInfo &model,
                                kvc_attend_args args);

/// Whether a kernel may be called with these; they touch nothing yet. Arrays
/// are read only `ifHost`. Of a batch without rows no buffer is asked for.
kvc_status checkRowCall(const artifact::ModelInfo &model,
                        const artifact::StoreInfo &store, const RowCall &call,
                        bool ifHost);
/// Of those only rows, k and v; null where it does not matter which kernels
/// want it.
kvc_status checkRowBuffers(const artifact::ModelInfo &model,
                           const RowCall &call, bool needsV);
/// Those of a store: as many, and none null.
kvc_status checkConstants(const artifact::StoreInfo &store,
                          const void *const *constants, uint32_t count);
/// Whether a plan may be made of these.
kvc_status checkPlan(const kvc_attend_args &args);
/// All but the size of the workspace, which the device knows.
kvc_status checkAttend(const artifact::ModelInfo &model,
                       const artifact::StoreInfo &store,
                       const kvc_attend_args &args, bool ifHost);

} // namespace kvc::rt

#endif // KVC_RUNTIME_ARGUMENTS_H
