//===- Status.cpp - statuses and the thread's last error text -------------===//
#include "runtime/Status.h"

#include <cstdarg>
#include <cstdio>
#include <cxxabi.h>
#include <new>
#include <stdexcept>

using namespace kvc::rt;

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

static kvc_status noMemory() {
  return fail(KVC_OUT_OF_MEMORY, 108, "not enough memory");
}

kvc_status kvc::rt::caught() {
  try {
    throw;
  } catch (const abi::__forced_unwind &) {
    throw; // the C library ends the process if it is kept
  } catch (const std::bad_alloc &) {
    return noMemory();
  } catch (const std::length_error &) {
    return noMemory(); // more than there could ever be
  } catch (const std::exception &error) {
    return fail(KVC_DEVICE_ERROR, 109, "%s", error.what());
  } catch (...) {
    return fail(KVC_DEVICE_ERROR, 110,
                "a function of the caller's has thrown something");
  }
}

const char *kvc::rt::errorText() { return lastError; }
