//===- Faults.cpp - memory and threads that run out -----------------------===//
#include "test/unit/Runtime/Faults.h"

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <dlfcn.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

using namespace kvc::test;

static std::atomic<bool> armed = false;
static std::atomic<uint64_t> calls = 0;
static std::atomic<int64_t> existing = 0;
static Fault wanted;
static const char *underTest = "";

/// Whether the call that begins now is to fail.
static bool refused() {
  if (!armed.load(std::memory_order_acquire))
    return false;
  uint64_t n = calls.fetch_add(1, std::memory_order_relaxed) + 1;
  if (n == wanted.n || (wanted.persists && wanted.n && n > wanted.n)) {
    errno = ENOMEM;
    return true;
  }
  return false;
}

static void *given(void *memory) {
  if (memory)
    existing.fetch_add(1, std::memory_order_relaxed);
  return memory;
}

/// A test that ends the process must say where.
static void onAbort(int) {
  char text[256];
  int bytes = std::snprintf(text, sizeof(text),
                            "\naborted in: %s, call %llu of memory refused%s\n",
                            underTest, (unsigned long long)wanted.n,
                            wanted.persists ? " and all that follow" : "");
  [[maybe_unused]] ssize_t written = write(2, text, size_t(bytes));
}

void kvc::test::arm(const char *what, Fault fault) {
  std::signal(SIGABRT, onAbort);
  underTest = what;
  wanted = fault;
  calls = 0;
  armed.store(true, std::memory_order_release);
}

uint64_t kvc::test::disarm() {
  armed.store(false, std::memory_order_release);
  return calls;
}

int64_t kvc::test::live() { return existing; }

/// The next function of that name; looking it up allocates, so it is done
/// before anything is armed.
template <class Function> static Function *next(const char *name) {
  return reinterpret_cast<Function *>(dlsym(RTLD_NEXT, name));
}
static const auto createThread =
    next<decltype(pthread_create)>("pthread_create");

// Seen by the dynamic linker, although this project hides symbols.
#pragma GCC visibility push(default)
extern "C" {
void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);
void __libc_free(void *);

void *malloc(size_t size) {
  return refused() ? nullptr : given(__libc_malloc(size));
}
void *calloc(size_t count, size_t size) {
  return refused() ? nullptr : given(__libc_calloc(count, size));
}
void *realloc(void *memory, size_t size) {
  if (refused())
    return nullptr;
  void *moved = __libc_realloc(memory, size);
  if (!memory)
    return given(moved);
  if (!moved && size == 0)
    existing.fetch_sub(1, std::memory_order_relaxed);
  return moved;
}
void *aligned_alloc(size_t alignment, size_t size) {
  return refused() ? nullptr : given(__libc_memalign(alignment, size));
}
void *memalign(size_t alignment, size_t size) {
  return refused() ? nullptr : given(__libc_memalign(alignment, size));
}
int posix_memalign(void **memory, size_t alignment, size_t size) {
  if (refused())
    return ENOMEM;
  *memory = given(__libc_memalign(alignment, size));
  return *memory ? 0 : ENOMEM;
}
void free(void *memory) {
  if (memory)
    existing.fetch_sub(1, std::memory_order_relaxed);
  __libc_free(memory);
}

void *mmap(void *at, size_t bytes, int protection, int flags, int file,
           off_t offset) noexcept {
  if (refused())
    return MAP_FAILED;
  auto *memory = reinterpret_cast<void *>(
      syscall(SYS_mmap, at, bytes, protection, flags, file, offset));
  if (memory != MAP_FAILED)
    given(memory);
  return memory;
}
int munmap(void *memory, size_t bytes) noexcept {
  existing.fetch_sub(1, std::memory_order_relaxed);
  return int(syscall(SYS_munmap, memory, bytes));
}
int mprotect(void *memory, size_t bytes, int protection) noexcept {
  return refused() ? -1 : int(syscall(SYS_mprotect, memory, bytes, protection));
}
int pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                   void *(*run)(void *), void *argument) noexcept {
  return refused() ? EAGAIN : createThread(thread, attributes, run, argument);
}
}
#pragma GCC visibility pop
