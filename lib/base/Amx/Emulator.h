//===- Emulator.h - AMX code on CPUs without AMX ----------------*- C++ -*-===//
//
// A CPU without AMX refuses its instructions, which the system tells as SIGILL.
// A handler of that signal executes them on tiles that each thread has here,
// and goes on behind them: kernels run as the machine code that they are, and
// all of it but AMX natively. It finds what a CPU would refuse, and tiles that
// a kernel leaves configured.
//
// What it cannot find: how fast the code is, and in which order a CPU with AMX
// adds, where that is not what Intel's manual says.
//
// No LLVM here: the runtime links this.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_LIB_BASE_AMX_EMULATOR_H
#define KVC_LIB_BASE_AMX_EMULATOR_H

#include "lib/base/Amx/Decode.h"

#include <string_view>

namespace kvc::amx {

/// Whether the instructions of a feature, by LLVM's name, are all known here:
/// "amx-tile", "amx-bf16" and "amx-int8".
bool emulates(std::string_view feature);

/// From now on AMX instructions of all threads that do not block SIGILL run,
/// on a CPU with FMA. Does nothing on a CPU that executes them: there they
/// raise no signal. May be called again, and from any thread: if somebody has
/// taken the signal since, they come second. Instructions that are not AMX are
/// left to whoever had the signal before, and so is the signal then, until the
/// next call.
void install();

/// What a kernel did wrong, in one line; "" if nothing.
struct Finding {
  char text[192] = "";

  bool empty() const { return !*text; }
  bool operator==(std::string_view other) const { return text == other; }
};

/// To be called where a kernel ends, by the thread that ran it: the first thing
/// that it did wrong. Releases the thread's tiles.
Finding finish();

/// What was executed since the process began, by all threads.
struct Counters {
  uint64_t ops[kOps] = {};
  uint64_t bytesLoaded = 0, bytesStored = 0; ///< of rows of tiles
  uint64_t of(Op op) const { return ops[size_t(op)]; }
};
Counters counters();

} // namespace kvc::amx

#endif // KVC_LIB_BASE_AMX_EMULATOR_H
