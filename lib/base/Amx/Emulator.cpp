//===- Emulator.cpp - AMX code on CPUs without AMX ------------------------===//
#include "lib/base/Amx/Emulator.h"
#include "lib/base/Amx/Tiles.h"

#include <atomic>
#include <mutex>
#include <signal.h>
#include <ucontext.h>
#include <xmmintrin.h>

using namespace kvc::amx;

namespace {

/// Tiles of the kernels that run now. A handler cannot ask for memory, and what
/// is thread_local may be such memory, in a library that dlopen() opened: only
/// a pointer is.
struct Slot {
  std::atomic<bool> taken = false;
  Tiles tiles;
};
constinit Slot slots[1024];
[[gnu::tls_model("initial-exec")]] constinit thread_local Slot *own = nullptr;

/// The thread's, from its kernel's first AMX instruction to its end; null if
/// more threads run kernels than there are slots.
Slot *slotOfThread() {
  if (own)
    return own;
  for (Slot &slot : slots)
    if (!slot.taken.load(std::memory_order_relaxed) &&
        !slot.taken.exchange(true, std::memory_order_acquire))
      return own = &slot;
  return nullptr;
}

std::atomic<uint64_t> executed[kOps], loaded, stored;

/// Guards installing. A handler reads `previous` without it, when the process
/// is about to end or to be told by somebody else.
std::mutex installing;
struct sigaction previous;

void add(std::atomic<uint64_t> &to, uint64_t n) {
  to.fetch_add(n, std::memory_order_relaxed);
}

/// As if we were not there: who had the signal has it again, and gets it. An
/// instruction raises it again when the handler returns.
void handOn(const siginfo_t &info) {
  struct sigaction next = previous;
  // Should they restore us, it is the system's turn.
  previous = {};
  sigaction(SIGILL, &next, nullptr);
  if (info.si_code <= 0) // sent by a process
    raise(SIGILL);
}

void handle(int, siginfo_t *info, void *context) {
  greg_t *saved = static_cast<ucontext_t *>(context)->uc_mcontext.gregs;
  constexpr int kOrder[16] = {
      REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
      REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
  uint64_t registers[16];
  for (unsigned i = 0; i < 16; ++i)
    registers[i] = uint64_t(saved[kOrder[i]]);
  auto *code = reinterpret_cast<const uint8_t *>(saved[REG_RIP]);
  std::optional<Instruction> in;
  if (info->si_code > 0)
    in = decode(code, registers);
  Slot *slot = in ? slotOfThread() : nullptr;
  if (!slot)
    return handOn(*info);
  // Denormals are zeros, ties go to even, nothing traps. What the thread had
  // comes back with its registers.
  _mm_setcsr(0x9fc0);
  // Those that follow at once need no signals of their own.
  for (; in; in = decode(code, registers)) {
    size_t moved = slot->tiles.execute(*in);
    add(executed[size_t(in->op)], 1);
    add(in->op == Op::tilestored ? stored : loaded, moved);
    code += in->bytes;
  }
  saved[REG_RIP] = reinterpret_cast<greg_t>(code);
}

} // namespace

bool kvc::amx::emulates(std::string_view feature) {
  return feature == "amx-tile" || feature == "amx-bf16" ||
         feature == "amx-int8";
}

void kvc::amx::install() {
  std::lock_guard guard(installing);
  struct sigaction now, ours = {};
  sigaction(SIGILL, nullptr, &now);
  if (now.sa_flags & SA_SIGINFO && now.sa_sigaction == handle)
    return;
  previous = now;
  ours.sa_sigaction = handle;
  // On the thread's own signal stack where it has one: a handler of a crash
  // that comes after us may need it.
  ours.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&ours.sa_mask);
  sigaction(SIGILL, &ours, nullptr);
}

Finding kvc::amx::finish() {
  Finding finding;
  if (!own)
    return finding;
  Tiles &tiles = own->tiles;
  if (tiles.configured())
    tiles.find("tiles are configured at the end of the kernel: expected a "
               "tilerelease");
  tiles.release();
  std::string_view text = tiles.take();
  text.copy(finding.text, sizeof(finding.text) - 1);
  own->taken.store(false, std::memory_order_release);
  own = nullptr;
  return finding;
}

Counters kvc::amx::counters() {
  Counters result;
  for (size_t i = 0; i < kOps; ++i)
    result.ops[i] = executed[i].load(std::memory_order_relaxed);
  result.bytesLoaded = loaded.load(std::memory_order_relaxed);
  result.bytesStored = stored.load(std::memory_order_relaxed);
  return result;
}
