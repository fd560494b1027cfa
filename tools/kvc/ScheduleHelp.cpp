//===- ScheduleHelp.cpp - kvc help schedule -------------------------------===//
#include "tools/kvc/Cli.h"

// dialect/KvcAttrs.cpp and the backends' checkSchedule() have the rules.
const char *const kvc::cli::kScheduleHelp = R"(SCHEDULES

A schedule says how an attend kernel runs, never what it computes. The compiler
chooses one for each kernel and target; `kvc explain` prints it. A field that is
not printed has its default.

  --schedule=KERNEL.FIELD=VALUE

overrides a field of the kernels whose names match KERNEL, a pattern with `*`
and `?`; kernels are STORE.attend.decode (few new tokens a sequence) and
STORE.attend.prefill (many). It may be repeated, and the later one wins. A value
that a target cannot have is an error [E-SCHEDULE]; a field of the other kind of
machine is kept and changes nothing. VALUE is a whole number; for a flag all but
0 is 1. `kvc verify` and `kvc bench` take the same flag: whatever it is set to,
results stay right, and bench says whether they come sooner.

EVERY TARGET
  tokens    cached tokens of a tile: 1 to 256. CPU decode: a power of two; CPU
            prefill: a multiple of 2 and of `rows`, with AMX of 32. GPU, where it
            is what one warp takes in a step: 16, 32 or 64; without `dot` 8, 16
            or 32. Default 16
  rows      query rows (new tokens x q heads of a kv head) of a tile. CPU: 1 to
            16; GPU: 1 to 128, a multiple of 8; without `dot` at most 8. Default 1
  queries   most new tokens of a sequence that one work tile takes: 1 to 1024.
            Default 1
  split     cached tokens of a work tile: long sequences are cut at its multiples
            and the splits are merged, which occupies more threads or SMs and
            costs some writing. 0 (never cut), or a multiple of `tokens` (GPU: of
            `tokens` x `warps`) to 1048576. Default 0
  dot       flag: multiply what is stored as it is, where the target has products
            of that type (VNNI, bf16, AMX, tensor cores), rather than as f32.
            Default 0

CPU ONLY
  keys      cached tokens of a register tile: 1, 2, 4, 8 or 16, a divisor of
            `tokens`. Default 1
  prefetch  how many tokens ahead rows are prefetched: 0 (not at all) to
            3 x `tokens`. Default 0
  level     the cache level that they are prefetched to: 1 or 2. Default 2
  pack      flag: dequantize each tile into memory once and multiply from there
            (for many rows), rather than in registers (for few). Default 0

GPU ONLY
  warps     that share a work tile: 1 to 8. `kvc inspect` shows the registers and
            how many CTAs then fit an SM
  stages    steps whose tokens are in shared memory at a time: 2 to 16, as far as
            it goes: `tokens` x `warps` x `stages` x bytes of a token (with
            `warpsSplitQ` without `warps`), and the backend says how much there is
  warpsSplitQ  flag: each warp takes 16 of the work tile's rows, so `rows` is
            16 x `warps`, and all take every token (prefill); otherwise they take
            turns with the tokens and each has all rows. Default 0
  bulk      flag: one warp more copies the tokens, in bulk; sm_90 and later.
            Default 0

EXAMPLES
  kvc explain specs/examples/smollm2.json --schedule='*.decode.split=4096'
  kvc bench specs/examples/smollm2.json --schedule='*.decode.prefetch=0'
  kvc inspect out.kvca
)";
