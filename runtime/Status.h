//===- Status.h - statuses and the thread's last error text -----*- C++ -*-===//
#ifndef KVC_RUNTIME_STATUS_H
#define KVC_RUNTIME_STATUS_H

#include "runtime/include/kvc/runtime.h"

namespace kvc::rt {

inline kvc_status ok() { return {}; }
inline bool isOk(const kvc_status &status) { return status.code == KVC_OK; }

/// A failure; formats the text that kvc_error_text() returns, without heap
/// memory. `where` is a stable number that stands at one place of the source
/// only: 1xx arguments, 2xx devices, 3xx programs, 4xx kernels, 5xx cache.
[[gnu::format(printf, 3, 4)]] kvc_status fail(kvc_code code, uint32_t where,
                                              const char *format, ...);

/// What a thrown exception comes to: KVC_OUT_OF_MEMORY if memory ran out. To be
/// called while it is handled. Every function of the C ABI ends so, as nothing
/// may be thrown past it:
///
///   kvc_status kvc_something() try {
///     ...
///   } catch (...) {
///     return caught();
///   }
///
/// Only the unwinding of a thread that is cancelled goes on.
kvc_status caught();

/// The text of this thread's last fail(); "" if none.
const char *errorText();

} // namespace kvc::rt

#endif // KVC_RUNTIME_STATUS_H
