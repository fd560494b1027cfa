// An attend becomes decode, prefill and merge, each with its schedule. Figures
// that tuning may move are left open here.
// RUN: kvc-opt %s -kvc-plan-schedule -split-input-file | FileCheck %s
// RUN: kvc-opt %s -kvc-plan-schedule="override=*.decode.rows=4,full.*.split=0" -split-input-file | FileCheck %s --check-prefix=OVER
// RUN: kvc-opt %s -kvc-plan-schedule -kvc-plan-schedule -split-input-file | FileCheck %s

!cache = !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
// CHECK: kvc.target
module attributes {kvc.target = #kvc.target<"x86-64-v4", lanes = 16, registers = 32>} {
  kvc.store @full layers 0 to 30 heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !cache

  // CHECK-LABEL: func.func @full.append(
  // CHECK-NEXT: kvc.append
  func.func @full.append(%k: tensor<?x3x64xbf16>, %v: tensor<?x3x32xbf16>, %slot: tensor<?xi64>, %cache: !cache) {
    kvc.append @full, %k, %v at %slot into %cache : tensor<?x3x64xbf16>, tensor<?x3x32xbf16>, tensor<?xi64>, !cache
    return
  }

  // The arguments may come in any order, and there may be more than are used.
  // CHECK-NOT: func.func @full.attend(
  // CHECK-LABEL: func.func @full.attend.decode(
  // CHECK-SAME: %[[CACHE:[^:]*]]: !kvc.cache<{{.*}}>, %[[Q:[^:]*]]: tensor<?x9x64xbf16>, %[[BATCH:[^:]*]]: !kvc.batch, %{{.*}}: i32) -> (tensor<?x?x9x32xf32>, tensor<?x?x9xf32>)
  // CHECK-NEXT: %[[O:.*]], %[[LSE:.*]] = kvc.attend @full, %[[Q]], %[[CACHE]], %[[BATCH]] scale 1.250000e-01 splits 2048
  // CHECK-SAME: schedule(#kvc.core_schedule<rows = 3, {{.*}}queries = 16, split = 2048, {{.*}}>) logits {
  // CHECK: } : {{.*}} -> tensor<?x?x9x32xf32>, tensor<?x?x9xf32>
  // CHECK-NEXT: return %[[O]], %[[LSE]] : tensor<?x?x9x32xf32>, tensor<?x?x9xf32>
  // OVER-LABEL: func.func @full.attend.decode(
  // OVER-NEXT: splits 9223372036854775807 schedule(#kvc.core_schedule<rows = 4, {{.*}}queries = 16, prefetch = {{.*}}>) logits {

  // CHECK-LABEL: func.func @full.attend.prefill(
  // CHECK-SAME: -> (tensor<?x?x9x32xf32>, tensor<?x?x9xf32>)
  // CHECK-NEXT: kvc.attend @full, {{.*}} scale 1.250000e-01 splits [[SPLIT:[0-9]+]]
  // CHECK-SAME: schedule(#kvc.core_schedule<tokens = {{.*}}, queries = {{[0-9]+}}, split = [[SPLIT]], pack = true{{.*}}>) logits {
  // OVER-LABEL: func.func @full.attend.prefill(
  // OVER-NEXT: splits 9223372036854775807 schedule(#kvc.core_schedule<tokens = {{.*}}, queries = {{[0-9]+}}, pack = true{{.*}}>) logits {

  // CHECK-LABEL: func.func @full.merge(
  // CHECK-SAME: %[[PO:.*]]: tensor<?x?x9x32xf32>, %[[PL:.*]]: tensor<?x?x9xf32>) -> (tensor<?x9x32xbf16>, tensor<?x9xf32>)
  // CHECK-NEXT: %[[O:.*]], %[[LSE:.*]] = kvc.merge @full, %[[PO]], %[[PL]] : tensor<?x?x9x32xf32>, tensor<?x?x9xf32> -> tensor<?x9x32xbf16>, tensor<?x9xf32>
  // CHECK-NEXT: return %[[O]], %[[LSE]]
  func.func @full.attend(%cache: !cache, %q: tensor<?x9x64xbf16>, %batch: !kvc.batch, %unused: i32) -> (tensor<?x9x32xbf16>, tensor<?x9xf32>) {
    %o, %lse = kvc.attend @full, %q, %cache, %batch scale 0.125 logits { ^bb0(%s_: f32, %p_: i32, %t_: i32, %ctx: i32, %h_: i32, %g_: i32): %cap_ = arith.constant 30.0 : f32 %x_ = arith.divf %s_, %cap_ : f32 %y_ = math.tanh %x_ : f32 %z_ = arith.mulf %cap_, %y_ : f32 kvc.yield %z_ : f32 } : tensor<?x9x64xbf16>, !cache -> tensor<?x9x32xbf16>, tensor<?x9xf32>
    return %o, %lse : tensor<?x9x32xbf16>, tensor<?x9xf32>
  }
}

// -----

// 16 registers, a group of one, rows of 576 elements.
!cache = !kvc.cache<heads = 2, k = 576 by #kvc.float<bf16>, v = 512 by #kvc.float<bf16>, layout = #kvc.contiguous<HND>>
// CHECK: lanes = 8
module attributes {kvc.target = #kvc.target<"x86-64-v3", lanes = 8, registers = 16>} {
  kvc.store @full layers 0 to 30 heads 0 to 2 of 2 queries 2 read(#kvc.read_all) : !cache
  // CHECK: @full.attend.decode
  // One row, so many keys, to cover the latency of the multiply-add.
  // CHECK-NEXT: schedule(#kvc.core_schedule<keys = 8, queries = 16, split = 2048, {{.*}}>) :
  // CHECK: @full.attend.prefill
  // CHECK-NEXT: schedule(#kvc.core_schedule<tokens = {{.*}}, pack = true{{.*}}>) :
  // Two stores, two merges.
  // CHECK: @full.merge
  // OVER: @full.merge
  func.func @full.attend(%q: tensor<?x2x576xbf16>, %cache: !cache, %batch: !kvc.batch) -> (tensor<?x2x512xbf16>, tensor<?x2xf32>) {
    %o, %lse = kvc.attend @full, %q, %cache, %batch scale 0.125 : tensor<?x2x576xbf16>, !cache -> tensor<?x2x512xbf16>, tensor<?x2xf32>
    return %o, %lse : tensor<?x2x512xbf16>, tensor<?x2xf32>
  }
  kvc.store @more layers 30 to 31 heads 0 to 2 of 2 queries 32 read(#kvc.read_all) : !cache
  // CHECK: @more.attend.decode
  // CHECK-NEXT: schedule(#kvc.core_schedule<rows = 4, {{.*}}queries = 16, split = 2048, {{.*}}>) :
  // CHECK: @more.attend.prefill
  // CHECK: @more.merge
  // OVER: @more.attend.decode
  // OVER-NEXT: splits 2048 schedule(#kvc.core_schedule<rows = 4,
  func.func @more.attend(%q: tensor<?x32x576xbf16>, %cache: !cache, %batch: !kvc.batch) -> (tensor<?x32x512xbf16>, tensor<?x32xf32>) {
    %o, %lse = kvc.attend @more, %q, %cache, %batch scale 0.125 : tensor<?x32x576xbf16>, !cache -> tensor<?x32x512xbf16>, tensor<?x32xf32>
    return %o, %lse : tensor<?x32x512xbf16>, tensor<?x32xf32>
  }
}
