//===- Api.h - C handles and the objects behind them ------------*- C++ -*-===//
#ifndef KVC_RUNTIME_API_H
#define KVC_RUNTIME_API_H

#include "runtime/Program.h"

namespace kvc::rt {

inline Device *unwrap(kvc_device *device) {
  return reinterpret_cast<Device *>(device);
}
inline kvc_device *wrap(Device *device) {
  return reinterpret_cast<kvc_device *>(device);
}
inline Program *unwrap(kvc_program *program) {
  return reinterpret_cast<Program *>(program);
}
inline const Program *unwrap(const kvc_program *program) {
  return reinterpret_cast<const Program *>(program);
}
inline kvc_program *wrap(Program *program) {
  return reinterpret_cast<kvc_program *>(program);
}

inline kvc_status noHandle(const char *name) {
  return fail(KVC_INVALID_ARGUMENT, 106, "`%s`: expected a handle, found null",
              name);
}
inline kvc_status noOutput(const char *name) {
  return fail(KVC_INVALID_ARGUMENT, 107,
              "`%s`: expected a place for the result, found null", name);
}

/// An object made before fork() has no threads here, and its locks may be held
/// by them: nothing but its release is safe.
inline kvc_status madeByParent(const char *name) {
  return fail(KVC_STALE, 155,
              "`%s` was made before fork(): in the child it can only be "
              "released",
              name);
}
inline kvc_status checkHandle(const kvc_device *device) {
  if (!device)
    return noHandle("device");
  return unwrap(const_cast<kvc_device *>(device))->isParents()
             ? madeByParent("device")
             : ok();
}
inline kvc_status checkHandle(const kvc_program *program) {
  if (!program)
    return noHandle("program");
  return unwrap(program)->isParents() ? madeByParent("program") : ok();
}
/// Whether what `object` has on `device` must stay as it is: a GPU's driver
/// does not work in a child of fork().
inline bool isLeft(const RefCounted &object, const Device &device) {
  return object.isParents() && device.isGpu();
}

} // namespace kvc::rt

#endif // KVC_RUNTIME_API_H
