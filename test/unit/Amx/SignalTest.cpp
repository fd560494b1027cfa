//===- SignalTest.cpp - whose SIGILL it is --------------------------------===//
#include "test/unit/Amx/Fixture.h"

#include <algorithm>
#include <signal.h>
#include <ucontext.h>
#include <unistd.h>
#include <vector>

using namespace kvc;
using namespace kvc::test;

namespace {

KVC_AMX_CODE unsigned workingRows() {
  Config config = Config::full(), found;
  _tile_loadconfig(&config);
  _tile_storeconfig(&found);
  _tile_release();
  return found.rows[7];
}

void undefined() { __asm__ volatile("ud2"); }

/// A handler of somebody else's, which says so by the exit code, at once or
/// after it has skipped the instruction.
void leave(int, siginfo_t *, void *) { _exit(7); }
volatile sig_atomic_t skipped = 0;
void skip(int, siginfo_t *, void *context) {
  skipped = skipped + 1;
  static_cast<ucontext_t *>(context)->uc_mcontext.gregs[REG_RIP] += 2;
}

void take(void (*handler)(int, siginfo_t *, void *)) {
  struct sigaction action = {};
  action.sa_sigaction = handler;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGILL, &action, nullptr);
}

} // namespace

TEST_F(Emulated, ForeignInstructionsStillKill) {
  EXPECT_EXIT(undefined(), testing::KilledBySignal(SIGILL), "");
  EXPECT_EXIT(raise(SIGILL), testing::KilledBySignal(SIGILL), "");
}

TEST_F(Emulated, ForeignInstructionsGoToWhoHadTheSignal) {
  auto before = [] {
    take(leave);
    amx::install();
    if (workingRows() != 16)
      _exit(1);
  };
  EXPECT_EXIT((before(), undefined()), testing::ExitedWithCode(7), "");
  EXPECT_EXIT((before(), (void)raise(SIGILL)), testing::ExitedWithCode(7), "");
}

// A library that tries instructions and goes on behind them takes the signal;
// installing again takes it back, in front of that library.
TEST_F(Emulated, InstallingAgain) {
  auto all = [] {
    take(skip);
    amx::install();
    amx::install();
    for (int round = 1; round < 4; ++round) {
      undefined();
      undefined();
      if (skipped != 2 * round)
        _exit(1);
      amx::install();
      if (workingRows() != 16)
        _exit(2);
    }
    _exit(0);
  };
  EXPECT_EXIT(all(), testing::ExitedWithCode(0), "");
}

// Two that restore each other's handler come to an end.
TEST_F(Emulated, HandlersThatRestoreUsEndAtTheSystem) {
  static struct sigaction saved;
  auto all = [] {
    sigaction(SIGILL, nullptr, &saved); // ours
    take([](int, siginfo_t *, void *) { sigaction(SIGILL, &saved, nullptr); });
    amx::install();
    undefined();
  };
  EXPECT_EXIT(all(), testing::KilledBySignal(SIGILL), "");
}

// Handlers run on a signal stack where a thread has one.
TEST_F(Emulated, OnASignalStack) {
  std::vector<uint8_t> memory(1 << 16);
  stack_t stack = {}, old;
  stack.ss_sp = memory.data();
  stack.ss_size = memory.size();
  ASSERT_EQ(sigaltstack(&stack, &old), 0);
  EXPECT_EQ(workingRows(), 16u);
  ASSERT_EQ(sigaltstack(&old, nullptr), 0);
  EXPECT_TRUE(std::any_of(memory.begin(), memory.end(),
                          [](uint8_t byte) { return byte; }));
}

// What a kernel has in registers, below its stack pointer and in its flags is
// as it was.
TEST_F(Amx, NothingElseChanges) {
  if (!__builtin_cpu_supports("avx512f"))
    GTEST_SKIP() << "this CPU has no zmm31";
  Config config = Config::full();
  alignas(64) uint64_t in[8] = {1, 2, 3, 4, 5, 6, 7, 8}, out[8] = {};
  uint64_t below = 0, carry = 0;
  __asm__ volatile("movq $0x1234567, -64(%%rsp)\n"
                   "vmovdqu64 (%[in]), %%zmm31\n"
                   "stc\n"
                   "ldtilecfg (%[config])\n"
                   "tilerelease\n"
                   "setc %b[carry]\n"
                   "vmovdqu64 %%zmm31, (%[out])\n"
                   "movq -64(%%rsp), %[below]\n"
                   : [below] "=&r"(below), [carry] "+&r"(carry)
                   : [in] "r"(in), [out] "r"(out), [config] "r"(&config)
                   : "memory", "cc", "xmm31");
  EXPECT_EQ(below, 0x1234567u);
  EXPECT_EQ(carry, 1u);
  EXPECT_EQ(std::memcmp(in, out, sizeof(in)), 0);
}
