// Quest: of each page of 16 tokens a summary, the least and the largest that each
// channel of its keys has. One kernel bounds the scores of every page by it and
// lists the best 3 and the last; another attends to the tokens of those pages.
// RUN: kvc-opt %s | kvc-opt | FileCheck %s
// RUN: not kvc-opt %s -kvc-lower-to-cpu 2>&1 | FileCheck %s --check-prefix=ERR
// RUN: not kvc-opt %s -kvc-lower-to-gpu 2>&1 | FileCheck %s --check-prefix=ERR

!cache = !kvc.cache<heads = 2, k = 32 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>,
  range = 64 by #kvc.float<f32> per 16, layout = #kvc.paged<16, HND>>
!s = !tile.softmax<32>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache

// CHECK: range = 64 by #kvc.float<f32> per 16
// CHECK: tile.load range
// CHECK: tile.contract %{{.*}} with %{{.*}}, %{{.*}} {
// CHECK: tile.reduce max rows
// CHECK: tile.topk_step
// CHECK: tile.store_list "pages", %{{.*}} of 16 last 1 : <3>

// ERR: quest.mlir:[[#@LINE+1]]:1: error: no backend lowers kernels of kind "select" yet
tile.kernel @s.pages "select" of @s dtype f32 schedule(#kvc.core_schedule<tokens = 64>) {
  %q = tile.load_query scale 0.25 : tensor<?x32xf32>
  %none = tile.topk_init : !tile.topk<3>
  %end = tile.for_tokens read(#kvc.read_all) init(%none : !tile.topk<3>) {
  ^bb0(%t: !tile.tokens, %state: !tile.topk<3>):
    %c = tile.load range %t : tensor<4x64xf32>
    %x = tile.convert %c : tensor<4x64xf32> -> tensor<4x64xf32>
    %lo = tile.slice %x[0 to 32] : tensor<4x64xf32> -> tensor<4x32xf32>
    %hi = tile.slice %x[32 to 64] : tensor<4x64xf32> -> tensor<4x32xf32>
    %z = tile.contract %q with %lo, %hi {
    ^bb0(%a: f32, %l: f32, %h: f32):
      %al = arith.mulf %a, %l : f32
      %ah = arith.mulf %a, %h : f32
      %best = arith.maximumf %al, %ah : f32
      kvc.yield %best : f32
    } : tensor<?x32xf32>, tensor<4x32xf32>, tensor<4x32xf32> -> tensor<?x4xf32>
    %best = tile.reduce max rows %z : tensor<?x4xf32> -> tensor<4x1xf32>
    %next = tile.topk_step %best, %t, %state : tensor<4x1xf32>, !tile.topk<3>
    tile.yield %next : !tile.topk<3>
  }
  tile.store_list "pages", %end of 16 last 1 : !tile.topk<3>
}

// CHECK: %[[LIST:.*]] = tile.listed "pages" of 16
// CHECK: tile.for_tokens in %[[LIST]]
tile.kernel @s.attend "attend" of @s dtype f32 schedule(#kvc.core_schedule<tokens = 32>) {
  %q = tile.load_query scale 0.360673760222 : tensor<?x32xf32>
  %pages = tile.listed "pages" of 16
  %init = tile.softmax_init : !s
  %end = tile.for_tokens in %pages read(#kvc.read_all) init(%init : !s) {
  ^bb0(%t: !tile.tokens, %state: !s):
    %kc = tile.load k %t : tensor<32x32xbf16>
    %k = tile.convert %kc : tensor<32x32xbf16> -> tensor<32x32xf32>
    %d = tile.dot %q, %k : tensor<?x32xf32>, tensor<32x32xf32> -> tensor<?x32xf32>
    %m = tile.mask %d, %t read(#kvc.read_all) : tensor<?x32xf32>
    %p, %s = tile.softmax_step %m, %state : tensor<?x32xf32>, !s
    %vc = tile.load v %t : tensor<32x32xbf16>
    %v = tile.convert %vc : tensor<32x32xbf16> -> tensor<32x32xf32>
    %n = tile.accumulate %p, %v, %s : tensor<?x32xf32>, tensor<32x32xf32>, !s
    tile.yield %n : !s
  }
  tile.store_partial %end : !s
}
