// A row's sink is what its sum begins with.
// RUN: kvc-opt %s -kvc-lower-to-cpu=target=x86-64-v3 | FileCheck %s

!cache = !kvc.cache<heads = 2, k = 64 by #kvc.float<bf16>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache

// CHECK-LABEL: func.func @kvc_s_merge
// CHECK: %[[SINK:.*]] = arith.sitofp %{{.*}} : vector<1xi32> to vector<1xf32>
// CHECK: %[[MOST:.*]] = scf.for {{.*}} iter_args(%{{.*}} = %[[SINK]])
// CHECK: arith.subf %[[SINK]], %{{.*}} : vector<1xf32>
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
