//===- Fiber.cpp - threads of an emulated CTA -----------------------------===//
#include "lib/base/Simt/Fiber.h"

#include <new>
#include <sys/mman.h>
#if __has_include(<sanitizer/asan_interface.h>)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_UNPOISON_MEMORY_REGION(address, bytes) ((void)0)
#endif

using namespace kvc::simt;

// Saves what a call must keep, changes stacks, and returns there.
asm(R"(
  .text
  .p2align 4
  .type kvc_simt_switch, @function
kvc_simt_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  retq
  .size kvc_simt_switch, .-kvc_simt_switch

  .type kvc_simt_start, @function
kvc_simt_start:
  movq %r12, %rdi
  callq *%rbx
  ud2
  .size kvc_simt_start, .-kvc_simt_start
)");

extern "C" {
void kvc_simt_switch(void **from, void *to);
void kvc_simt_start();
}

void Fiber::prepare(std::byte *top, Entry entry, void *argument) {
  auto **words = reinterpret_cast<void **>(top);
  // As kvc_simt_switch leaves a stack: six registers and where to go on. The
  // call in kvc_simt_start wants the stack 16-byte aligned.
  *--words = nullptr;
  *--words = nullptr;
  *--words = reinterpret_cast<void *>(&kvc_simt_start);
  *--words = nullptr;                         // rbp
  *--words = reinterpret_cast<void *>(entry); // rbx
  *--words = argument;                        // r12
  *--words = nullptr;                         // r13
  *--words = nullptr;                         // r14
  *--words = nullptr;                         // r15
  stack = words;
}

void Fiber::enter(Fiber &from) { kvc_simt_switch(&from.stack, stack); }

StackPool::~StackPool() {
  for (std::byte *stack : stacks)
    munmap(stack, kBytes);
}

std::byte *StackPool::top(size_t i) {
  while (stacks.size() <= i) {
    stacks.reserve(i + 1); // so that nothing fails once there is memory
    void *memory = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
      throw std::bad_alloc();
    stacks.push_back(static_cast<std::byte *>(memory));
    if (mprotect(memory, 4096, PROT_NONE)) {
      stacks.pop_back();
      munmap(memory, kBytes);
      throw std::bad_alloc(); // a process has only so many mappings
    }
  }
  // A fiber that never ended leaves marks of AddressSanitizer behind.
  ASAN_UNPOISON_MEMORY_REGION(stacks[i] + 4096, kBytes - 4096);
  return stacks[i] + kBytes;
}
