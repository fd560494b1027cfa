// A row's scale leaves the sums that it is constant along.
// RUN: kvc-opt %s -kvc-fold-scales -split-input-file | FileCheck %s

kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all)
  : !kvc.cache<heads = 2, k = 64 by #kvc.int<8, scale = f16>, v = 32 by #kvc.int<8, scale = f32>, layout = #kvc.paged<16, HND>>

// CHECK-LABEL: tile.kernel @s.attend
tile.kernel @s.attend "attend" of @s dtype f16 schedule(#kvc.core_schedule<rows = 2>) {
  %q = tile.load_query scale 0.125 : tensor<?x64xf32>
  %init = tile.softmax_init : !tile.softmax<32>
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<32>) {
  ^bb0(%t: !tile.tokens, %state: !tile.softmax<32>):
    // CHECK: %[[KC:.*]], %[[KS:.*]] = tile.load k
    // CHECK-NOT: tile.scale %
    // CHECK: %[[K:.*]] = tile.convert %[[KC]] :
    // CHECK: %[[D:.*]] = tile.dot %{{.*}}, %[[K]] :
    // CHECK: %[[S:.*]] = tile.scale_tokens %[[D]] by %[[KS]] : tensor<?x16xf32>, tensor<16x1xf16>
    // CHECK: %[[C:.*]] = tile.logits %[[S]], %{{.*}} {
    // CHECK: %[[M:.*]] = tile.mask %[[C]],
    // CHECK: %[[P:.*]], %[[STEP:.*]] = tile.softmax_step %[[M]],
    %kc, %ks = tile.load k %t : tensor<16x64xi8>, tensor<16x1xf16>
    %kx = tile.convert %kc : tensor<16x64xi8> -> tensor<16x64xf32>
    %k = tile.scale %kx by %ks : tensor<16x64xf32>, tensor<16x1xf16>
    %s0 = tile.dot %q, %k : tensor<?x64xf32>, tensor<16x64xf32> -> tensor<?x16xf32>
    %s1 = tile.logits %s0, %t { ^bb0(%s_: f32, %p_: i32, %t_: i32, %ctx: i32, %h_: i32, %g_: i32): %cap_ = arith.constant 30.0 : f32 %x_ = arith.divf %s_, %cap_ : f32 %y_ = math.tanh %x_ : f32 %z_ = arith.mulf %cap_, %y_ : f32 kvc.yield %z_ : f32 } : tensor<?x16xf32>
    %s2 = tile.mask %s1, %t read(#kvc.read_all) : tensor<?x16xf32>
    %p, %next = tile.softmax_step %s2, %state : tensor<?x16xf32>, !tile.softmax<32>
    // CHECK: %[[VC:.*]], %[[VS:.*]] = tile.load v
    // CHECK-NOT: tile.scale %
    // CHECK-DAG: %[[PS:.*]] = tile.scale_tokens %[[P]] by %[[VS]] : tensor<?x16xf32>, tensor<16x1xf32>
    // CHECK-DAG: %[[V:.*]] = tile.convert %[[VC]] :
    // CHECK: tile.accumulate %[[PS]], %[[V]], %[[STEP]] :
    // CHECK-NOT: tile.scale %
    %vc, %vs = tile.load v %t : tensor<16x32xi8>, tensor<16x1xf32>
    %vx = tile.convert %vc : tensor<16x32xi8> -> tensor<16x32xf32>
    %v = tile.scale %vx by %vs : tensor<16x32xf32>, tensor<16x1xf32>
    %acc = tile.accumulate %p, %v, %next : tensor<?x16xf32>, tensor<16x32xf32>, !tile.softmax<32>
    tile.yield %acc : !tile.softmax<32>
  }
  tile.store_partial %end : !tile.softmax<32>
}

// -----

// Codecs without scales stay as they are.
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all)
  : !kvc.cache<heads = 2, k = 64 by #kvc.float<f16>, v = 32 by #kvc.float<f16>, layout = #kvc.paged<16, HND>>
// CHECK-LABEL: tile.kernel @s.plain
// CHECK-NOT: scale_tokens
// CHECK: tile.accumulate
// CHECK-NOT: scale_tokens
// CHECK: tile.store_partial
tile.kernel @s.plain "attend" of @s dtype f16 schedule(#kvc.core_schedule<rows = 2>) {
  %q = tile.load_query scale 0.125 : tensor<?x64xf32>
  %init = tile.softmax_init : !tile.softmax<32>
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<32>) {
  ^bb0(%t: !tile.tokens, %state: !tile.softmax<32>):
    %kc = tile.load k %t : tensor<16x64xf16>
    %k = tile.convert %kc : tensor<16x64xf16> -> tensor<16x64xf32>
    %s0 = tile.dot %q, %k : tensor<?x64xf32>, tensor<16x64xf32> -> tensor<?x16xf32>
    %p, %next = tile.softmax_step %s0, %state : tensor<?x16xf32>, !tile.softmax<32>
    %vc = tile.load v %t : tensor<16x32xf16>
    %v = tile.convert %vc : tensor<16x32xf16> -> tensor<16x32xf32>
    %acc = tile.accumulate %p, %v, %next : tensor<?x16xf32>, tensor<16x32xf32>, !tile.softmax<32>
    tile.yield %acc : !tile.softmax<32>
  }
  tile.store_partial %end : !tile.softmax<32>
}

// -----

// A scale that cannot leave its sum stays with the elements; a backend then
// refuses the kernel, so nobody pays for it unawares.
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all)
  : !kvc.cache<heads = 2, k = 64 by #kvc.int<8, scale = f16>, v = 32 by #kvc.float<f16>, layout = #kvc.paged<16, HND>>
