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

} // namespace kvc::rt

#endif // KVC_RUNTIME_API_H
