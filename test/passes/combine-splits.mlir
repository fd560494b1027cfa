// On warps an attend kernel's last split does what the store's merge kernel
// does, sink and all; on a core merge stays a kernel of its own.
// RUN: sed 's/TARGET/"sm_90", lanes = 32, registers = 255 shared = 232448/' %s | kvc-opt -kvc-combine-splits | FileCheck %s --check-prefixes=CHECK,WARPS
// RUN: sed 's/TARGET/"x86-64-v4", lanes = 16, registers = 32/' %s | kvc-opt -kvc-combine-splits | FileCheck %s --check-prefixes=CHECK,CORE
// Once is enough.
// RUN: sed 's/TARGET/"sm_90", lanes = 32, registers = 255 shared = 232448/' %s | kvc-opt -kvc-combine-splits -kvc-combine-splits -canonicalize -cse | FileCheck %s --check-prefixes=CHECK,WARPS

// CHECK-LABEL: tile.kernel @s.attend
// CHECK: %[[END:.*]] = tile.for_tokens
// CORE: tile.store_partial %[[END]] : <64>
// WARPS: tile.store_partial %[[END]] last {
// WARPS-NEXT: %[[INIT:.*]] = tile.softmax_init sink {
// WARPS-NEXT: ^bb0(%[[H:.*]]: i32, %{{.*}}: i32):
// WARPS-NEXT: %[[F:.*]] = arith.sitofp %[[H]] : i32 to f32
// WARPS-NEXT: kvc.yield %[[F]] : f32
// WARPS-NEXT: } : <64>
// WARPS-NEXT: %[[ALL:.*]] = tile.for_splits init(%[[INIT]] : !tile.softmax<64>) {
// WARPS: tile.merge_step
// WARPS: tile.store_output %[[ALL]] : <64>
// WARPS-NEXT: } : <64>
// WARPS-NOT: last
// CHECK-LABEL: tile.kernel @s.merge
// CHECK-NEXT: tile.softmax_init sink {
!cache = !kvc.cache<heads = 2, k = 64 by #kvc.float<bf16>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
module attributes {kvc.target = #kvc.target<TARGET>} {
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache
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
  tile.store_partial %end : !tile.softmax<64>
}
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
}
