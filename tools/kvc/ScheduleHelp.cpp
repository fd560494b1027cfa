//===- ScheduleHelp.cpp - kvc help schedule -------------------------------===//
#include "lib/driver/Compiler/ScheduleHelp.h"
#include "tools/kvc/Cli.h"

static constexpr const char *kAbove = R"(SCHEDULES

A schedule says how an attend kernel runs, never what it computes. The compiler
chooses one for each kernel and target; `kvc explain` prints it. A field that is
not printed has its default.

  --schedule=KERNEL.FIELD=VALUE

overrides a field of the kernels whose names match KERNEL, a pattern with `*`
and `?`; kernels are STORE.attend.decode (few new tokens a sequence) and
STORE.attend.prefill (many). It may be repeated, and the later one wins. VALUE is
a whole number, or for a flag true or false. A schedule that a target cannot run
is an error [E-SCHEDULE], and so is a field that no target of the command has:
CPUs and GPUs have fields of their own. `kvc verify` and `kvc bench` take the
same flag: whatever it is set to, results stay right, and bench says whether they
come sooner. `kvc inspect` shows the registers of a GPU's kernels, and how many
CTAs then fit an SM.

)";

static constexpr const char *kBelow = R"(
EXAMPLES
  kvc explain specs/examples/smollm2.json --schedule='*.decode.split=4096'
  kvc bench specs/examples/smollm2.json --schedule='*.decode.prefetch=0'
  kvc inspect out.kvca
)";

std::string kvc::cli::scheduleHelp() {
  return kAbove + scheduleFieldsHelp() + kBelow;
}
