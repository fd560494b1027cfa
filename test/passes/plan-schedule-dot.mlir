// RUN: kvc-opt %s -kvc-plan-schedule | FileCheck %s

// A machine that multiplies pairs of bf16, and pages smaller than a tile.
!cache = !kvc.cache<heads = 2, k = 64 by #kvc.float<bf16>, v = 64 by #kvc.float<f16>, layout = #kvc.paged<8, HND>>
// CHECK: dot = [bf16]
module attributes {kvc.target = #kvc.target<"t", lanes = 16, registers = 32 dot = [bf16]>} {
  kvc.store @dot layers 0 to 30 heads 0 to 2 of 2 queries 6 read(#kvc.read_all) : !cache
  // CHECK: @dot.attend.decode
  // CHECK-NEXT: schedule(#kvc.core_schedule<tokens = 8, {{.*}}dot = true>) :
  func.func @dot.attend(%q: tensor<?x6x64xbf16>, %cache: !cache, %batch: !kvc.batch) -> (tensor<?x6x64xbf16>, tensor<?x6xf32>) {
    %o, %lse = kvc.attend @dot, %q, %cache, %batch scale 0.125 : tensor<?x6x64xbf16>, !cache -> tensor<?x6x64xbf16>, tensor<?x6xf32>
    return %o, %lse : tensor<?x6x64xbf16>, tensor<?x6xf32>
  }
}
