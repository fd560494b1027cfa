// The whole way from kvc to tile, for a spec with two codecs and a softcap.
// RUN: kvc-opt %s -kvc-to-tile | FileCheck %s
// The tile level is for no machine: no vector, no address, no thread; and what
// came before it is gone.
// RUN: kvc-opt %s -kvc-to-tile | FileCheck %s --check-prefix=LEVEL --implicit-check-not='vector<' --implicit-check-not=memref --implicit-check-not='llvm.' --implicit-check-not=gpu --implicit-check-not=scf. --implicit-check-not=func. --implicit-check-not=kvc.attend --implicit-check-not=kvc.append --implicit-check-not=kvc.merge
// LEVEL: tile.kernel
// Nothing is left for a second run, nor for the usual clean-ups to break.
// RUN: kvc-opt %s -kvc-to-tile > %t.once
// RUN: kvc-opt %s -kvc-to-tile -kvc-to-tile | diff %t.once -
// RUN: kvc-opt %s -kvc-to-tile -canonicalize -cse | FileCheck %s

// CHECK: tile.kernel @full.append "append" of @full dtype bf16
// CHECK: tile.kernel @full.attend.decode "attend" of @full dtype bf16
// CHECK: tile.convert %{{[^ ]*}} : tensor<{{.*}}xi8>
// CHECK: tile.dot
// CHECK: tile.scale_tokens
// CHECK: tile.logits
// CHECK: tile.mask
// CHECK: tile.softmax_step
// CHECK: tile.accumulate
// CHECK: tile.kernel @full.attend.prefill "attend" of @full dtype bf16
// CHECK-NOT: scaled by
// CHECK: tile.kernel @full.merge "merge" of @full dtype bf16
!cache = !kvc.cache<heads = 3, k = 64 by #kvc.int<8, scale = f32>, v = 64 by #kvc.int<8, scale = f16>, layout = #kvc.paged<16, HND>>
module attributes {kvc.target = #kvc.target<"x86-64-v4", lanes = 16, registers = 32>} {
  kvc.store @full layers 0 to 30 heads 0 to 3 of 3 queries 9 read(#kvc.sliding_window<sink = 4, recent = 1020>) : !cache
  func.func @full.append(%k: tensor<?x3x64xbf16>, %v: tensor<?x3x64xbf16>, %slot: tensor<?xi64>, %cache: !cache) {
    kvc.append @full, %k, %v at %slot into %cache : tensor<?x3x64xbf16>, tensor<?x3x64xbf16>, tensor<?xi64>, !cache
    return
  }
  func.func @full.attend(%q: tensor<?x9x64xbf16>, %cache: !cache, %batch: !kvc.batch) -> (tensor<?x9x64xbf16>, tensor<?x9xf32>) {
    %o, %lse = kvc.attend @full, %q, %cache, %batch scale 0.125 logits { ^bb0(%s_: f32, %p_: i32, %t_: i32, %ctx: i32, %h_: i32, %g_: i32): %cap_ = arith.constant 30.0 : f32 %x_ = arith.divf %s_, %cap_ : f32 %y_ = math.tanh %x_ : f32 %z_ = arith.mulf %cap_, %y_ : f32 kvc.yield %z_ : f32 } : tensor<?x9x64xbf16>, !cache -> tensor<?x9x64xbf16>, tensor<?x9xf32>
    return %o, %lse : tensor<?x9x64xbf16>, tensor<?x9xf32>
  }
}
