// Linear attention with decay: a matrix per sequence and head instead of rows of
// tokens, S = 0.9 S + v k^T, o = S q. Nothing of K and V is kept.
// RUN: kvc-opt %s | kvc-opt | FileCheck %s
// RUN: not kvc-opt %s -kvc-lower-to-cpu 2>&1 | FileCheck %s --check-prefix=ERR
// RUN: not kvc-opt %s -kvc-lower-to-gpu 2>&1 | FileCheck %s --check-prefix=ERR

!cache = !kvc.cache<heads = 2, state = 128 by #kvc.float<f32> per sequence, layout = #kvc.contiguous<HND>>
!m = tensor<8x16xf32>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 6 read(#kvc.read_all) : !cache

// CHECK: state = 128 by #kvc.float<f32> per sequence
// CHECK: %[[S:.*]] = tile.load_state state
// CHECK: %[[END:.*]] = tile.for_rows init(%[[S]] : tensor<8x16xf32>) {
// CHECK: tile.outer
// CHECK: tile.store_row_output
// CHECK: tile.store_state state, %[[END]]

// ERR: linear-attention.mlir:[[#@LINE+1]]:1: error: no backend lowers kernels of kind "recur" yet
tile.kernel @s.step "recur" of @s dtype f32 {
  %begin = tile.load_state state : !m
  %end = tile.for_rows init(%begin : !m) {
  ^bb0(%row: !tile.tokens, %state: !m):
    %k = tile.load_row k %row : tensor<16xf32>
    %v = tile.load_row v %row : tensor<8xf32>
    %q = tile.load_row q %row : tensor<?x16xf32>
    %more = tile.outer %v, %k : tensor<8xf32>, tensor<16xf32> -> !m
    %next = tile.map %state, %more {
    ^bb0(%s: f32, %x: f32):
      %decay = arith.constant 0.9 : f32
      %kept = arith.mulf %decay, %s : f32
      %sum = arith.addf %kept, %x : f32
      kvc.yield %sum : f32
    } : !m, !m -> !m
    %o = tile.dot %q, %next : tensor<?x16xf32>, !m -> tensor<?x8xf32>
    tile.store_row_output %row, %o : tensor<?x8xf32>
    tile.yield %next : !m
  }
  tile.store_state state, %end : !m
}
