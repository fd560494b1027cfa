//===- Status.cpp - statuses and the thread's last error text -------------===//
#include "runtime/Status.h"

#include <atomic>
#include <cstdarg>
#include <cstdio>
#include <cxxabi.h>
#include <new>
#include <pthread.h>
#include <stdexcept>

using namespace kvc::rt;

namespace {

/// A thread's text. Fixed, so that a failure never allocates; longer ones are
/// cut.
struct Text {
  std::atomic<bool> taken = false;
  bool ofHeap = false;
  char bytes[2048] = "";
};

/// What all threads but the very many find theirs in.
Text texts[64];

// Of each thread only this is thread_local: in a library that dlopen() opens,
// data beyond a few words are allocated at a thread's first use, and the C
// library ends the process if there is no memory.
[[gnu::tls_model("initial-exec")]] thread_local Text *own = nullptr;
[[gnu::tls_model("initial-exec")]] thread_local bool untold = false;

/// Calls giveBack() for threads that end while the library is there.
class Ends {
public:
  Ends() : made(!pthread_key_create(&key, giveBack)) {}
  ~Ends() {
    if (made)
      pthread_key_delete(key);
  }
  bool willGiveBack(Text *text) const {
    return made && !pthread_setspecific(key, text);
  }

private:
  static void giveBack(void *text) {
    own = nullptr;
    give(static_cast<Text *>(text));
  }
  pthread_key_t key;
  const bool made;

public:
  static void give(Text *text) {
    if (text->ofHeap)
      delete text;
    else
      text->taken.store(false, std::memory_order_release);
  }
};
Ends ends;

Text *take() {
  for (Text &text : texts)
    if (!text.taken.exchange(true, std::memory_order_acquire))
      return &text;
  auto *text = new (std::nothrow) Text;
  if (text)
    text->ofHeap = true;
  return text;
}

/// The calling thread's; null if there is no memory.
Text *textOfThread() {
  if (own)
    return own;
  Text *text = take();
  if (text && !ends.willGiveBack(text)) {
    Ends::give(text);
    return nullptr;
  }
  return own = text;
}

} // namespace

kvc_status kvc::rt::fail(kvc_code code, uint32_t where, const char *format,
                         ...) {
  va_list args;
  va_start(args, format);
  Text *text = textOfThread();
  untold = !text;
  if (text)
    vsnprintf(text->bytes, sizeof(text->bytes), format, args);
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

const char *kvc::rt::errorText() {
  if (untold)
    return "a failure whose text there was no memory for";
  return own ? own->bytes : "";
}
