// K and V that are not codes as they are stored: whatever element-wise ops make
// of loaded planes stands in shared memory as f32, and scalar FMAs multiply it.
// RUN: kvc-opt %s -split-input-file -verify-diagnostics -kvc-lower-to-gpu=target=sm_90 | FileCheck %s --implicit-check-not=tile. --implicit-check-not='kvc.op = "Mma'

!cache = !kvc.cache<heads = 2, k = 64 by #kvc.int<4, scale = f16>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
!s = !tile.softmax<64>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache
// A code is taken out of the byte that has it, and its row's scale is loaded once
// for the eight channels of a lane.
// CHECK-LABEL: llvm.func @kvc_s_attend
// CHECK: %[[LOW:.*]] = arith.shrsi %{{.*}}, %{{.*}} : i32
// CHECK-NEXT: %[[CODE:.*]] = arith.sitofp %[[LOW]] : i32 to f32
// CHECK: %[[SCALE:.*]] = arith.extf %{{.*}} : f16 to f32
// CHECK: arith.mulf %[[CODE]], %[[SCALE]]
// CHECK-NOT: f16 to f32
// CHECK: kvc.op = "Sts128"
// CHECK: kvc.op = "Sts128"
// V, of bf16, is decoded beside it.
// CHECK: arith.extf %{{.*}} : bf16 to f32
// expected-remark@+1 {{K and V are decoded into rows of f32 in shared memory, element by element, and multiplied without tensor cores [R-DECODE]}}
tile.kernel @s.attend "attend" of @s dtype bf16 schedule(#kvc.warp_schedule<tokens = 16, rows = 4, queries = 16, dot = false, warps = 1, stages = 2>) {
  %q = tile.load_query scale 0.18 : tensor<?x64xf32>
  %init = tile.softmax_init : !s
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !s) {
  ^bb0(%t: !tile.tokens, %state: !s):
    %kc, %ks = tile.load k %t : tensor<16x64xi4>, tensor<16x1xf16>
    %kx = tile.convert %kc : tensor<16x64xi4> -> tensor<16x64xf32>
    %k = tile.scale %kx by %ks : tensor<16x64xf32>, tensor<16x1xf16>
    %x = tile.dot %q, %k : tensor<?x64xf32>, tensor<16x64xf32> -> tensor<?x16xf32>
    %m = tile.mask %x, %t read(#kvc.read_all) : tensor<?x16xf32>
    %p, %n = tile.softmax_step %m, %state : tensor<?x16xf32>, !s
    %vc = tile.load v %t : tensor<16x64xbf16>
    %v = tile.convert %vc : tensor<16x64xbf16> -> tensor<16x64xf32>
    %a = tile.accumulate %p, %v, %n : tensor<?x16xf32>, tensor<16x64xf32>, !s
    tile.yield %a : !s
  }
  tile.store_partial %end last {
    %begin = tile.softmax_init : !s
    %all = tile.for_splits init(%begin : !s) {
    ^bb0(%i: index, %before: !s):
      %after = tile.merge_step %i, %before : !s
      tile.yield %after : !s
    }
    tile.store_output %all : !s
  } : !s
}

// -----

!cache = !kvc.cache<heads = 2, c = 128 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
!s = !tile.softmax<64>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache
// K and V are parts of one stream's rows.
// CHECK-LABEL: llvm.func @kvc_s_attend
// CHECK: arith.extf %{{.*}} : bf16 to f32
// CHECK: kvc.op = "Sts128"
// expected-remark@+1 {{K and V are decoded into rows of f32}}
tile.kernel @s.attend "attend" of @s dtype bf16 schedule(#kvc.warp_schedule<tokens = 16, rows = 4, queries = 16, dot = false, warps = 1, stages = 2>) {
  %q = tile.load_query scale 0.18 : tensor<?x64xf32>
  %init = tile.softmax_init : !s
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !s) {
  ^bb0(%t: !tile.tokens, %state: !s):
    %c = tile.load c %t : tensor<16x128xbf16>
    %w = tile.convert %c : tensor<16x128xbf16> -> tensor<16x128xf32>
    %k = tile.slice %w[64 to 128] : tensor<16x128xf32> -> tensor<16x64xf32>
    %x = tile.dot %q, %k : tensor<?x64xf32>, tensor<16x64xf32> -> tensor<?x16xf32>
    %m = tile.mask %x, %t read(#kvc.read_all) : tensor<?x16xf32>
    %p, %n = tile.softmax_step %m, %state : tensor<?x16xf32>, !s
    %v = tile.slice %w[0 to 64] : tensor<16x128xf32> -> tensor<16x64xf32>
    %a = tile.accumulate %p, %v, %n : tensor<?x16xf32>, tensor<16x64xf32>, !s
    tile.yield %a : !s
  }
  tile.store_partial %end last {
    %begin = tile.softmax_init : !s
    %all = tile.for_splits init(%begin : !s) {
    ^bb0(%i: index, %before: !s):
      %after = tile.merge_step %i, %before : !s
      tile.yield %after : !s
    }
    tile.store_output %all : !s
  } : !s
}