// CHECK-LABEL: tile.kernel @s.transposed
// CHECK: %[[X:.*]] = tile.scale %{{.*}} by
// CHECK: tile.dot %[[X]],
tile.kernel @s.transposed "attend" of @s dtype f16 schedule(#kvc.core_schedule<rows = 2>) {
  %q = tile.load_query scale 0.125 : tensor<16x64xf32>
  %init = tile.softmax_init : !tile.softmax<16>
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<16>) {
  ^bb0(%t: !tile.tokens, %state: !tile.softmax<16>):
    %kc, %ks = tile.load k %t : tensor<16x64xi8>, tensor<16x1xf16>
    %kx = tile.convert %kc : tensor<16x64xi8> -> tensor<16x64xf32>
    %k = tile.scale %kx by %ks : tensor<16x64xf32>, tensor<16x1xf16>
    %s0 = tile.dot %k, %q : tensor<16x64xf32>, tensor<16x64xf32> -> tensor<16x16xf32>
    %p, %next = tile.softmax_step %s0, %state : tensor<16x16xf32>, !tile.softmax<16>
    tile.yield %next : !tile.softmax<16>
  }
  tile.store_partial %end : !tile.softmax<16>
}

// -----

// A factor per channel goes into the query, once per tile; a zero stays.
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all)
  : !kvc.cache<heads = 2, k = 64 by #kvc.int<2, scale = f16 zero = f16 tokens = 32 channels = 1>, v = 32 by #kvc.float<f16>, layout = #kvc.paged<32, HND>>
// CHECK-LABEL: tile.kernel @s.channels
// CHECK: %[[Q:.*]] = tile.load_query
// CHECK: %[[KC:.*]], %[[KS:.*]], %{{.*}} = tile.load k
// CHECK: %[[K:.*]] = tile.convert %[[KC]] unsigned
// CHECK: %[[QS:.*]] = tile.scale %[[Q]] by %[[KS]] : tensor<?x64xf32>, tensor<1x64xf16>
// CHECK: tile.dot %[[QS]], %[[K]] :
tile.kernel @s.channels "attend" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 32, rows = 2>) {
  %q = tile.load_query scale 0.125 : tensor<?x64xf32>
  %init = tile.softmax_init : !tile.softmax<32>
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<32>) {
  ^bb0(%t: !tile.tokens, %state: !tile.softmax<32>):
    %kc, %ks, %kz = tile.load k %t : tensor<32x64xi2>, tensor<1x64xf16>, tensor<1x64xf16>
    %kx = tile.convert %kc unsigned : tensor<32x64xi2> -> tensor<32x64xf32>
    %k = tile.scale %kx by %ks : tensor<32x64xf32>, tensor<1x64xf16>
    %s0 = tile.dot %q, %k : tensor<?x64xf32>, tensor<32x64xf32> -> tensor<?x32xf32>
    %p, %next = tile.softmax_step %s0, %state : tensor<?x32xf32>, !tile.softmax<32>
    tile.yield %next : !tile.softmax<32>
  }
  tile.store_partial %end : !tile.softmax<32>
}

// -----

// Scales that may be negative stay, for who multiplies integers wants the largest
// of scaled probabilities; so do those of a byte, which no product takes.
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all)
  : !kvc.cache<heads = 2, k = 64 by #kvc.float<f8E4M3FN, scale = f8E8M0FNU>, v = 32 by #kvc.int<8, scale = f16 extreme = true>, layout = #kvc.paged<16, HND>>
// CHECK-LABEL: tile.kernel @s.signed
// CHECK-NOT: scale_tokens
// CHECK: %[[K:.*]] = tile.scale %{{.*}} by %{{.*}} : tensor<16x64xf32>, tensor<16x1xf8E8M0FNU>
// CHECK: tile.dot %{{.*}}, %[[K]]
// CHECK: %[[V:.*]] = tile.scale %{{.*}} by %{{.*}} signed : tensor<16x32xf32>, tensor<16x1xf16>
// CHECK-NOT: scale_tokens
// CHECK: tile.accumulate %{{.*}}, %[[V]]
tile.kernel @s.signed "attend" of @s dtype f16 schedule(#kvc.core_schedule<rows = 2>) {
  %q = tile.load_query scale 0.125 : tensor<?x64xf32>
  %init = tile.softmax_init : !tile.softmax<32>
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<32>) {
  ^bb0(%t: !tile.tokens, %state: !tile.softmax<32>):
    %kc, %ks = tile.load k %t : tensor<16x64xf8E4M3FN>, tensor<16x1xf8E8M0FNU>
    %kx = tile.convert %kc : tensor<16x64xf8E4M3FN> -> tensor<16x64xf32>
    %k = tile.scale %kx by %ks : tensor<16x64xf32>, tensor<16x1xf8E8M0FNU>
    %s0 = tile.dot %q, %k : tensor<?x64xf32>, tensor<16x64xf32> -> tensor<?x16xf32>
    %s1 = tile.mask %s0, %t read(#kvc.read_all) : tensor<?x16xf32>
    %p, %next = tile.softmax_step %s1, %state : tensor<?x16xf32>, !tile.softmax<32>
    %vc, %vs = tile.load v %t : tensor<16x32xi8>, tensor<16x1xf16>
    %vx = tile.convert %vc : tensor<16x32xi8> -> tensor<16x32xf32>
    %v = tile.scale %vx by %vs signed : tensor<16x32xf32>, tensor<16x1xf16>
    %acc = tile.accumulate %p, %v, %next : tensor<?x16xf32>, tensor<16x32xf32>, !tile.softmax<32>
    tile.yield %acc : !tile.softmax<32>
  }
  tile.store_partial %end : !tile.softmax<32>
}
