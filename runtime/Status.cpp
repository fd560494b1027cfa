//===- Status.cpp - statuses and the thread's last error text -------------===//
#include "runtime/Status.h"

#include <cstdarg>
#include <cstdio>

// Fixed, so that a failure never allocates; longer texts are cut.
static thread_local char lastError[2048];

kvc_status kvc::rt::fail(kvc_code code, uint32_t where, const char *format,
                         ...) {
  va_list args;
  va_start(args, format);
  vsnprintf(lastError, sizeof(lastError), format, args);
  va_end(args);
  kvc_status status = {};
  status.code = code;
  status.where = where;
  return status;
}

const char *kvc::rt::errorText() { return lastError; }
