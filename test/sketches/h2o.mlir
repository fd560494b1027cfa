// H2O: each token keeps the sum of the probabilities that it was ever given. One
// kernel adds those of a step, told the log-sum-exp that attention stored; another
// evicts, of all but the 4 newest tokens, the one with the least sum: the last
// token moves to its place, and its position with it.
// RUN: kvc-opt %s | kvc-opt | FileCheck %s
// RUN: not kvc-opt %s -kvc-lower-to-cpu 2>&1 | FileCheck %s --check-prefix=ERR
// RUN: not kvc-opt %s -kvc-lower-to-gpu 2>&1 | FileCheck %s --check-prefix=ERR

!cache = !kvc.cache<heads = 2, k = 16 by #kvc.float<f32>, v = 16 by #kvc.int<8, scale = f32>,
  sum = 1 by #kvc.float<f32>, position = 1 by #kvc.float<f32>, layout = #kvc.paged<8, HND>>
!scores = tensor<?x16xf32>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache

// CHECK: tile.load_lse : tensor<?x1xf32>
// CHECK: tile.map %{{.*}}, %{{.*}} {
// CHECK: tile.reduce sum rows
// CHECK: tile.store_tokens sum

// ERR: h2o.mlir:[[#@LINE+1]]:1: error: no backend lowers kernels of kind "score" yet
tile.kernel @s.scores "score" of @s dtype f32 schedule(#kvc.core_schedule<tokens = 16>) {
  %q = tile.load_query scale 0.25 : tensor<?x16xf32>
  %lse = tile.load_lse : tensor<?x1xf32>
  tile.for_tokens read(#kvc.read_all) {
  ^bb0(%t: !tile.tokens):
    %kc = tile.load k %t : tensor<16x16xf32>
    %k = tile.convert %kc : tensor<16x16xf32> -> tensor<16x16xf32>
    %d = tile.dot %q, %k : tensor<?x16xf32>, tensor<16x16xf32> -> !scores
    %m = tile.mask %d, %t read(#kvc.read_all) : !scores
    %p = tile.map %m, %lse {
    ^bb0(%x: f32, %l: f32):
      %below = arith.subf %x, %l : f32
      %e = math.exp %below : f32
      kvc.yield %e : f32
    } : !scores, tensor<?x1xf32> -> !scores
    %mass = tile.reduce sum rows %p : !scores -> tensor<16x1xf32>
    %c = tile.load sum %t : tensor<16x1xf32>
    %before = tile.convert %c : tensor<16x1xf32> -> tensor<16x1xf32>
    %after = tile.map %before, %mass {
    ^bb0(%x: f32, %y: f32):
      %z = arith.addf %x, %y : f32
      kvc.yield %z : f32
    } : tensor<16x1xf32>, tensor<16x1xf32> -> tensor<16x1xf32>
    tile.store_tokens sum %t, %after : tensor<16x1xf32>
    tile.yield
  }
}

// CHECK: tile.span(sum) except_last 4
// CHECK: tile.move_tokens(k, v, sum, position) %{{.*}} : <1>
tile.kernel @s.evict "evict" of @s dtype f32 schedule(#kvc.core_schedule<tokens = 16>) {
  %space = tile.span(sum) except_last 4
  %none = tile.topk_init : !tile.topk<1>
  %end = tile.for_tokens in %space read(#kvc.read_all) init(%none : !tile.topk<1>) {
  ^bb0(%t: !tile.tokens, %state: !tile.topk<1>):
    %c = tile.load sum %t : tensor<16x1xf32>
    %x = tile.convert %c : tensor<16x1xf32> -> tensor<16x1xf32>
    %least = tile.map %x {
    ^bb0(%y: f32):
      %z = arith.negf %y : f32
      kvc.yield %z : f32
    } : tensor<16x1xf32> -> tensor<16x1xf32>
    %next = tile.topk_step %least, %t, %state : tensor<16x1xf32>, !tile.topk<1>
    tile.yield %next : !tile.topk<1>
  }
  tile.move_tokens(k, v, sum, position) %end : !tile.topk<1>
}
