// Overrides that cannot be meant are errors, never ignored.
// RUN: not kvc-opt %s -kvc-plan-schedule="override=*.decode.rows" 2>&1 | FileCheck %s --check-prefix=FORM
// RUN: not kvc-opt %s -kvc-plan-schedule="override=rows=4" 2>&1 | FileCheck %s --check-prefix=FORM
// RUN: not kvc-opt %s -kvc-plan-schedule="override=*.decode.=4" 2>&1 | FileCheck %s --check-prefix=FORM
// RUN: not kvc-opt %s -kvc-plan-schedule="override=*.decode.rows=four" 2>&1 | FileCheck %s --check-prefix=FORM
// FORM: error: schedule override `{{.*}}` is not KERNEL.FIELD=VALUE
// RUN: not kvc-opt %s -kvc-plan-schedule="override=[.rows=4" 2>&1 | FileCheck %s --check-prefix=GLOB
// GLOB: error: schedule override `[.rows=4`: invalid glob pattern, unmatched '['
// RUN: not kvc-opt %s -kvc-plan-schedule="override=*.decode.row=4" 2>&1 | FileCheck %s --check-prefix=FIELD
// FIELD: error: schedule override `*.decode.row=4` of `s.attend.decode`: a schedule for CPUs has no field `row`; it has tokens, rows, keys,
// RUN: not kvc-opt %s -kvc-plan-schedule="override=*.decode.rows=17" 2>&1 | FileCheck %s --check-prefix=RANGE
// RANGE: error: schedule override `*.decode.rows=17` of `s.attend.decode`: schedule field `rows` must be in [1, 16], found 17
// RUN: not kvc-opt %s -kvc-plan-schedule="override=*.decode.tokens=24" 2>&1 | FileCheck %s --check-prefix=WHOLE
// WHOLE: error: schedule override `*.decode.tokens=24` of `s.attend.decode`: `tokens` divides `split`; found tokens = 24, split = 2048
// RUN: not kvc-opt %s -kvc-plan-schedule="override=*.decoed.rows=4" 2>&1 | FileCheck %s --check-prefix=NONE
// RUN: not kvc-opt %s -kvc-plan-schedule="override=*.decode.rows=4,s.merge.rows=4" 2>&1 | FileCheck %s --check-prefix=NONE
// NONE: error: schedule override `{{\*.decoed|s.merge}}.rows=4` matches no kernel that has a schedule; those are `s.attend.decode` and `s.attend.prefill`

// What no loop of the target can run is an error of the override as well.
// RUN: not kvc-opt %s -kvc-plan-schedule="override=*.decode.keys=3" 2>&1 | FileCheck %s --check-prefix=LEGAL
// LEGAL: error: schedule override `*.decode.keys=3` of `s.attend.decode`: `keys` divides `tokens`; found tokens = {{[0-9]+}}, keys = 3

// In order: 2400 is a multiple of 16 and of 24, 2048 is not.
// RUN: kvc-opt %s -kvc-plan-schedule="override=*.decode.split=2400,*.decode.tokens=24,*.decode.prefetch=24,*.decode.pack=1,*.decode.level=1,*.decode.queries=2" | FileCheck %s
// CHECK: splits 2400 schedule(#kvc.core_schedule<tokens = 24, {{.*}}queries = 2, split = 2400, prefetch = 24, level = 1, pack = true>)

!cache = !kvc.cache<heads = 2, k = 64 by #kvc.float<bf16>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
module attributes {kvc.target = #kvc.target<"t", lanes = 16, registers = 32>} {
  kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 2 read(#kvc.read_all) : !cache
  func.func @s.attend(%q: tensor<?x2x64xbf16>, %cache: !cache, %batch: !kvc.batch) -> (tensor<?x2x64xbf16>, tensor<?x2xf32>) {
    %o, %lse = kvc.attend @s, %q, %cache, %batch scale 0.125 : tensor<?x2x64xbf16>, !cache -> tensor<?x2x64xbf16>, tensor<?x2xf32>
    return %o, %lse : tensor<?x2x64xbf16>, tensor<?x2xf32>
  }
}
