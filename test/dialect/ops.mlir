// Every op, attribute and type of the kvc dialect survives printing and parsing.
// RUN: kvc-opt %s | kvc-opt | FileCheck %s
// RUN: kvc-opt %s --mlir-print-op-generic | kvc-opt | FileCheck %s

!bf16 = !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
!latent = !kvc.cache<heads = 1, k = 576 by #kvc.float<bf16>, v = 512 of k, layout = #kvc.paged<64, HND>>
!mixed = !kvc.cache<heads = 1, k = 576 by #kvc.int<8, scale = f16>, v = 8 by #kvc.float<f32>, layout = #kvc.paged<256, NHD>>

// CHECK: module attributes {kvc.spec = "demo", kvc.target = #kvc.target<"x86-64-v4", lanes = 16, registers = 32 dot = [bf16, i8] matrix = [bf16, f16]>}
module attributes {kvc.spec = "demo",
    kvc.target = #kvc.target<"x86-64-v4", lanes = 16, registers = 32 dot = [bf16, i8] matrix = [bf16, f16]>} {

// CHECK: kvc.store @full layers 0 to 30 heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
kvc.store @full layers 0 to 30 heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !bf16
// CHECK: kvc.store @some.layers layers 30 to 31 heads 2 to 3 of 3 queries 9 read(#kvc.sliding_window<sink = 4, recent = 1020>) : !kvc.cache<heads = 1, k = 576 by #kvc.int<8, scale = f16>, v = 8 by #kvc.float<f32>, layout = #kvc.paged<256, NHD>>
kvc.store @some.layers layers 30 to 31 heads 2 to 3 of 3 queries 9
  read(#kvc.sliding_window<sink = 4, recent = 1020>) : !mixed
// CHECK: kvc.store @flat layers 31 to 32 heads 0 to 1 of 1 queries 1 read(#kvc.read_all) : !kvc.cache<heads = 1, k = 8 by #kvc.float<f16>, v = 8 by #kvc.int<8, scale = f32>, layout = #kvc.contiguous<NHD>>
kvc.store @flat layers 31 to 32 heads 0 to 1 of 1 queries 1 read(#kvc.read_all)
  : !kvc.cache<heads = 1, k = 8 by #kvc.float<f16>, v = 8 by #kvc.int<8, scale = f32>, layout = #kvc.contiguous<NHD>>
// CHECK: kvc.store @eight {{.*}}, k = 64 by #kvc.float<f8E4M3FN, scale = f32 channels = 16>, v = 64 by #kvc.float<f8E5M2>, {{.*}}
kvc.store @eight layers 33 to 34 heads 0 to 1 of 1 queries 1 read(#kvc.read_all)
  : !kvc.cache<heads = 1, k = 64 by #kvc.float<f8E4M3FN, scale = f32 channels = 16>, v = 64 by #kvc.float<f8E5M2>, layout = #kvc.contiguous<NHD>>
// CHECK: kvc.store @four {{.*}}, k = 64 by #kvc.float<f4E2M1FN, scale = f8E8M0FNU channels = 32>, v = 64 by #kvc.int<4, scale = f16 channels = 32 extreme = true exact = true rounding = half_up>, {{.*}}
kvc.store @four layers 34 to 35 heads 0 to 1 of 1 queries 1 read(#kvc.read_all)
  : !kvc.cache<heads = 1, k = 64 by #kvc.float<f4E2M1FN, scale = f8E8M0FNU channels = 32>, v = 64 by #kvc.int<4, scale = f16 channels = 32 extreme = true exact = true rounding = half_up>, layout = #kvc.contiguous<NHD>>
// CHECK: kvc.store @flatter {{.*}} layout = #kvc.contiguous<HND>>
kvc.store @flatter layers 32 to 33 heads 0 to 1 of 1 queries 1 read(#kvc.read_all)
  : !kvc.cache<heads = 1, k = 8 by #kvc.float<f16>, v = 8 by #kvc.float<f16>, layout = #kvc.contiguous<HND>>
// CHECK: kvc.store @even layers 0 to 41 step 2 heads
kvc.store @even layers 0 to 42 step 2 heads 0 to 1 of 1 queries 1 read(#kvc.read_all)
  : !kvc.cache<heads = 1, k = 8 by #kvc.float<f16>, v = 8 by #kvc.float<f16>, layout = #kvc.contiguous<HND>>
// CHECK: kvc.store @few layers [5, 11, 4095] heads
kvc.store @few layers [5, 11, 4095] heads 0 to 1 of 1 queries 1 read(#kvc.read_all)
  : !kvc.cache<heads = 1, k = 8 by #kvc.float<f16>, v = 8 by #kvc.float<f16>, layout = #kvc.contiguous<HND>>
// CHECK: kvc.store @two layers [0, 5] heads
kvc.store @two layers 0 to 10 step 5 heads 0 to 1 of 1 queries 1 read(#kvc.read_all)
  : !kvc.cache<heads = 1, k = 8 by #kvc.float<f16>, v = 8 by #kvc.float<f16>, layout = #kvc.contiguous<HND>>
// CHECK: kvc.store @neighbours layers 3 to 6 heads
kvc.store @neighbours layers [3, 4, 5] heads 0 to 1 of 1 queries 1 read(#kvc.read_all)
  : !kvc.cache<heads = 1, k = 8 by #kvc.float<f16>, v = 8 by #kvc.float<f16>, layout = #kvc.contiguous<HND>>

// CHECK-LABEL: func.func @append(
// CHECK-SAME: %[[K:.*]]: tensor<?x3x64xbf16>, %[[V:.*]]: tensor<?x3x64xbf16>, %[[SLOT:.*]]: tensor<?xi64>, %[[CACHE:.*]]: !kvc.cache<
func.func @append(%k: tensor<?x3x64xbf16>, %v: tensor<?x3x64xbf16>, %slot: tensor<?xi64>, %cache: !bf16) {
  // CHECK: kvc.append @full, %[[K]], %[[V]] at %[[SLOT]] into %[[CACHE]] : tensor<?x3x64xbf16>, tensor<?x3x64xbf16>, tensor<?xi64>, <heads = 3
  kvc.append @full, %k, %v at %slot into %cache : tensor<?x3x64xbf16>, tensor<?x3x64xbf16>, tensor<?xi64>, !bf16
  return
}

// V is the beginning of K's rows, so none of its own are given.
// CHECK: kvc.store @latent {{.*}} : !kvc.cache<heads = 1, k = 576 by #kvc.float<bf16>, v = 512 of k, layout = #kvc.paged<64, HND>>
kvc.store @latent layers 0 to 61 heads 0 to 1 of 1 queries 128 read(#kvc.read_all) : !latent
// CHECK-LABEL: func.func @append_latent(
// CHECK: kvc.append @latent, %{{.*}} at %{{.*}} into %{{.*}} : tensor<?x1x576xbf16>, tensor<?xi64>, <heads = 1
func.func @append_latent(%k: tensor<?x1x576xbf16>, %slot: tensor<?xi64>, %cache: !latent) {
  kvc.append @latent, %k at %slot into %cache : tensor<?x1x576xbf16>, tensor<?xi64>, !latent
  return
}

// CHECK-LABEL: func.func @gather(
// CHECK-SAME: %[[SLOT:.*]]: tensor<?xi64>, %[[CACHE:.*]]: !kvc.cache<
func.func @gather(%slot: tensor<?xi64>, %cache: !bf16) -> (tensor<?x3x64xbf16>, tensor<?x3x64xbf16>) {
  // CHECK: kvc.gather @full, %[[SLOT]] from %[[CACHE]] : tensor<?xi64>, <heads = 3{{.*}} -> tensor<?x3x64xbf16>, tensor<?x3x64xbf16>
  %k, %v = kvc.gather @full, %slot from %cache : tensor<?xi64>, !bf16 -> tensor<?x3x64xbf16>, tensor<?x3x64xbf16>
  return %k, %v : tensor<?x3x64xbf16>, tensor<?x3x64xbf16>
}

// CHECK-LABEL: func.func @attend(
// CHECK-SAME: %[[Q:.*]]: tensor<?x9x64xbf16>, %[[CACHE:.*]]: !kvc.cache<{{.*}}>, %[[BATCH:.*]]: !kvc.batch)
func.func @attend(%q: tensor<?x9x64xbf16>, %cache: !bf16, %batch: !kvc.batch) -> (tensor<?x9x64xbf16>, tensor<?x9xf32>) {
  // CHECK: kvc.attend @full, %[[Q]], %[[CACHE]], %[[BATCH]] scale 1.250000e-01 : tensor<?x9x64xbf16>, <{{.*}}> -> tensor<?x9x64xbf16>, tensor<?x9xf32>
  %o, %lse = kvc.attend @full, %q, %cache, %batch scale 0.125 : tensor<?x9x64xbf16>, !bf16 -> tensor<?x9x64xbf16>, tensor<?x9xf32>
  return %o, %lse : tensor<?x9x64xbf16>, tensor<?x9xf32>
}

// CHECK-LABEL: func.func @attend_in_parts(
func.func @attend_in_parts(%q: tensor<?x9x576xf16>, %cache: !mixed, %batch: !kvc.batch) -> (tensor<?x?x9x8xf32>, tensor<?x?x9xf32>) {
  // CHECK: kvc.attend @some.layers, {{.*}} scale 1.250000e-01 splits 2048
  // CHECK-SAME: schedule(#kvc.core_schedule<tokens = 64, rows = 3, keys = 2, queries = 16, split = 2048, prefetch = 8, level = 1, pack = true, dot = true>) logits {
  // CHECK: math.tanh
  // CHECK: } :
  %o, %lse = kvc.attend @some.layers, %q, %cache, %batch scale 0.125 splits 2048
    schedule(#kvc.core_schedule<tokens = 64, rows = 3, keys = 2, queries = 16, split = 2048, prefetch = 8, level = 1, pack = true, dot = true>)
    logits { ^bb0(%s_: f32, %p_: i32, %t_: i32, %ctx: i32, %h_: i32, %g_: i32): %cap_ = arith.constant 30.0 : f32 %x_ = arith.divf %s_, %cap_ : f32 %y_ = math.tanh %x_ : f32 %z_ = arith.mulf %cap_, %y_ : f32 kvc.yield %z_ : f32 } : tensor<?x9x576xf16>, !mixed -> tensor<?x?x9x8xf32>, tensor<?x?x9xf32>
  return %o, %lse : tensor<?x?x9x8xf32>, tensor<?x?x9xf32>
}

// CHECK-LABEL: func.func @attend_in_one_part(
func.func @attend_in_one_part(%q: tensor<?x9x64xf32>, %cache: !bf16, %batch: !kvc.batch) -> (tensor<?x?x9x64xf32>, tensor<?x?x9xf32>) {
  // Fields left out have their defaults; what has its default is not printed.
  // CHECK: splits 4096 schedule(#kvc.core_schedule<rows = 2>) :
  %o, %lse = kvc.attend @full, %q, %cache, %batch scale 0.125 splits 4096 schedule(#kvc.core_schedule<rows = 2, tokens = 16>)
    : tensor<?x9x64xf32>, !bf16 -> tensor<?x?x9x64xf32>, tensor<?x?x9xf32>
  return %o, %lse : tensor<?x?x9x64xf32>, tensor<?x?x9xf32>
}

// CHECK-LABEL: func.func @merge(
// CHECK-SAME: %[[O:.*]]: tensor<?x?x9x64xf32>, %[[LSE:.*]]: tensor<?x?x9xf32>)
func.func @merge(%po: tensor<?x?x9x64xf32>, %plse: tensor<?x?x9xf32>) -> (tensor<?x9x64xbf16>, tensor<?x9xf32>) {
  // CHECK: kvc.merge @full, %[[O]], %[[LSE]] : tensor<?x?x9x64xf32>, tensor<?x?x9xf32> -> tensor<?x9x64xbf16>, tensor<?x9xf32>
  %o, %lse = kvc.merge @full, %po, %plse : tensor<?x?x9x64xf32>, tensor<?x?x9xf32> -> tensor<?x9x64xbf16>, tensor<?x9xf32>
  return %o, %lse : tensor<?x9x64xbf16>, tensor<?x9xf32>
}

// Facts without those between.
// CHECK: module attributes {kvc.target = #kvc.target<"sm_80", lanes = 32, registers = 255 shared = 166912>}
module attributes {kvc.target = #kvc.target<"sm_80", lanes = 32, registers = 255 shared = 166912>} {
}
}

// A cache keeps any streams, whose planes stand in their order; attention reads k and v.
// CHECK: kvc.store @three {{.*}} : !kvc.cache<heads = 3, index = 128 by #kvc.int<8, scale = f16>, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
kvc.store @three layers 0 to 1 heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !kvc.cache<heads = 3, index = 128 by #kvc.int<8, scale = f16>, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
