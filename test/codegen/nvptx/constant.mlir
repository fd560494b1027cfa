// RUN: kvc-opt %s -kvc-lower-to-gpu=target=sm_90 | FileCheck %s

!cache = !kvc.cache<heads = 2, k = 64 by #kvc.float<bf16>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache

// CHECK-LABEL: llvm.func @kvc_s_merge
// CHECK: %[[LAST:.*]] = arith.constant 3 : i32
// CHECK: %[[I:.*]] = arith.minui %{{.*}}, %[[LAST]] : i32
// CHECK: llvm.load %{{.*}} invariant {{.*}} -> f32
tile.kernel @s.merge "merge" of @s dtype bf16 {
  %init = tile.softmax_init sink {
  ^bb0(%h: i32, %g: i32):
    %x = kvc.constant "sinks"[%h] of 4 : f32
    kvc.yield %x : f32
  } : !tile.softmax<64>
  %end = tile.for_splits init(%init : !tile.softmax<64>) {
  ^bb0(%i: index, %s: !tile.softmax<64>):
    %n = tile.merge_step %i, %s : !tile.softmax<64>
    tile.yield %n : !tile.softmax<64>
  }
  tile.store_output %end : !tile.softmax<64>
}

// What a sequence has is behind what those before it have. Where the queries of a
// work tile read several of its values, the lanes find the least and the largest
// of at most 256; one value is loaded once, for blocks and for tokens alike.
// CHECK-LABEL: llvm.func @kvc_s_documents
// CHECK: %[[ROW:.*]] = arith.constant 20 : i64
// CHECK: %[[AT:.*]] = arith.muli %{{.*}}, %[[ROW]] : i64
// CHECK: llvm.getelementptr %{{.*}}[%[[AT]]]
// CHECK: llvm.load %{{.*}} invariant {{.*}} -> i32
// CHECK: scf.for {{.*}} iter_args
// CHECK: llvm.load %{{.*}} invariant {{.*}} -> i32
// CHECK: ReduxMaxU32
// CHECK: ReduxMaxU32
tile.kernel @s.documents "attend" of @s dtype bf16 schedule(#kvc.warp_schedule<rows = 16, tokens = 32, split = 256, dot = true, warps = 4, stages = 2>) {
  %q = tile.load_query scale 0.25 : tensor<?x64xf32>
  %init = tile.softmax_init : <64>
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<64>) {
  ^bb0(%t: !tile.tokens, %m: !tile.softmax<64>):
    %k = tile.load k %t : tensor<32x64xbf16>
    %kx = tile.convert %k : tensor<32x64xbf16> -> tensor<32x64xf32>
    %s = tile.dot %q, %kx : tensor<?x64xf32>, tensor<32x64xf32> -> tensor<?x32xf32>
    %seen = tile.mask %s, %t read(#kvc.read_all) visible {
    ^bb0(%p: i32, %tt: i32, %c: i32, %h: i32, %g: i32):
      %zero = arith.constant 0 : i32
      %doc = kvc.constant "doc"[%zero] of 5 per_sequence : i32
      %first = kvc.constant "first"[%p] of 512 : i32
      %a = arith.cmpi sge, %tt, %first : i32
      %b = arith.cmpi sge, %tt, %doc : i32
      %both = arith.andi %a, %b : i1
      kvc.yield %both : i1
    } : tensor<?x32xf32>
    %w, %next = tile.softmax_step %seen, %m : tensor<?x32xf32>, <64>
    %v = tile.load v %t : tensor<32x64xbf16>
    %vx = tile.convert %v : tensor<32x64xbf16> -> tensor<32x64xf32>
    %after = tile.accumulate %w, %vx, %next : tensor<?x32xf32>, tensor<32x64xf32>, <64>
    tile.yield %after : !tile.softmax<64>
  }
  tile.store_partial %end last {
    %none = tile.softmax_init : <64>
    %all = tile.for_splits init(%none : !tile.softmax<64>) {
    ^bb0(%i: index, %x: !tile.softmax<64>):
      %n = tile.merge_step %i, %x : !tile.softmax<64>
      tile.yield %n : !tile.softmax<64>
    }
    tile.store_output %all : !tile.softmax<64>
  } : !tile.softmax<64>
}
