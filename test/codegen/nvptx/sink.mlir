// A sink is one more weight of a row's sum: where the row's only split ends, and
// where the last of several merges all. No split's own result has it.
// RUN: kvc-opt %s -kvc-lower-to-gpu=target=sm_90 | FileCheck %s --implicit-check-not='llvm.call' --implicit-check-not='math.'

!cache = !kvc.cache<heads = 2, k = 64 by #kvc.float<bf16>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache

// Of the split alone: the sink is -inf where there are others.
// CHECK-LABEL: llvm.func @kvc_s_attend
// CHECK: %[[F:.*]] = arith.sitofp %{{.*}} : i32 to f32
// CHECK: %[[NAT:.*]] = arith.constant 1.44269502 : f32
// CHECK: %[[SINK:.*]] = arith.mulf %[[F]], %[[NAT]]
// CHECK: %[[NONE:.*]] = arith.constant 0xFF800000 : f32
// CHECK: %[[OWN:.*]] = arith.select %{{.*}}, %[[SINK]], %[[NONE]] : f32
// Of all, among the rows that the last CTA merges.
// CHECK: kvc.op = "AtomAddAcqRel"
// CHECK: %[[ALL:.*]] = arith.sitofp %{{.*}} : i32 to f32
// CHECK: llvm.intr.maxnum(%{{.*}}, %[[ALL]])
tile.kernel @s.attend "attend" of @s dtype bf16 schedule(#kvc.warp_schedule<tokens = 16, rows = 8, queries = 16, split = 64, dot = true, warps = 2, stages = 2>) {
  %q = tile.load_query scale 0.18 : tensor<?x64xf32>
  %init = tile.softmax_init : !tile.softmax<64>
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<64>) {
  ^bb0(%t: !tile.tokens, %s: !tile.softmax<64>):
    %kc = tile.load k %t : tensor<16x64xbf16>
    %k = tile.convert %kc : tensor<16x64xbf16> -> tensor<16x64xf32>
    %x = tile.dot %q, %k : tensor<?x64xf32>, tensor<16x64xf32> -> tensor<?x16xf32>
    %m = tile.mask %x, %t read(#kvc.read_all) : tensor<?x16xf32>
    %p, %n = tile.softmax_step %m, %s : tensor<?x16xf32>, !tile.softmax<64>
    %vc = tile.load v %t : tensor<16x64xbf16>
    %v = tile.convert %vc : tensor<16x64xbf16> -> tensor<16x64xf32>
    %a = tile.accumulate %p, %v, %n : tensor<?x16xf32>, tensor<16x64xf32>, !tile.softmax<64>
    tile.yield %a : !tile.softmax<64>
  }
  tile.store_partial %end last {
    %begin = tile.softmax_init sink {
    ^bb0(%h: i32, %g: i32):
      %f = arith.sitofp %h : i32 to f32
      kvc.yield %f : f32
    } : !tile.softmax<64>
    %all = tile.for_splits init(%begin : !tile.softmax<64>) {
    ^bb0(%i: index, %before: !tile.softmax<64>):
      %after = tile.merge_step %i, %before : !tile.softmax<64>
      tile.yield %after : !tile.softmax<64>
    }
    tile.store_output %all : !tile.softmax<64>
  } : !tile.softmax<64>
}

// CHECK-LABEL: llvm.func @kvc_s_merge
// CHECK: %[[ALL:.*]] = arith.sitofp %{{.*}} : i32 to f32
tile.kernel @s.merge "merge" of @s dtype bf16 {
  %init = tile.softmax_init sink {
  ^bb0(%h: i32, %g: i32):
    %f = arith.sitofp %h : i32 to f32
    kvc.yield %f : f32
  } : !tile.softmax<64>
  %end = tile.for_splits init(%init : !tile.softmax<64>) {
  ^bb0(%i: index, %s: !tile.softmax<64>):
    %n = tile.merge_step %i, %s : !tile.softmax<64>
    tile.yield %n : !tile.softmax<64>
  }
  tile.store_output %end : !tile.softmax<64>
}