// -----

!cache = !kvc.cache<heads = 2, k = 64 by #kvc.float<bf16>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
!s = !tile.softmax<64>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache
// Codes as they are, under a score that is no product: they are copied as usual.
// CHECK-LABEL: llvm.func @kvc_s_attend
// CHECK: kvc.op = "CpAsync
// CHECK: %[[D:.*]] = arith.subf
// CHECK-NEXT: %[[A:.*]] = llvm.intr.fabs(%[[D]])
// CHECK-NEXT: arith.negf %[[A]]
// expected-remark@+1 {{in their loops scores are products of q and K [R-NO-MMA]}}
tile.kernel @s.attend "attend" of @s dtype bf16 schedule(#kvc.warp_schedule<tokens = 16, rows = 4, queries = 16, dot = false, warps = 1, stages = 2>) {
  %q = tile.load_query scale 0.18 : tensor<?x64xf32>
  %init = tile.softmax_init : !s
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !s) {
  ^bb0(%t: !tile.tokens, %state: !s):
    %kc = tile.load k %t : tensor<16x64xbf16>
    %k = tile.convert %kc : tensor<16x64xbf16> -> tensor<16x64xf32>
    %x = tile.contract %q with %k {
    ^bb0(%l: f32, %r: f32):
      %d = arith.subf %l, %r : f32
      %f = math.absf %d : f32
      %g = arith.negf %f : f32
      kvc.yield %g : f32
    } : tensor<?x64xf32>, tensor<16x64xf32> -> tensor<?x16xf32>
    %m = tile.mask %x, %t read(#kvc.read_all) : tensor<?x16xf32>
    %p, %n = tile.softmax_step %m, %state : tensor<?x16xf32>, !s
    %vc = tile.load v %t : tensor<16x64xbf16>
    %v = tile.convert %vc : tensor<16x64xbf16> -> tensor<16x64xf32>
    %a = tile.accumulate %p, %v, %n : tensor<?x16xf32>, tensor<16x64xf32>, !s
    tile.yield %a : !s
  }
  tile.store_partial %end last {
    %begin = tile.softmax_init : !s
    %all = tile.for_splits init(%begin : !s) {
    ^bb0(%i: index, %before: !s):
      %after = tile.merge_step %i, %before : !s
      tile.yield %after : !s
    }
    tile.store_output %all : !s
  } : !s
}

// -----

!cache = !kvc.cache<heads = 2, k = 64 by #kvc.float<bf16>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
!s = !tile.softmax<64>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache
// Scores that any region maps.
// CHECK-LABEL: llvm.func @kvc_s_attend
// CHECK: arith.negf
// expected-remark@+1 {{then masked, each once at most and in this order [R-NO-MMA]}}
tile.kernel @s.attend "attend" of @s dtype bf16 schedule(#kvc.warp_schedule<tokens = 16, rows = 4, queries = 16, dot = false, warps = 1, stages = 2>) {
  %q = tile.load_query scale 0.18 : tensor<?x64xf32>
  %init = tile.softmax_init : !s
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !s) {
  ^bb0(%t: !tile.tokens, %state: !s):
    %kc = tile.load k %t : tensor<16x64xbf16>
    %k = tile.convert %kc : tensor<16x64xbf16> -> tensor<16x64xf32>
    %x = tile.dot %q, %k : tensor<?x64xf32>, tensor<16x64xf32> -> tensor<?x16xf32>
    %y = tile.map %x {
    ^bb0(%z: f32):
      %e = arith.negf %z : f32
      kvc.yield %e : f32
    } : tensor<?x16xf32> -> tensor<?x16xf32>
    %m = tile.mask %y, %t read(#kvc.read_all) : tensor<?x16xf32>
    %p, %n = tile.softmax_step %m, %state : tensor<?x16xf32>, !s
    %vc = tile.load v %t : tensor<16x64xbf16>
    %v = tile.convert %vc : tensor<16x64xbf16> -> tensor<16x64xf32>
    %a = tile.accumulate %p, %v, %n : tensor<?x16xf32>, tensor<16x64xf32>, !s
    tile.yield %a : !s
  }
  tile.store_partial %end last {
    %begin = tile.softmax_init : !s
    %all = tile.for_splits init(%begin : !s) {
    ^bb0(%i: index, %before: !s):
      %after = tile.merge_step %i, %before : !s
      tile.yield %after : !s
    }
    tile.store_output %all : !s
  } : !s
}
